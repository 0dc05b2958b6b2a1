# SPDX-License-Identifier: Apache-2.0
"""The image store by gantry's own calls: tag, verify, prune; and when a worker is killed."""
import json
import os
import re
import shutil
import subprocess
import tarfile

import grpc
import pytest

from cri import api
from daemon import BUILD, Daemon, wait_for
from fixtures import empty as d, emptied  # noqa: F401
from image import Image, Layer
from registry import Registry
from test_cli import Cli
from test_images import workers

CODE = grpc.StatusCode


def make(d, tmp_path, text, *tags):
    """An image of two layers, the lower of which all have in common; loaded."""
    im = Image([Layer().dir("base").add("base/file", "the same").bytes(),
                Layer().add("f", text).bytes()])
    path = str(tmp_path / "image.tar")
    im.docker_archive(path, list(tags))
    d.load(path)
    return im


def status(d, ref):
    s = d.cri.ImageStatus(image=api.ImageSpec(image=ref))
    return s.image if s.HasField("image") else None


def tag(d, source, *targets):
    m, = d.cri.Tag(source=source, targets=targets)
    return m


def recorded(d, im):
    with open("%s/images/%s.json" % (d.root, im.id[7:])) as f:
        return json.load(f)


def restarted(d):
    """And its sweep is over."""
    d.restart()
    wait_for(lambda: not workers(d))


NO_POINTS = "this build has no fault points (meson setup -Dtest_hooks=true)"


def has_points():
    return subprocess.run([BUILD + "/programs/gantry-worker/gantry-worker", "--fault-points"],
                          stdout=subprocess.DEVNULL).returncode == 0


def refused(fn, code, *words):
    with pytest.raises(grpc.RpcError) as e:
        fn()
    assert e.value.code() == code, e.value.details()
    for w in words:
        assert w in e.value.details()


# --- tag ---

def test_tag(d, tmp_path):
    im = make(d, tmp_path, "tag", "a/b:1")
    m = tag(d, "a/b:1", "a/b:2", "short", "quay.io/x/y:z", "a/b:2")
    assert m.image_id == im.id[7:]
    assert list(m.tags) == ["docker.io/a/b:2", "docker.io/library/short:latest", "quay.io/x/y:z"]
    for ref in ("a/b:1", "a/b:2", "short", "docker.io/library/short", "quay.io/x/y:z"):
        assert status(d, ref).id == im.id
    assert set(recorded(d, im)["tags"]) == {"docker.io/a/b:1", *m.tags}
    tag(d, im.id, "by/id:1")
    tag(d, im.id[7:19], "by/prefix:1")
    assert status(d, "by/id:1").id == status(d, "by/prefix:1").id == im.id
    restarted(d)
    assert len(status(d, im.id).repo_tags) == 6


def test_tag_moves(d, tmp_path):
    one, two = make(d, tmp_path, "one", "m/one:1"), make(d, tmp_path, "two", "m/two:1")
    tag(d, "m/one:1", "m/both:1")
    tag(d, "m/two:1", "m/both:1")
    assert status(d, "m/both:1").id == two.id
    assert list(status(d, one.id).repo_tags) == ["docker.io/m/one:1"]
    tag(d, "m/one:1", "m/both:1", "m/two:1")  # two has no name any more, and stays
    assert list(status(d, two.id).repo_tags) == [] == recorded(d, two)["tags"]
    for _ in range(2):
        assert status(d, "m/both:1").id == status(d, "m/two:1").id == one.id
        restarted(d)


