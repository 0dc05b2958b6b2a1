# SPDX-License-Identifier: Apache-2.0
"""Devices that vendors describe in files (CDI): by the request's field and by annotations."""
import json
import os
import re

import grpc
import pytest

from cri import api
from daemon import Daemon
from test_userns import mapping, security, userns

KIND = "vendor.com/thing"


@pytest.fixture(scope="module")
def d(archive, tmp_path_factory):
    top = tmp_path_factory.mktemp("cdi")
    os.chmod(top, 0o755)
    daemon = Daemon(config="cdi:\n  spec_dirs: [%s/static, %s/dynamic]\n" % (top, top))
    daemon.specs = top
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


@pytest.fixture(autouse=True)
def directories(d):
    for name in ("static", "dynamic"):
        os.makedirs(d.specs / name, exist_ok=True)
        for f in os.listdir(d.specs / name):
            os.unlink(d.specs / name / f)


def spec(d, devices, name="vendor.json", where="static", version="1.1.0", kind=KIND, **edits):
    text = json.dumps({"cdiVersion": version, "kind": kind, "containerEdits": edits, "devices": [
        {"name": n, "containerEdits": e} for n, e in devices.items()]})
    (d.specs / where / name).write_text(text)


def asking(d, command, *names, annotation=None, **kw):
    c = d.container_config(command, **kw)
    for n in names:
        c.CDI_devices.add(name=n)
    if annotation:
        c.annotations["cdi.k8s.io/plugin_1"] = annotation
    return c


def output(d, pod, config):
    ctr = d.create(pod, config=config)
    d.cri.StartContainer(container_id=ctr)
    s = d.wait_exit(ctr)
    out = d.read_log(s.log_path)
    d.cri.RemoveContainer(container_id=ctr)
    os.unlink(s.log_path)
    return out


def refused(d, pod, config):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, config=config)
    assert not d.cri.ListContainers().containers
    return e.value.code(), e.value.details()


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def everything(tmp_path):
    """What one device and its file may bring, except what needs hardware."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "driver.so").write_text("a driver\n")
    hook = script(tmp_path / "hook", 'echo "$1 $X" >>%s/ran; cat >/dev/null\n' % tmp_path)
    device = {"env": ["THING=0", "SAME=device"],
              "deviceNodes": [{"path": "/dev/thing0", "hostPath": "/dev/loop-control",
                               "permissions": "r", "fileMode": 0o640, "uid": 7, "gid": 8}],
              "mounts": [{"hostPath": str(tmp_path / "lib"), "containerPath": "/opt/lib",
                          "options": ["ro", "nosuid", "rbind"]},
                         {"hostPath": "tmpfs", "containerPath": "/opt/scratch", "type": "tmpfs",
                          "options": ["nosuid", "size=64k"]}],
              "additionalGids": [4711, 0]}
    common = {"env": ["SAME=file", "COMMON=yes"],
              "hooks": [{"hookName": n, "path": hook, "args": ["hook", n], "env": ["X=1"],
                         "timeout": 10} for n in ("createRuntime", "poststop")]}
    return device, common


LOOK = ("echo $THING $SAME $COMMON; stat -c '%a %u %g %t,%T' /dev/thing0; "
        ": </dev/thing0 && echo readable; (: >/dev/thing0) 2>&1; cat /opt/lib/driver.so; "
        "touch /opt/lib/x 2>&1; touch /opt/scratch/x && echo scratch; id -G")


@pytest.mark.parametrize("by", ["field", "annotation", "both"])
def test_all_that_a_device_brings(d, pod, tmp_path, by):
    device, common = everything(tmp_path)
    spec(d, {"d0": device}, **common)
    name = KIND + "=d0"
    c = asking(d, LOOK, *([name] if by != "annotation" else []),
               annotation=name if by != "field" else None)
    out = output(d, pod, c).splitlines()
    assert out[0] == "0 device yes"
    assert out[1:3] == ["640 7 8 a,ed", "readable"], out
    assert "not permitted" in out[3] and out[4] == "a driver" and "Read-only" in out[5], out
    assert out[6] == "scratch" and "4711" in out[7].split(), out
    assert (tmp_path / "ran").read_text() == "createRuntime 1\npoststop 1\n"


def test_commands_have_it_too(d, pod):
    spec(d, {"d0": {"env": ["THING=a b"], "additionalGids": [4711]}})
    ctr = d.create(pod, config=asking(d, "sleep 1000", KIND + "=d0"))
    d.cri.StartContainer(container_id=ctr)
    for _ in range(2):  # of a daemon that did not make it as well
        r = d.exec(ctr, 'echo "$THING"; id -G')
        assert r.stdout.splitlines()[0] == b"a b" and b"4711" in r.stdout.split()
        assert 4711 in d.status(ctr).user.linux.supplemental_groups
        d.restart()


YAML = """\
---
# made by a vendor's tool
cdiVersion: "0.6.0"
kind: "vendor.com/yaml.class"
devices:
- name: 0
  containerEdits:
    env: [FROM=yaml, 'Q=it''s', "N=\\u00fc"]
    deviceNodes:
    - {path: /dev/y, hostPath: /dev/null, fileMode: 0600}
    mounts:
    - hostPath: %s
      containerPath: /plain
