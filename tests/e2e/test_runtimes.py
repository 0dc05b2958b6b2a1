# SPDX-License-Identifier: Apache-2.0
"""What the daemon knows of its runtimes: real ones, and programs that lie, lack, hang and change."""
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess

import grpc
import pytest

from cri import TOP
from daemon import Daemon, processes_with, wait_for
from test_cli import Cli

CODE = grpc.StatusCode
CRUN = shutil.which("crun") or "crun"
DOC = {"ociVersionMin": "1.0.0", "ociVersionMax": "1.1.0"}


def runtimes(d):
    """By name, as a verbose Status has them; each has been probed once."""
    def known():
        found = json.loads(d.cri.Status(verbose=True).info["config"])["runtimes"]
        return not any(r.get("reason") == "not probed yet" for r in found) and found
    return {r["name"]: r for r in wait_for(known, timeout=60)}


def fake(path, version="fake version 1.0", features="exit 1", otherwise='exec %s "$@"' % CRUN):
    """A runtime out of crun, replaced as a package manager does it; `calls` has each command."""
    text = """#!/bin/sh
case "$1" in
--version) %s ;;
features) %s ;;
*) for a; do case "$a" in run|create) echo "$a" >>%s.calls ;; esac; done
   %s ;;
esac
""" % (version if " " not in version or version.startswith("sleep") else
       "echo '%s'" % version, features, path, otherwise)
    with open(str(path) + ".new", "w") as f:
        f.write(text)
    os.chmod(str(path) + ".new", 0o755)
    os.rename(str(path) + ".new", path)
    return path


def document(**more):
    return "echo '%s'" % json.dumps(dict(DOC, **more))


def config(*names, base, args=(), more=""):
    lines = ["  %s: {path: %s/%s%s%s}" % (
        n, base, n, ", args: [%s]" % ", ".join(args) if args else "", more) for n in names]
    return "default_runtimes: [crun]\nruntimes:\n  crun: {path: crun}\n%s\n" % "\n".join(lines)


def calls(path):
    try:
        with open(str(path) + ".calls") as f:
            return f.read().split()
    except OSError:
        return []


