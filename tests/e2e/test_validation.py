# SPDX-License-Identifier: Apache-2.0
"""Every field that can be wrong is refused, by its name and value, and leaves nothing behind."""
import os
import re

import grpc
import pytest

from cri import IMAGE, RUNTIME, TOP, api

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def pod_sc(c):
    return c.linux.security_context


PODS = [
    ("no metadata", lambda c: c.ClearField("metadata"), "config.metadata"),
    ("name", lambda c: setattr(c.metadata, "name", ""), "config.metadata.name"),
    ("long name", lambda c: setattr(c.metadata, "name", "x" * 300), "300 bytes"),
    ("control", lambda c: setattr(c.metadata, "name", "a\nb"), "control character"),
    ("namespace", lambda c: setattr(c.metadata, "namespace", ""), "config.metadata.namespace"),
    ("uid", lambda c: setattr(c.metadata, "uid", ""), "config.metadata.uid"),
    ("slash", lambda c: setattr(c.metadata, "name", "a/b"), 'config.metadata.name: "a/b"'),
    ("semicolon", lambda c: setattr(c.metadata, "namespace", "a;K8S_POD_NAME=x"), "';'"),
    ("hostname", lambda c: setattr(c, "hostname", "a b"), 'config.hostname: "a b"'),
    ("long hostname", lambda c: setattr(c, "hostname", "h" * 65), "config.hostname"),
    ("hostname end", lambda c: setattr(c, "hostname", "a-"), "must not end with '-'"),
    ("hostname label", lambda c: setattr(c, "hostname", "a..b"), "empty label"),
    ("log dir", lambda c: setattr(c, "log_directory", "rel"), 'config.log_directory: "rel"'),
    ("log dir ..", lambda c: setattr(c, "log_directory", "/a/../b"), ".."),
    ("dns", lambda c: c.dns_config.servers.append("1.2.3"), 'servers: "1.2.3"'),
    ("search", lambda c: c.dns_config.searches.append("a b"), 'searches: "a b"'),
    ("many dns", lambda c: c.dns_config.servers.extend(["1.1.1.1"] * 40), "40 entries"),
    ("port", lambda c: c.port_mappings.add(container_port=0, host_port=1), "container_port: 0"),
    ("port big", lambda c: c.port_mappings.add(container_port=70000), "container_port: 70000"),
    ("host port", lambda c: c.port_mappings.add(container_port=1, host_port=-1), "host_port: -1"),
    ("host ip", lambda c: c.port_mappings.add(container_port=1, host_port=1, host_ip="x"),
     'host_ip: "x"'),
    ("protocol", lambda c: c.port_mappings.add(container_port=1, protocol=9), "protocol: 9"),
    ("port twice", lambda c: [c.port_mappings.add(container_port=i, host_port=7) for i in (1, 2)],
     "host_port: 7 is there twice"),
    ("label", lambda c: c.labels.update({"": "x"}), "config.labels: a key is empty"),
    ("annotations", lambda c: c.annotations.update({"x": "y" * (2 << 20)}), "config.annotations"),
    ("cgroup", lambda c: setattr(c.linux, "cgroup_parent", "rel"), "cgroup_parent"),
    ("cgroup ..", lambda c: setattr(c.linux, "cgroup_parent", "/a/../.."), "cgroup_parent"),
    ("network", lambda c: setattr(pod_sc(c).namespace_options, "network", api.CONTAINER),
     "namespace_options.network: 1"),
    ("pid", lambda c: setattr(pod_sc(c).namespace_options, "pid", api.TARGET),
     "namespace_options.pid: 3"),
    ("ipc", lambda c: setattr(pod_sc(c).namespace_options, "ipc", api.CONTAINER), "ipc: 1"),
    ("target", lambda c: setattr(pod_sc(c).namespace_options, "target_id", "x"), 'target_id: "x"'),
    ("policy", lambda c: setattr(pod_sc(c), "supplemental_groups_policy", 9), "policy: 9"),
    ("old seccomp", lambda c: setattr(pod_sc(c), "seccomp_profile_path", "zz"), '"zz"'),
    ("selinux", lambda c: setattr(pod_sc(c).selinux_options, "type", "a:b"), 'type: "a:b"'),
    ("option", lambda c: c.dns_config.options.append(""), "dns_config.options"),
    ("userns", lambda c: setattr(pod_sc(c).namespace_options.userns_options, "mode", api.POD),
     "userns_options.uids: 0 mappings"),
    ("user", lambda c: setattr(pod_sc(c).run_as_user, "value", -1), "run_as_user: -1"),
    ("group", lambda c: setattr(pod_sc(c).run_as_group, "value", 1), "run_as_group: 1"),
    ("groups", lambda c: pod_sc(c).supplemental_groups.append(1 << 40), "supplemental_groups"),
    ("seccomp", lambda c: setattr(pod_sc(c).seccomp, "profile_type", 7), "profile_type: 7"),
    ("seccomp ref", lambda c: setattr(pod_sc(c).seccomp, "profile_type", 2), "localhost_ref"),
    ("sysctl", lambda c: c.linux.sysctls.update({"kernel.panic": "1"}), '"kernel.panic"'),
    ("sysctl name", lambda c: c.linux.sysctls.update({"net..x": "1"}), '"net..x"'),
    ("overhead", lambda c: setattr(c.linux.overhead, "cpu_shares", 1), "overhead.cpu_shares: 1"),
    ("resources", lambda c: setattr(c.linux.resources, "cpu_period", 5), "cpu_period: 5"),
    ("windows", lambda c: c.windows.SetInParent(), "config.windows"),
]


