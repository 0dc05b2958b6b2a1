# SPDX-License-Identifier: Apache-2.0
"""gantry import: a root file system's tar becomes an image."""
import gzip
import json
import os
import platform
import tarfile

import grpc
import pytest

from cri import api
from daemon import Daemon, wait_for
from fixtures import BUSYBOX, empty as d, emptied  # noqa: F401
from image import Layer, busybox_layer, sha256, zstd
from test_cli import Cli
from test_save import checked, save
from test_store import NO_POINTS, has_points, prune, recorded, refused, restarted, status, verify

CODE = grpc.StatusCode
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def write(tmp_path, data, name="rootfs.tar"):
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def do_import(d, path, *changes, tags=(), message=""):
    m, = d.cri.Import(path=path, changes=changes, tags=tags, message=message)
    return m.image_id


def config(d, id):
    with open("%s/images/%s.config" % (d.root, id), "rb") as f:
        data = f.read()
    assert sha256(data) == "sha256:" + id
    return json.loads(data)


def small(text="x"):
    return Layer().dir("etc").add("etc/f", text).bytes()


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
def test_import(d, tmp_path, how):
    tar = small(how)
    path = write(tmp_path, {"plain": lambda x: x, "gzip": gzip.compress, "zstd": zstd}[how](tar))
    id = do_import(d, path, tags=["i/a:1", "i/b"], message="where it is from")
    c = config(d, id)
    assert (c["architecture"], c["os"], c["config"]) == (ARCH, "linux", {})
    assert c["rootfs"] == {"type": "layers", "diff_ids": [sha256(tar)]}
    assert [x["comment"] for x in c["history"]] == ["where it is from"]
    assert c["created"] == c["history"][0]["created"] and c["created"].endswith("Z")
    assert status(d, "i/a:1").id == status(d, "docker.io/i/b:latest").id == "sha256:" + id
    assert recorded(d, type("", (), {"id": "sha256:" + id}))["size"] == len(how)
    assert verify(d) == [(id, "good", "")]
    assert checked(save(d, "i/a:1"))["blobs/sha256/" + sha256(tar)[7:]] == tar
    restarted(d)
    assert status(d, "i/b").id == "sha256:" + id


def test_a_layer_that_is_there(d, tmp_path):
    """Two images, one layer; a tag goes to the newer one."""
    path = write(tmp_path, small())
    one = do_import(d, path, tags=["i/a:1"])
    two = do_import(d, path, "CMD [\"x\"]", tags=["i/a:1"])
    assert one != two and status(d, "i/a:1").id == "sha256:" + two
    assert len([x for x in os.listdir(d.root + "/layers") if len(x) == 32]) == 1
    assert not status(d, one).repo_tags


