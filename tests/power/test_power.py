# SPDX-License-Identifier: Apache-2.0
"""What was answered survives a power cut; what was not is not there, or is there whole.

Pulls, loads, tags and removals run on a file system whose disk is recorded.  The disk is then
built as it may be after a cut at many moments of that, mounted, and a daemon is started on it.

GANTRY_POWER_CUTS: moments for each file system (24).  GANTRY_POWER_SEED: of what is done and of the
moments (a new one, which is printed).  A recording with a cut that failed is kept, and the error
says where; GANTRY_POWER_RECORDING=DIR takes its cuts again, with the seed that is in its name.
"""
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
import tempfile
import threading

import pytest

from cri import TOP, api
from daemon import Daemon, wait_for
from image import Image, Layer
from machine import FILE_SYSTEMS, Booted, Missing, Recorder
from recording import FLUSH, KEEP, Recording, copy_sparse
from registry import Registry

GIVEN = os.environ.get("GANTRY_POWER_RECORDING")  # DIR/FS-SEED
SEED = int(os.environ.get("GANTRY_POWER_SEED") or
           (GIVEN and GIVEN.rstrip("/").rpartition("-")[2]) or random.randrange(1 << 16))
CUTS = int(os.environ.get("GANTRY_POWER_CUTS") or 24)
STEPS = 14  # of what is recorded
PORT = 20000 + SEED % 10000  # of the registry: a part of names that recordings have


# --- images, the same for a seed ---

def layer(rng, name, files, size):
    la = Layer().dir(name)
    for i in range(files):
        la.add("%s/f%d" % (name, i), rng.randbytes(rng.randrange(size)),
               mode=rng.choice((0o644, 0o755)))
    la.symlink(name + "/link", "f0").hardlink(name + "/hard", name + "/f0")
    return la.bytes()


class Images:
    """Two that have a layer in common, one of its own, and one that is loaded."""

    def __init__(self, reg, directory):
        rng = random.Random("images-%d" % SEED)
        base = layer(rng, "base", 40, 60000)
        self.all = {
            "a": Image([base, layer(rng, "a", 30, 20000)]),
            "b": Image([base, layer(rng, "b", 30, 20000)], compress="zstd"),
            "c": Image([layer(rng, "c", 200, 2000), layer(rng, "c2", 1, 3 << 20)]),
            "d": Image([base, layer(rng, "d", 10, 100000)]),
        }
        self.archive = directory + "/d.tar"
        self.refs = {n: reg.add(im, "power/" + n) for n, im in self.all.items() if n != "d"}
        self.refs["d"] = "docker.io/power/d:latest"
        self.all["d"].docker_archive(self.archive, ["power/d:latest"])

    def fetch(self, d, name):
        if name == "d":
            d.load(self.archive)
        else:
            r = d.cri.PullImage(image=api.ImageSpec(image=self.refs[name]))
            assert r.image_ref == self.all[name].id


# --- what is recorded ---

def work(recorder, d, images):
    """Marks: [number, "begin" or "answered", "fetch" | "remove" | "tag", image, tag]"""
    rng = random.Random("work-%d" % SEED)
    numbers = iter(range(1000))

    def do(what, name, tag=None):
        number = next(numbers)
        recorder.mark(json.dumps([number, "begin", what, name, tag]))
        if what == "fetch":
            images.fetch(d, name)
        elif what == "tag":
            list(d.cri.Tag(source=images.refs[name], targets=[tag]))
        else:
            d.cri.RemoveImage(image=api.ImageSpec(image=images.all[name].id))
        recorder.mark(json.dumps([number, "answered", what, name, tag]))

    present = set()

    def step():
        absent = sorted(set(images.all) - present)
        what = rng.choice(["fetch", "fetch", "two", "tag", "remove"]) if present else "fetch"
        if what == "two" and len(absent) > 1:
            pair = rng.sample(absent, 2)
            both = [threading.Thread(target=do, args=("fetch", n)) for n in pair]
            for t in both:
                t.start()
            for t in both:
                t.join()
            present.update(pair)
        elif what == "tag":
            do("tag", rng.choice(sorted(present)), "docker.io/power/tag:%d" % rng.randrange(2))
        elif what == "remove" or not absent:
            name = rng.choice(sorted(present))
            do("remove", name)
            present.discard(name)
        else:
            name = rng.choice(absent)
            do("fetch", name)
            present.add(name)
    for _ in range(STEPS):
        step()


