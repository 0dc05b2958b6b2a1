# SPDX-License-Identifier: Apache-2.0
"""Streaming below HTTP: the CRI methods, their tokens, and sessions of the daemon and of monitors.
The stream program is a stand-in (tests/lib/frames.py): the test says what it would say."""
import contextlib
import fcntl
import glob
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import grpc
import pytest

import frames
from cri import SLOW, api
from daemon import Daemon, processes_with, wait_for
from frames import Refused, Session

CODE = grpc.StatusCode
URL = re.compile(r"http://127\.0\.0\.1:\d+/(exec|attach|portforward)/[0-9a-f]{48}$")


@pytest.fixture(scope="module")
def d(archive, tmp_path_factory):
    libexec = frames.stand_in(str(tmp_path_factory.mktemp("libexec")))
    daemon = Daemon(env={"GANTRY_LIBEXEC": libexec})
    daemon.load(archive)
    yield daemon
    daemon.close()


def fails(code, call, message=""):
    with pytest.raises(grpc.RpcError) as e:
        call()
    assert e.value.code() == code and message in e.value.details(), e.value.details()


def exec_url(d, ctr, *cmd, **kw):
    cmd = ["sh", "-c", cmd[0]] if len(cmd) == 1 else list(cmd)
    kw.setdefault("stdout", True)
    return d.cri.Exec(container_id=ctr, cmd=cmd, **kw).url


def run(d, ctr, *cmd, **kw):
    return Session(d, exec_url(d, ctr, *cmd, **kw))


def processes(d, ctr):
    return d.exec(ctr, "ps -o args").stdout.decode()


def runtimes():
    return [pytest.param(r, marks=[] if shutil.which(r, path="/usr/bin:/usr/sbin") else
                         pytest.mark.skip(reason="no %s on this machine" % r))
            for r in ("crun", "runc")]


def test_validation(d, pod):
    c = d.run(pod, "sleep 1000")
    x = dict(container_id=c, cmd=["true"])
    invalid, failed = CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION
    fails(invalid, lambda: d.cri.Exec(**x), "one of them must be asked for")
    fails(invalid, lambda: d.cri.Exec(**x, tty=True, stdout=True, stderr=True), "terminal")
    fails(invalid, lambda: d.cri.Exec(container_id=c, stdout=True), "cmd")
    fails(invalid, lambda: d.cri.Exec(stdout=True, cmd=["x"]), "container_id")
    fails(CODE.NOT_FOUND, lambda: d.cri.Exec(container_id="0" * 64, stdout=True, cmd=["x"]))
    fails(invalid, lambda: d.cri.Attach(container_id=c), "one of them must be asked for")
    fails(invalid, lambda: d.cri.Attach(container_id=c, tty=True, stdout=True), "tty")
    fails(invalid, lambda: d.cri.Attach(container_id=c, stdin=True), "made without")
    fails(CODE.NOT_FOUND, lambda: d.cri.Attach(container_id="0" * 64, stdout=True))
    for port in (0, -1, 65536):
        fails(invalid, lambda: d.cri.PortForward(pod_sandbox_id=pod, port=[80, port]), str(port))
    fails(CODE.NOT_FOUND, lambda: d.cri.PortForward(pod_sandbox_id="0" * 64, port=[80]))
    assert URL.match(d.cri.Exec(**x, stdin=True, tty=True).url)
    assert URL.match(d.cri.Attach(container_id=c, stderr=True).url)
    assert URL.match(d.cri.PortForward(pod_sandbox_id=pod).url)
    unstarted = d.create(pod, "true", name="u")
    fails(failed, lambda: d.cri.Exec(container_id=unstarted, cmd=["x"], stdout=True), "created")
    assert URL.match(d.cri.Attach(container_id=unstarted, stdout=True).url)
    d.cri.StopContainer(container_id=c)
    fails(failed, lambda: d.cri.Exec(**x, stdout=True), "exited")
    fails(failed, lambda: d.cri.Attach(container_id=c, stdout=True), "exited")
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    fails(failed, lambda: d.cri.PortForward(pod_sandbox_id=pod), "not ready")


