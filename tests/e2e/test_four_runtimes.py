# SPDX-License-Identifier: Apache-2.0
"""The same with every runtime that is known to work: crun, runc, youki, and gVisor's runsc, whose
unit is the pod. docs/runtimes.md says what each cannot."""
import os
import signal

import grpc
import pytest

import runtimes
import streaming
from cri import api
from daemon import Daemon, processes_with, wait_for


@pytest.fixture(scope="module", params=runtimes.NAMES)
def name(request):
    try:
        runtimes.path(request.param)
    except runtimes.Unavailable as e:
        pytest.skip(str(e))
    return request.param


@pytest.fixture(scope="module")
def d(name, archive):
    daemon = Daemon(runtimes.settings(name))
    daemon.load(archive)
    yield daemon
    daemon.close()


def monitor_of(pod):
    return next(pid for pid, cmd in processes_with(pod)
                if "gantry-monitor" in cmd.split()[0] and "/containers/" not in cmd)


def processes_of(pod, word):
    """What runs below that name on the host for the pod (runsc-sandbox, runsc-gofer, wait)."""
    return [pid for pid, cmd in processes_with(pod) if word in cmd and "gantry-monitor" not in cmd]


def gone(pid):
    return not os.path.exists("/proc/%d" % pid)


def of_pod(pid, pod):
    try:
        with open("/proc/%d/cgroup" % pid) as f:
            return pod in f.read()
    except OSError:
        return False


def ready(d, pod):
    return d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.state == api.SANDBOX_READY


def test_output_and_exit_code(d, pod):
    s = d.wait_exit(d.run(pod, "exit 7", name="seven"))
    assert (s.exit_code, s.reason) == (7, "Error")
    ctr = d.run(pod, "echo out; echo err >&2; printf 'no end'")
    s = d.wait_exit(ctr)
    assert (s.exit_code, s.reason) == (0, "Completed")
    assert d.read_log(s.log_path, "stdout") == "out\nno end\n"
    assert d.read_log(s.log_path, "stderr") == "err\n"
    assert s.created_at <= s.started_at <= s.finished_at


def test_what_a_container_has(d, pod):
    """Hostname, addresses, environment, working directory, a user of its own, a read-only root."""
    ip = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.network.ip
    linux = api.LinuxContainerConfig()
    linux.security_context.run_as_user.value = 1234
    linux.security_context.readonly_rootfs = True
    s, text = d.output(pod, "hostname; ip addr; id -u; pwd; echo $A; touch /new 2>/dev/null || echo refused; cat /proc/1/comm; true",
                       working_dir="/tmp", envs=[api.KeyValue(key="A", value=b"b c")], linux=linux)
    lines = text.split("\n")
    assert lines[0].startswith("test-what-a-container")
    assert " inet %s/" % ip in text
    assert lines[-6:-3] == ["1234", "/tmp", "b c"], text
    assert lines[-3] == "refused"
    assert lines[-2] == "sh"


def test_mounts(d, pod, tmp_path):
    (tmp_path / "f").write_text("host")
    mounts = [api.Mount(container_path="/rw", host_path=str(tmp_path)),
              api.Mount(container_path="/ro", host_path=str(tmp_path), readonly=True)]
    s, text = d.output(pod, "cat /rw/f; echo new >/rw/g; cat /ro/g; touch /ro/h 2>&1 || echo refused",
                       mounts=mounts)
    assert text.startswith("hostnew\n") and text.endswith("refused\n"), text
    assert (tmp_path / "g").read_text() == "new\n"


def test_exec(d, pod):
    ctr = d.run(pod, "sleep 1000")
    r = d.exec(ctr, "echo out; echo err >&2; exit 5")
    assert (r.stdout, r.stderr, r.exit_code) == (b"out\n", b"err\n", 5)
    with pytest.raises(grpc.RpcError) as e:
        d.exec(ctr, "/not/there", "x")
    assert "/not/there" in e.value.details()
    with pytest.raises(grpc.RpcError) as e:
        d.cri.ExecSync(container_id=ctr, cmd=["sleep", "4321"], timeout=1)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: b"4321" not in d.exec(ctr, "ps").stdout)
    d.cri.StopContainer(container_id=ctr, timeout=0)


def test_terminal(d, pod):
    ctr = d.run(pod, "test -t 0 && test -t 1 && echo terminal && exit 3", tty=True, stdin=True)
    s = d.wait_exit(ctr)
    assert s.exit_code == 3
    assert d.read_log(s.log_path).startswith("terminal")


def test_attached(d, pod):
    """The end of the first client's input is the container's."""
    ctr = d.run(pod, "cat; exit 6", stdin=True, stdin_once=True)
    url = d.cri.Attach(container_id=ctr, stdin=True, stdout=True, stderr=True).url
    s = streaming.Exec(url)
    s.stdin.write(b"all of it\n")
    s.expect("all of it\n")
    s.stdin.end()
    assert d.wait_exit(ctr).exit_code == 6
    streaming.close_all()


