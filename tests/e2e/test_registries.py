# SPDX-License-Identifier: Apache-2.0
"""Registries: the node's own credentials and credential helpers; mirrors that fail; limits."""
import base64
import json
import os
import socket
import threading
import time

import grpc
import pytest

from cri import SLOW, api
from daemon import Daemon, processes_with, wait_for
from image import Image
from registry import Certificate, Registry, Tokens
from test_images import CODE, big, hosts, layer_dirs, layer_with, listed, nothing_half_made, pull, \
    redirect_to, refused, remove, simple, workers
from test_store import NO_POINTS, has_points


@pytest.fixture(scope="module")
def d(tmp_path_factory):
    bin_dir = str(tmp_path_factory.mktemp("bin"))
    daemon = Daemon("  stall_timeout: 1\n", env={"PATH": bin_dir + ":" + os.environ["PATH"]})
    daemon.bin = bin_dir
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def clean(d):
    yield
    for i in listed(d):
        remove(d, i.id)
    assert layer_dirs(d) == []
    nothing_half_made(d)
    wait_for(lambda: not workers(d))
    for f in ("auth.json", "calls"):
        if os.path.exists(d.dir + "/" + f):
            os.remove(d.dir + "/" + f)


@pytest.fixture
def reg():
    with Registry() as r:
        yield r


def b64(text):
    return base64.b64encode(text.encode()).decode()


def auth_file(d, doc):
    with open(d.dir + "/auth.json", "w") as f:
        f.write(doc if isinstance(doc, str) else json.dumps(doc))


def helper(d, name, script):
    """docker-credential-NAME; what it was asked is a line of the file `calls`."""
    path = "%s/docker-credential-%s" % (d.bin, name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\nserver=$(cat)\necho \"%s $1 $server\" >>%s/calls\n%s\n"
                % (name, d.dir, script))
    os.chmod(path, 0o755)


def says(user, secret):
    return "echo '%s'" % json.dumps({"ServerURL": "x", "Username": user, "Secret": secret})


def calls(d):
    try:
        with open(d.dir + "/calls") as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []


# --- the file ---

@pytest.mark.parametrize("entry", [
    {"auth": b64("alice:s3cret:x")}, {"username": "alice", "password": "s3cret:x"},
    {"auth": b64("alice:s3cret:x"), "email": "a@b.example"}], ids=["auth", "user", "more"])
def test_basic_by_the_file(d, reg, entry):
    im = simple("file")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "s3cret:x")
    refused(d, ref, CODE.UNAUTHENTICATED)
    for key in (reg.host, "https://%s" % reg.host, "http://%s/v2/" % reg.host,
                reg.host + "/private"):
        # it is read for each pull
        auth_file(d, {"auths": {"other.example": {"auth": "eDp5"}, key: entry}})
        assert pull(d, ref) == im.id, key
        remove(d, ref)
    for key in ("elsewhere.example", reg.host + "/privat", reg.host + "/other", reg.host + "0"):
        auth_file(d, {"auths": {key: entry}})
        refused(d, ref, CODE.UNAUTHENTICATED)


def test_the_longest_key_counts(d, reg):
    im = simple("longest")
    reg.basic = ("team", "pw")
    good, bad = {"auth": b64("team:pw")}, {"auth": b64("other:pw")}
    auth_file(d, {"auths": {reg.host: bad, reg.host + "/a/b": good, reg.host + "/a": bad}})
    assert pull(d, reg.add(im, "a/b/c")) == im.id
    refused(d, reg.add(im, "a/c"), CODE.UNAUTHENTICATED)


