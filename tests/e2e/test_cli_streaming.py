# SPDX-License-Identifier: Apache-2.0
"""gantry exec -it, attach, run -it and port-forward, as somebody at a terminal has them: on a real
pseudo-terminal, against the real daemon."""
import hashlib
import os
import re
import signal
import socket
import subprocess
import termios

import pytest

import terminal
from cri import SLOW
from daemon import wait_for
from service import Service
from test_cli import GANTRY, IMAGE, Cli, environment
from test_streaming import pid_of, processes, programs

DETACH = b"\x10\x11"  # ctrl-p ctrl-q


@pytest.fixture
def g(d):
    yield Cli(d)
    Cli(d)("rm", "-f", "--all")
    wait_for(lambda: not programs(d))


@pytest.fixture
def web(g):
    g("run", "-d", "--name", "web", IMAGE, "sh", "-c", "exec sleep 100000")
    g.web = g("ps", "-q").strip()
    return g


def Terminal(g, *args, **kw):
    return terminal.Terminal([GANTRY, *args], env=environment(g.d.address), **kw)


# --- exec ---

def test_exec_in_a_terminal(web):
    t = Terminal(web, "exec", "-it", "web", "sh", rows=41, columns=111).ready()
    t.type(b"stty size; tty\n")
    t.expect("41 111")
    t.expect("/dev/pts/")
    t.resize(25, 77)
    t.type(b"until stty size | grep '^25 77$'; do sleep 0.02; done\n")
    t.expect("\n25 77\r\n")
    t.type(b"sleep 1000\n")
    wait_for(lambda: "sleep 1000\n" in processes(web.d, web.web))
    t.type(b"\x03")  # for the shell in there, not for us
    wait_for(lambda: "sleep 1000\n" not in processes(web.d, web.web))
    t.type(b"echo $((6*7)); exit 9\n")
    t.expect("42\r\n")
    assert t.end() == 9


def test_exec_of_a_terminal_without_input(web):
    t = Terminal(web, "exec", "-t", "web", "sh", "-c",
                 "test -t 1 && until stty size | grep '^30 100$'; do sleep 0.02; done; read x")
    t.expect("30 100")
    assert not t.raw()
    t.type(b"\x03")  # for us: it is our terminal's
    assert t.end() == 130
    t = Terminal(web, "exec", "-t", "web", "true")
    assert t.end() == 0


def test_exec_with_input(web):
    data = os.urandom(5 << 20)
    p = web.popen("exec", "-i", "web", "sh", "-c", "cat; echo err >&2; exit 3", stdin=subprocess.PIPE,
                  text=False)
    out, err = p.communicate(data, timeout=60 * SLOW)
    assert (p.returncode, err) == (3, b"err\n")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    # input that the command does not take
    p = web.popen("exec", "-i", "web", "true", stdin=subprocess.PIPE, text=False)
    out, err = p.communicate(data, timeout=60 * SLOW)
    assert (p.returncode, out, err) == (0, b"", b"")
    # a slow writer, and a command that ends under it
    p = web.popen("exec", "-i", "web", "sh", "-c", "read x; echo $x; exit 4", stdin=subprocess.PIPE)
    p.stdin.write("line\n")
    p.stdin.flush()
    assert p.stdout.readline() == "line\n"
    assert p.wait(20 * SLOW) == 4
    p.communicate()


def test_exec_without_standard_descriptors(web):
    """A socket of ours does not take their place."""
    for closed, out in (("<&-", "x\n"), (">&-", ""), ("2>&-", "x\n")):
        p = subprocess.run(["sh", "-c", GANTRY + " exec -i web sh -c 'cat; echo x; exit 4' " + closed],
                           env=environment(web.d.address), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, text=True, timeout=20 * SLOW)
        assert (p.returncode, p.stdout) == (4, out), closed


def test_exec_shows_output_as_it_comes(web):
    p = web.popen("exec", "web", "sh", "-c", "echo first; until test -e /tmp/go; do sleep 0.02; done; "
                  "echo second")
    assert p.stdout.readline() == "first\n"
    web("exec", "web", "touch", "/tmp/go")
    assert p.communicate(timeout=20 * SLOW)[0] == "second\n" and p.returncode == 0


