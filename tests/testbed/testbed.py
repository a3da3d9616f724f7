"""N test hosts on one machine, each with a real sshd; see README.md.

    from testbed import Testbed
    with Testbed(3, no_forward=[2], disk_size={3: "64M"}) as bed:
        bed.ssh(1, "hostname").stdout          # 'host1\n'
        bed.kill(1); bed.boot(1)
        bed.write_inventory(directory)         # cluster.yaml
"""

import atexit
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import uuid

from tblib import namespaced, plain, proc
from tblib.disk import make_key
from tblib.errors import TestbedError, Unsupported
from tblib.net import MAX_HOSTS
from tblib.state import PREFIX, State, directory_for, parent_directory

__all__ = ["Testbed", "TestbedError", "Unsupported", "namespaces_permitted"]

SSH_OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]


def namespaces_permitted():
    """Whether hosts here can be killed, booted and cut: for `unittest.skipUnless`."""
    return namespaced.permitted()


def _say(text):
    print(text, file=sys.stderr, flush=True)


class Testbed:
    """One set of test hosts, numbered from 1; the operator (this machine) is host 0 for cuts.

    All methods raise TestbedError with what failed; Unsupported where the hosts are plain (no root).
    Methods may be called from several threads and processes: changes take turns.
    """

    __test__ = False  # not a test class, whatever its name says to collectors

    def __init__(self, count=0, *, name=None, directory=None, disk_size=None, no_forward=(), sshd=None,
                 force_plain=False):
        """count, disk_size {index: "64M"}, no_forward [index…], sshd {index: ["Key value"…]}: for `up`.

        Without name and directory a name of its own is made: parallel tests never meet.
        """
        if count and not name and not directory:
            name = f"t{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.count = count
        self.options = {"disk_size": disk_size or {}, "no_forward": list(no_forward), "sshd": sshd or {}}
        self.force_plain = force_plain
        self.state = State(directory_for(name, directory))

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    # ---- up and down

    def up(self, count=None, quiet=True):
        """Makes the hosts and returns self when every sshd listens; on failure takes all down again."""
        count = count or self.count
        if not 1 <= count <= MAX_HOSTS:
            raise TestbedError(f"between 1 and {MAX_HOSTS} hosts, not {count}")
        for index in (*self.options["disk_size"], *self.options["no_forward"], *self.options["sshd"]):
            _check_index(index, count)
        self.state.create()
        atexit.register(self._down_at_exit, os.getpid())
        try:
            with self.state.locked():
                self._up(count, quiet)
        except BaseException:
            self.down()
            raise
        return self

    def _up(self, count, quiet):
        hosts = {str(i): {"disk_size": self.options["disk_size"].get(i),
                          "forward": i not in self.options["no_forward"],
                          "sshd": list(self.options["sshd"].get(i, []))} for i in range(1, count + 1)}
        mode = "namespaces" if not self.force_plain and namespaced.permitted() else "plain"
        config = {"mode": mode, "hosts": hosts, "subnet": None,
                  "owner": [os.getpid(), proc.start_time(os.getpid())]}
        self.state.hosts_dir.mkdir()
        for index in hosts:
            self.state.host_dir(int(index)).mkdir()
        self.state.save(config)
        make_key(self.state.key, "testbed")
        if mode == "plain" and not quiet:
            _say("testbed: no root, or namespaces are not permitted here: plain sshd on loopback ports as "
                 "the current user; kill, boot, cut and heal do not work (exit 75), hosts share the "
                 "machine's processes")
        backend = self._backend(config)
        backend.up()
        self._write_ssh_config(backend)

    def down(self):
        """Leaves nothing: processes, namespaces, links, mounts, files. Down twice is fine."""
        atexit.unregister(self._down_at_exit)
        if not self.state.dir.exists():
            return
        try:
            with self.state.locked():
                self._take_down()
                self.state.remove()
        except TestbedError:
            if self.state.dir.exists():
                raise

    def _take_down(self):
        """The configuration is written before anything is started: without it there is nothing."""
        if self.state.config_file.exists():
            kind = plain if self.state.load()["mode"] == "plain" else namespaced
            kind.take_down(self.state)

    def _down_at_exit(self, owner):
        if os.getpid() == owner:  # not in a forked child
            self.down()

    def keep(self):
        """The hosts stay up when this process ends, and are nobody's to clear away but `down`'s."""
        with self.state.locked():
            self.state.save({**self.state.load(), "owner": None})
        atexit.unregister(self._down_at_exit)

    @staticmethod
    def down_stale():
        """Takes down what killed test runs left in $TMPDIR; returns the directories. Kept ones stay."""
        gone = []
        for config_file in parent_directory().glob(PREFIX + "*/testbed.json"):
            bed = Testbed(directory=config_file.parent)
            with contextlib.suppress(TestbedError, OSError):
                owner = bed.state.load()["owner"]
                if owner and not proc.is_alive(*owner):
                    bed.down()
                    gone.append(str(bed.state.dir))
        return gone

    def _write_ssh_config(self, backend):
        lines = [f"IdentityFile {self.state.key}", "IdentitiesOnly yes",
                 f"UserKnownHostsFile {self.state.known_hosts}", "GlobalKnownHostsFile /dev/null",
                 f"User {backend.default_user()}"]
        text = []
        for index, host in backend.config["hosts"].items():
            text += [f"Host host{index}", f"  HostName {host['address']}", f"  Port {host['port']}"]
        text += ["Host *", *(f"  {line}" for line in lines)]
        self.state.ssh_config.write_text("\n".join(text) + "\n")

    # ---- what happens to hosts

    def kill(self, index):
        """Power loss: silent for the network, all processes gone at once, disk as it was. Repeatable."""
        self._change(index, lambda backend: backend.kill(index))

    def shutdown(self, index):
        """An orderly power-off: TERM to every process, up to 5 s, then as `kill`."""
        self._change(index, lambda backend: backend.shutdown(index))

    def boot(self, index):
        """The host comes back with its disk as it was, runs sshd and cron; returns once sshd listens."""
        self._change(index, lambda backend: backend.boot(index))

    def cut(self, index, other=None):
        """Packets vanish: of the host with anybody, or with one other only (0: the operator)."""
        self._change_cuts(index, other, lambda cuts, cut: cuts + [cut] if cut not in cuts else cuts)

    def heal(self, index, other=None):
        """Undoes `cut`; without other, all cuts that the host is part of."""
        def without(cuts, cut):
            return [c for c in cuts if c != cut and not (other is None and index in c)]
        self._change_cuts(index, other, without)

    def rekey(self, index):
        """A new host key, in force at once; known_hosts keeps the old one. Returns the new public key."""
        return self._change(index, lambda backend: backend.rekey(index))

    def _change(self, index, action):
        with self.state.locked():
            backend = self._backend()
            _check_index(index, len(backend.config["hosts"]))
            return action(backend)

    def _change_cuts(self, index, other, edit):
        def action(backend):
            if other is not None:
                _check_index(other, len(backend.config["hosts"]), least=0)
            cut = [index] if other is None else sorted((index, other))
            backend.set_cuts(edit(self.state.load_cuts(), cut))
        self._change(index, action)

    # ---- commands on hosts

    def ssh_command(self, index, *command, user=None):
        """The ssh command line that `ssh` runs. It takes any host key: tests of keys use their own."""
        self._host(index)
        return ["ssh", "-F", str(self.state.ssh_config), *SSH_OPTIONS,
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", *(["-l", user] if user else []), f"host{index}", *command]

    def ssh(self, index, *command, user=None, check=True, timeout=60, **options):
        """Runs a command through sshd as `user`; a CompletedProcess with text output."""
        return _run(self.ssh_command(index, *command, user=user), check, timeout, options)

    def exec_command(self, index, *command):
        """The command line that `exec` runs: one argument is for `sh -c`, several are an argv."""
        self._host(index)
        argv = ["sh", "-c", command[0]] if len(command) == 1 else list(command)
        return self._backend().enter_command(index, argv)

    def exec(self, index, *command, check=True, timeout=60, **options):
        """Runs a command as root in the host's namespaces, without network or sshd."""
        return _run(self.exec_command(index, *command), check, timeout, options)

    # ---- questions

    def root(self, index):
        """The host's disk as seen from outside, also while it is down (without /usr, /run, /dev …)."""
        self._host(index)
        return self._backend().root(index)

    def live_root(self, index):
        """The host's / with everything mounted in it, from outside; only while it is up."""
        if self.mode != "namespaces":
            return self.root(index)
        return pathlib.Path(f"/proc/{self.pid(index)}/root")

    def pid(self, index):
        """Outside pid of the host's pid 1."""
        identity = self._backend().identity(index)
        if not identity:
            raise TestbedError(f"host{index} is down")
        return identity[0]

    def addr(self, index):
        return self._host(index)["address"]

    def port(self, index):
        return self._host(index)["port"]

    @property
    def mode(self):
        """"namespaces" or "plain"."""
        return self.state.load()["mode"]

    @property
    def key(self):
        return self.state.key

    @property
    def known_hosts(self):
        return self.state.known_hosts

    @property
    def ssh_config(self):
        return self.state.ssh_config

    def list(self):
        """As `testbed list` prints it."""
        backend = self._backend()
        cuts = self.state.load_cuts()
        hosts = [self._describe(backend, int(index), host, cuts)
                 for index, host in backend.config["hosts"].items()]
        return {"format": 1, "dir": str(self.state.dir), "mode": backend.mode, "cuts": cuts,
                "identity_file": str(self.key), "known_hosts": str(self.known_hosts),
                "ssh_config": str(self.ssh_config), "hosts": hosts}

    @staticmethod
    def _describe(backend, index, host, cuts):
        identity = backend.identity(index)
        return {"host": f"host{index}", "index": index, "address": host["address"], "port": host["port"],
                "state": "up" if identity else "down", "pid": identity[0] if identity else None,
                "cut": [index] in cuts, "root": str(backend.root(index)),
                "disk_size": host["disk_size"], "forward": host["forward"]}

    def users(self):
        return self._backend().users()

    def inventory(self, user=None, cluster="demo"):
        """Text of a cluster.yaml for these hosts and a login (default: deploy with sudo)."""
        backend = self._backend()
        user = user or backend.default_user()
        root, become = backend.inventory_for(user)
        lines = [f"cluster: {cluster}", f"root: {root}", "releases: ../releases",
                 f"ssh: {{user: {user}, identity_file: {json.dumps(str(self.key))}, "
                 f"known_hosts: {json.dumps(str(self.known_hosts))}, become: {become}}}", "hosts:"]
        for index, host in backend.config["hosts"].items():
            port = "" if host["port"] == 22 else f", ssh: {{port: {host['port']}}}"
            lines.append(f"  host{index}: {{address: {host['address']}{port}}}")
        return "\n".join(lines) + "\n"

    def write_inventory(self, directory, user=None, cluster="demo"):
        """Writes DIRECTORY/cluster.yaml, making the directory; returns the file's path."""
        path = pathlib.Path(directory) / "cluster.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.inventory(user, cluster))
        return path

    def _backend(self, config=None):
        config = config or self.state.load()
        kind = namespaced if config["mode"] == "namespaces" else plain
        return kind.Backend(self.state, config)

    def _host(self, index):
        hosts = self.state.load()["hosts"]
        _check_index(index, len(hosts))
        return hosts[str(index)]


def _check_index(index, count, least=1):
    if not isinstance(index, int) or not least <= index <= count:
        raise TestbedError(f"there is no host {index}: hosts are {least} to {count}")


def _run(command, check, timeout, options):
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        options.pop("stdin")
    done = subprocess.run(command, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise TestbedError(f"{command[-1]!r}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done


def raise_on_terminate():
    """TERM and HUP end this process by an exception, so that what was begun is taken down."""
    def stop(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
