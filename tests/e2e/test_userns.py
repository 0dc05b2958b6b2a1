# SPDX-License-Identifier: Apache-2.0
"""Pods that have a user namespace: their root is nobody outside."""
import json
import os
import re
import socket
import subprocess
import threading

import grpc
import pytest

import image
from cri import api
from daemon import Daemon, wait_for
from fixtures import BUSYBOX

HOST, LENGTH = 0x40000000, 65536
RUNTIMES = ["crun", "runc"]
# struct vfs_cap_data, version 2: CAP_NET_RAW, effective.
FILE_CAPS = bytes.fromhex("0100000200200000000000000000000000000000")


def mapping(host=HOST, length=LENGTH, container=0):
    return [api.IDMapping(host_id=host, container_id=container, length=length)]


def userns(uids=None, gids=None, mode=api.POD):
    return api.UserNamespace(mode=mode, uids=mapping() if uids is None else uids,
                             gids=mapping() if gids is None else gids)


def pod_config(d, name, network=api.POD, pid=api.CONTAINER, options=None, **kw):
    ns = api.NamespaceOption(pid=pid, network=network, userns_options=options or userns())
    return d.pod_config(name=name, namespaces=ns, **kw)


def volume(inside, source, mapped=True, **kw):
    ids = mapping() if mapped else []
    return api.Mount(container_path=inside, host_path=str(source), uidMappings=ids,
                     gidMappings=ids, **kw)


def security(**kw):
    return api.LinuxContainerConfig(security_context=api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=api.CONTAINER, userns_options=userns()), **kw))


def pid_of(d, ctr):
    return json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])["pid"]


