# SPDX-License-Identifier: Apache-2.0
"""The OCI bundle: config.json against the schema of the OCI runtime specification, and what a
container made of it sees, with crun and with runc."""
import glob
import itertools
import json
import os
import re
import subprocess
import sys

import grpc
import jsonschema
import pytest

import image
from cri import TOP, api
from daemon import BUILD, wait_for

sys.path.append(os.path.join(TOP, "tests", "conformance"))
import tools  # noqa: E402

SPEC = "github.com/opencontainers/runtime-spec@v1.3.0"


@pytest.fixture(scope="module")
def schema():
    """A check of one document."""
    try:
        top = tools.module_dir(SPEC) + "/schema/"
    except tools.Unavailable as e:
        pytest.skip("no schema: %s" % e)
    with open(top + "config-schema.json") as f:
        root = json.load(f)
    root.pop("id", None)  # its references are relative to the file
    resolver = jsonschema.RefResolver("file://" + top, root)
    return jsonschema.Draft4Validator(root, resolver=resolver).validate


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    lin = api.LinuxPodSandboxConfig()
    lin.security_context.privileged = True
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param, linux=lin)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def bundle(d, ctr):
    path, = glob.glob("%s/pods/*/containers/%s/config.json" % (d.state, ctr))
    with open(path) as f:
        return json.load(f)


def linux(**kw):
    lin = api.LinuxContainerConfig(**kw)
    lin.security_context.namespace_options.pid = api.CONTAINER
    return lin


def test_schema_knows_a_mistake(schema):
    with pytest.raises(jsonschema.ValidationError):
        schema({"ociVersion": "1.0.2", "process": {"cwd": "/", "args": "no list"}})


def test_what_is_printed_for_every_host(schema):
    """cgroup version 1 and 2, with and without AppArmor, SELinux, swap and huge pages."""
    program = os.path.join(BUILD, "src", "spec", "test-spec")
    if not os.path.exists(program):
        pytest.skip("this build has no unit tests: " + program)
    lines = subprocess.run([program, "--print"], stdout=subprocess.PIPE, check=True,
                           text=True).stdout.splitlines()
    assert len(lines) == 12
    for line in lines:
        schema(json.loads(line))


SC = api.LinuxContainerSecurityContext
CHANGES = {
    "plain": lambda c: None,
    "privileged": lambda c: setattr(c.linux.security_context, "privileged", True),
    "tty": lambda c: (setattr(c, "tty", True), setattr(c, "stdin", True)),
    "user": lambda c: (setattr(c.linux.security_context.run_as_user, "value", 1000),
                       c.linux.security_context.supplemental_groups.extend([7, 8])),
    "caps": lambda c: (c.linux.security_context.capabilities.add_capabilities.append("ALL"),
                       c.linux.security_context.capabilities.add_ambient_capabilities.append(
                           "CHOWN")),
    "no caps": lambda c: c.linux.security_context.capabilities.drop_capabilities.append("ALL"),
    "seccomp": lambda c: setattr(c.linux.security_context.seccomp, "profile_type", 0),
    "read only": lambda c: (setattr(c.linux.security_context, "readonly_rootfs", True),
                            setattr(c.linux.security_context, "no_new_privs", True)),
    "paths": lambda c: (c.linux.security_context.masked_paths.extend(["/proc/kcore", "/not/there"]),
                        c.linux.security_context.readonly_paths.append("/proc/sys")),
    "resources": lambda c: c.linux.resources.MergeFrom(api.LinuxContainerResources(
        cpu_period=50000, cpu_quota=25000, cpu_shares=100, memory_limit_in_bytes=1 << 26,
        oom_score_adj=100, cpuset_cpus="0", cpuset_mems="0")),
    "mounts": lambda c: (
        c.mounts.add(container_path="/m", host_path="/tmp", readonly=True,
                     recursive_read_only=True),
        c.mounts.add(container_path="/m2", host_path="/tmp", propagation=1,
                     mount_options=["noexec", "nosuid", "nodev"])),
    "devices": lambda c: c.devices.add(container_path="/dev/x", host_path="/dev/null"),
    "host pid": lambda c: setattr(c.linux.security_context.namespace_options, "pid", api.NODE),
    "text": lambda c: (c.envs.add(key="data-1", value="\u00fc \u2028 \"\\\n\t".encode()),
                       c.annotations.update({"a/b": "\u00fc\n\"", "run.oci.handler": "wasm"})),
}


