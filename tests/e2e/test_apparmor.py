# SPDX-License-Identifier: Apache-2.0
"""AppArmor, where the kernel has it."""
import re
import subprocess

import grpc
import pytest

from cri import api
from daemon import wait_for

ENABLED = "/sys/module/apparmor/parameters/enabled"
PROFILE = api.SecurityProfile


def enabled():
    try:
        with open(ENABLED) as f:
            return f.read(1) == "Y"
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not enabled(), reason="this kernel runs without AppArmor")
DEFAULT = "gantry-default"


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    lin = api.LinuxPodSandboxConfig()
    lin.security_context.privileged = True  # may have containers that are
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param, linux=lin)
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def confined(kind=None, ref="", old=""):
    c = api.LinuxContainerConfig()
    c.security_context.namespace_options.pid = api.CONTAINER
    if kind is not None:
        c.security_context.apparmor.profile_type = kind
        c.security_context.apparmor.localhost_ref = ref
    c.security_context.apparmor_profile = old
    return c


@pytest.fixture(scope="module")
def profile():
    text = "profile gantry-test-deny flags=(attach_disconnected) {\n  file,\n  deny /tmp/** w,\n}\n"
    subprocess.run(["apparmor_parser", "-r"], input=text, text=True, check=True)
    yield "gantry-test-deny"
    subprocess.run(["apparmor_parser", "-R"], input=text, text=True, check=True)


def test_default_profile(d, pod):
    for name, linux in (("unset", confined()), ("default", confined(PROFILE.RuntimeDefault)),
                        ("old", confined(old="runtime/default"))):
        _, text = d.output(pod, "cat /proc/self/attr/current; mount -t tmpfs none /mnt", name=name,
                           linux=linux)
        assert DEFAULT + " (enforce)" in text
    c = d.run(pod, "sleep 60", name="exec", linux=confined())
    assert DEFAULT.encode() + b" (enforce)" in d.exec(c, "cat /proc/self/attr/current").stdout


WRITES = "exec 2>/dev/null; " + "".join("echo 1 > %s && echo %s; " % (f, f) for f in (
    "/f", "/proc/self/comm", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/domainname",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/sysrq", "/proc/sysrq-trigger",
    "/proc/sys/vm/drop_caches", "/proc/irq/default_smp_affinity", "/proc/fs/x")) + """
head -c 1 /proc/kcore >/dev/null && echo kcore
mkdir /m; mount -t tmpfs none /m && echo mount
"""


def test_default_profile_denies(d, pod):
    """What a container's root could do else, in its own namespaces and out of them."""
    linux = confined()
    linux.security_context.capabilities.add_capabilities.extend(["SYS_ADMIN", "NET_ADMIN"])
    _, text = d.output(pod, WRITES, linux=linux)
    assert text.split() == ["/f", "/proc/self/comm", "/proc/sys/kernel/shm_rmid_forced"]
    linux = confined(PROFILE.Unconfined)
    linux.security_context.capabilities.add_capabilities.extend(["SYS_ADMIN", "NET_ADMIN"])
    harmless = "mkdir /m; mount -t tmpfs none /m && echo mount; " \
        "echo 1 > /proc/sys/net/ipv4/ip_forward && echo net"
    _, text = d.output(pod, harmless, name="free", linux=linux)
    assert text.split() == ["mount", "net"]


def test_signals_and_traces_stay_inside(d, pod):
    """Processes of a container see each other, and the host ends them all the same."""
    # It ends when the exec has gone, which would be killed with it.
    c = d.run(pod, "sleep 1000 & echo $! >/pid; wait $!; s=$?; "
                   "while pidof kill >/dev/null; do sleep 0.05; done; exit $s", linux=confined())
    wait_for(lambda: d.exec(c, "test -s /pid").exit_code == 0)
    pid = d.exec(c, "cat /pid").stdout.decode().strip()
    assert d.cri.ExecSync(container_id=c, cmd=["kill", "-9", pid], timeout=30).exit_code == 0
    assert d.wait_exit(c).exit_code == 137
    c = d.run(pod, "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", name="stopped",
              linux=confined())
    log = d.status(c).log_path
    wait_for(lambda: "up" in d.read_log(log))
    d.cri.StopContainer(container_id=c, timeout=30)
    assert d.status(c).exit_code == 7


def test_default_profile_is_loaded_anew(d, pod):
    """aa-remove-unknown takes away what has no file below /etc/apparmor.d."""
    subprocess.run(["apparmor_parser", "-R"], input="profile %s {}" % DEFAULT, text=True,
                   check=True)
    _, text = d.output(pod, "cat /proc/self/attr/current", linux=confined())
    assert DEFAULT + " (enforce)" in text


def test_privileged_is_unconfined(d, pod):
    linux = confined(PROFILE.RuntimeDefault)
    linux.security_context.privileged = True
    _, text = d.output(pod, "cat /proc/self/attr/current", linux=linux)
    assert DEFAULT not in text


def test_the_newer_field_goes_before_the_older(d, pod, profile):
    linux = confined(PROFILE.Localhost, profile, old="unconfined")
    _, text = d.output(pod, "cat /proc/self/attr/current", linux=linux)
    assert profile + " (enforce)" in text
    linux = confined(PROFILE.Unconfined, old="localhost/" + profile)
    _, text = d.output(pod, "cat /proc/self/attr/current", name="other", linux=linux)
    assert profile not in text and DEFAULT not in text


def test_unconfined(d, pod):
    for name, linux in (("new", confined(PROFILE.Unconfined)), ("old", confined(old="unconfined"))):
        _, text = d.output(pod, "cat /proc/self/attr/current", name=name, linux=linux)
        assert text.startswith("unconfined")


def test_localhost(d, pod, profile):
    for name, linux in (("new", confined(PROFILE.Localhost, profile)),
                        ("prefix", confined(PROFILE.Localhost, "localhost/" + profile)),
                        ("old", confined(old="localhost/" + profile))):
        _, text = d.output(pod, "cat /proc/self/attr/current; echo x > /tmp/f || echo denied",
                           name=name, linux=linux)
        assert profile + " (enforce)" in text and "denied" in text


@pytest.mark.parametrize("linux", [
    confined(PROFILE.Localhost, "nobody-loaded-this"),
    confined(old="localhost/nobody-loaded-this")], ids=["new", "old"])
def test_profile_that_is_not_loaded(d, pod, linux):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=linux)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert '"nobody-loaded-this" is not loaded' in e.value.details()
    assert not d.cri.ListContainers(
        filter=api.ContainerFilter(pod_sandbox_id=pod)).containers  # nothing was made


def test_localhost_without_a_name(d, pod):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=confined(PROFILE.Localhost))
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "localhost_ref" in e.value.details()
