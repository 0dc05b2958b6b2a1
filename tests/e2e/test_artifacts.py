# SPDX-License-Identifier: Apache-2.0
"""OCI artifacts: pulled, kept, checked and removed as images are; mounted, never run."""
import gzip
import hashlib
import json
import os
import stat

import grpc
import pytest

from cri import api
from daemon import Daemon
from fixtures import emptied  # noqa: F401
from image import OCI_CONFIG, OCI_INDEX, Artifact, Image, Layer, sha256
from registry import DockerRegistry, Registry
from test_cli import Cli
from test_image_volumes import mount, output
from test_store import has_points, refused, restarted, status, tag

CODE = grpc.StatusCode
HELM = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@pytest.fixture(scope="module")
def d():
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def busybox_there(d, archive):
    d.load(archive)


@pytest.fixture
def registry():
    with Registry() as r:
        yield r


@pytest.fixture
def pod(d, busybox_there):
    p = d.run_pod(name="artifact", namespaces=api.NamespaceOption(network=api.NODE,
                                                                  pid=api.CONTAINER))
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def pull(d, ref):
    return d.cri.PullImage(image=api.ImageSpec(image=ref)).image_ref


def files(d, artifact_id):
    """What is in the store of it: name, content."""
    with open("%s/images/%s.json" % (d.root, artifact_id[7:])) as f:
        layers = json.load(f)["layers"]
    found = {}
    for layer in layers:
        top = "%s/layers/%s" % (d.root, layer)
        for base, _, names in os.walk(top):
            for n in names:
                p = os.path.join(base, n)
                assert stat.S_ISREG(os.lstat(p).st_mode)
                with open(p, "rb") as f:
                    found[os.path.relpath(p, top)] = f.read()
    return found


def verified(d):
    return {m.image_id: (m.state, m.problem) for m in d.cri.Verify() if not m.HasField("progress")}


MANY = [(b"the first", "model.bin"), (b"", "empty"), (os.urandom(300000), "big.dat"),
        (b"no title", None), (gzip.compress(b"stays as it is"), "data.json.gz"),
        (b"\0" * 100000, "zeros"), (b"BZh9 and so on", "x.bz2"), (b"x", ".wh.x"),
        (b"u", "\u00fcml\u00e4ut name"), (b"l", "l" * 255)]


def expected(blobs):
    return {title or hashlib.sha256(data).hexdigest(): data for data, title, *_ in blobs}


def test_pulled_and_mounted(d, pod, registry):
    a = Artifact(MANY)
    ref = registry.add(a, "some/artifact", "v1")
    assert pull(d, ref) == a.digest
    im = status(d, ref)
    assert im.id == a.digest and list(im.repo_tags) == [ref]
    assert list(im.repo_digests) == ["%s/some/artifact@%s" % (registry.host, a.digest)]
    assert im.size == sum(len(b[0]) for b in MANY)
    for r in (a.digest, a.digest[7:], a.digest[7:19], im.repo_digests[0]):
        assert status(d, r).id == a.digest
    assert a.digest in [i.id for i in d.cri.ListImages().images]
    assert files(d, a.digest) == expected(MANY)
    text = output(d, pod, "cd /vol && sha256sum * .wh.x | sort; stat -c %a:%u:%g model.bin; "
                  "touch x; true", mount(ref))
    want = sorted("%s  %s" % (hashlib.sha256(v).hexdigest(), k) for k, v in expected(MANY).items())
    assert text.splitlines()[:len(want) + 1] == want + ["644:0:0"] and "Read-only" in text
    assert output(d, pod, "cat /vol", mount(ref, part="model.bin")) == "the first\n"
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", mounts=[mount(ref, part="nothing")])
    assert e.value.details().startswith("ImageVolumeMountFailed")
    s = d.status(d.create(pod, "true", mounts=[mount(ref)]))
    assert s.mounts[0].image.image_ref == a.digest
    refused(lambda: d.cri.RemoveImage(image=api.ImageSpec(image=ref)), CODE.FAILED_PRECONDITION,
            s.id)
    assert verified(d)[a.digest[7:]] == ("good", "")


def test_not_run(d, pod, registry):
    ref = registry.add(Artifact([(b"x", "sh")]), "not/run")
    pull(d, ref)
    refused(lambda: d.create(pod, "true", image=ref), CODE.FAILED_PRECONDITION, "OCI artifact",
            "application/x.test.v1")
    g = Cli(d)
    assert "OCI artifact" in g.fails("run", "--network", "host", ref, "true", status=125)


