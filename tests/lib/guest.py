# SPDX-License-Identifier: Apache-2.0
"""A whole Debian machine in QEMU: systemd, cgroup v2, AppArmor, real reboots and power cuts.

    with Guest("build/guest/mine", release="12") as g:
        g.boot()
        g.install("build/packages/12/gantry_0.1.0_amd64.deb")
        print(g.run("gantry info").out)
        g.reboot()

Commands go over a virtio-serial port to tests/guest-agent; there is no network. The disk is the
cached one of tests/guest-disk with a layer of the machine's own on top. Timeouts are in seconds
of a machine with KVM; an emulated one gets SLOW times as much.
"""
import base64
import fcntl
import glob
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
import tty

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QEMU = "qemu-system-x86_64"
SLOW = 8
CHUNK = 48 << 10
INSIDE = "/opt/gantry"  # where put_tests() puts them


class Unavailable(Exception):
    """No machine can be had here; its text is the reason for skipping."""


class GuestError(Exception):
    """A machine that does not do what is asked for: no boot, no answer in time."""


class Gone(GuestError):
    """The machine went down under a command: a reboot, a power cut, a crash."""


class Failed(GuestError, AssertionError):
    """A command ended with a status that is not 0."""


class Result:
    def __init__(self):
        self.status, self._out, self._err = None, [], []

    @property
    def out(self):
        return b"".join(self._out).decode(errors="replace")

    @property
    def err(self):
        return b"".join(self._err).decode(errors="replace")


def kvm_works(kernel):
    """That /dev/kvm is there says little, and firmware that runs under it not much more: does
    this kernel begin to speak? What was found holds until the host is booted again."""
    with open("/proc/sys/kernel/random/boot_id") as f:
        boot = f.read().strip()
    known = os.path.join(os.path.dirname(kernel), "kvm")
    try:
        with open(known) as f:
            at, answer = f.read().split()
            if at == boot:
                return answer == "works"
    except (OSError, ValueError):
        pass
    answer = os.access("/dev/kvm", os.R_OK | os.W_OK) and try_kvm(kernel)
    with open(known, "w") as f:
        f.write("%s %s\n" % (boot, "works" if answer else "no"))
    return answer


