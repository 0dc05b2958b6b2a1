# SPDX-License-Identifier: Apache-2.0
"""What containers wrote, counted by a file system with project quotas, or walked."""
import os
import subprocess

import pytest

from cri import api
from daemon import Daemon, wait_for

MIB = 1 << 20
# A walk does not see a file without a name, the file system does.
WRITES = "exec 3>/unseen; dd if=/dev/zero bs=1M count=3 >&3 2>/dev/null; rm /unseen; " \
    "dd if=/dev/zero of=/seen bs=1M count=2 2>/dev/null; sync; echo written; exec sleep 1000"


def mounted(kind, disk, at):
    """None, or why there is no such file system here."""
    with open(disk, "wb") as f:
        f.truncate(400 * MIB)
    make = {"ext4": ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"],
            "xfs": ["mkfs.xfs", "-q", "-f"]}[kind]
    for argv in (make + [disk], ["mount", "-o", "loop,prjquota", disk, at]):
        try:
            r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               check=False)
        except FileNotFoundError as e:
            return str(e)
        if r.returncode:
            return "no project quota of %s in this kernel: %s" % (kind, r.stdout.splitlines()[0])
    options = subprocess.run(["findmnt", "-no", "OPTIONS", at], stdout=subprocess.PIPE, text=True,
                             check=True).stdout
    # an XFS without quotas in the kernel mounts all the same
    return None if "prjquota" in options else "no project quota of %s: %s" % (kind, options)


@pytest.fixture(params=["none", "ext4", "xfs"])
def d(request, archive, tmp_path):
    at = str(tmp_path / "mnt")
    os.mkdir(at)
    os.chmod(at, 0o711)
    why = None if request.param == "none" else mounted(request.param, str(tmp_path / "disk"), at)
    try:
        if why:
            pytest.skip(why)
        daemon = Daemon(start=False)
        daemon.counts = request.param != "none"
        # XFS takes blocks in advance for a file that grows
        daemon.slack = 2 * MIB if request.param == "xfs" else MIB // 2
        if daemon.counts:
            daemon.root = at + "/root"
        daemon.start()
        try:
            daemon.load(archive)
            yield daemon
        finally:
            daemon.close()
    finally:
        subprocess.run(["umount", at], stderr=subprocess.DEVNULL, check=False)


def usage(d, ctr):
    s = d.cri.ContainerStats(container_id=ctr).stats.writable_layer
    return s.used_bytes.value, s.inodes_used.value


def containers_usage(d):
    return d.cri.ImageFsInfo().container_filesystems[0].used_bytes.value


def test_what_is_counted(d):
    pod = d.run_pod()
    ctr = d.run(pod, WRITES)
    wait_for(lambda: "written" in d.read_log(d.logs + "/pod/c.log"))
    least = (5 if d.counts else 2) * MIB
    wait_for(lambda: usage(d, ctr)[0] >= least, timeout=40)
    used, inodes = usage(d, ctr)
    assert used < least + d.slack and 1 < inodes < 20
    assert least <= containers_usage(d) < least + d.slack
    # another container is another project, and what is removed is not counted any more
    other = d.run(pod, "exec sleep 1000", name="other")
    wait_for(lambda: usage(d, other)[1] > 0, timeout=40)
    assert usage(d, other)[0] < MIB // 2
    d.cri.RemoveContainer(container_id=ctr)
    wait_for(lambda: containers_usage(d) < MIB // 2, timeout=40)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_files_move_in_the_root_file_system(d):
    """From the image, over directories of overlay, to where they are wanted: one project."""
    pod = d.run_pod()
    s, out = d.output(pod, "echo more >> /etc/passwd && mv /etc/passwd /p && ln /p /q && "
                              "mkdir -p /a/b && mv /a /c && mv /p /c/b/p && rm -r /c && cat /q")
    assert s.exit_code == 0 and out.endswith("more\n")
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
