# SPDX-License-Identifier: Apache-2.0
"""Pods from the manifest to the end: order, restarts, hooks, and the time they have to end.

What there is no standalone kubelet for: whatever belongs to an API server (config maps, secrets,
service accounts, ephemeral containers, readiness gates), as a static pod may not name it.
"""
import contextlib
import time

import grpc

from cri import SLOW, api
from forms import OFTEN, SLEEP, WAIT, at, pod, read, script, sh, share, volume

WORK = dict(volumes=[volume("work"), share()])
IN_WORK = [at("/work", "work")]
BOTH = [at("/work", "work"), at("/share")]


def step(name, text, **fields):
    return sh(name, text, volumeMounts=BOTH, **fields)


PODS = [
    pod("one-pod", sh("main", "echo hello from $HOSTNAME; " + SLEEP)),
    pod("order",
        step("main", "echo main >>/work/order; cat /work/order;"
             "trap 'sleep 0.5; echo main >>/share/ends; exit 0' TERM; while :; do sleep 0.1; done"),
        initContainers=[
            step("first", "echo first >>/work/order"),
            step("sidecar", "echo sidecar >>/work/order; sleep 0.5;"
                 "echo sidecar is up >>/work/order; touch /tmp/up;"
                 "trap 'echo sidecar >>/share/ends; exit 0' TERM;"
                 "while :; do sleep 0.1; done", restartPolicy="Always",
                 startupProbe={**script("test -e /tmp/up"), **OFTEN}),
            step("second", "echo second >>/work/order"),
        ], **dict(WORK, terminationGracePeriodSeconds=10 * SLOW)),
    pod("init-fails", sh("main", SLEEP), restartPolicy="Never",
        initContainers=[sh("first", "exit 4"), sh("second", SLEEP)]),
    pod("never", sh("bad", "echo told >/dev/termination-log; exit 3"), sh("good", "exit 0"),
        restartPolicy="Never"),
    pod("on-failure", step("main", "test -e /work/second && exit 0; touch /work/second; exit 1"),
        restartPolicy="OnFailure", **WORK),
    pod("again", sh("main", "echo last words; exit 7",
                    terminationMessagePolicy="FallbackToLogsOnError")),
    pod("hooks", step("main", "echo begun; " + WAIT, lifecycle={
        "postStart": script("echo post-start >>/share/hooks"),
        "preStop": script("echo pre-stop >>/share/hooks; sleep 0.5; echo stopped >>/share/hooks")}),
        **dict(WORK, terminationGracePeriodSeconds=10 * SLOW)),
    pod("bad-hook", sh("main", "trap 'exit 8' TERM; while :; do sleep 0.1; done",
                       lifecycle={"postStart": script("exit 9")}),
        restartPolicy="Never"),
    pod("graceful", step("main", "trap 'sleep 1; echo bye >>/share/graceful; exit 5' TERM;"
                         "while :; do sleep 0.1; done"),
        **dict(WORK, terminationGracePeriodSeconds=10 * SLOW)),
    pod("stubborn", sh("main", "trap : TERM; while :; do sleep 0.1; done"),
        terminationGracePeriodSeconds=2),
]


def ended(status, container, **fields):
    """Whether the container ended so, now or the last time."""
    for c in status.get("initContainerStatuses", []) + status["containerStatuses"]:
        for state in (c["state"], c.get("lastState", {})):
            t = state.get("terminated")
            if c["name"] == container and t and all(t.get(k) == v for k, v in fields.items()):
                return c
    return None


def remove(kubelet, name):
    """Ends the pod; the statuses of its containers as they ended. A moment later the kubelet has
    removed them."""
    running = {c.metadata.name: c.id for c in kubelet.containers(name)
               if c.state == api.CONTAINER_RUNNING}
    kubelet.remove(name)
    began, left = time.time(), {}

    def ended_all():
        for n in running.keys() - left.keys():
            c = kubelet.daemon.status(running[n])
            if c.state == api.CONTAINER_EXITED:
                left[n] = c
        return len(left) == len(running)
    kubelet.wait_for(ended_all, timeout=40)
    return left, began


