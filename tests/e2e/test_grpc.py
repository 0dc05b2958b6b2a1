# SPDX-License-Identifier: Apache-2.0
"""CRI's transport: what gRPC clients send, what broken ones send, and its limits."""
import concurrent.futures
import os
import random
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import time

import grpc
import pytest

import http2
from cri import GANTRY, IMAGE, MAX, RUNTIME, SLOW, Client, api
from daemon import Daemon, processes_with, wait_for
from http2 import Connection, message

VERSION = "/runtime.v1.RuntimeService/Version"
POD_STATUS = "/runtime.v1.RuntimeService/PodSandboxStatus"
CONNECTIONS_MAX = 512
CODE = grpc.StatusCode

# A network plugin that never comes to an end of ADD and says what it was asked for.
SLOW_PLUGIN = """#!/bin/sh
[ $CNI_COMMAND != ADD ] || echo $$ >> %(dir)s/pids
echo $CNI_COMMAND >> %(dir)s/asked
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD) exec sleep 300 ;;
esac
"""


@pytest.fixture(scope="module")
def g():
    """A daemon without images: for what needs none."""
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def slow():
    """A daemon whose pods never get their network; at most 16 requests at once."""
    daemon = Daemon(start=False)
    for sub in ("cni", "bin"):
        os.mkdir(daemon.dir + "/" + sub)
    with open(daemon.dir + "/bin/slow", "w") as f:
        f.write(SLOW_PLUGIN % {"dir": daemon.dir})
    os.chmod(daemon.dir + "/bin/slow", 0o755)
    with open(daemon.dir + "/cni/10-slow.conflist", "w") as f:
        f.write('{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"slow"}]}')
    daemon.set_config("cni:\n  conf_dir: %s/cni\n  bin_dirs: [%s/bin]\n  netns_dir: %s/netns\n"
                      "limits:\n  max_requests: 16\n" % ((daemon.dir,) * 3))
    daemon.start()
    # a pod waits for the probes of the runtimes: they are no part of what is measured
    wait_for(lambda: len(re.findall(r"runtime \w+(: \S+ works| is not)", daemon.log_text())) == 2)
    yield daemon
    daemon.close()


def alive(d):
    with Connection(d.address) as c:
        assert c.call(VERSION).status == 0


def small(d, mib=64):
    """The daemon's memory is below that; sanitizers keep freed memory for a while."""
    if d.sanitized():
        mib = 3 * mib + 300
    with open("/proc/%d/status" % d.process.pid) as f:
        return int(next(x for x in f if x.startswith("VmRSS")).split()[1]) < mib << 10


def descriptors(d):
    return len(os.listdir("/proc/%d/fd" % d.process.pid))


def code_of(call, *args, **kw):
    with pytest.raises(grpc.RpcError) as e:
        call(*args, **kw)
    return e.value.code()


# --- what is asked ---

@pytest.mark.parametrize("authority", ["localhost", "%2Frun%2Fgantry%2Fgantry.sock",
                                       "/run/gantry/gantry.sock", "unix:/run/x", "", None])
def test_authority(g, authority):
    with Connection(g.address) as c:
        r = c.call(VERSION, changes={":authority": authority})
        assert (r.get(":status"), r.status) == ("200", 0)
        v = api.VersionResponse.FromString(r.body[5:])
        assert v.runtime_name == "gantry"


def test_authority_of_grpcio(g):
    for authority in ("localhost", "%2Fx.sock", "a.b:1"):
        c = Client(g.address, [("grpc.default_authority", authority)])
        assert c.Version().runtime_api_version == "v1"
        c.close()


