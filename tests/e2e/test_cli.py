# SPDX-License-Identifier: Apache-2.0
"""The command `gantry` against the real daemon: every command, its errors, its exit statuses."""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from cri import api
from daemon import BUILD, Daemon, wait_for
from image import Image, Layer
from cni import Cni
from registry import Registry, stall

GANTRY = BUILD + "/programs/gantry/gantry"
IMAGE = "test/busybox"


def environment(address, **more):
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "GANTRY_ADDRESS")}
    return {**env, "GANTRY_ADDRESS": address, **more}


class Cli:
    def __init__(self, daemon):
        self.d = daemon

    def popen(self, *args, **kw):
        env = environment(self.d.address, **kw.pop("env", {}))
        return subprocess.Popen([GANTRY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=kw.pop("text", True), env=env, **kw)

    def __call__(self, *args, status=0, input=None, timeout=60, **kw):
        if input is None:
            kw.setdefault("stdin", subprocess.DEVNULL)
        else:
            kw["stdin"] = subprocess.PIPE
        if isinstance(input, bytes):
            kw["text"] = False
        p = self.popen(*args, **kw)
        try:
            out, err = p.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            raise AssertionError("gantry %s hangs: %s" % (" ".join(args), p.communicate()))
        assert p.returncode == status, (args, p.returncode, out, err)
        assert "Sanitizer" not in str(err) and "runtime error:" not in str(err), (args, err)
        self.err = err
        return out

    def fails(self, *args, status=1, **kw):
        """Its words on standard error; nothing on standard output."""
        out = self(*args, status=status, **kw)
        assert out == "", out
        return self.err

    def json(self, *args):
        return json.loads(self(*args, "-o", "json"))

    def rows(self, *args):
        lines = self(*args).splitlines()
        return [dict(zip(re.split("  +", lines[0]), re.split("  +", x))) for x in lines[1:]]


@pytest.fixture
def g(d):
    yield Cli(d)
    Cli(d)("rm", "-f", "--all")


@pytest.fixture
def web(g):
    """A container that runs, and its pod, both named web."""
    g("run", "-d", "--name", "web", IMAGE, "sh", "-c", "echo started; exec sleep 1000")
    return g


def until_touched(path, meanwhile="sleep 0.05"):
    """For a shell: the exec that touches it has ended, and is not killed with the container."""
    return "until test -e %s && ! pidof touch >/dev/null; do %s; done" % (path, meanwhile)


def logs_of_runs(d):
    path = d.root + "/logs"
    return [x for x in os.listdir(path) if x != ".lock"] if os.path.isdir(path) else []


# --- what needs no daemon ---

def bare(*args, status=0, **env):
    p = subprocess.run([GANTRY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       env=environment("/nonexistent/gantry.sock", **env), timeout=20)
    assert p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout, p.stderr


def commands():
    text = bare("--help")[0]
    return re.findall(r"^  ([a-z-]+) ", text.split("Commands:")[1].split("Options:")[0], re.M)


def test_help():
    names = commands()
    assert {"run", "ps", "pods", "logs", "exec", "stop", "rm", "inspect", "stats", "images", "pull",
            "load", "rmi", "info", "version", "completion"} <= set(names)
    for n in names:
        out = bare(n, "--help")[0]
        assert out.startswith("Usage: gantry %s" % n) and "--address" in out
        assert bare("help", n)[0] == out == bare("--help", n)[0]
        assert all(len(x) <= 100 for x in out.splitlines()), n
    assert bare(status=2)[0] == bare("--help")[0] == bare("help")[0]
    assert re.fullmatch(r"gantry +\d+\.\d+\.\d+\n", bare("version", "--client")[0])


def test_wrong_command_lines():
    for args, said in [
            (["psx"], "did you mean 'ps'?"), (["lgos"], "did you mean 'logs'?"),
            (["imagse"], "did you mean 'images'?"), (["image"], "prune or verify"), (["delete"], "did you mean 'rm'?"),
            (["qqqqqq"], "unknown command 'qqqqqq'\n"), (["cp", "x"], "has no 'cp'"),
            (["port-forward", "p"], "too few arguments"), (["port-forward", "p", "80:x"], "LOCAL_PORT:PORT"),
            (["port-forward", "p", "80:0"], "LOCAL_PORT:PORT"), (["port-forward", "--listen", "x", "p", "80"], "no IP"),
            (["ps", "--al"], "did you mean --all?"), (["ps", "-x"], "unknown option -x"),
            (["ps", "extra"], 'unexpected argument "extra"'), (["logs"], "too few arguments"),
            (["logs", "--tail"], "needs a value"), (["logs", "--tail", "x", "c"], "--tail"),
            (["logs", "--since", "yesterday", "c"], "--since"), (["ps", "--all=1"], "takes no value"),
            (["ps", "-o", "xml"], "none of: table json yaml"), (["stop"], "must be named"),
            (["rm"], "must be named"), (["rmi"], "must be named"),
            (["stop", "-t", "soon", "c"], "expected a duration"),
            (["completion", "tcsh"], "bash zsh fish"), (["--nosuch"], "unknown option")]:
        err = bare(*args, status=2)[1]
        assert said in err and "--help'" in err, (args, err)
    for args, said in [(["run"], "too few"), (["run", "--memory", "much", "i"], "--memory"),
                       (["run", "-p", "80", "i"], "HOST_PORT:CONTAINER_PORT"),
                       (["run", "-v", "data:/x", "i"], "volumes with a name"),
                       (["run", "-v", "/nonexistent:/x", "i"], "No such file"),
                       (["run", "-it", "i"], "needs a terminal"), (["run", "--rm", "-d", "i"], "exclude"),
                       (["run", "--name", "a/b", "i"], "--name"), (["run", "--cpus", "no", "i"], "--cpus"),
                       (["run", "--stop-signal", "X", "i"], "no signal"),
                       (["run", "--network", "host", "-p", "1:1", "i"], "no meaning"),
                       (["exec", "c"], "too few"), (["exec", "-it", "c", "sh"], "needs a terminal"),
                       (["attach"], "too few")]:
        assert said in bare(*args, status=125)[1], args


def test_no_daemon(tmp_path):
    out, err = bare("ps", status=1)
    assert out == "" and "gantryd is not running" in err and "/nonexistent/gantry.sock" in err
    assert "start it with" in err and "GANTRY_ADDRESS" in err
    out, err = bare("version", status=1)
    assert out.startswith("gantry ") and "not running" in err
    stale = str(tmp_path / "s")
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.bind(stale)
    s.close()
    assert "nobody listens on the socket " + stale in bare("--address", stale, "ps", status=1)[1]
    assert stale in bare("ps", "--address=" + stale, status=1)[1]
    assert "not running" in bare("run", "x", status=125)[1]
    assert "too long" in bare("--address", "/" + "x" * 200, "ps", status=1)[1]


# --- system ---

def test_version_and_info(g):
    assert re.fullmatch(r"gantry +\S+\ngantryd +\S+ \(CRI v1, on %s\)\n" % g.d.address, g("version"))
    assert g.json("version")["runtimeName"] == "gantry"
    assert g("--address", "unix://" + g.d.address, "pods", "-q") == ""
    wait_for(lambda: "RuntimeReady:  yes" in g("info"))
    out = g("info")
    assert "Images:        1" in out and g.d.root in out and "crun" in out
    info = g.json("info")
    assert info["config"]["rootDir"] == g.d.root and info["images"] == 1
    assert {c["type"]: c["status"] for c in info["conditions"]}["RuntimeReady"] is True


# --- images ---

def test_images(g):
    row, = g.rows("images")
    assert row["IMAGE"] == "docker.io/test/busybox" and row["TAG"] == "latest"
    assert re.fullmatch("[0-9a-f]{12}", row["ID"]) and re.fullmatch(r"[\d.]+ MiB", row["SIZE"])
    full = g("images", "-q").strip()
    assert full.startswith("sha256:" + row["ID"]) and len(full) == 71
    assert full in g("images", "--no-trunc") and "DIGEST" in g("images", "--digests")
    image, = g.json("images")["images"]
    assert image["id"] == full and image["repoTags"] == ["docker.io/test/busybox:latest"]
    assert g("images", "nosuch", "-q") == "" and g("images", "busy", "-q").strip() == full
    assert "exclude" in g.fails("images", "-q", "-o", "json")


def layers(n):
    return [Layer().add("f%d" % i, os.urandom(1000 + i)).bytes() for i in range(n)]


def test_load(g, tmp_path):
    Image(layers(2)).docker_archive(str(tmp_path / "a.tar"), ["cli/a:1", "cli/a:2"])
    Image(layers(1)).oci_archive(str(tmp_path / "b.tar"), "cli/b:1")
    Image(layers(1)).oci_layout(str(tmp_path / "c"), "cli/c:1")
    out = g("load", "a.tar", cwd=str(tmp_path))  # relative to us, not to the daemon
    assert re.fullmatch(r"Loaded docker.io/cli/a:\d \([0-9a-f]{12}\)\n", out)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", g("load", "-q", "-i", str(tmp_path / "b.tar")))
    assert "cli/c:1" in g("load", str(tmp_path / "c"))
    left = tmp_path / "spool" / "gantry-load-killed"
    left.parent.mkdir()
    left.write_text("of a load that was killed")
    with open(tmp_path / "a.tar", "rb") as f:
        assert b"cli/a" in g("load", input=f.read(), env={"TMPDIR": str(left.parent)})
    assert os.listdir(left.parent) == []
    assert "No such file" in g.fails("load", str(tmp_path / "none"))
    (tmp_path / "bad.tar").write_bytes(b"no archive at all" * 100)
    assert "bad.tar" in g.fails("load", str(tmp_path / "bad.tar"))
    g("rmi", "cli/a", status=1)  # no tag latest
    assert "there is no image \"cli/a\"" in g.err
    out = g("rmi", "cli/a:1", "cli/b:1", "cli/c:1")
    assert "Removed docker.io/cli/a:1\nRemoved docker.io/cli/a:2\n" in out
    assert len(g.json("images")["images"]) == 1


def test_rmi_used_and_unused(web, tmp_path):
    assert "is used by container" in web.fails("rmi", IMAGE)
    Image(layers(1)).docker_archive(str(tmp_path / "a.tar"), ["cli/unused:1"])
    web("load", str(tmp_path / "a.tar"))
    assert "cli/unused:1" in web("rmi", "--unused")
    assert [x["repoTags"] for x in web.json("images")["images"]] == [["docker.io/test/busybox:latest"]]


def test_pull(g):
    with Registry() as r:
        r.add(Image(layers(3)), "cli/pulled", "1")
        ref = "%s/cli/pulled:1" % r.host
        out = g("pull", ref)
        assert re.fullmatch("sha256:[0-9a-f]{64}\n", out)
        assert len(re.findall("^[0-9a-f]{12}: done", g.err, re.M)) == 3
        assert "\033" not in g.err
        assert g("pull", "-q", ref) == out and g.err == ""
        err = g.fails("pull", "%s/cli/none:1" % r.host)
        assert "cli/none" in err and "NOT_FOUND" in err
        assert "INVALID_ARGUMENT" in g.fails("pull", "Not A Name")
        assert "creds" in g.fails("pull", "--creds", ":x", ref)
        # on a terminal: a block that is drawn anew
        status, text = on_terminal(g, "pull", ref)
        assert status == 0 and "exists" in text
        g("rmi", ref)
        # run fetches what is missing, and only where it may
        assert "not on this node" in g.fails("run", "--pull", "never", ref, "x", status=125)
        g("run", ref, "/nothing", status=127)
        assert "done" in g.err
        g("rmi", ref)


def test_pull_interrupted(g):
    with Registry() as r:
        im = Image(layers(1))
        r.add(im, "cli/slow", "1")
        reached = []

        def hook(h, kind, what):
            if kind == "blobs" and what in im.layer_digests:
                reached.append(1)
                stall(h, r.blobs[what], 100)
                return True
            return False
        r.hooks.append(hook)
        for command, status in ((["pull"], 130), (["run", "--name", "slow"], 130)):
            reached.clear()
            p = g.popen(*command, "%s/cli/slow:1" % r.host)
            wait_for(lambda: reached)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=10)
            assert (p.returncode, out) == (status, "") and "gantry: interrupted" in err
        assert g("pods", "-q") == "" and "cli/slow" not in g("images")


def on_terminal(g, *args, env=None, until=None, send=None, timeout=30):
    """Runs it with a terminal for all three; what it printed. With `until`, a regular expression
    that is waited for, `send` is typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(GANTRY, [GANTRY, *args], environment(g.d.address, TERM="xterm", **(env or {})))
    text, end = b"", time.monotonic() + timeout
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
        if until and re.search(until, text):
            os.write(fd, send)
            until = None
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode(errors="replace")


# --- run ---

def test_run_in_the_foreground(g):
    out = g("run", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", status=7)
    assert (out, g.err) == ("out\n", "err\n")
    assert g("pods", "-q") == g("ps", "-aq") == "" and logs_of_runs(g.d) == []
    assert g("run", IMAGE, "printf", "no newline") == "no newline\n"
    long = g("run", IMAGE, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end")
    assert long == "x" * 100000 + "\nend\n"
    g("run", "--pid", "host", IMAGE, "sh", "-c", "kill -9 $$", status=137)


def test_run_what_cannot_be_run(g):
    assert "nosuch" in g.fails("run", IMAGE, "nosuch", status=127)
    assert "ermission" in g.fails("run", IMAGE, "/etc/passwd", status=126)
    assert "handler" in g.fails("run", "--runtime", "nosuch", IMAGE, "true", status=125)
    assert "CAP_NOSUCH" in g.fails("run", "--cap-add", "cap_nosuch", IMAGE, "true", status=125)
    assert "INVALID_ARGUMENT" in g.fails("run", "--pull", "never", "Bad Name", "true", status=125)
    assert g("pods", "-q") == "" and logs_of_runs(g.d) == []


def test_run_in_a_user_namespace(g, tmp_path):
    """Root is nobody of the node's; volumes belong to whom they belong."""
    (tmp_path / "f").write_text("x")
    tmp_path.chmod(0o755)
    g("run", "-d", "--name", "u", "--userns", "1000000:70000", "-v", "%s:/data" % tmp_path, IMAGE,
      "sh", "-c", "cat /proc/self/uid_map; stat -c %u /data/f; touch /data/mine; exec sleep 1000")
    wait_for(lambda: os.path.exists(str(tmp_path / "mine")))
    assert [x.split() for x in lines(g, "u")] == [["0", "1000000", "70000"], ["0"]]
    assert os.stat(str(tmp_path / "mine")).st_uid == 0
    assert g("run", "--pod", "u", IMAGE, "cat", "/proc/self/gid_map").split() == \
        ["0", "1000000", "70000"]
    assert "--userns" in g.fails("run", "--pod", "u", "--userns", "5", IMAGE, "true", status=125)
    assert "expected ID" in g.fails("run", "--userns", "0", IMAGE, "true", status=125)


def test_run_options(g, tmp_path):
    (tmp_path / "env").write_text("# comment\nA=file\nB=from file\n")
    (tmp_path / "data").write_text("inside")
    tmp_path.chmod(0o755)
    script = """
        echo A=$A B=$B C=$C D=$D; pwd; id -u; id -g; id -G; hostname; cat /data/data
        touch /data/x 2>/dev/null || echo readonly; echo args "$@"; cat /etc/resolv.conf
        grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /y 2>/dev/null || echo sealed
        test -s /proc/kcore && echo bare; tty
    """
    out = g("run", "--env-file", str(tmp_path / "env"), "-e", "A=flag", "-e", "C", "-e", "D=",
            "-v", "%s:/data:ro" % tmp_path, "-w", "/tmp", "-u", "1000:50", "--group-add", "1234",
            "--hostname", "host-x", "--dns", "192.0.2.1", "--dns-search", "example.org",
            "--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only",
            "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "-m", "64m", "--cpus", "0.5",
            "--entrypoint", "sh", IMAGE, "-c", script, "sh", "--name", "a b",
            env={"C": "ours"}, status=1)  # tty: there is none
    assert "A=flag B=from file C=ours D=\n/tmp\n1000\n50\n50 1234\nhost-x\ninside" in out
    assert "readonly\nargs --name a b\n" in out and "nameserver 192.0.2.1" in out
    assert "search example.org" in out and "CapEff:\t0000000000000000" in out
    assert "NoNewPrivs:\t1" in out and "Seccomp:\t2" in out and "\n77\nsealed\n" in out
    assert "bare" not in out and "not a tty" in out
    assert "/dev/pts" in g("run", "-t", IMAGE, "tty").replace("/dev/console", "/dev/pts")
    caps = g("run", "--privileged", IMAGE, "grep", "-e", "CapEff", "-e", "Seccomp:", "/proc/self/status")
    assert int(caps.split()[1], 16) > 0xa80425fb and "Seccomp:\t0" in caps
    net = g("run", "--network", "host", IMAGE, "readlink", "/proc/self/ns/net")
    assert net == os.readlink("/proc/self/ns/net") + "\n"


def test_run_detached(web):
    row, = web.rows("ps")
    assert (row["NAME"], row["POD"], row["NAMESPACE"], row["IMAGE"], row["STATE"]) == \
        ("web", "web", "default", IMAGE, "Running")
    pod, = web.rows("pods")
    assert (pod["NAME"], pod["STATE"], pod["RUNNING"]) == ("web", "Ready", "1/1")
    assert "taken by pod " + pod["ID"] in web.fails("run", "-d", "--name", "web", IMAGE, status=125)
    assert web("exec", "web", "hostname") == "web\n"
    # a second container in the pod
    web("run", "-d", "--pod", "web", "--name", "second", "-l", "tier=2", IMAGE, "sleep", "100")
    assert [x["NAME"] for x in web.rows("ps", "--pod", "web")] == ["second", "web"]
    assert web("run", "--pod", "web", "--name", "third", IMAGE, "echo", "joined") == "joined\n"
    assert "--publish cannot be given" in web.fails("run", "--pod", "web", "-p", "1:1", IMAGE, status=125)
    assert web("ps", "-l", "tier=2", "-q") == web("ps", "--name", "sec", "-q")
    assert web("ps", "-l", "tier=3", "-q") == web("ps", "-n", "other", "-q") == ""
    assert len(web.json("ps", "-a")["containers"]) == 2
    web("rm", "-f", "web")
    assert web("ps", "-aq") == "" and logs_of_runs(web.d) == []


def test_run_kept(g):
    g("run", "--keep", "--name", "kept", IMAGE, "sh", "-c", "echo left; exit 3", status=3)
    row, = g.rows("ps", "-a")
    assert row["STATE"] == "Exited (3)" and g("ps", "-q") == ""
    assert g.rows("pods")[0]["STATE"] == "NotReady"
    assert g("logs", "kept") == "left\n"
    g("rm", "kept")
    assert g("pods", "-q") == "" and logs_of_runs(g.d) == []


def test_run_publishes_ports(g):
    g("run", "-d", "--name", "srv", "-p", "127.0.0.1:18980:80", IMAGE, "sh", "-c",
      "mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w")
    ip = g.json("inspect", "--type", "pod", "srv")[0]["status"]["network"]["ip"]

    def fetch():
        try:
            return urllib.request.urlopen("http://127.0.0.1:18980/", timeout=2).read()
        except OSError:
            return None
    assert ip and wait_for(fetch) == b"served\n"


def running(g, name):
    return wait_for(lambda: g("ps", "-q", "--name", name).strip())


def test_run_interrupted(g):
    p = g.popen("run", "--name", "int", IMAGE, "sh", "-c",
                "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    assert p.stdout.readline() == "ready\n"
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out, err) == (9, "asked\n", "")
    assert g("pods", "-q") == "" and logs_of_runs(g.d) == []
    # a second time kills
    p = g.popen("run", "--name", "int", "--stop-timeout", "100", IMAGE, "sh", "-c",
                "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done")
    assert p.stdout.readline() == "ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.stdout.readline() == "asked\n"
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=30)
    assert p.returncode == 137 and g("pods", "-q") == ""


