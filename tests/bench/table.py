# SPDX-License-Identifier: Apache-2.0
"""The figures as a table, with the targets and whether they are met."""
import datetime
import os
import platform
import re
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "..", "docs", "performance.md")
PLACE = "bench"  # <!-- bench: begin --> on that page

MS = 1000.0
MIB = 1024.0
#  figure, what a person reads, divisor, unit, decimals
ROWS = [
    ("run", "RunPodSandbox", MS, "ms", 1),
    ("create", "CreateContainer", MS, "ms", 1),
    ("start", "StartContainer", MS, "ms", 1),
    ("pod start", "**pod start to running**", MS, "ms", 1),
    ("first line", "to its first line in the log", MS, "ms", 1),
    ("stop", "StopContainer", MS, "ms", 1),
    ("stop_pod", "StopPodSandbox", MS, "ms", 1),
    ("remove", "RemovePodSandbox", MS, "ms", 1),
    ("pod end", "**stop to removed**", MS, "ms", 1),
    ("exec", "**ExecSync /bin/true**", MS, "ms", 1),
    ("exec cpu", "**processor time per ExecSync**", MS, "ms", 2),
    ("exec rate 1", "**commands per second**, 1 at once", 1, "1/s", 0),
    ("exec rate 16", "16 at once", 1, "1/s", 0),
    ("lines rate", "**lines of a log**, of 100 bytes, thousands per second", 1, "1/s", 0),
    ("lines lost", "lines lost", 1, "of all", 0),
    ("lines cpu", "processor time of a thousand lines, the pod's life included", MS, "ms", 2),
    ("cpu", "**processor time per pod life**", MS, "ms", 1),
    ("cpu kernel", "kernel threads meanwhile, per pod life", MS, "ms", 1),
    ("rate 1", "**pods per second**, 1 at once", 1, "1/s", 1),
    ("rate 4", "4 at once", 1, "1/s", 1),
    ("rate 16", "16 at once", 1, "1/s", 1),
    ("pull gzip", "**pull**, 200 MB in 8 layers, gzip", MS, "ms", 0),
    ("pull cpu gzip", "processor time of that", MS, "ms", 0),
    ("pull peak kB gzip", "most memory meanwhile, PSS of all", MIB, "MiB", 1),
    ("pull daemon kB gzip", "what the daemon has grown by, PSS", MIB, "MiB", 2),
    ("pull zstd", "**pull**, the same by zstd", MS, "ms", 0),
    ("pull cpu zstd", "processor time of that", MS, "ms", 0),
    ("pull peak kB zstd", "most memory meanwhile, PSS of all", MIB, "MiB", 1),
    ("pull daemon kB zstd", "what the daemon has grown by, PSS", MIB, "MiB", 2),
    ("daemon kB 0", "**daemon, PSS**, no pods", MIB, "MiB", 2),
    ("daemon kB 50", "50 pods", MIB, "MiB", 2),
    ("daemon kB 200", "200 pods", MIB, "MiB", 2),
    ("daemon kB 500", "500 pods", MIB, "MiB", 2),
    ("helpers kB per pod 200", "helpers per pod, PSS, at 200", MIB, "MiB", 3),
    ("all kB per pod 200", "**everything per pod, PSS, at 200**", MIB, "MiB", 3),
    ("programs kB per pod 200", "(the container's own program)", MIB, "MiB", 3),
    ("Version 0", "Version", MS, "ms", 3),
    ("Status 0", "Status", MS, "ms", 3),
    ("ListPodSandbox 0", "ListPodSandbox, no pods", MS, "ms", 3),
    ("ListContainers 0", "ListContainers, no pods", MS, "ms", 3),
    ("ListContainerStats 0", "ListContainerStats, no pods", MS, "ms", 3),
    ("ListPodSandboxStats 0", "ListPodSandboxStats, no pods", MS, "ms", 3),
    ("ListPodSandboxMetrics 0", "ListPodSandboxMetrics, no pods", MS, "ms", 3),
    ("ListPodSandbox 50", "ListPodSandbox, 50 pods", MS, "ms", 3),
    ("ListPodSandbox 200", "**ListPodSandbox**, 200 pods", MS, "ms", 3),
    ("ListPodSandbox 500", "ListPodSandbox, 500 pods", MS, "ms", 3),
    ("ListContainers 50", "ListContainers, 50", MS, "ms", 3),
    ("ListContainers 200", "ListContainers, 200", MS, "ms", 3),
    ("ListContainers 500", "ListContainers, 500", MS, "ms", 3),
    ("PodSandboxStatus 200", "PodSandboxStatus, 200", MS, "ms", 3),
    ("ContainerStatus 200", "ContainerStatus, 200", MS, "ms", 3),
    ("ListContainerStats 50", "ListContainerStats, 50", MS, "ms", 2),
    ("ListContainerStats 200", "**ListContainerStats**, 200", MS, "ms", 2),
    ("ListContainerStats 500", "ListContainerStats, 500", MS, "ms", 2),
    ("ListPodSandboxStats 50", "ListPodSandboxStats, 50", MS, "ms", 2),
    ("ListPodSandboxStats 200", "ListPodSandboxStats, 200", MS, "ms", 2),
    ("ListPodSandboxStats 500", "ListPodSandboxStats, 500", MS, "ms", 2),
    ("ListPodSandboxMetrics 50", "ListPodSandboxMetrics, 50", MS, "ms", 1),
    ("ListPodSandboxMetrics 200", "**ListPodSandboxMetrics**, 200", MS, "ms", 1),
    ("ListPodSandboxMetrics 500", "ListPodSandboxMetrics, 500", MS, "ms", 1),
    ("restart", "**restart with 50 pods** to serving", MS, "ms", 1),
    ("restart exec", "restart to ExecSync done", MS, "ms", 1),
    ("route globs", "**choice of a runtime**, processor time, 1,000 rules: globs of images", 1, "µs", 1),
    ("route hosts", "globs of registries", 1, "µs", 1),
    ("route expressions", "regular expressions", 1, "µs", 1),
    ("route bare", "regular expressions without three literal bytes in a row", 1, "µs", 0),
    ("route namespaces", "namespaces", 1, "µs", 1),
    ("route labels", "labels", 1, "µs", 1),
    ("route mixed", "image, namespace and label", 1, "µs", 1),
    ("route explained", "globs of images, explained", 1, "µs", 0),
]

