# SPDX-License-Identifier: Apache-2.0
"""The event loop waits for nothing: not for a disk, a process, or whoever reads its log."""
import os
import shutil
import subprocess
import time

import pytest

from cri import api
from daemon import BUILD, Daemon, wait_for

SLOW = "fsync,fdatasync,sync_file_range,syncfs,sync"


def strace(d, spec, log):
    """From now on these calls of the daemon and of all it starts take their time.  Each of its other
    calls waits for strace, too: that must not wait for the rest of the machine."""
    p = subprocess.Popen(["nice", "-n", "-20", "strace", "-f", "-qq", "-o", log, "-e", "trace=" + SLOW, "-e",
                          "inject=%s:%s" % (SLOW, spec), "-p", str(d.process.pid), "-p",
                          str(spawner(d))], start_new_session=True)
    wait_for(lambda: traced(d.process.pid))
    return p


def spawner(d):
    """The process that starts programs for the daemon."""
    with open("/proc/%d/task/%d/children" % (d.process.pid, d.process.pid)) as f:
        return int(f.read().split()[0])  # its first child


def traced(pid):
    with open("/proc/%d/status" % pid) as f:
        return any(x.startswith("TracerPid:") and int(x.split()[1]) for x in f)


def reads_quickly(d):
    start = time.monotonic()
    d.cri.ListPodSandbox()
    d.cri.Version()
    return time.monotonic() - start


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_slow_disk(fresh, archive, tmp_path):
    """Each sync takes two seconds.  The watchdog ends a daemon whose loop waits for one."""
    d = fresh
    if d.sanitized():
        pytest.skip("LeakSanitizer does not work in a traced process")
    p = d.run_pod(name="before")
    log = str(tmp_path / "strace.log")
    tracer = strace(d, "delay_enter=2000000", log)
    try:
        # More rows than the log of the index holds: it is folded, and begun anew.
        big = {"k%d" % i: "v" * 250 for i in range(500)}
        for i in range(14):
            q = d.run_pod(name="big%d" % i, annotations=big,
                          namespaces=api.NamespaceOption(network=api.NODE))
            d.cri.RemovePodSandbox(pod_sandbox_id=q)
        load = d.cri.PullImage.future(image=api.ImageSpec(image="127.0.0.1:1/none"))
        load.exception()
        d.load(archive)
        c = d.run(p, "echo hi; exit 3")
        assert d.wait_exit(c).exit_code == 3
        wait_for(lambda: syncs(log))
        for i in range(3):
            q = d.run_pod(name="after%d" % i, annotations=big,
                          namespaces=api.NamespaceOption(network=api.NODE))
            d.cri.RemovePodSandbox(pod_sandbox_id=q)
        assert str(d.process.pid) not in {x.split()[0] for x in syncs(log)}
    finally:
        tracer.terminate()
        tracer.wait()
    assert d.process.poll() is None, d.log_text()


def syncs(log):
    with open(log) as f:
        return [x for x in f if "sync" in x]