def test_tag_refused(d, tmp_path):
    im = make(d, tmp_path, "refused", "r/a:1")
    refused(lambda: tag(d, "r/none:1", "r/x"), CODE.NOT_FOUND, "r/none:1")
    refused(lambda: tag(d, "r/a:1"), CODE.INVALID_ARGUMENT, "targets")
    refused(lambda: tag(d, "r/a:1", "r/good", "R/Bad"), CODE.INVALID_ARGUMENT, "R/Bad")
    refused(lambda: tag(d, "r/a:1", "r/x@" + im.id), CODE.INVALID_ARGUMENT, "digest")
    refused(lambda: tag(d, "", "r/x"), CODE.INVALID_ARGUMENT)
    refused(lambda: tag(d, "r/a:1", *["r/x:%d" % i for i in range(1025)]), CODE.INVALID_ARGUMENT)
    refused(lambda: tag(d, "r/a:1", *["r/x:%d" % i for i in range(1024)]), CODE.RESOURCE_EXHAUSTED,
            "1024")
    assert list(status(d, im.id).repo_tags) == ["docker.io/r/a:1"] == recorded(d, im)["tags"]
    tag(d, "r/a:1", "r/a:1")
    assert list(status(d, im.id).repo_tags) == ["docker.io/r/a:1"]


@pytest.mark.parametrize("point", ["worker.name.recorded", "worker.name.taken"])
@pytest.mark.parametrize("restart", [False, True])
def test_tag_killed(tmp_path, point, restart):
    """The daemon and the disk agree who has the tag, at once and after a restart; the one that it
    was moved from is the newer image."""
    mark = str(tmp_path / "mark")
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": mark})
    try:
        one, two = make(d, tmp_path, "one", "k/one:1"), make(d, tmp_path, "two", "k/two:1")
        if not has_points():
            pytest.skip(NO_POINTS)
        refused(lambda: tag(d, "k/one:1", "k/two:1"), CODE.INTERNAL, "gantry-worker")
        assert os.path.exists(mark)
        if restart:
            d.kill()
            d.start()
        assert status(d, "k/two:1").id == one.id
        assert list(status(d, two.id).repo_tags) == []
        d.cri.RemoveImage(image=api.ImageSpec(image=one.id))
        restarted(d)
        assert not status(d, "k/two:1") and status(d, two.id)
    finally:
        d.close()


@pytest.mark.parametrize("point", ["worker.remove.record", "worker.remove.synced",
                                   "worker.remove.layers"])
def test_remove_killed(tmp_path, point):
    """What is gone from the disk is not offered any more."""
    mark = str(tmp_path / "mark")
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": mark})
    try:
        one, two = make(d, tmp_path, "one", "k/one:1"), make(d, tmp_path, "two", "k/two:1")
        if not has_points():
            pytest.skip(NO_POINTS)
        refused(lambda: d.cri.RemoveImage(image=api.ImageSpec(image=one.id)), CODE.INTERNAL)
        assert os.path.exists(mark)
        assert not status(d, one.id) and status(d, two.id)
        make(d, tmp_path, "one", "k/one:1")
        assert status(d, "k/one:1").id == one.id
    finally:
        d.close()


@pytest.mark.parametrize("which", ["tag", "other tag", "other repository", "digest", "id",
                                   "bare id", "prefix"])
def test_remove_by_any_reference(d, which):
    """With all its tags and digests in all repositories; what another image has of it stays."""
    base = Layer().dir("base").add("base/file", "the same").bytes()
    im, other = (Image([base, Layer().add("f", t).bytes()]) for t in ("gone", "stays"))
    with Registry() as r, Registry() as r2:
        refs = [r.add(im, "a/one", "1"), r.add(im, "a/one", "2"), r.add(im, "b/two", "1"),
                r2.add(im, "c/three", "1")]
        stays = r.add(other, "a/one", "other")
        assert {d.cri.PullImage(image={"image": ref}).image_ref for ref in refs} == {im.id}
        d.cri.PullImage(image={"image": stays})
    tag(d, refs[0], "local/name:1")
    digests = list(status(d, im.id).repo_digests)
    assert len(digests) == 3 and len(status(d, im.id).repo_tags) == 5
    ref = {"tag": refs[0], "other tag": refs[1], "other repository": refs[3], "digest": digests[1],
           "id": im.id, "bare id": im.id[7:], "prefix": im.id[7:20]}[which]
    d.cri.RemoveImage(image={"image": ref})
    for _ in range(2):
        for x in (*refs, *digests, "local/name:1", im.id):
            assert not status(d, x), x
        assert [i.id for i in d.cri.ListImages().images] == [other.id]
        layers = [x for x in os.listdir(d.root + "/layers") if "." not in x]
        assert len(layers) == 2 and set(layers) == set(recorded(d, other)["layers"])
        restarted(d)
    states = [m.state for m in d.cri.Verify() if not m.HasField("progress")]
    assert states == ["good"]


