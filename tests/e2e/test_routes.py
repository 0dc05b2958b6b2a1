# SPDX-License-Identifier: Apache-2.0
"""gantry route explain and route test, and what is wrong with rules, as an operator meets them."""
import json
import subprocess

import pytest

from daemon import BUILD, Daemon

CONFIG = """runtimes:
  crun: {}
  strong: {path: /nonexistent/strong, isolation: kernel, unit: pod}
  auto: {path: crun, routes: true}
default_runtimes: [crun]
routes:
  - name: databases
    match: {image: ["db-*", "~registry\\\\.example\\\\.com/(pg|my)-.*"]}
    runtimes: [strong, crun]
  - name: machines
    match: {image: "vm-*"}
    runtimes: [strong, crun]
    allow_weaker: true
  - name: tenants
    match: {namespace: "tenant-*", labels: {tier: [back, data]}}
    runtimes: [strong]
  - name: asked
    match: {annotations: {example.com/runtime: strong}}
    runtimes: [strong]
    trust_annotations: true
  - name: roots
    match: {privileged: true, user_namespace: false, pod: "root-*"}
    runtimes: [crun]
"""


@pytest.fixture(scope="module")
def node():
    d = Daemon(CONFIG)
    yield d
    d.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("routes") / "gantry.yaml"
    path.write_text(CONFIG)
    return str(path)


def run(*args, status=0, **kw):
    p = subprocess.run([BUILD + "/programs/gantry/gantry", *args], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60, **kw)
    assert p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout if status == 0 or p.stdout else p.stderr


def explain(*args, status=0):
    return json.loads(run("route", "explain", *args, "-o", "json", status=status))


def dropped(choice):
    return {c["runtime"]: c.get("dropped") for c in choice["candidates"]}


def test_the_daemon_explains_with_what_it_knows_now(node):
    at = ("--address", node.address)
    told = explain("nginx", *at)
    assert told["runtime"] == "crun" and told["pod"]["by"] == "default"
    assert [r["name"] for r in told["container"]["rules"]] == [
        "databases", "machines", "tenants", "asked", "roots"]
    assert not any(r["fits"] for r in told["container"]["rules"])
    # one that is not there, and no weaker one instead
    told = explain("db-x", *at, status=1)
    assert "runtime" not in told and told["container"]["rule"] == "databases"
    why = dropped(told["container"])
    assert "not available" in why["strong"] and "/nonexistent/strong" in why["strong"]
    assert "weaker than kernel" in why["crun"]
    told = explain("vm-x", *at)
    assert told["runtime"] == "crun" and told["container"]["weaker"]
    assert told["container"]["fallback"]
    # a pod alone
    told = explain("--handler", "auto", *at)
    assert told["runtime"] == "auto" and "container" not in told
    assert "no runtime \"nope\" is configured" in explain("--handler", "nope", *at,
                                                           status=1)["summary"]


def test_for_people(node):
    out = run("route", "explain", "db-x", "--address", node.address, status=1)
    pod, container = out.split("\n\nContainer: ")
    assert pod.startswith("Pod: crun (no rule fits: default_runtimes)\n\nRULE")
    assert container.startswith("refused: no runtime of the rule \"databases\" can be used")
    assert "looks at containers, of which there is none yet" in pod
    line = next(x for x in container.splitlines() if x.startswith("strong "))
    assert line.split()[1] == "kernel" and "not available" in line


def test_each_condition(file):
    def rule(*args):
        return explain(*args, "--config", file)["container"].get("rule")
    assert rule("registry.example.com/pg-1:2") == "databases"
    assert rule("registry.example.com/x/pg-1:2") is None
    assert rule("x", "--namespace", "tenant-1", "-l", "tier=data", "-l", "a=b") == "tenants"
    assert rule("x", "--namespace", "tenant-1", "-l", "tier=front") is None
    assert rule("x", "--namespace", "tenant-1") is None
    assert rule("x", "--annotation", "example.com/runtime=strong") == "asked"
    assert rule("x", "--label", "example.com/runtime=strong") is None
    assert rule("x", "--privileged", "--name", "root-1") == "roots"
    assert rule("x", "--privileged", "--userns", "--name", "root-1") is None
    assert rule("x", "--name", "root-1") is None
    told = explain("x", "--handler", "crun", "--namespace", "tenant-1", "-l", "tier=data",
                   "--config", file)
    assert told["runtime"] == "crun" and told["container"]["rules"] == []
    assert "expected KEY=VALUE" in run("route", "explain", "x", "-l", "y", status=2)
    assert "is no repository" in run("route", "explain", "X", "--config", file, status=1)


