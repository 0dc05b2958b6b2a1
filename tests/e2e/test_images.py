# SPDX-License-Identifier: Apache-2.0
"""Images from registries: pulling, access, what registries do wrong, mirrors."""
import concurrent.futures
import gzip
import os
import random
import signal
import subprocess
import time

import grpc
import pytest

import image as images
from cri import SLOW, api
from daemon import Daemon, wait_for
from image import Image, Layer, sha256
from registry import Certificate, DockerRegistry, Registry, Tokens, stall

CODE = grpc.StatusCode


def layer_with(*files, **more):
    x = Layer()
    for name, data in list(files) + list(more.items()):
        x.add(name, data)
    return x.bytes()


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def simple(text="x", n=1, **kw):
    return Image([layer_with(("f%d" % i, text + str(i))) for i in range(n)], **kw)


def big(seed=1, megabytes=8, **kw):
    return Image([layer_with(("big", noise(megabytes << 20, seed)))], **kw)


def pull(d, ref, auth=None, timeout=60):
    q = api.PullImageRequest(image=api.ImageSpec(image=ref))
    if auth:
        q.auth.CopyFrom(api.AuthConfig(**auth))
    return d.cri.PullImage(q, rpc_timeout=timeout).image_ref


def refused(d, ref, code, *words, **kw):
    with pytest.raises(grpc.RpcError) as e:
        pull(d, ref, **kw)
    assert e.value.code() == code, e.value.details()
    for w in words:
        assert w in e.value.details()
    return e.value.details()


def status(d, ref, verbose=False):
    return d.cri.ImageStatus(image=api.ImageSpec(image=ref), verbose=verbose)


def listed(d, ref=None):
    f = api.ImageFilter(image=api.ImageSpec(image=ref)) if ref else None
    return d.cri.ListImages(filter=f).images


def remove(d, ref):
    d.cri.RemoveImage(image=api.ImageSpec(image=ref))


def layer_dirs(d):
    return sorted(x for x in os.listdir(d.root + "/layers") if len(x) == 32)


def nothing_half_made(d):
    """No temporary files, and each layer has a record and each record a layer."""
    assert os.listdir(d.root + "/tmp") == []
    names = os.listdir(d.root + "/layers")
    assert {x for x in names if len(x) == 32} == {x[:-5] for x in names if x.endswith(".json")}
    assert not [x for x in names if ".tmp" in x]
    assert not [x for x in os.listdir(d.root + "/images") if ".tmp" in x]


def workers(d):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                fields = f.read().rsplit(")", 1)[1].split()
            with open("/proc/%s/comm" % pid) as f:
                if f.read().strip() == "gantry-worker" and int(fields[1]) == d.process.pid:
                    found.append(int(pid))
        except OSError:
            pass
    return found


@pytest.fixture(scope="module")
def d():
    """A daemon without pods; a transfer that stalls is given up after a second."""
    daemon = Daemon("  stall_timeout: 1\n")
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def clean(request):
    yield
    if "d" in request.fixturenames:
        d = request.getfixturevalue("d")
        for i in listed(d):
            remove(d, i.id)
        assert layer_dirs(d) == [] and os.listdir(d.root + "/images") == []
        nothing_half_made(d)
        subprocess.run(["rm", "-rf", d.dir + "/hosts"])


@pytest.fixture
def reg():
    with Registry() as r:
        yield r


def hosts(d, name, text):
    path = "%s/hosts/%s" % (d.dir, name)
    os.makedirs(path, exist_ok=True)
    with open(path + "/hosts.toml", "w") as f:
        f.write(text)
    return path


# --- a real registry ---

@pytest.fixture(scope="module")
def real(tmp_path_factory):
    r = DockerRegistry(str(tmp_path_factory.mktemp("registry")))
    yield r
    r.close()


def test_pull_from_docker_registry(d, real):
    im = simple("real", 3, compress=["gzip", "zstd", "tar"])
    ref = real.push(im, "some/where", "v1")
    assert pull(d, ref) == im.id
    s = status(d, ref).image
    assert s.id == im.id and list(s.repo_tags) == [ref]
    assert list(s.repo_digests) == ["%s/some/where@%s" % (real.host, im.digest)]
    assert len(layer_dirs(d)) == 3
    nothing_half_made(d)


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "schema2"])
def test_manifest_list_by_platform(d, real, docker):
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    im, other = simple("mine", docker=docker, arch=arch), simple("other", docker=docker,
                                                               arch="s390x")
    real.push(other, "multi", "other")
    doc, kind = im.index([(other, "s390x")], docker=docker)
    ref = real.push(im, "multi", "both", manifest=doc, media_type=kind)
    assert pull(d, ref) == im.id
    # what is named by digest is what the tag stands for: the list
    assert list(status(d, ref).image.repo_digests) == \
        ["%s/multi@%s" % (real.host, sha256(doc))]
    assert pull(d, "%s/multi@%s" % (real.host, sha256(doc))) == im.id
    assert pull(d, "%s/multi@%s" % (real.host, im.digest)) == im.id
    only = other.index([])[0].replace(b'"amd64"', b'"s390x"')
    ref = real.push(other, "multi", "foreign", manifest=only, media_type=images.OCI_INDEX)
    refused(d, ref, CODE.NOT_FOUND, "linux/" + arch, "linux/s390x")
    # a single manifest of another machine
    refused(d, "%s/multi:other" % real.host, CODE.NOT_FOUND, "s390x")