@pytest.mark.parametrize("kind,config,want", [
    ("application/x.test.v1", ("application/vnd.oci.empty.v1+json", b"{}"), "application/x.test.v1"),
    (None, ("application/vnd.oci.empty.v1+json", b"{}"), "application/vnd.oci.empty.v1+json"),
    (None, (HELM, b'{"name": "chart", "version": "1"}'), HELM),
    (None, ("application/vnd.wasm.config.v0+json", b'{"os": "wasip1"}'),
     "application/vnd.wasm.config.v0+json"),
    ("application/x.test.v1", (OCI_CONFIG, b'{"architecture": "none", "os": "none"}'),
     "application/x.test.v1"),
    (None, ("application/x.binary", os.urandom(100)), "application/x.binary"),
])
def test_config_kinds(d, registry, kind, config, want):
    """The configuration is not looked at, nor fetched."""
    a = Artifact([(b"content", "f")], kind=kind, config=config)
    ref = registry.add(a, "kinds")
    assert pull(d, ref) == a.digest
    assert files(d, a.digest) == {"f": b"content"}
    info = json.loads(d.cri.ImageStatus(image={"image": ref}, verbose=True).info["info"])
    assert info["artifactType"] == want
    assert info["manifest"] == json.loads(a.manifest)
    assert not registry.asked(sha256(config[1]))


def test_large_config(d, registry):
    """Of an image at most 8 MiB are read, of an artifact nothing."""
    a = Artifact([(b"content", "f")], config=("application/x.binary", b"c" * (9 << 20)))
    assert pull(d, registry.add(a, "large/config")) == a.digest


def test_gantry(d, busybox_there, registry, tmp_path):
    """What is to be mounted is fetched as what is to be run.  An artifact is not saved."""
    other = Artifact([(b"2", "f")])
    ref, two = registry.add(Artifact([(b"from afar", "f")]), "cli/a"), registry.add(other, "cli/b")
    g, m, run = Cli(d), "type=image,source=%s,target=/v", ("run", "--network", "host", "--mount")
    assert g(*run, m % ref, "test/busybox", "cat", "/v/f").strip() == "from afar"
    assert "--pull never" in g.fails(*run, m % two, "--pull", "never", "test/busybox", "true",
                                     status=125)
    assert not status(d, two)
    assert other.id[7:19] in g("pull", two)
    assert "is an artifact" in g.fails("save", "-o", str(tmp_path / "a.tar"), two)
    assert not os.listdir(tmp_path)


def test_same_config(d, registry):
    """Two artifacts with the empty configuration are two; a blob of both is there once."""
    one = Artifact([(b"1", "one"), (b"shared", "both")])
    two = Artifact([(b"2", "two"), (b"shared", "both")])
    refs = [registry.add(a, "same/" + n) for a, n in ((one, "a"), (two, "b"))]
    assert [pull(d, r) for r in refs] == [one.id, two.id]
    assert len(registry.asked(sha256(b"shared"))) == 1
    assert len([x for x in os.listdir(d.root + "/layers") if "." not in x]) == 3
    d.cri.RemoveImage(image=api.ImageSpec(image=refs[0]))
    assert not status(d, refs[0]) and files(d, two.id) == {"two": b"2", "both": b"shared"}
    # The same bytes under another name are another file.
    three = Artifact([(b"shared", "other")])
    pull(d, registry.add(three, "same/c"))
    assert files(d, three.id) == {"other": b"shared"}


def test_from_docker_registry(d, tmp_path):
    r = DockerRegistry(str(tmp_path / "registry"))
    try:
        a = Artifact(MANY, kind=None, config=(HELM, b'{"name": "x"}'))
        assert pull(d, r.push(a, "real/artifact", "v1")) == a.digest
        assert files(d, a.digest) == expected(MANY)
    finally:
        r.close()


# --- archives ---

def chart(link=True):
    layer = Layer().dir("chart").add("chart/Chart.yaml", "name: chart\n")
    if link:
        layer.symlink("chart/link", "Chart.yaml")
    return gzip.compress(layer.bytes(), mtime=0)


def test_archives(d, pod, registry):
    """What has no name of its own and is called a tar is unpacked, and what ORAS calls a
    directory; what has a name is that file."""
    directory = {"org.opencontainers.image.title": "dir/ectory",
                 "io.deis.oras.content.unpack": "true"}
    tar = Layer().dir("chart").add("chart/more", "more").add("chart/sub/x", "x").bytes()
    a = Artifact([(chart(), None, HELM_CHART), (tar, directory, "application/x.dir.tar"),
                  (tar, "kept.tar", "application/vnd.oci.image.layer.v1.tar"),
                  (b"plain", "plain.txt", "application/vnd.oci.image.layer.v1.tar")])
    ref = registry.add(a, "archives")
    pull(d, ref)
    text = output(d, pod, "cd /vol; find . -type f | sort; cat chart/link plain.txt; "
                  "sha256sum kept.tar", mount(ref))
    assert text.splitlines() == ["./chart/Chart.yaml", "./chart/more", "./chart/sub/x",
                                 "./kept.tar", "./plain.txt", "name: chart",
                                 "plain" + hashlib.sha256(tar).hexdigest() + "  kept.tar"]
    assert verified(d)[a.id[7:]] == ("good", "")


