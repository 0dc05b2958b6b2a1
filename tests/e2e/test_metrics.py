# SPDX-License-Identifier: Apache-2.0
"""Metrics of pods and containers over CRI, as the kubelet serves them at /metrics/cadvisor."""
import os
import subprocess
import time

import pytest

from cri import SLOW, api
from daemon import wait_for

BASE = ["container", "id", "image", "name", "namespace", "pod"]
V2 = not os.path.isdir("/sys/fs/cgroup/memory")
# cAdvisor's extra labels; what critest asks for, what it excuses, and two more that containerd has.
EXTRA = {
    "container_cpu_usage_seconds_total": ["cpu"],
    "container_memory_failures_total": ["failure_type", "scope"],
    "container_blkio_device_usage_total": ["device", "major", "minor", "operation"],
    "container_ulimits_soft": ["ulimit"],
    **{"container_hugetlb_" + x: ["pagesize"] for x in ("usage_bytes", "max_usage_bytes")},
    **{"container_fs_" + x: ["device"] for x in (
        "inodes_free", "inodes_total", "limit_bytes", "usage_bytes", "reads_bytes_total",
        "reads_total", "writes_bytes_total", "writes_total")},
    **{"container_network_%s_%s_total" % (way, x): ["interface"]
       for way in ("receive", "transmit")
       for x in ("bytes", "errors", "packets", "packets_dropped")},
}
PLAIN = """
cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total
cpu_system_seconds_total cpu_user_seconds_total file_descriptors last_seen memory_cache
memory_failcnt memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss
memory_swap memory_usage_bytes memory_working_set_bytes memory_total_active_file_bytes
memory_total_inactive_file_bytes oom_events_total pressure_cpu_stalled_seconds_total
pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total
pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total
pressure_memory_waiting_seconds_total processes sockets spec_cpu_period spec_cpu_quota
spec_cpu_shares spec_memory_limit_bytes spec_memory_reservation_limit_bytes
spec_memory_swap_limit_bytes start_time_seconds threads threads_max""".split()
MIB = 1 << 20


def psi():
    """Whether pressure of cgroups is told here."""
    dirs = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    return any(os.path.exists(d + "/cpu.pressure") or
               any(os.path.exists("%s/%s/cpu.pressure" % (d, x)) for x in os.listdir(d))
               for d in dirs if os.path.isdir(d))


def of_pod(d, pod, **kw):
    found = [m for m in d.cri.ListPodSandboxMetrics(**kw).pod_metrics if m.pod_sandbox_id == pod]
    assert len(found) == 1
    return found[0]


def values(metrics, keys):
    """{(name, extra label values): (value, {label: value})}"""
    out = {}
    for m in metrics:
        assert len(m.label_values) == len(keys[m.name]), m
        k = (m.name, *m.label_values[len(BASE):])
        assert k not in out, "twice: %s" % (k,)
        out[k] = (m.value.value, dict(zip(keys[m.name], m.label_values)))
    return out


@pytest.fixture
def keys(d):
    return {x.name: list(x.label_keys) for x in d.cri.ListMetricDescriptors().descriptors}


def figures(d, pod, keys, container=0):
    m = of_pod(d, pod)
    return {k: v for k, (v, _) in values(m.container_metrics[container].metrics, keys).items()}


def test_descriptors(d):
    descs = d.cri.ListMetricDescriptors().descriptors
    want = {**{"container_" + x: [] for x in PLAIN}, **EXTRA}
    assert {x.name: list(x.label_keys) for x in descs} == {k: BASE + v for k, v in want.items()}
    assert all(x.help for x in descs) and len(descs) == len(want)


def limits(**kw):
    return api.LinuxContainerConfig(resources=api.LinuxContainerResources(
        cpu_period=50000, cpu_quota=25000, cpu_shares=512, memory_limit_in_bytes=64 * MIB,
        memory_swap_limit_in_bytes=64 * MIB, **kw))


