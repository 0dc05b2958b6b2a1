# SPDX-License-Identifier: Apache-2.0
"""What the status says that runtimes and node can do is what containers find; swap and huge pages on
cgroup v1 (on v2: test_unified.py)."""
import os
import re
import subprocess

import grpc
import pytest

from cri import api
from daemon import Daemon, wait_for
from test_bundle import linux
from test_containers import limits, pod  # noqa: F401
from test_kubelet import pid_of

MIB = 1 << 20
V1 = os.path.isdir("/sys/fs/cgroup/memory")


def conditions(d):
    return {c.type: c for c in d.cri.Status().status.conditions}


# --- what the status says ---

def test_a_runtime_that_does_not_work_is_not_ready(tmp_path):
    """What works is tried: programs that are not there, and that are none."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'broken version 7' && exit\n"
                      "echo 'it is broken' >&2; exit 1\n")
    broken.chmod(0o755)
    d = Daemon(config="runtimes:\n  gone: {path: /not/there}\n  broken: {path: %s}\n"
                      "default_runtimes: [gone, broken]\n" % broken)
    try:
        wait_for(lambda: "Probing" not in conditions(d)["RuntimeReady"].reason)
        c = conditions(d)["RuntimeReady"]
        assert not c.status and c.reason == "NoRuntimeAvailable"
        assert "gone: not installed" in c.message and "broken" in c.message
        assert conditions(d)["NetworkReady"].status
        assert [h.name for h in d.cri.Status().runtime_handlers] == [""]
        assert not d.cri.Status().runtime_handlers[0].features.user_namespaces
        with pytest.raises(grpc.RpcError) as e:
            d.run_pod()
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    finally:
        d.close()


def test_one_runtime_of_two(archive):
    d = Daemon(config="runtimes:\n  gone: {path: /not/there}\n  runc: {path: runc}\n"
                      "default_runtimes: [gone, runc]\n")
    try:
        wait_for(lambda: conditions(d)["RuntimeReady"].status)
        assert {h.name for h in d.cri.Status().runtime_handlers} == {"", "runc"}
        assert d.info(d.run_pod())["runtime"] == "runc"
        with pytest.raises(grpc.RpcError) as e:
            d.run_pod(name="asks", handler="gone")
        assert "not installed" in e.value.details()
    finally:
        d.close()


def test_no_network_is_not_ready():
    d = Daemon(config="bridge:\n  enabled: false\n")
    try:
        wait_for(lambda: conditions(d)["RuntimeReady"].status)
        c = conditions(d)["NetworkReady"]
        assert not c.status and c.reason == "NetworkPluginNotReady" and "/cni" in c.message
    finally:
        d.close()


# --- mounts ---

def test_recursive_read_only_needs_no_runtime_that_knows_it(d, pod, tmp_path):  # noqa: F811
    """What runtime_handlers say of it is the kernel's: the mounts are made before the runtime runs."""
    assert all(h.features.recursive_read_only_mounts for h in d.cri.Status().runtime_handlers)
    for name in ("m/a/b", "m/plain"):
        os.makedirs(tmp_path / name)
    subprocess.run("mount -t tmpfs none %s/m/a && mkdir %s/m/a/b && mount -t tmpfs none %s/m/a/b"
                   % ((tmp_path,) * 3), shell=True, check=True)
    try:
        c = d.container_config("touch /m/x /m/a/x /m/a/b/x /m/plain/x 2>&1; grep ' /m' /proc/mounts; "
                               "cp /bin/busybox /w/a/b/true && /w/a/b/true && echo executed")
        c.mounts.add(container_path="/m", host_path=str(tmp_path / "m"), readonly=True,
                     recursive_read_only=True, mount_options=["noexec", "nodev"])
        c.mounts.add(container_path="/w", host_path=str(tmp_path / "m"))
        ctr = d.create(pod, config=c)
        d.cri.StartContainer(container_id=ctr)
        s = d.wait_exit(ctr)
        out = d.read_log(s.log_path)
        assert out.count("Read-only file system") == 4, out
        found = re.findall(r" (/m\S*) \w+ (\S+)", out)
        assert [x[0] for x in found] == ["/m", "/m/a", "/m/a/b"]
        for _, options in found:
            assert {"ro", "noexec", "nodev"} <= set(options.split(",")), out
        assert "executed" in out and s.mounts[0].recursive_read_only
        with open("/proc/self/mountinfo") as f:
            assert not [x for x in f if "/binds/" in x]
    finally:
        subprocess.run("umount %s/m/a/b %s/m/a" % (tmp_path, tmp_path), shell=True)


# --- swap and huge pages ---

@pytest.mark.skipif(not V1, reason="test_unified.py has it for cgroup v2")
@pytest.mark.parametrize("memory,swap,want", [
    (64 * MIB, 0, 64 * MIB), (64 * MIB, 80 * MIB, 80 * MIB), (64 * MIB, -1, None)])
def test_limit_of_swap(d, pod, memory, swap, want):  # noqa: F811
    if not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        pytest.skip("this kernel does not account swap")
    ctr = d.run(pod, "sleep 1000", linux=linux(resources=api.LinuxContainerResources(
        memory_limit_in_bytes=memory, memory_swap_limit_in_bytes=swap)))
    got, = limits(pid_of(d, ctr), "memory", "memory.memsw.limit_in_bytes", "")
    assert int(got) == want if want else int(got) > 1 << 60
    if want:
        d.cri.UpdateContainerResources(container_id=ctr, linux=api.LinuxContainerResources(
            memory_limit_in_bytes=memory * 2, memory_swap_limit_in_bytes=want * 2))
        assert limits(pid_of(d, ctr), "memory", "memory.memsw.limit_in_bytes", "") == {str(want * 2)}


HUGE = "/proc/sys/vm/nr_hugepages"


@pytest.fixture
def huge(tmp_path):
    """Two pages of 2 MiB, and a volume of them as the kubelet makes it."""
    if not os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        pytest.skip("this kernel has no huge pages of 2 MiB")
    with open(HUGE) as f:
        before = f.read()
    with open(HUGE, "w") as f:
        f.write(str(int(before) + 2))
    with open(HUGE) as f:
        got = int(f.read())
    if got < int(before) + 2:
        pytest.skip("no memory for huge pages is free")
    os.mkdir(tmp_path / "huge")
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", tmp_path / "huge"], check=True)
    yield tmp_path / "huge"
    subprocess.run(["umount", tmp_path / "huge"], check=True)
    with open(HUGE, "w") as f:
        f.write(before)


def test_huge_pages(d, pod, huge):  # noqa: F811
    c = d.container_config(
        "fallocate -l 2097152 /huge/f && grep ' /huge ' /proc/mounts; sleep 1000",
        linux=linux(resources=api.LinuxContainerResources(hugepage_limits=[
            api.HugepageLimit(page_size="2MB", limit=2 * MIB)])))
    c.mounts.add(container_path="/huge", host_path=str(huge))
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    log = d.status(ctr).log_path
    wait_for(lambda: "hugetlbfs" in d.read_log(log))
    assert "pagesize=2M" in d.read_log(log) and os.path.getsize(huge / "f") == 2 * MIB
    if os.path.isdir("/sys/fs/cgroup/hugetlb"):
        assert limits(pid_of(d, ctr), "hugetlb", "hugetlb.2MB.limit_in_bytes",
                      "hugetlb.2MB.max") == {str(2 * MIB)}
    elif V1:  # it runs all the same, and who reads the log knows what is not limited
        assert "asks for limits of huge pages, gets none" in d.log_text()
    os.unlink(huge / "f")

