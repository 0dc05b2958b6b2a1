# SPDX-License-Identifier: Apache-2.0
"""Archives: docker save, OCI archives and layouts, compressed ones, what other tools write."""
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile

import grpc
import pytest

from cri import api
from fixtures import empty as d, emptied  # noqa: F401
from image import Image, Layer, zstd

CODE = grpc.StatusCode


def simple(text="x", n=2, **kw):
    return Image([Layer().add("f%d" % i, text + str(i)).bytes() for i in range(n)], **kw)


def status(d, ref):
    s = d.cri.ImageStatus(image=api.ImageSpec(image=ref))
    return s.image if s.HasField("image") else None


def refused(d, path, code, *words):
    with pytest.raises(grpc.RpcError) as e:
        d.load(path)
    assert e.value.code() == code, e.value.details()
    for w in words:
        assert w in e.value.details()
    assert not d.cri.ListImages().images and os.listdir(d.root + "/layers") == []


def squeeze(path, how):
    with open(path, "rb") as f:
        data = f.read()
    with open(path, "wb") as f:
        f.write({"plain": lambda x: x, "gzip": gzip.compress, "zstd": zstd}[how](data))


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
def test_docker_archive(d, tmp_path, how):
    im = simple("docker" + how)
    path = str(tmp_path / "a.tar")
    im.docker_archive(path, ["busy:1", "quay.io/a/b:2"])
    squeeze(path, how)
    seen = d.load(path)
    assert [x.image_id for x in seen if x.image_id] == [im.id[7:]]
    assert status(d, "busy:1").id == status(d, "quay.io/a/b:2").id == im.id
    assert sorted(status(d, im.id).repo_tags) == ["docker.io/library/busy:1", "quay.io/a/b:2"]


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
def test_oci_archive(d, tmp_path, how):
    im = simple("oci" + how, compress=["gzip", "zstd"])
    path = str(tmp_path / "a.tar")
    im.oci_archive(path, "quay.io/a/b:2")
    squeeze(path, how)
    d.load(path)
    s = status(d, "quay.io/a/b:2")
    assert s.id == im.id and list(s.repo_digests) == ["quay.io/a/b@" + im.digest]


def test_oci_layout(d, tmp_path):
    im = simple("layout")
    im.oci_layout(str(tmp_path / "l"), "quay.io/a/b:2")
    d.load(str(tmp_path / "l"))
    assert status(d, "quay.io/a/b:2").id == im.id


def test_oci_layout_of_many_platforms(d, tmp_path):
    im, other = simple("mine"), simple("foreign", arch="s390x")
    path = str(tmp_path / "l")
    im.oci_layout(path)
    other.oci_layout(path)
    doc, kind = im.index([(other, "s390x")])
    digest = im.put(doc)
    with open(path + "/blobs/sha256/" + digest[7:], "wb") as f:
        f.write(doc)
    with open(path + "/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [
            {"mediaType": kind, "digest": digest, "size": len(doc),
             "annotations": {"org.opencontainers.image.ref.name": "quay.io/a/b:2"}}]}, f)
    d.load(path)
    assert status(d, "quay.io/a/b:2").id == im.id and len(d.cri.ListImages().images) == 1


def several(path, ims, broken=False):
    with tarfile.open(path, "w") as t:
        def add(name, data):
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
        manifest = []
        for n, im in enumerate(ims):
            names = []
            for tar in im.tars:
                names.append("%d-%d.tar" % (n, len(names)))
                add(names[-1], tar[:-2000] if broken and n == len(ims) - 1 else tar)
            add("%d.json" % n, im.config)
            manifest.append({"Config": "%d.json" % n, "RepoTags": ["m/i%d:1" % n],
                             "Layers": names})
        add("manifest.json", json.dumps(manifest).encode())


def test_several_images_in_one_archive(d, tmp_path):
    base = Layer().add("base", "b").bytes()
    ims = [Image([base, Layer().add("n", str(i)).bytes()]) for i in range(4)]
    path = str(tmp_path / "a.tar")
    several(path, ims)
    seen = d.load(path)
    assert [x.image_id for x in seen if x.image_id] == [i.id[7:] for i in ims]
    for n, im in enumerate(ims):
        assert status(d, "m/i%d:1" % n).id == im.id
    assert len([x for x in os.listdir(d.root + "/layers") if len(x) == 32]) == 5


