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

    def __init__(self, top):
        self.top = str(top)
        self.root = self.top + "/root"
        self.config_file = self.top + "/config.yaml"
        self.made = []
        self.config("")

    def config(self, text):
        with open(self.config_file, "w") as f:
            f.write(text)

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
        if annotations:
            spec["annotations"] = annotations
        if change:
            change(spec)
        with open(path + "/config.json", "w") as f:
            json.dump(spec, f)
        return path


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
