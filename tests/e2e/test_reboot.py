# SPDX-License-Identifier: Apache-2.0
"""The machine was restarted, or lost its power: nothing of the past boot is alive, everything of it
can be removed as the kubelet does, and what comes next needs nobody's help.  The real thing is in
tests/guest; here are the states of the disk that it cannot be brought into at will."""
import glob
import os
import socket
import sqlite3
import subprocess
import time

import pytest

from cni import Cni
from cri import api
from daemon import Daemon, wait_for
from reboot import Boots, end_processes

FAIL = 'print(json.dumps({"cniVersion": "1.0.0", "code": 100, "msg": "no"}));sys.exit(1)'


@pytest.fixture
def boots(tmp_path):
    b = Boots(str(tmp_path))
    yield b
    b.close()


@pytest.fixture
def with_cni(archive, tmp_path):
    """A daemon whose pods have their network by plugins of the test: (daemon, plugins)."""
    cni = Cni(tmp_path / "cni")
    daemon = Daemon(config=cni.config())
    daemon.load(archive)
    cni.list("one", "two")
    yield daemon, cni
    for path in glob.glob(cni.dir + "/behave/*"):
        os.unlink(path)
    for name in ("one", "two"):
        cni.plugin(name)
    daemon.close()


def remove_as_the_kubelet(d):
    """Everything that is not alive; each step once, none may fail."""
    for p in d.cri.ListPodSandbox().items:
        assert p.state == api.SANDBOX_NOTREADY
        for c in d.cri.ListContainers(
                filter=api.ContainerFilter(pod_sandbox_id=p.id)).containers:
            assert c.state == api.CONTAINER_EXITED
            d.cri.StopContainer(container_id=c.id, timeout=1)
        d.cri.StopPodSandbox(pod_sandbox_id=p.id)
        for c in d.cri.ListContainers(
                filter=api.ContainerFilter(pod_sandbox_id=p.id)).containers:
            d.cri.RemoveContainer(container_id=c.id)
        d.cri.RemovePodSandbox(pod_sandbox_id=p.id)
    assert not d.cri.ListPodSandbox().items and not d.cri.ListContainers().containers


def works(d, **kw):
    """A pod of today: it runs, and can be removed."""
    p = d.run_pod(name="today-%d" % time.monotonic_ns(), **kw)
    s, text = d.output(p, "echo works")
    assert (s.exit_code, text) == (0, "works\n")
    d.cri.RemovePodSandbox(pod_sandbox_id=p)


def free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


def rows(d, sql, *args):
    with sqlite3.connect(d.root + "/index.db") as db:
        found = db.execute(sql, args).fetchall()
    db.close()
    return found


@pytest.mark.parametrize("how", [{}, {"state_on_disk": True}, {"same_id": True}],
                         ids=["tmpfs", "state-on-disk", "boot-of-the-host"])
def test_nothing_is_taken_for_alive(fresh, boots, how):
    """The last one is a machine that is a container: its state is gone, its kernel goes on."""
    d = fresh
    port = free_port()
    ports = [api.PortMapping(host_port=port, container_port=80)]
    p = d.run_pod(name="old", port_mappings=ports)
    shared = api.NamespaceOption(pid=api.POD)
    q = d.run_pod(name="shared", namespaces=shared)
    runs, ends = d.run(p, "sleep 1000"), d.run(p, "exit 4", name="e")
    made, also = d.create(p, "true", name="m"), d.run(q, "sleep 1000")
    d.wait_exit(ends)
    before = {c: d.status(c) for c in (runs, ends, made, also)}
    boots.reboot(d, **how)
    for _ in range(2):
        for pod in (p, q):
            assert d.cri.PodSandboxStatus(pod_sandbox_id=pod).status.state == \
                api.SANDBOX_NOTREADY
        for c in (runs, made, also):
            s = d.status(c)
            assert (s.state, s.exit_code, s.reason) == (api.CONTAINER_EXITED, 255, "Unknown")
            assert s.finished_at >= before[c].started_at and s.finished_at >= s.created_at
            assert ("restarted" in s.message) == ("same_id" not in how)
        assert d.status(ends) == before[ends]
        d.restart()
    # Before anything is removed, its name aside, the next one is as if the past had not been.
    n = d.run_pod(name="old", attempt=1, port_mappings=ports)
    assert d.status(d.run(n, "sleep 1000")).state == api.CONTAINER_RUNNING
    d.cri.RemovePodSandbox(pod_sandbox_id=n)
    remove_as_the_kubelet(d)
    wait_for(lambda: not d.leftovers())
    works(d, port_mappings=ports)


