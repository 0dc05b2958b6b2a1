# SPDX-License-Identifier: Apache-2.0
"""A runtime that makes and restores checkpoints without CRIU: what it restores begins anew. And the real
CRIU, where one works: that of the machine, or the one that tests/criu has fetched."""
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile

import image
from cri import TOP
from daemon import Daemon, wait_for

# crun, that knows of checkpoints: `hook` is what it does for one, before it restores one `hook-restore`.
FAKE = r"""#!/bin/sh
images= work= id=
case " $* " in
*" checkpoint "*) ;;
*" restore "*)
	for word; do
		case $word in
		restore) words="$words run" ;;
		--tcp-established|--file-locks|--image-path|--work-path) ;;
		*) case $before in
		   --image-path) images=$word ;;
		   --work-path) work=$word ;;
		   *) words="$words $word" ;;
		   esac ;;
		esac
		before=$word
	done
	[ ! -e TOP/hook-restore ] || . TOP/hook-restore
	grep -q memory "$images/pages-1.img" || exit 1
	exec crun $words ;;
*) exec crun "$@" ;;
esac
while [ $# -gt 0 ]; do
	case $1 in
	--help) exit 0 ;;
	--image-path) images=$2; shift ;;
	--work-path) work=$2; shift ;;
	esac
	id=$1
	shift
done
. TOP/hook
"""
# The heads of CRIU's images: magic numbers, and of a process its machine.
INVENTORY = b"\x16\x31\x31\x58"
CORE = b"\x19\x43\x56\x54\x47\x38\x05\x55\x02\x00\x00\x00\x08"
MACHINE = {"x86_64": b"\x01", "aarch64": b"\x03"}.get(platform.machine(), b"\x00")


# What a manifest says of an image that holds a checkpoint.
NAME = "io.kubernetes.cri-o.annotations.checkpoint.name"


def octal(data):
    return "".join("\\%03o" % b for b in data)


GOOD = """mkdir "$images" && echo memory >"$images/pages-1.img" && echo "of $id" >"$work/dump.log" &&
printf '%s' >"$images/inventory.img" && printf '%s' >"$images/core-1.img"
""" % (octal(INVENTORY), octal(CORE + MACHINE))


def make_fake(top):
    """The runtime, and a criu that is content. The PATH to find it on, and the configuration."""
    (top / "criu").write_text("#!/bin/sh\nexit 0\n")
    (top / "fake").write_text(FAKE.replace("TOP", str(top)))
    (top / "hook").write_text(GOOD)
    for name in ("criu", "fake"):
        (top / name).chmod(0o755)
    return ("%s:%s" % (top, os.environ["PATH"]),
            "runtimes:\n  fake: {path: %s/fake}\n  crun: {path: crun}\n"
            "default_runtimes: [fake]\n" % top)


def fake_daemon(top, archive, config="", **kw):
    """Its handlers: `fake` and crun; what else by `config`."""
    path, handlers = make_fake(top)
    d = Daemon(config=handlers + config, env={"PATH": path, **kw.pop("env", {})}, **kw)
    d.hook, d.hook_restore = top / "hook", top / "hook-restore"
    d.load(archive)
    wait_for(lambda: len(d.cri.Status().runtime_handlers) == 3, timeout=60)
    return d


def rewrite(path, to, change=None, drop=(), **members):
    """A copy of an archive without members, and with others: bytes, or a TarInfo."""
    with tarfile.open(path) as old, tarfile.open(to, "w") as new:
        for m in old:
            if m.name in drop or m.name in members:
                continue
            data = old.extractfile(m).read() if m.isreg() else b""
            if change:
                data = change(m.name, data)
            m.size = len(data)
            m.pax_headers = {}
            new.addfile(m, io.BytesIO(data))
        for name, what in members.items():
            if isinstance(what, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(what)
                new.addfile(info, io.BytesIO(what))
            else:
                what.name = name
                new.addfile(what)
    return str(to)


def changed(path, name, fn):
    """That JSON member of an archive as fn() has changed it."""
    with tarfile.open(path) as t:
        doc = json.load(t.extractfile(name))
    fn(doc)
    return {name: json.dumps(doc).encode()}


def criu_path():
    """A PATH on which `criu` works with this kernel, or None."""
    cache = os.path.join(os.environ.get("GANTRY_CACHE", TOP + "/.cache"), "criu", "bin")
    for path in (os.environ["PATH"], cache + ":" + os.environ["PATH"]):
        criu = shutil.which("criu", path=path)
        if criu and subprocess.run([criu, "check"], stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL).returncode == 0:
            return path
    return None


def as_image(path, **annotations):
    with open(path, "rb") as f:
        im = image.Image([f.read()])
    m = json.loads(im.manifest)
    m["annotations"] = annotations
    del im.blobs[im.digest]
    im.manifest = json.dumps(m).encode()
    im.digest = im.put(im.manifest)
    return im
