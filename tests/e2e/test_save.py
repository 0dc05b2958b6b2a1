# SPDX-License-Identifier: Apache-2.0
"""gantry save: what comes out is what went in, byte for byte, or an error that says why not."""
import fcntl
import gzip
import hashlib
import io
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import tarfile
import termios

import grpc
import pytest

from cri import SLOW, api
from daemon import Daemon, wait_for
from fixtures import empty as d, emptied  # noqa: F401
from image import Artifact, Image, Layer, sha256, zstd
from test_cli import GANTRY, Cli
from registry import Registry
from test_images import pull, workers
from test_store import NO_POINTS, config_of, flip, has_points, layer_of, load, lose, make, \
    prune, recorded, refused, restarted, rewrite, rich, status, tag, verify

CODE = grpc.StatusCode


def save(d, *refs):
    parts = list(d.cri.Save(images=refs))
    data = b"".join(m.data for m in parts)
    assert parts[-1].total_bytes == len(data)
    return data


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        return {m.name: t.extractfile(m).read() for m in t if m.isreg()}


def checked(data):
    """The members of an archive, each blob of which has its digest, and nothing is left out."""
    files = members(data)
    named = set()
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert sha256(content) == "sha256:" + name.rsplit("/", 1)[1]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for m in json.loads(files["manifest.json"]):
        named |= {m["Config"], *m["Layers"]}
    for entry in json.loads(files["index.json"])["manifests"]:
        path = "blobs/sha256/" + entry["digest"][7:]
        assert len(files[path]) == entry["size"]
        named.add(path)
        manifest = json.loads(files[path])
        for x in [manifest["config"], *manifest["layers"]]:
            assert len(files["blobs/sha256/" + x["digest"][7:]]) == x["size"]
            named.add("blobs/sha256/" + x["digest"][7:])
    assert named == {x for x in files if x.startswith("blobs/")}
    return files


def put(d, path, data):
    with open(path, "wb") as f:
        f.write(data)
    return d.load(str(path))


def remove(d, im):
    d.cri.RemoveImage(image=api.ImageSpec(image=im.id))
    assert not status(d, im.id)


def lists(d, im):
    """What was recorded of each layer: size, recipe, checksums of its files (a directory that no
    entry names has the time at which it was made)."""
    found = []
    for name in recorded(d, im)["layers"]:
        with open("%s/layers/%s.json" % (d.root, name)) as f:
            r = json.load(f)
        with open("%s/layers/%s.sums" % (d.root, name), "rb") as f:
            lines = f.read().split(b"\n", 1)[1].split(b"\0")
        found.append((r["size"], r["recipe"], r["inodes"], [x for x in lines if x[:1] in b"fs"]))
    assert any(len(x[3]) > 10 for x in found)
    return found


# --- there and back ---

def test_there_and_back(d, tmp_path):
    im = load(d, rich(tmp_path), tmp_path, "s/rich:1", "quay.io/s/rich:2")
    before, usage = recorded(d, im), lists(d, im)
    data = save(d, im.id)
    files = checked(data)
    assert [files["blobs/sha256/" + sha256(t)[7:]] for t in im.tars] == im.tars
    assert files["blobs/sha256/" + im.id[7:]] == im.config
    assert save(d, im.id) == data  # nothing in it depends on when
    remove(d, im)
    seen = put(d, tmp_path / "a.tar", data)
    assert [x.image_id for x in seen if x.image_id] == [im.id[7:]]
    after = recorded(d, im)
    for x in ("tags", "layers", "size", "config"):
        assert after[x] == before[x]
    assert lists(d, im) == usage and verify(d) == [(im.id[7:], "good", "")]
    assert save(d, im.id) == data
    restarted(d)
    assert save(d, "s/rich:1") != data == save(d, im.id)


def test_it_runs_again(archive, busybox, tmp_path):
    d = Daemon()
    g = Cli(d)
    try:
        d.load(archive)
        out = str(tmp_path / "busybox.tar")
        assert g("save", "-q", "-o", out, "test/busybox") == "" == g.err
        g("rmi", "test/busybox")
        assert os.listdir(d.root + "/layers") == []
        assert "Loaded docker.io/test/busybox:latest (%s)" % busybox.id[7:19] in g("load", out)
        assert g("run", "--rm", "test/busybox", "sh", "-c", "echo it runs; ls -i /bin/sh /bin/ls"
                 " | cut -d/ -f1 | uniq | wc -l") == "it runs\n1\n"  # still hard links
    finally:
        d.close()