def test_basic_auth_of_docker_registry(d, tmp_path):
    htpasswd = str(tmp_path / "htpasswd")
    crypted = subprocess.run(["perl", "-e", "print crypt('secret', '$2b$05$' . 'a' x 22)"],
                             stdout=subprocess.PIPE, check=True, text=True).stdout
    with open(htpasswd, "w") as f:
        f.write("alice:%s\n" % crypted)
    r = DockerRegistry(str(tmp_path / "r"), htpasswd)
    try:
        refused(d, r.host + "/x", CODE.UNAUTHENTICATED, r.host)
        refused(d, r.host + "/x", CODE.NOT_FOUND, auth={"username": "alice", "password": "secret"})
    finally:
        r.close()


# --- access ---

GOOD = {"username": "alice", "password": "s3cret:x"}


def test_basic_auth(d, reg):
    im = simple("basic")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "s3cret:x")
    refused(d, ref, CODE.UNAUTHENTICATED, reg.host)
    refused(d, ref, CODE.UNAUTHENTICATED, "HTTP 401", auth=dict(GOOD, password="wrong"))
    assert pull(d, ref, GOOD) == im.id
    remove(d, ref)
    import base64
    auth = base64.b64encode(b"alice:s3cret:x").decode()
    assert pull(d, ref, {"auth": auth}) == im.id
    remove(d, ref)
    # credentials of another server are not for this one
    refused(d, ref, CODE.UNAUTHENTICATED, auth=dict(GOOD, server_address="elsewhere.example"))
    assert pull(d, ref, dict(GOOD, server_address="https://%s/v1/" % reg.host)) == im.id
    # nothing is said before it is asked for
    assert "Authorization" not in reg.requests[0][2]


def test_bearer_token(d, reg):
    im = simple("bearer", 2)
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens()
    assert pull(d, ref) == im.id
    assert reg.bearer.asked[0] == ({"service": "test.svc",
                                    "scope": "repository:team/app:pull"}, "")
    assert len(reg.bearer.asked) == 1       # one token serves manifest, configuration and layers


@pytest.mark.parametrize("auth", [
    {"username": "alice", "password": "pw"}, {"auth": "YWxpY2U6cHc="}], ids=["password", "auth"])
def test_bearer_token_for_credentials(d, reg, auth):
    im = simple("bearer2")
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens("alice", "pw")
    refused(d, ref, CODE.UNAUTHENTICATED, "credentials are needed")
    refused(d, ref, CODE.UNAUTHENTICATED, "wrong", auth={"username": "alice", "password": "no"})
    assert pull(d, ref, auth) == im.id


def test_identity_token(d, reg):
    im = simple("identity")
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens(refresh="long-lived")
    refused(d, ref, CODE.UNAUTHENTICATED, auth={"identity_token": "other"})
    assert pull(d, ref, {"identity_token": "long-lived"}) == im.id
    assert reg.bearer.asked[-1][0]["grant_type"] == "refresh_token"
    # it is in no URL
    assert not [r for r in reg.requests if "long-lived" in r[1]]


def test_registry_token(d, reg):
    im = simple("registry")
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens("nobody", "nothing")
    reg.bearer.fixed.add("given")
    assert pull(d, ref, {"registry_token": "given"}) == im.id
    assert reg.bearer.asked == []


def test_token_expires_in_the_middle(d, reg):
    im = simple("expires", 6)
    ref = reg.add(im, "team/app")
    reg.bearer = Tokens(lives=3)
    assert pull(d, ref) == im.id
    assert len(reg.bearer.asked) >= 2


def test_pull_key_has_the_credentials(d, reg):
    """Nobody gets an image by another's pull."""
    im = simple("keyed")
    ref = reg.add(im, "private")
    reg.basic = ("alice", "pw")
    go = []
    reg.hooks.append(lambda h, kind, what: wait_for(lambda: go) and False)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        good = pool.submit(pull, d, ref, {"username": "alice", "password": "pw"})
        wait_for(lambda: reg.asked("manifests"))
        refused(d, ref, CODE.UNAUTHENTICATED)
        go.append(1)
        assert good.result() == im.id


# --- redirects ---

def redirect_to(url, status=307, only="blobs"):
    def hook(h, kind, what):
        if kind != only:
            return False
        h.send_response(status)
        h.send_header("Location", url + h.path)
        h.send_header("Content-Length", "0")
        h.end_headers()
        return True
    return hook


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_blobs_elsewhere_without_credentials(d, reg, code):
    im = simple("redirect%d" % code)
    ref = reg.add(im, "app")
    reg.basic = ("alice", "pw")
    hosts(d, reg.host, 'server = "http://%s"\n[header]\nX-Secret = "s"\n' % reg.host)
    with Registry() as storage:
        storage.blobs = im.blobs
        reg.hooks.append(redirect_to(storage.url, code))
        assert pull(d, ref, {"username": "alice", "password": "pw"}) == im.id
        assert len(storage.requests) == 2
        for _, _, headers in storage.requests:
            assert "Authorization" not in headers and "X-Secret" not in headers
    assert all(r[2].get("X-Secret") == "s" for r in reg.requests)


