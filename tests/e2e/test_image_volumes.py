# SPDX-License-Identifier: Apache-2.0
"""Images as volumes of containers: CRI's Mount.image (KEP-4639)."""
import glob
import itertools
import json
import os
import re
import signal

import grpc
import pytest

from cri import api
from daemon import Daemon, processes_with, wait_for
from image import Image, Layer, busybox_layer
from fixtures import BUSYBOX
from test_cli import Cli
from test_store import has_points, refused, status, tag
from test_userns import mapping, pod_config, security

CODE = grpc.StatusCode
NOBODY = 65534
NUMBERS = itertools.count()


def files():
    """Two layers: the upper hides files and a directory of the lower, and changes one."""
    low = Layer().dir("data").add("data/low", "low").add("data/gone", "x").add("data/same", "old") \
        .dir("opaque").add("opaque/old", "x").dir("private", mode=0o700).add("private/f", "p")
    low.dir("sub").dir("sub/dir").add("sub/dir/file", "deep").add("sub/top", "top")
    up = Layer().dir("data").add("data/.wh.gone").add("data/same", "new") \
        .dir("opaque").add("opaque/.wh..wh..opq").add("opaque/new", "x")
    up.symlink("to-sub", "sub/dir").symlink("abs", "/sub").symlink("out", "../../../../../etc")
    up.symlink("host", "/etc").symlink("loop", "loop").symlink("magic", "/proc/self/root/etc")
    up.symlink("sub/up", "../../../../sub/dir").add("pipe", kind=b"6")
    return [low.bytes(), up.bytes()]


@pytest.fixture(scope="module")
def im(d, tmp_path_factory):
    return load(d, tmp_path_factory.mktemp("volume"), Image(files()), "vol/files:1")


@pytest.fixture(scope="module")
def single(d, tmp_path_factory):
    """One layer, with a whiteout in it of what no layer has."""
    layer = busybox_layer(BUSYBOX).add("bin/.wh.nothing").add("etc/secret", "s", mode=0o600)
    layer.add("bin/su", "#!/bin/sh\nid -u\n", mode=0o4755).add(
        "dev/zero", kind=b"3", dev=(1, 5), mode=0o666)
    return load(d, tmp_path_factory.mktemp("single"), Image([layer.bytes()]), "vol/single:1")


def load(d, directory, image, *tags):
    path = str(directory / "image.tar")
    image.docker_archive(path, list(tags))
    d.load(path)
    return image


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def mount(ref="vol/files:1", at="/vol", part="", **kw):
    return api.Mount(container_path=at, image=api.ImageSpec(image=ref), image_sub_path=part,
                     **{"readonly": True, **kw})


def output(d, pod, command, *mounts, **kw):
    kw.setdefault("name", "c%d" % next(NUMBERS))     # logs are appended to
    s, text = d.output(pod, command, mounts=list(mounts) or [mount()], **kw)
    assert s.exit_code == 0, text
    return text


# --- what is in it ---

def test_content(d, im, pod):
    text = output(d, pod, "cd /vol; cat data/low data/same sub/top; echo; find . | sort")
    head, *names = text.splitlines()
    assert head == "lownewtop"
    assert names == [".", "./abs", "./data", "./data/low", "./data/same", "./host", "./loop",
                     "./magic", "./opaque", "./opaque/new", "./out", "./pipe", "./private",
                     "./private/f", "./sub", "./sub/dir", "./sub/dir/file", "./sub/top", "./sub/up",
                     "./to-sub"]


def test_read_only(d, im, pod):
    text = output(d, pod, """
        for c in 'echo x > data/low' 'touch new' 'mkdir d' 'rm data/low' 'chmod 700 data' \
                 'mv sub x' 'ln data/low y'; do
            (cd /vol && eval "$c") && echo "$c went"
        done
        grep ' /vol ' /proc/self/mountinfo""")
    line, = [x for x in text.splitlines() if " /vol " in x]
    assert "went" not in text
    assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(",")), line
    assert "noexec" not in line