def test_no_archive(d, registry):
    ref = registry.add(Artifact([(b"no tar", None, "application/x.y.tar")]), "no/archive")
    refused(lambda: pull(d, ref), CODE.DATA_LOSS, "layer")


# --- what is wrong ---

@pytest.mark.parametrize("title", [
    "..", ".", "../../etc/passwd", "/etc/passwd", "a/b", "a/../../b", "x/", "new\nline", "\x1b[2J",
    "x" * 256])
def test_hostile_titles(d, registry, title):
    ref = registry.add(Artifact([(b"good", "good"), (b"evil", title)]), "hostile")
    refused(lambda: pull(d, ref), CODE.INVALID_ARGUMENT, "title", sha256(b"evil"))
    assert not status(d, ref) and not os.listdir(d.root + "/layers")
    assert not registry.asked("/blobs/")


@pytest.mark.parametrize("blobs,words", [
    ([(b"1", "same"), (b"2", "same")], ['"same"', "two blobs"]),
    ([(b"1", "same"), (b"1", "same")], ['"same"', "two blobs"]),
    ([(b"1", None), (b"1", None)], ["two blobs"]),
    ([(b"1", None), (b"2", hashlib.sha256(b"1").hexdigest())], ["two blobs"]),
    ([(b"%d" % i, None) for i in range(128)], ["128", "127"]),
])
def test_refused(d, registry, blobs, words):
    ref = registry.add(Artifact(blobs), "refused")
    refused(lambda: pull(d, ref), CODE.INVALID_ARGUMENT, *words)
    assert not os.listdir(d.root + "/layers")


def test_sizes(d, registry):
    def with_size(*sizes):
        a = Artifact([(b"%d" % i, "f%d" % i) for i in range(len(sizes))])
        doc = json.loads(a.manifest)
        for layer, size in zip(doc["layers"], sizes):
            layer["size"] = size
        a.manifest = json.dumps(doc).encode()
        a.digest = a.put(a.manifest)
        return registry.add(a, "sizes")
    refused(lambda: pull(d, with_size((256 << 30) + 1)), CODE.INVALID_ARGUMENT, "256 GiB")
    refused(lambda: pull(d, with_size(*[250 << 30] * 5)), CODE.INVALID_ARGUMENT, "1024 in all")
    refused(lambda: pull(d, with_size(2)), CODE.DATA_LOSS)
    refused(lambda: pull(d, with_size(0)), CODE.DATA_LOSS)
    assert not os.listdir(d.root + "/layers")


def test_wrong_blob(d, registry):
    a = Artifact([(b"right", "f")])
    registry.blobs[sha256(b"right")] = b"wrong"
    ref = registry.add(a, "wrong")
    registry.blobs[sha256(b"right")] = b"wrong"
    refused(lambda: pull(d, ref), CODE.DATA_LOSS, sha256(b"right"))
    assert not os.listdir(d.root + "/layers")


def test_most_blobs(d, pod, registry):
    blobs = [(b"%d" % i, "f%d" % i) for i in range(127)]
    ref = registry.add(Artifact(blobs), "most")
    pull(d, ref)
    assert output(d, pod, "cat /vol/f0 /vol/f126; ls /vol | wc -l", mount(ref)) == "0126127\n"


def test_no_blobs(d, pod, registry):
    ref = registry.add(Artifact([]), "none")
    pull(d, ref)
    assert output(d, pod, "ls -A /vol | wc -l", mount(ref)) == "0\n"


# --- indexes ---

def index(*entries):
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": x.media_type, "digest": x.digest, "size": len(x.manifest), **more}
        for x, more in entries]}).encode()


def platform(arch, **kw):
    return {"platform": {"os": "linux", "architecture": arch}, **kw}


