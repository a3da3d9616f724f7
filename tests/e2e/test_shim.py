#!/usr/bin/env python3
"""The shim alone, over its unix socket: PROTOCOL.md spoken from Python, without SSH.

BUILD_DIR names the build directory (default: build/release of this tree).
"""

import ctypes
import errno
import glob
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD_DIR = os.environ.get("BUILD_DIR") or os.path.join(HERE, "..", "..", "build", "release")
SHIM = os.path.abspath(os.path.join(BUILD_DIR, "clusterctl-shim"))

REQUEST, REPLY, ITEM, DATA, END, CANCEL = range(1, 7)
CALLER = {"by": "test@here", "reason": "a test", "token": 0}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class ShimError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]


class Client:
    """One connection. Frames of other requests than the one asked about are kept for later."""

    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""
        self.next_id = 1
        self.waiting = []

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, kind, number, payload=b""):
        self.socket.sendall(struct.pack(">IBI", len(payload), kind, number) + payload)

    def begin(self, op, **fields):
        number = self.next_id
        self.next_id += 1
        fields["op"] = op
        self.send(REQUEST, number, json.dumps(fields).encode())
        return number

    def read_frame(self):
        while True:
            if len(self.buffer) >= 9:
                length, kind, number = struct.unpack(">IBI", self.buffer[:9])
                if len(self.buffer) >= 9 + length:
                    payload = self.buffer[9:9 + length]
                    self.buffer = self.buffer[9 + length:]
                    return kind, number, payload
            more = self.socket.recv(1 << 16)
            if not more:
                raise EOFError("the shim hung up")
            self.buffer += more

    def frame_of(self, number):
        for i, (kind, its, payload) in enumerate(self.waiting):
            if its in (number, 0):
                del self.waiting[i]
                return kind, payload
        while True:
            kind, its, payload = self.read_frame()
            if its in (number, 0):
                return kind, payload
            self.waiting.append((kind, its, payload))

    def finish(self, number):
        """→ (reply, items, data) once the reply is there."""
        items, data = [], b""
        while True:
            kind, payload = self.frame_of(number)
            if kind == ITEM:
                items.append(json.loads(payload))
            elif kind == DATA:
                data += payload
            elif kind == REPLY:
                reply = json.loads(payload)
                if "error" in reply:
                    raise ShimError(reply["error"])
                return reply, items, data

    def ask(self, op, **fields):
        return self.finish(self.begin(op, **fields))[0]

    def items(self, op, **fields):
        return self.finish(self.begin(op, **fields))[1]

    def push(self, service, version, files, digest=None, tamper=None, chunk=65536):
        """files: path → (content, executable) or a link's target as str."""
        entries, contents = [], []
        for path, what in files.items():
            if isinstance(what, str):
                entries.append({"path": path, "link": what})
                contents.append(b"")
                continue
            content, executable = what
            entries.append({"path": path, "sha256": sha256(content), "size": len(content),
                            "executable": executable})
            contents.append(content)
        digest = digest or release_digest(entries)
        number = self.begin("push", service=service, version=version, digest=digest, files=entries)
        kind, payload = self.frame_of(number)
        if kind == REPLY:
            raise ShimError(json.loads(payload)["error"])
        need = json.loads(payload)["files"]
        stream = b"".join(contents[i] for i in need)
        if tamper:
            stream = tamper(stream)
        for at in range(0, len(stream), chunk):
            self.send(DATA, number, stream[at:at + chunk])
        if need:
            self.send(END, number)
        reply = self.finish(number)[0]
        reply["needed"] = need
        reply["digest"] = digest
        return reply


def release_digest(entries):
    return sha256(json.dumps(sorted(entries, key=lambda e: e["path"])).encode())


def wait_until(condition, timeout=10, what="it"):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within {timeout} s")


def read(path):
    with open(path) as f:
        return f.read()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# A service in sh: prints its environment, then listens with python or just waits.
WAITER = b"#!/bin/sh\necho \"up as $$ in $PWD\"\necho \"to stderr\" >&2\nenv | sort\nexec sleep 1000\n"

LISTENER = textwrap.dedent("""\
    #!/usr/bin/python3
    import os, socket, sys, time
    time.sleep(float(os.environ.get("DELAY", "0")))
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", int(os.environ["PORT"])))
    s.listen(16)
    print("listening", flush=True)
    n = 0
    while True:
        c, _ = s.accept()
        n += 1
        print("accepted", n, flush=True)
        c.close()
    """).encode()


class ShimTest(unittest.TestCase):
    before_exec = None

    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="cctl-shim-")
        os.chmod(self.base, 0o755)
        self.root = os.path.join(self.base, "r")
        self.clients = []
        self.pids = set()

    def tearDown(self):
        for client in self.clients:
            client.close()
        if os.path.exists(os.path.join(self.root, "shim", "current")):
            self.shim("uninstall", "--root", self.root, "--stop-services", check=False)
        self.kill_pair()
        subprocess.run(["chmod", "-R", "u+w", self.base], check=False,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)

    # ---- the executable ----

    def shim(self, *args, check=True, binary=SHIM, env=None):
        done = subprocess.run([binary, *args], capture_output=True, text=True, timeout=120, env=env,
                              preexec_fn=self.before_exec)
        if check and done.returncode != 0:
            raise AssertionError(f"{args}: exit {done.returncode}: {done.stderr}")
        return done

    def install(self, *more, cluster="demo", host="host1", **kwargs):
        return self.shim("install", "--root", self.root, "--cluster", cluster, "--host", host,
                         "--advertise", "127.0.0.1", "--operator", str(os.getuid()),
                         "--no-boot-hook", *more, **kwargs)

    def info(self):
        return json.loads(self.shim("info", "--root", self.root).stdout)

    def shim_pid(self):
        return self.info()["pid"]

    def control(self):
        return os.path.join(self.root, "run", "control.sock")

    def connect(self, timeout=30):
        client = Client(self.control(), timeout)
        client.ask("hello", protocol=1, client="test")
        self.clients.append(client)
        return client

    def kill_pair(self, wait=True):
        """Supervisor and anchor, at once: nothing of the shim is left, its services live on."""
        try:
            info = self.info()
        except AssertionError:
            return
        if not info["running"]:
            return
        for number, pid in ((signal.SIGSTOP, info["anchor"]), (signal.SIGKILL, info["pid"]),
                            (signal.SIGKILL, info["anchor"])):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        if wait:
            wait_until(lambda: not self.info()["running"], what="release of the lock")

    def kill_shim(self, restart=True):
        self.kill_pair()
        if restart:
            self.shim("start", "--root", self.root)

    def kill_one(self, which):
        """One of the two; returns once the other has started a supervisor again."""
        before = self.info()
        os.kill(before[which], signal.SIGKILL)
        wait_until(lambda: self.info()["pid"] not in (before["pid"], 0) and self.answers(),
                   what="another supervisor")
        return before

    def answers(self):
        try:
            with Client(self.control(), 5) as client:
                return client.ask("hello", protocol=1, client="x")
        except (ShimError, EOFError, OSError):
            return None

    # ---- a service ----

    def deploy(self, client, files, argv, service="svc", version="1.0", index=0, start=True,
               ports=(), digest=None, **spec):
        pushed = client.push(service, version, files, digest)
        return self.new_generation(client, pushed["digest"], argv, service, version, index, start,
                                   ports, **spec)

    def new_generation(self, client, digest, argv, service="svc", version="1.0", index=0,
                       start=True, ports=(), **spec):
        instance = {"service": service, "index": index}
        allocated = client.ask("allocate", instance=instance, caller=CALLER,
                               ports=[{"name": n} if isinstance(n, str) else n for n in ports],
                               pool_low=21000, pool_high=29999)
        full = {"service": service, "index": index, "generation": allocated["generation"],
                "version": version, "release_digest": digest, "spec_digest": "",
                "argv": argv, "env": {}, "ports": allocated["ports"], "config": [],
                "ready": {"kind": "none"}, "start_timeout": 5000,
                "restart": {"when": "always", "backoff_min": 50, "backoff_max": 400,
                            "limit_count": 10, "limit_window": 60000},
                "stop_signal": 15, "stop_grace": 2000, "log_max_size": 1 << 20, "log_keep": 3}
        full.update(spec)
        client.ask("prepare", spec=full, caller=CALLER)
        if not start:
            return full
        reply = client.ask("start", instance=instance, generation=allocated["generation"],
                           caller=CALLER)
        return full, reply

    def status(self, client, service="svc", index=0):
        found = [s for s in client.items("status") if (s["service"], s["index"]) == (service, index)]
        return found

    def one(self, client, **kwargs):
        found = self.status(client, **kwargs)
        self.assertEqual(len(found), 1, found)
        return found[0]

    def events(self, client, kind=None):
        return [e for e in client.items("events") if kind in (None, e["kind"])]

    def log_path(self, service="svc", index=0):
        return os.path.join(self.root, "services", service, "instances", str(index), "log",
                            "current")


