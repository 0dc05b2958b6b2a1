# SPDX-License-Identifier: Apache-2.0
import os
import re
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402
from fixtures import archive, busybox  # noqa: E402,F401


@pytest.fixture(scope="module")
def d(archive):
    """One daemon for the tests of a file, with the busybox image."""
    daemon = Daemon()
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture
def fresh(archive):
    """A daemon of a test's own, to be killed and restarted."""
    daemon = Daemon()
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"))
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
