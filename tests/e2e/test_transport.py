#!/usr/bin/env python3
"""The SSH transport against real sshds on loopback ports, through tests/drivers/transport_driver."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", "build/release"))
DRIVER = pathlib.Path(os.environ.get("TRANSPORT_DRIVER", BUILD / "tests/drivers/transport_driver"))
IS_ROOT = os.geteuid() == 0
LOGIN = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def keygen(path, kind="ed25519", passphrase=""):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


def fingerprint(path):
    out = subprocess.run(["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True)
    return out.stdout.split()[1]


def wait_for(condition, what, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.01)


class Sshd:
    """A real sshd. As root in a mount namespace where the login has a plain shell, so that nobody's
    start-up files take part."""

    def __init__(self, directory, port=None, host_keys=("ed25519",), config="", shell="/bin/sh"):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.home = self.dir / "home"
        self.home.mkdir(exist_ok=True)
        self.keys = []
        for kind in host_keys:
            path = self.dir / f"host_{kind}"
            if not path.exists():
                keygen(path, kind)
            self.keys.append(path)
        self.authorized = self.dir / "authorized_keys"
        self.authorized.touch()
        lines = [f"Port {self.port}", "ListenAddress 127.0.0.1", "StrictModes no", "PidFile none",
                 "UsePAM no", f"AuthorizedKeysFile {self.authorized}", "MaxStartups 300:30:400",
                 "MaxAuthTries 20"]
        lines += [f"HostKey {key}" for key in self.keys]
        (self.dir / "sshd_config").write_text(config + "\n" + "\n".join(lines) + "\n")
        self.log = self.dir / "log"
        self.shell = shell
        self.process = None
        self.start()

    def start(self):
        sshd = f"exec /usr/sbin/sshd -D -e -f '{self.dir}/sshd_config' 2>>'{self.log}'"
        if IS_ROOT:
            os.makedirs("/run/sshd", exist_ok=True)
            passwd = self.dir / "passwd"
            passwd.write_text("".join(
                f"root:x:0:0:root:{self.home}:{self.shell}\n" if line.startswith("root:") else line
                for line in pathlib.Path("/etc/passwd").read_text().splitlines(keepends=True)))
            command = ["unshare", "-m", "sh", "-c", f"mount --bind '{passwd}' /etc/passwd; {sshd}"]
        else:
            command = ["sh", "-c", sshd]
        self.process = subprocess.Popen(command, start_new_session=True)
        wait_for(self.listens, "sshd")

    def listens(self):
        if self.process.poll() is not None:
            raise AssertionError("sshd ended: " + self.log.read_text())
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def authorize(self, key, options=""):
        with open(self.authorized, "a") as f:
            f.write(options + pathlib.Path(f"{key}.pub").read_text())

    def known_line(self, kind="ed25519", name=None):
        kind_key = " ".join((self.dir / f"host_{kind}.pub").read_text().split()[:2])
        return f"{name or f'[127.0.0.1]:{self.port}'} {kind_key}\n"

    def children(self):
        """All processes of all connections: of a login other than root, sshd has two each."""
        out = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, out.splitlines())}
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def stop(self):
        for pid in self.children() + [self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = pathlib.Path(tempfile.mkdtemp(prefix="transport-"))
        cls.key = keygen(cls.tmp / "id")
        cls.sshd = Sshd(cls.tmp / "sshd")
        cls.sshd.authorize(cls.key)

    @classmethod
    def tearDownClass(cls):
        cls.sshd.stop()
        shutil.rmtree(cls.tmp, ignore_errors=True)

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=self.tmp))
        self.known = self.dir / "known_hosts"
        self.known.write_text(self.sshd.known_line())
        self.home = self.dir / "clienthome"
        (self.home / ".ssh").mkdir(parents=True)
        self.started = []
        self.addCleanup(self.stop_all)

    def stop_all(self):
        for thing in self.started:
            thing.stop()

    def another_sshd(self, name="other", **options):
        sshd = Sshd(self.dir / name, **options)
        self.started.append(sshd)
        sshd.authorize(self.key)
        return sshd

    def command(self, *words, **options):
        usual = {"port": self.sshd.port, "identity": self.key, "known-hosts": self.known}
        usual.update({key.replace("_", "-"): value for key, value in options.items()})
        line = [str(DRIVER)]
        for key, value in usual.items():
            if value is not None:
                line += [f"--{key}", str(value)]
        return line + [str(word) for word in words]

    def env(self, **extra):
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        env.update({key: str(value) for key, value in extra.items()})
        return env

    def drive(self, *words, env=None, **options):
        run = subprocess.run(self.command(*words, **options), capture_output=True, text=True,
                             env=self.env(**(env or {})), timeout=120)
        self.assertEqual(run.stderr, "")
        lines = run.stdout.splitlines()
        self.assertTrue(lines, f"no output, exit {run.returncode}")
        return json.loads(lines[-1])

    def ok(self, *words, **options):
        result = self.drive(*words, **options)
        self.assertTrue(result["ok"], result)
        return result

    def refused(self, *words, code="unreachable", **options):
        result = self.drive(*words, **options)
        self.assertFalse(result["ok"], result)
        self.assertEqual(result["code"], code, result)
        return result


class Exec(Case):
    def test_output_and_exit_status(self):
        result = self.ok("exec", "echo out; echo err >&2; exit 3")
        self.assertEqual((result["out"], result["err"], result["exit"]), ("out\n", "err\n", 3))

    def test_a_remote_255_is_an_exit_status(self):
        self.assertEqual(self.ok("exec", "exit 255")["exit"], 255)

    def test_signal(self):
        result = self.ok("exec", "kill -TERM $$")
        self.assertEqual((result["signal"], result["exit"]), ("TERM", 143))

    def test_ten_megabytes_both_ways(self):
        data = os.urandom(10 << 20)
        (self.dir / "in").write_bytes(data)
        result = self.ok("exec", "cat", input=self.dir / "in", digest=1)
        self.assertEqual((result["size"], result["out"]),
                         (len(data), hashlib.sha256(data).hexdigest()))

    def test_rekeying_in_the_middle(self):
        sshd = self.another_sshd(config="RekeyLimit 1M")
        self.known.write_text(sshd.known_line())
        data = os.urandom(10 << 20)
        (self.dir / "in").write_bytes(data)
        result = self.ok("exec", "cat", input=self.dir / "in", digest=1, port=sshd.port)
        self.assertEqual(result["out"], hashlib.sha256(data).hexdigest())

    def test_output_limit(self):
        result = self.ok("exec", "head -c 100000 /dev/zero | tr '\\0' x", limit=1000)
        self.assertEqual((len(result["out"]), result["truncated"]), (1000, True))

    def test_input_left_unread(self):
        (self.dir / "in").write_bytes(b"x" * (20 << 20))
        self.assertEqual(self.ok("exec", "exit 5", input=self.dir / "in")["exit"], 5)

    def test_many_at_once_more_than_max_sessions(self):
        result = self.ok("parallel", 40, "sleep 0.05; echo")
        self.assertEqual([r.get("out") for r in result["results"]], [f"{i}\n" for i in range(40)])

    def test_max_sessions_of_one(self):
        sshd = self.another_sshd(config="MaxSessions 1")
        self.known.write_text(sshd.known_line())
        result = self.ok("parallel", 5, "echo", port=sshd.port)
        self.assertEqual([r.get("out") for r in result["results"]], [f"{i}\n" for i in range(5)])

    def test_deadline_ends_the_command(self):
        mark = self.dir / "ended"
        begin = time.monotonic()
        result = self.refused("exec", f"trap 'echo x > {mark}; exit' TERM; sleep 100 & wait",
                              code="timeout", timeout=700)
        self.assertLess(time.monotonic() - begin, 4)
        self.assertIn("host1", result["message"])
        if not IS_ROOT:  # sshd passes no signals on in a session of root
            wait_for(mark.exists, "the command to be told")

    def test_cancel(self):
        begin = time.monotonic()
        self.refused("exec", "sleep 100", code="cancelled", cancel_after=500)
        self.assertLess(time.monotonic() - begin, 4)

    def test_server_killed_in_the_middle(self):
        sshd = self.another_sshd()
        self.known.write_text(sshd.known_line())
        mark = self.dir / "begun"
        killer = threading.Thread(target=lambda: (wait_for(mark.exists, "begin"), sshd.stop()))
        killer.start()
        result = self.refused("exec", f"echo x > {mark}; sleep 100", port=sshd.port)
        killer.join()
        self.assertIn("connection was lost", result["message"])

    def test_frozen_server_is_found_out_while_idle(self):
        sshd = self.another_sshd()
        self.known.write_text(sshd.known_line())
        process = subprocess.Popen(self.command("hold", "cat; sleep 100", port=sshd.port, timeout=40000),
                                   stdout=subprocess.PIPE, text=True, env=self.env())
        self.assertEqual(process.stdout.readline(), "held\n")
        frozen = sshd.children()
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGCONT) for pid in frozen])
        result = json.loads(process.communicate(timeout=60)[0])
        self.assertIn("no sign of life", result["message"])
        self.assertLess(result["ms"], 21000)


class EchoServer:
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(100)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    @staticmethod
    def echo(connection):
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def stop(self):
        self.listener.close()


RELAY = """
import os, select, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
while True:
    for f in select.select([0, s], [], [])[0]:
        data = os.read(0, 65536) if f == 0 else s.recv(65536)
        if not data: sys.exit()
        if f == 0: s.sendall(data)
        else:
            while data: data = data[os.write(1, data):]
