"""Test hosts without root: one sshd each on a loopback port, as the current user.

They share the machine's processes, disk and network: no power loss, no cut, no disk limit.
"""

import os
import pwd
import socket
import time

from . import disk, proc
from .errors import TestbedError, Unsupported

SSHD_TIMEOUT = 10
TRIES = 5  # another process may take a port between our look and sshd's bind

# A session of a host has the host's own HOME, and a crontab that is a file there, so that tests never
# touch the user's own.
LOGIN = """#!/bin/sh
cd "$HOME" || exit 1
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"; fi
exec /bin/sh -l
"""
CRONTAB = """#!/bin/sh
# Stands in for crontab(1) on a test host without root: keeps the table, runs nothing.
table="$HOME/.testbed-crontab"
[ "$1" = -u ] && shift 2
case "${1--}" in
  -l) if [ -f "$table" ]; then cat "$table"; else echo "no crontab" >&2; exit 1; fi ;;
  -r) rm -f "$table" ;;
  -) cat >"$table" ;;
  *) cat "$1" >"$table" ;;
esac
"""


class Backend:
    """Works on the state of one testbed. The caller holds the state's lock for all that changes it."""

    mode = "plain"

    def __init__(self, state, config):
        self.state = state
        self.config = config
        self.tbinit = proc.build_tbinit()
        self.user = pwd.getpwuid(os.geteuid()).pw_name

    def up(self):
        if not os.access("/usr/sbin/sshd", os.X_OK):
            raise TestbedError("/usr/sbin/sshd is missing: install the packages of packages.txt")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # sshd as root wants it, and no boot has made it here
        known = []
        for index, host in self.config["hosts"].items():
            if host["disk_size"]:
                raise Unsupported("a limited disk needs root and namespaces")
            host["address"] = "127.0.0.1"
            self._lay(int(index))
            self._start(int(index), host)
            known.append(f"[127.0.0.1]:{host['port']} {self._public_key(int(index))}\n")
        self.state.save(self.config)
        self.state.known_hosts.write_text("".join(known))

    def _lay(self, index):
        own, home = self.state.host_dir(index), self.state.disk(index)
        home.mkdir(parents=True)
        (own / "bin").mkdir()
        for path, text in ((own / "login", LOGIN), (own / "bin/crontab", CRONTAB)):
            path.write_text(text)
            path.chmod(0o755)
        disk.make_key(own / "host_key", f"host{index}")

    def _public_key(self, index):
        return " ".join((self.state.host_dir(index) / "host_key.pub").read_text().split()[:2])

    def _sshd_config(self, index, host):
        own = self.state.host_dir(index)
        path = f"{own}/bin:/usr/local/bin:/usr/bin:/bin"
        return "\n".join([
            *host["sshd"], f"AllowStreamLocalForwarding {'yes' if host['forward'] else 'no'}",
            "ListenAddress 127.0.0.1", f"Port {host['port']}", f"HostKey {own}/host_key",
            f"PidFile {own}/sshd.pid", f"AuthorizedKeysFile {self.state.key}.pub", "StrictModes no",
            "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "UseDNS no",
            "PrintMotd no", "PrintLastLog no", "MaxStartups 1000:30:2000",
            f'SetEnv "HOME={self.state.disk(index)}" "PATH={path}" "TESTBED_HOST=host{index}"',
            f"ForceCommand {own}/login", "Subsystem sftp /usr/lib/openssh/sftp-server", ""])

    def _start(self, index, host):
        for _ in range(TRIES):
            host["port"] = _free_port()
            (self.state.host_dir(index) / "sshd_config").write_text(self._sshd_config(index, host))
            if self._try_start(index):
                return
            proc.kill_tree(self.state.pid_file(index))
        raise TestbedError(f"host{index}: sshd does not start; see {self.state.console(index)}")

    def _try_start(self, index):
        own = self.state.host_dir(index)
        launch = proc.Launch(f"host{index}", [
            self.tbinit, "plain", self.state.pid_file(index), self.state.console(index), "--",
            "/usr/sbin/sshd", "-D", "-e", "-f", own / "sshd_config"])
        launch.proceed()
        launch.finish()
        deadline = time.monotonic() + SSHD_TIMEOUT
        while time.monotonic() < deadline and proc.descendants(launch.pid):
            if (own / "sshd.pid").exists():
                return True
            time.sleep(0.005)
        return False

    def _refuse(self, *_):
        raise Unsupported("hosts without root cannot be killed, booted or cut: run as root for that")

    kill = boot = shutdown = set_cuts = _refuse

    def rekey(self, index):
        own = self.state.host_dir(index)
        for name in ("host_key", "host_key.pub"):
            (own / name).unlink()
        disk.make_key(own / "host_key", f"host{index}")
        os.kill(int((own / "sshd.pid").read_text()), 1)  # written by our own sshd, which still runs
        return self._public_key(index)

    def identity(self, index):
        return proc.running(self.state.pid_file(index))

    def enter_command(self, index, command):
        own = self.state.host_dir(index)
        return ["env", "-C", str(self.state.disk(index)), f"HOME={self.state.disk(index)}",
                f"PATH={own}/bin:/usr/local/bin:/usr/bin:/bin", f"TESTBED_HOST=host{index}", *command]

    def root(self, index):
        return self.state.disk(index)

    def users(self):
        return [{"user": self.user, "sudo": False, "home": "~", "about": "the current user"}]

    def default_user(self):
        return self.user

    def inventory_for(self, _user):
        return "~/.clusterctl", "none"


def take_down(state):
    """Ends every sshd and all that it left behind."""
    for pid_file in state.hosts_dir.glob("*/init.pid"):
        proc.kill_tree(pid_file)


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
