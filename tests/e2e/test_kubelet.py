# SPDX-License-Identifier: Apache-2.0
"""What a kubelet asks of a runtime beyond what critest looks at."""
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import threading
import time

import grpc
import pytest

import image
from cri import api
from daemon import wait_for

CODE = grpc.StatusCode


def linux(**kw):
    lin = api.LinuxContainerConfig(**kw)
    lin.security_context.namespace_options.pid = api.CONTAINER
    return lin


def life(d, i):
    """One pod's life, with calls that overlap and repeat, as sync loops make them."""
    p = d.run_pod(name="load-%d" % i)
    c = d.run(p, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", name="main")
    wait_for(lambda: "up" in d.read_log(d.status(c).log_path), timeout=60)
    for _ in range(3):
        assert d.exec(c, "echo probe", timeout=30).stdout == b"probe\n"
        d.cri.ListContainers()
        d.cri.ContainerStats(container_id=c)
    calls = [d.cri.StopContainer.future(container_id=c, timeout=10),
             d.cri.StopContainer.future(container_id=c, timeout=10),
             d.cri.ContainerStatus.future(container_id=c),
             d.cri.StopPodSandbox.future(pod_sandbox_id=p),
             d.cri.StopPodSandbox.future(pod_sandbox_id=p)]
    for call in calls:
        call.result(60)
    s = d.status(c)
    assert s.state == api.CONTAINER_EXITED and s.exit_code in (0, 137)
    calls = [d.cri.RemoveContainer.future(container_id=c), d.cri.RemoveContainer.future(
        container_id=c), d.cri.RemovePodSandbox.future(pod_sandbox_id=p),
        d.cri.RemovePodSandbox.future(pod_sandbox_id=p)]
    for call in calls:
        call.result(60)


def test_load(d):
    """24 pods at once, statuses and lists asked all the time, nothing left at the end."""
    done = threading.Event()

    def ask():
        n = 0
        while not done.is_set():
            d.cri.ListPodSandbox()
            d.cri.ListPodSandboxStats()
            for c in d.cri.ListContainers().containers:
                try:
                    d.status(c.id)
                except grpc.RpcError as e:
                    assert e.code() == CODE.NOT_FOUND  # what is gone is gone
                n += 1
        return n
    with concurrent.futures.ThreadPoolExecutor(26) as pool:
        asking = pool.submit(ask)
        try:
            list(pool.map(lambda i: life(d, i), range(48)))
        finally:
            done.set()
        assert asking.result() > 0
    assert not d.cri.ListPodSandbox().items and not d.cri.ListContainers().containers
    assert not d.leftovers()


def test_what_is_gone_is_not_found(d, pod):
    c = d.run(pod, "true")
    d.wait_exit(c)
    d.cri.RemoveContainer(container_id=c)
    for call in (lambda: d.status(c), lambda: d.exec(c, "true"),
                 lambda: d.cri.ContainerStats(container_id=c),
                 lambda: d.cri.StartContainer(container_id=c)):
        with pytest.raises(grpc.RpcError) as e:
            call()
        assert e.value.code() == CODE.NOT_FOUND and c in e.value.details()


def test_runtime_config(d):
    assert d.cri.RuntimeConfig().linux.cgroup_driver in (api.CGROUPFS, api.SYSTEMD)


def test_a_shorter_grace_period_shortens_the_stop(d, pod):
    c = d.run(pod, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: "up" in d.read_log(d.status(c).log_path))
    first = d.cri.StopContainer.future(container_id=c, timeout=300)
    time.sleep(0.2)  # the first has to be waiting
    began = time.monotonic()
    d.cri.StopContainer(container_id=c, timeout=1)
    assert 0.5 < time.monotonic() - began < 15
    first.result(5)
    s = d.status(c)
    assert (s.exit_code, s.reason) == (137, "Error")


def test_times_are_in_order(d, pod):
    """Of one container, and of containers that are run one after another."""
    last = 0
    for i in range(5):
        c = d.run(pod, "exit %d" % i, name="init-%d" % i)
        s = d.wait_exit(c)
        assert last < s.created_at <= s.started_at <= s.finished_at <= time.time_ns()
        assert (s.exit_code, s.reason) == (i, "Error" if i else "Completed")
        last = s.finished_at


def cgroup_of(pid, controller):
    with open("/proc/%d/cgroup" % pid) as f:
        for line in f:
            _, names, path = line.strip().split(":", 2)
            if controller in names.split(",") or not names:
                return path
    return None


def pid_of(d, c):
    return json.loads(d.cri.ContainerStatus(container_id=c, verbose=True).info["info"])["pid"]


def test_the_kubelets_cgroup_is_the_parent(d):
    """Overhead and limits of the pod are in its configuration; its cgroup stays the kubelet's."""
    if d.cri.RuntimeConfig().linux.cgroup_driver != api.CGROUPFS:
        pytest.skip("the parent is a slice with the systemd driver")
    parent = "/%s-kubepods/burstable/pod123" % d.instance()
    r = api.LinuxContainerResources(memory_limit_in_bytes=1 << 28, cpu_shares=100)
    p = d.run_pod(name="parent", linux=api.LinuxPodSandboxConfig(
        cgroup_parent=parent, resources=r, overhead=r))
    c = d.run(p, "sleep 100")
    assert cgroup_of(pid_of(d, c), "memory") == parent + "/" + c
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    for base, dirs, _ in os.walk("/sys/fs/cgroup"):
        assert c not in dirs
        if base.count("/") > 7:
            dirs[:] = []


def test_resources_of_a_pod_are_updated(fresh):
    """The kubelet says so after it has changed the pod's cgroup; what is kept outlives us."""
    d = fresh
    p = d.run_pod(name="update")
    r = api.LinuxContainerResources(memory_limit_in_bytes=1 << 28, cpu_shares=100)
    d.cri.UpdatePodSandboxResources(pod_sandbox_id=p, resources=r, overhead=r)
    d.cri.UpdatePodSandboxResources(pod_sandbox_id=p, resources=api.LinuxContainerResources(
        cpu_quota=5000))
    d.restart()
    got = d.info(p)
    assert (got["resources"]["memory"]["limit"], got["resources"]["cpu"]) == \
        (1 << 28, {"shares": 100, "quota": 5000, "period": 100000})
    assert got["overhead"]["cpu"] == {"shares": 100}
    for k, code in (({"resources": api.LinuxContainerResources(cpu_shares=1)},
                     CODE.INVALID_ARGUMENT), ({"pod_sandbox_id": "nothing"}, CODE.NOT_FOUND)):
        with pytest.raises(grpc.RpcError) as e:
            d.cri.UpdatePodSandboxResources(**dict({"pod_sandbox_id": p}, **k))
        assert e.value.code() == code
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        d.cri.UpdatePodSandboxResources(pod_sandbox_id=p, resources=r)
    assert e.value.code() == CODE.FAILED_PRECONDITION


def test_fully_qualified_hostname(d):
    p = d.run_pod(name="fqdn", hostname="web-0.web.default.svc.cluster.local")
    _, out = d.output(p, "hostname; cat /etc/hostname; echo $HOSTNAME")
    assert out == "web-0.web.default.svc.cluster.local\n" * 3
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_image_status_says_who_it_runs_as(d, busybox, tmp_path):
    """runAsNonRoot is decided from it."""
    base = busybox.tars
    for user, uid, name in (("1000", 1000, ""), ("web", 0, "web"), ("1000:50", 1000, ""),
                            ("web:extra", 0, "web"), ("0", 0, "")):
        img = image.Image(base, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "User": user})
        path = str(tmp_path / "i.tar")
        img.docker_archive(path, ["test/user:x"])
        d.load(path)
        m = d.cri.ImageStatus(image=api.ImageSpec(image="test/user:x")).image
        assert (m.uid.value, m.username) == (uid, name)
        assert m.HasField("uid") == user[0].isdigit()


