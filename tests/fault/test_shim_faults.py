#!/usr/bin/env python3
"""Kills every process of the shim at random points, under load, and checks what must hold.

FAULT_SECONDS: for how long each test goes on (default 20). FAULT_SEED: of the random choices.
FAULT_KEEP: a directory to which the journal and the acts of a failed test are copied.
"""

import collections
import datetime
import glob
import gzip
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from test_shim import CALLER, SHIM, Client, ShimError, ShimTest, sha256, wait_until  # noqa: E402

SECONDS = float(os.environ.get("FAULT_SECONDS", "20"))
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 31))
KEEP = os.environ.get("FAULT_KEEP")
LAST_EVENTS = 40
ORPHANED = 1.5  # seconds after the end of an anchor within which an exit may have gone unseen
GONE = (OSError, EOFError, TimeoutError, ConnectionError)

# Writes numbered lines to both streams, and counts them in a file that outlives it: what the count
# says was written must be in the log. MODE: how it ends by itself.
WRITER = textwrap.dedent("""\
    #!/usr/bin/python3 -IS
    import mmap, os, random, signal, struct, time
    with open("/proc/self/stat") as f:
        ticks = f.read().rsplit(")", 1)[1].split()[19]
    run = f"{os.getpid()}.{ticks}"
    first = not any(name.startswith("run.") for name in os.listdir())  # has yet to become ready
    counts = os.open(f"run.{run}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(counts, 8)
    counts = mmap.mmap(counts, 8)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    rng = random.Random(run)
    crashes = os.environ["CRASHES"] == "1"
    if os.environ["CHILD"] == "1" and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    ends_at = time.monotonic() + 2 * first + rng.expovariate(1.5) if crashes else float("inf")
    burst, pause = int(os.environ["BURST"]), float(os.environ["PAUSE"])
    out = err = 0
    while not ended:
        for _ in range(rng.randrange(1, 2 * burst)):
            out += 1
            os.write(1, b"%s %d\\n" % (run.encode(), out))
            struct.pack_into("I", counts, 0, out)
            if rng.randrange(3) == 0:
                err += 1
                os.write(2, b"%s %d\\n" % (run.encode(), err))
                struct.pack_into("I", counts, 4, err)
        if time.monotonic() > ends_at:
            how = rng.randrange(4)
            if how == 0:
                os._exit(3)
            if how == 1:
                os._exit(0)
            os.kill(os.getpid(), [signal.SIGKILL, signal.SIGUSR1][how - 2])
        time.sleep(rng.random() * pause)
    """).encode()


class Kind:
    def __init__(self, burst=10, pause=0.02, crashes=False, child=False, **spec):
        self.env = {"BURST": str(burst), "PAUSE": str(pause), "CRASHES": str(int(crashes)),
                    "CHILD": str(int(child)), "LANG": "C"}
        self.spec = spec


SERVICES = {
    "fast-a": Kind(burst=60), "fast-b": Kind(burst=60), "rotating": Kind(burst=60, log_max_size=60000),
    "crash-a": Kind(crashes=True), "crash-b": Kind(crashes=True, log_max_size=20000),
    "crash-child": Kind(crashes=True, child=True), "ordered": Kind(burst=20),
    "ordered-child": Kind(burst=20, child=True, stop_grace=200),  # the child hears no TERM
}
ORDERED = ("ordered", "ordered-child")

CRC = []
for value in range(256):
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    CRC.append(value)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC[(value ^ byte) & 255] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def log_texts(directory):
    """→ (name, content) of a service's log files, oldest first, while some are being compressed."""
    stem_length = len("2026-11-23T10:00:00.123Z-000000")
    while True:
        files = {}
        for name in sorted(os.listdir(directory)):
            if name.endswith((".log.gz", ".log")):
                files[name[:stem_length]] = name  # of the two of one stem the file itself
        try:
            found = []
            for name in [*files.values(), "current"]:
                text = read_bytes(os.path.join(directory, name))
                found.append((name, gzip.decompress(text) if name.endswith(".gz") else text))
            return found
        except FileNotFoundError:
            continue  # compressed meanwhile


