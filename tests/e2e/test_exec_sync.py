# SPDX-License-Identifier: Apache-2.0
"""ExecSync: output, exit codes, timeouts, whatever becomes of a command, and what is left of it."""
import concurrent.futures
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import grpc
import pytest

import http2
from bystander import Bystander
from cri import SLOW, api
from daemon import Daemon, anonymous, at_rest, processes_with, wait_for

CODE = grpc.StatusCode
RUNTIMES = ["crun", "runc"]


@pytest.fixture(params=RUNTIMES)
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


@pytest.fixture
def ctr(d, pod):
    return d.run(pod, "sleep 100000")


def failure(call, *args, **kw):
    with pytest.raises(grpc.RpcError) as e:
        call(*args, **kw)
    return e.value


def ps(d, ctr):
    return d.exec(ctr, "ps -o stat,args").stdout.decode()


def gone(d, ctr, word):
    """No process of that name lives in the container; dead ones may wait for its process 1."""
    return not [x for x in ps(d, ctr).splitlines()
                if word in x and x[0] != "Z" and "ps -o" not in x]


def monitors(d):
    """Processes of ours that belong to pods: monitors and their jobs."""
    return [pid for pid, cmd in processes_with(d.state + "/pods") if "gantry-monitor" in cmd]


def monitor_of(d, pod):
    return next(pid for pid in monitors(d) if pod in open("/proc/%d/cmdline" % pid).read()
                and not parent_is_monitor(pid, monitors(d)))


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


# --- exit codes and errors ---

@pytest.mark.parametrize("command, want", [
    ("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("exit 300", 44),
    ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -SEGV $$", 139),
    ("no-such-command", 127), ("/etc", 126), ("sleep 100000 & exit 3", 3)])
def test_exit_codes(d, ctr, command, want):
    assert d.exec(ctr, command).exit_code == want


@pytest.mark.parametrize("program, why", [
    ("/no/such", "no such file"), ("no-such", "not found in $path"),
    ("/etc", "not permitted|is a directory|permission denied"), ("/file", "permission denied")])
def test_what_cannot_be_started(d, ctr, program, why):
    d.exec(ctr, "echo hello >/file; chmod 644 /file")
    e = failure(d.cri.ExecSync, container_id=ctr, cmd=[program, "x"], timeout=5 * SLOW)
    assert e.code() == CODE.INTERNAL
    assert re.search(why.replace("$", r"\$"), e.details().lower()), e.details()


def test_states(d, pod):
    def refused(c):
        e = failure(d.cri.ExecSync, container_id=c, cmd=["true"], timeout=5 * SLOW)
        assert "not running" in e.details()
        return e.code()
    created = d.create(pod, "sleep 100000", name="created")
    assert refused(created) == CODE.FAILED_PRECONDITION
    exited = d.run(pod, "true", name="exited")
    d.wait_exit(exited)
    assert refused(exited) == CODE.FAILED_PRECONDITION
    d.cri.RemoveContainer(container_id=exited)
    assert failure(d.cri.ExecSync, container_id=exited, cmd=["true"]).code() == CODE.NOT_FOUND


def test_while_the_container_is_stopped(d, pod):
    """It runs until its end: commands do, too, and end with it."""
    c = d.run(pod, "trap 'touch /asked' TERM; while :; do sleep 0.1; done")
    f = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "8642"], timeout=0)
    wait_for(lambda: not gone(d, c, "sleep 8642"))
    stop = d.cri.StopContainer.future(container_id=c, timeout=int(3 * SLOW))
    wait_for(lambda: d.exec(c, "test -e /asked").exit_code == 0)
    assert d.exec(c, "echo still").stdout == b"still\n"
    assert f.result().exit_code == 137
    stop.result()


def test_while_the_container_dies(d, pod):
    """Whenever it goes, the answer is one of these, and comes."""
    seen = set()
    for i in range(12):
        c = d.run(pod, "sleep 0.0%d" % i, name="c%d" % i)
        try:
            while True:
                seen.add(d.cri.ExecSync(container_id=c, cmd=["true"], timeout=10 * SLOW).exit_code)
        except grpc.RpcError as e:
            assert e.code() == CODE.FAILED_PRECONDITION, e
        d.cri.RemoveContainer(container_id=c)
    assert seen <= {0, 137}