def test_termination_message(d, pod, tmp_path):
    """A file that a user who is not root writes; kept when the container has gone."""
    f = tmp_path / "message"
    f.touch()
    f.chmod(0o666)
    c = d.container_config("echo why >/dev/termination-log; exit 4",
                           linux=linux(security_context=api.LinuxContainerSecurityContext(
                               run_as_user=api.Int64Value(value=1000))))
    c.linux.security_context.namespace_options.pid = api.CONTAINER
    c.mounts.add(container_path="/dev/termination-log", host_path=str(f))
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    assert d.wait_exit(ctr).exit_code == 4
    assert f.read_text() == "why\n"


def test_volumes(d, pod, tmp_path):
    """A sub path, a tmpfs with a size, a group's files, the kubelet's own /etc/hosts."""
    (tmp_path / "v" / "sub").mkdir(parents=True)
    (tmp_path / "v" / "sub" / "f").write_text("sub\n")
    (tmp_path / "mem").mkdir()
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.1.1.1 other\n")
    shared = tmp_path / "group"
    shared.mkdir()
    os.chown(shared, 0, 2000)
    shared.chmod(0o2775)
    os.system("mount -t tmpfs -o size=1m none %s/mem" % tmp_path)
    try:
        c = d.container_config(
            "cat /sub/f; cat /etc/hosts; dd if=/dev/zero of=/mem/x bs=1M count=2 2>&1 | "
            "grep -o 'No space left'; touch /group/mine && ls -ln /group/mine",
            linux=linux(security_context=api.LinuxContainerSecurityContext(
                run_as_user=api.Int64Value(value=1000), supplemental_groups=[2000])))
        c.linux.security_context.namespace_options.pid = api.CONTAINER
        os.chmod(tmp_path / "mem", 0o1777)
        for inside, outside in (("/sub", "v/sub"), ("/etc/hosts", "hosts"), ("/mem", "mem"),
                                ("/group", "group")):
            c.mounts.add(container_path=inside, host_path=str(tmp_path / outside))
        _, out = d.output(pod, None, config=c)
    finally:
        os.system("umount %s/mem" % tmp_path)
    assert "sub\n" in out and "10.1.1.1 other" in out and "No space left" in out
    assert re.search(r"1000 +2000 .* /group/mine", out)


