# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the archive, by the real CRIU where it works and by a runtime that makes up its dump
everywhere; and what is said where none can be made."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time

import grpc
import pytest

from checkpoint import GOOD, criu_path, fake_daemon
from cri import SLOW, api
from daemon import Daemon, processes_with, wait_for
from test_userns import pod_config, security

CODE = grpc.StatusCode

@pytest.fixture(scope="module")
def d(archive, tmp_path_factory):
    daemon = fake_daemon(tmp_path_factory.mktemp("checkpoint"), archive)
    yield daemon
    daemon.close()


@pytest.fixture
def pod(d, request):
    d.hook.write_text(GOOD)
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"))
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


WORK = ("mkdir -p /d/%s /d/e; echo x >/d/%s/f; ln -s ../e /d/link; ln -s %s /d/long; mkfifo /d/fifo; "
        "chown 3000000:4000000 /d/e; chmod 750 /d/e; rm /etc/group; nc -l -s 127.0.0.1 -p 1 & "
        "i=0; while true; do i=$((i+1)); echo $i >/n; sleep 0.02; done") % ("a" * 120, "a" * 120, "t" * 150)


def refused(d, ctr, location, **kw):
    with pytest.raises(grpc.RpcError) as e:
        d.cri.CheckpointContainer(container_id=ctr, location=str(location), **kw)
    assert not os.path.exists(location)
    return e.value.code(), e.value.details()


def check_archive(d, ctr, path, criu_file):
    """Whole, of this container, which runs on."""
    assert os.stat(path).st_mode & 0o7777 == 0o600
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert not os.path.exists("%s/containers/%s/checkpoint" % (d.root, ctr))
    with tarfile.open(path) as t:
        names = t.getnames()
        assert {"config.dump", "spec.dump", "rootfs-diff.tar", "deleted.files", "dump.log",
                "checkpoint"} <= set(names) and "checkpoint/" + criu_file in names
        config = json.load(t.extractfile("config.dump"))
        spec = json.load(t.extractfile("spec.dump"))
        assert json.load(t.extractfile("deleted.files")) == ["etc/group"]
        with tarfile.open(fileobj=t.extractfile("rootfs-diff.tar")) as diff:
            m = {x.name: x for x in diff}
            assert diff.extractfile("d/%s/f" % ("a" * 120)).read() == b"x\n"
            assert int(diff.extractfile("n").read() or 0) >= 0
    assert config["id"] == ctr and config["rootfsImageName"] == "test/busybox:latest"
    assert config["checkpointedTime"] > config["createdTime"] > "2020"
    assert spec["annotations"]["io.kubernetes.cri.container-name"] == config["name"]
    assert m["d/link"].issym() and m["d/link"].linkname == "../e" and m["d/fifo"].isfifo()
    assert m["d/long"].linkname == "t" * 150
    assert (m["d/e"].uid, m["d/e"].gid, m["d/e"].mode) == (3000000, 4000000, 0o750)
    assert not [x for x in m.values() if any("overlay" in k for k in x.pax_headers)]
    before = int(d.exec(ctr, "cat /n").stdout or 0)
    wait_for(lambda: int(d.exec(ctr, "cat /n").stdout or 0) > before)


def working(d, pod):
    ctr = d.run(pod, WORK)
    wait_for(lambda: d.exec(ctr, "test -e /n").exit_code == 0)
    return ctr


def test_archive(d, pod, tmp_path):
    ctr = working(d, pod)
    for _ in range(2):  # the second takes the place of the first
        d.cri.CheckpointContainer(container_id=ctr, location=str(tmp_path / "c.tar"))
        check_archive(d, ctr, str(tmp_path / "c.tar"), "pages-1.img")


def test_archive_by_criu(archive, tmp_path):
    path = criu_path()
    if not path:
        pytest.skip("no CRIU that works with this kernel (criu check), nor can tests/criu fetch one")
    d = Daemon(env={"PATH": path})
    try:
        d.load(archive)
        wait_for(lambda: any(h.name == "runc" for h in d.cri.Status().runtime_handlers))
        pod = d.run_pod(handler="runc")
        ctr = working(d, pod)
        d.cri.CheckpointContainer(container_id=ctr, location=str(tmp_path / "c.tar"), timeout=60)
        check_archive(d, ctr, str(tmp_path / "c.tar"), "pages-1.img")
        with tarfile.open(tmp_path / "c.tar") as t:
            assert b"Dumping finished successfully" in t.extractfile("dump.log").read()
    finally:
        d.close()


