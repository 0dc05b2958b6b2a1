# SPDX-License-Identifier: Apache-2.0
"""The daemon's own figures: what they count, and the little HTTP server that tells them."""
import http.client
import os
import socket
import subprocess
import time

import grpc
import prometheus_client.parser
import pytest

import exposition
import image
import registry
from cri import SLOW, api
from daemon import Daemon, wait_for
from exposition import value


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def d(archive):
    port = free_port()
    daemon = Daemon("metrics:\n  address: 127.0.0.1:%d\n" % port)
    daemon.metrics_port = port
    daemon.load(archive)
    yield daemon
    daemon.close()


def request(d, method="GET", path="/metrics"):
    c = http.client.HTTPConnection("127.0.0.1", d.metrics_port, timeout=10 * SLOW)
    c.request(method, path)
    r = c.getresponse()
    body = r.read()
    c.close()
    return r, body


def scrape(d):
    r, body = request(d)
    assert r.status == 200 and len(body) == int(r.headers["Content-Length"])
    assert r.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return exposition.parse(body.decode())


def test_format(d):
    """Two readers understand it: a strict one, and Prometheus' own for Python."""
    p = d.run_pod(name="format")
    try:
        d.run(p, "sleep 1000")
        with pytest.raises(grpc.RpcError):
            d.cri.ContainerStatus(container_id="nothing")
        text = request(d)[1].decode()
        ours = exposition.parse(text)
        theirs = {}
        for f in prometheus_client.parser.text_string_to_metric_families(text):
            for s in f.samples:
                theirs[s.name, tuple(sorted(s.labels.items()))] = s.value
        assert theirs == {k: v for f in ours.values() for k, v in f.samples.items()}
        assert all(f.samples for n, f in ours.items() if n != "gantry_cri_requests_in_flight")
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_requests_are_counted(d):
    def counts(m):
        return (value(m, "gantry_cri_requests_total", method="PodSandboxStatus", code="NOT_FOUND"),
                value(m, "gantry_cri_requests_total", method="Version", code="OK"),
                value(m, "gantry_cri_request_duration_seconds_count", method="Version"))
    before = counts(scrape(d))
    for _ in range(3):
        d.cri.Version()
        with pytest.raises(grpc.RpcError):
            d.cri.PodSandboxStatus(pod_sandbox_id="nothing")
    m = scrape(d)
    assert counts(m) == tuple(x + 3 for x in before)
    assert value(m, "gantry_cri_request_duration_seconds_sum", method="Version") < 3 * SLOW


def test_latency_is_that_of_the_request(d, pod):
    c = d.run(pod, "sleep 1000")
    d.exec(c, "sleep 0.6")
    m = scrape(d)
    assert value(m, "gantry_cri_request_duration_seconds_sum", method="ExecSync") >= 0.6
    bucket = "gantry_cri_request_duration_seconds_bucket"
    assert value(m, bucket, method="ExecSync", le="0.5") < value(m, bucket, method="ExecSync",
                                                                 le="+Inf")


def test_in_flight_and_listeners(d, pod):
    c = d.run(pod, "sleep 1000")
    running = d.cri.ExecSync.future(container_id=c, cmd=["sleep", "100"], timeout=100)
    events = d.cri.GetContainerEvents()
    wait_for(lambda: value(scrape(d), "gantry_event_listeners") == 1)
    m = scrape(d)
    assert value(m, "gantry_cri_requests_in_flight", method="ExecSync") == 1
    assert value(m, "gantry_cri_requests_in_flight", method="GetContainerEvents") == 1
    running.cancel()
    events.cancel()
    wait_for(lambda: value(scrape(d), "gantry_cri_requests_in_flight", method="ExecSync") == 0)
    wait_for(lambda: value(scrape(d), "gantry_event_listeners") == 0)


def test_objects(d, pod):
    d.create(pod, "sleep 1000", name="created")
    d.run(pod, "sleep 1000", name="running")
    d.wait_exit(d.run(pod, "true", name="ended"))
    m = scrape(d)
    assert value(m, "gantry_pods", state="ready") == 1
    assert [value(m, "gantry_containers", state=x) for x in ("created", "running", "exited")] == \
        [1, 1, 1]
    assert value(m, "gantry_images") == 1
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    m = scrape(d)
    assert value(m, "gantry_pods", state="notready") == 1
    assert value(m, "gantry_containers", state="exited") == 3


def test_pulls(d):
    """One that fails: nobody listens there."""
    before = value(scrape(d), "gantry_image_pulls_total", result="failure")
    with pytest.raises(grpc.RpcError):
        d.cri.PullImage(image=api.ImageSpec(image="127.0.0.1:%d/nothing:here" % free_port()))
    m = scrape(d)
    assert value(m, "gantry_image_pulls_total", result="failure") == before + 1
    assert value(m, "gantry_image_pull_duration_seconds_count") >= before + 1
    assert value(m, "gantry_image_pulls_running") == value(m, "gantry_image_pulls_waiting") == 0


def test_pulls_that_succeed(d):
    layers = [os.urandom(100000), os.urandom(200000)]
    im = image.Image([image.Layer().add("f%d" % i, data).bytes()
                      for i, data in enumerate(layers)])
    get = lambda: (  # noqa: E731
        value(scrape(d), "gantry_image_pulls_total", result="success"),
        value(scrape(d), "gantry_image_pull_bytes_total"), value(scrape(d), "gantry_images"))
    with registry.Registry() as reg:
        reg.add(im, "metrics/some", "1")
        os.makedirs(d.dir + "/hosts/quay.example", exist_ok=True)
        with open(d.dir + "/hosts/quay.example/hosts.toml", "w") as f:
            f.write('server = "%s"\n' % reg.url)
        before = get()
        spec = api.ImageSpec(image="quay.example/metrics/some:1")
        ref = d.cri.PullImage(image=spec).image_ref
        after = get()
    assert after[0] == before[0] + 1 and after[2] == before[2] + 1
    assert 300000 <= after[1] - before[1] <= 320000  # as they came
    d.cri.RemoveImage(image=api.ImageSpec(image=ref))


