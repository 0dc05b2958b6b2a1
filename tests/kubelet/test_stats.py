# SPDX-License-Identifier: Apache-2.0
"""Statistics: the kubelet asks cadvisor for pods and CRI for containers, or CRI for both."""
import json
import os

import prometheus_client.parser
import pytest

from forms import pod, sh

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
BUSY = "trap 'exit 0' TERM; echo text >/file; while :; do :; done"
IDLE = "trap 'exit 0' TERM; sleep 1000 & wait"  # with as many processes at any time
BASE = ("container", "id", "image", "name", "namespace", "pod")
OF_QUOTA = {"container_spec_cpu_quota"}
STEADY = OF_QUOTA | {"container_" + x for x in (
    "processes", "threads", "threads_max", "file_descriptors", "sockets",
    "spec_cpu_period", "spec_cpu_shares", "spec_memory_limit_bytes",
    "spec_memory_reservation_limit_bytes", "spec_memory_swap_limit_bytes")}
SHARES = "container_spec_cpu_shares"
RISING = {"container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total",
          "container_last_seen"}
PODS = [pod("busy", sh("main", BUSY, resources={"limits": {"cpu": "100m", "memory": "64Mi"}}),
            sh("idle", IDLE))]


CADVISOR = {}  # what cadvisor's own metrics were, for those from CRI to be compared with


def families(kubelet):
    """{metric: {(id, further labels): (value, names of all labels)}} of /metrics/cadvisor."""
    out = {}
    for f in prometheus_client.parser.text_string_to_metric_families(
            kubelet.get("/metrics/cadvisor")):
        for s in f.samples:
            more = frozenset((k, v) for k, v in s.labels.items() if k not in BASE)
            out.setdefault(s.name, {})[s.labels.get("id"), more] = s.value, frozenset(s.labels)
    return out


def of_weight(cgroup):
    """The shares that cadvisor tells on cgroup v2: it computes them back from the weight, which is
    rounded; the request's are told from CRI."""
    with open("/sys/fs/cgroup%s/cpu.weight" % cgroup) as f:
        return 2 + (int(f.read()) - 1) * 262142 // 9999


def compare(cadvisor, cri):
    """What both have has the same labels, and the same values where these do not change."""
    of_containers = {key[0] for key in cri["container_processes"]}
    assert len(of_containers) == 2
    wrong = []
    for name in set(cadvisor) & set(cri):
        keys = {labels for _, labels in cri[name].values()}
        assert keys == {labels for _, labels in cadvisor[name].values()}, name
        for key in set(cadvisor[name]) & set(cri[name]):
            then, now = cadvisor[name][key][0], cri[name][key][0]
            if name == SHARES and V2 and key[0] in of_containers:
                good = then == of_weight(key[0]) and now in (2, 102)
            elif name in STEADY and key[0] in of_containers:
                good = then == now
            else:
                good = name not in RISING or now >= then > 0
            if not good:
                wrong.append((name, key, then, now))
    assert not wrong
    for name in STEADY:
        assert {k[0] for k in cri[name]} >= of_containers or name in OF_QUOTA, name
    assert not {x for x in cadvisor if x.startswith(("container_cpu_usage", "container_memory_us",
                                                     "container_network_"))} - set(cri)


def pod_stats(kubelet, name="busy"):
    return next((p for p in kubelet.summary()["pods"]
                 if p["podRef"]["name"] == name + "-node"), None)


def complete(p):
    """Every figure of the summary that does not depend on the kernel."""
    if not p or len(p.get("containers", ())) != 2:
        return None
    main = next(c for c in p["containers"] if c["name"] == "main")
    good = (p["cpu"].get("usageCoreNanoSeconds") and p["memory"].get("workingSetBytes") and
            main["cpu"].get("usageNanoCores") and main["cpu"]["usageCoreNanoSeconds"] and
            main["memory"].get("workingSetBytes") and main["rootfs"].get("usedBytes") and
            main["rootfs"].get("inodesUsed"))
    return p if good else None


def watch(kubelet):
    """The figures once all are there, and that they grow and are near the limit."""
    def figures():
        try:
            return complete(pod_stats(kubelet))
        except KeyError:
            return None
    try:
        first = kubelet.wait_for(figures, timeout=20, every=0.5)
    except TimeoutError:
        raise AssertionError("incomplete: %s" % json.dumps(pod_stats(kubelet), indent=1)) from None
    main = next(c for c in first["containers"] if c["name"] == "main")
    assert 0 < main["memory"]["workingSetBytes"] < 64 << 20
    assert 20e6 < main["cpu"]["usageNanoCores"] < 200e6
    used = first["cpu"]["usageCoreNanoSeconds"]
    kubelet.wait_for(lambda: pod_stats(kubelet)["cpu"]["usageCoreNanoSeconds"] > used, every=0.5)
    return first


def test_with_cadvisor(kubelet):
    kubelet.wait_ready("busy")
    watch(kubelet)
    node = kubelet.summary()["node"]
    assert node["runtime"]["imageFs"]["usedBytes"] > 0
    CADVISOR.update(families(kubelet))
    assert "container_cpu_usage_seconds_total" in CADVISOR


@pytest.fixture
def from_cri(kubelet):
    kubelet.restart(featureGates={"PodAndContainerStatsFromCRI": True})
    yield kubelet
    kubelet.restart(featureGates={})


def test_from_cri(from_cri):
    kubelet = from_cri
    s = kubelet.wait_ready("busy")
    p = watch(kubelet)
    assert [c["restartCount"] for c in s["containerStatuses"]] == [0, 0]
    assert p["network"]["interfaces"] and p["network"]["rxBytes"] >= 0
    assert p["process_stats"]["process_count"] >= 2
    metrics = kubelet.get("/metrics/cadvisor")
    for name in ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
                 "container_network_receive_bytes_total"):
        assert [x for x in metrics.split("\n")
                if x.startswith(name) and 'pod="busy-node"' in x], name
    if CADVISOR:  # where its test was asked for, too
        compare(CADVISOR, families(kubelet))