def test_load_killed(tmp_path):
    """What is on the disk is offered, although nobody could say so."""
    mark = str(tmp_path / "mark")
    d = Daemon(env={"GANTRY_FAULT": "worker.commit.recorded", "GANTRY_FAULT_MARK": mark})
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        refused(lambda: make(d, tmp_path, "one", "k/one:1"), CODE.INTERNAL)
        assert os.path.exists(mark) and status(d, "k/one:1")
    finally:
        d.close()


def test_gantry_tag(d, tmp_path):
    g = Cli(d)
    im = make(d, tmp_path, "cli", "c/a:1")
    assert g("tag", "c/a:1", "c/b", "c/c:2") == "".join(
        "Tagged %s as docker.io/c/%s\n" % (im.id[7:19], x) for x in ("b:latest", "c:2"))
    assert 'tag c/none: image "c/none" is not on this node' in g.fails("tag", "c/none", "c/x")
    assert "too few arguments" in g.fails("tag", "c/a:1", status=2)


# --- verify ---

def verify(d, *refs):
    """[(image id, state, problem)]"""
    return [(m.image_id, m.state, m.problem) for m in d.cri.Verify(images=refs)
            if not m.HasField("progress")]


def layer_of(d, im, i=0):
    """The directory of its i-th layer, topmost first."""
    return "%s/layers/%s" % (d.root, recorded(d, im)["layers"][i])


def rewrite(path, change):
    """As a disk does it: no time says so."""
    st = os.stat(path)
    with open(path, "r+b") as f:
        data = change(f.read())
        f.seek(0)
        f.write(data)
        f.truncate()
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def flip(data):
    return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]


def rich(tmp_path):
    """Everything that layers have: links, devices, attributes, holes, removed names."""
    lower = Layer().dir("etc").add("etc/file", "content" * 5000).dir("gone").add("gone/x", "x")
    lower.add("same", "lower").dir("opaque").add("opaque/y", "y").add("removed", "r")
    upper = Layer().dir("etc", 0o700, uid=5, gid=6).add("etc/new", "new", mode=0o4755, uid=7)
    upper.add("etc/empty").symlink("etc/link", "/nowhere").hardlink("etc/hard", "etc/new")
    upper.hardlink("etc/up", "same")  # copied up
    upper.add("etc/null", kind=tarfile.CHRTYPE, dev=(1, 3)).add("etc/pipe", kind=tarfile.FIFOTYPE)
    upper.add("etc/attr", "a", xattrs={"user.x": "1", "user.a": "2"})
    upper.add(".wh.removed").dir("opaque").add("opaque/.wh..wh..opq").add("gone/.wh.x")
    upper.add("etc/twice", "first").add("etc/twice", "second")
    for name in ("etc/file-a", "etc/file", "etc/file.b", "etc-", "etc.d", "b\nc", "ü"):
        upper.add(name, name)
    sparse = str(tmp_path / "sparse")
    os.mkdir(sparse)
    with open(sparse + "/big", "wb") as f:
        f.seek(3 << 20)
        f.write(b"in the middle")
        f.truncate(1 << 40)
    third = subprocess.run(["tar", "-C", sparse, "-S", "--format=gnu", "-c", "big"], check=True,
                           stdout=subprocess.PIPE).stdout
    return Image([lower.bytes(), upper.bytes(), third])


def load(d, im, tmp_path, *tags):
    path = str(tmp_path / "image.tar")
    im.docker_archive(path, list(tags))
    d.load(path)
    return im