def test_run_interrupted_while_the_pod_is_made(archive, tmp_path):
    cni = Cni(tmp_path)
    cni.list("one")
    cni.behave("one", "ADD", "time.sleep(100)")
    daemon = Daemon(config=cni.config())
    try:
        daemon.load(archive)
        g = Cli(daemon)
        p = g.popen("run", "--name", "early", IMAGE, "true")
        wait_for(lambda: cni.calls("ADD"))
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=20)
        assert p.returncode == 130 and "interrupted" in err, err
        assert g("pods", "-q") == "" and logs_of_runs(daemon) == []
    finally:
        daemon.close()


def test_run_killed_leaves_a_pod_that_rm_ends(g):
    p = g.popen("run", "--name", "left", IMAGE, "sh", "-c", "echo ready; exec sleep 1000")
    assert p.stdout.readline() == "ready\n"
    p.kill()
    p.communicate()
    assert running(g, "left") and len(logs_of_runs(g.d)) == 1
    # a directory whose pod went in another way goes with the next run
    g.d.cri.RemovePodSandbox(pod_sandbox_id=g("pods", "-q").strip())
    assert len(logs_of_runs(g.d)) == 1
    assert g("run", IMAGE, "echo", "x") == "x\n"
    assert logs_of_runs(g.d) == []


