# SPDX-License-Identifier: Apache-2.0
"""CRI v1 for tests: messages made by protoc, calls over grpcio."""
import os
import subprocess
import sys

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
# Where the machine is emulated, everything takes so many times as long.
SLOW = int(os.environ.get("GANTRY_TEST_SLOW") or 1)


def _generate():
    out = os.environ.get("GANTRY_TEST_GEN", os.path.join(TOP, "build", "tests-gen"))
    os.makedirs(out, exist_ok=True)
    for name in ("api", "gantry"):
        src = os.path.join(TOP, "proto", name + ".proto")
        dst = os.path.join(out, name + "_pb2.py")
        if not os.path.exists(dst) or os.path.getmtime(dst) < os.path.getmtime(src):
            subprocess.run(["protoc", "--python_out=" + out, "-I" + os.path.dirname(src), src],
                           check=True)
    sys.path.insert(0, out)


_generate()
import api_pb2 as api  # noqa: E402
import gantry_pb2 as own  # noqa: E402

MAX = 16 << 20
RUNTIME = api.DESCRIPTOR.services_by_name["RuntimeService"]
IMAGE = api.DESCRIPTOR.services_by_name["ImageService"]
GANTRY = own.DESCRIPTOR.services_by_name["Gantry"]


def _class(descriptor):
    module = own if descriptor.file.name == "gantry.proto" else api
    return getattr(module, descriptor.name)


class Client:
    """Every method of CRI as a method: client.RunPodSandbox(config=..., timeout=5)."""

    def __init__(self, address, options=()):
        self.address = address
        self.channel = grpc.insecure_channel("unix://" + address, options=[
            ("grpc.max_receive_message_length", MAX * 2),
            ("grpc.max_send_message_length", MAX * 2),
            # Else a new client waits out the pauses of an older one whose daemon was gone.
            ("grpc.use_local_subchannel_pool", 1), *options])
        for service in (RUNTIME, IMAGE, GANTRY):
            for m in service.methods:
                path = "/%s/%s" % (service.full_name, m.name)
                req, res = _class(m.input_type), _class(m.output_type)
                streams = service is GANTRY or m.name == "GetContainerEvents" or \
                    m.name.startswith("Stream")
                make = self.channel.unary_stream if streams else self.channel.unary_unary
                call = make(path, request_serializer=req.SerializeToString,
                            response_deserializer=res.FromString)
                setattr(self, m.name, self._bind(call, req))

    def hasty(self):
        """
        A client for calls that are given up at once.  gRPC's C core may reset a stream that it has
        not opened yet; that is an error of the connection (RFC 9113, 5.1), and another call on it
        fails where it is sent before the daemon's answer to that is seen.
        """
        client = Client(self.address)
        client.Version()
        return client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _bind(call, req):
        def invoke(request=None, *, rpc_timeout=60 * SLOW, **fields):
            return call(request if request is not None else req(**fields), timeout=rpc_timeout)

        def future(request=None, *, rpc_timeout=60 * SLOW, **fields):
            return call.future(request if request is not None else req(**fields),
                               timeout=rpc_timeout)
        invoke.future = future
        return invoke

    def close(self):
        self.channel.close()
