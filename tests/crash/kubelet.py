# SPDX-License-Identifier: Apache-2.0
"""What a kubelet does to one pod: looks, does what is missing, and does it again when it fails."""
import http.server
import os
import sqlite3
import threading
import time

import grpc

import frames
import image
from cri import api
from daemon import Daemon, wait_for

TRIES = 12
INSTANCE = ("bridge.ready", "lock")  # of the bridge, not of a pod; report-*: of a runtime


class Registry:
    """One image over HTTP: enough of the distribution protocol for an anonymous pull."""

    def __init__(self, img):
        blobs, manifest = img.blobs, img.manifest

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                last = self.path.rsplit("/", 1)[1]
                data = manifest if last == "latest" else blobs.get(last, b"")
                if self.path == "/v2/":
                    data = b"{}"
                self.send_response(200 if data else 404)
                self.send_header("Content-Type", img.media_type if data == manifest
                                 else "application/octet-stream")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.ref = "127.0.0.1:%d/small:latest" % self.server.server_port

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def small_image():
    layer = image.Layer().dir("etc").add("etc/small", "one file\n")
    return image.Image([layer.bytes()], {"Cmd": ["/none"]})


# Counts, and says goodbye; one that ends by itself with a code of its own.
LONG = "trap 'echo bye; exit 7' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"
SHORT = "echo short; exit 42"


IDS = [api.IDMapping(host_id=0x40000000, container_id=0, length=65536)]
USERNS = api.UserNamespace(mode=api.POD, uids=IDS, gids=IDS)


