# SPDX-License-Identifier: Apache-2.0
"""Logs that are rotated, as the kubelet does it, while a container writes as fast as it can: every line
is there once, in its order."""
import os

import grpc
import pytest

from cri import api
from daemon import wait_for

LINES = 300000  # of each stream
BOTH = "seq 1 %d & seq 1 %d >&2; wait" % (LINES, LINES)


def rotated(path):
    """Files of a log, oldest first."""
    names = [n for n in os.listdir(os.path.dirname(path)) if n.startswith(os.path.basename(path) + ".")]
    return [path + "." + n for n in sorted((n.rsplit(".", 1)[1] for n in names), key=int)] + [path]


def lines(paths):
    """The numbers in each stream, and that no line was cut."""
    found = {"stdout": [], "stderr": []}
    for path in paths:
        with open(path) as f:
            for line in f:
                assert line.endswith("\n"), (path, line)
                _, stream, tag, text = line.split(" ", 3)
                assert tag == "F", (path, line)
                found[stream].append(int(text))
    return found


def rotate(d, ctr, path, n):
    """Rename and reopen; what was written between the two is in the renamed file."""
    os.rename(path, "%s.%d" % (path, n))
    try:
        d.cri.ReopenContainerLog(container_id=ctr)
    except grpc.RpcError as e:  # it has ended meanwhile
        assert e.code() == grpc.StatusCode.FAILED_PRECONDITION
        return False
    assert os.path.exists(path), "the new file is there when the call returns"
    return True


def check(d, ctr, path, rotations):
    d.wait_exit(ctr, timeout=120)
    files = [p for p in rotated(path) if os.path.exists(p)]
    assert rotations > 5 and sum(os.path.getsize(p) > 0 for p in files) > 5, rotations
    found = lines(files)
    for stream in found:
        assert found[stream] == list(range(1, LINES + 1)), stream


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_rotated_many_times(d, runtime):
    pod = d.run_pod(name="rotated-" + runtime, handler=runtime)
    ctr = d.run(pod, BOTH)
    path, n = d.status(ctr).log_path, 0
    while d.status(ctr).state == api.CONTAINER_RUNNING:
        before = os.path.getsize(path) if os.path.exists(path) else 0
        wait_for(lambda: os.path.getsize(path) > before or
                 d.status(ctr).state != api.CONTAINER_RUNNING, every=0.0005)
        n += 1
        if not rotate(d, ctr, path, n):
            break
    check(d, ctr, path, n)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_rotated_while_the_daemon_is_killed(fresh):
    """The monitor writes on; a new daemon's reopening goes on where the old one's ended."""
    d = fresh
    ctr = d.run(d.run_pod(), BOTH)
    path, n = d.status(ctr).log_path, 0
    while d.status(ctr).state == api.CONTAINER_RUNNING:
        n += 1
        os.rename(path, "%s.%d" % (path, n))
        if n in (1, 5, 9):
            d.kill()
            d.start()
        try:
            d.cri.ReopenContainerLog(container_id=ctr)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.FAILED_PRECONDITION
            break
    check(d, ctr, path, n)


def test_removed_and_reopened(d):
    """What a rotation removed is not missed; the rest is whole."""
    pod = d.run_pod(name="removed")
    ctr = d.run(pod, "i=0; until [ -e /stop ]; do i=$((i+1)); echo $i; done; echo $i >/last; sleep 1000")
    path = d.status(ctr).log_path
    wait_for(lambda: os.path.getsize(path) > 0)
    os.unlink(path)
    d.cri.ReopenContainerLog(container_id=ctr)
    wait_for(lambda: os.path.getsize(path) > 0)
    d.exec(ctr, "touch /stop; until [ -s /last ]; do sleep 0.01; done")
    last = int(d.exec(ctr, "cat /last").stdout)
    wait_for(lambda: " %d\n" % last in open(path).read())
    found = lines([path])["stdout"]
    assert found == list(range(found[0], last + 1))
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
