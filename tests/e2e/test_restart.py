# SPDX-License-Identifier: Apache-2.0
"""It survives itself: kill -9 in the middle of things, and nothing is wrong afterwards."""
import concurrent.futures
import os
import re
import signal
import subprocess
import time

import grpc
import pytest

from cri import api
from daemon import BUILD, processes_with, wait_for


def monitors(d):
    out = subprocess.run(["pgrep", "-f", "gantry-monitor .*%s/pods" % d.state],
                         stdout=subprocess.PIPE, text=True).stdout
    return [int(x) for x in out.split()]


def test_everything_is_there_after_kill(fresh):
    d = fresh
    p = d.run_pod(name="keep", labels={"k": "v"})
    runs = d.run(p, "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done", name="runs")
    ends = d.run(p, "sleep 0.3; exit 42", name="ends")
    made = d.create(p, "echo made", name="made")
    before = d.cri.PodSandboxStatus(pod_sandbox_id=p).status
    d.kill()
    time.sleep(0.5)  # `ends` ends while nobody serves
    d.restart()
    after = d.cri.PodSandboxStatus(pod_sandbox_id=p).status
    assert after == before
    assert d.status(runs).state == api.CONTAINER_RUNNING
    s = d.status(ends)
    assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 42, "Error")
    assert d.exec(runs, "echo hi").stdout == b"hi\n"
    d.cri.StartContainer(container_id=made)
    assert d.read_log(d.wait_exit(made).log_path) == "made\n"
    log = d.status(runs).log_path
    size = os.path.getsize(log)
    wait_for(lambda: os.path.getsize(log) > size)
    numbers = [int(x) for x in d.read_log(log).split()]
    assert numbers == list(range(len(numbers)))
    assert len(d.cri.ListImages().images) == 1
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="keep", labels={"k": "v"})
    assert e.value.code() == grpc.StatusCode.ALREADY_EXISTS
    d.cri.StopContainer(container_id=runs, timeout=0)
    assert d.status(runs).exit_code == 137


@pytest.mark.parametrize("delay", [0.001, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03])
def test_killed_in_run_pod(fresh, delay):
    d = fresh
    c = d.pod_config(name="half")
    f = d.cri.RunPodSandbox.future(config=c)
    time.sleep(delay)
    d.kill()
    f.cancel()
    d.restart()
    pods = d.cri.ListPodSandbox().items
    for p in pods:
        assert p.state == api.SANDBOX_READY
        d.cri.RemovePodSandbox(pod_sandbox_id=p.id)
    p = d.run_pod(c)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    wait_for(lambda: not d.leftovers())


@pytest.mark.parametrize("delay", [0.001, 0.003, 0.006, 0.01, 0.015])
def test_killed_in_create_container(fresh, delay):
    d = fresh
    p = d.run_pod()
    c = d.container_config("sleep 100")
    f = d.cri.CreateContainer.future(pod_sandbox_id=p, config=c)
    time.sleep(delay)
    d.kill()
    f.cancel()
    d.restart()
    for x in d.cri.ListContainers().containers:
        d.cri.RemoveContainer(container_id=x.id)
    wait_for(lambda: not os.listdir(d.root + "/containers"))
    ctr = d.create(p, config=c)
    d.cri.StartContainer(container_id=ctr)
    assert d.status(ctr).state == api.CONTAINER_RUNNING


@pytest.mark.parametrize("delay", [0.001, 0.003, 0.006, 0.01, 0.02])
def test_killed_in_remove(fresh, delay):
    d = fresh
    p = d.run_pod()
    d.run(p, "sleep 100")
    f = d.cri.RemovePodSandbox.future(pod_sandbox_id=p)
    time.sleep(delay)
    d.kill()
    f.cancel()
    d.restart()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    wait_for(lambda: not d.leftovers())