@pytest.mark.parametrize("name,change,message", PODS, ids=[x[0] for x in PODS])
def test_pod(d, name, change, message):
    c = d.pod_config(name="bad")
    change(c)
    with pytest.raises(grpc.RpcError) as e:
        d.cri.RunPodSandbox(config=c)
    assert e.value.code() == INVALID
    assert message in e.value.details()
    assert not d.cri.ListPodSandbox().items and not d.leftovers()


def test_pod_sysctls_of_the_node(d):
    ns = api.NamespaceOption(network=api.NODE, ipc=api.NODE)
    for key in ("net.core.somaxconn", "kernel.shmmax"):
        lin = api.LinuxPodSandboxConfig(sysctls={key: "1"})
        with pytest.raises(grpc.RpcError) as e:
            d.cri.RunPodSandbox(config=d.pod_config(name="s", linux=lin, namespaces=ns))
        assert e.value.code() == INVALID and key in e.value.details()


def sc(c):
    return c.linux.security_context


def res(c):
    return c.linux.resources


CONTAINERS = [
    ("no metadata", lambda c: c.ClearField("metadata"), "config.metadata"),
    ("name", lambda c: setattr(c.metadata, "name", ""), "config.metadata.name"),
    ("image", lambda c: setattr(c.image, "image", ""), "config.image.image"),
    ("image ref", lambda c: setattr(c.image, "image", "BAD!"), '"BAD!"'),
    ("command", lambda c: c.command.insert(0, ""), "config.command"),
    ("cwd", lambda c: setattr(c, "working_dir", "rel"), 'config.working_dir: "rel"'),
    ("env", lambda c: c.envs.add(key="a=b"), 'config.envs.key: "a=b"'),
    ("env value", lambda c: c.envs.add(key="a", value=b"x\0y"), "NUL"),
    ("long arg", lambda c: c.args.append("x" * 131072), "config.args: number 0 has 131072 bytes"),
    ("long env", lambda c: c.envs.add(key="k", value=b"v" * 131071), "131073 bytes"),
    ("binary env", lambda c: c.envs.add(key="k", value=b"\xff" * 32769), "32769 bytes"),
    ("many args", lambda c: c.args.extend("x" for _ in range(65537)), "65537 entries"),
    ("slash", lambda c: setattr(c.metadata, "name", "a/b"), 'config.metadata.name: "a/b"'),
    ("privileged", lambda c: setattr(sc(c), "privileged", True), "security_context.privileged"),
    ("mount path", lambda c: c.mounts.add(host_path="/tmp"), "mounts.container_path"),
    ("mount rel", lambda c: c.mounts.add(container_path="a", host_path="/tmp"), '"a" is not'),
    ("mount root", lambda c: c.mounts.add(container_path="/", host_path="/tmp"), "whole root"),
    ("mount host", lambda c: c.mounts.add(container_path="/a"), "mounts.host_path"),
    ("mount ..", lambda c: c.mounts.add(container_path="/a/../b", host_path="/tmp"), ".."),
    ("propagation", lambda c: c.mounts.add(container_path="/a", host_path="/b", propagation=8),
     "propagation: 8"),
    ("rro", lambda c: c.mounts.add(container_path="/a", host_path="/b", recursive_read_only=True),
     "recursive_read_only: needs readonly"),
    ("rro prop", lambda c: c.mounts.add(container_path="/a", host_path="/b", readonly=True,
                                        recursive_read_only=True, propagation=1),
     "needs propagation PRIVATE"),
    ("mount twice", lambda c: [c.mounts.add(container_path="/a", host_path="/b") for _ in "12"],
     '"/a" is there twice'),
    ("idmap", lambda c: c.mounts.add(container_path="/a", host_path="/b").uidMappings.add(),
     "uidMappings"),
    ("image mount", lambda c: setattr(c.mounts.add(container_path="/a").image, "image", "x"),
     "mounts.readonly"),
    ("image sub path", lambda c: c.mounts.add(container_path="/a", readonly=True,
                                              image={"image": "x"}, image_sub_path="/b"),
     "mounts.image_sub_path"),
    ("mount option", lambda c: c.mounts.add(container_path="/a", host_path="/b",
                                            mount_options=["bogus"]), '"bogus"'),
    ("device", lambda c: c.devices.add(container_path="x", host_path="/dev/null"), '"x"'),
    ("device perm", lambda c: c.devices.add(container_path="/x", host_path="/dev/null",
                                            permissions="z"), '"z"'),
    ("device none", lambda c: c.devices.add(container_path="/x", host_path="/dev/nope"),
     "/dev/nope"),
    ("log path", lambda c: setattr(c, "log_path", "/abs"), 'config.log_path: "/abs"'),
    ("log ..", lambda c: setattr(c, "log_path", "../x"), 'config.log_path: "../x"'),
    ("cap", lambda c: sc(c).capabilities.add_capabilities.append("FLY"), '"FLY"'),
    ("drop", lambda c: sc(c).capabilities.drop_capabilities.append("X"), "drop_capabilities"),
    ("ambient", lambda c: sc(c).capabilities.add_ambient_capabilities.append("ALL"), "ambient"),
    ("pid", lambda c: setattr(sc(c).namespace_options, "pid", 9), "namespace_options.pid: 9"),
    ("target", lambda c: setattr(sc(c).namespace_options, "pid", api.TARGET), "target_id"),
    ("network", lambda c: setattr(sc(c).namespace_options, "network", api.NODE),
     "namespace_options.network: NODE"),
    ("ipc", lambda c: setattr(sc(c).namespace_options, "ipc", api.NODE), "ipc: NODE"),
    ("user", lambda c: setattr(sc(c).run_as_user, "value", -5), "run_as_user: -5"),
    ("both users", lambda c: (setattr(sc(c).run_as_user, "value", 5),
                              setattr(sc(c), "run_as_username", "web")), "run_as_username"),
    ("group", lambda c: setattr(sc(c).run_as_group, "value", 5), "run_as_group: 5"),
    ("policy", lambda c: setattr(sc(c), "supplemental_groups_policy", 5), "policy: 5"),
    ("masked", lambda c: sc(c).masked_paths.append("rel"), "masked_paths"),
    ("readonly", lambda c: sc(c).readonly_paths.append("a/.."), "readonly_paths"),
    ("seccomp", lambda c: setattr(sc(c).seccomp, "profile_type", 2), "localhost_ref"),
    ("seccomp rel", lambda c: (setattr(sc(c).seccomp, "profile_type", 2),
                               setattr(sc(c).seccomp, "localhost_ref", "rel")), '"rel"'),
    ("seccomp both", lambda c: setattr(sc(c).seccomp, "localhost_ref", "/x"), '"/x"'),
    ("seccomp old", lambda c: setattr(sc(c), "seccomp_profile_path", "what"), '"what"'),
    ("apparmor old", lambda c: setattr(sc(c), "apparmor_profile", "what"), '"what"'),
    ("selinux", lambda c: setattr(sc(c).selinux_options, "user", "a:b"), '"a:b"'),
    ("period", lambda c: setattr(res(c), "cpu_period", 10), "cpu_period: 10"),
    ("quota", lambda c: setattr(res(c), "cpu_quota", 10), "cpu_quota: 10"),
    ("shares", lambda c: setattr(res(c), "cpu_shares", 1), "cpu_shares: 1"),
    ("memory", lambda c: setattr(res(c), "memory_limit_in_bytes", -2), "memory_limit_in_bytes: -2"),
    ("swap", lambda c: (setattr(res(c), "memory_limit_in_bytes", 1 << 30),
                        setattr(res(c), "memory_swap_limit_in_bytes", 1 << 20)), "swap_limit"),
    ("oom", lambda c: setattr(res(c), "oom_score_adj", 2000), "oom_score_adj: 2000"),
    ("cpus", lambda c: setattr(res(c), "cpuset_cpus", "1-"), 'cpuset_cpus: "1-"'),
    ("mems", lambda c: setattr(res(c), "cpuset_mems", "x"), 'cpuset_mems: "x"'),
    ("huge", lambda c: res(c).hugepage_limits.add(page_size="2XB"), '"2XB"'),
    ("huge twice", lambda c: [res(c).hugepage_limits.add(page_size="2MB") for _ in "12"],
     '"2MB" is there twice'),
    ("negative quota", lambda c: setattr(res(c), "cpu_quota", -7), "cpu_quota: -7"),
    ("swap alone", lambda c: setattr(res(c), "memory_swap_limit_in_bytes", 1 << 20),
     "needs a memory_limit_in_bytes"),
    ("windows", lambda c: c.windows.SetInParent(), "config.windows"),
    ("cdi", lambda c: c.CDI_devices.add(name="a/b"), '"a/b"'),
    ("cdi annotation", lambda c: c.annotations.update({"cdi.k8s.io/x": "v.com/c=a,b"}), '"b"'),
    ("signal", lambda c: setattr(c, "stop_signal", 999), "config.stop_signal: 999"),
]


