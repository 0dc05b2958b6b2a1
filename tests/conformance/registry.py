#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A read-only image registry on loopback, serving one OCI image layout.

An image is found by its repository path and tag whatever its registry host
(registry.k8s.io/pause:3.9 is /v2/pause/manifests/3.9), so the runtime under
test points the mirrors of those hosts here.

  registry.py LAYOUT [--port 5000] [--log FILE]
"""
import argparse
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def log_message(self, fmt, *args):
        if self.server.log:
            self.server.log.write("%s\n" % (fmt % args))
            self.server.log.flush()

    def fail(self, code, what):
        body = json.dumps({"errors": [{"code": what, "message": what.lower()}]}).encode()
        self.reply(code, body, {"Content-Type": "application/json"})

    def reply(self, code, body, headers):
        self.send_response(code)
        for k, v in headers.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in ("/v2", "/v2/"):
            return self.reply(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
        m = re.fullmatch(r"/v2/(.+)/tags/list", path)
        if m:
            tags = sorted(t for r, t in self.server.tags if r == m[1])
            if not tags:
                return self.fail(404, "NAME_UNKNOWN")
            return self.reply(200, json.dumps({"name": m[1], "tags": tags}).encode(), {"Content-Type": "application/json"})
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if not m:
            return self.fail(404, "NAME_UNKNOWN")
        repo, kind, ref = m.groups()
        if kind == "manifests" and not ref.startswith("sha256:"):
            if (repo, ref) not in self.server.tags:
                return self.fail(404, "MANIFEST_UNKNOWN")
            ref = self.server.tags[(repo, ref)]
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", ref):
            return self.fail(400, "DIGEST_INVALID")
        try:
            f = open(os.path.join(self.server.layout, "blobs", "sha256", ref[7:]), "rb")
        except OSError:
            return self.fail(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN")
        with f:
            size = os.fstat(f.fileno()).st_size
            if kind == "manifests":
                body = f.read()
                return self.reply(200, body, {"Content-Type": json.loads(body)["mediaType"], "Docker-Content-Digest": ref})
            first, code = 0, 200
            r = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            end = size - 1
            if r and int(r[1]) < size:
                first, code = int(r[1]), 206
                if r[2]:
                    end = min(end, int(r[2]))
            self.send_response(code)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Docker-Content-Digest", ref)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - first + 1))
            if code == 206:
                self.send_header("Content-Range", "bytes %d-%d/%d" % (first, end, size))
            self.end_headers()
            self.wfile.flush()
            if self.command == "HEAD":
                return
            try:
                while first <= end:
                    n = os.sendfile(self.connection.fileno(), f.fileno(), first, end - first + 1)
                    if n == 0:
                        break
                    first += n
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True


def main():
    p = argparse.ArgumentParser()
    p.add_argument("layout")
    p.add_argument("--port", type=int, default=5000)
    p.add_argument("--log")
    a = p.parse_args()
    srv = ThreadingHTTPServer(("127.0.0.1", a.port), Handler)
    srv.daemon_threads = True
    srv.layout = a.layout
    srv.log = open(a.log, "a") if a.log else None
    srv.tags = {}
    with open(os.path.join(a.layout, "index.json")) as f:
        for m in json.load(f)["manifests"]:
            ref = m["annotations"]["org.opencontainers.image.ref.name"]
            repo, tag = ref.split("/", 1)[1].rsplit(":", 1)
            srv.tags[(repo, tag)] = m["digest"]
    print("serving %d references on 127.0.0.1:%d" % (len(srv.tags), srv.server_port),
          flush=True)
    try:
        srv.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
