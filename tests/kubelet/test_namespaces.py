# SPDX-License-Identifier: Apache-2.0
"""What pods share with the node, with their containers, and with nobody."""
import os
import socket
import urllib.request

import registry
import standalone
from cri import SLOW
from forms import OFTEN, SLEEP, WAIT, at, pod, sh, share, volume

NET, PORT, UDP = registry.free_port(), registry.free_port(), registry.free_port()
NAMESPACES = "for n in net ipc uts pid user; do readlink /proc/self/ns/$n; done; echo end; "
UDP_ECHO = """import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('::', 8081))
while True:
    s.sendto(*s.recvfrom(100))"""
HTTPD = "mkdir -p /www && echo fine >/www/ok && exec httpd -f -p %d -h /www"



def http(port, **where):
    return {"httpGet": {"path": "/ok", "port": port, **where}, **OFTEN}


PODS = [
    pod("host-network", sh("main", HTTPD % NET, readinessProbe=http(NET, host="127.0.0.1")),
        hostNetwork=True),
    pod("host-all", sh("main", NAMESPACES + SLEEP), hostNetwork=True, hostIPC=True, hostPID=True),
    pod("own", sh("main", NAMESPACES + SLEEP), hostname="other", subdomain="sub"),
    pod("host-port", sh("main", HTTPD % 8080, readinessProbe=http(8080), ports=[
        {"containerPort": 8080, "hostPort": PORT},
        {"containerPort": 8081, "hostPort": UDP, "protocol": "UDP", "hostIP": "127.0.0.1"}]),
        sh("udp", 'exec chroot /node /usr/bin/python3 -c "%s"' % UDP_ECHO,
           volumeMounts=[at("/node", "node")]),
        volumes=[volume("node", hostPath={"path": "/"})]),
    pod("shared-pid", sh("one", "echo $$; exec sleep 1234"),
        sh("two", "until ps -o args | grep -q '[s]leep 1234'; do sleep 0.1; done; echo $$;"
           "ps -o pid,args | head -n 3; echo end; " + SLEEP), shareProcessNamespace=True),
    pod("mapped", sh("main", "cat /proc/self/uid_map; id -u; echo mine >/work/f;"
                     "stat -c %u /work/f; chown 1000 /work/f && echo chown;" + NAMESPACES + SLEEP,
                     volumeMounts=[at("/work", "work"), at("/share")]),
        hostUsers=False, volumes=[volume("work"), share()]),
    pod("mapped-http", sh("main", HTTPD % 80, readinessProbe=http(80)), hostUsers=False),
]


def own(kind):
    return os.readlink("/proc/self/ns/" + kind)


def lines(kubelet, name, container="main"):
    kubelet.wait_ready(name)
    return kubelet.wait_for(lambda: (lambda t: t if "\nend\n" in t else None)(
        kubelet.log(name, container)), every=0.1).split("\n")


def fetch(address, port):
    with urllib.request.urlopen("http://%s:%d/ok" % (address, port), timeout=10 * SLOW) as r:
        return r.read()


def test_host_network(kubelet):
    """Without an API server no address of the node is in its status."""
    kubelet.wait_ready("host-network")
    assert fetch("127.0.0.1", NET) == fetch(standalone.ADDRESS, NET) == b"fine\n"


def test_all_of_the_node(kubelet):
    net, ipc, uts, pid, user = lines(kubelet, "host-all")[:5]
    assert (net, ipc, pid, user) == tuple(map(own, ("net", "ipc", "pid", "user")))
    assert uts == own("uts")  # with the network goes the host name


def test_nothing_of_the_node(kubelet):
    found = lines(kubelet, "own")[:5]
    assert not {own(k) for k in ("net", "ipc", "uts", "pid")} & set(found)
    i = kubelet.containers("own")[0].id
    assert kubelet.daemon.exec(i, "hostname; cat /etc/hosts").stdout.startswith(b"other\n")


def test_host_ports(kubelet):
    kubelet.wait_ready("host-port")
    assert fetch("127.0.0.1", PORT) == fetch(standalone.ADDRESS, PORT) == b"fine\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)

        def echo():
            s.sendto(b"ping", ("127.0.0.1", UDP))
            try:
                return s.recv(100)
            except OSError:
                return None
        assert kubelet.wait_for(echo) == b"ping"


def test_shared_pid_namespace(kubelet):
    kubelet.wait_ready("shared-pid")
    two = lines(kubelet, "shared-pid", "two")
    one = kubelet.wait_for(lambda: kubelet.log("shared-pid", "one"))
    assert one != "1\n" and two[0] != "1"
    assert two[2].split()[0] == "1"  # it is the pod's own


def test_user_namespace(kubelet):
    out = lines(kubelet, "mapped")
    inside, outside, count = map(int, out[0].split())
    assert inside == 0 and outside >= 65536 and count == 65536
    assert out[1:4] == ["0", "0", "chown"]
    assert out[-3] != own("user")


def test_user_namespaces_do_not_overlap(kubelet):
    kubelet.wait_ready("mapped-http")
    maps = set()
    for name in ("mapped", "mapped-http"):
        i = kubelet.containers(name)[0].id
        maps.add(kubelet.daemon.exec(i, "cat /proc/1/uid_map").stdout.split()[1])
    assert len(maps) == 2


def test_volumes_of_mapped_pods(kubelet):
    """By mapped mounts: on the disk a file is of the id that the pod sees."""
    lines(kubelet, "mapped")
    uid = kubelet.pods()["mapped"]["metadata"]["uid"]
    path = "%s/lib/pods/%s/volumes/kubernetes.io~empty-dir/work/f" % (kubelet.dir, uid)
    assert os.stat(path).st_uid == 1000
