#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the stand-in images that critest and bench.py ask for.

Writes one OCI image layout (blobs/sha256/*, index.json) in which every image
is named by its full reference (registry.k8s.io/pause:3.9 and so on), for
registry.py to serve.  Needs a C compiler, a busybox whose shell runs the
files of its PATH before its own applets (Debian's `busybox`; the shell of
`busybox-static` does not, and specs that mask or shadow /bin/ls see nothing),
an nginx binary, and `zstd` for the zstd images.  Both programs are dynamic:
the libraries that they load go into the images.

  mkimages.py OUT --busybox FILE --nginx FILE [--big MB]
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
EPOCH = "2024-01-01T00:00:00Z"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER_ARCH = "s390x" if ARCH != "s390x" else "amd64"
OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "tar": "application/vnd.oci.image.layer.v1.tar",
}
DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "tar": "application/vnd.docker.image.rootfs.diff.tar",
}


class Layer:
    """A layer's uncompressed tar, entry by entry."""

    def __init__(self):
        self.buf = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buf, mode="w", format=tarfile.PAX_FORMAT)
        self.seen = set()

    def _add(self, name, kind, mode, uid=0, gid=0, data=None, link=""):
        name = name.strip("/")
        up = os.path.dirname(name)
        if up and up not in self.seen:
            self.dir(up)
        t = tarfile.TarInfo(name)
        t.type, t.mode, t.uid, t.gid, t.linkname, t.mtime = kind, mode, uid, gid, link, 1704067200
        if data is not None:
            t.size = len(data)
        self.tar.addfile(t, io.BytesIO(data) if data is not None else None)
        self.seen.add(name)

    def dir(self, name, mode=0o755, uid=0, gid=0):
        if name.strip("/") not in self.seen:
            self._add(name, tarfile.DIRTYPE, mode, uid, gid)

    def file(self, name, data, mode=0o644, uid=0, gid=0):
        self._add(name, tarfile.REGTYPE, mode, uid, gid, data if isinstance(data, bytes) else data.encode())

    def symlink(self, name, to):
        self._add(name, tarfile.SYMTYPE, 0o777, link=to)

    def hardlink(self, name, to):
        self._add(name, tarfile.LNKTYPE, 0o755, link=to.strip("/"))

    def copy(self, name, path, mode=0o755):
        with open(path, "rb") as f:
            self.file(name, f.read(), mode)

    def bytes(self):
        self.tar.close()
        return self.buf.getvalue()


class Store:
    def __init__(self, out):
        self.out = out
        self.blobs = os.path.join(out, "blobs", "sha256")
        os.makedirs(self.blobs, exist_ok=True)
        self.index = []

    def put(self, data):
        d = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.blobs, d), "wb") as f:
            f.write(data)
        return "sha256:" + d, len(data)

    def layer(self, tar, how="gzip"):
        """Stores a layer, returns (diff id, digest, size, how)."""
        diff = "sha256:" + hashlib.sha256(tar).hexdigest()
        if how == "gzip":
            z = io.BytesIO()
            with gzip.GzipFile(filename="", mode="wb", fileobj=z, compresslevel=6, mtime=0) as g:
                g.write(tar)
            data = z.getvalue()
        elif how == "zstd":
            data = subprocess.run(["zstd", "-q", "-3", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
        else:
            data = tar
        return (diff, *self.put(data), how)

    def image(self, refs, layers, types=OCI, with_index=False, note="", **config):
        cfg = {
            "created": EPOCH, "architecture": ARCH, "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [l[0] for l in layers]},
            "history": [{"created": EPOCH, "created_by": "mkimages", "comment": note or refs[0]} for _ in layers],
        }
        cd, cs = self.put(json.dumps(cfg, sort_keys=True).encode())
        man = {
            "schemaVersion": 2, "mediaType": types["manifest"],
            "config": {"mediaType": types["config"], "digest": cd, "size": cs},
            "layers": [{"mediaType": types[l[3]], "digest": l[1], "size": l[2]} for l in layers],
        }
        md, ms = self.put(json.dumps(man, sort_keys=True).encode())
        top = {"mediaType": types["manifest"], "digest": md, "size": ms}
        if with_index:
            other = "sha256:" + hashlib.sha256(b"no such platform here").hexdigest()
            idx = {"schemaVersion": 2, "mediaType": types["index"], "manifests": [
                {"mediaType": types["manifest"], "digest": other, "size": 400,
                 "platform": {"architecture": OTHER_ARCH, "os": "linux"}},
                {**top, "platform": {"architecture": ARCH, "os": "linux"}}]}
            xd, xs = self.put(json.dumps(idx, sort_keys=True).encode())
            top = {"mediaType": types["index"], "digest": xd, "size": xs}
        for r in refs:
            self.index.append({**top, "annotations": {"org.opencontainers.image.ref.name": r}})
        return md

    def close(self):
        with open(os.path.join(self.out, "oci-layout"), "w") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')
        with open(os.path.join(self.out, "index.json"), "w") as f:
            json.dump({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": self.index}, f, indent=1)


def libraries(*binaries):
    """The shared objects the binaries load, as the paths the loader uses."""
    need = set()
    for b in binaries:
        r = subprocess.run(["ldd", b], capture_output=True, text=True, check=False,
                           env=dict(os.environ, LC_ALL="C"))
        missing = re.findall(r"(\S+) => not found", r.stdout)
        if missing:
            raise SystemExit("%s needs libraries that are not installed: %s" %
                             (b, " ".join(missing)))
        need |= set(re.findall(r"(/\S+) \(0x", r.stdout))
    return sorted(need)


def add_libraries(layer, paths):
    """Under the name that the loader asks for, whatever it is a link to here."""
    for p in paths:
        layer.copy(p, os.path.realpath(p))


PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
wheel:x:10:root
mail:x:8:
utmp:x:43:
staff:x:50:
www-data:x:33:
operator:x:37:
users:x:100:
nobody:x:65534:
"""


def busybox_layer(busybox):
    """A root file system as busybox images have it: the applets are hard
    links, so that masking one path (MaskedPaths: /bin/ls) masks one applet."""
    l = Layer()
    for d in ("bin", "etc", "root", "var", "usr", "home", "dev", "proc", "sys", "run"):
        l.dir(d, 0o700 if d == "root" else 0o755)
    l.dir("tmp", 0o1777)
    for d in ("usr/bin", "usr/sbin", "sbin", "var/www", "var/spool/mail"):
        l.dir(d)
    l.copy("bin/busybox", busybox)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for a in applets:
        if a not in ("busybox", "linuxrc", "init"):
            l.hardlink("bin/" + a, "bin/busybox")
    have = set(applets)
    # What Debian leaves out of its busybox and critest uses.
    if "pgrep" not in have:
        l.file("bin/pgrep", '#!/bin/sh\nexec pidof "$1"\n', 0o755)
    if "ipcs" not in have:
        l.file("bin/ipcs", "#!/bin/sh\nexec cat /proc/sysvipc/shm\n", 0o755)
    l.file("etc/passwd", PASSWD)
    l.file("etc/group", GROUP)
    l.file("etc/shadow", "root:*:::::::\n", 0o600)
    add_libraries(l, libraries(busybox))
    return l


def nginx_layer(nginx, port):
    l = Layer()
    l.copy("usr/sbin/nginx", nginx)
    add_libraries(l, libraries(nginx))
    l.dir("var/log/nginx")
    l.dir("var/lib/nginx")
    l.dir("var/run")
    l.file("etc/nginx/nginx.conf", """pid /var/run/nginx.pid;
error_log stderr;
worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
  uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen %d; location / { root /usr/share/nginx/html; index index.html; } }
}
""" % port)
    l.file("usr/share/nginx/html/index.html", "<html><body>Welcome</body></html>\n")
    # nginx drops to `nobody` of group `nogroup` where it is not told otherwise
    l.file("etc/passwd", PASSWD)
    l.file("etc/group", GROUP + "nogroup:x:65533:\n")
    return l


def compiled(name):
    d = tempfile.mkdtemp()
    exe = os.path.join(d, name)
    subprocess.run([os.environ.get("CC", "cc"), "-Os", "-static", "-s", "-o", exe, os.path.join(HERE, "images", name + ".c")], check=True)
    with open(exe, "rb") as f:
        data = f.read()
    shutil.rmtree(d)
    return data


def big_layer(seed, mib):
    """Files of many sizes, of contents that gzip takes to about two fifths."""
    r = random.Random(seed)
    words = [r.randbytes(r.randint(3, 14)) for _ in range(400)]
    pool = b"".join(r.choices(words, k=2000000))
    noise = r.randbytes(16 << 20)
    l, total, i = Layer(), 0, 0
    while total < mib << 20:
        n = min(int(r.lognormvariate(9.6, 1.9)) + 1, 8 << 20, (mib << 20) - total + 1)
        out = io.BytesIO()
        left = n
        while left > 0:
            src = noise if r.random() < 0.12 else pool
            k = min(left, r.randint(200, 65536))
            o = r.randrange(len(src) - k)
            out.write(src[o:o + k])
            left -= k
        l.file("data/l%d/d%02d/f%05d" % (seed, i % 61, i), out.getvalue(), r.choice((0o644, 0o755)))
        total += n
        i += 1
    return l


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--busybox", required=True)
    p.add_argument("--nginx")
    p.add_argument("--big", type=int, default=0,
                   help="uncompressed MiB of the two images of the pull benchmark, 0: none "
                   "(about 40 per cent of it compressed)")
    a = p.parse_args()
    s = Store(a.out)

    bb = busybox_layer(a.busybox)
    base = s.layer(bb.bytes())
    e2e, gcr = "registry.k8s.io/e2e-test-images/", "gcr.io/k8s-staging-cri-tools/"
    s.image([e2e + "busybox:1.29-2"], [base], OCI, True, Cmd=["sh"])

    pause = Layer()
    pause.file("pause", compiled("pause"), 0o755)
    pl = s.layer(pause.bytes())
    # One spec counts the tags of the 3.9 image, so the runtimes' own sandbox
    # image (3.10 and later) is an image of its own.
    for refs, v in ((["registry.k8s.io/pause:3.9", "k8s.gcr.io/pause:3.9"], "3.9"),
                    (["registry.k8s.io/pause:" + v for v in ("3.10", "3.10.1", "3.10.2")], "3.10")):
        s.image(refs, [pl], DOCKER, True, User="65535:65535", Entrypoint=["/pause"], WorkingDir="/", Labels={"version": v})

    nnp = Layer()
    nnp.file("nnp", compiled("nnp"), 0o4755)
    s.image([e2e + "nonewprivs:1.3"], [base, s.layer(nnp.bytes())], OCI, Entrypoint=["/nnp"])

    web = Layer()
    web.file("usr/local/apache2/htdocs/index.html", "<html><body><h1>It works!</h1></body></html>\n")
    web.file("usr/local/bin/httpd-foreground",
             "#!/bin/sh\necho \"AH00094: Command line: 'httpd -D FOREGROUND'\" >&2\n"
             "exec httpd -f -p 80 -h /usr/local/apache2/htdocs\n", 0o755)
    s.image([e2e + "httpd:2.4.39-4"], [base, s.layer(web.bytes())], OCI, True, Cmd=["httpd-foreground"],
            WorkingDir="/usr/local/apache2", ExposedPorts={"80/tcp": {}}, StopSignal="SIGTERM")

    if a.nginx:
        cmd = ["nginx", "-g", "daemon off;"]
        s.image([e2e + "nginx:1.14-2"], [base, s.layer(nginx_layer(a.nginx, 80).bytes())], OCI, True,
                Cmd=cmd, ExposedPorts={"80/tcp": {}}, StopSignal="SIGQUIT")
        s.image([gcr + "hostnet-nginx-%s:latest" % ARCH], [base, s.layer(nginx_layer(a.nginx, 12003).bytes())], DOCKER,
                Cmd=cmd, ExposedPorts={"80/tcp": {}}, StopSignal="SIGQUIT")

    for n in ("test-image-1", "test-image-2", "test-image-3", "test-image-latest", "test-image-digest"):
        l = Layer()
        l.file(n, "")
        s.image([gcr + n + ":latest"], [base, s.layer(l.bytes())], DOCKER, True, Cmd=["sh"])
    l = Layer()
    l.file("same-image", "")
    s.image([gcr + "test-image-tags:%d" % i for i in (1, 2, 3)], [base, s.layer(l.bytes())], DOCKER, True, Cmd=["sh"])
    for tag in ("test", "all"):
        l = Layer()
        l.file(tag, "")
        s.image([gcr + "test-image-tag:" + tag], [base, s.layer(l.bytes())], DOCKER, True, Cmd=["sh"])
    for n, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"), ("username-group", "www-data:1004")):
        s.image([gcr + "test-image-user-%s:latest" % n], [base], DOCKER, True, Cmd=["sh"], User=user)
    l = Layer()
    l.file("etc/passwd", PASSWD + "default-user:x:1000:1000:Linux User,,,:/home/default-user:/bin/sh\n")
    l.file("etc/group", GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
    l.dir("home/default-user", 0o755, 1000, 1000)
    s.image([gcr + "test-image-predefined-group:latest"], [base, s.layer(l.bytes())], DOCKER, True, Cmd=["sh"], User="1000")

    for tag in ("1.35.0-glibc", "1-uclibc", "1", "1-glibc", "1-musl"):
        l = Layer()
        l.file("variant", tag + "\n")
        s.image(["public.ecr.aws/docker/library/busybox:" + tag], [base, s.layer(l.bytes())], OCI, True, Cmd=["sh"])

    s.image(["bench.local/work:1"], [base, pl], OCI, Cmd=["/pause"])  # /pause leaves on SIGTERM, also as process 1
    if a.big:
        gz, zs = [], []
        for i in range(5):  # no layer in common: a runtime would not unpack it twice
            gz.append(s.layer(big_layer(i, a.big // 5).bytes(), "gzip"))
            zs.append(s.layer(big_layer(100 + i, a.big // 5).bytes(), "zstd"))
        s.image(["bench.local/big:gzip"], gz, OCI, Cmd=["sh"])
        s.image(["bench.local/big:zstd"], zs, OCI, Cmd=["sh"])
        for n, ls in (("gzip", gz), ("zstd", zs)):
            print("big:%s %.1f MB in %d layers" % (n, sum(l[2] for l in ls) / 1e6, len(ls)))
    s.close()
    print(len(s.index), "references in", a.out)


if __name__ == "__main__":
    main()
