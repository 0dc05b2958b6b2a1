# SPDX-License-Identifier: Apache-2.0
"""OCI hooks that files in directories add to containers (oci-hooks(5))."""
import concurrent.futures
import json
import os
import re
import time

import grpc
import pytest

from cri import SLOW, api
from daemon import Daemon, processes_with, wait_for

STAGES = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


@pytest.fixture(scope="module")
def d(archive, tmp_path_factory):
    top = tmp_path_factory.mktemp("hooks")
    daemon = Daemon(config="hooks_dirs: [%s/first, %s/later]\ncontainer:\n  create_timeout: %d\n"
                           % (top, top, 3 * SLOW))
    daemon.hooks = top
    daemon.load(archive)
    yield daemon
    daemon.close()


@pytest.fixture(params=["crun", "runc"])
def pod(d, request):
    p = d.run_pod(name=re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-"),
                  handler=request.param, annotations={"of/pod": "gpu"})
    yield p
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


@pytest.fixture(autouse=True)
def directories(d):
    for name in ("first", "later"):
        os.makedirs(d.hooks / name, exist_ok=True)
        for f in os.listdir(d.hooks / name):
            os.unlink(d.hooks / name / f)


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def hook(d, path, stages=("createRuntime",), name="hook.json", where="first", when=None,
         version="1.0.0", **more):
    (d.hooks / where / name).write_text(json.dumps({
        "version": version, "hook": {"path": str(path), **more},
        "when": {"always": True} if when is None else when, "stages": list(stages),
        "x-of-somebody": 1}))


@pytest.fixture
def noted(tmp_path):
    """A hook that notes its arguments, and what it was told of the container."""
    out = tmp_path / "noted"
    run = script(tmp_path / "note", 'echo "$* $X $(cat)" >>%s\n' % out)
    return run, lambda: out.read_text().splitlines() if out.exists() else []


def test_stages(d, pod, noted):
    run, lines = noted
    for stage in STAGES:
        if stage != "startContainer":
            hook(d, run, [stage], name=stage + ".json", args=["note", stage], env=["X=y"], timeout=9)
    hook(d, "/bin/sh", ["startContainer"], name="in.json",
         args=["sh", "-c", "cat >/told; echo >>/told; echo $0 >>/told", "inside"])
    c = d.run(pod, "sleep 1000")
    wait_for(lambda: any(x.startswith("poststart ") for x in lines()))
    assert c in d.exec(c, "cat /told").stdout.decode()
    assert d.exec(c, "tail -n 1 /told").stdout == b"inside\n"
    d.cri.RemoveContainer(container_id=c)
    told = {x.split()[0]: x.split(" ", 2) for x in lines()}
    assert sorted(told) == sorted(set(STAGES) - {"startContainer"})
    for stage, (_, x, state) in told.items():
        assert x == "y" and json.loads(state)["id"] == c
        # (That of createContainer is run inside, that of poststop when it is gone.)
        assert stage in ("createContainer", "poststop") or json.loads(state)["pid"] > 0


def test_when(d, pod, noted, tmp_path):
    run, lines = noted
    rules = {"pod": {"annotations": {"^of/pod$": "^g.u$"}},
             "container": {"annotations": {r"^c\.d$": "yes|no", "of/": ""}},
             "none": {"annotations": {"^of/pod$": "^u$"}},
             "shell": {"commands": ["/sh$", "^sh$"]},
             "other": {"commands": ["^/bin/other$"]},
             "binds": {"hasBindMounts": True},
             "never": {"always": False},
             "both": {"hasBindMounts": True, "commands": [r"^\w{2}$"]},
             "nothing": {}}
    for name, when in rules.items():
        hook(d, run, name=name + ".json", args=["note", name], when=when)
    c = d.container_config("true", annotations={"c.d": "no"})
    d.create(pod, config=c)
    assert sorted(x.split()[0] for x in lines()) == ["container", "pod", "shell"]
    c = d.container_config("true", name="b")
    c.mounts.add(container_path="/m", host_path=str(tmp_path))
    before = len(lines())
    d.create(pod, config=c)
    assert [x.split()[0] for x in lines()[before:]] == ["binds", "both", "pod", "shell"]


def test_order_and_precedence(d, pod, noted):
    run, lines = noted
    hook(d, run, name="20.json", args=["note", "first-20"])
    hook(d, run, name="30.json", args=["note", "first-30"])
    hook(d, run, name="10.json", where="later", args=["note", "later-10"])
    hook(d, run, name="30.json", where="later", args=["note", "later-30"])
    hook(d, run, name="x.txt", args=["note", "no json"])
    d.create(pod, "true")
    assert [x.split()[0] for x in lines()] == ["later-10", "first-20", "later-30"]
    os.unlink(d.hooks / "later" / "30.json")  # read for each container
    d.create(pod, "true", name="b")
    assert [x.split()[0] for x in lines()][3:] == ["later-10", "first-20", "first-30"]


