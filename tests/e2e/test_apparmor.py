# SPDX-License-Identifier: Apache-2.0
"""AppArmor, where the kernel has it."""
import subprocess

import grpc
import pytest

from cri import api

ENABLED = "/sys/module/apparmor/parameters/enabled"
PROFILE = api.SecurityProfile


def enabled():
    try:
        with open(ENABLED) as f:
            return f.read(1) == "Y"
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not enabled(), reason="this kernel runs without AppArmor")


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
        assert "gantry-default (enforce)" in text
    c = d.run(pod, "sleep 60", name="exec", linux=confined())
    assert b"gantry-default (enforce)" in d.exec(c, "cat /proc/self/attr/current").stdout


def test_default_profile_denies(d, pod):
    linux = confined()
    linux.security_context.capabilities.add_capabilities.append("SYS_ADMIN")
    _, text = d.output(pod, "mkdir /m; mount -t tmpfs none /m || echo no mount; echo x > /f && echo f",
                       linux=linux)
    assert "no mount" in text and text.endswith("f\n")


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


def test_profile_that_is_not_loaded(d, pod):
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", linux=confined(PROFILE.Localhost, "nobody-loaded-this"))
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert '"nobody-loaded-this" is not loaded' in e.value.details()