def test_an_unknown_handler_is_an_error(d):
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="h", handler="no-such-runtime")
    assert e.value.code() == CODE.INVALID_ARGUMENT and "no-such-runtime" in e.value.details()
    assert not [p for p in d.cri.ListPodSandbox().items if p.metadata.name == "h"]


def test_stats_of_pods(d, pod):
    c = d.run(pod, "while :; do :; done")

    def busy():
        stats = d.cri.ListPodSandboxStats(
            filter=api.PodSandboxStatsFilter(id=pod)).stats
        return stats and stats[0].linux.cpu.usage_nano_cores.value > 0 and stats[0]
    s = wait_for(busy).linux
    now = time.time_ns()
    for m in (s.cpu, s.memory, s.network, s.process):
        assert 0 <= now - m.timestamp < 10_000_000_000
    assert s.memory.working_set_bytes.value > 0 and s.process.process_count.value >= 1
    assert s.network.default_interface.name == "eth0"
    assert [i.name for i in s.network.interfaces] == ["eth0"]
    assert [x.attributes.id for x in s.containers] == [c]
    assert s.containers[0].cpu.usage_nano_cores.value > 0
    path = cgroup_of(pid_of(d, c), "no such controller")
    for base in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if path and os.path.exists(base + path + "/cpu.pressure"):
            for psi in (s.containers[0].cpu.psi, s.containers[0].memory.psi,
                        s.containers[0].io.psi, s.cpu.psi):
                assert psi.HasField("Some") and psi.HasField("Full")
            break
    else:
        assert not s.containers[0].cpu.HasField("psi")  # absent rather than zero
    own = d.cri.ListContainerStats(filter=api.ContainerStatsFilter(label_selector={"x": "y"}))
    assert not own.stats