PEER, CNI, OWN = "containerd", "gantry-cni", "gantry"
#  what, figure, whose, compared with the peer's (ratio) or by itself, bound, "most" or "least"
TARGETS = [
    ("pod start, same CNI plugins and crun", "pod start", CNI, True, 0.40, "most"),
    ("processor time per pod life, same plugins", "cpu", CNI, True, 0.40, "most"),
    ("pods per second at 16, same plugins", "rate 16", CNI, True, 2.5, "least"),
    ("pod start, built-in network", "pod start", OWN, True, 0.25, "most"),
    ("processor time per pod life, built-in network", "cpu", OWN, True, 0.20, "most"),
    ("processor time per ExecSync", "exec cpu", OWN, True, 0.5, "most"),
    ("lines of a log that are lost", "lines lost", OWN, 1, 0, "most"),
    ("pull of 200 MB, gzip", "pull gzip", OWN, True, 0.5, "most"),
    ("processor time of that", "pull cpu gzip", OWN, True, 0.33, "most"),
    ("memory of that, MiB PSS", "pull peak kB gzip", OWN, 1024, 64, "most"),
    ("what the daemon grows by, MiB PSS", "pull daemon kB gzip", OWN, 1024, 0.5, "most"),
    ("pull of 200 MB, zstd", "pull zstd", OWN, True, 0.5, "most"),
    ("processor time of that", "pull cpu zstd", OWN, True, 0.33, "most"),
    ("memory of that, MiB PSS", "pull peak kB zstd", OWN, 1024, 64, "most"),
    ("what the daemon grows by, MiB PSS", "pull daemon kB zstd", OWN, 1024, 0.5, "most"),
    ("memory of everything per pod at 200", "all kB per pod 200", OWN, True, 0.05, "most"),
    ("daemon at 200 pods, MiB PSS", "daemon kB 200", OWN, 1024, 8, "most"),
    ("helpers per pod at 200, MiB PSS", "helpers kB per pod 200", OWN, 1024, 0.12, "most"),
    ("ListContainerStats with 200, ms", "ListContainerStats 200", OWN, 1000, 10, "most"),
    ("ListPodSandboxMetrics with 200, ms", "ListPodSandboxMetrics 200", OWN, 1000, 150, "most"),
    ("ListPodSandbox with 200, ms", "ListPodSandbox 200", OWN, 1000, 0.5, "most"),
    ("restart to serving with 50 pods, ms", "restart", OWN, 1000, 100, "most"),
    ("choice with 1,000 rules, globs, µs", "route globs", OWN, 1, 50, "most"),
    ("choice with 1,000 rules, regular expressions, µs", "route expressions", OWN, 1, 50, "most"),
    ("choice with 1,000 rules, mixed, µs", "route mixed", OWN, 1, 50, "most"),
]