def test_monitor_dies(fresh):
    d = fresh
    p = d.run_pod()
    c = d.run(p, "sleep 1000")
    e = d.run(p, "exit 5", name="e")
    d.wait_exit(e)
    (pid,) = monitors(d)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state
             == api.SANDBOX_NOTREADY)
    wait_for(lambda: monitors(d))
    assert d.status(e).exit_code == 5
    assert d.status(c).state == api.CONTAINER_RUNNING
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    assert d.status(c).state == api.CONTAINER_EXITED
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    wait_for(lambda: not d.leftovers())


def test_monitor_dies_while_nobody_serves(fresh):
    d = fresh
    p = d.run_pod()
    d.run(p, "sleep 1000")
    d.kill()
    for pid in monitors(d):
        os.kill(pid, signal.SIGKILL)
    d.restart()
    assert d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state == api.SANDBOX_NOTREADY
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    wait_for(lambda: not d.leftovers())


def test_index_is_lost(fresh):
    """What the index does not know is found by its directory, and torn down."""
    d = fresh
    p = d.run_pod()
    d.run(p, "sleep 1000")
    d.kill()
    for name in os.listdir(d.root):
        if name.startswith("index.db"):
            os.unlink(d.root + "/" + name)
    d.restart()
    wait_for(lambda: not d.leftovers())
    assert not d.cri.ListPodSandbox().items


def test_index_is_damaged(fresh):
    d = fresh
    d.stop()
    with open(d.root + "/index.db", "r+b") as f:
        f.write(b"no database" * 100)
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(d.root + "/" + name):
            os.unlink(d.root + "/" + name)
    d.restart()
    assert "was damaged" in d.log_text()
    d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod())


def test_cancelled_and_timed_out(fresh):
    d = fresh
    late = 0
    for delay in (0.001, 0.003, 0.005, 0.008, 0.011, 0.014, 0.017):
        try:  # it may be quick enough
            with d.cri.hasty() as cri:
                r = cri.RunPodSandbox(config=d.pod_config(name="slow"), rpc_timeout=delay)
            d.cri.RemovePodSandbox(pod_sandbox_id=r.pod_sandbox_id)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            late += 1
        wait_for(lambda: not d.cri.ListPodSandbox().items and not os.listdir(d.state + "/pods"))
    assert late

    def once_undone():
        try:
            return d.run_pod(name="slow")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.ALREADY_EXISTS
    p = wait_for(once_undone)
    for delay in (0.001, 0.004, 0.008):
        with d.cri.hasty() as cri:
            f = cri.CreateContainer.future(pod_sandbox_id=p, config=d.container_config("true"))
            time.sleep(delay)
            f.cancel()
        wait_for(lambda: not d.cri.ListContainers().containers or f.done())
        for x in d.cri.ListContainers().containers:
            d.cri.RemoveContainer(container_id=x.id)
        wait_for(lambda: not os.listdir(d.root + "/containers"))


def test_quick_restarts(fresh):
    """A daemon that ends in the middle of its probes leaves none that spoil its successor's."""
    def bad():
        return set(re.findall(r"runtime (\w+) is not available", fresh.log_text()))
    fresh.run_pod(name="before")  # waits for the probes
    at_first = bad()
    for i in range(8):
        fresh.restart()
        time.sleep(i * 0.01)
    fresh.run_pod(name="after")
    assert bad() == at_first


def test_drains(fresh):
    d = fresh
    p = d.run_pod()
    c = d.run(p, "sleep 100")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        f = pool.submit(d.exec, c, "sleep 0.5; echo done")
        wait_for(lambda: processes_with("sleep 0.5; echo done"))
        d.process.send_signal(signal.SIGTERM)
        assert f.result(10).stdout == b"done\n"
    assert d.process.wait(10) == 0
    assert not os.path.exists(d.address)
    d.restart()
    assert d.status(c).state == api.CONTAINER_RUNNING


def test_socket_mode_and_second_daemon(fresh):
    d = fresh
    assert os.stat(d.address).st_mode & 0o777 == 0o660
    r = subprocess.run([BUILD + "/programs/gantryd/gantryd", "--config",
                        d.config_file, "--root", d.root, "--state", d.state, "--address",
                        d.address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=20)
    assert r.returncode == 1
    assert d.cri.Version().runtime_name == "gantry"
