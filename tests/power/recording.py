# SPDX-License-Identifier: Apache-2.0
"""What a disk was told, and what it holds when the power fails at some moment.

A log is a sequence of entries: kind (a byte), offset and length (8 bytes each, little endian), and
the bytes.  A flush makes durable what was written before it; of what was written after the last
flush before the cut, a disk may have kept anything, in any order, sector by sector."""
import os
import struct

WRITE, FLUSH, MARK = b"W", b"F", b"M"
HEAD = struct.Struct("<cQQ")
SECTOR = 512  # what a disk writes whole or not at all
BLOCK = 4096

KEEP = ("nothing", "everything", "some", "torn")  # of what was not flushed


def entry(kind, offset, data):
    return HEAD.pack(kind, offset, len(data)) + bytes(data)


class Recording:
    """A disk's content before the first write, and all that came.  The directory has `base` (a
    sparse file) and `log`."""

    def __init__(self, directory):
        self.base = directory + "/base"
        self.entries, self.marks = [], []
        with open(directory + "/log", "rb") as f:
            while len(head := f.read(HEAD.size)) == HEAD.size:
                kind, offset, n = HEAD.unpack(head)
                data = f.read(n)
                if kind == MARK:
                    self.marks.append((len(self.entries), data.decode()))
                else:
                    self.entries.append((kind, offset, data))

    def marks_before(self, cut):
        """What had been said when the entries before `cut` had come."""
        return [text for at, text in self.marks if at <= cut]

    def cutter(self, path):
        return Cutter(self, path)


class Cutter:
    """Makes disks after cuts, in ascending order: what is durable is written once."""

    def __init__(self, recording, path):
        self.recording, self.path = recording, path
        self.durable, self.pos = path + ".durable", 0
        copy_sparse(recording.base, self.durable)

    def cut(self, at, keep, rng):
        """The disk is at self.path then.  Returns how many writes were not flushed."""
        entries = self.recording.entries
        flushes = [i for i in range(self.pos, at) if entries[i][0] == FLUSH]
        last = flushes[-1] + 1 if flushes else self.pos
        with open(self.durable, "r+b") as f:
            for kind, offset, data in entries[self.pos:last]:
                if kind == WRITE:
                    os.pwrite(f.fileno(), data, offset)
        self.pos = last
        copy_sparse(self.durable, self.path)
        pending = [e for e in entries[last:at] if e[0] == WRITE]
        with open(self.path, "r+b") as f:
            for offset, data in kept(pending, keep, rng):
                os.pwrite(f.fileno(), data, offset)
        return len(pending)

    def close(self):
        for p in (self.durable, self.path):
            if os.path.exists(p):
                os.remove(p)


def kept(pending, keep, rng):
    """What a disk has of writes that were not flushed."""
    if keep == "nothing":
        return
    torn = rng.randrange(len(pending)) if keep == "torn" and pending else -1
    for i, (_, offset, data) in enumerate(pending):
        if keep == "torn" and i > torn:
            return
        step = SECTOR if i == torn else BLOCK
        for at in range(0, len(data), step):
            if (keep == "some" or i == torn) and rng.random() < 0.5:
                continue
            yield offset + at, data[at:at + step]


def copy_sparse(source, target):
    """Holes stay holes."""
    size = os.stat(source).st_size
    with open(source, "rb") as s, open(target, "wb") as t:
        t.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(s.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(s.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.pwrite(t.fileno(), os.pread(s.fileno(), min(end - at, 1 << 24), at), at)
