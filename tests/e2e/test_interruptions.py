"""Operations that are broken off at their steps: clusterctl is killed or interrupted, something happens to a host (it
dies, is cut off, full or on a bad line; its shim or sshd is killed), or the registry loses its quorum, just before a step with a
given number.

After each the state is old, new, or what the output said; the same command repairs it once the host is back; and
nothing is left behind: no process that nobody knows of, no port that is kept open, no lock, no endpoint that does not
answer.

In ctest a sample is taken, by FAULT_SEED for FAULT_SECONDS. FAULT_EVERY=N walks each operation with each fault (or
those in FAULT_ONLY) at every Nth step from FAULT_FIRST (1) on (`./dev soak`).
"""

import json
import os
import random
import time
import unittest

from harness import SharedCluster, wait_for

EVERY = int(os.environ.get("FAULT_EVERY", "0"))
FIRST = int(os.environ.get("FAULT_FIRST", "1"))
SEED = int(os.environ.get("FAULT_SEED", "1"))
SECONDS = float(os.environ.get("FAULT_SECONDS", "25"))
ONLY = os.environ.get("FAULT_ONLY", "").split()
POOL = range(21000, 30000)  # cluster.yaml's default for ports that are `auto`
VICTIM = 2  # the host that dies, is cut off or is filled; host 1 and 3 are a quorum without it
MAJORITY = (2, 3)  # of the registry's three members

# Ends that a person can act upon: done, failed on a host, put back, hosts unreachable, in part, plan out of date.
TOLD = {0, 2, 3, 4, 5, 7}


class Operation:
    """One command on services `svc` (on host 1 and 2) and `mov` (two instances anywhere)."""

    service = "svc"

    def __init__(self, cluster):
        self.c = cluster

    def prepare(self):
        """To where the command has something to do."""

    def command(self):
        raise NotImplementedError

    def allowed(self):
        """Versions that may answer after the fault."""
        return {self.c.version}

    def repair(self):
        """The same command again."""
        self.c.run(*self.command())

    def check_done(self, test):
        """That exactly what was asked for is there."""
        test.check_service(self.service, [self.c.version] * 2)


class Deploy(Operation):
    def prepare(self):
        self.old = self.c.version
        self.c.version = "1.1.0" if self.old == "1.0.0" else "1.0.0"

    def command(self):
        return ["deploy", "svc", self.c.version]

    def allowed(self):
        return {self.old, self.c.version}


class Rollback(Deploy):
    def command(self):
        return ["rollback", "svc", self.c.version]


class Restart(Operation):
    def command(self):
        return ["restart", "svc"]


class Stop(Operation):
    def prepare(self):
        self.c.run("start", "svc")

    def command(self):
        return ["stop", "-y", "svc"]

    def check_done(self, test):
        test.check_service("svc", [])
        self.c.run("start", "svc")
        super().check_done(test)


class Start(Operation):
    def prepare(self):
        self.c.run("stop", "-y", "svc")

    def command(self):
        return ["start", "svc"]


class Retire(Operation):
    def command(self):
        return ["retire", "-y", "svc"]

    def check_done(self, test):
        test.check_service("svc", [])
        for version in sorted(["1.0.0", "1.1.0"], key=lambda one: one == self.c.version):
            self.c.run("deploy", "svc", version)  # both good again, for rollback
        super().check_done(test)


class Apply(Operation):
    colour = 0

    def prepare(self):
        Apply.colour += 1
        self.c.web("svc", more=f"env: {{COLOUR: c{Apply.colour}}}\n")

    def command(self):
        return ["apply", "-y"]

    def check_done(self, test):
        super().check_done(test)
        for endpoint in self.c.endpoints("svc"):
            test.assertEqual(self.c.get(endpoint)[1]["env"]["COLOUR"], f"c{Apply.colour}")


class Migrate(Operation):
    service = "mov"

    def command(self):
        return ["migrate", "mov/1", "--to", "host3"]

    def allowed(self):
        return {"1.0.0"}

    def repair(self):
        done = self.c.run(*self.command(), check=None)
        if done.returncode != 64 or "is on host3 already" not in done.stderr:
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            self.c.run("sync")

    def check_done(self, test):
        test.check_service("mov", ["1.0.0"] * 2)
        test.assertIn("host3", [e["host"] for e in self.c.endpoints("mov")])
        self.c.run("migrate", "mov/1", "--to", "host2")