def test_run_goes_on_over_a_restart_of_the_daemon(fresh):
    g = Cli(fresh)
    p = g.popen("run", "--name", "long", IMAGE, "sh", "-c",
                "echo begin; " + until_touched("/tmp/go") + "; echo end; exit 4")
    assert p.stdout.readline() == "begin\n"
    fresh.kill()
    os.unlink(fresh.address)
    fresh.start()
    g("exec", "long", "touch", "/tmp/go")
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out) == (4, "end\n"), err
    assert g("pods", "-q") == ""


# --- exec ---

def test_exec(web):
    assert web("exec", "web", "sh", "-c", "echo o; echo e >&2; exit 5", status=5) == "o\n"
    assert web.err == "e\n"
    assert web("exec", "web/web", "echo", "-n", "--help") == "--help"
    binary = web("exec", "default/web/web", "printf", "\\377\\000\\001", text=False)
    assert binary == b"\xff\0\1"
    assert "nosuch" in web.fails("exec", "web", "nosuch", status=127)
    assert "there is no container" in web.fails("exec", "none", "true", status=125)
    err = web.fails("exec", "--limit", "1s", "web", "sleep", "100", status=125)
    assert "DEADLINE_EXCEEDED" in err
    web("stop", "-t", "0s", "--type", "container", "web")
    assert "is not running" in web.fails("exec", "web", "true", status=125)


