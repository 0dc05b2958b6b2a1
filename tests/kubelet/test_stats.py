# SPDX-License-Identifier: Apache-2.0
"""Statistics: the kubelet asks cadvisor for pods and CRI for containers, or CRI for both."""
import json

import pytest

from forms import WAIT, pod, sh

BUSY = "trap 'exit 0' TERM; echo text >/file; while :; do :; done"
PODS = [pod("busy", sh("main", BUSY, resources={"limits": {"cpu": "100m", "memory": "64Mi"}}),
            sh("idle", WAIT))]


def pod_stats(kubelet, name="busy"):
    return next((p for p in kubelet.summary()["pods"] if p["podRef"]["name"] == name + "-node"), None)


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
    assert "container_cpu_usage_seconds_total" in kubelet.get("/metrics/cadvisor")


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
        assert [x for x in metrics.split("\n") if x.startswith(name) and 'pod="busy-node"' in x], name
