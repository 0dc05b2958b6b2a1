# SPDX-License-Identifier: Apache-2.0
"""Streaming below HTTP: the CRI methods, their tokens, and sessions of the daemon and of monitors.
The stream program is a stand-in (tests/lib/frames.py): the test says what it would say."""
import fcntl
import os
import re
import signal
import socket
import struct
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


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_exec_in_a_terminal(d, runtime):
    if not os.path.exists("/usr/bin/" + runtime) and not os.path.exists("/usr/sbin/" + runtime):
        pytest.skip("no %s on this machine" % runtime)
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
    (pid, _), = [x for x in processes_with(pod) if "gantry-monitor" in x[1]
                 and open("/proc/%d/stat" % x[0]).read().split()[5] == str(x[0])]
    return pid


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
