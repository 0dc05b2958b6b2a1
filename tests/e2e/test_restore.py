# SPDX-License-Identifier: Apache-2.0
"""Containers made of checkpoints: archives and images, by the real CRIU where it works and by a runtime
that begins anew everywhere; and what is said of those that none can be made of."""
import gzip
import io
import json
import os
import re
import signal
import subprocess
import tarfile

import grpc
import pytest

import image
from checkpoint import CORE, INVENTORY, GOOD, NAME, as_image, changed, criu_path, fake_daemon, rewrite
from cri import SLOW, api
from daemon import BUILD, Daemon, processes_with, wait_for
from registry import Registry
from test_streaming import attach
from test_userns import pod_config

CODE = grpc.StatusCode
# Counts, in memory and in a file that a container which begins anew goes on from.
COUNT = "i=$(cat /n 2>/dev/null || echo 0); while true; do i=$((i+1)); echo $i >/m && mv /m /n; " \
        "echo $i; sleep 0.02; done"
MAKE = "mkdir -p /d/e; echo x >/d/f; ln -s ../e /d/link; chown 3000000:4000000 /d/e; chmod 750 /d/e; " \
       "rm /etc/group; rm -r /usr/share/dir; mkdir /usr/share/dir; mkfifo /d/fifo; "


@pytest.fixture(scope="module")
def busybox_with_dir(busybox):
    t = image.Layer()
    for name in ("usr", "usr/share", "usr/share/dir"):
        t.dir(name)
    t.add("usr/share/dir/below", b"of the image")
    config = dict(json.loads(busybox.config)["config"], Cmd=["sh", "-c", COUNT])
    return image.Image(busybox.tars + [t.bytes()], config=config)


@pytest.fixture(scope="module")
def d(busybox_with_dir, tmp_path_factory):
    top = tmp_path_factory.mktemp("restore")
    busybox_with_dir.docker_archive(str(top / "image.tar"), ["test/busybox:latest"])
    daemon = fake_daemon(top, str(top / "image.tar"), "container: {restore_images: true}\n")
    yield daemon
    daemon.close()


def count(d, ctr):
    return int(d.exec(ctr, "cat /n").stdout or 0)


def checkpoint(d, path, pod=None, command=MAKE + COUNT, **kw):
    """Of a container that has been at work, and is gone with its pod. How far it had come."""
    pod = pod or d.run_pod(name="origin")
    ctr = d.run(pod, command, **kw)
    wait_for(lambda: count(d, ctr) > 3)
    d.cri.CheckpointContainer(container_id=ctr, location=str(path))
    with tarfile.open(path) as t, tarfile.open(fileobj=t.extractfile("rootfs-diff.tar")) as diff:
        n = int(diff.extractfile("n").read())
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    return n


@pytest.fixture(scope="module")
def origin(d, tmp_path_factory):
    """(archive, how far its container had come)"""
    path = tmp_path_factory.mktemp("origin") / "c.tar"
    d.hook.write_text(GOOD)
    return str(path), checkpoint(d, path)


@pytest.fixture
def pod(d, request):
    d.hook.write_text(GOOD)
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"))
    yield p
    if d.hook_restore.exists():
        d.hook_restore.unlink()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert os.listdir(d.root + "/containers") == []


def create(d, pod, of, **kw):
    return d.create(pod, config=d.container_config(kw.pop("command", COUNT), image=str(of), **kw))


def refused(d, pod, of, **kw):
    with pytest.raises(grpc.RpcError) as e:
        create(d, pod, of, **kw)
    assert os.listdir(d.root + "/containers") == []
    assert not d.cri.ListContainers(filter={"pod_sandbox_id": pod}).containers
    return e.value.code(), e.value.details()


def logged(d, ctr):
    """The numbers in the log of one that writes on: its whole lines."""
    with open(d.status(ctr).log_path) as f:
        lines = [x.split(" ", 3) for x in f.read().split("\n")[:-1]]
    return [int(x[3]) for x in lines if x[1] == "stdout"]


