# SPDX-License-Identifier: Apache-2.0
"""Registries: the node's own credentials and credential helpers."""
import base64
import json
import os
import time

import grpc
import pytest

from cri import api
from daemon import Daemon, processes_with, wait_for
from registry import Registry, Tokens
from test_images import CODE, hosts, layer_dirs, listed, nothing_half_made, pull, refused, remove, \
    simple, workers


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
    assert 14 < time.monotonic() - begun < 30
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