@pytest.mark.parametrize("name", CHANGES)
def test_schema(d, pod, schema, name):
    c = d.container_config("true", name="c")
    CHANGES[name](c)
    ctr = d.create(pod, config=c)
    schema(bundle(d, ctr))
    d.cri.StartContainer(container_id=ctr)
    if not c.stdin:
        assert d.wait_exit(ctr).exit_code == 0


def test_pairs_of_changes(d, pod, schema):
    """What goes together is still one valid document."""
    for i, (a, b) in enumerate(itertools.combinations(CHANGES, 2)):
        if i % 7 == 0:  # a sample: each container costs some milliseconds
            c = d.container_config("true", name="c%d" % i)
            CHANGES[a](c)
            CHANGES[b](c)
            ctr = d.create(pod, config=c)
            schema(bundle(d, ctr))
            d.cri.RemoveContainer(container_id=ctr)


def test_annotations_do_not_steer_the_runtime(d, pod):
    c = d.container_config("true", annotations={
        "run.oci.handler": "wasm", "krun.x": "1", "run.oci.systemd.subgroup": "theirs",
        "io.kubernetes.cri.sandbox-id": "x", "mine": "1"})
    a = bundle(d, d.create(pod, config=c))["annotations"]
    assert a["mine"] == "1" and a["io.kubernetes.cri.sandbox-id"] == pod
    # gantry's own, with the systemd driver
    assert {k: v for k, v in a.items() if k.startswith(("run.oci.", "krun."))} in (
        {}, {"run.oci.systemd.subgroup": ""})


# --- what the process sees ---

def test_environment(d, pod):
    c = d.container_config(["env"])
    c.envs.add(key="data-1", value=b"no name of a shell")
    c.envs.add(key="dotted.name", value="\u00fc=\u00df".encode())
    c.envs.add(key="PATH", value=b"/mine")
    c.envs.add(key="EMPTY", value=b"")
    c.command[0] = "/bin/env"
    _, out = d.output(pod, None, config=c)
    lines = out.splitlines()
    assert {"data-1=no name of a shell", "dotted.name=\u00fc=\u00df", "PATH=/mine", "EMPTY=",
            "HOME=/root"} <= set(lines)
    assert len([x for x in lines if x.startswith("PATH=")]) == 1
    assert [x for x in lines if x.startswith("HOSTNAME=")]


def test_environment_that_is_no_text(d, pod, schema):
    """Bytes arrive as they are, in the container and in what is run in it."""
    every = bytes(range(1, 256))
    c = d.container_config("tr '\\0' '\\n' </proc/self/environ >/e; cat /proc/1/comm; sleep 100")
    c.envs.add(key="LATIN", value=b"gr\xfcn 100%41")
    c.envs.add(key="EVERY", value=every)
    c.envs.add(key="TEXT", value="gr\u00fcn".encode())
    ctr = d.create(pod, config=c)
    schema(bundle(d, ctr))
    d.cri.StartContainer(container_id=ctr)

    def value(data, key):
        return [x for x in data.split(b"\0") if x.startswith(key + b"=")]
    pid = json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])["pid"]
    wait_for(lambda: "sh" in d.read_log(d.status(ctr).log_path))  # the command, not its helper
    with open("/proc/%d/environ" % pid, "rb") as f:
        own = f.read()
    inside = d.cri.ExecSync(container_id=ctr, cmd=["cat", "/proc/self/environ"], timeout=10).stdout
    for data in (own, inside):
        assert value(data, b"LATIN") == [b"LATIN=gr\xfcn 100%41"]
        assert value(data, b"EVERY") == [b"EVERY=" + every]
        assert value(data, b"TEXT") == ["TEXT=gr\u00fcn".encode()]
    r = d.cri.ExecSync(container_id=ctr, cmd=["/not/there"], timeout=10)
    assert r.exit_code == 127 and b"/not/there" in r.stderr
    plain = d.container_config("ls -a /dev", name="plain")
    assert ".gantry-env" not in d.output(pod, None, config=plain)[1]


