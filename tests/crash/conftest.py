# SPDX-License-Identifier: Apache-2.0
"""It survives itself: the daemon, monitors, jobs and workers are killed at every place where
something could be left half-done."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import image  # noqa: E402

BUSYBOX = os.environ.get("GANTRY_BUSYBOX", "/bin/busybox")


@pytest.fixture(scope="session")
def busybox():
    return image.busybox_image(BUSYBOX)


@pytest.fixture(scope="session")
def archive(busybox, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("image") / "busybox.tar")
    busybox.docker_archive(path, ["test/busybox:latest"])
    return path
