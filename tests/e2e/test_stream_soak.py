# SPDX-License-Identifier: Apache-2.0
"""Many sessions, through gantry-stream: to their end, cut off, attached, forwarded.  Afterwards the
daemon and the pod's monitor hold what they held before: descriptors, processes, memory.

GANTRY_SOAK=N runs N of them (a million takes some hours); by default a few seconds' worth."""
import json
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from cri import SLOW
from daemon import Daemon, anonymous, at_rest, processes_with, wait_for

COUNT = int(os.environ.get("GANTRY_SOAK") or 240)
AT_ONCE = 4
WARM = 40  # before the first look: pools and pages that are used from then on
CALLS = 1500  # nghttp2 keeps a connection's last thousand streams, those that have ended too
GROWTH = 320  # kB: what an allocator moves about, however many sessions there were


class WebSocket:
    """v5.channel.k8s.io over the unix socket; the mask is all zeros, so that nothing is masked."""

    def __init__(self, address, url, protocol="v5.channel.k8s.io"):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30 * SLOW)
        self.sock.connect(address + ".stream")
        self.sock.sendall((
            "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Protocol: %s\r\n\r\n" % (url.split("/", 3)[3], protocol)).encode())
        self.got = b""
        while b"\r\n\r\n" not in self.got:
            assert self.more(), self.got
        head, self.got = self.got.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def more(self):
        part = self.sock.recv(65536)
        self.got += part
        return part

    def send(self, channel, data=b""):
        n = 1 + len(data)
        assert n < 126
        self.sock.sendall(struct.pack("BB4xB", 0x82, 0x80 | n, channel) + data)

    def message(self):
        """(channel, bytes), or None at the end."""
        while True:
            if len(self.got) >= 2:
                n, at = self.got[1] & 0x7f, 2
                if n == 126 and len(self.got) >= 4:
                    n, at = struct.unpack_from(">H", self.got, 2)[0], 4
                if len(self.got) >= at + n and n != 126:
                    op, body, self.got = self.got[0] & 15, self.got[at:at + n], self.got[at + n:]
                    if op == 8:
                        return None
                    return body[0], body[1:]
            if not self.more():
                return None

    def finish(self):
        """({channel: bytes}, the exit code)"""
        out, m = {}, self.message()
        while m:
            out[m[0]] = out.get(m[0], b"") + m[1]
            m = self.message()
        status = json.loads(out[3])
        causes = status.get("details", {}).get("causes", [{"message": "0"}])
        return out, int(causes[0]["message"])

    def close(self):
        self.sock.close()


def to_its_end(d, c, i):
    url = d.cri.Exec(container_id=c, cmd=["sh", "-c", "cat; exit %d" % (i % 100)],
                     stdin=True, stdout=True).url
    w = WebSocket(d.address, url)
    w.send(0, b"number %d" % i)
    w.send(255, b"\0")  # standard input is at its end
    out, code = w.finish()
    w.close()
    assert (out.get(1), code) == (b"number %d" % i, i % 100), out


def in_a_terminal(d, c, i):
    url = d.cri.Exec(container_id=c, cmd=["sh", "-c", "read x; echo got $x"], stdin=True,
                     stdout=True, tty=True).url
    w = WebSocket(d.address, url)
    w.send(0, b"%d\n" % i)
    out, code = w.finish()
    w.close()
    assert b"got %d\r\n" % i in out[1] and code == 0


def cut_off(d, c, _):
    url = d.cri.Exec(container_id=c, cmd=["sh", "-c", "echo; sleep 3333"], stdin=True,
                     stdout=True).url
    w = WebSocket(d.address, url)
    w.message()
    w.close()


def attached(d, c, _):
    w = WebSocket(d.address, d.cri.Attach(container_id=c, stdout=True).url)
    seen = []
    while b"tick" not in b"".join(seen):
        m = w.message()
        assert m, seen
        seen.append(m[1])
    w.close()


def never_used(d, c, _):
    d.cri.Exec(container_id=c, cmd=["true"], stdout=True)


def refused(d, _, i):
    s = socket.socket(socket.AF_UNIX)
    s.connect(d.address + ".stream")
    s.sendall(b"GET /exec/%048x HTTP/1.1\r\nHost: x\r\n\r\n" % i if i % 2 else b"\x16\x03nonsense\r\n\r\n")
    s.recv(1000)
    s.close()


WAYS = (to_its_end, in_a_terminal, to_its_end, cut_off, to_its_end, attached, to_its_end, refused,
        to_its_end, never_used)


def held(d, monitor):
    """What must be as it was: descriptors and children of both."""
    def children(pid):
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return len(f.read().split())
    return (len(os.listdir("/proc/%d/fd" % d.process.pid)), children(d.process.pid),
            len(os.listdir("/proc/%d/fd" % monitor)), children(monitor))


def cut_off_run_on(d, c):
    return [x for x in d.exec(c, "ps -o args").stdout.decode().splitlines() if "3333" in x]


@pytest.fixture(scope="module")
def d(archive):
    # Tokens that nobody uses live for a minute, and so does their memory: here for less.
    daemon = Daemon(env={"GANTRY_LIMIT": "stream-token-ms:4000"})
    daemon.load(archive)
    yield daemon
    daemon.close()


def test_sessions_leave_nothing(d, pod):
    if d.sanitized():
        pytest.skip("a sanitizer keeps what was freed")
    c = d.run(pod, "while :; do echo tick; sleep 0.05; done")
    monitor, = [pid for pid, cmd in processes_with(pod) if "gantry-monitor" in cmd]
    before = at_rest(lambda: held(d, monitor))

    def one(i):
        WAYS[i % len(WAYS)](d, c, i)

    def settle():
        wait_for(lambda: not cut_off_run_on(d, c))
        try:
            wait_for(lambda: held(d, monitor) == before)
        except TimeoutError:
            raise AssertionError("%s before, %s now" % (before, held(d, monitor)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(WARM)))
        for _ in range(CALLS):
            d.cri.Version()
        settle()
        was = anonymous(d.process.pid), anonymous(monitor)
        for start in range(0, COUNT, 1000):
            list(pool.map(one, range(start, min(COUNT, start + 1000))))
            settle()
    grown = [now - then for now, then in zip((anonymous(d.process.pid), anonymous(monitor)), was)]
    print("%d sessions; the daemon and the monitor have grown by %s kB" % (COUNT, grown))
    assert max(grown) <= GROWTH, grown