def member(name, data=b"", kind=tarfile.REGTYPE, link="", form=tarfile.GNU_FORMAT, pax=None):
    t = tarfile.TarInfo(name)
    t.type, t.linkname, t.size, t.mode = kind, link, len(data), 0o644
    t.pax_headers = pax or {}
    return t.tobuf(form) + data + bytes(-len(data) % 512)


END = bytes(1024)


def sparse(tmp_path, *how):
    top = tmp_path / "sparse"
    shutil.rmtree(str(top), ignore_errors=True)
    top.mkdir()
    with open(str(top / "holes"), "wb") as f:
        for at in (1 << 20, 5 << 20, 5 << 20 | 8192, 1 << 30):
            f.seek(at)
            f.write(b"%d" % at * 700)
        f.truncate(3 << 30)
    (top / "plain").write_bytes(b"plain")
    return subprocess.run(["tar", "-C", str(top), "-S", *how, "-c", "holes", "plain"], check=True,
                          stdout=subprocess.PIPE).stdout


def deep(n, end):
    return "/".join(["x" * 99] * n) + "/" + end


def replaced_sparse(tmp_path):
    one = sparse(tmp_path, "--format=gnu")
    return one[:one.index(b"plain")] + member("holes", b"dense") + member("last", b"l") + END


TARS = {
    "long names of GNU": lambda t: member("a/" * 150 + "f", b"1") +
    member("l", kind=tarfile.SYMTYPE, link="b/" * 200) + END,
    "ustar": lambda t: member("p/" * 70 + "f", b"x" * 513, form=tarfile.USTAR_FORMAT) + END,
    "pax": lambda t: tarfile.TarInfo.create_pax_global_header({"comment": "global"}) +
    member("ü" * 100, b"x", form=tarfile.PAX_FORMAT,
           pax={"comment": "kept", "mtime": "1.5", "SCHILY.xattr.user.a": "b"}) + END,
    "old sparse": lambda t: sparse(t, "--format=gnu"),
    "sparse 0.0": lambda t: sparse(t, "--format=posix", "--sparse-version=0.0"),
    "sparse 0.1": lambda t: sparse(t, "--format=posix", "--sparse-version=0.1"),
    "sparse 1.0": lambda t: sparse(t, "--format=posix", "--sparse-version=1.0"),
    "no end": lambda t: member("f", b"without the end"),
    "half an end": lambda t: member("f", b"x") + bytes(512),
    "much after the end": lambda t: member("f", b"x") + END + bytes(9000) + os.urandom(70000),
    "odd padding": lambda t: member("f", b"x" * 10)[:522] + b"\xff" * 502 + member("g", b"y") + END,
    "nothing": lambda t: END,
    "one byte": lambda t: member("f", b"x") + END + b"\n",
    "times and modes": lambda t: Layer().dir("d", 0o1777, uid=5).add(
        "d/f", "x", mode=0o4000, uid=1 << 21, mtime=-5).add("d/none", "y", mode=0).bytes(),
    "nodes": lambda t: Layer().add("n", kind=tarfile.CHRTYPE, dev=(1, 3)).add(
        "b", kind=tarfile.BLKTYPE, dev=(7, 0)).add("p", kind=tarfile.FIFOTYPE).bytes(),
    "whiteouts": lambda t: Layer().add("d/.wh.x").add(".wh..wh..opq").add("d/f", "x").add(
        ".wh.gone", "with bytes").bytes(),
    "hard links": lambda t: Layer().add("a", "first").hardlink("b", "a").hardlink("d/c", "b").add(
        "e", "second").hardlink("a2", "e").bytes(),
    "replaced": lambda t: Layer().add("f", "1" * 70000).add("f", "22").add("g").add("f", "333").add(
        "g", "4").bytes(),
    "replaced by nothing": lambda t: Layer().add("f", "1" * 7).add("f", "").bytes(),
    "replaced by others": lambda t: Layer().add("f", "1").symlink("f", "x").add("g", "2").dir(
        "g").add("g/h", "3").add("i", "4").hardlink("i", "g/h").bytes(),
    "a tree replaced": lambda t: Layer().add("d/e/f", "1").add("d/g", "2" * 1000).dir("d/e/h").add(
        "d/e/h/i", "3").add("z", "4").add("d", "a file").add("d", "another").bytes(),
    "a link's first name replaced": lambda t: Layer().add("a", "1").hardlink("b", "a").add(
        "a", "2").add("b", "3").hardlink("c", "b").add("b", "4").bytes(),
    "holes replaced": replaced_sparse,
    "an inode again": lambda t: Layer().add("a", "1").add("a", "2").add("b", "3").add("b", "4").add(
        "a", "5").add("b", "6").bytes(),
    "through links": lambda t: Layer().dir("d").symlink("l", "d").add("l/f", "x").symlink(
        "m", "/l/../d").add("m/g", "y").add("d/f", "z").bytes(),
    "a path too long": lambda t: member(deep(30, "f"), b"1") + member(
        "l", kind=tarfile.SYMTYPE, link=deep(30, "")) + member("l/" + deep(15, "g"), b"2") + END,
    "a path too long, replaced": lambda t: member(deep(30, "f"), b"1") + member(
        "l", kind=tarfile.SYMTYPE, link=deep(30, "")) + member("l/" + deep(15, "g"), b"2") +
    member("l/" + deep(15, "g"), b"3") + member("x" * 99, b"4") + END,
}


