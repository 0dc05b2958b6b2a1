# SPDX-License-Identifier: Apache-2.0
"""The built-in bridge: addresses, routes, host ports, and what is left of them."""
import concurrent.futures
import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess

import grpc
import pytest

from cri import api
from daemon import Daemon, wait_for


def sh(*cmd, check=True):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert not check or r.returncode == 0, "%s: %s" % (cmd, r.stderr)
    return r.stdout


def status(d, pod):
    return d.cri.PodSandboxStatus(pod_sandbox_id=pod).status


def ips(d, pod):
    n = status(d, pod).network
    return [n.ip, *[x.ip for x in n.additional_ips]]


def remove(d, pod):
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def bridge(d):
    return "g-" + d.instance()[7:]


def addresses(d):
    path = d.state + "/network/addresses"
    return sorted(x for x in os.listdir(path) if x[0] != ".") if os.path.isdir(path) else []


def ports(d):
    path = d.state + "/network/ports"
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def table(d):
    return sh("nft", "list", "table", "inet", d.instance())


def inside(d, pod, *cmd, **kw):
    """In the pod's network namespace, with the host's programs."""
    pin = "%s/netns/%s-%s" % (d.dir, d.instance(), pod[:16])
    return sh("nsenter", "--net=" + pin, *cmd, **kw)


def ping(address, d=None, pod=None):
    """From the host, or from a pod."""
    cmd = ["/bin/busybox", "ping", "-c", "1", "-W", "5", address]
    return inside(d, pod, *cmd) if pod else sh(*cmd)


def mapping(inner, host, ip="", protocol=api.TCP):
    return api.PortMapping(protocol=protocol, container_port=inner, host_port=host, host_ip=ip)


@contextlib.contextmanager
def serving(d, pod, port, udp=False, family=socket.AF_INET):
    """A server in the pod's namespace that answers each with the address it sees."""
    pin = "%s/netns/%s-%s" % (d.dir, d.instance(), pod[:16])
    code = """
import socket, sys
s = socket.socket(%d, %d)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", %d))
%s
print("up", flush=True)
while True:
    %s
""" % (family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM, port,
       "" if udp else "s.listen(16)",
       "b, a = s.recvfrom(9); s.sendto(a[0].encode(), a)" if udp else
       "c, a = s.accept(); c.sendall(a[0].encode()); c.close()")
    p = subprocess.Popen(["nsenter", "--net=" + pin, "/usr/bin/python3", "-SEc", code],
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "up\n"
    try:
        yield
    finally:
        p.kill()
        p.wait()


CLIENT = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                  socket.SOCK_DGRAM if sys.argv[3] == "udp" else socket.SOCK_STREAM)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
if sys.argv[3] == "udp":
    s.send(b"x")
print(s.recv(99).decode(), end="")
"""


def ask(address, port, *prefix, udp=False):
    """What a server answers, or "" where there is none."""
    return sh(*prefix, "/usr/bin/python3", "-SEc", CLIENT, address, str(port),
              "udp" if udp else "tcp", check=False)


@pytest.fixture
def pod2(d):
    made = []

    def run(**kw):
        made.append(d.run_pod(**kw))
        return made[-1]
    yield run
    for p in made:
        remove(d, p)


# --- addresses ---


def test_addresses_and_routes(d, pod):
    four, six = ips(d, pod)
    assert addresses(d) == sorted([four, six])
    links = json.loads(inside(d, pod, "ip", "-j", "addr"))
    assert {x["ifname"]: x["operstate"] for x in links
            if x["ifname"] in ("lo", "eth0")} == {"lo": "UNKNOWN", "eth0": "UP"}
    eth0 = next(x for x in links if x["ifname"] == "eth0")
    found = {a["local"]: a["prefixlen"] for a in eth0["addr_info"] if a["scope"] == "global"}
    assert found == {four: 24, six: 64}
    assert not any(a.get("tentative") for a in eth0["addr_info"] if a["scope"] == "global")
    host = json.loads(sh("ip", "-j", "addr", "show", "dev", bridge(d)))[0]
    gateways = [a["local"] for a in host["addr_info"] if a["scope"] == "global"]
    assert inside(d, pod, "ip", "-4", "route", "show", "default").split()[2] in gateways
    assert inside(d, pod, "ip", "-6", "route", "show", "default").split()[2] in gateways
    assert inside(d, pod, "sysctl", "-n", "net.ipv6.conf.eth0.accept_ra").strip() == "0"
    for a in (four, six):
        ping(a)
    for a in gateways:
        ping(a, d, pod)


def test_pods_reach_each_other(d, pod, pod2):
    other = pod2(name="other")
    with serving(d, other, 7000):
        assert wait_for(lambda: ask(ips(d, other)[0], 7000, "nsenter", "--net=%s/netns/%s-%s" % (
            d.dir, d.instance(), pod[:16]))) == ips(d, pod)[0]


def test_bridge_keeps_its_address(d, pod):
    """One that changed with the ports would be wrong in the pods' tables for a while."""
    def mac():
        return json.loads(sh("ip", "-j", "link", "show", "dev", bridge(d)))[0]["address"]
    first = mac()
    for i in range(6):
        p = d.run_pod(name="mac-%d" % i)
        assert mac() == first
        remove(d, p)
        assert mac() == first


