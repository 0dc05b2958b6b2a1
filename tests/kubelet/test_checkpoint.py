# SPDX-License-Identifier: Apache-2.0
"""A container goes on in another pod: its checkpoint by the kubelet's API, an image of that, a pod of the
image. By the real CRIU where it works, else by a runtime that stands in for it."""
import json
import tarfile

import pytest

from checkpoint import NAME, as_image, criu_path, make_fake
from forms import HOST, pod, sh
from standalone import NODE

COUNT = "i=$(cat /n 2>/dev/null || echo 0); while true; do i=$((i+1)); echo $i >/m && mv /m /n; " \
        "echo $i; sleep 0.05; done"


@pytest.fixture(scope="module", autouse=True)
def restoring(kubelet, tmp_path_factory):
    """The kubelet's gantryd for a while with a runtime that can."""
    d, before = kubelet.daemon, kubelet.daemon.env["PATH"]
    path, config = criu_path(), "default_runtimes: [runc]\n"
    if not path:
        path, config = make_fake(tmp_path_factory.mktemp("fake"))
    with open(d.config_file) as f:
        text = f.read()
    d.set_config(config + "container: {restore_images: true}\n")
    d.env["PATH"] = path
    d.restart()

    def able():
        runtimes = json.loads(d.cri.Status(verbose=True).info["config"])["runtimes"]
        return any(r["name"] in ("runc", "fake") and r["available"] and not r.get("checkpoints")
                   for r in runtimes)
    kubelet.wait_for(able, timeout=60)
    yield
    with open(d.config_file, "w") as f:
        f.write(text)
    d.env["PATH"] = before
    d.restart()


def numbers(kubelet, name):
    return [int(x) for x in kubelet.log(name, "main").split("\n")[:-1]]


def test_a_container_goes_on_in_another_pod(kubelet, images):
    kubelet.add(pod("counts", sh("main", COUNT)))
    kubelet.wait_ready("counts")
    kubelet.wait_for(lambda: len(numbers(kubelet, "counts")) > 3, every=0.05)
    with kubelet.open("/checkpoint/default/counts-%s/main" % NODE, method="POST") as r:
        path, = json.load(r)["items"]
    with tarfile.open(path) as t, tarfile.open(fileobj=t.extractfile("rootfs-diff.tar")) as diff:
        n = int(diff.extractfile("n").read())
    kubelet.remove("counts")
    kubelet.wait_gone("counts")
    images.add(as_image(path, **{NAME: "main"}), "checkpoint", "1")
    kubelet.add(pod("goes-on", sh("main", COUNT, image=HOST + "/checkpoint:1")))
    try:
        kubelet.wait_ready("goes-on")
        kubelet.wait_for(lambda: len(numbers(kubelet, "goes-on")) > 3, every=0.05)
        seen = numbers(kubelet, "goes-on")
        assert n <= seen[0] <= n + 1 and seen == list(range(seen[0], seen[0] + len(seen)))
        c = kubelet.container("goes-on", "main")
        assert c["restartCount"] == 0 and c["image"] == HOST + "/checkpoint:1"
        kubelet.daemon.cri.StopContainer(container_id=kubelet.containers("goes-on")[0].id, timeout=0)
        kubelet.wait("goes-on", lambda s: s["containerStatuses"][0]["restartCount"] == 1 and
                     s["containerStatuses"][0]["ready"])  # from there once more
        assert numbers(kubelet, "goes-on")[0] in (n, n + 1)
    finally:
        kubelet.remove("goes-on")
        kubelet.wait_gone("goes-on")
