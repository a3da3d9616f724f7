"""The shared file of record.h, read."""

import mmap
import struct
import time

ENTRIES = 65536
HEADER = struct.Struct("=QQ48x")
ENTRY = struct.Struct("=QII16s")
STARTED, WRITING = 1, 2


class Record:
    """What the services of one run said: entries (name, pid, nanoseconds), in order of writing."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.truncate(HEADER.size + ENTRIES * ENTRY.size)
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 0)
        self.read = 0
        self.all = []

    def entries(self):
        """Every entry so far."""
        count = min(HEADER.unpack_from(self.memory)[0], ENTRIES)
        while self.read < count:
            nanos, pid, kind, name = ENTRY.unpack_from(self.memory,
                                                       HEADER.size + self.read * ENTRY.size)
            if kind == 0:
                break  # being written
            self.all.append((name.rstrip(b"\0").decode(), pid, nanos, kind))
            self.read += 1
        return self.all

    def starts(self, name=None, after=0):
        """→ [(name, pid, nanoseconds)] of processes that began after `after`."""
        return [e[:3] for e in self.entries()
                if e[3] == STARTED and e[2] > after and name in (None, e[0])]

    def latest(self):
        """name → pid of its newest process."""
        return {name: pid for name, pid, _ in self.starts()}

    def go(self, batch):
        struct.pack_into("=Q", self.memory, 8, batch)

    def writing_since(self, batch):
        """When the writer of lines began its n-th batch, or None."""
        found = [e[2] for e in self.entries() if e[3] == WRITING]
        return found[batch - 1] if len(found) >= batch else None

    def close(self):
        self.memory.close()


def wait_for(condition, timeout, what, step=0.002):
    """→ what the condition answers once that is true. Polls: the processes that are measured must
    not have to wake the bench."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(step)
    raise TimeoutError(f"{what}: not within {timeout} s")