def test_mtu_is_the_default_routes(d, pod, pod2):
    default = json.loads(sh("ip", "-j", "route", "show", "default"))
    if not default:
        pytest.skip("the machine has no default route")
    mtu = json.loads(sh("ip", "-j", "link", "show", "dev", default[0]["dev"]))[0]["mtu"]
    d.cri.StopPodSandbox(pod_sandbox_id=pod)  # a bridge without ports must keep it
    wait_for(lambda: not os.listdir("/sys/class/net/%s/brif" % bridge(d)))
    pod = pod2(name="next")
    assert json.loads(inside(d, pod, "ip", "-j", "link", "show", "eth0"))[0]["mtu"] == mtu
    assert json.loads(sh("ip", "-j", "link", "show", bridge(d)))[0]["mtu"] == mtu


def test_many_at_once_get_different_addresses(d):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        pods = list(pool.map(lambda i: d.run_pod(name="many-%d" % i), range(16)))
        got = [a for p in pods for a in ips(d, p)]
        assert len(set(got)) == 32
        list(pool.map(lambda p: remove(d, p), pods))
    assert addresses(d) == []


def test_freed_address_is_not_the_next(d):
    a = d.run_pod(name="a")
    first = ips(d, a)
    remove(d, a)
    b = d.run_pod(name="b")
    assert not set(first) & set(ips(d, b))
    remove(d, b)


def test_teardown_takes_all(d):
    p = d.run_pod(name="gone", port_mappings=[mapping(80, 18081)])
    veth = "gv" + p[:12]
    assert os.path.exists("/sys/class/net/" + veth) and addresses(d) and ports(d)
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    assert addresses(d) == [] and ports(d) == [] and "18081" not in table(d)
    wait_for(lambda: not os.path.exists("/sys/class/net/" + veth))
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_teardown_where_the_namespace_is_held(d):
    """Somebody keeps the namespace: its address is free nevertheless, and not in use in it."""
    p = d.run_pod(name="held")
    four = ips(d, p)[0]
    pin = "%s/netns/%s-%s" % (d.dir, d.instance(), p[:16])
    with open(pin) as held:
        remove(d, p)
        assert addresses(d) == []
        assert four not in sh("nsenter", "--net=/proc/%d/fd/%d" % (os.getpid(), held.fileno()),
                              "ip", "addr")


def test_host_network(d):
    c = d.pod_config(name="host", hostname="")
    c.linux.security_context.namespace_options.network = api.NODE
    p = d.run_pod(c)
    assert ips(d, p) == [""] and addresses(d) == []
    _, text = d.output(p, "ls /sys/class/net", linux=api.LinuxContainerConfig(
        security_context=api.LinuxContainerSecurityContext(namespace_options=api.NamespaceOption(
            network=api.NODE, pid=api.CONTAINER))))
    assert bridge(d) in text.split()  # others' come and go
    remove(d, p)


def test_pod_without_ipv6(d):
    linux = api.LinuxPodSandboxConfig(sysctls={"net.ipv6.conf.all.disable_ipv6": "1",
                                               "net.ipv6.conf.default.disable_ipv6": "1"})
    p = d.run_pod(name="v4", linux=linux)
    assert len(ips(d, p)) == 1
    remove(d, p)
    assert addresses(d) == []