def test_a_token_is_good_once_and_for_its_kind(d, pod):
    c = d.run(pod, "sleep 1000")
    url = exec_url(d, c, "true")
    wrong = url.replace("/exec/", "/attach/")
    for bad in (wrong, url[:-1] + "x", url[:-48] + "0" * 48):
        with pytest.raises(Refused) as e:
            Session(d, bad)
        assert e.value.code == CODE.NOT_FOUND.value[0]
    with Session(d, url) as s:
        assert s.end() == 0
    with pytest.raises(Refused) as e:
        Session(d, url)
    assert e.value.code == CODE.NOT_FOUND.value[0]


def test_exec(d, pod):
    c = d.run(pod, "sleep 1000", envs=[api.KeyValue(key="A", value=b"b")])
    with run(d, c, "cat; echo $A; echo err >&2; exit 7", stdin=True, stderr=True) as s:
        s.write(b"in and out\n")
        s.end_input()
        assert s.end() == 7
        assert s.read(s.stdout) == b"in and out\nb\n"
        assert s.read(s.stderr) == b"err\n"
        assert s.control.receive() is None  # nobody is left at the other end


def test_exec_of_what_is_not_wanted(d, pod):
    """A stream that nobody has asked for neither blocks the command nor ends it."""
    c = d.run(pod, "sleep 1000")
    with run(d, c, "head -c 3000000 /dev/zero; cat; echo end >&2; exit 3",
             stdout=False, stderr=True) as s:
        assert s.end() == 3
        assert s.read(s.stderr) == b"end\n"


def test_exec_of_a_large_transfer_and_a_slow_reader(d, pod):
    c = d.run(pod, "sleep 1000")
    with run(d, c, "head -c 5000000 /dev/zero | tr '\\0' x; exit 9") as s:
        time.sleep(0.2)  # the command has filled the pipe and waits
        data = s.read(s.stdout)
        assert data == b"x" * 5000000
        assert s.end() == 9


@pytest.mark.parametrize("runtime", runtimes())
def test_exec_in_a_terminal(d, runtime):
    p = d.run_pod(name="tty-" + runtime, handler=runtime)
    c = d.run(p, "sleep 1000")
    with run(d, c, "stty -echo; test -t 0 && test -t 1 && test -t 2 && echo tty; read x; "
             "stty size; exit 5", stdin=True, tty=True) as s:
        assert s.stderr is None and not frames.is_pipe(s.stdin)
        assert b"tty" in s.read(s.stdout, b"tty\r\n")
        fcntl.ioctl(s.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        s.write(b"\n")
        assert b"33 77\r\n" in s.read(s.stdout, b"33 77\r\n")
        assert s.end() == 5
    # Without its client it gets a hang-up, and is killed where it does not mind that.
    s = run(d, c, "trap '' HUP; sleep 4321 & sleep 4322", stdin=True, tty=True)
    wait_for(lambda: "4321" in processes(d, c) and "4322" in processes(d, c))
    s.hang_up()
    wait_for(lambda: "432" not in processes(d, c))
    assert not [x for x in os.listdir(d.state + "/pods/%s/containers/%s" % (p, c)) if "exec-" in x]
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_a_client_that_goes_takes_the_whole_command_along(d, pod):
    c = d.run(pod, "sleep 1000")
    s = run(d, c, "sleep 4444 & (sleep 4445; true) & sleep 4446", stdin=True, stderr=True)
    wait_for(lambda: all(w in processes(d, c) for w in ("4444", "4445", "4446")))
    s.hang_up()
    wait_for(lambda: "444" not in processes(d, c))


def test_what_cannot_be_executed(d, pod):
    c = d.run(pod, "sleep 1000")
    with pytest.raises(Refused) as e:
        run(d, c, "/not/there", "x")
    assert "/not/there" in e.value.message
    with run(d, c, "exit 5") as s:  # the failed one counts no more among the pod's sessions
        assert s.end() == 5


def test_sessions_outlive_the_daemon(d, pod):
    c = d.run(pod, "sleep 1000")
    s = run(d, c, "read a; echo got $a; exit 4", stdin=True)
    d.kill()
    s.write(b"it\n")
    assert s.read(s.stdout, b"\n") == b"got it\n"
    assert s.end() == 4
    d.start()
    with run(d, c, "exit 6") as s:
        assert s.end() == 6


def test_the_container_ends_under_a_session(d, pod):
    c = d.run(pod, "sleep 1000")
    s = run(d, c, "sleep 5555", stdin=True)
    d.cri.StopContainer(container_id=c)
    assert s.end() == 137
    assert s.read(s.stdout) == b""
    s.hang_up()
    c = d.run(pod, "sleep 1000", name="second")
    url = exec_url(d, c, "true")
    d.cri.RemoveContainer(container_id=c)
    with pytest.raises(Refused) as e:
        Session(d, url)
    assert e.value.code == CODE.NOT_FOUND.value[0]


def test_the_pod_is_removed_under_sessions(d):
    p = d.run_pod(name="goes")
    c = d.run(p, "sleep 1000")
    sessions = [run(d, c, "sleep 6666", stdin=True) for _ in range(3)]
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    for s in sessions:
        assert s.end() == 137
        s.hang_up()


def test_the_monitor_dies_under_a_session(d):
    p = d.run_pod(name="monitorless")
    c = d.run(p, "sleep 1000")
    s = run(d, c, "sleep 7777", stdin=True)
    os.kill(monitor_of(p), signal.SIGKILL)
    assert s.end() in (None, 137)
    s.hang_up()
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state == api.SANDBOX_NOTREADY)
    wait_for(lambda: "7777" not in processes(d, c))  # by an exec through the new monitor
    with run(d, c, "exit 8") as s:
        assert s.end() == 8
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def monitor_of(pod):
    """Its jobs look the same, but are in its session."""
    for pid, cmd in processes_with(pod):
        try:
            if "gantry-monitor" in cmd and os.getsid(pid) == pid:
                return pid
        except ProcessLookupError:
            pass
    return None


