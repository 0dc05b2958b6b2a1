# SPDX-License-Identifier: Apache-2.0
"""File systems on a disk that remembers (disk), and on what is left of it after a cut."""
import os
import subprocess

from cri import TOP
from daemon import Daemon, wait_for
from recording import copy_sparse

SIZE = 400 << 20  # bytes; xfs is not made smaller than 300 MiB
FILE_SYSTEMS = {
    # commit: the journal's own pace, in seconds; what was not asked for is on the disk by then
    "ext4": (["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
             "commit=1"),
    "xfs": (["mkfs.xfs", "-q", "-f", "-K"], "rw"),
}


class Missing(Exception):
    """This machine has no such thing; why."""


def run(*argv):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       check=False)
    if r.returncode:
        raise Missing("%s: %s" % (" ".join(argv), r.stdout.strip()))
    return r.stdout.strip()


class Recorder:
    """A file system whose disk is recorded: `base` and `log` in the directory."""

    def __init__(self, directory, kind):
        self.dir, self.mount = directory, directory + "/mnt"
        self.at = directory + "/disk"
        self.process = self.loop = None
        make, options = FILE_SYSTEMS[kind]
        os.mkdir(self.mount)
        os.mkdir(self.at)
        with open(directory + "/base", "wb") as f:
            f.truncate(SIZE)
        run(*make, directory + "/base")
        copy_sparse(directory + "/base", directory + "/served")
        try:
            self.process = subprocess.Popen(
                [os.path.join(TOP, "tests", "power", "disk"), self.at, directory + "/served",
                 directory + "/log"], stderr=subprocess.PIPE)
            wait_for(lambda: self.process.poll() is not None or
                     os.path.exists(self.at + "/disk"))
            if self.process.poll() is not None:
                raise Missing("no FUSE: " + self.process.stderr.read().decode()[-300:])
            self.loop = run("losetup", "--find", "--show", self.at + "/disk")
            run("mount", "-t", kind, "-o", options, self.loop, self.mount)
            self.marks = open(self.at + "/mark", "wb", buffering=0)
        except BaseException:
            self.close()
            raise

    def mark(self, text):
        self.marks.write(text.encode())

    def close(self):
        if self.loop:
            self.marks.close()
            run("umount", self.mount)
            run("losetup", "-d", self.loop)
            # the loop device lets go of its file after that
            wait_for(lambda: subprocess.run(["umount", self.at], stderr=subprocess.DEVNULL,
                                            check=False).returncode == 0)
            self.loop = None
        if self.process:
            self.process.stderr.close()
            self.process.wait(20)
            self.process = None
        if os.path.exists(self.dir + "/served"):
            os.remove(self.dir + "/served")


class Booted:
    """The disk is in a machine again: its file system mounted, a daemon started on it."""

    def __init__(self, disk, kind, mount):
        os.makedirs(mount, exist_ok=True)
        self.mount = mount
        run("mount", "-t", kind, "-o", "loop", disk, mount)
        self.daemon = None

    def start(self):
        """With nothing of what was in memory or in /run."""
        self.daemon = Daemon(start=False)
        self.daemon.root = self.mount + "/root"
        self.daemon.start()
        return self.daemon

    def close(self):
        try:
            if self.daemon:
                self.daemon.close()
        finally:
            run("umount", self.mount)
