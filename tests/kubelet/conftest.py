# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]
import registry as registries  # noqa: E402
import standalone  # noqa: E402
from daemon import Daemon  # noqa: E402
from fixtures import busybox  # noqa: E402,F401
from forms import HOST  # noqa: E402


@pytest.fixture(scope="session")
def images(busybox):
    """The registry that the mirror configuration names for k8s.test."""
    with registries.Registry() as r:
        r.add(busybox, "busybox", "1")
        yield r


@pytest.fixture(scope="session")
def gantryd(images):
    try:
        standalone.binary(), standalone.client()
    except standalone.tools.Unavailable as e:
        pytest.skip("no kubelet: %s" % e)
    standalone.gather_cgroups()
    daemon = Daemon()
    directory = "%s/hosts/%s" % (daemon.dir, HOST)
    os.makedirs(directory)
    with open(directory + "/hosts.toml", "w") as f:
        f.write('server = "https://%s"\n\n[host."%s"]\n  capabilities = ["pull", "resolve"]\n' %
                (HOST, images.url))
    yield daemon
    daemon.close()


@pytest.fixture(scope="session")
def kubelet(gantryd):
    """One for all tests: what a file needs besides, it says by restarting it."""
    k = standalone.Kubelet(gantryd)
    try:
        yield k.start()
    finally:
        k.close()


@pytest.fixture(scope="module", autouse=True)
def pods(request, kubelet):
    """The pods of a file begin together: its tests look at them, one after the other."""
    names = [kubelet.add(p) for p in getattr(request.module, "PODS", ())]
    yield names
    for name in names:
        if kubelet.has(name):
            kubelet.remove(name)
