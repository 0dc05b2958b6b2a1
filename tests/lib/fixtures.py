# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several folders of tests have: imported by name where they are wanted."""
import os

import pytest

import image
from cri import api
from daemon import Daemon, wait_for

BUSYBOX = os.environ.get("GANTRY_BUSYBOX", "/bin/busybox")  # of Debian's busybox-static


@pytest.fixture(scope="session")
def busybox():
    return image.busybox_image(BUSYBOX)


@pytest.fixture(scope="session")
def archive(busybox, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("image") / "busybox.tar")
    busybox.docker_archive(path, ["test/busybox:latest"])
    return path


@pytest.fixture(scope="module")
def empty():
    """One daemon for the tests of a file, without images: imported as `d`."""
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def emptied(request):
    """After each test no image is left, nor anything of one."""
    yield
    if "d" in request.fixturenames:
        d = request.getfixturevalue("d")
        for i in d.cri.ListImages().images:
            d.cri.RemoveImage(image=api.ImageSpec(image=i.id))
        assert os.listdir(d.root + "/layers") == []
        # A sweep of a start may be at work: it ends, and takes its directory with it.
        wait_for(lambda: os.listdir(d.root + "/tmp") == [])