def test_half_made_and_half_removed_containers(fresh, boots):
    """Rows of them: the daemon was in the middle of it when the machine went down."""
    d = fresh
    p = d.run_pod(name="old")
    making, removing = d.run(p, "sleep 1000", name="a"), d.run(p, "sleep 1000", name="b")
    boots.end(d)
    rows(d, "UPDATE containers SET state = 0 WHERE id = ?", making)
    rows(d, "UPDATE containers SET state = 4 WHERE id = ?", removing)
    d.start()
    assert not d.cri.ListContainers().containers
    wait_for(lambda: not os.listdir(d.root + "/containers"))
    assert rows(d, "SELECT count(*) FROM containers") == [(0,)]
    assert not os.listdir(d.state + "/pods")  # nobody is needed for what is not alive
    remove_as_the_kubelet(d)


def test_half_made_pod(with_cni, boots):
    """A plugin hung in its ADD.  The name is free, and what the plugin held is given back."""
    d, cni = with_cni
    cni.behave("two", "ADD", "time.sleep(600)")
    config = d.pod_config(name="half")
    call = d.cri.RunPodSandbox.future(config=config)
    wait_for(lambda: "ADD two" in cni.names())
    boots.end(d)
    call.cancel()
    cni.behave("two", "ADD", "")
    cni.forget()
    d.start()
    wait_for(lambda: cni.names("DEL")[:2] == ["DEL two", "DEL one"])
    assert cni.calls("DEL")[0]["env"]["CNI_NETNS"] == ""
    wait_for(lambda: not d.leftovers() and not os.listdir(d.root + "/cni"))
    assert not d.cri.ListPodSandbox().items
    d.cri.RemovePodSandbox(pod_sandbox_id=d.run_pod(config))
    works(d)


@pytest.mark.parametrize("how", ["uninstalled", "fails", "unconfigured"])
def test_plugins_that_cannot_give_back(with_cni, boots, how):
    """Nobody waits for them, and nothing is forgotten."""
    d, cni = with_cni
    d.run(d.run_pod(name="old"), "sleep 1000")
    boots.end(d)
    if how != "fails":
        for name in ("one", "two"):
            os.unlink(cni.bin_dir + "/" + name)
    else:
        cni.behave("one", "DEL", FAIL)
    if how == "unconfigured":
        cni.remove("10-test.conflist")
    d.start()
    remove_as_the_kubelet(d)
    assert len(os.listdir(d.root + "/cni")) == 1
    assert "is of a past boot, its network is tried again later" in d.log_text()
    d.restart()
    assert len(os.listdir(d.root + "/cni")) == 1
    cni.forget()
    if how != "fails":
        for name in ("one", "two"):
            cni.plugin(name)
    else:
        cni.behave("one", "DEL", "")
    wait_for(lambda: not os.listdir(d.root + "/cni"), timeout=60, every=0.1)
    assert cni.names("DEL")[-2:] == ["DEL two", "DEL one"]


@pytest.mark.parametrize("text", [b"", bytes(4096), b'{"name":"old","conf'],
                         ids=["empty", "zeros", "half"])
