# SPDX-License-Identifier: Apache-2.0
"""Networks by CNI plugins: what plugins are given, and what becomes of those that misbehave."""
import glob
import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid

import grpc
import pytest

from cni import Cni
from cri import SLOW, api
from daemon import Daemon, wait_for

FAIL = 'print(json.dumps({"cniVersion": "1.0.0", "code": %d, "msg": "%s", "details": "%s"}));' \
    'sys.exit(1)'


@pytest.fixture
def cni(tmp_path):
    return Cni(tmp_path / "cni")


def options(config):
    """Of Cni.config(); the timeout is one of a machine that is as quick as ours."""
    if "timeout" in config:
        config = dict(config, timeout=config["timeout"] * SLOW)
    return pytest.mark.parametrize("d", [config], ids=["options"], indirect=True, scope="function")


@pytest.fixture
def d(cni, request):
    daemon = Daemon(config=cni.config(**getattr(request, "param", {})))
    yield daemon
    for path in glob.glob(cni.dir + "/behave/*"):
        os.unlink(path)
    daemon.close()
    left = os.listdir(cni.dir + "/netns") if os.path.isdir(cni.dir + "/netns") else []
    assert not left, "network namespaces: %s" % left


def network(d):
    """NetworkReady as it is now: (ready, message)."""
    for c in d.cri.Status().status.conditions:
        if c.type == "NetworkReady":
            return c.status, c.message
    raise AssertionError("no NetworkReady")


def eventually(d, ready, text=""):
    return wait_for(lambda: network(d)[0] == ready and text in network(d)[1], timeout=20,
                    every=0.2)


def records(d):
    return os.listdir(d.root + "/cni") if os.path.isdir(d.root + "/cni") else []


def sh(*cmd):
    return subprocess.run(cmd, stdout=subprocess.PIPE, text=True).stdout


def remove(d, pod):
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def fails(d, code, *texts, **kw):
    with pytest.raises(grpc.RpcError) as e:
        d.run_pod(**kw)
    assert e.value.code() == code, e.value.details()
    for t in texts:
        assert t in e.value.details()
    return e.value.details()


# --- what plugins are given ---


def test_chain(d, cni):
    cni.list("one", "two", "three")
    port = api.PortMapping(protocol=api.UDP, container_port=53, host_port=5353, host_ip="192.0.2.1")
    c = d.pod_config(name="web", port_mappings=[port], annotations={
        "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1.5Gi",
        "x/y": "z"}, dns_config=api.DNSConfig(servers=["192.0.2.53"], searches=["a.b"],
                                              options=["ndots:5"]))
    pod = d.run_pod(c)
    s = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status
    assert (s.network.ip, len(s.network.additional_ips)) == ("192.0.2.77", 0)
    adds = cni.calls("ADD")
    assert cni.names() == ["ADD one", "ADD two", "ADD three"]
    env = adds[0]["env"]
    assert env["CNI_CONTAINERID"] == pod and env["CNI_IFNAME"] == "eth0"
    assert env["CNI_NETNS"].startswith(cni.dir + "/netns/") and os.path.exists(env["CNI_NETNS"])
    assert env["CNI_PATH"] == cni.bin_dir
    assert env["CNI_ARGS"] == "IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=web;" \
        "K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=uid-web" % pod
    conf = adds[0]["conf"]
    assert conf["name"] == "test" and conf["cniVersion"] == "1.0.0" and conf["keep"] == {"x": 1.5}
    assert "capabilities" not in conf and "prevResult" not in conf
    run = conf["runtimeConfig"]
    assert run["portMappings"] == [{"hostPort": 5353, "containerPort": 53, "protocol": "udp",
                                    "hostIP": "192.0.2.1"}]
    assert run["bandwidth"]["ingressRate"] == 10000000
    assert run["bandwidth"]["egressRate"] == 3 << 29
    assert run["dns"] == {"servers": ["192.0.2.53"], "searches": ["a.b"], "options": ["ndots:5"]}
    assert run["io.kubernetes.cri.pod-annotations"]["x/y"] == "z"
    assert "ipRanges" not in run
    assert adds[1]["conf"]["prevResult"]["ips"][0]["address"] == "192.0.2.77/24"
    cni.forget()
    remove(d, pod)
    dels = cni.calls()
    assert cni.names() == ["DEL three", "DEL two", "DEL one"]
    for x in dels:
        assert x["env"]["CNI_ARGS"] == env["CNI_ARGS"]
        assert x["env"]["CNI_NETNS"] == env["CNI_NETNS"]
        assert x["conf"]["prevResult"]["ips"][0]["address"] == "192.0.2.77/24"
        assert x["conf"]["runtimeConfig"] == run
    assert records(d) == []


