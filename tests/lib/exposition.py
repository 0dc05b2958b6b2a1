# SPDX-License-Identifier: Apache-2.0
"""A strict reader of Prometheus' text format 0.0.4."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(r"(%s)(?:\{(%s(?:,%s)*)\})? ([0-9.eE+-]+|[+-]Inf|NaN)" % (NAME, LABEL, LABEL))
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Family:
    def __init__(self, name, about):
        self.name, self.about, self.type = name, about, None
        self.samples = {}  # (name, ((label, value), ...)): float

    def add(self, name, labels, value):
        assert self.type, "%s has no TYPE" % self.name
        assert name in {self.name + x for x in PARTS[self.type]}, name
        assert len(dict(labels)) == len(labels), "a label twice: %s" % (labels,)
        key = (name, tuple(sorted(labels)))
        assert key not in self.samples, "twice: %s" % (key,)
        self.samples[key] = value

    def check(self):
        if self.type == "counter":
            assert self.name.endswith("_total"), self.name
        assert all(v >= 0 for v in self.samples.values())
        if self.type != "histogram":
            return
        of = {}
        for (name, labels), v in self.samples.items():
            rest = tuple(x for x in labels if x[0] != "le")
            of.setdefault(rest, {}).setdefault(name, []).append((dict(labels).get("le"), v))
        for parts in of.values():
            buckets = [(float(le), v) for le, v in parts[self.name + "_bucket"]]
            assert buckets == sorted(buckets) and buckets[-1][0] == float("inf")
            assert [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert parts[self.name + "_count"] == [(None, buckets[-1][1])]
            assert len(parts[self.name + "_sum"]) == 1


def parse(text):
    """{family: Family}; AssertionError where it is not the format, or contradicts itself."""
    families, now = {}, None
    assert text.endswith("\n") and "\r" not in text
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, about = line[7:].split(" ", 1)
            assert re.fullmatch(NAME, name) and name not in families and about
            now = families[name] = Family(name, about)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert now and name == now.name and now.type is None and kind in PARTS
            now.type = kind
        else:
            m = SAMPLE.fullmatch(line)
            assert m and now, "no sample: %r" % line
            now.add(m[1], re.findall(LABEL, m[2] or ""), float(m[m.lastindex]))
    for f in families.values():
        f.check()
    return families


def value(families, name, **labels):
    """Of one sample; 0 where there is none such."""
    base = re.sub("_(bucket|sum|count)$", "", name)
    f = families.get(name) or families[base]
    return f.samples.get((name, tuple(sorted(labels.items()))), 0)
