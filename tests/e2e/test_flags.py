# SPDX-License-Identifier: Apache-2.0
"""The daemon's command line, and several daemons on one machine."""
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from cri import SLOW, TOP, Client, api
from daemon import BUILD, Daemon, wait_for

GANTRYD = BUILD + "/programs/gantryd/gantryd"


def gantryd(*args):
    r = subprocess.run([GANTRYD, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=20)
    return r.returncode, r.stdout, r.stderr


def test_version_and_help():
    code, out, err = gantryd("--version")
    assert (code, err) == (0, "") and re.fullmatch(r"gantryd \d+\.\d+\.\d+\S*\n", out)
    code, out, err = gantryd("--help")
    assert (code, err) == (0, "")
    for flag in re.findall(r"^  (--[a-z-]+)", out, re.M):
        with open(TOP + "/docs/man/gantryd.8") as f:
            assert "Fl -" + flag[2:] in f.read(), "%s is not in gantryd(8)" % flag


@pytest.mark.parametrize("args, said", [
    (["--nonsense"], "--help"), (["surplus"], 'unexpected argument "surplus"'),
    (["--root"], "--help")])
def test_wrong_command_line(args, said):
    code, out, err = gantryd(*args)
    assert code == 2 and out == "" and said in err


@pytest.mark.parametrize("text, said", [
    ("rot: /x\n", "config.yaml:1: rot: there is no such key"),
    ("cni:\n  timeout: 5000\n", 'config.yaml:2: cni.timeout: found "5000", expected a number'),
    ("log: [", "config.yaml:")])
def test_check_config_says_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    code, out, err = gantryd("--check-config", "--config", str(path))
    assert code == 1 and out == "" and said in err


def test_check_config_of_a_missing_file(tmp_path):
    code, _, err = gantryd("--check-config", "--config", str(tmp_path / "none"))
    assert code == 1 and "none: No such file or directory" in err


def test_flags_override_the_file_which_overrides_the_defaults(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("root: /file/root\nstate: /file/state\nlog: {level: warn}\n")
    code, out, _ = gantryd("--config", str(path), "--root", "/flag/root/", "--dump-config")
    assert code == 0
    assert 'root: "/flag/root"' in out and 'state: "/file/state"' in out
    assert 'address: "/file/state/gantry.sock"' in out and "level: warn" in out
    assert "parallel_layers: 3" in out
    code, out, _ = gantryd("--config", str(path), "--address", "/a.sock", "--log-level", "debug",
                           "--dump-config")
    assert 'address: "/a.sock"' in out and "level: debug" in out


@pytest.mark.parametrize("flag", ["--root", "--state", "--address"])
def test_relative_paths_are_refused(flag):
    code, _, err = gantryd(flag, "some/where", "--check-config")
    assert code == 1 and flag in err and "some/where" in err


def test_the_example_is_the_defaults(tmp_path):
    with open(TOP + "/docs/config.example.yaml") as f:
        text = f.read()
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"^#(?=\S|  )", "", text, flags=re.M))
    assert "\nroot: " in path.read_text()
    _, defaults, _ = gantryd("--config", "/dev/null", "--dump-config")
    code, out, err = gantryd("--config", str(path), "--dump-config")
    assert code == 0, err
    assert out == defaults


def test_daemons_side_by_side(archive):
    """Each its own images, pods, bridge and cgroups; one's end is nothing to the other."""
    one, two = Daemon(), Daemon()
    try:
        one.load(archive)
        assert one.cri.ListImages().images and not two.cri.ListImages().images
        two.load(archive)
        p1, p2 = one.run_pod(name="same"), two.run_pod(name="same")
        c1, c2 = (d.run(p, "sleep 1000") for d, p in ((one, p1), (two, p2)))
        for d, p in ((one, p1), (two, p2)):
            assert [x.id for x in d.cri.ListPodSandbox().items] == [p]
        ips = [d.cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip
               for d, p in ((one, p1), (two, p2))]
        assert ips[0] and ips[1]
        bridges = [os.path.exists("/sys/class/net/g-" + d.instance()[7:]) for d in (one, two)]
        assert bridges == [True, True]
        two.kill()
        assert one.exec(c1, "echo here").stdout == b"here\n"
        two.restart()
        one.cri.RemovePodSandbox(pod_sandbox_id=p1)
        assert two.status(c2).state == api.CONTAINER_RUNNING, two.log_text()
        assert two.exec(c2, "echo there").stdout == b"there\n"
    finally:
        one.close()
        two.close()


def test_address_of_its_own(archive, tmp_path):
    d = Daemon()
    try:
        d.stop()
        d.address = str(tmp_path / "deep" / "er.sock")
        d.start()
        wait_for(lambda: os.path.exists(d.address))
        c = Client(d.address)
        assert c.Version().runtime_name == "gantry"
        c.close()
    finally:
        d.close()


def test_the_service_manager_is_told_and_the_runtime_is_not(archive, tmp_path):
    """READY, WATCHDOG and STOPPING go to NOTIFY_SOCKET, which no child inherits: a runtime that
    did would wait for its container to say that it is ready."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20 * SLOW)
        said = set()  # ten messages fill a socket that nobody reads
        reader = threading.Thread(target=lambda: said.update(iter(lambda: s.recv(100), b"")))
        d = Daemon(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        try:
            assert s.recv(100) == b"READY=1"
            assert s.recv(100) == b"WATCHDOG=1"
            reader.start()
            d.load(archive)
            p = d.run_pod()
            began = time.monotonic()
            status, out = d.output(p, "echo ${NOTIFY_SOCKET:-none} ${WATCHDOG_USEC:-none}")
            assert (status.exit_code, out) == (0, "none none\n")
            assert time.monotonic() - began < 10 * SLOW
        finally:
            d.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", path)
        reader.join()
        assert said == {b"WATCHDOG=1", b"STOPPING=1"}