def test_redirect_loop_ends(d, reg):
    ref = reg.add(simple("loop"), "app")
    reg.hooks.append(redirect_to("", only="manifests"))
    refused(d, ref, CODE.UNAVAILABLE, "redirects")


def test_no_redirect_to_files(d, reg):
    ref = reg.add(simple("file"), "app")
    reg.hooks.append(redirect_to("file:///etc/passwd?", only="manifests"))
    refused(d, ref, CODE.UNAVAILABLE, "file:///etc/passwd")


# --- TLS ---

@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return Certificate(str(tmp_path_factory.mktemp("tls")))


def test_tls_with_own_ca(d, tls):
    im = simple("tls")
    with Registry(tls=tls) as reg:
        ref = reg.add(im, "app")
        # loopback is http where nothing says otherwise
        refused(d, ref, CODE.UNAVAILABLE)
        hosts(d, reg.host, 'server = "%s"\n' % reg.url)
        refused(d, ref, CODE.UNAVAILABLE, "certificate")
        path = hosts(d, reg.host, 'server = "%s"\nca = "ca.crt"\n' % reg.url)
        refused(d, ref, CODE.NOT_FOUND, "ca.crt")
        with open(tls.ca) as f, open(path + "/ca.crt", "w") as out:
            out.write(f.read())
        assert pull(d, ref) == im.id


def test_tls_by_docker_certificate_files(d, tls):
    im = simple("tls3")
    with Registry(tls=tls) as reg:
        ref = reg.add(im, "app")
        path = "%s/hosts/%s" % (d.dir, reg.host.replace(":", "_") + "_")
        os.makedirs(path)
        with open(tls.ca) as f, open(path + "/any.crt", "w") as out:
            out.write(f.read())
        assert pull(d, ref) == im.id


def test_tls_skip_verify(d, tls):
    im = simple("tls2")
    with Registry(tls=tls) as reg:
        ref = reg.add(im, "app")
        hosts(d, reg.host, 'server = "%s"\nskip_verify = true\n' % reg.url)
        assert pull(d, ref) == im.id


def test_tls_client_certificate(d, tls, tmp_path):
    im = simple("tls4")
    client = Certificate(str(tmp_path), "client")
    with Registry(tls=tls, client_ca=client.ca) as reg:
        ref = reg.add(im, "app")
        base = 'server = "%s"\nca = ["%s"]\n' % (reg.url, tls.ca)
        hosts(d, reg.host, base)
        refused(d, ref, CODE.UNAVAILABLE)
        hosts(d, reg.host, base + 'client = [["%s", "%s"]]\n' % (client.cert, client.key))
        assert pull(d, ref) == im.id


def test_https_does_not_lead_to_http(d, tls, reg):
    im = simple("down")
    reg.add(im, "app")
    with Registry(tls=tls) as secure:
        ref = secure.add(im, "app")
        hosts(d, secure.host, 'server = "%s"\nca = "%s"\n' % (secure.url, tls.ca))
        secure.hooks.append(redirect_to(reg.url))
        refused(d, ref, CODE.UNAVAILABLE, "redirects to http://")
        assert reg.requests == []


def test_credentials_do_not_leave_tls(d, tls, reg):
    reg.bearer = Tokens("alice", "pw")
    with Registry(tls=tls) as secure:
        ref = secure.add(simple("leave"), "app")
        secure.bearer = Tokens(at=reg.url + "/token")
        hosts(d, secure.host, 'server = "%s"\nca = "%s"\n' % (secure.url, tls.ca))
        refused(d, ref, CODE.UNAUTHENTICATED, "without encryption",
                auth={"username": "alice", "password": "pw"})
        assert reg.requests == []


# --- what registries do wrong ---

def test_wrong_digests(d, reg):
    im = simple("digest", 2)
    ref = reg.add(im, "app")
    layer = im.layer_digests[1]
    good = reg.blobs[layer]
    reg.blobs[layer] = bytes([good[0]]) + good[1:-9] + bytes([good[-9] ^ 1]) + good[-8:]
    refused(d, ref, CODE.DATA_LOSS, layer)
    reg.blobs[layer] = gzip.compress(layer_with(("other", "x")))[:len(good)].ljust(len(good), b"x")
    refused(d, ref, CODE.DATA_LOSS, "asked for was " + layer)
    reg.blobs[layer] = good
    config = reg.blobs[im.id]
    reg.blobs[im.id] = config.replace(b"linux", b"linuX")
    refused(d, ref, CODE.DATA_LOSS, im.id)
    reg.blobs[im.id] = config
    reg.images[("app", im.digest)] = (im.manifest + b" ", im.media_type)
    refused(d, "%s/app@%s" % (reg.host, im.digest), CODE.DATA_LOSS, im.digest)
    assert not listed(d)
    assert pull(d, ref) == im.id


def test_wrong_diff_id(d, reg):
    im = simple("diff")
    im.config = im.config.replace(sha256(im.tars[0])[7:].encode(), b"0" * 64)
    config = im.put(im.config)
    im.manifest = im.manifest.replace(im.id.encode(), config.encode())
    ref = reg.add(im, "app")
    refused(d, ref, CODE.DATA_LOSS, "0" * 64)


