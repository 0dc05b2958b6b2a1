# SPDX-License-Identifier: Apache-2.0
"""The life cycle where requests overlap, repeat, are given up, and where the machine is short of
something: docs/life-cycle.md."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import grpc
import pytest

from cri import api
from daemon import Daemon, at_rest, wait_for

HOST_NET = api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)


def code(fn, *args, **kw):
    try:
        fn(*args, **kw)
        return "OK"
    except grpc.RpcError as e:
        return e.code().name


def pid_of(d, ctr):
    return json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])["pid"]


def monitor_of(pod):
    out = subprocess.run(["pgrep", "-f", "gantry-monitor.*" + pod], stdout=subprocess.PIPE, text=True)
    return int(out.stdout.split()[0])


def addresses(d):
    return [f for f in os.listdir(d.state + "/network") if f.startswith(("10.", "fd00"))]


# --- pods ---

def test_remove_of_a_running_pod_stops_it(d):
    p = d.run_pod(name="running")
    c = d.run(p, "sleep 1000")
    pid = pid_of(d, c)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not os.path.exists("/proc/%d" % pid)
    assert code(d.cri.PodSandboxStatus, pod_sandbox_id=p) == "NOT_FOUND"
    assert code(d.cri.ContainerStatus, container_id=c) == "NOT_FOUND"
    for _ in range(2):
        assert code(d.cri.RemovePodSandbox, pod_sandbox_id=p) == "OK"
        assert code(d.cri.StopPodSandbox, pod_sandbox_id=p) == "OK"


def test_stopped_pod(d):
    p = d.run_pod(name="stopped")
    assert d.info(p)["netns"] and os.path.exists(d.info(p)["netns"])
    netns = d.info(p)["netns"]
    c = d.run(p, "sleep 1000")
    for _ in range(2):
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        s = d.cri.PodSandboxStatus(pod_sandbox_id=p).status
        assert s.state == api.SANDBOX_NOTREADY
        assert not os.path.exists(netns)
        assert d.status(c).exit_code == 137
    assert code(d.create, p, "true", name="late") == "FAILED_PRECONDITION"
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_one_name_asked_for_at_once(d):
    """The first makes it; the others wait for what becomes of it."""
    cfg = d.pod_config(name="same")
    calls = [d.cri.RunPodSandbox.future(config=cfg) for _ in range(6)]
    codes = sorted(c.exception().code().name if c.exception() else "OK" for c in calls)
    assert codes == ["ALREADY_EXISTS"] * 5 + ["OK"]
    (p,) = [x.id for x in d.cri.ListPodSandbox().items if x.metadata.name == "same"]
    calls = [d.cri.CreateContainer.future(pod_sandbox_id=p, config=d.container_config("true"))
             for _ in range(6)]
    codes = sorted(c.exception().code().name if c.exception() else "OK" for c in calls)
    assert codes == ["ALREADY_EXISTS"] * 5 + ["OK"]
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_name_is_free_after_a_failure(d):
    bad = api.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_forward": "no number"})
    assert code(d.run_pod, d.pod_config(name="again", linux=bad)) != "OK"
    p = d.run_pod(name="again")
    bad = d.container_config("true", name="again", mounts=[
        api.Mount(host_path="/proc/1/nothing/here", container_path="/x")])
    assert code(d.create, p, config=bad) != "OK"
    assert not d.cri.ListContainers(filter=api.ContainerFilter(pod_sandbox_id=p)).containers
    d.run(p, "true", name="again")
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_name_is_waited_for_while_it_is_removed(d):
    p = d.run_pod(name="reused")
    for i in range(5):
        gone = d.cri.RemovePodSandbox.future(pod_sandbox_id=p)
        p2 = d.cri.RunPodSandbox.future(config=d.pod_config(name="reused"))
        if p2.exception():  # it may have been asked for before the removal began
            assert p2.exception().code().name == "ALREADY_EXISTS"
            gone.result()
            p = d.run_pod(name="reused")
        else:
            p = p2.result().pod_sandbox_id
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_everything_at_once(d):
    for i in range(4):
        p = d.run_pod(name="busy%d" % i)
        c = d.run(p, "trap '' TERM; while :; do sleep 1; done")
        calls = []
        for _ in range(3):
            calls += [
                ("exec", d.cri.ExecSync.future(container_id=c, cmd=["true"], timeout=5)),
                ("stop", d.cri.StopContainer.future(container_id=c, timeout=1)),
                ("status", d.cri.ContainerStatus.future(container_id=c)),
                ("create", d.cri.CreateContainer.future(
                    pod_sandbox_id=p, config=d.container_config("true", name="x%d" % len(calls)))),
                ("remove", d.cri.RemoveContainer.future(container_id=c)),
                ("stop pod", d.cri.StopPodSandbox.future(pod_sandbox_id=p)),
                ("list", d.cri.ListContainers.future()),
                ("remove pod", d.cri.RemovePodSandbox.future(pod_sandbox_id=p))]
        ends = {}
        for what, f in calls:
            e = f.exception()
            ends.setdefault(what, set()).add(e.code().name if e else "OK")
        for what in ("stop", "remove", "stop pod", "remove pod", "list"):
            assert ends[what] == {"OK"}, ends
        assert ends["status"] <= {"OK", "NOT_FOUND"}, ends
        assert ends["create"] <= {"OK", "NOT_FOUND", "FAILED_PRECONDITION"}, ends
        assert code(d.cri.PodSandboxStatus, pod_sandbox_id=p) == "NOT_FOUND"
        assert d.cri.Version().runtime_name == "gantry"
    assert not os.listdir(d.state + "/pods")


def test_process_1_of_the_pod_ends(d):
    """Its PID namespace is dead, and so is what ran in it."""
    p = d.run_pod(name="pidns", namespaces=api.NamespaceOption(pid=api.POD))
    linux = api.LinuxContainerConfig(security_context=api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=api.POD)))
    c = d.run(p, "sleep 1000", linux=linux)
    with open(d.state + "/pods/%s/init" % p) as f:
        os.kill(int(f.read().split()[0]), signal.SIGKILL)
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state
             == api.SANDBOX_NOTREADY)
    assert d.wait_exit(c).exit_code == 137
    assert code(d.create, p, "true", name="late") == "FAILED_PRECONDITION"
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- containers ---

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.1; done"


def stubborn(d, pod, name):
    c = d.run(pod, STUBBORN, name=name)
    wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
    return c


def test_a_shorter_grace_shortens_a_longer_one(d, pod):
    c = stubborn(d, pod, "grace")
    first = d.cri.StopContainer.future(container_id=c, timeout=1000)
    wait_for(lambda: code(d.cri.ContainerStatus, container_id=c) == "OK")
    d.cri.StopContainer(container_id=c, timeout=1, rpc_timeout=20)
    assert first.exception(20) is None
    assert d.status(c).exit_code == 137


def test_a_stop_that_is_given_up(d, pod):
    """It is answered at once; its grace goes on."""
    c = stubborn(d, pod, "giveup")
    assert code(d.cri.StopContainer, container_id=c, timeout=3, rpc_timeout=0.3) == \
        "DEADLINE_EXCEEDED"
    assert d.status(c).state == api.CONTAINER_RUNNING
    assert d.wait_exit(c, 20).exit_code == 137


def test_what_cannot_be_started(d):
    """runc finds out at the start; it says so, and is not started later."""
    p = d.run_pod(name="nostart", handler="runc")
    try:
        c = d.create(p, ["/no/such/program"])
    except grpc.RpcError as e:
        assert "no such file" in e.details()
    else:
        with pytest.raises(grpc.RpcError) as e:
            d.cri.StartContainer(container_id=c)
        assert "/no/such/program" in e.value.details()
        s = d.status(c)
        assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 128, "StartError")
        assert "/no/such/program" in s.message
        assert code(d.cri.StartContainer, container_id=c) == "FAILED_PRECONDITION"
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_an_exec_ends_with_its_connection(fresh):
    d = fresh
    c = d.run(d.run_pod(), "sleep 1000")
    f = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "777"], timeout=0)
    wait_for(lambda: b"sleep 777" in d.exec(c, "ps").stdout)
    d.kill()
    f.cancel()
    d.start()
    wait_for(lambda: b"sleep 777" not in d.exec(c, "ps").stdout)


@pytest.mark.parametrize("step", ["RunPodSandbox", "CreateContainer", "StartContainer", "ExecSync"])
def test_given_up_at_any_moment(fresh, step):
    d = fresh
    for i, delay in enumerate(x / 1000 for x in (0.5, 1, 2, 3, 5, 7, 9, 12, 15, 20, 30)):
        cfg, hasty = d.pod_config(name="pod", attempt=i), d.cri.hasty()
        if step == "RunPodSandbox":
            f = hasty.RunPodSandbox.future(config=cfg)
        else:
            p = d.run_pod(cfg)
            if step == "CreateContainer":
                f = hasty.CreateContainer.future(pod_sandbox_id=p, config=d.container_config("sleep 9"))
            else:
                c = d.create(p, "sleep 1000")
                if step == "StartContainer":
                    f = hasty.StartContainer.future(container_id=c)
                else:
                    d.cri.StartContainer(container_id=c)
                    f = hasty.ExecSync.future(container_id=c, cmd=["sleep", "777"])
        time.sleep(delay)
        f.cancel()
        hasty.close()
        if step == "RunPodSandbox":
            p = d.cri.RunPodSandbox(config=d.pod_config(name="other", attempt=i)).pod_sandbox_id
        elif step == "CreateContainer":
            d.run(p, "sleep 1000", name="other")
        elif step == "StartContainer":
            wait_for(lambda: d.status(c).state in (api.CONTAINER_CREATED, api.CONTAINER_RUNNING))
        else:
            wait_for(lambda: b"sleep 777" not in d.exec(c, "ps").stdout)
        for x in d.cri.ListPodSandbox().items:
            d.cri.RemovePodSandbox(pod_sandbox_id=x.id)
        wait_for(lambda: not d.cri.ListPodSandbox().items and not os.listdir(d.state + "/pods"))
    wait_for(lambda: not d.leftovers())


def test_killed_just_before_its_start(archive, tmp_path):
    """A runtime's start waits for ever for a process that has gone: neither the caller does, nor
    who removes the pod."""
    wrapper, pid_file = tmp_path / "runtime", tmp_path / "pid"
    wrapper.write_text("""#!/bin/sh