def owner(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


def written(d, ctr, name):
    """A file of the writable layer, on the disk."""
    return "%s/containers/%s/upper/%s" % (d.root, ctr, name)


def tree(top):
    return {os.path.join(base, n): os.lstat(os.path.join(base, n))[:6]
            for base, dirs, files in os.walk(top) for n in dirs + files}


def name_of(request):
    """Of the pod of a test: what it logs is its own."""
    return re.sub("[^a-z0-9]+", "-", request.node.name)[-60:].strip("-")


@pytest.fixture(params=RUNTIMES)
def runtime(d, request):
    def handlers():  # once they have been probed
        h = {h.name: h.features for h in d.cri.Status().runtime_handlers}
        return h if request.param in h else None
    assert wait_for(handlers)[request.param].user_namespaces, d.log_text()
    return request.param


@pytest.fixture
def pod(d, runtime, request):
    p = d.run_pod(pod_config(d, name_of(request), pid=getattr(request, "param", api.CONTAINER)),
                  handler=runtime)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


@pytest.fixture
def volumes(tmp_path):
    """A directory that roots of user namespaces reach only by a mapped mount, as a kubelet's."""
    os.chmod(tmp_path, 0o700)
    v = tmp_path / "volume"
    v.mkdir(mode=0o755)
    (v / "root").write_text("of root\n")
    (v / "web").write_text("of web\n")
    os.chown(v / "web", 1000, 1000)
    os.chmod(v / "web", 0o600)
    return tmp_path


# --- identity ---

def test_root_inside_is_nobody_outside(d, pod):
    before = tree(d.root + "/layers")
    s, out = d.output(pod, "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; "
                           "stat -c '%u:%g %a' / /bin/busybox /etc/passwd /root")
    lines = out.splitlines()
    assert s.exit_code == 0, out
    assert lines[:2] == ["0", "0"]
    assert [tuple(map(int, x.split())) for x in lines[2:4]] == [(0, HOST, LENGTH)] * 2
    assert lines[4:] == ["0:0 755", "0:0 755", "0:0 644", "0:0 700"]
    c = d.run(pod, "set -e; echo more >> /etc/passwd; echo new > /new; mkdir /srv; "
                   "chown 33:34 /srv; chown 1000:1000 /etc/group; touch /done; sleep 1000")
    wait_for(lambda: os.path.exists(written(d, c, "done")))
    assert owner("/proc/%d" % pid_of(d, c)) == (HOST, HOST)
    assert owner(written(d, c, "new")) == (HOST, HOST)
    assert owner(written(d, c, "etc/passwd")) == (HOST, HOST)
    assert owner(written(d, c, "etc")) == (HOST, HOST)
    assert owner(written(d, c, "srv")) == (HOST + 33, HOST + 34)
    assert owner(written(d, c, "etc/group")) == (HOST + 1000, HOST + 1000)
    assert tree(d.root + "/layers") == before


def test_users_and_groups(d, pod):
    linux = security(run_as_user=api.Int64Value(value=1000), supplemental_groups=[2000, 3000])
    s, out = d.output(pod, "id -u; id -G; touch /tmp/mine; stat -c %u:%g /tmp/mine; "
                           "touch /mine || echo no", linux=linux)
    lines = out.splitlines()
    assert set(lines.pop(1).split()) == {"1000", "1234", "2000", "3000"}
    assert lines[:2] == ["1000", "1000:1000"], out
    assert "no" in lines[2:]


@pytest.mark.parametrize("field", ["user", "group"])
def test_ids_that_are_not_mapped_are_refused(d, pod, field):
    linux = security(run_as_user=api.Int64Value(value=LENGTH if field == "user" else 1),
                     supplemental_groups=[LENGTH])
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "%s %d is not in the user namespace" % (field, LENGTH) in e.value.details()


def test_capabilities_end_at_the_namespace(d, pod):
    """Root inside: chown and mounts of its own, but nothing of the node's."""
    linux = security(apparmor_profile="unconfined",
                     capabilities=api.Capability(add_capabilities=["ALL"]))
    s, out = d.output(pod, "mkdir /m; mount -t tmpfs t /m && echo mounted; "
                           "hostname other && echo named; "
                           "mknod /m/d c 1 3 || echo no device; "
                           "date -s @1 2>&1 | grep -q ermitted && echo no clock; "
                           "ip link set lo mtu 1400 && echo link", linux=linux)
    words = [w for w in out.splitlines() if ":" not in w]
    assert words == ["mounted", "named", "no device", "no clock", "link"], out


def test_privileged(d, runtime):
    c = pod_config(d, "priv-" + runtime)
    c.linux.security_context.privileged = True
    p = d.run_pod(c, handler=runtime)
    s, out = d.output(p, "grep CapEff /proc/self/status; cat /proc/self/uid_map; "
                         "cat /dev/kmsg >/dev/null 2>&1 || echo no kmsg; "
                         "echo 1 > /proc/sys/kernel/panic || echo no sysctl; ls /dev | wc -l",
                      linux=security(privileged=True))
    assert s.exit_code == 0, out
    assert str(HOST) in out
    assert "no sysctl" in out
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_file_capabilities(d, pod, tmp_path):
    layer = image.busybox_layer(BUSYBOX)
    with open(BUSYBOX, "rb") as f:
        layer.dir("able").add("able/grep", f.read(), mode=0o755, xattrs={
            "security.capability": FILE_CAPS.decode("utf-8")})
    im = image.Image([layer.bytes()], {"Env": ["PATH=/bin"]})
    path = str(tmp_path / "able.tar")
    im.docker_archive(path, ["test/able:latest"])
    d.load(path)
    linux = security(run_as_user=api.Int64Value(value=1000))
    s, out = d.output(pod, ["/able/grep", "CapEff", "/proc/self/status"],
                      image="test/able:latest", linux=linux)
    assert int(out.split()[1], 16) == 1 << 13, out


# --- what is there inside ---

def test_pods_own_files_are_its_roots(d, runtime):
    c = pod_config(d, "files-" + runtime)
    c.dns_config.servers.append("192.0.2.53")
    p = d.run_pod(c, handler=runtime)
    s, out = d.output(p, "stat -c '%n %u:%g' /dev/shm /dev/mqueue /etc/hostname /etc/resolv.conf "
                         "/dev /dev/pts; echo x >> /etc/hostname && echo y > /dev/shm/y && "
                         "touch /dev/mqueue/z && echo wrote; cat /etc/resolv.conf")
    lines = out.splitlines()
    assert all(x.endswith(" 0:0") for x in lines[:6]), out
    assert lines[6:] == ["wrote", "nameserver 192.0.2.53"], out
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_devices_of_the_node_keep_their_owner(d, pod):
    names = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"]
    before = [os.stat("/dev/" + n)[:6] for n in names]
    for kw in ({}, {"tty": True}, {"stdin": True},
               {"linux": security(run_as_user=api.Int64Value(value=1000))}):
        c = d.run(pod, "echo > /dev/null; sleep 1000", **kw)
        assert d.exec(c, "cat; echo > /dev/null && test -c /dev/zero").exit_code == 0
        d.cri.RemoveContainer(container_id=c)
    assert [os.stat("/dev/" + n)[:6] for n in names] == before


def test_terminal(d, pod):
    c = d.run(pod, "tty; stat -c %u:%g $(tty); sleep 1000", tty=True)
    wait_for(lambda: "pts" in d.read_log(d.status(c).log_path))
    out = wait_for(lambda: (lambda t: t if ":" in t else None)(
        d.read_log(d.status(c).log_path)))
    assert out.replace("\r", "").splitlines()[1].split(":")[0] == "0", out


def test_read_only_root(d, pod):
    linux = security(readonly_rootfs=True)
    s, out = d.output(pod, "touch /x || echo no; echo x > /etc/hostname || echo neither",
                      linux=linux)
    assert [w for w in out.splitlines() if ":" not in w] == ["no", "neither"], out


def test_binary_environment(d, pod):
    c = d.container_config("printf %s \"$BYTES\" | od -An -tx1")
    c.envs.add(key="BYTES", value=b"\xff\xfe")
    _, out = d.output(pod, None, config=c)
    assert out.split() == ["ff", "fe"]


@pytest.mark.parametrize("profile", [api.SecurityProfile.RuntimeDefault,
                                     api.SecurityProfile.Unconfined])
def test_seccomp_and_paths(d, pod, profile):
    linux = security(seccomp=api.SecurityProfile(profile_type=profile),
                     masked_paths=["/proc/kcore", "/proc/keys", "/sys/firmware"],
                     readonly_paths=["/proc/sys", "/proc/bus"], no_new_privs=True)
    s, out = d.output(pod, "grep Seccomp: /proc/self/status; "
                           "echo 1 > /proc/sys/net/ipv4/ip_forward || echo no", linux=linux)
    lines = [w for w in out.splitlines() if "sh:" not in w]
    assert lines == ["Seccomp:\t%d" % (2 if profile == 0 else 0), "no"], out


@pytest.mark.parametrize("adj", [-997, 0, 1000])
def test_oom_score_adj(d, pod, adj):
    linux = security()
    linux.resources.oom_score_adj = adj
    s, out = d.output(pod, "cat /proc/self/oom_score_adj", linux=linux)
    with open("/proc/self/oom_score_adj") as f:
        least = int(f.read())  # of a daemon that may not lower it
    assert int(out) in (adj, max(adj, least)), out


# --- volumes ---

def test_mapped_volume(d, pod, volumes):
    c = d.container_config("stat -c '%n %u:%g' /v /v/root /v/web; cat /v/web; "
                           "echo new > /v/new; mkdir /v/dir; chown 33:33 /v/dir; sleep 1000")
    c.mounts.append(volume("/v", volumes / "volume"))
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    wait_for(lambda: os.path.exists(volumes / "volume/dir"))
    wait_for(lambda: owner(volumes / "volume/dir") == (33, 33))
    assert d.read_log(d.status(ctr).log_path).splitlines() == \
        ["/v 0:0", "/v/root 0:0", "/v/web 1000:1000", "of web"]
    assert owner(volumes / "volume/new") == (0, 0)
    r = d.exec(ctr, "rm /v/new && echo gone")
    assert r.stdout == b"gone\n"
    assert not os.path.exists(volumes / "volume/new")


def test_fs_group(d, pod, volumes):
    """As the kubelet prepares a volume for a pod with an fsGroup."""
    v = volumes / "volume"
    os.chown(v, 0, 2000)
    os.chmod(v, 0o2770)
    c = d.container_config("echo x > /v/x; stat -c %u:%g /v/x", linux=security(
        run_as_user=api.Int64Value(value=1000), supplemental_groups=[2000]))
    c.mounts.append(volume("/v", v))
    _, out = d.output(pod, None, config=c)
    assert out == "1000:2000\n"
    assert owner(v / "x") == (1000, 2000)


def test_volume_without_a_mapping_is_nobodys(d, pod, volumes):
    c = d.container_config("stat -c %u:%g /v/root; cat /v/root; cat /v/web; echo x > /v/root")
    c.mounts.append(volume("/v", volumes / "volume", mapped=False))
    s, out = d.output(pod, None, config=c)
    assert s.exit_code != 0
    assert out.splitlines()[:2] == ["65534:65534", "of root"]
    assert (volumes / "volume/root").read_text() == "of root\n"


def test_mapped_files(d, pod, volumes):
    (volumes / "hosts").write_text("127.0.0.1 localhost\n")
    (volumes / "log").touch()
    c = d.container_config("stat -c %u:%g /etc/hosts /dev/termination-log; cat /etc/hosts; "
                           "echo bye > /dev/termination-log; echo x > /etc/hosts || echo ro")
    c.mounts.append(volume("/etc/hosts", volumes / "hosts", readonly=True))
    c.mounts.append(volume("/dev/termination-log", volumes / "log"))
    _, out = d.output(pod, None, config=c)
    assert [w for w in out.splitlines() if "sh:" not in w] == \
        ["0:0", "0:0", "127.0.0.1 localhost", "ro"], out
    assert (volumes / "log").read_text() == "bye\n"


def brings_mounts_below(runtime):
    """crun before 1.9 leaves out what is mounted below a bind in a user namespace."""
    out = subprocess.check_output([runtime, "--version"], text=True)
    return runtime != "crun" or tuple(map(int, out.split()[2].split(".")[:2])) >= (1, 9)


def test_options_of_volumes(d, pod, runtime, volumes):
    v = volumes / "volume"
    (volumes / "other").mkdir()
    # of this file system: not every kernel maps the ids of a tmpfs
    subprocess.run(["mount", "--bind", v, v], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,nosuid,nodev,noexec", v], check=True)
        (v / "below").mkdir()
        subprocess.run(["mount", "--bind", volumes / "other", v / "below"], check=True)
        below = "touch /ro/below/a" if brings_mounts_below(runtime) else "true"
        c = d.container_config(below + " && echo shallow; touch /rro/below/b || echo deep; "
                               "touch /ro/a || echo ro; grep -E ' /(ro|rro|o) ' /proc/mounts")
        c.mounts.append(volume("/ro", v, readonly=True))
        c.mounts.append(volume("/rro", v, readonly=True,
                               recursive_read_only=True))
        c.mounts.append(volume("/o", v,
                               mount_options=["noatime", "exec", "dev", "suid"]))
        _, out = d.output(pod, None, config=c)
        lines = [w for w in out.splitlines() if "touch:" not in w]
        assert lines[:3] == ["shallow", "deep", "ro"], out
        mounts = {w.split()[1]: set(w.split()[3].split(",")) for w in lines[3:]}
        assert {"ro", "nosuid", "nodev", "noexec"} <= mounts["/ro"]
        assert "noatime" in mounts["/o"] and not mounts["/o"] & {"nosuid", "nodev", "noexec"}
    finally:
        subprocess.run(["umount", "-R", v], check=True)


def test_mounts_of_the_node_arrive(d, pod, volumes):
    v = volumes / "volume"
    subprocess.run(["mount", "--bind", v, v], check=True)
    subprocess.run(["mount", "--make-shared", v], check=True)
    try:
        (v / "later").mkdir()
        c = d.container_config("sleep 1000")
        c.mounts.append(volume("/v", v, propagation=api.PROPAGATION_HOST_TO_CONTAINER))
        ctr = d.create(pod, config=c)
        d.cri.StartContainer(container_id=ctr)
        subprocess.run(["mount", "-t", "tmpfs", "t", v / "later"], check=True)
        (v / "later/file").touch()
        assert d.exec(ctr, "ls /v/later").stdout == b"file\n"
    finally:
        subprocess.run(["umount", "-R", "-l", v], check=True)


def test_file_system_without_mapping_is_told(d, pod):
    c = d.container_config("true")
    c.mounts.append(volume("/v", "/sys/kernel"))
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, config=c)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "/sys/kernel" in e.value.details() and "file system cannot" in e.value.details()
    assert not d.cri.ListContainers(filter=api.ContainerFilter(pod_sandbox_id=pod)).containers


# --- the pod ---

@pytest.mark.parametrize("pod", [api.POD], indirect=True)
def test_containers_share_the_pods_namespaces(d, pod):
    linux = security()
    linux.security_context.namespace_options.pid = api.POD
    a = d.run(pod, "echo shared > /dev/shm/x; sleep 1000", name="a", linux=linux)
    b = d.run(pod, "sleep 1000", name="b", linux=linux)
    for ns in ("user", "net", "ipc", "uts", "pid"):
        links = {os.readlink("/proc/%d/ns/%s" % (pid_of(d, c), ns)) for c in (a, b)}
        assert len(links) == 1, ns
        assert links != {os.readlink("/proc/self/ns/" + ns)}
    assert d.exec(b, "cat /dev/shm/x").stdout == b"shared\n"
    out = d.exec(b, "ps -o pid,args; kill -9 1; echo $?; stat -c %u /proc/1").stdout.decode()
    assert out.count("sleep 1000") >= 2, out
    assert out.splitlines()[-1] == "0", out


def test_owner_of_the_namespaces(d, pod):
    """ioctl_ns(2), NS_GET_USERNS: the others belong to the pod's user namespace."""
    import fcntl
    c = d.run(pod, "sleep 1000")
    with open("/proc/%d/ns/user" % pid_of(d, c)) as f:
        user = os.fstat(f.fileno()).st_ino
    for ns in ("net", "ipc", "uts", "pid", "mnt"):
        with open("/proc/%d/ns/%s" % (pid_of(d, c), ns)) as f:
            fd = fcntl.ioctl(f, 0xb701)
            assert os.fstat(fd).st_ino == user, ns
            os.close(fd)


def test_sysctls(d, runtime):
    c = pod_config(d, "sysctl-" + runtime)
    for k, v in (("net.ipv4.ping_group_range", "0 1000"), ("kernel.shmmni", "123"),
                 ("net.ipv4.ip_unprivileged_port_start", "80"), ("fs.mqueue.msg_max", "12")):
        c.linux.sysctls[k] = v
    p = d.run_pod(c, handler=runtime)
    s, out = d.output(p, "cd /proc/sys; cat net/ipv4/ping_group_range kernel/shmmni "
                         "net/ipv4/ip_unprivileged_port_start fs/mqueue/msg_max; "
                         "hostname; echo 81 > net/ipv4/ip_unprivileged_port_start && echo set",
                      linux=security(apparmor_profile="unconfined", capabilities=api.Capability(
                          add_capabilities=["NET_ADMIN"])))
    assert out.split() == ["0", "1000", "123", "80", "12", "sysctl-" + runtime, "set"], out
    # The range is one of ids inside: icmp(7) for a user who is in it, and for no other.
    pid = pid_of(d, d.run(p, "sleep 1000", name="ping"))
    ping = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)"
    for gid, may in ((1000, True), (1001, False)):
        r = subprocess.run(["nsenter", "-t", str(pid), "-U", "-n", "-S", "1000", "-G", str(gid),
                            "/usr/bin/python3", "-S", "-c", ping], stderr=subprocess.PIPE)
        assert (r.returncode == 0) == may, r.stderr
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_exec_stats_update(d, pod):
    c = d.run(pod, "sleep 1000", linux=security(run_as_user=api.Int64Value(value=1000)))
    r = d.exec(c, "id -u; cat /proc/self/uid_map; cat; exit 7")
    assert r.exit_code == 7 and r.stderr == b""
    assert r.stdout.split()[0] == b"1000" and str(HOST).encode() in r.stdout
    d.cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(
        memory_limit_in_bytes=64 << 20))
    s = d.cri.ContainerStats(container_id=c).stats
    assert s.memory.working_set_bytes.value > 0
    st = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats
    assert st.linux.network.default_interface.name == "eth0"
    d.cri.StopContainer(container_id=c, timeout=0)
    assert d.status(c).exit_code == 137