@pytest.mark.parametrize("delta", [-1, 1, 1000])
def test_wrong_sizes(d, reg, delta):
    import json
    for what in ("layer", "config"):
        im = simple("size%d" % delta)
        m = json.loads(im.manifest)
        (m["layers"][0] if what == "layer" else m["config"])["size"] += delta
        im.manifest = json.dumps(m).encode()
        ref = reg.add(im, "app", what)
        refused(d, ref, CODE.DATA_LOSS, "bytes")


def test_huge_documents(d, reg):
    im = simple("huge")
    reg.add(im, "app", manifest=im.manifest + b" " * (4 << 20))
    refused(d, reg.host + "/app", CODE.RESOURCE_EXHAUSTED, "4194304")
    im.manifest = im.manifest.replace(b'"size": %d' % len(im.config), b'"size": 9000000')
    refused(d, reg.add(im, "app"), CODE.INVALID_ARGUMENT, "9000000", "8388608")
    for doc in (b"", b"[]", b"{", b"null", b'{"schemaVersion": 1}', b'{"manifests": [1]}',
                b"[" * 100000, b'{"schemaVersion":2,"config":{}}', b"\xff\xfe",
                b'{"schemaVersion":2,"config":{"digest":"sha256:' + b"../" * 22 + b'"}}'):
        reg.add(im, "app", manifest=doc)
        with pytest.raises(grpc.RpcError) as e:
            pull(d, reg.host + "/app")
        assert e.value.code() in (CODE.INVALID_ARGUMENT, CODE.NOT_FOUND), (doc[:50], e.value)


def test_not_an_image(d, reg):
    im = simple("chart")
    im.manifest = im.manifest.replace(b"tar+gzip", b"erofs")
    refused(d, reg.add(im, "app"), CODE.INVALID_ARGUMENT, "erofs")


def test_truncated_body_goes_on(d, reg):
    """The connection breaks again and again: each request goes on where the last ended."""
    im = big(3, 4)
    ref = reg.add(im, "app")
    layer, sent = im.layer_digests[0], []

    def cut(h, kind, what):
        if what != layer:
            return False
        sent.append(h.headers.get("Range"))
        reg.send(h, reg.blobs[what], cut=1 << 20)
        return True
    reg.hooks.append(cut)
    assert pull(d, ref) == im.id
    starts = [int(r[6:-1]) for r in sent if r]
    assert sent[0] is None and len(starts) >= 3 and starts == sorted(starts) and starts[0] > 0


def test_truncated_body_without_ranges(d, reg):
    im = big(4, 2)
    ref = reg.add(im, "app")
    reg.ranges = False
    cuts = [1 << 19, 1 << 20]

    def cut(h, kind, what):
        if what != im.layer_digests[0] or not cuts:
            return False
        reg.send(h, reg.blobs[what], cut=cuts.pop(0))
        return True
    reg.hooks.append(cut)
    assert pull(d, ref) == im.id and not cuts


def test_truncated_for_ever_is_an_error(d, reg):
    im = big(5, 1)
    ref = reg.add(im, "app")

    def cut(h, kind, what):
        if what != im.layer_digests[0]:
            return False
        reg.drop(h)
        return True
    reg.hooks.append(cut)
    refused(d, ref, CODE.UNAVAILABLE, im.layer_digests[0])


def test_stall_is_given_up_and_tried_again(d, reg):
    im = big(6, 2)
    ref = reg.add(im, "app")
    stalls = [1]

    def hook(h, kind, what):
        if what != im.layer_digests[0] or not stalls:
            return False
        stalls.pop()
        stall(h, reg.blobs[what], 1 << 19)
        return True
    reg.hooks.append(hook)
    assert pull(d, ref) == im.id
    assert any(r[2].get("Range") for r in reg.asked(im.layer_digests[0]))


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_kept(d, reg, code):
    im = simple("retry%d" % code)
    ref = reg.add(im, "app")
    times = []

    def hook(h, kind, what):
        if kind != "manifests":
            return False
        times.append(time.monotonic())
        if len(times) > 1:
            return False
        reg.error(h, code, "TOOMANYREQUESTS", "slow down", {"Retry-After": "1"})
        return True
    reg.hooks.append(hook)
    assert pull(d, ref) == im.id
    assert 0.95 <= times[1] - times[0] < 3


def test_server_error_is_told(d, reg):
    ref = reg.add(simple("err"), "app")
    asked = []

    def hook(h, kind, what):
        asked.append(1)
        reg.error(h, 500, "UNKNOWN", "the disk is on fire")
        return True
    reg.hooks.append(hook)
    refused(d, ref, CODE.UNAVAILABLE, "HTTP 500", "the disk is on fire")
    assert len(asked) == 5


def test_what_is_not_there(d, reg):
    reg.add(simple("there"), "app")
    refused(d, reg.host + "/app:other", CODE.NOT_FOUND, reg.host, "other", "is not here")
    refused(d, "127.0.0.1:1/app", CODE.UNAVAILABLE, "127.0.0.1:1")
    refused(d, "localhost.example.invalid/app", CODE.UNAVAILABLE, "https://localhost.example")
    refused(d, "No/Such", CODE.INVALID_ARGUMENT, "Such")
    refused(d, "", CODE.INVALID_ARGUMENT, "image.image")
    refused(d, "a b", CODE.INVALID_ARGUMENT, "a b")


