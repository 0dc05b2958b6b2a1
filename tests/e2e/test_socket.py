# SPDX-License-Identifier: Apache-2.0
"""
Peers on the socket that mean harm: while each of them does what it can, another client is answered
in time, and afterwards the daemon has the memory and descriptors that it had before.
"""
import contextlib
import os
import random
import socket
import struct
import threading
import time

import pytest

import http2
from bystander import Bystander
from cri import SLOW, api
from daemon import Daemon, anonymous, wait_for
from http2 import Connection, frame, message

VERSION = "/runtime.v1.RuntimeService/Version"
STATUS = "/runtime.v1.RuntimeService/Status"
PODS = "/runtime.v1.RuntimeService/ListPodSandbox"
LASTS = 1.5  # seconds of an attack
STREAMS_MAX, CONNECTIONS_MAX, CALLS_MAX = 1024, 512, 8192
WAIT_MEDIAN, WAIT_MAX = 0.05, 1.0  # seconds that others wait, on a machine with other work


@pytest.fixture(scope="module")
def g():
    daemon = Daemon()
    flood(daemon, **FLOODS["calls that are read"])  # what the first ones take is kept
    yield daemon
    daemon.close()


def descriptors(d):
    return len(os.listdir("/proc/%d/fd" % d.process.pid))


@contextlib.contextmanager
def unharmed(d):
    """What is within may not hurt anybody; the daemon is afterwards as it was."""
    with Connection(d.address) as c:
        assert c.call(VERSION).status == 0
    wait_for(lambda: descriptors(d) < 40)
    fds, kb = descriptors(d), anonymous(d.process.pid)
    with Bystander(d.address) as b:
        yield
    assert not b.failed, b.failed[:3]
    assert b.waits[len(b.waits) // 2] < WAIT_MEDIAN * SLOW, b.waits[-20:]
    assert b.waits[-1] < WAIT_MAX * SLOW, b.waits[-20:]
    wait_for(lambda: descriptors(d) <= fds)
    room = 350000 if d.sanitized() else 400  # kB; sanitizers keep freed memory for a while
    try:
        wait_for(lambda: anonymous(d.process.pid) <= kb + room, timeout=10)
    except TimeoutError:
        raise AssertionError("%d kB before, %d now" % (kb, anonymous(d.process.pid)))


def literal(name, value, how=0):
    """A header field as HPACK (RFC 7541, 6.2): 0 not indexed, 0x40 into the dynamic table."""
    def text(s):
        n = len(s)
        if n < 127:
            return bytes([n]) + s
        out, n = b"\x7f", n - 127
        while n >= 128:
            out, n = out + bytes([n % 128 + 128]), n // 128
        return out + bytes([n]) + s
    return bytes([how]) + text(name) + text(value)


def block(path=VERSION):
    h = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"),
         ("content-type", "application/grpc"), ("te", "trailers")]
    return b"".join(literal(k.encode(), v.encode()) for k, v in h)


def streams(n, *frames, first=1):
    """Frames (kind, flags, payload) for each of n streams, as bytes."""
    return b"".join(frame(kind, flags, first + 2 * i, payload)
                    for i in range(n) for kind, flags, payload in frames)


HEADERS = (http2.HEADERS, http2.END_HEADERS, block())
EMPTY = (http2.DATA, http2.END_STREAM, message(b""))
RESET = (http2.RST_STREAM, 0, struct.pack(">I", http2.CANCEL))