# --- network ---

def test_network(d, runtime):
    c = pod_config(d, "net-" + runtime)
    c.port_mappings.add(container_port=8080, host_port=18080)
    p = d.run_pod(c, handler=runtime)
    ctr = d.run(p, "echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp", name="served")
    address = d.cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
    out = d.exec(ctr, "ip -o addr; ip route; ip link set dev eth0 mtu 1400 && echo root || echo no")
    assert address in out.stdout.decode() and b"no" in out.stdout
    for where in ((address, 8080), ("127.0.0.1", 18080)):
        def served():
            try:
                with socket.create_connection(where, 5) as s:
                    s.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                    return b"served" in s.makefile("rb").read()
            except ConnectionRefusedError:
                return False
        wait_for(served)
    s, out = d.output(p, "ip link set dev eth0 mtu 1400 && cat /sys/class/net/eth0/mtu",
                      linux=security(capabilities=api.Capability(add_capabilities=["NET_ADMIN"])))
    assert out == "1400\n"
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def test_network_of_the_node(d, runtime):
    p = d.run_pod(pod_config(d, "host-" + runtime, network=api.NODE), handler=runtime)
    ctr = d.run(p, "sleep 1000", linux=api.LinuxContainerConfig(
        security_context=api.LinuxContainerSecurityContext(namespace_options=api.NamespaceOption(
            pid=api.CONTAINER, network=api.NODE, userns_options=userns()))))
    assert os.readlink("/proc/%d/ns/net" % pid_of(d, ctr)) == os.readlink("/proc/self/ns/net")
    out = d.exec(ctr, "cat /proc/self/uid_map; ls /sys/class/net; touch /sys/x 2>/dev/null || "
                      "echo ro; ip link set lo down 2>/dev/null || echo no").stdout.decode()
    assert str(HOST) in out and out.split()[-2:] == ["ro", "no"], out
    assert set(os.listdir("/sys/class/net")) <= set(out.split())
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert d.cri.Status().features.user_namespaces_host_network