@pytest.mark.parametrize("what", TARS)
def test_byte_for_byte(d, tmp_path, what):
    tars = [TARS[what](tmp_path), Layer().add("above", "x").bytes()]
    im = load(d, Image(tars, compress="tar"), tmp_path, "s/bytes:1")
    files = checked(save(d, "s/bytes:1"))
    for t in tars:
        assert files["blobs/sha256/" + sha256(t)[7:]] == t
    assert verify(d) == [(im.id[7:], "good", "")]


@pytest.mark.parametrize("how", ["gzip", "zstd", "members"])
def test_what_was_compressed(d, tmp_path, how):
    tar = TARS["replaced"](tmp_path) + os.urandom(300000)
    im = Image([tar], compress="zstd" if how == "zstd" else "gzip")
    if how == "members":
        blob = gzip.compress(tar[:5000]) + gzip.compress(tar[5000:])
        m = json.loads(im.manifest)
        m["layers"][0].update(digest=im.put(blob), size=len(blob))
        im.manifest = json.dumps(m).encode()
        im.digest = im.put(im.manifest)
    im.oci_archive(str(tmp_path / "o.tar"), "s/packed:1")
    d.load(str(tmp_path / "o.tar"))
    assert checked(save(d, "s/packed:1"))["blobs/sha256/" + sha256(tar)[7:]] == tar


def test_copied_up(d, tmp_path):
    """A hard link into a lower layer has bytes in the directory, but none in the tar."""
    lower = Layer().add("a", "lower").bytes()
    upper = Layer().hardlink("b", "a").add("c", "1").add("b", "2").hardlink("d", "a").bytes()
    im = load(d, Image([lower, upper]), tmp_path, "s/up:1")
    files = checked(save(d, im.id))
    assert files["blobs/sha256/" + sha256(upper)[7:]] == upper


def test_several_images(d, tmp_path):
    """What they have in common is written once; each has the tags that were asked for."""
    one, two = make(d, tmp_path, "one", "m/one:1", "m/one:2"), make(d, tmp_path, "two", "m/two:1")
    three = load(d, Image([Layer().add("f", "three").bytes()]), tmp_path)
    data = save(d, "m/one:2", "m/two:1", three.id[7:19], "m/two:1", two.id)
    files = checked(data)
    docker = {m["Config"][13:]: m["RepoTags"] for m in json.loads(files["manifest.json"])}
    assert docker == {one.id[7:]: ["docker.io/m/one:2"], two.id[7:]: ["docker.io/m/two:1"],
                      three.id[7:]: []}
    assert len([x for x in files if x.startswith("blobs/")]) == 3 * 2 + 4
    for im in (one, two, three):
        remove(d, im)
    put(d, tmp_path / "a.tar", data)
    assert [status(d, x).id for x in ("m/one:2", "m/two:1", three.id)] == [one.id, two.id, three.id]
    assert not status(d, "m/one:1")


