# SPDX-License-Identifier: Apache-2.0
"""Tests that drive a whole machine from the host: tests/guest NAME runs test_NAME.py.

Each file has one machine, `guest` (tests/lib/guest.py), booted from a new disk with gantry
installed; its tests go in their order, for one machine's history cannot be told in another.
"""
import os
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
import image  # noqa: E402
from fixtures import BUSYBOX  # noqa: E402
from guest import Guest, Unavailable, packages_of  # noqa: E402

RELEASE = os.environ.get("GANTRY_GUEST_RELEASE", "12")
BUILD = os.environ.get("GANTRY_BUILD", os.path.join(TOP, "build"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if outcome.get_result().failed:
        item.session.machine_failed = True


@pytest.fixture(scope="module")
def machine(request):
    """A machine that is booted, with nothing installed."""
    directory = os.environ.get("GANTRY_GUEST_DIR") or os.path.join(
        TOP, "build", "guest", "%s-%s" % (request.module.__name__, RELEASE))
    try:
        guest = Guest(directory, RELEASE)
    except Unavailable as e:
        pytest.skip(str(e))
    guest.boot()
    yield guest
    failed = getattr(request.session, "machine_failed", False)
    keep = failed or os.environ.get("GANTRY_GUEST_KEEP")
    if guest.qemu:
        guest.diagnose()
        if keep:
            guest.shutdown()
    guest.close()
    if keep:
        print("the disk is kept; to look around in it: tests/guest %s --shell %s" % (
            RELEASE, os.path.relpath(guest.dir)))
    else:
        guest.remove_disk()


@pytest.fixture(scope="module")
def packages():
    """The packages of gantry, or [] where what a build installs is taken."""
    told = os.environ.get("GANTRY_GUEST_PACKAGES")
    return [] if told == "tree" else told.split("\n") if told else packages_of(RELEASE)


@pytest.fixture(scope="module")
def busybox_archive(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("image") / "busybox.tar")
    image.busybox_image(BUSYBOX).docker_archive(path, ["test/busybox:latest"])
    return path


@pytest.fixture(scope="module")
def guest(machine, packages, busybox_archive):
    """The machine with gantry as a person installs it, and the image test/busybox:latest."""
    if packages:
        machine.install(packages)
    else:
        machine.install_tree(BUILD)
    machine.put(busybox_archive, "/root")
    machine.run("gantry load /root/busybox.tar")
    return machine
