# SPDX-License-Identifier: Apache-2.0
"""A machine that is started anew, as a daemon of a test's own sees it: all that lives in memory
is gone, the disk is not, and the kernel names another boot.  In the tests' mount namespace."""
import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import uuid

from daemon import wait_for

REAL = "/proc/sys/kernel/random/boot_id"


def children(pid):
    found = []
    for path in glob.glob("/proc/%d/task/*/children" % pid):
        try:
            with open(path) as f:
                found += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return [y for x in found for y in [x] + children(x)]


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def monitors(d):
    out = subprocess.run(["pgrep", "-f", "gantry-monitor .*%s/pods" % d.state],
                         stdout=subprocess.PIPE, text=True).stdout
    return [int(x) for x in out.split()]


def kill(pids):
    """Those that were alive."""
    killed = [x for x in pids if alive(x)]
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed


def end_processes(d):
    """Of the daemon first, so that it does not see the others end."""
    pids = children(d.process.pid) if d.process.poll() is None else []
    for m in monitors(d):
        pids += [m] + children(m)
    if d.process.poll() is None:
        d.kill()
    pids += [x for m in monitors(d) for x in [m] + children(m)]
    kill(pids)
    wait_for(lambda: not any(alive(x) for x in pids))
    # What a runtime has started is nobody's child any more: that of a probe, say.
    wait_for(lambda: not kill(in_cgroups(d)))


def in_cgroups(d):
    pids = set()
    for path in glob.glob("/sys/fs/cgroup/**/" + d.instance() + "/**/cgroup.procs", recursive=True):
        try:
            with open(path) as f:
                pids |= {int(x) for x in f.read().split()}
        except OSError:
            pass
    return pids


def remove_cgroups(d):
    for base, dirs, _ in os.walk("/sys/fs/cgroup"):
        if d.instance() not in dirs:
            continue
        for path, _, _ in os.walk(base + "/" + d.instance(), topdown=False):
            wait_for(lambda: not os.path.isdir(path) or not try_rmdir(path))


def try_rmdir(path):
    try:
        os.rmdir(path)
    except OSError:
        return True
    return False


class Boots:
    def __init__(self, dir):
        self.file, self.mounted = dir + "/boot_id", False

    def close(self):
        if self.mounted:
            subprocess.run(["umount", REAL], check=True)

    def new_id(self):
        with open(self.file, "w") as f:
            f.write(str(uuid.uuid4()) + "\n")
        if not self.mounted:
            subprocess.run(["mount", "--bind", self.file, REAL], check=True)
            self.mounted = True

    def end(self, d, state_on_disk=False, same_id=False):
        """The end of the boot: the daemon is started again by whoever called."""
        end_processes(d)
        subprocess.run(["umount", "-R", "-l", d.state], check=True)
        with open(d.config_file) as f:
            netns_dir = re.search("netns_dir: (.*)", f.read()).group(1)
        for pin in glob.glob(netns_dir + "/*"):
            subprocess.run(["umount", "-l", pin], stderr=subprocess.DEVNULL)
        for shm in glob.glob(d.state + "/pods/*/shm"):
            subprocess.run(["umount", "-l", shm], stderr=subprocess.DEVNULL)
        if not state_on_disk:
            shutil.rmtree(d.state)
        d.remove_bridge()
        remove_cgroups(d)
        if not same_id:
            self.new_id()

    def reboot(self, d, **kw):
        self.end(d, **kw)
        d.start()
