# SPDX-License-Identifier: Apache-2.0
"""A profile is compiled once: the next container of it gets the filter, and is confined alike."""
import glob
import json

from cri import api

# Denied by the default profile: a new user namespace, and a call that is on no list of ours.
PROBE = "grep Seccomp: /proc/self/status; unshare -U true 2>&1 | tail -n 1; chroot / true && echo in"


def config(d, profile, ref=""):
    c = d.container_config("sleep 1000")
    kinds = api.SecurityProfile.ProfileType
    c.linux.security_context.namespace_options.pid = api.CONTAINER
    c.linux.security_context.seccomp.profile_type = kinds.Value(profile)
    c.linux.security_context.seccomp.localhost_ref = ref
    return c


def bundle(d, pod, ctr):
    with open("%s/pods/%s/containers/%s/config.json" % (d.state, pod, ctr)) as f:
        return json.load(f)


def uses_crun(d, pod):
    return bool(glob.glob(d.state + "/runtime/crun/*"))


def run(d, pod, cfg, name):
    cfg.metadata.name = name
    ctr = d.create(pod, config=cfg)
    d.cri.StartContainer(container_id=ctr)
    return ctr


def test_second_container_has_the_first_ones_filter(d, pod):
    made = [run(d, pod, config(d, "RuntimeDefault"), "c%d" % i) for i in range(3)]
    said = [d.exec(c, PROBE).stdout.decode() for c in made]
    assert "Seccomp:\t2" in said[0] and "not permitted" in said[0], said[0]
    assert said[1] == said[0] and said[2] == said[0]
    key = "run.oci.seccomp_bpf_data"
    given = [key in bundle(d, pod, c)["annotations"] for c in made]
    # An earlier test of this file's daemon may have had the profile compiled already.
    assert given[1:] == [uses_crun(d, pod)] * 2
    # What config.json says of the profile is still all there, for other runtimes and readers.
    assert all(bundle(d, pod, c)["linux"]["seccomp"]["syscalls"] for c in made)


def test_another_profile_has_its_own_filter(d, pod, tmp_path):
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}))
    first = run(d, pod, config(d, "RuntimeDefault"), "a")
    assert d.exec(first, "mkdir /tmp/x").exit_code == 0
    for name in ("b", "c"):
        own = run(d, pod, config(d, "Localhost", str(profile)), name)
        r = d.exec(own, "mkdir /tmp/x")
        assert r.exit_code != 0 and b"not permitted" in r.stderr
    free = run(d, pod, config(d, "Unconfined"), "d")
    assert b"Seccomp:\t0" in d.exec(free, "grep Seccomp: /proc/self/status").stdout
    assert "run.oci.seccomp_bpf_data" not in bundle(d, pod, free)["annotations"]


def test_a_user_cannot_hand_in_a_filter(d, pod):
    c = config(d, "RuntimeDefault")
    c.annotations["run.oci.seccomp_bpf_data"] = "BgAAAAAA/38="  # "return ALLOW"
    ctr = run(d, pod, c, "e")
    assert "not permitted" in d.exec(ctr, PROBE).stdout.decode()
    assert bundle(d, pod, ctr)["annotations"].get("run.oci.seccomp_bpf_data") != "BgAAAAAA/38="
