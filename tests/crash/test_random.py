# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at any moment, while many pods come and go at once."""
import concurrent.futures
import json
import os
import random
import signal
import subprocess
import threading
import time

import grpc
import pytest

import frames
from cri import api
from daemon import wait_for
from kubelet import Again, Kubelet, clean, daemon

SEEDS = [int(x) for x in os.environ.get("GANTRY_CRASH_SEEDS", "1 2").split()]
KILLS = int(os.environ.get("GANTRY_CRASH_KILLS", "8"))
PODS = 4


class Patient(Kubelet):
    """Somebody else starts the daemon again; what fails meanwhile is tried until it works."""

    def revive(self):
        pass

    def attempt(self, fn):
        end = time.monotonic() + 60
        while True:
            try:
                return fn()
            except (grpc.RpcError, ValueError, OSError, Again) as e:  # ValueError: closed channel
                if time.monotonic() > end:
                    raise e
                time.sleep(0.02)


def lives(d, name, stop):
    n = 0
    while not stop.is_set():
        k = Patient(d, "%s-%d" % (name, n))
        k.up()
        k.stopped()
        k.removed()
        n += 1
    return n


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_under_load(seed, archive, tmp_path):
    rnd = random.Random(seed)
    d = daemon({"GANTRY_LIBEXEC": frames.stand_in(str(tmp_path))})
    stop = threading.Event()
    try:
        d.load(archive)
        with concurrent.futures.ThreadPoolExecutor(PODS) as pool:
            workers = [pool.submit(lives, d, "load%d" % i, stop) for i in range(PODS)]
            try:
                for _ in range(KILLS):
                    time.sleep(rnd.uniform(0.02, 0.7))
                    d.kill()
                    d.start()
            finally:
                stop.set()
            assert all(w.result(120) > 0 for w in workers)
        clean(d)
    finally:
        d.close()


def pid_of(d, ctr):
    return json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])["pid"]


def monitors(d):
    """The monitors themselves; the children that they fork for a while have the same name."""
    out = subprocess.run(["pgrep", "-f", "gantry-monitor .*%s/pods" % d.state],
                         stdout=subprocess.PIPE, text=True).stdout
    found = out.split()
    parents = subprocess.run(["ps", "-o", "pid=,ppid=", "-p", ",".join(found)],
                             stdout=subprocess.PIPE, text=True).stdout.split()
    return [int(pid) for pid, ppid in zip(parents[::2], parents[1::2]) if ppid not in found]


def test_fifty_pods(archive):
    """All that ran is there, whatever ended meanwhile too."""
    d = daemon()
    try:
        d.load(archive)
        ns = api.NamespaceOption(network=api.NODE)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            pods = list(pool.map(lambda i: d.run_pod(name="p%d" % i, namespaces=ns), range(50)))
            ctrs = list(pool.map(lambda p: d.run(p, "sleep 1000"), pods[:8]))
        ends, runs = ctrs[:4], ctrs[4:]
        pids = [pid_of(d, c) for c in ends]
        before = [p.SerializeToString() for p in d.cri.ListPodSandbox().items]
        d.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(os.path.exists("/proc/%d" % p) for p in pids))
        d.start()
        assert [p.SerializeToString() for p in d.cri.ListPodSandbox().items] == before
        for c in ends:
            s = d.status(c)
            assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 137, "Error")
        for c in runs:
            assert d.exec(c, "echo hi").stdout == b"hi\n"
        ask_all_at_once(d, before)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda p: d.cri.RemovePodSandbox(pod_sandbox_id=p), pods))
        clean(d)
    finally:
        d.close()


def ask_all_at_once(d, before):
    """Serving does not wait for one monitor after the other: all of them hang, and all have been
    asked when it begins."""
    d.kill()
    hung = monitors(d)
    assert len(hung) == 50
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        d.start()
        assert [p.SerializeToString() for p in d.cri.ListPodSandbox().items] == before
        assert "before all monitors have answered: 50 have not" in d.log_text()
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
