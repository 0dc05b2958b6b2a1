# SPDX-License-Identifier: Apache-2.0
"""gantry-oci: the OCI runtime command line in front of the node's runtimes.  Callers (podman,
containerd) are in test_oci_callers.py."""
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from cri import TOP
from daemon import BUILD, wait_for
from fixtures import BUSYBOX

PROGRAM = BUILD + "/programs/gantry-oci/gantry-oci"
RUNTIMES = ["crun", "runc"]


class Oci:
    """Calls of gantry-oci with a --root and a configuration of a test's own."""
    cgroups = 0

    def __init__(self, top):
        self.top = str(top)
        self.root = self.top + "/root"
        self.config_file = self.top + "/config.yaml"
        self.made = []
        self.config("")

    def config(self, text):
        with open(self.config_file, "w") as f:
            f.write("state: %s/state\n%s" % (self.top, text))

    def argv(self, *args):
        return [PROGRAM, "--root", self.root, "--config", self.config_file, *args]

    def call(self, *args, **more):
        """(exit status, standard output, standard error)"""
        p = subprocess.run(self.argv(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=60, **more)
        return p.returncode, p.stdout, p.stderr

    def ok(self, *args, **more):
        status, out, err = self.call(*args, **more)
        assert status == 0, err
        return out

    def bundle(self, *command, annotations=None, terminal=False, change=None, name=None):
        path = "%s/%s" % (self.top, name or "bundle-%d" % len(os.listdir(self.top)))
        os.makedirs(path + "/rootfs/bin")
        for d in ("proc", "dev", "sys", "tmp"):
            os.mkdir("%s/rootfs/%s" % (path, d))
        shutil.copy(BUSYBOX, path + "/rootfs/bin/busybox")
        for applet in ("sh", "sleep", "cat", "echo", "true", "kill"):
            os.symlink("busybox", "%s/rootfs/bin/%s" % (path, applet))
        subprocess.run(["runc", "spec"], cwd=path, check=True)
        with open(path + "/config.json") as f:
            spec = json.load(f)
        spec["process"].update(args=list(command), terminal=terminal)
        spec["process"].pop("rlimits", None)
        spec["root"]["readonly"] = False
        # not after the id, which other tests have too
        Oci.cgroups += 1
        spec["linux"]["cgroupsPath"] = "/gt-oci-%d-%d" % (os.getpid(), Oci.cgroups)
        if annotations:
            spec["annotations"] = annotations
        if change:
            change(spec)
        with open(path + "/config.json", "w") as f:
            json.dump(spec, f)
        return path


    def made_by(self, annotations=None, id="c", **more):
        """The runtime that a container with this gets; it is removed again."""
        make(self, id, "sleep", "1000", annotations=annotations, **more)
        record = self.records()[id]
        self.ok("delete", "--force", id)
        assert id not in self.records()
        return record["runtime"]

    def refused(self, annotations=None, id="c", **more):
        """What is said where none is chosen; the log of the caller has it too."""
        log = self.top + "/log"
        b = self.bundle("true", annotations=annotations, **more)
        p = subprocess.run([*self.argv("--log", log, "--log-format", "json"), "create", "-b", b, id],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, text=True, timeout=60)
        assert p.returncode == 1 and not self.has_record(id)
        with open(log) as f:
            last = json.loads(f.read().splitlines()[-1])
        assert last["level"] == "error" and last["msg"] + "\n" == p.stderr and last["time"]
        return p.stderr

    def has_record(self, id):
        return os.path.exists("%s/.gantry-oci.%s" % (self.root, id))

    def records(self):
        prefix = ".gantry-oci."
        return {n[len(prefix):]: json.load(open("%s/%s" % (self.root, n)))
                for n in os.listdir(self.root) if n.startswith(prefix)}

    def state(self, id):
        return json.loads(self.ok("state", id))

    def close(self):
        for r in RUNTIMES:
            for id in os.listdir(self.root) if os.path.isdir(self.root) else []:
                if not id.startswith(".gantry-oci."):
                    subprocess.run([r, "--root", self.root, "delete", "--force", id],
                                   stderr=subprocess.DEVNULL)


@pytest.fixture
def oci(tmp_path):
    o = Oci(tmp_path)
    yield o
    o.close()


@pytest.fixture(params=RUNTIMES)
def of(oci, request):
    """One whose runtime is this one."""
    oci.config("default_runtimes: [%s]\n" % request.param)
    oci.runtime = request.param
    return oci


def make(o, id, *command, **more):
    """create with the container's output in a file, whose path it gives"""
    b = o.bundle(*command, **more)
    with open(b + "/output", "wb") as f:
        p = subprocess.run(o.argv("create", "--bundle", b, "--pid-file", b + "/pid", id),
                           stdin=subprocess.DEVNULL, stdout=f, stderr=f, timeout=60)
    assert p.returncode == 0, open(b + "/output").read()
    return b


def wait_status(o, id, status):
    wait_for(lambda: o.state(id)["status"] == status)


def test_a_life(of):
    b = make(of, "a", "sh", "-c", "echo hello; exec sleep 1000")
    record = of.records()["a"]
    assert (record["runtime"], record["path"]) == (of.runtime, shutil.which(of.runtime))
    assert of.state("a")["status"] == "created"
    assert of.state("a")["pid"] == int(open(b + "/pid").read())
    of.ok("start", "a")
    wait_for(lambda: open(b + "/output").read() == "hello\n")
    assert of.state("a")["status"] == "running"
    assert of.ok("exec", "a", "echo", "-n", "--root", "-v") == "--root -v"
    assert of.call("exec", "a", "sh", "-c", "exit 42")[0] == 42
    assert re.search(r"\b%d\b" % of.state("a")["pid"], of.ok("ps", "a"))
    of.ok("pause", "a")
    assert of.state("a")["status"] == "paused"
    of.ok("resume", "a")
    assert of.state("a")["status"] == "running"
    of.ok("update", "--pids-limit", "77", "a")
    listed = json.loads(of.ok("list", "--format=json"))
    assert [(c["id"], c["status"], c["runtime"]) for c in listed] == [("a", "running", of.runtime)]
    assert of.ok("list", "-q") == "a\n"
    assert re.search(r"^a +\d+ +running +\S+ .* %s$" % of.runtime, of.ok("list"), re.M)
    status, _, err = of.call("delete", "a")
    assert status and err and of.records(), "it runs"
    of.ok("kill", "a", "KILL")
    wait_status(of, "a", "stopped")
    of.ok("delete", "a")
    assert of.call("state", "a")[0] and not os.listdir(of.root)


def test_run_passes_on_everything(of):
    b = of.bundle("sh", "-c", "cat; echo err >&2; exit 7")
    p = subprocess.run(of.argv("run", "--bundle", b, "r"), input="in", stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60)
    assert (p.returncode, p.stdout, p.stderr) == (7, "in", "err\n")
    assert not os.listdir(of.root)


def test_run_hands_signals_on(of):
    b = of.bundle("sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    p = subprocess.Popen(of.argv("run", "--bundle", b, "r"), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.communicate(timeout=60)[0] == "got\n" and p.returncode == 3
    assert not os.listdir(of.root)


def test_preserved_descriptors(of, tmp_path):
    b = of.bundle("sh", "-c", "cat <&3; cat <&4")
    files = []
    for text in ("three ", "four"):
        (tmp_path / text.strip()).write_text(text)
        files.append(open(tmp_path / text.strip()))
    # 3 and 4 of the program, whatever they are here
    script = 'exec "$@" 3<"%s" 4<"%s"' % (files[0].name, files[1].name)
    p = subprocess.run(["sh", "-c", script, "sh", *of.argv("run", "--preserve-fds", "2", "-b", b, "p")],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (p.returncode, p.stdout) == (0, "three four")


# --- whose a container is ---

def test_a_container_keeps_its_runtime(oci):
    """Whatever becomes of the configuration."""
    oci.config("default_runtimes: [one]\nruntimes:\n  one:\n    path: runc\n    args: [--debug]\n")
    make(oci, "a", "sleep", "1000")
    assert oci.records()["a"]["args"] == ["--debug"]
    oci.config("default_runtimes: [other]\nruntimes:\n  other:\n    path: crun\n")
    assert oci.state("a")["status"] == "created"
    oci.config("bad: [")  # nobody reads it for a container that is there
    oci.ok("start", "a")
    assert oci.ok("exec", "a", "echo", "-n", "x") == "x"
    oci.ok("delete", "--force", "a")
    assert not oci.has_record("a")
    status, _, err = oci.call("create", "-b", oci.bundle("true"), "b")
    assert status == 1 and "config.yaml:" in err


@pytest.mark.parametrize("maker", RUNTIMES)
def test_without_a_record_runtimes_are_asked(oci, maker):
    b = oci.bundle("sleep", "1000")
    with open(b + "/output", "wb") as f:
        subprocess.run([maker, "--root", oci.root, "create", "-b", b, "a"], check=True,
                       stdin=subprocess.DEVNULL, stdout=f, stderr=f)
    assert [c["id"] for c in json.loads(oci.ok("list", "-f", "json"))] == ["a"]
    assert oci.state("a")["status"] == "created"
    assert oci.records()["a"]["runtime"] == maker, "from now on it is known"
    os.unlink(oci.root + "/.gantry-oci.a")
    oci.ok("kill", "a", "KILL")
    os.truncate(oci.root + "/.gantry-oci.a", 7)  # as a power cut may leave it
    oci.ok("delete", "--force", "a")
    assert oci.call("state", "a")[0] and not os.listdir(oci.root)


def test_what_nobody_knows(of):
    for args, bad in ((["state", "x"], True), (["kill", "x", "KILL"], True), (["delete", "x"], True),
                      (["delete", "--force", "x"], False), (["start", "x"], True)):
        status, _, err = of.call(*args)
        expected = subprocess.run([of.runtime, "--root", of.root, *args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert (status, bool(status)) == (expected.returncode, bad)
    assert of.call("exec", "a/b", "true")[0] and of.call("create", "..")[0] == 1
    assert of.call("nothing")[0] == 1 and of.call("--root")[0] == 1


def test_an_id_that_is_taken(oci):
    oci.config("default_runtimes: [runc]\n")
    make(oci, "a", "sleep", "1000")
    before = oci.records()
    oci.config("default_runtimes: [crun]\n")
    for verb in ("create", "run"):
        status, _, err = oci.call(verb, "-b", oci.bundle("true"), "a")
        assert status == 1 and "exist" in err
    assert oci.records() == before and oci.state("a")["status"] == "created"
    oci.ok("delete", "--force", "a")


def test_one_that_was_not_made(of):
    """The runtime cannot make it: nothing hinders another of that id, and nothing is left."""
    b = of.bundle("/no/such/program")
    for verb in ("create", "run"):
        status, _, err = of.call(verb, "-b", b, "a")
        assert status and "no such file" in err.lower()
    assert of.call("state", "a")[0]
    of.ok("run", "-b", of.bundle("true"), "a")
    assert not of.has_record("a")
    of.call("create", "-b", b, "a")
    assert of.ok("list", "-q") == "" and not of.has_record("a")
    of.call("create", "-b", b, "a")
    of.ok("delete", "--force", "a")
    assert not of.has_record("a")


def fault_points():
    return subprocess.run([PROGRAM, "--fault-points"], stdout=subprocess.PIPE, text=True).stdout.split()


def test_killed_at_any_moment(of):
    """Whatever there is of a container can be removed, and its id used again."""
    b = of.bundle("sleep", "1000")
    calls = [["create", "-b", b, "k"], ["run", "-b", of.bundle("true"), "k"], ["state", "k"],
             ["delete", "--force", "k"]]
    points = fault_points()
    if not points:
        pytest.skip("a build without fault points")
    died = set()
    for point in points:
        shutil.rmtree(of.top + "/state", ignore_errors=True)  # runtimes are tried anew
        for call in calls:
            with open(b + "/output", "wb") as f:
                p = subprocess.run(of.argv(*call), stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                   env=dict(os.environ, GANTRY_FAULT=point), timeout=60)
            if p.returncode == -signal.SIGKILL:
                died.add(point)
        of.ok("delete", "--force", "k")
        assert of.call("state", "k")[0] and not of.has_record("k"), point
    assert died == set(points)
    make(of, "k", "sleep", "1000")
    of.ok("delete", "--force", "k")


@pytest.mark.parametrize("script", ["kill -9 $$", 'crun "$@"; kill -9 $$'], ids=["before", "after"])
def test_a_runtime_that_is_killed(oci, script):
    killed = 'case "$*" in *" create "*" k") %s;; esac; exec crun "$@"' % script
    oci.config("default_runtimes: [crun]\nruntimes:\n  crun:\n    path: %s\n" % fake(oci, "killed", "1.8.1", killed))
    b = oci.bundle("sleep", "1000")
    with open(b + "/output", "wb") as f:
        p = subprocess.run(oci.argv("create", "-b", b, "k"), stdin=subprocess.DEVNULL, stdout=f,
                           stderr=f)
    assert p.returncode == -signal.SIGKILL and oci.has_record("k")
    oci.ok("delete", "--force", "k")
    assert oci.call("state", "k")[0] and not os.listdir(oci.root)


# --- which runtime ---

RULES = """\
default_runtimes: [crun]
routes:
- name: databases
  match: {image: "db-*"}
  runtimes: [runc]
- name: of-a-namespace
  match: {namespace: "team-*"}
  runtimes: [runc]
- name: by-label
  match: {labels: {tier: gold}}
  runtimes: [runc]
- name: by-name
  match: {container: "special"}
  runtimes: [runc]
"""


def cri(**more):
    """A container's annotations as containerd makes them."""
    names = {"image": "image-name", "namespace": "sandbox-namespace", "name": "container-name",
             "type": "container-type", "sandbox": "sandbox-id"}
    return {"io.kubernetes.cri." + names[k]: v for k, v in {"type": "container", **more}.items()}


def crio(**more):
    names = {"image": "ImageName", "namespace": "Namespace", "type": "ContainerType",
             "sandbox": "SandboxID", "labels": "Labels", "handler": "RuntimeHandler"}
    return {"io.kubernetes.cri-o." + names[k]: v for k, v in {"type": "container", **more}.items()}


def test_annotations_choose(oci):
    oci.config(RULES)
    db = "docker.io/library/db-big:1"
    for annotations, expected in (
            (None, "crun"), (cri(image="docker.io/library/web:1"), "crun"),
            (cri(image=db), "runc"), (crio(image=db), "runc"), ({"gantry.image": "db-big"}, "runc"),
            (cri(image=db, type="sandbox"), "crun"), (cri(image="Not An Image"), "crun"),
            (cri(namespace="team-a"), "runc"), (crio(namespace="team-a", type="sandbox"), "runc"),
            ({"gantry.namespace": "other"}, "crun"),
            (crio(labels='{"tier": "gold"}'), "runc"), ({"gantry.label.tier": "gold"}, "runc"),
            (cri(name="special"), "runc"),
            # own handlers, where nobody else says what the container is
            ({"gantry.handler": "runc"}, "runc"), ({"run.oci.handler": "runc"}, "runc"),
            # of a pod's author, who may not choose
            ({**cri(), "gantry.handler": "runc", "run.oci.handler": "runc"}, "crun"),
            # the caller's own names need not be ours
            (crio(handler="kata"), "crun"), (crio(handler="runc"), "runc")):
        assert oci.made_by(annotations) == expected, annotations
    assert "no runtime" in oci.refused({"gantry.handler": "kata"})


def test_why_stands_in_the_record(oci):
    oci.config(RULES)
    make(oci, "a", "true", annotations={"gantry.image": "db-x"})
    make(oci, "b", "true")
    assert {i: r["why"] for i, r in oci.records().items()} == {"a": "rule databases", "b": "default"}
    for i in "ab":
        oci.ok("delete", "--force", i)


def fake(oci, name, version, script='exec crun "$@"'):
    """crun under another version."""
    path = "%s/%s" % (oci.top, name)
    with open(path, "w") as f:
        f.write('#!/bin/sh\n[ "$1" != --version ] || { echo "crun version %s"; exit; }\n%s\n'
                % (version, script))
    os.chmod(path, 0o755)
    return path


def test_a_runtime_has_what_the_container_needs(oci):
    old = fake(oci, "old", "0.8")
    oci.config("default_runtimes: [old, crun]\nruntimes:\n  old:\n    path: %s\n  crun:\n    path: crun\n" % old)

    def copyup(spec):
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                               "options": ["tmpcopyup"]})

    assert oci.made_by() == "old"
    assert oci.made_by(change=copyup) == "crun"
    said = oci.refused({"gantry.handler": "old"}, change=copyup)
    assert "old" in said and "tmpfs mounts with a copy" in said


def test_a_runtime_that_does_not_work_is_passed_over(oci):
    """It is tried with a container of its own; what was found is kept."""
    counted = oci.top + "/counted"
    broken = fake(oci, "broken", "1.8.1",
                  'case "$*" in *" run "*|*" create "*) echo run >>%s; echo "it is broken" >&2; exit 1;; esac; exec crun "$@"'
                  % counted)
    oci.config("default_runtimes: [gone, broken, crun]\nruntimes:\n  gone:\n    path: /no/such\n"
               "  broken:\n    path: %s\n  crun:\n    path: crun\n" % broken)
    assert oci.made_by() == "crun" and oci.made_by() == "crun"
    assert len(open(counted).readlines()) == 1
    said = oci.refused({"gantry.handler": "broken"})
    assert "broken" in said
    fake(oci, "broken", "1.8.1")  # mended
    assert oci.made_by({"gantry.handler": "broken"}) == "broken"
    assert "not installed" in oci.refused({"gantry.handler": "gone"})
    assert not [n for n in os.listdir(oci.top + "/state/oci") if n.startswith("trial-")]


def test_a_pod_stays_as_isolated_as_it_was_made(oci):
    """Records know what a pod's sandbox has: a container that asks for less is refused."""
    oci.config("runtimes:\n  strong:\n    path: crun\n    isolation: vm\n    unit: pod\n"
               "  plain:\n    path: runc\ndefault_runtimes: [plain]\n"
               "routes:\n- name: vms\n  match: {namespace: vms}\n  runtimes: [strong]\n"
               "- name: web\n  match: {image: web}\n  runtimes: [plain]\n")
    make(oci, "pod", "sleep", "1000", annotations=cri(namespace="vms", type="sandbox"))
    assert oci.records()["pod"]["runtime"] == "strong"
    assert oci.made_by(cri(sandbox="pod", image="other")) == "strong"
    assert oci.made_by(cri(image="web")) == "plain"
    said = oci.refused(cri(sandbox="pod", image="web"))
    assert "plain" in said and "strong" in said
    oci.ok("delete", "--force", "pod")


def test_crun_s_own_handlers(oci):
    """run.oci.handler is what crun acts on: others are not asked."""
    oci.config("default_runtimes: [runc, crun]\n")
    assert oci.made_by() == "runc"
    assert oci.made_by({"run.oci.handler": "x"}) == "crun"
    oci.config("default_runtimes: [runc]\nruntimes:\n  runc:\n    path: runc\n")
    assert "run.oci.handler is for crun" in oci.refused({"run.oci.handler": "x"})


def test_features_and_list_join(oci):
    features = json.loads(oci.ok("features"))
    assert set(features["hooks"]) >= {"prestart", "poststop"}
    assert features["linux"]["cgroup"]["v1"] is True
    only = fake(oci, "other", "1.8.1", 'echo \'{"ociVersionMin": "0.9.0", "hooks": ["prestart", "x"],'
                ' "linux": {"cgroup": {"v1": false, "z": true}}}\'')
    oci.config("default_runtimes: [runc]\nruntimes:\n  runc:\n    path: runc\n  other:\n    path: %s\n" % only)
    features = json.loads(oci.ok("features"))
    assert features["ociVersionMin"] == "0.9.0" and "x" in features["hooks"]
    assert features["hooks"].count("prestart") == 1
    assert features["linux"]["cgroup"]["v1"] and features["linux"]["cgroup"]["z"]
    oci.config(RULES)
    make(oci, "a", "true", annotations={"gantry.image": "db-x"})
    make(oci, "b", "true")
    listed = json.loads(oci.ok("list", "--format", "json"))
    assert sorted((c["id"], c["runtime"]) for c in listed) == [("a", "runc"), ("b", "crun")]
    for i in "ab":
        oci.ok("delete", "--force", i)


def test_help_and_version(oci):
    assert re.fullmatch(r"gantry-oci version \S+\nspec: \S+\n", oci.ok("--version"))
    assert oci.ok("help") == oci.ok("--help")
    with open(TOP + "/docs/man/gantry-oci.8") as f:
        page = f.read()
    for verb in re.findall(r"^  (\w+) ", oci.ok("help").split("Options:")[0], re.M):
        assert oci.ok(verb, "--help") == oci.ok("help", verb)
        assert re.search(r"^\.It Cm .*\b%s\b" % verb, page, re.M), verb