class Kubelet:
    def __init__(self, d, name="pod", userns=False):
        """With `userns`: the pod has a user namespace, its containers a volume with mapped ids."""
        self.d, self.name, self.userns = d, name, userns
        os.makedirs(d.dir + "/volume", exist_ok=True)
        self.pod = None
        self.attempts = 0

    # --- the daemon may be dead ---

    def revive(self):
        """Starts it again where it has died."""
        d = self.d
        if d.process.poll() is None:
            return
        d.cri.close()
        d.start()

    def attempt(self, fn):
        for i in range(TRIES):
            try:
                r = fn()
                self.settle()
                return r
            except (grpc.RpcError, Again) as e:
                last = e
                self.settle()
        raise last

    def settle(self):
        """A process that was killed takes a moment to be dead."""
        end = time.monotonic() + 0.05
        while self.d.process.poll() is None and time.monotonic() < end:
            if self.d.accepts():
                return
        self.revive()

    # --- one pod ---

    def pods(self):
        return [p for p in self.d.cri.ListPodSandbox().items if p.metadata.name == self.name]

    def containers(self, name):
        return [c for c in self.d.cri.ListContainers(
            filter=api.ContainerFilter(pod_sandbox_id=self.pod)).containers
            if c.metadata.name == name]

    def sync_sandbox(self):
        ready = []
        for p in self.pods():
            if p.state == api.SANDBOX_READY:
                ready.append(p.id)
                continue
            self.d.cri.StopPodSandbox(pod_sandbox_id=p.id)
            self.d.cri.RemovePodSandbox(pod_sandbox_id=p.id)
        assert len(ready) <= 1, "made twice"
        if ready:
            self.pod = ready[0]
            return
        self.attempts += 1
        c = self.d.pod_config(name=self.name, attempt=self.attempts,
                              namespaces=api.NamespaceOption(
                                  pid=api.POD, userns_options=USERNS if self.userns else None))
        self.pod = self.d.run_pod(c)

    def make(self, name, command, pid):
        self.attempts += 1
        c = self.d.container_config(command, name=name, attempt=self.attempts)
        c.log_path = "%s-%d.log" % (name, self.attempts)
        c.linux.security_context.namespace_options.pid = pid
        ids = {"uidMappings": IDS, "gidMappings": IDS} if self.userns else {}
        c.mounts.add(container_path="/image", image={"image": "test/busybox:latest"},
                     image_sub_path="etc", readonly=True, **ids)
        if self.userns:
            c.linux.security_context.namespace_options.userns_options.CopyFrom(USERNS)
            c.mounts.add(container_path="/volume", host_path=self.d.dir + "/volume",
                         uidMappings=IDS, gidMappings=IDS)
        return self.d.create(self.pod, config=c)

    def sync_container(self, name, command, pid, good):
        have = self.containers(name)
        assert len(have) <= 1, "made twice"
        ctr = have[0].id if have else self.make(name, command, pid)
        s = self.d.status(ctr)
        if s.state == api.CONTAINER_CREATED:
            self.d.cri.StartContainer(container_id=ctr)
            s = self.d.status(ctr)
        if s.state == api.CONTAINER_EXITED and not good(s):
            self.d.cri.RemoveContainer(container_id=ctr)
            raise Again("%s ended with %d, %s" % (name, s.exit_code, s.reason))
        return ctr

    def sync(self):
        self.sync_sandbox()
        self.long = self.sync_container("long", LONG, api.POD, lambda s: False)
        self.short = self.sync_container("short", SHORT, api.CONTAINER,
                                         lambda s: s.exit_code == 42)
        status = self.d.cri.PodSandboxStatus(pod_sandbox_id=self.pod).status
        if status.state != api.SANDBOX_READY:
            raise Again("not ready")

    def exec(self):
        r = self.d.exec(self.long, "echo out; echo err >&2; exit 3")
        assert (r.stdout, r.stderr, r.exit_code) == (b"out\n", b"err\n", 3)

    def session(self, *cmd, **kw):
        return frames.Session(self.d, self.d.cri.Exec(container_id=self.long, cmd=cmd, **kw).url)

    def attach(self):
        return frames.Session(self.d, self.d.cri.Attach(container_id=self.long, stdout=True).url)

    def stream(self):
        """An exec that comes to its end, and one whose client goes away; the same of attached ones;
        a port that nobody listens on."""
        try:
            with frames.Session(self.d, self.d.cri.PortForward(pod_sandbox_id=self.pod).url) as f:
                self.nobody(f)
            with self.attach() as s:
                s.read(s.stdout, b"\n")
            with self.session("sh", "-c", "read x; echo $x; exit 4", stdin=True, stdout=True) as s:
                s.write(b"word\n")
                code, out = s.end(), s.read(s.stdout)
            with self.session("sleep", "9999", stdin=True, tty=True):
                pass
        except (OSError, frames.Refused, AssertionError) as e:
            raise Again("a session was cut off: %s" % e)
        if code is None:
            raise Again("a session was cut off")
        assert (code, out) == (4, b"word\n")
        wait_for(lambda: b"9999" not in self.d.exec(self.long, "ps -o args").stdout)

    @staticmethod
    def nobody(f):
        try:
            f.connect(8080)
        except frames.Refused as e:
            if e.code != grpc.StatusCode.UNAVAILABLE.value[0] or "port 8080" not in e.message:
                raise

    def attached_end(self):
        """The container is stopped while somebody is attached."""
        try:
            with self.attach() as s:
                self.d.cri.StopContainer(container_id=self.long, timeout=20)
                code, out = s.end(), s.read(s.stdout)
                assert code is None or (code, out[-4:]) == (7, b"bye\n"), (code, out)
        except (OSError, ValueError, grpc.RpcError, frames.Refused):
            pass  # killed meanwhile: stopped again below

    def up(self):
        """Running, and the short one has ended as it does by itself."""
        def once():
            self.sync()
            s = self.d.wait_exit(self.short)
            if s.reason == "Unknown":  # its monitor was killed
                raise Again("nobody saw how it ended")
            assert (s.exit_code, s.reason) == (42, "Error")
            assert self.d.read_log(s.log_path) == "short\n"
            self.exec()
            if "GANTRY_LIBEXEC" in self.d.env:  # with the stand-in
                self.stream()
        self.attempt(once)

    def stopped(self):
        """Its output is whole, and its exit code its own."""
        if "GANTRY_LIBEXEC" in self.d.env:
            self.attached_end()
            self.settle()
        self.attempt(lambda: self.d.cri.StopContainer(container_id=self.long, timeout=20))
        s = self.attempt(lambda: self.d.status(self.long))
        assert s.state == api.CONTAINER_EXITED
        words = self.d.read_log(s.log_path).split()
        if s.reason != "Unknown":
            assert s.exit_code == 7
            assert words.pop() == "bye"
        assert words == [str(i) for i in range(len(words))]

    def removed(self):
        d = self.d
        self.attempt(lambda: d.cri.RemoveContainer(container_id=self.short))
        self.attempt(lambda: d.cri.StopPodSandbox(pod_sandbox_id=self.pod))
        self.attempt(lambda: d.cri.RemovePodSandbox(pod_sandbox_id=self.pod))
        assert not self.attempt(self.pods)


class Again(Exception):
    pass


def clean(d):
    """Nothing is left of any pod, in the index and beside it."""
    end = time.monotonic() + 5
    while True:
        left = d.leftovers() + other_leftovers(d)
        if not left or time.monotonic() > end:
            break
        time.sleep(0.01)
    assert not left, left


def other_leftovers(d):
    left = [os.path.join(p, f) for p in ("state/network", "state/runtime")
            for base, _, files in os.walk(os.path.join(d.dir, p)) for f in files
            if not f.startswith((".last", "report-")) and not f.endswith(".lock") and f not in INSTANCE]
    with sqlite3.connect("file:%s/index.db?mode=ro" % d.root, uri=True) as db:
        for table in ("pods", "containers"):
            left += ["%s: %s" % (table, r) for r in db.execute("SELECT id, state FROM " + table)]
    return left


def daemon(env=None):
    """Running; it may have died once at its start."""
    d = Daemon(env=env, start=False)
    try:
        d.start()
    except RuntimeError:
        if d.process.poll() != -9:
            raise
        d.start()
    return d