@pytest.mark.parametrize("changes, http, code", [
    ({":method": "GET"}, "405", CODE.INTERNAL),
    ({":method": None}, "405", CODE.INTERNAL),
    ({"content-type": "text/plain"}, "415", CODE.INVALID_ARGUMENT),
    ({"content-type": "application/grpc-web"}, "415", CODE.INVALID_ARGUMENT),
    ({"content-type": "application/grpc+json"}, "415", CODE.INVALID_ARGUMENT),
    ({"content-type": None}, "415", CODE.INVALID_ARGUMENT),
    ({"content-type": "application/grpc+proto"}, "200", CODE.OK),
    ({"content-type": "application/grpc; charset=utf-8"}, "200", CODE.OK),
    ({"te": None}, "200", CODE.INVALID_ARGUMENT),
    ({"te": "gzip"}, "200", CODE.INVALID_ARGUMENT),
    ({":path": None}, "200", CODE.UNIMPLEMENTED),
    ({":path": ""}, "200", CODE.UNIMPLEMENTED),
    ({":path": "*"}, "200", CODE.UNIMPLEMENTED),
    ({":path": "/" + "x" * 5000}, "200", CODE.UNIMPLEMENTED),
    ({":path": VERSION + "\0"}, "200", CODE.UNIMPLEMENTED),
    ({":path": VERSION[1:]}, "200", CODE.UNIMPLEMENTED),
    ({":path": VERSION + "/"}, "200", CODE.UNIMPLEMENTED),
    ({":path": VERSION.lower()}, "200", CODE.UNIMPLEMENTED),
    ({"grpc-encoding": "gzip"}, "200", CODE.UNIMPLEMENTED),
    ({"grpc-encoding": "identity"}, "200", CODE.OK),
    ({"grpc-timeout": "20S"}, "200", CODE.OK),
    ({"grpc-timeout": "99999999H"}, "200", CODE.OK),
    ({"grpc-timeout": "0n"}, "200", CODE.DEADLINE_EXCEEDED),
    ({"grpc-timeout": "1"}, "200", CODE.INVALID_ARGUMENT),
    ({"grpc-timeout": "-1S"}, "200", CODE.INVALID_ARGUMENT),
    ({"grpc-timeout": "100000000S"}, "200", CODE.INVALID_ARGUMENT),
    ({"x-anything": "else"}, "200", CODE.OK),
    ({"x-long": "y" * 15000}, "200", CODE.OK),
    ({"x-long": "y" * 9000, "x-longer": "z" * 9000}, "431", CODE.RESOURCE_EXHAUSTED),
    ({"x-%d" % i: "y" for i in range(500)}, "431", CODE.RESOURCE_EXHAUSTED),
])
def test_headers(g, changes, http, code):
    with Connection(g.address) as c:
        r = c.call(VERSION, changes=changes)
        assert (r.get(":status"), r.status) == (http, code.value[0])
        assert r.get("content-type") == "application/grpc"
        if code != CODE.OK:
            assert r.get("grpc-message") and r.body == b""
        if "grpc-encoding" in changes and code != CODE.OK:
            assert r.get("grpc-accept-encoding") == "identity"
        assert c.call(VERSION).status == 0  # the connection is none the worse


@pytest.mark.parametrize("body, code", [
    (b"", CODE.INVALID_ARGUMENT),
    (b"\0\0", CODE.INVALID_ARGUMENT),
    (message(b"", length=5), CODE.INVALID_ARGUMENT),
    (message(b"", length=0xffffffff), CODE.INVALID_ARGUMENT),
    (message(b"") + message(b""), CODE.INVALID_ARGUMENT),
    (message(b"\xff\xff\xff"), CODE.INVALID_ARGUMENT),
    (message(b"", compressed=1), CODE.INTERNAL),
    (message(b"", compressed=255), CODE.INTERNAL),
])
def test_bodies(g, body, code):
    with Connection(g.address) as c:
        assert c.call(VERSION, body).status == code.value[0]
        assert c.call(VERSION).status == 0


def test_trailers_of_a_request_change_nothing(g):
    with Connection(g.address) as c:
        s = c.start(VERSION, message(b""), end=False)
        block = c.encoder.encode([(":path", POD_STATUS), ("te", "no")])
        c.send(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, s, block)
        r = c.wait(s)
        assert r.status == 0
        assert api.VersionResponse.FromString(r.body[5:]).runtime_name == "gantry"


