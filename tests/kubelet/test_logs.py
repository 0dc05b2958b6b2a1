# SPDX-License-Identifier: Apache-2.0
"""Logs through the kubelet's API."""
import os
import time

from cri import SLOW
from forms import at, pod, sh, share, write

PODS = [
    pod("counts", sh("main", "for i in 1 2 3 4 5; do echo line $i; echo err $i >&2; done;"
                     "until test -e /share/go; do sleep 0.05; done;"
                     "for i in 6 7 8; do echo line $i; sleep 0.2; done",
                     volumeMounts=[at("/share")]),
        restartPolicy="Never", volumes=[share()]),
    pod("comes-back", sh("main", "n=$(cat /share/n 2>/dev/null || echo 0); echo run $n;"
                         "echo $((n + 1)) >/share/n; test $n = 0 && exit 1; exec sleep 1000",
                         volumeMounts=[at("/share")]), volumes=[share()]),
    pod("long", sh("main", "head -c 100000 /dev/zero | tr '\\0' x; echo; i=0;"
                   "while test $i -lt 3000; do echo $i; i=$((i + 1)); done"),
        restartPolicy="Never"),
]


def test_log_with_follow(kubelet):
    kubelet.wait("counts", lambda s: "running" in s["containerStatuses"][0]["state"])
    kubelet.wait_for(lambda: "line 5" in kubelet.log("counts", "main"), every=0.1)
    r = kubelet.open("/containerLogs/default/counts-node/main", follow="true", timeout=60)
    seen = [r.readline().decode().strip() for _ in range(10)]
    assert sorted(seen) == sorted(["line %d" % i for i in range(1, 6)] +
                                  ["err %d" % i for i in range(1, 6)])
    write("go")
    began = time.monotonic()
    assert [r.readline().decode().strip() for _ in range(3)] == ["line 6", "line 7", "line 8"]
    assert r.read() == b""  # it ends with the container
    assert time.monotonic() - began < 30 * SLOW
    assert kubelet.log("counts", "main", tailLines=2) == "line 7\nline 8\n"
    assert kubelet.log("counts", "main", limitBytes=4) == "line"[:4]
    stamped = kubelet.log("counts", "main", timestamps="true", tailLines=1)
    assert stamped.startswith("20") and stamped.endswith("Z line 8\n")


def test_previous(kubelet):
    kubelet.wait("comes-back", lambda s: s["containerStatuses"][0]["restartCount"] == 1 and
                 "running" in s["containerStatuses"][0]["state"])
    kubelet.wait_for(lambda: kubelet.log("comes-back", "main") == "run 1\n")
    assert kubelet.log("comes-back", "main", previous="true") == "run 0\n"


def test_long_lines(kubelet):
    kubelet.wait("long", lambda s: s["phase"] == "Succeeded")
    text = kubelet.log("long", "main").split("\n")
    assert text[0] == "x" * 100000
    assert text[1:] == [str(i) for i in range(3000)] + [""]


def test_the_files_are_the_kubelet_s(kubelet):
    """Where the kubelet wants them, and found by name in /var/log/containers."""
    kubelet.wait("long", lambda s: s["phase"] == "Succeeded")
    link, = [x for x in os.listdir("/var/log/containers")
             if x.startswith("long-node_default_main-")]
    assert os.path.exists("/var/log/containers/" + link)
