# SPDX-License-Identifier: Apache-2.0
"""gantry-stream alone: the test is the daemon, the monitor and the client.  What a real daemon and
real containers cannot be made to do, or not soon: descriptors that fill up, peers that go, limits."""
import array
import hashlib
import json
import os
import queue
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import frames
import streaming
from cri import SLOW
from daemon import BUILD, wait_for
from frames import CODE, EXIT_CODE, MESSAGE, PORT, STDERR, STDIN, STDOUT, TTY
from streaming import Channels, Exec, Forward, ForwardChannels, Gone, Refused

NOT_FOUND, INTERNAL, UNAVAILABLE = 5, 13, 14
V4, V5, B64 = "v4.channel.k8s.io", "v5.channel.k8s.io", "v4.base64.channel.k8s.io"
EVERY = ["spdy", "spdy-windows", V4, V5, B64]
MEMORY = 3 << 20  # bytes beyond what an idle one has: its buffers, and nothing of what passes


def path_of(program):
    return os.path.join(BUILD, "programs", program, program)


class Peer:
    """What stands behind one connection: the daemon, and the monitor's ends of its session."""

    def __init__(self, server, process, ipc):
        self.server, self.process, self.ipc = server, process, ipc
        self.stdin = self.stdout = self.stderr = self.terminal = self.control = None
        self.opened, self.connections = None, {}
        self.started, self.asked = threading.Event(), queue.Queue()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        try:
            while True:
                got = self.ipc.receive()
                if got is None:
                    return
                kind, seq, fields, _ = got
                {frames.OPEN: self.on_open, frames.START: self.on_start,
                 frames.CONNECT: self.on_connect}[kind](seq, fields)
        except (OSError, socket.timeout):
            pass

    def reply(self, seq, fields=(), fds=(), error=None):
        fields = [(CODE, error[0]), (MESSAGE, error[1])] if error else [(CODE, 0), *fields]
        body = b""
        for tag, v in fields:
            v = struct.pack("<Q", v) if isinstance(v, int) else v.encode() + b"\0"
            body += struct.pack("<HHI", tag, 0, len(v)) + v
        head = struct.pack("<IIIHH", frames.MAGIC, len(body), seq, frames.REPLY, len(fds))
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.ipc.sock.sendmsg([head + body], anc)
        for fd in fds:
            os.close(fd)

    def on_open(self, seq, fields):
        s = self.server
        self.opened = (frames.number(fields, frames.KIND),
                       dict(fields)[frames.TOKEN][:-1].decode())
        self.asked.put("open")
        if s.mute:
            return
        if s.open_error:
            self.reply(seq, error=s.open_error)
        elif self.opened[0] == frames.PORT_FORWARD:
            self.reply(seq, [(PORT, p) for p in s.ports])
        else:
            self.reply(seq, [(TTY, int(s.tty)), (STDIN, int(s.stdin)), (STDOUT, int(s.stdout)),
                             (STDERR, int(s.stderr))])

    def on_start(self, seq, fields):
        s = self.server
        self.asked.put("start")
        if s.start_error:
            self.reply(seq, error=s.start_error)
            return
        a, b = socket.socketpair()
        self.control, fds = frames.Connection(a), [b.detach()]
        if s.tty:
            self.terminal, slave = os.openpty()
            self.slave = slave
            fds += [os.dup(self.terminal)] * s.stdin + [os.dup(self.terminal)] * s.stdout
            fds.append(os.dup(self.terminal))
        else:
            if s.stdin:
                self.stdin, w = os.pipe()
                fds.append(w)
            if s.stdout:
                r, self.stdout = os.pipe()
                fds.append(r)
            if s.stderr:
                r, self.stderr = os.pipe()
                fds.append(r)
        self.reply(seq, fds=fds)
        self.started.set()

    def on_connect(self, seq, fields):
        port = frames.number(fields, PORT)
        if port in self.server.closed_ports:
            self.reply(seq, error=(UNAVAILABLE, "connect to port %d: Connection refused" % port))
            return
        a, b = socket.socketpair() if not self.server.tcp_ports else tcp_pair()
        self.connections.setdefault(port, queue.Queue()).put(a)
        self.reply(seq, fds=[b.detach()])

    def connection(self, port):
        wait_for(lambda: port in self.connections)
        s = self.connections[port].get(timeout=20 * SLOW)
        s.settimeout(20 * SLOW)
        return s

    def wait(self):
        assert self.started.wait(20 * SLOW)
        return self

    def end(self, code=0, error=None):
        self.control.send(frames.END, [(CODE, error[0]), (MESSAGE, error[1])] if error
                          else [(EXIT_CODE, code)])

    def memory(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            status = f.read()
        return int(re.search(r"VmRSS:\s*(\d+)", status).group(1)) * 1024

    def gone(self, status=0):
        """It has ended, by itself."""
        assert self.process.wait(20 * SLOW) == status

    def let_go(self):
        """The other end of the control connection is closed; the messages that came before."""
        got = []
        while True:
            m = self.control.receive()
            if m is None:
                return got
            got.append(m[0])

    def hang_up(self):
        for fd in (self.stdin, self.stdout, self.stderr, self.terminal):
            if fd is not None:
                try:
                    os.close(fd)
                except OSError:
                    pass
        for c in (self.control, self.ipc):
            if c:
                c.close()
        self.process.kill()
        self.process.wait()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        return a, listener.accept()[0]


class Server:
    """Accepts connections and gives each to a program of its own."""

    def __init__(self, *arguments, program="gantry-stream", env=(), unix=None, **options):
        self.arguments, self.program, self.env = arguments, program, dict(os.environ, **dict(env))
        self.tty, self.stdin, self.stdout, self.stderr = False, True, True, True
        self.open_error = self.start_error = None
        self.ports, self.closed_ports, self.tcp_ports, self.mute = [], [], False, False
        for k, v in options.items():
            setattr(self, k, v)
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(unix)
            self.listener.listen()
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
        self.peers, self.all = queue.Queue(), []
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self, kind="exec"):
        name = self.listener.getsockname()
        port = name[1] if isinstance(name, tuple) else 1
        return "http%s://127.0.0.1:%d/%s/token" % ("s" if "tls" in self.program else "", port, kind)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            ours, theirs = socket.socketpair()
            fds = (theirs.fileno(), client.fileno())
            process = subprocess.Popen(
                [path_of(self.program), *self.arguments], env=self.env, close_fds=False,
                stdin=subprocess.DEVNULL, preexec_fn=lambda: place(*fds))
            theirs.close()
            client.close()
            peer = Peer(self, process, frames.Connection(ours))
            self.all.append(peer)
            self.peers.put(peer)

    def peer(self):
        return self.peers.get(timeout=20 * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for p in self.all:
            p.hang_up()


def place(daemon, client):
    """They are descriptors 3 and 4, and the only ones."""
    a, b = os.dup2(daemon, 200), os.dup2(client, 201)
    os.dup2(a, 3)
    os.dup2(b, 4)
    os.closerange(5, 1024)


def raw(server, data, shut=False):
    s = streaming.connect(server.url())
    s.settimeout(20 * SLOW)
    s.sendall(data)
    if shut:
        s.shutdown(socket.SHUT_WR)
    return s


def read_all(s):
    got = b""
    while True:
        more = s.recv(1 << 16)
        if not more:
            return got
        got += more


HEAD = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
SPDY = HEAD + b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
WS = (b"Host: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
      b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")


@pytest.mark.parametrize("status, request_, text", [
    (400, b"\r\n\r\n", "no request"),
    (400, b"GET /exec/token HTTP/1.1\r\n\r\n", "Host"),
    (400, b"POST /exec/token HTTP/1.1\r\nContent-Length: 3\r\n" + SPDY + b"\r\nabc", "no body"),
    (400, b"POST /exec/token HTTP/1.1\r\n" + HEAD + b"\r\n", "X-Stream-Protocol-Version"),
    (400, b"GET /exec/token HTTP/1.1\r\n" + WS.replace(b"==", b"") + b"\r\n", "base64"),
    (400, b"GET /portforward/token?port=0 HTTP/1.1\r\n" + WS + b"\r\n", "65535"),
    (403, b"POST /exec/token HTTP/1.1\r\n" + HEAD + b"X-Stream-Protocol-Version: v9\r\n\r\n",
     "v4.channel.k8s.io"),
    (403, b"GET /exec/token HTTP/1.1\r\n" + WS + b"Sec-WebSocket-Protocol: v9\r\n\r\n",
     "v5.channel.k8s.io"),
    (403, b"GET /portforward/token HTTP/1.1\r\n" + WS + b"Sec-WebSocket-Protocol: v9\r\n\r\n",
     "portforward.k8s.io"),
    (404, b"GET /logs/token HTTP/1.1\r\n" + SPDY + b"\r\n", "/exec/TOKEN"),
    (405, b"PUT /exec/token HTTP/1.1\r\n" + SPDY + b"\r\n", "GET"),
    (405, b"POST /exec/token HTTP/1.1\r\n" + WS + b"\r\n", "GET"),
    (414, b"GET /exec/token?" + b"x" * 3000 + b" HTTP/1.1\r\n" + SPDY + b"\r\n", "2048"),
    (426, b"GET /exec/token HTTP/1.1\r\nHost: x\r\n\r\n", "SPDY/3.1"),
    (426, b"GET /exec/token HTTP/1.1\r\n" + WS.replace(b"13", b"12") + b"\r\n", "13"),
    (431, b"GET /exec/token HTTP/1.1\r\nx: " + b"x" * 20000, "16384"),
    (431, b"GET /exec/token HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n", "100"),
    (505, b"GET /exec/token HTTP/1.0\r\n" + SPDY + b"\r\n", "HTTP/1.1"),
])
def test_requests_that_are_refused(status, request_, text):
    with Server() as server:
        s = raw(server, request_)
        peer = server.peer()
        got = read_all(s).decode()
        assert got.startswith("HTTP/1.1 %d " % status), got
        head, body = got.split("\r\n\r\n", 1)
        assert text in body and "Connection: close" in head
        assert "Content-Length: %d" % len(body) in head
        s.close()
        peer.gone()
        # A token is used up by a request that could be one, only.
        assert peer.opened is None or "65535" in text


def test_a_head_in_pieces_and_bytes_after_it():
    with Server(stdin=False, stderr=False) as server:
        s = streaming.connect(server.url())
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b"GET /exec/token HTTP/1.1\r\n" + WS + b"Sec-WebSocket-Protocol: " + \
            V4.encode() + b"\r\n\r\n"
        for i in range(0, len(head), 7):
            s.sendall(head[i:i + 7])
        s.sendall(b"\x89\x81\0\0\0\0!")  # a ping, before the answer
        peer = server.peer().wait()
        status, fields, rest = streaming.read_answer(s)
        assert status == 101 and fields["sec-websocket-protocol"] == V4
        peer.end(0)
        got = rest + read_all(s)
        assert b"\x8a\1!" in got and b"Success" in got


def test_a_slow_head_and_a_mute_daemon():
    with Server(env=[("GANTRY_LIMIT", "stream-head-ms:300")]) as server:
        s = raw(server, b"GET /exec/to")
        assert b" 408 " in read_all(s)
        server.mute = True
        s = raw(server, b"POST /exec/token HTTP/1.1\r\n" + SPDY + b"\r\n")
        assert b" 503 " in read_all(s)
        s = raw(server, b"")  # nothing at all
        assert b" 408 " in read_all(s)


@pytest.mark.parametrize("status, code", [(404, NOT_FOUND), (503, UNAVAILABLE), (500, INTERNAL)])
def test_what_the_daemon_refuses(status, code):
    with Server(open_error=(code, "because of \"that\"")) as server:
        for protocol in ("spdy", V5):
            with pytest.raises(Refused) as e:
                Exec(server.url(), protocol)
            assert e.value.status == status and "because of \"that\"" in str(e.value)
            assert server.peer().opened == (frames.EXEC, "token")


def test_a_daemon_that_has_gone():
    with Server(mute=True) as server:
        s = raw(server, b"POST /exec/token HTTP/1.1\r\n" + SPDY + b"\r\n")
        peer = server.peer()
        peer.asked.get(timeout=20 * SLOW)
        peer.ipc.sock.shutdown(socket.SHUT_RDWR)
        got = read_all(s)
        assert b" 503 " in got and b"gantryd has gone" in got


@pytest.mark.parametrize("protocol", EVERY)
def test_exec(protocol):
    with Server() as server:
        x = Exec(server.url(), protocol)
        peer = server.peer().wait()
        assert peer.opened == (frames.EXEC, "token")
        x.stdin.write(b"in")
        assert os.read(peer.stdin, 100) == b"in"
        os.write(peer.stdout, b"out\0\xff")
        os.write(peer.stderr, b"err")
        x.expect(b"out\0\xff")
        x.expect(b"err", x.stderr)
        if protocol not in (V4, B64):
            x.stdin.end()
            assert os.read(peer.stdin, 100) == b""
            assert peer.control.receive()[0] == frames.INPUT_END
        os.write(peer.stdout, b"last words")
        peer.end(137)
        assert x.code() == 137 and x.stdout.data == b"last words"
        x.t.wire.close()
        assert peer.let_go() == []
        peer.gone()


@pytest.mark.parametrize("protocol", EVERY)
def test_the_end_does_not_wait_for_who_holds_the_pipe(protocol):
    """And what was in it by then arrives, however slow the client is; a pipe that goes on being
    filled does not keep the session."""
    with Server(stdin=False) as server:
        x = Exec(server.url(), protocol, stdin=False, rcvbuf=4096)
        peer = server.peer().wait()
        os.set_blocking(peer.stdout, False)
        sent = fill(peer.stdout)
        sent += fill_until_still(peer.stdout)
        peer.end(0)
        stop = threading.Event()
        threading.Thread(target=keep_filling, args=(peer.stderr, stop), daemon=True).start()
        try:
            assert x.code(60) == 0
        finally:
            stop.set()
        assert x.stdout.n == sent


def fill(fd):
    n = 0
    try:
        while True:
            n += os.write(fd, b"x" * 4096)
    except BlockingIOError:
        return n


def fill_until_still(fd):
    """Until nobody takes any of it for a while."""
    n, still = 0, 0
    while still < 20:
        more = fill(fd)
        still = 0 if more else still + 1
        n += more
        time.sleep(0.01)
    return n


def keep_filling(fd, stop):
    os.set_blocking(fd, False)
    while not stop.is_set():
        try:
            os.write(fd, b"y" * 4096)
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


@pytest.mark.parametrize("protocol", EVERY)
def test_input_that_nobody_takes_does_not_hold_up_output(protocol):
    with Server(env=[("GANTRY_LIMIT", "stream-pong-ms:100")]) as server:
        x = Exec(server.url(), protocol)
        peer = server.peer().wait()
        before, data = peer.memory(), os.urandom(1 << 20)
        x.stdin.write(data * 8)
        for i in range(20):
            os.write(peer.stdout, b"%d." % i * 1000)
            x.expect(b"%d." % i * 1000)
        if protocol in (V4, V5, B64):  # that it lives is heard without a ping
            x.pump(lambda: b"" in x.t.got_pong)
        if not sanitized():
            assert peer.memory() - before < MEMORY
        digest, n = hashlib.sha256(), 0
        while n < 8 * len(data):
            x.t.turn()
            part = read_some(peer.stdin)
            digest.update(part)
            n += len(part)
        assert digest.digest() == hashlib.sha256(data * 8).digest()
        if protocol.startswith("spdy"):
            x.t.ping(1)
        peer.end(0)
        assert x.code() == 0


def sanitized():
    with open(path_of("gantry-stream"), "rb") as f:
        return b"__asan_init" in f.read()


def read_some(fd):
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("protocol", ["spdy", "spdy-windows", V5])
def test_a_slow_reader_makes_the_command_wait(protocol):
    with Server(stdin=False, stderr=False) as server:
        x = Exec(server.url(), protocol, stdin=False, stderr=False, rcvbuf=4096)
        peer = server.peer().wait()
        before = peer.memory()
        os.set_blocking(peer.stdout, False)
        n = fill(peer.stdout) + fill_until_still(peer.stdout)
        assert n < 8 << 20  # the kernel's buffers of both sockets, for the most part
        if not sanitized():
            assert peer.memory() - before < MEMORY
        x.pump(lambda: x.stdout.n == n)
        peer.end(5)
        assert x.code() == 5


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_reader_that_takes_its_time_when_all_is_over(protocol):
    """As a pager does: the rest waits for it; one that has all of it, and stays, is closed."""
    with Server(stdin=False, env=[("GANTRY_LIMIT", "stream-linger-ms:100")]) as server:
        x = Exec(server.url(), protocol, stdin=False, rcvbuf=4096)
        peer = server.peer().wait()
        os.set_blocking(peer.stdout, False)
        n = fill(peer.stdout) + fill_until_still(peer.stdout)
        x.pump(lambda: x.stdout.n > n // 2)
        peer.end(0)
        time.sleep(0.7)
        assert peer.process.poll() is None
        x.pump(lambda: x.error.data)
        assert x.stdout.n == n
        peer.gone()


@pytest.mark.parametrize("how", ["close", "reset", "goodbye"])
@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_client_that_goes(protocol, how):
    """Also when it is not being read, and while output waits for it."""
    with Server() as server:
        x = Exec(server.url(), protocol, rcvbuf=4096)
        peer = server.peer().wait()
        if how != "goodbye":
            x.stdin.write(bytes(2 << 20))
            os.set_blocking(peer.stdout, False)
            fill_until_still(peer.stdout)
        if how == "goodbye":
            if protocol == "spdy":
                for s in (x.stdin, x.stdout, x.stderr, x.error):
                    x.t.reset(s)
                x.t.control(streaming.GOAWAY, struct.pack(">II", 0, 0))
            else:
                x.t.frame(streaming.CLOSE, struct.pack(">H", 1000))
        elif how == "reset":
            x.t.wire.reset()
        else:
            x.t.wire.sock.close()
        assert peer.let_go() in ([], [frames.INPUT_END])
        x.t.wire.sock.close()
        peer.gone()


def test_a_monitor_that_goes():
    with Server() as server:
        for protocol in ("spdy", V5):
            x = Exec(server.url(), protocol)
            peer = server.peer().wait()
            os.write(peer.stdout, b"before")
            peer.control.close()
            status = x.finish()
            assert status["reason"] == "InternalError" and "monitor has gone" in status["message"]
            assert x.stdout.data == b"before"


def test_errors_of_the_daemon_and_the_monitor():
    with Server() as server:
        for protocol in ("spdy", V4):
            x = Exec(server.url(), protocol)
            peer = server.peer().wait()
            peer.end(error=(INTERNAL, "crun: exec: \"no\" such \n file"))
            status = x.finish()
            assert status["status"] == "Failure" and status["code"] == 500
            assert status["message"].endswith("crun: exec: \"no\" such \n file")
        server.start_error = (NOT_FOUND, "the container has ended")
        for kind in ("exec", "attach"):
            status = Exec(server.url(kind), V5).finish()
            assert status["message"].startswith("Internal error occurred: error ")
            assert status["message"].endswith(": the container has ended")
            server.peer()


@pytest.mark.parametrize("version", ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"])
def test_old_versions(version):
    with Server() as server:
        for code, text in ((0, b""), (3, b"command terminated with exit code 3")):
            x = Exec(server.url(), "spdy", versions=("v9.channel.k8s.io", version))
            assert x.version == version
            peer = server.peer().wait()
            os.write(peer.stdout, b"x")
            peer.end(code)
            x.pump(lambda: x.stdout.over and x.stderr.over and x.error.over)
            assert bytes(x.error.data) == text and x.stdout.data == b"x"


def test_attach_has_no_exit_code():
    with Server(stdin=False) as server:
        x = Exec(server.url("attach"), stdin=False)
        peer = server.peer().wait()
        assert peer.opened[0] == frames.ATTACH
        peer.end(9)
        assert x.code() == 0


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_terminal(protocol):
    with Server(tty=True, stderr=False) as server:
        x = Exec(server.url(), protocol, tty=True)
        x.size.write(b'{"Width":70000,"Height":1}{"Width":-1}{]}' + b"x" * 1000 + b"}")
        x.resize(101, 37)
        peer = server.peer().wait()
        wait_for(lambda: os.get_terminal_size(peer.slave) == (101, 37))
        for byte in b'{"Width":90,"Height":40}\n':
            x.size.write(bytes([byte]))
        wait_for(lambda: os.get_terminal_size(peer.slave) == (90, 40))
        x.stdin.write(b"typed\r")
        assert os.read(peer.slave, 100) == b"typed\n"
        os.write(peer.slave, b"answer")
        x.expect(b"answer")
        os.write(peer.slave, b"z" * 3000)
        peer.end(2)
        assert x.code() == 2
        assert x.stdout.data == b"z" * 3000


def test_streams_that_do_not_come():
    with Server("--create-timeout", "1") as server:
        t, _ = streaming.spdy(server.url(), [V4])
        error = t.open({"streamtype": "error"})
        t.pump(lambda: error.over and t.goaway)
        assert "not made its streams in time" in json.loads(bytes(error.data))["message"]
        f = Forward(server.url("portforward"))
        half = f.t.open({"streamtype": "error", "port": "80", "requestid": "0"})
        f.pump(lambda: half.over)
        assert b"both streams" in half.data


def test_idleness():
    with Server("--idle-timeout", str(SLOW)) as server:
        begin = time.monotonic()
        x = Exec(server.url(), V5)
        peer = server.peer().wait()
        while time.monotonic() - begin < 1.5 * SLOW:  # it is not idle as long as something comes
            os.write(peer.stdout, b"x")
            x.expect(b"x")
            time.sleep(0.1)
        silent = time.monotonic()
        assert "idle" in x.finish()["message"]
        assert time.monotonic() - silent > 0.8 * SLOW
        assert peer.let_go() == []
        f = Forward(server.url("portforward"))
        f.t.pump(lambda: f.t.goaway)


# --- port-forward ---

def echo(s):
    def run():
        while True:
            got = s.recv(1 << 16)
            if not got:
                s.shutdown(socket.SHUT_WR)
                return
            s.sendall(got)
    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize("protocol", ["spdy", "spdy-windows", "tunnel"])
def test_many_forwards_at_once(protocol):
    with Server() as server:
        f = Forward(server.url("portforward"), protocol)
        peer = server.peer()
        streams = [f.connect(8000 + i % 7) for i in range(100)]
        pods = []
        for i in range(100):
            pods.append(peer.connection(8000 + i % 7))
            echo(pods[-1])
        for i, s in enumerate(streams):
            s.write(b"%d-" % i * 2000)
        f.pump(lambda: all(s.n == len(b"%d-" % i) * 2000 for i, s in enumerate(streams)))
        for i, s in enumerate(streams):
            assert s.data == b"%d-" % i * 2000
            s.end()
        f.pump(lambda: all(s.over and s.error.over for s in streams))
        assert not any(s.error.data for s in streams)
        for s in pods:
            s.close()
        wait_for(lambda: len(os.listdir("/proc/%d/fd" % peer.process.pid)) < 10)
        again = f.connect(8000)
        echo(peer.connection(8000))
        again.write(b"x")
        f.pump(lambda: again.data == b"x")


def test_a_forward_that_lasts():
    """Of a thousand connections, one batch after the other, nothing is left in the program."""
    with Server() as server:
        f = Forward(server.url("portforward"))
        peer = server.peer()
        figures = []
        for batch in range(20):
            streams = [f.connect(80) for _ in range(50)]
            for i, s in enumerate(streams):
                pod = peer.connection(80)
                s.write(b"x" * 5000)
                pod.sendall(b"y" * 5000)
                if i % 3 == 0:
                    f.t.reset(s)
                elif i % 3 == 1:
                    s.end()
                pod.close()
            f.pump(lambda: all(s.error.over for s in streams))
            for s in streams:
                if not s.was_reset:
                    f.t.reset(s)
                f.t.streams.pop(s.error.id)
            f.t.ping(2 * batch + 1)
            figures.append((len(os.listdir("/proc/%d/fd" % peer.process.pid)), peer.memory()))
        assert figures[-1][0] == figures[1][0]
        if not sanitized():
            assert figures[-1][1] <= figures[1][1] + (64 << 10)


@pytest.mark.parametrize("tcp", [False, True])
def test_both_ways_end_by_themselves(tcp):
    with Server(tcp_ports=tcp) as server:
        f = Forward(server.url("portforward"))
        peer = server.peer()
        a, b = f.connect(1), f.connect(2)
        pod_a, pod_b = peer.connection(1), peer.connection(2)
        a.write(b"request")
        a.end()
        assert read_all(pod_a) == b"request"
        pod_a.sendall(b"answer")
        f.pump(lambda: a.data == b"answer")
        assert not a.over
        pod_a.close()
        f.pump(lambda: a.over and a.error.over)
        pod_b.sendall(b"first")
        pod_b.shutdown(socket.SHUT_WR)
        f.pump(lambda: b.over)
        assert b.data == b"first" and not b.error.over
        b.write(b"more")
        assert pod_b.recv(100) == b"more"
        b.end()
        assert pod_b.recv(100) == b""
        f.pump(lambda: b.error.over)
        # A client's reset closes the connection; a pod's resets the stream, without a text, which
        # would make kubectl give up all of them.
        c, d = f.connect(3), f.connect(4)
        pod_c, pod_d = peer.connection(3), peer.connection(4)
        f.t.reset(c)
        assert pod_c.recv(100) == b""
        f.pump(lambda: c.error.over)
        if tcp:
            pod_d.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            pod_d.close()
            f.pump(lambda: d.was_reset and d.error.over)
            assert not d.error.data


def test_ports_where_nobody_listens_or_that_were_not_asked_for():
    with Server(closed_ports=[81], ports=[80, 81]) as server:
        f = Forward(server.url("portforward"))
        peer = server.peer()
        good, bad, other = f.connect(80), f.connect(81), f.connect(82)
        f.pump(lambda: bad.error.over and other.error.over)
        assert bad.error.data == b"error forwarding port 81: connect to port 81: Connection refused"
        assert b"82" in other.error.data and b"not asked for" in other.error.data
        assert bad.was_reset and other.was_reset
        echo(peer.connection(80))
        good.write(b"x")
        f.pump(lambda: good.data == b"x")
        for headers in ({"streamtype": "error"}, {"streamtype": "error", "port": "0"},
                        {"streamtype": "stdin", "port": "80"}, {"port": "80"},
                        {"streamtype": "error", "port": "99999"}):
            assert f.t.open(headers).was_reset
        old = f.t.open({"streamtype": "error", "port": "80"})  # without a request's number
        data = f.t.open({"streamtype": "data", "port": "80"})
        echo(peer.connection(80))
        data.write(b"y")
        f.pump(lambda: data.data == b"y")
        assert not old.over


def test_a_forward_that_takes_nothing_leaves_the_others_alone():
    """Of a client with windows; without them it is the connection that is full."""
    with Server() as server:
        f = Forward(server.url("portforward"), "spdy-windows")
        peer = server.peer()
        stuck, good = f.connect(1), f.connect(2)
        pod = peer.connection(1)
        echo(peer.connection(2))
        stuck.write(bytes(streaming.WINDOW))
        for i in range(50):
            good.write(b"%d" % i * 500)
            f.pump(lambda: good.n >= len(b"%d" % i) * 500)
            good.n = 0
        pod.close()


@pytest.mark.parametrize("protocol", [V4, B64])
def test_forwards_over_channels(protocol):
    with Server(closed_ports=[3]) as server:
        f = ForwardChannels(server.url("portforward"), [1, 2, 3], protocol)
        peer = server.peer()
        f.data(0).write(b"one")
        f.data(1).write(b"two")
        pods = [peer.connection(1), peer.connection(2)]
        assert pods[0].recv(10) == b"one" and pods[1].recv(10) == b"two"
        pods[1].sendall(b"answer")
        f.pump(lambda: f.data(1).data == b"answer" and b"refused" in f.error(2).data)
        for s in pods:
            s.close()
        f.t.until_closed()
        assert f.t.close_code == 1000
        peer.gone()
    with Server(ports=[7]) as server:  # those of the CRI request go before
        wire, _, _ = streaming.websocket(server.url("portforward"), [V4], query="?port=9")
        t = Channels(wire, V4, range(2))
        server.peer().connection(7).close()
        t.until_closed()
        assert t.streams[0].data == t.streams[1].data == b"\x07\0"


def test_a_forward_outlives_the_daemon_with_its_connections():
    with Server() as server:
        f = Forward(server.url("portforward"))
        peer = server.peer()
        s = f.connect(1)
        echo(peer.connection(1))
        peer.ipc.sock.shutdown(socket.SHUT_RDWR)
        s.write(b"still")
        f.pump(lambda: s.data == b"still")
        late = f.connect(1)
        f.pump(lambda: late.error.over)
        assert b"gantryd has gone" in late.error.data
        s.end()
        f.pump(lambda: f.t.goaway)


# --- peers that break the protocol ---

def spdy_garbage():
    syn = struct.pack(">HHIIIBB", 0x8003, 1, 0, 1, 0, 0, 0)
    bomb = streaming.zlib.compressobj(zdict=streaming.DICTIONARY)
    bomb = bomb.compress(struct.pack(">I", 1) + bytes(1 << 20)) + \
        bomb.flush(streaming.zlib.Z_SYNC_FLUSH)
    yield b"\x80\x02\0\1\0\0\0\0"  # SPDY/2
    yield b"\x80\3\0\1\0\xff\xff\xff"
    yield b"\0\0\0\0\0\0\0\1x"
    yield syn
    yield struct.pack(">HHIIIBB", 0x8003, 1, 10 + len(bomb), 1, 0, 0, 0) + bomb
    yield struct.pack(">HHII", 0x8003, 6, 3, 1)


def websocket_garbage():
    yield b"\x82\1x"  # not masked
    yield b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"
    yield b"\xf2\x80\0\0\0\0"
    yield b"\x83\x80\0\0\0\0"
    yield b"\x82\x81\0\0\0\0\xff"  # closes no channel
    yield b"\x88\x81\0\0\0\0x"


@pytest.mark.parametrize("protocol, garbage", [("spdy", spdy_garbage), (V5, websocket_garbage)])
def test_peers_that_break_the_protocol(protocol, garbage):
    with Server() as server:
        for piece in garbage():
            x = Exec(server.url(), protocol) if protocol == V5 else None
            t = x.t if x else streaming.spdy(server.url(), [V4])[0]
            peer = server.peer()
            if x:
                peer.wait()
            t.wire.put(piece)
            t.until_closed()
            if x:
                assert t.close_code >= 1002, piece
                assert peer.let_go() == []
            else:
                assert t.goaway, piece
            t.wire.close()
            peer.gone()


def test_more_streams_than_there_may_be():
    with Server() as server:
        f = Forward(server.url("portforward"))
        peer = server.peer()
        headers = {"streamtype": "error", "port": "80"}
        before = peer.memory()
        streams = [f.t.open(dict(headers, requestid=str(i)), wait=False) for i in range(2000)]
        f.pump(lambda: all(s.replied or s.was_reset for s in streams))
        assert sum(s.replied for s in streams) == 512
        if not sanitized():
            assert peer.memory() - before < MEMORY
        for s in streams[:10]:
            f.t.reset(s)
        f.pump(lambda: f.t.open(dict(headers, requestid="x")).replied)


def test_a_client_that_asks_and_does_not_read():
    """Answers to pings are not kept without bound."""
    with Server(stdin=False) as server:
        x = Exec(server.url(), stdin=False, rcvbuf=4096)
        peer = server.peer().wait()
        before = peer.memory()
        pings, n = struct.pack(">HHII", 0x8003, 6, 4, 1) * 65536, 0
        while not x.t.wire.out or not is_full(x.t.wire):
            x.t.wire.put(pings)
            n += 65536
            assert n < 1 << 23
        if not sanitized():
            assert peer.memory() - before < MEMORY
        x.pump(lambda: len(x.t.pongs) == n, 60)


def is_full(wire):
    wire.flush()
    return not streaming.select.select([], [wire], [], 0.3)[1]


# --- what it is allowed to do, and costs ---

def test_confinement_and_size():
    if sanitized():
        pytest.skip("a sanitizer's runtime cannot be confined")
    with Server() as server:
        for kind in ("waiting", "running"):
            s = raw(server, b"G") if kind == "waiting" else Exec(server.url(), V5)
            peer = server.peer()
            if kind == "running":
                peer.wait()
            proc = "/proc/%d/" % peer.process.pid

            def confined():
                with open(proc + "status") as f:
                    status = dict(line.split(":\t", 1) for line in f.read().splitlines()
                                  if ":\t" in line)
                return status["Seccomp"] == "2" and status
            status = wait_for(confined)
            assert status["NoNewPrivs"] == "1"
            assert all(int(status[c], 16) == 0 for c in ("CapEff", "CapPrm", "CapInh"))
            with open(proc + "limits") as f:
                limits = f.read()
            assert re.search(r"Max address space\s+%d\s" % (192 << 20), limits)
            assert re.search(r"Max core file size\s+0\s", limits)
            with open(proc + "smaps_rollup") as f:
                pss = int(re.search(r"^Pss:\s*(\d+)", f.read(), re.M).group(1))
            assert pss < 1024
            del s


# --- TLS ---

@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A server's certificate, an authority's, and a client's."""
    d = str(tmp_path_factory.mktemp("tls"))

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("server", "ca"):
        openssl("req", "-x509", *curve, "-keyout", name + ".key", "-out", name + ".pem",
                "-subj", "/CN=" + name, "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    openssl("req", *curve, "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=client")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "client.pem", "-days", "2")
    return lambda name: os.path.join(d, name)


def tls_server(pem, *more, **options):
    return Server("--tls-cert", pem("server.pem"), "--tls-key", pem("server.key"), *more,
                  program="gantry-stream-tls", **options)


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_tls(pem, protocol):
    with tls_server(pem) as server:
        context = ssl.create_default_context(cafile=pem("server.pem"))
        x = Exec(server.url(), protocol, context=context)
        peer = server.peer().wait()
        data = os.urandom(3 << 20)
        reader = threading.Thread(target=copy, args=(peer.stdin, peer.stdout), daemon=True)
        reader.start()
        x.stdout.digest = hashlib.sha256()
        x.stdin.write(data)
        x.stdin.end()
        x.pump(lambda: x.stdout.n == len(data), 60)
        assert x.stdout.digest.digest() == hashlib.sha256(data).digest()
        peer.end(4)
        assert x.code() == 4
        x.t.wire.sock.close()
        peer.gone()


def copy(from_, to):
    while True:
        got = os.read(from_, 1 << 16)
        if not got:
            return
        while got:
            got = got[os.write(to, got):]


def test_tls_versions_clients_and_what_is_none(pem):
    with tls_server(pem, "--tls-min-version", "1.3", "--tls-client-ca", pem("ca.pem")) as server:
        context = ssl.create_default_context(cafile=pem("server.pem"))

        def fails():
            with pytest.raises((ssl.SSLError, ConnectionResetError, Gone)):
                Exec(server.url(), V5, context=context)
            server.peer().gone()
        fails()  # without a certificate
        context.load_cert_chain(pem("server.pem"), pem("server.key"))
        fails()  # of another authority
        context.load_cert_chain(pem("client.pem"), pem("client.key"))
        x = Exec(server.url(), V5, context=context)
        server.peer().wait().end(0)
        assert x.code() == 0
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        fails()
        s = raw(server, b"GET /exec/token HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            assert b"HTTP" not in read_all(s)
            raise ConnectionResetError
        server.peer().gone()
    with Server("--tls-cert", pem("client.csr"), "--tls-key", pem("server.key"),
                program="gantry-stream-tls") as server:
        s = raw(server, b"")
        server.peer().gone(1)
        s.close()


def test_a_unix_connection_has_no_tls(pem, tmp_path):
    path = str(tmp_path / "s")
    with tls_server(pem, unix=path) as server:
        x = Exec(server.url(), V5, unix=path)
        server.peer().wait().end(6)
        assert x.code() == 6
