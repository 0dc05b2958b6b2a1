# SPDX-License-Identifier: Apache-2.0
"""Containers: life, process, mounts, security, resources, logs."""
import concurrent.futures
import json
import os
import re
import time

import grpc
import pytest

from cri import SLOW, api
from daemon import wait_for


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    """Everything here is run by both runtimes."""
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"), handler=request.param)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def code(e):
    return e.value.code()


def linux(**kw):
    lin = api.LinuxContainerConfig(**kw)
    lin.security_context.namespace_options.pid = api.CONTAINER
    return lin


def test_the_name_of_its_image(d, pod):
    """The kubelet asks for the id that it pulled; people see the name that they gave."""
    config = d.container_config("exit 0")
    config.image.image = d.cri.ImageStatus(image=config.image).image.id
    config.image.user_specified_image = "test/busybox"
    s = d.status(d.create(pod, config=config))
    assert s.image.image == s.image.user_specified_image == "test/busybox"
    assert s.image_id == config.image.image


def test_life(d, pod):
    c = d.create(pod, "exit 3", labels={"l": "1"})
    s = d.status(c)
    assert s.state == api.CONTAINER_CREATED and s.created_at and not s.started_at
    assert s.image.image == "test/busybox:latest" and s.image_id.startswith("sha256:")
    d.cri.StartContainer(container_id=c)
    s = d.wait_exit(c)
    assert (s.exit_code, s.reason) == (3, "Error")
    assert s.created_at <= s.started_at <= s.finished_at
    with pytest.raises(grpc.RpcError) as e:
        d.cri.StartContainer(container_id=c)
    assert code(e) == grpc.StatusCode.FAILED_PRECONDITION and "exited" in e.value.details()
    d.cri.StopContainer(container_id=c, timeout=10)
    d.cri.RemoveContainer(container_id=c)
    d.cri.RemoveContainer(container_id=c)
    with pytest.raises(grpc.RpcError) as e:
        d.status(c)
    assert code(e) == grpc.StatusCode.NOT_FOUND
    assert not os.listdir(d.root + "/containers")


def test_list_filters(d, pod):
    a = d.create(pod, "sleep 100", name="a", labels={"x": "1"})
    b = d.run(pod, "sleep 100", name="b", labels={"x": "2"})

    def ids(**f):
        return {x.id for x in d.cri.ListContainers(filter=api.ContainerFilter(**f)).containers}
    assert ids(pod_sandbox_id=pod) == {a, b} == ids(pod_sandbox_id=pod[:10])
    assert ids(id=a) == {a} and ids(label_selector={"x": "2"}) == {b}
    assert ids(state=api.ContainerStateValue(state=api.CONTAINER_RUNNING)) == {b}
    assert ids(pod_sandbox_id="ffff" + pod[4:]) == set()
    item = [x for x in d.cri.ListContainers().containers if x.id == a][0]
    assert item.metadata.name == "a" and item.pod_sandbox_id == pod and item.labels["x"] == "1"


def test_stop_graceful_and_by_force(d, pod):
    c = d.run(pod, "trap 'exit 7' TERM; echo ready; while true; do sleep 0.05; done", name="soft")
    wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
    d.cri.StopContainer(container_id=c, timeout=20)
    assert d.status(c).exit_code == 7
    c = d.run(pod, "trap '' TERM; echo ready; while true; do sleep 0.05; done", name="hard")
    wait_for(lambda: "ready" in d.read_log(d.status(c).log_path))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        long = pool.submit(d.cri.StopContainer, container_id=c, timeout=600)
        time.sleep(0.1)
        began = time.monotonic()
        d.cri.StopContainer(container_id=c, timeout=0)  # a shorter one shortens the first
        long.result(5)
    assert time.monotonic() - began < 5 and d.status(c).exit_code == 137


def test_stop_signal(d, pod):
    c = d.container_config("trap 'exit 9' USR1; echo ready; while true; do sleep 0.05; done")
    c.stop_signal = api.SIGNAL_SIGUSR1
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    wait_for(lambda: "ready" in d.read_log(d.status(ctr).log_path))
    d.cri.StopContainer(container_id=ctr, timeout=20)
    s = d.status(ctr)
    assert s.exit_code == 9 and s.stop_signal == api.SIGNAL_SIGUSR1