def test_one_pod(kubelet):
    """It runs, is ready, and its log comes through the kubelet's API."""
    s = kubelet.wait_ready("one-pod")
    assert s["phase"] == "Running" and s["podIP"]
    kubelet.wait_log("one-pod", "main", "hello from one-pod-node\n")


def test_init_containers_and_sidecars_begin_in_order(kubelet):
    s = kubelet.wait_ready("order")
    kubelet.wait_log("order", "main", "first\nsidecar\nsidecar is up\nsecond\nmain\n")
    states = {c["name"]: c for c in s["initContainerStatuses"]}
    assert states["first"]["state"]["terminated"]["exitCode"] == 0
    assert "running" in states["sidecar"]["state"] and states["sidecar"]["started"]


def test_sidecars_end_after_the_others(kubelet):
    kubelet.wait_ready("order")
    left, _ = remove(kubelet, "order")
    assert read("ends").split() == ["main", "sidecar"]
    assert left["main"].finished_at <= left["sidecar"].finished_at
    assert left["main"].exit_code == left["sidecar"].exit_code == 0


def test_a_failed_init_container_ends_the_pod(kubelet):
    s = kubelet.wait("init-fails", lambda s: s["phase"] == "Failed")
    assert ended(s, "first", exitCode=4)
    assert {c.metadata.name for c in kubelet.containers("init-fails")} == {"first"}


def test_never_restarted(kubelet):
    s = kubelet.wait("never", lambda s: s["phase"] == "Failed")
    assert ended(s, "bad", exitCode=3, reason="Error", message="told\n")
    assert ended(s, "good", exitCode=0, reason="Completed")
    assert [c["restartCount"] for c in s["containerStatuses"]] == [0, 0]


def test_restarted_until_it_succeeds(kubelet):
    s = kubelet.wait("on-failure", lambda s: s["phase"] == "Succeeded")
    assert s["containerStatuses"][0]["restartCount"] == 1


def test_restarted_for_ever_with_back_off(kubelet):
    """The log's end is the message, and the pause between two runs is the configured one."""
    kubelet.wait("again", lambda s: s["containerStatuses"][0]["state"]["waiting"]["reason"] ==
                 "CrashLoopBackOff")
    s = kubelet.wait("again", lambda s: s["containerStatuses"][0]["restartCount"] >= 3)
    assert ended(s, "main", exitCode=7, message="last words\n")
    seen = {}

    def pause():
        for c in kubelet.containers("again"):
            with contextlib.suppress(grpc.RpcError):  # the kubelet has just removed it
                seen[c.metadata.attempt] = kubelet.daemon.status(c.id)
        for attempt, first in seen.items():
            last = seen.get(attempt + 1)
            if last and last.started_at and first.finished_at:
                return (last.started_at - first.finished_at) / 1e9
        return None
    assert kubelet.wait_for(pause, every=0.1) >= 2


def test_hooks(kubelet):
    kubelet.wait_ready("hooks")
    assert read("hooks").split() == ["post-start"]
    left, _ = remove(kubelet, "hooks")
    assert read("hooks").split() == ["post-start", "pre-stop", "stopped"]
    assert left["main"].exit_code == 0


def test_a_container_whose_hook_fails_ends(kubelet):
    s = kubelet.wait("bad-hook", lambda s: "terminated" in s["containerStatuses"][0]["state"])
    assert s["phase"] == "Failed" and s["containerStatuses"][0]["restartCount"] == 0
    assert "FailedPostStartHook" in kubelet.log_text()


def test_a_deleted_pod_has_its_time(kubelet):
    kubelet.wait_ready("graceful")
    left, _ = remove(kubelet, "graceful")
    assert left["main"].exit_code == 5 and read("graceful") == "bye\n"
    kubelet.wait_gone("graceful")


def test_no_longer_than_that(kubelet):
    kubelet.wait_ready("stubborn")
    left, began = remove(kubelet, "stubborn")
    assert left["main"].exit_code == 137
    assert left["main"].finished_at / 1e9 - began >= 2
    kubelet.wait_gone("stubborn")
