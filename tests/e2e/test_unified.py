# SPDX-License-Identifier: Apache-2.0
"""What only the unified cgroup hierarchy has, with each runtime and each cgroup driver."""
import json
import os
import re
import shutil
import subprocess
import time

import grpc
import pytest

from cri import SLOW, api
from daemon import Daemon, wait_for

ROOT = "/sys/fs/cgroup"
UNIFIED = os.path.exists(ROOT + "/cgroup.controllers")
SYSTEMD = os.path.isdir("/run/systemd/system")
TRACING = "/sys/kernel/tracing"
MIB = 1 << 20

pytestmark = pytest.mark.skipif(not UNIFIED, reason="this machine has cgroup version 1")


def chosen(name, *all):
    """Who runs the tests may have chosen one of them."""
    return [os.environ[name]] if os.environ.get(name) else all


@pytest.fixture(scope="module", params=chosen("GANTRY_TEST_DRIVER", "cgroupfs", "systemd"))
def d(archive, request):
    if request.param == "systemd" and not SYSTEMD:
        pytest.skip("systemd is not process 1 here")
    daemon = Daemon(config="cgroup:\n  driver: %s\n" % request.param)
    daemon.driver = request.param
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture(params=chosen("GANTRY_TEST_RUNTIME", "crun", "runc"))
def runtime(request):
    if not shutil.which(request.param):
        pytest.skip("%s is not installed" % request.param)
    return request.param


@pytest.fixture
def pod(d, runtime, request):
    name = re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-")
    p = d.run_pod(name=name, handler=runtime)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def linux(pid=api.CONTAINER, **resources):
    lin = api.LinuxContainerConfig(resources=api.LinuxContainerResources(**resources))
    lin.security_context.namespace_options.pid = pid
    return lin


def info(d, c):
    return json.loads(d.cri.ContainerStatus(container_id=c, verbose=True).info["info"])


def cgroup(d, c):
    """The directory of the container's cgroup, which is its process's own."""
    i = info(d, c)
    with open("/proc/%d/cgroup" % i["pid"]) as f:
        assert f.read() == "0::%s\n" % i["cgroup"]
    return ROOT + i["cgroup"]


def value(directory, name):
    with open(directory + "/" + name) as f:
        return f.read().strip()


def keyed(directory, name):
    return {k: int(v) for k, v in (x.split() for x in value(directory, name).splitlines())}


def expect(directory, files):
    found = {name: value(directory, name) for name in files}
    assert found == files


def unit(directory):
    return os.path.basename(directory)


