# SPDX-License-Identifier: Apache-2.0
"""Exec, attach and port-forward as clients have them: over SPDY/3.1 and WebSocket, through the real
daemon, stream program and monitors (tests/lib/streaming.py)."""
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time

import pytest

import streaming
from cri import SLOW, api
from daemon import Daemon, at_rest, wait_for
from service import LARGE, Service
from streaming import V4, V5, Exec, Forward, ForwardChannels, Gone, Refused, exit_code

BASE64 = "base64.channel.k8s.io"
ALL = ["spdy", "spdy-windows", V4, V5, "v4.base64.channel.k8s.io"]
ENDING = ["spdy", "spdy-windows", V5]  # those in which a client can end its input
PROGRAM_MEMORY = 16 << 20  # of a gantry-stream, whatever goes through it


@pytest.fixture(autouse=True)
def all_closed(request):
    yield
    streaming.close_all()
    if "d" in request.fixturenames:
        d = request.getfixturevalue("d")
        wait_for(lambda: not programs(d))


@pytest.fixture
def ctr(d, pod):
    return d.run(pod, "exec sleep 100000")


def exec_url(d, c, *cmd, tty=False, stdin=True, stdout=True, stderr=True):
    cmd = ["sh", "-c", cmd[0]] if len(cmd) == 1 else list(cmd)
    return d.cri.Exec(container_id=c, cmd=cmd, tty=tty, stdin=stdin, stdout=stdout,
                      stderr=stderr and not tty).url


def start(d, c, *cmd, protocol="spdy", **kw):
    how = {k: kw.pop(k) for k in list(kw) if k in ("unix", "context", "rcvbuf", "versions")}
    return Exec(exec_url(d, c, *cmd, **kw), protocol, **kw, **how)


def attach(d, c, protocol="spdy", tty=False, stdin=False):
    url = d.cri.Attach(container_id=c, tty=tty, stdin=stdin, stdout=True, stderr=not tty).url
    return Exec(url, protocol, tty=tty, stdin=stdin)