def test_only_declared_capabilities(d, cni):
    cni.write("1.conflist", {"cniVersion": "1.0.0", "name": "t", "plugins": [
        {"type": "one", "capabilities": {"bandwidth": False}},
        {"type": "two", "capabilities": {"portMappings": True}}]})
    port = api.PortMapping(container_port=80, host_port=8080)
    remove(d, d.run_pod(name="p", port_mappings=[port],
                        annotations={"kubernetes.io/ingress-bandwidth": "1M"}))
    one, two = cni.calls("ADD")
    assert one["conf"]["runtimeConfig"] == {}
    assert list(two["conf"]["runtimeConfig"]) == ["portMappings"]


@pytest.mark.parametrize("value", ["fast", "1Q", "-5M", "0", "1e99"])
def test_bad_bandwidth(d, cni, value):
    cni.list("one")
    fails(d, grpc.StatusCode.INVALID_ARGUMENT, "kubernetes.io/egress-bandwidth", value, name="p",
          annotations={"kubernetes.io/egress-bandwidth": value})
    assert cni.calls() == []


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_versions(d, cni, version):
    cni.list("one", version=version, disableGC=True)
    pod = d.run_pod(name="p")
    assert d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.network.ip == "192.0.2.77"
    remove(d, pod)
    add, delete = cni.calls("ADD", "DEL")
    assert add["conf"]["cniVersion"] == delete["conf"]["cniVersion"] == version
    assert ("prevResult" in delete["conf"]) == (version != "0.3.1")


@pytest.mark.parametrize("suffix", ["conf", "json"])
def test_single_plugin_file(d, cni, suffix):
    cni.write("10-x." + suffix, {"cniVersion": "0.4.0", "name": "single", "type": "two", "a": [1]})
    remove(d, d.run_pod(name="p"))
    assert cni.names() == ["ADD two", "DEL two"]
    assert cni.calls("ADD")[0]["conf"]["a"] == [1]


def test_result_without_version_gets_one(d, cni):
    cni.list("one", "two", version="0.4.0")
    cni.behave("one", "ADD", 'print(\'{"ips":[{"address":"192.0.2.9/24"}]}\');sys.exit(0)')
    remove(d, d.run_pod(name="p"))
    prev = cni.calls("ADD")[1]["conf"]["prevResult"]
    assert prev == {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "192.0.2.9/24"}]}


def test_only_addresses_of_eth0(d, cni):
    cni.list("one")
    cni.behave("one", "ADD", '''print(json.dumps({"cniVersion": "1.0.0", "interfaces":
[{"name": "br0"}, {"name": "eth0", "sandbox": "x"}, {"name": "net1", "sandbox": "x"}], "ips": [
{"address": "192.0.2.1/24", "interface": 0}, {"address": "2001:db8::5/64", "interface": 1},
{"address": "192.0.2.7/24", "interface": 2}, {"address": "192.0.2.5/24", "interface": 1}]}))
sys.exit(0)''')
    pod = d.run_pod(name="p")
    net = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.network
    assert [net.ip, *[x.ip for x in net.additional_ips]] == ["2001:db8::5", "192.0.2.5"]
    remove(d, pod)


def test_newest_version_that_all_speak(d, cni):
    cni.behave("two", "VERSION", 'versions = ["0.3.1", "0.4.0", "1.0.0"]')
    cni.list("one", "two", version="0.4.0", cniVersions=["0.3.1", "1.0.0", "1.1.0", "9.9.9"])
    assert eventually(d, True)
    remove(d, d.run_pod(name="p"))
    assert {c["conf"]["cniVersion"] for c in cni.calls("ADD", "DEL")} == {"1.0.0"}
    asked = len(cni.calls("VERSION"))
    remove(d, d.run_pod(name="q"))
    assert len(cni.calls("VERSION")) == asked  # remembered until the program changes