def test_exec_more_than_fits_a_message(web):
    out = web("exec", "web", "sh", "-c", "head -c 20000000 /dev/zero", text=False)
    assert len(out) == 20000000


def test_exec_fails(web):
    err = web.fails("exec", "-i", "web", "/nonexistent", status=127)
    assert "/nonexistent" in err and "container web" in err
    web("exec", "web", "touch", "/tmp/plain")
    web.fails("exec", "-i", "web", "/tmp/plain", status=126)
    assert web.fails("exec", "-it", "web", "sh", status=125, stdin=subprocess.DEVNULL)
    t = Terminal(web, "exec", "-it", "web", "/nonexistent")
    t.expect("/nonexistent")
    assert t.end() == 127


def test_exec_interrupted(web):
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        p = web.popen("exec", "web", "sh", "-c", "echo ready; sleep 4321")
        assert p.stdout.readline() == "ready\n"
        p.send_signal(sig)
        out, err = p.communicate(timeout=20 * SLOW)
        assert p.returncode == 130 and "interrupted" in err
        wait_for(lambda: "4321" not in processes(web.d, web.web))


def test_exec_has_a_limit(web):
    p = web.popen("exec", "--limit", "300ms", "web", "sh", "-c", "echo begun; sleep 4321")
    out, err = p.communicate(timeout=20 * SLOW)
    assert (p.returncode, out) == (125, "begun\n") and "DEADLINE_EXCEEDED" in err, err
    wait_for(lambda: "4321" not in processes(web.d, web.web))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT,
                                 signal.SIGABRT, signal.SIGSEGV, signal.SIGUSR1, signal.SIGALRM])
def test_a_signal_restores_the_terminal(web, sig):
    t = Terminal(web, "exec", "-it", "web", "sh", "-c", "echo ready; exec sleep 4321")
    t.expect("ready")
    t.ready().p.send_signal(sig)
    caught = sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    assert t.end() == (130 if caught else -sig)
    wait_for(lambda: "4321" not in processes(web.d, web.web))


