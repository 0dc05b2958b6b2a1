# SPDX-License-Identifier: Apache-2.0
"""proto/api.proto says what the newest release of k8s.io/cri-api says: every message, field, number,
type, enumeration, service and method, and nothing else.  The release is fetched with the Go client
through the module proxy; GANTRY_CRI_API=DIR is a copy of the module to use instead."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))
import tools  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PUBLISHED = "pkg/apis/runtime/v1/api.proto"
FETCH_TIMEOUT = 120


def fetch(directory):
    """The module's directory; skips the test where there is no way to it."""
    if os.environ.get("GANTRY_CRI_API"):
        return os.environ["GANTRY_CRI_API"]
    try:
        go = tools.go()
    except tools.Unavailable as e:
        pytest.skip("no Go to fetch k8s.io/cri-api with: %s" % e)
    (directory / "go.mod").write_text("module gantry/tests\n")
    try:
        r = subprocess.run([*os.environ.get("GANTRY_OUTSIDE", "").split(), go, "mod", "download",
                            "-json", "k8s.io/cri-api@latest"],
                           cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=FETCH_TIMEOUT)
    except subprocess.TimeoutExpired:
        pytest.skip("the Go module proxy did not answer in %d s" % FETCH_TIMEOUT)
    if r.returncode:
        pytest.skip("k8s.io/cri-api cannot be fetched: " + (r.stderr + r.stdout)[-300:])
    module = json.loads(r.stdout)
    print("comparing with k8s.io/cri-api", module["Version"])
    return module["Dir"]


def compiled(text, directory, name):
    """The file as protoc understands it."""
    if not shutil.which("protoc"):
        pytest.skip("no protoc here (Debian: protobuf-compiler)")
    (directory / name).write_text(text)
    out = directory / (name + ".pb")
    subprocess.run(["protoc", "-I", str(directory), "--descriptor_set_out", str(out), name],
                   check=True, cwd=directory)
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return files.file[0]


def flatten(f):
    """{what: what it is}, each line of which means something on the wire or in a schema."""
    facts = {}

    def message(m, prefix):
        name = "%s.%s" % (prefix, m.name)
        facts["message " + name] = "map entry" if m.options.map_entry else "message"
        for x in m.field:
            kind = descriptor_pb2.FieldDescriptorProto.Type.Name(x.type)
            label = descriptor_pb2.FieldDescriptorProto.Label.Name(x.label)
            facts["field %s #%d" % (name, x.number)] = " ".join(
                [x.name, label, kind, x.type_name, x.json_name,
                 m.oneof_decl[x.oneof_index].name if x.HasField("oneof_index") else ""])
        for n in m.nested_type:
            message(n, name)
        for e in m.enum_type:
            enum(e, name)

    def enum(e, prefix):
        for v in e.value:
            facts["enum %s.%s = %d" % (prefix, e.name, v.number)] = v.name

    for m in f.message_type:
        message(m, "." + f.package)
    for e in f.enum_type:
        enum(e, "." + f.package)
    for s in f.service:
        for m in s.method:
            facts["rpc %s.%s/%s" % (f.package, s.name, m.name)] = "%s -> %s%s%s" % (
                m.input_type, m.output_type, " client stream" if m.client_streaming else "",
                " stream" if m.server_streaming else "")
    return facts


def differences(ours, published):
    a, b = flatten(ours), flatten(published)
    return ["%s: %s, published as %s" % (x, a.get(x, "missing"), b.get(x, "nothing"))
            for x in sorted(a.keys() | b.keys()) if a.get(x) != b.get(x)]


def our_text():
    with open(TOP + "/proto/api.proto") as f:
        return f.read()


def test_as_published(tmp_path):
    with open(os.path.join(fetch(tmp_path), PUBLISHED)) as f:
        text = re.sub(r"\s*\[debug_redact = true\]", "", f.read())  # newer than our protoc
    published = compiled(text, tmp_path, "published.proto")
    assert len(flatten(published)) > 800  # it is what we think it is
    assert differences(compiled(our_text(), tmp_path, "ours.proto"), published) == []


def test_finds_differences(tmp_path):
    """A number, a type, a name or a method that is wrong is seen."""
    right = compiled(our_text(), tmp_path, "right.proto")
    for old, new in (("string runtime_handler = 2;", "string runtime_handler = 3;"),
                     ("string runtime_handler = 2;", "bytes runtime_handler = 2;"),
                     ("string runtime_handler = 2;", "string runtime_handlers = 2;"),
                     ("CONTAINER_EXITED = 2;", "CONTAINER_GONE = 2;"),
                     ("returns (stream StreamContainersResponse)",
                      "returns (StreamContainersResponse)")):
        assert old in our_text(), old
        wrong = compiled(our_text().replace(old, new, 1), tmp_path, "wrong.proto")
        assert differences(wrong, right), (old, new)