def test_paused(d, pod, request):
    """A container that somebody has frozen: it takes no command, or none that could end."""
    runtime = request.node.callspec.params["pod"]
    c = d.run(pod, "sleep 100000")
    f = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "8643"], timeout=SLOW)
    wait_for(lambda: not gone(d, c, "sleep 8643"))
    tool = [runtime, "--root", "%s/runtime/%s" % (d.state, runtime)]
    subprocess.run([*tool, "pause", c], check=True)
    began = time.monotonic()
    try:
        assert failure(f.result).code() == CODE.DEADLINE_EXCEEDED
        e = failure(d.cri.ExecSync, container_id=c, cmd=["true"], timeout=1)
        assert e.code() in (CODE.DEADLINE_EXCEEDED, CODE.FAILED_PRECONDITION, CODE.INTERNAL)
        assert time.monotonic() - began < 15 * SLOW
    finally:
        subprocess.run([*tool, "resume", c], check=True)
    assert d.exec(c, "echo again").stdout == b"again\n"
    wait_for(lambda: gone(d, c, "sleep 8643"))


# --- output ---

def test_all_output_comes(d, ctr):
    r = d.exec(ctr, "seq 200000; seq 100000 >&2; exit 5")
    assert r.exit_code == 5
    assert r.stdout == "".join("%d\n" % (i + 1) for i in range(200000)).encode()
    assert r.stderr == "".join("%d\n" % (i + 1) for i in range(100000)).encode()


def test_more_than_the_limit(d, ctr):
    """What is above it is read and dropped: the command is not held up, and ends by itself."""
    r = d.exec(ctr, "head -c 40000000 /dev/zero; echo x >&2; exit 9")
    assert r.exit_code == 9 and r.stderr == b"x\n"
    assert 15 << 20 < len(r.stdout) <= 16 << 20


def test_limit_of_the_configuration(archive):
    d = Daemon("container:\n  exec_output_max: 100000\n")
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "sleep 100000")
        r = d.exec(c, "head -c 100001 /dev/zero; seq 100000 >&2; exit 2")
        assert (r.exit_code, len(r.stdout), len(r.stderr)) == (2, 100000, 100000)
        r = d.exec(c, "head -c 99999 /dev/zero")
        assert (r.exit_code, len(r.stdout)) == (0, 99999)
    finally:
        d.close()


def test_who_keeps_the_pipe_open_is_not_waited_for(d, ctr):
    began = time.monotonic()
    r = d.exec(ctr, "sleep 100001 & echo now; exit 4")
    assert (r.exit_code, r.stdout) == (4, b"now\n")
    # They write on, and faster than anyone reads.
    r = d.exec(ctr, "yes & yes & yes >&2 & yes & exit 6")
    assert r.exit_code == 6
    d.exec(ctr, "killall yes")
    e = failure(d.cri.ExecSync, container_id=ctr, cmd=["sh", "-c", "yes & yes & yes >&2 & yes"],
                timeout=1)
    assert e.code() == CODE.DEADLINE_EXCEEDED
    wait_for(lambda: gone(d, ctr, "yes"))
    assert time.monotonic() - began < 10 * SLOW


# --- timeouts ---

# What a command may become: children of children without their parents, in sessions of their own,
# deaf to signals, and a chain in which each process makes the next one and ends.
RUNAWAYS = {
    "children": "sleep 7531 & (sleep 7531; true) & sleep 7531",
    "orphans": "(sleep 7531 &); sh -c 'sleep 7531 & exit' & sleep 7531",
    "sessions": "(setsid setsid sh -c 'sleep 7531 & setsid sleep 7531 &' &); sleep 7531",
    "deaf": "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; sleep 7531; sleep 7531' &) "
            "; sleep 7531",
    "closed": "(setsid sleep 7531 <&- >&- 2>&- &); exec sleep 7531 >&- 2>&-",
    "chain": "echo 'sh /tmp/hop7531 &' >/tmp/hop7531; sh /tmp/hop7531; exec sleep 7531",
    "crowd": "f() { while :; do (setsid sleep 7531 &) ; done; }; f & f & f",
}


