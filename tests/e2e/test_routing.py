# SPDX-License-Identifier: Apache-2.0
"""Rules, fallback, the circuit breaker and the binding of pods, through the daemon, with real runtimes
and with such that break when they are told to."""
import json
import os
import shutil
import signal
import socket

import grpc
import pytest

import exposition
from cri import SLOW, api
from daemon import Daemon, processes_with, wait_for
from test_cli import Cli
from test_reload import code, reload
from test_routes import explain

CRUN = shutil.which("crun")
# Fails to create where a file says how, and notes each creation it is asked for.
BREAKS = """#!/bin/sh
case " $* " in *" create "*"/pods/"*)
    echo x >>%(dir)s/calls
    case "$(cat %(dir)s/mode 2>/dev/null)" in
    exit) exit 1;;
    signal) kill -9 $$;;
    half) %(crun)s "$@"; exit 1;;
    last) %(crun)s "$@"; rm %(dir)s/breaks; exit 1;;
    nothing) exit 0;;
    esac;;
esac
exec %(crun)s "$@"
"""
CONFIG = """\
metrics: {address: "unix:%(state)s.metrics"}
breaker: {failures: 0}
runtimes:
  crun: {path: crun}
  runc: {path: runc, routes: true}
  breaks: {path: %(breaks)s}
  strong: {path: %(breaks)s, isolation: vm}
default_runtimes: [crun, runc]
routes:
"""
RULES = {
    "image": 'match: {image: "test/busybox:*"}',
    "regex": 'match: {image: "~docker.io/test/(busy|other)box"}',
    "namespace": "match: {namespace: te*}",
    "pod": "match: {pod: routed-*}",
    "label": "match: {labels: {tier: [front, b*k]}}",
    "annotation": "match: {annotations: {place: here}}\n    trust_annotations: true",
    "container": "match: {container: [one, t*o]}",
    "privileged": "match: {privileged: true}",
    "handler": "match: {handler: runc}",
}


class Breaks:
    def __init__(self, path):
        self.dir = str(path)
        self.program = self.dir + "/breaks"
        with open(self.program, "w") as f:
            f.write(BREAKS % {"dir": self.dir, "crun": CRUN})
        os.chmod(self.program, 0o755)

    def mode(self, how):
        with open(self.dir + "/mode", "w") as f:
            f.write(how)

    def calls(self):
        try:
            with open(self.dir + "/calls") as f:
                return len(f.readlines())
        except FileNotFoundError:
            return 0


def rule(name, body, runtimes, more=""):
    return "  - name: %s\n    %s\n    runtimes: [%s]\n%s" % (name, body, ", ".join(runtimes), more)


def config(d, breaks, rules, more=""):
    text = CONFIG % {"state": d.state, "breaks": breaks.program} + rules
    return text.replace("breaker: {failures: 0}\n", more) if more else text


@pytest.fixture
def breaks(tmp_path):
    return Breaks(tmp_path)


@pytest.fixture
def routed(archive, breaks):
    """A daemon with rules: routed(rules, settings)."""
    made = []

    def make(rules, more="", env=None):
        d = Daemon(start=False, env=env)
        d.set_config(config(d, breaks, rules, more))
        made.append(d)
        d.start()
        d.load(archive)
        return d
    yield make
    for d in made:
        d.env.pop("GANTRY_FAULT", None)
        d.close()


def having(d, runtime):
    """Containers that the runtime keeps records of."""
    path = d.state + "/runtime/" + runtime
    return os.listdir(path) if os.path.isdir(path) else []


def info(d, ctr):
    return json.loads(d.cri.ContainerStatus(container_id=ctr, verbose=True).info["info"])


def placed(d, ctr):
    i = info(d, ctr)
    return i["runtime"], i["routing"]["by"], i["routing"].get("rule")


def counter(d, name, **labels):
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(10 * SLOW)
        c.connect(d.state + ".metrics")
        c.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: c.recv(65536), b""))
    return exposition.value(exposition.parse(text.split(b"\r\n\r\n", 1)[1].decode()), name, **labels)


