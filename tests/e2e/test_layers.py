# SPDX-License-Identifier: Apache-2.0
"""Layers on the disk: what a tar becomes, and what hostile ones do not do."""
import bz2
import contextlib
import gzip
import io
import json
import os
import stat
import struct
import subprocess
import tarfile

import grpc
import pytest

from cri import api
from daemon import Daemon
from fixtures import empty as d, emptied  # noqa: F401
from image import Image, Layer, zstd
from test_store import NO_POINTS, has_points

CODE = grpc.StatusCode


def load(d, tmp_path, *layers, **kw):
    im = Image([x.bytes() if isinstance(x, Layer) else x for x in layers], **kw)
    path = str(tmp_path / ("%s.tar" % im.id[7:19]))
    im.oci_archive(path, "test/layers:latest")
    d.load(path)
    return im


def refused(d, tmp_path, *layers, code=CODE.DATA_LOSS, **kw):
    with pytest.raises(grpc.RpcError) as e:
        load(d, tmp_path, *layers, **kw)
    assert e.value.code() == code, e.value.details()
    assert os.listdir(d.root + "/layers") == [] and os.listdir(d.root + "/tmp") == []
    return e.value.details()


def dirs(d, im):
    """The image's layers, topmost first."""
    with open("%s/images/%s.json" % (d.root, im.id[7:])) as f:
        return ["%s/layers/%s" % (d.root, x) for x in json.load(f)["layers"]]


@contextlib.contextmanager
def merged(d, im, tmp_path):
    """The tree that a container would see."""
    empty, at = str(tmp_path / "empty"), str(tmp_path / "merged")
    os.makedirs(empty, exist_ok=True)
    os.makedirs(at, exist_ok=True)
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join([empty] + dirs(d, im)),
                    "overlay", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def tree(at):
    found = []
    for base, ds, fs in os.walk(at):
        for n in ds + fs:
            p = os.path.join(base, n)
            os.lstat(p)         # what is listed is there
            found.append(os.path.relpath(p, at) + ("/" if n in ds and not os.path.islink(p) else ""))
    return sorted(found)


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


# --- whiteouts ---