@pytest.mark.parametrize("name,change,message", CONTAINERS, ids=[x[0] for x in CONTAINERS])
def test_container(d, name, change, message):
    p = [x.id for x in d.cri.ListPodSandbox().items] or [d.run_pod(name="home")]
    c = d.container_config("true", name="bad")
    change(c)
    with pytest.raises(grpc.RpcError) as e:
        d.cri.CreateContainer(pod_sandbox_id=p[0], config=c)
    assert e.value.code() == INVALID
    assert message in e.value.details()
    assert not d.cri.ListContainers().containers


def test_ids(d):
    missing = "0" * 64
    calls = {
        "StartContainer": dict(container_id=missing), "ContainerStatus": dict(container_id=missing),
        "ExecSync": dict(container_id=missing, cmd=["x"]),
        "Exec": dict(container_id=missing, cmd=["x"], stdout=True),
        "Attach": dict(container_id=missing, stdout=True),
        "PortForward": dict(pod_sandbox_id=missing),
        "ContainerStats": dict(container_id=missing),
        "ReopenContainerLog": dict(container_id=missing),
        "UpdateContainerResources": dict(container_id=missing),
        "PodSandboxStatus": dict(pod_sandbox_id=missing),
        "PodSandboxStats": dict(pod_sandbox_id=missing),
        "CreateContainer": dict(pod_sandbox_id=missing, config=d.container_config("x")),
    }
    for name, fields in calls.items():
        with pytest.raises(grpc.RpcError) as e:
            getattr(d.cri, name)(**fields)
        assert e.value.code() == grpc.StatusCode.NOT_FOUND and missing in e.value.details(), name
        with pytest.raises(grpc.RpcError) as e:
            getattr(d.cri, name)()
        assert e.value.code() == INVALID, name
    for name in ("StopContainer", "RemoveContainer"):
        getattr(d.cri, name)(container_id=missing)
    for name in ("StopPodSandbox", "RemovePodSandbox"):
        getattr(d.cri, name)(pod_sandbox_id=missing)