CHANGES = [  # instructions, what the configuration has of them
    (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
    (["cmd echo  $HOME 'x'"], {"Cmd": ["/bin/sh", "-c", "echo  $HOME 'x'"]}),
    (['CMD ["a"]', "CMD []"], {}),
    (['ENTRYPOINT ["/e"]', 'CMD ["x"]'], {"Entrypoint": ["/e"], "Cmd": ["x"]}),
    (["ENTRYPOINT exec top"], {"Entrypoint": ["/bin/sh", "-c", "exec top"]}),
    (["ENV A=1 B=\"two words\" C='$x' D=a\\ b E=", "ENV A=2"],
     {"Env": ["A=2", "B=two words", "C=$x", "D=a b", "E="]}),
    (["ENV A the rest of it"], {"Env": ["A=the rest of it"]}),
    (["ENV A=x=y \"B=\\\"q\\\" \\$\""], {"Env": ["A=x=y", 'B="q" $']}),
    (["LABEL a.b=1 \"c d\"='e f'", "LABEL a.b=2"], {"Labels": {"a.b": "2", "c d": "e f"}}),
    (["USER web:1000"], {"User": "web:1000"}),
    (["USER 1", "USER 2"], {"User": "2"}),
    (["WORKDIR /a/b", "WORKDIR ../c/./d"], {"WorkingDir": "/a/c/d"}),
    (["WORKDIR x"], {"WorkingDir": "/x"}),
    (["WORKDIR /../.."], {"WorkingDir": "/"}),
    (["EXPOSE 80 53/udp", "EXPOSE 80/tcp 8000-8002"],
     {"ExposedPorts": {x: {} for x in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")}}),
    (["STOPSIGNAL SIGUSR1"], {"StopSignal": "SIGUSR1"}),
    (["STOPSIGNAL 9"], {"StopSignal": "9"}),
    (["STOPSIGNAL RTMIN+3"], {"StopSignal": "RTMIN+3"}),
    (["VOLUME /data /logs", 'VOLUME ["/with space", "/data"]'],
     {"Volumes": {"/data": {}, "/logs": {}, "/with space": {}}}),
    (["  USER \t7 \n"], {"User": "7"}),
]


@pytest.mark.parametrize("n", range(len(CHANGES)))
def test_change(d, tmp_path, n):
    changes, want = CHANGES[n]
    c = config(d, do_import(d, write(tmp_path, small()), *changes))["config"]
    assert c == want


BAD_CHANGES = {
    "": "no change", "RUN true": "RUN", "FROM x": "no change", "CMD": "nothing",
    "CMD ['a']": "JSON", "CMD [1]": "JSON", 'CMD ["a"] x': "JSON", "ENTRYPOINT {}x[": None,
    "ENV": "nothing", "ENV A": "NAME=VALUE", "ENV =x": "NAME=VALUE", "ENV A=1 B": "NAME=VALUE",
    "ENV A=$B": "\\$", 'ENV A="$B"': "\\$", "ENV A $B": "$", "ENV A='x": "quote", 'ENV A="x': "quote",
    "LABEL a": "NAME=VALUE", "USER": "nothing", "USER a b": "one word", "USER ''": "one word",
    "WORKDIR": "nothing", "WORKDIR /a b": "one word", "EXPOSE": "nothing", "EXPOSE x": "PORT",
    "EXPOSE 0": "PORT", "EXPOSE 65536": "PORT", "EXPOSE 9-8": "PORT", "EXPOSE 80/icmp": "PORT",
    "EXPOSE 1-65535": "too many", "EXPOSE -": "PORT", "STOPSIGNAL": "nothing",
    "STOPSIGNAL SIGNONE": "signal", "STOPSIGNAL 65": "signal", "STOPSIGNAL 0": "signal",
    "STOPSIGNAL RTMIN+99": "signal", "VOLUME": "nothing", "VOLUME data": "absolute",
    'VOLUME ["a"]': "absolute", "VOLUME [": "JSON", "CMD " + "x" * 70000: "bytes",
}


@pytest.mark.parametrize("change", BAD_CHANGES, ids=lambda c: c[:20])
def test_bad_change(d, tmp_path, change):
    words = BAD_CHANGES[change]
    path = write(tmp_path, small())
    if words is None:
        do_import(d, path, change)
        return
    refused(lambda: do_import(d, path, "USER 1", change), CODE.INVALID_ARGUMENT, words)
    assert not d.cri.ListImages().images and os.listdir(d.root + "/layers") == []


def test_too_many(d, tmp_path):
    path = write(tmp_path, small())
    refused(lambda: do_import(d, path, *["USER 1"] * 1025), CODE.INVALID_ARGUMENT, "1024")
    refused(lambda: do_import(d, path, tags=["i/x:%d" % i for i in range(1025)]),
            CODE.INVALID_ARGUMENT, "tags")
    refused(lambda: do_import(d, path, *["ENV V%d=%s" % (i, "x" * 60000) for i in range(200)]),
            CODE.INVALID_ARGUMENT)
    assert os.listdir(d.root + "/layers") == []
    id = do_import(d, path, *["ENV V%d=%d" % (i, i) for i in range(1024)])
    assert len(config(d, id)["config"]["Env"]) == 1024


def test_refused(d, tmp_path):
    good = write(tmp_path, small())
    refused(lambda: do_import(d, good, tags=["R/Bad"]), CODE.INVALID_ARGUMENT, "R/Bad")
    refused(lambda: do_import(d, good, tags=["a@sha256:" + "0" * 64]), CODE.INVALID_ARGUMENT, "digest")
    refused(lambda: do_import(d, "relative"), CODE.INVALID_ARGUMENT, "relative")
    refused(lambda: do_import(d, str(tmp_path / "gone")), CODE.NOT_FOUND, "gone")
    refused(lambda: do_import(d, str(tmp_path)), CODE.INVALID_ARGUMENT, "no file")
    refused(lambda: do_import(d, "/dev/null"), CODE.PERMISSION_DENIED)
    os.mkfifo(str(tmp_path / "fifo"))
    refused(lambda: do_import(d, str(tmp_path / "fifo")), CODE.INVALID_ARGUMENT, "no file")
    assert os.listdir(d.root + "/layers") == [] == os.listdir(d.root + "/tmp")


def header(name, size, data=b""):
    t = tarfile.TarInfo(name)
    t.size = size
    return t.tobuf(tarfile.GNU_FORMAT) + data


HOSTILE = {
    "empty file": (lambda: b"", "empty"),
    "no tar": (lambda: b"hello" * 500, "tar"),
    "xz": (lambda: b"\xfd7zXZ\0" + bytes(600), "xz"),
    "bzip2": (lambda: b"BZh9" + bytes(600), "bzip2"),
    "cut off": (lambda: small()[:700], ""),
    "half a gzip": (lambda: gzip.compress(Layer().add("f", os.urandom(5000)).bytes())[:-100], ""),
    "half a zstd": (lambda: zstd(Layer().add("f", os.urandom(5000)).bytes())[:-100], ""),
    "bad checksum": (lambda: small().replace(b"ustar", b"usTar", 1), "checksum"),
    "terabytes": (lambda: header("f", 1 << 43), "size"),
    "too large": (lambda: header("f", 300 << 30), ""),
    "a link out of it": (lambda: Layer().hardlink("x", "../../../etc/passwd").bytes(), "passwd"),
    "0/0": (lambda: Layer().add("n", kind=tarfile.CHRTYPE, dev=(0, 0)).bytes(), "0/0"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile(d, tmp_path, what):
    make, words = HOSTILE[what]
    path = write(tmp_path, make())
    refused(lambda: do_import(d, path, tags=["h/a:1"]),
            CODE.RESOURCE_EXHAUSTED if what == "too large" else
            CODE.INVALID_ARGUMENT if what == "empty file" else CODE.DATA_LOSS, path, words)
    assert not d.cri.ListImages().images
    assert os.listdir(d.root + "/layers") == [] == os.listdir(d.root + "/tmp")


def test_names_that_lead_outside(d, tmp_path):
    """They stay inside, as in a container that has the layer as its root."""
    victim = tmp_path / "victim"
    victim.mkdir()
    tar = Layer().add("../../up", "1").symlink("out", str(victim)).add("out/f", "2").symlink(
        "/abs", "/").add("abs/g", "3").bytes()
    do_import(d, write(tmp_path, tar))
    layer, = [x for x in os.listdir(d.root + "/layers") if len(x) == 32]
    assert os.listdir(str(victim)) == [] and not os.path.exists(str(tmp_path / "up"))
    assert {"up", "g"} <= set(os.listdir("%s/layers/%s" % (d.root, layer)))
    assert os.path.isfile("%s/layers/%s%s/f" % (d.root, layer, victim))


def test_an_empty_root(d, tmp_path):
    """An image to begin with, of nothing."""
    id = do_import(d, write(tmp_path, bytes(10240)), tags=["i/scratch:1"])
    assert status(d, "i/scratch:1").id == "sha256:" + id and verify(d)[0][1] == "good"


def test_cancelled(d, tmp_path):
    path = write(tmp_path, Layer().add("f", os.urandom(64 << 20)).bytes())
    call = d.cri.Import(path=path)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    wait_for(lambda: os.listdir(d.root + "/tmp") == [])
    assert not d.cri.ListImages().images
    do_import(d, path)


@pytest.mark.parametrize("point", ["worker.unpacked", "worker.commit.synced", "worker.commit.layer",
                                   "worker.commit.recipe", "worker.commit.layer-recorded",
                                   "worker.commit.config", "worker.commit.recorded"])
def test_killed(tmp_path, point):
    """Nothing half-made is used or left, and the next try succeeds."""
    mark = str(tmp_path / "mark")
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": mark})
    try:
        if not has_points():
            pytest.skip(NO_POINTS)
        path = write(tmp_path, small())
        refused(lambda: do_import(d, path, tags=["k/a:1"]), CODE.INTERNAL, "gantry-worker")
        assert os.path.exists(mark)
        assert all(x[1] == "good" for x in verify(d))
        id = do_import(d, path, tags=["k/a:1"])
        assert status(d, "k/a:1").id == "sha256:" + id
        for x in d.cri.ListImages().images:
            d.cri.RemoveImage(image=api.ImageSpec(image=x.id))
        prune(d, all=True)
        assert os.listdir(d.root + "/layers") == [] == os.listdir(d.root + "/images")
    finally:
        d.close()


# --- the command ---

def test_gantry_import(tmp_path):
    d = Daemon()
    g = Cli(d)
    try:
        tar = busybox_layer(BUSYBOX).bytes()
        path = write(tmp_path, gzip.compress(tar, 1), "rootfs.tar.gz")
        out = g("import", "-t", "mine", "--tag", "other:2", "--change", 'CMD ["sh","-c","id -un; pwd; '
                'echo $GREETING"]', "-c", "ENV GREETING='hello there' PATH=/bin", "-c", "USER web", "-c",
                "WORKDIR /home", "-m", "a message", path)
        assert out == "sha256:%s\n" % status(d, "other:2").id[7:]
        assert g("run", "--rm", "mine") == "web\n/home\nhello there\n"
        assert config(d, out[7:-1])["history"][0]["comment"] == "a message"
        again = g("import", "-t", "piped:1", "-", input=tar)
        assert again != out
        assert g("run", "--rm", "piped:1", "/bin/echo", "from a pipe") == "from a pipe\n"
        assert "no change that can be made" in g.fails("import", "-c", "RUN x", path)
        assert "No such file" in g.fails("import", str(tmp_path / "gone"))
        assert "too few arguments" in g.fails("import", status=2)
        assert "unexpected argument" in g.fails("import", path, path, status=2)
        env = {"TMPDIR": str(tmp_path)}
        g("import", "-", input=zstd(tar), env=env)
        assert "empty" in g.fails("import", "-", input="", env=env)
        assert os.listdir(str(tmp_path)) == ["rootfs.tar.gz"]
    finally:
        d.close()