def test_whiteouts(d, tmp_path):
    low = Layer().dir("a").add("a/x", "1").add("a/y", "2").dir("b").dir("b/c").add("b/c/z", "3") \
        .add("f", "4").dir("keep").add("keep/k", "5")
    up = Layer().dir("a").add("a/.wh.x").add(".wh.b").add(".wh.f").add(".wh.never") \
        .dir("keep").add("keep/.wh.nothing").dir("new").add("new/.wh.nothing")
    im = load(d, tmp_path, low, up)
    with merged(d, im, tmp_path) as at:
        assert tree(at) == ["a/", "a/y", "keep/", "keep/k", "new/"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_removed_and_made_again(d, tmp_path, order):
    low = Layer().dir("dir").add("dir/old", "1").add("file", "old").symlink("link", "dir") \
        .dir("opaque").add("opaque/old", "1").dir("opaque/sub").add("opaque/sub/old", "1")
    up = Layer()

    def whiteouts():
        up.add(".wh.dir").add(".wh.file").add(".wh.link").add("opaque/.wh..wh..opq")
    if order == "before":
        whiteouts()
    up.dir("dir").add("dir/new", "2").add("file", "new").dir("link").add("link/new", "2") \
        .add("opaque/new", "2").add("opaque/sub/new", "2")
    if order == "after":
        whiteouts()
    im = load(d, tmp_path, low, up)
    with merged(d, im, tmp_path) as at:
        assert tree(at) == ["dir/", "dir/new", "file", "link/", "link/new", "opaque/",
                            "opaque/new", "opaque/sub/", "opaque/sub/new"]
        assert read(at, "file") == "new"


def test_whiteout_of_a_link_and_below_it(d, tmp_path):
    """A removed link leads nowhere any more, also in the same layer."""
    low = Layer().dir("real").add("real/r", "1").symlink("way", "real")
    up = Layer().add(".wh.way").add("way/n", "2")
    im = load(d, tmp_path, low, up)
    with merged(d, im, tmp_path) as at:
        assert tree(at) == ["real/", "real/r", "way/", "way/n"]


def test_whiteouts_over_three_layers(d, tmp_path):
    im = load(d, tmp_path, Layer().dir("a").dir("a/b").add("a/b/c", "1"), Layer().add(".wh.a"),
              Layer().add("a/b/d", "2").add("a/b/.wh.c"))
    with merged(d, im, tmp_path) as at:
        assert tree(at) == ["a/", "a/b/", "a/b/d"]


# --- directories that a layer does not name, links ---

def test_implicit_directories_are_those_below(d, tmp_path):
    low = Layer().dir("opt", 0o2750, uid=7, gid=8, mtime=1234567890, xattrs={"user.k": "v"})
    im = load(d, tmp_path, low, Layer().add("opt/f", "x"))
    s = os.lstat(dirs(d, im)[0] + "/opt")
    assert (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid, s.st_mtime) == (0o2750, 7, 8, 1234567890)
    assert os.getxattr(dirs(d, im)[0] + "/opt", "user.k") == b"v"


def test_links_of_lower_layers_are_followed(d, tmp_path):
    low = Layer().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").symlink("abs", "/usr/lib") \
        .symlink("up", "../../../usr/lib").symlink("two", "lib")
    up = Layer()
    for n in ("lib", "abs", "up", "two"):
        up.add(n + "/" + n + ".so", n)
    im = load(d, tmp_path, low, up)
    with merged(d, im, tmp_path) as at:
        for n in ("lib", "abs", "up", "two"):
            assert os.path.islink(at + "/" + n)
            assert read(at, "usr/lib", n + ".so") == n
    assert sorted(os.listdir(dirs(d, im)[0])) == ["usr"]


def test_hard_links(d, tmp_path):
    low = Layer().add("low", "L", mode=0o4755, uid=3, xattrs={"user.k": "v"}).dir("d")
    up = Layer().add("one", "1").hardlink("two", "one").hardlink("d/three", "/one") \
        .hardlink("four", "low").hardlink("d/five", "./low")
    im = load(d, tmp_path, low, up)
    top = dirs(d, im)[0]
    assert os.lstat(top + "/one").st_ino == os.lstat(top + "/two").st_ino == \
        os.lstat(top + "/d/three").st_ino
    s = os.lstat(top + "/four")
    assert s.st_ino == os.lstat(top + "/low").st_ino == os.lstat(top + "/d/five").st_ino
    assert (stat.S_IMODE(s.st_mode), s.st_uid) == (0o4755, 3) and read(top, "four") == "L"
    assert os.getxattr(top + "/four", "user.k") == b"v"
    with merged(d, im, tmp_path) as at:
        assert os.lstat(at + "/low").st_nlink == 3


def test_many_layers_in_any_order_of_arrival(d, tmp_path):
    """Each layer links to, removes and goes through what the one below made."""
    layers = [Layer().dir("d0").add("d0/f", "0").symlink("s0", "d0")]
    for i in range(1, 25):
        layers.append(Layer().add("s%d/g" % (i - 1), str(i)).hardlink("h%d" % i, "d%d/f" % (i - 1))
                      .dir("d%d" % i).add("d%d/f" % i, str(i)).symlink("s%d" % i, "d%d" % i)
                      .add(".wh.h%d" % (i - 1)))
    im = load(d, tmp_path, *layers)
    with merged(d, im, tmp_path) as at:
        assert read(at, "d23/g") == "24" and read(at, "h24") == "23"
        assert not os.path.exists(at + "/h23")
        assert all(read(at, "d%d/f" % i) == str(i) for i in range(25))


# --- what entries carry ---

def test_modes_owners_times(d, tmp_path):
    layer = Layer().dir("d", 0o1777, mtime=5).add("d/f", "x", mode=0o6755, uid=1000, gid=2000,
                                                 mtime=1234567890.123456789) \
        .add("old", mtime=-1.25).symlink("l", "nowhere", uid=9, gid=9, mtime=77) \
        .add("huge", uid=4000000000, gid=3000000000)
    im = load(d, tmp_path, layer)
    top = dirs(d, im)[0]
    s = os.lstat(top + "/d/f")
    assert (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid) == (0o6755, 1000, 2000)
    assert abs(s.st_mtime_ns - 1234567890123456789) < 1000
    s = os.lstat(top + "/d")
    assert (stat.S_IMODE(s.st_mode), s.st_mtime) == (0o1777, 5)
    assert os.lstat(top + "/old").st_mtime == -1.25
    s = os.lstat(top + "/l")
    assert (s.st_uid, s.st_mtime) == (9, 77)
    assert os.lstat(top + "/huge").st_uid == 4000000000


def test_xattrs(d, tmp_path):
    cap = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    layer = Layer().add("f", "x", xattrs={"user.one": "1", "trusted.overlay.opaque": "y",
                                          "trusted.overlay.redirect": "/etc"}) \
        .dir("d", xattrs={"user.two": "2", "trusted.overlay.opaque": "y"})
    raw = layer.bytes()
    layer2 = Layer()
    t = tarfile.TarInfo("ping")
    t.mode = 0o755
    t.pax_headers = {"SCHILY.xattr.security.capability": cap.decode("utf-8", "surrogateescape")}
    layer2.tar.addfile(t)
    im = load(d, tmp_path, raw, layer2)
    up, low = dirs(d, im)
    assert os.listxattr(low + "/f") == ["user.one"] and os.listxattr(low + "/d") == ["user.two"]
    assert os.getxattr(up + "/ping", "security.capability") == cap


def test_devices(d, tmp_path):
    layer = Layer().add("null", kind=tarfile.CHRTYPE, dev=(1, 3), mode=0o666) \
        .add("disk", kind=tarfile.BLKTYPE, dev=(8, 300), mode=0o600) \
        .add("pipe", kind=tarfile.FIFOTYPE, mode=0o640)
    im = load(d, tmp_path, layer)
    top = dirs(d, im)[0]
    s = os.lstat(top + "/null")
    assert stat.S_ISCHR(s.st_mode) and s.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(s.st_mode) == 0o666
    s = os.lstat(top + "/disk")
    assert stat.S_ISBLK(s.st_mode) and s.st_rdev == os.makedev(8, 300)
    assert stat.S_ISFIFO(os.lstat(top + "/pipe").st_mode)


def test_a_device_must_not_be_a_whiteout(d, tmp_path):
    assert "0/0" in refused(d, tmp_path, Layer().add("x", kind=tarfile.CHRTYPE, dev=(0, 0)))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_long_names(d, tmp_path, form):
    buf = io.BytesIO()
    deep = "/".join(["d" * 200] * 10)
    with tarfile.open(fileobj=buf, mode="w", format=form) as t:
        for i in range(1, 11):
            x = tarfile.TarInfo("/".join(["d" * 200] * i))
            x.type, x.mode = tarfile.DIRTYPE, 0o755
            t.addfile(x)
        x = tarfile.TarInfo(deep + "/" + "f" * 255)
        x.size = 1
        t.addfile(x, io.BytesIO(b"x"))
        x = tarfile.TarInfo("link")
        x.type, x.linkname = tarfile.SYMTYPE, deep
        t.addfile(x)
        x = tarfile.TarInfo("hard")
        x.type, x.linkname = tarfile.LNKTYPE, deep + "/" + "f" * 255
        t.addfile(x)
    im = load(d, tmp_path, buf.getvalue())
    top = dirs(d, im)[0]
    assert os.readlink(top + "/link") == deep
    assert read(top, "hard") == "x" and read(top, deep, "f" * 255) == "x"


@pytest.mark.parametrize("how", [["--format=gnu"], ["--format=posix", "--sparse-version=0.0"],
                                 ["--format=posix", "--sparse-version=0.1"],
                                 ["--format=posix", "--sparse-version=1.0"]],
                         ids=["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files(d, tmp_path, how):
    src = tmp_path / "src"
    src.mkdir()
    with open(src / "sparse", "wb") as f:
        for i in range(40):
            f.seek(i << 20)
            f.write(b"%d" % i * 1000)
        f.truncate(50 << 20)
    with open(src / "after", "w") as f:
        f.write("after")
    tar = subprocess.run(["tar", "-C", str(src), "-S", *how, "-cf", "-", "sparse", "after"],
                         stdout=subprocess.PIPE, check=True).stdout
    assert len(tar) < 1 << 20
    im = load(d, tmp_path, tar)
    top = dirs(d, im)[0]
    s = os.lstat(top + "/sparse")
    assert s.st_size == 50 << 20 and s.st_blocks * 512 < 4 << 20
    assert subprocess.run(["cmp", str(src / "sparse"), top + "/sparse"]).returncode == 0
    assert read(top, "after") == "after"


# --- compression ---

def test_members_and_frames(d, tmp_path):
    tar = Layer().add("f", b"0123456789" * 100000).bytes()
    cut = len(tar) // 3
    skip = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    for n, blob in enumerate((gzip.compress(tar[:cut]) + gzip.compress(tar[cut:]),
                              gzip.compress(tar) + gzip.compress(b""),
                              zstd(tar[:cut]) + zstd(tar[cut:]), skip + zstd(tar) + skip,
                              gzip.compress(tar, 9), zstd(tar))):
        im = Image([tar], compress="tar", config={"Labels": {"n": str(n)}})
        data = im.blobs.pop(im.layer_digests[0])
        digest = im.put(blob)
        im.manifest = im.manifest.replace(im.layer_digests[0].encode(), digest.encode()).replace(
            b'"size": %d}' % len(data), b'"size": %d}' % len(blob))
        im.blobs.pop(im.digest)
        im.digest = im.put(im.manifest)
        path = str(tmp_path / ("%d.tar" % n))
        im.oci_archive(path, "test/m:%d" % n)
        d.load(path)
        assert os.path.getsize(dirs(d, im)[0] + "/f") == 1000000


def broken(tar, blob):
    im = Image([tar], compress="tar")
    im.blobs.pop(im.layer_digests[0])
    digest = im.put(blob)
    im.manifest = im.manifest.replace(im.layer_digests[0].encode(), digest.encode())
    im.blobs.pop(im.digest)
    im.digest = im.put(im.manifest)
    return im


def test_damaged_streams(d, tmp_path):
    tar = Layer().add("f", os.urandom(300000)).bytes()
    gz, zs = gzip.compress(tar), zstd(tar)
    flipped = bytearray(gz)
    flipped[len(gz) // 2] ^= 1
    for blob, word in ((gz[:-1000], "too early"), (zs[:-1000], "too early"), (gz + b"junk", "gzip"),
                       (zs + b"junk", ""), (bytes(flipped), ""), (bz2.compress(tar), "bzip2"),
                       (tar[:-5000], ""), (gz[:5], ""), (gz[:-8] + b"\0" * 8, "gzip")):
        path = str(tmp_path / "x.tar")
        broken(tar, blob).oci_archive(path, "test/m")
        with pytest.raises(grpc.RpcError) as e:
            d.load(path)
        assert e.value.code() == CODE.DATA_LOSS and word in e.value.details(), e.value.details()
    assert os.listdir(d.root + "/layers") == []


@pytest.mark.parametrize("limit, what, words", [
    ("unpack.entries:10", "entries", "more than 4194304 entries"),
    ("unpack.bytes:1000000", "random", "unpacks to more than 256 GiB"),
    ("stream.bytes:1000000", "random", "decompresses to more than 512 GiB"),
    ("stream.free:1000000", "zeros", "more than 1024 MiB and 200 times its size"),
])
@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_limits_of_a_layer(tmp_path, limit, what, words, compress):
    """The real ones would take a day: this daemon's are smaller."""
    if not has_points():
        pytest.skip(NO_POINTS)

    def layer(n):
        la = Layer()
        for i in range(n if what == "entries" else 1):
            la.add("f%d" % i, "" if what == "entries" else
                   os.urandom(n * 90000) if what == "random" else bytes(n * 90000))
        return la
    daemon = Daemon(env={"GANTRY_LIMIT": limit})
    try:
        load(daemon, tmp_path, layer(10), compress=compress)  # just not too much
        daemon.cri.RemoveImage(image=api.ImageSpec(image="test/layers:latest"))
        details = refused(daemon, tmp_path, layer(12), code=CODE.RESOURCE_EXHAUSTED,
                          compress=compress)
        assert words in details
    finally:
        daemon.close()


def test_a_layer_of_little_but_its_size_is_none_to_refuse(d, tmp_path):
    """Some zeros are in many layers."""
    im = load(d, tmp_path, Layer().add("disk", bytes(50 << 20)))
    assert os.path.getsize(dirs(d, im)[0] + "/disk") == 50 << 20


def test_empty_layers(d, tmp_path):
    im = load(d, tmp_path, b"", b"\0" * 1024, Layer().add("f", "x"))
    with merged(d, im, tmp_path) as at:
        assert tree(at) == ["f"]
    im = load(d, tmp_path)
    assert dirs(d, im) == []


# --- hostile ---

@pytest.fixture
def outside(d):
    """A file and a directory beside the store that must stay as they are."""
    os.makedirs(d.dir + "/victim", exist_ok=True)
    with open(d.dir + "/victim/f", "w") as f:
        f.write("safe")
    yield d.dir + "/victim"
    assert os.listdir(d.dir + "/victim") == ["f"] and read(d.dir, "victim/f") == "safe"
    assert not os.path.exists("/gantry-test-escaped")


def test_names_stay_inside(d, tmp_path, outside):
    ups = "../" * 30
    layer = Layer().add(ups + "escaped1", "x").add("/escaped2", "x").add("a/../../../escaped3", "x") \
        .add(ups + outside[1:] + "/in", "x").add("./././escaped4", "x").add("//escaped5", "x")
    im = load(d, tmp_path, layer)
    top = dirs(d, im)[0]
    assert {"escaped%d" % i for i in range(1, 6)} <= set(os.listdir(top))
    assert os.path.exists(top + outside + "/in")


def test_links_stay_inside(d, tmp_path, outside):
    layer = Layer().symlink("abs", outside).symlink("rel", "../" * 30 + outside[1:]) \
        .symlink("file", outside + "/f").symlink("self", ".").symlink("root", "/").add(
            "abs/one", "x").add("rel/two", "x").add("self/self/three", "x").add("root/four", "x") \
        .add("file", "replaced").symlink("dirlink", outside).dir("dirlink").add("dirlink/x", "y")
    im = load(d, tmp_path, layer)
    top = dirs(d, im)[0]
    assert sorted(os.listdir(top + outside)) == ["one", "two"]
    assert os.path.exists(top + "/three") and os.path.exists(top + "/four")
    assert not os.path.islink(top + "/file") and read(top, "file") == "replaced"
    assert not os.path.islink(top + "/dirlink") and os.path.exists(top + "/dirlink/x")


def test_links_of_lower_layers_stay_inside(d, tmp_path, outside):
    low = Layer().symlink("way", outside).symlink("p", "/proc/self/root").dir("d") \
        .symlink("d/up", "../../../../..")
    up = Layer().add("way/new", "x").add("p/gantry-test-escaped", "x").add(
        "d/up/gantry-test-escaped", "x").add("way/.wh.f")
    im = load(d, tmp_path, low, up)
    assert os.path.exists(dirs(d, im)[0] + outside + "/new")


def test_hard_links_stay_inside(d, tmp_path, outside):
    for target in (outside + "/f", "../" * 30 + outside[1:] + "/f", "way/f", "/proc/self/exe",
                   "..", ".", "", "/", "nowhere"):
        layer = Layer().symlink("way", outside).hardlink("got", target)
        refused(d, tmp_path, layer)
    # a link to a link is a name of the link, not of what it leads to
    im = load(d, tmp_path, Layer().symlink("way", outside + "/f").hardlink("got", "way"))
    assert os.readlink(dirs(d, im)[0] + "/got") == outside + "/f"


def test_bad_names(d, tmp_path, outside):
    for name in ("..", "a/..", ".wh...", ".wh..", "d/.wh.."):
        refused(d, tmp_path, Layer().dir("d").add(name, "x"))
    refused(d, tmp_path, Layer().add("f", "x").add("f/below", "x"))
    refused(d, tmp_path, Layer().symlink("a", "b").symlink("b", "a").add("a/x", "x"))
    refused(d, tmp_path, Layer().add("x" * 300, "x"))
    refused(d, tmp_path, Layer().add("/", "not a directory"))


def header(name=b"f", size=b"00000000001", kind=b"0", mode=b"0000644", linkname=b""):
    h = bytearray(512)
    h[0:len(name)] = name
    h[100:108] = mode.ljust(8, b"\0")
    h[108:116] = h[116:124] = b"0000000\0"
    h[124:136] = size.ljust(12, b"\0")
    h[136:148] = b"00000000000\0"
    h[156:157] = kind
    h[157:157 + len(linkname)] = linkname
    h[257:265] = b"ustar\x0000"
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


def pax(*records):
    body = b""
    for k, v in records:
        n = len(k) + len(v) + 3
        n += len(str(n + len(str(n))))
        body += b"%d %s=%s\n" % (n, k, v)
    return header(b"x", b"%011o" % len(body), b"x") + body.ljust(-(-len(body) // 512) * 512, b"\0")


def test_malformed_tars(d, tmp_path):
    one = b"x".ljust(512, b"\0")
    good = header() + one
    for raw in (header(size=b"7777777777777"[:11]) + one,             # longer than what is there
                header(size=b"\xff" + b"\xff" * 11) + one,              # negative
                header(size=b"\x80" + b"\xff" * 11) + one,              # enormous
                header(size=b"0000000009x"), header(kind=b"V"), header(kind=b"M"),
                good[:700], good[:100], b"\1" * 512, bytes([good[0] ^ 1]) + good[1:],
                pax((b"path", b"a\0b")) + good, pax((b"path", b"p" * 5000)) + good,
                pax((b"size", b"-1")) + good, pax((b"size", b"99999999999999999999")) + good,
                pax((b"uid", b"-5")) + good, pax((b"mtime", b"noon")) + good,
                pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + good,
                pax((b"GNU.sparse.map", b"5,9"), (b"GNU.sparse.size", b"3")) + good,
                pax((b"GNU.sparse.map", b"0,1,0,1"), (b"GNU.sparse.size", b"3")) + good,
                header(b"x", b"00000000005", b"x") + b"9 a=b".ljust(512, b"\0") + good,
                header(b"x", b"00000000006", b"x") + b"99 a=b".ljust(512, b"\0") + good,
                header(b"L", b"77777777777", b"L") + one):
        refused(d, tmp_path, raw)
    # an empty value takes the record back
    im = load(d, tmp_path, pax((b"path", b""), (b"size", b"")) + good)
    assert read(dirs(d, im)[0], "f") == "x"


def test_too_many_xattrs(d, tmp_path):
    refused(d, tmp_path, Layer().add("f", "x", xattrs={"user.a%d" % i: "x" for i in range(300)}))


# --- images of layers ---

def test_accounts_are_read_through_all_layers(d, tmp_path):
    """NixOS and others have links there, and what they lead to in another layer."""
    low = Layer().dir("store").add("store/passwd", "web:x:1000:1000::/:/bin/sh\n").dir("etc") \
        .add("etc/group", "old:x:1:\n")
    up = Layer().dir("etc").symlink("etc/passwd", "/store/passwd").add("etc/.wh.group")
    im = load(d, tmp_path, low, up)
    with open("%s/images/%s.json" % (d.root, im.id[7:])) as f:
        config = json.load(f)["config"]
    assert config["passwd"].startswith("web:") and config["group"] == ""
    hostile = Layer().dir("etc").symlink("etc/passwd", "/proc/self/root/etc/passwd") \
        .symlink("etc/group", "../../../../../../etc/group")
    im = load(d, tmp_path, hostile)
    with open("%s/images/%s.json" % (d.root, im.id[7:])) as f:
        config = json.load(f)["config"]
    assert config["passwd"] == config["group"] == ""


def test_as_many_layers_as_are_possible(fresh, busybox, tmp_path):
    d = fresh
    layers = [busybox.tars[0]] + [Layer().add("n%d" % i, str(i)).bytes() for i in range(126)]
    im = Image(layers, {"Env": ["PATH=/bin"]}, compress="tar")
    path = str(tmp_path / "many.tar")
    im.docker_archive(path, ["test/many:latest"])
    d.load(path)
    pod = d.run_pod()
    _, out = d.output(pod, "cat /n0 /n64 /n125; ls / | grep -c ^n", image="test/many:latest")
    assert out == "064125126\n"
    with pytest.raises(grpc.RpcError) as e:
        more = Image(layers + [Layer().bytes()], compress="tar")
        more.docker_archive(path, ["test/more:latest"])
        d.load(path)
    assert e.value.code() == CODE.INVALID_ARGUMENT and "128" in e.value.details()