@pytest.mark.parametrize("kind", RUNAWAYS)
def test_timeout_kills_everything(d, ctr, kind):
    began = time.monotonic()
    e = failure(d.cri.ExecSync, container_id=ctr, cmd=["sh", "-c", RUNAWAYS[kind]], timeout=1)
    took = time.monotonic() - began
    assert e.code() == CODE.DEADLINE_EXCEEDED and "killed" in e.details()
    assert gone(d, ctr, "7531"), ps(d, ctr)  # at once: it was killed before the answer
    assert 1 <= took < 6 * SLOW
    assert d.status(ctr).state == api.CONTAINER_RUNNING


@pytest.mark.parametrize("kind", ["sessions", "chain"])
@pytest.mark.parametrize("mode", [api.NODE, api.POD])
def test_timeout_in_other_pid_namespaces(d, mode, kind):
    """In that of the node, and in one that the pod's containers share."""
    p = d.run_pod(name="pidns-%d-%s" % (mode, kind), namespaces=api.NamespaceOption(pid=mode))
    try:
        lin = api.LinuxContainerConfig()
        lin.security_context.namespace_options.pid = mode
        c = d.run(p, "sleep 100000", linux=lin)
        e = failure(d.cri.ExecSync, container_id=c, cmd=["sh", "-c", RUNAWAYS[kind]], timeout=1)
        assert e.code() == CODE.DEADLINE_EXCEEDED
        assert gone(d, c, "7531"), ps(d, c)
        assert d.status(c).state == api.CONTAINER_RUNNING
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_timeout_of_what_made_a_pid_namespace(d, pod):
    lin = api.LinuxContainerConfig()
    lin.security_context.privileged = True
    lin.security_context.namespace_options.pid = api.CONTAINER
    c = d.run(pod, "sleep 100000", linux=lin)
    e = failure(d.cri.ExecSync, container_id=c, timeout=1, cmd=[
        "sh", "-c", "(unshare -p -f sh -c 'sleep 7531 & setsid sleep 7531' &); sleep 7531"])
    assert e.code() == CODE.DEADLINE_EXCEEDED
    assert gone(d, c, "7531"), ps(d, c)


def test_others_are_spared(d, ctr):
    """Neither the container's own processes, nor commands beside, nor what earlier ones left."""
    d.exec(ctr, "(setsid sleep 7001 &)")
    beside = d.cri.ExecSync.future(container_id=ctr, cmd=[
        "sh", "-c", "(setsid sleep 7002 &); sleep 3; echo done"], timeout=60)
    wait_for(lambda: not gone(d, ctr, "sleep 7002"))
    e = failure(d.cri.ExecSync, container_id=ctr, timeout=1,
                cmd=["sh", "-c", "(setsid sleep 7003 &); sleep 7003"])
    assert e.code() == CODE.DEADLINE_EXCEEDED
    assert not gone(d, ctr, "sleep 7001") and not gone(d, ctr, "sleep 7002")
    assert gone(d, ctr, "sleep 7003")
    assert beside.result().stdout == b"done\n"


def test_no_timeout(d, ctr):
    assert d.cri.ExecSync(container_id=ctr, cmd=["sleep", "1.2"], timeout=0).exit_code == 0
    e = failure(d.cri.ExecSync, container_id=ctr, cmd=["true"], timeout=-1)
    assert e.code() == CODE.INVALID_ARGUMENT


def test_a_runtime_that_hangs(archive, tmp_path):
    """The command's time is the time of all of it; what the runtime had begun is ended."""
    wrapper = tmp_path / "runtime"
    wrapper.write_text("#!/bin/sh\ncase \" $* \" in *\" exec \"*) test ! -e %s/hang || "
                       "{ crun \"$@\"; sleep 7532; } ;; esac\nexec crun \"$@\"\n" % tmp_path)
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper)
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "sleep 100000")
        (tmp_path / "hang").touch()
        began = time.monotonic()
        e = failure(d.cri.ExecSync, container_id=c, timeout=1,
                    cmd=["sh", "-c", "(setsid sleep 7531 &); sleep 7531"])
        assert e.code() == CODE.DEADLINE_EXCEEDED and time.monotonic() - began < 6 * SLOW
        (tmp_path / "hang").unlink()
        assert gone(d, c, "7531"), ps(d, c)
        assert not processes_with("sleep 7532")
    finally:
        d.close()


