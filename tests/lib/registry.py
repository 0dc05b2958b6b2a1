# SPDX-License-Identifier: Apache-2.0
"""Registries for tests: Debian's docker-registry, and one of our own that misbehaves on demand."""
import base64
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

from daemon import wait_for


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class DockerRegistry:
    """docker-registry on loopback, its storage in `directory`."""

    def __init__(self, directory, htpasswd=None):
        self.port = free_port()
        self.host = "127.0.0.1:%d" % self.port
        os.makedirs(directory, exist_ok=True)
        config = directory + "/config.yml"
        text = ("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n"
                "    rootdirectory: %s/data\nhttp:\n  addr: %s\n" % (directory, self.host))
        if htpasswd:
            text += "auth:\n  htpasswd:\n    realm: test\n    path: %s\n" % htpasswd
        with open(config, "w") as f:
            f.write(text)
        self.log = open(directory + "/log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log,
                                        stderr=self.log)
        wait_for(self.answers)

    def answers(self):
        try:
            urllib.request.urlopen("http://%s/v2/" % self.host, timeout=2)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _request(self, method, path, data=None, headers=None):
        url = path if path.startswith("http") else "http://%s%s" % (self.host, path)
        q = urllib.request.Request(url, data=data, method=method, headers=headers or {})
        return urllib.request.urlopen(q, timeout=30)

    def push(self, image, name, tag, manifest=None, media_type=None):
        """Puts the blobs, then the manifest (or an index) under the tag."""
        for digest, data in image.blobs.items():
            if data == image.manifest:
                continue
            r = self._request("POST", "/v2/%s/blobs/uploads/" % name, b"")
            to = r.headers["Location"]
            to += ("&" if "?" in to else "?") + "digest=" + urllib.parse.quote(digest)
            self._request("PUT", to, data, {"Content-Type": "application/octet-stream"})
        self._request("PUT", "/v2/%s/manifests/%s" % (name, image.digest), image.manifest,
                      {"Content-Type": image.media_type})
        self._request("PUT", "/v2/%s/manifests/%s" % (name, tag), manifest or image.manifest,
                      {"Content-Type": media_type or image.media_type})
        return "%s/%s:%s" % (self.host, name, tag)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Registry:
    """A registry in memory.  What a test wants of it is an attribute; everything that was asked
    is in `requests` as (method, path, headers).

    hooks: list of fn(handler, kind, what) called before a manifest or blob is sent; one that
    returns True has answered itself.
    """

    def __init__(self, tls=None, client_ca=None, port=0):
        self.images, self.blobs, self.requests, self.hooks = {}, {}, [], []
        self.basic = None       # (user, password)
        self.bearer = None      # Tokens
        self.ranges = True
        self.lock = threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                registry.handle(self)

            def do_POST(self):
                registry.handle(self)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # clients that go away are what tests are about

        self.server = Server(("127.0.0.1", port), Handler)
        if tls:
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(tls.cert, tls.key)
            if client_ca:
                ctx.verify_mode = ssl.CERT_REQUIRED
                ctx.load_verify_locations(client_ca)
            self.server.socket = ctx.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.host = "127.0.0.1:%d" % self.port
        self.url = ("https://" if tls else "http://") + self.host
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    # --- content ---

    def add(self, image, name, tag="latest", manifest=None, media_type=None):
        self.blobs.update(image.blobs)
        doc = (manifest or image.manifest, media_type or image.media_type)
        self.images[(name, tag)] = doc
        self.images[(name, image.digest)] = (image.manifest, image.media_type)
        import image as images
        self.images[(name, images.sha256(doc[0]))] = doc
        return "%s/%s:%s" % (self.host, name, tag)

    # --- answers ---

    def handle(self, h):
        url = urllib.parse.urlparse(h.path)
        body = h.rfile.read(int(h.headers.get("Content-Length") or 0))
        with self.lock:
            self.requests.append((h.command, h.path, dict(h.headers.items())))
        if url.path == "/token":
            return self.bearer.answer(h, dict(urllib.parse.parse_qsl(url.query)),
                                      dict(urllib.parse.parse_qsl(body.decode())))
        if not self.allowed(h, url.path):
            return None
        parts = url.path.split("/")
        if len(parts) < 5 or parts[1] != "v2":
            return self.error(h, 404, "NOT_FOUND", "no such path")
        name, kind, what = "/".join(parts[2:-2]), parts[-2], parts[-1]
        for hook in list(self.hooks):
            if hook(h, kind, what):
                return None
        if kind == "manifests" and (name, what) in self.images:
            data, media_type = self.images[(name, what)]
            return self.send(h, data, media_type)
        if kind == "blobs" and what in self.blobs:
            return self.send(h, self.blobs[what])
        return self.error(h, 404, "MANIFEST_UNKNOWN", "%s %s is not here" % (kind, what))

    def allowed(self, h, path):
        auth = h.headers.get("Authorization", "")
        if self.basic:
            want = "Basic " + base64.b64encode(("%s:%s" % self.basic).encode()).decode()
            if auth == want:
                return True
            self.error(h, 401, "UNAUTHORIZED", "who are you",
                       {"WWW-Authenticate": 'Basic realm="test, of all"'})
            return False
        if self.bearer:
            name = "/".join(path.split("/")[2:-2])
            if auth.startswith("Bearer ") and self.bearer.good(auth[7:], name):
                return True
            self.error(h, 401, "UNAUTHORIZED", "a token is wanted", {
                "WWW-Authenticate": 'Bearer realm="%s",service="test.svc",'
                                    'scope="repository:%s:pull"' % (self.bearer.realm(self), name)})
            return False
        return True

    def send(self, h, data, media_type="application/octet-stream", cut=None):
        """The whole, or from where the client wants it; `cut`: the connection ends after that
        many bytes."""
        start, status, wanted = 0, 200, h.headers.get("Range")
        if wanted and self.ranges:
            start = int(wanted[len("bytes="):].rstrip("-"))
            if start >= len(data):
                return self.error(h, 416, "RANGE", "nothing there")
            status = 206
        part = data[start:]
        h.send_response(status)
        h.send_header("Content-Type", media_type)
        h.send_header("Content-Length", str(len(part)))
        if status == 206:
            h.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))
        h.end_headers()
        if cut is not None:
            h.wfile.write(part[:cut])
            h.wfile.flush()
            self.drop(h)
        else:
            h.wfile.write(part)
        return None

    @staticmethod
    def drop(h):
        """Ends the connection at once."""
        h.close_connection = True
        try:
            h.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    @staticmethod
    def error(h, status, code, message, headers=None):
        data = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        h.send_response(status)
        for k, v in (headers or {}).items():
            h.send_header(k, v)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data)

    # --- what was asked ---

    def asked(self, part):
        with self.lock:
            return [r for r in self.requests if part in r[1]]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Tokens:
    """The token server of a registry: the registry itself, or another one's /token."""

    def __init__(self, user=None, password=None, refresh=None, lives=None, at=None):
        self.user, self.password, self.refresh = user, password, refresh
        self.lives, self.at = lives, at     # uses before a token has expired; a URL
        self.tokens = {}                    # token: [scope, uses]
        self.fixed = set()
        self.asked = []                     # (query or form, Authorization)

    def realm(self, registry):
        return self.at or registry.url + "/token"

    def good(self, token, name):
        if token in self.fixed:
            return True
        t = self.tokens.get(token)
        if not t or t[0] != "repository:%s:pull" % name:
            return False
        t[1] += 1
        return self.lives is None or t[1] <= self.lives

    def answer(self, h, query, form):
        auth = h.headers.get("Authorization", "")
        self.asked.append((form if h.command == "POST" else query, auth))
        q = form if h.command == "POST" else query
        if h.command == "POST":
            allowed = self.refresh and q.get("refresh_token") == self.refresh and \
                q.get("grant_type") == "refresh_token" and q.get("service") == "test.svc"
        elif self.user:
            allowed = auth == "Basic " + base64.b64encode(
                ("%s:%s" % (self.user, self.password)).encode()).decode()
        else:
            allowed = not self.refresh and q.get("service") == "test.svc"
        if not allowed:
            return Registry.error(h, 401, "DENIED", "wrong credentials")
        token = "tok-%d" % len(self.asked)
        self.tokens[token] = [q.get("scope"), 0]
        key = "access_token" if h.command == "POST" else "token"
        data = json.dumps({key: token, "expires_in": 60, "issued_at": "2026-01-01T00:00:00Z"})
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data.encode())
        return None