def test_args_env_cwd(d, pod):
    c = d.container_config(["sh", "-c", 'echo "$A|$PATH|$0|$1|$PWD"'], working_dir="/tmp",
                           args=["zero", "one"])
    c.envs.add(key="A", value=b"x=y z")
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    assert d.read_log(d.wait_exit(ctr).log_path) == "x=y z|/bin|zero|one|/tmp\n"


@pytest.mark.parametrize("sc,want", [
    (dict(run_as_user=api.Int64Value(value=1000)), "1000 1000 1000 1234"),
    (dict(run_as_username="web"), "1000 1000 1000 1234"),
    (dict(run_as_user=api.Int64Value(value=5), run_as_group=api.Int64Value(value=6)), "5 6 6"),
    (dict(run_as_username="web", supplemental_groups=[77],
          supplemental_groups_policy=api.Strict), "1000 1000 1000 77"),
    (dict(supplemental_groups=[77, 78]), "0 0 0 77 78"),
])
def test_users(d, pod, sc, want):
    s, out = d.output(pod, "echo $(id -u) $(id -g) $(id -G)",
                      linux=linux(security_context=api.LinuxContainerSecurityContext(**sc)))
    assert out.strip() == want
    groups = list(s.user.linux.supplemental_groups)
    assert [str(x) for x in groups] == want.split()[2:]


def test_unknown_user(d, pod):
    sc = api.LinuxContainerSecurityContext(run_as_username="nobody-here")
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux(security_context=sc))
    assert code(e) == grpc.StatusCode.INVALID_ARGUMENT and '"nobody-here"' in e.value.details()
    assert not d.cri.ListContainers().containers


def test_mounts(d, pod, tmp_path):
    (tmp_path / "f").write_text("from the host\n")
    c = d.container_config("cat /m/f; echo x >/m/w && echo written; "
                           "touch /ro/f 2>&1; ls -d /made; ls /file")
    c.mounts.add(container_path="/m", host_path=str(tmp_path))
    c.mounts.add(container_path="/ro", host_path=str(tmp_path), readonly=True)
    c.mounts.add(container_path="/made", host_path=str(tmp_path / "not" / "there"))
    c.mounts.add(container_path="/file", host_path=str(tmp_path / "f"))
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    s = d.wait_exit(ctr)
    out = d.read_log(s.log_path)
    assert "from the host\nwritten\n" in out and "Read-only file system" in out and "/made" in out
    assert (tmp_path / "w").read_text() == "x\n" and (tmp_path / "not/there").is_dir()
    assert len(s.mounts) == 4 and s.mounts[1].readonly


def test_recursive_read_only(d, pod, tmp_path):
    os.mkdir(tmp_path / "sub")
    os.system("mount -t tmpfs none %s/sub" % tmp_path)
    try:
        c = d.container_config("touch /m/sub/x 2>&1; touch /n/sub/x && echo plain")
        c.mounts.add(container_path="/m", host_path=str(tmp_path), readonly=True,
                     recursive_read_only=True)
        c.mounts.add(container_path="/n", host_path=str(tmp_path), readonly=True)
        ctr = d.create(pod, config=c)
        d.cri.StartContainer(container_id=ctr)
        out = d.read_log(d.wait_exit(ctr).log_path)
        assert "/m/sub/x: Read-only" in out and "plain" in out
    finally:
        os.system("umount %s/sub" % tmp_path)