def read_bytes(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def stat_of(pid):
    """→ (state, parent, session, start ticks), or None when there is no such process."""
    text = read_bytes(f"/proc/{pid}/stat")
    if b")" not in text:
        return None
    fields = text.rsplit(b")", 1)[1].split()
    return fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19])


def lives(pid, ticks=None):
    stat = stat_of(pid)
    return stat is not None and stat[0] not in "ZX" and ticks in (None, stat[3])


def kill(pid, number=signal.SIGKILL):
    """Once it returns the process has ended, where the signal ends it: until then it looks alive."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(handle, number)
        if number == signal.SIGKILL:
            select.select([handle], [], [], 10)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


class JournalFiles:
    """The journal as it lies on the disk, read as it grows; what it holds is checked on the way."""

    def __init__(self, directory, complain):
        self.directory = directory
        self.complain = complain
        self.at = None  # (file, offset)
        self.last_seq = 0
        self.exits = {}  # (pid, ticks) → event
        self.lost = []
        self.counts = collections.Counter()
        self.newest = collections.deque(maxlen=LAST_EVENTS)
        self.lock = threading.Lock()

    def read(self):
        with self.lock:
            for path in sorted(glob.glob(os.path.join(self.directory, "*.log"))):
                if self.at and path < self.at[0]:
                    continue
                offset = self.at[1] if self.at and self.at[0] == path else 0
                with open(path, "rb") as f:
                    if os.fstat(f.fileno()).st_size < offset:
                        self.complain(f"{path} was cut behind whole lines")
                    f.seek(offset)
                    data = f.read()
                whole = data[:data.rfind(b"\n") + 1]
                self.at = (path, offset + len(whole))
                for line in whole.splitlines():
                    self.take(line)

    def take(self, line):
        if int(line[:8], 16) != crc32c(line[9:]):
            return self.complain(f"a journal line does not hold: {line[:200]}")
        event = json.loads(line[9:])
        self.newest.append(event)
        self.counts[event["kind"]] += 1
        if event["seq"] != self.last_seq + 1:
            self.complain(f"journal: {event['seq']} follows {self.last_seq}")
        self.last_seq = event["seq"]
        if event["kind"] == "lost":
            self.lost.append(event)
        if event["kind"] != "exit":
            return
        exit = event["exit"]
        key = (exit["pid"], exit["start_ticks"])
        if key in self.exits:
            self.complain(f"the exit of {key} is journalled twice: {self.exits[key]['seq']} and "
                          f"{event['seq']}")
        self.exits[key] = event
        if exit.get("signal") == signal.SIGPIPE:
            self.complain(f"{event['service']} had SIGPIPE")


class Faults(ShimTest):
    # ---- a host with load ----

    def setUp(self):
        super().setUp()
        self.seed = SEED
        self.rng = random.Random(self.seed)
        self.began = time.monotonic()
        self.problems = []
        self.acts = collections.Counter()
        self.history = []
        self.anchor_kills = []
        self.stopped = {}  # service → held down by an order that was answered
        self.over = threading.Event()
        self.binaries = [SHIM, os.path.join(self.base, "other")]
        shutil.copy(SHIM, self.binaries[1])
        with open(self.binaries[1], "ab") as f:  # other content, same version
            f.write(b"\0")
        self.install()
        client = self.connect()
        for service, kind in SERVICES.items():
            spec = {"env": kind.env, "log_keep": 1_000_000, "log_max_size": 64 << 20,
                    "restart": {"when": "always", "backoff_min": 20, "backoff_max": 60,
                                "limit_count": 1_000_000, "limit_window": 60000}, **kind.spec}
            _, reply = self.deploy(client, {"bin/w": (WRITER, True)}, ["bin/w"], service=service,
                                   **spec)
            self.assertEqual(reply["state"], "ready", reply)
        self.journal = JournalFiles(os.path.join(self.root, "shim", "journal"), self.complain)
        self.ours = f"CLUSTERCTL_NAMING={self.root}/run/naming.sock".encode()

    def complain(self, text):
        self.problems.append(f"{time.monotonic() - self.began:.3f} s: {text}")
        self.over.set()

    def did(self, what, *more):
        self.acts[what] += 1
        self.history.append((f"{time.monotonic() - self.began:.3f}", time.strftime("%H:%M:%S"), what,
                             *more))

    # ---- who is there ----

    def shim_processes(self):
        """→ (anchor, supervisor), each None when there is none now."""
        anchor = supervisor = None
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            words = read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
            if len(words) < 4 or words[0] != b"clusterctl-shim" or words[3] != self.root.encode():
                continue
            if words[1] == b"anchor" or words[1] == b"run":
                parent = stat_of(pid)
                if parent and self.is_shim(parent[1]):
                    supervisor = supervisor or pid  # forked, not yet itself
                else:
                    anchor = pid
            elif words[1] == b"supervise":
                stat = stat_of(pid)
                if stat and stat[2] != pid:  # else a service before its exec
                    supervisor = pid
        return anchor, supervisor

    def is_shim(self, pid):
        return read_bytes(f"/proc/{pid}/cmdline").startswith(b"clusterctl-shim\0")

    def service_processes(self, leaders=True):
        """→ {instance/generation: [(pid, ticks)…]} of this root."""
        found = collections.defaultdict(list)
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            environment = read_bytes(f"/proc/{pid}/environ").split(b"\0")
            if self.ours not in environment:
                continue
            stat = stat_of(pid)
            if not stat or stat[0] in "ZX" or (stat[2] == pid) != leaders:
                continue
            words = dict(w.split(b"=", 1) for w in environment if b"=" in w)
            name = words[b"CLUSTERCTL_INSTANCE"] + b"/" + words[b"CLUSTERCTL_GENERATION"]
            found[name.decode()].append((pid, stat[3] if leaders else stat[2]))
        return found

    # ---- the checks while it goes on ----

    def watch(self):
        while not self.over.is_set():
            try:
                self.look()
            except Exception as error:
                self.complain(f"the watcher: {error!r}")
            time.sleep(0.02)

    def look(self):
        for name, processes in self.service_processes().items():
            # Not seen at one instant: two only when both still live now.
            living = [p for p in processes if lives(*p)]
            if len(living) > 1:
                self.complain(f"{name} runs {len(living)} times: {living}")
        for service, since in list(self.stopped.items()):
            held = [p for n, ps in self.service_processes().items() if n.split("/")[0] == service
                    for p in ps if lives(*p)]
            if held and self.stopped.get(service) == since:
                self.complain(f"{service} was stopped and runs: {held}")
        self.journal.read()
        self.read_state()

    def read_state(self):
        text = read_bytes(os.path.join(self.root, "shim", "state", "state.json"))
        sealed = json.loads(text)
        begin = text.index(b'"body":') + 7
        body = text[begin:text.rindex(b',"crc32c"')]
        if int(sealed["crc32c"], 16) != crc32c(body):
            self.complain("state.json does not hold")

    # ---- what is done to it ----

    def kill_supervisor(self):
        anchor, supervisor = self.shim_processes()
        if anchor and supervisor and lives(anchor) and kill(supervisor):
            self.did("kill supervisor", supervisor)

    def kill_anchor(self):
        anchor, supervisor = self.shim_processes()
        # A supervisor that lives is enough: even one that has not come to its exec.
        if anchor and supervisor and lives(supervisor) and kill(anchor):
            self.anchor_kills.append(time.time())
            self.did("kill anchor", anchor)

    def kill_both(self):
        anchor, supervisor = self.shim_processes()
        if not anchor:
            return
        kill(anchor, signal.SIGSTOP)
        _, supervisor = self.shim_processes()
        if supervisor:
            kill(supervisor)
        kill(anchor)
        self.did("kill both", anchor, supervisor)
        time.sleep(self.rng.choice([0, 0, self.rng.random() * 0.3]))
        self.start_again()

    def start_again(self):
        self.shim("start", "--root", self.root, check=False)

    def kill_service(self):
        processes = [p for ps in self.service_processes().values() for p in ps]
        if not processes:
            return
        pid, ticks = self.rng.choice(processes)
        if kill(pid, self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV])):
            self.did("kill service", pid)

    def burst(self):
        self.kill_service()
        time.sleep(self.rng.choice([0, 0.0005, 0.001, 0.002, 0.004, 0.02]) * self.rng.random())
        self.rng.choice([self.kill_supervisor, self.kill_supervisor, self.kill_anchor])()

    def one_after_the_other(self):
        for _ in range(3):
            self.rng.choice([self.kill_supervisor, self.kill_anchor])()
            time.sleep(self.rng.random() * 0.04)

    def upgrade(self):
        """Killed in the midst of it, install may fail; the anchor stays until it is done."""
        self.did("upgrade")
        self.binaries.reverse()
        install = threading.Thread(
            target=lambda: self.install(binary=self.binaries[0], check=False))
        install.start()
        if self.rng.randrange(2):
            time.sleep(self.rng.random() * 0.2)
            self.kill_supervisor()
        install.join()

    def give_orders(self):
        rng = random.Random(self.seed + 1)
        while not self.over.is_set():
            service = rng.choice(ORDERED)
            try:
                if rng.randrange(3) == 0:
                    self.order("restart", service)
                else:
                    self.order("stop", service, hold=True)
                    if not self.over.is_set():
                        self.stopped[service] = time.monotonic()
                    time.sleep(rng.random() * 0.3)
                    self.stopped.pop(service, None)
                    self.order("start", service)
            except Exception as error:
                self.complain(f"an order for {service}: {error!r}")
            time.sleep(rng.random() * 0.5)

    def order(self, op, service, timeout=30, **more):
        """Until it is answered: whoever should answer may be killed."""
        self.did(op, service)
        deadline = time.monotonic() + timeout
        while True:
            try:
                with Client(self.control(), 10) as client:
                    reply = client.ask(op, instance={"service": service, "index": 0},
                                       caller=CALLER, **more)
                if op == "stop" or reply["state"] in ("ready", "backoff"):
                    return reply
            except GONE as error:
                reply = error
            except ShimError as error:
                reply = error
            if time.monotonic() > deadline:
                raise AssertionError(f"{op} {service}: {reply!r}")
            time.sleep(0.02)

    # ---- a run ----

    def run_faults(self, acts, seconds):
        watcher = threading.Thread(target=self.watch)
        orders = threading.Thread(target=self.give_orders)
        watcher.start()
        orders.start()
        deadline = time.monotonic() + seconds
        weighted = [act for act, weight in acts.items() for _ in range(weight)]
        try:
            while time.monotonic() < deadline and not self.over.is_set():
                self.rng.choice(weighted)()
                time.sleep(self.rng.random() ** 2 * 0.3)
        finally:
            failed = self.over.is_set()
            self.over.set()
            watcher.join()
            orders.join()
        self.assert_fine()
        self.assertFalse(failed)

    def calm(self):
        """All is there again, once each; then everything is stopped."""
        self.stopped.clear()
        for service in ORDERED:
            self.order("start", service)
        wait_until(self.all_ready, 60, "each service running once")
        self.look()
        for service in SERVICES:
            self.order("stop", service, hold=True)
        self.assertEqual(self.service_processes(), {})
        self.assertEqual(self.service_processes(leaders=False), {}, "left behind")
        self.look()
        self.assert_fine()

    def all_ready(self):
        try:
            with Client(self.control(), 10) as client:
                found = client.items("status")
        except (ShimError, *GONE):
            return False
        return (sorted(s["service"] for s in found) == sorted(SERVICES) and
                all(s["state"] == "ready" for s in found) and
                sorted(s["pid"] for s in found) ==
                sorted(p for ps in self.service_processes().values() for p, _ in ps))

    def assert_fine(self):
        if not self.problems:
            return
        self.journal.read()
        if KEEP:
            shutil.copytree(os.path.join(self.root, "shim"), KEEP, dirs_exist_ok=True)
            with open(os.path.join(KEEP, "acts"), "w") as f:
                f.writelines(f"{act}\n" for act in self.history + self.problems)
        events = [{k: v for k, v in e.items() if k != "exit"} |
                  ({"exit": {k: v for k, v in e["exit"].items() if k != "last_lines"}}
                   if "exit" in e else {}) for e in self.journal.newest]
        self.fail("\n".join([f"seed {self.seed}", *self.problems[:20], "-- done:",
                             *map(str, self.history[-LAST_EVENTS:]), "-- journal:", *map(json.dumps, events)]))

    # ---- the checks at the end ----

    def runs(self):
        """→ {(service, pid, ticks): (lines on stdout, lines on stderr)} as the services counted."""
        found = {}
        for service in SERVICES:
            data = os.path.join(self.root, "services", service, "instances", "0", "data")
            for name in os.listdir(data):
                if name.startswith("run."):
                    _, pid, ticks = name.split(".")
                    content = read_bytes(os.path.join(data, name))
                    found[service, int(pid), int(ticks)] = struct.unpack(
                        "II", content if len(content) == 8 else bytes(8))
        return found

    def check_exits(self, runs, complete):
        """`complete`: each exit is known, and how it went, but for those that no process of the shim
        could see: when an anchor is killed its children go to init, until the next one adopts them.
        Else: at most once, since what began in the last tenth of a second is nowhere on the disk."""
        unknown = [e for e in self.journal.exits.values()
                   if "exit_status" not in e["exit"] and "signal" not in e["exit"]]
        lost = {e["pid"] for e in self.journal.lost if e.get("pid")}
        for service, pid, ticks in runs:
            told = (pid, ticks) in self.journal.exits
            if complete and not told and pid not in lost:
                self.complain(f"the exit of {service} ({pid}, {ticks}) is not in the journal")
            if told and pid in lost and not self.reused(pid):
                self.complain(f"{service} ({pid}, {ticks}) has an exit and is called lost")
        for event in unknown + self.journal.lost if complete else []:
            at = datetime.datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp()
            if not any(0 <= at - kill < ORPHANED for kill in self.anchor_kills):
                self.complain(f"how it ended is not known: {event}")
        return len(unknown)

    def reused(self, pid):
        return sum(key[0] == pid for key in self.journal.exits) > 1

    def check_logs(self, runs, complete):
        """→ the number of lines. `complete`: none may be missing."""
        lines = missing = 0
        for service in SERVICES:
            last = collections.Counter()
            directory = os.path.dirname(self.log_path(service))
            for name, text in log_texts(directory):
                for line in text.splitlines():
                    lines += 1
                    words = line.split(b" ")
                    if len(words) != 4 or not words[3].isdigit() or words[1] not in b"OE":
                        if complete:
                            self.complain(f"{service}/{name}: {line[:200]}")
                        continue
                    key, number = (words[2], words[1]), int(words[3])
                    gap = number - last[key] - 1
                    if gap < 0 or (gap > 0 and complete):
                        self.complain(f"{service}/{name}: {line[:200]} follows {last[key]}")
                    missing += gap
                    last[key] = max(last[key], number)
            for (owner, pid, ticks), counts in runs.items():
                if owner != service:
                    continue
                for stream, count in zip((b"O", b"E"), counts):
                    short = count - last[b"%d.%d" % (pid, ticks), stream]
                    missing += max(short, 0)
                    if short > 0 and complete:
                        self.complain(f"{service} {pid}.{ticks} {stream}: {short} lines are missing "
                                      f"at the end, of {count}")
        return lines, missing

    def finish(self, complete):
        self.calm()
        runs = self.runs()
        unknown = self.check_exits(runs, complete)
        lines, missing = self.check_logs(runs, complete)
        self.assert_fine()
        acts = ", ".join(f"{n} × {what}" for what, n in sorted(self.acts.items()))
        print(f"\nseed {self.seed}: {acts}; {len(runs)} runs, {len(self.journal.exits)} exits "
              f"({unknown} without status, {len(self.journal.lost)} lost), {lines} lines "
              f"({missing} missing), {self.journal.last_seq} events", file=sys.stderr)

    def test_one_process_at_a_time_loses_nothing(self):
        self.run_faults({self.kill_supervisor: 8, self.kill_anchor: 4, self.kill_service: 5,
                         self.burst: 6, self.one_after_the_other: 2, self.upgrade: 1}, SECONDS)
        self.finish(complete=True)

    def test_both_at_once_doubles_nothing(self):
        self.run_faults({self.kill_both: 5, self.kill_supervisor: 2, self.kill_anchor: 1,
                         self.kill_service: 4, self.burst: 2, self.upgrade: 1}, SECONDS)
        self.start_again()
        self.finish(complete=False)


if __name__ == "__main__":
    unittest.main()
