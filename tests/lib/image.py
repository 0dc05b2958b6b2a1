# SPDX-License-Identifier: Apache-2.0
"""Images for tests: layers made entry by entry, written as archives or served as a registry."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    def __init__(self):
        self.buf = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buf, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, data=b"", kind=tarfile.REGTYPE, mode=0o644, link="", xattrs=None, uid=0,
            gid=0, mtime=1700000000, dev=(0, 0)):
        t = tarfile.TarInfo(name)
        t.type, t.mode, t.linkname, t.uid, t.gid, t.mtime = kind, mode, link, uid, gid, mtime
        t.devmajor, t.devminor = dev
        if isinstance(data, str):
            data = data.encode()
        t.size = len(data) if kind == tarfile.REGTYPE else 0
        t.pax_headers = {"SCHILY.xattr." + k: v for k, v in (xattrs or {}).items()}
        self.tar.addfile(t, io.BytesIO(data) if t.size else None)
        return self

    def dir(self, name, mode=0o755, **kw):
        return self.add(name, kind=tarfile.DIRTYPE, mode=mode, **kw)

    def symlink(self, name, target, **kw):
        return self.add(name, kind=tarfile.SYMTYPE, link=target, mode=0o777, **kw)

    def hardlink(self, name, target, **kw):
        return self.add(name, kind=tarfile.LNKTYPE, link=target, **kw)

    def bytes(self):
        self.tar.close()
        return self.buf.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE,
                          check=True).stdout


class Image:
    """Blobs of one image. `layers`: bytes of tars, lowest first."""

    def __init__(self, layers, config=None, compress="gzip", docker=False, arch="amd64"):
        self.blobs = {}
        self.tars = layers
        self.config = json.dumps({
            "architecture": arch, "os": "linux", "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(x) for x in layers]},
        }).encode()
        self.id = sha256(self.config)
        descriptors = []
        for i, tar in enumerate(layers):
            how = compress[i] if isinstance(compress, (list, tuple)) else compress
            data = {"gzip": lambda t: gzip.compress(t, 1, mtime=0), "zstd": zstd,
                    "tar": lambda t: t}[how](tar)
            kind = DOCKER_LAYER if docker else OCI_LAYER + \
                {"gzip": "+gzip", "zstd": "+zstd", "tar": ""}[how]
            descriptors.append({"mediaType": kind, "digest": self.put(data), "size": len(data)})
        self.layer_digests = [d["digest"] for d in descriptors]
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
                       "digest": self.put(self.config), "size": len(self.config)},
            "layers": descriptors}).encode()
        self.media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        self.digest = self.put(self.manifest)

    def put(self, data):
        d = sha256(data)
        self.blobs[d] = data
        return d

    def index(self, others=(), docker=False):
        """An index of this image and others [(image, arch)]; returns (bytes, media type)."""
        entries = []
        for image, arch in [(self, "amd64"), *others]:
            entries.append({"mediaType": image.media_type, "digest": image.digest,
                            "size": len(image.manifest),
                            "platform": {"os": "linux", "architecture": arch}})
        kind = DOCKER_LIST if docker else OCI_INDEX
        return json.dumps({"schemaVersion": 2, "mediaType": kind,
                           "manifests": entries}).encode(), kind

    def docker_archive(self, path, tags):
        with tarfile.open(path, "w") as t:
            def add(name, data):
                i = tarfile.TarInfo(name)
                i.size = len(data)
                t.addfile(i, io.BytesIO(data))
            names = []
            for tar in self.tars:
                names.append(hashlib.sha256(tar).hexdigest() + "/layer.tar")
                add(names[-1], tar)
            config = self.id[7:] + ".json"
            add(config, self.config)
            add("manifest.json", json.dumps([{"Config": config, "RepoTags": tags,
                                              "Layers": names}]).encode())

    def oci_files(self, name=None):
        annotations = {"io.containerd.image.name": name} if name else {}
        files = {"blobs/sha256/" + d[7:]: data for d, data in self.blobs.items()}
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [{
            "mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest),
            "annotations": annotations}]}).encode()
        return files

    def oci_archive(self, path, name=None):
        with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as t:
            for n, data in self.oci_files(name).items():
                i = tarfile.TarInfo(n)
                i.size = len(data)
                t.addfile(i, io.BytesIO(data))

    def oci_layout(self, path, name=None):
        for n, data in self.oci_files(name).items():
            f = os.path.join(path, n)
            os.makedirs(os.path.dirname(f), exist_ok=True)
            with open(f, "wb") as out:
                out.write(data)


def busybox_layer(busybox):
    """The static busybox with its applets as links, /etc/passwd and /etc/group."""
    with open(busybox, "rb") as f:
        data = f.read()
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True,
                             text=True).stdout.split()
    layer = Layer()
    for d, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777),
                    ("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("home", 0o755),
                    ("var", 0o755)):
        layer.dir(d, mode)
    layer.add("bin/busybox", data, mode=0o755)
    for a in applets:
        if a != "busybox":
            layer.hardlink("bin/" + a, "bin/busybox", mode=0o755)
    layer.add("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:n:/:/bin/false\n"
                            "web:x:1000:1000:w:/home:/bin/sh\n")
    layer.add("etc/group", "root:x:0:\nnogroup:x:65534:\nweb:x:1000:\nextra:x:1234:web\n")
    return layer


def busybox_image(busybox, config=None, **kw):
    return Image([busybox_layer(busybox).bytes()],
                 config or {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}, **kw)


class Artifact:
    """An OCI artifact. `blobs`: [(bytes, title or None, media type)], or whole descriptors."""

    def __init__(self, blobs, kind="application/x.test.v1", config=(OCI_EMPTY, b"{}"), **manifest):
        self.blobs = {}
        descriptors = []
        for data, title, *media_type in blobs:
            d = {"mediaType": media_type[0] if media_type else "application/octet-stream",
                 "digest": self.put(data), "size": len(data)}
            if title is not None:
                d["annotations"] = title if isinstance(title, dict) else \
                    {"org.opencontainers.image.title": title}
            descriptors.append(d)
        doc = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": descriptors,
               "config": {"mediaType": config[0], "digest": self.put(config[1]),
                          "size": len(config[1])}, **manifest}
        if kind:
            doc["artifactType"] = kind
        self.manifest = json.dumps(doc).encode()
        self.media_type = OCI_MANIFEST
        self.digest = self.id = self.put(self.manifest)

    put, oci_files, oci_archive, oci_layout, index = \
        Image.put, Image.oci_files, Image.oci_archive, Image.oci_layout, Image.index