def show(name, *properties):
    out = subprocess.run(["systemctl", "show", name, "-p", ",".join(properties)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return dict(x.split("=", 1) for x in out.splitlines())


def failed_units():
    return subprocess.run(["systemctl", "--failed", "--no-legend", "--plain", "list-units",
                           "gantry*"], check=True, stdout=subprocess.PIPE, text=True).stdout


# --- born where they belong ---

@pytest.fixture
def joins():
    """What has been moved into a cgroup: [(who wrote, where, what)] of a part of the path."""
    if not os.path.isdir(TRACING + "/events/cgroup"):
        pytest.skip("tracefs is not mounted at " + TRACING)
    own = "%s/instances/gantry-%d" % (TRACING, os.getpid())
    os.mkdir(own)

    def read(part):
        found = []
        for line in open(own + "/trace"):
            m = re.match(r" *(.+)-\d+ +\[.*cgroup_attach_task:.* dst_path=(\S+) pid=\d+ comm=(.*)",
                         line)
            if m and part in m[2]:
                found.append(m.groups())
        return found
    try:
        with open(own + "/events/cgroup/cgroup_attach_task/enable", "w") as f:
            f.write("1")
        yield read
    finally:
        os.rmdir(own)


def version(runtime):
    out = subprocess.run([runtime, "--version"], check=True, stdout=subprocess.PIPE,
                         text=True).stdout
    return tuple(int(x) for x in re.search(r"version (\d+)\.(\d+)", out).groups())


def test_processes_are_born_in_their_cgroup(d, pod, runtime, joins):
    """Nothing of gantry moves a process, and a runtime that can have one born does."""
    c = d.create(pod, "sleep 1000", linux=linux(memory_limit_in_bytes=64 * MIB))
    where = cgroup(d, c)
    created = joins(c)
    d.cri.StartContainer(container_id=c)
    assert d.exec(c, "cat /proc/self/cgroup").stdout == b"0::/\n"
    later = joins(c)[len(created):]
    assert value(where, "cgroup.procs").split() == [str(info(d, c)["pid"])]
    writers = [x[0] for x in created + later]
    assert not [x for x in writers if "gantry" in x]
    born = runtime == "crun" and version("crun") >= (1, 9)
    if d.driver == "systemd":  # the scope begins with a process that is there already
        assert created[0][0] == "systemd" and len(created) <= 2  # crun writes it once more
    else:
        assert len(created) == (0 if born else 1)
    # crun 1.8 has an exec born in a scope, not in a cgroup of its own making
    assert len(later) == (0 if born or runtime == "crun" and d.driver == "systemd" else 1)


# --- limits ---

def block_device():
    """MAJOR:MINOR of the disk below the root, "" where there is none."""
    for line in open("/proc/partitions"):
        words = line.split()
        if len(words) == 4 and words[3] in ("vda", "sda", "nvme0n1"):
            return words[0] + ":" + words[1]
    return ""


def reload(d, where, want):
    """Systemd writes all that it knows of again."""
    if d.driver != "systemd":
        return
    weight = value(where, "cpu.weight")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    # what makes it realize a unit's cgroup at once, and changes nothing
    subprocess.run(["systemctl", "set-property", "--runtime", unit(where), "IPAccounting=no"],
                   check=True)
    # a scope has no property for it (OOMPolicy) before systemd 253
    known = {k: v for k, v in want.items() if k != "memory.oom.group"}
    expect(where, dict(known, **{"cpu.weight": weight}))


def unified_of_everything():
    files = {"memory.high": 48 * MIB, "memory.low": 4 * MIB, "memory.min": 2 * MIB,
             "memory.oom.group": 1, "pids.max": 77, "memory.swap.max": 16 * MIB}
    return {k: str(v) for k, v in files.items()}


def test_limits_arrive_and_are_changed(d, pod):
    c = d.run(pod, "sleep 1000", linux=linux(
        memory_limit_in_bytes=64 * MIB, cpu_shares=512, cpu_quota=50000, cpu_period=100000,
        cpuset_cpus="0", cpuset_mems="0", unified=unified_of_everything()))
    where = cgroup(d, c)
    want = dict(unified_of_everything(), **{
        "memory.max": str(64 * MIB), "cpu.max": "50000 100000", "cpuset.cpus": "0",
        "cpuset.mems": "0"})
    expect(where, want)
    assert value(where, "cpu.weight") in ("20", "59")  # two ways of counting shares
    reload(d, where, want)
    assert not [x for x in os.scandir(where) if x.is_dir()]

    d.cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(
        memory_limit_in_bytes=96 * MIB, cpu_shares=1024, cpu_quota=70000,
        unified={"memory.high": str(80 * MIB), "memory.oom.group": "0", "pids.max": "55"}))
    want.update({"memory.max": str(96 * MIB), "memory.high": str(80 * MIB), "pids.max": "55",
                 "memory.oom.group": "0", "cpu.max": "70000 100000"})
    expect(where, want)
    assert value(where, "cpu.weight") in ("39", "100")
    reload(d, where, want)
    r = d.status(c).resources.linux
    assert dict(r.unified) == dict(unified_of_everything(), **{
        "memory.high": str(80 * MIB), "memory.oom.group": "0", "pids.max": "55"})
    if d.driver == "cgroupfs":
        return
    got = show(unit(where), "Delegate", "MemoryMax", "MemoryHigh", "TasksMax",
               "CPUQuotaPerSecUSec", "MemorySwapMax")
    assert got == {"Delegate": "yes", "MemoryMax": str(96 * MIB), "MemoryHigh": str(80 * MIB),
                   "TasksMax": "55", "CPUQuotaPerSecUSec": "700ms",
                   "MemorySwapMax": str(16 * MIB)}
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    # what makes systemd write a unit's properties once more
    subprocess.run(["systemctl", "set-property", "--runtime", unit(where), "MemoryLow=3M"],
                   check=True)
    want["memory.low"] = str(3 * MIB)
    expect(where, want)


def test_io_limits(d, pod):
    disk = block_device()
    files = {"io.max": disk + " wbps=1048576"} if disk else {}
    c = d.run(pod, "sleep 1000", linux=linux(unified=files))
    where = cgroup(d, c)
    if not os.path.exists(where + "/io.max"):
        pytest.skip("no io controller")
    if disk:
        assert value(where, "io.max") == disk + " rbps=max wbps=1048576 riops=max wiops=max"
    if os.path.exists(where + "/io.weight"):
        d.cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(
            unified={"io.weight": "default 200"}))
        assert value(where, "io.weight").startswith("default 200")


