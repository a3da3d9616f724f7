"""Test hosts as namespaces: what `up`, `kill`, `boot`, `cut` … do when root may make namespaces."""

import os
import shutil
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from . import disk, net, proc
from .errors import TestbedError

SSHD_TIMEOUT = 30  # seconds from the start of a host until its sshd listens


def permitted():
    """Whether this process may make hosts of namespaces here."""
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "true"],
        capture_output=True).returncode == 0


class Backend:
    """Works on the state of one testbed. The caller holds the state's lock for all that changes it."""

    mode = "namespaces"

    def __init__(self, state, config):
        self.state = state
        self.config = config
        self.tbinit = proc.build_tbinit()

    # ---- up

    def up(self):
        for program in ("ip", "nft", "ssh-keygen", "/usr/sbin/sshd", "/usr/sbin/cron"):
            if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
                raise TestbedError(f"{program} is missing: install the packages of packages.txt")
        switch = self._start_switch()
        self.config["subnet"] = switch.plug_operator(self.state.port_name())
        for index, host in self._hosts():
            host.update(address=net.address(self.config["subnet"], index), port=22)
        self.state.save(self.config)
        keys = self._make_disks()
        known = [f"host{i},{self.config['hosts'][str(i)]['address']} {key}\n" for i, key in keys.items()]
        self.state.known_hosts.write_text("".join(known))
        self._start([index for index, _ in self._hosts()])

    def _hosts(self):
        return [(int(index), host) for index, host in self.config["hosts"].items()]

    def _start_switch(self):
        launch = proc.Launch("the switch", [self.tbinit, "hold", self.state.switch_pid])
        launch.proceed()
        launch.finish()
        switch = self._switch()
        switch.set_up()
        return switch

    def _switch(self):
        identity = proc.running(self.state.switch_pid)
        if not identity:
            raise TestbedError("the switch of these hosts is gone: `testbed down`, then `up`")
        return net.Switch(self.tbinit, identity)

    def _make_disks(self):
        template = self.state.dir / "template"
        client_key = self.state.key.with_suffix(".pub").read_text()
        disk.make_template(template, client_key, self.config["subnet"], len(self.config["hosts"]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            keys = pool.map(lambda item: self._make_disk(template, *item), self._hosts())
            keys = dict(zip((index for index, _ in self._hosts()), keys))
        shutil.rmtree(template)
        return keys

    def _make_disk(self, template, index, host):
        root = self.state.disk(index)
        root.mkdir(parents=True)
        if host["disk_size"]:
            net.run(["mount", "-t", "tmpfs", "-o", f"size={host['disk_size']},mode=755",
                     f"testbed-disk{index}", root])
        return disk.fill(root, template, self.config["subnet"], index, host["forward"], host["sshd"])

    # ---- starts

    def _start(self, indices):
        launches = {}
        try:
            for index in indices:
                launches[index] = proc.Launch(f"host{index}", self._boot_command(index))
            self._switch().plug(self.config["subnet"], {i: l.pid for i, l in launches.items()})
            for launch in launches.values():
                launch.proceed()
            for index, launch in launches.items():
                self._finish(index, launch)
        finally:
            for launch in launches.values():
                launch.abandon()
        for index in indices:
            self._await_sshd(index)

    def _boot_command(self, index):
        return [self.tbinit, "boot", self.state.pid_file(index), self.state.disk(index), f"host{index}",
                uuid.uuid4(), self.state.console(index)]

    def _finish(self, index, launch):
        try:
            launch.finish()
        except TestbedError as error:
            raise TestbedError(f"{error}\n{self._console_tail(index)}") from None

    def _console_tail(self, index):
        console = self.state.console(index)
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        return "\n".join(f"  host{index}: {line}" for line in lines[-5:])

    def _await_sshd(self, index):
        """sshd writes its pid file once it listens; looked at from outside, so a cut host is fine too."""
        deadline = time.monotonic() + SSHD_TIMEOUT
        while time.monotonic() < deadline:
            identity = proc.running(self.state.pid_file(index))
            if not identity:
                raise TestbedError(f"host{index} died at boot:\n{self._console_tail(index)}")
            run = f"/proc/{identity[0]}/root/run"
            if os.path.exists(f"{run}/sshd.pid"):
                return
            if os.path.exists(f"{run}/testbed.ended"):
                raise TestbedError(f"host{index}: sshd or cron ended:\n{self._console_tail(index)}")
            time.sleep(0.005)
        raise TestbedError(f"host{index}: no sshd after {SSHD_TIMEOUT} s:\n{self._console_tail(index)}")

    # ---- what happens to hosts

    def kill(self, index):
        switch = self._switch()
        switch.drop(index)  # first: the sockets of killed processes would say goodbye
        proc.kill_recorded(self.state.pid_file(index))
        switch.unplug(index)

    def shutdown(self, index):
        identity = proc.running(self.state.pid_file(index))
        if identity:
            fd = os.pidfd_open(identity[0])
            try:
                os.kill(identity[0], 15)
                proc.wait_gone(fd, identity[0])
            finally:
                os.close(fd)
        self.kill(index)

    def boot(self, index):
        if proc.running(self.state.pid_file(index)):
            raise TestbedError(f"host{index} is up already")
        switch = self._switch()
        switch.unplug(index)  # of a host that ended by itself (poweroff in it)
        switch.power_on(index)
        self._start([index])

    def set_cuts(self, cuts):
        self._switch().apply_cuts(cuts)
        self.state.save_cuts(cuts)

    def rekey(self, index):
        root = self.state.disk(index)
        for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"):
            (root / "etc/ssh" / name).unlink()
        disk.make_key(root / "etc/ssh/ssh_host_ed25519_key", f"root@host{index}")
        if self.identity(index):
            self.run_in(index, ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
        return disk.public_host_key(root)

    # ---- questions

    def identity(self, index):
        return proc.running(self.state.pid_file(index))

    def enter_command(self, index, command):
        identity = self.identity(index)
        if not identity:
            raise TestbedError(f"host{index} is down: `testbed boot {index}` first")
        return [str(p) for p in (self.tbinit, "enter", "all", *identity, "--")] + list(command)

    def run_in(self, index, command):
        subprocess.run(self.enter_command(index, command), check=True)

    def root(self, index):
        return self.state.disk(index)

    def users(self):
        return [{"user": u["user"], "sudo": u["sudo"], "home": u["home"], "about": u["about"]}
                for u in disk.USERS]

    def default_user(self):
        return "deploy"

    def inventory_for(self, user):
        """(root directory on a host, become) for a login."""
        return {"deploy": ("/opt/clusterctl", "sudo"), "root": ("/opt/clusterctl", "none")}.get(
            user, ("~/.clusterctl", "none"))


def take_down(state):
    """Ends all that runs of a testbed, however far its `up` came."""
    for pid_file in state.hosts_dir.glob("*/init.pid"):
        proc.kill_recorded(pid_file)
    proc.kill_recorded(state.switch_pid)
    net.remove_port(state.port_name())
