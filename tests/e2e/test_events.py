# SPDX-License-Identifier: Apache-2.0
"""GetContainerEvents."""
import json
import os
import shutil
import sqlite3
import threading
import time

import grpc
import pytest

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


def processes_with(*words):
    """Processes whose command line has them all."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                line = f.read().decode(errors="replace")
        except OSError:
            continue
        if all(w in line for w in words):
            found.append(int(pid))
    return found


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


def test_statuses_come_with_events(d):
    """What evented PLEG takes from them: the whole pod, as it is at that moment."""
    (a,) = listening(d)
    try:
        p = d.run_pod(name="filled", labels={"l": "1"})
        first = d.run(p, "sleep 1000", name="first")
        second = d.create(p, "sleep 1000", name="second", labels={"app": "x"})
        d.cri.StartContainer(container_id=second)
        d.cri.StopContainer(container_id=first, timeout=0)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        wait_for(lambda: "deleted" in a.of(p))
        mine = [e for e in list(a.got) if e.pod_sandbox_status.id == p]
    finally:
        a.close()
    assert all(e.pod_sandbox_status.metadata.uid == "uid-filled" and
               e.pod_sandbox_status.labels == {"l": "1"} for e in mine)
    seen = {}
    for e in mine:
        seen[e.container_id, NAMES[e.container_event_type]] = {
            s.id: (s.state, s.metadata.name, s.exit_code, bool(s.started_at), bool(s.finished_at))
            for s in e.containers_statuses}
    running = (api.CONTAINER_RUNNING, "first", 0, True, False)
    assert seen[p, "started"] == {}
    assert seen[first, "created"] == {first: (api.CONTAINER_CREATED, "first", 0, False, False)}
    assert seen[first, "started"] == {first: running}
    assert seen[second, "created"] == {
        first: running, second: (api.CONTAINER_CREATED, "second", 0, False, False)}
    assert seen[first, "stopped"] == {
        first: (api.CONTAINER_EXITED, "first", 137, True, True),
        second: (api.CONTAINER_RUNNING, "second", 0, True, False)}
    assert seen[second, "stopped"][second][0] == api.CONTAINER_EXITED


def test_many_listeners(d):
    """All hear the same, in the same order."""
    all_ = listening(d, 100)
    try:
        p = d.run_pod(name="many")
        d.wait_exit(d.run(p, "true"))
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        for x in all_:
            wait_for(lambda: "deleted" in x.of(p))
        heard = {tuple((e.container_id, e.container_event_type, e.created_at) for e in x.got
                       if e.pod_sandbox_status.id == p) for x in all_}
        assert len(heard) == 1 and len(heard.pop()) == 8
    finally:
        for x in all_:
            x.close()


def test_status_has_containers_and_a_time(d, pod):
    c = d.run(pod, "sleep 1000")
    before = time.time_ns()
    r = d.cri.PodSandboxStatus(pod_sandbox_id=pod)
    assert before <= r.timestamp <= time.time_ns()
    assert list(r.containers_statuses) == [d.status(c)]


def test_containers_that_were_made_last_come_first(fresh):
    """A kubelet with evented PLEG takes the first of a name for the one that counts: with an older
    one first it makes the newest again."""
    d = fresh
    p = d.run_pod(name="order")
    made = []
    (events,) = listening(d)
    try:
        for attempt in range(4):
            made.insert(0, d.run(p, "exit 1", name="c", attempt=attempt))
            d.wait_exit(made[0])
        wait_for(lambda: "stopped" in events.of(made[0]))
        last = [e for e in events.got if e.container_id == made[0]][-1]
        assert [s.id for s in last.containers_statuses] == made
    finally:
        events.close()
    d.kill()
    d.start()
    r = d.cri.PodSandboxStatus(pod_sandbox_id=p)
    assert [s.id for s in r.containers_statuses] == made


def test_the_daemon_was_away(fresh):
    """What happened meanwhile is in the status, whose time is later than that and than any that
    was told before; who listens anew hears what comes, not what was."""
    d = fresh
    p = d.run_pod(name="away")
    c = d.run(p, "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 7", name="c")
    other = d.run(p, "sleep 1000", name="other")
    told = d.cri.PodSandboxStatus(pod_sandbox_id=p).timestamp
    (pid,) = processes_with("sh", "/tmp/end ];")
    d.kill()
    down = time.time_ns()
    with open("/proc/%d/root/tmp/end" % pid, "w"):
        pass
    wait_for(lambda: not processes_with("sh", "/tmp/end ];"))
    d.restart()
    (a,) = listening(d)
    try:
        r = d.cri.PodSandboxStatus(pod_sandbox_id=p)
        states = {s.id: s for s in r.containers_statuses}
        assert states[c].state == api.CONTAINER_EXITED and states[c].exit_code == 7
        assert states[other].state == api.CONTAINER_RUNNING
        assert told < down < states[c].finished_at <= r.timestamp <= time.time_ns()
        assert a.of(c) == []
        d.cri.StopContainer(container_id=other, timeout=0)
        wait_for(lambda: a.of(other) == ["stopped"])
        (e,) = [e for e in a.got if e.container_id == other]
        assert e.created_at >= r.timestamp
        assert {s.id: s.state for s in e.containers_statuses} == {
            c: api.CONTAINER_EXITED, other: api.CONTAINER_EXITED}
    finally:
        a.close()


def test_time_of_a_status_never_goes_back(fresh):
    """The kubelet drops what is older than what it has, also where the clock was set back."""
    d = fresh
    p, other = d.run_pod(name="p"), d.run_pod(name="other")
    d.wait_exit(d.run(p, "true"))
    d.kill()
    ahead = time.time_ns() + 3600 * 10 ** 9
    with sqlite3.connect(d.root + "/index.db") as db:
        db.execute("UPDATE containers SET finished_at = ?", (ahead,))
    d.restart()
    times = [d.cri.PodSandboxStatus(pod_sandbox_id=p).timestamp for _ in range(3)]
    assert times[0] >= ahead and times == sorted(times)
    assert d.cri.PodSandboxStatus(pod_sandbox_id=other).timestamp < ahead
    (a,) = listening(d)
    try:
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        wait_for(lambda: "stopped" in a.of(p))
        assert [e for e in a.got if e.container_id == p][0].created_at >= times[-1]
    finally:
        a.close()


def runs(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("records", ["kept", "gone", "bundle gone", "all gone"])
def test_containers_of_a_lost_monitor(fresh, records):
    """A monitor that dies: nothing of its pod is left out."""
    d = fresh
    (a,) = listening(d)
    try:
        p = d.run_pod(name="lost")
        c = d.run(p, "sleep 1000")
        # Its job that keeps joins of cgroups quick ends soon.
        pids = wait_for(lambda: (x := processes_with("gantry-monitor", p))[1:] == [] and x)
        info = d.cri.ContainerStatus(container_id=c, verbose=True).info["info"]
        init = json.loads(info)["pid"]
        if records == "gone":
            for name in ("create", "pid"):
                os.unlink("%s/pods/%s/containers/%s/%s" % (d.state, p, c, name))
        elif records == "bundle gone":
            shutil.rmtree("%s/pods/%s/containers/%s" % (d.state, p, c))
        elif records == "all gone":
            shutil.rmtree("%s/pods/%s/containers" % (d.state, p))
        os.kill(pids[0], 9)
        wait_for(lambda: "stopped" in a.of(p))
        if records != "kept":  # a container that nobody knows of has not survived
            wait_for(lambda: "stopped" in a.of(c))
            assert d.status(c).reason == "Unknown"
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        wait_for(lambda: "deleted" in a.of(p))
        assert a.of(p) == ["created", "started", "stopped", "deleted"]
        assert a.of(c) == ["created", "started", "stopped", "deleted"]
        assert not runs(init)
    finally:
        a.close()


def test_listeners_are_counted(d):
    all_ = listening(d, 128)
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