def test_the_job_of_a_session_dies(d, pod):
    """For want of memory, say: its command goes with it, and the pod has its room again."""
    c = d.run(pod, "sleep 1000")
    monitor = monitor_of(pod)
    s = run(d, c, "setsid sleep 9191 & sleep 9192", stdin=True)
    wait_for(lambda: "9191" in processes(d, c) and "9192" in processes(d, c))
    with open("/proc/%d/task/%d/children" % (monitor, monitor)) as f:
        jobs = [p for p in map(int, f.read().split())
                if pod in open("/proc/%d/cmdline" % p).read()]
    for p in jobs:
        os.kill(p, signal.SIGKILL)
    assert s.end() is None
    wait_for(lambda: "919" not in processes(d, c))
    s.hang_up()
    assert d.status(c).state == api.CONTAINER_RUNNING


def test_a_program_that_dies_before_its_answer(d, pod):
    """What it asked for is undone, or never handed to anybody."""
    c = d.run(pod, "sleep 1000")
    s = Session(d, exec_url(d, c, "sleep 8888"), start=False)
    s.daemon.send(frames.START, seq=9)
    s.hang_up()
    wait_for(lambda: not children_of_daemon(d))
    wait_for(lambda: "8888" not in processes(d, c))


def children_of_daemon(d):
    return [x for x in processes_with("gantry-stream") if d.env["GANTRY_LIBEXEC"] in x[1]]


def test_requests_out_of_place(d, pod):
    c = d.run(pod, "sleep 1000")
    client, daemon = frames.connect(d.address)
    for type_ in (frames.START, frames.CONNECT, 99):
        with pytest.raises(Refused):
            daemon.call(type_)
    daemon.close()
    client.close()
    with Session(d, exec_url(d, c, "true")) as s:
        with pytest.raises(Refused):
            s.daemon.call(frames.START)  # once
        with pytest.raises(Refused):
            s.daemon.call(frames.CONNECT, (frames.PORT, 80))
        assert s.end() == 0


def test_garbage_ends_the_connection_only(d, pod):
    c = d.run(pod, "sleep 1000")
    client, daemon = frames.connect(d.address)
    daemon.sock.sendall(b"no frame at all, by no means")
    try:
        assert daemon.sock.recv(1) == b""
    except ConnectionResetError:
        pass  # the same, with bytes that nobody has read
    client.close()
    with run(d, c, "exit 2") as s:
        assert s.end() == 2


def test_tcp_leads_to_the_same(d, pod):
    c = d.run(pod, "sleep 1000")
    host, port = exec_url(d, c, "true").split("/")[2].split(":")
    with socket.create_connection((host, int(port)), 20 * SLOW) as s:
        wait_for(lambda: children_of_daemon(d))
        s.close()
    wait_for(lambda: not children_of_daemon(d))