def test_real_ones(d):
    """What gantry knows of Debian's runtimes is what they say of themselves."""
    found = runtimes(d)
    for name in ("crun", "runc"):
        r = found[name]
        if not r["available"]:
            pytest.skip("%s does not work here: %s" % (name, r["reason"]))
        text = subprocess.run([name, "--version"], stdout=subprocess.PIPE, text=True).stdout
        assert r["version"] == re.search(r"version (\S+)", text).group(1)
        said = subprocess.run([name, "features"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        has, lacks = r["capabilities"]["has"], r["capabilities"]["lacks"]
        assert set(has) | set(lacks) >= {"user-namespaces", "terminal", "seccomp-notify"}
        assert not set(has) & set(lacks) and all(lacks.values())
        with open(TOP + "/docs/capabilities.md") as f:
            assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", f.read(), re.M)) == \
                set(has) | set(lacks)
        if said.returncode == 0:
            doc = json.loads(said.stdout)
            assert "features" not in r
            assert ("recursive-read-only-mounts" in has) == ("rro" in doc["mountOptions"])
            assert ("seccomp-notify" in has) == \
                ("SCMP_ACT_NOTIFY" in doc["linux"]["seccomp"]["actions"])
        else:
            assert "features: exit status" in r["features"]
        if name == "crun" and r["version"] == "1.8.1":
            assert lacks["idmapped-mounts"] == "crun has it since 1.9.0, this one is 1.8.1"
            assert "recursive-read-only-mounts" in has


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, archive):
    """One daemon with every kind of liar."""
    base = tmp_path_factory.mktemp("zoo")
    fake(base / "lacking", features=document(
        hooks=["prestart"], mountOptions=["ro"],
        linux={"namespaces": ["pid", "network", "mount", "ipc", "uts"],
               "seccomp": {"enabled": True, "actions": ["SCMP_ACT_ERRNO"]},
               "netDevices": {"enabled": False}}))
    fake(base / "rich", features=document(
        mountOptions=["rro", "rnosuid"],
        linux={"namespaces": ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"],
               "netDevices": {"enabled": True}, "mountExtensions": {"idmap": {"enabled": True}}}))
    fake(base / "hanging", features="sleep 7531")
    fake(base / "mute", version="sleep 7532")
    fake(base / "endless", features="exec tr '\\0' '[' </dev/zero")
    fake(base / "huge", features=document() + "; head -c 5000000 /dev/zero | tr '\\0' ' '")
    fake(base / "deep", features="head -c 100000 /dev/zero | tr '\\0' '['")
    fake(base / "unfiltered", otherwise="""
        prev=; for a; do
            [ "$prev" = --bundle ] && [ -f "$a/config.json" ] &&
                sed -i 's/"seccomp":/"no":/' "$a/config.json"
            prev=$a
        done
        exec %s "$@\"""" % CRUN)
    fake(base / "broken", otherwise="echo 'no container today' >&2; exit 1")
    daemon = Daemon(config=config("lacking", "rich", "hanging", "mute", "endless", "huge", "deep",
                                  "unfiltered", "broken", "missing", base=base))
    daemon.load(archive)
    yield daemon
    daemon.close()


def test_documents_are_believed(zoo):
    found = runtimes(zoo)
    lacks = found["lacking"]["capabilities"]["lacks"]
    assert lacks["user-namespaces"] == 'its features list no "user" in linux.namespaces'
    assert lacks["hook-poststop"] == 'its features list no "poststop" in hooks'
    assert lacks["seccomp-log"] == 'its features list no "SCMP_ACT_LOG" in linux.seccomp.actions'
    assert lacks["net-devices"] == "its features say linux.netDevices.enabled: false"
    assert "net-devices" in found["rich"]["capabilities"]["has"]
    assert "recursive-read-only-mounts" in found["rich"]["capabilities"]["has"]
    handlers = {h.name: h.features for h in zoo.cri.Status().runtime_handlers}
    assert not handlers["lacking"].user_namespaces
    assert not handlers["lacking"].recursive_read_only_mounts
    assert handlers["rich"].user_namespaces == handlers["crun"].user_namespaces


def test_filters_that_do_not_hold(zoo):
    """One that takes a seccomp profile and runs the container without it: it has no seccomp."""
    found = runtimes(zoo)
    assert found["unfiltered"]["available"]
    lacks = found["unfiltered"]["capabilities"]["lacks"]
    for name in ("seccomp", "seccomp-default"):
        assert "a container that asks for a seccomp filter runs without" in lacks[name]
        assert name in found["rich"]["capabilities"]["has"]


def test_liars_are_bounded(zoo):
    """Each is asked for seconds and listened to for kilobytes; it works without the document."""
    found = runtimes(zoo)
    for name, words in (("hanging", "no end in 5 s: killed"),
                        ("endless", "no end in 5 s: killed|more than 262144 bytes"),
                        ("huge", "more than 262144 bytes"), ("deep", "features: ")):
        assert found[name]["available"], found[name]
        assert re.search(words, found[name]["features"])
        assert "terminal" in found[name]["capabilities"]["has"]
    assert not found["mute"]["available"] and "--version: no end in 5 s" in found["mute"]["reason"]
    assert not found["broken"]["available"]
    assert "no container today" in found["broken"]["reason"] or \
        "exit status 1" in found["broken"]["reason"]
    assert found["missing"]["reason"].startswith("not installed: no program")
    names = {h.name for h in zoo.cri.Status().runtime_handlers}
    assert {"hanging", "huge"} < names and not {"mute", "broken", "missing"} & names
    for sleep in ("sleep 7531", "sleep 7532"):
        wait_for(lambda: not processes_with(sleep))
    zoo.cri.RemovePodSandbox(pod_sandbox_id=zoo.run_pod(handler="hanging"))


def test_the_command(zoo):
    """`gantry runtimes` shows all of it, and tries them anew when it is told to."""
    cli = Cli(zoo)
    rows = {line.split()[0]: line for line in cli("runtimes").splitlines()}
    assert rows["NAME"].split() == ["NAME", "VERSION", "ISOLATION", "UNIT", "DEFAULT", "FEATURES",
                                    "HEALTH", "PATH"]
    assert set(rows) == {"NAME"} | {r for r in runtimes(zoo)}
    assert re.search(r" plain +container +1 +\d+ of \d+ +available +/\S*crun$", rows["crun"])
    assert "unavailable: not installed" in rows["missing"]
    one = cli("runtimes", "lacking")
    assert 'user-namespaces: its features list no "user" in linux.namespaces\n' in one
    assert re.search("^Has: +", one, re.M) and "hook-prestart" in one
    found = {r["name"]: r for r in json.loads(cli("runtimes", "-o", "json"))["runtimes"]}
    for name, r in runtimes(zoo).items():
        f = found[name]
        assert (f["health"] == "available") == r["available"]
        assert f["version"] == r["version"] and f["reason"] == r.get("reason", "")
        if r["available"]:
            assert f["capabilities"] == r["capabilities"]["has"]
            assert {x["name"]: x["reason"] for x in f["lacks"]} == r["capabilities"]["lacks"]
    assert found["crun"]["defaultPlace"] == 1 and found["rich"]["defaultPlace"] == 0
    assert "no runtime \"horse\" is configured" in cli.fails("runtimes", "horse")


def test_trying_anew(tmp_path):
    path = fake(tmp_path / "fake")
    d = Daemon(config=config("fake", base=tmp_path))
    try:
        cli = Cli(d)
        before = json.loads(cli("runtimes", "fake", "-o", "json"))["runtimes"][0]
        n = len(calls(path))
        after = json.loads(cli("runtimes", "--probe", "fake", "-o", "json"))["runtimes"][0]
        assert len(calls(path)) > n
        assert int(after.pop("probedAt")) > int(before.pop("probedAt")) > 0 and after == before
        text = cli("metrics")
        assert 'gantry_runtime_probes_total{runtime="fake",result="success"} 2\n' in text
        assert 'gantry_runtime_probes_total{runtime="fake",result="failure"} 0\n' in text
    finally:
        d.close()


def test_replaced_programs(tmp_path):
    """Another version, one that does not work, and one that does again: known without a restart."""
    path = fake(tmp_path / "fake", version="fake version 1.0")
    d = Daemon(config=config("fake", base=tmp_path))
    try:
        assert runtimes(d)["fake"]["version"] == "1.0"
        fake(path, version="fake version 2.0")
        wait_for(lambda: runtimes(d)["fake"]["version"] == "2.0", timeout=15)
        fake(path, version="fake version 3.0", otherwise="exit 1")
        wait_for(lambda: not runtimes(d)["fake"]["available"], timeout=15)
        with pytest.raises(grpc.RpcError) as e:
            d.run_pod(handler="fake")
        assert e.value.code() == CODE.FAILED_PRECONDITION
        fake(path, version="fake version 4.0")
        wait_for(lambda: runtimes(d)["fake"]["available"], timeout=15)
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(handler="fake"))
        os.unlink(path)
        wait_for(lambda: "not installed" in runtimes(d)["fake"].get("reason", ""), timeout=15)
    finally:
        d.close()