def test_bearer_and_identity_token_by_the_file(d, reg):
    im = simple("tokens")
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens("alice", "pw")
    auth_file(d, {"auths": {reg.host: {"auth": b64("alice:pw")}}})
    assert pull(d, ref) == im.id
    remove(d, ref)
    reg.bearer = Tokens(refresh="long-lived")
    auth_file(d, {"auths": {reg.host: {"auth": b64("x:"), "identitytoken": "long-lived"}}})
    assert pull(d, ref) == im.id
    assert reg.bearer.asked[-1][0]["refresh_token"] == "long-lived"
    remove(d, ref)
    reg.bearer = Tokens("nobody", "nothing")
    reg.bearer.fixed.add("given")
    auth_file(d, {"auths": {reg.host: {"registrytoken": "given"}}})
    assert pull(d, ref) == im.id and reg.bearer.asked == []


def test_the_request_goes_first(d, reg):
    im = simple("first")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "pw")
    auth_file(d, {"auths": {reg.host: {"auth": b64("node:pw")}}})
    assert pull(d, ref, {"username": "alice", "password": "pw"}) == im.id
    assert not [r for r in reg.requests if r[2].get("Authorization") == "Basic " + b64("node:pw")]
    remove(d, ref)
    reg.basic = ("node", "pw")
    reg.requests.clear()
    # those of the request are refused: then the node's
    assert pull(d, ref, {"username": "alice", "password": "pw"}) == im.id
    used = [r[2].get("Authorization") for r in reg.requests]
    assert used[:3] == [None, "Basic " + b64("alice:pw"), "Basic " + b64("node:pw")]
    remove(d, ref)
    reg.bearer, reg.basic = Tokens("node", "pw"), None
    assert pull(d, ref, {"username": "alice", "password": "pw"}) == im.id
    remove(d, ref)
    reg.bearer = Tokens("third", "pw")
    refused(d, ref, CODE.UNAUTHENTICATED, "credentials are wrong",
            auth={"username": "alice", "password": "pw"})


def test_what_is_public_stays_so(d, reg):
    im = simple("public")
    ref = reg.add(im, "app")
    reg.bearer = Tokens()
    auth_file(d, {"auths": {"other.example": {"auth": "eDp5"}}})
    assert pull(d, ref) == im.id
    assert reg.bearer.asked[0][1] == ""


def test_a_mirror_has_its_own(d, reg):
    im = simple("mirror")
    reg.add(im, "app")
    reg.basic = ("origin", "pw")
    with Registry() as mirror:
        mirror.add(im, "app")
        mirror.basic = ("mirror", "pw")
        hosts(d, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        auth_file(d, {"auths": {mirror.host: {"auth": b64("mirror:pw")},
                                "quay.example": {"auth": b64("origin:pw")}}})
        assert pull(d, "quay.example/app") == im.id
        assert reg.requests == []
        mirror.basic = ("changed", "pw")
        remove(d, im.id)
        assert pull(d, "quay.example/app") == im.id
        sent = {r[2].get("Authorization") for r in mirror.requests}
        assert "Basic " + b64("origin:pw") not in sent
        assert "Basic " + b64("mirror:pw") not in {r[2].get("Authorization") for r in reg.requests}


def test_docker_hub_has_several_names(d, reg):
    im = simple("hub")
    reg.add(im, "library/app")
    reg.basic = ("alice", "pw")
    hosts(d, "docker.io", 'server = "%s"\n' % reg.url)
    for key in ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"):
        auth_file(d, {"auths": {key: {"auth": b64("alice:pw")}}})
        assert pull(d, "app") == im.id
        remove(d, im.id)


@pytest.mark.parametrize("text, what", [
    ("{", "auth.json"), ("[]", "must be an object"), ("\xff", "auth.json"), ("", "auth.json"),
    ('{"auths": {"HOST": 5}}', "must be an object"),
    ('{"auths": {"HOST": {"auth": "a\\r\\nX: y"}}}', "not base64"),
    ('{"credsStore": "../../bin/sh"}', "credential helper"),
    ('{"credHelpers": {"HOST": ["x"]}}', "credential helper"),
    ('{"credHelpers": {"HOST": "a b"}}', "credential helper")])
def test_mistakes_in_the_file_are_told(d, reg, text, what):
    ref = reg.add(simple("bad"), "private")
    reg.basic = ("alice", "pw")
    auth_file(d, text.replace("HOST", reg.host))
    refused(d, ref, CODE.INVALID_ARGUMENT, what, reg.host)


def test_the_file_is_bounded(d, reg):
    ref = reg.add(simple("long"), "private")
    reg.basic = ("alice", "pw")
    auth_file(d, "{%s}" % (" " * (1 << 20)))
    refused(d, ref, CODE.INVALID_ARGUMENT, d.dir + "/auth.json", "1048576")


# --- helpers ---

def test_helper_of_a_registry(d, reg):
    im = simple("helper")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "from-helper")
    helper(d, "one", says("alice", "from-helper"))
    helper(d, "two", says("alice", "wrong"))
    auth_file(d, {"credHelpers": {reg.host: "one"}, "credsStore": "two",
                  "auths": {reg.host: {"auth": b64("alice:wrong")}}})
    assert pull(d, ref) == im.id
    # once for manifest, configuration and layers
    assert calls(d) == ["one get " + reg.host]
    remove(d, ref)
    # nobody is asked for what the request has
    os.remove(d.dir + "/calls")
    assert pull(d, ref, {"username": "alice", "password": "from-helper"}) == im.id
    assert calls(d) == []


