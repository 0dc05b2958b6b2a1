# SPDX-License-Identifier: Apache-2.0
"""gantry-oci as the runtime of others: podman, and containerd with its own command and as a CRI
server."""
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

import image
from cri import Client, api
from daemon import processes_with, wait_for
from fixtures import BUSYBOX
from test_oci import PROGRAM

IMAGE = "test/busybox:latest"
PAUSE = "test/pause:1"
PLACES = ("/run/gantry-oci", "/run/crun", "/run/runc", "/run/containerd")


@pytest.fixture(scope="module", autouse=True)
def places():
    """Callers have runtimes keep containers at the usual places: these are of this module alone."""
    mounted = []
    try:
        for p in PLACES:
            os.makedirs(p, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "gantry-tests", p], check=True)
            mounted.append(p)
        yield
        assert not os.listdir("/run/gantry-oci"), "a record without its container"
    finally:
        for p in mounted:
            subprocess.run(["umount", "--lazy", p], check=True)


@pytest.fixture(scope="module", params=["crun", "runc"])
def config(request, tmp_path_factory):
    top = tmp_path_factory.mktemp("oci-" + request.param)
    (top / "config.yaml").write_text("default_runtimes: [%s]\n" % request.param)
    return request.param, str(top / "config.yaml"), str(top)


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            pytest.skip("no program %s" % p)


# --- podman ---