def test_single_layer(d, single, pod):
    """Its programs run; a whiteout is not seen; no device and no privilege comes with it."""
    text = output(d, pod, "/vol/bin/busybox echo ran; ls /vol/bin | grep -c nothing; "
                  "/vol/bin/busybox dd if=/vol/dev/zero of=/dev/null bs=1 count=1 2>&1; true",
                  mount("vol/single:1"))
    assert text.splitlines()[:2] == ["ran", "0"] and "Permission denied" in text
    options = output(d, pod, "grep ' /vol ' /proc/self/mountinfo", mount(
        "vol/single:1", mount_options=["noexec", "suid", "dev"]), name="options")
    options = options.split()[5].split(",")
    assert {"ro", "noexec"} <= set(options) and not {"nosuid", "nodev"} & set(options)


def test_many_layers_and_none(d, pod, tmp_path):
    layers = [Layer().add("f%d" % i, str(i)).bytes() for i in range(127)]
    load(d, tmp_path, Image(layers), "vol/many:1")
    load(d, tmp_path, Image([]), "vol/none:1")
    text = output(d, pod, "ls /vol | wc -l; cat /vol/f0 /vol/f126; echo; ls -A /none | wc -l; "
                  "touch /none/x; true", mount("vol/many:1"), mount("vol/none:1", "/none"))
    assert text.splitlines()[:3] == ["127", "0126", "0"] and "Read-only" in text


def test_the_containers_own_image(d, pod):
    text = output(d, pod, "/vol/bin/busybox echo one; touch /x; ls /vol/x || echo apart",
                  mount("test/busybox:latest"))
    assert text.splitlines()[0] == "one" and "apart" in text


# --- part of it ---

@pytest.mark.parametrize("part,command,want", [
    ("sub/dir", "cat /vol/file", "deep"),
    ("sub/dir/", "cat /vol/file", "deep"),
    ("./sub", "cat /vol/top", "top"),
    (".", "cat /vol/sub/top", "top"),
    ("sub/top", "cat /vol", "top"),
    ("to-sub", "cat /vol/file", "deep"),
    ("abs/dir", "cat /vol/file", "deep"),
    ("sub/up", "cat /vol/file", "deep"),      # as far up as the image's root
])
def test_part(d, im, pod, part, command, want):
    assert output(d, pod, command, mount(part=part)).strip() == want


@pytest.mark.parametrize("part,words", [
    ("nothing", ["No such file"]),
    ("sub/top/x", ["Not a directory"]),
    ("data/gone", ["No such file"]),
    ("opaque/old", ["No such file"]),
    ("out", ["No such file"]), ("host", ["No such file"]),    # the image has no /etc
    ("host/passwd", ["No such file"]),
    ("magic", ["No such file"]),
    ("loop", ["Too many levels"]),
    ("pipe", ["neither a directory nor a file"]),
])
def test_no_such_part(d, im, pod, part, words):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", mounts=[mount(), mount(part=part, at="/b")])
    text = e.value.details()
    assert text.startswith("ImageVolumeMountFailed: "), text
    for w in ["vol/files:1", '"%s"' % part, *words]:
        assert w in text
    if words == ["No such file"]:
        assert e.value.code() == CODE.NOT_FOUND
    assert not glob.glob("%s/pods/%s/containers/*" % (d.state, pod))
    assert not d.cri.ListContainers().containers


def test_refused(d, im, pod):
    def fails(m, *words):
        refused(lambda: d.create(pod, "true", mounts=[m]), CODE.INVALID_ARGUMENT, *words)
    fails(mount(readonly=False), "mounts.readonly", "/vol")
    fails(mount(host_path="/tmp"), "mounts.host_path", "/tmp", "vol/files:1")
    fails(mount(at=""), "mounts.container_path")
    for p in (api.PROPAGATION_HOST_TO_CONTAINER, api.PROPAGATION_BIDIRECTIONAL):
        fails(mount(propagation=p), "mounts.propagation")
    for part in ("/sub", "..", "sub/../../x", "a/..", "x\n", "x" * 4096):
        fails(mount(part=part), "mounts.image_sub_path")
    fails(mount("Not A Reference"), "mounts.image", "Not A Reference")
    fails(mount(mount_options=["bogus"]), "bogus")
    fails(mount(uidMappings=mapping(), gidMappings=mapping()), "no user namespace")
    fails(api.Mount(container_path="/v", host_path="/tmp", image_sub_path="x"), "without an image")
    refused(lambda: d.create(pod, "true", mounts=[mount(at="/v%d" % i) for i in range(257)]),
            CODE.INVALID_ARGUMENT, "mounts.image", "256")