def test_store_for_all_others(d, reg):
    im = simple("store")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "pw")
    helper(d, "store", says("alice", "pw"))
    auth_file(d, {"credHelpers": {"other.example": "none"}, "credsStore": "store",
                  "auths": {reg.host: {}}})
    assert pull(d, ref) == im.id
    assert calls(d) == ["store get " + reg.host]


def test_helper_for_the_hub(d, reg):
    im = simple("hub-helper")
    reg.add(im, "library/app")
    reg.basic = ("alice", "pw")
    hosts(d, "docker.io", 'server = "%s"\n' % reg.url)
    helper(d, "hub", says("alice", "pw"))
    auth_file(d, {"credsStore": "hub"})
    assert pull(d, "app") == im.id
    assert calls(d) == ["hub get https://index.docker.io/v1/"]


def test_helper_with_an_identity_token(d, reg):
    im = simple("helper-token")
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens(refresh="long-lived")
    helper(d, "token", says("<token>", "long-lived"))
    auth_file(d, {"credHelpers": {reg.host: "token"}})
    assert pull(d, ref) == im.id


def test_helper_that_knows_of_none(d, reg):
    im = simple("none")
    ref = reg.add(im, "app")
    helper(d, "none", "echo credentials not found in native keychain; exit 1")
    auth_file(d, {"credsStore": "none"})
    assert pull(d, ref) == im.id and calls(d) == []     # nobody asked for any
    remove(d, ref)
    reg.bearer = Tokens()
    assert pull(d, ref) == im.id and len(calls(d)) >= 1  # it is public
    remove(d, ref)
    reg.bearer, reg.basic = None, ("alice", "pw")
    auth_file(d, {"credsStore": "none", "auths": {reg.host: {"auth": b64("alice:pw")}}})
    assert pull(d, ref) == im.id


@pytest.mark.parametrize("script, words", [
    ("echo nonsense", ["printed no JSON object"]),
    ("echo '{\"Username\": \"a\"}'", ["no Secret"]),
    ("head -c 1000000 /dev/zero", ["more than 65536 bytes"]),
    ("head -c 300 /dev/zero | tr '\\0' x; exit 3", ["status 3", "x" * 200]),
    ("printf 'a\\033[2J\\377'; exit 1", ["status 1: a"]),
    ("kill -9 $$", ["status 137"])],
    ids=["nonsense", "half", "flood", "status", "bytes", "killed"])
def test_helper_that_fails(d, reg, script, words):
    ref = reg.add(simple("fails"), "private")
    reg.basic = ("alice", "pw")
    helper(d, "bad", script)
    auth_file(d, {"credHelpers": {reg.host: "bad"}})
    code = CODE.INVALID_ARGUMENT if "JSON" in words[0] or "Secret" in words[0] \
        else CODE.UNAUTHENTICATED
    details = refused(d, ref, code, "docker-credential-bad", reg.host, *words)
    assert "\033" not in details and "x" * 201 not in details


