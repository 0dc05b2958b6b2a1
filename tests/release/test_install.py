# SPDX-License-Identifier: Apache-2.0
"""What `meson install` of a release build leaves, and that it works from there."""
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import daemon  # noqa: E402
import image  # noqa: E402

BUILD = daemon.BUILD
PREFIX = "/usr/local"
PROGRAMS = {"sbin/gantryd", "bin/gantry", "bin/gantry-oci", "libexec/gantry/gantry-monitor",
            "libexec/gantry/gantry-worker", "libexec/gantry/gantry-env",
            "libexec/gantry/gantry-stream", "libexec/gantry/gantry-stream-tls"}
FILES = {"lib/systemd/system/gantry.service", "share/man/man8/gantryd.8",
         "share/man/man8/gantry-monitor.8", "share/man/man8/gantry-worker.8",
         "share/man/man8/gantry-env.8", "share/man/man8/gantry-stream.8",
         "share/man/man5/gantry-config.yaml.5", "share/man/man1/gantry.1",
         "share/doc/gantry/configuration.md", "share/doc/gantry/config.example.yaml",
         "share/bash-completion/completions/gantry", "share/zsh/vendor-completions/_gantry",
         "share/fish/vendor_completions.d/gantry.fish", "share/man/man8/gantry-oci.8",
         "share/bash-completion/completions/gantry-oci", "share/zsh/vendor-completions/_gantry-oci",
         "share/fish/vendor_completions.d/gantry-oci.fish"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    dest = str(tmp_path_factory.mktemp("dest"))
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", dest],
                   check=True, stdout=subprocess.DEVNULL)
    return dest + PREFIX


def test_files(installed):
    found = set()
    for base, _, files in os.walk(installed):
        found |= {os.path.relpath(os.path.join(base, f), installed) for f in files}
    assert PROGRAMS | FILES <= found
    found = {f for f in found if not f.startswith("share/doc/gantry/")}
    assert found <= PROGRAMS | FILES, "installed, and nobody knows why"


def test_programs_are_stripped_and_not_writable(installed):
    for p in PROGRAMS:
        path = os.path.join(installed, p)
        assert os.stat(path).st_mode & 0o777 == 0o755, p
        sections = subprocess.run(["readelf", "-SW", path], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
        assert ".symtab" not in sections and ".debug_info" not in sections, p


def test_unit(installed):
    with open(installed + "/lib/systemd/system/gantry.service") as f:
        text = f.read()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    assert settings["ExecStart"] == PREFIX + "/sbin/gantryd"
    assert settings["Type"] == "notify" and int(settings["WatchdogSec"]) > 0
    assert settings["KillMode"] == "process", "pods must outlive the daemon"
    assert "@" not in text


def test_no_test_hooks(installed):
    """What lets tests break the daemon on purpose is not in what people run."""
    for p in PROGRAMS:
        with open(os.path.join(installed, p), "rb") as f:
            data = f.read()
        assert b"GANTRY_WATCHDOG" not in data and b"GANTRY_FAULT" not in data, p


def test_runs_from_where_it_is_installed(installed, tmp_path, monkeypatch):
    os.makedirs(tmp_path / "programs" / "gantryd")
    os.symlink(installed + "/sbin/gantryd", tmp_path / "programs" / "gantryd" / "gantryd")
    monkeypatch.setattr(daemon, "BUILD", str(tmp_path))
    archive = str(tmp_path / "busybox.tar")
    image.busybox_image("/bin/busybox").docker_archive(archive, ["test/busybox:latest"])
    d = daemon.Daemon()
    try:
        d.load(archive)
        p = d.run_pod()
        status, out = d.output(p, "echo installed")
        assert (status.exit_code, out) == (0, "installed\n")
        pids = subprocess.run(["pgrep", "-f", "gantry-monitor .*%s/pods" % d.state], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.split()
        assert [os.readlink("/proc/%s/exe" % x) for x in pids] == \
            [installed + "/libexec/gantry/gantry-monitor"]
    finally:
        d.close()