class Install(ShimTest):
    def test_places_starts_and_answers(self):
        said = json.loads(self.install().stdout)
        self.assertTrue(said["ok"] and said["started"], said)
        self.assertFalse(said["boot_hook"])
        info = json.loads(self.shim("info", "--root", self.root).stdout)
        self.assertTrue(info["running"])
        self.assertEqual((info["cluster"], info["host"]), ("demo", "host1"))
        with Client(self.control()) as client:
            hello = client.ask("hello", protocol=1, client="x")
        self.assertEqual(hello["pid"], info["pid"])
        self.assertEqual(hello["digest"], info["digest"])
        self.assertEqual(len(hello["acceptor"]) > 8, True)

    def test_again_is_unchanged_and_start_is_quiet(self):
        self.install()
        pid = self.shim_pid()
        self.assertTrue(json.loads(self.install().stdout)["unchanged"])
        done = self.shim("start", "--root", self.root)
        self.assertEqual(done.stdout + done.stderr, "")
        self.assertEqual(self.shim_pid(), pid)

    def test_refuses_the_root_of_another_cluster(self):
        self.install()
        done = self.install(cluster="other", check=False)
        self.assertEqual(done.returncode, 77)
        self.assertIn("belongs to cluster \"demo\"", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_an_upgrade_keeps_services(self):
        self.install()
        client = self.connect()
        _, reply = self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"])
        newer = os.path.join(self.base, "newer")
        shutil.copy(SHIM, newer)
        with open(newer, "ab") as f:  # other content, same version
            f.write(b"\0")
        old = self.info()
        said = json.loads(self.install(binary=newer).stdout)
        self.assertTrue(said["upgraded"], said)
        now = self.info()
        self.assertNotEqual((now["pid"], now["digest"]), (old["pid"], old["digest"]))
        self.assertEqual(now["anchor"], old["anchor"])
        client = self.connect()
        now = self.one(client)
        self.assertEqual((now["pid"], now["state"]), (reply["pid"], "ready"))
        self.assertTrue(alive(reply["pid"]))

    def test_a_broken_upgrade_leaves_the_old_shim_running(self):
        self.install()
        before = self.info()
        current = os.path.join(self.root, "shim", "current")
        truncated = os.path.join(self.root, "shim", "bin", "clusterctl-shim-broken")
        with open(SHIM, "rb") as f, open(truncated, "wb") as g:
            g.write(f.read(100000))
        os.chmod(truncated, 0o755)
        os.unlink(current)
        os.symlink("bin/clusterctl-shim-broken", current)
        self.connect().ask("shutdown", replace=True, caller=CALLER)
        wait_until(lambda: self.info()["pid"] not in (0, before["pid"]) and self.answers())
        self.assertEqual(self.info()["digest"], before["digest"])

    def test_usage_errors_have_their_exit_codes(self):
        self.assertEqual(self.shim("nonsense", check=False).returncode, 64)
        self.assertEqual(self.shim("start", "--root", "relative", check=False).returncode, 64)
        self.assertEqual(self.shim("relay", os.path.join(self.base, "none"),
                                   check=False).returncode, 69)

    def test_relay_carries_frames(self):
        self.install()
        relay = subprocess.Popen([SHIM, "relay", "--root", self.root], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        payload = json.dumps({"op": "hello", "protocol": 1, "client": "x"}).encode()
        relay.stdin.write(struct.pack(">IBI", len(payload), REQUEST, 7) + payload)
        relay.stdin.flush()
        length, kind, number = struct.unpack(">IBI", relay.stdout.read(9))
        self.assertEqual((kind, number), (REPLY, 7))
        self.assertEqual(json.loads(relay.stdout.read(length))["cluster"], "demo")
        relay.stdin.close()
        self.assertEqual(relay.wait(5), 0)
        relay.stdout.close()


class Releases(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def release_dir(self, version="1.0"):
        return os.path.join(self.root, "services", "svc", version)

    def leftovers(self):
        return [n for n in os.listdir(os.path.join(self.root, "services", "svc"))
                if n.startswith(".incoming")]

    def test_installs_with_modes_and_links(self):
        reply = self.client.push("svc", "1.0", {
            "bin/a": (b"#!/bin/sh\n", True), "etc/x": (b"x" * 300000, False),
            "etc/empty": (b"", False), "bin/b": "a"})
        self.assertTrue(reply["installed"])
        d = self.release_dir()
        self.assertEqual(stat.S_IMODE(os.stat(d + "/bin/a").st_mode), 0o555)
        self.assertEqual(stat.S_IMODE(os.stat(d + "/etc/x").st_mode), 0o444)
        self.assertEqual(stat.S_IMODE(os.stat(d + "/bin").st_mode), 0o555)
        self.assertEqual(os.readlink(d + "/bin/b"), "a")
        self.assertEqual(os.path.getsize(d + "/etc/empty"), 0)
        self.assertEqual(self.leftovers(), [])

    def test_same_again_is_nothing_and_other_content_is_refused(self):
        files = {"bin/a": (b"one", True)}
        self.client.push("svc", "1.0", files)
        again = self.client.push("svc", "1.0", files)
        self.assertEqual((again["installed"], again["needed"]), (False, []))
        with self.assertRaises(ShimError) as caught:
            self.client.push("svc", "1.0", {"bin/a": (b"two", True)})
        self.assertEqual(caught.exception.code, "refused")

    def test_known_files_are_not_asked_for(self):
        self.client.push("svc", "1.0", {"bin/a": (b"a" * 5000, True), "etc/b": (b"b" * 5000, False)})
        reply = self.client.push("svc", "1.1",
                                 {"bin/a": (b"new", True), "etc/c": (b"b" * 5000, False)})
        self.assertEqual(reply["needed"], [0])
        self.assertNotEqual(os.stat(self.release_dir("1.1") + "/etc/c").st_ino,
                            os.stat(self.release_dir("1.0") + "/etc/b").st_ino)

    def test_a_known_file_that_was_altered_on_disk_is_asked_for(self):
        self.client.push("svc", "1.0", {"etc/b": (b"b" * 5000, False)})
        path = self.release_dir() + "/etc/b"
        os.chmod(path, 0o644)
        with open(path, "wb") as f:
            f.write(b"c" * 5000)
        reply = self.client.push("svc", "1.1", {"etc/b": (b"b" * 5000, False)})
        self.assertEqual(reply["needed"], [0])

    def test_wrong_bytes_are_refused_and_leave_nothing(self):
        for tamper in (lambda s: s[:-1] + b"X", lambda s: s[:-1], lambda s: s + b"more"):
            with self.assertRaises(ShimError) as caught:
                self.client.push("svc", "1.0", {"bin/a": (b"content", True)}, tamper=tamper)
            self.assertEqual(caught.exception.code, "corrupt")
            self.assertEqual(self.leftovers(), [])
            self.assertFalse(os.path.exists(self.release_dir()))
        self.assertTrue(self.client.push("svc", "1.0", {"bin/a": (b"content", True)})["installed"])

    def test_hostile_paths_are_refused(self):
        good = (b"x", False)
        for files in ({"../x": good}, {"/etc/x": good}, {"a//b": good}, {"a/./b": good}, {"": good},
                      {"a\0b": good}, {"a": good, "a/b": good}, {"l": "/etc/passwd"},
                      {"l": "../out"}, {"d/l": "..", "x": "d/l/../.."}, {"l": "l"},
                      {"a" * 300: good}, {"/".join("d" * 100): good}):
            with self.assertRaises(ShimError, msg=str(files)) as caught:
                self.client.push("svc", "1.0", files)
            self.assertEqual(caught.exception.code, "refused", files)
        for service, version in (("../s", "1"), ("s", ".."), ("s", "instances"), ("S", "1")):
            with self.assertRaises(ShimError):
                self.client.push(service, version, {"a": good})
        self.assertEqual(os.listdir(os.path.join(self.root, "services")), [])

    def test_a_dropped_connection_leaves_nothing(self):
        other = self.connect()
        content = os.urandom(100000)
        number = other.begin("push", service="svc", version="1.0", digest=sha256(b"d"), files=[
            {"path": "a", "sha256": sha256(content), "size": len(content)}])
        other.frame_of(number)
        other.send(DATA, number, content[:50000])
        wait_until(self.leftovers, what="an incoming directory")
        other.close()
        wait_until(lambda: not self.leftovers(), what="its removal")

    def test_two_pushes_at_once(self):
        content = os.urandom(200000)
        entry = [{"path": "bin/a", "sha256": sha256(content), "size": len(content),
                  "executable": True}]
        pushes = []
        for client in (self.connect(), self.connect()):
            number = client.begin("push", service="svc", version="1.0", digest=sha256(b"d"),
                                  files=entry)
            client.frame_of(number)
            client.send(DATA, number, content[:100000])
            pushes.append((client, number))
        outcomes = []
        for client, number in pushes:
            client.send(DATA, number, content[100000:])
            client.send(END, number)
            outcomes.append(client.finish(number)[0]["installed"])
        self.assertEqual(sorted(outcomes), [False, True])
        self.assertEqual(self.leftovers(), [])

    def test_survives_a_restart_of_the_shim(self):
        self.client.push("svc", "1.0", {"bin/a": (b"one", True)})
        self.kill_shim()
        client = self.connect()
        self.assertEqual(len(client.items("releases")), 1)
        self.assertFalse(client.push("svc", "1.0", {"bin/a": (b"one", True)})["installed"])

    def test_verify_names_what_differs(self):
        self.client.push("svc", "1.0", {"bin/a": (b"one", True), "etc/b": (b"two", False)})
        d = self.release_dir()
        items = self.client.items("verify")
        self.assertEqual(items[0]["problems"], [])
        os.chmod(d + "/etc", 0o755)
        os.unlink(d + "/etc/b")
        with open(d + "/etc/extra", "w") as f:
            f.write("x")
        os.chmod(d + "/bin/a", 0o755)
        with open(d + "/bin/a", "wb") as f:
            f.write(b"ONE")
        problems = self.client.items("verify")[0]["problems"]
        self.assertEqual(problems, ["bin/a: content differs", "etc/b: missing",
                                    "etc/extra: not part of the release"])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small disk")
    def test_a_full_disk(self):
        small = os.path.join(self.base, "small")
        os.mkdir(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "none", small], check=True)
        try:
            self.client.close()
            self.shim("uninstall", "--root", self.root, "--stop-services")
            self.root = os.path.join(small, "r")
            self.install()
            client = self.connect()
            with self.assertRaises(ShimError) as caught:
                client.push("svc", "1.0", {"big": (os.urandom(12 << 20), False)})
            self.assertEqual(caught.exception.code, "no-space")
            # Announced small enough, but the disk fills up meanwhile.
            content = os.urandom(1 << 20)
            number = client.begin("push", service="svc", version="1.0", digest=sha256(b"d"), files=[
                {"path": "a", "sha256": sha256(content), "size": len(content)}])
            client.frame_of(number)
            filler = os.open(os.path.join(small, "filler"), os.O_WRONLY | os.O_CREAT)
            try:
                while os.write(filler, b"x" * 4096):
                    pass
            except OSError:
                os.close(filler)
            for at in range(0, len(content), 65536):
                client.send(DATA, number, content[at:at + 65536])
            with self.assertRaises(ShimError) as caught:
                client.send(END, number)
                client.finish(number)
            self.assertEqual(caught.exception.code, "no-space")
            self.assertIn("full", caught.exception.message)
            os.unlink(os.path.join(small, "filler"))
            self.assertEqual(self.leftovers(), [])
            self.assertTrue(client.push("svc", "1.0", {"a": (content, False)})["installed"])
        finally:
            self.shim("uninstall", "--root", self.root, "--stop-services", check=False)
            subprocess.run(["umount", "-l", small], check=True)


class Processes(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def test_start_environment_and_stop(self):
        spec, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w", "arg"],
                                  env={"THREADS": "4"})
        self.assertEqual(reply["state"], "ready", reply)
        status = self.one(self.client)
        self.assertEqual((status["state"], status["current"], status["wanted"]),
                         ("ready", True, True))
        with open(self.log_path()) as f:
            log = f.read()
        for line in ("CLUSTERCTL_INSTANCE=svc/0", "CLUSTERCTL_SERVICE=svc", "CLUSTERCTL_VERSION=1.0",
                     "CLUSTERCTL_HOST=host1", "THREADS=4",
                     f"CLUSTERCTL_NAMING={self.root}/run/naming.sock"):
            self.assertIn(f" O {line}\n", log)
        self.assertIn(" E to stderr\n", log)
        self.assertIn(f"in {self.root}/services/svc/instances/0/data\n", log)
        pid = reply["pid"]
        self.assertEqual(os.getsid(pid), pid)
        self.assertEqual(sorted(os.listdir(f"/proc/{pid}/fd")), ["0", "1", "2"])
        self.assertEqual(os.readlink(f"{self.root}/services/svc/instances/0/current"),
                         f"generations/{spec['generation']}")
        stopped = self.client.ask("stop", instance={"service": "svc", "index": 0}, hold=True,
                                  caller=CALLER)
        self.assertEqual(stopped["stopped"], 1)
        self.assertFalse(alive(pid))
        status = self.one(self.client)
        self.assertEqual((status["state"], status["wanted"]), ("stopped", False))
        self.assertIn("test@here", status["note"])

    def test_what_was_stopped_stays_down(self):
        self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        self.client.ask("stop", instance={"service": "svc", "index": 0}, hold=True, caller=CALLER)
        self.kill_shim()
        client = self.connect()
        self.assertEqual(self.one(client)["state"], "stopped")
        reply = client.ask("start", instance={"service": "svc", "index": 0}, caller=CALLER)
        self.assertEqual(reply["state"], "ready")

    def test_crash_is_restarted_at_once_and_reported(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        follow = self.connect()
        last = self.events(self.client)[-1]["seq"]
        number = follow.begin("events", after=last, follow=True)
        began = time.monotonic()
        os.kill(reply["pid"], signal.SIGSEGV)
        kind, payload = follow.frame_of(number)
        took = time.monotonic() - began
        event = json.loads(payload)
        self.assertEqual((kind, event["kind"]), (ITEM, "exit"))
        self.assertEqual(event["exit"]["signal"], signal.SIGSEGV)
        self.assertIn("to stderr", event["exit"]["last_lines"])
        self.assertLess(took, 1.0)
        status = wait_until(lambda: [s for s in self.status(self.client)
                                     if s["state"] == "ready" and s["pid"] != reply["pid"]])
        self.assertEqual(status[0]["restarts"], 1)

    def test_crash_loop_ends_in_failed(self):
        script = b"#!/bin/sh\nsleep 0.8\necho dying\nexit 3\n"
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"],
                               restart={"when": "always", "backoff_min": 10, "backoff_max": 20,
                                        "limit_count": 3, "limit_window": 60000})
        self.assertEqual(reply["state"], "ready")
        status = wait_until(lambda: [s for s in self.status(self.client) if s["state"] == "failed"])
        self.assertIn("crash loop", status[0]["note"])
        self.assertEqual(status[0]["restarts"], 3)
        self.assertEqual(status[0]["last_exit"]["exit_status"], 3)
        self.assertEqual(status[0]["last_exit"]["last_lines"], ["dying"])
        # An operator's start begins anew.
        reply = self.client.ask("start", instance={"service": "svc", "index": 0}, caller=CALLER)
        self.assertEqual(reply["state"], "ready")

    def test_first_start_that_crashes_fails_at_once_and_stays_down(self):
        script = b"#!/bin/sh\necho no config >&2\nexit 7\n"
        began = time.monotonic()
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"])
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual(reply["state"], "failed")
        self.assertEqual(reply["exit"]["exit_status"], 7)
        self.assertEqual(reply["exit"]["last_lines"], ["no config"])
        self.assertIn("exit status 7", reply["problem"])
        time.sleep(0.5)
        status = self.one(self.client)
        self.assertEqual((status["state"], status["current"], status["restarts"]),
                         ("failed", False, 0))

    def test_exec_errors_are_said_plainly(self):
        _, reply = self.deploy(self.client, {"bin/w": (b"#!/no/such/interpreter\n", True)}, ["bin/w"])
        self.assertEqual(reply["state"], "failed")
        self.assertIn("No such file", reply["problem"])
        _, reply = self.deploy(self.client, {"bin/x": (b"\x7fELF garbage", True)}, ["bin/x"],
                               version="2.0")
        self.assertIn("Exec format error", reply["problem"])
        _, reply = self.deploy(self.client, {"bin/y": (b"plain", False)}, ["bin/y"], version="3.0")
        self.assertIn("not executable", reply["problem"])
        _, reply = self.new_generation(self.client, release_digest([
            {"path": "bin/y", "sha256": sha256(b"plain"), "size": 5, "executable": False}]),
            ["bin/none"], version="3.0")
        self.assertIn("no file bin/none", reply["problem"])

    def test_elf_runs_by_descriptor_and_is_what_was_checked(self):
        with open("/bin/sleep", "rb") as f:
            content = f.read()
        _, reply = self.deploy(self.client, {"bin/sleep": (content, True)}, ["bin/sleep", "1000"])
        self.assertEqual(reply["state"], "ready", reply)
        exe = os.readlink(f"/proc/{reply['pid']}/exe")
        self.assertEqual(exe, f"{self.root}/services/svc/1.0/bin/sleep")
        item = [i for i in self.client.items("verify") if i.get("pid")][0]
        self.assertEqual(item["exe_sha256"], sha256(content))

    def test_own_libraries_come_first(self):
        script = b"#!/bin/sh\necho \"L=$LD_LIBRARY_PATH\"\nexec sleep 1000\n"
        self.deploy(self.client, {"bin/w": (script, True), "lib/libx.so": (b"x", False)}, ["bin/w"],
                    env={"LD_LIBRARY_PATH": "/opt/more"})
        with open(self.log_path()) as f:
            self.assertIn(f" O L={self.root}/services/svc/1.0/lib:/opt/more\n", f.read())

    def test_an_altered_release_is_not_started(self):
        spec = self.deploy(self.client, {"bin/w": (WAITER, True), "etc/data": (b"data", False)},
                           ["bin/w"], start=False)
        path = f"{self.root}/services/svc/1.0/etc/data"
        os.chmod(path, 0o644)
        with open(path, "wb") as f:
            f.write(b"DATA")
        reply = self.client.ask("start", instance={"service": "svc", "index": 0},
                                generation=spec["generation"], caller=CALLER)
        self.assertEqual(reply["state"], "failed")
        self.assertIn("etc/data: content differs", reply["problem"])
        self.assertEqual(len(self.events(self.client, "refused")), 1)

    def test_a_restart_checks_again(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        path = f"{self.root}/services/svc/1.0/bin/w"
        os.chmod(path, 0o755)
        with open(path, "ab") as f:
            f.write(b"# altered\n")
        os.kill(reply["pid"], signal.SIGKILL)
        wait_until(lambda: self.events(self.client, "refused"))
        self.assertFalse(alive(reply["pid"]))

    def test_tcp_readiness_and_ports(self):
        spec, reply = self.deploy(self.client, {"bin/l": (LISTENER, True)}, ["bin/l"],
                                  ports=["main"], ready={"kind": "tcp", "port": "main"},
                                  env={"DELAY": "0.2"})
        self.assertEqual(reply["state"], "ready", reply)
        port = spec["ports"]["main"]
        self.assertTrue(21000 <= port <= 29999)
        socket.create_connection(("127.0.0.1", port), 5).close()

    def test_never_ready_times_out_and_is_stopped(self):
        spec, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"], ports=["main"],
                                  ready={"kind": "tcp", "port": "main"}, start_timeout=400)
        self.assertEqual(reply["state"], "failed")
        self.assertIn("not ready within 400ms", reply["problem"])
        self.assertIn("refused", reply["health_answer"])
        self.assertEqual([s for s in self.status(self.client) if s["pid"]], [])

    def test_http_and_exec_probes(self):
        server = textwrap.dedent("""\
            #!/usr/bin/python3
            import http.server, os, time
            began = time.time()
            class H(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200 if time.time() - began > 0.3 else 503)
                    self.end_headers()
            http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT_MAIN"])), H).serve_forever()
            """).encode()
        spec, reply = self.deploy(self.client, {"bin/h": (server, True)}, ["bin/h"], ports=["main"],
                                  ready={"kind": "http", "port": "main", "path": "/healthz"})
        self.assertEqual(reply["state"], "ready", reply)
        self.assertGreaterEqual(reply["took"], 300)
        check = b"#!/bin/sh\ntest -e flag || { echo no flag; exit 1; }\n"
        main = b"#!/bin/sh\nsleep 0.3; touch flag; exec sleep 1000\n"
        spec, reply = self.deploy(self.client, {"bin/m": (main, True), "bin/c": (check, True)},
                                  ["bin/m"], version="2.0", index=1,
                                  ready={"kind": "exec", "argv": ["bin/c"]})
        self.assertEqual(reply["state"], "ready", reply)
        _, reply = self.deploy(self.client, {"bin/m": (b"#!/bin/sh\nexec sleep 1000\n", True), "bin/c": (check, True)},
                               ["bin/m"], version="3.0", index=2, start_timeout=500,
                               ready={"kind": "exec", "argv": ["bin/c"]})
        self.assertEqual(reply["health_answer"], "exit status 1: no flag")

    def test_a_port_that_was_taken_meanwhile(self):
        spec = self.deploy(self.client, {"bin/l": (LISTENER, True)}, ["bin/l"], ports=["main"],
                           ready={"kind": "tcp", "port": "main"}, start=False)
        with socket.socket() as thief:
            thief.bind(("127.0.0.1", spec["ports"]["main"]))
            thief.listen()
            reply = self.client.ask("start", instance={"service": "svc", "index": 0},
                                    generation=spec["generation"], caller=CALLER)
        self.assertEqual((reply["state"], reply["port_taken"]), ("failed", ["main"]))

    def test_a_stranger_on_the_port_is_not_readiness(self):
        # The service sleeps; somebody else binds its port after the start.
        spec = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"], ports=["main"],
                           ready={"kind": "tcp", "port": "main"}, start_timeout=800, start=False)
        number = self.client.begin("start", instance={"service": "svc", "index": 0},
                                   generation=spec["generation"], caller=CALLER)
        wait_until(lambda: os.path.exists(self.log_path()))
        with socket.socket() as thief:
            thief.bind(("0.0.0.0", spec["ports"]["main"]))
            thief.listen()
            reply = self.client.finish(number)[0]
        self.assertEqual(reply["state"], "failed", reply)
        self.assertEqual(reply["port_taken"], ["main"])

    def test_fixed_ports(self):
        with socket.socket() as holder:
            holder.bind(("0.0.0.0", 0))
            holder.listen()
            port = holder.getsockname()[1]
            with self.assertRaises(ShimError) as caught:
                self.client.ask("allocate", instance={"service": "svc", "index": 0}, caller=CALLER,
                                ports=[{"name": "main", "fixed": port}], pool_low=21000,
                                pool_high=21010)
            self.assertIn("held by another process", caught.exception.message)
        first = self.client.ask("allocate", instance={"service": "svc", "index": 0}, caller=CALLER,
                                ports=[{"name": "main", "fixed": port}], pool_low=21000,
                                pool_high=21010)
        self.assertEqual(first["ports"], {"main": port})
        with self.assertRaises(ShimError):
            self.client.ask("allocate", instance={"service": "svc", "index": 1}, caller=CALLER,
                            ports=[{"name": "main", "fixed": port}], pool_low=21000, pool_high=21010)

    def test_two_generations_side_by_side(self):
        files = {"bin/l": (LISTENER, True)}
        old, first = self.deploy(self.client, files, ["bin/l"], ports=["main"],
                                 ready={"kind": "tcp", "port": "main"})
        new, second = self.deploy(self.client, files, ["bin/l"], ports=["main"],
                                  ready={"kind": "tcp", "port": "main"})
        self.assertEqual(second["state"], "ready")
        self.assertTrue(alive(first["pid"]) and alive(second["pid"]))
        current = [s["generation"] for s in self.status(self.client) if s["current"]]
        self.assertEqual(current, [new["generation"]])
        self.client.ask("stop", instance={"service": "svc", "index": 0},
                        generation=old["generation"], hold=False, caller=CALLER)
        self.assertFalse(alive(first["pid"]))
        self.assertTrue(alive(second["pid"]))
        self.assertEqual(self.one(self.client)["state"], "ready")

    def test_a_new_generation_that_is_given_up_leaves_the_old_one_current(self):
        # Else a restart after a roll-out was put back started the version that had failed.
        files = {"bin/l": (LISTENER, True)}
        old, first = self.deploy(self.client, files, ["bin/l"], ports=["main"],
                                 ready={"kind": "tcp", "port": "main"})
        new, _ = self.deploy(self.client, files, ["bin/l"], ports=["main"],
                             ready={"kind": "tcp", "port": "main"})
        self.client.ask("stop", instance={"service": "svc", "index": 0},
                        generation=new["generation"], hold=False, caller=CALLER)
        self.assertEqual([s["generation"] for s in self.status(self.client) if s["current"]],
                         [old["generation"]])
        reply = self.client.ask("restart", instance={"service": "svc", "index": 0}, caller=CALLER)
        self.assertEqual((reply["state"], reply["generation"]), ("ready", old["generation"]))
        self.assertFalse(alive(first["pid"]))

    def test_grace_then_kill_for_the_whole_session(self):
        script = textwrap.dedent("""\
            #!/bin/sh
            trap '' TERM
            sleep 1000 &
            echo child $!
            setsid sleep 999 &
            while true; do sleep 1; done
            """).encode()
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], stop_grace=300)
        child = int(read(self.log_path()).split("child ")[1].split()[0])
        began = time.monotonic()
        stopped = self.client.ask("stop", instance={"service": "svc", "index": 0}, hold=True,
                                  caller=CALLER)
        self.assertEqual((stopped["stopped"], stopped["killed"]), (1, True))
        self.assertLess(time.monotonic() - began, 3)
        wait_until(lambda: not alive(child), what="end of the child")
        subprocess.run(["sh", "-c", "for p in /proc/[0-9]*; do "
                        "grep -qa 'sleep.999' $p/cmdline 2>/dev/null && kill -9 ${p#/proc/}; done"],
                       check=False)

    def test_restart_signal_and_reconfigure(self):
        script = b"#!/bin/sh\ntrap 'echo hup' HUP\necho conf: $(cat \"$1\")\nwhile true; do sleep 0.05; done\n"
        conf = f"{self.root}/services/svc/instances/0/generations/1/conf/c.txt"
        spec, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w", conf],
                                  config=[{"path": "c.txt", "mode": "0640", "content": "one"}])
        self.assertEqual(reply["state"], "ready", reply)
        self.assertEqual(stat.S_IMODE(os.stat(conf).st_mode), 0o640)
        instance = {"service": "svc", "index": 0}
        self.client.ask("reconfigure", instance=instance, generation=1, signal=1, caller=CALLER,
                        argv=["bin/w", conf], env={"NEW": "1"}, config=[{"path": "c.txt", "mode": "0600", "content": "two"}])
        wait_until(lambda: " O hup\n" in read(self.log_path()))
        again = self.client.ask("restart", instance=instance, caller=CALLER)
        self.assertEqual(again["state"], "ready")
        self.assertNotEqual(again["pid"], reply["pid"])
        self.assertIn(" O conf: two\n", read(self.log_path()))
        got = self.client.ask("generation", instance=instance)
        self.assertEqual(got["config"][0]["content"], "two")
        self.client.ask("signal", instance=instance, signal=1, caller=CALLER)
        wait_until(lambda: read(self.log_path()).count(" O hup\n") == 2)

    def test_forget(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        follower = self.connect()
        number = follower.begin("logs", instance={"service": "svc", "index": 0}, lines=1, follow=True)
        self.client.ask("forget", instance={"service": "svc", "index": 0}, caller=CALLER)
        self.assertFalse(alive(reply["pid"]))
        self.assertEqual(self.status(self.client), [])
        follower.finish(number)
        self.assertTrue(os.path.exists(self.log_path()))

    def test_old_tokens_are_refused(self):
        self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        instance = {"service": "svc", "index": 0}
        self.client.ask("stop", instance=instance, hold=True, caller={**CALLER, "token": 7})
        with self.assertRaises(ShimError) as caught:
            self.client.ask("start", instance=instance, caller={**CALLER, "token": 6})
        self.assertEqual(caught.exception.code, "locked")
        self.kill_shim()
        client = self.connect()
        with self.assertRaises(ShimError):
            client.ask("start", instance=instance, caller={**CALLER, "token": 6})
        self.assertEqual(client.ask("start", instance=instance,
                                    caller={**CALLER, "token": 7})["state"], "ready")
        client.ask("fence", service="svc", caller={**CALLER, "token": 9})
        self.kill_shim()
        with self.assertRaises(ShimError):
            self.connect().ask("stop", instance=instance, hold=True, caller={**CALLER, "token": 8})

    def test_a_limit_that_cannot_be_applied_is_said(self):
        self.shim("uninstall", "--root", self.root)
        self.before_exec = low_core_limit
        self.install()
        client = self.connect()
        self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"], limit_core=1 << 20, limit_nofile=512)
        said = ["core: 4096 at most, the hard limit of the shim"]
        self.assertEqual(self.one(client)["not_limited"], said)
        self.assertEqual([e["text"] for e in self.events(client, "start") if "not limited" in e["text"]],
                         [f"not limited: {said[0]}"])
        self.assertEqual(client.ask("doctor")["core_hard"], 4096)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_runs_as_another_user(self):
        script = b"#!/bin/sh\nid\ntouch mine\nexec sleep 1000\n"
        spec, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], user="nobody",
                                  config=[{"path": "c", "mode": "0640", "content": "x"}],
                                  limit_nofile=512, limit_core=0, limit_nproc=4000,
                                  limit_memlock=1 << 20, limit_stack=(1 << 64) - 1, umask=0o027)
        self.assertEqual(reply["state"], "ready", reply)
        log = read(self.log_path())
        self.assertIn("uid=65534(nobody)", log)
        self.assertNotIn("root", log.split("groups=")[1].splitlines()[0])
        instance = f"{self.root}/services/svc/instances/0"
        mine = os.stat(instance + "/data/mine")
        self.assertEqual((mine.st_uid, stat.S_IMODE(mine.st_mode)), (65534, 0o640))
        conf = os.stat(instance + "/generations/1/conf/c")
        self.assertEqual((conf.st_uid, conf.st_gid), (0, 65534))
        limits = read(f"/proc/{reply['pid']}/limits")
        self.assertRegex(limits, r"Max open files\s+512")
        self.assertRegex(limits, r"Max processes\s+4000")
        self.assertRegex(limits, r"Max locked memory\s+1048576")
        self.assertRegex(limits, r"Max stack size\s+unlimited")
        self.assertEqual(self.one(self.client).get("not_limited", []), [])
        # The directory is the user's: no link of theirs is followed.
        self.client.ask("stop", instance={"service": "svc", "index": 0}, hold=True, caller=CALLER)
        victim = os.path.join(self.base, "victim")
        open(victim, "w").close()
        os.unlink(self.log_path())
        os.symlink(victim, self.log_path())
        self.client.ask("start", instance={"service": "svc", "index": 0}, caller=CALLER)
        self.assertEqual(os.path.getsize(victim), 0)