def programs(d):
    """Processes gantry-stream of this daemon."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                name, rest = f.read().rsplit(")", 1)
        except OSError:
            continue
        if name.endswith("(gantry-stream") and int(rest.split()[1]) == d.process.pid \
                and rest.split()[0] != "Z":
            found.append(int(pid))
    return found


def memory(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) << 10


def is_bounded(d, pid):
    """AddressSanitizer keeps what was freed: there the figure says nothing."""
    return memory(pid) < PROGRAM_MEMORY or d.sanitized()


def processes(d, c):
    return d.exec(c, "ps", "-o", "args").stdout.decode()


def comes_to_rest(what):
    """The value once it has not changed for a while: there is no event of nothing happening."""
    seen = []

    def rests():
        seen.append(what())
        return len(seen) > 20 and len(set(seen[-20:])) == 1
    wait_for(rests, timeout=60, every=0.02)
    return seen[-1]


# --- exec ---

@pytest.mark.parametrize("protocol", ALL)
def test_output_and_status(d, ctr, protocol):
    s = start(d, ctr, "echo out; echo err >&2; exit 7", protocol=protocol, stdin=False)
    status = s.finish()
    assert (bytes(s.stdout.data), bytes(s.stderr.data)) == (b"out\n", b"err\n")
    assert exit_code(status) == 7 and status["status"] == "Failure" and "7" in status["message"]
    s = start(d, ctr, "true", protocol=protocol)
    assert s.finish()["status"] == "Success"
    s = start(d, ctr, "kill -9 $$", protocol=protocol)
    assert s.code() == 137
    wait_for(lambda: not programs(d))


@pytest.mark.parametrize("version,said", [
    ((V4, "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"), V4),
    (("v3.channel.k8s.io", "v2.channel.k8s.io"), "v3.channel.k8s.io"),
    (("channel.k8s.io",), "channel.k8s.io")])
def test_older_versions_of_the_protocol(d, ctr, version, said):
    """Before the fourth one a failure is a sentence, and nothing says the exit code."""
    s = start(d, ctr, "echo o; exit 3", versions=version)
    assert s.version == said
    s.pump(lambda: s.stdout.over and s.error.over)
    assert s.stdout.data == b"o\n"
    assert (exit_code(s.status()) == 3) if said == V4 else b"3" in s.error.data


@pytest.mark.parametrize("protocol", ENDING)
def test_the_end_of_input_ends_cat(d, ctr, protocol):
    s = start(d, ctr, "cat; echo over", protocol=protocol)
    s.stdin.write(b"one\n")
    s.expect(b"one\n")
    s.stdin.write(b"two")
    s.stdin.end()
    assert s.code() == 0
    assert s.stdout.data == b"twoover\n"


@pytest.mark.parametrize("protocol", ["spdy", V4, V5])
def test_a_terminal_and_its_size(d, ctr, protocol):
    s = start(d, ctr, "echo ready; while :; do read x && echo got $x && stty size; done",
              protocol=protocol, tty=True)
    s.expect("ready\r\n")
    s.resize(91, 33)
    s.stdin.write(b"a\n")
    s.expect("33 91\r\n")
    s.stdin.write(b"c\n")
    s.expect("c\r\n")  # it echoes
    s.expect("got c\r\n")
    s.resize(120, 7)
    s.stdin.write(b"d\n")
    s.expect("7 120\r\n")
    s.stdin.write(b"\x03")  # ctrl-c: SIGINT for the shell
    assert s.code() == 130


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_size_that_comes_first(d, ctr, protocol):
    """Clients say it as soon as there is a stream: the command has it when it looks, soon."""
    s = start(d, ctr, "until test \"$(stty size)\" = '44 132'; do sleep 0.02; done", tty=True,
              protocol=protocol)
    s.resize(132, 44)
    assert s.code() == 0


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_size_is_there_from_the_first_moment_on(d, protocol):
    """crun 1.8 passes over the size of an exec's terminal; there it comes soon (see above)."""
    if not shutil.which("runc", path="/usr/sbin:/usr/bin"):
        pytest.skip("no runc on this machine")
    pod = d.run_pod(name="runc", handler="runc")
    c = d.run(pod, "exec sleep 100000")
    for _ in range(3):
        s = start(d, c, "stty size", protocol=protocol, tty=True)
        s.resize(132, 44)
        assert s.code() == 0 and s.stdout.data == b"44 132\r\n"
    # nobody says one: it is started all the same
    assert start(d, c, "exit 5", protocol=protocol, tty=True).code() == 5
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_sizes_that_are_none(d, ctr, protocol):
    s = start(d, ctr, "read x; stty size", protocol=protocol, tty=True)
    for text in (b"x", b"{", b"[]", b"{}", b'{"Width":-1,"Height":5}', b'{"Width":70000,"Height":5}',
                 b"\0" * 2000, b'{"Width":"1"}'):
        s.size.write(text)
    s.stdin.write(b"\n")
    try:
        status = s.finish()
        assert status["status"] == "Success" or "size" in str(status).lower(), status
    except (Gone, ValueError):
        pass  # ended for it
    assert start(d, ctr, "exit 4").code() == 4


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_what_cannot_be_executed(d, ctr, protocol):
    d.exec(ctr, "touch /tmp/plain")
    for cmd, said in ((["/nonexistent"], "no such file"), (["/tmp/plain"], "permission denied"),
                      (["nonexistent"], "nonexistent")):
        s = start(d, ctr, *cmd, "x", protocol=protocol)
        status = s.finish()
        assert status["status"] == "Failure" and said in status["message"].lower(), status
        assert "details" not in status or not status["details"].get("causes")


def test_streams_that_were_not_asked_for(d, ctr):
    s = start(d, ctr, "echo out; echo err >&2", stdin=False, stdout=False)
    assert s.code() == 0 and s.stderr.data == b"err\n"
    # WebSocket has the channels all the same: they stay empty
    s = start(d, ctr, "echo out; echo err >&2", stdin=False, stderr=False, protocol=V5)
    assert s.code() == 0 and (s.stdout.data, s.stderr.data) == (b"out\n", b"")


def test_output_comes_as_it_is_made(d, ctr):
    s = start(d, ctr, "for i in 1 2 3; do echo -n $i; read x; done")
    for i in "123":
        s.expect(i)
        s.stdin.write(b"\n")
    assert s.code() == 0


def test_a_child_that_keeps_the_output_open(d, ctr):
    """The command has ended: so has the session."""
    s = start(d, ctr, "sleep 3333 & echo done")
    assert s.code() == 0 and s.stdout.data == b"done\n"


