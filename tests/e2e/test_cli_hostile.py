# SPDX-License-Identifier: Apache-2.0
"""The command `gantry` against a peer that says what no daemon should: nothing of it may reach a
terminal raw, and nothing may make the command hang, crash or do harm."""
import concurrent.futures
import json
import os
import re
import subprocess

import grpc
import pytest

from cri import api
from daemon import BUILD

GANTRY = BUILD + "/programs/gantry/gantry"
EVIL = "a\x1b[31mred\x07\u202e\u009b2J\nfake: line\t\x7f"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
NAME = "$(touch pwned)"


def evil_map():
    return {"k" + EVIL: "v" + EVIL}


def pod():
    return api.PodSandbox(id="f" * 64, metadata=api.PodSandboxMetadata(
        name=EVIL, namespace=EVIL, uid=EVIL), labels=evil_map(), runtime_handler=EVIL, created_at=1,
        annotations={"io.gantry.run": "../../../../tmp/precious"})


def container(name=EVIL, id="e" * 64):
    return api.Container(id=id, pod_sandbox_id="f" * 64, metadata=api.ContainerMetadata(name=name),
                         image=api.ImageSpec(image=EVIL), labels=evil_map(), state=1,
                         created_at=1 << 62)


def answers(tmp_path):
    log = str(tmp_path / "log")
    with open(log, "w") as f:
        f.write("no CRI line\n2024-01-01T00:00:00Z stdout F fine\n")
    status = api.ContainerStatus(id="e" * 64, metadata=api.ContainerMetadata(name=EVIL), state=2,
                                 log_path=log, reason=EVIL, message=EVIL, labels=evil_map())
    image = api.Image(id="sha256:" + "d" * 64, repo_tags=[EVIL + ":x", NAME + ":y", "ok/name:1"],
                      repo_digests=[EVIL + "@" + EVIL], size=1 << 63)
    stats = api.ContainerStats(attributes=api.ContainerAttributes(
        id="e" * 64, metadata=api.ContainerMetadata(name=EVIL)))
    stats.memory.working_set_bytes.value = (1 << 64) - 1
    stats.memory.available_bytes.value = 1
    pod_stats = api.PodSandboxStats(attributes=api.PodSandboxAttributes(
        id="f" * 64, metadata=api.PodSandboxMetadata(name=EVIL)))
    pod_stats.linux.SetInParent()
    return {
        "Version": api.VersionResponse(runtime_version=EVIL, runtime_api_version=EVIL),
        "Status": api.StatusResponse(
            status=api.RuntimeStatus(conditions=[api.RuntimeCondition(
                type=EVIL, reason=EVIL, message=EVIL)]),
            info={"config": json.dumps({"rootDir": EVIL, "runtimes": [{"name": EVIL, "reason": EVIL}]})},
            runtime_handlers=[api.RuntimeHandler(name=NAME), api.RuntimeHandler(name=EVIL)]),
        "ListPodSandbox": api.ListPodSandboxResponse(items=[pod()]),
        "ListContainers": api.ListContainersResponse(containers=[
            container(), container(NAME, "c" * 64), container("-rf", "b" * 64)]),
        "ContainerStatus": api.ContainerStatusResponse(status=status, info={"info": "no json " + EVIL}),
        "PodSandboxStatus": api.PodSandboxStatusResponse(
            status=api.PodSandboxStatus(id="f" * 64, metadata=pod().metadata),
            info={EVIL: EVIL}),
        "ListImages": api.ListImagesResponse(images=[image]),
        "ImageStatus": api.ImageStatusResponse(image=image, info={"info": "[" * 1000}),
        "ImageFsInfo": api.ImageFsInfoResponse(),
        "ListContainerStats": api.ListContainerStatsResponse(stats=[stats, api.ContainerStats()]),
        "ListPodSandboxStats": api.ListPodSandboxStatsResponse(
            stats=[pod_stats, api.PodSandboxStats()]),
        "StopPodSandbox": api.StopPodSandboxResponse(), "RemovePodSandbox": api.RemovePodSandboxResponse(),
        "RemoveContainer": api.RemoveContainerResponse(), "StopContainer": api.StopContainerResponse(),
    }


