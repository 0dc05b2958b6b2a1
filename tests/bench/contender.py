# SPDX-License-Identifier: Apache-2.0
"""The servers that are compared: each with directories, networks and cgroups of its own."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("GANTRY_BUILD", os.path.join(TOP, "build"))
CLIENT = BUILD + "/tests/bench/bench-client"
CRUN = shutil.which("crun") or "/usr/bin/crun"
PLUGINS = "/usr/lib/cni"
IMAGE = "bench.test/busybox:1"
PAUSE = "bench.test/pause:1"

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def hierarchies():
    """Where cgroups are mounted."""
    with open("/proc/self/mounts") as f:
        return [x.split()[1] for x in f if x.split()[2] in ("cgroup", "cgroup2")]


def accounting():
    """The hierarchy in which processor time is counted."""
    if V2:
        return "/sys/fs/cgroup"
    with open("/proc/self/mounts") as f:
        for x in f:
            _, where, kind, options = x.split()[:4]
            if kind == "cgroup" and "cpuacct" in options.split(","):
                return where
    sys.exit("no cgroup hierarchy counts processor time (cpuacct)")


def wait_for(what, why, timeout=30):
    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(why)
        time.sleep(0.005)


class Contender:
    """name, short (a letter for interfaces), subnet (its /16)."""

    def __init__(self, top, name, short, subnet):
        self.name, self.short, self.subnet = name, short, subnet
        self.dir = os.path.join(top, name)
        # As on a node: what a reboot may forget (/run) is in memory.
        self.run = self.dir + "/run"
        self.root, self.state, self.logs = (self.dir + x for x in ("/root", "/run/s", "/logs"))
        self.socket = self.run + "/cri.sock"
        self.cni = self.dir + "/cni"
        self.cgroup = "bench-%s-%d" % (name, os.getpid())
        self.log = self.dir + "/server.log"
        self.pid = None
        for d in (self.root, self.run, self.logs, self.cni):
            os.makedirs(d)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "bench", self.run], check=True)
        self.accounting = os.path.join(accounting(), self.cgroup)
        os.makedirs(self.accounting + "/daemon")
        self.env = dict(os.environ, BENCH_CGROUP="/%s/pods" % self.cgroup, BENCH_LOGS=self.logs,
                        BENCH_IMAGE=IMAGE, BENCH_NAME=name)

    def write_cni(self):
        """bridge with host-local addresses, and portmap, as clusters have it."""
        with open(self.cni + "/10-bench.conflist", "w") as f:
            json.dump({"cniVersion": "0.4.0", "name": "bench-" + self.short, "plugins": [
                {"type": "bridge", "bridge": "gbench" + self.short, "isGateway": True,
                 "ipam": {"type": "host-local", "dataDir": self.dir + "/ipam",
                          "ranges": [[{"subnet": self.subnet}]],
                          "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}, f)

    # --- processes ---

    def _join(self):
        with open(self.accounting + "/daemon/cgroup.procs", "w") as f:
            f.write("0")

    def client(self, *args, join=False):
        """Runs the client; its lines, split."""
        r = subprocess.run([CLIENT, self.socket, *map(str, args)], env=self.env,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           preexec_fn=self._join if join else None)
        if r.returncode:
            raise RuntimeError("%s: %s%s\n%s" % (self.name, r.stdout[-500:], r.stderr,
                                                 self.log_tail()))
        return [x.split() for x in r.stdout.splitlines()]

    def log_tail(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-3000:]

    def start(self, pods=0):
        """Until it serves its pods; microseconds to that, and to a command run in one."""
        out = dict((x[0], int(x[1])) for x in self.client("restart", pods, *self.wrapped(),
                                                          join=True))
        self.pid = out["pid"]
        return out["serving"], out["exec"]

    def wrapped(self):
        """With its output in a file."""
        return ["/bin/sh", "-c", 'exec "$@" >>%s 2>&1' % self.log, "sh", *self.command()]

    def kill(self, how=signal.SIGKILL):
        if self.pid:
            os.kill(self.pid, how)
            wait_for(lambda: not os.path.exists("/proc/%d" % self.pid) or zombie(self.pid),
                     "%s does not end" % self.name)
            self.pid = None

    def pids(self):
        """{pid: cgroup below ours} of everything that belongs to it."""
        found = {}
        for base, _, files in os.walk(self.accounting):
            if "cgroup.procs" in files:
                with open(base + "/cgroup.procs") as f:
                    for x in f:
                        found[int(x)] = base[len(self.accounting):]
        return found

    def cpu_us(self):
        """Processor time of all its processes, dead ones too, in microseconds."""
        if V2:
            with open(self.accounting + "/cpu.stat") as f:
                return int(f.readline().split()[1])
        with open(self.accounting + "/cpuacct.usage") as f:
            return int(f.read()) // 1000

    # --- the end ---

    def close(self):
        try:
            if self.pid:
                self.client("empty", 8)
        except Exception as e:  # the rest is removed all the same
            print("%s: %s" % (self.name, e), file=sys.stderr)
        self.kill()
        for _ in range(50):
            left = self.pids()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        self.remove_network()
        self.unmount()
        for h in hierarchies():
            for base, _, _ in os.walk(os.path.join(h, self.cgroup), topdown=False):
                try:
                    os.rmdir(base)
                except OSError:
                    pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def unmount(self):
        with open("/proc/self/mounts") as f:
            points = [x.split()[1] for x in f if x.split()[1].startswith(self.dir + "/")]
        for p in reversed(points):
            subprocess.run(["umount", "-l", p], stderr=subprocess.DEVNULL)

    def remove_network(self):
        subprocess.run(["ip", "link", "delete", "gbench" + self.short],
                       stderr=subprocess.DEVNULL)


def zombie(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Gantry(Contender):
    def __init__(self, top, name, short, subnet, builtin):
        super().__init__(top, name, short, subnet)
        self.builtin = builtin
        if not builtin:
            self.write_cni()
        with open(self.dir + "/config.yaml", "w") as f:
            f.write("default_runtimes: [crun]\ncgroup:\n  driver: cgroupfs\n"
                    "cni:\n  conf_dir: %s\n  bin_dirs: [%s]\n  netns_dir: %s\n"
                    "bridge:\n  name: gbench%s\n  ipv4: %s\n  ipv6: \"\"\n"
                    % (self.cni, PLUGINS, self.run + "/netns", short, subnet))

    def command(self):
        return [BUILD + "/programs/gantryd/gantryd", "--config", self.dir + "/config.yaml",
                "--root", self.root, "--state", self.state, "--address", self.socket,
                "--log-level", "warn"]

    def load(self, archive):
        self.client("load", archive)

    def remove_network(self):
        super().remove_network()
        h = 2166136261
        for c in self.state.encode():
            h = ((h ^ c) * 16777619) & 0xffffffff
        subprocess.run(["nft", "delete", "table", "inet", "gantry-%08x" % h],
                       stderr=subprocess.DEVNULL)


class Containerd(Contender):
    def __init__(self, top, name, short, subnet):
        super().__init__(top, name, short, subnet)
        self.write_cni()
        with open(self.dir + "/config.toml", "w") as f:
            f.write('''version = 2
root = "%s"
state = "%s"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing"]
[debug]
  level = "warn"
[grpc]
  address = "%s"
[ttrpc]
  address = "%s.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%s"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%s"
    conf_dir = "%s"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "crun"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "%s"
        SystemdCgroup = false
''' % (self.root, self.state, self.socket, self.socket, PAUSE, PLUGINS, self.cni, CRUN))

    def command(self):
        return [shutil.which("containerd"), "--config", self.dir + "/config.toml"]

    def load(self, archive):
        subprocess.run(["ctr", "--address", self.socket, "--namespace", "k8s.io", "images",
                        "import", archive], check=True, stdout=subprocess.DEVNULL)
