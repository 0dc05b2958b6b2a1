# SPDX-License-Identifier: Apache-2.0
"""Evented PLEG: the kubelet hears of ends, where it otherwise looks each second.

No pod here has init containers. With this feature gate, which is alpha, and a runtime that gives
the statuses of a pod's containers with a timestamp, the kubelet 1.37.1 does not fill in which of
them are of the current sandbox (ActiveContainerStatuses, kuberuntime_manager.go), takes a running
pod for one whose init containers have not run, and runs them again (kubernetes issue 133371).
"""
import pytest

from cri import api
from forms import WAIT, pod, sh

CONNECTED = "kubelet_evented_pleg_connection_success_count"
LATENCIES = "kubelet_evented_pleg_connection_latency_seconds_count"
RELIST = "Evented PLEG: requested pod relist after container termination"
PODS = [
    pod("stays", sh("main", WAIT), sh("second", WAIT)),
    pod("failing", sh("main", "sleep 1; exit 1")),
]


@pytest.fixture
def events(kubelet):
    kubelet.wait_ready("stays")
    kubelet.restart(featureGates={"EventedPLEG": True, "PLEGOnDemandRelist": True})
    kubelet.wait_for(lambda: kubelet.metric("/metrics", CONNECTED) == 1)
    yield kubelet
    kubelet.restart(featureGates={})


def running(kubelet):
    kubelet.wait_ready("stays")
    return sorted((c.metadata.attempt, c.id) for c in kubelet.containers("stays")
                  if c.state == api.CONTAINER_RUNNING)


def next_run(kubelet):
    runs = kubelet.wait("failing", lambda s: s["containerStatuses"])["containerStatuses"][0]
    kubelet.wait("failing", lambda s: s["containerStatuses"][0]["restartCount"] >
                 runs["restartCount"])


def test_events(events):
    """An end is told at once, and no event is without the pod's status."""
    kubelet = events
    before = running(kubelet)
    kubelet.add(pod("quick", sh("main", "sleep 0.5; exit 3"), restartPolicy="Never"))
    kubelet.wait("quick", lambda s: s["phase"] == "Failed")
    kubelet.remove("quick")
    next_run(kubelet)
    log = kubelet.log_text()
    assert RELIST in log and "nil PodSandboxStatus" not in log
    assert "Runtime does not set pod status timestamp" not in log
    assert "is in use by" not in log  # nothing is made from an old status
    assert kubelet.metric("/metrics", LATENCIES) > 0
    assert running(kubelet) == before and [x[0] for x in before] == [0, 0]


def test_gantryd_restarts(events, gantryd):
    """The stream breaks. (The kubelet opens it again five times, without a pause, and then goes by
    its periodic look alone: it does here, where the daemon is away for longer than that.)"""
    kubelet = events
    before = running(kubelet)
    gantryd.kill()
    gantryd.start()
    next_run(kubelet)
    assert running(kubelet) == before