# --- logs ---

def lines(g, *args):
    return g("logs", *args).splitlines()


def test_logs(g):
    g("run", "-d", "--name", "talk", IMAGE, "sh", "-c",
      "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2; sleep 0.3; head -c 40000 /dev/zero | tr '\\0' y; exec sleep 1000")
    wait_for(lambda: "y" * 16000 in g("logs", "talk"))
    assert lines(g, "talk")[:5] == ["line %d" % i for i in range(1, 6)] and g.err == "bad\n"
    assert lines(g, "--tail", "0", "talk") == []
    both = g("logs", "--stream", "stderr", "talk")
    assert both == "" and g.err == "bad\n"
    assert "bad" not in g("logs", "--stream", "stdout", "talk") + g.err
    stamped = lines(g, "-t", "talk")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 1", stamped[0])
    assert lines(g, "--since", "1h", "talk")[0] == "line 1"
    t = stamped[2].split()[0]
    assert lines(g, "-t", "--since", t, "talk") == [x for x in stamped if x.split()[0] >= t]
    assert lines(g, "--until", "2020-01-01", "talk") == []
    assert lines(g, "--since", "2100-01-01T00:00:00Z", "talk") == []
    g("stop", "-t", "0", "talk")
    out = lines(g, "talk")
    assert out[-1] == "y" * 40000  # partial entries are one line
    assert lines(g, "--tail", "1", "talk") == ["y" * 40000]
    assert lines(g, "--tail", "3", "talk")[0] == "line 5"
    assert "there is no pod or container" in g.fails("logs", "none")