def test_runtimes(d):
    def chosen(by):
        return value(scrape(d), "gantry_runtime_choices_total", runtime="crun", by=by)
    before = chosen("handler"), chosen("default")
    for i, handler in enumerate(["crun", ""]):
        p = d.run_pod(name="choice%d" % i, handler=handler)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert (chosen("handler"), chosen("default")) == (before[0] + 1, before[1] + 1)
    f = scrape(d)["gantry_runtime_available"].samples
    assert [v for (_, k), v in f.items() if dict(k)["runtime"] == "crun"] == [1]


def test_process(d):
    m = scrape(d)
    with open("/proc/%d/statm" % d.process.pid) as f:
        pages = int(f.read().split()[1])
    assert abs(value(m, "process_resident_memory_bytes") - pages * 4096) < 4 << 20
    assert 0 < time.time() - value(m, "process_start_time_seconds") < 600
    assert value(m, "process_cpu_seconds_total") > 0
    version = d.cri.Version().runtime_version
    assert value(m, "gantry_build_info", version=version) == 1
    assert value(m, "gantry_loop_turn_duration_seconds_count") > 10


def test_command(d):
    """The same without HTTP."""
    build = os.environ.get("GANTRY_BUILD", "build")
    r = subprocess.run([build + "/programs/gantry/gantry", "--address", d.address, "metrics"],
                       stdout=subprocess.PIPE, check=True)
    assert set(exposition.parse(r.stdout.decode())) == set(scrape(d))


@pytest.mark.parametrize("method, path, status", [
    ("HEAD", "/metrics", 200), ("GET", "/metrics?x=y", 200), ("GET", "/", 404),
    ("GET", "/metrics/", 404), ("POST", "/metrics", 405), ("GET", "http://x/metrics", 404)])
def test_requests_of_http(d, method, path, status):
    r, body = request(d, method, path)
    assert r.status == status and r.headers["Connection"] == "close"
    assert (body == b"") == (method == "HEAD")
    assert int(r.headers["Content-Length"]) > 0


def talk(d, data, more=b""):
    with socket.create_connection(("127.0.0.1", d.metrics_port)) as s:
        s.settimeout(15 * SLOW)
        s.sendall(data)
        if more:
            s.sendall(more)
        out = b""
        while True:
            b = s.recv(65536)
            if not b:
                return out
            out += b


@pytest.mark.parametrize("data, answer", [
    (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
    (b"GET /metrics HTTP/1.1\nHost: x\n\n", b"HTTP/1.1 200 "),
    (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", b"HTTP/1.1 200 "),
    (b"GET /metrics HTTP/2.0\r\n\r\n", b"HTTP/1.1 505 "),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 505 "),
    (b"GET /metrics\r\n\r\n", b"HTTP/1.1 400 "),
    (b"\r\n\r\n", b"HTTP/1.1 400 "),
    (b"\0\xff\n\n", b"HTTP/1.1 400 "),
    (b"get /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    (b"GET  /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    (b"G" * 4096, b"HTTP/1.1 400 "),
    (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100000, b"HTTP/1.1 400 "),
])
def test_strange_requests(d, data, answer):
    assert talk(d, data).startswith(answer)


def test_slow_and_idle_clients_hold_nobody_up(d):
    """More connections than there may be: the oldest go, a whole request is answered."""
    idle = [socket.create_connection(("127.0.0.1", d.metrics_port)) for _ in range(50)]
    try:
        for s in idle[-4:]:
            s.sendall(b"GET /metrics")
        began = time.monotonic()
        for _ in range(5):
            scrape(d)
        assert time.monotonic() - began < 2 * SLOW
        held = [x for x in os.listdir("/proc/%d/fd" % d.process.pid)]
        assert idle[0].recv(1) == b""
        assert len(held) < 100
        idle[-1].settimeout(15 * SLOW)  # its time runs out
        assert idle[-1].recv(1) == b""
    finally:
        for s in idle:
            s.close()


def test_client_that_does_not_read(d):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(("127.0.0.1", d.metrics_port))
        s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        scrape(d)
        time.sleep(0.1)
    scrape(d)


def test_unix_socket(archive, tmp_path):
    path = str(tmp_path / "dir" / "metrics.sock")
    d = Daemon("metrics:\n  address: unix:%s\n" % path)
    try:
        for _ in range(2):
            d.cri.Version()  # it serves: until then a past daemon's socket may be there
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                head, body = b"".join(iter(lambda: s.recv(65536), b"")).split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert "gantry_build_info" in exposition.parse(body.decode())
            assert os.stat(path).st_mode & 0o777 == 0o660
            d.kill()  # its socket file stays, and is in nobody's way
            d.restart()
        d.stop()
        assert not os.path.exists(path)
    finally:
        d.close()


def test_address_in_use(archive):
    """The daemon serves without, and says so."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        d = Daemon("metrics:\n  address: 127.0.0.1:%d\n" % s.getsockname()[1])
        try:
            assert d.cri.Version().runtime_name == "gantry"
            assert "metrics are not served on 127.0.0.1:" in d.log_text()
        finally:
            d.close()