case " $* " in *" start "*) test ! -e %s || { kill -9 $(cat %s); exec sleep 1000; } ;; esac
exec crun "$@"
""" % (pid_file, pid_file))
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper)
    try:
        d.load(archive)
        p = d.run_pod()
        c = d.create(p, "sleep 1000")
        pid_file.write_text(str(pid_of(d, c)))
        with pytest.raises(grpc.RpcError) as e:
            d.cri.StartContainer(container_id=c, rpc_timeout=30)
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "ended before it was started" in e.value.details()
        s = d.wait_exit(c)
        assert s.exit_code == 137
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
    finally:
        d.close()


def test_an_update_given_up_goes_on_to_its_end(archive, tmp_path):
    """Half of the limits is no state to be in: what is recorded is what holds."""
    wrapper, begun = tmp_path / "runtime", tmp_path / "begun"
    wrapper.write_text("""#!/bin/sh
case " $* " in *" update "*) touch %s; sleep 1 ;; esac
exec crun "$@"
""" % begun)
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper)
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "sleep 1000")
        f = d.cri.UpdateContainerResources.future(
            container_id=c, linux=api.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
        wait_for(begun.exists)
        f.cancel()
        wait_for(lambda: d.status(c).resources.linux.memory_limit_in_bytes == 64 << 20)
        limit = d.exec(c, "cat /sys/fs/cgroup/memory.max 2>/dev/null || "
                          "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").stdout
        assert int(limit) == 64 << 20
    finally:
        d.close()


# --- the machine ---

def test_the_machine_was_restarted(fresh):
    """The index is there, all else of what ran is not."""
    d = fresh
    p = d.run_pod(name="old")
    runs, ends = d.run(p, "sleep 1000"), d.run(p, "exit 4", name="e")
    d.wait_exit(ends)
    pid, monitor, netns = pid_of(d, runs), monitor_of(p), d.info(p)["netns"]
    d.stop()
    os.kill(monitor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    subprocess.run(["umount", netns, d.state + "/pods/%s/shm" % p], check=True)
    subprocess.run(["umount", "-l", d.state], check=True)
    shutil.rmtree(d.state)
    os.unlink(netns)
    with sqlite3.connect(d.root + "/index.db") as db:
        db.execute("UPDATE pods SET boot_id = 'another'")
    db.close()
    d.start()
    for _ in range(2):
        assert d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state == api.SANDBOX_NOTREADY
        s = d.status(runs)
        assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 255, "Unknown")
        assert "restarted" in s.message
        assert d.status(ends).exit_code == 4
        d.restart()
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(name="old"))


def test_full_disk(archive, tmp_path):
    """Nothing new is made, but everything can be stopped and removed."""
    d = Daemon(start=False)
    d.root = str(tmp_path / "root")
    os.mkdir(d.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", d.root], check=True)
    try:
        d.start()
        d.load(archive)
        p = d.run_pod(name="full")
        c = d.run(p, "dd if=/dev/zero of=/file bs=1M count=100; exit 9")
        assert d.wait_exit(c).exit_code == 9
        with open(d.root + "/filler", "wb", 0) as f:
            with pytest.raises(OSError):
                while True:
                    f.write(bytes(512))
        assert code(d.run_pod, name="new") != "OK"
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        d.cri.RemoveContainer(container_id=c)
        os.unlink(d.root + "/filler")
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(name="new"))
        d.close()
    finally:
        subprocess.run(["umount", "-l", d.root])


def test_no_descriptors_left(fresh):
    d = fresh
    p = d.run_pod(name="first")
    c = d.run(p, "sleep 1000")
    used = at_rest(lambda: len(os.listdir("/proc/%d/fd" % d.process.pid)))
    subprocess.run(["prlimit", "--pid", str(d.process.pid), "--nofile=%d:" % (used + 2)], check=True)
    codes = {code(d.run_pod, name="more%d" % i) for i in range(4)}
    assert codes - {"OK"}
    assert d.status(c).state == api.CONTAINER_RUNNING
    subprocess.run(["prlimit", "--pid", str(d.process.pid), "--nofile=1024:"], check=True)
    for i in range(4):
        code(d.run_pod, name="more%d" % i)
    assert len(d.cri.ListPodSandbox().items) == 5
    assert d.exec(c, "echo hi").stdout == b"hi\n"


def test_the_runtime_is_gone(archive, tmp_path):
    """From the machine, then from the configuration: what it made can be removed."""
    copy = str(tmp_path / "runtime")
    shutil.copy(shutil.which("runc"), copy)
    text = "runtimes:\n  mine:\n    path: %s\n  runc:\n    path: runc\ndefault_runtimes: [mine, runc]\n"
    d = Daemon(text % copy)
    try:
        d.load(archive)
        pods = [d.run_pod(name="p%d" % i, handler="mine") for i in range(2)]
        ctrs = [d.run(p, "sleep 1000") for p in pods]
        os.unlink(copy)
        with pytest.raises(grpc.RpcError) as e:
            d.create(pods[0], "true", name="more")
        assert "not installed" in e.value.details()
        d.cri.StopPodSandbox(pod_sandbox_id=pods[0])
        d.cri.RemoveContainer(container_id=ctrs[0])
        d.cri.RemovePodSandbox(pod_sandbox_id=pods[0])
        d.stop()
        d.set_config("runtimes:\n  runc:\n    path: runc\ndefault_runtimes: [runc]\n")
        d.start()
        assert d.status(ctrs[1]).state == api.CONTAINER_RUNNING
        with pytest.raises(grpc.RpcError) as e:
            d.create(pods[1], "true", name="more")
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "not configured any more" in e.value.details()
    finally:
        d.close()


def test_what_a_runtime_leaves_of_a_deleted_container_goes_too(archive, tmp_path):
    """As runc does, when an exec of it is killed at the wrong moment."""
    wrapper = tmp_path / "runtime"
    wrapper.write_text("""#!/bin/sh
