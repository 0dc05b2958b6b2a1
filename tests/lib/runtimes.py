# SPDX-License-Identifier: Apache-2.0
"""The OCI runtimes that tests run with: what they are called with, and where they come from.

crun and runc are the machine's. youki is built from crates.io and gVisor's runsc from the Go module
proxy, once, and kept below .cache/runtimes of the checkout (GANTRY_TEST_RUNTIMES_CACHE). That takes
minutes, so tests build none but those that GANTRY_TEST_RUNTIMES names ("all": both), and take what is
there ("cached", the default), or neither ("none": scripts/check has a suite for them). As a program it
builds:

  runtimes.py [youki] [runsc]
"""
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("GANTRY_TEST_RUNTIMES_CACHE", os.path.join(TOP, ".cache", "runtimes"))
NAMES = ("crun", "runc", "youki", "runsc")

YOUKI, YOUKI_FEATURES = "0.7.0", "v1"
GVISOR, GVISOR_RELEASE = "v0.0.0-20250205023644-9414b50a5633", "release-20250203.0"
# gVisor looks into the structures of Go's own runtime: with a newer one its sandboxes panic.
GVISOR_GO = "go1.23.6"


class Unavailable(Exception):
    """One that cannot be had here; its text is the reason for skipping."""


def _run(args, **kw):
    args = [*os.environ.get("GANTRY_OUTSIDE", "").split(), *args]
    try:
        r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           check=False, **kw)
    except OSError as e:
        raise Unavailable("%s: %s" % (args[0], e)) from e
    if r.returncode:
        raise Unavailable("%s: %s" % (" ".join(args), r.stdout.strip()[-1000:]))
    return r.stdout


def _cargo():
    for path in (shutil.which("cargo"), os.path.expanduser("~/.cargo/bin/cargo")):
        if path and os.access(path, os.X_OK):
            m = re.match(r"cargo (\d+)\.(\d+)", _run([path, "--version"]))
            if m and (int(m[1]), int(m[2])) >= (1, 85):  # its edition
                return path
    raise Unavailable("no cargo 1.85 or newer: youki cannot be built")


def _build_youki(out):
    work = out + ".build"
    try:
        _run([_cargo(), "install", "--quiet", "youki", "--version", YOUKI, "--features", YOUKI_FEATURES,
              "--locked", "--jobs", "2", "--root", work, "--target-dir", work + "/target"])
        os.rename(work + "/bin/youki", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build_runsc(out):
    sys.path.insert(0, os.path.join(TOP, "tests", "conformance"))
    import tools
    work = out + ".build"
    os.makedirs(work, exist_ok=True)
    try:
        with open(work + "/go.mod", "w") as f:
            f.write("module runsc\n\ngo 1.23.1\n\nrequire gvisor.dev/gvisor %s\n" % GVISOR)
        try:
            go = tools.go()
        except tools.Unavailable as e:
            raise Unavailable(str(e)) from e
        _run([go, "build", "-mod=mod", "-p", "2", "-o", work + "/runsc", "-ldflags",
              "-s -w -X gvisor.dev/gvisor/runsc/version.version=" + GVISOR_RELEASE,
              "gvisor.dev/gvisor/runsc"], cwd=work,
             env=dict(os.environ, CGO_ENABLED="0", GOTOOLCHAIN=GVISOR_GO, GOFLAGS=""))
        os.rename(work + "/runsc", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


_BUILD = {"youki": (_build_youki, YOUKI + YOUKI_FEATURES), "runsc": (_build_runsc, GVISOR + GVISOR_GO)}


def _asked():
    return os.environ.get("GANTRY_TEST_RUNTIMES", "cached").replace(",", " ").split()


def path(name, build=None):
    """The program's path; built where that is asked for. Unavailable with the reason."""
    if name not in _BUILD:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not found:
            raise Unavailable("no %s on this machine" % name)
        return found
    make, stamp = _BUILD[name]
    out = os.path.join(CACHE, "%s-%s" % (name, hashlib.sha256(stamp.encode()).hexdigest()[:8]), name)
    asked = _asked()
    if build is None and asked == ["none"]:
        raise Unavailable("%s has its turn in the suite `runtimes`" % name)
    if os.access(out, os.X_OK):
        return out
    if not build and "all" not in asked and name not in asked:
        raise Unavailable("%s is not in %s, and building it takes minutes: GANTRY_TEST_RUNTIMES=all "
                          "or tests/lib/runtimes.py %s does" % (name, CACHE, name))
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(os.path.join(CACHE, name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.access(out, os.X_OK):
            make(out)
    return out


def config(name):
    """Its entry of `runtimes:`, as the lines below its name."""
    text = "    path: %s\n" % path(name)
    if name == "runsc":
        text += ("    args: [--platform=systrap, --overlay2=none]\n    unit: pod\n"
                 "    isolation: kernel\n")
    return text


def settings(name):
    """The settings of a daemon whose pods are this one's: nothing but that one is configured."""
    return "runtimes:\n  %s:\n%sdefault_runtimes: [%s]\n" % (name, config(name), name)


def default(name, listed):
    """The same beside crun and runc, which tests ask for by their handlers; not `listed`: the test
    lists its own."""
    if name in ("crun", "runc") or not listed:
        return "default_runtimes: [%s]\n" % name
    return "runtimes:\n  crun: {path: crun}\n  runc: {path: runc}\n  %s:\n%s" \
        "default_runtimes: [%s]\n" % (name, config(name), name)


def lacks(daemon, name, *capabilities):
    """Why the daemon says that the runtime has not all of these; None: it has."""
    info = json.loads(daemon.cri.Status(verbose=True).info["config"])
    for rt in info["runtimes"]:
        if rt["name"] == name:
            missing = rt.get("capabilities", {}).get("lacks", {})
            return next(("%s: %s" % (c, missing[c]) for c in capabilities if c in missing), None)
    return "no runtime %s" % name


if __name__ == "__main__":
    bad = 0
    for n in sys.argv[1:] or list(_BUILD):
        try:
            print(path(n, build=True))
        except Unavailable as why:
            print("skipped: %s" % " ".join(str(why).split()))
            bad = 77
    sys.exit(bad)
