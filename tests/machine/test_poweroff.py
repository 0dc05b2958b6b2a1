# SPDX-License-Identifier: Apache-2.0
"""The power fails: QEMU is killed, and with it what had not reached the disk. What is done inside is
in node.py.

GANTRY_GUEST_CUTS: how many cuts at random moments (3); GANTRY_GUEST_SEED: of those (a new one, which
is printed)."""
import os
import random
import threading
import time

import pytest

from guest import Gone
from reboots import NODE, check, hold_states, no_unit_failed, put_node

SEED = int(os.environ.get("GANTRY_GUEST_SEED") or random.randrange(1 << 16))
CUTS = int(os.environ.get("GANTRY_GUEST_CUTS") or 3)


def cut(guest):
    guest.power_cut()
    guest.boot(fresh=False)


def test_a_cut_when_the_disk_has_everything(guest):
    """But for what is in memory alone, it is as after a reboot."""
    facts = hold_states(guest)
    guest.run("sync")
    cut(guest)
    check(guest, dict(facts, exact=True))


def test_a_cut_right_after_a_pull_was_answered(guest):
    """Rows may be lost; the image may not."""
    facts = hold_states(guest)
    cut(guest)
    check(guest, dict(facts, exact=False))


@pytest.mark.parametrize("number", range(CUTS))
def test_cuts_at_any_moment(guest, number):
    """While pods come and go. What was said to be pulled is there, byte for byte."""
    seed = "%d-%d" % (SEED, number)
    print("seed", seed)
    put_node(guest)
    said, lines, first = [b""], [], threading.Event()

    def sink(data):
        *whole, said[0] = (said[0] + data).split(b"\n")
        lines.extend(x.decode() for x in whole)
        if any(x.startswith("pulled ") for x in lines):
            first.set()

    def run():
        try:
            guest.run([*NODE, "churn", seed], sink=sink, timeout=3600, check=False)
        except Gone:
            pass
        first.set()
    thread = threading.Thread(target=run)
    thread.start()
    assert first.wait(200 * guest.slow)
    time.sleep(random.Random(seed).uniform(0, 5 * guest.slow))
    cut(guest)
    thread.join()
    pulled = [x.split()[1] for x in lines if x.startswith("pulled ")]
    assert pulled, lines
    print("pulled before:", len(pulled), "pods:", sum(x.startswith("running ") for x in lines))
    guest.wait_for("systemctl is-active gantry && gantry version")
    print(guest.run([*NODE, "survived", seed, *pulled], timeout=600).out)
    no_unit_failed(guest)
