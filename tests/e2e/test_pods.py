# SPDX-License-Identifier: Apache-2.0
"""Pod sandboxes: life, lists, namespaces, files."""
import glob
import json
import os
import socket

import grpc
import pytest

from cri import api
from daemon import wait_for


def code(e):
    return e.value.code()


def test_life(d):
    p = d.run_pod(name="life", labels={"a": "1"}, annotations={"b": "2"})
    s = d.cri.PodSandboxStatus(pod_sandbox_id=p).status
    assert s.state == api.SANDBOX_READY and s.metadata.name == "life"
    assert s.labels["a"] == "1" and s.annotations["b"] == "2" and s.created_at > 0
    assert s.network.ip and len(s.network.additional_ips) == 1
    assert [x.id for x in d.cri.ListPodSandbox().items] == [p]
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    assert d.cri.PodSandboxStatus(pod_sandbox_id=p).status.state == api.SANDBOX_NOTREADY
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        d.cri.PodSandboxStatus(pod_sandbox_id=p)
    assert code(e) == grpc.StatusCode.NOT_FOUND and p in e.value.details()
    assert not d.leftovers()


def test_name_is_taken(d, pod):
    name = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.metadata.name
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name=name)
    assert code(e) == grpc.StatusCode.ALREADY_EXISTS and pod in e.value.details()
    other = d.run_pod(name=name, attempt=1)
    d.cri.RemovePodSandbox(pod_sandbox_id=other)


def test_list_filters(d):
    a = d.run_pod(name="fa", labels={"x": "1", "y": "2"})
    b = d.run_pod(name="fb", labels={"x": "1"})
    d.cri.StopPodSandbox(pod_sandbox_id=b)

    def ids(**f):
        return {x.id for x in d.cri.ListPodSandbox(filter=api.PodSandboxFilter(**f)).items}
    assert ids() == {a, b}
    assert ids(id=a) == {a} and ids(id=a[:12]) == {a}
    assert ids(label_selector={"x": "1"}) == {a, b} and ids(label_selector={"y": "2"}) == {a}
    assert ids(state=api.PodSandboxStateValue(state=api.SANDBOX_NOTREADY)) == {b}
    assert ids(id=a, label_selector={"x": "2"}) == set()
    for p in (a, b):
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_hostname_dns_and_shm(d):
    c = d.pod_config(name="files", hostname="box")
    c.dns_config.servers.append("10.1.2.3")
    c.dns_config.searches.extend(["a.b", "c.d"])
    c.dns_config.options.append("ndots:5")
    p = d.run_pod(c)
    _, out = d.output(p, "hostname; cat /etc/hostname; cat /etc/resolv.conf; echo $HOSTNAME; "
                         "grep /dev/shm /proc/mounts")
    assert out.startswith("box\nbox\nnameserver 10.1.2.3\nsearch a.b c.d\noptions ndots:5\nbox\n")
    assert "tmpfs" in out and "size=65536k" in out
    a = d.run(p, "echo shared >/dev/shm/x; sleep 100", name="a")
    b = d.run(p, "sleep 100", name="b")
    wait_for(lambda: d.exec(b, "cat /dev/shm/x").stdout == b"shared\n")
    # IPC namespace shared, PID namespaces apart
    ipc = [d.exec(c, "readlink /proc/self/ns/ipc").stdout for c in (a, b)]
    assert ipc[0] == ipc[1]
    assert d.exec(a, "readlink /proc/1/ns/pid").stdout != d.exec(b, "readlink /proc/1/ns/pid").stdout
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_shared_pid_namespace(d):
    ns = api.NamespaceOption(pid=api.POD)
    p = d.run_pod(d.pod_config(name="pids", namespaces=ns))
    lin = api.LinuxContainerConfig()
    lin.security_context.namespace_options.pid = api.POD
    a = d.run(p, "exec sleep 4242", name="a", linux=lin)
    b = d.run(p, "exec sleep 100", name="b", linux=lin)
    assert b"sleep 4242" in d.exec(b, "ps").stdout
    d.cri.StopContainer(container_id=b, timeout=0)
    assert d.status(a).state == api.CONTAINER_RUNNING
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_target_pid_namespace(d, pod):
    a = d.run(pod, "exec sleep 4243", name="a")
    lin = api.LinuxContainerConfig()
    lin.security_context.namespace_options.pid = api.TARGET
    lin.security_context.namespace_options.target_id = a
    b = d.run(pod, "sleep 100", name="b", linux=lin)
    assert b"sleep 4243" in d.exec(b, "ps").stdout