def test_exec_with_streams(d, pod):
    """Input, its end, an exit code; a terminal."""
    ctr = d.run(pod, "sleep 1000")
    s = streaming.Exec(d.cri.Exec(container_id=ctr, cmd=["sh", "-c", "cat; echo e >&2; exit 4"],
                                  stdin=True, stdout=True, stderr=True).url)
    s.stdin.write(b"in\n")
    s.stdin.end()
    s.expect("in\n")
    s.expect("e\n", s.stderr)
    assert s.status()["details"]["causes"][0]["message"] == "4"
    s = streaming.Exec(d.cri.Exec(container_id=ctr, cmd=["sh", "-c", "test -t 0 && stty size; read x"],
                                  tty=True, stdin=True, stdout=True).url, tty=True)
    s.resize(77, 22)
    s.expect("\n")
    s.stdin.write(b"\n")
    assert s.status()["status"] == "Success"
    streaming.close_all()
    d.cri.StopContainer(container_id=ctr, timeout=0)


def test_two_containers(d, pod):
    """They share the network, not the files; one's end is none of the other's."""
    server = d.run(pod, "echo 'echo from the other' >/h; while :; do nc -l -p 80 -e sh /h; done", name="s")
    wait_for(lambda: b":80 " in d.exec(server, "netstat -ltn").stdout)
    s, text = d.output(pod, "nc 127.0.0.1 80; test ! -e /h && echo apart", name="c")
    assert text == "from the other\napart\n"
    assert d.status(server).state == api.CONTAINER_RUNNING
    d.cri.StopContainer(container_id=server, timeout=0)
    assert d.status(server).exit_code == 137


def test_stop(d, pod):
    """The signal, and the end of the grace; one that was never started; one that kills itself."""
    ctr = d.run(pod, "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.05; done", name="a")
    wait_for(lambda: "up" in d.read_log(d.status(ctr).log_path))
    d.cri.StopContainer(container_id=ctr, timeout=20)
    s = d.status(ctr)
    assert (s.exit_code, "got it" in d.read_log(s.log_path)) == (9, True)
    ctr = d.run(pod, "trap '' TERM; echo up; while :; do sleep 0.05; done", name="b")
    wait_for(lambda: "up" in d.read_log(d.status(ctr).log_path))
    d.cri.StopContainer(container_id=ctr, timeout=1)
    assert d.status(ctr).exit_code == 137
    ctr = d.create(pod, "sleep 1000", name="c")
    d.cri.StopContainer(container_id=ctr, timeout=1)
    assert d.status(ctr).state == api.CONTAINER_EXITED
    d.cri.RemoveContainer(container_id=ctr)
    ctr = d.run(pod, "sleep 1000", name="d")
    d.cri.RemoveContainer(container_id=ctr)
    with pytest.raises(grpc.RpcError):
        d.status(ctr)


def test_stop_of_the_pod(d):
    pod = d.run_pod(name="stop-pod")
    ctrs = [d.run(pod, "sleep 1000", name="a"), d.create(pod, "sleep 1000", name="b")]
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    assert not ready(d, pod)
    assert [d.status(c).state for c in ctrs] == [api.CONTAINER_EXITED] * 2
    assert d.status(ctrs[0]).exit_code == 137
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_out_of_memory(d):
    """With the limits of the container, and of the pod, as the kubelet says both."""
    limit = api.LinuxContainerResources(memory_limit_in_bytes=64 << 20,
                                        memory_swap_limit_in_bytes=64 << 20)
    pod = d.run_pod(name="oom", linux=api.LinuxPodSandboxConfig(resources=limit))
    linux = api.LinuxContainerConfig(resources=limit)
    s = d.wait_exit(d.run(pod, "exec tail /dev/zero", linux=linux))
    assert (s.exit_code, s.reason) == (137, "OOMKilled")
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_stats(d, pod):
    """Of what burns a processor, one is seen to."""
    ctr = d.run(pod, "while :; do :; done")

    def used():
        s = d.cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux
        return s.cpu.usage_core_nano_seconds.value > 100 * 1000 * 1000 and \
            s.memory.usage_bytes.value > 0
    wait_for(used)
    d.cri.StopContainer(container_id=ctr, timeout=0)


def test_daemon_killed(d, pod):
    """What runs goes on, what ends meanwhile is known."""
    lives = d.run(pod, "echo a; while [ ! -e /go ]; do sleep 0.05; done; exit 4", name="lives")
    ends = d.run(pod, "sleep 0.3; echo bye; exit 5", name="ends")
    d.kill()
    d.start()
    s = d.wait_exit(ends)
    assert (s.exit_code, d.read_log(s.log_path)) == (5, "bye\n")
    assert d.status(lives).state == api.CONTAINER_RUNNING and ready(d, pod)
    d.exec(lives, "touch /go")
    assert d.wait_exit(lives).exit_code == 4


