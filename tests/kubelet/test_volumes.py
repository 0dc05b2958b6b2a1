# SPDX-License-Identifier: Apache-2.0
"""Volumes: emptyDir, hostPath, images, downward API, with subPath and its expansions.

Without an API server the kubelet refuses each projected volume ("kube client is not configured").
A volume of the downward API is made in the same way: by one link that is replaced, to a folder of
links. That is what the runtime sees of it.
"""
from forms import IMAGE, SLEEP, at, pod, read, sh, share, volume

POD_NAME = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
FACTS = volume("facts", downwardAPI={"items": [
    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
    {"path": "deep/labels", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.labels"}},
    {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu",
                                         "divisor": "1m"}}]})

END = "echo end; " + SLEEP
PODS = [
    pod("empty",
        sh("writer", "echo text >/a/file; mount | grep ' /fast '; id -g; stat -c %g /a; " + END,
           volumeMounts=[at("/a", "disk"), at("/fast", "fast")]),
        sh("reader", "until test -e /b/file; do sleep 0.1; done; cat /b/file;"
           "touch /b/mine && echo wrong; " + END, volumeMounts=[at("/b", "disk", readOnly=True)]),
        securityContext={"fsGroup": 4242},
        volumes=[volume("disk"),
                 volume("fast", emptyDir={"medium": "Memory", "sizeLimit": "3Mi"})]),
    pod("host", sh("main", "echo seen >/node/host; cat /one; touch /fixed/x && echo wrong; " + END,
                   volumeMounts=[at("/node"), at("/one", "file", readOnly=True),
                                 at("/fixed", readOnly=True, recursiveReadOnly="IfPossible")]),
        volumes=[share(), volume("file", hostPath={"path": "/etc/hostname", "type": "File"})]),
    pod("downward", sh("main", "cat /facts/name; echo; cat /facts/cpu; echo;"
                       "cat /facts/deep/labels; echo; stat -Lc %a /facts/deep/labels; cat /only;"
                       "echo; " + END,
                       volumeMounts=[at("/facts", "facts"), at("/only", "facts", subPath="name")],
                       resources={"limits": {"cpu": "250m"}}),
        volumes=[FACTS]),
    pod("sub", sh("main", "echo one >/sub/f; echo two >/mine/f;"
                  "cat /all/deep/er/f /all/sub-node/f; " + END, env=[POD_NAME], volumeMounts=[
                      at("/all", "disk"), at("/sub", "disk", subPath="deep/er"),
                      at("/mine", "disk", subPathExpr="$(POD_NAME)")]),
        volumes=[volume("disk")]),
    # A link out of the volume is no way out.
    pod("escape", sh("main", "echo out; " + SLEEP,
                     volumeMounts=[at("/etc2", "disk", subPath="link")]),
        initContainers=[sh("first", "ln -s /etc /disk/link", volumeMounts=[at("/disk", "disk")])],
        volumes=[volume("disk")]),
    pod("image", sh("main", "head -n 1 /img/etc/passwd; touch /img/x && echo wrong; " + END,
                    volumeMounts=[at("/img", "img")]),
        volumes=[volume("img", image={"reference": IMAGE, "pullPolicy": "IfNotPresent"})]),
]


def lines(kubelet, name, container="main"):
    """What it printed, once it printed its last line."""
    def printed():
        c = kubelet.container(name, container)
        text = kubelet.log(name, container) if c and c.get("started") else ""
        return text.split("\n") if "\nend\n" in text else None
    try:
        return kubelet.wait_for(printed, timeout=60, every=0.1)
    except TimeoutError:
        raise AssertionError("no end of the log: %s" % kubelet.status(name)) from None


def test_empty_dir(kubelet):
    writer = lines(kubelet, "empty", "writer")
    assert "tmpfs" in writer[0] and "size=3072k" in writer[0]
    assert writer[2] == "4242"
    reader = lines(kubelet, "empty", "reader")
    assert reader[0] == "text" and "wrong" not in reader


def test_host_path(kubelet):
    with open("/etc/hostname") as f:
        assert lines(kubelet, "host")[0] == f.read().strip()
    assert read("host") == "seen\n" and "wrong" not in lines(kubelet, "host")


def test_downward_api(kubelet):
    assert lines(kubelet, "downward")[:5] == ["downward-node", "250", 'app="downward"', "400",
                                               "downward-node"]


def test_sub_path(kubelet):
    assert lines(kubelet, "sub")[:2] == ["one", "two"]


def test_sub_path_does_not_lead_out(kubelet):
    s = kubelet.wait("escape", lambda s: "subPath" in s["containerStatuses"][0]["state"]["waiting"][
        "message"])
    assert s["phase"] == "Pending"


def test_image(kubelet):
    out = lines(kubelet, "image")
    assert out[0].startswith("root:") and "wrong" not in out


def test_nothing_of_a_volume_stays(kubelet):
    uid = kubelet.pods()["sub"]["metadata"]["uid"]
    kubelet.remove("sub")
    kubelet.wait_gone("sub")
    kubelet.wait_for(lambda: not [v for v in kubelet.volumes() if uid in v], every=0.1)
