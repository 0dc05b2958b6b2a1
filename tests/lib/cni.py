# SPDX-License-Identifier: Apache-2.0
"""CNI for tests: a directory of configurations and plugins that do as they are told."""
import glob
import json
import os
import stat

PLUGIN = '''#!/usr/bin/python3 -SE
import json, os, signal, sys, time
me, command = os.path.basename(sys.argv[0]), os.environ["CNI_COMMAND"]
conf = json.loads(sys.stdin.read() or "null")
dir = @DIR@
path = "%s/log/%020d-%s-%s" % (dir, time.time_ns(), me, command)
with open(path + ".tmp", "w") as f:
    json.dump({"plugin": me, "command": command, "conf": conf,
               "env": {k: v for k, v in os.environ.items() if k.startswith("CNI_")}}, f)
os.rename(path + ".tmp", path)
try:
    with open("%s/behave/%s.%s" % (dir, me, command)) as f:
        exec(f.read())
except FileNotFoundError:
    pass
if command == "VERSION":
    print(json.dumps({"cniVersion": "1.1.0", "supportedVersions": versions
                      if "versions" in globals() else ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}))
elif command == "ADD":
    print(json.dumps(conf.get("prevResult") or {"cniVersion": conf["cniVersion"],
          "interfaces": [{"name": "eth0", "sandbox": os.environ["CNI_NETNS"]}],
          "ips": [{"version": "4", "address": "192.0.2.77/24", "interface": 0}]}))
'''


class Cni:
    """conf_dir, bin_dir and what the plugins have been asked, below `dir`."""

    def __init__(self, dir, plugins=("one", "two", "three")):
        self.dir = str(dir)
        self.conf_dir, self.bin_dir = self.dir + "/conf", self.dir + "/bin"
        for d in (self.conf_dir, self.bin_dir, self.dir + "/log", self.dir + "/behave"):
            os.makedirs(d)
        for name in plugins:
            self.plugin(name)

    def config(self, timeout=30, bins=(), bridge=""):
        """The daemon's configuration."""
        return "cni:\n  conf_dir: %s\n  bin_dirs: [%s]\n  netns_dir: %s/netns\n  timeout: %d\n%s" \
            % (self.conf_dir, ", ".join([self.bin_dir, *bins]), self.dir, timeout, bridge)

    def plugin(self, name):
        path = self.bin_dir + "/" + name
        with open(path, "w") as f:
            f.write(PLUGIN.replace("@DIR@", repr(self.dir)))
        os.chmod(path, stat.S_IRWXU)

    def write(self, name, conf):
        with open(self.conf_dir + "/.new", "w") as f:
            f.write(conf if isinstance(conf, str) else json.dumps(conf))
        os.makedirs(os.path.dirname(self.conf_dir + "/" + name), exist_ok=True)
        os.rename(self.conf_dir + "/.new", self.conf_dir + "/" + name)

    def remove(self, name):
        os.unlink(self.conf_dir + "/" + name)

    def list(self, *types, name="10-test.conflist", version="1.0.0", **more):
        """A list of these plugins, all with every capability."""
        caps = {c: True for c in ("portMappings", "bandwidth", "dns", "ipRanges",
                                  "io.kubernetes.cri.pod-annotations", "cgroupPath")}
        self.write(name, dict({"cniVersion": version, "name": "test", "plugins": [
            {"type": t, "capabilities": caps, "keep": {"x": 1.5}} for t in types]}, **more))

    def behave(self, plugin, command, code):
        """Python that the plugin runs first when it is asked so; "" ends that."""
        path = "%s/behave/%s.%s" % (self.dir, plugin, command)
        if not code:
            os.unlink(path)
            return
        with open(path + "~", "w") as f:
            f.write(code)
        os.rename(path + "~", path)

    def calls(self, *commands):
        """What was asked, in order, of these commands (all but VERSION)."""
        found = []
        for path in sorted(glob.glob(self.dir + "/log/*[A-Z]")):
            with open(path) as f:
                found.append(json.load(f))
        return [c for c in found if (c["command"] in commands if commands
                                     else c["command"] != "VERSION")]

    def names(self, *commands):
        return ["%s %s" % (c["command"], c["plugin"]) for c in self.calls(*commands)]

    def forget(self):
        for path in glob.glob(self.dir + "/log/*"):
            os.unlink(path)