def test_index(d, registry):
    """Of one artifact, of one for each machine, and of artifacts beside an image."""
    a, b = Artifact([(b"a", "a")]), Artifact([(b"b", "b")])
    im = Image([Layer().add("f", "image").bytes()])
    for x in (a, b, im):
        registry.add(x, "index", "unused")

    def indexed(*entries):
        data = index(*entries)
        return registry.add(a, "index", sha256(data)[7:17], data, OCI_INDEX)
    assert pull(d, indexed((a, {}))) == a.id
    assert pull(d, indexed((a, platform("arm64")), (b, platform("amd64")))) == b.id
    about = {"artifactType": "application/x.signature"}
    assert pull(d, indexed((a, platform("amd64", **about)), (im, platform("amd64")))) == im.id
    refused(lambda: pull(d, indexed((a, platform("s390x")))), CODE.NOT_FOUND, "s390x")
    data = index((a, {}))
    assert "%s/index@%s" % (registry.host, sha256(data)) in status(d, a.id).repo_digests


# --- the store ---

def test_tag_and_prune(d, registry):
    a = Artifact([(b"x", "f")])
    ref = registry.add(a, "tagged")
    pull(d, ref)
    tag(d, ref, "my/artifact:1")
    restarted(d)
    assert status(d, "my/artifact:1").id == a.id
    d.cri.RemoveImage(image=api.ImageSpec(image="my/artifact:1"))     # with all its names
    assert not status(d, ref) and not os.listdir(d.root + "/layers")
    pull(d, ref)
    g = Cli(d)
    assert a.id[7:19] in g("images")
    assert g("image", "verify", ref)
    assert a.id[7:19] in g("image", "prune", "--all")
    assert not os.listdir(d.root + "/layers")


def test_damaged(d, registry):
    a = Artifact([(b"good", "f"), (b"other", "g")])
    ref = registry.add(a, "damaged")
    pull(d, ref)
    path, = [p for p in (d.root + "/layers/" + x + "/f" for x in os.listdir(d.root + "/layers"))
             if os.path.exists(p)]
    with open(path, "w") as f:
        f.write("evil")
    state, problem = verified(d)[a.id[7:]]
    assert state == "damaged" and '"f"' in problem
    assert not status(d, ref)
    pull(d, ref)
    assert files(d, a.id) == {"f": b"good", "g": b"other"}
    assert verified(d)[a.id[7:]] == ("good", "")
    record = "%s/images/%s.json" % (d.root, a.id[7:])
    with open(record) as f:
        r = json.load(f)
    r["artifact"] = "application/x.other"
    with open(record, "w") as f:
        json.dump(r, f)
    assert verified(d)[a.id[7:]][0] == "damaged"
    list(d.cri.Prune(all=True))         # what was put aside, too


def test_loaded(d, tmp_path):
    """Out of an OCI archive and an OCI layout."""
    a = Artifact([(b"loaded", "f"), (chart(link=False), None, HELM_CHART)])
    a.oci_archive(str(tmp_path / "a.tar"), "loaded/artifact:1")
    a.oci_layout(str(tmp_path / "layout"), "loaded/layout:1")
    for path, name in (("a.tar", "loaded/artifact:1"), ("layout", "loaded/layout:1")):
        d.load(str(tmp_path / path))
        assert status(d, name).id == a.id
        assert files(d, a.id) == {"f": b"loaded", "chart/Chart.yaml": b"name: chart\n"}
        d.cri.RemoveImage(image=api.ImageSpec(image=name))
    b = Artifact([(b"right", "f")])
    b.blobs[sha256(b"right")] = b"wrong"
    b.oci_archive(str(tmp_path / "b.tar"), "loaded/wrong:1")
    refused(lambda: d.load(str(tmp_path / "b.tar")), CODE.DATA_LOSS, sha256(b"right"))


POINTS = ["worker.unpacked", "worker.commit.synced", "worker.commit.layer",
          "worker.commit.layer-recorded", "worker.commit.config", "worker.commit.recorded"]


@pytest.mark.parametrize("point", POINTS)
def test_pull_killed(archive, registry, tmp_path, point):
    """Nothing half-made is used, and the next pull goes."""
    d = Daemon(env={"GANTRY_FAULT": point, "GANTRY_FAULT_MARK": str(tmp_path / "mark")})
    try:
        if not has_points():
            pytest.skip("this build has no fault points")
        a = Artifact(MANY)
        ref = registry.add(a, "killed")
        refused(lambda: pull(d, ref), CODE.INTERNAL, "gantry-worker")
        assert os.path.exists(tmp_path / "mark")
        there = status(d, ref)
        assert bool(there) == (point == "worker.commit.recorded")
        assert set(verified(d).values()) <= {("good", "")}
        restarted(d)
        assert pull(d, ref) == a.id
        assert files(d, a.id) == expected(MANY)
        assert verified(d) == {a.id[7:]: ("good", "")}
        d.cri.RemoveImage(image=api.ImageSpec(image=ref))
        assert not os.listdir(d.root + "/layers") and not os.listdir(d.root + "/images")
    finally:
        d.close()
