# SPDX-License-Identifier: Apache-2.0
"""Every fault point of every program, one after the other: killed there, restarted, all is
reconciled, what the kubelet does next succeeds, and nothing is left."""
import glob
import io
import json
import os
import subprocess
import tarfile

import grpc
import pytest

import frames
import runtimes
from checkpoint import fake_daemon
from daemon import BUILD, Daemon, wait_for
from kubelet import LONG, Kubelet, Registry, clean, daemon, small_image

PROGRAMS = ("gantryd", "gantry-monitor", "gantry-worker")


def points():
    names = []
    for p in PROGRAMS:
        r = subprocess.run(["%s/programs/%s/%s" % (BUILD, p, p), "--fault-points"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if r.returncode:
            return []
        names += r.stdout.split()
    return sorted(set(names))


POINTS = points()


def test_there_are_points():
    if not POINTS:
        pytest.skip("this build has no fault points (meson setup -Dtest_hooks=true)")
    assert len(POINTS) > 50


@pytest.fixture(scope="module")
def registry():
    r = Registry(small_image())
    yield r
    r.close()


def restart_at(d, point):
    """Killed while it takes over what runs."""
    d.kill()
    d.env["GANTRY_FAULT"] = point
    d.start(wait=False)
    d.process.wait(20)
    d.start()


def damaged_and_repaired(k, archive):
    """A layer that the disk has changed: found, not used, and made anew by the next load."""
    d = k.d
    passwd, = glob.glob(d.root + "/layers/*/etc/passwd")
    with open(passwd, "a") as f:
        f.write("nobody:wrote:this")
    k.attempt(lambda: list(d.cri.Verify()))
    assert len(d.cri.ListImages().images) == 1
    k.attempt(lambda: d.load(archive))
    assert len(d.cri.ListImages().images) == 2
    verdicts = k.attempt(lambda: list(d.cri.Verify()))
    assert [m.state for m in verdicts if not m.HasField("progress")] == ["good", "good"]


def saved_and_imported(k, ref, tmp_path):
    """An image comes out whole, and its layer goes in again as another image's."""
    d = k.d

    def save():
        data = b"".join(m.data for m in d.cri.Save(images=[ref]))
        with tarfile.open(fileobj=io.BytesIO(data)) as t:
            return {m.name: t.extractfile(m).read() for m in t if m.isreg()}
    files = k.attempt(save)
    layer, = json.loads(files["manifest.json"])[0]["Layers"]
    rootfs = tmp_path / "rootfs.tar"
    rootfs.write_bytes(files[layer] + bytes(512))  # not the same layer
    k.attempt(lambda: list(d.cri.Import(path=str(rootfs), tags=["crash/imported:1"])))
    im = d.cri.ImageStatus(image={"image": "crash/imported:1"}).image
    assert list(im.repo_tags) == ["docker.io/crash/imported:1"]
    k.attempt(lambda: d.cri.RemoveImage(image={"image": "crash/imported:1"}))
    for other in d.cri.ListImages().images:  # a try that was killed late has made one, too
        if not other.repo_tags and not other.repo_digests:
            k.attempt(lambda: d.cri.RemoveImage(image={"image": other.id}))
    assert len(d.cri.ListImages().images) == 2


OF_USERNS = "job.userns."  # reached by pods with a user namespace only
CHANGED = (OF_USERNS, "job.create.", "job.set-up.", "job.init.")  # go another way for them
WITH = [(p, True) for p in POINTS if p.startswith(CHANGED)]
OF_CHECKPOINT = "job.checkpoint."
OF_RESTORE = ("job.restore.", "worker.restore.")  # by containers made of a checkpoint
OF_SANDBOX = ("daemon.bind.", "monitor.wait.", "monitor.signal.", "job.wait.", "job.signal.")  # below
OF_FALLBACK = "daemon.fallback."  # where a runtime has failed: tests/e2e/test_routing.py
ELSEWHERE = (OF_USERNS, OF_CHECKPOINT, OF_FALLBACK, *OF_RESTORE, *OF_SANDBOX)
WITHOUT = [(p, False) for p in POINTS if not p.startswith(ELSEWHERE)]
AT_RESTORE = [p for p in POINTS if p.startswith(OF_RESTORE)] + [
    "daemon.create.row", "daemon.create.made", "daemon.start.started", "job.create.snapshot",
    "monitor.create.done", "monitor.start.done"]


@pytest.mark.parametrize("point,userns", WITHOUT + WITH,
                         ids=lambda v: v if isinstance(v, str) else "userns" if v else "plain")
def test_killed_at(point, userns, archive, registry, tmp_path):
    mark = str(tmp_path / "mark")
    recovery = point.startswith("daemon.recover")
    env = {"GANTRY_FAULT_MARK": mark, "GANTRY_LIBEXEC": frames.stand_in(str(tmp_path))}
    if not recovery:
        env["GANTRY_FAULT"] = point
    d = daemon(env)
    try:
        k = Kubelet(d, userns=userns)
        k.attempt(lambda: d.load(archive))
        k.attempt(lambda: d.cri.PullImage(image={"image": registry.ref}))
        assert len(d.cri.ListImages().images) == 2
        for ref in ("test/busybox:latest", registry.ref):  # the second takes it from the first
            k.attempt(lambda: list(d.cri.Tag(source=ref, targets=["crash/tag:1"])))
            named = d.cri.ImageStatus(image={"image": "crash/tag:1"}).image
            assert named.id == d.cri.ImageStatus(image={"image": ref}).image.id
        damaged_and_repaired(k, archive)
        saved_and_imported(k, registry.ref, tmp_path)
        k.up()
        if recovery:
            restart_at(d, point)
            k.up()
        k.stopped()
        k.removed()
        k.attempt(lambda: d.cri.RemoveImage(image={"image": registry.ref}))
        assert len(d.cri.ListImages().images) == 1
        clean(d)
        assert os.path.exists(mark), "the point was never reached"
    finally:
        d.env.pop("GANTRY_FAULT", None)
        d.close()


def restored(d, path, n, dies):
    """A container made of the archive runs in a pod of its own, unless something is killed; `dies`: then
    it is the daemon."""
    pod = d.run_pod(name="restored%d" % n)
    try:
        ctr = d.create(pod, config=d.container_config("sleep 1000", image=path))
        d.cri.StartContainer(container_id=ctr)
        assert d.exec(ctr, "cat /made").stdout == b"yes\n"
        return True
    except grpc.RpcError:
        if dies:
            d.process.wait(20)
            d.cri.close()
            d.start()
        return False
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
        assert os.listdir(d.root + "/containers") == []


@pytest.mark.parametrize("point", AT_RESTORE if POINTS else [])
def test_killed_at_restore(point, archive, tmp_path):
    mark, path = str(tmp_path / "mark"), str(tmp_path / "c.tar")
    d = fake_daemon(tmp_path, archive, env={"GANTRY_FAULT_MARK": mark})
    try:
        pod = d.run_pod()
        ctr = d.run(pod, "echo yes >/tmp/m; mv /tmp/m /made; sleep 1000")
        wait_for(lambda: d.exec(ctr, "test -e /made").exit_code == 0)
        d.cri.CheckpointContainer(location=path, container_id=ctr)
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
        d.stop()
        d.env["GANTRY_FAULT"] = point
        d.start()
        assert not restored(d, path, 0, point.startswith("daemon."))
        assert os.path.exists(mark), "the point was never reached"
        assert restored(d, path, 1, False)
        clean(d)
    finally:
        d.env.pop("GANTRY_FAULT", None)
        d.close()


@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith(OF_CHECKPOINT)])
def test_killed_at_checkpoint(point, archive, tmp_path):
    """What was paused for it goes on."""
    mark, path = str(tmp_path / "mark"), str(tmp_path / "c.tar")
    d = fake_daemon(tmp_path, archive, env={"GANTRY_FAULT_MARK": mark, "GANTRY_FAULT": point})
    try:
        ctr = d.run(d.run_pod(), LONG)
        with pytest.raises(grpc.RpcError):
            d.cri.CheckpointContainer(location=path, container_id=ctr)
        assert os.path.exists(mark) and not os.path.exists(path)
        log = d.status(ctr).log_path
        before = os.path.getsize(log)
        wait_for(lambda: os.path.getsize(log) > before + 1000)
        assert os.listdir("%s/containers/%s" % (d.root, ctr)).count("checkpoint") == 0
        d.cri.CheckpointContainer(location=path, container_id=ctr)
        d.cri.StopContainer(container_id=ctr, timeout=20)
        assert d.status(ctr).exit_code == 7
    finally:
        d.env.pop("GANTRY_FAULT", None)
        d.close()