def test_monitor_killed(d):
    """Nothing is left of the pod once it is removed."""
    pod = d.run_pod(name="monitor")
    ctr, other = d.run(pod, "sleep 1000", name="a"), d.create(pod, "sleep 1000", name="b")
    os.kill(monitor_of(pod), signal.SIGKILL)
    wait_for(lambda: not ready(d, pod))
    d.cri.StopContainer(container_id=ctr, timeout=0)
    wait_for(lambda: d.status(ctr).state == api.CONTAINER_EXITED)
    d.cri.RemoveContainer(container_id=other)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    wait_for(lambda: not processes_with(pod))


# --- what only runtimes have whose unit is the pod ---

@pytest.fixture
def sandboxed(name):
    if name != "runsc":
        pytest.skip("%s makes containers, not pods" % name)


def test_sandbox_killed(d, sandboxed):
    pod = d.run_pod(name="sandbox")
    ctr, made = d.run(pod, "sleep 1000", name="a"), d.create(pod, "sleep 1000", name="b")
    os.kill(processes_of(pod, "runsc-sandbox")[0], signal.SIGKILL)
    wait_for(lambda: not ready(d, pod))
    s = d.wait_exit(ctr)
    assert (s.exit_code, s.reason) == (137, "Error")
    assert d.wait_exit(made).state == api.CONTAINER_EXITED
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", name="late")
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    d.cri.RemoveContainer(container_id=made)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    wait_for(lambda: not processes_with(pod))


def test_helpers_killed(d, sandboxed):
    """Who waits is replaced; who serves a container's files ends that container alone."""
    pod = d.run_pod(name="helpers")
    ctr = d.run(pod, "while [ ! -e /go ]; do sleep 0.05; done; exit 6", name="a")
    other = d.run(pod, "sleep 1000", name="b")

    def waiting():
        return [p for p, cmd in processes_with(ctr) if " wait " in cmd]
    first = wait_for(waiting)[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: waiting() and first not in waiting())
    d.exec(ctr, "touch /go")
    assert d.wait_exit(ctr).exit_code == 6
    gofer = next(p for p, cmd in processes_with(other) if "runsc-gofer" in cmd)
    os.kill(gofer, signal.SIGKILL)
    assert d.wait_exit(other).exit_code == 137
    assert ready(d, pod)
    assert d.output(pod, "exit 8", name="c")[0].exit_code == 8
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_exit_code_outlives_the_monitor(d, sandboxed):
    pod = d.run_pod(name="code")
    ctr = d.run(pod, "while [ ! -e /go/go ]; do sleep 0.05; done; exit 11",
                mounts=[api.Mount(container_path="/go", host_path=d.dir + "/go")])
    monitor = monitor_of(pod)
    os.kill(monitor, signal.SIGKILL)
    wait_for(lambda: not ready(d, pod))
    open(d.dir + "/go/go", "w").close()
    assert d.wait_exit(ctr).exit_code == 11
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_pods_of_the_node_are_refused(d, sandboxed):
    ns = api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(name="host", namespaces=ns)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert not [p for p in d.cri.ListPodSandbox().items if p.metadata.name == "host"]


def test_port_forward_reaches_the_sandbox(d, pod, sandboxed):
    """By the pod's address: on its loopback is nobody of this side."""
    server = d.run(pod, "while :; do echo hello | nc -l -p 8080; done")
    wait_for(lambda: b":8080 " in d.exec(server, "netstat -ltn").stdout)
    f = streaming.Forward(d.cri.PortForward(pod_sandbox_id=pod, port=[8080]).url)
    data = f.connect(8080)
    f.pump(lambda: data.data == b"hello\n")
    streaming.close_all()
    d.cri.StopContainer(container_id=server, timeout=0)


def test_a_sandbox_with_processes(archive):
    """A runtime whose unit is the pod may leave a process for each container, as crun does, which knows
    nothing of sandboxes: then containers are what they always are, beside one that waits."""
    d = Daemon("runtimes:\n  podded:\n    path: crun\n    unit: pod\ndefault_runtimes: [podded]\n")
    try:
        d.load(archive)
        pod = d.run_pod(name="podded")

        def waits():
            return [p for p, cmd in processes_with("/init --init") if of_pod(p, pod)]
        wait_for(lambda: len(waits()) == 1)
        ctr = d.run(pod, "echo out; exec sleep 1000")
        assert d.exec(ctr, "exit 3").exit_code == 3
        d.cri.StopContainer(container_id=ctr, timeout=0)
        assert d.status(ctr).exit_code == 137
        assert d.output(pod, "exit 5", name="e")[0].exit_code == 5
        os.kill(waits()[0], signal.SIGKILL)
        wait_for(lambda: not ready(d, pod))
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    finally:
        d.close()