def test_registry_restarts_in_the_middle(d):
    im = big(7, 8)
    first = Registry()
    port = first.port
    ref = first.add(im, "app")

    def cut(h, kind, what):
        if what != im.layer_digests[0]:
            return False
        first.send(h, first.blobs[what], cut=1 << 20)
        return True
    first.hooks.append(cut)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pulled = pool.submit(pull, d, ref)
        wait_for(lambda: first.asked(im.layer_digests[0]))
        first.close()
        with Registry(port=port) as second:
            second.add(im, "app")
            assert pulled.result() == im.id
            assert second.asked(im.layer_digests[0])[0][2]["Range"] != "bytes=0-"



# --- two pulls, cancelled pulls, killed workers and daemons ---

def test_two_pulls_do_the_work_once(d, reg):
    im = simple("once", 2)
    ref = reg.add(im, "app")
    go = []
    reg.hooks.append(lambda h, kind, what: wait_for(lambda: go) and False)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        pulls = [pool.submit(pull, d, ref) for _ in range(10)]
        wait_for(lambda: reg.requests)
        assert len(workers(d)) == 1
        go.append(1)
        assert {p.result() for p in pulls} == {im.id}
    paths = [r[1] for r in reg.requests]
    assert len(paths) == len(set(paths)) == 4


def test_layers_are_shared(d, reg):
    base = layer_with(("base", "b"))
    one, two = Image([base, layer_with(("one", "1"))]), Image([base, layer_with(("two", "2"))])
    pull(d, reg.add(one, "one"))
    reg.requests.clear()
    pull(d, reg.add(two, "two"))
    assert not reg.asked(one.layer_digests[0])
    assert len(layer_dirs(d)) == 3
    remove(d, one.id)
    assert len(layer_dirs(d)) == 2
    remove(d, two.id)
    assert layer_dirs(d) == []


def test_pull_again_fetches_nothing(d, reg):
    im = simple("again", 3)
    ref = reg.add(im, "app")
    pull(d, ref)
    reg.requests.clear()
    assert pull(d, ref) == im.id
    assert not [r for r in reg.requests if any(x in r[1] for x in im.layer_digests)]


def test_moved_tag(d, reg):
    old, new = simple("old"), simple("new")
    ref = reg.add(old, "app")
    pull(d, ref)
    reg.add(new, "app")
    assert pull(d, ref) == new.id
    assert status(d, ref).image.id == new.id
    s = status(d, old.id).image
    assert list(s.repo_tags) == [] and len(s.repo_digests) == 1


def test_deadline_of_a_millisecond(d, reg):
    ref = reg.add(big(8, 4), "app")
    with d.cri.hasty() as cri, pytest.raises(grpc.RpcError) as e:
        cri.PullImage(image=api.ImageSpec(image=ref), rpc_timeout=0.001)
    assert e.value.code() == CODE.DEADLINE_EXCEEDED
    wait_for(lambda: not workers(d))
    nothing_half_made(d)
    assert layer_dirs(d) == []


@pytest.mark.parametrize("at", ["manifests", "blobs", "middle"])
def test_cancelled_pull_leaves_nothing(d, reg, at):
    im = big(9, 4)
    ref = reg.add(im, "app")
    reached = []

    def hook(h, kind, what):
        if at == "middle" and what == im.layer_digests[0]:
            reached.append(1)
            stall(h, reg.blobs[what], 2 << 20)
            return True
        if kind == at:
            reached.append(1)
            stall(h, b"x" * 100, 0)
            return True
        return False
    reg.hooks.append(hook)
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: reached)
    f.cancel()
    wait_for(lambda: not workers(d))
    nothing_half_made(d)
    assert layer_dirs(d) == [] and not listed(d)


def test_one_of_two_waiting_pulls_is_cancelled(d, reg):
    im = simple("waits")
    ref = reg.add(im, "app")
    go = []
    reg.hooks.append(lambda h, kind, what: wait_for(lambda: go) and False)
    first = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: reg.requests)
    second = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    first.cancel()
    go.append(1)
    assert second.result().image_ref == im.id


def test_whole_layers_are_kept_where_the_network_failed(d, reg):
    im = simple("kept", 3)
    ref = reg.add(im, "app")
    gone, done = reg.blobs.pop(im.layer_digests[2]), set()
    reg.hooks.append(lambda h, kind, what: what == im.layer_digests[2] and
                     wait_for(lambda: len(done) == 2) and False)
    with pytest.raises(grpc.RpcError) as e:
        for p in d.cri.Pull(reference=ref):
            if p.state == "done":
                done.add(p.layer)
    assert e.value.code() == CODE.NOT_FOUND and im.layer_digests[2] in e.value.details()
    assert done == set(im.layer_digests[:2])
    nothing_half_made(d)
    assert len(layer_dirs(d)) == 2
    reg.blobs[im.layer_digests[2]] = gone
    reg.requests.clear()
    assert pull(d, ref) == im.id
    assert not reg.asked(im.layer_digests[0]) and not reg.asked(im.layer_digests[1])


