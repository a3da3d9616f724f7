"""Processes by recorded identity: pid and start time. Nothing is ever signalled by name."""

import hashlib
import os
import pathlib
import select
import signal
import subprocess

from .errors import TestbedError

SOURCE = pathlib.Path(__file__).with_name("tbinit.c")
KILL_TIMEOUT = 30  # seconds; a killed process that is still there then is stuck in the kernel


def build_tbinit():
    """The static helper, compiled once per content of its source; returns its path."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    directory = pathlib.Path(base) / "clusterctl-testbed"
    target = directory / f"tbinit-{digest}"
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"tbinit-{digest}.{os.getpid()}"
    compiler = os.environ.get("CC", "cc")
    command = [*compiler.split(), "-O2", "-static", "-o", str(temporary), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise TestbedError(f"cannot compile {SOURCE}: {done.stderr.strip()}")
    os.rename(temporary, target)
    return target


def _stat_fields(pid):
    """The fields of /proc/PID/stat after the command name (state is the first), or None."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def start_time(pid):
    """Clock ticks since the machine's boot, or None when there is no such process."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def is_alive(pid, start):
    fields = _stat_fields(pid)
    return bool(fields) and int(fields[19]) == start and fields[0] not in "ZX"


def read_pid_file(path):
    """(pid, start time) as recorded, or None when nothing is recorded."""
    try:
        pid, start = pathlib.Path(path).read_text().split()
        return int(pid), int(start)
    except (OSError, ValueError):
        return None


def running(path):
    """(pid, start time) of the recorded process when it is alive, else None."""
    recorded = read_pid_file(path)
    return recorded if recorded and is_alive(*recorded) else None


def kill_identity(pid, start):
    """SIGKILL, and wait until it is gone. Pid 1 of a pid namespace goes only after all in it have."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) != start:
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        wait_gone(fd, pid)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def wait_gone(fd, pid, timeout=KILL_TIMEOUT):
    if not select.select([fd], [], [], timeout)[0]:
        raise TestbedError(f"process {pid} is still there {timeout} s after it was told to end")


def kill_recorded(path):
    """Ends the process of a pid file and removes the file. Nothing recorded, or long dead: fine."""
    recorded = read_pid_file(path)
    if recorded:
        kill_identity(*recorded)
    pathlib.Path(path).unlink(missing_ok=True)


def descendants(pid):
    """(pid, start time) of all processes below pid."""
    children = {}
    for entry in os.listdir("/proc"):
        fields = _stat_fields(entry) if entry.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append((int(entry), int(fields[19])))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [child for child, _ in below]
    return found


def kill_tree(path):
    """Ends all below a recorded subreaper (see `tbinit plain`), then itself."""
    recorded = running(path)
    while recorded:
        below = [identity for identity in descendants(recorded[0]) if is_alive(*identity)]
        if not below:
            break
        for identity in below:
            kill_identity(*identity)
    kill_recorded(path)


class Launch:
    """One start by tbinit: recorded first, then told to go on, then awaited. See tbinit.c."""

    def __init__(self, what, command):
        self.what = what
        self.child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.child.stdout.readline()
        if not line.startswith("PID "):
            self.child.communicate()
            raise TestbedError(f"{what} does not start: {line.strip()}")
        self.pid = int(line.split()[1])

    def proceed(self):
        self.child.stdin.write("g")
        self.child.stdin.flush()

    def finish(self):
        text = self.child.communicate()[0]
        if self.child.returncode != 0:
            raise TestbedError(f"{self.what} does not start: {text.strip()}")

    def abandon(self):
        if self.child.poll() is None:
            self.child.communicate()  # closes its stdin: it takes the process down with it
