# SPDX-License-Identifier: Apache-2.0
"""A bounded soak: calls of all kinds, many times; the daemon is afterwards as it was before."""
import concurrent.futures
import os

import grpc
import pytest

from cri import SLOW, api
from daemon import anonymous, wait_for

ROUNDS = 60


def descriptors(d):
    return len(os.listdir("/proc/%d/fd" % d.process.pid))


def fails(call, **kw):
    with pytest.raises(grpc.RpcError):
        call(**kw)


def reads(d, pod, ctr):
    d.cri.Version()
    d.cri.Status(verbose=True)
    d.cri.RuntimeConfig()
    d.cri.ListPodSandbox()
    d.cri.ListContainers()
    d.cri.ListImages()
    d.cri.ImageStatus(image=api.ImageSpec(image="test/busybox:latest"), verbose=True)
    d.cri.ImageFsInfo()
    d.cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True)
    d.cri.ContainerStatus(container_id=ctr, verbose=True)
    d.cri.ContainerStats(container_id=ctr)
    d.cri.ListContainerStats()
    d.cri.PodSandboxStats(pod_sandbox_id=pod)
    d.cri.ListPodSandboxStats()


def one(d, i):
    pod = d.run_pod(name="soak-%d" % i, annotations={"k": "v" * (i * 997 % 30000)})
    fails(d.cri.RunPodSandbox, config=d.pod_config(name="soak-%d" % i,
                                                   annotations={"k": "v" * (i * 997 % 30000)}))
    ctr = d.run(pod, "echo begins; sleep 100000")
    reads(d, pod, ctr)
    assert d.exec(ctr, "head -c %d /dev/zero" % (i * 7919 % 300000)).exit_code == 0
    given_up = d.cri.ExecSync.future(container_id=ctr, cmd=["sleep", "7535"], timeout=0)
    events = d.cri.GetContainerEvents()
    fails(d.cri.ExecSync, container_id=ctr, cmd=["/no/such"], timeout=5)
    fails(d.cri.ExecSync, container_id="none", cmd=["true"])
    fails(d.cri.CreateContainer, pod_sandbox_id=pod, config=d.container_config("x", image="no/such"))
    fails(d.cri.PullImage, image=api.ImageSpec(image="127.0.0.1:1/none"))
    fails(d.cri.ContainerStatus, container_id="none")
    d.cri.UpdateContainerResources(container_id=ctr, linux=api.LinuxContainerResources(
        cpu_shares=512))
    d.cri.ReopenContainerLog(container_id=ctr)
    given_up.cancel()
    d.cri.StopContainer(container_id=ctr, timeout=0)
    d.cri.RemoveContainer(container_id=ctr)
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    events.cancel()


def test_mixed_calls(d):
    def rounds(first, n):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: one(d, i), range(first, first + n)))
        wait_for(lambda: not d.cri.ListPodSandbox().items and not d.leftovers())
    rounds(0, 20)  # what the first ones take is kept
    wait_for(lambda: descriptors(d) < 40)
    fds, kb = descriptors(d), min(anonymous(d.process.pid) for _ in range(3))
    n = max(ROUNDS // SLOW, 8)
    rounds(20, n)
    wait_for(lambda: descriptors(d) <= fds)
    room = 350000 if d.sanitized() else 400  # kB; sanitizers keep freed memory for a while
    try:
        wait_for(lambda: anonymous(d.process.pid) <= kb + room)
    except TimeoutError:
        raise AssertionError("%d kB before, %d after %d rounds" % (kb, anonymous(d.process.pid), n))
