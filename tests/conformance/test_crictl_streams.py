# SPDX-License-Identifier: Apache-2.0
"""Streams as Kubernetes' own client moves them: crictl's exec, attach and port-forward, over SPDY
(moby/spdystream) and over WebSocket (client-go's v5 channels, and its tunnel)."""
import hashlib
import os
import pty
import re
import select
import signal
import socket
import socketserver
import subprocess
import sys
import termios
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import tools  # noqa: E402
from cri import SLOW, api  # noqa: E402
from daemon import Daemon, wait_for  # noqa: E402
from fixtures import archive, busybox  # noqa: E402,F401

BOTH = pytest.mark.parametrize("transport", ["spdy", "websocket"])
MANY = 40 << 20  # bytes, more than all buffers on their way


@pytest.fixture(scope="module")
def d(archive):
    try:
        tools.crictl()
    except tools.Unavailable as e:
        pytest.skip("no crictl: %s" % e)
    daemon = Daemon()
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def container(d):
    pod = d.run_pod(name="streams")
    yield d.run(pod, "sleep 1000")
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def crictl(d, command, transport, *args):
    return [tools.crictl(), "--runtime-endpoint", "unix://" + d.address, "--image-endpoint",
            "unix://" + d.address, "--timeout", "60s", command, "--transport", transport, *args]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "file")
    block = os.urandom(1 << 20)
    with open(path, "wb") as f:
        for _ in range(MANY >> 20):
            f.write(block)
    return path, hashlib.sha256(block * (MANY >> 20)).digest()


@BOTH
@pytest.mark.parametrize("wait", [0, 1.5])
def test_much_through_a_command(d, container, data, transport, wait):
    """With a reader that first lets all buffers fill up, in both directions, too."""
    with open(data[0], "rb") as f:
        p = subprocess.Popen(crictl(d, "exec", transport, "-i", container, "cat"), stdin=f,
                             stdout=subprocess.PIPE)
    time.sleep(wait)
    digest = hashlib.sha256()
    for piece in iter(lambda: p.stdout.read(1 << 20), b""):
        digest.update(piece)
    assert p.wait(20 * SLOW) == 0
    assert digest.digest() == data[1]


@BOTH
def test_many_commands_and_their_codes(d, container, transport):
    all_ = [subprocess.Popen(crictl(d, "exec", transport, "-i", container, "sh", "-c",
                                    "sort -n | tail -n 1; echo e >&2; exit %d" % i),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for i in range(8)]
    for i, p in enumerate(all_):
        out, err = p.communicate(b"".join(b"%d\n" % k for k in range(30000 + i)))
        assert out == b"%d\n" % (29999 + i) and b"e\n" in err
        assert (p.returncode == 0) == (i == 0)
        assert i == 0 or b"exit code %d" % i in err


@BOTH
def test_a_terminal_and_its_size(d, container, transport):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 77))
    p = subprocess.Popen(crictl(d, "exec", transport, "-it", container, "sh"), stdin=slave,
                         stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""

    def expect(pattern):
        nonlocal seen
        end = time.monotonic() + 20 * SLOW
        while not re.search(pattern, seen):
            ready = select.select([master], [], [], max(0, end - time.monotonic()))[0]
            assert ready, seen
            seen += os.read(master, 1000)
        seen = b""
    expect(b"# ")
    os.write(master, b"stty size; echo $((6*7))\n")
    expect(b"33 77\r\n42\r\n")
    os.write(master, b"echo r''un; exec cat\n")
    expect(b"run\r\n")
    os.write(master, b"typed\n")
    expect(b"typed\r\ntyped\r\n")
    os.write(master, b"\x03")
    assert p.wait(20 * SLOW) == 1
    os.close(master)


@BOTH
def test_attach(d, transport):
    pod = d.run_pod(name="attach-" + transport)
    c = d.run(pod, "while read x; do echo got $x; done; echo over", stdin=True, stdin_once=True)
    p = subprocess.Popen(crictl(d, "attach", transport, "-i", c), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    p.stdin.write(b"one\n")
    p.stdin.flush()
    assert p.stdout.readline() == b"got one\n"
    p.stdin.close()
    assert p.stdout.read() == b"over\n" and p.wait(20 * SLOW) == 0
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            got = self.request.recv(1 << 16)
            if not got:
                return
            self.request.sendall(got)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size, daemon_threads = 128, True


def through(port, data, failed):
    try:
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.settimeout(30 * SLOW)
            writer = threading.Thread(target=s.sendall, args=(data,))
            writer.start()
            got = bytearray()
            while len(got) < len(data):
                piece = s.recv(1 << 16)
                if not piece:
                    break
                got += piece
            writer.join()
            if got != data:
                failed.append("%d bytes of %d" % (len(got), len(data)))
    except OSError as e:
        failed.append(repr(e))


@BOTH
def test_many_connections_of_a_forward(d, transport):
    node = api.NamespaceOption(network=api.NODE)
    pod = d.run_pod(name="node-" + transport, linux=api.LinuxPodSandboxConfig(
        security_context=api.LinuxSandboxSecurityContext(namespace_options=node)))
    failed = []
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        p = subprocess.Popen(crictl(d, "port-forward", transport, pod,
                                    "0:%d" % server.server_address[1]),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        port = int(re.search(r"127\.0\.0\.1:(\d+) ->", until(p.stdout, "Forwarding from")).group(1))
        threads = [threading.Thread(target=through, args=(port, os.urandom(1 << 20), failed))
                   for _ in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20 * SLOW)
        server.shutdown()
    assert not failed
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def until(f, text):
    for line in f:
        if text in line:
            return line
    raise AssertionError("%s did not come" % text)