"""


def test_yaml(d, pod, tmp_path):
    (tmp_path / "f").write_text("mounted\n")
    (d.specs / "dynamic" / "v.yaml").write_text(YAML % (tmp_path / "f"))
    c = asking(d, "echo $FROM $Q $N; stat -c %a /dev/y; cat /plain", "vendor.com/yaml.class=0")
    assert output(d, pod, c) == "yaml it's ü\n600\nmounted\n"


def test_several_devices_and_what_they_replace(d, pod, tmp_path):
    (tmp_path / "a").write_text("of the device\n")
    spec(d, {"a": {"env": ["A=1", "B=1"]}, "b": {"env": ["B=2"]}}, env=["COUNT=$COUNT."])
    spec(d, {"z": {"mounts": [{"hostPath": str(tmp_path / "a"), "containerPath": "/etc/hosts"},
                              {"hostPath": str(tmp_path / "a"), "containerPath": "/m//f"}]}},
         name="other.json", kind="other.org/x")
    c = asking(d, "echo $A $B; cat /etc/hosts /m/f", KIND + "=a", "other.org/x=z", KIND + "=b",
               annotation=KIND + "=a," + KIND + "=b")
    (tmp_path / "b").write_text("of the request\n")
    c.mounts.add(host_path=str(tmp_path / "b"), container_path="/etc/hosts")
    assert output(d, pod, c) == "1 2\n" + "of the device\n" * 2


def test_later_directories_go_first(d, pod):
    spec(d, {"a": {"env": ["V=static"]}, "b": {"env": ["W=static"]}})
    spec(d, {"a": {"env": ["V=dynamic"]}}, where="dynamic", name="x.json")
    c = asking(d, "echo $V $W", KIND + "=a", KIND + "=b")
    assert output(d, pod, c) == "dynamic static\n"
    spec(d, {"a": {"env": ["V=again"]}}, where="dynamic", name="y.json")
    how, words = refused(d, pod, c)
    assert how == grpc.StatusCode.FAILED_PRECONDITION
    assert "x.json" in words and "y.json" in words and KIND + "=a" in words
    os.unlink(d.specs / "dynamic" / "y.json")  # read when asked: nothing is kept
    assert output(d, pod, c) == "dynamic static\n"


def test_a_broken_file_takes_nothing_from_the_others(d, pod):
    spec(d, {"good": {"env": ["V=1"]}})
    (d.specs / "static" / "broken.json").write_text('{"cdiVersion": "1.1.0", ')
    (d.specs / "static" / "new.yaml").write_text("cdiVersion: 7.0.0\nkind: v.com/x\ndevices:\n"
                                                 "- {name: a, containerEdits: {env: [A=1]}}\n")
    os.mkfifo(d.specs / "static" / "fifo.json")
    assert output(d, pod, asking(d, "echo $V", KIND + "=good")) == "1\n"
    assert "broken.json" in d.log_text()
    how, words = refused(d, pod, asking(d, "true", "v.com/x=a"))
    assert how == grpc.StatusCode.NOT_FOUND
    assert '"v.com/x=a"' in words and "broken.json" in words
    assert 'new.yaml: cdiVersion: "7.0.0"' in words and "fifo.json: it is no file" in words, words


GONE = "/not/there"


@pytest.mark.parametrize("edits,words", [
    ({"deviceNodes": [{"path": GONE}]}, '"%s" is no device' % GONE),
    ({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]}, '"/etc/passwd" is no'),
    ({"deviceNodes": [{"path": "/dev/zero", "type": "b"}]}, "is of type c, expected b"),
    ({"mounts": [{"hostPath": GONE, "containerPath": "/x"}]}, '"%s" is not there' % GONE),
    ({"hooks": [{"hookName": "poststart", "path": GONE}]}, '"%s" is no program' % GONE),
])
def test_what_the_node_does_not_have(d, pod, edits, words):
    spec(d, {"d0": edits})
    how, text = refused(d, pod, asking(d, "true", KIND + "=d0"))
    assert how == grpc.StatusCode.NOT_FOUND and words in text and "vendor.json" in text
    assert not os.path.exists(GONE)


@pytest.mark.parametrize("edits", [
    {"netDevices": [{"hostInterfaceName": "no-such-0", "name": "net0"}]},
    {"intelRdt": {"closID": "gold", "schemata": ["L3:0=f"]}},
], ids=["netDevices", "intelRdt"])
def test_what_runtime_or_kernel_do_not_have_is_an_error(d, pod, edits):
    if "intelRdt" in edits and os.path.exists("/sys/fs/resctrl/schemata"):
        pytest.skip("this machine has resctrl")
    spec(d, {"d0": edits})
    how, text = refused(d, pod, asking(d, "true", KIND + "=d0"))
    assert how in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND), text
    assert re.search("network devices|no-such-0|resctrl", text), text


def test_too_many_files(d, pod):
    for i in range(257):
        (d.specs / "static" / ("%d.json" % i)).write_text("{}")
    how, text = refused(d, pod, asking(d, "true", KIND + "=d0"))
    assert how == grpc.StatusCode.RESOURCE_EXHAUSTED and "more than 256 files" in text


def test_too_large(d, pod):
    (d.specs / "static" / "big.json").write_bytes(b'"' + b"x" * (1 << 20) + b'"')
    spec(d, {"many": {"env": ["A%d=%s" % (i, "x" * 1000) for i in range(300)]}})
    how, text = refused(d, pod, asking(d, "true", KIND + "=nothing"))
    assert how == grpc.StatusCode.NOT_FOUND and "big.json" in text
    how, text = refused(d, pod, asking(d, "true", KIND + "=many"))
    assert how == grpc.StatusCode.RESOURCE_EXHAUSTED, text


def test_in_a_user_namespace(d, pod, tmp_path, request):
    device, common = everything(tmp_path)
    os.chmod(tmp_path, 0o755)
    del device["deviceNodes"][0]["hostPath"]  # runtimes bind nodes there, by their own path
    device["deviceNodes"][0] = {"path": "/dev/zero"}
    spec(d, {"d0": device}, **common)
    ns = api.NamespaceOption(pid=api.CONTAINER, network=api.POD, userns_options=userns())
    runtime = json.loads(d.cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])
    p = d.run_pod(d.pod_config(name="mapped", namespaces=ns), handler=runtime["runtime"])
    try:
        c = asking(d, "echo $THING; head -c 4 /dev/zero | wc -c; stat -c '%u %g' /opt/lib/driver.so;"
                      "cat /opt/lib/driver.so; touch /opt/lib/x 2>&1; id -G", KIND + "=d0",
                   linux=security())
        out = output(d, p, c).splitlines()
        assert out[:4] == ["0", "4", "0 0", "a driver"], out
        assert "Read-only" in out[4] and "4711" in out[5].split(), out
        spec(d, {"d0": {"additionalGids": [mapping()[0].length]}})
        how, text = refused(d, p, asking(d, "true", KIND + "=d0", linux=security()))
        assert how == grpc.StatusCode.INVALID_ARGUMENT and "65536" in text
    finally:
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_not_configured(archive):
    daemon = Daemon(config="cdi:\n  spec_dirs: []\n")
    try:
        daemon.load(archive)
        how, text = refused(daemon, daemon.run_pod(), asking(daemon, "true", KIND + "=d0"))
        assert how == grpc.StatusCode.FAILED_PRECONDITION and "cdi.spec_dirs" in text
    finally:
        daemon.close()