def test_by_oci_layout_alone(d, tmp_path):
    """The other half of the archive, as readers of OCI see it."""
    im = make(d, tmp_path, "oci", "quay.io/o/i:1")
    files = checked(save(d, "quay.io/o/i:1"))
    remove(d, im)
    del files["manifest.json"]
    for name, data in files.items():
        os.makedirs(os.path.dirname(str(tmp_path / "l" / name)), exist_ok=True)
        (tmp_path / "l" / name).write_bytes(data)
    d.load(str(tmp_path / "l"))
    assert status(d, "quay.io/o/i:1").id == im.id


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_reads(d, tmp_path, form):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    im = load(d, rich(tmp_path), tmp_path, "quay.io/s/k:3")
    path, out = str(tmp_path / "saved.tar"), str(tmp_path / "out")
    with open(path, "wb") as f:
        f.write(save(d, "quay.io/s/k:3"))
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')

    def skopeo(*args):
        return subprocess.run(["skopeo", "--policy", str(policy), *args], check=True,
                              stdout=subprocess.PIPE).stdout
    name = "%s:%s:%s" % (form, path, "quay.io/s/k:3" if form == "docker-archive" else "3")
    assert json.loads(skopeo("inspect", "--config", "--raw", name)) == json.loads(im.config)
    skopeo("copy", name, "dir:" + out)
    for t in im.tars:
        with open("%s/%s" % (out, sha256(t)[7:]), "rb") as f:
            assert f.read() == t
    with open("%s/%s" % (out, im.id[7:]), "rb") as f:
        assert f.read() == im.config


@pytest.fixture
def registry():
    with Registry() as r:
        yield r


def test_what_was_pulled(d, registry):
    im = Image([Layer().add("a", "1").bytes(), Layer().add("b", "2").bytes()], compress="zstd")
    ref = registry.add(im, "p/saved", "1")
    pull(d, ref)
    files = checked(save(d, ref))
    assert [files["blobs/sha256/" + sha256(t)[7:]] for t in im.tars] == im.tars
    assert files["blobs/sha256/" + im.id[7:]] == im.config


# --- what cannot be saved ---

def test_refused(d, tmp_path):
    make(d, tmp_path, "refused", "r/a:1")
    refused(lambda: save(d), CODE.INVALID_ARGUMENT, "images")
    refused(lambda: save(d, "r/a:1", "r/none:1"), CODE.NOT_FOUND, "r/none:1")
    refused(lambda: save(d, "r/a:1", ""), CODE.INVALID_ARGUMENT)


def test_an_artifact(d, registry):
    ref = registry.add(Artifact([(b"model", "model.bin")]), "p/artifact", "1")
    pull(d, ref)
    refused(lambda: save(d, ref), CODE.FAILED_PRECONDITION, "artifact")
    assert verify(d)[0][1] == "good"


def change_layer(d, im, i, change):
    path = layer_of(d, im, i) + ".json"
    with open(path) as f:
        r = json.load(f)
    change(r)
    with open(path, "w") as f:
        json.dump(r, f)


def test_without_recipes(d, tmp_path):
    """Layers of before there were any: used and good, but not saved; pulled anew they are."""
    im = make(d, tmp_path, "old", "r/old:1")
    change_layer(d, im, 0, lambda r: r.pop("recipe"))
    os.unlink(layer_of(d, im) + ".recipe")
    refused(lambda: save(d, "r/old:1"), CODE.FAILED_PRECONDITION, "older version", "pull it again",
            recorded(d, im)["layers"][0])
    assert verify(d) == [(im.id[7:], "good", "")]
    remove(d, im)
    make(d, tmp_path, "old", "r/old:1")
    save(d, "r/old:1")


@pytest.mark.parametrize("limit,rest", [("recipe.bytes:20000", os.urandom(300000)),
                                        ("stream.free:300000", bytes(1 << 20))],
                         ids=["much", "zeros"])
def test_recipe_too_large(tmp_path, limit, rest):
    """A layer with more beside its files than is kept, or than could be read again: it can be used."""
    d = Daemon(env={"GANTRY_LIMIT": limit})
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        im = load(d, Image([Layer().add("f", "x").bytes() + rest]), tmp_path, "r/large:1")
        assert verify(d) == [(im.id[7:], "good", "")]
        refused(lambda: save(d, "r/large:1"), CODE.FAILED_PRECONDITION, "too much")
        assert not [x for x in os.listdir(d.root + "/layers") if x.endswith("recipe")]
        make(d, tmp_path, "small", "r/small:1")
        save(d, "r/small:1")
    finally:
        d.close()


def to_link(path):
    lose(path)
    os.symlink("/etc/passwd", path)


def to_fifo(path):
    lose(path)
    os.mkfifo(path)


