#!/usr/bin/python3
"""Tests of the test hosts themselves: /usr/bin/python3 tests/testbed/test_testbed.py [-v]"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from tblib.state import mounts_below  # noqa: E402
from testbed import Testbed, TestbedError, namespaces_permitted  # noqa: E402

NAMESPACES = namespaces_permitted()
needs_namespaces = unittest.skipUnless(NAMESPACES, "power loss and cuts need root and namespaces")
PROGRAM = str(HERE / "testbed")
SHORT = 1.0  # seconds; a connection over the switch takes well under a millisecond


def run_program(*args, **options):
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=120,
                          **options)


def await_true(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def connect(bed, index, timeout=SHORT):
    return socket.create_connection((bed.addr(index), bed.port(index)), timeout=timeout)


def namespaces_of(pid):
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in ("net", "mnt", "pid", "uts", "ipc")}


def processes_in(namespaces):
    """Pids that live in one of the given network or pid namespaces."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            own = namespaces_of(pid)
            if own["net"] in namespaces or own["pid"] in namespaces:
                found.append(int(pid))
    return found


def leftovers(state, namespaces=()):
    """Whatever a `down` should have taken away."""
    found = [f"mount {point}" for point in mounts_below(state.dir)]
    if pathlib.Path(f"/sys/class/net/{state.port_name()}").exists():
        found.append("link " + state.port_name())
    if state.dir.exists():
        found.append(f"directory {state.dir}")
    found += [f"process {pid}" for pid in processes_in(set(namespaces))]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if str(state.dir) in pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                found.append(f"process {pid} of {state.dir}")
    return found


