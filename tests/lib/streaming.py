# SPDX-License-Identifier: Apache-2.0
"""Clients of CRI's streaming server: what client-go speaks (SPDY/3.1 as moby/spdystream has it, and
Kubernetes' channels over WebSocket), written from the published specifications.

    s = Exec(d.cri.Exec(...).url, tty=False)      # or protocol="v4.channel.k8s.io", ...
    s.stdin.write(b"x"); s.stdin.end()
    s.finish() -> Status of the command; s.stdout.data, s.stderr.data

One thread, which moves bytes while it waits (pump()); nothing is read while nobody waits, which
is what a slow reader is.
"""
import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import time
import urllib.parse
import zlib

from cri import SLOW

READ = 65536
opened = []  # sockets: closed at the end of a test, however it ends

# --- the connection ---


class Gone(Exception):
    """The server has ended the connection."""


class Refused(Exception):
    """The answer was no 101."""

    def __init__(self, status, head, body):
        super().__init__("%d: %s" % (status, body))
        self.status, self.head, self.body = status, head, body


def connect(url, unix=None, context=None, rcvbuf=None):
    u = urllib.parse.urlsplit(url)
    if unix:
        sock = socket.socket(socket.AF_UNIX)
        opened.append(sock)
        sock.connect(unix)
        return sock
    sock = socket.socket(socket.AF_INET6 if ":" in u.hostname else socket.AF_INET)
    opened.append(sock)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.connect((u.hostname, u.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        sock = context.wrap_socket(sock, server_hostname=u.hostname)
        opened.append(sock)
    return sock


def read_answer(sock, timeout=20):
    """(status, headers with small names, what came after)"""
    sock.settimeout(timeout * SLOW)
    got = b""
    while b"\r\n\r\n" not in got:
        more = sock.recv(READ)
        if not more:
            raise Gone("no answer: %r" % got)
        got += more
    head, rest = got.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, value = line.split(":", 1)
        headers[name.lower()] = value.strip()
    return int(lines[0].split()[1]), headers, rest


def request(sock, method, path, headers=(), body=b""):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: localhost"]
    lines += ["%s: %s" % h for h in headers]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def upgrade(sock, url, headers, method="POST", query=""):
    u = urllib.parse.urlsplit(url)
    request(sock, method, u.path + query, headers)
    status, head, rest = read_answer(sock)
    if status != 101:
        length = int(head.get("content-length", 0))
        while len(rest) < length:
            more = sock.recv(READ)
            if not more:
                break
            rest += more
        sock.close()
        raise Refused(status, head, rest.decode(errors="replace"))
    return head, rest


class Wire:
    """Bytes in and out of a socket, neither of which waits."""

    def __init__(self, sock, rest=b""):
        self.sock, self.out, self.rest, self.closed = sock, bytearray(), rest, False
        sock.setblocking(False)

    def fileno(self):
        return self.sock.fileno()

    def put(self, data):
        self.out += data
        self.flush()

    def flush(self):
        try:
            while self.out and not self.closed:
                n = self.sock.send(memoryview(self.out)[:1 << 18])
                del self.out[:n]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except (BrokenPipeError, ConnectionResetError):
            self.out.clear()

    def get(self):
        """What came; b"": nothing now."""
        if self.rest:
            got, self.rest = self.rest, b""
            return got
        try:
            got = self.sock.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except (ConnectionResetError, ssl.SSLEOFError):
            got = b""
        if not got:
            self.closed = True
        return got

    def wait(self, timeout):
        pending = self.rest or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())
        select.select([self], [self] if self.out else [], [], 0 if pending else timeout)

    def close(self):
        self.sock.close()
        self.closed = True

    def reset(self):
        """As a peer that crashed: RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def close_all():
    while opened:
        opened.pop().close()


class Stream:
    def __init__(self, transport, ident):
        self.transport, self.id = transport, ident
        self.data, self.n, self.over, self.was_reset = bytearray(), 0, False, False
        self.replied = False
        self.digest = None  # a hash, instead of keeping the bytes

    def write(self, data):
        self.transport.send(self, bytes(data))

    def end(self):
        self.transport.end(self)

    def came(self, data):
        self.n += len(data)
        if self.digest:
            self.digest.update(data)
        else:
            self.data += data


class Transport:
    def __init__(self, wire):
        self.wire, self.streams, self.over = wire, {}, False

    def pump(self, until, timeout=20):
        """Moves bytes until the condition is true; its value.  Gone: the connection has ended."""
        end = time.monotonic() + timeout * SLOW
        while True:
            value = until()
            if value:
                return value
            if self.wire.closed:
                raise Gone("the connection has ended")
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("waited %s s" % timeout)
            self.wire.wait(min(left, 0.2))
            self.wire.flush()
            got = self.wire.get()
            if got:
                self.feed(got)

    def until_closed(self, timeout=20):
        try:
            self.pump(lambda: False, timeout)
        except Gone:
            pass
        self.wire.close()

    def queued(self):
        """Bytes that the server has not taken."""
        return len(self.wire.out)

    def turn(self):
        """What there is now."""
        self.wire.flush()
        got = self.wire.get()
        if got:
            self.feed(got)


# --- SPDY/3.1 ---

WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url "
    "public set-cookie keep-alive origin").split()
REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, "
    "Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.")
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.replace("_", " ").encode() for w in WORDS) \
    + REST.encode()
assert zlib.adler32(DICTIONARY) == 0xe3c6a7c2  # as every header block of SPDY/3 names it

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = \
    1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
WINDOW = 65536
FRAME = 32768  # client-go copies so much at a time


class Spdy(Transport):
    """`windows`: with flow control as SPDY/3.1 has it, which moby/spdystream does not speak."""

    def __init__(self, wire, windows=False):
        super().__init__(wire)
        self.windows = windows
        self.next_id, self.inb = 1, bytearray()
        self.deflate = zlib.compressobj(zdict=DICTIONARY)
        self.inflate = zlib.decompressobj(zdict=DICTIONARY)
        self.queue, self.room = [], WINDOW  # what waits for a window; the session's
        self.goaway, self.pongs, self.settings = False, [], {}
        self.hold = set()  # streams whose window stays as it is
        if windows:
            self.control(SETTINGS, struct.pack(">III", 1, 7, WINDOW))

    def control(self, kind, body, flags=0):
        self.wire.put(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body)

    def block(self, headers):
        raw = struct.pack(">I", len(headers))
        for k, v in headers.items():
            raw += struct.pack(">I", len(k)) + k.encode() + struct.pack(">I", len(v)) + v.encode()
        return self.deflate.compress(raw) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, headers, fin=False, wait=True):
        s = Stream(self, self.next_id)
        s.room = self.settings.get(7, WINDOW)
        self.next_id += 2
        self.streams[s.id] = s
        self.control(SYN_STREAM, struct.pack(">IIBB", s.id, 0, 0, 0) + self.block(headers),
                     FIN if fin else 0)
        if wait:
            self.pump(lambda: s.replied or s.was_reset)
        return s

    def send(self, stream, data):
        for i in range(0, len(data), FRAME):
            self.queue.append((stream, data[i:i + FRAME], 0))
        self.send_queue()

    def end(self, stream):
        self.queue.append((stream, b"", FIN))
        self.send_queue()

    def send_queue(self):
        while self.queue:
            stream, piece, flags = self.queue[0]
            n = min(len(piece), stream.room, self.room) if self.windows else len(piece)
            if n < len(piece):
                if n > 0:
                    self.queue[0] = (stream, piece[n:], flags)
                    self.send_data(stream, piece[:n], 0)
                return
            self.queue.pop(0)
            self.send_data(stream, piece, flags)

    def send_data(self, stream, piece, flags):
        stream.room -= len(piece)
        self.room -= len(piece)
        self.wire.put(struct.pack(">II", stream.id, flags << 24 | len(piece)) + piece)

    def queued(self):
        return len(self.wire.out) + sum(len(x[1]) for x in self.queue)

    def reset(self, stream, code=5):
        self.control(RST_STREAM, struct.pack(">II", stream.id, code))

    def ping(self, n):
        self.control(PING, struct.pack(">I", n))
        self.pump(lambda: n in self.pongs)

    def close(self):
        self.control(GOAWAY, struct.pack(">II", 0, 0))
        self.wire.close()

    def feed(self, data):
        self.inb += data
        while len(self.inb) >= 8:
            first, second = struct.unpack_from(">II", self.inb)
            n = second & 0xffffff
            if len(self.inb) < 8 + n:
                return
            body = bytes(self.inb[8:8 + n])
            del self.inb[:8 + n]
            if first >> 31:
                assert first >> 16 == 0x8003, "SPDY version 3"
                self.on_control(first & 0xffff, second >> 24, body)
            else:
                self.on_data(self.streams.get(first), second >> 24, body)

    def on_data(self, stream, flags, body):
        assert stream and not stream.over, "data on a stream that is there"
        stream.came(body)
        if self.windows and body:
            if stream.id not in self.hold:
                self.control(WINDOW_UPDATE, struct.pack(">II", stream.id, len(body)))
            self.control(WINDOW_UPDATE, struct.pack(">II", 0, len(body)))
        stream.over |= bool(flags & FIN)

    def on_control(self, kind, flags, body):
        if kind == SETTINGS:
            for i in range(struct.unpack_from(">I", body)[0]):
                k, v = struct.unpack_from(">II", body, 4 + 8 * i)
                self.settings[k & 0xffffff] = v
            return
        ident = struct.unpack_from(">I", body)[0]
        stream = self.streams.get(ident)
        if kind == SYN_REPLY:
            self.inflate.decompress(body[4:])
            stream.replied = True
            stream.over |= bool(flags & FIN)
        elif kind == RST_STREAM and stream:
            stream.over = stream.was_reset = True
        elif kind == PING:
            if ident % 2:
                self.pongs.append(ident)
            else:
                self.control(PING, body)
        elif kind == GOAWAY:
            self.goaway = True
        elif kind == WINDOW_UPDATE:
            delta = struct.unpack_from(">I", body, 4)[0]
            if ident == 0:
                self.room += delta
            elif stream:
                stream.room += delta
            self.send_queue()


# --- WebSocket ---

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PONG = 1, 2, 8, 10


def mask(data, key):
    n = len(data)
    whole = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(n, "big")


class Frames(Transport):
    """Messages; on_message() is what they mean."""

    def __init__(self, wire):
        super().__init__(wire)
        self.inb, self.message = bytearray(), bytearray()
        self.close_code, self.close_reason, self.got_pong = None, "", []

    def frame(self, op, data, fin=True):
        key, n = os.urandom(4), len(data)
        head = bytes([(0x80 if fin else 0) | op])
        head += bytes([0x80 | n]) if n < 126 else \
            struct.pack(">BH", 0x80 | 126, n) if n < 65536 else struct.pack(">BQ", 0x80 | 127, n)
        self.wire.put(head + key + mask(data, key))

    def feed(self, data):
        self.inb += data
        while len(self.inb) >= 2 and self.close_code is None:
            assert not self.inb[1] & 0x80, "a server does not mask"
            n, at = self.inb[1] & 0x7f, 2
            if n >= 126:
                size = 2 if n == 126 else 8
                if len(self.inb) < 2 + size:
                    return
                n, at = int.from_bytes(self.inb[2:2 + size], "big"), 2 + size
            if len(self.inb) < at + n:
                return
            first, body = self.inb[0], bytes(self.inb[at:at + n])
            del self.inb[:at + n]
            self.on_frame(first & 15, bool(first & 0x80), body)

    def on_frame(self, op, fin, body):
        if op == CLOSE:
            self.close_code = int.from_bytes(body[:2], "big") if body else 1005
            self.close_reason = body[2:].decode()
            self.frame(CLOSE, body[:2])
        elif op == 9:
            self.frame(PONG, body)
        elif op == PONG:
            self.got_pong.append(body)
        else:
            self.message += body
            if fin:
                body, self.message = bytes(self.message), bytearray()
                self.on_message(body)

    def close(self):
        self.frame(CLOSE, struct.pack(">H", 1000))
        self.wire.close()


class Channels(Frames):
    """*.channel.k8s.io: streams are numbers."""

    def __init__(self, wire, protocol, names):
        super().__init__(wire)
        self.base64 = protocol.startswith("base64.") or ".base64." in protocol
        self.can_end = protocol.startswith("v5.")
        self.seen = set()
        for n in names:
            self.streams[n] = Stream(self, n)

    def send(self, stream, data):
        for i in range(0, len(data), FRAME):
            piece = data[i:i + FRAME]
            if self.base64:
                self.frame(TEXT, b"%d" % stream.id + base64.b64encode(piece))
            else:
                self.frame(BINARY, bytes([stream.id]) + piece)

    def end(self, stream):
        assert self.can_end, "version 5 alone can end a channel"
        self.frame(BINARY, bytes([255, stream.id]))

    def on_message(self, body):
        if self.base64:
            ident, body = body[0] - ord("0"), base64.b64decode(body[1:])
        else:
            ident, body = body[0], body[1:]
        self.seen.add(ident)
        if ident == 255 and self.can_end:
            self.streams[body[0]].over = True
            return
        self.streams[ident].came(body)


class Tunnel(Frames):
    """SPDY in the messages of a WebSocket: a wire for Spdy."""

    def __init__(self, wire):
        super().__init__(wire)
        self.got, self.sock = bytearray(), wire.sock

    def on_message(self, body):
        self.got += body

    @property
    def out(self):
        return self.wire.out

    @property
    def rest(self):
        return self.got

    @property
    def closed(self):
        return (self.wire.closed or self.close_code is not None) and not self.got

    def put(self, data):
        self.frame(BINARY, bytes(data))

    def flush(self):
        self.wire.flush()

    def get(self):
        if not self.got:
            more = self.wire.get()
            if more:
                self.feed(more)
        data, self.got = bytes(self.got), bytearray()
        return data

    def wait(self, timeout):
        self.wire.wait(0 if self.got else timeout)

    def close(self):
        self.wire.close()


def websocket(url, protocols, query="", method="GET", key=None, **kw):
    """(wire, protocol that was chosen, headers)"""
    key = key or base64.b64encode(os.urandom(16)).decode()
    sock = connect(url, **kw)
    head, rest = upgrade(sock, url, [
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Protocol", ", ".join(protocols))],
        method=method, query=query)
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
    assert head["sec-websocket-accept"] == accept and head["upgrade"].lower() == "websocket"
    return Wire(sock, rest), head.get("sec-websocket-protocol", ""), head


def spdy(url, protocols, windows=False, method="POST", **kw):
    sock = connect(url, **kw)
    head, rest = upgrade(sock, url, [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")] +
                         [("X-Stream-Protocol-Version", p) for p in protocols], method=method)
    assert head["upgrade"] == "SPDY/3.1"
    return Spdy(Wire(sock, rest), windows), head.get("x-stream-protocol-version")


# --- exec and attach ---

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class Exec:
    """A session of exec or attach.  protocol: "spdy", "spdy-windows", or that of a WebSocket."""

    def __init__(self, url, protocol="spdy", stdin=True, stdout=True, stderr=True, tty=False,
                 versions=(V4,), **kw):
        names = [("stdin", stdin), ("stdout", stdout), ("stderr", stderr and not tty),
                 ("resize", tty)]
        self.stdin = self.stdout = self.stderr = self.size = None
        if protocol.startswith("spdy"):
            self.t, self.version = spdy(url, versions, protocol == "spdy-windows", **kw)
            self.error = self.t.open({"streamtype": "error"})
            for n, wanted in names:
                if wanted:
                    setattr(self, "size" if n == "resize" else n, self.t.open({"streamtype": n}))
        else:
            wire, self.version, _ = websocket(url, [protocol], **kw)
            assert self.version == protocol
            self.t = Channels(wire, protocol, range(5))
            for i, n in enumerate(("stdin", "stdout", "stderr", "error", "size")):
                setattr(self, n, self.t.streams[i])

    def resize(self, width, height):
        self.size.write(json.dumps({"Width": width, "Height": height}).encode() + b"\n")

    def pump(self, until, timeout=20):
        return self.t.pump(until, timeout)

    def expect(self, text, stream=None, timeout=20):
        """Waits for the text in the output; what came up to its end, which is taken off."""
        s = stream or self.stdout
        text = text if isinstance(text, bytes) else text.encode()
        try:
            self.pump(lambda: text in s.data, timeout)
        except (TimeoutError, Gone) as e:
            raise AssertionError("%r did not come: %r; status %r" %
                                 (text, bytes(s.data[-500:]), bytes(self.error.data))) from e
        at = s.data.index(text) + len(text)
        got = bytes(s.data[:at])
        del s.data[:at]
        return got

    def status(self, timeout=20):
        """The Status, once it is whole."""
        def whole():
            try:
                return json.loads(bytes(self.error.data))
            except ValueError:
                return None
        return self.pump(whole, timeout)

    def finish(self, timeout=20):
        """Reads to the end of the connection, as client-go does; the Status."""
        if not isinstance(self.t, Spdy):
            self.t.until_closed(timeout)
        else:
            outs = [s for s in (self.stdout, self.stderr, self.error) if s]
            self.pump(lambda: all(s.over for s in outs), timeout)
            self.t.close()
        return json.loads(bytes(self.error.data))

    def code(self, timeout=20):
        return exit_code(self.finish(timeout))


def exit_code(status):
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode", status
    causes = [c for c in status["details"]["causes"] if c["reason"] == "ExitCode"]
    return int(causes[0]["message"])


# --- port-forward ---

class Forward:
    """Many connections over one: client-go's portforward.  protocol: "spdy", "tunnel"."""

    def __init__(self, url, protocol="spdy", **kw):
        self.next_request = 0
        if protocol == "tunnel":
            wire, chosen, _ = websocket(url, ["SPDY/3.1+portforward.k8s.io"], **kw)
            assert chosen == "SPDY/3.1+portforward.k8s.io"
            self.t = Spdy(Tunnel(wire))
        else:
            self.t, self.version = spdy(url, ["portforward.k8s.io"], protocol == "spdy-windows",
                                        **kw)

    def connect(self, port):
        ident = str(self.next_request)
        self.next_request += 1
        headers = {"streamtype": "error", "port": str(port), "requestid": ident}
        error = self.t.open(headers)
        error.end()  # nothing is written to it
        data = self.t.open(dict(headers, streamtype="data"))
        data.error = error
        return data

    def pump(self, until, timeout=20):
        return self.t.pump(until, timeout)


class ForwardChannels:
    """v4.channel.k8s.io: the ports are in the query, two channels each."""

    def __init__(self, url, ports, protocol=V4, **kw):
        query = "?" + "&".join("port=%d" % p for p in ports)
        wire, self.version, _ = websocket(url, [protocol], query=query, **kw)
        self.t = Channels(wire, self.version, range(2 * len(ports)))
        for i, port in enumerate(ports):
            for s in (self.t.streams[2 * i], self.t.streams[2 * i + 1]):
                self.pump(lambda s=s: s.n >= 2)
                assert struct.unpack("<H", s.data[:2])[0] == port
                del s.data[:2]

    def data(self, i=0):
        return self.t.streams[2 * i]

    def error(self, i=0):
        return self.t.streams[2 * i + 1]

    def pump(self, until, timeout=20):
        return self.t.pump(until, timeout)