def test_every_metric_has_samples(d, pod, keys):
    """All that this host counts, with the labels that cAdvisor gives."""
    before = int(time.time())
    c = d.run(pod, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 1000", name="busy",
              linux=limits())
    m = of_pod(d, pod)
    assert [x.container_id for x in m.container_metrics] == [c]
    v = values(m.container_metrics[0].metrics, keys)
    net = values(m.metrics, keys)
    names = {k[0] for k in v} | {k[0] for k in net}
    lacking = set(keys) - names
    may_lack = {k for k in keys if "_blkio_" in k or k.startswith(("container_fs_reads",
                                                                   "container_fs_writes"))}
    may_lack |= {k for k in keys if "hugetlb" in k}
    if not psi():
        may_lack |= {k for k in keys if "_pressure_" in k}
    assert lacking <= may_lack, lacking
    _, labels = v["container_memory_usage_bytes",]
    assert labels["container"] == "busy" and labels["name"] == c and labels["pod"] == m_name(d, pod)
    assert labels["namespace"] == "test" and labels["image"] == "test/busybox:latest"
    assert c in labels["id"] and labels["id"].startswith("/")
    _, labels = net["container_network_receive_bytes_total", "eth0"]
    assert labels["container"] == "" and labels["name"] == pod and labels["image"] == ""
    one = {k: x for k, (x, _) in v.items()}
    assert before <= one["container_start_time_seconds",] <= one["container_last_seen",]
    assert one["container_spec_cpu_period",] == 50000 and one["container_spec_cpu_quota",] == 25000
    assert one["container_spec_cpu_shares",] == 512
    assert one["container_spec_memory_limit_bytes",] == 64 * MIB
    assert one["container_spec_memory_reservation_limit_bytes",] == 0
    types = {x.name: x.metric_type for x in m.container_metrics[0].metrics}
    assert types["container_cpu_usage_seconds_total"] == api.COUNTER
    assert types["container_memory_usage_bytes"] == api.GAUGE


def m_name(d, pod):
    return d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.metadata.name


def test_processor_and_throttling(d, pod, keys):
    d.run(pod, "while :; do :; done", linux=limits())
    wait_for(lambda: figures(d, pod, keys)["container_cpu_cfs_throttled_periods_total",] >= 2)
    v = figures(d, pod, keys)
    assert v["container_cpu_cfs_periods_total",] >= v["container_cpu_cfs_throttled_periods_total",]
    wait_for(lambda: figures(d, pod, keys)["container_cpu_usage_seconds_total", "total"] >= 1,
             timeout=30 * SLOW)


def test_without_a_quota_there_is_no_throttling(d, pod, keys):
    d.run(pod, "sleep 1000")
    v = figures(d, pod, keys)
    assert not [k for k in v if "_cfs_" in k[0] or k[0] == "container_spec_cpu_quota"]
    assert v["container_spec_cpu_period",] == 100000
    assert v["container_spec_memory_limit_bytes",] == 0


def test_memory_and_processes(d, pod, keys):
    c = d.run(pod, "head -c 20000000 /dev/zero >/dev/shm/f; exec 3<>/dev/null; sleep 1000 & "
              "sleep 1000 & nc -l -p 7777 & wait", linux=limits())
    wait_for(lambda: figures(d, pod, keys)["container_sockets",] >= 1)
    v = figures(d, pod, keys)
    assert v["container_memory_cache",] >= 20000000
    assert 20000000 <= v["container_memory_usage_bytes",] <= 64 * MIB
    assert v["container_memory_max_usage_bytes",] >= v["container_memory_rss",] > 0
    assert v["container_memory_working_set_bytes",] <= v["container_memory_usage_bytes",]
    assert v["container_memory_failures_total", "pgfault", "container"] > 0
    assert v["container_memory_failures_total", "pgfault", "hierarchy"] >= \
        v["container_memory_failures_total", "pgfault", "container"]
    assert v["container_processes",] == v["container_threads",] == 4
    assert v["container_file_descriptors",] == 4 * 3 + 4 + 1  # 0 to 2, each the 3, a socket
    assert v["container_sockets",] == 1
    soft = int(d.exec(c, "ulimit -n").stdout)
    assert v["container_ulimits_soft", "max_open_files"] == soft
    d.exec(c, "cat /dev/null")  # gone again
    assert figures(d, pod, keys)["container_processes",] == 4


def test_oom_kills_are_counted(d, pod, keys):
    c = d.run(pod, "sleep 1000", linux=limits())
    assert figures(d, pod, keys)["container_oom_events_total",] == 0
    d.exec(c, "head -c 200000000 /dev/zero | tail -c 150000000 >/dev/null; true", timeout=60)
    if d.status(c).state == api.CONTAINER_RUNNING:  # memory.oom.group is not set
        assert figures(d, pod, keys)["container_oom_events_total",] >= 1