@pytest.mark.parametrize("runtime", runtimes())
def test_in_a_user_namespace(d, runtime):
    """Streams and terminals belong to whom the command runs as."""
    handlers = [h for h in d.cri.Status().runtime_handlers if h.name == runtime]
    if not handlers[0].features.user_namespaces:
        pytest.skip("%s has no user namespaces here" % runtime)
    ids = [api.IDMapping(host_id=0x40000000, container_id=0, length=65536)]
    userns = api.UserNamespace(mode=api.POD, uids=ids, gids=ids)
    ns = api.NamespaceOption(pid=api.CONTAINER, userns_options=userns)
    p = d.run_pod(d.pod_config(name="userns-" + runtime, namespaces=ns), handler=runtime)
    linux = api.LinuxContainerConfig(security_context=api.LinuxContainerSecurityContext(
        namespace_options=ns, run_as_user=api.Int64Value(value=1000)))
    c = d.run(p, "echo own >/dev/stdout; cat /dev/stdin; sleep 1000", linux=linux, stdin=True)
    with run(d, c, "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin; id -u",
             stdin=True, stderr=True) as s:
        s.write(b"in\n")
        s.end_input()
        assert s.end() == 0
        assert (s.read(s.stdout), s.read(s.stderr)) == (b"out\nin\n1000\n", b"err\n")
    with run(d, c, "echo tty >/dev/tty; tty; stat -c %u $(tty)", stdin=True, tty=True) as s:
        assert s.end() == 0
        assert b"tty\r\n/dev/pts/" in s.read(s.stdout)
    with attach(d, c, stdin=True, stdout=True) as s:
        s.write(b"through\n")
        assert s.read(s.stdout, b"through\n") == b"through\n"
    assert d.read_log(d.status(c).log_path).startswith("own\n")
    out = d.exec(c, "echo sync >/dev/stdout; echo sync >/dev/stderr")
    assert (out.stdout, out.stderr) == (b"sync\n", b"sync\n")
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


@pytest.mark.parametrize("pid", [api.POD, api.CONTAINER, api.NODE], ids=["pod", "container", "node"])
def test_everything_of_a_command_goes_in_each_pid_namespace(d, pid):
    p = d.run_pod(name="pid-%d" % pid, namespaces=api.NamespaceOption(pid=pid))
    linux = api.LinuxContainerConfig(security_context=api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=pid)))
    c = d.run(p, "sleep 1000", linux=linux)
    s = run(d, c, "setsid sleep 2222 & (sleep 2223 &) ; sleep 2224", stdin=True)
    words = ("sleep 2222", "sleep 2223", "sleep 2224")
    wait_for(lambda: all(processes_with(w) for w in words))
    s.hang_up()
    wait_for(lambda: not any(processes_with(w) for w in words))
    s = run(d, c, "sleep 2225", stdin=True)  # by the container's end, too
    d.cri.StopContainer(container_id=c)
    assert s.end() == 137
    s.hang_up()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_sessions_while_the_container_is_being_stopped(d, pod):
    c = d.run(pod, "trap 'sleep 2; exit 3' TERM; echo set; while :; do sleep 0.05; done")
    wait_for(lambda: "set" in d.read_log(d.status(c).log_path))
    stop = d.cri.StopContainer.future(container_id=c, timeout=30)
    s = run(d, c, "echo here; sleep 1000", stdin=True)
    assert s.read(s.stdout, b"here\n") == b"here\n"
    assert s.end() == 137
    s.hang_up()
    stop.result()
    assert d.status(c).exit_code == 3


def test_the_daemon_ends_and_is_started_again(d, pod):
    """As an upgrade does it: properly, with sessions and unused tokens."""
    c = d.run(pod, "while read x; do echo got $x; done", stdin=True)
    url = exec_url(d, c, "true")
    e, a = run(d, c, "cat", stdin=True), attach(d, c, stdin=True, stdout=True)
    assert d.stop() == 0
    assert not os.path.exists(d.address + ".stream")
    d.start()
    for s, expected in ((e, b"x\n"), (a, b"got x\n")):
        s.write(b"x\n")
        assert s.read(s.stdout, b"\n") == expected
    with pytest.raises(Refused):
        Session(d, url)
    e.end_input()
    assert e.end() == 0
    d.cri.StopContainer(container_id=c)
    assert a.end() == 137
    for s in (e, a):
        s.hang_up()