def test_verify_good(d, tmp_path):
    assert verify(d) == []
    im = load(d, rich(tmp_path), tmp_path, "v/rich:1")
    other = make(d, tmp_path, "x", "v/other:1")
    assert verify(d) == [(im.id[7:], "good", ""), (other.id[7:], "good", "")]
    assert verify(d, "v/other:1", "v/rich:1", im.id) == \
        [(other.id[7:], "good", ""), (im.id[7:], "good", "")]
    restarted(d)
    assert verify(d, "v/rich:1") == [(im.id[7:], "good", "")]
    seen = list(d.cri.Verify(images=["v/rich:1"]))
    assert {m.progress.layer for m in seen if m.HasField("progress")} <= \
        set(recorded(d, im)["layers"])
    refused(lambda: verify(d, "v/none:1"), CODE.NOT_FOUND, "v/none:1")


def lose(path):
    st = os.stat(os.path.dirname(path))
    os.unlink(path)
    os.utime(os.path.dirname(path), ns=(st.st_atime_ns, st.st_mtime_ns))


def swap_link(path):
    st = os.lstat(path)
    os.unlink(path)
    os.symlink("/anywhere", path)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)


DAMAGES = {  # what: (how, given the topmost layers' directories; words of the verdict)
    "content": (lambda d, im: rewrite(layer_of(d, im, 1) + "/etc/file", flip), 'content of "etc/file"'),
    "copied up": (lambda d, im: rewrite(layer_of(d, im, 1) + "/etc/up", flip), 'content of "etc/up"'),
    "sparse": (lambda d, im: rewrite_at(layer_of(d, im) + "/big", 3 << 20), 'content of "big"'),
    "zeros": (lambda d, im: rewrite_at(layer_of(d, im) + "/big", 7 << 30), 'content of "big"'),
    "shorter": (lambda d, im: rewrite(layer_of(d, im, 1) + "/etc/new", lambda x: x[:-1]), '"etc/'),
    "missing": (lambda d, im: lose(layer_of(d, im, 1) + "/etc/attr"), '"etc/attr" is missing'),
    "last": (lambda d, im: lose(layer_of(d, im, 1) + "/ü"), '"ü" is missing'),
    "directory": (lambda d, im: shutil.rmtree(layer_of(d, im, 1) + "/etc"), "more"),
    "more": (lambda d, im: open(layer_of(d, im, 1) + "/etc/more", "w").close(), "etc"),
    "mode": (lambda d, im: os.chmod(layer_of(d, im, 1) + "/etc/new", 0o755), '"etc/'),
    "owner": (lambda d, im: os.chown(layer_of(d, im, 1) + "/etc/empty", 1, 0), '"etc/empty"'),
    "time": (lambda d, im: os.utime(layer_of(d, im, 1) + "/etc/empty"), '"etc/empty"'),
    "link": (lambda d, im: swap_link(layer_of(d, im, 1) + "/etc/link"), "etc"),
    "attribute": (lambda d, im: os.setxattr(layer_of(d, im, 1) + "/etc/attr", "user.x", b"3"),
                  '"etc/attr"'),
    "opaque": (lambda d, im: os.removexattr(layer_of(d, im, 1) + "/opaque",
                                            "trusted.overlay.opaque"), '"opaque"'),
    "root": (lambda d, im: os.chmod(layer_of(d, im), 0o700), 'of ""'),
    "list": (lambda d, im: rewrite(layer_of(d, im) + ".sums", flip), "list of checksums"),
    "no list": (lambda d, im: os.unlink(layer_of(d, im) + ".sums"), "list of checksums"),
    "no layer": (lambda d, im: shutil.rmtree(layer_of(d, im, 1)), "directory"),
    "no record": (lambda d, im: os.unlink(layer_of(d, im, 1) + ".json"), "record"),
    "empty record": (lambda d, im: os.truncate(layer_of(d, im, 1) + ".json", 0), "record"),
    "configuration": (lambda d, im: rewrite(config_of(d, im), flip), "configuration"),
    "no configuration": (lambda d, im: os.unlink(config_of(d, im)), "configuration"),
    "image record": (lambda d, im: change_record(d, im, lambda r: r["config"]["env"].append("A=B")),
                     "configuration"),
    "layers": (lambda d, im: change_record(d, im, lambda r: r["layers"].reverse()), "other layers"),
    "accounts": (lambda d, im: change_record(d, im, lambda r: r["config"].update(passwd="x:x:0:")),
                 "accounts"),
}