def test_huge_pages(d, pod):
    if not os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB") or \
            "hugetlb" not in value(ROOT, "cgroup.controllers"):
        pytest.skip("no hugetlb controller")
    c = d.run(pod, "sleep 1000", linux=linux(hugepage_limits=[
        api.HugepageLimit(page_size="2MB", limit=4 * MIB)]))
    assert value(cgroup(d, c), "hugetlb.2MB.max") == str(4 * MIB)


def test_a_file_that_is_not_there_is_named(d, pod):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux(unified={"memory.nothing": "1"}))
    assert e.value.code() == grpc.StatusCode.INTERNAL and "memory.nothing" in e.value.details()
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux(unified={"cgroup.procs": "1"}))
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not d.cri.ListContainers().containers


@pytest.mark.parametrize("memory,swap,unified,want", [
    (64 * MIB, 0, {}, "0"),
    (64 * MIB, 80 * MIB, {}, str(16 * MIB)),
    (64 * MIB, -1, {}, "max"),
    (64 * MIB, 64 * MIB, {"memory.swap.max": str(8 * MIB)}, str(8 * MIB)),
    (0, 0, {}, "max"),
])
def test_limit_of_swap(d, pod, memory, swap, unified, want):
    c = d.run(pod, "sleep 1000", linux=linux(
        memory_limit_in_bytes=memory, memory_swap_limit_in_bytes=swap, unified=unified))
    where = cgroup(d, c)
    if not os.path.exists(where + "/memory.swap.max"):
        pytest.skip("this kernel does not account swap")
    assert value(where, "memory.swap.max") == want
    if d.driver == "systemd" and memory:
        assert show(unit(where), "MemorySwapMax")["MemorySwapMax"] == \
            {"max": "infinity"}.get(want, want)


@pytest.fixture(scope="module")
def swap():
    """Somewhere to swap to, for as long as it is needed."""
    path = "/var/tmp/gantry-swap-%d" % os.getpid()  # /tmp may be a tmpfs
    with open(path, "wb") as f:
        os.chmod(path, 0o600)
        for _ in range(96):
            f.write(bytes(MIB))
    made = subprocess.run("mkswap %s && swapon %s" % (path, path), shell=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        os.unlink(path)
        pytest.skip("no swap can be had: " + made.stdout)
    yield
    subprocess.run(["swapoff", path], check=True)
    os.unlink(path)


FILL = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null && echo filled; sleep 1000"


def test_swap_is_used_up_to_its_limit(d, pod, swap):
    c = d.run(pod, FILL, linux=linux(memory_limit_in_bytes=24 * MIB,
                                     memory_swap_limit_in_bytes=64 * MIB))
    log = d.status(c).log_path
    wait_for(lambda: "filled" in d.read_log(log), timeout=60)
    where, s = cgroup(d, c), d.cri.ContainerStats(container_id=c).stats
    used = int(value(where, "memory.swap.current"))
    assert used > 8 * MIB and s.swap.swap_usage_bytes.value == used
    assert s.swap.swap_available_bytes.value == 40 * MIB - used


def test_without_swap_it_is_killed(d, pod, swap):
    c = d.run(pod, "exec dd if=/dev/zero of=/dev/null bs=100M count=1",
              linux=linux(memory_limit_in_bytes=24 * MIB))
    s = d.wait_exit(c, 60)
    assert (s.reason, s.exit_code) == ("OOMKilled", 137)


# --- memory ---

def test_memory_high_throttles_and_does_not_kill(d, pod):
    c = d.run(pod, FILL, linux=linux(memory_limit_in_bytes=128 * MIB,
                                     unified={"memory.high": str(16 * MIB)}))
    where = cgroup(d, c)
    wait_for(lambda: keyed(where, "memory.events")["high"] > 0, timeout=60)
    assert int(value(where, "memory.current")) < 40 * MIB
    # it is held up, not ended, and goes on when it may
    assert d.status(c).state == api.CONTAINER_RUNNING
    d.cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(
        unified={"memory.high": "max"}))
    log = d.status(c).log_path
    wait_for(lambda: "filled" in d.read_log(log), timeout=60)
    assert keyed(where, "memory.events")["oom_kill"] == 0


HOG = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo hog ended with $?; sleep 1; exit 3"


def test_oom_group_ends_the_whole_container(d, pod):
    """As the kubelet asks for it: whatever process is chosen, all of the container go."""
    c = d.run(pod, HOG, linux=linux(memory_limit_in_bytes=24 * MIB,
                                    unified={"memory.oom.group": "1"}))
    s = d.wait_exit(c, 60)
    assert (s.reason, s.exit_code) == ("OOMKilled", 137)
    assert "hog" not in d.read_log(s.log_path)
    if d.driver == "systemd":
        assert failed_units() == ""


