# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand, for what no client library would send.  Frames: RFC 9113; headers are coded by
python3-hpack, unless they are given as bytes."""
import socket
import struct

import hpack

from cri import SLOW

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
CANCEL, REFUSED_STREAM = 8, 7


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
        struct.pack(">I", stream) + payload


def message(payload, compressed=0, length=None):
    return bytes([compressed]) + struct.pack(">I", len(payload) if length is None else length) \
        + payload


class Response:
    def __init__(self):
        self.headers, self.body, self.reset, self.over = [], b"", None, False

    def get(self, name):
        return dict(self.headers).get(name)

    @property
    def status(self):
        return int(self.get("grpc-status"))


class Connection:
    """One connection; responses by stream number.  ConnectionError once the peer has closed."""

    def __init__(self, address, settings=(), preface=PREFACE, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)  # waits where the backlog is full
        self.socket.settimeout(timeout * SLOW)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.responses, self.next_stream = {}, 1
        self.goaway = []
        self.acks = 0
        self.pending = b""
        self.auto_window = True
        if preface:
            body = b"".join(struct.pack(">HI", k, v) for k, v in settings)
            self.socket.sendall(preface + frame(SETTINGS, 0, 0, body))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *args, **kw):
        self.socket.sendall(frame(*args, **kw))

    def request_headers(self, path, changes=None):
        """The headers of a gRPC call; a value of None in `changes` takes one away."""
        h = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
             "content-type": "application/grpc", "te": "trailers"}
        h.update(changes or {})
        return [(k, v) for k, v in h.items() if v is not None]

    def start(self, path, body=message(b""), changes=None, end=True):
        """Sends a call, returns its stream."""
        stream = self.next_stream
        self.next_stream += 2
        self.responses[stream] = Response()
        block = self.encoder.encode(self.request_headers(path, changes))
        out = [frame(HEADERS, END_HEADERS | (0 if body or not end else END_STREAM), stream, block)]
        for i in range(0, len(body), 16384):
            last = i + 16384 >= len(body)
            out.append(frame(DATA, END_STREAM if last and end else 0, stream, body[i:i + 16384]))
        self.socket.sendall(b"".join(out))
        return stream

    def read(self):
        """One frame: taken note of, and returned."""
        while len(self.pending) < 9 or \
                len(self.pending) < 9 + int.from_bytes(self.pending[:3], "big"):
            got = self.socket.recv(1 << 20)
            if not got:
                raise ConnectionError("the server closed the connection")
            self.pending += got
        n = int.from_bytes(self.pending[:3], "big")
        kind, flags = self.pending[3], self.pending[4]
        stream = int.from_bytes(self.pending[5:9], "big")
        payload, self.pending = self.pending[9:9 + n], self.pending[9 + n:]
        self.note(kind, flags, stream, payload)
        return kind, flags, stream, payload

    def answer(self, data):
        try:
            self.socket.sendall(data)
        except BrokenPipeError:
            pass  # it has closed; what it said before is still to be read

    def note(self, kind, flags, stream, payload):
        r = self.responses.get(stream)
        if kind == SETTINGS and not flags & ACK:
            self.answer(frame(SETTINGS, ACK))
        elif kind == PING:
            self.acks += flags & ACK
        elif kind == GOAWAY:
            self.goaway.append(struct.unpack(">II", payload[:8]))
        elif kind == HEADERS:
            fields = self.decoder.decode(payload)
            if r:
                r.headers += fields
        elif kind == DATA and r:
            r.body += payload
            if payload and self.auto_window:
                grant = struct.pack(">I", len(payload))
                self.answer(frame(WINDOW_UPDATE, 0, 0, grant) +
                            frame(WINDOW_UPDATE, 0, stream, grant))
        elif kind == RST_STREAM and r:
            r.reset = int.from_bytes(payload, "big")
            r.over = True
        if kind in (HEADERS, DATA) and flags & END_STREAM and r:
            r.over = True

    def wait(self, stream):
        while not self.responses[stream].over:
            self.read()
        return self.responses[stream]

    def call(self, path, body=message(b""), changes=None):
        return self.wait(self.start(path, body, changes))

    def read_to_end(self):
        """Everything up to the close of the connection."""
        try:
            while True:
                self.read()
        except (ConnectionError, ConnectionResetError):
            return self