def state(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def test_a_stop_gives_the_terminal_back_for_a_while(web):
    t = Terminal(web, "exec", "-it", "web", "sh").ready()
    t.type(b"echo one\n")
    t.expect("one\r\n")
    t.p.send_signal(signal.SIGTSTP)
    wait_for(lambda: state(t.p.pid) == "T")
    assert termios.tcgetattr(t.slave) == t.before
    t.resize(20, 60)
    t.p.send_signal(signal.SIGCONT)
    wait_for(t.raw)
    t.type(b"until test \"$(stty size)\" = '20 60'; do sleep 0.02; done; exit 8\n")
    assert t.end() == 8


def test_the_daemon_goes_under_an_exec(fresh):
    g = Cli(fresh)
    g("run", "-d", "--name", "web", IMAGE, "sh", "-c", "exec sleep 100000")
    t = Terminal(g, "exec", "-it", "web", "sh").ready()
    t.type(b"echo a\n")
    t.expect("a\r\n")
    fresh.kill()
    t.type(b"echo still $((1+1))\n")
    t.expect("still 2\r\n")
    fresh.start()
    t.type(b"exit 5\n")
    assert t.end() == 5
    g("rm", "-f", "--all")


def test_the_container_goes_under_an_exec(web):
    t = Terminal(web, "exec", "-it", "web", "sh", "-c", "echo ready; exec sleep 1000")
    t.expect("ready")
    web("rm", "-f", "web")
    assert t.end() in (125, 137)


# --- attach ---

def test_attach_to_a_shell_and_detach(g):
    g("run", "-dit", "--name", "shell", IMAGE, "sh")
    t = Terminal(g, "attach", "shell", rows=33, columns=99).ready()
    t.type(b"\nstty size\n")
    t.expect("33 99\r\n")
    t.type(b"echo \x10x; x=\x10\x10y\n")  # the first key alone is none
    t.type(DETACH)
    t.expect("detached from container shell")
    assert t.end() == 0
    t = Terminal(g, "attach", "shell").ready()
    t.type(b"echo again; exit 6\n")
    t.expect("again\r\n")
    assert t.end() == 6  # of the container


def test_attach_without_a_terminal(g):
    g("run", "-di", "--name", "reads", IMAGE, "sh", "-c", "while read x; do echo got $x; echo e >&2; done")
    p = g.popen("attach", "reads", stdin=subprocess.PIPE)
    p.stdin.write("1\n")
    p.stdin.flush()
    assert p.stdout.readline() == "got 1\n"
    watcher = g.popen("attach", "--no-stdin", "reads")
    wait_for(lambda: len(programs(g.d)) == 2)
    p.send_signal(signal.SIGINT)  # that one goes, the container does not
    out, err = p.communicate(timeout=20 * SLOW)
    assert p.returncode == 130 and err == "e\ngantry: interrupted\n"
    g("stop", "-t", "0s", "reads")
    assert watcher.wait(20 * SLOW) == 137
    watcher.communicate()
    assert "is not running" in g.fails("attach", "reads", status=125)


def test_attach_asks_for_a_terminal(g):
    g("run", "-dit", "--name", "shell", IMAGE, "sh")
    assert "--no-stdin" in g.fails("attach", "shell", status=125, stdin=subprocess.DEVNULL)


# --- run ---

def test_run_in_a_terminal(g):
    t = Terminal(g, "run", "-it", "--name", "tty", IMAGE, "sh", "-c",
                 "echo first; read x; stty size; echo $x; exit 7", rows=22, columns=88)
    t.expect("first\r\n")
    t.type(b"typed\n")
    t.expect("22 88\r\ntyped\r\n")
    assert t.end() == 7
    assert g("pods", "-q") == ""


def test_run_in_a_terminal_and_detach(g):
    t = Terminal(g, "run", "-it", "--name", "tty", IMAGE, "sh").ready()
    t.type(b"echo here\n")
    t.expect("here\r\n")
    t.type(DETACH)
    t.expect("detached from container tty")
    assert t.end() == 0
    t = Terminal(g, "attach", "tty").ready()
    t.type(b"exit 3\n")
    assert t.end() == 3


def test_run_attaches_again(g):
    """A session that ends before the container does not end it."""
    t = Terminal(g, "run", "-it", "--name", "tty", IMAGE, "sh").ready()
    t.type(b"echo $((40+2))\n")
    t.expect("\n42\r\n")
    for _ in range(2):
        pid, = programs(g.d)
        os.kill(pid, signal.SIGKILL)
        t.expect("attached to container tty again")
    t.ready().type(b"echo $((40+3)); exit 6\n")
    t.expect("\n43\r\n")
    assert t.end() == 6 and g("pods", "-q") == ""


def test_run_goes_on_without_a_session(g):
    t = Terminal(g, "run", "-t", "--name", "tty", IMAGE, "sh", "-c",
                 "echo ready; until test -e /tmp/go; do sleep 0.05; done; exit 7")
    t.expect("ready")
    for i in range(4):
        if i:
            t.expect("attached to container tty again")
        pid = wait_for(lambda: programs(g.d))[0]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid))
    t.expect("goes on without it")
    g("exec", "tty", "touch", "/tmp/go")
    assert t.end() == 7 and g("pods", "-q") == ""


def test_run_with_input(g):
    p = g.popen("run", "-i", IMAGE, "sh", "-c", "sha256sum; echo err >&2; exit 5", stdin=subprocess.PIPE,
                text=False)
    data = os.urandom(3 << 20)
    out, err = p.communicate(data, timeout=60 * SLOW)
    assert p.returncode == 5 and err == b"err\n"
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    # short ones, whose output nothing may be lost of
    for i in range(5):
        p = g.popen("run", "-i", IMAGE, "sh", "-c", "echo -n %d; exit %d" % (i, i),
                    stdin=subprocess.DEVNULL)
        assert p.communicate(timeout=20 * SLOW)[0] == str(i) and p.returncode == i
    assert g("pods", "-q") == ""


def test_run_with_input_is_interrupted(g):
    p = g.popen("run", "-i", "--name", "in", IMAGE, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; "
                "while :; do sleep 0.05; done", stdin=subprocess.PIPE)
    assert p.stdout.readline() == "ready\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == "bye\n"
    p.communicate(timeout=20 * SLOW)
    assert p.returncode == 3 and g("pods", "-q") == ""