def test_limits_and_files_of_the_pod(d, pod):
    _, out = d.output(pod, "grep 'open files' /proc/self/limits; cat /etc/hostname; hostname; "
                           "df /dev/shm | tail -1; ls -l /dev/ptmx /dev/fd /dev/stdin; "
                           "cat /proc/self/cgroup | wc -l; ls -d /dev/mqueue /dev/pts /sys/fs/cgroup")
    assert "open files" in out and "/dev/shm" in out and "/dev/mqueue" in out
    name = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.metadata.name
    assert out.count(name) == 2


def test_oom_score_adj_that_cannot_be_lowered(d, pod):
    """The container starts all the same, and the log says so once."""
    with open("/proc/self/status") as f:
        caps = int(re.search(r"CapEff:\s+(\w+)", f.read())[1], 16)
    for name in ("a", "b"):
        lin = linux(resources=api.LinuxContainerResources(oom_score_adj=-998))
        _, out = d.output(pod, "cat /proc/self/oom_score_adj", name=name, linux=lin)
        with open("/proc/%d/oom_score_adj" % d.process.pid) as f:
            own = int(f.read())
        assert int(out) == (-998 if caps >> 24 & 1 else own)
    if not caps >> 24 & 1:
        assert d.log_text().count("asks for oom_score_adj -998") == 1


def test_mount_options(d, pod, tmp_path):
    c = d.container_config("cp /bin/busybox /m/sh && /m/sh -c true; echo $?; grep ' /m ' "
                           "/proc/self/mounts")
    c.mounts.add(container_path="/m", host_path=str(tmp_path),
                 mount_options=["noexec", "nosuid", "nodev"])
    _, out = d.output(pod, None, config=c)
    assert "126\n" in out and re.search(r" /m \S+ rw,nosuid,nodev,noexec", out)
    assert d.cri.Status().features.mount_options


def test_mounts_are_ordered_and_symlinks_followed(d, pod, tmp_path):
    for n in ("outer", "inner"):
        (tmp_path / n).mkdir()
        (tmp_path / n / n).touch()
    os.symlink(tmp_path / "inner", tmp_path / "link")
    c = d.container_config("ls /a /a/b")
    c.mounts.add(container_path="/a/b", host_path=str(tmp_path / "link"))
    c.mounts.add(container_path="/a", host_path=str(tmp_path / "outer"))
    _, out = d.output(pod, None, config=c)
    assert out == "/a:\nb\nouter\n\n/a/b:\ninner\n"


HOSTILE = {
    "a link out of the image": ("symlink", "/etc/shadow"),
    "a link that climbs": ("symlink", "../../../../../../etc/passwd"),
    "a loop": ("symlink", "passwd"),
    "a directory": ("dir", None),
    "a fifo": ("fifo", None),
    "a device": ("device", None),
    "no file": (None, None),
    "huge": ("huge", None),
    "garbage": ("file", b"\xff\0:::\nweb:x:99999999999:1::/:\nweb:x\n:::::::\nweb:x:-1:-1:::\n"),
}