def test_a_dump_that_fails(d, pod, tmp_path):
    ctr = working(d, pod)
    d.hook.write_text("mkdir $images; echo '(00.1) Error (criu/x.c:7): cannot' >$work/dump.log; exit 1\n")
    code, words = refused(d, ctr, tmp_path / "c.tar")
    assert "Error (criu/x.c:7): cannot" in words and code == CODE.FAILED_PRECONDITION
    assert not os.listdir(tmp_path) and d.status(ctr).state == api.CONTAINER_RUNNING
    assert not os.path.exists("%s/containers/%s/checkpoint" % (d.root, ctr))
    d.hook.write_text(GOOD)
    code, words = refused(d, ctr, tmp_path / "not" / "there.tar")
    assert "there.tar" in words
    d.cri.CheckpointContainer(container_id=ctr, location=str(tmp_path / "c.tar"))


def test_a_dump_that_hangs(d, pod, tmp_path):
    ctr = working(d, pod)
    os.mkfifo(tmp_path / "wait")
    d.hook.write_text("mkdir $images; exec cat %s/wait\n" % tmp_path)
    began = time.monotonic()
    code, words = refused(d, ctr, tmp_path / "c.tar", timeout=1)
    assert code == CODE.DEADLINE_EXCEEDED and time.monotonic() - began < 15 * SLOW
    assert d.exec(ctr, "true").exit_code == 0 and os.listdir(tmp_path) == ["wait"]
    assert not processes_with("%s/wait" % tmp_path)


def test_its_monitor_is_killed(d, pod, tmp_path):
    ctr = working(d, pod)
    os.mkfifo(tmp_path / "wait")
    d.hook.write_text("mkdir $images; exec cat %s/wait\n" % tmp_path)
    call = d.cri.CheckpointContainer.future(container_id=ctr, location=str(tmp_path / "c.tar"))
    wait_for(lambda: processes_with("%s/wait" % tmp_path))
    for pid, cmd in processes_with(pod):
        if "gantry-monitor" in cmd:
            with contextlib.suppress(ProcessLookupError):  # its jobs end with the first of them
                os.kill(pid, signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        call.result(20 * SLOW)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert not os.listdir(d.root + "/containers") and os.listdir(tmp_path) == ["wait"]
    wait_for(lambda: not processes_with("%s/wait" % tmp_path))


def test_refused(d, pod, tmp_path):
    ctr = d.create(pod, "true")
    assert refused(d, ctr, tmp_path / "c")[0] == CODE.FAILED_PRECONDITION
    assert refused(d, "none", tmp_path / "c")[0] == CODE.NOT_FOUND
    for kw in ({"location": "relative"}, {"location": str(tmp_path / "c"), "timeout": -1}):
        with pytest.raises(grpc.RpcError) as e:
            d.cri.CheckpointContainer(container_id=ctr, **kw)
        assert e.value.code() == CODE.INVALID_ARGUMENT
    mapped = d.run_pod(pod_config(d, "mapped"))
    code, words = refused(d, d.run(mapped, "sleep 1000", linux=security()), tmp_path / "c")
    assert code == CODE.UNIMPLEMENTED and "user namespace" in words
    d.cri.RemovePodSandbox(pod_sandbox_id=mapped)


def test_the_reason_is_the_runtimes(d, tmp_path):
    if not subprocess.run(["crun", "checkpoint", "--help"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this crun can")
    pod = d.run_pod(handler="crun")
    code, words = refused(d, d.run(pod, "sleep 1000"), tmp_path / "c")
    assert code == CODE.UNIMPLEMENTED and "checkpoint: unknown command" in words
    found = {r["name"]: r.get("checkpoints", "") for r in
             json.loads(d.cri.Status(verbose=True).info["config"])["runtimes"]}
    assert found["crun"] in words and not found["fake"]
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


@pytest.mark.parametrize("script,words", [
    ("echo 'Error (criu/x.c:1): the kernel lacks it' >&2; exit 1",
     "criu check: Error (criu/x.c:1): the kernel lacks it"),
    ("sleep 1000", "it does not come to an end"),
    (None, "CRIU is not installed")], ids=["fails", "hangs", "none"])
def test_what_the_probe_finds_of_criu(archive, tmp_path, script, words):
    """With a criu of the test's own; one that hangs keeps no runtime from being used."""
    if not script and shutil.which("criu", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("criu is installed, where programs are looked for besides PATH")
    for name in ("runc", "sh", "sleep", "ip", "iptables", "nft"):
        if shutil.which(name):
            os.symlink(shutil.which(name), tmp_path / name)
    if script:
        (tmp_path / "criu").write_text("#!/bin/sh\n%s\n" % script)
        (tmp_path / "criu").chmod(0o755)
    d = Daemon(config="runtimes: {runc: {path: runc}}\ndefault_runtimes: [runc]\n",
               env={"PATH": str(tmp_path)})
    try:
        d.load(archive)
        wait_for(lambda: any(c.status for c in d.cri.Status().status.conditions
                             if c.type == "RuntimeReady"), timeout=60)
        code, text = refused(d, d.run(d.run_pod(), "sleep 1000"), tmp_path / "c")
        assert code == CODE.UNIMPLEMENTED and words in text
    finally:
        d.close()