def test_what_is_kept(tmp_path):
    """A daemon that is started again knows its runtimes without a container; not when the program,
    its arguments, or what it needs have changed; and never of one that did not work."""
    path = fake(tmp_path / "fake")
    bad = fake(tmp_path / "bad", otherwise="exit 1")
    d = Daemon(config=config("fake", "bad", base=tmp_path))

    def restarted():
        """How many containers a new daemon tried it with."""
        before = len(calls(path))
        d.restart()
        runtimes(d)
        return len(calls(path)) - before
    try:
        runtimes(d)
        n_bad = len(calls(bad))
        assert calls(path) and n_bad
        assert restarted() == 0
        assert len(calls(bad)) > n_bad
        fake(path)
        assert restarted() > 0
        assert restarted() == 0
        d.set_config(config("fake", "bad", base=tmp_path, args=["--debug"]))
        assert restarted() > 0
        assert runtimes(d)["fake"]["available"]
    finally:
        d.close()


def kvm():
    try:
        with open("/dev/kvm", "rb+", buffering=0) as f:
            return fcntl.ioctl(f, 0xae00) == 12  # KVM_GET_API_VERSION
    except OSError:
        return False


def test_what_it_needs_of_the_node(tmp_path):
    """Without it the runtime is not available, and says what is missing."""
    for n in ("a", "b", "c", "k"):
        fake(tmp_path / n)
    there, sock = tmp_path / "there", str(tmp_path / "sock")
    text = "default_runtimes: [crun]\nruntimes:\n  crun: {path: crun}\n" + "".join(
        "  %s: {path: %s/%s, needs: [%s]}\n" % (n, tmp_path, n, what) for n, what in (
            ("a", '"file:%s"' % there), ("b", '"unix:%s"' % sock), ("c", '"program:sh"'),
            ("k", "kvm")))
    d = Daemon(config=text)
    try:
        found = runtimes(d)
        assert found["a"]["reason"] == "needs file:%s: it is not there" % there
        assert found["b"]["reason"] == "needs unix:%s: No such file or directory" % sock
        assert found["c"]["available"]
        assert found["k"]["available"] == kvm()
        assert kvm() or found["k"]["reason"].startswith("needs kvm: /dev/kvm")
        there.write_text("")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(sock)
            s.listen()
            d.restart()
            found = runtimes(d)
            assert found["a"]["available"] and found["b"]["available"]
        d.restart()  # nobody listens: what was found before does not count
        assert runtimes(d)["b"]["reason"] == "needs unix:%s: Connection refused" % sock
    finally:
        d.close()
