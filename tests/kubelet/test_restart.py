# SPDX-License-Identifier: Apache-2.0
"""The kubelet and gantryd go away and come back under running pods."""
import signal

import pytest

from cri import api
from forms import OFTEN, WAIT, at, pod, read, sh, share, volume

PODS = [
    pod("stays", sh("main", "n=0; " + WAIT), sh("second", WAIT, readinessProbe={
        "exec": {"command": ["true"]}, **OFTEN}),
        initContainers=[sh("first", "echo once >>/share/inits", volumeMounts=[at("/share")]),
                        sh("sidecar", WAIT, restartPolicy="Always")],
        volumes=[share(), volume("work")]),
    pod("mapped", sh("main", WAIT), hostUsers=False),
    pod("done", sh("main", "exit 0"), restartPolicy="Never"),
    pod("failing", sh("main", "sleep 1; exit 1")),
]
STAY = ("stays", "mapped")


def picture(kubelet):
    """Pods and containers that run, by the runtime's own list."""
    return {name: (sorted(s.id for s in kubelet.sandboxes(name)),
                   sorted((c.metadata.name, c.metadata.attempt, c.id)
                          for c in kubelet.containers(name) if c.state == api.CONTAINER_RUNNING))
            for name in STAY}


def settled(kubelet):
    for name in STAY:
        kubelet.wait_ready(name)
    kubelet.wait("done", lambda s: s["phase"] == "Succeeded")
    # It may be collected by now, but is not run again.
    assert all(c.metadata.attempt == 0 for c in kubelet.containers("done"))
    assert len(kubelet.sandboxes("done")) <= 1
    assert read("inits") == "once\n"
    return picture(kubelet)


def unchanged(kubelet, before):
    """After each pod was looked at again (a whole period of synchronization)."""
    synced = kubelet.log_text().count("SyncLoop (SYNC)")
    kubelet.wait_for(lambda: kubelet.log_text().count("SyncLoop (SYNC)") >= synced + 3, timeout=60)
    assert settled(kubelet) == before
    for name in STAY:
        s = kubelet.status(name)
        assert all(c["restartCount"] == 0 for c in s["containerStatuses"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_kubelet(kubelet, how):
    before = settled(kubelet)
    kubelet.stop(how)
    kubelet.start()
    unchanged(kubelet, before)


def test_what_ended_meanwhile(kubelet):
    """A manifest that is gone, and a container that ended, while no kubelet was there."""
    extra = pod("extra", sh("main", WAIT))
    kubelet.add(extra)
    kubelet.wait_ready("extra")
    kubelet.stop()
    kubelet.remove("extra")
    kubelet.start()
    kubelet.wait_for(lambda: not kubelet.sandboxes("extra", ready=True), timeout=60)


@pytest.mark.parametrize("kill", [False, True])
def test_gantryd(kubelet, gantryd, kill):
    before = settled(kubelet)
    runs = kubelet.container("failing", "main")["restartCount"]
    gantryd.kill() if kill else gantryd.stop()
    gantryd.start()
    kubelet.wait("failing", lambda s: s["containerStatuses"][0]["restartCount"] > runs)
    unchanged(kubelet, before)