def flood(d, data, clients=4, settings=(), before=b"", read=False, again=True):
    """Several connections send the same as fast as they can, anew when they are cut off."""
    until = time.monotonic() + LASTS

    def one():
        while time.monotonic() < until:
            try:
                with Connection(d.address, settings) as c:
                    c.socket.settimeout(0.2)
                    c.socket.sendall(before)
                    while time.monotonic() < until:
                        c.socket.sendall(data)
                        if read:
                            c.socket.setblocking(False)
                            with contextlib.suppress(BlockingIOError):
                                while c.socket.recv(1 << 20):
                                    pass
                            c.socket.settimeout(0.2)
                        if not again:
                            break
            except (OSError, ConnectionError):
                pass
    threads = [threading.Thread(target=one) for _ in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


# --- one attack each ---

FLOODS = {
    "pings": dict(data=frame(http2.PING, payload=b"12345678") * 8000),
    "pings that are read": dict(data=frame(http2.PING, payload=b"12345678") * 2000, read=True),
    "settings": dict(data=frame(http2.SETTINGS) * 8000, read=True),
    "settings for many streams": dict(
        before=streams(1000, HEADERS), read=True,
        data=b"".join(frame(http2.SETTINGS, payload=struct.pack(">HI", 4, 1000 + i % 7))
                      for i in range(4000))),
    "window updates": dict(before=streams(1, HEADERS), data=frame(
        http2.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)) * 8000),
    "priorities": dict(data=b"".join(
        frame(http2.PRIORITY, 0, 2 * i + 1, struct.pack(">IB", 2 * (i * 7 % 4000) + 1, i % 256))
        for i in range(1, 8000))),
    "empty data": dict(before=streams(1, HEADERS), data=frame(http2.DATA, 0, 1) * 8000),
    "unknown frames": dict(data=frame(0xee, 0xff, 0x7fffffff, b"x" * 50) * 4000),
    "resets": dict(data=streams(20000, HEADERS, RESET), again=False),
    "resets of calls": dict(data=streams(20000, HEADERS, EMPTY, RESET), again=False),
    "calls": dict(data=streams(20000, HEADERS, EMPTY), again=False),
    "calls that are read": dict(data=streams(900, HEADERS, EMPTY), again=False, read=True),
    "bad streams": dict(data=streams(8000, (http2.DATA, 0, b"x"), (http2.WINDOW_UPDATE, 0, b"\0" * 4)),
                        again=False),
    "continuations": dict(data=frame(http2.HEADERS, 0, 1, block()) + frame(
        http2.CONTINUATION, 0, 1, b"") * 100000, again=False),
    "long headers": dict(data=streams(200, (http2.HEADERS, http2.END_HEADERS, block() + literal(
        b"x", b"y" * 15000))), again=False),
    # One entry of 4000 bytes, named by each of 16000 single bytes: 64 MB a frame, once unpacked.
    "bombs": dict(before=frame(http2.HEADERS, http2.END_HEADERS, 1, block() + literal(
        b"x" * 10, b"y" * 4000, 0x40)), data=streams(
            60, (http2.HEADERS, http2.END_HEADERS, b"\xbe" * 16000), first=3), again=False),
    "tables": dict(data=streams(900, (http2.HEADERS, http2.END_HEADERS, block() + b"".join(
        literal(b"k%d" % i, b"v" * 50, 0x40) for i in range(200)))), again=False),
    "garbage": dict(data=random.Random(2).randbytes(60000), again=False),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods(g, name):
    with unharmed(g):
        flood(g, **FLOODS[name])


# --- those who hold what they have ---

def closed(connections, seconds=4):
    """How many the daemon closes in that time: whoever does not move makes room for others."""
    until, n = time.monotonic() + seconds * SLOW, 0
    for c in connections:
        c.socket.settimeout(max(0.05, until - time.monotonic()))
        with contextlib.suppress(socket.timeout):
            c.read_to_end()
            n += 1
    return n


def connect(d, n, **kw):
    return [Connection(d.address, timeout=60, **kw) for _ in range(n)]


def send(c, data):
    try:
        c.socket.settimeout(0.5)
        c.socket.sendall(data)
    except OSError:  # it is read no further, or has been closed
        pass


def served(d):
    try:
        with Connection(d.address) as c:
            return c.call(VERSION).status == 0
    except OSError:
        return False


def drop(connections):
    for c in connections:
        c.socket.close()


def test_replies_that_nobody_reads(g):
    """A few clients cannot take all requests that there may be; nor can they keep them."""
    calls = streams(1000, HEADERS, EMPTY)
    with unharmed(g):
        held = connect(g, 4, settings=[(http2.INITIAL_WINDOW_SIZE, 0)])
        for c in held:
            c.auto_window = False
            send(c, calls)
        assert served(g)
        wait_for(lambda: served(g) and closed(held, 0), timeout=10)
        drop(held)


def test_replies_that_many_do_not_read(g):
    """So many can, for as long as they seem to be slow only."""
    held = connect(g, 100, settings=[(http2.INITIAL_WINDOW_SIZE, 0)])
    for c in held:
        send(c, streams(20, HEADERS, EMPTY))
    wait_for(lambda: served(g), timeout=5)
    drop(held)
    with unharmed(g):
        pass


def test_requests_that_have_only_begun(g):
    """On as many streams as there may be, and more."""
    begun = streams(STREAMS_MAX, HEADERS)
    with unharmed(g):
        held = connect(g, 10)
        for c in held:
            send(c, begun)
        assert served(g)
        for c in held:
            c.responses = {1 + 2 * i: http2.Response() for i in range(STREAMS_MAX)}
        wait_for(lambda: served(g) and closed(held, 0), timeout=10)
        refused = sum(r.reset == http2.REFUSED_STREAM for c in held for r in c.responses.values())
        assert refused >= 10 * STREAMS_MAX - CALLS_MAX
        drop(held)


def test_connections_that_have_only_begun(g):
    """All that there may be, each with a request that does not end: new ones make their way."""
    kb = anonymous(g.process.pid)
    with Bystander(g.address) as b:
        held = connect(g, CONNECTIONS_MAX - 20)
        for c in held:
            send(c, streams(1, HEADERS))
        more = connect(g, 100)
        wait_for(lambda: served(g), timeout=5)
        drop(held + more)
    assert not b.failed and b.waits[-1] < WAIT_MAX * SLOW
    wait_for(lambda: anonymous(g.process.pid) <= kb + (350000 if g.sanitized() else 400))
    wait_for(lambda: descriptors(g) < 40)


def test_large_requests_that_do_not_end(g):
    """384 MB by 24 clients: some of it is kept for a moment, and none of it afterwards."""
    part = b"".join(frame(http2.DATA, 0, 1, b"\0" * 16384) for _ in range(64))
    head = streams(1, HEADERS) + frame(http2.DATA, 0, 1, message(b"", length=(16 << 20) - 1))

    def one():
        with contextlib.suppress(OSError), Connection(g.address) as c:
            c.socket.settimeout(1)
            c.socket.sendall(head)
            for _ in range(15):
                c.socket.sendall(part)
                c.socket.settimeout(0.05)
                with contextlib.suppress(socket.timeout):
                    while True:  # windows that are granted
                        c.read()
                c.socket.settimeout(1)
            c.socket.settimeout(2)
            c.read_to_end()
    with unharmed(g):
        threads = [threading.Thread(target=one) for _ in range(24)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def test_windows_of_one_byte(g):
    grants = b"".join(frame(http2.WINDOW_UPDATE, 0, 1 + 2 * i, struct.pack(">I", 1))
                      for i in range(500)) + frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 500))
    with unharmed(g):
        flood(g, grants, settings=[(http2.INITIAL_WINDOW_SIZE, 1)], read=True,
              before=streams(500, HEADERS, EMPTY))


