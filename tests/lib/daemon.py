# SPDX-License-Identifier: Apache-2.0
"""A gantryd of a test's own: directories, socket, bridge and cgroups of its own."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import runtimes
from cri import SLOW, TOP, Client, api

BUILD = os.environ.get("GANTRY_BUILD", os.path.join(TOP, "build"))


def wait_for(what, timeout=20, every=0.01):
    """The value of what() once it is true; the condition itself is what is waited for."""
    end = time.monotonic() + timeout * SLOW
    while True:
        v = what()
        if v:
            return v
        if time.monotonic() > end:
            raise TimeoutError("waited %s s for %s" % (timeout, what))
        time.sleep(every)


def at_rest(look, seconds=1):
    """The value of look() once it has been the same for so long: a baseline."""
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < seconds * SLOW:
        time.sleep(0.01)
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


def anonymous(pid):
    """kB of memory of its own.  Not Pss: that of the program's own pages changes with every other
    process that runs the same program."""
    with open("/proc/%d/status" % pid) as f:
        status = dict(x.split(":", 1) for x in f)
    return sum(int(status[k].split()[0]) for k in ("RssAnon", "RssShmem"))


def processes_with(word):
    """(pid, command line) of each process on the machine whose command line has this in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                cmd = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in cmd:
            found.append((int(pid), cmd))
    return found