def test_bandwidth(d):
    p = d.run_pod(name="slow", annotations={"kubernetes.io/ingress-bandwidth": "100M",
                                            "kubernetes.io/egress-bandwidth": "1500k"})

    def rate(*cmd):
        return [q["options"]["rate"] for q in json.loads(sh(*cmd)) if q["kind"] == "tbf"]
    assert rate("tc", "-j", "qdisc", "show", "dev", "gv" + p[:12]) == [100000000 // 8]
    assert rate("nsenter", "--net=%s/netns/%s-%s" % (d.dir, d.instance(), p[:16]), "tc", "-j",
                "qdisc", "show", "dev", "eth0") == [1500000 // 8]
    ping(ips(d, p)[0])
    remove(d, p)


def check(d, pod):
    return [m.problem for m in d.cri.CheckPod(pod_sandbox_id=pod)]


def test_check(d):
    p = d.run_pod(name="checked")
    assert check(d, p) == [""]
    four, six = ips(d, p)
    inside(d, p, "ip", "addr", "del", four + "/24", "dev", "eth0")
    assert four in check(d, p)[0]
    inside(d, p, "ip", "addr", "add", four + "/24", "dev", "eth0")
    assert check(d, p) == [""]
    sh("ip", "link", "set", "gv" + p[:12], "nomaster")
    assert "gv" + p[:12] in check(d, p)[0]
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    assert "not ready" in check(d, p)[0]
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    with pytest.raises(grpc.RpcError) as e:
        check(d, p)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND


# --- the way out ---


@pytest.fixture
def outside(d, pod):
    """Another machine: a namespace behind a link of its own."""
    name = "o%d" % os.getpid()
    sh("ip", "netns", "add", name)
    sh("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    sh("ip", "addr", "add", "198.51.100.1/24", "dev", name)
    sh("ip", "link", "set", name, "up")
    sh("ip", "-n", name, "addr", "add", "198.51.100.2/24", "dev", "eth0")
    sh("ip", "-n", name, "link", "set", "eth0", "up")
    yield name
    sh("ip", "link", "del", name)
    sh("ip", "netns", "del", name)


def test_masquerade(d, pod, outside):
    code = ("import socket\ns=socket.create_server((\"\", 7001))\nprint('up',flush=True)\n"
            "while True:\n c,a=s.accept(); c.sendall(a[0].encode()); c.close()")
    p = subprocess.Popen(["ip", "netns", "exec", outside, "/usr/bin/python3", "-SEc", code],
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "up\n"
    try:
        pin = "%s/netns/%s-%s" % (d.dir, d.instance(), pod[:16])
        assert ask("198.51.100.2", 7001, "nsenter", "--net=" + pin) == "198.51.100.1"
    finally:
        p.kill()
        p.wait()


# --- host ports ---


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_host_port(d, pod2, outside, udp):
    proto = api.UDP if udp else api.TCP
    p = pod2(name="web", port_mappings=[mapping(80, 18080, protocol=proto)])
    other = pod2(name="client")
    pin = "%s/netns/%s-%s" % (d.dir, d.instance(), other[:16])
    own = "%s/netns/%s-%s" % (d.dir, d.instance(), p[:16])
    gateway = inside(d, p, "ip", "-4", "route", "show", "default").split()[2]
    with serving(d, p, 80, udp=udp):
        assert wait_for(lambda: ask("127.0.0.1", 18080, udp=udp)) == gateway
        assert ask("198.51.100.1", 18080, udp=udp)
        assert ask("198.51.100.1", 18080, "ip", "netns", "exec", outside,
                   udp=udp) == "198.51.100.2"  # the sender is seen
        assert ask("198.51.100.1", 18080, "nsenter", "--net=" + pin, udp=udp)
        assert ask("198.51.100.1", 18080, "nsenter", "--net=" + own, udp=udp)  # itself
        assert ask("127.0.0.1", 18080, udp=not udp) == ""  # the other protocol


def test_host_port_ipv6(d, pod2):
    p = pod2(name="six", port_mappings=[mapping(80, 18086)])
    gateway = inside(d, p, "ip", "-6", "route", "show", "default").split()[2]
    with serving(d, p, 80, family=socket.AF_INET6):
        assert wait_for(lambda: ask(gateway, 18086))


def test_host_port_on_one_address(d, pod2, outside):
    p = pod2(name="one", port_mappings=[mapping(80, 18082, ip="198.51.100.1")])
    with serving(d, p, 80):
        assert wait_for(lambda: ask("198.51.100.1", 18082, "ip", "netns", "exec", outside))
        assert ask("127.0.0.1", 18082) == ""


def test_sctp_is_published(d, pod2):
    pod2(name="sctp", port_mappings=[mapping(80, 18083, protocol=api.SCTP)])
    assert "sctp . 18083 : " in table(d)


def test_udp_flows_go_to_the_new_pod(d, pod2):
    """A client that sent before the port was published, from one and the same socket."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.2)
    s.connect(("127.0.0.1", 18084))

    def answer():
        try:
            s.send(b"x")
            return s.recv(99)
        except OSError:
            return b""
    assert answer() == b""
    p = pod2(name="late", port_mappings=[mapping(53, 18084, protocol=api.UDP)])
    with serving(d, p, 53, udp=True):
        assert wait_for(answer, timeout=5)


@pytest.mark.parametrize("first,second,conflict", [
    (("", api.TCP), ("", api.TCP), True),
    (("", api.TCP), ("", api.UDP), False),
    (("192.0.2.1", api.TCP), ("", api.TCP), True),
    (("", api.TCP), ("192.0.2.1", api.TCP), True),
    (("0.0.0.0", api.TCP), ("192.0.2.1", api.TCP), True),
    (("192.0.2.2", api.TCP), ("192.0.2.1", api.TCP), False),
    (("192.0.2.1", api.TCP), ("192.0.2.1", api.TCP), True),
    (("::", api.TCP), ("0.0.0.0", api.TCP), False)])
def test_conflict(d, pod2, first, second, conflict):
    a = pod2(name="a", port_mappings=[mapping(80, 18090, *first)])
    before = addresses(d), ports(d), table(d)
    if not conflict:
        pod2(name="b", port_mappings=[mapping(80, 18090, *second)])
        return
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="b", port_mappings=[mapping(80, 18091), mapping(80, 18090, *second)])
    assert e.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert "18090/tcp" in e.value.details() and a in e.value.details()
    assert (addresses(d), ports(d), table(d)) == before
    assert [p.id for p in d.cri.ListPodSandbox().items if p.metadata.name == "b"] == []


def test_port_is_free_after_its_pod(d):
    for i in range(3):
        p = d.run_pod(name="again", attempt=i, port_mappings=[mapping(80, 18092)])
        assert "18092" in table(d)
        d.cri.StopPodSandbox(pod_sandbox_id=p)
        assert "18092" not in table(d)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_port_of_a_family_that_the_pod_lacks(d):
    linux = api.LinuxPodSandboxConfig(sysctls={"net.ipv6.conf.all.disable_ipv6": "1",
                                               "net.ipv6.conf.default.disable_ipv6": "1"})
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="x", linux=linux, port_mappings=[mapping(80, 18093, "2001:db8::1")])
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "18093/tcp" in e.value.details()
    assert addresses(d) == [] and ports(d) == []


def test_flushed_ruleset_is_made_again(d, pod2):
    """`nft flush ruleset` (a restart of nftables.service) takes our table too: the next pod
    brings it back, with the ports of those before."""
    p = pod2(name="old", port_mappings=[mapping(80, 18094)])
    sh("nft", "delete", "table", "inet", d.instance())
    pod2(name="new")
    assert "18094" in table(d)
    with serving(d, p, 80):
        assert wait_for(lambda: ask("127.0.0.1", 18094))


def test_bridge_that_was_removed_is_made_again(d):
    remove(d, d.run_pod(name="a"))
    sh("ip", "link", "del", bridge(d))
    p = d.run_pod(name="b")
    ping(ips(d, p)[0])
    remove(d, p)


# --- other daemons, other configurations ---


@contextlib.contextmanager
def daemon(text):
    """One with this section `bridge`."""
    d = Daemon(start=False)
    d.set_config("cni:\n  conf_dir: %s/none\n  netns_dir: %s/netns\n%s" % (
        d.dir, d.dir, "bridge:\n" + text if text else ""))
    d.start()
    try:
        yield d
    finally:
        d.close()


def network(d):
    c = next(c for c in d.cri.Status().status.conditions if c.type == "NetworkReady")
    return c.status, c.message


def test_pool_is_used_up(archive):
    with daemon("  ipv4: 10.249.1.0/29\n  ipv6: \"\"\n") as d:
        pods = [d.run_pod(name="p%d" % i) for i in range(5)]
        assert {ips(d, p)[0] for p in pods} == {"10.249.1.%d" % i for i in range(2, 7)}
        with pytest.raises(grpc.RpcError) as e:
            d.run_pod(name="one-more", port_mappings=[mapping(80, 18100)])
        assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "10.249.1.0/29" in e.value.details()
        assert ports(d) == [] and len(d.cri.ListPodSandbox().items) == 5
        free = ips(d, pods[2])
        remove(d, pods[2])
        assert ips(d, d.run_pod(name="now")) == free


def test_pool_that_overlaps_is_noticed():
    name = "gtd%d" % (os.getpid() % 100000)
    sh("ip", "link", "add", name, "type", "bridge")
    sh("ip", "addr", "add", "10.249.2.9/28", "dev", name)
    try:
        with daemon("  ipv4: 10.249.2.0/24\n") as d:
            ready, why = network(d)
            assert not ready and "10.249.2.0/24" in why and "10.249.2.9/28" in why
            with pytest.raises(grpc.RpcError) as e:
                d.run_pod(name="p")
            assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "bridge.ipv4" in e.value.details() and addresses(d) == []
            sh("ip", "link", "del", name)
            wait_for(lambda: network(d)[0], every=0.2)
            remove(d, d.run_pod(name="p"))
    finally:
        sh("ip", "link", "del", name, check=False)


def test_name_that_is_no_bridge():
    name = "gtd%d" % (os.getpid() % 100000)
    sh("ip", "link", "add", name, "type", "veth", "peer", "name", name + "x")
    try:
        with daemon("  name: %s\n" % name) as d:
            with pytest.raises(grpc.RpcError) as e:
                d.run_pod(name="p")
            assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert name in e.value.details() and "bridge.name" in e.value.details()
    finally:
        sh("ip", "link", "del", name)


def test_two_daemons_side_by_side(d, pod2):
    a = pod2(name="here", port_mappings=[mapping(80, 18101)])
    with daemon("") as other:
        b = other.run_pod(name="there", port_mappings=[mapping(80, 18102)])
        assert bridge(d) != bridge(other)
        assert not {ipaddress.ip_interface(x + "/24").network for x in ips(d, a)[:1]} & \
            {ipaddress.ip_interface(x + "/24").network for x in ips(other, b)[:1]}
        with serving(d, a, 80), serving(other, b, 80):
            assert wait_for(lambda: ask("127.0.0.1", 18101))
            assert wait_for(lambda: ask("127.0.0.1", 18102))


@pytest.fixture
def own_network():
    """A network namespace for a daemon of its own."""
    name = "gtn%d" % (os.getpid() % 100000)
    sh("ip", "netns", "add", name)
    sh("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    sh("ip", "netns", "del", name)


def sysctl(net, *what):
    return sh("ip", "netns", "exec", net, "sysctl", "-n", *what).strip()


@contextlib.contextmanager
def daemon_in(net, monkeypatch):
    """A daemon whose host's network is that namespace."""
    d = Daemon(start=False)
    real = subprocess.Popen
    with monkeypatch.context() as m:
        m.setattr(subprocess, "Popen", lambda cmd, *args, **kw: real(
            ["nsenter", "--net=/run/netns/" + net, *cmd], *args, **kw))
        d.start()
    try:
        yield d
    finally:
        d.close()


def test_routes_by_advertisement_are_kept(own_network, monkeypatch):
    """Forwarding makes the kernel ignore router advertisements, unless told otherwise."""
    sh("ip", "-n", own_network, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    sysctl(own_network, "-w", "net.ipv6.conf.up1.accept_ra=0")
    with daemon_in(own_network, monkeypatch) as d:
        remove(d, d.run_pod(name="p"))
        assert sysctl(own_network, "net.ipv6.conf.all.forwarding", "net.ipv4.ip_forward",
                      "net.ipv6.conf.up0.accept_ra",
                      "net.ipv6.conf.up1.accept_ra").split() == ["1", "1", "2", "0"]


@pytest.mark.parametrize("off", ["all", "default"])
def test_node_without_ipv6(own_network, monkeypatch, off):
    sysctl(own_network, "-w", "net.ipv6.conf.%s.disable_ipv6=1" % off)
    with daemon_in(own_network, monkeypatch) as d:
        assert network(d) == (True, "")
        p = d.run_pod(name="four")
        assert len(ips(d, p)) == 1
        remove(d, p)
        assert sysctl(own_network, "net.ipv6.conf.all.forwarding") == "0"


# --- the node's pod range ---


def set_range(d, cidr):
    d.cri.UpdateRuntimeConfig(runtime_config=api.RuntimeConfig(
        network_config=api.NetworkConfig(pod_cidr=cidr)))


def test_pod_range(fresh):
    d = fresh
    old = d.run_pod(name="old", port_mappings=[mapping(80, 18103)])
    set_range(d, "10.249.3.0/24,fd00:249:3::/64")
    new = d.run_pod(name="new")
    four, six = ips(d, new)
    assert four.startswith("10.249.3.") and six.startswith("fd00:249:3:")
    for p in (old, new):
        ping(ips(d, p)[0])
    ping(ips(d, old)[0], d, new)
    with serving(d, old, 80):
        assert wait_for(lambda: ask("127.0.0.1", 18103))
    set_range(d, "")  # changes nothing
    d.kill()
    d.start()
    again = d.run_pod(name="again")
    assert ips(d, again)[0].startswith("10.249.3.")
    set_range(d, "fd00:249:4::/64")
    six = d.run_pod(name="six")
    assert len(ips(d, six)) == 1 and ips(d, six)[0].startswith("fd00:249:4:")


@pytest.mark.parametrize("cidr", ["x", "10.0.0.0", "10.0.0.0/33", "10.1.0.0/24,10.2.0.0/24", ",",
                                  "10.1.0.0/24;flush ruleset"])
def test_bad_pod_range(d, cidr):
    with pytest.raises(grpc.RpcError) as e:
        set_range(d, cidr)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "pod_cidr" in e.value.details()


# --- restarts ---


def test_addresses_survive_a_kill(fresh):
    d = fresh
    pods = [d.run_pod(name="p%d" % i) for i in range(3)]
    before = {p: ips(d, p) for p in pods}
    d.kill()
    d.start()
    assert {p: ips(d, p) for p in pods} == before
    more = [d.run_pod(name="q%d" % i) for i in range(3)]
    got = [a for p in pods + more for a in ips(d, p)]
    assert len(set(got)) == 12


def test_what_dead_pods_left_is_collected_at_the_start(fresh):
    """Addresses, host ports and pins without a pod, as a kill may leave them."""
    d = fresh
    pod = d.run_pod(name="live", port_mappings=[mapping(80, 18104)])
    dead = "d" * 64
    state = d.state + "/network/"
    live = addresses(d), ports(d)
    os.symlink(dead, state + "addresses/192.0.2.9")
    os.symlink(dead + " 80", state + "ports/tcp,18105,*")
    pin = "%s/netns/%s-%s" % (d.dir, d.instance(), dead[:16])
    with open(pin, "w"):
        pass
    foreign = d.dir + "/netns/somebody-else"
    with open(foreign, "w"):
        pass
    d.kill()
    d.start()
    wait_for(lambda: (addresses(d), ports(d)) == live and not os.path.exists(pin))
    assert os.path.exists(foreign)
    os.unlink(foreign)
    assert ips(d, pod)[0] in addresses(d)


def test_monitor_killed(fresh):
    d = fresh
    p = d.run_pod(name="p", port_mappings=[mapping(80, 18106)])
    pid = int(sh("pgrep", "-f", "gantry-monitor " + p).split()[0])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: status(d, p).state == api.SANDBOX_NOTREADY)
    remove(d, p)
    assert addresses(d) == [] and ports(d) == [] and "18106" not in table(d)