def check_restored(d, ctr, n):
    """It goes on from where it was, with the files that it had."""
    wait_for(lambda: count(d, ctr) > n)
    out = d.exec(ctr, "ls -ldn /d/e; cat /d/f; readlink /d/link; ls /usr/share/dir; ls -l /d/fifo").stdout
    lines = out.decode().split("\n")
    assert lines[0].split()[:4] == ["drwxr-x---", "2", "3000000", "4000000"]
    assert lines[1:3] == ["x", "../e"] and lines[3].startswith("p")
    assert d.exec(ctr, "test -e /etc/group").exit_code == 1
    assert d.exec(ctr, "test -e /etc/passwd").exit_code == 0
    assert not os.path.exists("%s/containers/%s/restore" % (d.root, ctr))
    log = logged(d, ctr)
    assert log[0] >= n and log == list(range(log[0], log[0] + len(log)))


def test_restored(d, origin, pod):
    path, n = origin
    ctr = create(d, pod, path)
    s = d.status(ctr)
    assert s.state == api.CONTAINER_CREATED and s.image.image == path
    assert s.image_ref == "docker.io/test/busybox:latest"
    assert s.image_id == d.cri.ImageStatus(image={"image": "test/busybox"}).image.id
    assert os.path.exists("%s/containers/%s/restore/checkpoint/inventory.img" % (d.root, ctr))
    d.cri.ContainerStats(container_id=ctr)
    d.cri.StartContainer(container_id=ctr)
    assert d.status(ctr).state == api.CONTAINER_RUNNING
    check_restored(d, ctr, n)
    with pytest.raises(grpc.RpcError):
        d.cri.StartContainer(container_id=ctr)
    d.cri.StopContainer(container_id=ctr, timeout=0)
    s = d.status(ctr)
    assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 137, "Error")
    d.cri.RemoveContainer(container_id=ctr)
    assert os.listdir(d.root + "/containers") == []


def test_its_mounts_are_the_requests(d, pod, tmp_path):
    for name in ("a", "b", "more"):
        (tmp_path / name).mkdir()
    before, = checkpoint(d, tmp_path / "c.tar", mounts=[
        api.Mount(container_path="/data", host_path=str(tmp_path / "a"))]),
    code, words = refused(d, pod, tmp_path / "c.tar")
    assert code == CODE.FAILED_PRECONDITION and words.endswith("not to have: /data")
    ctr = create(d, pod, tmp_path / "c.tar", command="touch /data/here; " + COUNT, mounts=[
        api.Mount(container_path="/data", host_path=str(tmp_path / "b")),
        api.Mount(container_path="/more", host_path=str(tmp_path / "more"))])
    assert "container %s has no mount on /more: " % ctr in d.log_text()
    d.cri.StartContainer(container_id=ctr)
    wait_for(lambda: (tmp_path / "b" / "here").exists())
    assert not os.listdir(tmp_path / "a") and count(d, ctr) >= before


def test_as_containerd_writes_it(d, origin, pod, tmp_path):
    """Compressed, with whiteouts instead of a list."""
    with tarfile.open(origin[0]) as t:
        (tmp_path / "diff.tar").write_bytes(t.extractfile("rootfs-diff.tar").read())
    with tarfile.open(tmp_path / "diff.tar", "a") as t:
        t.addfile(tarfile.TarInfo("etc/.wh.group"))
    path = rewrite(origin[0], tmp_path / "c.tar", drop=["deleted.files"], **{
        "rootfs-diff.tar": gzip.compress((tmp_path / "diff.tar").read_bytes())})
    with open(path, "rb") as f:
        (tmp_path / "c.tar.gz").write_bytes(gzip.compress(f.read()))
    ctr = create(d, pod, tmp_path / "c.tar.gz")
    d.cri.StartContainer(container_id=ctr)
    check_restored(d, ctr, origin[1])