# --- attach ---

def attach(d, ctr, **kw):
    return Session(d, d.cri.Attach(container_id=ctr, **kw).url)


def test_attach(d, pod):
    c = d.create(pod, "while read x; do echo $x; echo $x >&2; done; exit 3", stdin=True)
    with attach(d, c, stdin=True, stdout=True, stderr=True) as s:  # before its start
        d.cri.StartContainer(container_id=c)
        s.write(b"one\n")
        assert s.read(s.stdout, b"one\n") == b"one\n"
        assert s.read(s.stderr, b"one\n") == b"one\n"
        with attach(d, c, stdout=True) as other:
            s.write(b"two\n")
            assert other.read(other.stdout, b"two\n") == b"two\n"
        s.end_input()  # neither this nor its client's end is the container's input's
    with attach(d, c, stdin=True, stdout=True, stderr=True) as s:
        s.write(b"three\n")
        assert s.read(s.stdout, b"three\n").endswith(b"three\n")
        assert s.read(s.stderr, b"three\n").endswith(b"three\n")
        d.cri.StopContainer(container_id=c)
        assert s.end() == 137
        assert s.read(s.stdout) == b""
    assert d.read_log(d.status(c).log_path, "stdout") == "one\ntwo\nthree\n"
    assert d.read_log(d.status(c).log_path, "stderr") == "one\ntwo\nthree\n"


@pytest.mark.parametrize("how", ["end", "gone"])
def test_input_that_is_read_once(d, pod, how):
    c = d.run(pod, "cat; echo over", stdin=True, stdin_once=True)
    s = attach(d, c, stdin=True, stdout=True)
    s.write(b"all of it\n")
    if how == "end":
        s.end_input()
        assert s.end() == 0
        assert s.read(s.stdout) == b"all of it\nover\n"
    s.hang_up()
    assert d.wait_exit(c).exit_code == 0
    assert d.read_log(d.status(c).log_path) == "all of it\nover\n"


def test_input_once_ends_beside_other_commands(d, pod):
    """A command that runs for long keeps no copy of the container's input."""
    c = d.run(pod, "cat; echo over", stdin=True, stdin_once=True)
    with attach(d, c, stdin=True, stdout=True) as s:
        with run(d, c, "sleep 1111"):
            sync = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "1112"])
            wait_for(lambda: "1112" in processes(d, c))
            s.end_input()
            assert s.end() == 0
        with pytest.raises(grpc.RpcError):
            sync.result()
            raise grpc.RpcError  # it was killed with its container


