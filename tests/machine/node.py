#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the machine of test_reboot.py and test_poweroff.py, and does what a kubelet does.

    node.py states         brings pods, containers and pulls into all the states that a machine can
                           go down in, says READY and the facts as JSON, and holds them
    node.py after FACTS    after the next boot; FACTS: that JSON, and "exact": true where the disk
                           had all of it
    node.py churn SEED     makes and removes pods and pulls images without an end, and says what is
                           done as lines "pulled NAME", "running POD"
    node.py survived SEED NAME...    after the next boot: those images had been pulled

What is wrong is an exception, whose text is what was found. Standard library and tests/lib only.
"""
import glob
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import grpc  # noqa: E402

import image  # noqa: E402
from cri import Client, api  # noqa: E402
from registry import Registry, stall  # noqa: E402

BUSYBOX, IMAGE = "/root/busybox", "test/busybox:latest"
ROOT, STATE, LOGS = "/var/lib/gantry", "/run/gantry", "/var/log/pods"
CONF, LEASES = "/etc/cni/net.d/10-reboot.conflist", "/var/lib/cni/networks/reboot"
REGISTRY_PORT = 5055
STOP = 10  # seconds
WAIT = 300  # seconds: an emulated machine beside others is slow

CONFLIST = {
    "cniVersion": "1.0.0", "name": "reboot",
    "plugins": [
        {"type": "bridge", "bridge": "cni-reboot", "isGateway": True, "ipMasq": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/28"}]],
                  "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "gate"}]}

# The last plugin of the list: passes everything on, but hangs for pods that are to hang.
GATE = '''#!/usr/bin/python3 -SE
import json, os, sys, time
conf = json.load(sys.stdin)
if os.environ["CNI_COMMAND"] == "VERSION":
    print('{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}')
if os.environ["CNI_COMMAND"] == "ADD":
    if "K8S_POD_NAME=hang" in os.environ.get("CNI_ARGS", ""):
        open("/run/in-add", "w").close()
        time.sleep(100000)
    print(json.dumps(conf["prevResult"]))
'''

# A runtime that hangs in what it is told to hang in, for as long as the machine runs.
SLOW = '''#!/bin/sh
for a; do
	case $a in create | start)
		if [ -e "/run/hang-$a" ]; then
			>"/run/in-$a"
			exec sleep 100000
		fi ;;
	esac
done
exec crun "$@"
'''


def wait_for(what, timeout=WAIT, every=0.1):
    end = time.monotonic() + timeout
    while not (v := what()):
        if time.monotonic() > end:
            raise TimeoutError("waited %d s for %s" % (timeout, getattr(what, "__name__", what)))
        time.sleep(every)
    return v


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


def names(directory):
    return [x for x in os.listdir(directory) if x[0] != "."] if os.path.isdir(directory) else []


def fetch(port):
    with urllib.request.urlopen("http://127.0.0.1:%d/hello" % port, timeout=60) as r:
        return r.read().decode()


# --- images whose content follows from their names ---

def make_image(name, size=1 << 18, layers=2):
    """busybox, and layers with files of noise whose sums stand in /data/SUMS."""
    rnd, tars, sums = random.Random(name), [image.busybox_layer(BUSYBOX).bytes()], ""
    for i in range(layers):
        layer = image.Layer()
        layer.dir("data")
        for k in range(8):
            data, path = rnd.randbytes(size // 8 + k), "data/%d-%d" % (i, k)
            layer.add(path, data)
            sums += "%s  /%s\n" % (hashlib.sha256(data).hexdigest(), path)
        if i == layers - 1:
            layer.add("data/SUMS", sums)
        tars.append(layer.bytes())
    return image.Image(tars)


class Node:
    def __init__(self):
        self.cri = Client(STATE + "/gantry.sock")
        self.registry = None

    def serve(self, *images):
        if not self.registry:
            self.registry = Registry(port=REGISTRY_PORT)
        return [self.registry.add(make_image(name), name) for name in images]

    def pull(self, ref):
        return self.cri.PullImage(image=api.ImageSpec(image=ref), rpc_timeout=WAIT).image_ref

    def pod_config(self, name, attempt=0, port=0, shared=False):
        c = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, uid="uid-" + name, namespace="test",
                                            attempt=attempt),
            hostname=name, log_directory="%s/test_%s_uid-%s" % (LOGS, name, name))
        if port:
            c.port_mappings.add(host_port=port, container_port=80)
        c.linux.security_context.namespace_options.pid = api.POD if shared else api.CONTAINER
        return c

    def run_pod(self, *args, handler="", **kw):
        """As the kubelet does, again where a runtime's probe took too long: while an emulated
        machine boots, everything does."""
        def run():
            try:
                return self.cri.RunPodSandbox(
                    config=self.pod_config(*args, **kw), runtime_handler=handler,
                    rpc_timeout=WAIT).pod_sandbox_id
            except grpc.RpcError as e:
                if "no end in" not in e.details():
                    raise
                print(e.details(), flush=True)
                return None
        return wait_for(run, every=5)

    def container_config(self, command, name="c", ref=IMAGE):
        c = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name), image=api.ImageSpec(image=ref),
            command=["sh", "-c", command], log_path=name + ".log")
        c.linux.security_context.namespace_options.pid = api.CONTAINER
        return c

    def create(self, pod, *args, **kw):
        return self.cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=api.PodSandboxConfig(),
                                        config=self.container_config(*args, **kw),
                                        rpc_timeout=WAIT).container_id

    def run(self, pod, *args, **kw):
        c = self.create(pod, *args, **kw)
        self.cri.StartContainer(container_id=c, rpc_timeout=WAIT)
        return c

    def serve_web(self, pod, text):
        return self.run(pod, "mkdir /www; echo %s > /www/hello; exec httpd -f -p 80 -h /www" % text,
                        name="web")

    def status(self, ctr):
        return self.cri.ContainerStatus(container_id=ctr).status

    def wait_exit(self, ctr):
        def ended():
            s = self.status(ctr)
            return s if s.state == api.CONTAINER_EXITED else None
        return wait_for(ended)

    def pods(self):
        return {p.id: p for p in self.cri.ListPodSandbox().items}

    def containers(self, pod=""):
        return {c.id: c for c in self.cri.ListContainers(
            filter=api.ContainerFilter(pod_sandbox_id=pod)).containers}

    def images(self):
        return sorted(t for i in self.cri.ListImages().images for t in i.repo_tags)

    def verify(self, ref, port=0):
        """A pod of today runs from the image, and every byte of its layers is what it was."""
        p = self.run_pod("verify-%d" % time.monotonic_ns(), port=port)
        c = self.run(p, "sha256sum -c /data/SUMS >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }; "
                        "ls /data | wc -l", ref=ref)
        s = self.wait_exit(c)
        with open(s.log_path) as f:
            said = f.read()
        assert s.exit_code == 0 and said.split()[-1] == "17", "%s: %s" % (ref, said)
        self.remove(p)

    def remove(self, pod):
        """As the kubelet does it; no step of it may fail."""
        for c in self.containers(pod):
            self.cri.StopContainer(container_id=c, timeout=0, rpc_timeout=WAIT)
        self.cri.StopPodSandbox(pod_sandbox_id=pod, rpc_timeout=WAIT)
        for c in self.containers(pod):
            self.cri.RemoveContainer(container_id=c, rpc_timeout=WAIT)
        self.cri.RemovePodSandbox(pod_sandbox_id=pod, rpc_timeout=WAIT)


# --- before ---

def configure():
    write("/opt/cni/bin/gate", GATE, 0o755)
    write("/usr/local/bin/slow-crun", SLOW, 0o755)
    write("/etc/gantry/config.yaml",
          "runtimes:\n  crun:\n    path: crun\n  runc:\n    path: runc\n"
          "  slow:\n    path: /usr/local/bin/slow-crun\n")
    # What does not end by SIGTERM holds up a machine's way down for this long.
    write("/etc/systemd/system.conf.d/stop.conf", "[Manager]\nDefaultTimeoutStopSec=%ds\n" % STOP)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", "gantry"], check=True)


def apart(call, *args, **kw):
    """A request that nobody sees the end of."""
    def run():
        try:
            call(*args, **kw)
        except grpc.RpcError as e:
            print("ended: %s" % e.details(), flush=True)
    threading.Thread(target=run, daemon=True).start()


def states():
    configure()
    n = wait_for(lambda: Node())
    wait_for(lambda: os.path.exists(STATE + "/gantry.sock"))
    facts = {"pods": {}, "running": [], "ended": {}, "images": []}

    def pod(name, *args, **kw):
        facts["pods"][name] = n.run_pod(name, *args, **kw)
        return facts["pods"][name]

    # On the built-in bridge, with host ports and a shared PID namespace.
    for name, port in (("web", 8081), ("shared", 8082)):
        p = pod(name, port=port, shared=name == "shared")
        facts["running"].append(n.serve_web(p, name))
        assert wait_for(lambda: try_fetch(port)) == name + "\n"
    facts["running"].append(n.create(p, "true", name="made"))
    ended = n.run(p, "exit 3", name="ended")
    n.wait_exit(ended)
    facts["ended"][ended] = 3
    # By CNI plugins, with addresses of host-local.
    write(CONF, json.dumps(CONFLIST))
    p = pod("cni", port=8083)
    facts["running"].append(n.serve_web(p, "cni"))
    assert wait_for(lambda: try_fetch(8083)) == "cni\n"
    # In the middle of RunPodSandbox, StartContainer, CreateContainer, PullImage.
    apart(n.run_pod, "hang", port=8084)
    wait_for(lambda: os.path.exists("/run/in-add"))
    slow = pod("slow", handler="slow")
    c = n.create(slow, "sleep 100000", name="starting")
    facts["running"].append(c)
    write("/run/hang-start", "")
    apart(n.cri.StartContainer, container_id=c, rpc_timeout=WAIT * 10)
    wait_for(lambda: os.path.exists("/run/in-start"))
    write("/run/hang-create", "")
    apart(n.create, slow, "sleep 100000", name="creating")
    wait_for(lambda: os.path.exists("/run/in-create"))
    half, whole = n.serve("half", "whole")
    big = n.registry.images[("half", "latest")][0]
    last = json.loads(big)["layers"][-1]["digest"]
    stalled = threading.Event()

    def hold(h, kind, what):
        if what != last:
            return False
        stalled.set()
        stall(h, n.registry.blobs[what], len(n.registry.blobs[what]) // 2, 100000)
        return True
    n.registry.hooks.append(hold)
    apart(n.pull, half)
    stalled.wait(WAIT)
    n.registry.hooks.remove(hold)
    wait_for(lambda: names(ROOT + "/tmp"))
    facts["half"] = half
    facts["images"] = n.images()
    n.pull(whole)  # answered, and at once:
    facts["images"] = sorted([*facts["images"], whole])
    print("READY " + json.dumps(facts), flush=True)
    time.sleep(100000)


def try_fetch(port):
    try:
        return fetch(port)
    except OSError:
        return None


# --- after ---

def nothing_is_alive(n, facts):
    """What is listed, and nothing in the kernel or in /run."""
    exact, pods = facts["exact"], n.pods()
    for p in pods.values():
        assert p.state == api.SANDBOX_NOTREADY, p
    for c in n.containers():
        s = n.status(c)
        assert s.state == api.CONTAINER_EXITED and s.reason, s
        assert s.created_at <= s.finished_at and s.started_at <= s.finished_at, s
        if c not in facts["ended"]:
            assert s.exit_code != 0, s
        elif exact or s.reason != "Unknown":
            assert s.exit_code == facts["ended"][c], s
    if exact:
        assert set(facts["pods"].values()) <= set(pods), "pods were forgotten: %s" % pods
        assert set(facts["running"]) | set(facts["ended"]) <= set(n.containers())
    assert not subprocess.run(["pgrep", "-f", "httpd -f|sleep 100000"],
                              stdout=subprocess.PIPE).stdout, "processes"


def leftovers(n, pods=()):
    """What is there of pods that are not, as text; images aside."""
    live, left = set(pods), []
    for d in (ROOT + "/cni", STATE + "/pods"):
        left += [d + "/" + x for x in names(d) if x.split(".")[0] not in live]
    left += ["%s/containers/%s" % (ROOT, x) for x in names(ROOT + "/containers")
             if x not in n.containers()]
    left += [ROOT + "/tmp/" + x for x in names(ROOT + "/tmp")]
    left += ["/run/netns/" + x for x in names("/run/netns")
             if not any(x.endswith(p[:16]) for p in live)]
    for d in ("/addresses", "/ports"):
        for x in names(STATE + "/network" + d):
            if os.readlink(STATE + "/network" + d + "/" + x).split()[0] not in live:
                left.append(d + "/" + x)
    for x in names(LEASES):
        if x[0].isdigit():
            with open(LEASES + "/" + x) as f:
                owner = f.read().split("\n")[0].strip()
            if not owner:
                print("host-local lost the owner of %s by itself" % x)
            elif owner not in live:
                left.append("address %s of %s" % (x, owner))
    with open("/proc/self/mountinfo") as f:
        left += [x.split()[4] for x in f if any(
            d in x.split()[4] for d in (STATE + "/pods/", "/run/netns/", ROOT + "/"))
            and not any(p[:16] in x for p in live)]
    veths = [x for x in os.listdir("/sys/class/net")
             if os.path.exists("/sys/class/net/%s/brport" % x)]
    if len(veths) > len(live):
        left.append("interfaces: %s" % veths)
    for table in ("iptables-save", "nft list ruleset"):
        r = subprocess.run(table, shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           text=True)
        for port in range(8081, 8086):
            if str(port) in r.stdout and not live:
                left.append("%s: port %d" % (table, port))
    if not live:
        left += glob.glob("/sys/fs/cgroup/gantry.slice/*.scope")
        left += glob.glob("/sys/fs/cgroup/gantry.slice/*/")
    return left


def gone(n, pods=()):
    try:
        wait_for(lambda: not leftovers(n, pods), timeout=60)
    except TimeoutError:
        raise AssertionError("left behind: %s" % leftovers(n, pods)) from None


def ports_are_free(n):
    """And the next pods start, with the ports of the past ones, on either kind of network."""
    for network in ("cni", "bridge"):
        if network == "bridge":
            os.rename(CONF, "/root/conflist")
        made = []
        for port in (8081, 8083, 8084):
            made.append(n.run_pod("new-%s-%d" % (network, port), port=port))
            n.serve_web(made[-1], "new-%d" % port)
        for port in (8081, 8083, 8084):
            assert wait_for(lambda: try_fetch(port)) == "new-%d\n" % port
        ips = {n.cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip for p in made}
        assert len(ips) == 3, ips
        gone(n, [*made, *n.pods()])
        for p in made:
            n.remove(p)
    os.rename("/root/conflist", CONF)


def images_are_intact(n, wanted):
    missing = set(wanted) - set(n.images())
    assert not missing, "images were lost: %s of %s" % (missing, n.images())
    records = {x.split(".")[0] for x in names(ROOT + "/layers") if x.endswith(".json")}
    layers = {x for x in names(ROOT + "/layers") if not x.endswith(".json")}
    used = set()
    for path in glob.glob(ROOT + "/images/*.json"):
        with open(path) as f:
            used |= set(json.load(f)["layers"])
    assert records == layers == used, "layers: %s, records: %s, in use: %s" % (
        layers, records, used)
    assert not glob.glob(ROOT + "/images/*.damaged") and not glob.glob(ROOT + "/images/*.tmp-*")
    for ref in wanted:
        if "127.0.0.1" in ref:
            n.verify(ref)


def log_is_clean():
    log = subprocess.run(["journalctl", "-b", "-u", "gantry", "-p", "err", "-o", "cat"],
                         stdout=subprocess.PIPE, text=True).stdout
    assert "damaged" not in log and "cannot be read" not in log, log
    print(log)


def after(facts):
    n = Node()
    nothing_is_alive(n, facts)
    # A new sandbox of a pod that was there: the old one is stopped first, as by the kubelet.
    old = [p for p in n.pods().values() if p.metadata.name == "cni"]
    for p in old:
        n.cri.StopPodSandbox(pod_sandbox_id=p.id, rpc_timeout=WAIT)
    again = n.run_pod("cni", attempt=1, port=8083)
    n.serve_web(again, "again")
    assert wait_for(lambda: try_fetch(8083)) == "again\n"
    for p in n.pods():
        n.remove(p)
    assert not n.pods() and not n.containers()
    gone(n)
    ports_are_free(n)
    images_are_intact(n, facts["images"])
    half, = n.serve("half")
    assert facts["half"] == half and half not in n.images()
    n.pull(half)
    n.verify(half, port=8081)
    gone(n)
    for ref in n.images():
        if ref != IMAGE and "busybox" not in ref:
            n.cri.RemoveImage(image=api.ImageSpec(image=ref))
    log_is_clean()
    print("OK")


# --- at any moment ---

def churn(seed):
    write("/opt/cni/bin/gate", GATE, 0o755)
    n, rnd, live = Node(), random.Random(seed), []
    for i in range(100000):
        if rnd.random() < 0.5 and not os.path.exists(CONF):
            write(CONF + "~", json.dumps(CONFLIST))
            os.rename(CONF + "~", CONF)
        elif rnd.random() < 0.5 and os.path.exists(CONF):
            os.unlink(CONF)
        p = n.run_pod("churn-%d" % i, port=rnd.choice((0, 8000 + i % 1000)))
        live.append(p)
        n.run(p, "echo here; dd if=/dev/urandom of=/noise bs=64k count=16; exec sleep 100000")
        print("running %s" % p, flush=True)
        if len(live) > 3:
            n.remove(live.pop(rnd.randrange(len(live))))
        if rnd.random() < 0.7:
            name = "image-%s-%d" % (seed, i)
            ref, = n.serve(name)
            n.pull(ref)
            print("pulled %s" % ref, flush=True)


def survived(seed, *pulled):
    n = Node()
    nothing_is_alive(n, {"exact": False, "ended": {}})
    for p in n.pods():
        n.remove(p)
    gone(n)
    images_are_intact(n, [r for r in pulled if r.split("/")[1].startswith("image-%s-" % seed)])
    p = n.run_pod("next", port=8081)
    n.serve_web(p, "next")
    assert wait_for(lambda: try_fetch(8081)) == "next\n"
    n.remove(p)
    gone(n)
    log_is_clean()
    print("OK")


def main(command, *args):
    if command == "after":
        after(json.loads(args[0]))
    else:
        {"states": states, "churn": churn, "survived": survived}[command](*args)


if __name__ == "__main__":
    main(*sys.argv[1:])