def rewrite_at(path, at):
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(b"X")
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def config_of(d, im):
    return "%s/images/%s.config" % (d.root, im.id[7:])


def change_record(d, im, change):
    r = recorded(d, im)
    change(r)
    with open("%s/images/%s.json" % (d.root, im.id[7:]), "w") as f:
        json.dump(r, f)


@pytest.mark.parametrize("what", DAMAGES)
def test_verify_damaged(d, tmp_path, what):
    """Found, told, not used any more, also after a restart; made whole by the next load."""
    im = load(d, rich(tmp_path), tmp_path, "v/rich:1")
    other = make(d, tmp_path, "other", "v/other:1")
    how, words = DAMAGES[what]
    how(d, im)
    (id, state, problem), (_, others, _) = verify(d)
    assert (id, state, others) == (im.id[7:], "damaged", "good") and words in problem
    assert "is damaged" in d.log_text()
    assert [x.id for x in d.cri.ListImages().images] == [other.id]
    assert not status(d, "v/rich:1") and not status(d, im.id)
    assert [x[1:] for x in verify(d, im.id)] == [("damaged", problem)]
    load(d, im, tmp_path, "v/again:1")
    assert status(d, im.id) and status(d, "v/again:1").id == im.id
    assert [x[1] for x in verify(d)] == ["good", "good"]
    restarted(d)
    assert [x[1] for x in verify(d)] == ["good", "good"]
    wait_for(lambda: not [x for x in os.listdir(d.root + "/layers")
                          if "damaged" in x or ".old-" in x])


def test_verify_shared_layer(d, tmp_path):
    """Everybody who has the layer is damaged, whoever was asked for; who is whole again is good."""
    one, two = make(d, tmp_path, "one", "s/one:1"), make(d, tmp_path, "two", "s/two:1")
    rewrite(layer_of(d, one, 1) + "/base/file", flip)
    assert [x[:2] for x in verify(d, "s/one:1")] == [(one.id[7:], "damaged")]
    assert not d.cri.ListImages().images
    make(d, tmp_path, "one", "s/one:1")
    assert [x.id for x in d.cri.ListImages().images] == [one.id]
    assert [x[1] for x in verify(d)] == ["good", "good"]
    assert status(d, "s/two:1").id == two.id
    prune(d)  # what the damaged layer was


def test_verify_damaged_and_restarted(d, tmp_path):
    """Nobody has it: the start removes it."""
    im = make(d, tmp_path, "restart", "s/one:1")
    rewrite(layer_of(d, im) + "/f", flip)
    assert verify(d)[0][1] == "damaged"
    restarted(d)
    assert not status(d, im.id)
    wait_for(lambda: os.listdir(d.root + "/layers") == [] == os.listdir(d.root + "/images"))
    wait_for(lambda: verify(d) == [])


def test_verify_without_lists(d, tmp_path):
    """Layers of before there were lists: they are used, and nobody says that they are good."""
    im = make(d, tmp_path, "old", "s/old:1")
    path = layer_of(d, im) + ".json"
    with open(path) as f:
        r = json.load(f)
    del r["sums"]
    with open(path, "w") as f:
        json.dump(r, f)
    os.unlink(path[:-5] + ".sums")
    assert verify(d) == [(im.id[7:], "unknown", "")] and status(d, im.id)
    assert "older version" in Cli(d)("image", "verify", status=1)
    rewrite(layer_of(d, im, 1) + "/base/file", flip)
    assert verify(d)[0][1] == "damaged"
    d.cri.RemoveImage(image=api.ImageSpec(image=im.id))
    assert verify(d) == []


