# SPDX-License-Identifier: Apache-2.0
"""A real reboot, with pods that run, pods, containers and pulls that are half made: what the next
boot finds, as the kubelet sees it. What is done inside is in node.py."""
from reboots import check, hold_states


def test_a_reboot_in_the_middle_of_everything(guest):
    facts = hold_states(guest)
    guest.reboot()
    check(guest, dict(facts, exact=True))


def test_the_daemon_did_not_hold_it_up(guest):
    """Requests that hang are not waited for, nor pods."""
    log = guest.run("journalctl -b -1 -u gantry -o short-unix --no-pager").out.splitlines()
    begun = next(x for x in log if "draining" in x)
    ended = next(x for x in log if "Stopped" in x or "Deactivated" in x)
    seconds = float(ended.split()[0]) - float(begun.split()[0])
    assert seconds < 15 * guest.slow, (begun, ended)