WRITTEN = set("""Version RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox
CreateContainer StartContainer StopContainer RemoveContainer ListContainers ContainerStatus
UpdateContainerResources UpdatePodSandboxResources CheckpointContainer ReopenContainerLog ExecSync ContainerStats ListContainerStats
PodSandboxStats ListPodSandboxStats UpdateRuntimeConfig Status RuntimeConfig
ListImages ImageStatus PullImage RemoveImage ImageFsInfo
StreamPodSandboxes StreamContainers StreamContainerStats StreamPodSandboxStats
StreamImages GetContainerEvents Exec Attach PortForward
ListMetricDescriptors ListPodSandboxMetrics StreamPodSandboxMetrics CheckpointContainer""".split())


def test_methods(g):
    """What is written is there, what is not answers UNIMPLEMENTED, streams too."""
    with Connection(g.address) as c:
        for service in (RUNTIME, IMAGE):
            for m in service.methods:
                # events go on until the caller has enough
                more = {"grpc-timeout": "200m"} if m.name == "GetContainerEvents" else None
                r = c.call("/%s/%s" % (service.full_name, m.name), changes=more)
                there = r.status != CODE.UNIMPLEMENTED.value[0]
                assert there == (m.name in WRITTEN), m.name
                if not there:
                    assert m.name in r.get("grpc-message")
        for path in ("/runtime.v1.RuntimeService/Nothing", "/runtime.v1alpha2.RuntimeService/Version",
                     "/grpc.health.v1.Health/Check"):
            assert c.call(path).status == CODE.UNIMPLEMENTED.value[0]
    assert GANTRY.methods


def test_streamed_lists(d):
    """The same items in the same order, in as many messages as it takes."""
    pods = [d.run_pod(name="s%d" % i, annotations={"much": "x" * 50000}, labels={"i": str(i % 2)})
            for i in range(4)]
    for p in pods:
        d.run(p, "sleep 1000", annotations={"much": "y" * 50000})
    try:
        for listed, streamed, field, one in (
                ("ListPodSandbox", "StreamPodSandboxes", "items", "pod_sandboxes"),
                ("ListContainers", "StreamContainers", "containers", "containers"),
                ("ListContainerStats", "StreamContainerStats", "stats", "container_stats"),
                ("ListPodSandboxStats", "StreamPodSandboxStats", "stats", "pod_sandbox_stats"),
                ("ListPodSandboxMetrics", "StreamPodSandboxMetrics", "pod_metrics",
                 "pod_sandbox_metrics"),
                ("ListImages", "StreamImages", "images", "images")):
            messages = list(getattr(d.cri, streamed)())
            want = getattr(getattr(d.cri, listed)(), field)
            got = [x for m in messages for x in getattr(m, one)]
            if "Stats" in listed:
                assert [x.attributes.id for x in got] == [x.attributes.id for x in want]
            elif "Metrics" in listed:
                assert [x.pod_sandbox_id for x in got] == [x.pod_sandbox_id for x in want]
                assert all(x.container_metrics for x in got)
            else:
                assert got == list(want)
            assert len(messages) > 1 or listed in ("ListImages", "ListPodSandboxMetrics")
            assert len(got) >= (1 if listed == "ListImages" else 4)
        some = d.cri.StreamPodSandboxes(
            filter=api.PodSandboxFilter(label_selector={"i": "1"}))
        assert sorted(x.id for m in some for x in m.pod_sandboxes) == sorted(pods[1::2])
        none = d.cri.StreamContainers(filter=api.ContainerFilter(id="nothing"))
        assert list(none) == []
    finally:
        for p in pods:
            d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_message_is_percent_encoded(g):
    name = "not \"there\" \u00e4 100%\n"
    with Connection(g.address) as c:
        q = api.PodSandboxStatusRequest(pod_sandbox_id=name).SerializeToString()
        r = c.call(POD_STATUS, message(q))
        assert r.status == CODE.NOT_FOUND.value[0]
        raw = r.get("grpc-message")
        assert all(" " <= x <= "~" for x in raw)
        assert "\"there\" %C3%A4 100%25%0A" in raw
    with pytest.raises(grpc.RpcError) as e:
        g.cri.PodSandboxStatus(pod_sandbox_id=name)
    assert name in e.value.details()


# --- sizes ---