def test_every_kind_of_condition(routed, breaks):
    d = routed("".join(rule(n, body, ["runc"]) for n, body in RULES.items() if n == "image"))
    for n, body in RULES.items():
        base = config(d, breaks, "")
        reload(d, base + rule("never", 'match: {namespace: elsewhere}', ["crun"]) +
               rule(n, body, ["runc"]))
        handler = "runc" if n == "handler" else ""
        pod = d.run_pod(d.pod_config(name="routed-" + n, labels={"tier": "back"},
                                     annotations={"place": "here"}), handler=handler)
        linux = api.LinuxContainerConfig()
        linux.security_context.namespace_options.pid = api.CONTAINER
        if n == "privileged":
            d.cri.RemovePodSandbox(pod_sandbox_id=pod)
            c = d.pod_config(name="routed-" + n)
            c.linux.security_context.privileged = True
            pod = d.run_pod(c)
            linux.security_context.privileged = True
        ctr = d.run(pod, "sleep 1000", name="two", linux=linux)
        assert placed(d, ctr) == ("runc", "rule", n)
        assert 'runtime runc, by rule "%s"' % n in d.log_text()
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)
        # What it is not about goes the usual way.
        reload(d, base + rule(n, "match: {namespace: elsewhere}", ["runc"]))
        pod = d.run_pod(name="other-" + n)
        assert placed(d, d.run(pod, "sleep 1000")) == ("crun", "pod", None)
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_unknown_handler(routed):
    d = routed(rule("all", "match: {namespace: test}", ["runc"]))
    assert code(lambda: d.run_pod(name="x", handler="nope"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert code(lambda: d.cri.PullImage(image=api.ImageSpec(
        image="test/busybox", runtime_handler="nope")))[0] == grpc.StatusCode.INVALID_ARGUMENT
    # A handler that a pod names is not overruled, unless it says that it routes.
    pod = d.run_pod(name="named", handler="crun")
    assert placed(d, d.run(pod, "sleep 1000")) == ("crun", "handler", None)


@pytest.mark.parametrize("how", ["exit", "signal", "half", "last", "nothing", "gone"])
def test_fallback(routed, breaks, how):
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]))
    pod = d.run_pod(name="fallback")
    assert placed(d, d.run(pod, "sleep 1000", name="db")) == ("breaks", "rule", "db")
    calls = breaks.calls()
    breaks.mode(how)
    if how == "gone":
        with open(breaks.program, "w") as f:
            f.write("#!/no/such/interpreter\n")
    ctr = d.run(pod, "sleep 1000", name="db", attempt=1)
    assert placed(d, ctr) == ("runc", "rule", "db")
    why, = info(d, ctr)["routing"]["insteadOf"]
    assert why["runtime"] == "breaks" and why["reason"]
    if how != "gone":
        assert breaks.calls() == calls + 1
        assert counter(d, "gantry_route_decisions_total", runtime="runc", outcome="fallback") == 1
        assert counter(d, "gantry_route_decisions_total", runtime="breaks", outcome="failed") == 1
    assert "not breaks: " in d.log_text()
    # Nothing of the try is left, and the row knows the rest after a restart.
    assert ctr not in having(d, "breaks")
    assert not processes_with(d.state + "/runtime/breaks")
    d.restart()
    assert info(d, ctr)["routing"]["insteadOf"] == [why]
    assert d.exec(ctr, "echo here").stdout == b"here\n"


def test_a_containers_own_failure_is_not_tried_again(routed, breaks):
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]))
    pod = d.run_pod(name="own")
    assert "nope" in code(lambda: d.create(pod, ["/nope"], name="db"))[1]
    assert breaks.calls() == 1
    assert counter(d, "gantry_route_decisions_total", runtime="breaks", outcome="failed") == 0
    assert counter(d, "gantry_runtime_failures_total", runtime="breaks") == 0
    assert not d.cri.ListContainers().containers


