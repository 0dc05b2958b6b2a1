# SPDX-License-Identifier: Apache-2.0
"""What the node's configuration and the image give to containers: limits of processes, annotations,
volumes and signals of the image."""
import json
import os
import re
import resource

import grpc
import pytest

import image
from cri import api
from daemon import Daemon, wait_for
from fixtures import BUSYBOX
from test_bundle import bundle, linux
from test_userns import HOST, security, userns

CONFIG = """\
container:
  default_ulimits: [core=0, "nofile=9:9", "nofile=1234:2345", "memlock=65536:131072", "nproc=500:600", stack=unlimited]
runtimes:
  crun:
    path: crun
    pod_annotations: ["passed.example/*", "run.oci.keep_original_groups"]
    container_annotations: ["run.oci.hooks.std*", "*", "run.oci.seccomp*"]
  runc:
    path: runc
"""
VOLUMES = ["/data", "/new/deep", "/link/inside", "/run/abs/x", "/etc/passwd", "/sys/fs/cgroup", "/mounted"]


@pytest.fixture(scope="module")
def d(archive, tmp_path_factory):
    daemon = Daemon(config=CONFIG)
    daemon.load(archive)
    layer = image.Layer().dir("data", 0o750, uid=1000, gid=1234).add("data/f", "of the image\n") \
        .dir("real").symlink("link", "/real").dir("run").symlink("run/abs", "/real/../real")
    made = image.Image([image.busybox_layer(BUSYBOX).bytes(), layer.bytes()], {
        "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "StopSignal": "SIGUSR1",
        "Volumes": {v: {} for v in VOLUMES}})
    path = str(tmp_path_factory.mktemp("image") / "volumes.tar")
    made.docker_archive(path, ["test/volumes:latest"])
    daemon.load(path)
    yield daemon
    daemon.close()


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param, annotations={
                      "passed.example/a": "1", "other.example/b": "2", "both": "of the pod",
                      "run.oci.keep_original_groups": "1", "passed.example/a/b": "3"})
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_default_ulimits(d, pod):
    c = d.run(pod, "cat /proc/self/limits; sleep 1000")
    wait_for(lambda: "Max realtime timeout" in d.read_log(d.status(c).log_path))
    # In what runc 1.1.5 executes, Go has raised the soft limit of files to the hard one.
    runc = "runc" in d.info(pod)["runtime"]
    for text, soft in ((d.read_log(d.status(c).log_path), ["1234"]),
                       (d.exec(c, "cat /proc/self/limits").stdout.decode(),
                        ["1234", "2345"] if runc else ["1234"])):
        found = {m[1].strip(): m.groups()[1:] for m in
                 re.finditer(r"^(Max [a-z ]+?)  +(\w+) +(\w+)", text, re.M)}
        assert found["Max open files"][0] in soft and found["Max open files"][1] == "2345", text
        assert found["Max core file size"] == ("0", "0")
        assert found["Max locked memory"] == ("65536", "131072")
        assert found["Max processes"] == ("500", "600")
        assert found["Max stack size"][0] == ("unlimited" if resource.getrlimit(resource.RLIMIT_STACK)[1]
                                              == resource.RLIM_INFINITY else found["Max stack size"][1])


def test_ulimit_above_the_daemons_own(archive):
    """Without CAP_SYS_RESOURCE it cannot be given: the node goes on with what can."""
    was = resource.getrlimit(resource.RLIMIT_CORE)
    daemon = Daemon(config="container:\n  default_ulimits: [core=4096:8192]\n", start=False)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1024, 4096 if was[1] < 0 else min(4096, was[1])))
    except ValueError:
        pytest.skip("the limit of this process cannot be changed")
    try:
        daemon.start()
        daemon.load(archive)
        _, out = daemon.output(daemon.run_pod(), "grep core /proc/self/limits")
        if "lowered" in daemon.log_text():
            assert "RLIMIT_CORE is lowered to 4096" in daemon.log_text() and "4096                 4096" in out
        else:
            assert "4096                 8192" in out
    finally:
        daemon.close()


def test_annotations_that_are_passed_on(d, pod):
    ctr = d.create(pod, "true", annotations={
        "plain": "yes", "both": "of the container", "run.oci.hooks.stdout": "/dev/null",
        "run.oci.handler": "evil", "run.oci.seccomp_bpf_data": "AAAA", "org.criu.config": "/x",
        "io.kubernetes.cri.sandbox-id": "forged"})
    found = bundle(d, ctr)["annotations"]
    assert found["plain"] == "yes" and found["both"] == "of the container"
    assert found["io.kubernetes.cri.sandbox-id"] == pod
    assert not {"run.oci.handler", "org.criu.config", "other.example/b", "run.oci.seccomp_bpf_data",
                "passed.example/a/b"} & set(found)
    crun = "crun" in d.info(pod)["runtime"]
    # Only where the runtime's own settings name them.
    assert found.get("passed.example/a") == ("1" if crun else None)
    assert found.get("run.oci.keep_original_groups") == ("1" if crun else None)
    assert found.get("run.oci.hooks.stdout") == ("/dev/null" if crun else None)
    status = d.status(ctr).annotations
    assert status["run.oci.handler"] == "evil", "kept as they came"