def test_largest_request(g):
    q = api.PodSandboxStatusRequest(pod_sandbox_id="x" * (MAX - 5))
    assert len(q.SerializeToString()) == MAX
    assert code_of(g.cri.PodSandboxStatus, q) == CODE.NOT_FOUND
    q.pod_sandbox_id += "x"
    for _ in range(3):
        assert code_of(g.cri.PodSandboxStatus, q) == CODE.RESOURCE_EXHAUSTED
        assert g.cri.Version().runtime_name == "gantry"  # on the same connection
    q.pod_sandbox_id = "x" * (3 * MAX // 2)
    assert code_of(g.cri.PodSandboxStatus, q) == CODE.RESOURCE_EXHAUSTED
    assert g.cri.Version().runtime_name == "gantry"


def test_largest_reply(d, pod):
    """What fits into a message is answered whole; of more, as much as fits."""
    c = d.run(pod, "sleep 1000")
    n = MAX - 65536
    out = d.exec(c, "head -c %d /dev/zero" % n, timeout=30)
    assert (len(out.stdout), out.exit_code) == (n, 0)
    out = d.exec(c, "head -c %d /dev/zero; head -c %d /dev/zero >&2" % (n, n), timeout=30)
    assert n <= len(out.stdout) + len(out.stderr) < MAX
    assert d.exec(c, "echo still here").stdout == b"still here\n"


def test_memory_of_requests_is_bounded(g):
    """Half requests of 16 MiB each, on many streams: they are refused, not kept."""
    with Connection(g.address) as c:
        part = b"\0" * (MAX - 100)
        for _ in range(24):  # 384 MiB
            s = c.start(POD_STATUS, message(part, length=MAX - 1), end=False)
            while True:  # what the server grants of windows is read on the way
                c.socket.settimeout(0.001)
                try:
                    c.read()
                except socket.timeout:
                    break
            c.socket.settimeout(30)
        c.send(http2.DATA, http2.END_STREAM, s, b"")
        assert c.wait(s).status == CODE.RESOURCE_EXHAUSTED.value[0]
        assert small(g, 400)
    wait_for(lambda: small(g))
    alive(g)


def test_config_that_grows(d, pod):
    """Control characters become six times as long in config.json."""
    word = "\1" * 131000
    c = d.container_config(["true"] + [word] * 8)
    ctr = d.create(pod, config=c)
    d.cri.RemoveContainer(container_id=ctr)
    c.command.extend([word] * 9)
    assert code_of(d.create, pod, config=c) == CODE.INVALID_ARGUMENT


# --- deadlines and cancellation ---

def asked(d):
    try:
        with open(d.dir + "/asked") as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def undone(d):
    """The plugin is dead, DEL was called, nothing of the pod is there."""
    with open(d.dir + "/pids") as f:
        pids = f.read().split()
    wait_for(lambda: asked(d).count("DEL") >= len(pids) and
             not any(os.path.exists("/proc/" + p) for p in pids))
    wait_for(lambda: not os.listdir(d.state + "/pods") and not os.listdir(d.dir + "/netns"))
    assert not d.cri.ListPodSandbox().items


def test_deadline_undoes(slow):
    start = time.monotonic()
    config = slow.pod_config()
    assert code_of(slow.cri.RunPodSandbox, config=config, rpc_timeout=SLOW) == CODE.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 5 * SLOW
    undone(slow)


def test_deadline_is_the_servers_too(slow):
    """A client that does not give up by itself is told."""
    with Connection(slow.address) as c:
        q = api.RunPodSandboxRequest(config=slow.pod_config()).SerializeToString()
        r = c.call("/runtime.v1.RuntimeService/RunPodSandbox", message(q), {"grpc-timeout": "%dm" % (1000 * SLOW)})
        assert r.status == CODE.DEADLINE_EXCEEDED.value[0]
    undone(slow)


def test_cancel_undoes(slow):
    f = slow.cri.RunPodSandbox.future(config=slow.pod_config())
    wait_for(lambda: "ADD" in asked(slow))
    f.cancel()
    undone(slow)


def test_lost_client_undoes(slow):
    with Connection(slow.address) as c:
        q = api.RunPodSandboxRequest(config=slow.pod_config()).SerializeToString()
        c.start("/runtime.v1.RuntimeService/RunPodSandbox", message(q))
        wait_for(lambda: "ADD" in asked(slow))
    undone(slow)


def test_cancelled_exec_is_killed(d, pod):
    c = d.run(pod, "sleep 1000")
    f = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "7654"])
    wait_for(lambda: b"7654" in d.exec(c, "ps").stdout)
    f.cancel()
    wait_for(lambda: b"7654" not in d.exec(c, "ps").stdout)


