# SPDX-License-Identifier: Apache-2.0
"""A client that asks for nothing special, again and again, and how long it waits: a process of its
own, so that what a test does in Python meanwhile does not count."""
import json
import os
import subprocess
import sys
import time


class Bystander:
    """with Bystander(address) as b: ...; b.waits is then sorted, in seconds; b.failed are errors."""

    def __init__(self, address):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), address], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.waits, self.failed = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        out, _ = self.process.communicate(timeout=60)
        self.waits, self.failed = json.loads(out)
        self.waits.sort()


def main():
    import select
    import grpc
    from cri import Client
    waits, failed = [], []
    client = Client(sys.argv[1])
    client.Version(rpc_timeout=20)
    print("ready", flush=True)
    while len(waits) < 50 or not select.select([0], [], [], 0)[0]:
        began = time.monotonic()
        try:
            client.Version(rpc_timeout=20)
        except grpc.RpcError as e:
            failed.append("%s: %s" % (e.code(), e.details()))
        waits.append(time.monotonic() - began)
        time.sleep(0.002)  # a client, not another attack
    print(json.dumps([waits, failed]))


if __name__ == "__main__":
    main()