def test_no_version_that_all_speak(d, cni):
    cni.behave("one", "VERSION", 'versions = ["0.3.1", "0.4.0"]')
    cni.list("one", version="1.1.0")
    ready, why = network(d)
    assert not ready and "one speaks 0.3.1 0.4.0, but not 1.1.0" in why


def test_plugins_beside_the_list(d, cni):
    cni.list("one")
    cni.write("test/20-b.conf", {"type": "three"})
    cni.write("test/10-a.conf", {"type": "two", "capabilities": {"dns": True}})
    remove(d, d.run_pod(name="p"))
    assert cni.names() == ["ADD one", "ADD two", "ADD three", "DEL three", "DEL two", "DEL one"]
    cni.forget()
    cni.list("one", loadOnlyInlinedPlugins=True)
    remove(d, d.run_pod(name="p", attempt=1))
    assert cni.names() == ["ADD one", "DEL one"]


# --- which configuration ---


def test_first_file_in_order(d, cni):
    cni.list("two", name="20-b.conflist")
    cni.write("10-a.conf", {"cniVersion": "0.4.0", "name": "a", "type": "one"})
    cni.write(".00-hidden.conf", "{")
    cni.write("00-note.txt", "{")
    remove(d, d.run_pod(name="p"))
    assert cni.names("ADD") == ["ADD one"]


@pytest.mark.parametrize("text", [
    "{", '{"name":"x","cniVersion":"1.0.0","plugins":[]}',
    '{"name":"../x","cniVersion":"1.0.0","plugins":[{"type":"one"}]}',
    '{"name":"x","cniVersion":"1.0.0","plugins":[{"type":"../../bin/sh"}]}',
    '{"name":"x","cniVersion":"0.1.0","type":"one"}', "x" * (2 << 20)], ids=["half", "empty", "name", "type", "old", "huge"])
def test_bad_first_file_is_an_error_not_another_network(d, cni, text):
    cni.list("one", name="20-good.conflist")
    cni.write("10-bad.conflist", text)
    fails(d, grpc.StatusCode.FAILED_PRECONDITION, "10-bad.conflist", name="p")
    ready, why = network(d)
    assert not ready and "10-bad.conflist" in why
    cni.remove("10-bad.conflist")
    remove(d, d.run_pod(name="p"))
    assert eventually(d, True)


def test_changes_are_noticed(d, cni):
    """Without any configuration it is the built-in bridge; each pod ends as it began."""
    a = d.run_pod(name="a")
    assert d.cri.PodSandboxStatus(pod_sandbox_id=a).status.network.ip.startswith("10.")
    cni.list("one")
    b = d.run_pod(name="b")
    assert d.cri.PodSandboxStatus(pod_sandbox_id=b).status.network.ip == "192.0.2.77"
    remove(d, a)
    assert cni.names() == ["ADD one"]
    cni.list("two")
    remove(d, b)
    assert cni.names() == ["ADD one", "DEL one"]  # with the configuration of its ADD
    cni.remove("10-test.conflist")
    c = d.run_pod(name="c")
    assert d.cri.PodSandboxStatus(pod_sandbox_id=c).status.network.ip.startswith("10.")
    assert os.listdir(d.state + "/network/addresses") != []
    remove(d, c)


@options({"bridge": "bridge:\n  enabled: false\n"})
def test_without_bridge_and_configuration(d, cni):
    ready, why = network(d)
    assert not ready and "no CNI configuration in " + cni.conf_dir in why
    fails(d, grpc.StatusCode.FAILED_PRECONDITION, "no CNI configuration", name="p")
    host = api.LinuxPodSandboxConfig(security_context=api.LinuxSandboxSecurityContext(
        namespace_options=api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)))
    c = d.pod_config(name="h", linux=host, hostname="")
    c.linux.security_context.namespace_options.network = api.NODE
    remove(d, d.run_pod(c))  # needs none
    cni.list("one")
    assert eventually(d, True)
    remove(d, d.run_pod(name="p"))


def test_missing_plugin(d, cni):
    cni.list("one", "nowhere")
    fails(d, grpc.StatusCode.FAILED_PRECONDITION, "CNI plugin nowhere", cni.bin_dir, name="p")
    assert cni.calls() == []  # found out before anything was run
    ready, why = network(d)
    assert not ready and "CNI plugin nowhere" in why