# --- limits ---

def test_requests_in_flight(slow):
    calls = [slow.cri.RunPodSandbox.future(config=slow.pod_config("p%d" % i)) for i in range(16)]
    wait_for(lambda: asked(slow).count("ADD") == 16)
    assert code_of(slow.cri.Version) == CODE.RESOURCE_EXHAUSTED
    for f in calls:
        f.cancel()
    undone(slow)
    wait_for(lambda: Client(slow.address).Version())


def test_unread_replies_count(slow):
    """Replies that their client does not read count as requests in flight, on any connection."""
    with Connection(slow.address, [(http2.INITIAL_WINDOW_SIZE, 0)]) as c:
        streams = [c.start(VERSION) for _ in range(16)]
        with Connection(slow.address) as other:
            wait_for(lambda: other.call(VERSION).status == CODE.RESOURCE_EXHAUSTED.value[0])
            for s in streams:
                c.send(http2.WINDOW_UPDATE, 0, s, struct.pack(">I", 1000))
            assert all(c.wait(s).status == 0 for s in streams)
            assert other.call(VERSION).status == 0


def test_streams_of_a_connection(g):
    """The named limit is announced, and a stream above it refused."""
    with Connection(g.address) as c:
        kind, flags, _, payload = c.read()
        assert kind == http2.SETTINGS
        limit = dict(struct.unpack(">HI", payload[i:i + 6]) for i in range(0, len(payload), 6))[
            http2.MAX_CONCURRENT_STREAMS]
        assert limit == 1024
        for _ in range(limit):
            last = c.start(VERSION, b"", end=False)
        over = c.start(VERSION, b"", end=False)
        try:
            assert c.wait(over).reset == http2.REFUSED_STREAM
        except ConnectionError:
            assert c.goaway  # the limit was acknowledged: a protocol error
        else:
            c.send(http2.DATA, http2.END_STREAM, last, message(b""))
            assert c.wait(last).status == 0
    alive(g)


def test_idle_connections(g):
    """More than there may be: those idle longest make room, the new ones are served."""
    busy = Connection(g.address)
    half = busy.start(VERSION, message(b""), end=False)
    idle = [Connection(g.address) for _ in range(3 * CONNECTIONS_MAX)]
    alive(g)
    assert descriptors(g) < CONNECTIONS_MAX + 100
    busy.send(http2.DATA, http2.END_STREAM, half, b"")  # a call in the making is not idle
    assert busy.wait(half).status == 0
    idle[0].read_to_end()
    assert idle[-1].call(VERSION).status == 0
    for c in idle + [busy]:
        c.socket.close()
    wait_for(lambda: descriptors(g) < 50)


def test_no_descriptors_left(archive):
    """Out of descriptors, the daemon neither spins nor dies, and comes back by itself."""
    daemon = Daemon(start=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    daemon.start()
    try:
        alive(daemon)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (48, hard))
        held = [Connection(daemon.address) for _ in range(60)]
        for c in held[:40]:
            try:
                c.start(VERSION, message(b""), end=False)  # not idle: may not be closed for others
            except OSError:
                pass

        def cpu():
            with open("/proc/%d/stat" % daemon.process.pid) as f:
                x = f.read().rsplit(")", 1)[1].split()
            return int(x[11]) + int(x[12])
        before = cpu()
        time.sleep(1)  # what is measured: ticks used in a second of nothing
        assert cpu() - before < 30
        for c in held:
            c.socket.close()
        wait_for(lambda: alive(daemon) is None)
    finally:
        daemon.close()


# --- broken and hostile peers ---