@needs_namespaces
class HostsTest(unittest.TestCase):
    """Three hosts: the second forbids forwarding to sockets, the third has a small disk."""

    @classmethod
    def setUpClass(cls):
        cls.bed = Testbed(3, no_forward=[2], disk_size={3: "64M"}).up()

    @classmethod
    def tearDownClass(cls):
        cls.bed.down()

    def test_every_user_logs_in_to_every_host(self):
        for index in (1, 2, 3):
            for user in ("root", "deploy", "plain"):
                with self.subTest(host=index, user=user):
                    done = self.bed.ssh(index, "echo $(id -un) $(hostname) $HOME", user=user)
                    home = "/root" if user == "root" else f"/home/{user}"
                    self.assertEqual(done.stdout, f"{user} host{index} {home}\n")

    def test_sudo_for_deploy_only(self):
        self.assertEqual(self.bed.ssh(1, "sudo -n id -u", user="deploy").stdout, "0\n")
        self.assertNotEqual(self.bed.ssh(1, "sudo -n id -u", user="plain", check=False).returncode, 0)

    def test_exit_status_output_and_input_pass_through(self):
        done = self.bed.ssh(1, "cat; echo bad >&2; exit 7", check=False, input="given")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, "given", "bad\n"))
        self.assertEqual(self.bed.exec(1, "exit 9", check=False).returncode, 9)
        self.assertEqual(self.bed.exec(1, "printf", "%s|", "a b", "c").stdout, "a b|c|")

    def test_namespaces_and_processes_are_separate(self):
        kinds = [namespaces_of(pid) for pid in (self.bed.pid(1), self.bed.pid(2), os.getpid())]
        for kind in kinds[0]:
            self.assertEqual(len({ns[kind] for ns in kinds}), 3, kind)
        self.bed.exec(1, "touch /opt/only-here /run/only-here; sleep 60 >&- 2>&- <&- &")
        self.assertIn("sleep 60", self.bed.exec(1, "ps ax").stdout)
        self.assertNotIn("sleep 60", self.bed.exec(2, "ps ax").stdout)
        self.assertEqual(self.bed.exec(2, "ls /opt /run/only-here", check=False).stdout, "/opt:\n")
        self.assertTrue((self.bed.root(1) / "opt/only-here").exists())
        self.assertTrue((self.bed.live_root(1) / "run/only-here").exists())

    def test_each_sshd_is_its_own_with_its_own_key(self):
        keys = [self.bed.exec(i, "cat /etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1]
                for i in (1, 2, 3)]
        self.assertEqual(len(set(keys)), 3)
        for key in keys:
            self.assertIn(key, self.bed.known_hosts.read_text())
        strict = subprocess.run(["ssh", "-F", self.bed.ssh_config, "-o", "StrictHostKeyChecking=yes",
                                 "-o", "BatchMode=yes", "host2", "hostname"], capture_output=True, text=True)
        self.assertEqual(strict.stdout, "host2\n", strict.stderr)

    def test_hosts_know_and_reach_each_other(self):
        script = "exec 3<>/dev/tcp/host2/22; head -c 7 <&3"
        self.assertEqual(self.bed.ssh(1, script).stdout, "SSH-2.0")

    def test_root_is_the_hosts_own_and_programs_are_read_only(self):
        self.assertNotEqual(self.bed.exec(1, "touch /usr/bin/x", check=False).returncode, 0)
        self.bed.exec(1, "touch /usr/local/bin/x /etc/x /opt/x /var/x /srv/x /home/x && rm /etc/x")
        self.assertFalse(pathlib.Path("/usr/local/bin/x").exists())
        listing = self.bed.exec(1, "ls /; cat /proc/self/mounts").stdout
        self.assertNotIn(str(self.bed.state.dir), listing)
        self.assertNotEqual(self.bed.exec(1, "echo x >/proc/sys/kernel/core_pattern",
                                          check=False).returncode, 0)

    def test_devices_and_terminal(self):
        self.bed.ssh(1, "echo x >/dev/null && head -c 4 /dev/urandom >/dev/shm/x", user="plain")
        done = subprocess.run(["ssh", "-tt", *self.bed.ssh_command(1, "tty")[1:]], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        self.assertIn("/dev/pts/", done.stdout)

    def test_streamlocal_forwarding_is_as_asked(self):
        for index, allowed in ((1, True), (2, False)):
            with self.subTest(host=index):
                self.assertEqual(self._forwards_to_socket(index), allowed)

    def _forwards_to_socket(self, index):
        server = ("import socket;s=socket.socket(socket.AF_UNIX);s.bind('/tmp/echo.sock');s.listen();"
                  "c=s.accept()[0];c.sendall(b'hello');c.close()")
        self.bed.ssh(index, f'python3 -c "{server}" >/dev/null 2>&1 </dev/null &')
        self.assertTrue(await_true(lambda: (self.bed.root(index) / "tmp/echo.sock").exists()))
        with tempfile.TemporaryDirectory() as here:
            command = self.bed.ssh_command(index, "sleep 20")
            command[1:1] = ["-L", f"{here}/s:/tmp/echo.sock"]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as ssh:
                self.assertTrue(await_true(lambda: os.path.exists(f"{here}/s")))
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(5)
                    client.connect(f"{here}/s")
                    received = client.recv(100)
                ssh.terminate()
        return received == b"hello"

    def test_cut_is_silent_and_heal_mends(self):
        with connect(self.bed, 1) as open_before:
            self.assertTrue(open_before.recv(100).startswith(b"SSH-2.0"))
            self.bed.cut(1)
            try:
                with self.assertRaises(TimeoutError):
                    connect(self.bed, 1)
                connect(self.bed, 2).close()
                self.assertEqual(self.bed.exec(1, "hostname").stdout, "host1\n")
                self.assertTrue(self.bed.list()["hosts"][0]["cut"])
                open_before.sendall(b"SSH-2.0-test\r\n")
                with self.assertRaises(TimeoutError):
                    open_before.recv(100)
            finally:
                self.bed.heal(1)
            open_before.settimeout(10)  # TCP sends again by itself
            self.assertTrue(open_before.recv(100))
        connect(self.bed, 1).close()

    def test_cut_between_two_only(self):
        probe = "timeout 1 bash -c 'exec 3<>/dev/tcp/host{}/22' && echo yes || echo no"
        self.bed.cut(1, 2)
        self.bed.cut(3, 0)
        try:
            self.assertEqual(self.bed.exec(1, probe.format(2)).stdout, "no\n")
            self.assertEqual(self.bed.exec(1, probe.format(3)).stdout, "yes\n")
            connect(self.bed, 2).close()
            with self.assertRaises(TimeoutError):
                connect(self.bed, 3)
        finally:
            self.bed.heal(1)
            self.bed.heal(3, 0)
        self.assertEqual(self.bed.exec(1, probe.format(2)).stdout, "yes\n")
        connect(self.bed, 3).close()

    def test_full_disk(self):
        done = self.bed.exec(3, "dd if=/dev/zero of=/opt/fill bs=1M count=100", check=False)
        self.assertIn("No space left on device", done.stderr)
        self.assertEqual(self.bed.ssh(3, "hostname").stdout, "host3\n")
        self.bed.exec(3, "rm /opt/fill && dd if=/dev/zero of=/opt/some bs=1M count=10 && rm /opt/some")

    def test_new_host_key(self):
        with Testbed(1) as bed:
            old = bed.known_hosts.read_text()
            new = bed.rekey(1)
            self.assertNotIn(new, old)
            strict = ["ssh", "-F", str(bed.ssh_config), "-o", "BatchMode=yes",
                      "-o", "StrictHostKeyChecking=yes", "host1", "true"]
            changed = lambda: "HAS CHANGED" in subprocess.run(  # noqa: E731
                strict, capture_output=True, text=True).stderr
            self.assertTrue(await_true(changed))
            self.assertEqual(bed.ssh(1, "hostname").stdout, "host1\n")

    def test_inventory_names_every_host(self):
        text = self.bed.inventory(user="plain", cluster="c1")
        self.assertIn("cluster: c1\nroot: ~/.clusterctl\n", text)
        for index in (1, 2, 3):
            self.assertIn(f"  host{index}: {{address: {self.bed.addr(index)}}}\n", text)

    def test_wrong_host_numbers_are_refused(self):
        for call in (self.bed.addr, self.bed.kill, self.bed.cut, self.bed.root):
            for index in (0, 4):
                with self.assertRaises(TestbedError):
                    call(index)


@needs_namespaces
class PowerTest(unittest.TestCase):
    """What power loss and boot do to a host."""

    @classmethod
    def setUpClass(cls):
        cls.bed = Testbed(2, disk_size={2: "64M"}).up()

    @classmethod
    def tearDownClass(cls):
        cls.bed.down()

    def boot_id(self, index):
        return self.bed.exec(index, "cat /proc/sys/kernel/random/boot_id").stdout.strip()

    def test_killed_host_says_nothing_and_keeps_its_disk(self):
        for index in (1, 2):
            with self.subTest(host=index):
                self.power_cycle(index)

    def power_cycle(self, index):
        self.bed.exec(index, "echo kept >/opt/kept; touch /run/gone /tmp/gone /dev/shm/gone")
        before, namespaces = self.boot_id(index), namespaces_of(self.bed.pid(index))
        with connect(self.bed, index) as connection:
            connection.recv(100)
            begin = time.monotonic()
            self.bed.kill(index)
            self.assertLess(time.monotonic() - begin, 5)
            self.assertEqual(processes_in({namespaces["net"], namespaces["pid"]}), [])
            with self.assertRaises(TimeoutError):  # no FIN, no RST
                connection.recv(100)
        with self.assertRaises(OSError):
            connect(self.bed, index)
        self.assertEqual(self.bed.list()["hosts"][index - 1]["state"], "down")
        self.assertEqual((self.bed.root(index) / "opt/kept").read_text(), "kept\n")
        self.bed.kill(index)  # twice is fine
        with self.assertRaises(TestbedError):
            self.bed.exec(index, "true")
        self.bed.boot(index)
        self.assertEqual(self.bed.ssh(index, "cat /opt/kept; hostname").stdout, f"kept\nhost{index}\n")
        gone = "ls /run/gone /tmp/gone /dev/shm/gone 2>/dev/null | wc -l"
        self.assertEqual(self.bed.exec(index, gone).stdout, "0\n")
        self.assertNotEqual(self.boot_id(index), before)
        with self.assertRaises(TestbedError):
            self.bed.boot(index)

    def test_cron_runs_at_reboot_for_root_and_for_a_user(self):
        (self.bed.root(1) / "etc/cron.d/hook").write_text(
            "@reboot root echo root >>/var/log/booted\n")
        self.bed.ssh(1, "echo '@reboot echo $(id -un) >>~/booted' | crontab -", user="plain")
        self.assertIn("@reboot", self.bed.ssh(1, "crontab -l", user="plain").stdout)
        for count in (1, 2):
            self.bed.kill(1)
            self.bed.boot(1)
            for name, user in (("var/log/booted", "root"), ("home/plain/booted", "plain")):
                path = self.bed.root(1) / name
                want = f"{user}\n" * count
                self.assertTrue(await_true(lambda: path.exists() and path.read_text() == want), name)

    @unittest.skipUnless(os.environ.get("TESTBED_SLOW"), "waits for a minute: set TESTBED_SLOW=1")
    def test_cron_runs_every_minute(self):
        (self.bed.root(2) / "etc/cron.d/minute").write_text("* * * * * root touch /opt/minute\n")
        self.bed.ssh(2, "echo '* * * * * touch ~/minute' | crontab -", user="plain")
        for name in ("opt/minute", "home/plain/minute"):
            self.assertTrue(await_true((self.bed.root(2) / name).exists, 70), name)

    def test_orderly_shutdown_lets_processes_end(self):
        script = "trap 'echo ended >/opt/ended; exit' TERM; while :; do sleep 0.05; done"
        self.bed.exec(1, f"({script}) >/dev/null 2>&1 </dev/null & sleep 0.2")
        self.bed.shutdown(1)
        self.assertEqual((self.bed.root(1) / "opt/ended").read_text(), "ended\n")
        self.bed.boot(1)

    def test_cut_outlasts_a_boot(self):
        self.bed.cut(2)
        self.bed.kill(2)
        self.bed.boot(2)
        with self.assertRaises(TimeoutError):
            connect(self.bed, 2)
        self.bed.heal(2)
        connect(self.bed, 2).close()

    def test_killed_sshd_comes_back_stopped_sshd_stays_away(self):
        old = self.bed.exec(1, "cat /run/sshd.pid").stdout
        self.bed.exec(1, "kill -9 $(cat /run/sshd.pid)")
        self.assertTrue(await_true(lambda: self.bed.exec(1, "cat /run/sshd.pid").stdout != old))
        self.assertTrue(await_true(lambda: self.bed.ssh(1, "true", check=False).returncode == 0))
        self.bed.exec(1, "kill $(cat /run/sshd.pid)")
        self.assertTrue(await_true(lambda: self.bed.ssh(1, "true", check=False).returncode == 255))
        self.bed.kill(1)
        self.bed.boot(1)


@needs_namespaces
class LifeTest(unittest.TestCase):
    """up and down, whole, failed, killed and side by side."""

    def test_down_leaves_nothing(self):
        bed = Testbed(2, disk_size={2: "16M"}).up()
        namespaces = {ns for i in (1, 2) for ns in namespaces_of(bed.pid(i)).values()}
        namespaces.add(os.stat(f"/proc/{bed.state.switch_pid.read_text().split()[0]}/ns/net").st_ino)
        namespaces -= set(namespaces_of(os.getpid()).values())
        self.assertTrue(leftovers(bed.state, namespaces))
        bed.down()
        self.assertEqual(leftovers(bed.state, namespaces), [])
        bed.down()

    def test_command_line(self):
        with tempfile.TemporaryDirectory() as parent:
            bed = Testbed(directory=f"{parent}/bed")
            self.assertEqual(run_program("up", 1, "--dir", bed.state.dir).returncode, 0)
            try:
                listed = json.loads(run_program("list", "--dir", bed.state.dir).stdout)
                self.assertEqual(listed["hosts"][0]["state"], "up")
                self.assertEqual(run_program("up", 1, "--dir", bed.state.dir).returncode, 1)
                done = run_program("ssh", "--dir", bed.state.dir, "-u", "root", 1, "hostname; exit 5")
                self.assertEqual((done.returncode, done.stdout), (5, "host1\n"))
                done = run_program("exec", "--dir", bed.state.dir, "host1", "hostname; exit 6")
                self.assertEqual((done.returncode, done.stdout), (6, "host1\n"))
                self.assertEqual(run_program("kill", "--dir", bed.state.dir, 1).returncode, 0)
                self.assertEqual(run_program("boot", "--dir", bed.state.dir, 1).returncode, 0)
                address = run_program("addr", "--dir", bed.state.dir, 1).stdout.strip()
                self.assertEqual(address, bed.addr(1))
            finally:
                self.assertEqual(run_program("down", "--dir", bed.state.dir).returncode, 0)
            self.assertEqual(run_program("down", "--dir", bed.state.dir).returncode, 0)
            self.assertEqual(leftovers(bed.state), [])

    def test_failed_up_takes_itself_down(self):
        bed = Testbed(2, sshd={2: ["NoSuchKeyword yes"]})
        with self.assertRaises(TestbedError) as caught:
            bed.up()
        self.assertIn("NoSuchKeyword", str(caught.exception))
        self.assertEqual(leftovers(bed.state), [])

    def test_killed_up_is_taken_down(self):
        for sent in (signal.SIGKILL, signal.SIGTERM):
            for delay in (0.05, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
                with self.subTest(signal=sent, delay=delay):
                    self.kill_up_after(sent, delay)

    def kill_up_after(self, sent, delay):
        bed = Testbed(name=f"killed-{os.getpid()}")
        command = [PROGRAM, "up", "6", "--disk-size", "16M", "2", "--dir", str(bed.state.dir)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as up:
            time.sleep(delay)
            up.send_signal(sent)
        self.assertEqual(run_program("down", "--dir", bed.state.dir).returncode, 0)
        self.assertTrue(await_true(lambda: leftovers(bed.state) == []), leftovers(bed.state))

    def test_what_a_killed_run_left_is_stale_what_was_kept_is_not(self):
        script = (f"import sys, os; sys.path.insert(0, {str(HERE)!r}); from testbed import Testbed\n"
                  "bed = Testbed(1).up(); print(bed.state.dir, flush=True); os.kill(os.getpid(), 9)")
        left = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True)
        bed = Testbed(directory=left.stdout.strip())
        kept = Testbed(1)
        try:
            kept.up().keep()
            self.assertIn(str(bed.state.dir), run_program("down", "--stale").stdout)
            self.assertEqual(leftovers(bed.state), [])
            self.assertEqual(kept.ssh(1, "hostname").stdout, "host1\n")
        finally:
            kept.down()

    def test_down_removes_no_other_directory(self):
        with tempfile.TemporaryDirectory() as other:
            (pathlib.Path(other) / "precious").touch()
            self.assertEqual(run_program("down", "--dir", other).returncode, 1)
            self.assertEqual(run_program("up", 1, "--dir", other).returncode, 1)
            self.assertTrue((pathlib.Path(other) / "precious").exists())

    def test_several_at_once(self):
        commands = [[PROGRAM, "up", "2", "--name", f"many{n}-{os.getpid()}"] for n in range(4)]
        ups = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        try:
            for up in ups:
                self.assertEqual(up.wait(60), 0, up.stderr.read())
            beds = [Testbed(name=command[-1]) for command in commands]
            self.assertEqual(len({bed.addr(1) for bed in beds}), 4)
            for bed in beds:
                self.assertEqual(bed.ssh(2, "hostname").stdout, "host2\n")
        finally:
            for up, command in zip(ups, commands):
                up.stderr.close()
                self.assertEqual(run_program("down", "--name", command[-1]).returncode, 0)

    def test_twenty_hosts_in_seconds(self):
        begin = time.monotonic()
        bed = Testbed(20).up()
        took = time.monotonic() - begin
        try:
            self.assertEqual(bed.ssh(20, "hostname").stdout, "host20\n")
        finally:
            begin = time.monotonic()
            bed.down()
        print(f"\n20 hosts: up in {took:.2f} s, down in {time.monotonic() - begin:.2f} s", file=sys.stderr)
        self.assertLess(took, 15)


class PlainTest(unittest.TestCase):
    """Hosts without root. Root runs this as the user `plain` inside a test host."""

    def check_plain(self, run):
        up = run("up", "2")
        try:
            self.assertEqual(up.returncode, 0, up.stderr)
            self.assertIn("no root", up.stderr)
            self.check_hosts(run)
        finally:
            self.assertEqual(run("down").returncode, 0)
        self.assertEqual(run("down").returncode, 0)

    def check_hosts(self, run):
        listed = json.loads(run("list").stdout)
        self.assertEqual((listed["mode"], len(listed["hosts"])), ("plain", 2))
        homes = [run("ssh", i, "pwd; echo $HOME").stdout.split() for i in (1, 2)]
        for index, home in zip((1, 2), homes):
            self.assertEqual(home, [run("root", index).stdout.strip()] * 2)
        self.assertNotEqual(homes[0], homes[1])
        run("ssh", 1, "echo '@reboot x' | crontab -")
        self.assertEqual(run("ssh", 1, "crontab -l").stdout, "@reboot x\n")
        self.assertEqual(run("ssh", 2, "crontab -l").returncode, 1)
        self.assertIn("127.0.0.1", run("inventory").stdout)
        for verb in ("kill", "boot", "cut", "heal"):
            done = run(verb, 1)
            self.assertEqual(done.returncode, 75, verb)
            self.assertIn("root", done.stderr)
        left = run("ssh", 1, "setsid sh -c 'exec sleep 321' >/dev/null 2>&1 </dev/null & echo $!").stdout
        self.assertTrue(left.strip().isdigit())

    @needs_namespaces
    def test_as_a_user_inside_a_host(self):
        with Testbed(1) as bed:
            shutil.copytree(HERE, bed.root(1) / "opt/testbed",
                            ignore=shutil.ignore_patterns("__pycache__"))

            def run(*args):
                words = " ".join(f"'{str(a).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'"
                                 for a in args)
                return bed.ssh(1, f"/opt/testbed/testbed {words}", user="plain", check=False)
            self.check_plain(run)
            self.assertNotIn("sleep 321", bed.exec(1, "ps ax").stdout)
            self.assertEqual(bed.exec(1, "ls /tmp").stdout, "")

    @unittest.skipIf(os.geteuid() == 0, "run by test_as_a_user_inside_a_host")
    def test_as_this_user(self):
        name = f"plain-{os.getpid()}"
        self.check_plain(lambda *args: run_program(args[0], "--name", name, *args[1:]))


if __name__ == "__main__":
    unittest.main()