def test_record_of_a_plugin_that_lost_its_bytes(with_cni, boots, text):
    """Names reach a disk before what is in the files."""
    d, cni = with_cni
    pod = d.run_pod(name="old")
    boots.end(d)
    with open("%s/cni/%s.json" % (d.root, pod), "wb") as f:
        f.write(text)
    with open("%s/cni/%s.json.tmp-0123456789abcdef" % (d.root, pod), "w") as f:
        f.write("half")
    rows(d, "DELETE FROM pods")
    cni.forget()
    d.start()
    wait_for(lambda: not os.listdir(d.root + "/cni"))
    assert cni.names("DEL") == ["DEL two", "DEL one"]
    assert {c["env"]["CNI_CONTAINERID"] for c in cni.calls("DEL")} == {pod}
    works(d)


def test_rows_were_lost(fresh, boots):
    """Those of the last moments: what is on the disk is found by its directories."""
    d = fresh
    p = d.run_pod(name="kept")
    d.run(p, "sleep 1000")
    d.run(p, "echo lost > /file; sleep 1000", name="lost")
    d.run(d.run_pod(name="lost"), "sleep 1000")
    boots.end(d)
    rows(d, "DELETE FROM containers WHERE id != (SELECT min(id) FROM containers)")
    rows(d, "DELETE FROM pods WHERE id NOT IN (SELECT pod_id FROM containers)")
    d.start()
    wait_for(lambda: len(os.listdir(d.root + "/containers")) == 1)
    assert len(d.cri.ListPodSandbox().items) == 1
    remove_as_the_kubelet(d)
    wait_for(lambda: not d.leftovers())


def test_rows_that_cannot_be_read(fresh, boots):
    d = fresh
    for name in ("a", "b", "c"):
        d.run(d.run_pod(name=name), "sleep 1000")
    boots.end(d)
    ids = [x for x, in rows(d, "SELECT id FROM pods ORDER BY created_at")]
    rows(d, "UPDATE pods SET config = zeroblob(length(config)) WHERE id = ?", ids[0])
    rows(d, "UPDATE containers SET config = x'ff' WHERE pod_id = ?", ids[1])
    d.start()
    assert {p.id for p in d.cri.ListPodSandbox().items} == set(ids[1:])
    assert len(d.cri.ListContainers().containers) == 1
    for what in ("pod sandbox %s cannot be read and is forgotten" % ids[0],
                 "its pod sandbox is not there"):
        assert what in d.log_text()
    assert rows(d, "SELECT count(*) FROM pods") == [(2,)]
    assert rows(d, "SELECT count(*) FROM containers") == [(1,)]
    wait_for(lambda: len(os.listdir(d.root + "/containers")) == 1)
    said = d.log_text().count("cannot be read")
    d.restart()
    assert d.log_text().count("cannot be read") == said
    remove_as_the_kubelet(d)


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)


def zeros(path):
    with open(path, "r+b") as f:
        f.write(bytes(os.path.getsize(path)))


def noise(path):
    with open(path, "r+b") as f:
        f.seek(100)
        f.write(os.urandom(os.path.getsize(path) - 100))


@pytest.mark.parametrize("damage", [truncate, zeros, noise, os.unlink],
                         ids=["half", "zeros", "noise", "gone"])
def test_index_is_damaged(fresh, boots, damage):
    """Pods are forgotten and what they left is removed; images are not touched."""
    d = fresh
    image = d.cri.ListImages().images[0]
    for i in range(5):
        d.run(d.run_pod(name="p%d" % i), "sleep 1000")
    boots.end(d)
    assert subprocess.run([os.readlink("/proc/self/exe"), "-c", """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.close()""", d.root + "/index.db"]).returncode == 0
    damage(d.root + "/index.db")
    for _ in range(2):
        d.start()
        assert not d.cri.ListPodSandbox().items
        wait_for(lambda: not os.listdir(d.root + "/containers"))
        assert list(d.cri.ListImages().images) == [image]
        works(d)
        d.stop()
    kept = glob.glob(d.root + "/index.db.damaged-*")
    assert len([x for x in kept if not x.endswith(("-wal", "-shm"))]) == (damage != os.unlink)
    assert ("was damaged and is now" in d.log_text()) == (damage != os.unlink)
    d.start()


