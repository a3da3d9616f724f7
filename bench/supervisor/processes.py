"""Facts about processes from /proc, and the end of those that a run left."""

import ctypes
import os
import signal

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Whatever our children leave behind becomes our child, so that it can be found and ended."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER)")


def read(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as f:
        return f.read()


def stat_fields(pid):
    """Field 3 (the state) and those after it."""
    return read(pid, "stat").rsplit(")", 1)[1].split()


def exists(pid):
    try:
        return stat_fields(pid)[0] not in "ZX"
    except OSError:
        return False


def descendants(root):
    """The live processes below `root`, without it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = stat_fields(entry)
            except OSError:
                continue
            if fields[0] not in "ZX":
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def runs(pid, program):
    try:
        return os.path.samefile(f"/proc/{pid}/exe", program) or \
            os.path.basename(os.readlink(f"/proc/{pid}/exe")) == os.path.basename(program)
    except OSError:
        return False


def pss_bytes(pids):
    """Proportional set size: each page shared by n processes counts as a n-th of it."""
    total = 0
    for pid in pids:
        for line in read(pid, "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def activity(pids):
    """→ (context switches, clock ticks of CPU) of these processes so far."""
    switches = ticks = 0
    for pid in pids:
        for line in read(pid, "status").splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
        fields = stat_fields(pid)
        ticks += int(fields[11]) + int(fields[12])
    return switches, ticks


def reap():
    """Ended orphans that we inherited; Popen's own children are waited for by it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    except ChildProcessError:
        pass


def end_all():
    """KILL to all descendants of this process, and theirs, until there are none."""
    for _ in range(50):
        left = descendants(os.getpid())
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        if not left:
            return
