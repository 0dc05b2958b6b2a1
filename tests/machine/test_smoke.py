# SPDX-License-Identifier: Apache-2.0
"""gantry in a machine as users have it, in two minutes: is anything of it broken?"""
import json

import pytest

IMAGE = "test/busybox:latest"
CONFLIST = {
    "cniVersion": "1.0.0", "name": "smoke",
    "plugins": [
        {"type": "bridge", "bridge": "cni-smoke", "isGateway": True, "ipMasq": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]],
                  "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}}]}


def start(guest, name, *options):
    """A pod with a container that goes on, until it is asked to end."""
    guest.run(["gantry", "run", "-d", "--name", name, *options, IMAGE, "sh", "-c",
               "trap 'exit 0' TERM; sleep 1000000 & wait"])


def wait_ready(guest):
    """As a kubelet waits, which asks until the runtime is ready."""
    guest.wait_for("gantry info | grep -qE '^RuntimeReady: +yes'", timeout=120)


def inspect(guest, kind, name):
    return json.loads(guest.run(["gantry", "inspect", "--type", kind, name]).out)[0]["status"]


def states(guest, *options):
    """The names and the states of pods."""
    pods = json.loads(guest.run(["gantry", "pods", "-o", "json", *options]).out)
    return {p["metadata"]["name"]: p["state"] for p in pods.get("items", pods)}


def address(guest, pod):
    return inspect(guest, "pod", pod)["network"]["ip"]


def show(guest, unit, *names):
    out = guest.run(["systemctl", "show", unit, *["-p" + n for n in names]]).out
    return dict(line.split("=", 1) for line in out.splitlines())


def test_the_machine_is_what_it_is_to_be(machine):
    assert machine.run("cat /proc/1/comm").out == "systemd\n"
    assert machine.run("stat -f -c %T /sys/fs/cgroup").out == "cgroup2fs\n"
    assert machine.run("cat /sys/module/apparmor/parameters/enabled").out == "Y\n"
    controllers = machine.run("cat /sys/fs/cgroup/cgroup.controllers").out.split()
    assert {"cpuset", "cpu", "io", "memory", "pids"} <= set(controllers)


def test_installing_starts_the_service(guest):
    unit = show(guest, "gantry", "ActiveState", "Type", "WatchdogUSec", "Delegate", "KillMode",
                "UnitFileState", "NRestarts")
    assert unit["ActiveState"] == "active" and unit["UnitFileState"] == "enabled"
    assert unit["Type"] == "notify" and unit["WatchdogUSec"] not in ("0", "infinity")
    assert unit["KillMode"] == "process" and unit["Delegate"] == "yes"
    assert unit["NRestarts"] == "0"
    wait_ready(guest)
    assert not guest.run("systemctl --failed --no-legend --plain").out


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_command_in_a_container(guest, runtime):
    r = guest.run(["gantry", "run", "--runtime", runtime, IMAGE, "sh", "-c",
                   "echo out; echo err >&2; exit 7"], check=False)
    assert (r.status, r.out, "err\n" in r.err) == (7, "out\n", True), r.err


def test_pods_reach_each_other_on_the_built_in_network(guest):
    start(guest, "one")
    start(guest, "two")
    one, two = address(guest, "one"), address(guest, "two")
    assert one.startswith("10.88.") and two.startswith("10.88.") and one != two
    guest.run(["gantry", "exec", "one", "ping", "-c", "1", "-W", "30", two])


def test_exec(guest):
    r = guest.run(["gantry", "exec", "one", "sh", "-c", "hostname; echo no >&2; exit 3"], check=False)
    assert (r.status, r.out, "no\n" in r.err) == (3, "one\n", True), r.err


def test_the_default_apparmor_profile_is_applied(guest):
    assert "gantry-default (enforce)" in guest.run("cat /sys/kernel/security/apparmor/profiles").out
    said = guest.run(["gantry", "exec", "one", "cat", "/proc/self/attr/current"]).out
    assert said == "gantry-default (enforce)\n"
    said = guest.run(["gantry", "run", "--security-opt", "apparmor=unconfined", IMAGE,
                      "cat", "/proc/self/attr/current"]).out
    assert said == "unconfined\n"


def test_pods_by_cni(guest):
    guest.write("/etc/cni/net.d/10-smoke.conflist", json.dumps(CONFLIST))
    start(guest, "three", "-p", "127.0.0.1:8077:80")
    assert address(guest, "three").startswith("10.77.0.")
    guest.run(["gantry", "exec", "three", "ping", "-c", "1", "-W", "30", "10.77.0.1"])
    guest.run("gantry inspect --type pod --check three")


@pytest.mark.parametrize("how", ["systemctl restart gantry",
                                 "kill -9 $(systemctl show -p MainPID --value gantry)"])
def test_pods_go_on_under_the_next_daemon(guest, how):
    before = show(guest, "gantry", "MainPID")["MainPID"]
    processes = guest.run("pgrep -f 'sleep 1000000'").out
    guest.run(how)
    guest.wait_for("test $(systemctl show -p MainPID --value gantry) != %s && gantry version" % before)
    assert guest.run("pgrep -f 'sleep 1000000'").out == processes
    assert states(guest) == dict.fromkeys(("one", "two", "three"), "SANDBOX_READY")
    assert guest.run(["gantry", "exec", "three", "echo", "here"]).out == "here\n"


def test_after_a_reboot(guest):
    guest.reboot()
    # systemd-shutdown says whom it waits for.
    assert "gantry-monitor" not in guest.tail("serial.log", 1 << 20)
    wait_ready(guest)
    assert states(guest) == dict.fromkeys(("one", "two", "three"), "SANDBOX_NOTREADY")
    assert inspect(guest, "container", "one")["state"] == "CONTAINER_EXITED"
    guest.run("gantry rm one two three")
    assert states(guest) == {}
    start(guest, "four")
    assert guest.run(["gantry", "exec", "four", "echo", "here"]).out == "here\n"
    guest.run("gantry rm -f four")
    assert not guest.run("systemctl --failed --no-legend --plain").out


def test_nothing_was_wrong(guest):
    """What no test asked about: the daemon's own complaints, and the kernel's."""
    log = guest.run("journalctl -u gantry -p err --no-pager -o cat").out
    assert not log, log
    assert show(guest, "gantry", "NRestarts")["NRestarts"] == "0"  # of this boot
    kernel = guest.run("dmesg --level emerg,alert,crit,err || true").out
    assert "BUG" not in kernel and "Oops" not in kernel, kernel