def test_all_of_an_archive_or_nothing(d, tmp_path):
    ims = [Image([Layer().add("n", str(i) * 3000).bytes()]) for i in range(3)]
    path = str(tmp_path / "a.tar")
    several(path, ims, broken=True)
    refused(d, path, CODE.DATA_LOSS, path, "layer 1")


@pytest.mark.parametrize("to", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes(d, tmp_path, to):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    im = simple("skopeo", compress="gzip")
    im.oci_layout(str(tmp_path / "in"))
    out = str(tmp_path / "out")
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    subprocess.run(["skopeo", "--policy", str(policy), "copy", "oci:%s" % (tmp_path / "in"),
                    "%s:%s:quay.io/s/k:3" % (to, out)], check=True, stdout=subprocess.DEVNULL)
    d.load(out)
    s = status(d, "quay.io/s/k:3")
    assert s and s.size == 2 * len("skopeo0")
    ids = s.id
    # its layers are those of the image, whatever the tool made of the configuration
    assert len([x for x in os.listdir(d.root + "/layers") if len(x) == 32]) == 2
    assert ids.startswith("sha256:")


def test_docker_archive_with_links(d, tmp_path):
    """podman and older dockers name layers by links."""
    im = simple("links", 2)
    path = str(tmp_path / "a.tar")
    with tarfile.open(path, "w") as t:
        def add(name, data=b"", link=None):
            i = tarfile.TarInfo(name)
            i.size = len(data)
            if link:
                i.type, i.linkname = tarfile.SYMTYPE, link
            t.addfile(i, io.BytesIO(data))
        add("one.tar", im.tars[0])
        add("two.tar", im.tars[1])
        add("a/layer.tar", link="../one.tar")
        add("b/layer.tar", link="../a/../two.tar")
        add("c.json", im.config)
        add("manifest.json", json.dumps([{"Config": "c.json", "RepoTags": None,
                                          "Layers": ["a/layer.tar", "b/layer.tar"]}]).encode())
    d.load(path)
    assert status(d, im.id).id == im.id and not status(d, im.id).repo_tags


def test_archives_that_are_none(d, tmp_path):
    p = tmp_path / "x"
    p.write_bytes(b"hello")
    refused(d, str(p), CODE.DATA_LOSS, str(p))
    p.write_bytes(Layer().add("f", "x").bytes())
    refused(d, str(p), CODE.INVALID_ARGUMENT, "manifest.json", "index.json")
    p.write_bytes(gzip.compress(Layer().add("f", os.urandom(5000)).bytes())[:-100])
    refused(d, str(p), CODE.DATA_LOSS)
    p.write_bytes(Layer().add("manifest.json", "[{\"Config\": \"nowhere\"}]").bytes())
    refused(d, str(p), CODE.NOT_FOUND, "nowhere")
    p.write_bytes(Layer().symlink("manifest.json", "manifest.json").bytes())
    refused(d, str(p), CODE.INVALID_ARGUMENT)
    p.write_bytes(Layer().add("manifest.json", "[" * 100).bytes())
    refused(d, str(p), CODE.INVALID_ARGUMENT, "manifest.json")
    refused(d, str(tmp_path / "gone"), CODE.NOT_FOUND, "gone")
    refused(d, "relative", CODE.INVALID_ARGUMENT, "relative")
    refused(d, "/dev/null", CODE.PERMISSION_DENIED)     # a worker opens no device
    os.mkfifo(str(tmp_path / "fifo"))
    refused(d, str(tmp_path / "fifo"), CODE.INVALID_ARGUMENT)


def test_a_layout_does_not_lead_outside(d, tmp_path):
    im = simple("outside")
    path = tmp_path / "l"
    im.oci_layout(str(path), "a/b:1")
    blob = path / "blobs" / "sha256" / im.layer_digests[0][7:]
    shutil.move(str(blob), str(tmp_path / "moved"))
    os.symlink("../../../moved", str(blob))
    refused(d, str(path), CODE.NOT_FOUND)


def test_load_is_cancelled(d, tmp_path):
    im = Image([Layer().add("f", os.urandom(64 << 20)).bytes()], compress="tar")
    path = str(tmp_path / "a.tar")
    im.docker_archive(path, ["a/b:1"])
    call = d.cri.Load(path=path)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    d.load(path)
    assert status(d, "a/b:1").id == im.id