@pytest.mark.parametrize("key", [NAME, "org.criu.checkpoint.container.name"])
def test_of_an_image(d, origin, pod, key):
    path, n = origin
    with Registry() as registry:
        ref = registry.add(as_image(path, **{key: "counter"}), "made/checkpoint")
        d.cri.PullImage(image={"image": ref})
    try:
        info = d.cri.ImageStatus(image={"image": ref}, verbose=True).info["info"]
        assert json.loads(info)["checkpoint"] == "counter"
        ctr = create(d, pod, ref)
        assert d.status(ctr).image_ref == "docker.io/test/busybox:latest"
        d.cri.RemoveImage(image={"image": ref})  # nothing of it is needed any more
        d.cri.StartContainer(container_id=ctr)
        check_restored(d, ctr, n)
    finally:
        d.cri.RemoveImage(image={"image": ref})


def test_of_a_loaded_image(d, origin, pod, tmp_path):
    path, n = origin
    as_image(path, **{NAME: "c"}).oci_archive(str(tmp_path / "oci.tar"), "test/loaded:1")
    d.load(str(tmp_path / "oci.tar"))
    ctr = create(d, pod, "test/loaded:1")
    d.cri.StartContainer(container_id=ctr)
    check_restored(d, ctr, n)
    d.cri.RemoveImage(image={"image": "test/loaded:1"})


def test_images_are_not_trusted_by_default(archive, origin, tmp_path):
    as_image(origin[0], **{NAME: "counter"}).oci_archive(str(tmp_path / "oci.tar"), "test/loaded:1")
    d = fake_daemon(tmp_path, archive)
    try:
        d.load(str(tmp_path / "oci.tar"))
        code, words = refused(d, d.run_pod(), "test/loaded:1")
        assert code == CODE.FAILED_PRECONDITION
        assert "counter" in words and "container.restore_images" in words
    finally:
        d.close()


# --- what no container can be made of ---

def link(target):
    t = tarfile.TarInfo()
    t.type, t.linkname = tarfile.SYMTYPE, target
    return t