def test_logs_follow(g):
    g("run", "-d", "--name", "f", IMAGE, "sh", "-c",
      "echo 1; " + until_touched("/go") + "; echo 2; exit 3")
    p = g.popen("logs", "-f", "f")
    assert p.stdout.readline() == "1\n"
    g("exec", "f", "touch", "/go")
    out, err = p.communicate(timeout=20)  # it ends when the container has
    assert (p.returncode, out, err) == (0, "2\n", "")
    assert g("logs", "-f", "f") == "1\n2\n"


def test_logs_follow_rotation(g):
    g("run", "-d", "--name", "rot", IMAGE, "sh", "-c",
      "i=0; " + until_touched("/stop", "i=$((i+1)); echo $i; sleep 0.02"))
    path = g.json("inspect", "rot")[0]["status"]["logPath"]
    p = g.popen("logs", "-f", "rot")
    seen = []

    def see_up_to(n):
        while not seen or seen[-1] < n:
            seen.append(int(p.stdout.readline()))

    def first():
        with open(path) as f:
            return f.readline().split()[-1:]
    for k in range(3):  # as the kubelet does it
        # Who follows has this file open: what is renamed before that is not found again.
        see_up_to(int(wait_for(first)[0]))
        os.rename(path, path + ".%d" % k)
        see_up_to(seen[-1] + 4)
        g.d.cri.ReopenContainerLog(container_id=g("ps", "-q").strip())
    g("exec", "rot", "touch", "/stop")
    out, _ = p.communicate(timeout=20)
    got = seen + [int(x) for x in out.split()]
    assert got == list(range(1, len(got) + 1)) and len(got) > 10