def test_pings_that_nobody_reads(g):
    with Connection(g.address) as c:
        burst = http2.frame(http2.PING, payload=b"12345678") * 4096
        c.socket.settimeout(0.5)
        sent = 0
        try:
            for _ in range(200):  # 14 MB
                c.socket.sendall(burst)
                sent += 4096
        except socket.timeout:
            pass  # it is read no further
        assert sent < 200 * 4096
        alive(g)
        assert small(g)
        c.socket.settimeout(20)
        while c.acks < sent:  # what it had read, it answers
            c.read()


def test_pings_that_are_read(g):
    with Connection(g.address) as c:
        for _ in range(50):
            c.socket.sendall(http2.frame(http2.PING, payload=b"12345678") * 500)
            want = c.acks + 500
            while c.acks < want:
                c.read()
        assert c.call(VERSION).status == 0


def test_resets(g):
    """Calls that are reset at once, many times: no call is left, the connection goes on."""
    with Connection(g.address) as c:
        for _ in range(20):
            out = b""
            for _ in range(500):
                s = c.next_stream
                c.next_stream += 2
                block = c.encoder.encode(c.request_headers(VERSION))
                out += http2.frame(http2.HEADERS, http2.END_HEADERS, s, block)
                out += http2.frame(http2.DATA, http2.END_STREAM, s, message(b""))
                out += http2.frame(http2.RST_STREAM, 0, s, struct.pack(">I", http2.CANCEL))
            c.socket.sendall(out)
            assert c.call(VERSION).status == 0
    assert small(g)
    alive(g)


def test_settings_flood(g):
    with Connection(g.address) as c:
        c.socket.settimeout(0.5)
        try:
            for _ in range(400):
                c.socket.sendall(http2.frame(http2.SETTINGS) * 4096)
        except (socket.timeout, ConnectionError):
            pass
    assert small(g)
    alive(g)


def test_endless_headers(g):
    """One header block that does not end, and one that is too long."""
    for flags in (0, http2.END_HEADERS):
        with Connection(g.address) as c:
            block = c.encoder.encode(c.request_headers(VERSION, {"x-long": "y" * 12000}))
            try:
                c.send(http2.HEADERS, flags | http2.END_STREAM, 1, block)
                for i in range(2000):
                    more = b"\x40\x05%05d\x7f\x81\x7d" % i + b"z" * 16000
                    c.send(http2.CONTINUATION, 0, 1, more[:16384])
            except (BrokenPipeError, ConnectionResetError):
                pass
            c.read_to_end()
    assert small(g)
    alive(g)


def test_garbage(g):
    rnd = random.Random(1)
    def said():  # but that the machine is slow
        return [x for x in g.log_text().splitlines() if "held up for" not in x]
    before = said()
    beginnings = [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http2.PREFACE[:10], http2.PREFACE,
                  http2.PREFACE + http2.frame(http2.SETTINGS),
                  http2.PREFACE + http2.frame(http2.SETTINGS, payload=b"12345"),
                  http2.PREFACE + http2.frame(http2.SETTINGS) + http2.frame(
                      http2.DATA, 0, 1, b"early"),
                  http2.PREFACE + http2.frame(http2.SETTINGS) + b"\xff\xff\xff\0\0\0\0\0\1"]
    for i in range(200):
        with Connection(g.address, preface=None) as c:
            junk = rnd.randbytes(rnd.randrange(0, 3000))
            try:
                c.socket.sendall(beginnings[i % len(beginnings)] + junk)
                if i % 3:  # half of something, then silence or the end
                    c.socket.shutdown(socket.SHUT_WR)
                    while c.socket.recv(65536):
                        pass
            except OSError:
                pass
    alive(g)
    wait_for(lambda: descriptors(g) < 50)
    assert said() == before  # nothing of it became a call, nor was it logged


def test_half_requests(g):
    """Frames cut anywhere: whatever comes later completes the request."""
    with Connection(g.address) as c:
        block = c.encoder.encode(c.request_headers(VERSION))
        out = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block) + \
            http2.frame(http2.DATA, http2.END_STREAM, 1, message(b""))
        c.responses[1] = http2.Response()
        for i in range(len(out)):
            c.socket.sendall(out[i:i + 1])
        assert c.wait(1).status == 0