def test_attach_to_a_terminal(d, pod):
    c = d.run(pod, "stty -echo; echo ready; read x; stty size; read x; exit 5", stdin=True, tty=True)
    with attach(d, c, stdin=True, stdout=True, tty=True) as s:
        wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
        fcntl.ioctl(s.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
        s.write(b"\n")
        assert b"40 90\r\n" in s.read(s.stdout, b"40 90\r\n")
    with attach(d, c, stdin=True, stdout=True, tty=True) as s:  # its client's end is not its own
        s.write(b"\n")
        assert s.end() == 5


def test_the_container_waits_for_a_slow_client(d, pod):
    """Nothing is lost, in its pipe and in the log."""
    c = d.create(pod, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end >&2; exit 6")
    with attach(d, c, stdout=True, stderr=True) as s:
        d.cri.StartContainer(container_id=c)
        log = d.status(c).log_path
        wait_for(lambda: os.path.exists(log) and os.path.getsize(log) > 60000)
        time.sleep(0.3)
        assert os.path.getsize(log) < 1000000 and d.status(c).state == api.CONTAINER_RUNNING
        data = s.read(s.stdout, b"\n")
        assert data == b"x" * 3000000 + b"\n"
        assert s.end() == 6
        assert s.read(s.stderr) == b"end\n"
    assert d.read_log(log, "stdout") == "x" * 3000000 + "\n"


def test_what_a_client_has_not_taken_at_the_end(d, pod):
    """The container is gone, and removed; its client reads on, and is told at the end of it."""
    c = d.create(pod, "head -c 150000 /dev/zero | tr '\\0' y; sleep 1000")
    with attach(d, c, stdout=True) as s:
        d.cri.StartContainer(container_id=c)
        log = d.status(c).log_path
        wait_for(lambda: os.path.exists(log) and os.path.getsize(log) > 60000)
        d.cri.RemoveContainer(container_id=c)
        data = s.read(s.stdout, b"y" * 130000)
        assert s.end() == 137
        data += s.read(s.stdout)
        assert data == b"y" * len(data)
    assert d.read_log(log).count("y") == len(data)


def test_a_client_that_takes_nothing_is_dropped(archive, tmp_path):
    d = Daemon(env={"GANTRY_LIBEXEC": frames.stand_in(str(tmp_path)),
                    "GANTRY_LIMIT": "attach-stall-ms:300"})
    try:
        d.load(archive)
        c = d.create(d.run_pod(), "head -c 1000000 /dev/zero | tr '\\0' z; exit 7")
        with attach(d, c, stdout=True) as lazy:
            d.cri.StartContainer(container_id=c)
            assert d.wait_exit(c).exit_code == 7
            end = lazy.end()
            assert "no output was taken" in end.message
        assert d.read_log(d.status(c).log_path) == "z" * 1000000 + "\n"
    finally:
        d.close()


def test_attached_when_the_monitor_dies(d):
    p = d.run_pod(name="attached")
    c = d.run(p, "while :; do echo x; sleep 0.01; done")
    with attach(d, c, stdout=True) as s:
        s.read(s.stdout, b"x")
        os.kill(monitor_of(p), signal.SIGKILL)
        assert s.end() is None
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state == api.SANDBOX_NOTREADY)
    if d.status(c).state == api.CONTAINER_RUNNING:
        with pytest.raises(Refused) as e:
            attach(d, c, stdout=True)
        assert e.value.code == CODE.FAILED_PRECONDITION.value[0]
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_sessions_of_a_pod_are_bounded(d, pod):
    c = d.run(pod, "sleep 1000")
    held = []
    try:
        with pytest.raises(Refused) as e:
            for _ in range(200):
                held.append(attach(d, c, stdout=True))
        assert e.value.code == CODE.RESOURCE_EXHAUSTED.value[0] and len(held) == 128
        with pytest.raises(Refused):
            run(d, c, "true")
    finally:
        for s in held:
            s.hang_up()

    def free():
        try:
            with run(d, c, "true") as s:
                return s.end() == 0
        except Refused:
            return False
    wait_for(free)


# --- ports ---

ECHO = """
import shutil, socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        shutil.copyfileobj(self.rfile, self.wfile)
class Server(socketserver.ThreadingTCPServer):
    address_family = 10 if ":" in sys.argv[1] else 2
    allow_reuse_address = daemon_threads = True
Server((sys.argv[1], 8080), Handler).serve_forever()
"""


@contextlib.contextmanager
def echo_server(d, pod, address):
    """Answers each connection to port 8080 of the pod with what it was told."""
    netns, = glob.glob(d.dir + "/netns/*-" + pod[:16])
    p = subprocess.Popen(["nsenter", "--net=" + netns, "/usr/bin/python3", "-c", ECHO, address])
    try:
        yield
    finally:
        p.kill()
        p.wait()


def forward(d, pod, *ports):
    return Session(d, d.cri.PortForward(pod_sandbox_id=pod, port=ports).url)


def echo(s, data):
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        part = s.recv(65536)
        if not part:
            return got
        got += part


def connected(f, port):
    """Once somebody listens."""
    def attempt():
        try:
            return f.connect(port)
        except Refused as e:
            assert e.code == CODE.UNAVAILABLE.value[0], e
            return None
    return wait_for(attempt)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ports(d, pod, address):
    with echo_server(d, pod, address), forward(d, pod) as f:
        assert f.ports == []
        with pytest.raises(Refused) as e:
            f.connect(8081)
        assert e.value.code == CODE.UNAVAILABLE.value[0] and "8081" in e.value.message
        with connected(f, 8080) as one, f.connect(8080) as two:
            assert echo(two, b"two" * 100000) == b"two" * 100000
            assert echo(one, b"one") == b"one"
    with echo_server(d, pod, address), forward(d, pod, 8080, 99) as f:
        assert f.ports == [8080, 99]
        with connected(f, 8080) as s:
            assert echo(s, b"again") == b"again"
        with pytest.raises(Refused) as e:
            f.connect(8081)
        assert e.value.code == CODE.PERMISSION_DENIED.value[0]
        with pytest.raises(Refused):
            f.connect(0)


def test_ports_of_the_node(d):
    """A pod in the node's network: what listens there may be anybody."""
    p = d.run_pod(name="host", namespaces=api.NamespaceOption(network=api.NODE, pid=api.CONTAINER))
    with socket.create_server(("127.0.0.1", 0)) as server, forward(d, p) as f:
        with f.connect(server.getsockname()[1]) as s:
            peer, _ = server.accept()
            s.sendall(b"here")
            assert peer.recv(4) == b"here"
            peer.close()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_ports_end_with_the_pod(d):
    p = d.run_pod(name="forwarded")
    d.run(p, "nc -ll -p 8080 -e cat", name="server")
    with forward(d, p) as f:
        with connected(f, 8080):
            d.cri.StopPodSandbox(pod_sandbox_id=p)
            wait_for(lambda: not children_of_daemon(d))  # nobody keeps the network alive
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- bounds ---

def test_tokens_expire_and_are_bounded(archive, tmp_path):
    d = Daemon(env={"GANTRY_LIBEXEC": frames.stand_in(str(tmp_path)),
                    "GANTRY_LIMIT": "stream-token-ms:400"})
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "sleep 1000")
        url = exec_url(d, c, "true")
        time.sleep(0.5)
        with pytest.raises(Refused) as e:
            Session(d, url)
        assert e.value.code == CODE.NOT_FOUND.value[0]
        long = ["x" * 100000] * 20  # of their bytes together, too
        with pytest.raises(grpc.RpcError) as e:
            for _ in range(100):
                d.cri.Exec(container_id=c, cmd=["echo", *long], stdout=True)
        assert e.value.code() == CODE.RESOURCE_EXHAUSTED

        def room():
            try:
                return exec_url(d, c, "true")
            except grpc.RpcError:
                return None
        with Session(d, wait_for(room)) as s:
            assert s.end() == 0
    finally:
        d.close()