def test_worker_killed_in_the_middle(d, reg):
    im = big(10, 8)
    ref = reg.add(im, "app")
    done = []

    def hook(h, kind, what):
        if what != im.layer_digests[0] or done:
            return False
        done.append(1)
        stall(h, reg.blobs[what], 4 << 20)
        return True
    reg.hooks.append(hook)
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: done)
    # files are there
    wait_for(lambda: [x for x in os.listdir(d.root + "/tmp") if os.listdir(d.root + "/tmp/" + x)])
    for pid in workers(d):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(grpc.RpcError) as e:
        f.result()
    assert e.value.code() == CODE.INTERNAL and "ended without an answer" in e.value.details()
    nothing_half_made(d)
    assert layer_dirs(d) == []
    assert pull(d, ref) == im.id


def test_daemon_killed_after_and_in_a_pull(reg):
    d = Daemon()
    try:
        im, second = simple("durable", 2), big(11, 8)
        ref = reg.add(im, "app")
        pull(d, ref)
        d.kill()
        d.start()
        s = status(d, ref).image
        assert s.id == im.id and list(s.repo_tags) == [ref]
        other = reg.add(second, "second")
        stuck = []

        def hook(h, kind, what):
            if what != second.layer_digests[0] or stuck:
                return False
            stuck.append(1)
            stall(h, reg.blobs[what], 4 << 20)
            return True
        reg.hooks.append(hook)
        under_way = d.cri.PullImage.future(image=api.ImageSpec(image=other))
        wait_for(lambda: stuck)
        assert not under_way.done()
        d.kill()
        d.start()
        wait_for(lambda: os.listdir(d.root + "/tmp") == [])
        assert {i.id for i in listed(d)} == {im.id}
        assert pull(d, other) == second.id
    finally:
        d.close()


def test_pulls_at_once_are_bounded(reg):
    d = Daemon("  parallel_pulls: 2\n")
    try:
        refs = [reg.add(simple("p%d" % i), "p%d" % i) for i in range(6)]
        go = []
        reg.hooks.append(lambda h, kind, what: wait_for(lambda: go) and False)
        try:
            pulls = [d.cri.PullImage.future(image=api.ImageSpec(image=r)) for r in refs]
            d.cri.Version()  # on the same connection: the daemon has all six now
            wait_for(lambda: len(reg.requests) >= 2)
            # it may measure its store meanwhile, which is a worker that ends
            wait_for(lambda: len(workers(d)) == 2)
            asked = {r[1].split("/manifests/")[0] for r in reg.requests}
        finally:
            go.append(1)
        assert len(asked) == 2
        assert len({p.result(60).image_ref for p in pulls}) == 6
    finally:
        d.close()


# --- mirrors ---