# --- what must be there, by what had been said ---

class Expected:
    """images: name -> True, False, or None where it may be either; tags likewise -> a name, or
    None."""

    def __init__(self, images, marks):
        self.images = {n: False for n in images.all}
        self.tags = {}
        self.answered = 0
        for number, when, what, name, tag in map(json.loads, marks):
            self.answered += when == "answered"
            self.apply(when, what, name, tag or images.refs[name])

    def apply(self, when, what, name, tag):
        done = when == "answered"
        if what == "remove":
            self.images[name] = False if done else None
            for t in [t for t, n in self.tags.items() if n == name]:
                self.tags[t] = None
        else:
            if what == "fetch":
                self.images[name] = True if done else self.images[name] or None
            self.tags[tag] = name if done else None


def contents(files):
    """Of a layer directory or a tar: name -> (kind, mode, content)."""
    return dict(sorted(files))


def of_tar(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        for m in t:
            if m.isreg() or m.islnk():
                yield m.name, ("file", t.getmember(m.linkname).mode if m.islnk() else m.mode,
                               hashlib.sha256(t.extractfile(m).read()).hexdigest())
            elif m.isdir():
                yield m.name, ("dir", m.mode, "")
            else:
                yield m.name, ("link", 0o777, m.linkname)


def of_directory(top):
    for base, dirs, files in os.walk(top):
        for n in dirs + files:
            path = os.path.join(base, n)
            name, mode = os.path.relpath(path, top), os.lstat(path).st_mode & 0o7777
            if os.path.islink(path):
                yield name, ("link", mode, os.readlink(path))
            elif os.path.isdir(path):
                yield name, ("dir", mode, "")
            else:
                with open(path, "rb") as f:
                    yield name, ("file", mode, hashlib.sha256(f.read()).hexdigest())


def same_bytes(d, im):
    with open("%s/images/%s.json" % (d.root, im.id[7:])) as f:
        layers = json.load(f)["layers"]
    assert len(layers) == len(im.tars)
    for directory, tar in zip(reversed(layers), im.tars):
        assert contents(of_directory("%s/layers/%s" % (d.root, directory))) == contents(of_tar(tar))


def verify(d):
    """Each image that is there, looked at by gantry itself."""
    return {m.image_id: m.state for m in d.cri.Verify(rpc_timeout=120) if m.state}


def look(d, images, marks):
    expected = Expected(images, marks)
    names = {im.id: n for n, im in images.all.items()}
    there = {names[i.id]: i for i in d.cri.ListImages().images}
    for n, must in expected.images.items():
        assert must is None or (n in there) == must, "%s: %s" % (n, "lost" if must else "is back")
    for tag, n in expected.tags.items():
        if n and n in there:
            assert tag in there[n].repo_tags, "the tag %s is lost" % tag
    for n in there:
        same_bytes(d, images.all[n])
    states = verify(d)
    assert set(states.values()) <= {"good"} and len(states) == len(there), states
    return len(there), expected.answered


def goes_on(d, images):
    """Without anyone's help: all can be fetched, removed, and then nothing is left."""
    for n in images.all:
        images.fetch(d, n)
        same_bytes(d, images.all[n])
    assert set(verify(d).values()) == {"good"}
    for im in images.all.values():
        d.cri.RemoveImage(image=api.ImageSpec(image=im.id))
    wait_for(lambda: not os.listdir(d.root + "/tmp"))  # the start's sweep may still be at work
    left = [x + "/" + f for x in ("layers", "images") for f in os.listdir(d.root + "/" + x)]
    assert not left, left


# --- recordings and cuts ---

def moments(recording):
    """[(entry, what is kept of what was not flushed)], ascending: right when something was
    answered, around flushes, and anywhere."""
    rng = random.Random("cuts-%d" % SEED)
    end = len(recording.entries)
    answered = [(at, "nothing") for at, text in recording.marks if '"answered"' in text]
    flushes = [i for i, e in enumerate(recording.entries) if e[0] == FLUSH]
    chosen = rng.sample(answered, min(len(answered), CUTS // 3))
    while len(chosen) < CUTS // 2 and flushes:
        chosen.append((rng.choice(flushes) + rng.randrange(2), rng.choice(KEEP)))
    while len(chosen) < CUTS:
        chosen.append((rng.randrange(end + 1), rng.choice(KEEP)))
    return sorted(chosen)


class Recorded:
    def __init__(self, kind):
        self.kind = kind
        self.given = GIVEN and os.path.basename(GIVEN.rstrip("/")).startswith(kind + "-")
        self.dir = tempfile.mkdtemp(prefix="gantry-power-", dir="/dev/shm")
        self.reg = Registry(port=PORT)
        self.images = Images(self.reg, self.dir)
        self.cutter = None
        try:
            if not self.given:
                self.record()
            self.recording = Recording(GIVEN if self.given else self.dir)
            self.cutter = self.recording.cutter(self.dir + "/cut")
            self.moments = moments(self.recording)
        except BaseException:
            self.close()
            raise

    def record(self):
        recorder = Recorder(self.dir, self.kind)
        try:
            d = Daemon(start=False)
            d.root = recorder.mount + "/root"
            d.start()
            try:
                work(recorder, d, self.images)
            finally:
                d.close()
        finally:
            recorder.close()

    def keep(self):
        """For a look at a cut that failed; says where it is."""
        if self.given:
            return GIVEN
        kept = os.path.join(TOP, "build", "power", "%s-%d" % (self.kind, SEED))
        if not os.path.exists(kept):
            os.makedirs(kept)
            copy_sparse(self.dir + "/base", kept + "/base")
            shutil.copyfile(self.dir + "/log", kept + "/log")
        return kept

    def close(self):
        if self.cutter:
            self.cutter.close()
        self.reg.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module", params=sorted(FILE_SYSTEMS))
def recorded(request):
    if GIVEN and not os.path.basename(GIVEN.rstrip("/")).startswith(request.param + "-"):
        pytest.skip("the recording is of another file system")
    try:
        r = Recorded(request.param)
    except Missing as e:
        pytest.skip(str(e))
    print("%s: seed %d, %d cuts in %d writes and flushes" % (
        request.param, SEED, CUTS, len(r.recording.entries)))
    yield r
    r.close()


@pytest.mark.parametrize("number", range(CUTS))
def test_cut(recorded, number):
    at, keep = recorded.moments[number]
    rng = random.Random("cut-%d-%d" % (SEED, number))
    marks = recorded.recording.marks_before(at)
    try:
        pending = recorded.cutter.cut(at, keep, rng)
        booted = Booted(recorded.dir + "/cut", recorded.kind, recorded.dir + "/boot")
        try:
            d = booted.start()
            there, answered = look(d, recorded.images, marks)
            print("cut at %d, %s kept of %d writes: %d answers, %d images" % (
                at, keep, pending, answered, there))
            goes_on(d, recorded.images)
        finally:
            booted.close()
    except Exception:
        print("cut %d (at %d, %s kept), after %s" % (number, at, keep, marks[-3:]))
        print("again: GANTRY_POWER_RECORDING=%s GANTRY_POWER_CUTS=%d, test_cut[%d-%s]" % (
            recorded.keep(), CUTS, number, recorded.kind))
        raise
