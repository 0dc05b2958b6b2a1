# SPDX-License-Identifier: Apache-2.0
"""Probes: by commands, over HTTP, TCP and gRPC; at the start, for life and for readiness."""
import os

from forms import OFTEN as EACH_SECOND, WAIT, at, path_of, pod, script, sh, share, volume, write

HERE = os.path.dirname(os.path.abspath(__file__))
OFTEN = {**EACH_SECOND, "failureThreshold": 1}
HTTPD = "mkdir -p /www && echo fine >/www/ok && echo up && exec httpd -f -p 8080 -h /www"


def http(path, **fields):
    return {"httpGet": {"path": path, "port": 8080}, **OFTEN, **fields}


def grpc(service):
    return {"grpc": {"port": 9000, "service": service}, **OFTEN}


PODS = [
    pod("exec-ready", sh("main", WAIT, volumeMounts=[at("/share")],
                         readinessProbe={**script("test -e /share/ready"), **OFTEN}),
        volumes=[share()]),
    pod("exec-live", sh("main", "touch /tmp/well; echo run; (sleep 2; rm /tmp/well) & " + WAIT,
                        livenessProbe={**script("test -e /tmp/well"), **OFTEN})),
    # A command that does not end is ended, with what it has started.
    pod("exec-hangs", sh("main", WAIT, readinessProbe={
        **script("sleep 777 & sleep 777; exit 0"), **OFTEN, "timeoutSeconds": 1})),
    pod("http-ready", sh("main", HTTPD, readinessProbe=http("/ok"))),
    pod("http-unready", sh("main", HTTPD, readinessProbe=http("/missing"))),
    pod("http-start", sh("main", "echo begun; sleep 2; " + HTTPD,
                         startupProbe=http("/ok", failureThreshold=30),
                         livenessProbe=http("/ok"))),
    pod("tcp", sh("main", HTTPD, readinessProbe={"tcpSocket": {"port": 8080}, **OFTEN})),
    pod("grpc", sh("main", "exec chroot /node /usr/bin/python3 %s/health.py 9000 %s" %
                   (HERE, path_of("unwell")), volumeMounts=[at("/node", "node")],
                   readinessProbe=grpc("known")),
        sh("other", WAIT, readinessProbe=grpc("other")),
        volumes=[volume("node", hostPath={"path": "/"})]),
]


def ready(kubelet, name, container="main"):
    c = kubelet.container(name, container)
    return bool(c and c["ready"])


def wait_ready(kubelet, name, want=True):
    kubelet.wait(name, lambda s: s["containerStatuses"][0]["ready"] == want)


def test_exec_readiness(kubelet):
    kubelet.wait("exec-ready", lambda s: "running" in s["containerStatuses"][0]["state"])
    assert not ready(kubelet, "exec-ready")
    write("ready")
    wait_ready(kubelet, "exec-ready")
    os.unlink(path_of("ready"))
    wait_ready(kubelet, "exec-ready", False)


def test_exec_liveness(kubelet):
    """Who fails is restarted, and was ended with its grace."""
    s = kubelet.wait("exec-live", lambda s: s["containerStatuses"][0]["restartCount"] >= 1)
    assert s["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 0
    assert kubelet.log("exec-live", "main", previous="true") == "run\n"


def test_an_exec_that_hangs(kubelet):
    kubelet.wait_for(lambda: "exec-hangs" in kubelet.log_text() and kubelet.probes(
        "exec-hangs", "failed") >= 2, timeout=60)
    assert not ready(kubelet, "exec-hangs")
    i = next(c.id for c in kubelet.containers("exec-hangs"))
    ps = kubelet.daemon.exec(i, "pidof sleep || true")
    assert len(ps.stdout.split()) <= 2 + 1  # those of the probe that runs right now, and main's


def test_http(kubelet):
    kubelet.wait_ready("http-ready")
    kubelet.wait("http-unready", lambda s: "running" in s["containerStatuses"][0]["state"])
    kubelet.wait_for(lambda: kubelet.probes("http-unready", "failed") >= 2, timeout=60)
    assert not ready(kubelet, "http-unready")


def test_startup_before_liveness(kubelet):
    s = kubelet.wait_ready("http-start")
    assert s["containerStatuses"][0]["started"] and s["containerStatuses"][0]["restartCount"] == 0
    kubelet.wait_for(lambda: kubelet.probes("http-start", "successful", "Liveness") >= 2,
                     timeout=60)


def test_tcp(kubelet):
    kubelet.wait_ready("tcp")


def test_grpc(kubelet):
    kubelet.wait("grpc", lambda s: next(c for c in s["containerStatuses"]
                                        if c["name"] == "main")["ready"])
    assert not ready(kubelet, "grpc", "other")
    write("unwell")
    kubelet.wait("grpc", lambda s: not next(c for c in s["containerStatuses"]
                                            if c["name"] == "main")["ready"])