class Drain(Operation):
    service = "mov"

    def command(self):
        return ["drain", "-y", "--stop", "host2"]

    def allowed(self):
        return {"1.0.0"}

    def check_done(self, test):
        test.check_service("mov", ["1.0.0"] * 2)
        test.check_service("svc", [self.c.version])
        self.c.run("undrain", "host2")
        self.c.run("migrate", "mov/1", "--to", "host2")
        test.check_service("svc", [self.c.version] * 2)


OPERATIONS = [Deploy, Rollback, Restart, Stop, Start, Retire, Apply, Migrate, Drain]


class Fault:
    """What goes wrong, and how it is mended."""

    action = "exec"
    hosts = (VICTIM,)
    quorum = True  # is left

    def __init__(self, cluster):
        self.c = cluster

    def command(self):
        """What is run on this machine when the step is reached."""
        return ""

    def mend(self):
        pass


class Kill(Fault):
    action = "kill"


class Interrupt(Fault):
    action = "interrupt"


class HostDies(Fault):
    def command(self):
        return self.c.testbed_command("kill", VICTIM)

    def mend(self):
        self.c.bed.boot(VICTIM)


class NetworkCut(Fault):
    def command(self):
        return self.c.testbed_command("cut", VICTIM)

    def mend(self):
        self.c.bed.heal(VICTIM)


class DiskFull(Fault):
    def command(self):
        return self.c.testbed_command("exec", VICTIM, "cat /dev/zero >/opt/ballast 2>/dev/null; true")

    def mend(self):
        self.c.bed.exec(VICTIM, "rm", "-f", "/opt/ballast")


class QuorumDies(Fault):
    hosts = MAJORITY
    quorum = False

    def command(self):
        return "; ".join(self.c.testbed_command("kill", host) for host in self.hosts)

    def mend(self):
        for host in self.hosts:
            self.c.bed.boot(host)


class QuorumCut(Fault):
    hosts = MAJORITY
    quorum = False

    def command(self):
        return "; ".join(self.c.testbed_command("cut", host) for host in self.hosts)

    def mend(self):
        for host in self.hosts:
            self.c.bed.heal(host)


class QuorumFalls(Fault):
    """The shims alone, which is heard of at once."""

    hosts = MAJORITY
    quorum = False

    def command(self):
        return "; ".join(self.c.testbed_command("exec", host, "pkill -9 -f '^clusterctl-shim '") for host in self.hosts)

    def mend(self):
        for host in self.hosts:
            self.c.bed.exec(host, "/opt/clusterctl/shim/current", "start", "--root", "/opt/clusterctl")


class ShimKilled(Fault):
    """Its supervisor, which the anchor brings back at once."""

    def command(self):
        return self.c.testbed_command("exec", VICTIM, "pkill -9 -f '^clusterctl-shim supervise'")


class SshdRestarted(Fault):
    """With every session."""

    def command(self):
        return self.c.testbed_command("exec", VICTIM, "pkill -9 -x sshd; /usr/sbin/sshd -E /var/log/sshd.log")


class Lossy(Fault):
    """A quarter of the packets to it are lost, which makes it slow."""

    def command(self):
        rules = ("add table inet loss; add chain inet loss in { type filter hook input priority 0; }; "
                 "add rule inet loss in numgen random mod 100 < 25 drop")
        return self.c.testbed_command("exec", VICTIM, "nft", rules)

    def mend(self):
        self.c.bed.exec(VICTIM, "nft", "delete table inet loss")


FAULTS = [Kill, Interrupt, HostDies, NetworkCut, DiskFull, QuorumDies, QuorumCut, QuorumFalls, ShimKilled,
          SshdRestarted, Lossy]