def test_many_sessions_at_once(d, ctr):
    many = [start(d, ctr, "read x; echo $x; exit %d" % (i % 50), protocol=ALL[i % len(ALL)])
            for i in range(40)]
    for i, s in enumerate(many):
        s.stdin.write(b"line %d\n" % i)
    for i, s in enumerate(many):
        assert s.code() == i % 50
        assert s.stdout.data == b"line %d\n" % i
    wait_for(lambda: not programs(d))


def test_pings_are_answered(d, ctr):
    s = start(d, ctr, "sleep 1000")
    s.t.ping(1)
    s.t.ping(3)
    s.t.close()
    s = start(d, ctr, "sleep 1000", protocol=V5)
    s.t.frame(9, b"are you there")
    s.pump(lambda: s.t.got_pong == [b"are you there"])
    s.t.close()
    wait_for(lambda: not programs(d))


# --- bytes, many of them ---

def block(n=1 << 20):
    return os.urandom(n)


@pytest.mark.parametrize("protocol", ENDING)
def test_large_transfers_both_ways(d, ctr, protocol):
    s = start(d, ctr, "cat", protocol=protocol)
    s.stdout.digest, sent, piece = hashlib.sha256(), hashlib.sha256(), block()
    for _ in range(LARGE // len(piece)):
        sent.update(piece)
        s.stdin.write(piece)
        s.pump(lambda: s.t.queued() < 4 << 20, timeout=60)
    s.stdin.end()
    assert s.code(timeout=60) == 0
    assert s.stdout.n == LARGE and s.stdout.digest.digest() == sent.digest()


@pytest.mark.parametrize("protocol", ["spdy", "spdy-windows", V5])
def test_a_slow_reader_holds_the_command_up(d, ctr, protocol):
    s = start(d, ctr, "for i in $(seq 512); do head -c 65536 /dev/zero; echo $i >/tmp/n; done; "
              "echo end >&2", protocol=protocol, rcvbuf=65536)
    pid, = programs(d)

    def written():
        return int(d.exec(ctr, "cat /tmp/n 2>/dev/null").stdout or 0) << 16
    wait_for(written)
    assert comes_to_rest(written) < 24 << 20  # pipe, program and sockets are full
    assert is_bounded(d, pid)
    s.stdout.digest = hashlib.sha256()
    assert s.code(timeout=60) == 0
    assert s.stdout.n == 512 << 16 and s.stderr.data == b"end\n"
    assert s.stdout.digest.digest() == hashlib.sha256(bytes(512 << 16)).digest()


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_a_slow_command_holds_the_client_up(d, ctr, protocol):
    s = start(d, ctr, "until test -e /tmp/go; do sleep 0.05; done; sha256sum", protocol=protocol)
    pid, = programs(d)
    data = block() * (LARGE >> 20)
    s.stdin.write(data)
    left = comes_to_rest(lambda: (s.t.turn(), s.t.queued())[1])
    assert left > LARGE // 4, "most of it waits here"
    assert is_bounded(d, pid)
    d.exec(ctr, "touch /tmp/go")
    s.stdin.end()
    assert s.code(timeout=60) == 0
    assert s.stdout.data.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_large_message_of_many_fragments(d, ctr):
    s = start(d, ctr, "sha256sum", protocol=V5)
    data = block(3 << 20)
    body = b"\0" + data
    pieces = [body[i:i + 70000] for i in range(0, len(body), 70000)]
    for i, p in enumerate(pieces):
        s.t.frame(streaming.BINARY if i == 0 else 0, p, fin=i == len(pieces) - 1)
        if i % 10 == 0:
            s.t.frame(9, b"%d" % i)
    s.stdin.end()
    assert s.code() == 0
    assert s.stdout.data.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert len(s.t.got_pong) == (len(pieces) + 9) // 10


# --- ends ---

@pytest.mark.parametrize("protocol", ["spdy", V5])
@pytest.mark.parametrize("tty", [False, True])
def test_a_client_that_breaks_off(d, ctr, protocol, tty):
    s = start(d, ctr, "trap '' HUP; sleep 4321 & (sleep 4322; true) & echo ready; sleep 4323",
              protocol=protocol, tty=tty)
    s.expect("ready")
    wait_for(lambda: all(w in processes(d, ctr) for w in ("4321", "4322", "4323")))
    s.t.wire.reset()
    wait_for(lambda: "432" not in processes(d, ctr))
    wait_for(lambda: not programs(d))


def test_a_client_that_does_not_read_and_breaks_off(d, ctr):
    s = start(d, ctr, "cat /dev/zero", rcvbuf=65536)
    pid, = programs(d)
    s.pump(lambda: s.stdout.n)
    s.t.wire.reset()
    wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    wait_for(lambda: "cat" not in processes(d, ctr))


def test_a_client_that_says_goodbye(d, ctr):
    for protocol in ("spdy", V5):
        s = start(d, ctr, "sleep 4321", protocol=protocol)
        s.t.close()
        wait_for(lambda: "4321" not in processes(d, ctr))


def test_the_stream_program_dies(d, ctr):
    s = start(d, ctr, "sleep 4321", protocol=V5)
    pid, = programs(d)
    os.kill(pid, 9)
    s.t.until_closed()
    assert s.t.wire.closed
    wait_for(lambda: "4321" not in processes(d, ctr))


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_the_container_ends_under_a_session(d, pod, protocol):
    c = d.run(pod, "exec sleep 100000", name="e")
    s = start(d, c, "echo ready; sleep 1000", protocol=protocol)
    s.expect("ready\n")
    d.cri.StopContainer(container_id=c)
    status = s.finish()
    assert status["status"] == "Failure" and status["message"], status
    c = d.run(pod, "exec sleep 100000", name="r")
    s = start(d, c, "echo ready; sleep 1000", protocol=protocol)
    s.expect("ready\n")
    d.cri.RemoveContainer(container_id=c)
    assert s.finish()["status"] == "Failure"
    wait_for(lambda: not programs(d))


@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_the_daemon_is_killed_under_a_session(fresh, protocol):
    d = fresh
    c = d.run(d.run_pod(), "exec sleep 100000")
    s = start(d, c, "while read x; do echo got $x; done; exit 5", protocol=protocol)
    s.stdin.write(b"1\n")
    s.expect("got 1\n")
    d.kill()
    s.stdin.write(b"2\n")
    s.expect("got 2\n")
    d.start()
    s.stdin.write(b"3\n")
    s.expect("got 3\n")
    s.stdin.end()
    assert s.code() == 5
    assert start(d, c, "exit 6", protocol=protocol).code() == 6


# --- tokens, requests ---

def test_a_token_is_good_once(d, ctr):
    url = exec_url(d, ctr, "true")
    assert Exec(url).code() == 0
    for protocol in ("spdy", V5):
        with pytest.raises(Refused) as e:
            Exec(url, protocol)
        assert e.value.status == 404, e.value
    for bad in (url.replace("/exec/", "/attach/"), url + "x", url[:-4], re.sub("/exec/.*", "/exec/", url),
                re.sub("/exec/.*", "/nothing", url), re.sub("/exec/.*", "/", url)):
        with pytest.raises(Refused) as e:
            Exec(bad)
        assert e.value.status == 404, (bad, e.value)


def test_a_token_expires(archive):
    d = Daemon(env={"GANTRY_LIMIT": "stream-token-ms:%d" % (200 * SLOW)})
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "exec sleep 100000")
        url = exec_url(d, c, "true")
        end = time.monotonic() + 0.25 * SLOW
        wait_for(lambda: time.monotonic() > end)  # the time itself is what is waited for
        with pytest.raises(Refused) as e:
            Exec(url)
        assert e.value.status == 404
        assert start(d, c, "exit 3").code() == 3
    finally:
        d.close()