def test_missing_image(d):
    p = [x.id for x in d.cri.ListPodSandbox().items] or [d.run_pod(name="home")]
    with pytest.raises(grpc.RpcError) as e:
        d.create(p[0], "true", image="not/here:1")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND and "not/here:1" in e.value.details()


def test_bad_requests_of_running_ones(d):
    p = [x.id for x in d.cri.ListPodSandbox().items] or [d.run_pod(name="home")]
    c = d.run(p[0], "sleep 100", name="r")
    for call in (lambda: d.cri.ExecSync(container_id=c), lambda: d.cri.ExecSync(
            container_id=c, cmd=["x"], timeout=-1),
            lambda: d.cri.StopContainer(container_id=c, timeout=-1),
            lambda: d.cri.UpdateContainerResources(container_id=c),
            lambda: d.cri.UpdateContainerResources(
                container_id=c, linux=api.LinuxContainerResources(cpu_shares=1))):
        with pytest.raises(grpc.RpcError) as e:
            call()
        assert e.value.code() == INVALID


def test_bad_filters_and_commands(d):
    p = [x.id for x in d.cri.ListPodSandbox().items] or [d.run_pod(name="home")]
    c = d.run(p[0], "sleep 100", name="f")
    state, pod_state = api.ContainerStateValue(state=9), api.PodSandboxStateValue(state=9)
    cidr = api.RuntimeConfig(network_config=api.NetworkConfig(pod_cidr="10.0.0.0/8,10.0.0.0/33"))
    for call, message in (
            (lambda: d.cri.ListContainers(filter=api.ContainerFilter(state=state)), "state: 9"),
            (lambda: d.cri.ListPodSandbox(filter=api.PodSandboxFilter(state=pod_state)), "state: 9"),
            (lambda: d.cri.ExecSync(container_id=c, cmd=[""]), "cmd: its first word is empty"),
            (lambda: d.cri.ExecSync(container_id=c, cmd=["a", "x" * 131072]), "cmd: number 1"),
            (lambda: d.cri.UpdateRuntimeConfig(runtime_config=cidr), '"10.0.0.0/33"'),
            (lambda: d.cri.UpdateRuntimeConfig(), "runtime_config"),
            (lambda: d.cri.UpdateContainerResources(
                container_id=c, linux=api.LinuxContainerResources(),
                windows=api.WindowsContainerResources()), "windows")):
        with pytest.raises(grpc.RpcError) as e:
            call()
        assert e.value.code() == INVALID and message in e.value.details()
    d.cri.RemoveContainer(container_id=c)


