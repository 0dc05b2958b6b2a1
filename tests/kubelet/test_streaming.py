# SPDX-License-Identifier: Apache-2.0
"""Exec, attach and port-forward through the kubelet's API, with the client library of kubectl: over
SPDY, which the kubelet passes on as it is, and over WebSocket, which it turns into SPDY."""
import hashlib
import os
import pty
import socket
import subprocess
import threading

import pytest

import registry
import standalone
from cri import SLOW
from forms import OFTEN, SLEEP, WAIT, at, pod, sh, volume

NET = registry.free_port()
# Gives back what it is sent, until the end of that.
ECHO = """import socket
import sys
s = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print('listens', flush=True)
while True:
    c, _ = s.accept()
    while data := c.recv(65536):
        c.sendall(data)
    c.close()"""
NODE_FILES = volume("node", hostPath={"path": "/"})


def echo(port):
    return sh("main", 'exec chroot /node /usr/bin/python3 -c "%s" %d' % (ECHO, port),
              volumeMounts=[at("/node", "node")], readinessProbe={
                  "exec": {"command": ["test", "-e", "/proc/1/fd/3"]}, **OFTEN})


PODS = [
    pod("exec", sh("main", SLEEP, env=[{"name": "WHO", "value": "pod"}])),
    pod("mapped", sh("main", SLEEP), hostUsers=False),
    pod("attach", sh("main", "while read -r x; do echo got $x; done; " + SLEEP, stdin=True)),
    pod("attach-tty", sh("main", "while read -r x; do echo got $x; stty size; done", stdin=True,
                         tty=True)),
    pod("prints", sh("main", "trap 'exit 0' TERM; while :; do echo line; sleep 0.1; done")),
    pod("forward", echo(7007), volumes=[NODE_FILES]),
    pod("forward-host", echo(NET), volumes=[NODE_FILES], hostNetwork=True),
    pod("waits", sh("main", WAIT)),
]


@pytest.fixture(params=["spdy", "websocket"])
def client(request, kubelet):
    """The command line of a client: client(kind, pod, ..., what the address asks for)."""
    def command(kind, name, *args, flags=(), **query):
        path = {"exec": "/exec/default/%s-node/main", "attach": "/attach/default/%s-node/main",
                "forward": "/portForward/default/%s-node"}[kind] % name
        kubelet.wait_ready(name)
        ws = ["-ws"] if request.param == "websocket" else []
        return [standalone.client(), *ws, *flags, kind, kubelet.url(path, **query), *map(str, args)]
    return command


def run(command, data=None, timeout=30):
    r = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=timeout * SLOW, check=False)
    return r.returncode, r.stdout, r.stderr


def execute(client, name, script, data=None, **kw):
    flags, query = ["-stdin"] if data is not None else [], {"input": 1} if data is not None else {}
    return run(client("exec", name, flags=flags, command=["sh", "-c", script], output=1, error=1,
                      **query), data, **kw)


@pytest.mark.parametrize("name", ["exec", "mapped"])
def test_exec(client, name):
    assert execute(client, name, "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert execute(client, name, "true") == (0, b"", b"")
    status, out, err = execute(client, name, "kill -9 $$")
    assert (status, out) == (137, b"")


def test_exec_of_what_is_not_there(client):
    status, _, err = run(client("exec", "exec", command=["/missing"], output=1, error=1))
    assert status and b"missing" in err


def test_exec_with_input(client):
    """Each byte of it, and then its end."""
    data = os.urandom(8 << 20)
    status, out, _ = execute(client, "exec", "cat; echo $WHO >&2", data)
    assert status == 0 and hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    status, out, _ = execute(client, "exec", "sha256sum", data)
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_exec_in_a_terminal(client):
    flags = ["-stdin", "-tty", "-size", "77x33"]
    ours, theirs = pty.openpty()
    p = subprocess.Popen(client("exec", "exec", flags=flags, tty=1, input=1, output=1, command=[
        "sh", "-c", "stty -echo; test -t 0 && echo ready; read x;"  # its size may come after that
        "until test \"$(stty size)\" = '33 77'; do sleep 0.05; done; stty size; exit 3"]),
        stdin=theirs, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\r\n"
    os.write(ours, b"go\n")
    assert p.stdout.readline() == b"33 77\r\n"
    assert p.wait(20 * SLOW) == 3
    p.stdout.close()
    os.close(ours)
    os.close(theirs)


def test_exec_ends_with_its_client(client, kubelet):
    """One that goes away takes a command with a terminal along."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen(client("exec", "waits", flags=["-stdin", "-tty"], tty=1, input=1, output=1,
                                command=["sh", "-c", "echo up; exec sleep 4242"]), stdin=theirs,
                         stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"up\r\n"
    p.kill()
    p.wait()
    p.stdout.close()
    os.close(ours)
    os.close(theirs)
    i = kubelet.containers("waits")[0].id
    kubelet.wait_for(lambda: b"4242" not in kubelet.daemon.exec(i, "ps -o args").stdout)


def test_attach(client):
    p = subprocess.Popen(client("attach", "attach", flags=["-stdin"], input=1, output=1, error=1),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdin.write(b"one\ntwo\n")
    p.stdin.flush()
    assert [p.stdout.readline() for _ in range(2)] == [b"got one\n", b"got two\n"]
    p.kill()
    p.wait()
    p.stdin.close()
    p.stdout.close()


def test_attach_to_a_terminal(client, kubelet):
    p = subprocess.Popen(client("attach", "attach-tty", flags=["-stdin", "-tty", "-size", "91x17"],
                                tty=1, input=1, output=1), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)

    def has_size():
        """The size may come after the input."""
        p.stdin.write(b"x\n")
        p.stdin.flush()
        lines = [p.stdout.readline() for _ in range(3)]
        assert b"got x\r\n" in lines
        return b"17 91\r\n" in lines
    kubelet.wait_for(has_size, every=0.1)
    p.kill()
    p.wait()
    p.stdin.close()
    p.stdout.close()
    # What went to the client is in the log as well, and the container goes on.
    kubelet.wait_for(lambda: "got x" in kubelet.log("attach-tty", "main"))
    assert kubelet.container("attach-tty", "main")["restartCount"] == 0


def test_attach_without_input(client):
    p = subprocess.Popen(client("attach", "prints", output=1, error=1), stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"line\n"
    p.kill()
    p.wait()
    p.stdout.close()


class Forward:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20 * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(20 * SLOW)
        self.process.stdout.close()


def through(forward, data):
    """What comes back of it, sent and read at the same time, to the end of both."""
    with forward.connect() as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        sending = threading.Thread(target=send)
        sending.start()
        back = b""
        while part := s.recv(65536):
            back += part
        sending.join()
        return back


@pytest.mark.parametrize("name, port", [("forward", 7007), ("forward-host", NET)])
def test_port_forward(client, name, port):
    data = os.urandom(4 << 20)
    with Forward(client("forward", name, port)) as f:
        assert through(f, b"ping") == b"ping"
        assert through(f, data) == data
        assert through(f, b"once more") == b"once more"


def test_port_forward_to_a_port_where_nobody_listens(client):
    """That connection ends, and others go on."""
    with Forward(client("forward", "waits", 9)) as f:
        with f.connect() as s:
            assert s.recv(10) == b""