def test_verify_is_cancelled(d, tmp_path):
    im = load(d, Image([Layer().add("big", os.urandom(64 << 20)).bytes()], compress="tar"),
              tmp_path, "v/big:1")
    call = d.cri.Verify()
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert verify(d) == [(im.id[7:], "good", "")]
    wait_for(lambda: os.listdir(d.root + "/tmp") == [])


@pytest.mark.parametrize("point", ["worker.verify.layer", "worker.verify.image",
                                   "worker.commit.aside"])
def test_verify_killed(tmp_path, point):
    """What was found is not forgotten half."""
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": str(tmp_path / "mark")})
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        one, two = make(d, tmp_path, "one", "k/one:1"), make(d, tmp_path, "two", "k/two:1")
        rewrite(layer_of(d, one, 1) + "/base/file", flip)
        if point != "worker.commit.aside":
            refused(lambda: verify(d), CODE.INTERNAL, "gantry-worker")
            assert not d.cri.ListImages().images
        assert [x[1] for x in verify(d)] == ["damaged", "damaged"]
        if point == "worker.commit.aside":
            refused(lambda: make(d, tmp_path, "one", "k/one:1"), CODE.INTERNAL, "gantry-worker")
        make(d, tmp_path, "one", "k/one:1")
        make(d, tmp_path, "two", "k/two:1")
        assert [x[1] for x in verify(d)] == ["good", "good"]
        restarted(d)
        wait_for(lambda: len(os.listdir(d.root + "/layers")) == 12)
        assert len(d.cri.ListImages().images) == 2
    finally:
        d.close()


def test_verify_under_a_container(archive):
    """It goes on with what is there, also with what was intact; a new one waits for the pull."""
    d = Daemon()
    try:
        d.load(archive)
        im = d.cri.ListImages().images[0]
        pod = d.run_pod()
        ctr = d.run(pod, "sleep 1000")
        layer, = [x for x in os.listdir(d.root + "/layers") if len(x) == 32]
        layer = d.root + "/layers/" + layer
        rewrite(layer + "/etc/group", flip)
        assert verify(d)[0][1] == "damaged"
        for _ in range(2):
            r = d.exec(ctr, "id -un; cat /etc/passwd")
            assert r.exit_code == 0 and r.stdout.startswith(b"root\n")
            refused(lambda: d.create(pod, "true", name="new"), CODE.NOT_FOUND, "damaged")
            restarted(d)
        d.load(archive)
        assert status(d, im.id) and [x[1] for x in verify(d)] == ["good"]
        new = d.run(pod, "sleep 1000", name="new")
        aside, = [x for x in os.listdir(d.root + "/layers") if ".old-" in x]
        for c in (ctr, new):
            assert d.exec(c, "ls /bin/busybox /etc").exit_code == 0
        restarted(d)
        prune(d, all=True)
        assert os.path.isdir("%s/layers/%s" % (d.root, aside)) and status(d, im.id)
        assert d.exec(ctr, "cat /etc/passwd").exit_code == 0
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
        prune(d)
        assert not [x for x in os.listdir(d.root + "/layers") if ".old-" in x]
        assert status(d, im.id) and verify(d)[0][1] == "good"
    finally:
        d.close()


def test_gantry_image_verify(d, tmp_path):
    g = Cli(d)
    im, other = make(d, tmp_path, "cli", "c/a:1"), make(d, tmp_path, "else", "c/b:1")
    line = "docker.io/c/%s:1 (%s): %s\n"
    assert g("image", "verify") == line % ("a", im.id[7:19], "good") + \
        line % ("b", other.id[7:19], "good")
    assert g("image", "verify", "-q") == ""
    rewrite(layer_of(d, im) + "/f", flip)
    assert g("image", "verify", "-q", status=1) == line % (
        "a", im.id[7:19], "damaged: layer %s: the content of \"f\" is not what was unpacked"
        % recorded(d, im)["layers"][0])
    assert "c/none" in g.fails("image", "verify", "c/none")
    assert "a command is needed" in g.fails("image", status=2)
    assert "no command 'image ls'" in g.fails("image", "ls", status=2)
    assert "Usage: gantry image verify" in g("help", "image", "verify") == \
        g("image", "verify", "--help")
    make(d, tmp_path, "cli", "c/a:1")
    prune(d)


