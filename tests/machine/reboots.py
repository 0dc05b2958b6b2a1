# SPDX-License-Identifier: Apache-2.0
"""What test_reboot.py and test_poweroff.py share: node.py in the machine, seen from the host."""
import json
import os
import threading

from fixtures import BUSYBOX
from guest import INSIDE, TOP, Gone

NODE = ["/usr/bin/python3", "-u", INSIDE + "/tests/machine/node.py"]


def put_node(guest):
    guest.put(["tests/lib", "tests/machine", "proto"], INSIDE, base=TOP, exclude=["__pycache__"])
    guest.put(os.path.realpath(BUSYBOX), "/root")
    guest.run("test -e /root/busybox || mv /root/%s /root/busybox" % os.path.basename(
        os.path.realpath(BUSYBOX)))


def hold_states(guest):
    """Everything is in the middle of something; returns what is to be known of it afterwards."""
    put_node(guest)
    said, ready, ended = bytearray(), threading.Event(), threading.Event()

    def sink(data):
        said.extend(data)
        if b"\nREADY " in b"\n" + said and said.endswith(b"\n"):
            ready.set()

    def run():
        try:
            guest.run([*NODE, "states"], sink=sink, timeout=3600, check=False)
        except Gone:
            pass
        ended.set()
        ready.set()
    threading.Thread(target=run, daemon=True).start()
    ready.wait(300 * guest.slow)
    text = said.decode(errors="replace")
    assert "READY " in text and not ended.is_set(), text[-6000:]
    return json.loads(text.split("READY ")[1].splitlines()[0])


def check(guest, facts):
    """After the boot, without anyone's help."""
    guest.wait_for("systemctl is-active gantry && gantry version")
    print(guest.run([*NODE, "after", json.dumps(facts)], timeout=600).out)
    no_unit_failed(guest)


def no_unit_failed(guest):
    assert not guest.run("systemctl --failed --no-legend --plain").out