SPLICE = {"x86_64": 275, "aarch64": 76}


class Tracer:
    """Holds what a process begins at its first instruction (ptrace(2)). One thread, in a `with`."""
    SEIZE, INTERRUPT, DETACH, EVENTMSG, SYSCALL, CONTINUE = 0x4206, 0x4207, 17, 0x4201, 24, 7
    FORKS = (1, 2, 3)  # PTRACE_EVENT_FORK, VFORK, CLONE
    OPTIONS = sum(1 << event for event in FORKS)

    def __init__(self, pid):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.pid = pid
        self.child = None

    def call(self, what, pid, data):
        if self.libc.ptrace(ctypes.c_long(what), pid, None, ctypes.c_void_p(data)) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        signal.signal(signal.SIGALRM, self.late)
        signal.alarm(60)
        self.call(self.SEIZE, self.pid, self.OPTIONS)
        return self

    def late(self, *_):
        raise AssertionError(f"{self.pid} did not come to what was waited for")

    def next_child(self):
        """Returns once it stands still; the one that began it waits too."""
        while (status := os.waitpid(self.pid, 0)[1]) >> 16 not in self.FORKS:
            self.call(self.CONTINUE, self.pid, os.WSTOPSIG(status))
        child = ctypes.c_ulong()
        self.call(self.EVENTMSG, self.pid, ctypes.addressof(child))
        self.child = child.value
        os.waitpid(self.child, 0)
        return self.child

    def hold(self):
        """Returns once the process itself stands still."""
        self.call(self.INTERRUPT, self.pid, 0)
        os.waitpid(self.pid, 0)

    def step_out_of(self, number):
        """To the end of the next such system call of the process, which is held."""
        for _ in range(2):  # its begin, its end
            self.step(self.pid)
            while read(f"/proc/{self.pid}/syscall").split()[0] != str(number):
                self.step(self.pid)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)  # only then its parent learns of it

    def step(self, pid):
        """To the next begin or end of a system call."""
        self.call(self.SYSCALL, pid, 0)
        if not os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
            raise AssertionError(f"{pid} has ended")

    def __exit__(self, *_):
        signal.alarm(0)
        for pid in filter(None, (self.pid, self.child)):
            try:
                self.call(self.DETACH, pid, 0)
            except OSError as error:  # killed meanwhile
                if error.errno != errno.ESRCH:
                    raise


