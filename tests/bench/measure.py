# SPDX-License-Identifier: Apache-2.0
"""What is measured, in which order: the servers in turn within every part."""
import json
import os
import subprocess
import sys
import threading
import time

STEPS = ("run", "create", "start", "up", "stop", "stop_pod", "remove")


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def turns(servers, n):
    """n rounds, each beginning with another server."""
    for i in range(n):
        k = i % len(servers)
        for s in servers[k:] + servers[:k]:
            yield s


class Figures(dict):
    """(server, figure) -> the values seen."""

    def add(self, server, figure, *values):
        self.setdefault((server.name, figure), []).extend(values)


# --- lives of pods, one after the other ---

def lives(servers, f, rounds, execs):
    say("lives of single pods, %d rounds" % rounds)
    for s in turns(servers, rounds):
        for line in s.client("lives", 1, 1, execs):
            v = [int(x) for x in line[1:]]
            if line[0] == "exec":
                f.add(s, "exec", v[0])
            elif line[0] == "life":
                for name, us in zip(STEPS, v):
                    f.add(s, name, us)
                f.add(s, "pod start", sum(v[:3]))
                f.add(s, "pod end", sum(v[4:]))
                f.add(s, "first line", sum(v[:4]))


# --- commands ---

def execs(servers, f, rounds, n):
    """In one pod that is there for nothing else."""
    say("commands, %d rounds of %d" % (rounds, n))
    for s in servers:
        s.client("fill", 1, 1)
    for parallel in (1, 16):
        for s in turns(servers, rounds):
            settled(s)
            own = s.cpu_us()
            wall = [int(x[1]) for x in s.client("execs", n, parallel) if x[0] == "wall"]
            settled(s)
            f.add(s, "exec rate %d" % parallel, n / (wall[0] / 1e6))
            if parallel == 1:
                f.add(s, "exec cpu", (s.cpu_us() - own) / n)
    for s in servers:
        s.client("empty", 1)


# --- logs ---

def logs(servers, f, rounds, n):
    """One container that writes as quickly as it can, in lines of 100 bytes."""
    say("logs, %d rounds of %d lines" % (rounds, n))
    for s in turns(servers, rounds):
        settled(s)
        own = s.cpu_us()
        (line,) = [x for x in s.client("lines", n) if x[0] == "lines"]
        settled(s)
        f.add(s, "lines rate", n / (int(line[1]) / 1e6) / 1000)
        f.add(s, "lines lost", int(line[2]))
        f.add(s, "lines cpu", (s.cpu_us() - own) / n * 1000)


# --- processor time ---

def kernel_threads_us():
    """Processor time of the kernel's own threads: what is left to them to clean up."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) != 2:
                    continue
            with open("/proc/%s/schedstat" % pid) as f:
                total += int(f.read().split()[0])
        except OSError:
            continue
    return total // 1000


def settled(s):
    """Once the server and the kernel have cleaned up: 20 ms without work of the server."""
    last = s.cpu_us()
    for _ in range(200):
        time.sleep(0.02)
        now = s.cpu_us()
        if now - last < 300:
            return
        last = now


def cpu(servers, f, batches, pods):
    say("processor time, %d batches of %d pods" % (batches, pods))
    for s in turns(servers, batches):
        settled(s)
        time.sleep(0.3)
        own, kernel = s.cpu_us(), kernel_threads_us()
        s.client("lives", pods, 1, 0)
        settled(s)
        f.add(s, "cpu", (s.cpu_us() - own) / pods)
        time.sleep(0.3)  # namespaces and cgroups are freed by the kernel later
        f.add(s, "cpu kernel", (kernel_threads_us() - kernel) / pods)


# --- throughput ---

def throughput(servers, f, rounds, lots):
    for parallel, pods in lots:
        say("pods per second, %d at once" % parallel)
        for s in turns(servers, rounds):
            wall = [int(x[1]) for x in s.client("lives", pods, parallel, 0) if x[0] == "wall"]
            f.add(s, "rate %d" % parallel, pods / (wall[0] / 1e6))
            settled(s)


# --- many pods ---

def pss_kb(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def memory(s, f, label, containers):
    """Of the daemon; of all else but the containers' own programs; of these."""
    pids = s.pids()
    own = sum(pss_kb(p) for p, cg in pids.items() if os.path.basename(cg) in containers)
    daemon = pss_kb(s.pid)
    rest = sum(pss_kb(p) for p, cg in pids.items()
               if p != s.pid and os.path.basename(cg) not in containers)
    f.add(s, "daemon kB " + label, daemon)
    if containers:
        n = len(containers)
        f.add(s, "helpers kB per pod " + label, rest / n)
        f.add(s, "all kB per pod " + label, (rest + daemon) / n)
        f.add(s, "programs kB per pod " + label, own / n)