def test_half_closed(g):
    """Clients that say they will send no more, or that read no more, at every stage."""
    whole = http2.PREFACE + frame(http2.SETTINGS) + streams(3, HEADERS, EMPTY)
    with unharmed(g):
        for how in (socket.SHUT_WR, socket.SHUT_RD, None):
            held = []
            for at in range(0, len(whole), 5):
                c = Connection(g.address, preface=None)
                c.socket.sendall(whole[:at])
                if how is not None:
                    c.socket.shutdown(how)
                held.append(c)
            if how == socket.SHUT_WR:
                assert closed(held) == len(held)
            drop(held)


def test_silent(g):
    """Connections without a preface, as many as there may be and more."""
    with unharmed(g):
        held = connect(g, 2 * CONNECTIONS_MAX, preface=None)
        assert served(g)
        assert descriptors(g) < CONNECTIONS_MAX + 60
        drop(held)


def test_changed_bytes(g):
    """What a client would send, with a few bytes changed: nobody but him notices."""
    rnd = random.Random(3)
    whole = frame(http2.SETTINGS) + streams(20, HEADERS, EMPTY) + frame(
        http2.PING, payload=b"12345678") + streams(20, HEADERS, EMPTY, RESET, first=41)
    with unharmed(g):
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(rnd.randrange(1, 12)):
                data[rnd.randrange(len(data))] = rnd.randrange(256)
            with Connection(g.address, preface=None) as c:
                send(c, http2.PREFACE + bytes(data))