# --- what is refused ---

def broken(**kw):
    def change(o):
        for k, v in kw.items():
            if k in ("pid", "ipc"):
                setattr(o, k, v)
            elif k == "mode":
                o.userns_options.mode = v
            else:
                del getattr(o.userns_options, k)[:]
                getattr(o.userns_options, k).extend(v)
    return change


REFUSED = {
    "no mappings": (broken(uids=[], gids=[]), "uids: 0 mappings, expected 1"),
    "no gids": (broken(gids=[]), "gids: 0 mappings, expected 1"),
    "two": (broken(uids=mapping() + mapping(host=1 << 20)), "uids: 2 mappings, expected 1"),
    "no root": (broken(uids=mapping(container=1)), "uids.container_id: 1, expected 0"),
    "root of the node": (broken(gids=mapping(host=0)), "gids.host_id: 0"),
    "empty": (broken(uids=mapping(length=0)), "uids.length"),
    "over the end": (broken(uids=mapping(host=0xffffff00, length=256)), "pass the last one"),
    "round the end": (broken(gids=mapping(host=0xfffffff0, length=0xffffffff)),
                      "pass the last one"),
    "node with mappings": (broken(mode=api.NODE), "uids: 1 mappings, expected none"),
    "container": (broken(mode=api.CONTAINER), "mode: 1, expected POD or NODE"),
    "target": (broken(mode=api.TARGET), "mode: 3, expected POD or NODE"),
    "processes of the node": (broken(pid=api.NODE), "pid is NODE"),
    "queues of the node": (broken(ipc=api.NODE), "ipc is NODE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(d, what):
    change, words = REFUSED[what]
    c = pod_config(d, "refused")
    change(c.linux.security_context.namespace_options)
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(c)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in e.value.details()
    assert not d.cri.ListPodSandbox().items


def test_smallest_and_last_ids(d, runtime):
    """One id is a mapping too, and so are the last ones."""
    for uids in (mapping(length=1), mapping(host=0xfffffffe - 65535, length=65536)):
        p = d.run_pod(pod_config(d, "edge-%s-%d" % (runtime, uids[0].length), options=userns(uids, uids)),
                      handler=runtime)
        linux = security()
        linux.security_context.namespace_options.ClearField("userns_options")
        s, out = d.output(p, "cat /proc/self/uid_map; touch /x && stat -c %u:%g /x", linux=linux)
        assert out.split() == ["0", str(uids[0].host_id), str(uids[0].length), "0:0"], out
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


CONTRADICTIONS = {
    "node": (api.UserNamespace(mode=api.NODE), "mode: NODE, but pod sandbox"),
    "others": (userns(mapping(host=1 << 20), mapping(host=1 << 20)), "are not those of"),
    "hostile": (userns(mapping(host=0)), "host_id: 0"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_container_that_contradicts_its_pod(d, pod, what):
    options, words = CONTRADICTIONS[what]
    linux = security()
    linux.security_context.namespace_options.userns_options.CopyFrom(options)
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in e.value.details()


@pytest.mark.parametrize("m,words", [
    (dict(uidMappings=mapping(host=1 << 20), gidMappings=mapping()), "mounts.uidMappings"),
    (dict(uidMappings=mapping(), gidMappings=mapping(host=0)), "mounts.gidMappings"),
    (dict(uidMappings=mapping()), "mounts.gidMappings"),
    (dict(gidMappings=mapping()), "mounts.uidMappings"),
    (dict(propagation=api.PROPAGATION_BIDIRECTIONAL), "BIDIRECTIONAL"),
])
def test_mounts_that_contradict_the_pod(d, pod, m, words):
    c = d.container_config("true")
    c.mounts.add(container_path="/v", host_path="/tmp", **m)
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, config=c)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in e.value.details()


def test_pod_without_one(d):
    p = d.run_pod(name="plain")
    linux = security()
    with pytest.raises(grpc.RpcError) as e:
        d.create(p, "true", linux=linux)
    assert "has no user namespace" in e.value.details()
    c = d.container_config("true")
    c.mounts.append(volume("/v", "/tmp"))
    with pytest.raises(grpc.RpcError) as e:
        d.create(p, config=c)
    assert "has no user namespace" in e.value.details()
    linux = api.LinuxContainerConfig()
    linux.security_context.namespace_options.pid = api.CONTAINER
    linux.security_context.namespace_options.userns_options.mode = api.NODE
    _, out = d.output(p, "cat /proc/self/uid_map", linux=linux)
    with open("/proc/self/uid_map") as f:
        assert out.split() == f.read().split()
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- life cycle ---

def test_daemon_is_killed(fresh):
    d = fresh
    p = d.run_pod(pod_config(d, "killed", pid=api.POD))
    linux = security()
    linux.security_context.namespace_options.pid = api.POD
    a = d.run(p, "sleep 1000", name="a", linux=linux)
    d.kill()
    d.start()
    b = d.run(p, "sleep 1000", name="b", linux=linux)
    assert os.readlink("/proc/%d/ns/user" % pid_of(d, a)) == \
        os.readlink("/proc/%d/ns/user" % pid_of(d, b))
    assert d.exec(a, "id -u").stdout == b"0\n"
    d.cri.StopPodSandbox(pod_sandbox_id=p)
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def mounts():
    with open("/proc/self/mountinfo") as f:
        return sorted(line.split(" ")[3:5] for line in f)


def test_nothing_is_left(d, runtime, volumes):
    before = mounts()
    p = d.run_pod(pod_config(d, "left-" + runtime, pid=api.POD), handler=runtime)
    c = d.container_config("sleep 1000")
    c.mounts.append(volume("/v", volumes / "volume"))
    ctr = d.create(p, config=c)
    d.cri.StartContainer(container_id=ctr)
    assert len(mounts()) == len(before) + 2  # the network namespace's pin, /dev/shm
    pid = pid_of(d, ctr)
    ns = os.stat("/proc/%d/ns/user" % pid).st_ino
    d.cri.RemovePodSandbox(pod_sandbox_id=p)
    assert mounts() == before

    def gone():
        for n in os.listdir("/proc"):
            try:
                if n.isdigit() and os.stat("/proc/%s/ns/user" % n).st_ino == ns:
                    return False
            except OSError:
                pass
        return True
    wait_for(gone)
    assert not os.path.exists("%s/containers/%s" % (d.root, ctr))
    assert not os.listdir(d.state + "/pods")


def test_failed_creation_is_undone(d, pod, volumes):
    before = mounts()
    c = d.container_config(["/none"])
    c.mounts.append(volume("/v", volumes / "volume"))
    with pytest.raises(grpc.RpcError):
        d.cri.StartContainer(container_id=d.create(pod, config=c))
    for ctr in d.cri.ListContainers(filter=api.ContainerFilter(pod_sandbox_id=pod)).containers:
        d.cri.RemoveContainer(container_id=ctr.id)
    assert mounts() == before
    dirs = [os.path.join(b, n) for b, names, _ in os.walk(d.state + "/pods") for n in names
            if n == "binds"]
    assert not dirs


def test_many_layers(d, pod, tmp_path):
    """More than fit into the options of a mount by their names."""
    layers = [image.busybox_layer(BUSYBOX).bytes()]
    layers += [image.Layer().dir("l").add("l/%d" % i, "x", uid=i, gid=i).bytes()
               for i in range(120)]
    im = image.Image(layers, {"Env": ["PATH=/bin"]})
    path = str(tmp_path / "many.tar")
    im.docker_archive(path, ["test/many:latest"])
    d.load(path)
    _, out = d.output(pod, "ls /l | wc -l; stat -c %u:%g /l/119", image="test/many:latest")
    assert out.split() == ["120", "119:119"]


def test_side_by_side(d, runtime):
    """Pods with mappings of their own do not see each other's files, nor wait for each other."""
    pods = []

    def one(i):
        ids = mapping(host=HOST + i * LENGTH)
        p = d.run_pod(pod_config(d, "side-%s-%d" % (runtime, i), options=userns(ids, ids)),
                      handler=runtime)
        linux = security()
        linux.security_context.namespace_options.ClearField("userns_options")
        c = d.run(p, "touch /mine; sleep 1000", linux=linux)
        wait_for(lambda: os.path.exists(written(d, c, "mine")))
        pods.append((p, owner(written(d, c, "mine")), (HOST + i * LENGTH,) * 2))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(pods) == 4
    for p, have, want in pods:
        assert have == want
        d.cri.RemovePodSandbox(pod_sandbox_id=p)


# --- where it is not possible ---

def test_runtime_that_cannot_is_told(archive, tmp_path):
    """A runtime that refuses configurations with a user namespace."""
    fake = tmp_path / "plain"
    fake.write_text("#!/bin/bash\n"
                    "for a; do [ -f \"$a/config.json\" ] && grep -q '\"user\",' \"$a/config.json\" "
                    "&& { echo 'no user namespaces here' >&2; exit 1; }; done\n"
                    "exec %s \"$@\"\n" % subprocess.check_output(["which", "crun"], text=True)
                    .strip())
    fake.chmod(0o755)
    config = "runtimes:\n  plain:\n    path: %s\n  runc:\n    path: runc\n" \
             "default_runtimes: [plain, runc]\n" % fake
    d = Daemon(config)
    try:
        d.load(archive)
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(name="works", handler="plain"))
        h = {h.name: h.features.user_namespaces for h in d.cri.Status().runtime_handlers}
        assert h == {"plain": False, "runc": True, "": True}
        with pytest.raises(grpc.RpcError) as e:
            d.run_pod(pod_config(d, "not"), handler="plain")
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "lacks user namespaces" in e.value.details()
        p = d.run_pod(pod_config(d, "falls"))
        d.run(p, "sleep 1000")
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        info = json.loads(d.cri.Status(verbose=True).info["config"])
        assert [bool(r.get("userNamespaces")) for r in info["runtimes"]] == [True, False]
    finally:
        d.close()


def test_state_that_cannot_be_reached_is_told():
    """Below a directory that only root passes through no other root finds its files: the probe
    finds out what comes of it, runtime by runtime."""
    d = Daemon(start=False)
    os.chmod(d.dir, 0o700)
    d.start()
    try:
        d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(name="any"))  # probes are done
        for h in d.cri.Status().runtime_handlers:
            if h.name != "runc":
                continue
            assert not h.features.user_namespaces
            with pytest.raises(grpc.RpcError) as e:
                d.run_pod(pod_config(d, "not"), handler="runc")
            assert "ermission denied" in e.value.details()
    finally:
        d.close()