def test_bad_files_are_told_and_passed_over(d, pod, noted):
    run, lines = noted
    hook(d, run, name="good.json", args=["note", "good"])
    (d.hooks / "first" / "syntax.json").write_text('{"version": ')
    hook(d, run, name="version.json", version="2.0.0")
    hook(d, run, name="stage.json", stages=["middle"])
    hook(d, run, name="pattern.json", when={"commands": ["(["]})
    hook(d, run, name="unrolled.json", when={"commands": ["((a{100}){100}){100}"]})
    hook(d, "/not/there", name="program.json")
    hook(d, "relative", name="relative.json")
    os.mkfifo(d.hooks / "first" / "fifo.json")
    (d.hooks / "first" / "large.json").write_bytes(b" " * ((1 << 20) + 1))
    d.create(pod, "true")
    assert [x.split()[0] for x in lines()] == ["good"]
    log = d.log_text()
    for name, words in (("syntax", ""), ("version", '"2.0.0", expected 1.0.0'),
                        ("stage", '"middle" is none'), ("pattern", '"(["'), ("unrolled", "a{100}"),
                        ("program", '"/not/there" is no program'), ("relative", "absolute"),
                        ("fifo", "no file"), ("large", "")):
        assert re.search("hooks_dirs: .*%s.json.*%s" % (name, re.escape(words)), log), name


WORDS = "it does not like this"


def left(d, tmp_path):
    """What a container that is gone, or a hook of its, should not have left."""
    containers = {c.id for c in d.cri.ListContainers().containers}
    return [x for x in os.listdir(d.root + "/containers") if x not in containers] + \
        processes_with(str(tmp_path))


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails(d, pod, tmp_path, stage):
    """The container is not made, the error has the hook's words, and what the hook started goes."""
    hook(d, script(tmp_path / "no", "cat %s/wait >/dev/null 2>&1 &\necho %s >&2\nexit 3\n" % (tmp_path, WORDS)),
         [stage], when={"annotations": {"fails": "."}})
    os.mkfifo(tmp_path / "wait")
    with pytest.raises(grpc.RpcError) as e:
        d.create(pod, "true", annotations={"fails": "1"})
    assert "hook" in e.value.details() and WORDS in e.value.details()
    assert not d.cri.ListContainers().containers and not left(d, tmp_path)
    assert d.create(pod, "true")  # the pod is well


def test_a_hook_in_the_container_that_fails(d, pod):
    """It is run by what becomes the container's process, which has been started by then."""
    hook(d, "/bin/sh", ["startContainer"], args=["sh", "-c", "echo %s >&2; exit 3" % WORDS])
    c = d.create(pod, "sleep 1000")
    try:
        d.cri.StartContainer(container_id=c)
    except grpc.RpcError as e:
        assert "hook" in e.details()
    wait_for(lambda: d.cri.ContainerStatus(container_id=c).status.state == api.CONTAINER_EXITED)
    assert d.cri.ContainerStatus(container_id=c).status.exit_code != 0
    d.cri.RemoveContainer(container_id=c)


def test_a_hook_after_the_start_that_fails(d, pod, tmp_path):
    """The specification has had both: the start fails and the container ends, or it runs on.  (runc
    before 1.2 runs such hooks when it creates.)"""
    hook(d, script(tmp_path / "no", "echo %s >&2; exit 3\n" % WORDS), ["poststart"])
    try:
        c = d.run(pod, "sleep 1000")
    except grpc.RpcError as e:
        assert "hook" in e.details() and WORDS in e.details()
        for x in d.cri.ListContainers().containers:
            wait_for(lambda: d.cri.ContainerStatus(container_id=x.id).status.state !=
                     api.CONTAINER_RUNNING)
            d.cri.RemoveContainer(container_id=x.id)
    else:
        assert d.cri.ContainerStatus(container_id=c).status.state == api.CONTAINER_RUNNING
        d.cri.RemoveContainer(container_id=c)
    assert not left(d, tmp_path)


def test_a_hook_of_the_end_that_fails(d, pod, tmp_path):
    """It is said in the log; the container is gone."""
    hook(d, script(tmp_path / "no", "echo %s >&2; exit 3\n" % WORDS), ["poststop"])
    c = d.run(pod, "sleep 1000")
    d.cri.StopContainer(container_id=c, timeout=0)
    d.cri.RemoveContainer(container_id=c)
    assert not left(d, tmp_path)
    wait_for(lambda: re.search("%s.*%s" % (c, WORDS), d.log_text()))