@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith(OF_SANDBOX)])
def test_killed_at_sandbox(point, archive, tmp_path):
    """Pods that their runtime sandboxes: what makes the sandbox is done with any runtime; what asks for
    containers that have no process of their own is gVisor's."""
    try:
        config = runtimes.settings("crun" if point.startswith("daemon.") else "runsc")
    except runtimes.Unavailable as e:
        pytest.skip(str(e))
    mark = str(tmp_path / "mark")
    if "unit:" not in config:
        config = config.replace("default_runtimes:", "    unit: pod\ndefault_runtimes:")
    d = Daemon(config, env={"GANTRY_FAULT_MARK": mark, "GANTRY_FAULT": point})
    try:
        k = Kubelet(d)
        k.attempt(lambda: d.load(archive))
        k.up()
        k.attempt(lambda: d.cri.StopContainer(container_id=k.long, timeout=20))
        code = k.attempt(lambda: d.status(k.long)).exit_code
        # Its process' own, or nobody saw it; the runtime knows it also when nobody saw it.
        assert code == 7 or (code in (137, 255) and point.startswith("daemon."))
        k.removed()
        clean(d)
        assert os.path.exists(mark), "the point was never reached"
    finally:
        d.env.pop("GANTRY_FAULT", None)
        d.close()
