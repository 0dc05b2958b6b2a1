#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A kubelet in standalone mode: static pods from a folder, no API server, a gantryd of its own.

Run as a program it builds the kubelet, and a client of it, where the cache has none yet, and prints
their paths; where they cannot be had it says why, and ends with 77.

What a kubelet would do to the machine stays here: its directories are its own, over the kernel
settings that it changes files are mounted, and its cgroups have a parent of their own. Only with
systemd's driver are they systemd's: such a machine is a test's (tests/guest).

Those files are in a mount namespace that only the kubelet has: no user namespace may have a /proc
of its own where parts of /proc are covered. What the kubelet mounts for pods comes out of it, as
its folder is shared.
"""
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "conformance")]
import tools  # noqa: E402
from cri import SLOW  # noqa: E402

NODE = "node"
ADDRESS = "192.0.2.1"  # the node's, which no kubelet wants to be one of the loopback's
PACKAGE = "k8s.io/kubernetes/cmd/kubelet"
# What the kubelet sets for the whole machine.
TUNABLES = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
            "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
UNIFIED = "/sys/fs/cgroup"  # where all of cgroup v2 is, on a machine that has nothing else
SYSTEMD = ("systemd", "systemctl", "loginctl", "busctl")


def binary():
    return tools.build_module(HERE, PACKAGE, "kubelet")


def client():
    """Streams by the library that kubectl has (client/main.go)."""
    return tools.build_module(HERE, "./client", "kubelet-client")


def hierarchies():
    """Where each hierarchy of cgroups is mounted."""
    with open("/proc/self/mountinfo") as f:
        rows = [line.split() for line in f]
    return sorted({r[4] for r in rows if r[r.index("-") + 1] in ("cgroup", "cgroup2")})


def gather_cgroups():
    """Every hierarchy below one folder, as on a node: tests/ns mounts what was on v2 elsewhere, and
    libraries that the kubelet has look for a cgroup below what they take for the root of all."""
    root = "/sys/fs/cgroup"
    if all((m + "/").startswith(root + "/") for m in hierarchies()):
        return
    new = tempfile.mkdtemp()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "gantry-tests", new], check=True)
    old = hierarchies()
    for m in old:
        at = "%s/%s" % (new, os.path.basename(m))
        os.mkdir(at)
        subprocess.run(["mount", "--bind", m, at], check=True)
    for m in (*old, root):
        subprocess.run(["umount", "-l", m], check=True)
    subprocess.run(["mount", "--move", new, root], check=True)
    os.rmdir(new)


def free_port():
    import registry
    return registry.free_port()


class Cgroups:
    """A parent for the kubelet's cgroups, in every hierarchy."""

    def __init__(self, name):
        self.name = "/" + name
        for top in hierarchies():
            path = top + self.name
            os.makedirs(path, exist_ok=True)
            if os.path.exists(top + "/cgroup.controllers"):
                if top == UNIFIED:  # it wants each controller in its parent
                    with open(top + "/cgroup.controllers") as src, \
                            open(top + "/cgroup.subtree_control", "w") as dst:
                        dst.write(" ".join("+" + c for c in src.read().split()))
                continue
            for f in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(top + "/" + f):
                    with open(top + "/" + f) as src, open(path + "/" + f, "w") as dst:
                        dst.write(src.read())

    def left(self):
        return [d for top in hierarchies() for d, _, _ in os.walk(top + self.name)]

    def close(self):
        """Removes them; returns those in which somebody still is."""
        for path in sorted(self.left(), key=len, reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass
        return self.left()


class Kubelet:
    # Nobody is evicted for what else there is on this machine.
    EVICTION = {"memory.available": "1Mi", "nodefs.available": "1Mi"}

    def __init__(self, daemon, **settings):
        """settings: of the KubeletConfiguration, over those of config()."""
        from daemon import wait_for
        self.wait_for = wait_for
        self.daemon, self.settings = daemon, settings
        self.dir = tempfile.mkdtemp(prefix="gt-kubelet-")
        os.chmod(self.dir, 0o711)
        self.manifests = self.dir + "/manifests"
        for sub in ("manifests", "bin", "sysctl", "links", "devices"):
            os.mkdir(self.dir + "/" + sub)
        self.mounted, self.made = [], []
        self.port, self.healthz = free_port(), free_port()
        self.log_file = self.dir + "/kubelet.log"
        self.surround()
        self.make_path()
        self.cgroups = None if self.systemd() else Cgroups(os.path.basename(self.dir))
        self.process = None
        self.ssl = ssl._create_unverified_context()

    @staticmethod
    def systemd():
        return os.environ.get("GANTRY_TEST_DRIVER") == "systemd"

    # --- its surroundings ---

    def surround(self):
        self.mount("--bind", self.dir, self.dir)
        subprocess.run(["mount", "--make-shared", self.dir], check=True)
        for at, own in (("/var/log/containers", "links"), ("/var/lib/kubelet", "devices")):
            if not os.path.isdir(at):  # no setting says where these are
                os.mkdir(at)
                self.made.append(at)
            self.mount("--bind", self.dir + "/" + own, at)
        subprocess.run(["ip", "addr", "add", ADDRESS + "/32", "dev", "lo"], check=True)

    def command(self):
        """What begins it, between its own kernel settings."""
        script = "set -e\n"
        for name in TUNABLES:
            own = "%s/sysctl/%s" % (self.dir, os.path.basename(name))
            shutil.copyfile("/proc/sys/" + name, own)
            script += "mount --bind %s /proc/sys/%s\n" % (own, name)
        return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
                script + 'exec "$@"', "kubelet"]

    def mount(self, *args):
        subprocess.run(["mount", *args], check=True)
        self.mounted.append(args[-1])

    def make_path(self):
        """Where systemd does not run the kubelet must not find it."""
        if os.path.isdir("/run/systemd/system"):
            self.path = os.environ["PATH"]
            return
        self.path = self.dir + "/bin"
        for d in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
            for name in os.listdir(d) if os.path.isdir(d) else ():
                if not name.startswith(SYSTEMD) and not os.path.lexists(self.path + "/" + name):
                    os.symlink(d + "/" + name, self.path + "/" + name)

    def config(self):
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "staticPodPath": self.manifests, "fileCheckFrequency": "1s",
            "address": "127.0.0.1", "port": self.port, "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1", "healthzPort": self.healthz,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": "unix://" + self.daemon.address,
            "podLogsDir": self.dir + "/logs", "volumePluginDir": self.dir + "/plugins",
            "failCgroupV1": False, "failSwapOn": False,
            "cgroupDriver": "systemd" if self.systemd() else "cgroupfs", "cgroupsPerQOS": True,
            "cgroupRoot": self.cgroups.name if self.cgroups else "/",
            "enforceNodeAllocatable": [],
            "evictionHard": self.EVICTION,
            "imageGCHighThresholdPercent": 100, "imageMaximumGCAge": "0s",
            "syncFrequency": "2s", "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
            "logging": {"verbosity": 4}, "serializeImagePulls": False, "oomScoreAdj": 0,
            **self.settings,
        }

    # --- its life ---

    def start(self, wait=True, flags=(), **settings):
        self.settings = {**self.settings, **settings}
        config = self.dir + "/config.json"
        with open(config, "w") as f:
            json.dump(self.config(), f, indent=1)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), binary(), "--config", config, "--root-dir", self.dir + "/lib",
                 "--cert-dir", self.dir + "/pki", "--hostname-override", NODE, "--node-ip", ADDRESS,
                 "--housekeeping-interval", "2s", *flags],
                stdout=log, stderr=log, env=dict(os.environ, PATH=self.path), cwd=self.dir)
        if wait:
            self.wait_for(self.healthy, timeout=60, every=0.05)
        return self

    def healthy(self):
        if self.process.poll() is not None:
            raise RuntimeError("the kubelet ended with %s:\n%s" % (
                self.process.returncode, self.log_text()[-4000:]))
        try:
            return self.get("/healthz") == "ok"
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30 * SLOW)

    def restart(self, **settings):
        self.stop()
        return self.start(**settings)

    def log_text(self):
        with open(self.log_file, errors="replace") as f:
            return f.read()

    def close(self):
        """Every pod ends, and nothing that the kubelet made stays."""
        left = []
        try:
            if self.process and self.process.poll() is None:
                for f in os.listdir(self.manifests):
                    os.unlink(self.manifests + "/" + f)
                self.wait_for(lambda: not self.daemon.cri.ListContainers(
                    filter={"state": {"state": 1}}).containers, timeout=60)
        finally:
            self.stop()
            for s in self.daemon.cri.ListPodSandbox().items:
                self.daemon.cri.RemovePodSandbox(pod_sandbox_id=s.id)
            for path in self.volumes() + self.mounted[::-1]:
                subprocess.run(["umount", "-l", path], check=False)
            for path in self.made:
                os.rmdir(path)
            subprocess.run(["ip", "addr", "del", ADDRESS + "/32", "dev", "lo"], check=False)
            if self.cgroups:
                left += self.cgroups.close()
            else:
                subprocess.run(["systemctl", "stop", "kubepods.slice"], check=False)
            self.keep_logs()
            if os.environ.get("GANTRY_TEST_KEEP"):
                print("kept: " + self.dir)
            else:
                shutil.rmtree(self.dir, ignore_errors=True)
        assert not left, "left behind: %s" % left

    def keep_logs(self):
        """Where somebody will want to read them (tests/guest)."""
        where = os.environ.get("GANTRY_TEST_LOGS")
        if where:
            os.makedirs(where, exist_ok=True)
            for log in (self.log_file, self.daemon.log_file):
                shutil.copy(log, where)

    def volumes(self):
        with open("/proc/self/mountinfo") as f:
            return [x.split()[4] for x in f if x.split()[4].startswith(self.dir + "/")][::-1]

    # --- its API ---

    def url(self, path, **query):
        return "https://127.0.0.1:%d%s%s" % (self.port, path, "?" + urllib.parse.urlencode(
            query, doseq=True) if query else "")

    def open(self, path, timeout=30, method="GET", **query):
        return urllib.request.urlopen(urllib.request.Request(self.url(path, **query),
                                                             method=method),
                                      timeout=timeout * SLOW, context=self.ssl)

    def get(self, path, **query):
        with self.open(path, **query) as r:
            return r.read().decode()

    def log(self, pod, container, **query):
        return self.get("/containerLogs/default/%s-%s/%s" % (pod, NODE, container), **query)

    def wait_log(self, pod, container, text):
        """It is ready before what it prints has come."""
        self.wait_for(lambda: self.log(pod, container).count("\n") >= text.count("\n"), every=0.05)
        assert self.log(pod, container) == text

    def pods(self):
        return {p["metadata"]["name"][:-len(NODE) - 1]: p
                for p in json.loads(self.get("/pods"))["items"] or ()}

    def metric(self, path, name, **labels):
        """The sum of the samples of a metric that have these labels."""
        total = 0.0
        for line in self.get(path).split("\n"):
            if re.match(re.escape(name) + r"[ {]", line) and all(
                    '%s="%s"' % label in line for label in labels.items()):
                total += float(re.sub(r"^[^ {]*(\{.*\})? ", "", line).split()[0])
        return total

    def probes(self, pod, result, kind="Readiness"):
        """How many have ended so."""
        return self.metric("/metrics/probes", "prober_probe_total", pod="%s-%s" % (pod, NODE),
                           result=result, probe_type=kind)

    def summary(self):
        return json.loads(self.get("/stats/summary"))

    # --- pods ---

    def add(self, pod):
        """A manifest; the same name again is the pod's next one."""
        name = pod["metadata"]["name"]
        hidden = "%s/.%s" % (self.manifests, name)
        with open(hidden, "w") as f:
            json.dump(pod, f)
        os.rename(hidden, "%s/%s.json" % (self.manifests, name))
        return name

    def has(self, name):
        return os.path.exists("%s/%s.json" % (self.manifests, name))

    def remove(self, name):
        os.unlink("%s/%s.json" % (self.manifests, name))

    def status(self, name):
        return self.pods().get(name, {}).get("status", {})

    def container(self, pod, name):
        """Its status as the kubelet tells it, or None."""
        s = self.status(pod)
        for kind in ("containerStatuses", "initContainerStatuses"):
            for c in s.get(kind) or ():
                if c["name"] == name:
                    return c
        return None

    def wait(self, pod, what, timeout=60):
        """The pod's status once what(status) is true."""
        seen = {}

        def good():
            seen.clear()
            seen.update(self.status(pod))
            try:
                return seen if what(seen) else None
            except (KeyError, IndexError, TypeError):
                return None  # not there yet
        try:
            return self.wait_for(good, timeout=timeout, every=0.1)
        except TimeoutError:
            raise AssertionError("%s became no such thing; its status:\n%s\nthe kubelet:\n%s" % (
                pod, json.dumps(seen, indent=1),
                "\n".join(x for x in self.log_text().split("\n") if pod in x)[-4000:])) from None

    def wait_ready(self, pod, timeout=60):
        return self.wait(pod, lambda s: any(c["type"] == "Ready" and c["status"] == "True"
                                            for c in s["conditions"]), timeout)

    def wait_gone(self, pod, timeout=60):
        """Neither the kubelet nor the runtime has it running any more."""
        self.wait_for(lambda: pod not in self.pods() and not self.sandboxes(pod, ready=True),
                      timeout=timeout, every=0.1)

    def selector(self, pod):
        """The labels of what is its. Of a pod of another file, which had that name, there may be
        something until it is collected: while the kubelet knows the pod, it is this one alone."""
        labels = {"io.kubernetes.pod.name": "%s-%s" % (pod, NODE)}
        known = self.pods().get(pod)
        if known:
            labels["io.kubernetes.pod.uid"] = known["metadata"]["uid"]
        return {"label_selector": labels}

    def sandboxes(self, pod, ready=False):
        return [s for s in self.daemon.cri.ListPodSandbox(filter=self.selector(pod)).items
                if not ready or s.state == 0]

    def containers(self, pod):
        """What the runtime has of it, the last ones first."""
        found = self.daemon.cri.ListContainers(filter=self.selector(pod)).containers
        return sorted(found, key=lambda c: -c.metadata.attempt)


def main():
    try:
        print(binary(), client())
    except tools.Unavailable as e:
        print("no kubelet: %s" % " ".join(str(e).split()))
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