def try_kvm(kernel, timeout=8):
    with tempfile.NamedTemporaryFile() as said:
        p = subprocess.Popen(
            [QEMU, "-accel", "kvm", "-cpu", "host", "-nodefaults", "-display", "none", "-m", "256",
             "-no-reboot", "-kernel", kernel, "-append", "console=ttyS0 earlyprintk=serial panic=-1",
             "-serial", "file:" + said.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                with open(said.name, "rb") as f:
                    if b"Linux version" in f.read():
                        return True
                if p.poll() is not None:
                    return False
                time.sleep(0.02)
            return False
        finally:
            p.kill()
            p.wait()


def make_disk(release):
    """The cached disk of a release: its path. Raises Unavailable where it cannot be had."""
    if not shutil.which(QEMU):
        raise Unavailable("%s is not installed" % QEMU)
    r = subprocess.run([os.path.join(TOP, "tests", "guest-disk"), release],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        raise (Unavailable if r.returncode == 77 else GuestError)(
            "no disk of Debian %s: %s" % (release, r.stderr.strip()[-2000:]))
    return r.stdout.strip().splitlines()[-1]


class Guest:
    """directory: of this machine's own, for its disk, its sockets and what it says."""

    def __init__(self, directory, release="12", memory=2048, cpus=2, disk=None):
        self.dir, self.release = os.path.abspath(directory), release
        self.memory, self.cpus = memory, cpus
        for tool in (QEMU, "qemu-img"):
            if not shutil.which(tool):
                raise Unavailable("%s is not installed" % tool)
        os.makedirs(self.dir, exist_ok=True)
        self.overlay = self.dir + "/disk.qcow2"
        self.base = disk or make_disk(release)
        self.base_lock = open(self.base, "rb")  # tests/guest-disk leaves it alone
        fcntl.flock(self.base_lock, fcntl.LOCK_SH)
        self.kvm = kvm_works(self.stem() + ".vmlinuz")
        self.slow = 1 if self.kvm else SLOW
        self.qemu = self.link = self.boot_id = None
        self.boots = queue.Queue()
        self.answers, self.next_id, self.lock = {}, 0, threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()

    # --- power ---

    def boot(self, fresh=True, timeout=60):
        """Switched on; returns when commands can be run. fresh: with a new disk."""
        assert self.qemu is None, "it runs already"
        if fresh:
            if os.path.exists(self.overlay):
                os.unlink(self.overlay)
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                            self.base, self.overlay], check=True)
        for name in ("agent", "qmp"):
            if os.path.exists(self.dir + "/" + name):
                os.unlink(self.dir + "/" + name)
        self.boots = queue.Queue()
        with open(self.dir + "/qemu.log", "ab") as log:
            self.qemu = subprocess.Popen(self.command(), cwd=self.dir, stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, start_new_session=True)
        try:
            self.connect()
            return self.wait_boot(timeout)
        except BaseException:
            self.power_cut()
            raise

    def stem(self):
        return self.base[:-len(".img")]

    def command(self):
        """What is not flushed is lost when QEMU is killed: with the guest's memory what its
        kernel has not written yet, and with QEMU's own (the tables of new clusters, which it
        writes where the guest flushes) what its disk has not been told to keep."""
        accel = ["-accel", "kvm", "-cpu", "host"] if self.kvm else \
            ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]
        return [
            "setpriv", "--pdeathsig", "KILL", QEMU, "-name", "gantry-guest", "-nodefaults", "-no-user-config", "-display", "none",
            *accel, "-smp", str(self.cpus), "-m", str(self.memory), "-net", "none",
            "-kernel", self.stem() + ".vmlinuz", "-initrd", self.stem() + ".initrd",
            "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 "
                       "apparmor=1 security=apparmor panic=1 " + ("" if self.kvm else "nowatchdog"),
            "-drive", "file=disk.qcow2,if=virtio,format=qcow2,cache=writeback,discard=unmap",
            "-device", "virtio-rng-pci",
            "-chardev", "file,id=serial,path=serial.log,append=on", "-serial", "chardev:serial",
            "-qmp", "unix:qmp,server=on,wait=off",
            "-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=agent,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=gantry.agent"]

    def connect(self):
        end = time.monotonic() + 30
        self.link = socket.socket(socket.AF_UNIX)
        at = os.open(self.dir, os.O_PATH)  # the path of a socket is short
        try:
            while True:
                if self.qemu.poll() is not None:
                    raise GuestError("QEMU ended with %d: %s" % (
                        self.qemu.returncode, self.tail("qemu.log")))
                try:
                    self.link.connect("/proc/self/fd/%d/agent" % at)
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
        finally:
            os.close(at)
        threading.Thread(target=self.listen, args=(self.link, self.boots), daemon=True).start()

    def wait_boot(self, timeout=60):
        """Until the next boot says hello; returns its boot id."""
        try:
            said = self.boots.get(timeout=timeout * self.slow)
        except queue.Empty:
            raise GuestError("no boot in %d s; it said: %s" % (
                timeout * self.slow, self.tail("serial.log"))) from None
        if said is None:
            raise GuestError("QEMU ended with %d: %s%s" % (
                self.qemu.wait(), self.tail("qemu.log"), self.tail("serial.log")))
        self.boot_id = said
        return said

    def reboot(self, timeout=120):
        """`systemctl reboot`, as a person does it; returns when commands can be run again."""
        try:
            self.run("systemctl reboot", check=False, timeout=timeout)
        except Gone:
            pass
        return self.wait_boot(timeout)

    def power_cut(self):
        """The plug is pulled: what was not flushed is lost. boot(fresh=False) goes on."""
        if self.qemu is None:
            return
        self.qemu.kill()
        self.ended()

    def shutdown(self, timeout=120):
        """Powered off, with everything written."""
        try:
            self.run("systemctl poweroff", check=False, timeout=timeout)
        except Gone:
            pass
        try:
            self.qemu.wait(timeout * self.slow)
        except subprocess.TimeoutExpired:
            self.power_cut()
            raise GuestError("it was not off in %d s" % (timeout * self.slow)) from None
        self.ended()

    def ended(self):
        self.qemu.wait()
        self.link.close()
        self.qemu = self.link = None
        self.drop()

    def close(self):
        """Whatever it is doing, it is off afterwards. Its directory stays: see remove_disk()."""
        if self.qemu:
            self.power_cut()

    def remove_disk(self):
        for name in ("disk.qcow2", "agent", "qmp"):
            if os.path.exists(os.path.join(self.dir, name)):
                os.unlink(os.path.join(self.dir, name))

    def qmp(self, command, **arguments):
        """A command of QEMU's machine protocol; its answer."""
        at = os.open(self.dir, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(30)
                s.connect("/proc/self/fd/%d/qmp" % at)
                f = s.makefile("rw")
                f.readline()
                for c in ({"execute": "qmp_capabilities"},
                          {"execute": command, "arguments": arguments}):
                    f.write(json.dumps(c) + "\n")
                    f.flush()
                    while not {"return", "error"} & set(m := json.loads(f.readline())):
                        pass
                if "error" in m:
                    raise GuestError("%s: %s" % (command, m["error"]))
                return m["return"]
        finally:
            os.close(at)

    def tail(self, name, size=2000):
        try:
            with open(os.path.join(self.dir, name), errors="replace") as f:
                return f.read()[-size:]
        except OSError:
            return ""

    # --- commands ---

    def listen(self, link, boots):
        held = b""
        while True:
            try:
                data = link.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                boots.put(None)
                self.drop()
                return
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                try:
                    m = json.loads(line)
                except ValueError:
                    continue  # the end of what a past boot said
                if "hello" in m:
                    self.drop()
                    boots.put(m["hello"])
                elif m.get("id") in self.answers:
                    self.answers[m["id"]].put(m)

    def drop(self):
        """Commands that run: their machine is gone."""
        with self.lock:
            for q in self.answers.values():
                q.put(None)

    def send(self, **message):
        try:
            self.link.sendall(json.dumps(message).encode() + b"\n")
        except (OSError, AttributeError):
            raise Gone("the machine is off") from None

    def feed(self, number, stdin):
        try:
            while data := stdin.read(CHUNK):
                self.send(id=number, **{"in": base64.b64encode(data).decode()})
            self.send(id=number, **{"in": ""})
        except Gone:
            pass

    def run(self, command, check=True, timeout=60, env=None, cwd="/root", stdin=None, sink=None):
        """A command (text for bash, or a list) and its Result. check: a status that is not 0
        raises Failed. stdin: a binary file. sink: is called with each piece of output, as bytes,
        which the result has none of then. Raises Gone when the machine goes down under it."""
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        answers, result = queue.Queue(), Result()
        with self.lock:
            self.next_id += 1
            number = self.next_id
            self.answers[number] = answers
        try:
            self.send(id=number, run=argv, env=env or {}, cwd=cwd)
            if stdin:
                threading.Thread(target=self.feed, args=(number, stdin), daemon=True).start()
            else:
                self.send(id=number, **{"in": ""})
            self.collect_answers(number, answers, result, command, timeout, sink)
        finally:
            with self.lock:
                del self.answers[number]
        if check and result.status:
            raise Failed("%s: ended with %d\n%s%s" % (command, result.status, result.out[-6000:],
                                                      result.err[-6000:]))
        return result

    def collect_answers(self, number, answers, result, command, timeout, sink):
        end = time.monotonic() + timeout * self.slow
        while result.status is None:
            try:
                m = answers.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                self.send(id=number, kill=signal.SIGKILL)
                raise GuestError("%s: has not ended in %d s\n%s%s" % (
                    command, timeout * self.slow, result.out[-3000:], result.err[-3000:])) from None
            if m is None:
                raise Gone("%s: the machine went down\n%s" % (command, result.out[-3000:]))
            for name, held in (("out", result._out), ("err", result._err)):
                if name in m:
                    data = base64.b64decode(m[name])
                    if sink:
                        sink(data)
                    else:
                        held.append(data)
            result.status = m.get("status")

    def wait_for(self, condition, timeout=60, every=0.2):
        """Until a command of the shell succeeds: tried there, not from here."""
        return self.run("until out=$(%s 2>&1); do sleep %s; done; printf '%%s' \"$out\"" %
                        (condition, every), timeout=timeout).out

    def shell(self):
        """A shell of a person at this terminal; returns when it ends."""
        size = os.get_terminal_size()
        old = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            with open(0, "rb", buffering=0, closefd=False) as keys:
                return self.run(
                    ["script", "-qefc", "stty rows %d cols %d; exec bash -l" % size[::-1],
                     "/dev/null"], check=False, timeout=1 << 20, stdin=keys,
                    env={"TERM": os.environ.get("TERM", "dumb"), "HOME": "/root"},
                    sink=lambda b: os.write(1, b)).status
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, old)

    # --- files ---

    def put(self, sources, directory, base=None, exclude=()):
        """Files and folders of the host into a directory there; those of `base` with the folders
        that they are named with."""
        sources = [sources] if isinstance(sources, str) else sources
        named = ["-C", base, *sources] if base else \
            [x for s in map(os.path.abspath, sources)
             for x in ("-C", os.path.dirname(s), os.path.basename(s))]
        tar = subprocess.Popen(["tar", "-c", "--owner=0", "--group=0",
                                *["--exclude=" + e for e in exclude], *named],
                               stdout=subprocess.PIPE)
        try:
            self.run("mkdir -p '%s' && tar -x --no-same-owner -C '%s'" % (directory, directory),
                     stdin=tar.stdout, timeout=300)
        finally:
            tar.stdout.close()
            if tar.wait():
                raise GuestError("tar of %s failed" % sources)

    def write(self, path, text, mode=0o644):
        """A file there, with its folder."""
        import io
        self.run("mkdir -p \"$(dirname '%s')\" && cat >'%s' && chmod %o '%s'" %
                 (path, path, mode, path), stdin=io.BytesIO(text.encode()))

    def get(self, path, destination):
        """A file or folder from there, into a directory of the host."""
        os.makedirs(destination, exist_ok=True)
        tar = subprocess.Popen(["tar", "-x", "--no-same-owner", "-C", destination],
                               stdin=subprocess.PIPE)
        try:
            self.run(["tar", "-c", "-C", os.path.dirname(path), os.path.basename(path)],
                     sink=tar.stdin.write, timeout=300)
        finally:
            tar.stdin.close()
            tar.wait()

    # --- gantry ---

    def install(self, packages):
        """Debian packages of the host, as a person installs them; offline, so that what they
        depend on has to be there."""
        self.put(packages, "/root/packages")
        return self.run("DEBIAN_FRONTEND=noninteractive apt-get -q -y install "
                        "--no-install-recommends /root/packages/*.deb", timeout=120)

    def install_tree(self, build):
        """Without a package: what a build directory of meson installs."""
        with tempfile.TemporaryDirectory() as tmp:
            os.chmod(tmp, 0o755)  # it becomes that of /, which everybody passes through
            subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet",
                            "--destdir", tmp], check=True, stdout=subprocess.DEVNULL)
            self.put(".", "/", base=tmp)
        self.run("systemctl daemon-reload && systemctl enable --now gantry.service", timeout=60)

    def put_tests(self, build):
        """The tests, and a build with their hooks, below INSIDE."""
        self.put(["tests", "proto", "scripts", "docs"], INSIDE, base=TOP,
                 exclude=["__pycache__", ".cache"])
        self.put(".", INSIDE + "/build", base=build,
                 exclude=["*.p", "meson-*", "*.o", "tests-gen", "logs", "results", "guest",
                          "packages"])

    def diagnose(self, directory=None):
        """Journal, kernel messages and units into files of the host; returns what went wrong
        with that, which is no error of its own."""
        directory = directory or self.dir
        wrong = []
        for name, command in (("journal.log", "journalctl --no-pager -o short-precise"),
                              ("dmesg.log", "dmesg"),
                              ("units.log", "systemctl --no-pager --failed; systemctl status --no-pager")):
            try:
                with open(os.path.join(directory, name), "wb") as f:
                    self.run(command, check=False, sink=f.write, timeout=60)
            except (GuestError, OSError) as e:
                wrong.append("%s: %s" % (name, e))
        return wrong


def packages_of(release):
    """The packages that scripts/package made, or []."""
    found = glob.glob(os.path.join(TOP, "build", "packages", release, "gantry_*.deb"))
    return [f for f in found if not re.search(r"-dbgsym_", f)]
