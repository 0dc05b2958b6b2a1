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
from cri import api
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