"""


class Streams(Case):
    def setUp(self):
        super().setUp()
        self.socket = self.dir / "sock"
        self.started.append(EchoServer(self.socket))
        (self.dir / "relay.py").write_text(RELAY)
        self.relay = f"{sys.executable} {self.dir}/relay.py {self.socket}"

    def test_unix_socket(self):
        self.assertEqual(self.ok("echo", self.socket, bytes=20 << 20)["bytes"], 20 << 20)

    def test_missing_socket_is_refused_and_the_link_stays(self):
        result = self.refused("echo", "/nonexistent", code="failed")
        self.assertIn("/nonexistent", result["message"])

    def test_relay_where_forwarding_is_forbidden(self):
        sshd = self.another_sshd(config="DisableForwarding yes")
        self.known.write_text(sshd.known_line())
        self.refused("echo", self.socket, code="failed", port=sshd.port)
        result = self.ok("control", self.socket, self.relay, port=sshd.port, bytes=5 << 20)
        self.assertEqual(result["bytes"], 5 << 20)

    def test_control_says_why_the_relay_failed(self):
        result = self.refused("control", "/nonexistent", "/nonexistent/shim relay", code="failed")
        self.assertIn("not found", result["message"])
        self.assertIn("exit status 127", result["message"])

    def test_round_trips_are_not_delayed(self):
        result = self.ok("bench-echo", self.socket, 200)
        self.assertLess(result["median_ms"], 20)  # delayed ACKs or Nagle would cost 40


class HostKeys(Case):
    def test_new(self):
        self.known.write_text("")
        result = self.refused("connect")
        for text in ("host1", "not known", fingerprint(self.sshd.keys[0]), "--accept-new",
                     "ssh-keygen -lf", str(self.known)):
            self.assertIn(text, result["message"])
        self.assertEqual(self.known.read_text(), "")

    def test_changed(self):
        keygen(self.dir / "old")
        old = " ".join((self.dir / "old.pub").read_text().split()[:2])
        self.known.write_text(f"# a line before\n[127.0.0.1]:{self.sshd.port} {old}\n")
        result = self.refused("connect", accept_new=1)
        for text in ("HAS CHANGED", f"{self.known}:2", fingerprint(self.dir / "old.pub"),
                     fingerprint(self.sshd.keys[0]), "ssh-keygen -R"):
            self.assertIn(text, result["message"])

    def test_the_way_out_of_changed_works(self):
        keygen(self.dir / "old")
        old = " ".join((self.dir / "old.pub").read_text().split()[:2])
        self.known.write_text(f"[127.0.0.1]:{self.sshd.port} {old}\n")
        message = self.refused("connect")["message"]
        command = message[message.index("ssh-keygen -R"):message.index(", then run")]
        subprocess.run(command, shell=True, check=True, capture_output=True)
        self.ok("connect", accept_new=1)

    def test_revoked_also_when_known(self):
        line = self.sshd.known_line()
        self.known.write_text(line + "@revoked " + line.replace(line.split()[0], "*"))
        result = self.refused("connect", accept_new=1)
        self.assertIn("revoked", result["message"])
        self.assertIn(f"{self.known}:2", result["message"])

    def test_hashed_names(self):
        self.known.write_text("other ssh-ed25519 AAAA\n" + self.sshd.known_line())
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(self.known)], check=True,
                       capture_output=True)
        self.assertIn("|1|", self.known.read_text())
        self.ok("connect")

    def test_known_ecdsa_key_is_asked_for(self):
        sshd = self.another_sshd(host_keys=("ed25519", "ecdsa"))
        for hashed in (False, True):
            self.known.write_text(sshd.known_line("ecdsa"))
            if hashed:
                subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(self.known)], check=True,
                               capture_output=True)
            result = self.ok("connect", port=sshd.port)
            self.assertEqual(result["info"]["fingerprint"], fingerprint(sshd.keys[1]))

    def test_key_of_another_type_is_not_new(self):
        keygen(self.dir / "old", "ecdsa")
        old = " ".join((self.dir / "old.pub").read_text().split()[:2])
        self.known.write_text(f"[127.0.0.1]:{self.sshd.port} {old}\n")
        self.assertIn("HAS CHANGED", self.refused("connect", accept_new=1)["message"])

    def test_accept_new_then_known(self):
        known = self.dir / "new" / "known_hosts"
        result = self.ok("connect", accept_new=1, known_hosts=known)
        self.assertEqual(len(result["notices"]), 1)
        self.assertEqual(known.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.ok("connect", known_hosts=known)["notices"], [])

    def test_accept_new_keeps_a_last_line_without_a_line_break(self):
        self.known.write_text("example.com ssh-ed25519 AAAA")
        self.ok("connect", accept_new=1)
        self.assertEqual(len(self.known.read_text().splitlines()), 2)

    def test_accept_new_by_many_at_once(self):
        self.known.unlink()
        runs = [subprocess.Popen(self.command("connect", accept_new=1), stdout=subprocess.PIPE,
                                 env=self.env()) for _ in range(8)]
        for run in runs:
            out, _ = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 0, out)
        self.assertEqual(len(self.known.read_text().splitlines()), 1)
        self.ok("connect")

    def test_openssh_agrees_with_what_was_added(self):
        self.known.unlink()
        self.ok("connect", accept_new=1)
        ssh = subprocess.run(["ssh", "-F", "none", "-p", str(self.sshd.port), "-i", str(self.key),
                              "-o", f"UserKnownHostsFile={self.known}", "-o", "BatchMode=yes",
                              "127.0.0.1", "true"], capture_output=True, text=True)
        self.assertEqual(ssh.returncode, 0, ssh.stderr)


class Authentication(Case):
    def agent(self, *keys):
        sock = self.dir / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        wait_for(sock.exists, "ssh-agent")
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True,
                           env={"SSH_AUTH_SOCK": str(sock), "PATH": os.environ["PATH"]})
        return {"SSH_AUTH_SOCK": sock}

    def test_wrong_user(self):
        result = self.refused("connect", user="nosuchuser")
        for text in ("nosuchuser", "publickey", str(self.key)):
            self.assertIn(text, result["message"])

    def test_no_key_at_all(self):
        result = self.refused("connect", identity=None)
        self.assertIn("no agent and no key file", result["message"])

    def test_missing_identity_file_is_named(self):
        self.assertIn("/nonexistent (no such file)",
                      self.refused("connect", identity="/nonexistent")["message"])

    def test_key_that_others_may_read(self):
        shutil.copy(self.key, self.dir / "open")
        os.chmod(self.dir / "open", 0o644)
        self.assertIn("chmod 600", self.refused("connect", identity=self.dir / "open")["message"])

    def test_agent(self):
        others = [keygen(self.dir / f"k{i}") for i in range(3)]
        self.ok("connect", identity=None, env=self.agent(*others, self.key))

    def test_agent_holds_the_named_key_that_is_locked(self):
        locked = keygen(self.dir / "locked", passphrase="secret")
        plain = self.dir / "plain"
        shutil.copy(locked, plain)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", str(plain)],
                       check=True, capture_output=True)
        self.sshd.authorize(locked)
        self.assertEqual(self.ok("connect", identity=locked, env=self.agent(plain))["prompts"], 0)

    def test_an_agent_that_never_answers(self):
        sock = self.dir / "mute"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(sock))
        listener.listen(5)
        self.addCleanup(listener.close)
        begin = time.monotonic()
        self.ok("connect", env={"SSH_AUTH_SOCK": sock}, connect_timeout=2000)
        self.refused("connect", identity=None, env={"SSH_AUTH_SOCK": sock}, connect_timeout=1500)
        self.assertLess(time.monotonic() - begin, 8)

    def test_passphrase_is_asked_once(self):
        key = keygen(self.dir / "locked", passphrase="secret")
        self.sshd.authorize(key)
        hosts = [f"127.0.0.1:{self.sshd.port}"] * 5
        result = self.ok("fan-out", "echo hi", *hosts, identity=key, passphrase="secret",
                         typing_time=1500, connect_timeout=1000)
        self.assertEqual([r.get("out") for r in result["results"]], ["hi\n"] * 5, result)
        self.assertEqual(result["prompts"], 1)

    def test_passphrase_without_a_terminal(self):
        key = keygen(self.dir / "locked", passphrase="secret")
        self.sshd.authorize(key)
        self.assertIn("ssh-add", self.refused("connect", identity=key)["message"])

    def test_wrong_passphrase(self):
        key = keygen(self.dir / "locked", passphrase="secret")
        self.sshd.authorize(key)
        result = self.refused("connect", identity=key, passphrase="wrong")
        self.assertIn("wrong passphrase", result["message"])
        self.assertEqual(result["prompts"], 3)

    def test_no_prompt_for_a_key_that_the_server_would_not_take(self):
        key = keygen(self.dir / "locked", passphrase="secret")
        self.assertEqual(self.refused("connect", identity=key, passphrase="secret")["prompts"], 0)

    def test_rsa_and_ecdsa_keys(self):
        for kind in ("rsa", "ecdsa"):
            key = keygen(self.dir / kind, kind)
            self.sshd.authorize(key)
            self.ok("connect", identity=key)

    def test_certificate(self):
        ca = keygen(self.dir / "ca")
        sshd = self.another_sshd(config=f"TrustedUserCAKeys {ca}.pub")
        self.known.write_text(sshd.known_line())
        key = keygen(self.dir / "certified")
        self.refused("connect", identity=key, port=sshd.port)
        subprocess.run(["ssh-keygen", "-q", "-s", str(ca), "-I", "me", "-n", LOGIN, f"{key}.pub"],
                       check=True, capture_output=True)
        self.ok("connect", identity=key, port=sshd.port)


class Config(Case):
    def write_config(self, text):
        (self.home / ".ssh/config").write_text(text)

    def test_alias(self):
        self.write_config(f"Host alias1\n  HostName 127.0.0.1\n  Port {self.sshd.port}\n"
                          f"  IdentityFile {self.key}\n  UserKnownHostsFile {self.known}\n")
        result = self.ok("exec", "echo hi", address="alias1", port=None, identity=None,
                         known_hosts=None)
        self.assertEqual(result["info"]["address"], "127.0.0.1")

    def test_without_an_openssh_client(self):
        self.write_config(f"Host alias1\n  HostName 127.0.0.1\n  Port {self.sshd.port}\n"
                          f"  IdentityFile {self.key}\n")
        self.ok("connect", address="alias1", port=None, identity=None, env={"PATH": "/nonexistent"})

    def test_tilde_follows_home(self):
        shutil.copy(self.key, self.home / ".ssh/mine")
        shutil.copy(self.known, self.home / ".ssh/known_hosts")
        self.write_config("Host *\n  IdentityFile ~/.ssh/mine\n")
        self.ok("connect", identity=None, known_hosts=None)

    def test_default_key_and_known_hosts(self):
        shutil.copy(self.key, self.home / ".ssh/id_ed25519")
        shutil.copy(self.known, self.home / ".ssh/known_hosts")
        self.ok("connect", identity=None, known_hosts=None)

    def test_the_inventory_wins(self):
        self.write_config("Host *\n  Port 1\n  User nosuchuser\n  IdentityFile /nonexistent\n"
                          "  UserKnownHostsFile /nonexistent\n")
        self.ok("connect", user=LOGIN)

    def test_host_key_alias_and_strict_checking(self):
        self.known.write_text(self.sshd.known_line(name="alias-of-key"))
        self.refused("connect")
        self.write_config("Host *\n  HostKeyAlias alias-of-key\n")
        self.ok("connect")
        self.write_config("Host *\n  StrictHostKeyChecking accept-new\n")
        self.ok("connect")

    def test_hosts_with_own_blocks_in_one_run(self):
        other = self.another_sshd()
        self.known.write_text(self.sshd.known_line() + other.known_line())
        self.write_config(f"Host 127.0.0.1\n  User {LOGIN}\nHost localhost\n  User nosuchuser\n")
        result = self.ok("fan-out", "echo hi", f"127.0.0.1:{self.sshd.port}",
                         f"127.0.0.1:{other.port}", f"localhost:{other.port}", accept_new=1)
        self.assertEqual([r["ok"] for r in result["results"]], [True, True, False])

    def test_algorithms(self):
        self.write_config("Host *\n  Ciphers chacha20-poly1305@openssh.com\n"
                          "  KexAlgorithms ecdh-sha2-nistp256\n")
        info = self.ok("connect")["info"]
        self.assertEqual((info["cipher"], info["kex"]),
                         ("chacha20-poly1305@openssh.com", "ecdh-sha2-nistp256"))

    def test_error_in_the_config(self):
        self.write_config("Host *\n  Port abc\n")
        self.assertIn("config", self.refused("connect", code="bad-input", port=None)["message"])

    def test_hostile_address(self):
        self.refused("connect", code="bad-input", address="-oProxyCommand=touch /tmp/x")

    def test_proxy_command(self):
        self.write_config("Host *\n  ProxyCommand python3 -c \"import os,socket,sys,threading\n")
        self.write_config(f"Host *\n  ProxyCommand {sys.executable} {self.dir}/tcp.py %h %p\n")
        (self.dir / "tcp.py").write_text(RELAY.replace(
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])",
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))"))
        self.assertEqual(self.ok("exec", "echo hi")["out"], "hi\n")


class Network(Case):
    def listener(self, backlog=5):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen(backlog)
        self.addCleanup(s.close)
        return s

    def test_refused_connection(self):
        self.assertIn("no sshd listens", self.refused("connect", port=free_port())["message"])

    def test_unknown_name(self):
        self.assertIn("address", self.refused("connect", address="nosuch.invalid")["message"])

    def test_tarpit(self):
        port = self.listener().getsockname()[1]
        begin = time.monotonic()
        result = self.refused("connect", port=port, connect_timeout=1000)
        self.assertLess(time.monotonic() - begin, 3)
        self.assertIn("key exchange did not end", result["message"])

    def test_cancel_in_the_tarpit(self):
        port = self.listener().getsockname()[1]
        begin = time.monotonic()
        self.refused("connect", port=port, code="cancelled", cancel_after=300, connect_timeout=9000)
        self.assertLess(time.monotonic() - begin, 3)

    def test_not_ssh(self):
        s = self.listener()

        def serve():
            try:
                while True:
                    c, _ = s.accept()
                    c.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" + os.urandom(5000))
                    c.close()
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        self.refused("connect", port=s.getsockname()[1])

    def test_turned_away_twice_before_the_banner(self):
        s = self.listener()
        upstream = self.sshd.port
        counts = []

        def pump(a, b):
            try:
                while data := a.recv(65536):
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def serve():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                counts.append(1)
                if len(counts) <= 2:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    c.close()
                    continue
                u = socket.create_connection(("127.0.0.1", upstream))
                threading.Thread(target=pump, args=(c, u), daemon=True).start()
                threading.Thread(target=pump, args=(u, c), daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        self.known.write_text(self.sshd.known_line(name=f"[127.0.0.1]:{s.getsockname()[1]}"))
        self.ok("connect", port=s.getsockname()[1])
        self.assertEqual(len(counts), 3)

    def test_one_hung_host_does_not_hold_up_the_others(self):
        hung = f"127.0.0.1:{self.listener().getsockname()[1]}"
        hosts = [hung] + [f"127.0.0.1:{self.sshd.port}"] * 10
        result = self.ok("fan-out", "echo hi", *hosts, late_after=500, connect_timeout=2000, forks=4)
        self.assertEqual([r["ok"] for r in result["results"]], [False] + [True] * 10)
        late = {late["host"]: late["ms"] for late in result["late"]}
        self.assertLess(late[hung], 1500)  # said while it hung, not after
        self.assertLess(result["ms"], 6000)


class Jump(Case):
    def setUp(self):
        super().setUp()
        self.jump = self.another_sshd("jump")
        self.known.write_text(self.sshd.known_line() + self.jump.known_line())
        self.spec = f"127.0.0.1:{self.jump.port}"

    def logins(self, sshd):
        return sshd.log.read_text().count("Accepted publickey")

    def test_jump(self):
        self.assertEqual(self.ok("exec", "echo hi", jump=self.spec)["out"], "hi\n")
        self.assertEqual(self.logins(self.jump), 1)

    def test_ten_megabytes_through_it(self):
        data = os.urandom(10 << 20)
        (self.dir / "in").write_bytes(data)
        result = self.ok("exec", "cat", input=self.dir / "in", digest=1, jump=self.spec)
        self.assertEqual(result["out"], hashlib.sha256(data).hexdigest())

    def test_many_hosts_share_one_session(self):
        hosts = [f"127.0.0.1:{self.sshd.port}"] * 20
        result = self.ok("fan-out", "echo hi", *hosts, jump=self.spec)
        self.assertEqual([r.get("out") for r in result["results"]], ["hi\n"] * 20)
        self.assertEqual(self.logins(self.jump), 1)

    def test_two_in_a_row(self):
        second = self.another_sshd("second")
        with open(self.known, "a") as f:
            f.write(second.known_line())
        result = self.ok("exec", "echo hi", jump=f"{self.spec},127.0.0.1:{second.port}")
        self.assertEqual(result["out"], "hi\n")
        self.assertEqual((self.logins(self.jump), self.logins(second)), (1, 1))

    def test_key_of_the_jump_host_is_checked(self):
        self.known.write_text(self.sshd.known_line())
        result = self.refused("connect", jump=self.spec)
        self.assertIn("jump host 127.0.0.1", result["message"])
        self.assertIn("not known", result["message"])

    def test_key_of_the_target_is_checked(self):
        self.known.write_text(self.jump.known_line())
        self.assertIn("not known", self.refused("connect", jump=self.spec)["message"])

    def test_target_unreachable_from_there(self):
        result = self.refused("connect", jump=self.spec, port=free_port())
        self.assertIn("cannot reach", result["message"])

    def test_jump_host_down_is_found_once_for_all(self):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen(5)
        self.addCleanup(s.close)
        hosts = [f"127.0.0.1:{self.sshd.port}"] * 10
        result = self.ok("fan-out", "true", *hosts, jump=f"127.0.0.1:{s.getsockname()[1]}",
                         connect_timeout=1000)
        self.assertEqual([r["ok"] for r in result["results"]], [False] * 10)
        self.assertLess(result["ms"], 3500)

    def test_jump_host_killed_in_the_middle(self):
        mark = self.dir / "begun"
        killer = threading.Thread(target=lambda: (wait_for(mark.exists, "begin"), self.jump.stop()))
        killer.start()
        result = self.refused("exec", f"echo x > {mark}; sleep 100", jump=self.spec)
        killer.join()
        self.assertIn("connection was lost", result["message"])

    def test_circle(self):
        (self.home / ".ssh/config").write_text(
            "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\nHost a b\n  HostName 127.0.0.1\n")
        result = self.refused("connect", code="bad-input", jump="a")
        self.assertIn("circle", result["message"])


SHIM = """#!/bin/sh
case $1 in
  self-check) exit %(self_check)s ;;
  info) echo '{"version":"1.0.0","digest":"'$(sha256sum < "$0" | cut -d" " -f1)'","running":true}' ;;
  install) shift
    printf '{"args":"%%s","stdin":"%%s"}\\n' "$(printf %%s "$*" | tr '"' _)" "$(cat | wc -c)"
    ln -sfn "$(basename "$0")" "$2/shim/bin/clusterctl-shim" ;;