def test_a_runtime_that_is_replaced(archive, tmp_path):
    """Calls run what the file is now, also where the daemon has a copy of what it was."""
    crun, said = tmp_path / "crun", tmp_path / "said"
    shutil.copy(shutil.which("crun"), crun)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % crun)
    try:
        d.load(archive)
        p = d.run_pod()
        c = d.run(p, "sleep 100000")
        assert d.exec(c, "echo 1").stdout == b"1\n"
        with open("/proc/%d/maps" % d.process.pid) as f:
            assert "memfd:crun" not in f.read()  # nothing of it counts as the daemon's memory
        new = tmp_path / "new"
        new.write_text("#!/bin/sh\necho $@ >>%s\nexec %s \"$@\"\n" % (said, shutil.which("crun")))
        new.chmod(0o755)
        new.rename(crun)
        assert d.exec(c, "echo 2").stdout == b"2\n"
        assert " exec " in said.read_text()
        d.run(p, "sleep 100000", name="other")
        assert " create " in said.read_text() and " start " in said.read_text()
    finally:
        d.close()


# --- clients and processes of ours that go ---

def test_given_up(d, ctr):
    f = d.cri.ExecSync.future(container_id=ctr, timeout=0,
                              cmd=["sh", "-c", "(setsid sleep 7531 &); sleep 7531"])
    wait_for(lambda: not gone(d, ctr, "7531"))
    f.cancel()
    wait_for(lambda: gone(d, ctr, "7531"))


def test_daemon_killed(fresh):
    d = fresh
    c = d.run(d.run_pod(), "sleep 100000")
    f = [d.cri.ExecSync.future(container_id=c, timeout=0, cmd=[
        "sh", "-c", "(setsid sleep 7531 &); sleep 7531"]) for _ in range(8)]
    wait_for(lambda: ps(d, c).count("sleep 7531") >= 16)
    d.kill()
    for x in f:
        x.cancel()
    d.start()
    wait_for(lambda: gone(d, c, "7531"))
    wait_for(lambda: len(monitors(d)) == 1)


def test_job_killed(d, ctr):
    """The process of ours that attends to the command is killed: the command goes too."""
    before = set(monitors(d))
    f = d.cri.ExecSync.future(container_id=ctr, timeout=0,
                              cmd=["sh", "-c", "(setsid sleep 7531 &); sleep 7531"])
    wait_for(lambda: not gone(d, ctr, "7531"))
    job = wait_for(lambda: [x for x in set(monitors(d)) - before if parent_is_monitor(x, before)])
    # The one that attends to it is the parent of the command.
    for x in job:
        os.kill(x, signal.SIGKILL)
    assert failure(f.result).code() == CODE.INTERNAL
    wait_for(lambda: gone(d, ctr, "7531"))


def test_monitor_killed(d, pod):
    """Its jobs see that, and take their commands along; the next one waits for that."""
    c = d.run(pod, "sleep 100000")
    f = d.cri.ExecSync.future(container_id=c, timeout=0,
                              cmd=["sh", "-c", "(setsid sleep 7536 &); sleep 7536"])
    wait_for(lambda: not gone(d, c, "7536"))
    os.kill(monitor_of(d, pod), signal.SIGKILL)
    assert failure(f.result).code() in (CODE.UNAVAILABLE, CODE.INTERNAL, CODE.CANCELLED)
    wait_for(lambda: not processes_with("sleep 7536"))
    assert d.status(c).state == api.CONTAINER_RUNNING


def parent_is_monitor(pid, monitors_):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return int(f.read().rsplit(")", 1)[1].split()[1]) in monitors_
    except OSError:
        return False


# --- many ---

def refused(d, ctr):
    try:
        d.exec(ctr, "true")
    except grpc.RpcError as e:
        assert e.code() == CODE.RESOURCE_EXHAUSTED, e
        return True
    return False


