# SPDX-License-Identifier: Apache-2.0
"""The frames of src/ipc, and streaming sessions without HTTP: what a gantry-stream says to the
daemon is said by the test itself."""
import array
import os
import select
import socket
import stat
import struct
import time

from cri import SLOW

REPLY, CANCEL = 1, 2
CODE, MESSAGE = 1, 2
OPEN, START, CONNECT = 16, 17, 18
END, INPUT_END = 64, 65
KIND, TOKEN, TTY, STDIN, STDOUT, STDERR, PORT, EXIT_CODE = range(16, 24)
EXEC, ATTACH, PORT_FORWARD = 1, 2, 3
MAGIC = 0x47414e31
KINDS = {"exec": EXEC, "attach": ATTACH, "portforward": PORT_FORWARD}

# Instead of gantry-stream: hands its connection to the daemon to whoever has connected, and stays.
STAND_IN = """#!/usr/bin/python3 -S
import array, socket, sys
s = socket.socket(fileno=4)
s.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3]))])
s.recv(1)
"""


def stand_in(directory):
    """For GANTRY_LIBEXEC: a directory with it."""
    path = os.path.join(directory, "gantry-stream")
    with open(path, "w") as f:
        f.write(STAND_IN)
    os.chmod(path, 0o755)
    return directory


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__("%d: %s" % (code, message))
        self.code, self.message = code, message


class Connection:
    """One end of a socket with frames."""

    def __init__(self, sock):
        self.sock, self.seq = sock, 0
        sock.settimeout(20 * SLOW)

    def send(self, type_, fields=(), seq=0):
        body = b""
        for tag, v in fields:
            v = struct.pack("<Q", v) if isinstance(v, int) else v.encode() + b"\0"
            body += struct.pack("<HHI", tag, 0, len(v)) + v
        self.sock.sendall(struct.pack("<IIIHH", MAGIC, len(body), seq, type_, 0) + body)

    def receive(self):
        """(type, seq, [(tag, bytes)], descriptors), or None at the end."""
        data, fds = b"", []
        while len(data) < 16 or len(data) < 16 + struct.unpack_from("<I", data, 4)[0]:
            want = 16 if len(data) < 16 else 16 + struct.unpack_from("<I", data, 4)[0]
            part, anc, _, _ = self.sock.recvmsg(want - len(data), socket.CMSG_LEN(16 * 4))
            for _, _, raw in anc:
                a = array.array("i")
                a.frombytes(raw)
                fds += a
            if not part:
                return None
            data += part
        _, n, seq, type_, _ = struct.unpack_from("<IIIHH", data)
        fields, at = [], 16
        while at < 16 + n:
            tag, _, size = struct.unpack_from("<HHI", data, at)
            fields.append((tag, data[at + 8:at + 8 + size]))
            at += 8 + size
        return type_, seq, fields, fds

    def call(self, type_, *fields):
        """(fields, descriptors) of the reply."""
        self.seq += 1
        self.send(type_, fields, self.seq)
        got = self.receive()
        if got is None:
            raise ConnectionError("the daemon has closed the connection")
        kind, seq, fields, fds = got
        assert (kind, seq) == (REPLY, self.seq)
        code = number(fields, CODE)
        if code:
            raise Refused(code, dict(fields)[MESSAGE][:-1].decode())
        return fields, fds

    def close(self):
        self.sock.close()


def number(fields, tag):
    return struct.unpack("<Q", dict(fields)[tag])[0]


def connect(address):
    """(the client's socket, frames to the daemon): of a stand-in of one's own."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20 * SLOW)
    client.connect(address + ".stream")
    _, anc, _, _ = client.recvmsg(1, socket.CMSG_LEN(4))
    assert anc, "the connection was closed"
    fd, = array.array("i", anc[0][2])
    return client, Connection(socket.socket(fileno=fd))


class Session:
    """An exec or attach that a URL leads to; `start` makes it begin."""

    def __init__(self, daemon, url, start=True):
        kind, token = url.split("/")[-2:]
        self.client, self.daemon = connect(daemon.address)
        self.stdin = self.stdout = self.stderr = self.terminal = self.control = None
        try:
            fields, _ = self.daemon.call(OPEN, (KIND, KINDS[kind]), (TOKEN, token))
            self.ports = [struct.unpack("<Q", v)[0] for t, v in fields if t == PORT]
            if kind != "portforward":
                self.tty = number(fields, TTY)
                self.wanted = [number(fields, t) for t in (STDIN, STDOUT, STDERR)]
                if start:
                    self.start()
        except BaseException:
            self.hang_up()
            raise

    def start(self):
        _, fds = self.daemon.call(START)
        fds = list(fds)
        self.control = Connection(socket.socket(fileno=fds.pop(0)))
        for name, there in zip(("stdin", "stdout", "stderr"), self.wanted):
            if there:
                setattr(self, name, fds.pop(0))
        if self.tty:
            self.terminal = fds.pop(0)
        assert not fds

    def connect(self, port):
        _, (fd,) = self.daemon.call(CONNECT, (PORT, port))
        s = socket.socket(fileno=fd)
        s.settimeout(20 * SLOW)
        return s

    def write(self, data):
        while data:
            data = data[os.write(self.stdin, data):]

    def end_input(self):
        os.close(self.stdin)
        self.stdin = None
        try:
            self.control.send(INPUT_END)
        except BrokenPipeError:
            pass  # the command has ended at its input's end: what it said can be read

    def end(self):
        """The exit code, or the error, that the session ends with."""
        got = self.control.receive()
        if got is None:
            return None
        assert got[0] == END
        if any(t == EXIT_CODE for t, _ in got[2]):
            return number(got[2], EXIT_CODE)
        return Refused(number(got[2], CODE), dict(got[2])[MESSAGE][:-1].decode())

    def read(self, fd, until=None, timeout=20):
        """What is there until its end (or a terminal's), or until `until` has come."""
        data, limit = b"", time.monotonic() + timeout * SLOW
        while until is None or until not in data:
            if not select.select([fd], [], [], max(0, limit - time.monotonic()))[0]:
                raise TimeoutError("after %r" % data[-2000:])
            try:
                part = os.read(fd, 1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                break
            if not part:
                break
            data += part
        return data

    def hang_up(self):
        """As when the stream program dies."""
        for name in ("stdin", "stdout", "stderr", "terminal"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)
        if self.control:
            self.control.close()
        self.daemon.close()
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()


def is_pipe(fd):
    return stat.S_ISFIFO(os.fstat(fd).st_mode)