def test_limit_met_without_a_kill(d, pod, keys):
    """The page cache is taken back."""
    lin = api.LinuxContainerConfig(resources=api.LinuxContainerResources(
        memory_limit_in_bytes=24 * MIB, memory_swap_limit_in_bytes=48 * MIB))
    d.run(pod, "head -c 50000000 /dev/zero >/data; sleep 1000", linux=lin)
    wait_for(lambda: figures(d, pod, keys)["container_memory_failcnt",] >= 1)
    v = figures(d, pod, keys)
    assert v["container_memory_usage_bytes",] <= 24 * MIB
    assert v["container_oom_events_total",] == 0


def test_disk(d, pod, keys):
    c = d.run(pod, "head -c 3000000 /dev/zero >/data; sync /data; sleep 1000")
    st = os.statvfs(d.root + "/containers")
    v = figures(d, pod, keys)
    limit = {k[1]: x for k, x in v.items() if k[0] == "container_fs_limit_bytes"}
    assert list(limit.values()) == [st.f_blocks * st.f_frsize] and list(limit)[0]
    device = list(limit)[0]
    assert v["container_fs_inodes_total", device] == st.f_files
    wait_for(lambda: figures(d, pod, keys)["container_fs_usage_bytes", device] >= 3000000,
             timeout=25)
    at = [m.timestamp for m in of_pod(d, pod).container_metrics[0].metrics
          if m.name == "container_fs_usage_bytes"][0]
    assert at == d.cri.ContainerStats(container_id=c).stats.writable_layer.timestamp
    for k, x in v.items():
        if k[0] == "container_blkio_device_usage_total":
            assert k[1] and k[2].isdigit() and k[3].isdigit() and k[4]


def test_network_counts(d, pod, keys):
    c = d.run(pod, "sleep 1000")
    get = lambda: {k: v for k, (v, _) in values(of_pod(d, pod).metrics, keys).items()}  # noqa: E731
    before = get()["container_network_transmit_packets_total", "eth0"]
    d.exec(c, "ping -c 3 -i 0.1 -W 1 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); true")
    after = get()
    assert after["container_network_transmit_packets_total", "eth0"] >= before + 3
    assert after["container_network_transmit_bytes_total", "eth0"] > 0
    assert not [k for k in after if k[1] == "lo"]


def test_only_what_runs(d, pod, keys):
    """Containers that have not started, or have ended, have none; nor pods that are not ready."""
    created, ended = d.create(pod, "sleep 1000", name="a"), d.run(pod, "true", name="b")
    d.wait_exit(ended)
    running = [d.run(pod, "sleep 1000", name=n) for n in "xy"]
    m = of_pod(d, pod)
    assert [x.container_id for x in m.container_metrics] == running and created
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    assert pod not in [x.pod_sandbox_id for x in d.cri.ListPodSandboxMetrics().pod_metrics]


def test_pod_with_the_network_of_the_node(d, keys):
    p = d.run_pod(name="onhost", namespaces=api.NamespaceOption(network=api.NODE))
    try:
        d.run(p, "sleep 1000")
        m = of_pod(d, p)
        assert not m.metrics and len(m.container_metrics) == 1
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_a_hung_monitor_is_left_out(fresh):
    """What the daemon knows itself is told; nobody waits for it twice."""
    d = fresh
    keys = {x.name: list(x.label_keys) for x in d.cri.ListMetricDescriptors().descriptors}
    hung, other = d.run_pod(name="hung"), d.run_pod(name="other")
    for p in (hung, other):
        d.run(p, "sleep 100")
    pid = int(subprocess.run(["pgrep", "-f", "gantry-monitor.*" + hung], stdout=subprocess.PIPE,
                             text=True).stdout.split()[0])
    os.kill(pid, 19)
    try:
        m = of_pod(d, hung, rpc_timeout=20 * SLOW)
        names = {x.name for x in m.container_metrics[0].metrics}
        assert "container_spec_cpu_shares" in names and "container_processes" not in names
        began = time.monotonic()
        for _ in range(5):
            assert ("container_processes",) in figures(d, other, keys)
        assert time.monotonic() - began < 2 * SLOW
    finally:
        os.kill(pid, 18)
    wait_for(lambda: ("container_processes",) in figures(d, hung, keys))


def test_after_a_restart(fresh):
    d = fresh
    p = d.run_pod()
    c = d.run(p, "sleep 1000", linux=limits())
    names = lambda: {x.name for x in of_pod(d, p).container_metrics[0].metrics}  # noqa: E731
    before = names()
    d.kill()
    d.restart()
    assert names() == before and of_pod(d, p).container_metrics[0].container_id == c
