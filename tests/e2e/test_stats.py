# SPDX-License-Identifier: Apache-2.0
"""CRI's statistics: every field of them, whatever the version of cgroups."""
import os
import subprocess
import time

import pytest

from cri import SLOW, api
from daemon import wait_for

MIB = 1 << 20


def linux(**kw):
    return api.LinuxContainerConfig(resources=api.LinuxContainerResources(**kw))


def stats(d, c):
    return d.cri.ContainerStats(container_id=c).stats


def has_swap_accounting():
    return os.path.exists("/sys/fs/cgroup/memory/memory.memsw.usage_in_bytes") or \
        not os.path.isdir("/sys/fs/cgroup/memory")


def test_every_field_of_a_container(d, pod):
    began = time.time_ns()
    c = d.run(pod, "head -c 1000000 /dev/zero >/f; while :; do :; done", labels={"l": "1"},
              annotations={"a": "2"}, linux=linux(
                  memory_limit_in_bytes=64 * MIB, memory_swap_limit_in_bytes=96 * MIB,
                  cpu_quota=50000, cpu_period=100000))
    wait_for(lambda: stats(d, c).cpu.usage_core_nano_seconds.value > 10 ** 8)
    s = stats(d, c)
    assert (s.attributes.id, s.attributes.metadata.name) == (c, "c")
    assert (s.attributes.labels, s.attributes.annotations) == ({"l": "1"}, {"a": "2"})
    for part in (s.cpu, s.memory):
        assert began < part.timestamp <= time.time_ns()
    assert 0 < s.cpu.usage_nano_cores.value <= 0.8e9
    m = s.memory
    assert 0 < m.working_set_bytes.value <= m.usage_bytes.value <= 64 * MIB
    assert m.available_bytes.value == 64 * MIB - m.working_set_bytes.value
    wait_for(lambda: stats(d, c).memory.rss_bytes.value)  # the kernel sums it up now and then
    m = stats(d, c).memory
    assert 0 < m.rss_bytes.value <= m.usage_bytes.value and m.page_faults.value > 0
    assert m.HasField("major_page_faults")
    if has_swap_accounting():
        assert s.swap.swap_usage_bytes.value == 0
        assert s.swap.swap_available_bytes.value == 32 * MIB and s.swap.timestamp > began
    w = s.writable_layer
    assert w.fs_id.mountpoint == d.root + "/containers" and os.path.isdir(w.fs_id.mountpoint)
    wait_for(lambda: stats(d, c).writable_layer.used_bytes.value >= 1000000, timeout=25)
    assert stats(d, c).writable_layer.inodes_used.value >= 1
    assert s.cpu.HasField("psi") == m.HasField("psi") == s.HasField("io") == s.io.HasField("psi")


def test_every_field_of_a_pod(d, pod):
    c = d.run(pod, "sleep 1000 & exec sleep 1000")
    p = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats
    assert p.attributes.id == pod and p.attributes.metadata.uid.startswith("uid-")
    wait_for(lambda: d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux.memory.rss_bytes.value)
    s = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux  # the kernel sums it up now and then
    assert s.cpu.usage_core_nano_seconds.value > 0 and s.cpu.HasField("usage_nano_cores")
    assert 0 < s.memory.working_set_bytes.value <= s.memory.usage_bytes.value
    assert s.memory.page_faults.value > 0 and s.memory.rss_bytes.value > 0
    assert s.process.process_count.value == 2
    assert [x.attributes.id for x in s.containers] == [c]
    n = s.network
    assert n.default_interface.name == "eth0" and [x.name for x in n.interfaces] == ["eth0"]
    assert n.default_interface == n.interfaces[0] and n.timestamp > 0
    assert all(n.default_interface.HasField(x)
               for x in ("rx_bytes", "rx_errors", "tx_bytes", "tx_errors"))


def test_processor_of_late(d, pod):
    """Between two looks, not over the whole life."""
    c = d.run(pod, "i=0; while [ ! -e /go ]; do sleep 0.1; done; while :; do :; done")
    time.sleep(1.2)  # idle for a while, which is looked at
    assert stats(d, c).cpu.usage_nano_cores.value < 0.3e9
    idle = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux.cpu.usage_nano_cores.value
    assert idle < 0.3e9
    d.exec(c, "touch /go")
    wait_for(lambda: stats(d, c).cpu.usage_nano_cores.value > 0.35e9, timeout=30 * SLOW)
    wait_for(lambda: d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux.cpu
             .usage_nano_cores.value > 0.35e9, timeout=30 * SLOW)


def test_processor_of_a_pod_has_that_of_what_ended(d):
    """Containers that come and go between two looks are in the figure of their pod."""
    p = d.run_pod(name="comes-and-goes")
    try:
        cpu = lambda: d.cri.PodSandboxStats(pod_sandbox_id=p).stats.linux.cpu  # noqa: E731
        cpu()
        for i in range(3):
            c = d.run(p, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", name="c%d" % i)
            d.wait_exit(c)
        wait_for(lambda: cpu().usage_nano_cores.value > 0)
        assert cpu().usage_core_nano_seconds.value > 10 ** 6
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_default_interface_is_eth0(d, pod):
    """Whatever comes before it."""
    c = d.run(pod, "sleep 1000")
    pid = int(d.info(pod).get("pid") or 0) or next(
        int(x) for x in os.listdir("/proc") if x.isdigit() and cgroup_has(x, c))
    subprocess.run(["nsenter", "-t", str(pid), "-n", "sh", "-c",
                    "ip link set eth0 down && ip link set eth0 name first && "
                    "ip link add eth0 type bridge"], check=True)
    with open("/proc/%d/net/dev" % pid) as f:
        names = [x.split(":")[0].strip() for x in f.readlines()[2:]]
    assert names.index("first") < names.index("eth0")
    n = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux.network
    assert n.default_interface.name == "eth0"
    assert sorted(x.name for x in n.interfaces) == ["eth0", "first"]


def cgroup_has(pid, word):
    try:
        with open("/proc/%s/cgroup" % pid) as f:
            return word in f.read()
    except OSError:
        return False


def test_what_has_ended_keeps_its_layer_only(d, pod):
    c = d.run(pod, "head -c 500000 /dev/zero >/f")
    d.wait_exit(c)
    s = stats(d, c)
    assert not s.HasField("cpu") and not s.HasField("memory") and not s.HasField("swap")
    assert s.writable_layer.fs_id.mountpoint
    assert c not in [x.attributes.id for x in d.cri.ListContainerStats().stats]


@pytest.mark.parametrize("limit", [0, 64 * MIB])
def test_without_a_limit_nothing_is_available(d, pod, limit):
    """Absent, not zero."""
    c = d.run(pod, "sleep 1000", linux=linux(memory_limit_in_bytes=limit))
    assert stats(d, c).memory.HasField("available_bytes") == bool(limit)