DAMAGES = {
    "content": (lambda d, im: rewrite(layer_of(d, im, 1) + "/etc/file", flip), "files are not"),
    "shorter": (lambda d, im: rewrite(layer_of(d, im, 1) + "/etc/new", lambda x: x[:-1]), "shorter"),
    "missing": (lambda d, im: lose(layer_of(d, im, 1) + "/etc/attr"), '"etc/attr"'),
    "a link": (lambda d, im: to_link(layer_of(d, im, 1) + "/etc/attr"), '"etc/attr"'),
    "a fifo": (lambda d, im: to_fifo(layer_of(d, im, 1) + "/etc/attr"), '"etc/attr"'),
    "directory": (lambda d, im: shutil.rmtree(layer_of(d, im, 1) + "/etc"), '"etc/'),
    "no layer": (lambda d, im: shutil.rmtree(layer_of(d, im, 1)), "opened"),
    "recipe": (lambda d, im: rewrite(layer_of(d, im) + ".recipe", flip), "recipe"),
    "short recipe": (lambda d, im: rewrite(layer_of(d, im) + ".recipe", lambda x: x[:-1]), "recipe"),
    "no recipe": (lambda d, im: os.unlink(layer_of(d, im) + ".recipe"), "recipe"),
    "no record": (lambda d, im: os.unlink(layer_of(d, im, 1) + ".json"), "record"),
    "configuration": (lambda d, im: rewrite(config_of(d, im), flip), "configuration"),
    "no configuration": (lambda d, im: os.unlink(config_of(d, im)), "configuration"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged(d, tmp_path, what):
    """Told, and marked as by a verification: not used any more, made whole by the next load."""
    upper = Layer().dir("etc").add("etc/file", "content" * 5000).add("etc/new", "new").add(
        "etc/attr", "a")
    top = Layer().add("twice", "1").add("twice", "2")
    im = load(d, Image([Layer().add("low", "l").bytes(), upper.bytes(), top.bytes()]), tmp_path,
              "v/damaged:1")
    other = make(d, tmp_path, "other", "v/other:1")
    how, words = DAMAGES[what]
    how(d, im)
    layer = recorded(d, im)["layers"]
    refused(lambda: save(d, "v/other:1", "v/damaged:1"), CODE.DATA_LOSS, "damaged", words, im.id[7:])
    if "configuration" not in what:
        assert any("layer %s: " % x in recorded(d, im)["damaged"] for x in layer)
    assert "is damaged" in d.log_text()
    assert [x.id for x in d.cri.ListImages().images] == [other.id]
    refused(lambda: save(d, "v/damaged:1"), CODE.NOT_FOUND, "damaged")
    save(d, "v/other:1")
    load(d, im, tmp_path, "v/damaged:1")
    checked(save(d, "v/damaged:1"))
    assert [x[1] for x in verify(d)] == ["good", "good"]
    prune(d)


def test_verify_sees_the_recipe(d, tmp_path):
    for how in (lambda p: rewrite(p, flip), os.unlink):
        im = make(d, tmp_path, "verified", "v/recipe:1")
        how(layer_of(d, im) + ".recipe")
        (_, state, problem), = verify(d)
        assert state == "damaged" and "recipe" in problem
        make(d, tmp_path, "verified", "v/recipe:1")
        assert verify(d)[0][1] == "good"
    prune(d)


# --- recipes of strangers ---

def u64(*v):
    return struct.pack("<%dQ" % len(v), *v)


HEAD = b"gantry layer recipe 1\n"


def rec(kind, *numbers, data=b""):
    return kind + u64(*numbers) + data


def recipe(tar, path=b"f", at=512, n=5):
    return HEAD + rec(b"L", at, data=tar[:at]) + rec(b"F", len(path), data=path) + \
        rec(b"S", 0, n) + rec(b"L", len(tar) - at - n, data=tar[at + n:]) + rec(b"E", len(tar))


FRONT = HEAD + rec(b"F", 1, data=b"f")
HOSTILE = {  # what: the recipe below zstd, of `tar`, which has the file "f" with "hello"
    "another head": lambda tar: b"gantry layer recipe 2\n" + recipe(tar)[len(HEAD):],
    "nothing": lambda tar: HEAD,
    "no end": lambda tar: recipe(tar)[:-9],
    "wrong end": lambda tar: recipe(tar)[:-9] + rec(b"E", len(tar) + 1),
    "more after it": lambda tar: recipe(tar) + b"x",
    "another kind": lambda tar: HEAD + b"X",
    "out of the layer": lambda tar: recipe(tar, b"../victim"),
    "absolute": lambda tar: recipe(tar, b"/etc/hostname"),
    "through a link": lambda tar: recipe(tar, b"link"),
    "by the layer's name": lambda tar: recipe(tar, b"d/../f/../../lock"),
    "a directory": lambda tar: recipe(tar, b"d"),
    "a NUL in a path": lambda tar: recipe(tar, b"f\0g"),
    "an empty path": lambda tar: recipe(tar, b""),
    "a long path": lambda tar: HEAD + rec(b"F", 4096, data=b"x" * 4096) + rec(b"E", 0),
    "too many bytes at once": lambda tar: HEAD + rec(b"L", 1 << 62, data=tar),
    "no bytes": lambda tar: HEAD + rec(b"L", 0) + rec(b"E", 0),
    "of no file": lambda tar: HEAD + rec(b"S", 0, 5) + rec(b"E", 5),
    "far away": lambda tar: FRONT + rec(b"S", 1 << 63, 1) + rec(b"E", 1),
    "very much": lambda tar: FRONT + rec(b"S", 0, (1 << 64) - 1) + rec(b"E", (1 << 64) - 1),
    "terabytes": lambda tar: FRONT + rec(b"S", 0, 1 << 42) * 2 + rec(b"E", 1 << 43),
    "more than the file": lambda tar: recipe(tar, n=6),
    "kept of no file": lambda tar: HEAD + rec(b"K", 0, 0, 1, data=b"x") + rec(b"E", 0),
    "kept far away": lambda tar: FRONT + rec(b"K", 0, 1 << 60, 1, data=b"x") + rec(b"E", 0),
    "kept too much": lambda tar: FRONT + rec(b"K", 0, 0, 1 << 20, data=b"x" * (1 << 20)),
    "kept wrongly": lambda tar: recipe(tar)[:-9] + rec(b"K", 0, 0, 5, data=b"HELLO") +
    rec(b"E", len(tar)),
    "other bytes": lambda tar: recipe(tar).replace(b"ustar", b"USTAR"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_recipe(d, tmp_path, what):
    tar = Layer().add("f", "hello").dir("d").symlink("link", "f").bytes()
    im = load(d, Image([tar]), tmp_path, "h/a:1")

    def change(text):
        data = zstd(text)
        with open(layer_of(d, im) + ".recipe", "wb") as f:
            f.write(data)
        change_layer(d, im, 0, lambda r: r.update(recipe=sha256(data)))
    at = tar.index(b"hello")
    assert at == 512
    change(recipe(tar))  # one that is none of ours, and right
    assert checked(save(d, "h/a:1"))["blobs/sha256/" + sha256(tar)[7:]] == tar
    change(HOSTILE[what](tar))
    refused(lambda: save(d, "h/a:1"), CODE.DATA_LOSS, "damaged", im.id[7:])
    assert not d.cri.ListImages().images
    load(d, im, tmp_path, "h/a:1")
    prune(d)


def test_more_than_eight_gigabytes(d, tmp_path):
    """Sizes that have too many digits for a header of tar: seen before the layer proves to be short."""
    im = load(d, Image([Layer().add("f", "hello").bytes()]), tmp_path, "h/a:1")
    data = zstd(FRONT + rec(b"S", 0, 9 << 30) + rec(b"E", 9 << 30))
    with open(layer_of(d, im) + ".recipe", "wb") as f:
        f.write(data)
    change_layer(d, im, 0, lambda r: r.update(recipe=sha256(data)))
    call, out = d.cri.Save(images=["h/a:1"]), b""
    with pytest.raises(grpc.RpcError) as e:
        for m in call:
            out += m.data
            assert m.total_bytes == 0 or m.total_bytes > 9 << 30
    assert e.value.code() == CODE.DATA_LOSS and "shorter" in e.value.details()
    with tarfile.open(fileobj=io.BytesIO(out), mode="r|") as t:
        last = None
        with pytest.raises(tarfile.ReadError):
            for last in t:
                pass
    assert last.size == 9 << 30 and last.name.startswith("blobs/sha256/")
    load(d, im, tmp_path, "h/a:1")
    prune(d)


def test_recipe_that_is_no_zstd(d, tmp_path):
    im = make(d, tmp_path, "none", "h/a:1")
    for data in (b"", b"x", HEAD, os.urandom(1000), zstd(HEAD)[:-3]):
        with open(layer_of(d, im) + ".recipe", "wb") as f:
            f.write(data)
        change_layer(d, im, 0, lambda r: r.update(recipe=sha256(data)))
        refused(lambda: save(d, "h/a:1"), CODE.DATA_LOSS, "recipe")
        make(d, tmp_path, "none", "h/a:1")
    prune(d)


# --- interrupted ---

def big(d, tmp_path, *tags):
    return load(d, Image([Layer().add("a", os.urandom(24 << 20)).bytes(),
                          Layer().add("b", os.urandom(24 << 20)).bytes()], compress="tar"),
                tmp_path, *tags)


def test_given_up(d, tmp_path):
    """A client that goes, or does not read: the worker ends, nothing is left."""
    big(d, tmp_path, "i/big:1")
    call = d.cri.Save(images=["i/big:1"])
    assert next(call).data
    call.cancel()
    wait_for(lambda: not workers(d) and os.listdir(d.root + "/tmp") == [])
    call = d.cri.Save(images=["i/big:1"], rpc_timeout=SLOW)
    assert next(call).data
    with pytest.raises(grpc.RpcError) as e:
        for _ in call:
            wait_for(lambda: call.code() or not workers(d))
    assert e.value.code() == CODE.DEADLINE_EXCEEDED
    wait_for(lambda: not workers(d) and os.listdir(d.root + "/tmp") == [])
    assert len(checked(save(d, "i/big:1"))) == 7


def test_removed_meanwhile(d, tmp_path):
    """It is whole, or is said not to be: never damaged."""
    im = big(d, tmp_path, "i/big:1")
    call = d.cri.Save(images=["i/big:1"])
    assert next(call).data
    remove(d, im)
    with pytest.raises(grpc.RpcError) as e:
        list(call)
    assert e.value.code() == CODE.ABORTED and "meanwhile" in e.value.details()


def test_worker_killed(tmp_path):
    mark = str(tmp_path / "mark")
    d = Daemon(env={"GANTRY_FAULT": "worker.save.layer", "GANTRY_FAULT_MARK": mark})
    g = Cli(d)
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        make(d, tmp_path, "one", "k/one:1")
        out = tmp_path / "out"
        out.mkdir()
        assert "gantry-worker ended" in g.fails("save", "-q", "-o", str(out / "a.tar"), "k/one:1")
        assert os.path.exists(mark) and os.listdir(str(out)) == []
        g("save", "-q", "-o", str(out / "a.tar"), "k/one:1")
        assert os.listdir(str(out)) == ["a.tar"]
    finally:
        d.close()


@pytest.mark.parametrize("point", ["worker.commit.recipe", "worker.commit.layer"])
def test_load_killed(tmp_path, point):
    """A layer is there with its recipe, or is not there."""
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": str(tmp_path / "mark")})
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        refused(lambda: make(d, tmp_path, "one", "k/one:1"), CODE.INTERNAL, "gantry-worker")
        make(d, tmp_path, "one", "k/one:1")
        checked(save(d, "k/one:1"))
        restarted(d)
        wait_for(lambda: len(os.listdir(d.root + "/layers")) == 8)
        assert verify(d)[0][1] == "good"
    finally:
        d.close()


def test_recipes_are_counted(d, tmp_path):
    """They go with their layer, and what they take is said."""
    im = load(d, Image([Layer().add("f", "x").bytes() + os.urandom(1 << 20)]), tmp_path, "c/a:1")
    path = layer_of(d, im) + ".recipe"
    assert os.stat(path).st_size > 1 << 20
    freed = prune(d, all=True, dry_run=True).freed_bytes
    assert freed > 1 << 20
    assert prune(d, all=True).freed_bytes == freed
    assert os.listdir(d.root + "/layers") == []


# --- the command ---

def test_gantry_save(d, tmp_path):
    g = Cli(d)
    im = make(d, tmp_path, "cli", "c/a:1")
    data = save(d, "c/a:1")
    out = str(tmp_path / "a.tar")
    assert g("save", "-o", out, "c/a:1") == "" and "archive: saving" in g.err
    with open(out, "rb") as f:
        assert f.read() == data
    assert os.stat(out).st_mode & 0o777 == 0o600
    assert g("save", "-q", "c/a:1", text=False) == data == g("save", "-qo", "-", "c/a:1", text=False)
    os.symlink("a.tar", str(tmp_path / "link"))
    (tmp_path / "a.tar").write_bytes(b"old")
    g("save", "-qo", str(tmp_path / "link"), "c/a:1")  # what it leads to is replaced
    assert os.path.islink(str(tmp_path / "link")) and (tmp_path / "a.tar").read_bytes() == data
    before = sorted(os.listdir(str(tmp_path)))
    assert "is not on this node" in g.fails("save", "-o", out, "c/none:1")
    assert (tmp_path / "a.tar").read_bytes() == data
    assert "too few arguments" in g.fails("save", "-o", out, status=2)
    assert "Is a directory" in g.fails("save", "-o", str(tmp_path), "c/a:1")
    assert "No such file" in g.fails("save", "-o", str(tmp_path / "no/where"), "c/a:1")
    assert sorted(os.listdir(str(tmp_path))) == before
    g("save", "-qo", "relative.tar", "c/a:1", cwd=str(tmp_path))
    assert (tmp_path / "relative.tar").read_bytes() == data
    remove(d, im)
    assert "Loaded docker.io/c/a:1" in g("load", out)


def test_not_to_a_terminal(d, tmp_path):
    g = Cli(d)
    make(d, tmp_path, "tty", "c/a:1")
    ours, theirs = pty.openpty()
    p = subprocess.Popen([GANTRY, "save", "c/a:1"], stdout=theirs,
                         stderr=subprocess.PIPE, text=True,
                         env=dict(os.environ, GANTRY_ADDRESS=d.address))
    assert "terminal" in p.communicate()[1] and p.returncode == 1
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("env", [{}, {"GANTRY_NO_TMPFILE": "1"}], ids=["nameless", "named"])
def test_command_interrupted(d, tmp_path, how, env):
    """Nothing is left of the file, whatever ends it; the old one is as it was."""
    if env and not has_points():
        pytest.skip(NO_POINTS)
    g = Cli(d)
    big(d, tmp_path, "i/big:1")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.tar").write_bytes(b"old")
    p = g.popen("save", "-q", "-o", str(out / "a.tar"), "i/big:1", env=env)
    worker = wait_for(lambda: workers(d) or p.poll() is not None)
    assert p.poll() is None and worker
    for w in worker:
        os.kill(w, signal.SIGSTOP)
    p.send_signal(how)
    p.communicate(timeout=60 * SLOW)
    assert p.returncode == (-9 if how == signal.SIGKILL else 130)
    assert (out / "a.tar").read_bytes() == b"old"
    left = set(os.listdir(str(out))) - {"a.tar"}
    assert len(left) == (1 if env and how == signal.SIGKILL else 0)
    for w in worker:
        os.kill(w, signal.SIGCONT)
    wait_for(lambda: not workers(d))
    make(d, tmp_path, "small", "i/small:1")
    (out / "a.tar.tmp-something").touch()  # somebody else's
    g("save", "-q", "-o", str(out / "a.tar"), "i/small:1", env=env)
    assert sorted(os.listdir(str(out))) == ["a.tar", "a.tar.tmp-something"]
    assert (out / "a.tar").read_bytes() == save(d, "i/small:1")


def test_a_reader_that_does_not_read(d, tmp_path):
    g = Cli(d)
    big(d, tmp_path, "i/big:1")
    p = g.popen("save", "-q", "i/big:1", text=False)
    size = fcntl.fcntl(p.stdout, fcntl.F_GETPIPE_SZ)
    filled = bytearray(4)

    def stuck():
        fcntl.ioctl(p.stdout, termios.FIONREAD, filled)
        with open("/proc/%d/stat" % p.pid) as f:
            waits = f.read().rsplit(")", 1)[1].split()[0] == "S"
        return waits and struct.unpack("i", filled)[0] > size // 2
    wait_for(stuck)
    p.send_signal(signal.SIGINT)
    assert p.wait(60 * SLOW) == 130
    p.stdout.close()
    p.stderr.close()
    wait_for(lambda: not workers(d))


def test_a_disk_that_is_full(d, tmp_path):
    g = Cli(d)
    big(d, tmp_path, "i/big:1")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)], check=True)
    try:
        assert "No space left" in g.fails("save", "-q", "-o", str(small / "a.tar"), "i/big:1")
        assert os.listdir(str(small)) == []
        wait_for(lambda: not workers(d))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_event_loop_goes_on(d, tmp_path):
    """While archives are saved, others are answered; what is not read takes no memory."""
    big(d, tmp_path, "i/big:1")
    calls = [d.cri.Save(images=["i/big:1"]) for _ in range(4)]
    sums = [hashlib.sha256(next(c).data) for c in calls]
    for _ in range(50):
        assert len(d.cri.ListImages().images) == 1
    for c, h in zip(calls, sums):
        for m in c:
            h.update(m.data)
    assert len({h.digest() for h in sums}) == 1