def test_logs_interrupted(web):
    p = web.popen("logs", "-f", "web")
    assert p.stdout.readline() == "started\n"
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=10)
    assert (p.returncode, out) == (130, "") and "interrupted" in err
    # who reads no more ends it, too
    p = subprocess.run("%s logs web | true" % GANTRY, shell=True, env=environment(web.d.address),
                       stderr=subprocess.PIPE, timeout=10)
    assert p.stderr == b""


def test_logs_of_a_pod_with_two_containers(web):
    web("run", "-d", "--pod", "web", "--name", "two", IMAGE, "sleep", "100")
    pod = web("pods", "-q").strip()
    err = web.fails("logs", pod)
    assert "has 2 containers" in err and "web/two" in err and "web/web" in err


# --- names ---

def test_ambiguous_names(g, d):
    for ns in ("one", "two"):
        config = d.pod_config(name="same")
        config.metadata.namespace = ns
        config.metadata.uid = ns
        p = d.run_pod(config=config)
        d.run(p, "sleep 100", name="c")
    err = g.fails("inspect", "same")
    assert '"same" is ambiguous' in err and "one/same" in err and "two/same" in err
    assert "one/same/c" in g.fails("exec", "c", "true", status=125)
    assert g("exec", "one/same/c", "echo", "x") == "x\n"
    assert g.json("inspect", "two/same")[0]["status"]["metadata"]["namespace"] == "two"
    full = g("ps", "-q").split()
    assert g("exec", full[0][:10], "echo", "by id") == "by id\n"
    assert "is ambiguous" in g.fails("stop", "same") and "is no name" in g.fails("stop", "")


def test_newest_attempt_is_meant(d, g, pod):
    for attempt in range(2):
        c = d.container_config("echo attempt %d" % attempt, name="again", attempt=attempt)
        c.log_path = "again-%d.log" % attempt
        ctr = d.create(pod, config=c)
        d.cri.StartContainer(container_id=ctr)
        d.wait_exit(ctr)
    assert g("logs", "again") == "attempt 1\n"


# --- stop, wait, rm ---