def test_without_oom_group_only_one_process_ends(d, pod):
    c = d.run(pod, HOG, linux=linux(memory_limit_in_bytes=24 * MIB))
    s = d.wait_exit(c, 60)
    assert s.exit_code == 3 and "hog ended with 137" in d.read_log(s.log_path)
    if d.driver == "systemd":
        assert failed_units() == ""


def test_oom_of_a_command_ends_the_group(d, pod):
    """The first process is innocent: the hog came with ExecSync."""
    c = d.run(pod, "sleep 1000", linux=linux(memory_limit_in_bytes=24 * MIB,
                                             unified={"memory.oom.group": "1"}))
    assert d.exec(c, "exec dd if=/dev/zero of=/dev/null bs=100M count=1",
                  timeout=60).exit_code == 137
    s = d.wait_exit(c, 60)
    assert (s.reason, s.exit_code) == ("OOMKilled", 137)


# --- the end ---

BOMB = "b() { b | b & }; b 2>/dev/null; sleep 1000"


@pytest.mark.parametrize("pid", [api.CONTAINER, api.POD], ids=["own-pidns", "shared-pidns"])
def test_a_fork_bomb_is_removed_at_once(d, runtime, pid):
    p = d.run_pod(name="bomb-%d" % pid, handler=runtime,
                  namespaces=api.NamespaceOption(pid=pid))
    c = d.run(p, BOMB, linux=linux(pid=pid, memory_limit_in_bytes=256 * MIB,
                                   unified={"pids.max": "100"}))
    where = cgroup(d, c)
    wait_for(lambda: int(value(where, "pids.current")) >= 90, timeout=60)
    began = time.monotonic()
    d.cri.StopContainer(container_id=c, timeout=0)
    assert time.monotonic() - began < 15 * SLOW
    d.cri.RemoveContainer(container_id=c)
    assert not os.path.exists(where)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_what_a_command_left_ends_with_the_container(d, runtime):
    """In a shared PID namespace only the cgroup knows what belongs to a container."""
    p = d.run_pod(name="left", handler=runtime, namespaces=api.NamespaceOption(pid=api.POD))
    c = d.run(p, "sleep 1000", linux=linux(pid=api.POD))
    where = cgroup(d, c)
    d.exec(c, "setsid sleep 2000 </dev/null >/dev/null 2>&1 &")
    pids = value(where, "cgroup.procs").split()
    assert len(pids) == 2
    d.cri.StopContainer(container_id=c, timeout=0)
    assert d.status(c).exit_code == 137
    wait_for(lambda: not [x for x in pids if os.path.exists("/proc/" + x)])
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not os.path.exists(where)


# --- figures ---

def psi_of(text):
    found = {}
    for line in text.splitlines():
        kind, *words = line.split()
        found[kind] = {k: float(v) for k, v in (w.split("=") for w in words)}
    return found


def test_figures_are_those_of_the_files(d, pod):
    c = d.run(pod, "dd if=/dev/zero of=/x bs=1M count=4 2>/dev/null; echo done; exec sleep 1000",
              linux=linux(memory_limit_in_bytes=64 * MIB))
    log = d.status(c).log_path
    wait_for(lambda: "done" in d.read_log(log))
    where = cgroup(d, c)
    s = d.cri.ContainerStats(container_id=c).stats
    cpu, stat = keyed(where, "cpu.stat"), keyed(where, "memory.stat")
    assert 0 < s.cpu.usage_core_nano_seconds.value <= cpu["usage_usec"] * 1000
    assert s.memory.usage_bytes.value >= 4 * MIB
    cache = s.memory.usage_bytes.value - s.memory.working_set_bytes.value
    assert abs(cache - stat["inactive_file"]) < MIB
    assert abs(s.memory.usage_bytes.value - int(value(where, "memory.current"))) < MIB
    assert s.memory.available_bytes.value == 64 * MIB - s.memory.working_set_bytes.value
    assert 0 < s.memory.rss_bytes.value <= stat["anon"] + MIB
    assert 0 < s.memory.page_faults.value <= stat["pgfault"]
    assert s.memory.major_page_faults.value <= stat["pgmajfault"]
    assert s.swap.swap_usage_bytes.value == int(value(where, "memory.swap.current"))
    p = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux
    assert p.process.process_count.value == int(value(where, "pids.current")) == 1
    assert p.memory.working_set_bytes.value >= s.memory.rss_bytes.value
    assert p.containers[0].attributes.id == c