def test_helper_that_is_not_there(d, reg):
    ref = reg.add(simple("absent"), "private")
    reg.basic = ("alice", "pw")
    auth_file(d, {"credHelpers": {reg.host: "absent"}})
    refused(d, ref, CODE.UNAUTHENTICATED, "docker-credential-absent is not in PATH")


def test_helper_that_hangs_is_bounded_and_ends_with_its_pull(d, reg):
    ref = reg.add(simple("hangs"), "private")
    reg.basic = ("alice", "pw")
    mark = "86399.%d" % os.getpid()
    helper(d, "hangs", "sleep %s & sleep %s" % (mark, mark))
    auth_file(d, {"credHelpers": {reg.host: "hangs"}})
    begun = time.monotonic()
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: processes_with("sleep " + mark))
    # the daemon goes on meanwhile
    asked = time.monotonic()
    d.cri.Version()
    assert time.monotonic() - asked < 2 and not f.done()
    with pytest.raises(grpc.RpcError) as e:
        f.result(60)
    assert e.value.code() == CODE.UNAUTHENTICATED
    assert "did not end within 15 seconds" in e.value.details()
    assert 14 < time.monotonic() - begun < 30 * SLOW
    wait_for(lambda: not processes_with("sleep " + mark))
    # a pull that is given up takes its helper with it
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: processes_with("sleep " + mark))
    f.cancel()
    wait_for(lambda: not processes_with("sleep " + mark), timeout=10)
    # and so does a worker that is killed
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: processes_with("sleep " + mark))
    for pid in workers(d):
        os.kill(pid, 9)
    wait_for(lambda: not processes_with("sleep " + mark), timeout=10)
    with pytest.raises(grpc.RpcError):
        f.result(60)


def test_worker_stays_confined_beside_a_helper(d, reg):
    """The process that runs helpers has no connection to the daemon, the worker no programs."""
    if d.sanitized():
        pytest.skip("a sanitizer's build is not confined: it maps terabytes, and traces itself")
    ref = reg.add(simple("beside"), "private")
    reg.basic = ("alice", "pw")
    mark = "86398.%d" % os.getpid()
    helper(d, "waits", "exec sleep " + mark)
    auth_file(d, {"credHelpers": {reg.host: "waits"}})
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    sleeper = wait_for(lambda: processes_with("sleep " + mark))[0][0]
    worker = workers(d)[0]
    with open("/proc/%d/status" % worker) as s:
        assert "Seccomp:\t2" in s.read()
    with open("/proc/%d/stat" % sleeper) as s:
        beside = int(s.read().rsplit(")", 1)[1].split()[1])
    with open("/proc/%d/stat" % beside) as s:
        assert int(s.read().rsplit(")", 1)[1].split()[1]) == worker
    assert not os.path.exists("/proc/%d/fd/3" % beside)
    sockets = [x for x in os.listdir("/proc/%d/fd" % beside)
               if os.readlink("/proc/%d/fd/%s" % (beside, x)).startswith("socket:")]
    assert len(sockets) == 1
    f.cancel()


# --- mirrors that fail ---

@pytest.fixture
def q():
    """A daemon that remembers nothing yet of any mirror, and waits a second for one."""
    daemon = Daemon("  mirror_wait: %d\n  stall_timeout: 30\n" % SLOW)
    yield daemon
    nothing_half_made(daemon)
    daemon.close()