def test_many_at_once(d, ctr):
    """So many commands of a pod run at once; one more is refused, and everything else goes on."""
    n = 64
    calls = [d.cri.ExecSync.future(container_id=ctr, cmd=["sleep", "7534"], timeout=0)
             for _ in range(n)]
    try:
        wait_for(lambda: len(processes_with("sleep\x007534") or processes_with("sleep 7534")) == n)
        e = failure(d.cri.ExecSync, container_id=ctr, cmd=["true"], timeout=5 * SLOW)
        assert e.code() == CODE.RESOURCE_EXHAUSTED and "64 requests" in e.details()
        assert d.status(ctr).state == api.CONTAINER_RUNNING
        other = d.run_pod(name="other-" + ctr[:8])
        c = d.run(other, "sleep 100000")
        assert d.exec(c, "echo fine").stdout == b"fine\n"
        d.cri.RemovePodSandbox(pod_sandbox_id=other)
    finally:
        for f in calls:
            f.cancel()
    wait_for(lambda: not processes_with("sleep 7534"))
    wait_for(lambda: not refused(d, ctr))  # once their ends have been told
    assert d.exec(ctr, "echo again").stdout == b"again\n"


def test_given_up_in_a_loop(d, pod, ctr):
    """Commands that are asked for and given up at once: others are answered, and none is left."""
    q = api.ExecSyncRequest(container_id=ctr, cmd=["sh", "-c", "(setsid sleep 7537 &); sleep 7537"])
    before = len(at_rest(lambda: monitors(d)))
    with Bystander(d.address) as b, http2.Connection(d.address) as c:
        for _ in range(10):
            for _ in range(40):
                s = c.start("/runtime.v1.RuntimeService/ExecSync",
                            http2.message(q.SerializeToString()))
                c.send(http2.RST_STREAM, 0, s, struct.pack(">I", http2.CANCEL))
            assert c.call("/runtime.v1.RuntimeService/Version").status == 0
    assert not b.failed and b.waits[-1] < SLOW, b.waits[-5:]
    wait_for(lambda: not processes_with("sleep 7537"))
    wait_for(lambda: len(monitors(d)) == before)
    assert d.exec(ctr, "echo again").stdout == b"again\n"


@pytest.mark.parametrize("how", ["ends", "times out"])
def test_probes_leave_nothing(d, pod, ctr, how):
    """
    What made containerd grow until it was killed (CVE-2026-53495): probe after probe whose child
    keeps the pipe open.  No process, descriptor or memory of ours is left of them.
    """
    n, timeout, tail = (300, 60, "exit 0") if how == "ends" else (96, 1, "sleep 7533")
    n = max(n // SLOW, 48)
    command = ["sh", "-c", "head -c 300000 /dev/zero; (setsid sleep 7533 &); " + tail]

    def probe(_):
        try:
            return d.cri.ExecSync(container_id=ctr, cmd=command, timeout=timeout).exit_code
        except grpc.RpcError as e:
            return e.code()
    want = 0 if how == "ends" else CODE.DEADLINE_EXCEEDED

    before = len(at_rest(lambda: monitors(d)))
    daemon, monitor = d.process.pid, monitor_of(d, pod)
    room = 350000 if d.sanitized() else 200  # kB; sanitizers keep freed memory for a while

    def rest():
        d.exec(ctr, "pkill -9 -f 'sleep 7533' || true")
        wait_for(lambda: len(monitors(d)) == before)

    def held():
        return descriptors(daemon), descriptors(monitor)
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        set(pool.map(probe, range(n)))  # what the first ones take is kept
        for _ in range(1500):
            d.cri.Version()  # nghttp2 keeps a connection's last thousand streams
        rest()
        fds = at_rest(held)
        kb = [min(anonymous(x) for _ in range(30) if not time.sleep(0.05)) for x in (daemon, monitor)]
        assert set(pool.map(probe, range(n))) == {want}
    rest()
    assert at_rest(held) == fds
    try:
        wait_for(lambda: anonymous(daemon) < kb[0] + room and anonymous(monitor) < kb[1] + room)
    except TimeoutError:
        raise AssertionError("%s kB before, %s now" % (kb, [anonymous(x) for x in (daemon, monitor)]))
