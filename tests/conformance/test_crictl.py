# SPDX-License-Identifier: Apache-2.0
"""crictl as a person uses it: a configuration file, then one command after the other."""
import json
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import tools  # noqa: E402
from daemon import Daemon, wait_for  # noqa: E402

IMAGE = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
POD = {"metadata": {"name": "web", "namespace": "people", "uid": "u1", "attempt": 1},
       "hostname": "web", "labels": {"app": "web"}, "linux": {}}
CONTAINER = {"metadata": {"name": "main"}, "image": {"image": IMAGE}, "log_path": "main.log",
             "command": ["sh", "-c", "echo out; echo err >&2; trap 'exit 0' TERM; "
                                     "while :; do sleep 0.1; done"],
             "linux": {"resources": {"memory_limit_in_bytes": 67108864}}}


@pytest.fixture(scope="module")
def registry():
    try:
        tools.crictl()
        r = tools.Registry(tools.layout())
    except tools.Unavailable as e:
        pytest.skip("no crictl or images: %s" % e)
    yield r
    r.close()


@pytest.fixture(scope="module")
def daemon(registry):
    d = Daemon()
    tools.write_hosts(d.dir + "/hosts", registry.port)
    with open(d.dir + "/crictl.yaml", "w") as f:
        f.write("runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 30\n"
                "debug: false\n" % (d.address, d.address))
    yield d
    d.close()


