# SPDX-License-Identifier: Apache-2.0
"""The Debian package in a machine as users have it: installed, upgraded, removed and purged."""
import os

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_life(machine, packages, busybox_archive):
    if not packages:
        pytest.skip("no package was made (scripts/package)")
    machine.put(packages, "/root/packages")
    machine.put(busybox_archive, "/root")
    machine.put(["tests/package-life", "tests/lib/left.sh"], "/root/gantry", base=TOP)
    said = os.path.join(machine.dir, "package-life.log")
    with open(said, "wb", buffering=0) as log:
        r = machine.run("/root/gantry/tests/package-life /root/packages/*.deb /root/busybox.tar 2>&1",
                        check=False, timeout=600, sink=log.write)
    with open(said, errors="replace") as log:
        assert r.status == 0, log.read()[-3000:]
    assert not machine.run("systemctl --failed --no-legend --plain").out
    assert not machine.run("find /sys/fs/cgroup -name '*gantry*'").out
    # The kernel does not let go of it while a process is confined by it.
    assert "gantry-default" not in machine.run("cat /sys/kernel/security/apparmor/profiles").out