def test_mirror_is_asked_first(d, reg):
    im = simple("mirror")
    with Registry() as mirror:
        mirror.add(im, "team/app")
        hosts(d, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(d, "quay.example/team/app") == im.id
        assert reg.requests == []
        assert all("ns=quay.example" in r[1] for r in mirror.requests)
        assert list(status(d, im.id).image.repo_tags) == ["quay.example/team/app:latest"]


def test_mirror_without_it_falls_back(d, reg):
    im = simple("fallback")
    reg.add(im, "team/app")
    with Registry() as mirror:
        hosts(d, "quay.example", 'server = "%s"\n[host."http://127.0.0.1:1"]\n[host."%s"]\n'
              % (reg.url, mirror.url))
        assert pull(d, "quay.example/team/app") == im.id
        assert mirror.asked("manifests") and mirror.asked("blobs")
        assert not [r for r in reg.requests if "ns=" in r[1]]
        # what each of them said is in the error
        refused(d, "quay.example/other", CODE.NOT_FOUND, "127.0.0.1:1", mirror.url, reg.url)


def test_mirror_gets_no_credentials(d, reg):
    im = simple("creds")
    reg.add(im, "app")
    reg.basic = ("alice", "pw")
    with Registry() as mirror:
        mirror.basic = ("other", "pw")
        hosts(d, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(d, "quay.example/app", {"username": "alice", "password": "pw"}) == im.id
        assert not [r for r in mirror.requests if "Authorization" in r[2]]


def test_mirror_with_wrong_bytes_falls_back(d, reg):
    im = simple("poison", 2)
    reg.add(im, "app")
    with Registry() as mirror:
        mirror.add(im, "app")
        bad = gzip.compress(layer_with(("f0", "evil")))
        layer = im.layer_digests[0]
        mirror.blobs[layer] = bad.ljust(len(im.blobs[layer]), b"\0")[:len(im.blobs[layer])]
        mirror.blobs[im.id] = im.config.replace(b"linux", b"linuX")
        hosts(d, "quay.example", 'server = "%s"\n[host."%s"]\n' % (reg.url, mirror.url))
        assert pull(d, "quay.example/app") == im.id
        assert reg.asked(layer) and reg.asked(im.id)


def test_capabilities(d, reg):
    im = simple("caps")
    reg.add(im, "app")
    with Registry() as mirror:
        mirror.add(im, "app")
        hosts(d, "quay.example", 'server = "%s"\n[host."%s"]\ncapabilities = ["pull"]\n'
              % (reg.url, mirror.url))
        assert pull(d, "quay.example/app") == im.id
        assert not mirror.asked("manifests/latest")     # tags are not for it to say
        assert mirror.asked("blobs") and not reg.asked("blobs")
        remove(d, im.id)
        mirror.requests.clear()
        assert pull(d, "quay.example/app@" + im.digest) == im.id
        assert mirror.asked("manifests")
        remove(d, im.id)
        hosts(d, "quay.example", 'server = "%s"\ncapabilities = ["push"]\n' % reg.url)
        refused(d, "quay.example/app", CODE.FAILED_PRECONDITION, "quay.example")


def test_header_path_and_default(d, reg):
    im = simple("header")
    reg.add(im, "prefix/app")
    # the host's path stands for /v2: what is asked for is /v2/prefix/app
    hosts(d, "_default", '[host."%s/v2/prefix"]\noverride_path = true\n'
          '[host."%s/v2/prefix".header]\nx-one = "1"\nx-two = ["2", "3"]\n' % (reg.url, reg.url))
    assert pull(d, "any.example/app") == im.id
    assert reg.requests[0][2]["x-one"] == "1" and reg.requests[0][2]["x-two"] in ("2", "3")
    remove(d, im.id)
    # a directory of its own comes before _default
    hosts(d, "any.example", 'server = "%s"\n' % reg.url)
    refused(d, "any.example/app", CODE.NOT_FOUND)


def test_directory_of_a_port(d, reg):
    im = simple("port")
    reg.add(im, "app")
    hosts(d, "quay.example_5000_", 'server = "%s"\n' % reg.url)
    hosts(d, "quay.example:5000", 'server = "http://127.0.0.1:1"\n')
    assert pull(d, "quay.example:5000/app") == im.id


def test_mistakes_in_hosts_toml_are_told(d):
    for text, line in (("server = 5\n", 1), ("\n\n[host.\"ftp://x\"]\n", 3),
                       ("[host.\"https://x\"]\nca = 1\n", 2), ("x\n", 1), ("server = \"a\n", 1),
                       ("skip_verify = \"yes\"\n", 1), ("[[host]]\n", 1), ("[other]\n", 1),
                       ("capabilities = [\"fly\"]\n", 1), ("server = \"a b\"\n", 1)):
        hosts(d, "bad.example", text)
        refused(d, "bad.example/app", CODE.INVALID_ARGUMENT, "bad.example/hosts.toml:%d:" % line)


# --- what is asked about images ---

def test_every_form_of_reference(d, reg):
    im = simple("forms", config={"User": "1000:50"})
    reg.add(im, "library/busy")
    hosts(d, "docker.io", 'server = "%s"\n' % reg.url)
    pull(d, "busy:latest")
    hexid = im.id[7:]
    forms = ["busy", "busy:latest", "docker.io/busy", "docker.io/library/busy:latest",
             "index.docker.io/library/busy", "library/busy", im.id, hexid, hexid[:12],
             "sha256:" + hexid[:12], "busy@" + im.digest, "docker.io/library/busy@" + im.digest,
             "busy:latest@" + im.digest]
    for f in forms:
        assert status(d, f).image.id == im.id, f
        assert [i.id for i in listed(d, f)] == [im.id], f
    for f in ("busy:other", "sha256:" + "0" * 64, hexid[:12][::-1] + "00", "busy@sha256:" + "0" * 64,
              "quay.io/library/busy"):
        assert not status(d, f).HasField("image"), f
        assert list(listed(d, f)) == [], f
    for f in forms[:9]:
        remove(d, f)
        assert not status(d, im.id).HasField("image")
        remove(d, f)    # once more is no error
        pull(d, "busy")


def test_user_and_verbose(d, reg):
    import json
    for user, uid, name in (("1000", 1000, ""), ("1000:1", 1000, ""), ("web", None, "web"),
                            ("web:www", None, "web"), ("", None, ""), ("0", 0, "")):
        im = simple("user" + user, config={"User": user, "Env": ["A=b"], "Cmd": ["/c"],
                                           "Labels": {"l": "v"}, "StopSignal": "SIGUSR1"})
        pull(d, reg.add(im, "app"))
        s = status(d, im.id, verbose=True)
        assert (s.image.uid.value if s.image.HasField("uid") else None) == uid
        assert s.image.username == name
        info = json.loads(s.info["info"])
        assert info["imageSpec"]["config"]["Env"] == ["A=b"]
        assert info["imageSpec"]["config"]["Labels"] == {"l": "v"}
        assert info["imageSpec"]["rootfs"]["diff_ids"] == [sha256(im.tars[0])]
        assert not status(d, im.id).info


def test_one_tag_removes_all(d, reg):
    im = simple("tags")
    with Registry() as other:
        refs = [reg.add(im, "app", t) for t in ("1", "2", "3")] + [other.add(im, "else")]
        assert {pull(d, r) for r in refs} == {im.id}
        s = status(d, im.id).image
        assert sorted(s.repo_tags) == sorted(refs) and len(s.repo_digests) == 2
        assert len(listed(d)) == 1
        remove(d, refs[1])
        for r in refs:
            assert not status(d, r).HasField("image")
        assert layer_dirs(d) == []


def test_image_fs_info_counts(d, reg):
    base = d.cri.ImageFsInfo()
    im = big(12, 6)
    layer = Layer().add("a", noise(2 << 20))
    for i in range(50):
        layer.hardlink("l%d" % i, "a")
    linked = Image([layer.bytes()])
    pull(d, reg.add(im, "a"))
    pull(d, reg.add(linked, "b"))
    want = int(subprocess.run(["du", "-sB1", d.root + "/layers", d.root + "/images"],
                              stdout=subprocess.PIPE, check=True,
                              text=True).stdout.split("\n")[0].split()[0])

    def grown():
        fs = d.cri.ImageFsInfo().image_filesystems[0]
        return fs if fs.used_bytes.value - base.image_filesystems[0].used_bytes.value > 7 << 20 \
            else None
    fs = wait_for(grown, timeout=30, every=0.2)
    assert abs(fs.used_bytes.value - want) < 200 << 10, (fs.used_bytes.value, want)
    assert fs.inodes_used.value >= 4 and fs.timestamp > 0
    assert fs.fs_id.mountpoint == d.root
    c = d.cri.ImageFsInfo().container_filesystems[0]
    assert c.fs_id.mountpoint == d.root
    s = status(d, im.id).image
    assert s.size == 6 << 20


def test_unknown_runtime_handler(d, reg):
    im = simple("handler")
    ref = reg.add(im, "app")
    with pytest.raises(grpc.RpcError) as e:
        d.cri.PullImage(image=api.ImageSpec(image=ref, runtime_handler="nope"))
    assert e.value.code() in (CODE.NOT_FOUND, CODE.INVALID_ARGUMENT) and "nope" in e.value.details()
    assert d.cri.PullImage(image=api.ImageSpec(image=ref, runtime_handler="runc")).image_ref == im.id


def test_progress_of_a_pull(d, reg):
    im = simple("progress", 2)
    ref = reg.add(im, "app")
    seen = list(d.cri.Pull(reference=ref))
    assert seen[-1].image_id == im.id[7:] and seen[-1].image_name == ref
    assert {(s.layer, s.state) for s in seen} >= {(x, "done") for x in im.layer_digests}


def test_a_paused_transfer_goes_on_at_once(d, reg):
    """A pipe holds a megabyte: a wait for nothing at each would take half a minute here."""
    im = big(13, 40)
    ref = reg.add(im, "app")
    start = time.monotonic()
    assert pull(d, ref) == im.id
    assert time.monotonic() - start < 20 * SLOW


# --- what a worker may do ---

def proc_status(pid):
    with open("/proc/%d/status" % pid) as f:
        return {k: v.strip() for k, v in (x.split(":", 1) for x in f)}


def test_worker_is_confined(d, reg):
    if d.sanitized():
        pytest.skip("a sanitizer's build is not confined: it maps terabytes, and traces itself")
    im = big(14, 8)
    ref = reg.add(im, "app")
    stuck = []

    def hook(h, kind, what):
        if what != im.layer_digests[0] or stuck:
            return False
        stuck.append(1)
        stall(h, reg.blobs[what], 4 << 20)
        return True
    reg.hooks.append(hook)
    f = d.cri.PullImage.future(image=api.ImageSpec(image=ref))
    wait_for(lambda: stuck)
    worker = workers(d)[0]
    children = wait_for(lambda: [int(x) for x in open("/proc/%d/task/%d/children" % (worker, worker))
                                 .read().split()])
    allowed = {0, 1, 3, 4, 27, 31, 21}      # chown dac_override fowner fsetid mknod setfcap sys_admin
    for pid in (worker, children[0]):
        s = proc_status(pid)
        assert s["NoNewPrivs"] == "1"
        assert s["Seccomp"] == "2"
        caps = int(s["CapEff"], 16)
        assert not [c for c in range(64) if caps >> c & 1 and c not in allowed]
        assert os.readlink("/proc/%d/ns/mnt" % pid) != os.readlink("/proc/self/ns/mnt")
        writable = []
        with open("/proc/%d/mountinfo" % pid) as m:
            for line in m:
                fields = line.split()
                assert {"nosuid", "nodev", "noexec"} <= set(fields[5].split(",")), line
                if "rw" in fields[5].split(","):
                    writable.append(fields[4])
        assert writable == [d.root]
    # the process that unpacks has no connection to anybody but its worker
    fds = [os.readlink("/proc/%d/fd/%s" % (children[0], x))
           for x in os.listdir("/proc/%d/fd" % children[0])]
    assert len([x for x in fds if x.startswith("socket:")]) == 1, fds
    f.cancel()
    wait_for(lambda: not workers(d))


def test_image_of_a_container_is_not_removed(fresh, archive):
    d = fresh
    pod = d.run_pod()
    ctr = d.run(pod, "sleep 1000")
    im = status(d, "test/busybox:latest").image
    for ref in ("test/busybox:latest", im.id):
        with pytest.raises(grpc.RpcError) as e:
            remove(d, ref)
        assert e.value.code() == CODE.FAILED_PRECONDITION and ctr in e.value.details()
    assert d.exec(ctr, "cat /etc/passwd").exit_code == 0
    assert status(d, im.id).image == im
    d.cri.RemoveContainer(container_id=ctr)
    remove(d, "test/busybox:latest")
    remove(d, "test/busybox:latest")
    assert not status(d, im.id).HasField("image") and layer_dirs(d) == []