@pytest.mark.parametrize("what", ["layer", "layer's record", "record"])
def test_image_that_lost_something(fresh, archive, boots, what):
    """It is told and not listed, so that it is pulled again; nothing of it stays."""
    d = fresh
    image = d.cri.ListImages().images[0]
    boots.end(d)
    record = glob.glob(d.root + "/images/*.json")[0]
    layer = [x for x in glob.glob(d.root + "/layers/*") if os.path.isdir(x)][0]
    if what == "layer":
        subprocess.run(["rm", "-r", layer], check=True)
    elif what == "record":
        os.truncate(record, 0)
    else:
        os.unlink(layer + ".json")
    open(record + ".tmp-0123456789abcdef", "w").close()
    d.start()
    assert not d.cri.ListImages().images
    assert ("is set aside" if what == "record" else "is not used") in d.log_text()
    assert not d.cri.ImageStatus(image=api.ImageSpec(image="test/busybox")).image.id
    wait_for(lambda: not os.listdir(d.root + "/layers"))
    left = [os.path.basename(record) + ".damaged"] if what == "record" else []
    wait_for(lambda: os.listdir(d.root + "/images") == left)
    d.load(archive)
    assert list(d.cri.ListImages().images) == [image]
    assert not glob.glob(d.root + "/images/*.damaged")
    works(d)


def test_clock_was_set_back(fresh, boots):
    """The kubelet takes the newest of a pod's sandboxes and containers for the one that counts."""
    d = fresh
    c = d.pod_config(name="old")
    p = d.run_pod(c)
    ctr = d.run(p, "sleep 1000")
    boots.end(d)
    ahead = time.time_ns() + 400 * 86400 * 10 ** 9
    rows(d, "UPDATE pods SET created_at = ?", ahead)
    rows(d, "UPDATE containers SET created_at = ?, started_at = ?", ahead + 10, ahead + 20)
    d.start()
    s = d.status(ctr)
    assert s.created_at <= s.started_at <= s.finished_at
    c.metadata.attempt = 1
    new = d.run_pod(c)
    assert d.cri.PodSandboxStatus(pod_sandbox_id=new).status.created_at > ahead
    again = d.run(new, "sleep 1000", attempt=1)
    d.cri.StopContainer(container_id=again, timeout=0)
    s = d.status(again)
    assert ahead + 10 < s.created_at <= s.finished_at
    other = d.run_pod(name="other")  # whom it does not concern
    assert d.cri.PodSandboxStatus(pod_sandbox_id=other).status.created_at < ahead


def test_pod_cidr_is_kept(archive, boots):
    """The kubelet says it once; a pod may be started before it does so again."""
    d = Daemon(config="bridge:\n  ipv6: \"\"\n")
    try:
        d.load(archive)
        d.cri.UpdateRuntimeConfig(runtime_config=api.RuntimeConfig(
            network_config=api.NetworkConfig(pod_cidr="10.219.7.0/24")))
        boots.reboot(d)
        p = d.run_pod(name="p")
        assert d.cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip.startswith("10.219.7.")
    finally:
        d.close()


def test_half_pulled(fresh, boots):
    """What a worker was making is swept, also where it looks whole."""
    d = fresh
    end_processes(d)
    os.makedirs(d.root + "/tmp/0123456789abcdef/" + "a" * 32 + "/etc")
    os.makedirs(d.root + "/layers/" + "b" * 32 + "/etc")
    os.makedirs(d.root + "/layers/" + "c" * 32)
    with open(d.root + "/layers/" + "c" * 32 + ".json", "w") as f:
        f.write('{"size":1,"bytes":1,"inodes":1}')
    open(d.root + "/images/" + "d" * 64 + ".config", "w").close()
    before = len(os.listdir(d.root + "/layers"))
    boots.new_id()
    d.start()
    wait_for(lambda: not os.listdir(d.root + "/tmp"))
    wait_for(lambda: len(os.listdir(d.root + "/layers")) == before - 3)
    wait_for(lambda: not os.path.exists(d.root + "/images/" + "d" * 64 + ".config"))
    works(d)