@pytest.fixture(scope="module")
def crictl(daemon):
    def run(*args, check=True):
        r = subprocess.run([tools.crictl(), "-c", daemon.dir + "/crictl.yaml", *args],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        assert not check or r.returncode == 0, "%s: %s%s" % (args, r.stdout, r.stderr)
        return r.stdout if check else r
    return run


def written(daemon, name, what):
    path = os.path.join(daemon.dir, name + ".json")
    with open(path, "w") as f:
        json.dump(what, f)
    return path


@pytest.fixture(scope="module")
def files(daemon):
    pod = dict(POD, log_directory=daemon.logs + "/web")
    return written(daemon, "pod", pod), written(daemon, "ctr", CONTAINER)


def rows(text):
    """A table's rows by its headings (columns are two or more spaces apart)."""
    text = re.sub(r"\x1b\[[0-9]*[A-Z]", "", text)  # stats clears the screen first
    head, *lines = [re.split(r"\s{2,}", x.strip()) for x in text.strip().splitlines()]
    return [dict(zip(head, x)) for x in lines]


def test_what_it_is(crictl):
    v = crictl("version")
    assert "RuntimeName:  gantry" in v and "RuntimeApiVersion:  v1" in v

    def ready():
        conditions = json.loads(crictl("info"))["status"]["conditions"]
        return {c["type"] for c in conditions if c["status"]} == {"RuntimeReady", "NetworkReady"}
    wait_for(ready)  # a daemon that has just started still probes its runtimes
    info = json.loads(crictl("info"))
    assert info["runtimeHandlers"] and info["config"]["stateDir"]
    assert "cgroup" in crictl("runtime-config").lower()


def test_images(crictl):
    assert re.search("sha256:[0-9a-f]{64}", crictl("pull", IMAGE))
    row = [r for r in rows(crictl("images")) if r["TAG"] == "1.29-2"][0]
    assert row["IMAGE"] == IMAGE.rsplit(":", 1)[0] and re.match(r"[\d.]+[kM]B", row["SIZE"])
    status = json.loads(crictl("inspecti", IMAGE))["status"]
    assert status["id"].startswith("sha256:") and IMAGE in status["repoTags"]
    def used():
        fs = json.loads(crictl("imagefsinfo"))["status"]["imageFilesystems"][0]
        return int(fs["usedBytes"]["value"])
    wait_for(used, timeout=60, every=0.5)  # measured aside, every few seconds
    r = crictl("pull", "registry.k8s.io/not/there:1", check=False)
    assert r.returncode != 0 and "registry.k8s.io/not/there:1" in r.stderr


def test_life(crictl, files):
    pod = crictl("runp", files[0]).strip()
    row, = rows(crictl("pods"))
    assert pod.startswith(row["POD ID"]) and row["STATE"] == "Ready"
    assert (row["NAME"], row["NAMESPACE"], row["ATTEMPT"]) == ("web", "people", "1")
    assert crictl("pods", "--label", "app=web", "-q").strip() == pod
    assert crictl("pods", "--state", "NotReady", "-q").strip() == ""
    ip = json.loads(crictl("inspectp", pod))["status"]["network"]["ip"]
    assert re.match(r"\d+\.\d+\.\d+\.\d+$", ip)

    ctr = crictl("create", pod, files[1], files[0]).strip()
    assert rows(crictl("ps", "-a"))[0]["STATE"] == "Created"
    crictl("start", ctr)
    row, = rows(crictl("ps"))
    assert ctr.startswith(row["CONTAINER"]) and row["STATE"] == "Running"
    assert pod.startswith(row["POD ID"]) and row["NAME"] == "main"
    status = json.loads(crictl("inspect", ctr))
    assert status["status"]["state"] == "CONTAINER_RUNNING"
    assert status["info"]["pid"] > 0 and status["status"]["logPath"].endswith("web/main.log")
    assert status["status"]["resources"]["linux"]["memoryLimitInBytes"] == "67108864"

    wait_for(lambda: "err" in (lambda r: r.stdout + r.stderr)(crictl("logs", ctr, check=False)))
    r = crictl("logs", ctr, check=False)
    assert r.stdout == "out\n" and "err\n" in r.stderr
    assert crictl("logs", "--tail", "1", "--timestamps", ctr, check=False).returncode == 0
    assert crictl("exec", "-s", ctr, "cat", "/etc/hostname").strip() == "web"
    r = crictl("exec", "-s", ctr, "sh", "-c", "exit 7", check=False)
    assert r.returncode != 0 and "7" in r.stderr

    row, = rows(crictl("stats"))
    assert ctr.startswith(row["CONTAINER"]) and re.match(r"[\d.]+[kM]?B", row["MEM"])
    assert row["NAME"] == "main" and float(row["CPU %"]) >= 0
    one = json.loads(crictl("stats", "-o", "json", ctr))["stats"][0]
    assert int(one["memory"]["workingSetBytes"]["value"]) > 0
    assert pod.startswith(rows(crictl("statsp"))[0]["POD ID"])

    crictl("update", "--memory", "134217728", ctr)
    status = json.loads(crictl("inspect", ctr))
    assert status["status"]["resources"]["linux"]["memoryLimitInBytes"] == "134217728"

    crictl("stop", "--timeout", "10", ctr)
    row, = rows(crictl("ps", "-a"))
    assert row["STATE"] == "Exited"
    assert json.loads(crictl("inspect", ctr))["status"]["reason"] == "Completed"
    crictl("rm", ctr)
    assert not rows(crictl("ps", "-a")) and not rows(crictl("ps"))
    crictl("stopp", pod)
    assert rows(crictl("pods"))[0]["STATE"] == "NotReady"
    crictl("rmp", pod)
    assert not rows(crictl("pods"))


def test_run_in_one_step_and_remove_by_force(crictl, files):
    crictl("run", files[1], files[0])
    assert rows(crictl("ps"))[0]["STATE"] == "Running"
    crictl("rm", "--force", "--all")
    assert not rows(crictl("ps", "-a"))
    crictl("rmp", "--force", "--all")
    assert not rows(crictl("pods"))


def test_errors_name_the_thing(crictl, files):
    for args in (("inspect", "f" * 64), ("inspectp", "f" * 64), ("start", "f" * 64),
                 ("logs", "f" * 64), ("exec", "-s", "f" * 64, "true")):
        r = crictl(*args, check=False)
        assert r.returncode != 0 and "f" * 64 in r.stderr, args
    r = crictl("runp", "--runtime", "nope", files[0], check=False)
    assert r.returncode != 0 and "nope" in r.stderr
    assert not rows(crictl("pods"))


def test_rmi(crictl):
    crictl("rmi", IMAGE)
    assert not [r for r in rows(crictl("images")) if r["TAG"] == "1.29-2"]
    r = crictl("inspecti", IMAGE, check=False)
    assert r.returncode != 0 and "no such image" in r.stderr