def test_what_a_hook_is_told(d, pod, tmp_path):
    """State on standard input (runtime.md, "State"), the arguments and the environment that stand in
    the file, and no others."""
    out = tmp_path / "out"
    env = script(tmp_path / "env", "echo $(cat) >>%s; tr '\\0' ' ' </proc/$$/environ >>%s; echo >>%s\n"
                 % (out, out, out))
    hook(d, env, ["createRuntime", "poststart"], env=["A=1", "B=two words"])
    c = d.run(pod, "sleep 1000", annotations={"c.d": "e"})
    wait_for(lambda: out.exists() and len(out.read_text().splitlines()) == 4)
    lines = out.read_text().splitlines()
    for state, status in ((lines[0], ("creating", "created")), (lines[2], ("running", "created"))):
        state = json.loads(state)
        assert state["id"] == c and state["status"] in status and state["pid"] > 0
        assert re.match(r"1\.", state["ociVersion"]) and state["annotations"]["c.d"] == "e"
        assert os.path.exists(state["bundle"] + "/config.json")
    for line in lines[1::2]:
        assert set(re.findall(r"(\w+)=", line)) <= {"A", "B"} and "B=two words" in line


def test_a_hook_may_leave_a_daemon(d, pod, tmp_path):
    """What a good hook has started, and let go of, is its own business."""
    os.mkfifo(tmp_path / "wait")
    hook(d, script(tmp_path / "starts", "setsid cat %s/wait </dev/null >/dev/null 2>&1 &\n" % tmp_path))
    c = d.run(pod, "sleep 1000")
    d.cri.RemoveContainer(container_id=c)
    (pid, _), = processes_with("%s/wait" % tmp_path)
    os.kill(pid, 9)


def hangs(tmp_path):
    """A hook that waits until its FIFO is opened: for ever."""
    os.mkfifo(tmp_path / "wait")
    return script(tmp_path / "hang", "exec cat %s/wait\n" % tmp_path)


@pytest.mark.parametrize("own", [1, None], ids=["own timeout", "create_timeout"])
def test_a_hook_that_hangs_holds_up_its_container_alone(d, pod, tmp_path, own):
    hook(d, hangs(tmp_path), when={"annotations": {"hangs": "."}}, **({"timeout": own} if own else {}))
    other = d.run_pod(name="other")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        began = time.monotonic()
        stuck = pool.submit(d.create, pod, "true", annotations={"hangs": "1"})
        for i in range(3):
            c = d.run(other, "sleep 1000", name="n%d" % i)
            assert d.exec(c, "true").exit_code == 0
        assert not stuck.done() or own
        with pytest.raises(grpc.RpcError):
            stuck.result(60)
        assert time.monotonic() - began < 20 * SLOW
    d.cri.RemovePodSandbox(pod_sandbox_id=other)
    assert not os.listdir(d.root + "/containers")
    assert d.create(pod, "true")  # the pod is well


def test_a_hook_that_hangs_at_the_end(d, pod, tmp_path):
    """The container is gone at last, whatever a hook of its end does."""
    hook(d, hangs(tmp_path), ["poststop"], when={"annotations": {"hangs": "."}})
    c = d.run(pod, "sleep 1000", annotations={"hangs": "1"})
    d.cri.StopContainer(container_id=c, timeout=0)

    began = time.monotonic()
    d.cri.RemoveContainer(container_id=c)
    assert not d.cri.ListContainers().containers and time.monotonic() - began < 10 * SLOW
    assert not processes_with("%s/wait" % tmp_path)
    d.run(pod, "sleep 1000", annotations={"hangs": "1"})
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_a_hook_whose_monitor_is_killed(d, pod, tmp_path):
    """It has nobody any more: it goes when its container, which never came to be, is cleared away."""
    hook(d, hangs(tmp_path), when={"annotations": {"hangs": "."}})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stuck = pool.submit(d.create, pod, "true", annotations={"hangs": "1"})
        wait_for(lambda: processes_with("%s/wait" % tmp_path))
        (monitor,) = [p for p, cmd in processes_with("gantry-monitor")
                      if pod in cmd and os.readlink("/proc/%d/exe" % p).endswith("gantry-monitor")
                      and parent(p) not in {x for x, c in processes_with("gantry-monitor") if pod in c}]
        os.kill(monitor, 9)
        with pytest.raises(grpc.RpcError):
            stuck.result(60)
    d.cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert not processes_with("%s/wait" % tmp_path) and not left(d, tmp_path)


def parent(pid):
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])