def test_run_of_what_cannot_be_run(g):
    t = Terminal(g, "run", "-it", IMAGE, "/nonexistent")
    t.expect("/nonexistent")
    assert t.end() == 127 and g("pods", "-q") == ""


# --- port-forward ---

class Forwarding:
    def __init__(self, g, *args):
        self.p = g.popen("port-forward", *args)
        self.lines, self.ports = [], []
        for _ in range(len([a for a in args if re.fullmatch(r"[0-9:]+", a)])):
            line = self.p.stdout.readline()
            self.lines.append(line)
            self.ports.append(int(re.search(r":(\d+) -> \d+$", line).group(1)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.send_signal(signal.SIGINT)
        self.err = self.p.communicate(timeout=20 * SLOW)[1]

    def connect(self, i=0):
        return socket.create_connection(("127.0.0.1", self.ports[i]), 20 * SLOW)


def read_all(sock):
    got = b""
    while True:
        more = sock.recv(65536)
        if not more:
            return got
        got += more


def test_port_forward(web):
    with Service(pid_of(web.d, web.web)) as one, Service(pid_of(web.d, web.web)) as two:
        with Forwarding(web, "web", ":%d" % one.port, ":%d" % two.port) as f:
            assert f.lines[0] == "Forwarding from 127.0.0.1:%d -> %d\n" % (f.ports[0], one.port)
            for i in (0, 1):
                with f.connect(i) as s:
                    s.sendall(b"ehello")
                    assert s.recv(5) == b"hello"
            with f.connect() as s:  # the client's end reaches the server, and its the client
                data = os.urandom(3 << 20)
                s.sendall(b"h" + data)
                s.shutdown(socket.SHUT_WR)
                assert read_all(s).decode() == hashlib.sha256(data).hexdigest()
            with f.connect() as s:
                s.sendall(b"z")
                assert len(read_all(s)) == 24 << 20
            many = [f.connect() for _ in range(50)]
            for i, s in enumerate(many):
                s.sendall(b"e%05d" % i)
            for i, s in enumerate(many):
                assert s.recv(5) == b"%05d" % i
                s.close()
        assert f.p.returncode == 130 and f.err == "", f.err
    assert not processes_of(f.p.pid)


def processes_of(parent):
    return subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], stdout=subprocess.PIPE,
                          text=True).stdout.split()


def test_port_forward_to_nobody(web):
    with Forwarding(web, "web", ":9") as f:
        for _ in range(2):
            with f.connect() as s:
                try:
                    assert read_all(s) == b""
                except ConnectionResetError:
                    pass
        wait_for(lambda: not processes_of(f.p.pid))
    assert f.err.count("forward to port 9 of pod web") == 2 and "refused" in f.err.lower(), f.err


def test_port_forward_addresses(web):
    with Service(pid_of(web.d, web.web)) as service:
        with Forwarding(web, "--listen", "127.0.0.1", "web", ":%d" % service.port) as f:
            # a port that is taken
            err = web.fails("port-forward", "web", "%d:80" % f.ports[0])
            assert "Address already in use" in err
        p = web.popen("port-forward", "--listen", "127.0.0.1", "--listen", "::1", "web",
                      ":%d" % service.port)
        a, b = p.stdout.readline(), p.stdout.readline()
        assert a.startswith("Forwarding from 127.0.0.1:") and b.startswith("Forwarding from [::1]:")
        assert a.split(":")[-1] == b.split(":")[-1]
        port = int(a.split(":")[1].split()[0])
        with socket.create_connection(("::1", port), 20 * SLOW) as s:
            s.sendall(b"esix")
            assert s.recv(3) == b"six"
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=20 * SLOW)


def test_port_forward_is_killed(web):
    """Its connections go with it."""
    with Service(pid_of(web.d, web.web)) as service:
        f = Forwarding(web, "web", ":%d" % service.port)
        s = f.connect()
        s.sendall(b"ex")
        assert s.recv(1) == b"x"
        f.p.kill()
        f.p.communicate()
        assert s.recv(1) == b""
        s.close()
        wait_for(lambda: not programs(web.d))
    assert "there is no pod" in web.fails("port-forward", "nosuch", "80")
