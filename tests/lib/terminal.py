# SPDX-License-Identifier: Apache-2.0
"""A command on a terminal of its own, and a person at it."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from cri import SLOW
from daemon import wait_for


class Terminal:
    """It is the command's controlling one."""

    def __init__(self, argv, rows=30, columns=100, **kw):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.p = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)), **kw)
        self.slave, self.got = slave, b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def read(self, timeout):
        if select.select([self.master], [], [], timeout)[0]:
            try:
                self.got += os.read(self.master, 65536)
            except OSError:
                pass

    def expect(self, text, timeout=20):
        text = text if isinstance(text, bytes) else text.encode()
        end = time.monotonic() + timeout * SLOW
        while text not in self.got:
            assert time.monotonic() < end, "%r did not come: %r" % (text, self.got[-2000:])
            self.read(0.1)
        got, self.got = self.got.split(text, 1)
        return got

    def ready(self):
        """From now on what is typed is for the container, and what is seen comes from there."""
        wait_for(self.raw)
        return self

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def end(self, timeout=20):
        """The exit status; the terminal is as it was."""
        end = time.monotonic() + timeout * SLOW
        while self.p.poll() is None:
            assert time.monotonic() < end, self.got[-2000:]
            self.read(0.01)
        self.read(0)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is as it was"
        os.close(self.slave)
        os.close(self.master)
        return self.p.returncode