def test_stop_and_rm(web):
    pod, ctr = web("pods", "-q").strip(), web("ps", "-q").strip()
    assert "is ready: stop it first" in web.fails("rm", "web")
    assert "is running: stop it first" in web.fails("rm", "--type", "container", "web")
    assert web("stop", "-t", "0", "--type", "container", "web") == ctr + "\n"
    assert web.rows("pods")[0]["STATE"] == "Ready"
    assert web.rows("ps", "-a")[0]["STATE"] == "Exited (137)"
    assert web("stop", "web") == pod + "\n"
    assert web.rows("pods")[0]["STATE"] == "NotReady"
    out = web("rm", "web", "none", status=1)
    assert out == pod + "\n" and '"none"' in web.err
    assert web("pods", "-q") == "" and logs_of_runs(web.d) == []


def test_rm_all_takes_what_is_over(web):
    web("run", "-d", "--name", "done", IMAGE, "true")
    web("run", "--keep", "--name", "kept", IMAGE, "true")
    web("run", "-d", "--pod", "web", "--name", "short", IMAGE, "true")
    wait_for(lambda: len(web("ps", "-a", "-q", "--state", "exited").split()) == 3)
    assert len(web("rm", "--all").split()) == 3
    assert [x["NAME"] for x in web.rows("ps", "-a")] == ["web"]
    assert len(web("rm", "-af").split()) == 1
    assert web("pods", "-q") == "" and logs_of_runs(web.d) == []


def test_wait(g):
    g("run", "-d", "--name", "w", IMAGE, "sh", "-c",
      until_touched("/go") + "; exit 6")
    p = g.popen("wait", "w")
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.3)
    g("exec", "w", "touch", "/go")
    assert p.communicate(timeout=20) == ("6\n", "") and p.returncode == 0
    assert g("wait", "w") == "6\n"


# --- inspect, stats, output ---

def test_inspect(web):
    both = web.json("inspect", "web", IMAGE)
    assert [x["type"] for x in both] == ["container", "image"]
    c = both[0]
    assert c["status"]["state"] == "CONTAINER_RUNNING" and c["info"]["pid"] > 0
    pod = web.json("inspect", "--type", "pod", "web")[0]
    assert pod["status"]["state"] == "SANDBOX_READY" and pod["containers"][0]["id"] == c["status"]["id"]
    assert "Cmd" in json.dumps(both[1]["info"])
    assert web("inspect", "web") == web("inspect", "-o", "json", "web")
    assert '- type: "container"' in web("inspect", "-o", "yaml", "web")
    out = web("inspect", "web", "nothing", status=1)
    assert len(json.loads(out)) == 1 and 'no pod, container or image "nothing"' in web.err


def test_stats(web):
    row, = web.rows("stats", "--no-stream", "--interval", "200ms")
    assert row["NAME"] == "web" and re.fullmatch(r"\d+\.\d%", row["CPU"])
    assert re.search("(B|KiB|MiB)$", row["MEMORY"])
    pod, = web.rows("stats", "--pods", "--no-stream", "--interval", "200ms", "web")
    assert pod["NAME"] == "web" and pod["CONTAINERS"] == "1" and int(pod["PROCESSES"]) >= 1
    one, = web.json("stats", "--no-stream")["stats"]
    assert one["attributes"]["metadata"]["name"] == "web"
    p = web.popen("stats", "-o", "json", "--interval", "100ms")
    for _ in range(3):
        assert json.loads(p.stdout.readline())["stats"][0]["cpu"]
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=10)
    assert p.returncode == 130
    status, text = on_terminal(web, "stats", "--interval", "100ms", until=rb"web(?s:.*)web", send=b"\x03")
    assert status == 130 and "\033[H\033[J" in text


def test_colour(web):
    assert "\033" not in web("ps")
    assert "\033[32mRunning" in on_terminal(web, "ps")[1]
    assert "\033" not in on_terminal(web, "ps", env={"NO_COLOR": "1"})[1]
    assert "\033[32mRunning" in web("ps", "--color", "always")
    assert "\033" not in on_terminal(web, "--color", "never", "ps")[1]


def test_yaml_is_what_json_is(web):
    yaml = pytest.importorskip("yaml")
    for args in (["pods"], ["ps"], ["images"], ["inspect", "web"], ["info"]):
        assert yaml.safe_load(web(*args, "-o", "yaml")) == json.loads(web(*args, "-o", "json"))


def catches(pid, signo):
    with open("/proc/%d/status" % pid) as f:
        caught, = (x.split()[1] for x in f if x.startswith("SigCgt:"))
    return int(caught, 16) >> (signo - 1) & 1


def test_timeout(g, d):
    d.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert "did not answer in time" in g.fails("--timeout", "300ms", "ps")
        assert time.monotonic() - began < 5
        p = g.popen("ps")
        wait_for(lambda: catches(p.pid, signal.SIGINT))
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=5)
        assert p.returncode == 130
    finally:
        d.process.send_signal(signal.SIGCONT)


# --- completion ---

def words(d, *w):
    out = subprocess.run([GANTRY, "__complete", "words", "--", *w], env=environment(d.address),
                         stdout=subprocess.PIPE, text=True, timeout=10, check=True).stdout
    return [x.split("\t")[0] for x in out.splitlines()]