def test_never_weaker_unless_the_rule_says_so(routed, breaks):
    strict = rule("db", "match: {container: db}", ["strong", "runc"])
    d = routed(strict)
    breaks.mode("exit")
    pod = d.run_pod(name="weaker")
    said = code(lambda: d.create(pod, "sleep 1000", name="db"))
    assert "create: exit status 1" in said[1]
    assert not d.cri.ListContainers().containers and breaks.calls() == 1
    reload(d, config(d, breaks, strict + "    allow_weaker: true\n"))
    ctr = d.run(pod, "sleep 1000", name="db")
    assert placed(d, ctr) == ("runc", "rule", "db")
    assert info(d, ctr)["routing"]["weaker"]


def test_promotion_and_contradiction(routed):
    d = routed(rule("db", "match: {container: db}", ["strong"]) +
               rule("plain", "match: {container: plain}", ["crun"]))
    # The first container takes the empty pod with it, the others follow.
    pod = d.run_pod(name="promoted")
    assert placed(d, d.run(pod, "sleep 1000", name="db")) == ("strong", "rule", "db")
    assert placed(d, d.run(pod, "sleep 1000", name="side")) == ("strong", "pod", None)
    why = code(lambda: d.create(pod, "sleep 1000", name="plain"))
    assert why[0] == grpc.StatusCode.FAILED_PRECONDITION and "crun" in why[1]
    # A pod that has containers is bound by them.
    pod = d.run_pod(name="bound")
    first = d.run(pod, "sleep 1000", name="plain")
    d.restart()
    why = code(lambda: d.create(pod, "sleep 1000", name="db"))
    assert why[0] == grpc.StatusCode.FAILED_PRECONDITION and "strong" in why[1]
    d.cri.RemoveContainer(container_id=first)
    assert placed(d, d.run(pod, "sleep 1000", name="db"))[0] == "strong"


def test_promotion_to_a_runtime_of_whole_pods(routed, breaks):
    """The sandbox comes with the first container, and goes when the pod is bound to it no more."""
    d = routed(rule("db", "match: {container: db}", ["strong"]))
    reload(d, config(d, breaks, rule("db", "match: {container: db}", ["strong"])).replace(
        "isolation: vm", "isolation: vm, unit: pod"))
    pod = d.run_pod(name="whole")
    assert having(d, "strong") == [] and d.info(pod)["runtime"] == "crun"
    ctrs = [d.run(pod, "sleep 1000", name=n) for n in ("db", "side")]
    assert {pod, *ctrs} == set(having(d, "strong")) and d.info(pod)["runtime"] == "strong"
    d.restart()
    ctrs.append(d.run(pod, "sleep 1000", name="db", attempt=1))
    for c in ctrs:
        assert d.exec(c, "echo here").stdout == b"here\n"
        d.cri.RemoveContainer(container_id=c)
    assert placed(d, d.run(pod, "sleep 1000", name="side", attempt=1)) == ("crun", "pod", None)
    assert having(d, "strong") == []
    pod = d.run_pod(name="failed")
    code(lambda: d.create(pod, ["/nope"], name="db"))
    assert having(d, "strong") == []


def test_needs_choose_among_candidates(routed, breaks):
    """What a runtime's features lack takes it out of the candidates, with the reason."""
    with open(breaks.program, "w") as f:
        f.write("#!/bin/sh\ncase \" $* \" in *--console-socket*) exit 1;; esac\n"
                "[ \"$1\" = features ] && { echo '{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.0.2\",\"linux\":{\"seccomp\":"
                "{\"enabled\":false}}}'; exit 0; }\nexec %s \"$@\"\n" % CRUN)
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]))
    pod = d.run_pod(name="needs")
    linux = api.LinuxContainerConfig()
    linux.security_context.namespace_options.pid = api.CONTAINER
    linux.security_context.seccomp.profile_type = api.SecurityProfile.Localhost
    linux.security_context.seccomp.localhost_ref = breaks.dir + "/profile.json"
    with open(breaks.dir + "/profile.json", "w") as f:
        f.write('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], '
                '"action": "SCMP_ACT_ERRNO"}]}')
    ctr = d.create(pod, "sleep 1000", name="db", linux=linux)
    assert placed(d, ctr) == ("runc", "rule", "db")
    assert "seccomp" in info(d, ctr)["routing"]["insteadOf"][0]["reason"]