esac
"""

FAKE_SUDO = """#!/bin/sh
[ "$1" = -n ] || { echo "sudo: a terminal is required to read the password" >&2; exit 1; }
shift
%s
"""


class Bootstrap(Case):
    def setUp(self):
        super().setUp()
        self.root = self.dir / "ro ot's \"x\" $HOME"
        self.shim = self.dir / "shim"
        self.shim.write_text(SHIM % {"self_check": 0} + "# padding\n" * 100000)

    def bootstrap(self, root=None, version="1.0.0", **options):
        return self.drive("bootstrap", root or self.root, self.shim, version, **options)

    def test_probe(self):
        result = self.ok("probe", "~/x")
        self.assertEqual(result["machine"], os.uname().machine)
        self.assertEqual(result["uid"], os.geteuid())
        self.assertEqual(result["server_address"], "127.0.0.1")
        self.assertEqual(result["root"], result["home"] + "/x")
        self.assertNotIn("shim_info", result)

    def test_place_then_nothing_to_do(self):
        result = self.bootstrap()
        self.assertTrue(result["ok"], result)
        self.assertTrue(result["placed"])
        outcome = json.loads(result["outcome"])
        self.assertIn("--cluster test --host host1 --advertise 127.0.0.1", outcome["args"])
        self.assertEqual(outcome["stdin"], "0")
        digest = hashlib.sha256(self.shim.read_bytes()).hexdigest()
        placed = self.root / "shim/bin" / f"clusterctl-shim-{digest}"
        self.assertEqual(placed.read_bytes(), self.shim.read_bytes())
        self.assertEqual(placed.stat().st_mode & 0o777, 0o755)
        self.assertFalse(self.bootstrap()["placed"])
        self.assertEqual([p.name for p in (self.root / "shim/bin").iterdir() if "new" in p.name], [])

    def test_never_downgraded(self):
        self.bootstrap()
        self.shim.write_text(self.shim.read_text() + "# other\n")
        self.assertFalse(self.bootstrap(version="0.9.9")["placed"])
        self.assertTrue(self.bootstrap(version="1.0.0")["placed"])

    def test_damaged_on_the_way(self):
        result = self.bootstrap(sha256="0" * 64)
        self.assertIn("arrived damaged", result["message"])
        self.assertEqual(list((self.root / "shim/bin").iterdir()), [])

    def test_other_machine(self):
        self.assertIn("carries a shim for s390x only", self.bootstrap(machine="s390x")["message"])

    def test_shim_does_not_run_there(self):
        self.shim.write_text(SHIM % {"self_check": 1})
        self.assertIn("does not run", self.bootstrap()["message"])
        self.shim.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
        self.assertIn("does not run", self.bootstrap()["message"])

    def test_root_that_cannot_be_made(self):
        (self.dir / "file").write_text("")
        result = self.bootstrap(root=self.dir / "file/x")
        self.assertIn("cannot make the directory", result["message"])

    @unittest.skipUnless(IS_ROOT, "needs a login shell of its own: root only")
    def test_noisy_shell(self):
        shell = self.dir / "noisy"
        shell.write_text("#!/bin/sh\necho Welcome; echo noise >&2\n/bin/sh \"$@\"\nrc=$?\n"
                         "echo bye; exit $rc\n")
        os.chmod(shell, 0o755)
        sshd = self.another_sshd(shell=shell)
        self.known.write_text(sshd.known_line())
        result = self.bootstrap(port=sshd.port)
        self.assertTrue(result["ok"], result)
        self.assertTrue(json.loads(result["outcome"].splitlines()[0]))

    @unittest.skipUnless(IS_ROOT, "needs a login shell of its own: root only")
    def test_nologin(self):
        sshd = self.another_sshd(shell="/usr/sbin/nologin")
        self.known.write_text(sshd.known_line())
        self.assertIn("not available", self.bootstrap(port=sshd.port)["message"])

    @unittest.skipUnless(IS_ROOT, "needs a login shell of its own: root only")
    def test_other_shells(self):
        for shell in ("fish", "tcsh", "zsh", "busybox"):
            path = shutil.which(shell)
            if not path:
                continue
            if shell == "busybox":
                wrapper = self.dir / "ash"
                wrapper.write_text(f"#!/bin/sh\nexec {path} ash \"$@\"\n")
                os.chmod(wrapper, 0o755)
                path = wrapper
            sshd = self.another_sshd(shell, shell=path)
            self.known.write_text(sshd.known_line())
            result = self.bootstrap(root=self.dir / f"a 'b' !c \\d {shell}", port=sshd.port)
            self.assertTrue(result["ok"], result)

    def sudo(self, body):
        bin_dir = self.dir / "bin"
        bin_dir.mkdir()
        (bin_dir / "sudo").write_text(FAKE_SUDO % body)
        os.chmod(bin_dir / "sudo", 0o755)
        sshd = self.another_sshd(config=f"SetEnv PATH={bin_dir}:/usr/bin:/bin")
        self.known.write_text(sshd.known_line())
        return sshd

    def test_sudo(self):
        sshd = self.sudo('echo "$@" > %s; exec "$@"' % (self.dir / "was"))
        result = self.bootstrap(port=sshd.port, become="sudo")
        self.assertTrue(result["ok"], result)
        self.assertTrue((self.dir / "was").exists())

    def test_sudo_wants_a_password(self):
        sshd = self.sudo('echo "sudo: a password is required" >&2; exit 1')
        result = self.bootstrap(port=sshd.port, become="sudo")
        for text in ("NOPASSWD", LOGIN, "become: none"):
            self.assertIn(text, result["message"])

    def test_no_sudo_there(self):
        bin_dir = self.dir / "bin"
        bin_dir.mkdir()
        for name in ("sh", "uname", "id", "head"):
            (bin_dir / name).symlink_to(shutil.which(name))
        sshd = self.another_sshd(config=f"SetEnv PATH={bin_dir}")
        self.known.write_text(sshd.known_line())
        self.assertIn("no sudo", self.bootstrap(port=sshd.port, become="sudo")["message"])

    @unittest.skipUnless(IS_ROOT, "mounts a file system: root only")
    def test_full_disk_and_noexec(self):
        mount = self.dir / "small"
        mount.mkdir()
        sshd_dir = self.dir / "m"
        for options, text in (("size=64k", "disk is full"), ("noexec,size=9m", "noexec"),
                              ("ro", "read-only")):
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(mount)], check=True)
            try:
                sshd = Sshd(sshd_dir / options[:2])
                self.started.append(sshd)
                sshd.authorize(self.key)
                self.known.write_text(sshd.known_line())
                self.assertIn(text, self.bootstrap(root=mount / "r", port=sshd.port)["message"])
                sshd.stop()
                self.started.remove(sshd)
            finally:
                subprocess.run(["umount", str(mount)], check=True)


class Binary(unittest.TestCase):
    def test_links_only_libc(self):
        out = subprocess.run(["ldd", str(DRIVER)], capture_output=True, text=True).stdout
        names = {line.split()[0] for line in out.splitlines()}
        allowed = {"linux-vdso.so.1", "libc.so.6", "libm.so.6", "/lib64/ld-linux-x86-64.so.2"}
        self.assertLessEqual(names, allowed)


if __name__ == "__main__":
    unittest.main(verbosity=2)