class InterruptionTest(SharedCluster):
    OPTIONS = {"disk_size": {VICTIM: "96M"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.append("cluster.yaml", 'groups: {all-hosts: "host[1-3]"}\n')
        cls.c.web("svc")
        cls.c.web("mov", place="{group: all-hosts, count: 2}")
        for version in ("1.0.0", "1.1.0"):
            cls.c.release("svc", version)
        cls.c.release("mov", "1.0.0")
        cls.c.run("deploy", "svc", "1.1.0")  # both are good, for rollback
        cls.c.run("deploy", "svc", "1.0.0")
        cls.c.run("deploy", "mov", "1.0.0")
        cls.c.version = "1.0.0"
        cls.steps = {}

    # ---- what holds ----
    def check_answers(self, service, allowed, hosts=("host1", "host2", "host3")):
        """What is published on these hosts answers, with a version that is allowed."""
        found = [e for e in self.c.json("resolve", "--consistent", service)["endpoints"] if e["host"] in hosts]
        for endpoint in found:
            self.assertIn(self.c.get(endpoint)[1]["version"], allowed, endpoint)

    def published(self, operation):
        return {e["instance"]: (e["host"], e["ports"]) for e in self.c.endpoints(operation.service)}

    def listening(self, host):
        """Ports of the pool on which something listens."""
        lines = self.c.bed.exec(host, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.splitlines()
        fields = [line.split() for line in lines]
        ports = {int(f[1].rsplit(":", 1)[1], 16) for f in fields if len(f) > 3 and f[3] == "0A"}
        return ports & set(POOL)

    def check_service(self, service, versions):
        """These answer, and nothing else of it runs."""
        self.assertEqual(self.c.versions(service) if versions else self.c.json("resolve", service)["endpoints"], versions)
        found = [e["host"] for e in self.c.endpoints(service)]
        for host in (1, 2, 3):
            self.assertEqual(len(self.c.processes(host, f"services/{service}/")), found.count(f"host{host}"))

    def check_clean(self, operation):
        """Nobody is at work, and nothing is left over on any host."""
        status = self.c.json("status")
        locks = self.c.json("lock", "show")["locks"]
        if isinstance(operation, Apply):  # takes no lock where there is nothing to do: the next change takes it over
            locks = [lock for lock in locks if not lock["holder_gone"]]
        self.assertEqual(locks, [])
        self.assertEqual([i for i in status["instances"] if "stray" in i["note"]], [])
        self.assertEqual([s for s in status["services"].values() if s["rolling_to"]], [])
        for host in (1, 2, 3):
            known = {p for i in status["instances"] if i["host"] == f"host{host}" and i["pid"] for p in i["ports"].values()}
            self.assertEqual(self.listening(host), known, f"host{host}")

    def check_told(self, fault, operation, done):
        """The exit status is one of those that the manual has for this, and says what stands."""
        text = done.stdout + done.stderr
        if fault.action == "kill":
            self.assertEqual(done.returncode, -9, text)
        elif fault.action == "interrupt":
            self.assertIn(done.returncode, {0, 130}, text)
            if done.returncode == 130:
                self.assertRegex(text, "interrupted|nothing was changed")
        else:
            if done.returncode != 1:  # an error that is told to have changed nothing
                self.assertIn(done.returncode, TOLD if fault.quorum else TOLD | {8}, text)
            else:
                self.assertIn("nothing was started or stopped", text)
            if done.returncode:
                self.assertRegex(text, "|".join(f"host{host}" for host in fault.hosts))
        if fault.quorum:
            self.check_stands(operation, done, ("host1",))

    def check_stands(self, operation, done, hosts):
        """What answers is what the exit status says: all of it, nothing, or something of both."""
        allowed = operation.allowed()
        if isinstance(operation, Deploy) and done.returncode in (0, 3, 8):
            allowed = {self.c.version if done.returncode == 0 else operation.old}
        self.check_answers(operation.service, allowed, hosts)

    def ready_again(self):
        """All hosts answer, and what each shim is to run is up or given up."""
        def settled():
            done = self.c.run("-o", "json", "status", check=None)
            if done.returncode:
                return False
            return all(i["state"] in ("ready", "stopped", "failed") for i in json.loads(done.stdout)["instances"])
        wait_for(settled, 60, "hosts and instances are back")

    # ---- rounds ----
    def reached(self, operation):
        """Names of the steps of an operation that goes well."""
        if type(operation) not in self.steps:
            operation.prepare()
            steps, done = self.c.run_faulty(0, "", *operation.command())
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertGreater(len(steps), 3)
            operation.check_done(self)
            self.check_clean(operation)
            self.steps[type(operation)] = steps
        return self.steps[type(operation)]

    def round(self, operation, fault, number):
        steps = self.reached(operation)
        name = f"{type(operation).__name__}, {type(fault).__name__} at step {number} of {len(steps)}: {steps[number - 1]}"
        with self.subTest(name):
            operation.prepare()
            before = self.published(operation)
            begun = time.monotonic()
            try:
                _, done = self.c.run_faulty(number, fault.action, *operation.command(), command=fault.command())
            finally:
                took = time.monotonic() - begun
                if os.environ.get("FAULT_VERBOSE"):
                    print(f"{name}: {took:.1f} s", flush=True)
                    print(done.returncode, done.stdout[-600:], done.stderr[-1500:], flush=True)
            try:
                self.check_told(fault, operation, done)
                if fault.action != "exec":
                    self.check_answers(operation.service, operation.allowed())
            finally:
                fault.mend()
                self.ready_again()
            if fault.quorum:
                self.check_answers(operation.service, operation.allowed(), ("host1", "host3"))
            else:
                self.check_stands(operation, done, ("host1", "host2", "host3"))
                if done.returncode == 8:  # nothing was changed
                    self.assertEqual(self.published(operation), before)
            operation.repair()
            operation.check_done(self)
            self.check_clean(operation)
            return done

    def walk(self, kind):
        if not EVERY:
            self.skipTest("the sample is taken; FAULT_EVERY=1 walks every step")
        operation = kind(self.c)
        for fault in (one for one in FAULTS if not ONLY or one.__name__ in ONLY):
            for number in range(FIRST, len(self.reached(operation)) + 1, EVERY):
                self.round(operation, fault(self.c), number)

    def test_what_is_told_when_the_quorum_is_lost(self):
        """Steps at which more was undone than could be, or less was told than had been done."""
        def round_at(kind, step):
            operation = kind(self.c)
            return self.round(operation, QuorumFalls(self.c), self.reached(operation).index(step) + 1)
        for kind, step in ((Deploy, "names"), (Stop, "hold"), (Retire, "drain"), (Drain, "note what is stopped")):
            round_at(kind, step)
        done = round_at(Deploy, "record")
        self.assertIn("2 of 2 instances ready, but the registry was not told", done.stdout)

    def test_what_a_killed_stop_withdrew_and_did_not_stop_is_published_again(self):
        stop = Stop(self.c)
        stop.prepare()
        before = self.published(stop)
        _, done = self.c.run_faulty(1, "kill", *stop.command(), name="hold")
        self.assertEqual((done.returncode, self.published(stop)), (-9, {}))
        dry = self.c.json("sync", "--dry-run")["reconciled"]
        self.assertEqual([line.split(":")[0] for line in dry], ["svc/0 published again", "svc/1 published again"])
        self.assertEqual(self.published(stop), {})
        self.assertIn("svc/0 published again: ", self.c.run("sync").stdout)
        self.assertEqual(self.published(stop), before)
        self.check_service("svc", [self.c.version] * 2)
        self.check_clean(stop)
        self.assertIn("svc/0 published again", " ".join(e["detail"] for e in self.c.json("history", "svc")["entries"][-3:]))

    def test_a_sample(self):
        if EVERY:
            self.skipTest("FAULT_EVERY walks every step")
        chance = random.Random(SEED)
        end = time.monotonic() + SECONDS
        rounds = 0
        while rounds < 3 or time.monotonic() < end:
            operation, fault = chance.choice(OPERATIONS)(self.c), chance.choice(FAULTS)(self.c)
            self.round(operation, fault, 1 + int(chance.random() * len(self.reached(operation))))
            rounds += 1


def add_walk(kind):
    setattr(InterruptionTest, f"test_{kind.__name__.lower()}_at_each_step", lambda self: self.walk(kind))


for one in OPERATIONS:
    add_walk(one)


if __name__ == "__main__":
    unittest.main()