@pytest.fixture(scope="module")
def hostile(d, tmp_path_factory):
    """Images whose /etc/passwd is not what one expects."""
    from fixtures import BUSYBOX
    import tarfile
    base = image.busybox_layer(BUSYBOX).bytes()
    for i, (kind, data) in enumerate(HOSTILE.values()):
        layer = image.Layer()
        layer.add("etc/.wh.passwd")
        top = image.Layer()
        if kind == "symlink":
            top.symlink("etc/passwd", data)
        elif kind == "dir":
            top.dir("etc/passwd")
        elif kind == "fifo":
            top.add("etc/passwd", kind=tarfile.FIFOTYPE)
        elif kind == "device":
            top.add("etc/passwd", kind=tarfile.CHRTYPE, dev=(1, 5))
        elif kind == "huge":
            top.add("etc/passwd", b"x" * (20 << 20))
        elif kind == "file":
            top.add("etc/passwd", data)
        img = image.Image([base, layer.bytes(), top.bytes()], {"Cmd": ["/bin/sh"],
                                                               "Env": ["PATH=/bin"]})
        path = str(tmp_path_factory.mktemp("hostile") / "image.tar")
        img.docker_archive(path, ["test/hostile:%d" % i])
        d.load(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_passwd(d, pod, hostile, name):
    """Names cannot be found, numbers work, and nothing of the host is read."""
    ref = "test/hostile:%d" % list(HOSTILE).index(name)
    for user in ("web", "root", "daemon"):
        lin = linux(security_context=api.LinuxContainerSecurityContext(run_as_username=user))
        with pytest.raises(grpc.RpcError) as e:
            d.create(pod, "true", image=ref, linux=lin)
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and user in e.value.details()
    lin = linux(security_context=api.LinuxContainerSecurityContext(
        run_as_user=api.Int64Value(value=1234)))
    lin.security_context.namespace_options.pid = api.CONTAINER
    if HOSTILE[name][0] == "fifo" and d.info(pod)["runtime"] == "runc":
        pytest.skip("runc itself opens the image's /etc/passwd, and waits for a writer")
    if HOSTILE[name][0] in ("dir", "device", "huge") and d.info(pod)["runtime"] == "runc":
        with pytest.raises(grpc.RpcError) as e:  # runc reads it itself, and says what it met
            d.create(pod, "true", image=ref, linux=lin)
        assert "unable to find user 1234" in e.value.details()
        assert not d.cri.ListContainers().containers
        return
    _, out = d.output(pod, "grep -E '^(Uid|Gid)' /proc/self/status; echo $HOME", image=ref,
                      linux=lin)
    assert out == "Uid:\t1234\t1234\t1234\t1234\nGid:\t0\t0\t0\t0\n/\n"


def test_ambient_capabilities_reach_a_user(d, pod):
    lin = linux(security_context=api.LinuxContainerSecurityContext(
        run_as_user=api.Int64Value(value=1000)))
    lin.security_context.namespace_options.pid = api.CONTAINER
    lin.security_context.capabilities.add_ambient_capabilities.append("NET_BIND_SERVICE")
    _, out = d.output(pod, "grep -E 'CapEff|CapAmb' /proc/self/status", linux=lin)
    assert re.findall(r"\t(\w+)", out) == ["0000000000000400"] * 2


def test_stop_signal_of_the_image(d, pod, tmp_path):
    from fixtures import BUSYBOX
    img = image.busybox_image(BUSYBOX, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"],
                                        "StopSignal": "SIGUSR2"})
    path = str(tmp_path / "i.tar")
    img.docker_archive(path, ["test/usr2:1"])
    d.load(path)
    ctr = d.run(pod, "trap 'exit 11' USR2; echo ready; while :; do sleep 0.05; done",
                image="test/usr2:1")
    wait_for(lambda: "ready" in d.read_log(d.status(ctr).log_path))
    d.cri.StopContainer(container_id=ctr, timeout=20)
    assert d.status(ctr).exit_code == 11
