# SPDX-License-Identifier: Apache-2.0
"""Short forms of what stands in manifests."""
import atexit
import os
import shutil
import tempfile

from cri import SLOW

HOST = "k8s.test"
IMAGE = HOST + "/busybox:1"
# A folder of the node that tests and their pods share.
SHARE = tempfile.mkdtemp(prefix="gt-kubelet-share-")
os.chmod(SHARE, 0o777)
atexit.register(shutil.rmtree, SHARE, ignore_errors=True)

SLEEP = "exec sleep 1000"
# Ends at once when it is told to; process 1 has no default for SIGTERM.
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def sh(name, script, **fields):
    """A container that runs a script. To the kubelet, which has variables of its own, $$ is $."""
    fields.setdefault("image", IMAGE)
    return {"name": name, "command": ["sh", "-c", script.replace("$$", "$$$$")], **fields}


def pod(name, *containers, labels=None, annotations=None, uid=None, **spec):
    """Of containers, and of what else stands in the spec."""
    meta = {"name": name, "labels": {"app": name, **(labels or {})}}
    if annotations:
        meta["annotations"] = annotations
    if uid:
        meta["uid"] = uid
    spec.setdefault("terminationGracePeriodSeconds", SLOW)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {"containers": list(containers), **spec}}


def volume(name, **source):
    return {"name": name, **(source or {"emptyDir": {}})}


def share(name="share"):
    """SHARE as a volume."""
    return volume(name, hostPath={"path": SHARE, "type": "Directory"})


def at(path, name="share", **fields):
    return {"name": name, "mountPath": path, **fields}


# A probe that nobody waits for long; each answer has its time also where all is slow.
OFTEN = {"periodSeconds": 1, "timeoutSeconds": SLOW}


def command(*words):
    return {"exec": {"command": list(words)}}


def script(text):
    return command("sh", "-c", text)


def path_of(name):
    return os.path.join(SHARE, name)


def read(name):
    """A file that a pod left in SHARE; empty where it has not."""
    try:
        with open(path_of(name)) as f:
            return f.read()
    except FileNotFoundError:
        return ""


def write(name, text=""):
    with open(path_of(name), "w") as f:
        f.write(text)