def test_slow_reader(d, pod):
    """A client that reads its reply in small bites gets all of it, and holds up nobody."""
    ctr = d.run(pod, "sleep 1000")
    q = api.ExecSyncRequest(container_id=ctr, cmd=["head", "-c", "3000000", "/dev/zero"])
    with Connection(d.address, [(http2.INITIAL_WINDOW_SIZE, 0)]) as c:
        c.auto_window = False
        s = c.start("/runtime.v1.RuntimeService/ExecSync", message(q.SerializeToString()))
        r = c.responses[s]
        while r.get(":status") is None:
            c.read()
        alive(d)
        grant = struct.pack(">I", 30000)
        while not r.over:
            c.socket.sendall(http2.frame(http2.WINDOW_UPDATE, 0, 0, grant) +
                             http2.frame(http2.WINDOW_UPDATE, 0, s, grant))
            c.read()
        assert r.status == 0
        assert len(api.ExecSyncResponse.FromString(r.body[5:]).stdout) == 3000000


def test_client_that_goes_while_it_is_answered(d, pod):
    ctr = d.run(pod, "sleep 1000")
    q = api.ExecSyncRequest(container_id=ctr, cmd=["head", "-c", "3000000", "/dev/zero"])
    for _ in range(5):
        with Connection(d.address) as c:
            s = c.start("/runtime.v1.RuntimeService/ExecSync", message(q.SerializeToString()))
            while c.responses[s].get(":status") is None:
                c.read()
    alive(d)


# --- the end ---

def test_goaway_drains(archive):
    daemon = Daemon()
    daemon.load(archive)
    try:
        pod = daemon.run_pod()
        ctr = daemon.run(pod, "sleep 1000")
        n = int((12 << 20) / SLOW)  # it has ten seconds
        q = api.ExecSyncRequest(container_id=ctr, cmd=[
            "sh", "-c", ": drains-%s; sleep 0.3; head -c %d /dev/zero" % (ctr, n)])
        idle, half = Connection(daemon.address), Connection(daemon.address)
        assert idle.call(VERSION).status == 0
        unfinished = half.start(VERSION, message(b""), end=False)
        with Connection(daemon.address) as c:
            s = c.start("/runtime.v1.RuntimeService/ExecSync", message(q.SerializeToString()))
            wait_for(lambda: processes_with("drains-" + ctr))
            daemon.process.send_signal(signal.SIGTERM)
            while len(c.goaway) < 2:
                c.read()
            late = c.start(VERSION)
            r = c.wait(s)
            assert r.status == 0  # all of a large reply comes, though the daemon is going
            assert len(api.ExecSyncResponse.FromString(r.body[5:]).stdout) == n
            c.read_to_end()
            assert c.goaway[0][0] == 0x7fffffff and c.goaway[-1] == (s, 0)
            assert c.responses[late].get(":status") is None
        idle.read_to_end()
        assert idle.goaway[-1] == (1, 0)
        half.read_to_end()
        assert half.responses[unfinished].reset == http2.REFUSED_STREAM
        assert daemon.process.wait(5) == 0
        assert not os.path.exists(daemon.address)
    finally:
        daemon.close()


def test_address_is_no_socket(tmp_path):
    """A file that is no socket is not taken for a dead daemon's."""
    daemon = Daemon(start=False)
    with open(daemon.address, "w") as f:
        f.write("precious")
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 1
    with open(daemon.address) as f:
        assert f.read() == "precious"
    assert "no socket" in daemon.log_text()
    os.unlink(daemon.address)
    daemon.start()
    daemon.close()


def test_socket_is_roots(g):
    s = os.stat(g.address)
    assert (stat.S_ISSOCK(s.st_mode), stat.S_IMODE(s.st_mode), s.st_uid) == (True, 0o660, 0)
    r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                        "/usr/bin/python3", "-c",
                        "import socket; socket.socket(socket.AF_UNIX).connect('%s')" % g.address],
                       stderr=subprocess.PIPE, text=True)
    assert "PermissionError" in r.stderr


def test_many_clients_at_once(g):
    def work(_):
        c = Client(g.address)
        for _ in range(50):
            assert c.Version().runtime_name == "gantry"
            assert not c.ListPodSandbox().items
        c.close()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