def middle(f, server, figure):
    v = f.get((server, figure))
    return statistics.median(v) if v else None


def spread(f, server, figure, divisor, decimals):
    v = sorted(f.get((server, figure), []))
    if not v:
        return ""
    text = "%.*f" % (decimals, statistics.median(v) / divisor)
    if len(v) >= 5:
        text += " [%.*f-%.*f]" % (decimals, v[len(v) // 10] / divisor,
                                  decimals, v[-1 - len(v) // 10] / divisor)
    return text


def version(*command):
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
        found = re.search(r"\d+\.\d+\.\d+[^\s]*", out)
        return found.group(0) if found else "?"
    except OSError:
        return "?"


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    with open("/etc/os-release") as f:
        system = re.search(r'PRETTY_NAME="?([^"\n]*)', f.read())
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return "%s; %d processors (%s); Linux %s; %s; cgroup %s; containerd %s, crun %s" % (
        datetime.date.today(), os.cpu_count(), model.group(1) if model else platform.machine(),
        platform.release(), system.group(1) if system else "?", "v2" if v2 else "v1",
        version("containerd", "--version"), version("crun", "--version"))


def targets(f, ratios_only=False):
    lines = ["| target | bound | found | |", "|---|---|---|---|"]
    for what, figure, whose, how, bound, kind in TARGETS:
        mine, peer = middle(f, whose, figure), middle(f, PEER, figure)
        if mine is None or (how is True and peer is None) or (ratios_only and how is not True):
            continue
        found = mine / peer if how is True else mine / how
        met = found <= bound if kind == "most" else found >= bound
        lines.append("| %s | at %s %s%s | %.3g | %s |" % (
            what, kind, bound, " × containerd" if how is True else "", found,
            "met" if met else "**missed**"))
    return lines


def render(f, names):
    ratios = [n for n in names if n != PEER] if PEER in names else []
    lines = [machine(), "", "| | " + " | ".join(names) + "".join(" | %s ÷ peer" % n
                                                                    for n in ratios) + " |",
             "|---" * (1 + len(names) + len(ratios)) + "|"]
    for figure, label, divisor, unit, decimals in ROWS:
        if not any((n, figure) in f for n in names):
            continue
        row = "| %s, %s |" % (label, unit)
        for n in names:
            row += " %s |" % spread(f, n, figure, divisor, decimals)
        for n in ratios:
            mine, peer = middle(f, n, figure), middle(f, PEER, figure)
            row += " %.2f |" % (mine / peer) if mine is not None and peer else " |"
        lines.append(row)
    return "\n".join(lines + [""] + targets(f))


def render_ratios(f, names):
    """Where times mean nothing by themselves, what they are to the peer's still does."""
    names = [n for n in names if n != PEER]
    lines = [machine(), "", "| | " + " | ".join("%s ÷ peer" % n for n in names) + " |",
             "|---" * (1 + len(names)) + "|"]
    for figure, label, _, _, _ in ROWS:
        peer = middle(f, PEER, figure)
        if peer:
            found = [middle(f, n, figure) for n in names]
            lines.append("| %s | %s |" % (label, " | ".join(
                "" if x is None else "%.2f" % (x / peer) for x in found)))
    return "\n".join(lines + [""] + targets(f, True))


def write(text, place=PLACE):
    begin, end = ("<!-- %s: %s -->" % (place, x) for x in ("begin", "end"))
    with open(PAGE) as fh:
        page = fh.read()
    before, rest = page.split(begin)
    with open(PAGE, "w") as fh:
        fh.write(before + begin + "\n" + text + "\n" + end + rest.split(end)[1])