def bash_completes(d, line):
    script = """source <("$0" completion bash)
        eval "gantry() { '$0' \\"\\$@\\"; }"
        COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=("$0") COMP_CWORD=0
        _gantry; printf '%s\\n' "${COMPREPLY[@]}" """
    out = subprocess.run(["bash", "-c", script, GANTRY, line], env=environment(d.address),
                         stdout=subprocess.PIPE, text=True, timeout=20, check=True).stdout
    return sorted(x for x in out.splitlines() if x)


def test_completion_words(web, d):
    assert set(words(d, "")) == set(commands())
    assert words(d, "im") == ["images", "import", "image"] and words(d, "logs", "w") == ["web"]
    assert words(d, "stop", "we")[0] == "web" and words(d, "exec", "w") == ["web"]
    assert words(d, "logs", "web/") == ["web/web"]
    ctr = web("ps", "-q").strip()
    assert ctr[:12] in words(d, "logs", ctr[:3])
    assert "--follow" in words(d, "logs", "--f") and "-f" in words(d, "logs", "-")
    assert words(d, "ps", "--state", "r") == ["running"] == words(d, "ps", "-a", "--state", "ru")
    assert words(d, "ps", "--state=ru") == ["--state=running"]
    assert words(d, "run", "docker") == ["docker.io/test/busybox:latest"]
    assert words(d, "run", "x", "") == [] == words(d, "exec", "web", "--h")
    assert words(d, "run", "--pod", "w") == ["web"] and words(d, "load", "x") == [":files"]
    assert "runc" in words(d, "run", "--runtime", "")
    assert words(d, "help", "vers") == ["version"] and words(d, "completion", "") == ["bash", "zsh", "fish"]
    assert words(d, "rmi", "docker") == ["docker.io/test/busybox:latest"]
    assert words(d, "image", "") == ["verify", "prune"] and words(d, "image", "p") == ["prune"]
    assert words(d, "image", "prune", "--al") == ["--all"] and words(d, "image", "prune", "") == []
    assert words(d, "image", "verify", "docker") == ["docker.io/test/busybox:latest"]
    assert words(d, "nosuch", "x") == []
    d2 = type("no daemon", (), {"address": "/nonexistent"})
    assert words(d2, "logs", "w") == []
    assert words(d2, "--address", d.address, "pods", "--st") == ["--state"]
    assert words(d2, "--address", d.address, "logs", "we")[0] == "web"


def test_completion_bash(web, d):
    assert bash_completes(d, "gantry im") == ["image", "images", "import"]
    assert bash_completes(d, "gantry image v") == ["verify"]
    assert "web" in bash_completes(d, "gantry logs -f w")
    # bash breaks words at colons: only what follows is replaced
    assert bash_completes(d, "gantry run docker.io/test/busybox:la") == ["latest"]
    assert bash_completes(d, "gantry ps --state=ru") == ["running"]
    assert bash_completes(d, "gantry nosuch ") == []


def test_completion_fish(web, d):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")

    def complete(line):
        script = "set -gx PATH %s $PATH; gantry completion fish | source; complete -C '%s'" % (
            os.path.dirname(GANTRY), line)
        out = subprocess.run(["fish", "-N", "-c", script], env=environment(d.address), check=True,
                             stdout=subprocess.PIPE, text=True, timeout=20).stdout
        return [x.split("\t")[0] for x in out.splitlines()]
    assert set(complete("gantry im")) == {"image", "images", "import"} and "web" in complete("gantry logs w")
    assert complete("gantry run docker.io/test/b") == ["docker.io/test/busybox:latest"]
    assert "--follow" in complete("gantry logs --fo")


def test_completion_zsh(web, d):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    # what the function hands to the completion system
    script = """compdef() { :; }; source <(%s completion zsh)
        _describe() { print -rl -- ${(P)2}; }; _files() { print files; }
        words=(%s "$@"); CURRENT=${#words}; _gantry""" % (GANTRY, GANTRY)

    def complete(*w):
        return subprocess.run(["zsh", "-f", "-c", script, "zsh", *w], env=environment(d.address),
                              stdout=subprocess.PIPE, text=True, timeout=20, check=True).stdout.splitlines()
    assert complete("images") == ["images:list images"]
    assert complete("run", "docker") == ["docker.io/test/busybox\\:latest:image"]
    assert complete("load", "x") == ["files"]


# --- the manual page ---

def test_manual_page_is_true():
    """docs/man/gantry.1 holds what the tables of commands say (scripts/cli-docs writes it)."""
    top = os.path.join(os.path.dirname(__file__), "..", "..")
    subprocess.run([top + "/scripts/cli-docs", "--check", GANTRY], check=True)
