"""The state directory of one testbed: where everything is, and who may change it now."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import time

from .errors import TestbedError

PREFIX = "clusterctl-testbed-"
MARKER = ".clusterctl-testbed"
FORMAT = 1
REMOVE_TRIES = 50


def directory_for(name, directory=None):
    """--dir, else $TESTBED_DIR, else a directory named for the testbed in $TMPDIR."""
    if directory or (not name and os.environ.get("TESTBED_DIR")):
        return pathlib.Path(directory or os.environ["TESTBED_DIR"]).resolve()
    name = name or os.environ.get("TESTBED_NAME") or "default"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", name):
        raise TestbedError(f"'{name}' is no name for a testbed: letters, digits, _ . -, at most 41")
    return parent_directory() / (PREFIX + name)


def parent_directory():
    return pathlib.Path(tempfile.gettempdir()).resolve()


class State:
    """Paths below the state directory; the configuration of the testbed; the cuts in force."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.hosts_dir = self.dir / "hosts"
        self.config_file = self.dir / "testbed.json"
        self.cuts_file = self.dir / "cuts.json"
        self.key = self.dir / "id_ed25519"
        self.known_hosts = self.dir / "known_hosts"
        self.ssh_config = self.dir / "ssh_config"
        self.switch_pid = self.dir / "switch.pid"

    def host_dir(self, index):
        return self.hosts_dir / str(index)

    def disk(self, index):
        return self.host_dir(index) / "disk"

    def pid_file(self, index):
        return self.host_dir(index) / "init.pid"

    def console(self, index):
        return self.host_dir(index) / "console.log"

    def port_name(self):
        """The operator's end of the switch: known from the directory alone, so `down` needs no state."""
        return "cctl" + hashlib.sha256(str(self.dir).encode()).hexdigest()[:8]

    def load(self):
        try:
            config = json.loads(self.config_file.read_text())
        except FileNotFoundError:
            raise TestbedError(f"no testbed is up in {self.dir}: `testbed up N` makes one") from None
        if config.get("format") != FORMAT:
            raise TestbedError(f"{self.config_file}: format {config.get('format')} is not known here")
        return config

    def save(self, config):
        write_atomically(self.config_file, json.dumps({"format": FORMAT, **config}, indent=1))

    def load_cuts(self):
        """Sorted [a, b] pairs and single hosts [a], as cut by the user."""
        try:
            return json.loads(self.cuts_file.read_text())
        except FileNotFoundError:
            return []

    def save_cuts(self, cuts):
        write_atomically(self.cuts_file, json.dumps(sorted(cuts)))

    def create(self):
        """Makes the directory, or takes an empty one; refuses one that holds anything else."""
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o755)  # hosts' users pass through it; the keys in it are 0600
        if (self.dir / MARKER).exists():
            raise TestbedError(f"{self.dir} already holds a testbed: `testbed down` first")
        if any(self.dir.iterdir()):
            raise TestbedError(f"{self.dir} is not empty and no testbed: choose another --dir")
        (self.dir / MARKER).touch()

    @contextlib.contextmanager
    def locked(self):
        """One change at a time. The lock is on the directory itself, so nothing is left behind."""
        fd = self._lock()
        try:
            yield
        finally:
            os.close(fd)

    def _lock(self):
        while True:
            try:
                fd = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise TestbedError(f"no testbed is up in {self.dir}: `testbed up N` makes one") from None
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(self.dir)):
                    return fd
            os.close(fd)  # `down` removed the directory while we waited

    def remove(self):
        """Unmounts all below the directory and removes it: only if a testbed is in it, or nothing."""
        if not (self.dir / MARKER).exists() and any(self.dir.iterdir()):
            raise TestbedError(f"{self.dir} holds no testbed: not removed")
        for attempt in range(REMOVE_TRIES):
            try:
                self._empty()
                break
            except OSError:  # what a killed `up` had started (cp, mount, ssh-keygen) is just ending
                if attempt == REMOVE_TRIES - 1:
                    raise
                time.sleep(0.1)

    def _empty(self):
        unmount_below(self.dir)
        marker = self.dir / MARKER
        for entry in self.dir.iterdir():
            if entry != marker:
                _remove_tree(entry)
        if [entry for entry in self.dir.iterdir() if entry != marker]:
            raise OSError(errno.ENOTEMPTY, "still being written", str(self.dir))
        marker.unlink(missing_ok=True)  # last, so that a `down` that was killed can be repeated
        self.dir.rmdir()


def _remove_tree(path):
    if not stat.S_ISDIR(path.lstat().st_mode):
        path.unlink()
        return
    for directory, _, _ in os.walk(path):  # releases are read-only, which root does not notice
        os.chmod(directory, 0o700)
    shutil.rmtree(path)


def mounts_below(directory):
    """Mount points at or below a directory, deepest first."""
    prefix = str(directory)
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), line.split()[4])
        if point == prefix or point.startswith(prefix + "/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def unmount_below(directory):
    for point in mounts_below(directory):
        if subprocess.run(["umount", point], capture_output=True).returncode != 0:
            subprocess.run(["umount", "-l", point], check=True)


def write_atomically(path, text, mode=0o644):
    temporary = path.with_name(path.name + ".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    os.rename(temporary, path)