# --- plugins that misbehave ---

MISBEHAVE = {
    "error": (FAIL % (7, "bad subnet", "it is full"), grpc.StatusCode.FAILED_PRECONDITION,
              ["bad subnet: it is full (code 7)"]),
    "error-again": (FAIL % (11, "later", ""), grpc.StatusCode.UNAVAILABLE, ["later (code 11)"]),
    "error-own": (FAIL % (123, "own", "x"), grpc.StatusCode.INTERNAL, ["own: x (code 123)"]),
    "stderr": ('sys.stderr.write("cannot\\n\\x1b[31m do\\n");sys.exit(3)',
               grpc.StatusCode.INTERNAL, ["exit status 3", "cannot [31m do"]),
    "signal": ("os.kill(os.getpid(), 11);time.sleep(9)", grpc.StatusCode.INTERNAL,
               ["ended by signal 11"]),
    "garbage": ('print("{]");sys.exit(0)', grpc.StatusCode.INTERNAL, ["CNI result"]),
    "not-utf8": ('sys.stdout.buffer.write(bytes([255, 0, 254]));sys.exit(0)',
                 grpc.StatusCode.INTERNAL, ["CNI result"]),
    "nothing": ("sys.exit(0)", grpc.StatusCode.INTERNAL, ["CNI result"]),
    "deep": ('print("[" * 100000);sys.exit(0)', grpc.StatusCode.INTERNAL, ["CNI result"]),
    "flood": ('[sys.stdout.write("x" * 1048576) for i in range(100)];sys.exit(0)',
              grpc.StatusCode.INTERNAL, ["printed more than 1048576 bytes"]),
    "no-address": ('print("{}");sys.exit(0)', grpc.StatusCode.INTERNAL, ["no address"]),
    "bad-address": ('print(\'{"ips":[{"address":"1.2.3/8"}]}\');sys.exit(0)',
                    grpc.StatusCode.INTERNAL, ["1.2.3/8"]),
    "hang": ("time.sleep(600)", grpc.StatusCode.DEADLINE_EXCEEDED,
             ["no answer in %d s (cni.timeout)" % (2 * SLOW)]),
    "hang-deaf": ("signal.signal(15, signal.SIG_IGN)\n"
                  "if os.fork() == 0: time.sleep(600)\ntime.sleep(600)",
                  grpc.StatusCode.DEADLINE_EXCEEDED,
                  ["no answer in %d s (cni.timeout)" % (2 * SLOW)]),
}


@options({"timeout": 2})
@pytest.mark.parametrize("what", MISBEHAVE)
def test_misbehaving_second_plugin(d, cni, what):
    code, status, texts = MISBEHAVE[what]
    cni.list("one", "two", "three")
    cni.behave("two", "ADD", code)
    begin = time.monotonic()
    text = fails(d, status, *texts, name="p")
    assert time.monotonic() - begin < 10 * SLOW
    if what != "no-address":
        assert "CNI plugin two ADD" in text
        assert cni.names() == ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"]
        assert "prevResult" not in cni.calls("DEL")[0]["conf"]
    assert "\n" not in text and "\x1b" not in text
    assert records(d) == [] and not d.cri.ListPodSandbox().items
    assert os.listdir(cni.dir + "/netns") == []
    assert sh("pgrep", "-f", cni.bin_dir) == ""
    cni.behave("two", "ADD", "")
    remove(d, d.run_pod(name="p"))


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_given_up_while_a_plugin_runs(d, cni, how):
    cni.list("one", "two")
    begin = time.monotonic()
    remove(d, d.run_pod(name="p"))
    took = time.monotonic() - begin
    cni.forget()
    cni.behave("two", "ADD", "time.sleep(600)")
    call = d.cri.RunPodSandbox.future(config=d.pod_config(name="p"),
                                      rpc_timeout=60 * SLOW if how == "cancel" else 3 * took)
    wait_for(lambda: "ADD two" in cni.names())
    if how == "cancel":
        call.cancel()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result()
    wait_for(lambda: "DEL one" in cni.names())
    wait_for(lambda: not records(d) and not os.listdir(cni.dir + "/netns"))
    assert cni.names() == ["ADD one", "ADD two", "DEL two", "DEL one"]
    assert not d.cri.ListPodSandbox().items


