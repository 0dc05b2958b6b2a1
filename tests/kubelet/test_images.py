# SPDX-License-Identifier: Apache-2.0
"""Pull policies, images that are not there, and the collection of those that nobody uses."""
import pytest

import image
from forms import HOST, SLEEP, WAIT, pod, sh


def of(name, policy, script=WAIT, **fields):
    return sh("main", script, image="%s/%s:1" % (HOST, name), imagePullPolicy=policy, **fields)


PODS = [
    pod("twice", of("if-not-present", "IfNotPresent", "sleep 0.2")),
    pod("always", of("always", "Always", "sleep 0.2")),
    pod("never", of("never", "Never")),
    pod("later", of("later", "IfNotPresent")),
    pod("tag", sh("main", SLEEP, image=HOST + "/digest@" + "sha256:" + "0" * 64)),
]


@pytest.fixture(scope="module", autouse=True)
def repositories(images, busybox):
    """Each an image of its own, of the same layer."""
    made = {}
    for name in ("if-not-present", "always", "later", "unused"):
        made[name] = image.Image(busybox.tars, {"Cmd": ["sh"], "Env": ["PATH=/bin"],
                                                "Labels": {"name": name}})
        if name != "later":
            images.add(made[name], name, "1")
    return made


@pytest.fixture(scope="module", autouse=True)
def pods(repositories, kubelet):  # after the repositories
    for p in PODS:
        kubelet.add(p)
    yield
    for p in PODS:
        if kubelet.has(p["metadata"]["name"]):
            kubelet.remove(p["metadata"]["name"])


def restarted(kubelet, name, times=2):
    kubelet.wait(name, lambda s: s["containerStatuses"][0]["restartCount"] >= times)


def manifests(images, name):
    return len(images.asked("/v2/%s/manifests/" % name))


def test_if_not_present(kubelet, images):
    restarted(kubelet, "twice")
    before = manifests(images, "if-not-present")
    restarted(kubelet, "twice", 3)
    assert manifests(images, "if-not-present") == before


def test_always(kubelet, images):
    """Asked for each time, and nothing of it fetched a second time."""
    restarted(kubelet, "always")
    runs = kubelet.container("always", "main")["restartCount"]
    assert manifests(images, "always") >= runs
    assert len(images.asked("/v2/always/blobs/")) <= 2  # its configuration, its layer


def test_never(kubelet):
    kubelet.wait("never", lambda s: s["containerStatuses"][0]["state"]["waiting"]["reason"] ==
                 "ErrImageNeverPull")
    assert not kubelet.containers("never")


def test_one_that_comes_later(kubelet, images, repositories):
    kubelet.wait("later", lambda s: s["containerStatuses"][0]["state"]["waiting"]["reason"] in
                 ("ErrImagePull", "ImagePullBackOff"))
    images.add(repositories["later"], "later", "1")
    s = kubelet.wait_ready("later")
    c = s["containerStatuses"][0]
    assert c["image"] == HOST + "/later:1" and c["imageID"].endswith(repositories["later"].digest)


def test_a_digest_that_is_not_there(kubelet):
    kubelet.wait("tag", lambda s: "0000" in
                 s["containerStatuses"][0]["state"]["waiting"]["message"])


def test_collection(kubelet, images):
    """Under a threshold that is passed at once: what nobody uses goes, the rest stays. (By the
    thresholds of images alone the kubelet looks when it starts, often too early for the figures,
    and five minutes later. With those of eviction it is every ten seconds, by the same code.)"""
    kubelet.wait_ready("later")
    unused = kubelet.daemon.cri.PullImage(image={"image": HOST + "/unused:1"}).image_ref

    def names():
        return {t.split("/")[-1] for i in kubelet.daemon.cri.ListImages().images
                for t in i.repo_tags}
    assert "unused:1" in names() and unused
    kubelet.stop()
    kubelet.start(flags=["--minimum-image-ttl-duration=0s"],
                  evictionHard={"nodefs.available": "99%"})
    try:
        kubelet.wait_for(lambda: "unused:1" not in names(), timeout=60)
        assert "later:1" in names()
        assert kubelet.wait_ready("later")["containerStatuses"][0]["restartCount"] == 0
    finally:
        kubelet.restart(evictionHard=kubelet.EVICTION)