def test_not_there(d, pod):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", mounts=[mount("vol/nowhere:1")])
    assert e.value.code() == CODE.NOT_FOUND
    assert e.value.details().startswith("ImageVolumeMountFailed: config.mounts.image")
    assert '"vol/nowhere:1" is not on this node' in e.value.details()


def test_recursive_read_only(d, im, pod):
    assert output(d, pod, "cat /vol/sub/top", mount(recursive_read_only=True)) == "top\n"


# --- what is said of it ---

def test_status(d, im, pod):
    tag(d, "vol/files:1", "vol/again:1")
    ctr = d.run(pod, "sleep 100", mounts=[mount("vol/again:1", part="sub"),
                                          api.Mount(container_path="/h", host_path="/tmp"),
                                          mount("test/busybox:latest", at="/b")])
    busybox = status(d, "test/busybox:latest").id
    tag(d, busybox, "vol/again:1")        # the name is another's now
    for _ in range(2):
        m = {m.container_path: m for m in d.status(ctr).mounts}
        assert m["/vol"].image.image == "vol/again:1" and m["/vol"].image.image_ref == im.id
        assert m["/vol"].image_sub_path == "sub" and m["/vol"].readonly
        assert m["/vol"].host_path == ""
        assert m["/h"].host_path == "/tmp" and not m["/h"].HasField("image")
        assert m["/b"].image.image_ref == busybox
        assert d.exec(ctr, "cat /vol/top").stdout == b"top"
        d.kill()
        d.start()
    d.cri.RemoveContainer(container_id=ctr)


def test_by_id(d, im, pod):
    """As the kubelet says it."""
    assert output(d, pod, "cat /vol/sub/top", mount(im.id)).strip() == "top"


# --- its life ---

def test_used_is_not_removed(d, im, single, pod, tmp_path):
    one = load(d, tmp_path, Image([Layer().add("f", "kept").bytes()]), "vol/kept:1")
    ctr = d.run(pod, "sleep 100", mounts=[mount("vol/kept:1")])
    for restart in (False, True):
        for ref in ("vol/kept:1", one.id):
            refused(lambda r=ref: d.cri.RemoveImage(image=api.ImageSpec(image=r)),
                    CODE.FAILED_PRECONDITION, ctr)
        pruned, = d.cri.Prune(all=True, dry_run=True)
        assert one.id[7:] not in [i.image_id for i in pruned.images]
        assert d.exec(ctr, "cat /vol/f").stdout == b"kept"
        if not restart:
            d.restart()
    d.cri.StopContainer(container_id=ctr)
    refused(lambda: d.cri.RemoveImage(image=api.ImageSpec(image=one.id)),
            CODE.FAILED_PRECONDITION)   # until its container is removed
    d.cri.RemoveContainer(container_id=ctr)
    d.cri.RemoveImage(image=api.ImageSpec(image=one.id))
    assert not status(d, one.id)


def test_two_pods(d, im):
    pods = [d.run_pod(name="two-%d" % i, handler=h) for i, h in enumerate(["crun", "runc"])]
    ctrs = [d.run(p, "sleep 100", name="c%d" % i, mounts=[mount(), mount(at="/b", part="sub")])
            for i in range(2) for p in pods]
    for c in ctrs:
        assert d.exec(c, "cat /vol/sub/dir/file /b/top").stdout == b"deeptop"
    d.cri.RemoveContainer(container_id=ctrs[0])
    d.cri.RemovePodSandbox(pod_sandbox_id=pods[1])
    assert d.exec(ctrs[2], "cat /vol/sub/dir/file /b/top").stdout == b"deeptop"
    d.cri.RemovePodSandbox(pod_sandbox_id=pods[0])


def monitor_of(d, pod):
    pid, = [p for p, cmd in processes_with(d.state)
            if "gantry-monitor" in cmd and pod in cmd and "--recover" not in cmd]
    return pid