def reads(s, f, label, n):
    for line in s.client("reads", n):
        f.add(s, "%s %s" % (line[0], label), *[int(x) for x in line[1:]])


def scale(servers, f, quick, most):
    """`most`: pods of the last part; 0: there is none."""
    few, many = 50, 200
    for s in servers:
        say("%s: 0, %d, %d, %d pods" % (s.name, few, many, most or many))
        memory(s, f, "0", set())
        reads(s, f, "0", 50 if quick else 300)
        ids = {x[1] for x in s.client("fill", few, 4) if x[0] == "container"}
        memory(s, f, str(few), ids)
        reads(s, f, str(few), 50 if quick else 300)
        for _ in range(3 if quick else 7):
            s.kill()
            serving, done = s.start(few)
            f.add(s, "restart", serving)
            f.add(s, "restart exec", done)
        ids |= {x[1] for x in s.client("fill", many - few, 4) if x[0] == "container"}
        settled(s)
        time.sleep(2)
        memory(s, f, str(many), ids)
        reads(s, f, str(many), 50 if quick else 300)
        if most:
            ids |= {x[1] for x in s.client("fill", most - many, 4) if x[0] == "container"}
            settled(s)
            time.sleep(2)
            memory(s, f, str(most), ids)
            reads(s, f, str(most), 50 if quick else 300)
        s.client("empty", 8)
        settled(s)
        time.sleep(2)


# --- pulls ---

class Peak(threading.Thread):
    """The most that all processes of a server took together, looked at again and again."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.kb, self.over = server, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            self.kb = max(self.kb, sum(map(pss_kb, self.server.pids())))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def pulls(servers, f, rounds, images):
    """Nothing of the image is there before; what takes memory is looked at in a pull of its own."""
    servers = [s for s in servers if s.name != "gantry-cni"]  # its network has no part in it
    for how, name in images.items():
        say("pulls, %s, %d rounds" % (how, rounds))
        for s in turns(servers, rounds):
            own = s.cpu_us()
            f.add(s, "pull " + how, int(s.client("pull", name)[0][1]))
            settled(s)
            f.add(s, "pull cpu " + how, s.cpu_us() - own)
            s.client("drop", name)
            settled(s)
            os.sync()
        for s in servers:
            before = pss_kb(s.pid)
            with Peak(s) as peak:
                s.client("pull", name)
            settled(s)
            f.add(s, "pull peak kB " + how, peak.kb)
            f.add(s, "pull daemon kB " + how, pss_kb(s.pid) - before)
            s.client("drop", name)
            settled(s)


def routes(f, rounds):
    """What a decision costs: processor time of one with 1000 rules, of which the last fits."""
    build = os.environ.get("GANTRY_BUILD", 
                           os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build"))
    out = subprocess.run([os.path.join(build, "tests", "bench", "bench-routes"), "1000", str(rounds)],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        kind, us = line.split()
        f.setdefault(("gantry", "route " + kind), []).append(float(us))


def measure(servers, quick, only, images, most=500):
    f = Figures()
    for s in servers:
        s.client("lives", 2, 1, 1)  # files into the page cache
    if images:  # first: see own_disk() in run
        pulls(servers, f, 3 if quick else 7, images)
    if not only or "lives" in only:
        lives(servers, f, 8 if quick else 40, 3 if quick else 5)
    if not only or "execs" in only:
        execs(servers, f, 3 if quick else 7, 50 if quick else 200)
    if not only or "logs" in only:
        logs(servers, f, 2 if quick else 5, 200000 if quick else 1000000)
    if not only or "cpu" in only:
        cpu(servers, f, 3 if quick else 8, 8 if quick else 10)
    if not only or "throughput" in only:
        throughput(servers, f, 2 if quick else 3,
                   ((1, 8), (4, 32), (16, 64)) if quick else ((1, 16), (4, 48), (16, 96)))
    if not only or "scale" in only:
        scale(servers, f, quick, most)
    if not only or "routes" in only:
        routes(f, 5 if quick else 21)
    return f


def save(f, path):
    out = {}
    for (server, figure), values in f.items():
        out.setdefault(server, {})[figure] = values
    with open(path, "w") as fh:
        json.dump(out, fh, indent=1)