def test_propagation(d, pod, tmp_path):
    src = tmp_path / "p"
    src.mkdir()
    os.system("mount --bind %s %s && mount --make-shared %s" % (src, src, src))
    try:
        (src / "h").mkdir()
        (src / "c").mkdir()
        lin = linux()
        lin.security_context.privileged = True
        c = d.container_config("sleep 1000", linux=lin)
        c.mounts.add(container_path="/p", host_path=str(src),
                     propagation=api.PROPAGATION_BIDIRECTIONAL)
        ctr = d.create(pod, config=c)
        d.cri.StartContainer(container_id=ctr)
        os.system("mount -t tmpfs none %s/h && touch %s/h/seen" % (src, src))
        assert d.exec(ctr, "ls /p/h").stdout == b"seen\n"
        assert d.exec(ctr, "mount -t tmpfs none /p/c && touch /p/c/out").exit_code == 0
        assert os.listdir(src / "c") == ["out"]
        d.cri.RemoveContainer(container_id=ctr)
    finally:
        os.system("umount %s/h %s/c %s 2>/dev/null" % (src, src, src))


def test_read_only_root_and_writable_layer(d, pod):
    lin = linux()
    lin.security_context.readonly_rootfs = True
    _, out = d.output(pod, "touch /x 2>&1; touch /dev/shm/y && echo shm", linux=lin)
    assert "Read-only file system" in out and "shm" in out
    a = d.run(pod, "echo mine >/tmp/x; rm /etc/group; sleep 100", name="a")
    b = d.run(pod, "sleep 100", name="b")
    wait_for(lambda: d.exec(a, "cat /tmp/x").stdout == b"mine\n")
    assert d.exec(b, "cat /tmp/x").exit_code == 1
    assert d.exec(b, "cat /etc/group").exit_code == 0