def test_unused_tokens_are_bounded(archive, tmp_path):
    d = Daemon(env={"GANTRY_LIBEXEC": frames.stand_in(str(tmp_path)),
                    "GANTRY_LIMIT": "stream-tokens:3"})
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "sleep 1000")
        urls = [exec_url(d, c, "exit %d" % i) for i in range(3)]
        fails(CODE.RESOURCE_EXHAUSTED, lambda: exec_url(d, c, "true"))
        for i, url in enumerate(urls):
            with Session(d, url) as s:
                assert s.end() == i
        exec_url(d, c, "true")
    finally:
        d.close()


def test_connections_are_bounded(archive, tmp_path):
    d = Daemon("streaming:\n  max_connections: 2\n  address: \"::1\"\n",
               env={"GANTRY_LIBEXEC": frames.stand_in(str(tmp_path))})
    try:
        held = [frames.connect(d.address) for _ in range(2)]
        with pytest.raises(AssertionError, match="was closed"):
            frames.connect(d.address)
        for client, daemon in held:
            client.close()
            daemon.close()

        def again():
            try:
                return frames.connect(d.address)
            except AssertionError:
                return None  # the daemon has not seen them end
        for end in wait_for(again):
            end.close()
        assert "streaming.max_connections" in d.log_text()
        pod = d.run_pod()
        assert "http://[::1]:" in d.cri.PortForward(pod_sandbox_id=pod).url
    finally:
        d.close()


def test_files_of_tls_are_looked_at(tmp_path):
    pem, other = tmp_path / "pem", tmp_path / "other"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    other.write_text("nothing\n")
    for cert, key, message in ((pem, tmp_path / "none", "No such file"), (other, pem, "no PEM")):
        d = Daemon("streaming:\n  tls:\n    cert: %s\n    key: %s\n" % (cert, key), start=False)
        with pytest.raises(RuntimeError, match=message):
            d.start()
        assert not os.path.exists(d.address) and not os.path.exists(d.address + ".stream")
        d.log.close()


def test_the_socket(d):
    mode = os.stat(d.address + ".stream").st_mode
    assert mode == os.stat(d.address).st_mode and mode & 0o777 == 0o660
