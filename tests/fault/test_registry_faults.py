"""Rival writers on five real hosts while these fail: what the writers saw must be linearizable.

FAULT_SECONDS: how long the faults go on (short in ctest; `./dev soak` takes its time). FAULT_SEED repeats the order of
faults. REGISTRY_HISTORY names a file that keeps the history (tests/sim/history.h), for other checkers.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

from harness import BUILD_DIR, Cluster, namespaces_permitted, wait_for  # noqa: E402

SECONDS = float(os.environ.get("FAULT_SECONDS", "15"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.randrange(1, 1 << 30)
WRITER = os.path.join(BUILD_DIR, "tests/drivers/registry_writer")
CHECKER = os.path.join(BUILD_DIR, "tests/sim/registry_sim")
HOSTS = [1, 2, 3, 4, 5]
SMALL = 5  # the host whose disk can be filled


def setUpModule():
    if not namespaces_permitted():
        raise unittest.SkipTest("test hosts that can be cut and killed need root and namespaces")


class Rivals:
    """Writers, each a process with SSH sessions of its own; killed ones are followed by others."""

    def __init__(self, cluster, count):
        self.cluster = cluster
        self.directory = os.path.join(cluster.directory, "histories")
        os.makedirs(self.directory)
        self.clients = 0
        self.running = []
        for _ in range(count):
            self.start()

    def start(self):
        self.clients += 1
        history = os.path.join(self.directory, f"{self.clients}.jsonl")
        argv = [WRITER, self.cluster.inventory, str(self.clients), "100000", "2", history]
        self.running.append(subprocess.Popen(argv, env=self.cluster.environment(), stdin=subprocess.DEVNULL,
                                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def kill(self, index):
        self.running[index].kill()
        self.running.pop(index).communicate()

    def check_alive(self):
        for one in self.running:
            if one.poll() is not None:
                raise AssertionError(f"a writer ended by itself: {one.communicate()[0]}")

    def stop(self):
        while self.running:
            self.kill(0)

    def history(self):
        """One object for each operation: the later line of one client and call counts."""
        ops = {}
        for name in sorted(os.listdir(self.directory)):
            with open(os.path.join(self.directory, name)) as file:
                for line in file:
                    if not line.endswith("\n"):
                        continue  # cut short by a kill; its first line stands
                    op = json.loads(line)
                    ops[op["client"], op["call_ns"]] = op
        return sorted(ops.values(), key=lambda op: op["call_ns"])


class Faults:
    """One fault after the other, mended after a while; never more than a minority at once, but for moments."""

    def __init__(self, cluster, rivals, seed):
        self.cluster, self.bed, self.rivals = cluster, cluster.bed, rivals
        self.random = random.Random(seed)
        self.done = []

    def run(self, seconds):
        end = time.monotonic() + seconds
        faults = [self.kill_shim, self.power_loss, self.cut, self.loss, self.full_disk, self.kill_writer]
        while time.monotonic() < end:
            fault = faults[len(self.done) % len(faults)] if len(self.done) < len(faults) else self.random.choice(faults)
            fault()
            self.rivals.check_alive()

    def note(self, what):
        self.done.append(what)

    def host(self):
        return self.random.choice(HOSTS)

    def progress(self, most=1.5):
        """The fault lasts a random while: its writers race on meanwhile."""
        time.sleep(self.random.uniform(0.1, most))

    def kill_shim(self):
        host = self.host()
        self.note(f"kill the shim of host{host}")
        for pid in self.cluster.shim_pids(host):
            self.bed.exec(host, "kill", "-9", str(pid), check=False)
        self.progress(0.5)

    def power_loss(self):
        host = self.host()
        self.note(f"power loss of host{host}")
        self.bed.kill(host)
        self.progress()
        self.bed.boot(host)

    def cut(self):
        hosts = self.random.sample(HOSTS, self.random.choice([1, 2]))
        self.note(f"cut hosts {hosts}")
        for host in hosts:
            self.bed.cut(host)
        self.progress()
        for host in hosts:
            self.bed.heal(host)

    def loss(self):
        host = self.host()
        self.note(f"host{host} loses packets")
        self.bed.exec(host, "nft add table inet loss && nft 'add chain inet loss in { type filter hook input priority 0; }'"
                            " && nft 'add rule inet loss in numgen random mod 100 < 25 drop'")
        self.progress(2.5)
        self.bed.exec(host, "nft delete table inet loss")

    def full_disk(self):
        self.note(f"the disk of host{SMALL} is full")
        filler = self.cluster.live_path(SMALL, "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 65536)
            except OSError:
                pass
        self.progress()
        os.unlink(filler)

    def kill_writer(self):
        self.note("kill a writer")
        self.rivals.kill(self.random.randrange(len(self.rivals.running)))
        self.rivals.start()
        self.progress(0.3)


class RealHistory(unittest.TestCase):
    def test_what_rival_writers_saw_is_linearizable_whatever_fails(self):
        cluster = Cluster(6, disk_size={SMALL: "64M"})
        self.addCleanup(cluster.close)
        self.name_members(cluster, HOSTS)
        cluster.run("bootstrap")
        rivals = Rivals(cluster, 4)
        self.addCleanup(rivals.stop)
        wait_for(lambda: self.decided(rivals) > 50, 60, "the writers begin")
        faults = Faults(cluster, rivals, SEED)
        with self.subTest(seed=SEED):
            faults.run(SECONDS)
            self.go_on(rivals)
            self.replace_member(cluster, faults, rivals)
            self.go_on(rivals)
            rivals.stop()
            self.check(rivals.history(), faults)

    @staticmethod
    def name_members(cluster, hosts):
        path = os.path.join(cluster.inventory, "cluster.yaml")
        with open(path) as file:
            lines = [line for line in file if not line.startswith("registry:")]
        names = ", ".join(f"host{host}" for host in hosts)
        with open(path, "w") as file:
            file.writelines(lines + [f"registry: {{hosts: [{names}]}}\n"])

    def go_on(self, rivals):
        before = self.decided(rivals)
        wait_for(lambda: self.decided(rivals) > before + 20, 60, "the writers go on")
        rivals.check_alive()

    def replace_member(self, cluster, faults, rivals):
        """Under the writers' feet, by a command that is killed on the way and run again."""
        command = ["registry", "members", "replace", "host2", "host6", "-y"]
        first = cluster.start(*command)
        time.sleep(faults.random.uniform(0.1, 1.0))
        first.kill()
        first.communicate()
        cluster.run(*command, check=None)  # refused when the first had come to its end
        self.name_members(cluster, [1, 3, 4, 5, 6])
        cluster.run("sync")
        found = cluster.json("registry", "status")
        self.assertFalse(found["changing"])
        self.assertEqual(sorted(one["host"] for one in found["members"]),
                         ["host1", "host3", "host4", "host5", "host6"])
        faults.note("host2 replaced by host6")
        for _ in range(len(rivals.running)):  # some begin with the inventory of now
            rivals.kill(0)
            rivals.start()

    @staticmethod
    def decided(rivals):
        return sum(1 for op in rivals.history() if op["status"] == "ok")

    def check(self, history, faults):
        path = os.environ.get("REGISTRY_HISTORY") or os.path.join(faults.cluster.directory, "history.jsonl")
        with open(path, "w") as file:
            for op in history:
                file.write(json.dumps(op) + "\n")
        counts = {status: sum(1 for op in history if op["status"] == status) for status in ("ok", "fail", "info")}
        told = subprocess.run([CHECKER, "check", path], capture_output=True, text=True, timeout=300)
        if told.returncode != 0:
            kept = f"/tmp/registry-history-{os.getpid()}.jsonl"
            shutil.copy(path, kept)
            self.fail(f"{told.stdout}{told.stderr}kept: {kept}; seed {SEED}; faults: {faults.done}")
        print(f"{told.stdout.strip()} {counts}; {len(faults.done)} faults, seed {SEED}")


if __name__ == "__main__":
    unittest.main()