class Survival(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def test_kill_of_the_shim_leaves_services_and_starts_no_second(self):
        files = {"bin/l": (LISTENER, True)}
        pids = {}
        for index in range(3):
            spec, reply = self.deploy(self.client, files, ["bin/l"], index=index, ports=["main"],
                                      ready={"kind": "tcp", "port": "main"})
            pids[index] = reply["pid"]
        for kill in (self.kill_shim, lambda: self.kill_one("pid"), lambda: self.kill_one("anchor")) * 2:
            kill()
            client = self.connect()
            for index, pid in pids.items():
                status = self.one(client, index=index)
                self.assertEqual((status["pid"], status["state"]), (pid, "ready"))
        # Still supervised: its end is seen, its output kept, and it is restarted.
        socket.create_connection(("127.0.0.1", spec["ports"]["main"]), 5).close()
        wait_until(lambda: "accepted" in read(self.log_path(index=2)))
        os.kill(pids[2], signal.SIGKILL)
        wait_until(lambda: [s for s in self.status(client, index=2)
                            if s["state"] == "ready" and s["pid"] != pids[2]])

    def test_both_killed_between_the_fork_of_a_service_and_its_exec(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        info = self.info()
        with Tracer(info["pid"]) as tracer:
            os.kill(reply["pid"], signal.SIGKILL)
            child = tracer.next_child()
            while os.getsid(child) != child:
                tracer.step(child)
            # It stands still, has let go of the shim's descriptors, and is written down nowhere.
            self.kill_pair()
            self.shim("start", "--root", self.root)
            client = self.connect()
            wait_until(lambda: not alive(child), what="its end")
        status = wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])
        self.assertNotIn(status[0]["pid"], (reply["pid"], child))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_what_runs_in_a_container_under_the_same_name_is_not_its_own(self):
        with tempfile.TemporaryDirectory() as elsewhere:
            with open(os.path.join(elsewhere, "supervise"), "w", encoding="ascii") as f:
                f.write("import time\nprint('there', flush=True)\ntime.sleep(1000)\n")
            begin = 'import os, sys; os.execv(sys.executable, ["clusterctl-shim", "supervise", "--root", sys.argv[1]])'
            container = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-c",
                 'mount -t tmpfs none "$0" && mkdir -p "$1" && cd "$2" && CLUSTERCTL_PID=999999 '
                 'CLUSTERCTL_NAMING="$1/run/naming.sock" exec "$3" -c "$4" "$1"',
                 self.base, self.root, elsewhere, sys.executable, begin], stdout=subprocess.PIPE)
            with container:
                self.assertEqual(container.stdout.readline(), b"there\n")
                self.kill_shim()
                self.connect()
                self.assertIsNone(container.poll())
                container.kill()

    def test_a_start_right_behind_the_kill_of_both_waits_for_what_is_left_of_them(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        info = self.info()
        with Tracer(info["pid"]) as tracer:
            os.kill(reply["pid"], signal.SIGKILL)
            tracer.next_child()  # has all descriptors of the shim, that of the lock too
            self.kill_pair(wait=False)
            start = subprocess.Popen([SHIM, "start", "--root", self.root])
            with self.assertRaises(subprocess.TimeoutExpired):
                start.wait(0.2)
        self.assertEqual(start.wait(30), 0)
        client = self.connect()
        wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])
        mark = f"CLUSTERCTL_NAMING={self.root}/run/naming.sock"
        found = subprocess.run(["grep", "-lsz", "-e", "^" + mark, *glob.glob("/proc/[0-9]*/environ")],
                               stdout=subprocess.PIPE, text=True)
        self.assertEqual(found.stdout.splitlines(), [f"/proc/{self.one(client)['pid']}/environ"])

    @unittest.skipUnless(os.uname().machine in SPLICE, "needs the number of splice(2)")
    def test_lines_on_their_way_are_not_lost_to_those_of_another_that_ended(self):
        script = (b"#!/bin/sh\ntrap 'echo last words; exit 3' USR1\ntrap 'echo on its way' USR2\n"
                  b"echo up\nwhile true; do sleep 0.02; done\n")
        pids = {}
        for service in ("a", "b"):
            _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], service=service)
            pids[service] = reply["pid"]
            wait_until(lambda: "up" in read(self.log_path(service)))
        before = self.info()
        with Tracer(before["pid"]) as tracer:
            tracer.hold()  # before there is anything to move
            os.kill(pids["b"], signal.SIGUSR2)
            tracer.step_out_of(SPLICE[os.uname().machine])  # taken from the pipe, and not in the log
            os.kill(pids["a"], signal.SIGUSR1)
            wait_until(lambda: not alive(pids["a"]))
            tracer.kill()
        wait_until(lambda: self.info()["pid"] not in (0, before["pid"]) and self.answers())
        client = self.connect()
        wait_until(lambda: [s for s in self.status(client, service="a") if s["state"] == "ready"])
        self.assertEqual(read(self.log_path("b")).count("on its way"), 1)
        self.assertEqual(read(self.log_path("a")).count("last words"), 1)
        self.assertEqual(self.events(client, "lost"), [])

    def test_how_a_service_ended_stays_known_over_a_kill(self):
        script = b"#!/bin/sh\ntrap 'exit 9' USR1\nwhile true; do sleep 0.02; done\n"
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"])
        self.kill_one("pid")
        os.kill(reply["pid"], signal.SIGUSR1)
        client = self.connect()
        exits = wait_until(lambda: self.events(client, "exit"))
        self.assertEqual(exits[0]["exit"]["exit_status"], 9)
        # And when it ends while there is no supervisor at all.
        pid = wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])[0]["pid"]
        info = self.info()
        os.kill(info["anchor"], signal.SIGSTOP)
        os.kill(info["pid"], signal.SIGKILL)
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda: not alive(pid))
        os.kill(info["anchor"], signal.SIGCONT)
        wait_until(lambda: self.info()["pid"] != info["pid"] and self.answers())
        client = self.connect()
        exits = wait_until(lambda: self.events(client, "exit")[1:])
        self.assertEqual(exits[0]["exit"].get("exit_status"), 9, exits[0])
        self.assertEqual(self.events(client, "lost"), [])
        status = wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])[0]
        self.assertEqual(status["restarts"], 2)

    def test_a_killed_supervisor_is_back_at_once(self):
        self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        before = self.info()
        began = time.monotonic()
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(self.answers)
        self.assertLess(time.monotonic() - began, 2)
        self.assertEqual(self.info()["anchor"], before["anchor"])

    def test_an_order_to_go_is_not_undone(self):
        before = self.info()
        self.client.ask("shutdown", caller=CALLER)
        wait_until(lambda: not self.info()["running"])
        wait_until(lambda: not alive(before["anchor"]))
        self.shim("start", "--root", self.root)
        os.kill(self.info()["anchor"], signal.SIGTERM)
        wait_until(lambda: not self.info()["running"])

    def test_services_stop_gracefully_when_the_host_goes_down_and_only_then(self):
        script = b"#!/bin/sh\ntrap 'echo bye; exit 0' TERM\necho up\nwhile true; do sleep 0.02; done\n"
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"])
        wait_until(lambda: "up" in read(self.log_path()))
        said = {}
        for answer in ("running", "stopping"):  # of systemctl is-system-running
            path = os.path.join(self.base, answer)
            os.mkdir(path)
            with open(os.path.join(path, "systemctl"), "w", encoding="ascii") as f:
                f.write(f"#!/bin/sh\n[ $1 = is-system-running ] && echo {answer}\n")
            os.chmod(f.name, 0o755)
            said[answer] = dict(os.environ, PATH=path + ":" + os.environ["PATH"])
        self.shim("stop-with-host", "--root", self.root, env=said["running"])
        self.assertTrue(alive(reply["pid"]) and self.info()["running"])
        self.shim("stop-with-host", "--root", self.root, env=said["stopping"])
        self.assertFalse(alive(reply["pid"]) or self.info()["running"])
        self.assertIn("bye", read(self.log_path()))
        self.shim("stop-with-host", "--root", self.root, env=said["stopping"])  # nothing to do
        self.shim("start", "--root", self.root)  # the next boot
        client = self.connect()
        wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])
        stops = [e for e in self.events(client) if e.get("reason") == "the host shuts down"]
        self.assertEqual([e["by"] for e in stops], ["systemd"])

    def test_what_ended_meanwhile_is_started_again(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        self.kill_shim(restart=False)
        os.kill(reply["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(reply["pid"]))
        self.shim("start", "--root", self.root)
        client = self.connect()
        status = wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])
        self.assertNotEqual(status[0]["pid"], reply["pid"])
        # How it ended is known only while init has not reaped it.
        told = self.events(client, "lost") + self.events(client, "exit")
        self.assertEqual([e["pid"] for e in told], [reply["pid"]])
        self.assertEqual((told[0]["alert"], told[0]["version"]), ("crash", "1.0"))
        self.assertEqual(told[0]["exit"]["release_digest"], status[0]["release_digest"])
        self.assertGreater(told[0]["exit"]["at"], "2026")
        self.assertIn(f"up as {reply['pid']} in", "\n".join(told[0]["exit"]["last_lines"]))
        self.assertEqual(status[0]["restarts"], 1)

    def test_a_shim_killed_again_and_again_under_load(self):
        # Kills at random moments of starts and crashes; never two copies, never none for long.
        script = b"#!/bin/sh\nexec sleep 12345.5\n"
        for index in range(4):
            self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], index=index,
                        restart={"when": "always", "backoff_min": 10, "backoff_max": 50,
                                 "limit_count": 1000, "limit_window": 1000})

        def copies():
            found = {}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/environ", "rb") as f:
                        env = f.read().split(b"\0")
                    with open(f"/proc/{pid}/cmdline", "rb") as f:
                        line = f.read()
                except OSError:
                    continue
                mine = (b"CLUSTERCTL_NAMING=" + self.root.encode() + b"/run/naming.sock") in env
                if mine and b"12345.5" in line:
                    name = [e for e in env if e.startswith(b"CLUSTERCTL_INSTANCE=")][0]
                    found.setdefault(name, []).append(int(pid))
            return found

        rng = random.Random(7)
        for _ in range(25):
            for pids in copies().values():
                if rng.random() < 0.5:
                    os.kill(pids[0], signal.SIGKILL)
            time.sleep(rng.random() * 0.03)
            rng.choice((self.kill_shim, lambda: self.kill_one("pid"),
                        lambda: self.kill_one("anchor")))()
            for name, pids in copies().items():
                self.assertEqual(len(pids), 1, (name, pids))
        client = self.connect()
        wait_until(lambda: sum(s["state"] == "ready" for s in client.items("status")) == 4)
        self.assertEqual({n: len(p) for n, p in copies().items()},
                         {f"CLUSTERCTL_INSTANCE=svc/{i}".encode(): 1 for i in range(4)})

    def test_a_start_that_was_not_written_down_makes_no_second_copy(self):
        self.install()
        client = self.connect()
        _, reply = self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"])
        client.ask("stop", instance={"service": "svc", "index": 0}, hold=True, caller=CALLER)
        state = os.path.join(self.root, "shim", "state", "state.json")
        with open(state, "rb") as f:
            stopped = f.read()
        client.ask("start", instance={"service": "svc", "index": 0}, generation=0, caller=CALLER)
        first = self.one(client)["pid"]
        self.kill_shim(restart=False)
        with open(state, "wb") as f:  # as if it had died within a tenth of a second
            f.write(stopped)
        self.shim("start", "--root", self.root)
        client = self.connect()
        client.ask("start", instance={"service": "svc", "index": 0}, generation=0, caller=CALLER)
        self.assertFalse(alive(first) and self.one(client)["pid"] != first)

    def test_helpers_with_sessions_of_their_own_are_not_taken_for_the_service(self):
        # What finds a service by its environment when both processes were killed.
        family = (b"#!/bin/sh\nsetsid sh -c 'echo helper $$; exec sleep 1000' &\n"
                  b"echo main $$\nwait\nexec sleep 1000\n")
        hangs = b"#!/bin/sh\necho probe $$ >>probes\nexec sleep 1000\n"
        probe = {"kind": "exec", "argv": ["bin/hangs"]}
        _, reply = self.deploy(self.client, {"bin/f": (family, True), "bin/hangs": (hangs, True)}, ["bin/f"],
                               live={"probe": probe, "interval": 10, "timeout": 600_000, "failures": 3})
        helper = int(wait_until(lambda: re.search(r"helper (\d+)", read(self.log_path())))[1])
        probes = os.path.join(self.root, "services/svc/instances/0/data/probes")
        wait_until(lambda: os.path.exists(probes) and read(probes))
        for _ in range(2):
            self.kill_shim()
            client = self.connect()
            status = self.one(client)
            self.assertEqual((status["pid"], status["state"], status["restarts"]), (reply["pid"], "ready", 0))
            self.assertTrue(alive(reply["pid"]) and alive(helper))
        # When it has ended itself meanwhile, they do not stand in for it.
        self.kill_shim(restart=False)
        os.kill(reply["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(reply["pid"]))
        self.shim("start", "--root", self.root)
        client = self.connect()
        wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready"])
        self.assertNotIn(self.one(client)["pid"], (reply["pid"], helper))
        wait_until(lambda: not alive(helper))
        for line in read(probes).splitlines():
            if alive(int(line.split()[1])):
                with open(f"/proc/{line.split()[1]}/environ", "rb") as f:  # of the new one, if any
                    self.assertIn(b"CLUSTERCTL_PID=%d\0" % self.one(client)["pid"], f.read())

    def test_an_upgrade_while_the_supervisor_comes_back_keeps_the_anchor(self):
        self.install()
        newer = os.path.join(self.base, "newer")
        shutil.copy(SHIM, newer)
        with open(newer, "ab") as f:
            f.write(b"\0")
        old = self.info()
        os.kill(old["pid"], signal.SIGKILL)
        self.install(binary=newer)
        now = self.info()
        self.assertNotEqual(now["digest"], old["digest"])
        self.assertEqual(now["anchor"], old["anchor"])

    def test_output_written_without_a_shim_is_kept(self):
        script = b"#!/bin/sh\ni=0\nwhile true; do i=$((i+1)); echo line $i; sleep 0.01; done\n"
        self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"])
        for _ in range(3):
            self.kill_shim(restart=False)
            time.sleep(0.3)
            self.shim("start", "--root", self.root)
        time.sleep(0.2)
        lines = [line.split(" O line ")[1] for line in read(self.log_path()).splitlines()]
        numbers = [int(line) for line in lines]
        self.assertEqual(numbers, sorted(set(numbers)))
        # What a supervisor has read and not yet written dies with it: at most a line a kill here.
        self.assertLessEqual(numbers[-1] - len(numbers), 3)
        self.assertGreater(len(numbers), 60)

    def test_a_boot_starts_what_was_wanted(self):
        # A boot, as the shim sees it: another boot id in its state, and nothing of it alive.
        _, running = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        _, held = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"], index=1)
        self.client.ask("stop", instance={"service": "svc", "index": 1}, hold=True, caller=CALLER)
        self.kill_shim(restart=False)
        os.kill(running["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(running["pid"]))
        self.rewrite_state(lambda body: body.update(boot_id="another"))
        self.shim("start", "--root", self.root)
        client = self.connect()
        wait_until(lambda: self.one(client)["state"] == "ready")
        self.assertEqual(self.one(client, index=1)["state"], "stopped")

    def rewrite_state(self, change):
        path = os.path.join(self.root, "shim", "state", "state.json")
        with open(path) as f:
            body = json.load(f)["body"]
        change(body)
        text = json.dumps(body, separators=(",", ":"), sort_keys=True)
        with open(path, "w") as f:
            f.write('{"body":%s,"crc32c":"%08x","format":1,"kind":"state"}\n' % (text, crc32c(text)))

    def test_torn_journal_tail_is_cut_and_said(self):
        journal = os.path.join(self.root, "shim", "journal")
        self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        before = self.events(self.client)
        self.kill_shim(restart=False)
        segment = os.path.join(journal, sorted(os.listdir(journal))[-1])
        with open(segment, "ab") as f:
            f.write(b"0badc0de {\"seq\":99,\"at\":\"2026-")
        self.shim("start", "--root", self.root)
        client = self.connect()
        after = self.events(client)
        self.assertEqual(after[:len(before)], before)
        self.assertTrue(any("torn tail" in e["text"] for e in after))
        self.assertEqual([e["seq"] for e in after], list(range(1, len(after) + 1)))

    def without_state(self, damage):
        """A service with a socket of the shim, one whose older generation is there too, one stopped by order; both
        processes of the shim killed, the state damaged, the shim started. → pids before, a client"""
        files = {"bin/w": (WAITER, True), "bin/l": (LISTENER, True)}
        spec, first = self.deploy(self.client, files, ["bin/l"], ports=[{"name": "main", "socket": True}])
        old, _ = self.deploy(self.client, files, ["bin/w"], index=1)
        _, second = self.new_generation(self.client, old["release_digest"], ["bin/w"], index=1)
        self.client.ask("stop", instance={"service": "svc", "index": 1}, generation=1, hold=False, caller=CALLER)
        self.deploy(self.client, files, ["bin/w"], index=2)
        self.client.ask("stop", instance={"service": "svc", "index": 2}, hold=True, caller=CALLER)
        self.kill_shim(restart=False)
        damage(os.path.join(self.root, "shim", "state", "state.json"))
        self.shim("start", "--root", self.root)
        return {0: first["pid"], 1: second["pid"]}, spec, self.connect()

    def check_made_anew(self, pids, spec, client):
        for index, pid in pids.items():
            status = wait_until(lambda: [s for s in self.status(client, index=index) if s["state"] == "ready"])
            self.assertEqual([s["pid"] for s in status], [pid])
        self.assertEqual(self.status(client, index=1)[-1]["generation"], 2)
        socket.create_connection(("127.0.0.1", spec["ports"]["main"]), 5).close()
        # The disk does not tell that it was stopped: it runs, once, and that is said.
        wait_until(lambda: [s for s in self.status(client, index=2) if s["state"] == "ready"])
        self.assertTrue(any("made anew for 3 instances" in e["text"] for e in self.events(client, "lost")))
        # A new generation takes no number, no port and no file of one that is there.
        fresh = client.ask("allocate", instance={"service": "svc", "index": 1}, caller=CALLER, ports=[],
                           pool_low=21000, pool_high=29999)
        self.assertEqual(fresh["generation"], 3)
        # Supervised as before.
        os.kill(pids[1], signal.SIGKILL)
        wait_until(lambda: [s for s in self.status(client, index=1)
                            if s["state"] == "ready" and s["pid"] not in (0, pids[1])])

    def test_damaged_state_is_put_aside_and_made_anew(self):
        def damage(path):
            with open(path, "r+b") as f:
                f.seek(20)
                f.write(b"X")
        pids, spec, client = self.without_state(damage)
        self.assertTrue(any("checksum" in e["text"] or "JSON" in e["text"]
                            for e in self.events(client, "lost")))
        self.check_made_anew(pids, spec, client)

    def test_a_state_cut_in_half_is_made_anew(self):
        self.check_made_anew(*self.without_state(lambda path: os.truncate(path, os.path.getsize(path) // 2)))

    def test_a_state_that_is_gone_is_made_anew(self):
        self.check_made_anew(*self.without_state(os.unlink))


def crc32c(text):
    value = 0xFFFFFFFF
    for byte in text.encode():
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def low_core_limit():
    """As of a login with such a limit, which may not be raised again."""
    resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(24, 24, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE


def install_filter(code):
    """Of the system calls of this process and its children: seccomp(2), in the instructions of classic BPF."""
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0:
        os.write(2, b"no seccomp filter\n")
        os._exit(126)


def forget_new_calls():
    """What this process and its children ask of the kernel is answered as Linux 4.18 would."""
    new = [424, 434, 435, 436]  # pidfd_send_signal, pidfd_open, clone3, close_range: all machines
    code = [(0x20, 0, 0, 0)]  # the number of the call
    code += [(0x15, len(new) - i, 0, number) for i, number in enumerate(new)]
    install_filter(code + [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | 38)])  # allow, ENOSYS


def wake_ups(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\t(\d+)$", f.read(), re.M)[1])


class OldKernel(Survival):
    """All of Survival without process descriptors."""
    before_exec = staticmethod(forget_new_calls)
    # There a child has a copy of the lock until its exec: nobody starts before.
    test_both_killed_between_the_fork_of_a_service_and_its_exec = None

    def test_the_calls_are_missing(self):
        done = subprocess.run([sys.executable, "-c", "import os; os.pidfd_open(os.getpid())"],
                              capture_output=True, text=True, preexec_fn=forget_new_calls)
        self.assertIn("Function not implemented", done.stderr)
        with open(f"/proc/{self.info()['pid']}/status", encoding="ascii") as f:
            self.assertIn("Seccomp:\t2\n", f.read())

    @staticmethod
    def sleeps(shim):
        before = wake_ups(shim)
        time.sleep(1)
        return wake_ups(shim) - before <= 2

    def test_an_exit_is_seen_without_polling(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        for kill in (None, "pid", "anchor"):
            if kill:
                self.kill_one(kill)
            shim = self.info()["pid"]
            wait_until(lambda: self.sleeps(shim), 30, "a second without polling")
            client = self.connect()
            pid = self.one(client)["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: [s for s in self.status(client) if s["state"] == "ready" and s["pid"] != pid])

    def test_nothing_inherited_reaches_a_service(self):
        self.kill_pair()
        ends = os.pipe()
        os.set_inheritable(ends[1], True)
        subprocess.run([SHIM, "start", "--root", self.root], check=True, pass_fds=[ends[1]],
                       preexec_fn=forget_new_calls)
        os.close(ends[1])
        client = self.connect()
        _, reply = self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"])
        pipe = os.stat(ends[0]).st_ino
        for fd in os.listdir(f"/proc/{reply['pid']}/fd"):
            self.assertNotEqual(os.stat(f"/proc/{reply['pid']}/fd/{fd}").st_ino, pipe)
        os.close(ends[0])


def forget_group_signals():
    """pidfd_send_signal(2) with flags is answered as by Linux 5.3 to 6.8."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 2, 424),                    # the number of the call
            (0x20, 0, 0, 40), (0x15, 0, 1, 0),                     # its flags
            (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | 22)]  # allow, EINVAL
    install_filter(code)


def fork_as(pid):
    """fork(2) of a child with this pid (clone3(2)): what the kernel does when pids go round."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_int * 1)(pid)
    arguments = (ctypes.c_uint64 * 11)()
    arguments[4], arguments[8], arguments[9] = signal.SIGCHLD, ctypes.addressof(numbers), 1
    child = libc.syscall(435, arguments, ctypes.sizeof(arguments))
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    return child


class Groups(ShimTest):
    """Signals to the groups of leaders that the supervisor did not begin itself."""
    FAMILY = textwrap.dedent("""\
        #!/bin/sh
        member() { trap 'echo told $1' TERM; echo up $1; while true; do sleep 0.02; done; }
        member 1 & member 2 &
        trap 'echo told 0; exit 0' TERM
        echo up 0
        while true; do sleep 0.02; done
        """).encode()

    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def stop(self, client):
        return client.begin("stop", instance={"service": "svc", "index": 0}, hold=True,
                            generation=0, caller=CALLER)

    def test_a_stop_reaches_all_of_a_group_that_was_taken_over(self):
        self.deploy(self.client, {"bin/f": (self.FAMILY, True)}, ["bin/f"], stop_grace=1000)
        wait_until(lambda: all(f"up {i}" in read(self.log_path()) for i in range(3)))
        pid = self.one(self.client)["pid"]
        self.kill_one("pid")
        client = self.connect()
        reply = client.finish(self.stop(client))[0]
        self.assertEqual(reply["stopped"], 1)
        for i in range(3):
            self.assertIn(f"told {i}", read(self.log_path()))
        with self.assertRaises(ProcessLookupError):
            os.killpg(pid, 0)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to choose a pid")
    def test_a_pid_that_is_given_out_again_is_not_signalled(self):
        _, reply = self.deploy(self.client, {"bin/w": (WAITER, True)}, ["bin/w"])
        self.kill_one("pid")
        client = self.connect()
        info = self.info()
        os.kill(info["pid"], signal.SIGSTOP)
        try:
            number = self.stop(client)  # it will see this first
            os.kill(reply["pid"], signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{reply['pid']}"))  # the anchor reaps
            stranger = fork_as(reply["pid"])
            if stranger == 0:
                os.setsid()
                signal.pause()
                os._exit(0)
            wait_until(lambda: os.getsid(stranger) == stranger)
        finally:
            os.kill(info["pid"], signal.SIGCONT)
        client.finish(number)
        self.assertEqual(os.waitpid(stranger, os.WNOHANG), (0, 0))
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


class GroupsBeforeLinux69(Groups):
    before_exec = staticmethod(forget_group_signals)


class GroupsBeforeLinux53(Groups):
    before_exec = staticmethod(forget_new_calls)


@unittest.skipUnless(os.geteuid() == 0, "needs root to become a plain user")
class PlainUser(ShimTest):
    """The shim as a login that is not root, with a ROOT of its own."""
    UID = 65534

    def setUp(self):
        super().setUp()
        home = os.path.join(self.base, "home")
        os.mkdir(home, 0o700)
        os.chown(home, self.UID, self.UID)
        self.root = os.path.join(home, ".clusterctl")
        self.binary = os.path.join(self.base, "clusterctl-shim")
        shutil.copy(SHIM, self.binary)
        os.chmod(self.binary, 0o755)

    def shim(self, *args, check=True, binary=None):
        done = subprocess.run([binary or self.binary, *args], capture_output=True, text=True,
                              timeout=120, user=self.UID, group=self.UID, extra_groups=[],
                              cwd="/", env={"PATH": "/usr/bin:/bin"})
        if check and done.returncode != 0:
            raise AssertionError(f"{args}: exit {done.returncode}: {done.stderr}")
        return done

    def test_runs_services_as_itself_and_as_nobody_else(self):
        self.install(binary=self.binary)
        client = self.connect()  # root is let in
        _, reply = self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"])
        self.assertEqual(reply["state"], "ready", reply)
        self.assertEqual(os.stat(f"/proc/{reply['pid']}").st_uid, self.UID)
        with self.assertRaises(ShimError) as caught:
            self.new_generation(client, self.one(client)["release_digest"], ["bin/w"], user="daemon")
        self.assertEqual(caught.exception.code, "refused")
        self.assertIn("become: sudo", caught.exception.message)
        self.kill_shim()
        client = self.connect()
        self.assertEqual(self.one(client)["pid"], reply["pid"])
        os.kill(reply["pid"], signal.SIGKILL)
        wait_until(lambda: [s for s in self.status(client)
                            if s["state"] == "ready" and s["pid"] != reply["pid"]])

    def test_a_root_it_may_not_write_is_said_in_one_line(self):
        self.root = os.path.join(self.base, "forbidden")
        done = self.install(binary=self.binary, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Permission denied", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)


class NoSockets(ShimTest):
    """Sockets that cannot be bound keep no service from being supervised."""
    TELLER = textwrap.dedent("""\
        #!/usr/bin/python3
        import os, socket, time
        name = os.environ["NOTIFY_SOCKET"]
        def tell(text):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                try:
                    s.sendto(text, "\\0" + name[1:] if name[0] == "@" else name)
                except ConnectionRefusedError:
                    pass
        tell(b"READY=1\\nSTATUS=told " + name.encode())
        while True:
            time.sleep(0.1)
            tell(b"WATCHDOG=1")
        """).encode()
    LIVE = {"probe": {"kind": "notify"}, "interval": 1000, "timeout": 1000, "failures": 3}

    def socket_paths(self):
        return [os.path.join(self.root, "run", name + ".sock")
                for name in ("control", "naming", "notify")]

    def two_services(self, client):
        self.deploy(client, {"bin/w": (WAITER, True)}, ["bin/w"])
        self.deploy(client, {"bin/t": (self.TELLER, True)}, ["bin/t"], service="teller",
                    ready={"kind": "notify"}, live=self.LIVE)
        return self.pids_of(client)

    def pids_of(self, client):
        return {s["service"]: s["pid"] for s in client.items("status") if s["state"] == "ready"}

    def kill_all(self, pids):
        """As a boot finds it, but for the sockets."""
        self.kill_pair()
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids.values()))

    def processes(self):
        """Pids by service of what runs with this ROOT's environment."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    words = dict(w.split(b"=", 1) for w in f.read().split(b"\0") if b"=" in w)
            except OSError:
                continue
            if words.get(b"CLUSTERCTL_NAMING", b"").decode() == self.socket_paths()[1] and alive(int(pid)):
                found.setdefault(words[b"CLUSTERCTL_SERVICE"].decode(), []).append(int(pid))
        return found

    def start_deaf(self, why):
        done = self.shim("start", "--root", self.root, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the shim runs, but nobody can talk to it: " + os.path.dirname(self.control()), done.stderr)
        self.assertIn(why, done.stderr)
        info = self.info()
        self.assertTrue(info["running"])
        self.assertIn(why, info["problem"])
        relay = self.shim("relay", "--root", self.root, check=False)
        self.assertEqual(relay.returncode, 69)
        self.assertIn(f"runs (pid {info['pid']}), but nobody can talk to it", relay.stderr)
        # It is the only one all the same; the boot hook asks each minute.
        self.assertEqual(self.shim("start", "--root", self.root).stdout, "")
        self.assertEqual(self.info()["pid"], info["pid"])
        return info

    def check_all_well(self, info, ready=("svc", "teller")):
        client = wait_until(lambda: os.path.exists(self.control()) and self.answers() and self.connect())
        wait_until(lambda: set(self.pids_of(client)) == set(ready))
        self.assertEqual((self.info()["pid"], self.info().get("problem")), (info["pid"], None))
        pids = self.pids_of(client)
        self.assertEqual({name: [pid] for name, pid in pids.items()}, self.processes())
        return client, pids

    def test_something_else_at_their_paths(self):
        self.install()
        before = self.two_services(self.connect())
        self.kill_all(before)
        for path in self.socket_paths():
            os.unlink(path)
            os.makedirs(os.path.join(path, "in the way"))
        info = self.start_deaf("Is a directory")
        found = wait_until(lambda: len(self.processes()) == 2 and self.processes())
        os.kill(found["svc"][0], signal.SIGKILL)  # it is supervised
        wait_until(lambda: self.processes().get("svc", found["svc"]) != found["svc"])
        # One after the other, so that what is missing is said by what is there.
        shutil.rmtree(self.control())
        client, pids = self.check_all_well(info)
        status = self.one(client, service="teller")
        self.assertEqual(status["status_text"], "told @" + self.socket_paths()[2])
        problems = client.ask("doctor")["problems"]
        self.assertEqual(len([p for p in problems if "this socket is not open" in p]), 2, problems)
        for path in self.socket_paths()[1:]:
            shutil.rmtree(path)
        wait_until(lambda: not client.ask("doctor").get("problems"))
        lost = [e["text"] for e in self.events(client, "lost")]
        self.assertEqual(len([t for t in lost if "tried again each second" in t]), 3, lost)
        self.assertEqual(len([e for e in self.events(client, "healthy") if "is open now" in e["text"]]), 3)
        # Who began meanwhile is still heard, by this supervisor and the next ones; a new start
        # finds the socket at its path.
        self.kill_one("pid")
        self.kill_one("anchor")
        self.kill_shim()
        time.sleep(self.LIVE["interval"] * self.LIVE["failures"] / 1000)
        client = self.connect()
        self.assertEqual(self.pids_of(client), pids)
        self.assertEqual(self.events(client, "unhealthy"), [])
        client.ask("restart", instance={"service": "teller", "index": 0}, caller=CALLER)
        self.assertEqual(self.one(client, service="teller")["status_text"],
                         "told " + self.socket_paths()[2])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small disk")
    def test_no_inode_is_left(self):
        small = os.path.join(self.base, "small")
        os.mkdir(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,nr_inodes=300", "none", small], check=True)
        try:
            self.root = os.path.join(small, "r")
            self.install()
            self.kill_all(self.two_services(self.connect()))
            shutil.rmtree(os.path.join(self.root, "run"))
            fillers = []
            with self.assertRaises(OSError):
                while True:
                    with open(os.path.join(small, str(len(fillers))), "wb") as f:
                        fillers.append(f.name)
            info = self.start_deaf("No space left on device")
            wait_until(lambda: len(self.processes()) == 2)
            for path in fillers:
                os.unlink(path)
            self.check_all_well(info)
        finally:
            self.shim("uninstall", "--root", self.root, "--stop-services", check=False)
            subprocess.run(["umount", "-l", small], check=True)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount")
    def test_the_disk_becomes_read_only(self):
        self.install()
        self.connect()
        before = self.two_services(self.clients[0])
        wait_until(lambda: "up as" in read(self.log_path()))
        subprocess.run(["mount", "--bind", self.root, self.root], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", self.root], check=True)
            old = self.info()
            os.kill(old["pid"], signal.SIGKILL)
            info = wait_until(lambda: "Read-only" in self.info().get("problem", "") and self.info())
            self.assertEqual(info["anchor"], old["anchor"])
            os.kill(before["svc"], signal.SIGKILL)
            wait_until(lambda: self.processes().get("svc", [before["svc"]]) != [before["svc"]])
            self.assertEqual(self.processes()["teller"], [before["teller"]])
        finally:
            subprocess.run(["umount", "-l", self.root], check=True)
        client, _ = self.check_all_well(info)
        wait_until(lambda: [e for e in self.events(client, "lost")
                            if "events could not be written and are lost" in e["text"]])


class Output(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def logs(self, lines, client=None):
        client = client or self.client
        return client.finish(client.begin("logs", instance={"service": "svc", "index": 0},
                                          lines=lines))[2].decode()

    def test_tail_rotation_and_follow(self):
        script = b"#!/bin/sh\nfor i in $(seq 1 3000); do echo line number $i; done\nexec sleep 1000\n"
        self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], log_max_size=40000, log_keep=2)
        wait_until(lambda: "number 3000" in self.logs(1))
        names = sorted(os.listdir(os.path.dirname(self.log_path())))
        self.assertEqual(len(names), 3, names)
        for name in names:
            self.assertLessEqual(os.path.getsize(os.path.join(os.path.dirname(self.log_path()), name)),
                                 40000 + 65536 * 2)
        tail = self.logs(1200).splitlines()
        self.assertEqual([t.split(" ")[-1] for t in tail], [str(i) for i in range(1801, 3001)])
        self.assertRegex(tail[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z O line number 1801$")

    def test_follow_goes_through_rotation(self):
        script = b"#!/bin/sh\nwhile read x; do for i in $(seq 1 500); do echo $x $i; done; done < fifo\n"
        main = b"#!/bin/sh\nmkfifo fifo\nexec 3<>fifo\nwhile read x <&3; do for i in $(seq 1 500); do echo $x $i; done; done\n"
        del script
        self.deploy(self.client, {"bin/w": (main, True)}, ["bin/w"], log_max_size=8000, log_keep=50)
        follower = self.connect()
        number = follower.begin("logs", instance={"service": "svc", "index": 0}, lines=0, follow=True)
        fifo = f"{self.root}/services/svc/instances/0/data/fifo"
        wait_until(lambda: os.path.exists(fifo))
        with open(fifo, "w") as f:
            f.write("a\nb\nc\n")
        got = b""
        while b" c 500\n" not in got:
            kind, payload = follower.frame_of(number)
            self.assertEqual(kind, DATA)
            got += payload
        lines = [line.split(" O ")[1] for line in got.decode().splitlines()]
        self.assertEqual(lines, [f"{x} {i}" for x in "abc" for i in range(1, 501)])
        follower.send(CANCEL, number)
        self.assertEqual(follower.ask("hello", protocol=1, client="x")["protocol"], 1)

    def test_a_reader_that_does_not_read_costs_little_and_blocks_nobody(self):
        script = b"#!/bin/sh\nexec yes 0123456789012345678901234567890123456789\n"
        self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"], log_max_size=50_000_000)
        lazy = self.connect()
        lazy.begin("logs", instance={"service": "svc", "index": 0}, lines=1000000, follow=True)
        time.sleep(1.5)
        with open(f"/proc/{self.shim_pid()}/statm") as f:
            resident = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        self.assertLess(resident, 64 << 20)
        began = time.monotonic()
        self.client.ask("hello", protocol=1, client="x")
        self.assertLess(time.monotonic() - began, 1)

    def test_odd_output(self):
        script = (b"#!/bin/sh\nprintf 'no newline'\nprintf '\\377\\000\\001bin\\n' >&2\n"
                  b"head -c 100000 /dev/zero | tr '\\0' x\nexit 1\n")
        _, reply = self.deploy(self.client, {"bin/w": (script, True)}, ["bin/w"])
        self.assertEqual(reply["state"], "failed")
        self.assertTrue(any(line.startswith("no newline") for line in reply["exit"]["last_lines"]))
        self.assertLess(max(map(len, reply["exit"]["last_lines"])), 600)


class Acceptor(ShimTest):
    def ask(self, client, act, **fields):
        return client.ask("acceptor", act=act, id=7, **fields)

    def founded(self, client):
        """The acceptor takes part in a registry of which it is the only member."""
        uuid = self.ask(client, "identity")["acceptor"]
        member = {"cluster": "c1", "epoch": "1.1", "now": {"members": [{"host": "host1", "acceptor": uuid}]}}
        reply = self.ask(client, "install", acceptor=uuid, membership=member)
        self.assertEqual(reply.get("refusal", "none"), "none", reply)
        return uuid

    def accept(self, client, uuid, counter, value, key="lock/x"):
        return self.ask(client, "accept", acceptor=uuid, epoch="1.1", key=key, ballot=f"{counter}:" + "0" * 31 + "1",
                        state={"revision": counter, "value": value})

    def test_what_it_accepted_survives_every_end_of_the_shim(self):
        self.install()
        client = self.connect()
        uuid = self.founded(client)
        self.assertNotIn("refusal", self.accept(client, uuid, 5, {"a": 1}))
        self.assertEqual(self.accept(client, uuid, 4, {"a": 2})["refusal"], "lower-ballot")
        self.kill_shim()
        client = self.connect()
        hello = client.ask("hello", protocol=2, client="test")
        self.assertEqual((hello["acceptor"], hello["membership"]["cluster"]), (uuid, "c1"))
        reply = self.ask(client, "read", acceptor=uuid, epoch="1.1", key="lock/x")
        self.assertEqual(reply["state"]["value"], {"a": 1})
        self.assertEqual(self.accept(client, uuid, 4, {"a": 2})["refusal"], "lower-ballot")

    def test_a_damaged_log_serves_nothing_and_is_told(self):
        self.install()
        client = self.connect()
        uuid = self.founded(client)
        for counter in (5, 6, 7):
            self.accept(client, uuid, counter, {"a": counter})
        self.kill_shim()
        path = os.path.join(self.root, "shim", "acceptor", "1.log")
        with open(path, "r+b") as f:
            f.seek(60)
            byte = f.read(1)
            f.seek(60)
            f.write(bytes([byte[0] ^ 1]))
        self.kill_shim()
        client = self.connect()
        reply = self.ask(client, "read", acceptor=uuid, epoch="1.1", key="lock/x")
        self.assertEqual(reply["refusal"], "not-serving")
        self.assertIn("1.log", reply["why"])
        self.assertIn("1.log", client.ask("hello", protocol=2, client="test")["registry_problem"])
        self.assertIn("1.log", client.ask("doctor")["registry_problem"])

    def test_clients_that_knew_one_acceptor_are_told_to_be_replaced(self):
        self.install()
        client = self.connect()
        client.ask("hello", protocol=1, client="old")
        with self.assertRaisesRegex(Exception, "newer"):
            client.ask("register-write", key="lock/x", expected=0, value={"a": 1})

    def test_many_requests_at_once_share_a_sync_and_are_all_answered(self):
        self.install()
        client = self.connect()
        uuid = self.founded(client)
        for counter in range(1, 200):
            self.accept(client, uuid, counter, {"n": counter}, key=f"k/{counter % 7}")
        self.assertEqual(self.ask(client, "identity")["registers"], 7)


class Naming(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()
        self.client = self.connect()

    def push(self, revision, port, service="solver"):
        endpoints = [{"instance": f"{service}/0", "host": "host1", "address": "10.0.0.1",
                      "ports": {"main": port}, "version": "1", "state": "ready"}]
        self.client.ask("names-push", services=[{"service": service, "revision": revision,
                                                 "endpoints": endpoints}])
        return endpoints

    def naming(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(os.path.join(self.root, "run", "naming.sock"))
        return s, s.makefile("rw")

    def registry(self):
        with open(os.path.join(self.root, "registry", "registry.json")) as f:
            return json.load(f)

    def test_files_resolve_and_watch(self):
        s, f = self.naming()
        f.write('{"watch":"solver"}\n')
        f.flush()
        first = json.loads(f.readline())
        self.assertEqual((first["revision"], first["known"]), (0, False))
        endpoints = self.push(3, 21000)
        self.assertEqual(json.loads(f.readline()),
                         {"format": 1, "service": "solver", "revision": 3, "endpoints": endpoints})
        self.push(2, 9)  # lower: passed over
        self.push(4, 21001)
        self.assertEqual(json.loads(f.readline())["revision"], 4)
        s.close()
        s, f = self.naming()
        f.write('{"resolve":"solver"}\n')
        f.flush()
        self.assertEqual(json.loads(f.readline())["revision"], 4)
        s.close()
        wait_until(lambda: self.registry()["services"].get("solver", {}).get("revision") == 4)
        registry = self.registry()
        self.assertEqual((registry["format"], registry["cluster"]), (1, "demo"))
        self.assertGreater(registry["generation"], 0)
        self.kill_shim()
        self.client = self.connect()
        names = self.client.ask("names")
        self.assertEqual([(n["service"], n["revision"]) for n in names["services"]], [("solver", 4)])

    def test_hostile_lines(self):
        for line in (b"not json\n", b'{"resolve":5}\n', b'{"watch":"../../etc"}\n', b"[]\n",
                     b'{"x":1}\n', b"\xff\xfe\n", b"x" * 100000, b"[" * 5000 + b"\n"):
            s, _ = self.naming()
            try:
                s.sendall(line)
                answer = s.recv(4096)
                self.assertIn(b"error", answer, line[:40])
                while s.recv(4096):
                    pass
            except ConnectionError:
                pass
            s.close()
        self.assertEqual(self.client.ask("hello", protocol=1, client="x")["protocol"], 1)

    def test_a_line_that_cannot_be_taken_gets_a_plain_reason(self):
        long = b'{"resolve":"' + b"s" * 5000 + b'"}'
        for parts, why in (([long + b"\n"], "a line has at most 4096 bytes"), ([long], "a line has at most 4096 bytes"),
                           ([long[:4000], long[4000:] + b"\n"], "a line has at most 4096 bytes"),
                           ([b"nonsense\n"], "not JSON at byte 2: ")):
            s, f = self.naming()
            for part in parts:
                s.sendall(part)
            answer = json.loads(f.readline())["error"]
            self.assertEqual(answer["code"], "bad-input")
            self.assertIn(why, answer["message"])
            self.assertNotIn("exception", answer["message"])
            s.close()
        # Blank lines are nothing.
        s, f = self.naming()
        s.sendall(b"\n  \r\n" + b'{"resolve":"solver"}\n')
        self.assertEqual(json.loads(f.readline())["service"], "solver")
        s.close()

    def test_many_idle_watchers_and_changes(self):
        watchers = []
        for _ in range(100):
            s, f = self.naming()
            f.write('{"watch":"solver"}\n')
            f.flush()
            watchers.append((s, f))
        for _, f in watchers:
            f.readline()
        for revision in range(1, 21):
            self.push(revision, 21000 + revision)
        for s, f in watchers:
            while json.loads(f.readline())["revision"] < 20:
                pass
            s.close()


class Hostile(ShimTest):
    def setUp(self):
        super().setUp()
        self.install()

    def raw(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        while True:
            try:
                s.connect(self.control())
                return s
            except BlockingIOError:  # its backlog is full
                time.sleep(0.01)

    def drain(self, s):
        got = b""
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    return got
                got += more
        except ConnectionError:
            return got

    def test_broken_frames_end_the_connection_with_a_reason(self):
        head = struct.Struct(">IBI")
        for data in (head.pack(5, 99, 1) + b"xxxxx", head.pack(1 << 31, 1, 1),
                     head.pack(5, 2, 1) + b"xxxxx", head.pack(2, 1, 0) + b"{}",
                     head.pack(1, 5, 1) + b"x", b"GET / HTTP/1.1\r\n\r\n"):
            s = self.raw()
            s.sendall(data)
            self.assertIn(b"broken stream", self.drain(s), data[:20])
            s.close()
        self.connect()

    def test_bad_requests_are_answered(self):
        client = self.connect()
        for payload in (b"", b"nonsense", b"[1]", b"{}", b'{"op":5}', b'{"op":"none"}',
                        b'{"op":"start"}', b'{"op":"start","instance":{"service":"../x","index":0},'
                        b'"caller":{"by":"","reason":""}}', b'{"op":"status","op":"status"}',
                        b'{"op":"acceptor","act":"read","key":' + b'"k' * 1 + b'\xff"}',
                        b"[" * 100000, b'{"op":"push","service":"s","version":"1","digest":"","files":[]}',
                        b'{"op":"allocate","instance":{"service":"s","index":-1},"ports":[],'
                        b'"pool_low":1,"pool_high":2,"caller":{"by":"","reason":""}}'):
            number = client.next_id
            client.next_id += 1
            client.send(REQUEST, number, payload)
            with self.assertRaises(ShimError, msg=payload[:60]):
                client.finish(number)
        self.assertEqual(client.ask("hello", protocol=1, client="x")["protocol"], 1)
        with self.assertRaises(ShimError) as caught:
            client.ask("hello", protocol=0, client="0.0")
        self.assertIn("newer clusterctl", caught.exception.message)

    def test_random_bytes(self):
        rng = random.Random(3)
        for i in range(300):
            s = self.raw()
            data = bytearray(rng.randbytes(rng.randrange(1, 400)))
            if i % 2:
                data[:9] = struct.pack(">IBI", len(data) - 9 if len(data) > 9 else 0,
                                       rng.randrange(1, 7), rng.randrange(3))
            try:
                s.sendall(bytes(data))
            except ConnectionError:
                pass
            s.close()
        client = self.connect()
        with open(f"/proc/{self.shim_pid()}/statm") as f:
            self.assertLess(int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE"), 64 << 20)
        self.assertEqual(client.ask("hello", protocol=1, client="x")["protocol"], 1)

    def resident(self):
        with open(f"/proc/{self.shim_pid()}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def test_mutated_bytes_on_every_socket(self):
        rng = random.Random(4)
        requests = [json.dumps({"op": op, "instance": {"service": "svc", "index": 0},
                                "caller": CALLER, "service": "svc", "lines": 9, "follow": True,
                                "key": "k", "prefix": "", "services": [], "name": "x"}).encode()
                    for op in ("hello", "status", "logs", "events", "names", "stop", "forget",
                               "register-read", "acceptor", "names-push", "doctor", "cores")]
        samples = {
            "control.sock": [struct.pack(">IBI", len(r), REQUEST, 1) + r for r in requests],
            "naming.sock": [b'{"resolve":"svc"}\n', b'{"watch":"svc"}\n' * 3],
            "notify.sock": [b"READY=1\nSTATUS=fine\n", b"WATCHDOG=1"]}
        before = pid = None
        for i in range(1500):
            name = rng.choice(list(samples))
            data = bytearray(rng.choice(samples[name]))
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(len(data) + 1)
                data[at:at + rng.randrange(3)] = rng.choice(
                    [rng.randbytes(rng.randrange(1, 9)), b"", b"[" * rng.randrange(200), b"\n",
                     b"99999999999999999999", bytes(data[:at])])
            kind = socket.SOCK_DGRAM if name == "notify.sock" else socket.SOCK_STREAM
            with socket.socket(socket.AF_UNIX, kind) as s:
                s.settimeout(5)
                try:
                    s.connect(os.path.join(self.root, "run", name))
                    s.sendall(bytes(data[:4000]) if name == "notify.sock" else bytes(data))
                except OSError:  # hung up on, or its backlog is full
                    pass
            if i == 300:
                wait_until(self.answers)
                before, pid = self.resident(), self.shim_pid()
        wait_until(self.answers)
        self.assertEqual(self.shim_pid(), pid)
        self.assertLess(self.resident(), before + (16 << 20))

    def test_data_that_nobody_asked_for_ends_a_push_and_nothing_else(self):
        pid = self.shim_pid()
        client = self.connect()
        content = os.urandom(30 << 20)  # copied from version 1 in several turns of the loop
        client.push("svc", "1", {"big": (content, False), "a": (b"a", False)})
        entries = [{"path": p, "sha256": sha256(c), "size": len(c), "executable": False}
                   for p, c in (("big", content), ("b", b"b"))]
        request = json.dumps({"op": "push", "service": "svc", "version": "2",
                              "digest": release_digest(entries), "files": entries}).encode()
        client.socket.sendall(struct.pack(">IBI", len(request), REQUEST, 9) + request +
                              struct.pack(">IBI", 3, DATA, 9) + b"abc" +
                              struct.pack(">IBI", 0, END, 9))
        with self.assertRaises(ShimError):
            client.finish(9)
        self.assertTrue(self.answers())
        self.assertEqual(self.shim_pid(), pid)

    def test_many_connections(self):
        crowd = [self.raw() for _ in range(300)]
        time.sleep(0.1)
        for s in crowd:
            s.close()
        wait_until(self.answers)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_strangers_are_turned_away(self):
        code = textwrap.dedent(f"""\
            import os, socket
            os.setgid(65534); os.setuid(65534)
            s = socket.socket(socket.AF_UNIX)
            s.connect({self.control()!r})
            print(s.recv(4096)[9:].decode())
            """)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertIn("refused", said.stdout, said.stderr)
        n = socket.socket(socket.AF_UNIX)
        n.connect(os.path.join(self.root, "run", "naming.sock"))
        n.close()


@unittest.skipUnless(os.path.exists(SHIM), "clusterctl-shim is not built")
class Binary(unittest.TestCase):
    def test_is_static_and_small(self):
        said = subprocess.run(["ldd", SHIM], capture_output=True, text=True)
        self.assertIn("not a dynamic", said.stdout + said.stderr)
        self.assertLess(os.path.getsize(SHIM), 4 << 20)


if __name__ == "__main__":
    unittest.main()