case " $* " in
*" delete "*) crun "$@"; for id; do :; done
    mkdir -p "$STATE/$id" && echo left >"$STATE/$id/runc.AbCdEf"; exit 0 ;;
esac
exec crun "$@"
""")
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper, start=False)
    d.env["STATE"] = d.state + "/runtime/mine"
    d.start()
    try:
        d.load(archive)
        p = d.run_pod()
        c = d.run(p, "sleep 100")
        assert os.path.isdir(d.env["STATE"] + "/" + c)
        d.cri.RemoveContainer(container_id=c)
        assert not os.path.exists(d.env["STATE"] + "/" + c)
    finally:
        d.close()


def test_a_runtime_that_does_not_delete_what_has_ended(archive, tmp_path):
    """As crun, where a thread of somebody has the number of the container's process by now."""
    wrapper, broken = tmp_path / "runtime", tmp_path / "broken"
    wrapper.write_text("""#!/bin/sh
case " $* " in
*" delete "*) ! test -e %s || { echo 'open pidfd: No such file or directory' >&2; exit 1; } ;;
esac
exec crun "$@"
""" % broken)
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper)
    try:
        d.load(archive)
        p = d.run_pod()
        one, two = d.run(p, "true", name="one"), d.run(p, "sleep 100", name="two")
        d.wait_exit(one)
        broken.write_text("")
        d.cri.RemoveContainer(container_id=one)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)  # it ends what runs first
        assert not [x for x in os.listdir(d.state + "/runtime/mine") if x in (one, two)]
    finally:
        broken.unlink(missing_ok=True)
        d.close()  # looks for processes, mounts and cgroups


def test_a_probe_leaves_nothing_of_a_runtime_that_leaves_everything(tmp_path):
    """A container that was made, and that the runtime neither starts nor deletes."""
    wrapper, made = tmp_path / "runtime", tmp_path / "made"
    wrapper.write_text("""#!/bin/sh
case " $* " in
*" delete "*) exit 0 ;;
*" create "*) crun "$@" && echo "$@" >>%s; exit ;;
*" start "*) exit 1 ;;
esac
exec crun "$@"
""" % made)
    wrapper.chmod(0o755)
    d = Daemon("runtimes:\n  mine:\n    path: %s\ndefault_runtimes: [mine]\n" % wrapper)
    try:
        wait_for(lambda: "runtime mine is not available" in d.log_text())
        assert made.exists()
        assert not d.leftovers() and os.listdir(d.state + "/runtime") == [
            x for x in os.listdir(d.state + "/runtime") if x.endswith(".lock")]
    finally:
        d.close()