def test_signal_of_the_image(d, pod):
    c = d.run(pod, "trap 'exit 9' USR1; echo ready; while true; do sleep 0.05; done",
              image="test/volumes:latest")
    wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
    d.cri.StopContainer(container_id=c, timeout=20)
    s = d.status(c)
    assert s.exit_code == 9 and s.stop_signal == api.SIGNAL_SIGUSR1
    d.cri.RemoveContainer(container_id=c)
    c = d.container_config("trap 'exit 8' INT; echo ready; while true; do sleep 0.05; done",
                           image="test/volumes:latest", name="own")
    c.stop_signal = api.SIGNAL_SIGINT  # the request's goes first
    c = d.create(pod, config=c)
    d.cri.StartContainer(container_id=c)
    wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
    d.cri.StopContainer(container_id=c, timeout=20)
    assert d.status(c).exit_code == 8


LOOK = ("stat -c '%a %u:%g' /data; cat /data/f; ls -d /new/deep /real/inside /real/x; "
        "for i in /data /new/deep /link/inside /run/abs/x; do touch $i/written && echo $i; done; "
        "touch /etc/x /new/x 2>&1; cat /mounted/f; test -e /sys/fs/cgroup/* && echo cgroup")


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "userns"])
def test_volumes_of_the_image(d, pod, tmp_path, read_only, mapped):
    os.chmod(tmp_path, 0o755)
    (tmp_path / "f").write_text("of the request\n")
    outside = set(os.listdir("/"))
    lin = security(readonly_rootfs=read_only) if mapped else linux()
    lin.security_context.readonly_rootfs = read_only
    if mapped:
        ns = api.NamespaceOption(pid=api.CONTAINER, network=api.POD, userns_options=userns())
        pod = d.run_pod(d.pod_config(name="mapped", namespaces=ns), handler=d.info(pod)["runtime"])
    c = d.container_config(LOOK, image="test/volumes:latest", linux=lin, name="v-%d-%d" % (read_only, mapped))
    c.mounts.add(host_path=str(tmp_path), container_path="/mounted")
    c = d.create(pod, config=c)
    d.cri.StartContainer(container_id=c)
    s = d.wait_exit(c)
    out = d.read_log(s.log_path)
    lines = out.splitlines()
    assert lines[:5] == ["750 1000:1234", "of the image", "/new/deep", "/real/inside", "/real/x"], out
    assert lines[5:9] == ["/data", "/new/deep", "/link/inside", "/run/abs/x"], out
    assert ("/etc/x: Read-only" in out) == ("/new/x: Read-only" in out) == read_only, out
    assert "of the request" in lines
    top = "%s/containers/%s/upper/" % (d.root, c)
    for path in ("data/written", "new/deep", "real/inside/written", "real/x"):
        assert os.lstat(top + path).st_uid == (HOST if mapped else 0), path
    assert os.stat(top + "new/deep").st_mode & 0o7777 == 0o755
    assert not os.path.exists(top + "mounted/f") and set(os.listdir("/")) == outside
    d.cri.RemoveContainer(container_id=c)
    if mapped:
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert not os.listdir(d.root + "/containers")


@pytest.mark.parametrize("volume,words", [("/f/below", "Not a directory"), ("/dangling/x", "No such"),
                                          ("/loop/x", "symbolic links")])
def test_volume_that_cannot_be_made(d, pod, tmp_path, volume, words):
    layer = image.Layer().add("f", "x").symlink("dangling", "/not/there").symlink("loop", "/loop")
    made = image.Image([image.busybox_layer(BUSYBOX).bytes(), layer.bytes()],
                       {"Cmd": ["/bin/sh"], "Volumes": {volume: {}}})
    made.docker_archive(str(tmp_path / "i.tar"), ["test/bad:latest"])
    d.load(str(tmp_path / "i.tar"))
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", image="test/bad:latest")
    assert volume in e.value.details() and words in e.value.details()
    assert not os.listdir(d.root + "/containers") and not os.path.exists("/not")
    d.cri.RemoveImage(image=api.ImageSpec(image="test/bad:latest"))


def test_volumes_leak_no_mount_when_killed_midway(d, pod):
    """The mounts of a read-only root's volumes are in the job's own namespace."""
    lin = linux()
    lin.security_context.readonly_rootfs = True
    c = d.run(pod, "sleep 1000", image="test/volumes:latest", linux=lin)
    with open("/proc/self/mountinfo") as f:
        assert c not in f.read()
    assert d.exec(c, "touch /data/x").exit_code == 0
    pid = json.loads(d.cri.ContainerStatus(container_id=c, verbose=True).info["info"])["pid"]
    with open("/proc/%d/mountinfo" % pid) as f:
        assert " /data " in f.read()