class Peer:
    """Answers each method with a message, bytes as they are, or an error (an exception's text)."""

    def __init__(self, path, replies):
        self.asked = []
        self.replies = replies
        peer = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                name = details.method.rsplit("/", 1)[1]

                def answer(request, context):
                    peer.asked.append(name)
                    r = peer.replies.get(name, Exception("no " + name))
                    if isinstance(r, Exception):
                        context.abort(grpc.StatusCode.INTERNAL, str(r))
                    return r if isinstance(r, bytes) else r.SerializeToString()
                return grpc.unary_unary_rpc_method_handler(answer)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Handler()],
                                  options=[("grpc.max_send_message_length", -1)])
        self.server.add_insecure_port("unix:" + path)
        self.server.start()
        self.path = path

    def run(self, *args):
        p = subprocess.run([GANTRY, *args], stdin=subprocess.DEVNULL,
                           env=dict(os.environ, GANTRY_ADDRESS=self.path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
        assert p.returncode >= 0, (args, p)  # no signal ended it
        assert b"Sanitizer" not in p.stderr and b"runtime error:" not in p.stderr, (args, p.stderr)
        return p.returncode, p.stdout.decode(), p.stderr.decode()


@pytest.fixture
def peer(tmp_path):
    p = Peer(str(tmp_path / "s"), answers(tmp_path))
    yield p
    p.server.stop(None)


COMMANDS = [
    ["version"], ["info"], ["pods"], ["pods", "--no-trunc"], ["ps", "-a"], ["images", "--digests"],
    ["inspect", "f"], ["inspect", "e"], ["inspect", "ok/name:1"], ["stats", "--no-stream", "--interval", "100ms"],
    ["stats", "--pods", "--no-stream", "--interval", "100ms"], ["stop", "e"], ["exec", "e", "x"],
    ["wait", "e"], ["logs", "f"], ["logs", EVIL], ["pull", EVIL], ["rmi", "ok/name:1"], ["run", EVIL, "x"],
    ["run", "ok/name:1"], ["stop", "f"], [EVIL], ["ps", "--" + EVIL], ["rm", "-f", EVIL + "x"],
]


@pytest.mark.parametrize("args", COMMANDS, ids=lambda a: " ".join(a[:2]).encode("unicode_escape").decode())
def test_nothing_raw(peer, args):
    for how in ([], ["-o", "json"], ["-o", "yaml"]):
        status, out, err = peer.run(*args, *how)
        assert not RAW.search(out) and not RAW.search(err), (args, how, out, err)
        for line in (out + err).splitlines():
            assert not line.startswith("fake: line"), (args, out, err)


def test_json_keeps_what_was_said(peer):
    item, = json.loads(peer.run("pods", "-o", "json")[1])["items"]
    assert item["metadata"]["name"] == EVIL and item["labels"] == evil_map()


def test_errors_are_made_safe(peer):
    peer.replies["ListPodSandbox"] = Exception("one " + EVIL)
    status, out, err = peer.run("pods")
    assert status == 1 and out == "" and "one a\\x1b[31mred" in err and "(INTERNAL)" in err
    assert not RAW.search(err) and "\n    fake: line" in err


def test_rm_removes_no_directory_that_a_pod_names(peer, tmp_path):
    precious = tmp_path / "logs" / "precious"
    precious.mkdir(parents=True)
    peer.replies["Status"] = api.StatusResponse(info={"config": json.dumps({"rootDir": str(tmp_path)})})
    item = pod()
    for leaf in ("precious", "../logs/precious", "", ".", "..", "A" * 32, "f" * 31 + "/"):
        item.annotations["io.gantry.run"] = leaf
        peer.replies["ListPodSandbox"] = api.ListPodSandboxResponse(items=[item])
        assert peer.run("rm", "-f", "f" * 64)[0] == 0
        assert precious.is_dir()
    assert "RemovePodSandbox" in peer.asked


def test_completion_offers_nothing_that_a_shell_acts_on(peer):
    for words in (["logs", ""], ["rm", ""], ["run", ""], ["run", "--runtime", ""], ["inspect", ""],
                  ["stop", "-"], ["rmi", "$"]):
        status, out, err = peer.run("__complete", "words", "--", *words)
        assert status == 0 and err == ""
        for line in out.splitlines():
            value = line.split("\t")[0]
            assert re.fullmatch(r"[\w./:@-]+", value), line
            assert not RAW.search(line.replace("\t", "")), line
            assert value != "-rf"
    assert "ok/name:1" in peer.run("__complete", "words", "--", "run", "")[1]


@pytest.mark.parametrize("reply", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab"],
                         ids=["no tags", "too long", "cut"])
def test_garbage(peer, reply):
    for name in list(peer.replies):
        peer.replies[name] = reply
    for args in COMMANDS[:12]:
        status, out, err = peer.run(*args)
        assert status != 0 and "the daemon's answer is no" in err, (args, err)


def test_too_large(peer):
    peer.replies["ListPodSandbox"] = b"\x0a\x80\x80\x80\x10" + b"\0" * (32 << 20)
    status, out, err = peer.run("pods")
    assert status == 1 and "too large" in err or "larger than" in err


def test_empty_answers(peer):
    for name in list(peer.replies):
        peer.replies[name] = b""
    for args in COMMANDS:
        peer.run(*args)
    assert "does not say where its root directory is" in peer.run("run", "--pull", "never", "x", "y")[2] \
        or peer.run("run", "--pull", "never", "x", "y")[0] == 125


def test_no_daemon_at_all(tmp_path):
    import socket
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()

        def serve(data):
            c, _ = s.accept()
            c.recv(100)
            try:
                c.sendall(data)
            finally:
                c.close()
        for data in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", os.urandom(4096)):
            with concurrent.futures.ThreadPoolExecutor() as pool:
                f = pool.submit(serve, data)
                p = subprocess.run([GANTRY, "--address", path, "ps"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, timeout=20)
                f.result(5)
            assert p.returncode == 1 and "connection to the daemon was lost" in p.stderr, p