@options({"timeout": 2})
@pytest.mark.parametrize("code", [FAIL % (5, "in use", ""), "time.sleep(600)"],
                         ids=["fails", "hangs"])
def test_delete_runs_all_and_is_repeated(d, cni, code):
    cni.list("one", "two", "three")
    pod = d.run_pod(name="p")
    cni.behave("two", "DEL", code)
    cni.forget()
    with pytest.raises(grpc.RpcError) as e:
        d.cri.StopPodSandbox(pod_sandbox_id=pod)
    assert "CNI plugin two DEL" in e.value.details()
    assert cni.names() == ["DEL three", "DEL two", "DEL one"]
    assert records(d) == [pod + ".json"]
    cni.behave("two", "DEL", "")
    remove(d, pod)
    assert cni.names()[3:6] == ["DEL three", "DEL two", "DEL one"]
    assert records(d) == []
    before = len(cni.calls())
    d.cri.StopPodSandbox(pod_sandbox_id=pod)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert len(cni.calls()) == before


@options({"timeout": 1})
def test_undo_that_fails_is_repeated(d, cni):
    """The error is the first one; what could not be undone is listed until it is."""
    cni.list("one")
    cni.behave("one", "ADD", FAIL % (100, "first", ""))
    cni.behave("one", "DEL", FAIL % (101, "second", ""))
    fails(d, grpc.StatusCode.INTERNAL, "first (code 100)", name="p")
    items = d.cri.ListPodSandbox().items
    assert [p.state for p in items] == [api.SANDBOX_NOTREADY]
    cni.behave("one", "DEL", "")
    remove(d, items[0].id)
    assert records(d) == []


# --- restarts ---


def monitor_of(pod):
    out = subprocess.run(["pgrep", "-f", "gantry-monitor.*" + pod], stdout=subprocess.PIPE,
                         text=True, check=True).stdout.split()
    return int(out[0])


@pytest.mark.parametrize("who", ["daemon", "monitor", "both"])
def test_delete_after_a_kill_has_the_result(d, cni, who):
    cni.list("one", "two")
    pod = d.run_pod(name="p")
    cni.list("three")
    cni.forget()
    if who != "monitor":
        d.kill()
    if who != "daemon":
        os.kill(monitor_of(pod), signal.SIGKILL)
    if who != "monitor":
        d.start()
    if who != "daemon":
        wait_for(lambda: d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.state ==
                 api.SANDBOX_NOTREADY)
    remove(d, pod)
    assert cni.names("DEL") == ["DEL two", "DEL one"]
    for c in cni.calls("DEL"):
        assert c["conf"]["prevResult"]["ips"][0]["address"] == "192.0.2.77/24"
        assert "K8S_POD_NAME=p;" in c["env"]["CNI_ARGS"]
        assert os.path.basename(c["env"]["CNI_NETNS"]).endswith(pod[:16])


@pytest.fixture
def rebooted(tmp_path):
    """Makes the kernel say another boot id, in the tests' mount namespace."""
    fake, real = str(tmp_path / "boot_id"), "/proc/sys/kernel/random/boot_id"

    def change():
        with open(fake, "w") as f:
            f.write(str(uuid.uuid4()) + "\n")
        subprocess.run(["mount", "--bind", fake, real], check=True)
    yield change
    subprocess.run(["umount", real])


def test_after_a_reboot_addresses_are_given_back(d, cni, rebooted):
    """Processes and what is in memory are gone, the disk is not."""
    cni.list("one", "two")
    pod = d.run_pod(name="p")
    d.kill()
    os.kill(monitor_of(pod), signal.SIGKILL)
    subprocess.run(["umount", "-R", "-l", d.state], check=True)
    subprocess.run(["rm", "-rf", d.state], check=True)
    for pin in glob.glob(cni.dir + "/netns/*"):
        subprocess.run(["umount", "-l", pin], check=True)
    rebooted()
    cni.forget()
    d.start()
    wait_for(lambda: not records(d))
    assert cni.names("DEL") == ["DEL two", "DEL one"]
    for c in cni.calls("DEL"):
        assert c["env"]["CNI_NETNS"] == ""
        assert c["env"]["CNI_CONTAINERID"] == pod
        assert "K8S_POD_NAME=p;" in c["env"]["CNI_ARGS"]
    wait_for(lambda: not os.listdir(cni.dir + "/netns"))
    remove(d, pod)