class Silent:
    """Takes connections, and never says a word."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        self.taken = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                self.taken.append(self.socket.accept()[0])
        except OSError:
            pass

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for c in self.taken:
            c.close()


def trickle(registry, h, data):
    """A byte now and then: never idle, never done."""
    h.send_response(200)
    h.send_header("Content-Length", str(len(data)))
    h.end_headers()
    try:
        for i in range(600):
            h.wfile.write(data[i:i + 1])
            h.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass
    h.close_connection = True


def test_silent_mirror_costs_one_wait_and_is_remembered(q, reg):
    im, second = simple("silent", 6), simple("silent2", 3)
    reg.add(im, "one")
    reg.add(second, "two")
    mirror = Silent()
    try:
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        begun = time.monotonic()
        assert pull(q, "quay.example/one") == im.id
        took = time.monotonic() - begun
        # manifest, configuration and six layers: one wait for all of them
        assert 1 <= took < 4 * SLOW and len(mirror.taken) == 1, (took, len(mirror.taken))
        assert "mirror %s/v2 is asked last for 300 seconds" % mirror.url in q.log_text()
        begun = time.monotonic()
        assert pull(q, "quay.example/two") == second.id
        assert time.monotonic() - begun < 0.9 * SLOW and len(mirror.taken) == 1
    finally:
        mirror.close()


def test_a_mirror_that_failed_is_asked_last_and_may_get_well(q, reg):
    im, other = simple("well"), simple("well2")
    reg.add(im, "one")
    with Registry() as mirror:
        down = [1]

        def hook(h, kind, what):
            if not down:
                return False
            mirror.error(h, 503, "UNAVAILABLE", "come later", {"Retry-After": "30"})
            return True
        mirror.hooks.append(hook)
        mirror.add(other, "two")
        mirror.add(im, "one")
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        begun = time.monotonic()
        assert pull(q, "quay.example/one") == im.id
        assert len(mirror.requests) == 1 and time.monotonic() - begun < 10 * SLOW
        down.clear()
        remove(q, im.id)
        assert pull(q, "quay.example/one") == im.id and len(mirror.requests) == 1
        # what the registry has not got, the mirror is still asked for; then it is well again
        assert pull(q, "quay.example/two") == other.id and len(mirror.requests) > 1
        assert "mirror %s/v2 is well again" % mirror.url in q.log_text()
        remove(q, im.id)
        reg.requests.clear()
        assert pull(q, "quay.example/one") == im.id and reg.requests == []


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_a_mirror_that_trickles_is_left(q, reg, kind):
    im = big(21, 1)
    reg.add(im, "app")
    with Registry() as mirror:
        mirror.add(im, "app")

        def hook(h, k, what):
            if k != kind or what == im.id:
                return False
            trickle(mirror, h, mirror.images[("app", what)][0] if k == "manifests"
                    else mirror.blobs[what])
            return True
        mirror.hooks.append(hook)
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        begun = time.monotonic()
        assert pull(q, "quay.example/app") == im.id
        assert 1 <= time.monotonic() - begun < 5 * SLOW
        assert len([r for r in mirror.asked(kind) if im.id not in r[1]]) == 1
        assert "bytes came in %d seconds" % SLOW in q.log_text()


def test_a_mirror_whose_tokens_do_not_come_is_left(q, reg):
    im = simple("tokens")
    reg.add(im, "app")
    silent = Silent()
    try:
        with Registry() as mirror:
            mirror.bearer = Tokens(at=silent.url + "/token")
            hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
            begun = time.monotonic()
            assert pull(q, "quay.example/app") == im.id
            assert 1 <= time.monotonic() - begun < 5 * SLOW and len(silent.taken) == 1
    finally:
        silent.close()


def test_a_mirror_with_wrong_bytes_is_remembered(q, reg):
    im, second = simple("wrong", 3), simple("wrong2")
    reg.add(im, "one")
    reg.add(second, "two")
    with Registry() as mirror:
        mirror.add(im, "one")
        mirror.add(second, "two")
        bad = im.layer_digests[1]
        mirror.blobs[bad] = bytes(len(mirror.blobs[bad]))
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(q, "quay.example/one") == im.id
        assert len(mirror.asked(bad)) == 1 and len(reg.asked(bad)) == 1
        mirror.requests.clear()
        assert pull(q, "quay.example/two") == second.id and mirror.requests == []


def test_a_mirror_without_the_image_is_not_blamed(q, reg):
    im, second = simple("blame"), simple("blame2")
    reg.add(im, "one")
    with Registry() as mirror:
        mirror.add(second, "two")
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(q, "quay.example/one") == im.id
        reg.requests.clear()
        assert pull(q, "quay.example/two") == second.id and reg.requests == []


def test_a_mirror_goes_on_where_it_broke_off(q, reg):
    im = big(22, 2)
    with Registry() as mirror:
        mirror.add(im, "app")
        cuts = [1 << 19, 1 << 20]

        def cut(h, kind, what):
            if what != im.layer_digests[0] or not cuts:
                return False
            mirror.send(h, mirror.blobs[what], cut=cuts.pop(0))
            return True
        mirror.hooks.append(cut)
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(q, "quay.example/app") == im.id and not cuts
        assert reg.requests == []
        assert [bool(r[2].get("Range")) for r in mirror.asked(im.layer_digests[0])] == \
            [False, True, True]


def test_the_registrys_own_answer_is_the_code(q, reg):
    """However many mirrors are down, and in whichever order they are asked."""
    mirror = Silent()
    try:
        hosts(q, "quay.example", 'server = "%s"\n[host."%s"]\n[host."http://127.0.0.1:1"]\n'
              % (reg.url, mirror.url))
        for _ in range(2):
            refused(q, "quay.example/absent", CODE.NOT_FOUND, mirror.url, "127.0.0.1:1", reg.url)
    finally:
        mirror.close()


def test_the_only_host_has_time(q):
    """Where there is nobody else to ask, nobody is hurried."""
    im = simple("alone")
    with Registry() as mirror:
        mirror.add(im, "app")
        mirror.hooks.append(lambda h, kind, what: time.sleep(1.5) if kind == "manifests" else None)
        hosts(q, "quay.example", 'server = "http://127.0.0.1:1"\ncapabilities = ["push"]\n'
              '[host."%s"]\n' % mirror.url)
        assert pull(q, "quay.example/app") == im.id


# --- limits ---

def test_pauses_between_tries_grow(d, reg):
    ref = reg.add(simple("pauses"), "app")
    times = []

    def hook(h, kind, what):
        times.append(time.monotonic())
        reg.error(h, 502, "UNKNOWN", "a bad gateway")
        return True
    reg.hooks.append(hook)
    refused(d, ref, CODE.UNAVAILABLE, "HTTP 502", "a bad gateway")
    pauses = [b - a for a, b in zip(times, times[1:])]
    assert len(pauses) == 4
    for n, p in enumerate(pauses):
        assert 0.5 * 2 ** n <= p < 0.5 * 2 ** n + 2, pauses


def test_a_client_certificate_is_for_its_host(d, tmp_path):
    im = simple("certificate")
    server = Certificate(str(tmp_path))
    client = Certificate(str(tmp_path), "client")
    with Registry(tls=server, client_ca=client.ca) as first, \
            Registry(tls=server, client_ca=client.ca) as storage:
        ref = first.add(im, "app")
        storage.blobs = im.blobs
        hosts(d, first.host, 'server = "%s"\nca = "%s"\nclient = [["%s", "%s"]]\n'
              % (first.url, server.ca, client.cert, client.key))
        first.hooks.append(redirect_to(storage.url))
        refused(d, ref, CODE.UNAVAILABLE)
        assert storage.requests == [] and first.asked("manifests")
        first.hooks.clear()
        assert pull(d, ref) == im.id

def test_a_connection_that_brings_next_to_nothing_is_no_progress(d, reg):
    """A few bytes a connection: the number of tries is bounded."""
    im = big(23, 1)
    ref = reg.add(im, "app")

    def cut(h, kind, what):
        if what != im.layer_digests[0]:
            return False
        reg.send(h, reg.blobs[what], cut=100)
        return True
    reg.hooks.append(cut)
    refused(d, ref, CODE.UNAVAILABLE, im.layer_digests[0])
    assert len(reg.asked(im.layer_digests[0])) == 5


def test_total_time_of_a_pull():
    daemon = Daemon("  pull_timeout: %d\n" % (2 * SLOW))
    try:
        with Registry() as reg:
            im = Image([layer_with(("a", "a")), layer_with(("b", os.urandom(4096)))])
            ref = reg.add(im, "app")
            slow = []

            def hook(h, kind, what):
                if what != im.layer_digests[1] or slow:
                    return False
                slow.append(1)
                trickle(reg, h, reg.blobs[what])
                return True
            reg.hooks.append(hook)
            begun = time.monotonic()
            refused(daemon, ref, CODE.DEADLINE_EXCEEDED, "%d seconds (image.pull_timeout)" % (2 * SLOW))
            assert 1.9 * SLOW < time.monotonic() - begun < 6 * SLOW
            nothing_half_made(daemon)
            # what had come is not fetched again
            assert layer_dirs(daemon) and not workers(daemon)
            assert pull(daemon, ref) == im.id
            assert len(reg.asked(im.layer_digests[0])) == 1
    finally:
        daemon.close()


# --- layers that another pull is fetching ---

def future(d, ref):
    return d.cri.PullImage.future(image=api.ImageSpec(image=ref))


def gate(registry, *digests):
    """Blobs that come when the list this gives is not empty any more."""
    opened = []
    registry.hooks.append(lambda h, kind, what: what in digests and wait_for(lambda: opened,
                                                                            timeout=60) and False)
    return opened


def test_a_layer_under_way_is_fetched_once(d, reg):
    """Across images and registries."""
    base = layer_with(("base", "b"))
    one, two = Image([base, layer_with(("one", "1"))]), Image([base, layer_with(("two", "2"))])
    shared = one.layer_digests[0]
    with Registry() as second:
        refs = reg.add(one, "one"), second.add(two, "two")
        opened = gate(reg, shared)
        a = future(d, refs[0])
        wait_for(lambda: reg.asked(shared))
        b = future(d, refs[1])
        # it goes on with its other layers
        wait_for(lambda: second.asked(two.layer_digests[1]))
        opened.append(1)
        assert a.result(60).image_ref == one.id and b.result(60).image_ref == two.id
        assert len(reg.asked(shared)) == 1 and not second.asked(shared)
    assert len(layer_dirs(d)) == 3
    remove(d, one.id)
    assert len(layer_dirs(d)) == 2


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_a_layer_under_way_that_does_not_come(d, reg, how):
    base = layer_with(("base", how))
    one, two = Image([base]), Image([base, layer_with(("two", "2"))])
    shared = one.layer_digests[0]
    refs = reg.add(one, "one"), reg.add(two, "two")
    opened = gate(reg, shared)
    a = future(d, refs[0])
    wait_for(lambda: reg.asked(shared))
    first = workers(d)
    b = future(d, refs[1])
    wait_for(lambda: reg.asked(two.layer_digests[1]))
    assert len(reg.asked(shared)) == 1
    if how == "cancelled":
        a.cancel()
    else:
        os.kill(first[0], 9)
    wait_for(lambda: len(reg.asked(shared)) == 2)   # the other fetches it now
    opened.append(1)
    assert b.result(60).image_ref == two.id


def test_two_pulls_that_need_each_others_layers(reg):
    """With one layer at a time each of them makes one that the other needs."""
    daemon = Daemon("  parallel_layers: 1\n")
    try:
        p, q = layer_with(("p", "p")), layer_with(("q", "q"))
        one = Image([p, q, layer_with(("one", "1"))])
        two = Image([p, q, layer_with(("two", "2"))])
        refs = reg.add(one, "one"), reg.add(two, "two")
        open_p, open_q = gate(reg, one.layer_digests[0]), gate(reg, one.layer_digests[1])
        a = future(daemon, refs[0])
        wait_for(lambda: reg.asked(one.layer_digests[0]))
        b = future(daemon, refs[1])
        wait_for(lambda: reg.asked(one.layer_digests[1]))    # by the second
        open_p.append(1)
        wait_for(lambda: reg.asked(one.layer_digests[2]))
        open_q.append(1)
        assert a.result(60).image_ref == one.id and b.result(60).image_ref == two.id
        for shared in one.layer_digests[:2]:
            assert len(reg.asked(shared)) == 1
        nothing_half_made(daemon)
        assert len(layer_dirs(daemon)) == 4
    finally:
        daemon.close()


def test_a_wait_for_anothers_layer_ends(reg):
    """Whoever makes it may be at it for ever."""
    if not has_points():
        pytest.skip(NO_POINTS)
    daemon = Daemon(env={"GANTRY_LIMIT": "claims.wait:1"})
    try:
        base = layer_with(("base", "never"))
        one, two = (Image([base, layer_with((n, n))]) for n in ("one", "two"))
        shared = one.layer_digests[0]
        refs = reg.add(one, "one"), reg.add(two, "two")
        opened = gate(reg, shared)
        a = future(daemon, refs[0])
        wait_for(lambda: reg.asked(shared))
        b = future(daemon, refs[1])
        wait_for(lambda: len(reg.asked(shared)) == 2)
        opened.append(1)
        assert a.result(60).image_ref == one.id and b.result(60).image_ref == two.id
        nothing_half_made(daemon)
        assert len(layer_dirs(daemon)) == 3
    finally:
        daemon.close()


def test_a_pull_tells_that_it_waits(d, reg):
    base = layer_with(("base", "told"))
    one, two = Image([base, layer_with(("one", "1"))]), Image([base, layer_with(("two", "2"))])
    shared = one.layer_digests[0]
    refs = reg.add(one, "one"), reg.add(two, "two")
    opened = gate(reg, shared)
    a = future(d, refs[0])
    wait_for(lambda: reg.asked(shared))
    states = []
    for p in d.cri.Pull(reference=refs[1]):
        if p.layer == shared:
            states.append(p.state)
            if p.state == "waiting":
                opened.append(1)
    assert states == ["waiting", "exists"]
    assert a.result(60).image_ref == one.id


def test_pull_by_tag_and_digest(d, reg):
    """The digest decides; the tag need not be of it any more."""
    im, newer = simple("both"), simple("newer")
    ref = reg.add(im, "app", "v1")
    reg.add(newer, "app", "v1")
    reg.images[("app", im.digest)] = (im.manifest, im.media_type)
    assert pull(d, "%s@%s" % (ref, im.digest)) == im.id
    s = status_of(d, "%s@%s" % (ref, im.digest))
    assert s.id == im.id and list(s.repo_tags) == []
    assert list(s.repo_digests) == ["%s/app@%s" % (reg.host, im.digest)]
    refused(d, "%s@sha256:%s" % (ref, "0" * 64), CODE.NOT_FOUND)


def status_of(d, ref):
    return d.cri.ImageStatus(image=api.ImageSpec(image=ref)).image


def test_what_is_here_is_asked_for_by_its_manifest_alone(d, reg):
    """imagePullPolicy: Always. A configuration that is damaged on the disk comes again."""
    im = simple("again")
    ref = reg.add(im, "app")
    assert pull(d, ref) == im.id
    reg.requests.clear()
    assert pull(d, ref) == im.id
    assert reg.asked("/manifests/latest") and not reg.asked("/blobs/")
    path = "%s/images/%s.config" % (d.root, im.id[len("sha256:"):])
    with open(path, "r+b") as f:
        f.write(b"x")
    assert pull(d, ref) == im.id
    assert [r[1].split("/blobs/")[1] for r in reg.asked("/blobs/")] == [im.id]
    with open(path, "rb") as f:
        assert f.read() == im.config