def test_capabilities(d, pod):
    def caps(**kw):
        lin = linux()
        lin.security_context.capabilities.CopyFrom(api.Capability(**kw))
        _, out = d.output(pod, "grep Cap /proc/self/status", linux=lin)
        return {k: int(v, 16) for k, v in re.findall(r"(Cap\w+):\s+([0-9a-f]+)", out)}
    default = caps()
    assert default["CapBnd"] & (1 << 0) and not default["CapBnd"] & (1 << 21)
    assert caps(drop_capabilities=["ALL"])["CapBnd"] == 0
    assert caps(drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"])["CapEff"] == 1 << 12
    assert caps(add_capabilities=["CAP_SYS_ADMIN"])["CapBnd"] & (1 << 21)
    a = caps(drop_capabilities=["ALL"], add_ambient_capabilities=["CHOWN"])
    assert a["CapAmb"] == a["CapInh"] == 1


def test_privileged_and_devices(d, pod):
    lin = linux()
    lin.security_context.privileged = True
    _, out = d.output(pod, "ls /dev; mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs "
                           "none /mnt && echo mounted; touch /proc/sys/kernel/core_pattern && echo rw",
                      linux=lin)
    assert "mounted" in out and "loop-control" in out or "mem" in out
    c = d.container_config("ls -l /dev/mine; head -c 4 /dev/mine | wc -c; ls /dev/kmsg")
    c.devices.add(container_path="/dev/mine", host_path="/dev/zero", permissions="rw")
    ctr = d.create(pod, config=c)
    d.cri.StartContainer(container_id=ctr)
    out = d.read_log(d.wait_exit(ctr).log_path)
    assert "1,   5" in out and "\n4\n" in out and "No such file" in out
    with pytest.raises(grpc.RpcError) as e:
        c.devices[0].host_path = "/etc/passwd"
        c.metadata.name = "other"
        d.create(pod, config=c)
    assert code(e) == grpc.StatusCode.INVALID_ARGUMENT and "is no device" in e.value.details()


def test_seccomp(d, pod, tmp_path):
    def run(profile):
        lin = linux()
        lin.security_context.seccomp.CopyFrom(profile)
        _, out = d.output(pod, "unshare -U true 2>&1 && echo unshared; grep Seccomp: "
                               "/proc/self/status; mkdir /tmp/q 2>&1 && echo made", linux=lin)
        return out
    P = api.SecurityProfile
    default = run(P(profile_type=P.RuntimeDefault))
    assert "unshared" not in default and "Seccomp:\t2" in default and "made" in default
    assert "unshared" in run(P(profile_type=P.Unconfined))
    f = tmp_path / "p.json"
    f.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    assert "not permitted" in run(P(profile_type=P.Localhost, localhost_ref=str(f)))
    with pytest.raises(grpc.RpcError) as e:
        run(P(profile_type=P.Localhost, localhost_ref="/not/there"))
    assert code(e) == grpc.StatusCode.FAILED_PRECONDITION and "/not/there" in e.value.details()


def test_no_new_privs_masked_readonly(d, pod):
    lin = linux()
    sc = lin.security_context
    sc.no_new_privs = True
    sc.masked_paths.append("/proc/meminfo")
    sc.readonly_paths.append("/proc/sys")
    _, out = d.output(pod, "grep NoNewPrivs /proc/self/status; wc -c </proc/meminfo; "
                           "echo x >/proc/sys/kernel/domainname", linux=lin)
    assert "NoNewPrivs:\t1" in out and "\n0\n" in out and "Read-only" in out


def limits(pid, controller, v1, v2):
    """What limits a process, from whichever hierarchy has the controller."""
    with open("/proc/%d/cgroup" % pid) as f:
        for line in f:
            _, controllers, path = line.strip().split(":", 2)
            if controller in controllers.split(","):
                with open("/sys/fs/cgroup/%s%s/%s" % (controller, path, v1)) as g:
                    return {g.read().strip()}
    found = set()
    # crun makes a cgroup of its own below systemd's scope, and sets some limits here, some there
    for where in (path, os.path.dirname(path)):
        with open("/sys/fs/cgroup" + where + "/" + v2) as g:
            found.add(g.read().strip())
    return found


def test_resources_and_update(d, pod):
    lin = linux(resources=api.LinuxContainerResources(
        memory_limit_in_bytes=64 << 20, cpu_shares=512, cpu_quota=50000, cpu_period=100000,
        oom_score_adj=500, cpuset_cpus="0"))
    c = d.run(pod, "sleep 100", linux=lin)
    pid = json.loads(d.cri.ContainerStatus(container_id=c, verbose=True).info["info"])["pid"]
    assert str(64 << 20) in limits(pid, "memory", "memory.limit_in_bytes", "memory.max")
    # 1 + (512 - 2) * 9999 / 262142, as runtimes map shares to weights
    assert limits(pid, "cpu", "cpu.shares", "cpu.weight") & {"512", "20"}
    assert "0" in limits(pid, "cpuset", "cpuset.cpus", "cpuset.cpus")
    with open("/proc/%d/oom_score_adj" % pid) as f:
        assert f.read() == "500\n"
    d.cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(
        memory_limit_in_bytes=128 << 20, cpu_shares=256))
    assert str(128 << 20) in limits(pid, "memory", "memory.limit_in_bytes", "memory.max")
    assert limits(pid, "cpu", "cpu.shares", "cpu.weight") & {"256", "10"}
    r = d.status(c).resources.linux
    assert (r.memory_limit_in_bytes, r.cpu_shares, r.cpu_quota) == (128 << 20, 256, 50000)


def test_oom_killed(d, pod):
    lin = linux(resources=api.LinuxContainerResources(memory_limit_in_bytes=16 << 20))
    c = d.run(pod, "dd if=/dev/zero of=/dev/null bs=200M count=1", linux=lin)
    s = d.wait_exit(c)
    assert (s.reason, s.exit_code) == ("OOMKilled", 137)


def test_exec_sync(d, pod):
    c = d.run(pod, "sleep 100")
    r = d.exec(c, "echo out; echo err >&2; exit 5")
    assert (r.exit_code, r.stdout, r.stderr) == (5, b"out\n", b"err\n")
    r = d.exec(c, "head -c 1000000 /dev/zero")
    assert len(r.stdout) == 1000000
    r = d.exec(c, "true", timeout=0)
    assert r.exit_code == 0
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        d.exec(c, "echo x; sleep 77", timeout=1)
    assert code(e) == grpc.StatusCode.DEADLINE_EXCEEDED and \
        time.monotonic() - began < 5 * SLOW
    assert b"sleep 77" not in d.exec(c, "ps").stdout
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for r in pool.map(lambda i: d.exec(c, "echo %d" % i), range(16)):
            assert r.exit_code == 0