def ask(url, method="POST", path=None, headers=(), body=b"", unix=None):
    sock = streaming.connect(url, unix=unix)
    with sock:
        streaming.request(sock, method, path or "/" + url.split("/", 3)[3], headers, body)
        status, head, _ = streaming.read_answer(sock)
        return status, head


def test_wrong_requests(d, ctr):
    def url():
        return exec_url(d, ctr, "true")
    spdy = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", V4)]
    ws = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
          ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Protocol", V5)]
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "BREW"):
        assert ask(url(), method, headers=spdy)[0] in (400, 405, 501), method
    assert ask(url())[0] in (400, 426)  # no upgrade
    assert ask(url(), "GET")[0] in (400, 426)
    assert ask(url(), headers=[("Connection", "Upgrade"), ("Upgrade", "h2c")])[0] in (400, 426)
    no_version = [h for h in spdy if "Version" not in h[0]]
    assert ask(url(), headers=no_version)[0] == 400
    assert ask(url(), headers=no_version + [("X-Stream-Protocol-Version", "v9")])[0] == 403
    for wrong in (("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "short"),
                  ("Sec-WebSocket-Protocol", "v9.channel.k8s.io")):
        headers = [h for h in ws if h[0] != wrong[0]] + [wrong]
        status, head = ask(url(), "GET", headers=headers)
        assert status in (400, 403, 426), (wrong, status)
    # what would be read as two requests by somebody else is none
    assert ask(url(), headers=spdy + [("Content-Length", "5")], body=b"hello")[0] == 400
    assert ask(url(), headers=spdy + [("Transfer-Encoding", "chunked")])[0] == 400
    assert ask(url(), headers=[("X", "y" * 20000)])[0] in (400, 431)
    assert start(d, ctr, "exit 2").code() == 2
    wait_for(lambda: not programs(d))


def test_the_unix_socket_leads_to_the_same(d, ctr):
    unix = d.address + ".stream"
    assert start(d, ctr, "exit 9", unix=unix).code() == 9
    assert start(d, ctr, "exit 9", unix=unix, protocol=V5).code() == 9


def test_broken_frames_end_their_session_only(d, ctr):
    other = start(d, ctr, "read x; exit 5")
    for protocol, junk in ((V5, b"\xff" * 64), (V5, b"\x82\x05hello"), (V5, b"\x82\xff" + b"\x7f" * 40),
                           ("spdy", b"\x80\x03\xff\xff\0\xff\xff\xff"), ("spdy", b"\x80\x02\0\1\0\0\0\4aaaa"),
                           ("spdy", b"\x80\x03\0\1\0\0\0\x0c" + b"\0\0\0\x63" + b"\0" * 6 + b"zz")):
        s = start(d, ctr, "sleep 4321", protocol=protocol)
        s.t.wire.put(junk)
        s.t.wire.sock.setblocking(True)
        s.t.wire.sock.settimeout(20 * SLOW)
        try:
            while s.t.wire.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
    wait_for(lambda: "4321" not in processes(d, ctr))
    other.stdin.write(b"\n")
    assert other.code() == 5


# --- settings ---

def test_idle_sessions_and_too_many(archive):
    d = Daemon(config="streaming:\n  idle_timeout: %d\n  max_connections: 3\n" % SLOW)
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "exec sleep 100000")
        for protocol in ("spdy", V5):
            s = start(d, c, "sleep 1000", protocol=protocol)
            s.t.until_closed()
            assert s.t.wire.closed
        wait_for(lambda: "sleep 1000" not in processes(d, c).splitlines())
        wait_for(lambda: not programs(d))
        # one that is not idle goes on for longer than that
        s = start(d, c, "while read x; do echo $x; done; exit 5")
        end = time.monotonic() + 1.6 * SLOW
        while time.monotonic() < end:
            s.stdin.write(b"x\n")
            s.expect("x\n")
            time.sleep(0.1)
        more = [streaming.connect(exec_url(d, c, "true")) for _ in range(2)]
        with pytest.raises((Gone, ConnectionError)):
            start(d, c, "true")
        s.stdin.end()
        assert s.code() == 5
        for m in more:
            m.close()
        wait_for(lambda: not programs(d))
        assert start(d, c, "exit 6").code() == 6
    finally:
        d.close()


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_certificates(path):
    """ca, a server's for 127.0.0.1 and a client's, each NAME.crt and NAME.key."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test ca", cwd=path)
    for name, ext in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "keyUsage=digitalSignature")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name, cwd=path)
        with open(os.path.join(path, "ext"), "w") as f:
            f.write(ext + "\n")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", name + ".crt", "-days", "2", "-extfile", "ext", cwd=path)


def test_tls(archive, tmp_path):
    path = str(tmp_path)
    make_certificates(path)
    d = Daemon(config="streaming:\n  tls:\n    cert: %s/server.crt\n    key: %s/server.key\n"
               "    client_ca: %s/ca.crt\n" % (path, path, path))
    try:
        d.load(archive)
        c = d.run(d.run_pod(), "exec sleep 100000")
        context = ssl.create_default_context(cafile=path + "/ca.crt")
        context.load_cert_chain(path + "/client.crt", path + "/client.key")
        for protocol in ("spdy", V5):
            url = exec_url(d, c, "sha256sum")
            assert url.startswith("https://127.0.0.1:")
            s = Exec(url, protocol, context=context)
            data = block() * 8
            s.stdin.write(data)
            s.pump(lambda: not s.t.queued())
            s.stdin.end()
            assert s.code() == 0
            assert s.stdout.data.split()[0].decode() == hashlib.sha256(data).hexdigest()
        # a client without a certificate, and one that speaks no TLS, get nothing
        stranger = ssl.create_default_context(cafile=path + "/ca.crt")
        with pytest.raises((ssl.SSLError, ConnectionError, Gone)):
            Exec(exec_url(d, c, "true"), context=stranger)
        with pytest.raises((Gone, ConnectionError)):
            Exec(exec_url(d, c, "true"))
        # the local socket has permissions instead
        assert start(d, c, "exit 8", unix=d.address + ".stream", protocol=V5).code() == 8
        # new certificates need no restart
        os.mkdir(path + "/new")
        make_certificates(path + "/new")
        for f in ("ca.crt", "server.crt", "server.key"):
            os.replace(path + "/new/" + f, path + "/" + f)
        renewed = ssl.create_default_context(cafile=path + "/ca.crt")
        renewed.load_cert_chain(path + "/new/client.crt", path + "/new/client.key")
        assert start(d, c, "exit 7", context=renewed).code() == 7
        with pytest.raises((ssl.SSLError, ConnectionError, Gone)):
            Exec(exec_url(d, c, "true"), context=context)
    finally:
        d.close()


# --- attach ---

@pytest.mark.parametrize("protocol", ["spdy", V5])
def test_attach_input_output_and_end(d, pod, protocol):
    c = d.run(pod, "while read x; do echo got $x; echo to err $x >&2; done; exit 6", name="a",
              stdin=True)
    s = attach(d, c, protocol, stdin=True)
    s.stdin.write(b"1\n")
    s.expect("got 1\n")
    s.expect("to err 1\n", s.stderr)
    s.t.close()  # without stdin_once the container's input goes on
    s = attach(d, c, protocol, stdin=True)
    s.stdin.write(b"2\n")
    s.expect("got 2\n")
    d.cri.StopContainer(container_id=c, timeout=0)
    s.finish()
    assert d.read_log(d.status(c).log_path, "stdout") == "got 1\ngot 2\n"


@pytest.mark.parametrize("protocol", ENDING)
def test_attach_with_stdin_once(d, pod, protocol):
    """The end of the first client's input is the container's."""
    c = d.run(pod, "cat; exit 6", name="a", stdin=True, stdin_once=True)
    s = attach(d, c, protocol, stdin=True)
    s.stdin.write(b"all of it")
    s.stdin.end()
    s.finish()
    assert s.stdout.data == b"all of it"
    assert d.wait_exit(c).exit_code == 6
    # also where it goes without a word
    c = d.run(pod, "cat; exit 7", name="b", stdin=True, stdin_once=True)
    s = attach(d, c, protocol, stdin=True)
    s.t.close()
    assert d.wait_exit(c).exit_code == 7


def test_two_clients_and_the_log_have_all(d, pod):
    c = d.run(pod, "read x; i=0; while test $i -lt 2000; do echo line $i; i=$((i+1)); done", name="a",
              stdin=True)
    one, two = attach(d, c, "spdy", stdin=True), attach(d, c, V5)
    two.pump(lambda: two.t.seen)  # it is told that it is attached
    one.stdin.write(b"go\n")
    one.finish()
    two.finish()
    want = "".join("line %d\n" % i for i in range(2000))
    assert one.stdout.data.decode() == two.stdout.data.decode() == want
    d.wait_exit(c)
    assert d.read_log(d.status(c).log_path) == want


def test_a_slow_attached_client(d, pod):
    """Whatever it misses or holds up: the log is complete, and others get their part."""
    c = d.run(pod, "read x; dd if=/dev/zero bs=64k count=160 2>/dev/null | tr '\\0' 'x'; echo; echo end",
              name="a", stdin=True)
    url = d.cri.Attach(container_id=c, stdout=True).url
    slow = Exec(url, "spdy", stdin=False, stderr=False, rcvbuf=65536)
    quick = attach(d, c, V5, stdin=True)
    quick.stdin.write(b"go\n")
    slow.pump(lambda: slow.stdout.n)
    reader = threading.Thread(target=lambda: slow.finish(60))
    reader.start()
    quick.finish(60)
    reader.join()
    d.wait_exit(c, 60)
    assert len(d.read_log(d.status(c).log_path)) == (160 << 16) + 5
    assert quick.stdout.data.endswith(b"x\nend\n")


def test_attach_to_a_terminal(d, pod):
    c = d.run(pod, "stty size; while read x; do stty size; done", name="a", stdin=True, tty=True)
    s = attach(d, c, "spdy", tty=True, stdin=True)
    s.resize(77, 22)
    s.stdin.write(b"\n")
    s.expect("22 77\r\n")
    two = attach(d, c, V5, tty=True, stdin=True)
    two.resize(66, 11)
    two.stdin.write(b"\n")
    two.expect("11 66\r\n")
    s.expect("11 66\r\n")
    s.t.close()
    two.stdin.write(b"\x04")  # ctrl-d ends read
    two.finish()
    assert d.wait_exit(c).exit_code in (0, 1)


def test_attach_before_the_start_misses_nothing(d, pod):
    c = d.create(pod, "echo first; exit 3", name="a")
    s = attach(d, c, V5)
    s.pump(lambda: s.t.seen)  # the streams are joined
    d.cri.StartContainer(container_id=c)
    s.finish()
    assert s.stdout.data == b"first\n"


# --- port-forward ---

def pid_of(d, c):
    info = d.cri.ContainerStatus(container_id=c, verbose=True).info["info"]
    return json.loads(info)["pid"]


def forward_url(d, pod, *ports):
    return d.cri.PortForward(pod_sandbox_id=pod, port=ports).url


@pytest.mark.parametrize("protocol", ["spdy", "spdy-windows", "tunnel"])
def test_forward(d, pod, ctr, protocol):
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod, service.port), protocol)
        a, b = f.connect(service.port), f.connect(service.port)
        a.write(b"eone")
        b.write(b"etwo")
        f.pump(lambda: a.data == b"one" and b.data == b"two")
        a.end()  # the server's end follows
        f.pump(lambda: a.over and a.error.over)
        b.write(b"more")
        f.pump(lambda: b.data == b"twomore")
        c = f.connect(service.port)
        c.write(b"h" + b"x" * 1000)
        c.end()
        f.pump(lambda: c.over)
        assert c.data.decode() == hashlib.sha256(b"x" * 1000).hexdigest()
        assert not (a.error.data or b.error.data or c.error.data)
        f.t.close()
    wait_for(lambda: not programs(d))


@pytest.mark.parametrize("protocol", [V4, V5])
def test_forward_over_channels(d, pod, ctr, protocol):
    with Service(pid_of(d, ctr)) as one, Service(pid_of(d, ctr)) as two:
        f = ForwardChannels(forward_url(d, pod), [one.port, two.port], protocol)
        f.data(0).write(b"eone")
        f.data(1).write(b"etwo")
        f.pump(lambda: f.data(0).data == b"one" and f.data(1).data == b"two")
        if protocol == V5:  # there an end can be told, both ways
            f.data(0).end()
            f.pump(lambda: f.data(0).over)
            f.data(1).write(b"more")
            f.pump(lambda: f.data(1).data == b"twomore")
        f.t.close()
    wait_for(lambda: not programs(d))


def test_forward_to_nobody(d, pod, ctr):
    f = Forward(forward_url(d, pod))
    s = f.connect(9)
    f.pump(lambda: s.error.over and s.over)
    assert b"9" in s.error.data and b"refused" in s.error.data.lower(), s.error.data
    with Service(pid_of(d, ctr)) as service:  # the connection is good for others
        s = f.connect(service.port)
        s.write(b"ex")
        f.pump(lambda: s.data == b"x")
    f.t.close()
    f = ForwardChannels(forward_url(d, pod, 9), [9])
    f.pump(lambda: b"refused" in f.error().data.lower())
    f.t.until_closed()


def test_forward_of_ports_that_were_not_asked_for(d, pod, ctr):
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod, 80))
        s = f.connect(service.port)
        f.pump(lambda: s.error.over or s.was_reset)
        assert not s.n and s.error.data
        f.t.close()


def test_forward_to_the_hosts_network(d):
    ns = api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)
    pod = d.run_pod(name="host", namespaces=ns)
    with Service() as service:
        f = Forward(forward_url(d, pod))
        s = f.connect(service.port)
        s.write(b"ehost")
        f.pump(lambda: s.data == b"host")
        f.t.close()
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_forward_to_ipv6_alone(d, pod, ctr):
    with Service(pid_of(d, ctr), "::1") as service:
        f = Forward(forward_url(d, pod))
        s = f.connect(service.port)
        s.write(b"esix")
        f.pump(lambda: s.data == b"six" or s.error.data)
        assert s.data == b"six", s.error.data
        f.t.close()


def test_forward_fifty_connections(d, pod, ctr):
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod))
        many = [f.connect(service.port) for _ in range(50)]
        for i, s in enumerate(many):
            s.write(b"e" + b"%d" % i * 1000)
        f.pump(lambda: all(s.data == b"%d" % i * 1000 for i, s in enumerate(many)))
        for s in many:
            s.end()
        f.pump(lambda: all(s.over for s in many))
        again = f.connect(service.port)  # they count no more
        again.write(b"ex")
        f.pump(lambda: again.data == b"x")
        f.t.close()


@pytest.mark.parametrize("protocol", ["spdy", "spdy-windows", "tunnel"])
def test_forward_large_transfers(d, pod, ctr, protocol):
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod), protocol)
        down, up = f.connect(service.port), f.connect(service.port)
        pid, = programs(d)
        down.digest = hashlib.sha256()
        down.write(b"z")
        sent, piece = hashlib.sha256(), block()
        up.write(b"h")
        for _ in range(LARGE // len(piece)):
            sent.update(piece)
            up.write(piece)
            f.pump(lambda: f.t.queued() < 4 << 20, timeout=60)
        up.end()
        f.pump(lambda: up.over and down.over, timeout=60)
        assert down.n == LARGE and down.digest.digest() == hashlib.sha256(b"z" * LARGE).digest()
        assert up.data.decode() == sent.hexdigest()
        assert is_bounded(d, pid)
        f.t.close()


def test_forward_a_slow_connection_holds_up_no_other(d, pod, ctr):
    """With windows, which client-go does not have, each stream has a limit of its own."""
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod), "spdy-windows")
        slow, quick = f.connect(service.port), f.connect(service.port)
        f.t.hold = {slow.id}
        slow.write(b"z")
        f.pump(lambda: slow.n >= streaming.WINDOW)
        quick.write(b"equick")
        f.pump(lambda: quick.data == b"quick")
        assert slow.n == streaming.WINDOW
        f.t.close()


def test_forward_ends_with_its_pod(d):
    pod = d.run_pod(name="goes")
    c = d.run(pod, "exec sleep 100000")
    with Service(pid_of(d, c)) as service:
        f = Forward(forward_url(d, pod))
        s = f.connect(service.port)
        s.write(b"ex")
        f.pump(lambda: s.data == b"x")
        d.cri.StopPodSandbox(pod_sandbox_id=pod)
        f.t.until_closed()
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_forward_breaks_off(d, pod, ctr):
    with Service(pid_of(d, ctr)) as service:
        f = Forward(forward_url(d, pod))
        s = f.connect(service.port)
        s.write(b"z")
        f.pump(lambda: s.n)
        f.t.wire.reset()
        wait_for(lambda: not programs(d))


def test_nothing_is_left_of_many_sessions(d, ctr):
    """Descriptors, processes and memory of the daemon are what they were; the long run is
    tests/soak's."""
    def state():
        return len(os.listdir("/proc/%d/fd" % d.process.pid)), len(programs(d))
    for _ in range(3):
        start(d, ctr, "true").code()
    wait_for(lambda: not programs(d))
    before, rss = at_rest(state), memory(d.process.pid)
    for i in range(120):
        s = start(d, ctr, "true", protocol=("spdy", V5)[i % 2])
        if i % 3 == 2:
            s.t.wire.reset()
        else:
            s.code()
    wait_for(lambda: not programs(d))
    wait_for(lambda: state() == before)
    assert memory(d.process.pid) - rss < 1 << 20 or d.sanitized()