class Podman:
    def __init__(self, runtime, config, top, archive):
        self.runtime = runtime
        self.top = tempfile.mkdtemp(prefix="gp-")  # podman wants a short path
        conf = self.top + "/containers.conf"
        with open(conf, "w") as f:
            # The limits are those that a root without CAP_SYS_RESOURCE may set.
            f.write('[containers]\nlog_driver = "k8s-file"\n'
                    'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
                    '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
                    'runtime = "gantry-oci"\n[engine.runtimes]\ngantry-oci = ["%s"]\n' % PROGRAM)
        self.env = dict(os.environ, CONTAINERS_CONF=conf)
        self.options = ["--root", self.top + "/root", "--runroot", self.top + "/run", "--tmpdir",
                        self.top + "/tmp", "--runtime-flag", "config=" + config]
        self.ok("load", "-i", archive)

    def call(self, *args):
        p = subprocess.run(["podman", *self.options, *args], env=self.env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        return p.returncode, p.stdout, p.stderr

    def ok(self, *args):
        status, out, err = self.call(*args)
        assert status == 0, err
        return out.rstrip("\n")

    def close(self):
        self.call("pod", "rm", "-f", "-t", "0", "-a")
        self.call("rm", "-f", "-t", "0", "-a")
        self.call("rmi", "-f", "-a")
        with open("/proc/self/mounts") as f:
            points = [x.split()[1] for x in f if x.split()[1].startswith(self.top + "/")]
        for p in reversed(points):
            subprocess.run(["umount", "--lazy", p])
        shutil.rmtree(self.top)


@pytest.fixture(scope="module")
def podman(config, archive):
    need("podman", "conmon")
    p = Podman(*config, archive)
    yield p
    p.close()


def records():
    return [n for n in os.listdir("/run/gantry-oci") if n.startswith(".gantry-oci.")]


def test_podman_run(podman):
    run = ("run", "--rm", "--network", "none", IMAGE)
    assert podman.ok(*run, "echo", "hello") == "hello"
    assert podman.call(*run, "sh", "-c", "exit 42")[0] == 42
    status, _, err = podman.call(*run, "no-such-program")
    assert status == 127 and "no-such-program" in err
    wait_for(lambda: not records())


def test_podman_life(podman):
    c = podman.ok("run", "-d", "--network", "none", "--name", "life", IMAGE, "sh", "-c",
                  "echo out; echo err >&2; exec sleep 1000")
    assert os.path.exists("/run/%s/%s" % (podman.runtime, c))
    assert podman.ok("exec", "life", "echo", "in it") == "in it"
    assert podman.call("exec", "life", "sh", "-c", "exit 7")[0] == 7
    wait_for(lambda: set(podman.ok("logs", "life").split()) | set(podman.call("logs", "life")[2].split())
             == {"out", "err"})
    podman.ok("pause", "life")
    assert podman.ok("inspect", "-f", "{{.State.Status}}", "life") == "paused"
    podman.ok("unpause", "life")
    podman.ok("kill", "life")
    assert podman.ok("wait", "life") == "137"
    podman.ok("start", "life")
    podman.ok("stop", "-t", "0", "life")
    podman.ok("rm", "life")
    podman.ok("run", "-d", "--network", "none", "--name", "life", IMAGE, "sleep", "1000")
    podman.ok("rm", "-f", "-t", "0", "life")
    wait_for(lambda: not records())


def test_podman_pod(podman):
    need("catatonit")
    podman.ok("pod", "create", "--name", "p", "--network", "none")
    podman.ok("run", "-d", "--pod", "p", "--name", "c", IMAGE, "sleep", "1000")
    assert len(records()) == 2
    assert podman.ok("run", "--rm", "--pod", "p", IMAGE, "hostname") == "p"
    podman.ok("pod", "stop", "-t", "0", "p")
    podman.ok("pod", "rm", "p")
    wait_for(lambda: not records())


# --- containerd ---

CONFIG = '''version = 2
root = "{top}/root"
state = "{top}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{top}/sock"
[ttrpc]
  address = "{top}/sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{top}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "gantry"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gantry]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gantry.options]
        BinaryName = "{program}"
'''


class Containerd:
    def __init__(self, runtime, config, top, archive):
        self.runtime, self.top = runtime, top + "/containerd"
        os.makedirs(self.top + "/cni")
        with open(self.top + "/config.toml", "w") as f:
            f.write(CONFIG.format(top=self.top, pause=PAUSE, program=PROGRAM))
        self.address = self.top + "/sock"
        self.log = open(self.top + "/log", "w+")
        self.process = subprocess.Popen(["containerd", "--config", self.top + "/config.toml"],
                                        env=dict(os.environ, GANTRY_CONFIG=config),
                                        stdout=self.log, stderr=self.log)
        wait_for(lambda: self.ctr("version").returncode == 0)
        pause = self.top + "/pause.tar"
        image.Image([image.busybox_layer(BUSYBOX).bytes()], {
            "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]}).docker_archive(pause, [PAUSE])
        for a in (archive, pause):
            r = self.ctr("-n", "k8s.io", "images", "import", a)
            assert r.returncode == 0, r.stderr
        self.cri = Client(self.address)

    def ctr(self, *args):
        return subprocess.run(["ctr", "--address", self.address, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)

    def records(self, namespace="k8s.io"):
        d = "/run/containerd/runc/" + namespace
        return [n for n in os.listdir(d) if n.startswith(".gantry-oci.")] if os.path.isdir(d) else []

    def close(self):
        for p in self.cri.ListPodSandbox().items:
            self.cri.StopPodSandbox(pod_sandbox_id=p.id)
            self.cri.RemovePodSandbox(pod_sandbox_id=p.id)
        self.cri.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()
        for pid, _ in processes_with(self.address):
            os.kill(pid, signal.SIGKILL)
        with open("/proc/self/mounts") as f:
            points = [x.split()[1] for x in f if x.split()[1].startswith(self.top + "/")]
        for p in reversed(points):
            subprocess.run(["umount", "--lazy", p])


@pytest.fixture(scope="module")
def containerd(config, archive):
    need("containerd", "ctr", "containerd-shim-runc-v2")
    c = Containerd(*config, archive)
    yield c
    c.close()


def test_containerd_ctr(containerd):
    ctr = containerd.ctr
    ref = next(x for x in ctr("-n", "k8s.io", "images", "ls", "-q").stdout.split() if "busybox" in x)
    run = ("-n", "k8s.io", "run", "--rm", "--runc-binary", PROGRAM)
    r = ctr(*run, ref, "one", "echo", "hello")
    assert (r.returncode, r.stdout) == (0, "hello\n"), r.stderr
    assert ctr(*run, ref, "two", "sh", "-c", "exit 42").returncode == 42
    assert ctr(*run, ref, "three", "no-such-program").returncode
    assert not containerd.records()


def test_containerd_cri(containerd, tmp_path):
    cri = containerd.cri
    config = api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name="p", uid="u", namespace="ns"),
        log_directory=str(tmp_path),
        linux=api.LinuxPodSandboxConfig(security_context=api.LinuxSandboxSecurityContext(
            namespace_options=api.NamespaceOption(network=api.NODE))))
    pod = cri.RunPodSandbox(config=config).pod_sandbox_id
    c = cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=config, config=api.ContainerConfig(
        metadata=api.ContainerMetadata(name="c"), image=api.ImageSpec(image="docker.io/" + IMAGE),
        command=["sh", "-c", "echo logged; exec sleep 1000"], log_path="c.log")).container_id
    cri.StartContainer(container_id=c)  # containerd makes it now
    assert len(containerd.records()) == 2
    assert os.path.exists("/run/containerd/runc/k8s.io/" + c)
    wait_for(lambda: (tmp_path / "c.log").read_text().endswith(" stdout F logged\n"))
    r = cri.ExecSync(container_id=c, cmd=["sh", "-c", "echo in it; exit 9"])
    assert (r.exit_code, r.stdout) == (9, b"in it\n")
    cri.UpdateContainerResources(container_id=c, linux=api.LinuxContainerResources(cpu_shares=77))
    cri.StopContainer(container_id=c, timeout=0)
    s = cri.ContainerStatus(container_id=c).status
    assert (s.state, s.exit_code) == (api.CONTAINER_EXITED, 137)
    cri.RemoveContainer(container_id=c)
    cri.StopPodSandbox(pod_sandbox_id=pod)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    wait_for(lambda: not containerd.records())