@pytest.mark.parametrize("text", ["", "{", '{"config":{"plugins":3}}'],
                         ids=["empty", "half", "wrong"])
def test_damaged_record(d, cni, text):
    """The pod goes nevertheless, by the configuration of today."""
    cni.list("one", "two")
    pod = d.run_pod(name="p")
    with open("%s/cni/%s.json" % (d.root, pod), "w") as f:
        f.write(text)
    cni.forget()
    remove(d, pod)
    assert cni.names() == ["DEL two", "DEL one"]
    assert cni.calls()[0]["env"]["CNI_CONTAINERID"] == pod
    assert records(d) == []


@pytest.mark.parametrize("who", ["daemon", "monitor"])
def test_killed_while_a_plugin_runs(d, cni, who):
    cni.list("one", "two")
    cni.behave("two", "ADD", "time.sleep(600)")
    call = d.cri.RunPodSandbox.future(config=d.pod_config(name="p"))
    wait_for(lambda: "ADD two" in cni.names())
    pod = cni.calls("ADD")[0]["env"]["CNI_CONTAINERID"]
    if who == "daemon":
        d.kill()
        d.start()
    else:
        os.kill(monitor_of(pod), signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        call.result()
    wait_for(lambda: "DEL one" in cni.names() and not records(d) and not os.listdir(
        cni.dir + "/netns") and not d.cri.ListPodSandbox().items)
    assert cni.names("DEL")[-2:] == ["DEL two", "DEL one"]
    assert sh("pgrep", "-f", cni.bin_dir) == ""


# --- CHECK, STATUS, GC ---


def check(d, pod):
    return [m.problem for m in d.cri.CheckPod(pod_sandbox_id=pod)]


def test_check(d, cni):
    cni.list("one", "two")
    pod = d.run_pod(name="p")
    cni.forget()
    assert check(d, pod) == [""]
    assert cni.names() == ["CHECK one", "CHECK two"]
    for c in cni.calls():
        assert c["conf"]["prevResult"]["ips"][0]["address"] == "192.0.2.77/24"
        assert c["env"]["CNI_CONTAINERID"] == pod and "K8S_POD_NAME=p;" in c["env"]["CNI_ARGS"]
    cni.behave("one", "CHECK", FAIL % (100, "the route", "is gone"))
    assert check(d, pod) == ["CNI plugin one CHECK: the route: is gone (code 100)"]
    remove(d, pod)


@pytest.mark.parametrize("version,more", [("0.3.1", {}), ("1.0.0", {"disableCheck": True})])
def test_check_not_where_it_must_not_be(d, cni, version, more):
    cni.list("one", version=version, **more)
    pod = d.run_pod(name="p")
    assert check(d, pod) == [""]
    assert cni.calls("CHECK") == []
    remove(d, pod)


def test_status(d, cni):
    cni.behave("two", "STATUS", FAIL % (50, "no controller", "yet"))
    cni.list("one", "two", version="1.1.0")
    assert eventually(d, False, "code 50")
    ready, why = network(d)
    assert not ready and "CNI plugin two STATUS: no controller: yet (code 50)" in why
    c = cni.calls("STATUS")[0]
    assert c["conf"]["cniVersion"] == "1.1.0" and "runtimeConfig" not in c["conf"]
    assert "CNI_CONTAINERID" not in c["env"] and c["env"]["CNI_PATH"]
    remove(d, d.run_pod(name="p"))  # STATUS forbids nothing
    cni.behave("two", "STATUS", "")
    assert eventually(d, True)
    cni.behave("two", "STATUS", FAIL % (50, "gone", ""))
    assert eventually(d, False, "gone")


def test_status_is_of_1_1(d, cni):
    cni.list("one", version="1.0.0")
    assert eventually(d, True)
    assert cni.calls("STATUS") == []


@options({"timeout": 8})
def test_status_that_hangs(d, cni):
    cni.behave("one", "STATUS", "time.sleep(600)")
    cni.list("one", version="1.1.0")
    begin = time.monotonic()
    ready, why = network(d)
    assert not ready and "still being asked" in why and time.monotonic() - begin < 7 * SLOW
    assert eventually(d, False, "CNI plugin one STATUS: no answer in %d s" % (8 * SLOW))


def gc_calls(cni):
    return wait_for(lambda: cni.calls("GC"))


def test_gc_at_the_start(d, cni):
    cni.list("one", "two", version="1.1.0")
    pods = sorted(d.run_pod(name=n) for n in ("a", "b"))
    gone = d.run_pod(name="gone")
    remove(d, gone)
    cni.forget()
    d.kill()
    d.start()
    wait_for(lambda: len(cni.calls("GC")) == 2)
    assert cni.names("GC") == ["GC one", "GC two"]
    for c in cni.calls("GC"):
        valid = c["conf"]["cni.dev/valid-attachments"]
        assert sorted(v["containerID"] for v in valid) == pods
        assert {v["ifname"] for v in valid} == {"eth0"}
        assert "runtimeConfig" not in c["conf"] and "prevResult" not in c["conf"]
    assert cni.calls("DEL") == []


def test_gc_not_where_disabled_or_older(d, cni):
    cni.list("one", version="1.1.0", disableGC=True)
    remove(d, d.run_pod(name="a"))
    d.restart()
    assert eventually(d, True)
    cni.list("one", version="1.0.0")
    d.restart()
    assert eventually(d, True)
    remove(d, d.run_pod(name="b"))
    assert cni.calls("GC") == []


def test_gc_excludes_add(d, cni):
    """While GC runs no ADD does, whatever it holds on with; its own time is short."""
    cni.list("one", version="1.1.0")
    remove(d, d.run_pod(name="a"))
    cni.behave("one", "GC", "time.sleep(2)")
    d.kill()
    cni.forget()
    d.start()
    wait_for(lambda: cni.calls("GC"))
    begin = time.monotonic()
    pod = d.run_pod(name="b")
    assert time.monotonic() - begin > 1
    remove(d, pod)


# --- real plugins ---

REAL = "/usr/lib/cni"


def real_list(cni, d, name, **more):
    cni.write("10-real.conflist", {"cniVersion": "1.0.0", "name": name, "plugins": [
        {"type": "bridge", "bridge": "gt-" + name[-8:], "isGateway": True, "ipMasq": True,
         "hairpinMode": True,
         "ipam": {"type": "host-local", "dataDir": cni.dir + "/ipam",
                  "ranges": [[{"subnet": "10.250.7.0/24"}], [{"subnet": "fd00:250:7::/64"}]],
                  "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "firewall"}]})


@pytest.mark.skipif(not os.path.exists(REAL + "/bridge"),
                    reason="Debian's containernetworking-plugins is not installed")
@options({"bins": [REAL]})
def test_real_plugins(d, cni, archive):
    d.load(archive)
    name = "gt" + os.path.basename(d.dir)[-8:].replace("_", "x").lower()
    real_list(cni, d, name)
    assert eventually(d, True)
    port = api.PortMapping(container_port=80, host_port=18473)
    pod = d.run_pod(name="web", port_mappings=[port], annotations={
        "kubernetes.io/ingress-bandwidth": "100M"})
    try:
        net = d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.network
        assert net.ip.startswith("10.250.7.") and \
            [x.ip for x in net.additional_ips][0].startswith("fd00:250:7:")
        d.run(pod, "mkdir /tmp/w; echo hello > /tmp/w/index.html; httpd -f -p 80 -h /tmp/w")

        def get(address):
            try:
                with urllib.request.urlopen("http://%s/" % address, timeout=5) as r:
                    return r.read().decode()
            except OSError:
                return ""
        wait_for(lambda: get(net.ip) == "hello\n")
        assert get("127.0.0.1:18473") == "hello\n"
        qdisc = subprocess.run(["tc", "qdisc"], stdout=subprocess.PIPE, text=True).stdout
        assert "rate 100Mbit" in qdisc
    finally:
        remove(d, pod)
        subprocess.run(["ip", "link", "del", "gt-" + name[-8:]])
    assert os.listdir(cni.dir + "/ipam/" + name) == [] or not [
        x for x in os.listdir(cni.dir + "/ipam/" + name) if x[0].isdigit() or x.startswith("fd")]
    rules = subprocess.run(["iptables-save"], stdout=subprocess.PIPE, text=True).stdout
    assert net.ip + "/32" not in rules and "18473" not in rules
