# SPDX-License-Identifier: Apache-2.0
"""GetContainerEvents."""
import threading

import grpc

from cri import api
from daemon import wait_for

NAMES = {api.CONTAINER_CREATED_EVENT: "created", api.CONTAINER_STARTED_EVENT: "started",
         api.CONTAINER_STOPPED_EVENT: "stopped", api.CONTAINER_DELETED_EVENT: "deleted"}


class Listener:
    def __init__(self, d):
        self.stream = d.cri.GetContainerEvents(rpc_timeout=None)
        self.got, self.end = [], None
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            for e in self.stream:
                self.got.append(e)
            self.end = "OK"
        except grpc.RpcError as e:
            self.end = e.code().name

    def of(self, object_id):
        return [NAMES[e.container_event_type] for e in list(self.got)
                if e.container_id == object_id]

    def close(self):
        self.stream.cancel()
        self.thread.join(10)


def listening(d, n=1):
    """A stream is there once an event comes through it."""
    all_ = [Listener(d) for _ in range(n)]

    def heard():
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(
            name="hello", namespaces=api.NamespaceOption(network=api.NODE)))
        return all(x.got for x in all_)
    wait_for(heard)
    return all_


def test_life(d):
    a, b = listening(d, 2)
    try:
        p = d.run_pod(name="events")
        c = d.run(p, "exit 3")
        d.wait_exit(c)
        x = d.run(p, "sleep 1000", name="x")
        d.cri.RemoveContainer(container_id=c)
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        for one in (a, b):
            wait_for(lambda: "deleted" in one.of(p))
            assert one.of(p) == ["created", "started", "stopped", "deleted"]
            assert one.of(c) == ["created", "started", "stopped", "deleted"]
            assert one.of(x) == ["created", "started", "stopped", "deleted"]
        (e,) = [e for e in a.got if e.container_id == c
                and e.container_event_type == api.CONTAINER_STOPPED_EVENT]
        assert e.pod_sandbox_status.id == p
        assert e.pod_sandbox_status.state == api.SANDBOX_READY
        (s,) = e.containers_statuses
        assert (s.id, s.state, s.exit_code) == (c, api.CONTAINER_EXITED, 3)
        times = [e.created_at for e in a.got]
        assert times == sorted(times)
    finally:
        a.close()
        b.close()
    assert a.end == "CANCELLED"


def test_a_failed_pod_is_no_event(d):
    (a,) = listening(d)
    try:
        before = len(a.got)
        bad = api.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_forward": "no number"})
        try:
            d.run_pod(d.pod_config(name="bad", linux=bad))
        except grpc.RpcError:
            pass
        p = d.run_pod(name="good")
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        wait_for(lambda: "deleted" in a.of(p))
        assert {e.container_id for e in a.got[before:]
                if e.pod_sandbox_status.metadata.name != "hello"} == {p}
    finally:
        a.close()


def test_a_slow_reader_is_cut_off(d):
    """It does not hold the others up, and what waits for it is bounded."""
    (quick,) = listening(d)
    slow = d.cri.GetContainerEvents(rpc_timeout=None)
    next(iter(hello(d, slow)))
    try:
        big = {"k%d" % i: "v" * 250 for i in range(900)}
        n = 0
        while True:
            p = d.run_pod(name="big%d" % n, annotations=big,
                          namespaces=api.NamespaceOption(network=api.NODE))
            d.cri.RemovePodSandbox(pod_sandbox_id=p)
            wait_for(lambda: "deleted" in quick.of(p))
            n += 1
            if "GetContainerEvents failed" in d.log_text():
                break
            assert n < 200
        code = None
        try:
            for _ in slow:
                pass
        except grpc.RpcError as e:
            code = e.code().name
        assert code == "RESOURCE_EXHAUSTED"
    finally:
        quick.close()


def hello(d, stream):
    got = []
    t = threading.Thread(target=lambda: got.append(next(iter(stream))))
    t.start()

    def heard():
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(
            name="hello", namespaces=api.NamespaceOption(network=api.NODE)))
        return got
    wait_for(heard)
    t.join()
    return got


def test_listeners_are_counted(d):
    all_ = listening(d, 16)
    try:
        more = Listener(d)
        more.thread.join(10)
        assert more.end == "RESOURCE_EXHAUSTED"
    finally:
        for x in all_:
            x.close()


def test_the_daemon_ends(fresh):
    d = fresh
    (a,) = listening(d)
    assert d.stop() == 0
    a.thread.join(10)
    assert a.end == "OK"
