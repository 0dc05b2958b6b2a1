# SPDX-License-Identifier: Apache-2.0
"""A server for tests of forwarded ports.  The first byte of a connection says what it does."""
import subprocess

LARGE = 24 << 20  # bytes that "z" answers with

SERVER = r"""
import socket, sys, threading, hashlib
def serve(c):
    kind = c.recv(1)
    if kind == b"e":                    # echo, to the end of what comes
        while True:
            x = c.recv(65536)
            if not x: break
            c.sendall(x)
    elif kind == b"h":                  # hash, once the client has ended
        h = hashlib.sha256()
        while True:
            x = c.recv(65536)
            if not x: break
            h.update(x)
        c.sendall(h.hexdigest().encode())
    elif kind == b"z":                  # many bytes
        for i in range(%d): c.sendall(b"z" * 65536)
    c.close()
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(128)
print(s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
""" % (LARGE >> 16)


class Service:
    """A server in the network namespace of a process; None: ours."""

    def __init__(self, pid=None, address="127.0.0.1", port=0):
        enter = ["nsenter", "-t", str(pid), "-n"] if pid else []
        self.p = subprocess.Popen([*enter, "/usr/bin/python3", "-c", SERVER, address, str(port)],
                                  stdout=subprocess.PIPE, text=True)
        self.port = int(self.p.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()