def field(number, data):
    """One length-delimited field of the wire format."""
    n, size = len(data), b""
    while n >= 0x80:
        size, n = size + bytes([n & 0x7f | 0x80]), n >> 7
    return bytes([number << 3 | 2]) + size + bytes([n]) + data


@pytest.mark.parametrize("text,what", [(b"a\xff", "is not UTF-8"), (b"a\0b", "holds a NUL"),
                                       (b"\xc0\x80", "is not UTF-8")])
def test_strings_of_any_field(d, text, what):
    """Clients' own libraries let no such string out: these requests are made by hand."""
    good = field(1, b"n") + field(2, b"u") + field(3, b"ns")
    configs = {
        "config.metadata.name": field(1, field(1, text) + field(2, b"u") + field(3, b"ns")),
        "config.labels.value": field(1, good) + field(6, field(1, b"k") + field(2, text)),
        "config.annotations.key": field(1, good) + field(7, field(1, text)),
        "config.dns_config.servers": field(1, good) + field(4, field(1, text)),
        "config.linux.cgroup_parent": field(1, good) + field(8, field(1, text)),
    }
    call = d.cri.channel.unary_unary("/runtime.v1.RuntimeService/RunPodSandbox",
                                     request_serializer=lambda x: x)
    before = len(d.cri.ListPodSandbox().items)
    for path, config in configs.items():
        with pytest.raises(grpc.RpcError) as e:
            call(field(1, config), timeout=10)
        assert e.value.code() == INVALID and e.value.details() == "%s: %s" % (path, what)
    with pytest.raises(grpc.RpcError) as e:
        call(b"\x0a\xff\xff\xff\xff\x0f", timeout=10)
    assert e.value.code() == INVALID
    assert len(d.cri.ListPodSandbox().items) == before


def test_a_container_in_a_pod_that_is_not_ready(d):
    p = d.run_pod(name="stopped")
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        d.create(p, "true")
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION and p in e.value.details()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        d.create(p, "true")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND and p in e.value.details()


def test_privileged_needs_a_pod_that_says_so(d):
    lin = api.LinuxPodSandboxConfig()
    lin.security_context.privileged = True
    p = d.run_pod(name="privileged", linux=lin)
    c = d.container_config("true", name="p")
    c.linux.security_context.privileged = True
    d.cri.CreateContainer(pod_sandbox_id=p, config=c)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def messages_of_requests():
    found = {}

    def walk(m):
        if m.name in found or m.GetOptions().map_entry:
            return
        found[m.name] = [f.name for f in m.fields]
        for f in m.fields:
            if f.message_type:
                walk(f.message_type)
    for service in (RUNTIME, IMAGE):
        for method in service.methods:
            walk(method.input_type)
    return found


def test_every_field_is_documented():
    with open(os.path.join(TOP, "docs", "validation.md")) as f:
        rows = re.findall(r"^\| (\w+\.[\w*]+) \| ([^|]+) \| ([INF -]+) \|$", f.read(), re.M)
    documented = [name for name, _, _ in rows]
    assert len(documented) == len(set(documented))
    wanted = set()
    for message, fields in messages_of_requests().items():
        if message + ".*" in documented:
            wanted.add(message + ".*")
        else:
            wanted |= {message + "." + name for name in fields}
    assert wanted == set(documented)