def short(path, to):
    with open(path, "rb") as f:
        data = f.read()
    to.write_bytes(data[:len(data) // 2])
    return str(to)


def garbage(path, to):
    to.write_bytes(b"no archive at all" * 1000)
    return str(to)


def of_other(name):
    def fn(doc):
        doc["rootfsImage"] = "sha256:" + "ab" * 32
        del doc["rootfsImageRef"]
        doc["rootfsImageName"] = name
    return fn


BAD = {
    "mounts": (lambda p, to: rewrite(p, to, **changed(p, "spec.dump", lambda s: s["mounts"].extend(
        {"destination": "/%04d/" % i + "x" * 1000, "type": "bind"} for i in range(300)))),
        CODE.INVALID_ARGUMENT, "spec.dump"),
    "garbage": (garbage, CODE.DATA_LOSS, "no well-formed tar"),
    "cut": (short, CODE.DATA_LOSS, "bad.tar"),
    "no config": (lambda p, to: rewrite(p, to, drop=["config.dump"]), CODE.INVALID_ARGUMENT,
                  "config.dump"),
    "no spec": (lambda p, to: rewrite(p, to, drop=["spec.dump"]), CODE.INVALID_ARGUMENT, "spec.dump"),
    "bad config": (lambda p, to: rewrite(p, to, **{"config.dump": b"[1"}), CODE.INVALID_ARGUMENT,
                   "config.dump"),
    "bad spec": (lambda p, to: rewrite(p, to, **{"spec.dump": b"[]"}), CODE.INVALID_ARGUMENT,
                 "spec.dump"),
    "no inventory": (lambda p, to: rewrite(p, to, drop=["checkpoint/inventory.img"]),
                     CODE.INVALID_ARGUMENT, "inventory.img"),
    "link": (lambda p, to: rewrite(p, to, **{"checkpoint/inventory.img": link("/etc/passwd")}),
             CODE.INVALID_ARGUMENT, "inventory.img"),
    "no process": (lambda p, to: rewrite(p, to, drop=["checkpoint/core-1.img"]),
                   CODE.INVALID_ARGUMENT, "core-"),
    "bad process": (lambda p, to: rewrite(p, to, **{"checkpoint/core-1.img": b"\0" * 64}),
                    CODE.INVALID_ARGUMENT, "core-"),
    "other machine": (lambda p, to: rewrite(p, to, **{"checkpoint/core-1.img": CORE + b"\x05"}),
                      CODE.FAILED_PRECONDITION, "another architecture (s390x)"),
    "no image": (lambda p, to: rewrite(p, to, **changed(p, "config.dump", of_other("a/b:1"))),
                 CODE.NOT_FOUND, "%s (a/b:1)" % ("sha256:" + "ab" * 32)),
    "no name": (lambda p, to: rewrite(p, to, **{"config.dump": b"{}"}), CODE.INVALID_ARGUMENT,
                "does not say of which image"),
    "deleted": (lambda p, to: rewrite(p, to, **{"deleted.files": b'["a/.."]'}), CODE.DATA_LOSS, "a/.."),
    "diff": (lambda p, to: rewrite(p, to, **{"rootfs-diff.tar": b"x" * 1024}), CODE.DATA_LOSS,
             "rootfs-diff.tar"),
    "user namespace": (lambda p, to: rewrite(p, to, **changed(
        p, "spec.dump", lambda s: s["linux"]["namespaces"].append({"type": "user"}))),
        CODE.FAILED_PRECONDITION, "user namespace"),
    "pids": (lambda p, to: rewrite(p, to, **changed(
        p, "spec.dump", lambda s: s["linux"].update(namespaces=[]))),
        CODE.FAILED_PRECONDITION, "PID namespace"),
}


@pytest.mark.parametrize("what", BAD)
def test_damaged(d, origin, pod, tmp_path, what):
    make, code, words = BAD[what]
    got, text = refused(d, pod, make(origin[0], tmp_path / "bad.tar"))
    assert got == code and words in text, text
    assert "config.image.image" in text or "PID" in text


def test_of_nothing(d, pod, tmp_path):
    assert refused(d, pod, tmp_path / "none.tar")[0] == CODE.NOT_FOUND
    code, words = refused(d, pod, tmp_path)
    assert code == CODE.INVALID_ARGUMENT and "directory" in words
    os.mkfifo(tmp_path / "fifo")
    assert refused(d, pod, tmp_path / "fifo")[0] == CODE.INVALID_ARGUMENT
    assert refused(d, pod, "/tmp/../a")[0] == CODE.INVALID_ARGUMENT


def hostile_diff():
    """Names and links that lead out of a root file system, if somebody followed them."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for name, kind, target in (("out", tarfile.SYMTYPE, "/"), ("up", tarfile.SYMTYPE, "../../../.."),
                                   ("dir", tarfile.DIRTYPE, "")):
            i = tarfile.TarInfo(name)
            i.type, i.linkname, i.mode = kind, target, 0o755
            t.addfile(i)
        for name in ("../../escaped", "out/tmp/gantry-escaped", "up/tmp/gantry-escaped", "dir/../../x"):
            i = tarfile.TarInfo(name)
            i.size = 3
            t.addfile(i, io.BytesIO(b"out"))
    return b.getvalue()


def test_nothing_gets_out(d, origin, pod, tmp_path):
    path = rewrite(origin[0], tmp_path / "h.tar", **{
        "rootfs-diff.tar": hostile_diff(), "deleted.files": b'["../../../../etc/group", "out/etc/passwd"]',
        "checkpoint/../../evil": b"x", "checkpoint/dir/evil": b"x", "checkpoint/passwd": link("/etc/passwd")})
    ctr = create(d, pod, path)
    top = "%s/containers/%s" % (d.root, ctr)
    assert sorted(os.listdir(top)) == ["empty", "restore", "upper", "work"]
    assert set(os.listdir(top + "/restore/checkpoint")) == {"inventory.img", "core-1.img", "pages-1.img"}
    assert os.stat(top + "/restore").st_mode & 0o777 == 0o700
    assert os.path.exists("/etc/passwd") and os.path.exists("/etc/group")
    assert not os.path.exists("/tmp/gantry-escaped") and not os.path.exists(d.root + "/escaped")
    d.cri.StartContainer(container_id=ctr)
    assert d.exec(ctr, "cat /escaped /tmp/gantry-escaped /x").stdout == b"outoutout"
    assert d.exec(ctr, "ls /etc/passwd /etc/group").stdout == b""


def test_what_does_not_fit(d, origin, pod):
    code, words = refused(d, pod, origin[0], tty=True)
    assert code == CODE.FAILED_PRECONDITION and words.endswith("had no terminal")
    ns = api.LinuxContainerConfig(security_context=api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=api.NODE)))
    code, words = refused(d, pod, origin[0], linux=ns)
    assert code == CODE.FAILED_PRECONDITION and "PID namespace" in words
    mapped = d.run_pod(pod_config(d, "mapped"))
    code, words = refused(d, mapped, origin[0])
    assert code == CODE.UNIMPLEMENTED and "user namespace" in words
    d.cri.RemovePodSandbox(pod_sandbox_id=mapped)


def test_a_runtime_without_criu(d, origin):
    reasons = {r["name"]: r.get("checkpoints", "") for r in
               json.loads(d.cri.Status(verbose=True).info["config"])["runtimes"]}
    if not reasons["crun"]:
        pytest.skip("this crun can")
    p = d.run_pod(handler="crun")
    code, words = refused(d, p, origin[0])
    assert code == CODE.UNIMPLEMENTED and reasons["crun"] in words
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- ends ---

def test_stopped_before_it_was_started(d, origin, pod):
    ctr = create(d, pod, origin[0])
    with pytest.raises(grpc.RpcError) as e:
        d.cri.UpdateContainerResources(container_id=ctr, linux={"cpu_shares": 512})
    assert e.value.code() == CODE.FAILED_PRECONDITION
    d.cri.StopContainer(container_id=ctr, timeout=60)
    assert (d.status(ctr).state, d.status(ctr).exit_code) == (api.CONTAINER_EXITED, 137)
    d.cri.RemoveContainer(container_id=ctr)
    assert os.listdir(d.root + "/containers") == []
    d.cri.RemoveContainer(container_id=create(d, pod, origin[0]))
    assert os.listdir(d.root + "/containers") == []
    create(d, pod, origin[0])
    d.cri.StopPodSandbox(pod_sandbox_id=pod)  # which the fixture removes


def test_a_restore_that_fails(d, origin, pod):
    ctr = create(d, pod, origin[0])
    d.hook_restore.write_text("echo '(00.0) Error (criu/util.c:1): rlimit: cannot\n(00.1) Error "
                              "(criu/x.c:7): cannot' >$work/restore.log; exit 1\n")
    with pytest.raises(grpc.RpcError) as e:
        d.cri.StartContainer(container_id=ctr)
    assert "CRIU: Error (criu/x.c:7): cannot" in e.value.details()
    s = d.status(ctr)
    assert (s.state, s.reason, s.exit_code) == (api.CONTAINER_EXITED, "StartError", 128)
    d.cri.RemoveContainer(container_id=ctr)


def test_a_restore_out_of_its_cgroup(d, origin, pod):
    """What crun 1.21 does on cgroup v1."""
    if json.loads(d.cri.Status(verbose=True).info["config"])["cgroupDriver"] == "systemd":
        pytest.skip("systemd puts it where it says itself")
    ctr = create(d, pod, origin[0])
    name = "gantry-elsewhere-%d" % os.getpid()
    d.hook_restore.write_text("""sed -i 's#"cgroupsPath":"[^"]*"#"cgroupsPath":"/%s"#' config.json\n""" % name)
    with pytest.raises(grpc.RpcError) as e:
        d.cri.StartContainer(container_id=ctr)
    assert "its limits would not be in force" in e.value.details() and name in e.value.details()
    assert d.status(ctr).reason == "StartError"
    d.cri.RemoveContainer(container_id=ctr)
    wait_for(lambda: not [x for _, dirs, _ in os.walk("/sys/fs/cgroup") for x in dirs if name in x])


def test_its_monitor_is_killed_while_it_restores(d, origin, pod, tmp_path):
    ctr = create(d, pod, origin[0])
    os.mkfifo(tmp_path / "wait")
    d.hook_restore.write_text("exec cat %s/wait\n" % tmp_path)
    call = d.cri.StartContainer.future(container_id=ctr)
    wait_for(lambda: processes_with("%s/wait" % tmp_path))
    for pid, cmd in processes_with(pod):
        if "gantry-monitor" in cmd:
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        call.result(20 * SLOW)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    wait_for(lambda: not processes_with("%s/wait" % tmp_path))


def test_its_monitor_is_killed_before_the_start(d, origin, pod):
    ctr = create(d, pod, origin[0])
    for pid, cmd in processes_with(pod):
        if "gantry-monitor" in cmd:
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: d.status(ctr).state == api.CONTAINER_EXITED)
    with pytest.raises(grpc.RpcError):
        d.cri.StartContainer(container_id=ctr)
    d.cri.RemoveContainer(container_id=ctr)
    assert os.listdir(d.root + "/containers") == []


def test_the_daemon_is_killed_before_the_start(d, origin, pod):
    path, n = origin
    kept, gone = create(d, pod, path), create(d, pod, path, name="gone")
    d.kill()
    d.start()
    assert d.status(kept).state == d.status(gone).state == api.CONTAINER_CREATED
    d.cri.StartContainer(container_id=kept)
    check_restored(d, kept, n)
    d.cri.RemoveContainer(container_id=gone)
    assert os.listdir(d.root + "/containers") == [kept]


def test_the_daemon_is_killed_while_it_creates(d, origin, pod):
    d.kill()
    d.env["GANTRY_FAULT"] = "daemon.create.made"
    d.start()
    with pytest.raises(grpc.RpcError):
        create(d, pod, origin[0])
    d.process.wait(20 * SLOW)
    del d.env["GANTRY_FAULT"]
    d.cri.close()
    d.start()
    wait_for(lambda: os.listdir(d.root + "/containers") == [])
    assert not d.cri.ListContainers().containers


# --- by hand ---

def gantry(d, *args, **kw):
    return subprocess.run([BUILD + "/programs/gantry/gantry", "--address", d.address, *map(str, args)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def test_by_hand(d, tmp_path):
    d.hook.write_text(GOOD)
    made = gantry(d, "run", "-d", "--name", "counter", "--pull", "never", "test/busybox", "sh", "-c", COUNT)
    ctr = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    wait_for(lambda: count(d, ctr) > 3)
    r = gantry(d, "checkpoint", "counter", "counter.tar.x", cwd=tmp_path)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    n = count(d, ctr)
    assert gantry(d, "restore", "--name", "counter", tmp_path / "counter.tar.x").returncode == 1
    assert gantry(d, "rm", "-f", "counter").returncode == 0
    r = gantry(d, "restore", "-l", "a=b", "./counter.tar.x", cwd=tmp_path)
    assert r.returncode == 0 and n > 3, r.stderr
    again = r.stdout.strip()
    name = d.status(again).metadata.name
    assert re.fullmatch("counter-[0-9a-f]{6}", name) and d.status(again).labels == {"a": "b"}
    wait_for(lambda: count(d, again) > 3)
    assert d.status(again).state == api.CONTAINER_RUNNING
    assert gantry(d, "rm", "-f", name).returncode == 0
    for args, words in ((("restore", "./none.tar"), "none.tar"),
                        (("restore", "--pull", "never", "no/such:1"), "not on this node"),
                        (("checkpoint", "none", "x"), "none"),
                        (("checkpoint", "none", "/no/such/directory/x"), "/no/such/directory")):
        r = gantry(d, *args, cwd=tmp_path)
        assert r.returncode == 1 and words in r.stderr and not r.stdout, r.stderr
    assert "unknown option --env" in gantry(d, "restore", "--env", "A=1", "x").stderr
    assert not d.cri.ListPodSandbox().items and os.listdir(d.root + "/containers") == []


# --- by CRIU ---

@pytest.fixture(scope="module")
def real(archive):
    path = criu_path()
    if not path:
        pytest.skip("no CRIU that works with this kernel (criu check), nor can tests/criu fetch one")
    daemon = Daemon(config="default_runtimes: [runc]\n", env={"PATH": path})
    daemon.load(archive)
    wait_for(lambda: any(h.name == "runc" for h in daemon.cri.Status().runtime_handlers))
    yield daemon
    daemon.close()


# Nothing but its memory knows how far it is.
REAL = "echo kept >/kept; rm /etc/group; i=0; trap 'exit 7' TERM; while true; do i=$((i+1)); " \
       "echo $i >/m && mv /m /n; echo $i; sleep 0.02; done"


def namespaces(d, ctr):
    out = d.exec(ctr, "readlink /proc/1/ns/net /proc/1/ns/ipc /proc/1/ns/uts; hostname")
    return out.stdout.decode().split()


def test_by_criu(real, tmp_path):
    d = real
    n = checkpoint(d, tmp_path / "c.tar", command=REAL)
    pod = d.run_pod(name="restored")
    other = d.run(pod, "sleep 1000", name="other")
    ctr = create(d, pod, tmp_path / "c.tar", command="false")
    d.cri.StartContainer(container_id=ctr)
    wait_for(lambda: count(d, ctr) > n)
    assert d.exec(ctr, "cat /kept; ls /etc/group").stdout == b"kept\n"
    assert namespaces(d, ctr) == namespaces(d, other)
    log = logged(d, ctr)
    assert n <= log[0] <= n + 1 and log == list(range(log[0], log[0] + len(log)))
    before = count(d, ctr)
    d.cri.CheckpointContainer(container_id=ctr, location=str(tmp_path / "again.tar"))
    d.cri.StopContainer(container_id=ctr, timeout=20)
    assert d.status(ctr).exit_code == 7
    again = create(d, pod, tmp_path / "again.tar", command="false", name="again")
    d.cri.StartContainer(container_id=again)
    wait_for(lambda: count(d, again) > before)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert os.listdir(d.root + "/containers") == []


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_its_input_by_criu(real, tmp_path, tty):
    d = real
    kw = {"stdin": True, "tty": tty}
    checkpoint(d, tmp_path / "c.tar", command="echo 4 >/n; while read a; do echo \"got $a\"; done", **kw)
    pod = d.run_pod(name="input")
    ctr = create(d, pod, tmp_path / "c.tar", command="false", **kw)
    assert "no streams before" in attach(d, ctr, tty=tty, stdin=True).status()["message"]
    d.cri.StartContainer(container_id=ctr)
    s = attach(d, ctr, tty=tty, stdin=True)
    s.stdin.write(b"hello\n")
    s.expect(b"got hello")
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_by_criu_what_it_cannot(real, tmp_path):
    """Its own words, and nothing is left."""
    d = real
    checkpoint(d, tmp_path / "c.tar", command=REAL)
    with tarfile.open(tmp_path / "c.tar") as t:
        pages = [m for m in t.getnames() if m.startswith("checkpoint/pagemap-")]
    rewrite(tmp_path / "c.tar", tmp_path / "bad.tar", drop=pages)
    pod = d.run_pod(name="cannot")
    ctr = create(d, pod, tmp_path / "bad.tar", command="false")
    with pytest.raises(grpc.RpcError) as e:
        d.cri.StartContainer(container_id=ctr)
    assert "CRIU: Error" in e.value.details()
    assert d.status(ctr).reason == "StartError"
    d.cri.RemoveContainer(container_id=ctr)
    assert INVENTORY and os.listdir(d.root + "/containers") == []
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