def test_figures_of_a_pod_count_what_has_ended(d):
    """What a container wrote into memory is the pod's for as long as it is there."""
    systemd = d.cri.RuntimeConfig().linux.cgroup_driver == api.SYSTEMD
    top = d.instance().replace("-", "_") + "_figures"
    p = d.run_pod(name="figures", linux=api.LinuxPodSandboxConfig(
        cgroup_parent=top + "-pod1.slice" if systemd else "/%s/pod1" % top))
    c = d.run(p, "dd if=/dev/zero of=/dev/shm/x bs=1M count=16")
    d.wait_exit(c)
    used = d.cri.PodSandboxStats(pod_sandbox_id=p).stats.linux
    assert used.memory.usage_bytes.value >= 16 << 20
    assert used.cpu.usage_core_nano_seconds.value > 0 and used.process.process_count.value == 0
    assert not used.containers
    d.cri.RemoveContainer(container_id=c)
    c = d.run(p, "sleep 1000", name="next")
    s = d.cri.PodSandboxStats(pod_sandbox_id=p).stats.linux
    assert s.cpu.usage_core_nano_seconds.value >= used.cpu.usage_core_nano_seconds.value
    assert s.memory.usage_bytes.value >= 16 << 20 and s.process.process_count.value == 1
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    # the parent is the kubelet's, which is us here
    if systemd:
        subprocess.run(["systemctl", "stop", top + ".slice"], check=True)
    for base in ["/sys/fs/cgroup"] + glob.glob("/sys/fs/cgroup/*"):
        for path in ("/pod1", ""):
            if os.path.isdir("%s/%s%s" % (base, top, path)):
                os.rmdir("%s/%s%s" % (base, top, path))


def test_version_is_semantic(d):
    v = d.cri.Version(version="0.1.0")
    assert v.version == "0.1.0" and v.runtime_api_version == "v1"
    assert re.match(r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$", v.runtime_version)


# --- exec and logs ---

def test_exec_output_is_cut_at_16_mib_and_drained(d, pod):
    c = d.run(pod, "sleep 100")
    r = d.exec(c, "head -c 20000000 /dev/zero; echo end >&2; exit 3", timeout=60)
    assert r.exit_code == 3 and r.stderr == b"end\n"
    assert 16000000 < len(r.stdout) <= 16 << 20
    r = d.exec(c, "head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2", timeout=60)
    assert r.exit_code == 0 and 16000000 < len(r.stdout) + len(r.stderr) <= 16 << 20


def test_exec_timeout_kills_everything(d, pod):
    """Also what went into the background, and what does not listen to signals."""
    c = d.run(pod, "sleep 1000")
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        d.exec(c, "trap '' TERM INT; (trap '' TERM; sleep 4242) & sh -c 'sleep 4243; true'; sleep 4244",
               timeout=1)
    assert e.value.code() == CODE.DEADLINE_EXCEEDED and time.monotonic() - began < 10
    wait_for(lambda: b"424" not in d.exec(c, "ps").stdout, timeout=5)
    assert d.status(c).state == api.CONTAINER_RUNNING


def test_exec_that_leaves_something_running(d, pod):
    """The command's end ends the call, whoever keeps its output open."""
    c = d.run(pod, "sleep 1000")
    began = time.monotonic()
    r = d.exec(c, "sleep 300 & echo started", timeout=60)
    assert r.stdout == b"started\n" and time.monotonic() - began < 10


def test_log_of_partial_lines(d, pod):
    c = d.run(pod, "head -c 50000 /dev/zero | tr '\\0' a; echo; printf tail")
    s = d.wait_exit(c)
    tags, text = [], b""
    with open(s.log_path, "rb") as f:
        for line in f:
            stamp, stream, tag, rest = line.rstrip(b"\n").split(b" ", 3)
            tags.append(tag)
            text += rest + (b"\n" if tag == b"F" else b"")
    assert text == b"a" * 50000 + b"\ntail\n"
    assert tags.count(b"F") == 2 and b"P" in tags


def test_log_of_bytes_that_are_no_text(d, pod):
    c = d.run(pod, "printf '\\377\\376\\000x\\n'")
    s = d.wait_exit(c)
    with open(s.log_path, "rb") as f:
        assert f.read().split(b" ", 3)[3] == b"\xff\xfe\0x\n"


def test_status(d):
    s = d.cri.Status(verbose=True)
    assert {c.type: c.status for c in s.status.conditions} == {"RuntimeReady": True,
                                                              "NetworkReady": True}
    handlers = {h.name for h in s.runtime_handlers}
    assert "" in handlers and handlers & {"crun", "runc"}
    assert s.features.supplemental_groups_policy and s.features.mount_options
    assert json.loads(s.info["config"])["runtimes"]
