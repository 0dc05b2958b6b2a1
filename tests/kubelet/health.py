# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1 on a port, for a container that has the node's files: health.py PORT UNWELL

It does not serve where the file UNWELL exists, and knows one service, `known`."""
import concurrent.futures
import os
import sys

import grpc


class Health(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    @staticmethod
    def check(request, context):
        if b"known" not in request:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return b"\x08\x02" if os.path.exists(sys.argv[2]) else b"\x08\x01"


server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers([Health()])
assert server.add_insecure_port("[::]:" + sys.argv[1])
server.start()
server.wait_for_termination()
