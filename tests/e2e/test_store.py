# SPDX-License-Identifier: Apache-2.0
"""The image store by gantry's own calls: tags."""
import json
import os
import subprocess

import grpc
import pytest

from cri import api
from daemon import BUILD, Daemon, wait_for
from fixtures import empty as d, emptied  # noqa: F401
from image import Image, Layer
from test_cli import Cli

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
    wait_for(lambda: os.listdir(d.root + "/tmp") == [])


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


@pytest.mark.parametrize("point", ["worker.remove.record", "worker.remove.layers"])
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
