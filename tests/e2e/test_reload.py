# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: the configuration is read anew, as a whole or not at all; what runs stays in hand."""
import json
import os
import shutil
import signal
import threading

import grpc
import pytest

from cri import api
from daemon import processes_with, wait_for

RUNTIMES = "runtimes:\n  crun:\n    path: crun\n  runc:\n    path: runc\n"
DONE, FAILED = "the configuration has been reloaded", "the configuration stays as it was: "


def reload(d, config, said=DONE):
    """Returns what the daemon has said of it."""
    d.set_config(config)
    before = d.log_text()
    d.process.send_signal(signal.SIGHUP)
    return wait_for(lambda: d.log_text() if d.log_text().count(said) > before.count(said)
                    else None)[len(before):]


def code(call):
    with pytest.raises(grpc.RpcError) as e:
        call()
    return e.value.code(), e.value.details()


def runtimes(d):
    config = json.loads(d.cri.Status(verbose=True).info["config"])
    return {r["name"]: r for r in config["runtimes"]}


@pytest.fixture
def other(tmp_path):
    """Another program than crun's that does what crun does."""
    path = str(tmp_path / "other")
    with open(path, "w") as f:
        f.write('#!/bin/sh\n[ "$1" = --mine ] && shift\nexec %s "$@"\n' % shutil.which("crun"))
    os.chmod(path, 0o755)
    return path


def with_other(path):
    return RUNTIMES + "  other:\n    path: %s\n    args: [--mine]\n" % path


def test_settings_change_for_what_comes(d):
    pod = d.run_pod(name="before")
    reload(d, "default_runtimes: [runc]\ncontainer:\n  pids_limit: 77\n"
              "  default_ulimits: [\"nofile=123:234\"]\nlog: {level: debug}\n")
    assert d.info(pod)["runtime"] == os.environ.get("GANTRY_TEST_RUNTIME", "crun")
    after = d.run_pod(name="after")
    assert d.info(after)["runtime"] == "runc"
    ctr = d.run(after, "ulimit -Hn; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; "
                       "sleep 1000")
    wait_for(lambda: {"234", "77"} <= set(d.read_log(d.status(ctr).log_path).split()))
    wait_for(lambda: "Status took" in (d.cri.Status() and d.log_text()))  # at level debug
    reload(d, "")
    assert d.info(d.run_pod(name="again"))["runtime"] == os.environ.get("GANTRY_TEST_RUNTIME", "crun")


def test_a_bad_file_changes_nothing(d):
    reload(d, "default_runtimes: [runc]\n")
    d.set_config("default_runtimes: [crun]\nlog: {level: loud}\n")
    line = open(d.config_file).read()[:open(d.config_file).read().index("log:")].count("\n") + 1
    said = reload(d, "default_runtimes: [crun]\nlog: {level: loud}\n", FAILED)
    assert '%s:%d: log.level: found "loud", expected error, warn, info or debug' % (
        d.config_file, line) in said
    assert d.info(d.run_pod(name="bad"))["runtime"] == "runc"
    os.rename(d.config_file, d.config_file + ".away")
    before = d.log_text().count(FAILED)
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: d.log_text().count(FAILED) > before)
    assert d.config_file in d.log_text().rsplit(FAILED, 1)[1].split("\n")[0]
    assert d.info(d.run_pod(name="gone"))["runtime"] == "runc"
    reload(d, "")


def test_what_needs_a_restart_is_named(d):
    said = reload(d, "limits: {max_requests: 77}\ncgroup: {parent: /elsewhere}\n"
                     "streaming: {port: 1, max_connections: 7}\n")
    assert "settings that need a restart are as they were: " \
        "cgroup.parent, streaming.port, limits.max_requests\n" in said
    pod = d.run_pod(name="fixed")
    assert "/elsewhere" not in str(d.info(pod))
    assert "need a restart" not in reload(d, "")


def test_a_runtime_comes_and_is_probed_first(d, other):
    reload(d, with_other(other))
    pod = d.run_pod(name="new", handler="other")  # waits for its probe
    d.run(pod, "sleep 1000")
    assert runtimes(d)["other"]["available"]
    with open(other, "w") as f:
        f.write("#!/bin/sh\nexit 1\n")
    reload(d, with_other(other).replace("--mine", "--other"))  # and once it has changed
    assert code(lambda: d.run_pod(name="broken", handler="other"))[0] == \
        grpc.StatusCode.FAILED_PRECONDITION
    reload(d, "")
    assert code(lambda: d.run_pod(name="none", handler="other"))[0] == \
        grpc.StatusCode.INVALID_ARGUMENT


def check_in_hand(d, ctr):
    assert d.exec(ctr, "echo here").stdout == b"here\n"
    assert d.cri.ContainerStats(container_id=ctr).stats.attributes.id == ctr
    d.cri.UpdateContainerResources(container_id=ctr, linux=api.LinuxContainerResources(
        cpu_shares=512))


def test_a_runtime_that_is_gone_keeps_its_containers(fresh, other):
    """Stopped, asked, started and removed: with what they were made with, after a restart too."""
    d = fresh
    reload(d, with_other(other))
    pod = d.run_pod(name="kept", handler="other")
    running, late, created, last = (d.create(pod, "sleep 1000", name=n)
                                    for n in ("running", "late", "created", "last"))
    d.cri.StartContainer(container_id=running)
    d.cri.StartContainer(container_id=late)
    d.cri.StartContainer(container_id=last)
    reload(d, "")
    assert "other" not in runtimes(d)
    check_in_hand(d, running)
    d.cri.StartContainer(container_id=created)
    assert code(lambda: d.create(pod, "true", name="more")) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        'runtime "other" of pod sandbox %s is not configured any more' % pod)
    d.restart()
    for ctr in (running, late, created):
        check_in_hand(d, ctr)
    d.cri.StopContainer(container_id=running, timeout=0)
    d.cri.RemoveContainer(container_id=running)
    d.cri.RemoveContainer(container_id=created)  # while it runs
    # Without its monitor and what that had written down, the daemon's word has to do.
    d.kill()
    for pid, cmd in processes_with(d.state):
        if "gantry-monitor " + pod in cmd:
            os.kill(pid, signal.SIGKILL)
    os.unlink(d.state + "/pods/%s/containers/%s/create" % (pod, last))
    d.start()
    d.cri.RemoveContainer(container_id=last)
    assert os.listdir(d.state + "/runtime/other") == [late]
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert os.listdir(d.state + "/runtime/other") == []


def test_under_load(d, other):
    """Requests that are under way keep the configuration that they began with."""
    stop, errors, made = threading.Event(), [], []

    def work(i):
        n = 0
        while not stop.is_set():
            try:
                pod = d.run_pod(name="load-%d-%d" % (i, n), handler="runc" if i else "crun")
                ctr = d.run(pod, "echo x")
                d.wait_exit(ctr)
                d.cri.RemovePodSandbox(pod_sandbox_id=pod)
                made.append(pod)
                n += 1
            except Exception as e:  # told by the test's own thread
                errors.append(e)
                return
    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    try:
        for i in range(8):
            if i % 2:
                reload(d, "runtimes: 1\n", FAILED)
            else:
                reload(d, with_other(other) if i % 4 else "")
        wait_for(lambda: len(made) > 3 or errors, timeout=60)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not errors
    reload(d, "")