class Daemon:
    def __init__(self, config="", args=(), env=None, start=True):
        while True:
            self.dir = tempfile.mkdtemp(prefix="gt-")
            os.chmod(self.dir, 0o711)  # as /run: roots of user namespaces pass through
            self.root, self.state = self.dir + "/root", self.dir + "/state"
            if self.addresses_are_free():
                break
            os.rmdir(self.dir)
        self.address = self.dir + "/gantry.sock"
        self.logs = self.dir + "/logs"
        os.mkdir(self.logs)
        self.config_file = self.dir + "/config.yaml"
        self.set_config(config)
        self.args, self.env = list(args), dict(os.environ, **(env or {}))
        self.env.setdefault("GANTRY_WATCHDOG", "abort")  # "off" where the machine is emulated
        self.log_file = self.dir + "/gantryd.log"
        self.process = self.cri = None
        self.pods = []
        if start:
            self.start()

    def set_config(self, text):
        base = "image:\n  hosts_dir: %s/hosts\n  auth_file: %s/auth.json\n" % (self.dir, self.dir)
        if "cni:" not in text:
            base = "cni:\n  conf_dir: %s/cni\n  netns_dir: %s/netns\n" % (self.dir, self.dir) + base
        # What a test does not choose itself, who runs the tests may.  The text may go on in `image:`.
        driver, runtime = os.environ.get("GANTRY_TEST_DRIVER"), os.environ.get("GANTRY_TEST_RUNTIME")
        if driver and "cgroup:" not in text:
            base = "cgroup:\n  driver: %s\n" % driver + base
        if runtime and "default_runtimes:" not in text:
            base = runtimes.default(runtime, "runtimes:" not in text) + base
        with open(self.config_file, "w") as f:
            f.write(base + text)

    def start(self, wait=True, stderr=None):
        self.log = open(self.log_file, "ab")
        self.process = subprocess.Popen(
            [BUILD + "/programs/gantryd/gantryd", "--config", self.config_file, "--root",
             self.root, "--state", self.state, "--address", self.address, *self.args],
            stdout=self.log, stderr=self.log if stderr is None else stderr, env=self.env,
            start_new_session=True)
        if wait:
            self.connect()
        return self

    def connect(self):
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError("gantryd ended with %s:\n%s" % (self.process.returncode,
                                                                   self.log_text()))
            return self.accepts()
        wait_for(ready, every=0.002)
        self.cri = Client(self.address)

    def accepts(self):
        """The file of a socket says nothing: a killed daemon's stays, a new one's is there
        before it listens."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.address)
            except OSError:
                return False
            return True

    def log_text(self):
        with open(self.log_file) as f:
            return f.read()

    def sanitized(self):
        """True for a daemon that was built with sanitizers."""
        with open("/proc/%d/maps" % self.process.pid) as f:
            return "libasan" in f.read()

    def kill(self):
        """kill -9 in the middle of whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.cri.close()

    def stop(self, timeout=20):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout * SLOW)
        self.cri.close()
        return status

    def restart(self):
        if self.process.poll() is None:
            self.stop()
        return self.start()

    def close(self):
        """Removes every pod and looks that nothing is left behind."""
        left = []
        try:
            if self.process.poll() is not None:
                self.restart()
            for p in self.cri.ListPodSandbox().items:
                self.cri.RemovePodSandbox(pod_sandbox_id=p.id)
            status = self.stop()
            if status != 0:
                left.append("gantryd ended with %d" % status)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.close()
            left += self.leftovers()
            text = self.log_text()
            watched = self.env["GANTRY_WATCHDOG"] == "abort"
            if (watched and "held up for" in text) or "Sanitizer" in text or "runtime error:" in text:
                left.append("the daemon's log:\n" + text[-6000:])
            for f in glob.glob(self.dir + "/sanitizer.*"):
                with open(f) as found:
                    left.append("%s:\n%s" % (f, found.read()[:8000]))
            subprocess.run(["umount", "-R", "-l", self.state], stderr=subprocess.DEVNULL)
            self.remove_bridge()
            self.remove_slice()
            if not left:
                shutil.rmtree(self.dir, ignore_errors=True)
        assert not left, "left behind: %s" % left

    def remove_bridge(self):
        """A bridge outlives its pods; the next test's may have the same addresses."""
        name = self.instance()
        for cmd in (["ip", "link", "del", "g-" + name[7:]], ["nft", "delete table inet " + name]):
            subprocess.run(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def remove_slice(self):
        """The daemon keeps its cgroup, and systemd a slice when the last scope in it has ended."""
        for path in glob.glob("/sys/fs/cgroup/%s" % self.instance()) + \
                glob.glob("/sys/fs/cgroup/*/%s" % self.instance()):
            try:
                os.rmdir(path)
            except OSError:
                pass  # what is in it was found by leftovers()
        if os.path.isdir("/sys/fs/cgroup/gantry.slice/%s.slice" % self.instance()):
            subprocess.run(["systemctl", "stop", self.instance() + ".slice"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def hash(self):
        h = 2166136261
        for c in self.state.encode():
            h = ((h ^ c) * 16777619) & 0xffffffff
        return h

    def instance(self):
        return "gantry-%08x" % self.hash()

    def addresses_are_free(self):
        """Of the pool that the instance gets: others may run on this machine."""
        pool = " 10.%d.%d." % (89 + self.hash() // 256 % 7, self.hash() % 256)
        return pool not in subprocess.run(["ip", "-4", "-br", "addr"], stdout=subprocess.PIPE,
                                          text=True).stdout

    def leftovers(self):
        """What must not be there when no pod is: mounts, processes, namespaces, files."""
        left = []
        tmp = self.root + "/tmp"
        try:  # a worker may sweep the store: it ends, and takes its directory with it
            wait_for(lambda: not os.path.isdir(tmp) or not os.listdir(tmp), timeout=5)
        except TimeoutError:
            pass  # listed below
        with open("/proc/self/mountinfo") as f:
            left += [x.split()[4] for x in f if (self.dir + "/") in x and x.split()[4] != self.state]
        for d in ("/root/containers", "/state/pods", "/netns", "/root/tmp", "/root/cni",
                  "/state/network/ports"):
            if os.path.isdir(self.dir + d):
                left += [self.dir + d + "/" + x for x in os.listdir(self.dir + d)]
        addresses = self.state + "/network/addresses"
        if os.path.isdir(addresses):
            left += ["address " + x for x in os.listdir(addresses) if x[0] != "."]

        def processes():
            return ["process %d: %s" % (pid, cmd) for pid, cmd in processes_with(self.state)
                    if "pytest" not in cmd and "--config" not in cmd]
        try:
            wait_for(lambda: not processes(), timeout=5)
        except TimeoutError:
            left += processes()
        for base, dirs, _ in os.walk("/sys/fs/cgroup"):
            for name in {self.instance(), self.instance() + ".slice"} & set(dirs):
                top = os.path.join(base, name)
                left += [x.path for x in os.scandir(top) if x.is_dir()]
            if base.count("/") > 4:
                dirs[:] = []
        return left

    # --- short forms ---

    def load(self, path):
        return list(self.cri.Load(path=path, rpc_timeout=120))

    def pod_config(self, name="pod", **kw):
        linux = kw.pop("linux", None)
        ns = kw.pop("namespaces", None)
        c = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, uid="uid-" + name, namespace="test",
                                            attempt=kw.pop("attempt", 0)),
            hostname=kw.pop("hostname", name), log_directory=self.logs + "/" + name, **kw)
        if linux:
            c.linux.CopyFrom(linux)
        c.linux.security_context.namespace_options.pid = api.CONTAINER
        if ns:
            c.linux.security_context.namespace_options.CopyFrom(ns)
        return c

    def run_pod(self, config=None, handler="", **kw):
        c = config or self.pod_config(**kw)
        return self.cri.RunPodSandbox(config=c, runtime_handler=handler).pod_sandbox_id

    def container_config(self, command, name="c", image="test/busybox:latest", **kw):
        linux = kw.pop("linux", None)
        args = command if isinstance(command, list) else ["sh", "-c", command]
        c = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name, attempt=kw.pop("attempt", 0)),
            image=api.ImageSpec(image=image), command=args, log_path=name + ".log", **kw)
        if linux:
            c.linux.CopyFrom(linux)
        if not (linux and linux.security_context.HasField("namespace_options")):
            c.linux.security_context.namespace_options.pid = api.CONTAINER
        return c

    def create(self, pod, command=None, config=None, **kw):
        c = config or self.container_config(command, **kw)
        sandbox = api.PodSandboxConfig()  # as the kubelet says it: with what the pod has by now
        sandbox.linux.security_context.privileged = c.linux.security_context.privileged
        return self.cri.CreateContainer(pod_sandbox_id=pod, config=c,
                                        sandbox_config=sandbox).container_id

    def run(self, pod, command=None, **kw):
        ctr = self.create(pod, command, **kw)
        self.cri.StartContainer(container_id=ctr)
        return ctr

    def status(self, ctr):
        return self.cri.ContainerStatus(container_id=ctr).status

    def wait_exit(self, ctr, timeout=20):
        def exited():
            s = self.status(ctr)
            return s if s.state == api.CONTAINER_EXITED else None
        return wait_for(exited, timeout)

    def exec(self, ctr, *cmd, timeout=10):
        cmd = ["sh", "-c", cmd[0]] if len(cmd) == 1 else list(cmd)
        return self.cri.ExecSync(container_id=ctr, cmd=cmd, timeout=timeout * SLOW)

    def output(self, pod, command, **kw):
        """What a container prints, as text; its log's own fields taken off."""
        ctr = self.run(pod, command, **kw)
        s = self.wait_exit(ctr)
        text = self.read_log(s.log_path)
        self.cri.RemoveContainer(container_id=ctr)
        return s, text

    @staticmethod
    def read_log(path, stream=None):
        out = ""
        with open(path) as f:
            for line in f:
                _, st, tag, text = line.rstrip("\n").split(" ", 3)
                if stream in (None, st):
                    out += text + ("\n" if tag == "F" else "")
        return out

    def info(self, pod):
        return json.loads(self.cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])