def test_runtimes_side_by_side_in_a_pod(routed):
    """Each of a pod's containers has its own: monitors, recovery and removal know which."""
    d = routed(rule("db", "match: {container: db}", ["runc"]))
    pod = d.run_pod(name="mixed")
    ctrs = {n: d.run(pod, "sleep 1000", name=n) for n in ("db", "web")}
    assert {n: info(d, c)["runtime"] for n, c in ctrs.items()} == {"db": "runc", "web": "crun"}
    assert having(d, "runc") == [ctrs["db"]]
    late = d.create(pod, "sleep 1000", name="db", attempt=1)
    for c in ctrs.values():
        assert d.exec(c, "echo here").stdout == b"here\n"
    d.restart()
    d.cri.StartContainer(container_id=late)
    for c in (late, *ctrs.values()):
        assert d.exec(c, "echo here").stdout == b"here\n"
    for pid, cmd in processes_with(d.state):  # and without their monitor
        if "gantry-monitor " + pod in cmd:
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.state ==
             api.SANDBOX_NOTREADY)
    d.cri.StopContainer(container_id=ctrs["db"], timeout=0)
    d.cri.RemoveContainer(container_id=ctrs["db"])
    d.cri.RemoveContainer(container_id=ctrs["web"])
    assert having(d, "crun") == []
    assert having(d, "runc") == [late]


def set_aside(d, name="breaks"):
    config = json.loads(d.cri.Status(verbose=True).info["config"])
    return {r["name"]: r for r in config["runtimes"]}[name].get("setAside")


def test_breaker(routed, breaks):
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]),
               "breaker: {failures: 2, rest: 1, rest_max: 2}\n")
    pod = d.run_pod(name="breaker")
    breaks.mode("exit")
    for i in range(2):
        assert placed(d, d.create(pod, "sleep 1000", name="db", attempt=i))[0] == "runc"
    assert set_aside(d)["state"] in ("open", "probing", "half open")
    assert "runtime breaks is set aside for 1 s" in d.log_text()
    assert counter(d, "gantry_runtime_set_aside_total", runtime="breaks") == 1
    assert counter(d, "gantry_runtime_set_aside", runtime="breaks") == 1
    assert counter(d, "gantry_runtime_failures_total", runtime="breaks") == 2
    # The probe works; the first container after it does not, and it rests for twice as long.
    wait_for(lambda: set_aside(d)["state"] == "half open")
    calls = breaks.calls()
    assert placed(d, d.create(pod, "sleep 1000", name="db", attempt=2))[0] == "runc"
    assert breaks.calls() == calls + 1
    wait_for(lambda: "runtime breaks is set aside for 2 s" in d.log_text())
    breaks.mode("")
    wait_for(lambda: set_aside(d)["state"] == "half open")
    assert placed(d, d.create(pod, "sleep 1000", name="db", attempt=3))[0] == "breaks"
    assert set_aside(d) is None and "runtime breaks works again" in d.log_text()
    assert counter(d, "gantry_runtime_set_aside", runtime="breaks") == 0


def test_open_breaker_is_not_asked(routed, breaks):
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]),
               "breaker: {failures: 1, rest: 3600}\n")
    pod = d.run_pod(name="open")
    breaks.mode("exit")
    d.create(pod, "sleep 1000", name="db")
    assert breaks.calls() == 1
    ctr = d.create(pod, "sleep 1000", name="db", attempt=1)
    assert breaks.calls() == 1
    assert "set aside" in info(d, ctr)["routing"]["insteadOf"][0]["reason"]
    shown = json.loads(Cli(d)("runtimes", "breaks", "-o", "json"))["runtimes"][0]
    assert shown["health"] == "set aside" and shown["reason"] and shown["capabilities"]
    why = code(lambda: d.run_pod(name="named", handler="breaks"))
    assert why[0] == grpc.StatusCode.FAILED_PRECONDITION and "set aside" in why[1]
    told = explain("x", "--container", "db", "--address", d.address)["container"]
    assert told["runtime"] == "runc" and told["fallback"]
    assert "set aside" in told["candidates"][0]["dropped"]


