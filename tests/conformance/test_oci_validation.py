# SPDX-License-Identifier: Apache-2.0
"""The validation set of the OCI runtime-tools with gantry-oci: what a runtime passes it passes, and
what it fails it fails, through gantry-oci as by itself."""
import os
import platform
import re
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import tools  # noqa: E402
from cri import SLOW  # noqa: E402
from daemon import BUILD  # noqa: E402

PROGRAM = BUILD + "/programs/gantry-oci/gantry-oci"
# Those that take little time; both of Debian's runtimes pass what MUST below says.
NAMES = ["create", "delete_resources", "hooks_stdin", "kill_no_effect", "linux_ns_nopath",
         "poststop_fail", "prestart_fail", "state"]
MUST = {"create": 4, "delete_resources": 4, "kill_no_effect": 1, "linux_ns_nopath": 7, "state": 3}


@pytest.fixture(scope="module")
def programs():
    if platform.machine() != "x86_64":
        pytest.skip("the set has a root file system for x86-64")
    try:
        return tools.validation(NAMES)
    except tools.Unavailable as e:
        pytest.skip("no runtime-tools: %s" % e)


@pytest.fixture(scope="module", params=["crun", "runc"])
def config(request, tmp_path_factory):
    top = tmp_path_factory.mktemp("validation")
    (top / "config.yaml").write_text("state: %s/state\ndefault_runtimes: [%s]\n" % (top, request.param))
    mounted = []
    try:
        for p in ("/run/gantry-oci", "/run/crun", "/run/runc"):  # the usual places, of this test alone
            os.makedirs(p, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "gantry-tests", p], check=True)
            mounted.append(p)
        yield request.param, str(top / "config.yaml")
    finally:
        for r in ("crun", "runc"):
            for c in os.listdir("/run/" + r):
                subprocess.run([r, "delete", "--force", c], stderr=subprocess.DEVNULL)
        for p in mounted:
            subprocess.run(["umount", "--lazy", p], check=True)


def results(programs, name, runtime, config):
    """[(passed, number)] in the order of the program's TAP."""
    p = subprocess.run(["./" + name], cwd=programs, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=120 * SLOW,
                       env=dict(os.environ, RUNTIME=runtime, GANTRY_CONFIG=config))
    return p.returncode, re.findall(r"^(ok|not ok) (\d+)", p.stdout, re.M), p.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_the_runtime(programs, config, name):
    runtime, file = config
    alone = results(programs, name, shutil.which(runtime), file)
    through = results(programs, name, PROGRAM, file)
    assert through[:2] == alone[:2], through[2]
    if name in MUST:
        assert through[0] == 0 and [x[0] for x in through[1]] == ["ok"] * MUST[name], through[2]
