# SPDX-License-Identifier: Apache-2.0
"""crictl exec, attach and port-forward, over both of its transports, with a real terminal."""
import hashlib
import json
import os
import re
import signal
import socket
import subprocess

import pytest

from test_crictl import CONTAINER, IMAGE, POD, crictl, daemon, registry, written  # noqa: F401
import tools
from cri import SLOW
from daemon import wait_for
from service import Service
from terminal import Terminal

BOTH = pytest.mark.parametrize("transport", ["spdy", "websocket"])


@pytest.fixture(scope="module")
def pod(daemon, crictl):  # noqa: F811
    crictl("pull", IMAGE)
    path = written(daemon, "streaming", dict(POD, log_directory=daemon.logs + "/streaming"))
    pod = crictl("runp", path).strip()
    yield pod, path
    crictl("rmp", "--force", pod)
    crictl("rmi", IMAGE)


@pytest.fixture
def run(daemon, crictl, pod):  # noqa: F811
    """Starts a container with this command; its id."""
    made = []

    def start(command, **more):
        config = dict(CONTAINER, command=["sh", "-c", command], **more)
        path = written(daemon, "streaming-ctr", config)
        ctr = crictl("create", pod[0], path, pod[1]).strip()
        made.append(ctr)
        crictl("start", ctr)
        return ctr
    yield start
    for ctr in made:
        crictl("rm", "--force", ctr)


def argv(daemon, *args):  # noqa: F811
    return [tools.crictl(), "-c", daemon.dir + "/crictl.yaml", *args]


@BOTH
def test_exec_in_a_terminal(daemon, run, transport):  # noqa: F811
    ctr = run("exec sleep 100000")
    t = Terminal(argv(daemon, "exec", "-it", "-r", transport, ctr, "sh"), rows=31, columns=101)
    t.ready()
    t.type(b"until stty size | grep '^31 101$'; do sleep 0.05; done\n")
    t.expect("\n31 101\r\n")
    t.resize(20, 60)
    t.type(b"until stty size | grep '^20 60$'; do sleep 0.05; done\n")
    t.expect("\n20 60\r\n")
    t.type(b"echo $((6*7)); exit\n")
    t.expect("\n42\r\n")
    assert t.end() == 0


@BOTH
def test_exec_with_input(daemon, run, transport):  # noqa: F811
    ctr = run("exec sleep 100000")
    data = os.urandom(8 << 20)
    p = subprocess.run(argv(daemon, "exec", "-i", "-r", transport, ctr, "sh", "-c",
                            "sha256sum; echo err >&2"), input=data, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=60 * SLOW, check=True)
    assert p.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert b"err\n" in p.stderr
    p = subprocess.run(argv(daemon, "exec", "-r", transport, ctr, "sh", "-c",
                            "head -c 8388608 /dev/zero; exit 3"), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * SLOW)
    assert p.stdout == bytes(8 << 20)
    assert p.returncode != 0 and b"exit code 3" in p.stderr


@BOTH
def test_attach(daemon, run, transport):  # noqa: F811
    ctr = run("while read x; do echo got $x; done; echo end", stdin=True, stdin_once=True)
    p = subprocess.Popen(argv(daemon, "attach", "-i", "-r", transport, ctr), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    p.stdin.write(b"1\n")
    p.stdin.flush()
    assert p.stdout.readline() == b"got 1\n"
    out, _ = p.communicate(timeout=20 * SLOW)  # the end of its input is the container's
    assert (p.returncode, out) == (0, b"end\n")


@BOTH
def test_attach_to_a_terminal(daemon, crictl, run, transport):  # noqa: F811
    ctr = run("while read x; do echo got $x; done", stdin=True, tty=True)
    t = Terminal(argv(daemon, "attach", "-it", "-r", transport, ctr)).ready()
    t.type(b"typed\n")
    t.expect("got typed\r\n")
    t.type(b"\x04")  # the shell's read has had its end: so has the container
    t.end()
    wait_for(lambda: json.loads(crictl("inspect", ctr))["status"]["state"] == "CONTAINER_EXITED")


@BOTH
def test_port_forward(daemon, crictl, run, pod, transport):  # noqa: F811
    pid = json.loads(crictl("inspect", run("exec sleep 100000")))["info"]["pid"]
    with Service(pid) as service:
        p = subprocess.Popen(argv(daemon, "port-forward", "-r", transport, pod[0],
                                  ":%d" % service.port), stdout=subprocess.PIPE, text=True)
        port = int(re.search(r"127\.0\.0\.1:(\d+) ->", p.stdout.readline()).group(1))
        data = os.urandom(4 << 20)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), 20 * SLOW) as s:
                s.sendall(b"h" + data)
                s.shutdown(socket.SHUT_WR)
                assert s.recv(64, socket.MSG_WAITALL).decode() == hashlib.sha256(data).hexdigest()
                assert s.recv(1) == b""
        many = [socket.create_connection(("127.0.0.1", port), 20 * SLOW) for _ in range(50)]
        for i, s in enumerate(many):
            s.sendall(b"e%04d" % i)
        for i, s in enumerate(many):
            assert s.recv(4, socket.MSG_WAITALL) == b"%04d" % i
            s.close()
        p.send_signal(signal.SIGINT)
        p.wait(20 * SLOW)
        p.stdout.close()