def test_monitor_killed(d, im, pod):
    ctr = d.run(pod, "sleep 100", mounts=[mount(part="sub")])
    info = json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])
    root = "/proc/%d/root" % info["pid"]
    os.kill(monitor_of(d, pod), signal.SIGKILL)
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.state ==
             api.SANDBOX_NOTREADY)
    with open(root + "/vol/top") as f:
        assert f.read() == "top"
    refused(lambda: d.cri.RemoveImage(image=api.ImageSpec(image=im.id)), CODE.FAILED_PRECONDITION)


@pytest.mark.parametrize("point", ["job.create.image", "job.create.mounted"])
def test_job_killed(archive, tmp_path, point):
    """Nothing is left, and the next one goes."""
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": str(tmp_path / "mark")})
    try:
        d.load(archive)
        load(d, tmp_path, Image(files()), "vol/files:1")
        if not has_points():
            pytest.skip("this build has no fault points")
        p = d.run_pod(name="killed")
        with pytest.raises(grpc.RpcError):
            d.create(p, "true", mounts=[mount()])
        assert os.path.exists(tmp_path / "mark")
        assert not d.cri.ListContainers().containers
        assert not glob.glob("%s/pods/%s/containers/*" % (d.state, p))
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        p = d.run_pod(name="again")
        assert output(d, p, "cat /vol/sub/top").strip() == "top"
        d.cri.RemoveImage(image=api.ImageSpec(image="vol/files:1"))
    finally:
        d.close()


def test_damaged(archive, tmp_path):
    d = Daemon()
    try:
        d.load(archive)
        load(d, tmp_path, Image([Layer().add("f", "good").bytes()]), "vol/bad:1")
        p = d.run_pod(name="damaged")
        f, = glob.glob(d.root + "/layers/*/f")
        ctr = d.run(p, "sleep 100", mounts=[mount("vol/bad:1")])
        with open(f, "w") as out:
            out.write("evil")
        list(d.cri.Verify())
        with pytest.raises(grpc.RpcError) as e:
            d.create(p, "true", name="x", mounts=[mount("vol/bad:1")])
        assert "damaged" in e.value.details() and e.value.code() == CODE.NOT_FOUND
        d.restart()       # its start removes damaged images that nobody has
        assert d.exec(ctr, "cat /vol/f").stdout == b"evil"
    finally:
        d.close()


# --- user namespaces ---

@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_user_namespace(d, im, single, runtime):
    """With the pod's mapping its root owns the image's files; without, nobody does."""
    p = d.run_pod(pod_config(d, "userns-volume-" + runtime), handler=runtime)
    ids = {"uidMappings": mapping(), "gidMappings": mapping()}
    linux = security()
    text = output(d, p, "stat -c %u:%g /vol/private /vol/private/f /one/etc/secret /part; "
                  "cat /vol/private/f /one/etc/secret; touch /vol/x; "
                  "mount -o remount,rw,bind /vol && touch /vol/x && echo wrote; true",
                  mount(**ids), mount("vol/single:1", at="/one", **ids),
                  mount(at="/part", part="sub/top", **ids), linux=linux)
    assert text.splitlines()[:4] == ["0:0"] * 4 and "ps" in text
    assert "wrote" not in text and "Read-only" in text
    plain = output(d, p, "stat -c %u /vol/private /one/etc/secret; cat /one/etc/secret; true",
                   mount(), mount("vol/single:1", at="/one"), linux=linux)
    assert plain.splitlines()[:2] == [str(NOBODY)] * 2 and "Permission denied" in plain
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- gantry run ---

def test_gantry_run(d, im):
    g = Cli(d)
    run = ("run", "--network", "host")
    for m in ("type=image,source=vol/files:1,target=/v,subpath=sub",
              "type=image,src=vol/files:1,dst=/v,image-subpath=sub,readonly",
              "type=image,src=vol/files:1,destination=/v,subpath=./sub/,ro=true"):
        assert g(*run, "--mount", m, "test/busybox", "cat", "/v/top").strip() == "top"
    text = g(*run, "--userns", "1073741824", "--mount", "type=image,src=vol/files:1,dst=/v",
             "test/busybox", "stat", "-c", "%u", "/v/private")
    assert text == "0\n"