def test_what_is_explained_is_what_happens(routed):
    d = routed(rule("label", "match: {labels: {tier: back}}", ["runc"]) +
               rule("image", 'match: {image: "test/busy*", pod: "image-*"}', ["runc"]) +
               rule("container", "match: {container: db}", ["strong"]) +
               rule("contradicts", "match: {container: late, namespace: test}", ["runc"]))
    for name, container, labels in (("a", "c", {}), ("b", "c", {"tier": "back"}),
                                    ("image-1", "c", {}), ("c", "db", {}), ("d", "late", {}),
                                    ("e", "db", {"tier": "back"})):
        args = [x for k, v in labels.items() for x in ("-l", "%s=%s" % (k, v))]
        told = explain("test/busybox:latest", "--namespace", "test", "--name", name,
                       "--container", container, "--address", d.address, *args)
        pod = d.run_pod(d.pod_config(name=name, labels=labels))
        did = placed(d, d.create(pod, "sleep 1000", name=container))
        assert did == (told["runtime"], told["container"]["by"], told["container"].get("rule"))
        d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_runtime_ready_tells_of_it(routed, breaks):
    d = routed(rule("x", "match: {container: x}", ["crun"]),
               "breaker: {failures: 1, rest: 1}\n")
    reload(d, config(d, breaks, rule("x", "match: {container: x}", ["crun"]),
                     "breaker: {failures: 1, rest: 1}\n").replace("[crun, runc]", "[breaks]"))
    pod = d.run_pod(name="ready")
    breaks.mode("exit")

    def ready():
        return [c for c in d.cri.Status().status.conditions if c.type == "RuntimeReady"][0]
    assert ready().status
    code(lambda: d.create(pod, "sleep 1000"))
    c = ready()
    assert c.status or (c.reason == "RuntimesSetAside" and "breaks is set aside" in c.message)
    breaks.mode("")
    wait_for(lambda: ready().status)
    d.run(pod, "sleep 1000")


@pytest.mark.parametrize("point", ["daemon.fallback.failed", "daemon.create.row",
                                   "job.create.created"])
def test_killed_in_a_fallback(routed, breaks, point, tmp_path):
    """At any moment of it: what is half-made goes, and the name is free for the next try."""
    mark = str(tmp_path / "mark")
    d = routed(rule("db", "match: {container: db}", ["breaks", "runc"]))
    breaks.mode("half")
    d.stop()
    d.env.update(GANTRY_FAULT=point, GANTRY_FAULT_MARK=mark)
    d.start()
    pod = d.run_pod(name="killed")
    try:
        d.create(pod, "sleep 1000", name="db")
    except grpc.RpcError:
        pass
    if d.process.poll() is None and not os.path.exists(mark):
        pytest.skip("this build has no fault points (meson setup -Dtest_hooks=true)")
    if point.startswith("daemon."):
        d.process.wait(20)
        d.cri.close()
        d.env.pop("GANTRY_FAULT")
        d.start()
    for c in d.cri.ListContainers().containers:
        d.cri.RemoveContainer(container_id=c.id)
    breaks.mode("exit")

    def again():
        try:
            return d.create(pod, "sleep 1000", name="db")
        except grpc.RpcError as e:  # the half-made one is being taken away
            assert e.code() in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INTERNAL), e
            return None
    ctr = wait_for(again)
    assert placed(d, ctr)[0] == "runc"
    assert ctr not in having(d, "breaks")
    assert not processes_with(d.state + "/runtime/breaks")
    assert os.listdir(d.root + "/containers") == [ctr]