# --- prune ---

def prune(d, **kw):
    m, = d.cri.Prune(**kw)
    return m


def used_by_store(d):
    out = subprocess.run(["du", "-s", "--block-size=1", d.root + "/layers", d.root + "/images"],
                         stdout=subprocess.PIPE, check=True, text=True).stdout
    return sum(int(x.split()[0]) for x in out.splitlines())


def test_prune(tmp_path):
    d = Daemon("  pinned: [\"p/pinned:1\"]\n")
    try:
        base = Layer().add("base", os.urandom(1 << 20)).bytes()

        def add(name, size, *tags):
            return load(d, Image([base, Layer().add(name, os.urandom(size)).bytes()]), tmp_path,
                        *tags)
        pinned, tagged = add("pinned", 1 << 20, "p/pinned:1"), add("tagged", 2 << 20, "p/tagged:1")
        add("untagged", 3 << 20, "p/moved:1")
        moved = add("moved", 1 << 20, "p/moved:1")
        nobody = add("nobody", 1 << 20)
        ids = {x.id for x in d.cri.ListImages().images}
        before = used_by_store(d)
        dry = prune(d, dry_run=True)
        assert {x.id for x in d.cri.ListImages().images} == ids and used_by_store(d) == before
        done = prune(d)
        assert done == dry and len(done.images) == 2
        assert {"sha256:" + x.image_id for x in done.images} == \
            ids - {pinned.id, tagged.id, moved.id} and nobody.id[7:] in str(done)
        # what the directories themselves took is not given back by every file system
        assert 4 << 20 <= done.freed_bytes <= before - used_by_store(d) + 65536
        dry, before = prune(d, all=True, dry_run=True), used_by_store(d)
        done = prune(d, all=True)
        assert done == dry and [list(x.names) for x in done.images] == \
            [["docker.io/p/tagged:1"], ["docker.io/p/moved:1"]]
        assert 3 << 20 <= done.freed_bytes <= before - used_by_store(d) + 65536
        assert [x.id for x in d.cri.ListImages().images] == [pinned.id]
        assert verify(d) == [(pinned.id[7:], "good", "")]
        assert not prune(d, all=True).images and prune(d, all=True).freed_bytes == 0
    finally:
        d.close()


def test_prune_keeps_what_containers_have(archive, tmp_path):
    d = Daemon()
    g = Cli(d)
    try:
        d.load(archive)
        im = make(d, tmp_path, "x", "p/x:1")
        damaged = make(d, tmp_path, "damaged", "p/damaged:1")
        rewrite(layer_of(d, damaged) + "/f", flip)
        assert verify(d, "p/damaged:1")[0][1] == "damaged"
        pod = d.run_pod()
        ctr = d.create(pod, "true")  # not even started
        assert g("image", "prune", "--dry-run").startswith(
            "Would remove docker.io/p/damaged:1\nWould remove %s\nWould free " % damaged.id)
        out = g("image", "prune", "--all")
        assert re.fullmatch("Removed docker.io/p/x:1\nRemoved %s\nRemoved docker.io/p/damaged:1\n"
                            "Removed %s\nFreed .*\n" % (im.id, damaged.id), out)
        assert [list(x.repo_tags) for x in d.cri.ListImages().images] == \
            [["docker.io/test/busybox:latest"]]
        d.cri.StartContainer(container_id=ctr)
        d.wait_exit(ctr)
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
        assert "Removed docker.io/test/busybox:latest\n" in g("image", "prune", "-a")
        assert os.listdir(d.root + "/layers") == [] == os.listdir(d.root + "/images")
    finally:
        d.close()