def test_without_a_daemon_every_runtime_is_there(file):
    told = explain("db-x", "--config", file, "--address", "/nonexistent")
    assert told["runtime"] == "strong" and not told["container"]["fallback"]


CASES = """
- {name: databases, image: db-x, expect: strong, rule: databases}
- {name: no fallback, image: db-x, unavailable: [strong], refused: weaker than kernel}
- {image: vm-x, unavailable: [strong], expect: crun}
- {image: nginx, expect: crun, rule: ""}
- {name: a pod alone, handler: auto, expect: auto}
- {handler: nope, refused: is configured}
- name: labels
  namespace: tenant-1
  labels: {tier: back}
  container: c
  expect: strong
"""


def test_expectations(file, tmp_path):
    table = tmp_path / "cases.yaml"
    table.write_text(CASES)
    out = run("route", "test", str(table), "--config", file)
    assert out.endswith("7 of 7 as expected\n") and out.count("ok ") == 7
    told = json.loads(run("route", "test", "-", "--config", file, "-o", "json", status=1,
                          input=json.dumps([
                              {"image": "db-x", "expect": "crun"},
                              {"image": "db-x", "refused": ""},
                              {"image": "nginx", "expect": "crun", "rule": "databases"},
                              {"image": "db-x", "expect": "strong"}])))
    assert (told["passed"], told["failed"]) == (1, 3)
    assert [c["passed"] for c in told["cases"]] == [False, False, False, True]
    assert "expected crun, not strong" in told["cases"][0]["wrong"]
    table.write_text(CASES + "- {image: x, expect: strong}\n")
    out = run("route", "test", str(table), "--config", file, status=1)
    assert "not ok x (%s:13): expected strong, not crun" % table in out


@pytest.mark.parametrize("text,words", [
    ("", "there is nothing in it"),
    ("a: b\n", ":1: the file: found \"a mapping\", expected a list"),
    ("- {image: x}\n", ":1: a case: found \"a mapping\", expected one of \"expect\""),
    ("- {image: x, expect: a, refused: b}\n", "expected one of"),
    ("- a\n", "expected a mapping"),
    ("\n- {imag: x, expect: a}\n", ":2: a case: found \"imag\", expected name, image"),
    ("- {image: [x], expect: a}\n", "found \"a list\", expected a string"),
    ("- {labels: x, expect: a}\n", "labels: found \"x\", expected a mapping"),
    ("- {privileged: 1, expect: a}\n", "expected true or false"),
    ("- {", "did not find expected"),
])
def test_tables_that_are_none(file, tmp_path, text, words):
    table = tmp_path / "cases.yaml"
    table.write_text(text)
    assert words in run("route", "test", str(table), "--config", file, status=1)


@pytest.mark.parametrize("old,new,words", [
    ("[strong, crun]", "[strong, runc]", ":9: routes: runtimes: found \"runc\", expected the name"),
    ('"vm-*"', '"~vm-(*"', ":11: routes: match: image: \"~vm-(*\": nothing is before"),
    ("    trust_annotations: true\n", "", "expected \"trust_annotations: true\" in the rule"),
    ('match: {image: "vm-*"}', "match: {}", ":11: routes: match: found \"a mapping\", expected at "
     "least one condition"),
    ('match: {image: "vm-*"}', "match: {handler: crun}", ":11: routes: match: handler: found"),
    ("name: machines", "name: databases", ":10: routes: name: found \"databases\", expected a name"),
])
def test_check_config_says_where(tmp_path, old, new, words):
    path = tmp_path / "gantry.yaml"
    path.write_text(CONFIG.replace(old, new, 1))
    p = subprocess.run([BUILD + "/programs/gantryd/gantryd", "--check-config", "--config", path],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert p.returncode == 1 and str(path) + ":" in p.stderr and words in p.stderr, p.stderr
    path.write_text(CONFIG)
    subprocess.run([BUILD + "/programs/gantryd/gantryd", "--check-config", "--config", path],
                   check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_the_dump_is_the_configuration(file):
    def dump(path):
        return subprocess.run([BUILD + "/programs/gantryd/gantryd", "--dump-config", "--config",
                               path], check=True, stdout=subprocess.PIPE, text=True).stdout
    first = dump(file)
    assert "databases" in first and "registry\\\\.example" in first
    with open(file + ".again", "w") as f:
        f.write(first)
    assert dump(file + ".again") == first