class Certificate:
    """A certificate authority and a certificate of it for 127.0.0.1, made by openssl."""

    def __init__(self, directory, name="server", ca=None):
        os.makedirs(directory, exist_ok=True)
        p = directory + "/" + name
        self.cert, self.key = p + ".pem", p + "-key.pem"
        if ca is None:
            self.ca, self.ca_key = p + "-ca.pem", p + "-ca-key.pem"
            self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                          "-nodes", "-keyout", self.ca_key, "-out", self.ca, "-days", "2",
                          "-subj", "/CN=test ca " + name)
        else:
            self.ca, self.ca_key = ca.ca, ca.ca_key
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", self.key, "-out", p + ".csr", "-subj", "/CN=" + name)
        with open(p + ".ext", "w") as f:
            f.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("x509", "-req", "-in", p + ".csr", "-CA", self.ca, "-CAkey", self.ca_key,
                      "-CAcreateserial", "-days", "2", "-extfile", p + ".ext", "-out", self.cert)

    @staticmethod
    def _openssl(*args):
        subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def stall(handler, data, after, seconds=300):
    """Sends the head and `after` bytes, then nothing until the client goes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:after])
    handler.wfile.flush()
    handler.connection.settimeout(seconds)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if not handler.connection.recv(1):
                break
        except OSError:
            break
    handler.close_connection = True