def test_host_namespaces(d):
    ns = api.NamespaceOption(network=api.NODE, ipc=api.NODE, pid=api.NODE)
    p = d.run_pod(d.pod_config(name="host", namespaces=ns))
    lin = api.LinuxContainerConfig()
    lin.security_context.namespace_options.CopyFrom(ns)
    c = d.run(p, "sleep 100", linux=lin)
    for name in ("net", "ipc", "uts", "pid"):
        assert d.exec(c, "readlink /proc/self/ns/" + name).stdout.decode().strip() == \
            os.readlink("/proc/self/ns/" + name), name
    assert d.exec(c, "hostname").stdout.decode().strip() == socket.gethostname()
    assert d.cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip == ""
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_sysctls(d):
    lin = api.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_unprivileged_port_start": "80",
                                             "kernel.shm_rmid_forced": "1"})
    p = d.run_pod(d.pod_config(name="sysctl", linux=lin))
    _, out = d.output(p, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
                         "/proc/sys/kernel/shm_rmid_forced")
    assert out == "80\n1\n"
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_pods_reach_each_other_and_the_host(d):
    a, b = d.run_pod(name="na"), d.run_pod(name="nb")
    ip = d.cri.PodSandboxStatus(pod_sandbox_id=a).status.network
    d.run(a, "while true; do echo hello | nc -l -p 8080; done", name="server")
    ctr = d.run(b, "sleep 100")
    for address in (ip.ip, ip.additional_ips[0].ip):
        wait_for(lambda: d.exec(ctr, "nc -w 2 %s 8080" % address).stdout == b"hello\n")
    def from_the_host():
        try:  # between two rounds of the server's loop nobody listens
            with socket.create_connection((ip.ip, 8080), timeout=5) as s:
                return s.recv(100) == b"hello\n"
        except ConnectionRefusedError:
            return False
    wait_for(from_the_host)
    for p in (a, b):
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_host_port(d):
    c = d.pod_config(name="hp")
    c.port_mappings.add(protocol=api.TCP, container_port=80, host_port=18080)
    p = d.run_pod(c)
    d.run(p, "while true; do echo mapped | nc -l -p 80; done")

    def ask(host):
        try:
            with socket.create_connection((host, 18080), timeout=2) as s:
                return s.recv(100) == b"mapped\n"
        except OSError:
            return False
    wait_for(lambda: ask("127.0.0.1"))
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not ask("127.0.0.1")


def test_stop_kills_containers(d, pod):
    c = d.run(pod, "trap '' TERM; while true; do sleep 1; done")
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    s = d.status(c)
    assert s.state == api.CONTAINER_EXITED and s.exit_code == 137
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", name="late")
    assert code(e) == grpc.StatusCode.FAILED_PRECONDITION


def test_runtimes(d):
    for handler in ("crun", "runc"):
        p = d.run_pod(name="rt-" + handler, handler=handler)
        assert d.info(p)["runtime"] == handler
        s, out = d.output(p, "echo from $0")
        assert s.exit_code == 0 and out == "from sh\n"
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="rt", handler="kata")
    assert code(e) == grpc.StatusCode.INVALID_ARGUMENT and '"kata"' in e.value.details()


def test_status_and_version(d):
    v = d.cri.Version()
    assert (v.version, v.runtime_name, v.runtime_api_version) == ("0.1.0", "gantry", "v1")
    s = d.cri.Status(verbose=True)
    assert {c.type: c.status for c in s.status.conditions} == {"RuntimeReady": True,
                                                               "NetworkReady": True}
    assert {h.name for h in s.runtime_handlers} >= {"", "crun"}
    assert d.state in s.info["config"]
    assert d.cri.RuntimeConfig().linux.cgroup_driver in (api.SYSTEMD, api.CGROUPFS)
    d.cri.UpdateRuntimeConfig(runtime_config=api.RuntimeConfig(
        network_config=api.NetworkConfig(pod_cidr="10.0.0.0/24")))
    with pytest.raises(grpc.RpcError) as e:
        d.cri.CheckpointPod(pod_sandbox_id="x")
    assert code(e) == grpc.StatusCode.UNIMPLEMENTED


def test_cgroup_parent(d):
    systemd = d.cri.RuntimeConfig().linux.cgroup_driver == api.SYSTEMD
    parent = "%s-kubepods-pod1.slice" if systemd else "/%s-kubepods/pod1"
    lin = api.LinuxPodSandboxConfig(cgroup_parent=parent % d.instance().replace("-", "_"))
    p = d.run_pod(d.pod_config(name="cg", linux=lin))
    c = d.run(p, "sleep 100")
    info = d.cri.ContainerStatus(container_id=c, verbose=True).info["info"]
    pid = json.loads(info)["pid"]
    with open("/proc/%d/cgroup" % pid) as f:
        text = f.read()
    assert ("-kubepods-pod1.slice/gantry-" if systemd else "-kubepods/pod1/") + c in text
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    if not systemd:  # the parent is the kubelet's, which is us here
        for top in ["/sys/fs/cgroup"] + glob.glob("/sys/fs/cgroup/*"):
            for path in (lin.cgroup_parent, os.path.dirname(lin.cgroup_parent)):
                if os.path.isdir(top + path):
                    os.rmdir(top + path)