def test_pressure(d, pod):
    if not os.path.exists("/proc/pressure/cpu"):
        pytest.skip("this kernel tells no pressure (psi=1)")
    # more work than its share: it has to wait, and the kernel counts that
    c = d.run(pod, "while :; do :; done", linux=linux(
        memory_limit_in_bytes=64 * MIB, cpu_quota=20000, cpu_period=100000))
    where = cgroup(d, c)
    wait_for(lambda: psi_of(value(where, "cpu.pressure"))["some"]["total"] > 200000, timeout=60)
    s = d.cri.ContainerStats(container_id=c).stats
    now = psi_of(value(where, "cpu.pressure"))
    assert 200000000 < s.cpu.psi.Some.Total <= now["some"]["total"] * 1000
    assert s.cpu.psi.Full.Total <= now["full"]["total"] * 1000
    assert s.memory.HasField("psi") and s.io.HasField("psi")
    p = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux
    assert p.cpu.psi.Some.Total > 200000000 and p.HasField("io")
    nano = p.cpu.usage_nano_cores.value
    assert 0 < nano <= os.cpu_count() * 10 ** 9


# --- systemd ---

def test_systemd_does_not_answer(archive, runtime, tmp_path):
    """What it cannot be told is not changed either: the next reload would take it back."""
    if not SYSTEMD:
        pytest.skip("systemd is not process 1 here")
    wrapper = tmp_path / "busctl"
    wrapper.write_text("#!/bin/sh\ntest ! -e %s/deaf || { echo no bus >&2; exit 1; }\n"
                       "exec %s \"$@\"\n" % (tmp_path, shutil.which("busctl")))
    wrapper.chmod(0o755)
    d = Daemon("cgroup:\n  driver: systemd\n",
               env={"PATH": "%s:%s" % (tmp_path, os.environ["PATH"])})
    try:
        d.load(archive)
        c = d.run(d.run_pod(handler=runtime), "sleep 1000",
                  linux=linux(memory_limit_in_bytes=64 * MIB))
        where = cgroup(d, c)
        more = api.LinuxContainerResources(memory_limit_in_bytes=96 * MIB)
        (tmp_path / "deaf").touch()
        with pytest.raises(grpc.RpcError) as e:
            d.cri.UpdateContainerResources(container_id=c, linux=more)
        assert "no bus" in e.value.details()
        assert value(where, "memory.max") == str(64 * MIB)
        assert d.status(c).resources.linux.memory_limit_in_bytes == 64 * MIB
        (tmp_path / "deaf").unlink()
        d.cri.UpdateContainerResources(container_id=c, linux=more)
        assert value(where, "memory.max") == str(96 * MIB)
        assert d.status(c).resources.linux.memory_limit_in_bytes == 96 * MIB
    finally:
        d.close()


def test_units_of_a_pod(d, runtime):
    """Named as the kubelet names them, alive after systemd was begun anew, gone with the pod."""
    if d.driver != "systemd":
        pytest.skip("of the systemd driver")
    top = d.instance().replace("-", "_") + "_kubepods"
    parent = top + "-burstable-pod1234_5678.slice"
    p = d.run_pod(d.pod_config(name="units", linux=api.LinuxPodSandboxConfig(
        cgroup_parent=parent)), handler=runtime)
    c = d.run(p, "sleep 1000", linux=linux(memory_limit_in_bytes=64 * MIB, cpu_shares=512))
    where = cgroup(d, c)
    assert where == "%s/%s.slice/%s-burstable.slice/%s/gantry-%s.scope" % (ROOT, top, top,
                                                                          parent, c)
    subprocess.run(["systemctl", "daemon-reexec"], check=True)
    expect(where, {"memory.max": str(64 * MIB)})
    assert show(unit(where), "ActiveState", "Slice") == {"ActiveState": "active",
                                                        "Slice": parent}
    assert d.exec(c, "echo alive").stdout == b"alive\n"
    c2 = d.run(p, "exit 3", name="second")
    assert d.wait_exit(c2).exit_code == 3
    d.cri.StopContainer(container_id=c, timeout=0)
    assert d.status(c).exit_code == 137
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not os.path.exists(where)
    for ctr in (c, c2):
        scope = "gantry-%s.scope" % ctr
        wait_for(lambda: show(scope, "LoadState")["LoadState"] == "not-found")
    # the slice is the kubelet's, which is us here
    subprocess.run(["systemctl", "stop", top + ".slice"], check=True)
    assert failed_units() == ""
    assert not os.path.exists("%s/%s.slice" % (ROOT, top))
