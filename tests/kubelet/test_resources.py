# SPDX-License-Identifier: Apache-2.0
"""Limits, what happens beyond them, and their change under a running container.

A static pod with a uid of its own stays the same pod when its manifest changes, so it can be
resized in place as one of an API server's is.
"""
import copy
import os

from forms import SLEEP, WAIT, pod, sh

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MIB = 1 << 20


def limits(cpu, memory, **fields):
    r = {"cpu": cpu, "memory": memory}
    return {"resources": {"limits": r, "requests": r}, **fields}


RESIZED = pod("resized", sh("main", WAIT, **limits("100m", "64Mi")),
              sh("other", WAIT, **limits("100m", "64Mi", resizePolicy=[
                  {"resourceName": "memory", "restartPolicy": "RestartContainer"},
                  {"resourceName": "cpu", "restartPolicy": "NotRequired"}])),
              uid="11111111-2222-3333-4444-555555555555")
PODS = [
    # Guaranteed: the kubelet asks for an oom_score_adj of -997.
    pod("limited", sh("main", "cat /proc/self/oom_score_adj; " + SLEEP, **limits("200m", "64Mi"))),
    pod("best-effort", sh("main", "cat /proc/self/oom_score_adj; " + SLEEP)),
    pod("eats", sh("main", "x=0123456789; while :; do x=$x$x; done",
                   resources={"limits": {"memory": "24Mi"}}), restartPolicy="Never"),
    RESIZED,
]


def cgroup_value(kubelet, name, container, v1, v2):
    """A file of the container's cgroup, as one in it sees it."""
    i = next(c.id for c in kubelet.containers(name) if c.metadata.name == container)
    out = kubelet.daemon.exec(i, "cat /sys/fs/cgroup/" + (v2 if V2 else v1))
    return out.stdout.decode().split()


def cpu(kubelet, name, container="main"):
    """In thousandths."""
    if V2:
        quota, period = cgroup_value(kubelet, name, container, "", "cpu.max")
    else:
        quota, = cgroup_value(kubelet, name, container, "cpu/cpu.cfs_quota_us", "")
        period, = cgroup_value(kubelet, name, container, "cpu/cpu.cfs_period_us", "")
    return int(quota) * 1000 // int(period)


def memory(kubelet, name, container="main"):
    """In MiB."""
    return int(cgroup_value(kubelet, name, container, "memory/memory.limit_in_bytes",
                            "memory.max")[0]) // MIB


def floor():
    """Without CAP_SYS_RESOURCE nobody may go below his own."""
    with open("/proc/self/status") as f:
        capable = int(next(x for x in f if x.startswith("CapEff")).split()[1], 16) >> 24 & 1
    with open("/proc/self/oom_score_adj") as f:
        return -1000 if capable else int(f.read())


def test_limits(kubelet):
    s = kubelet.wait_ready("limited")
    assert s["qosClass"] == "Guaranteed"
    assert (cpu(kubelet, "limited"), memory(kubelet, "limited")) == (200, 64)
    assert s["containerStatuses"][0]["resources"]["limits"] == {"cpu": "200m", "memory": "64Mi"}


def test_oom_score(kubelet):
    kubelet.wait_ready("limited")
    kubelet.wait_ready("best-effort")
    kubelet.wait_log("limited", "main", "%d\n" % max(-997, floor()))
    kubelet.wait_log("best-effort", "main", "1000\n")


def test_out_of_memory(kubelet):
    s = kubelet.wait("eats", lambda s: s["phase"] == "Failed")
    t = s["containerStatuses"][0]["state"]["terminated"]
    assert (t["reason"], t["exitCode"]) == ("OOMKilled", 137)


def test_resize_in_place(kubelet):
    before = kubelet.wait_ready("resized")["containerStatuses"]
    grown = copy.deepcopy(RESIZED)
    for c in grown["spec"]["containers"]:
        c["resources"] = limits("150m", "96Mi")["resources"]
    kubelet.add(grown)
    after = kubelet.wait("resized", lambda s: s["containerStatuses"][0]["resources"]["limits"] ==
                         {"cpu": "150m", "memory": "96Mi"} and
                         s["containerStatuses"][1]["restartCount"] == 1 and
                         all(c["ready"] for c in s["containerStatuses"]))["containerStatuses"]
    assert after[0]["containerID"] == before[0]["containerID"] and after[0]["restartCount"] == 0
    for c in ("main", "other"):
        assert (cpu(kubelet, "resized", c), memory(kubelet, "resized", c)) == (150, 96)