def test_without_the_spawner(fresh):
    """It may be killed for want of memory: programs are started without it."""
    d = fresh
    first = d.run_pod(name="with")
    os.kill(spawner(d), 9)
    wait_for(lambda: "programs has ended" in d.log_text())
    second = d.run_pod(name="without")
    c = d.run(second, "echo hi; exit 3")
    assert d.wait_exit(c).exit_code == 3
    for p in (first, second):
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_the_spawner_ends_with_the_daemon(fresh):
    d = fresh
    for how in (9, 15):
        pid = spawner(d)
        d.process.send_signal(how)
        d.process.wait()
        wait_for(lambda: not os.path.exists("/proc/%d" % pid))
        d.start()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_files_of_cgroups_are_opened_by_others(fresh, tmp_path):
    """Who opens one waits for whoever makes or removes cgroups on the machine."""
    d = fresh
    if d.sanitized():
        pytest.skip("LeakSanitizer does not work in a traced process")
    p = d.run_pod()
    c = d.run(p, "sleep 1000")
    log = str(tmp_path / "strace.log")
    tracer = subprocess.Popen(["strace", "-qq", "-o", log, "-e", "trace=open,openat,openat2",
                               "-p", str(d.process.pid)], start_new_session=True)
    wait_for(lambda: traced(d.process.pid))
    try:
        s = d.cri.ContainerStats(container_id=c).stats
        assert s.memory.usage_bytes.value > 0
        s = d.cri.PodSandboxStats(pod_sandbox_id=p).stats.linux
        assert s.memory.usage_bytes.value > 0 and s.process.process_count.value >= 1
        assert len(d.cri.ListContainerStats().stats) == 1
        assert len(d.cri.ListPodSandboxStats().stats) == 1
        (m,) = d.cri.ListPodSandboxMetrics().pod_metrics
        assert "container_file_descriptors" in {x.name for x in m.container_metrics[0].metrics}
    finally:
        tracer.terminate()
        tracer.wait()
    with open(log) as f:
        opened = f.read()
    assert "/net/dev" in opened and "cgroup" not in opened and "/fd" not in opened, opened


def test_nobody_reads_the_log(archive):
    """A full pipe costs lines, which are counted, not the daemon."""
    r, w = os.pipe()
    d = Daemon(start=False)
    d.start(stderr=w)
    os.close(w)
    try:
        d.load(archive)
        for i in range(400):  # more than a pipe holds
            d.cri.RemovePodSandbox(pod_sandbox_id="f" * 64)
            with pytest.raises(Exception):
                d.cri.ContainerStatus(container_id="none-%d-%s" % (i, "x" * 200))
        assert reads_quickly(d) < 5
        text = ""
        while "were dropped" not in text:
            text += os.read(r, 65536).decode()
            d.cri.RemovePodSandbox(pod_sandbox_id="f" * 64)
        d.stop()
    finally:
        os.close(r)
        d.close()


def test_a_hung_monitor_holds_up_its_own_pod_only(fresh):
    d = fresh
    hung, other = d.run_pod(name="hung"), d.run_pod(name="other")
    h, o = d.run(hung, "sleep 100"), d.run(other, "sleep 100")
    pid = int(subprocess.run(["pgrep", "-f", "gantry-monitor.*" + hung], stdout=subprocess.PIPE,
                             text=True).stdout.split()[0])
    os.kill(pid, 19)
    try:
        calls = [d.cri.ExecSync.future(container_id=h, cmd=["true"], timeout=1, rpc_timeout=2)
                 for _ in range(300)]
        assert d.exec(o, "echo fine").stdout == b"fine\n"
        stats = {x.attributes.id: x for x in d.cri.ListContainerStats(rpc_timeout=20).stats}
        assert stats[h].memory.usage_bytes.value > 0 and stats[o].memory.usage_bytes.value > 0
        codes = {c.exception().code().name for c in calls}
        assert codes == {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert d.exec(o, "echo fine").stdout == b"fine\n"
        d.kill()
        d.restart()  # does not wait for it for ever
        assert d.exec(o, "echo fine").stdout == b"fine\n"
        assert d.status(h).state == api.CONTAINER_RUNNING
    finally:
        os.kill(pid, 18)
    wait_for(lambda: d.exec(h, "echo back").stdout == b"back\n")


def test_largest_output_of_a_command(fresh):
    """Both streams above the limit: cut, and no turn of the loop is long."""
    d = fresh
    c = d.run(d.run_pod(), "sleep 1000")
    r = d.cri.ExecSync(container_id=c, timeout=30, cmd=[
        "sh", "-c", "yes out | head -c 30000000; yes err | head -c 30000000 >&2"])
    assert r.exit_code == 0
    assert (16 << 20) - 70000 < len(r.stdout) + len(r.stderr) <= 16 << 20
    assert not r.stdout.replace(b"out\n", b"").strip(b"out\n")