def test_exec_of_what_is_not_there(d, pod):
    c = d.run(pod, "sleep 100")
    with pytest.raises(grpc.RpcError) as e:
        d.exec(c, "/no/such", "command")
    assert "/no/such" in e.value.details()
    d.cri.StopContainer(container_id=c, timeout=0)
    with pytest.raises(grpc.RpcError) as e:
        d.exec(c, "true")
    assert code(e) == grpc.StatusCode.FAILED_PRECONDITION and "not running" in e.value.details()


LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] ")


def test_log_format(d, pod):
    c = d.run(pod, "echo one; echo two >&2; printf 'no newline'; head -c 40000 /dev/zero | tr '\\0' z")
    s = d.wait_exit(c)
    with open(s.log_path) as f:
        lines = f.read().splitlines()
    assert all(LINE.match(x) for x in lines)
    assert d.read_log(s.log_path, "stderr") == "two\n"
    out = d.read_log(s.log_path, "stdout")
    assert out.startswith("one\nno newline") and out.count("z") == 40000
    assert any(" P " in x[:60] for x in lines) and max(map(len, lines)) < 16384 + 100


def test_log_rotation(d, pod):
    c = d.run(pod, "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done")
    path = d.status(c).log_path
    wait_for(lambda: os.path.getsize(path) > 200)
    os.rename(path, path + ".1")
    d.cri.ReopenContainerLog(container_id=c)
    wait_for(lambda: os.path.getsize(path) > 200)
    d.cri.StopContainer(container_id=c, timeout=0)
    numbers = [int(x) for x in (d.read_log(path + ".1") + d.read_log(path)).split()]
    assert numbers == list(range(len(numbers)))
    with pytest.raises(grpc.RpcError) as e:
        d.cri.ReopenContainerLog(container_id=c)
    assert code(e) == grpc.StatusCode.FAILED_PRECONDITION


def test_tty(d, pod):
    s, out = d.output(pod, "tty; echo $TERM; echo err >&2", tty=True)
    assert "/dev/pts/0" in out or "/dev/console" in out
    assert "xterm" in out and "err" in out


def test_stdin(d, pod):
    """Without an attach, standard input of a container that asks for one stays open."""
    c = d.run(pod, "read x; echo ended", stdin=True)
    time.sleep(0.2)
    assert d.status(c).state == api.CONTAINER_RUNNING
    _, out = d.output(pod, "read x; echo ended", name="without")
    assert out == "ended\n"


def test_stats(d, pod):
    c = d.run(pod, "head -c 3000000 /dev/zero >/tmp/f; while true; do :; done")
    wait_for(lambda: d.cri.ContainerStats(container_id=c).stats.cpu.usage_core_nano_seconds.value
             > 10_000_000)
    s = d.cri.ContainerStats(container_id=c).stats
    assert s.memory.usage_bytes.value > 0 and s.memory.working_set_bytes.value > 0
    assert s.cpu.usage_nano_cores.value > 0 and s.attributes.metadata.name == "c"
    d.cri.ImageFsInfo()

    def measured():
        return d.cri.ContainerStats(container_id=c).stats.writable_layer.used_bytes.value >= 3000000
    wait_for(measured, timeout=25)
    f = api.ContainerStatsFilter(pod_sandbox_id=pod)
    assert [x.attributes.id for x in d.cri.ListContainerStats(filter=f).stats] == [c]
    p = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats
    assert p.linux.network.default_interface.name == "eth0"
    assert p.linux.containers[0].attributes.id == c and p.linux.process.process_count.value >= 1
    assert pod in [x.attributes.id for x in d.cri.ListPodSandboxStats().stats]


def test_many_at_once(d):
    def one(i):
        p = d.run_pod(name="many-%d" % i)
        _, out = d.output(p, "echo %d" % i)
        d.cri.RemovePodSandbox(pod_sandbox_id=p)
        return out
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(16))) == ["%d\n" % i for i in range(16)]
    assert not d.leftovers()
