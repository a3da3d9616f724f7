"""The registry on a quorum of real hosts: minorities and majorities lost, members changed, disks wiped and full."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import BUILD_DIR, Cluster, interrupt, namespaces_permitted, wait_for  # noqa: E402

WRITER = os.path.join(BUILD_DIR, "tests", "drivers", "registry_writer")
FAULTS = os.path.join(BUILD_DIR, "tests", "drivers", "clusterctl_faults")


def setUpModule():
    if not namespaces_permitted():
        raise unittest.SkipTest("test hosts that can be cut and killed need root and namespaces")


class RegistryTest(unittest.TestCase):
    def cluster(self, hosts=3, registry=None, **options):
        cluster = Cluster(hosts, **options)
        self.addCleanup(cluster.close)
        path = os.path.join(cluster.inventory, "cluster.yaml")
        with open(path) as file:
            text = file.read()
        cluster.write("cluster.yaml", text.replace("ssh: {", "ssh: {connect_timeout: 2s, ", 1))
        if registry:
            self.name_hosts(cluster, registry)
        return cluster

    def name_hosts(self, cluster, hosts):
        path = os.path.join(cluster.inventory, "cluster.yaml")
        with open(path) as file:
            lines = [line for line in file if not line.startswith("registry:")]
        with open(path, "w") as file:
            file.writelines(lines + [f"registry: {{hosts: [{', '.join(hosts)}]}}\n"])

    def deployed(self, cluster, place="{hosts: [host1, host2]}", version="1.0.0"):
        cluster.web("web", place=place)
        cluster.release("web", version)
        return cluster.run("deploy", "web", version)

    def status(self, cluster, check=0):
        found = cluster.json("registry", "status", check=check)
        return found, {one["host"]: one for one in found["members"]}

    def value(self, cluster, key):
        return cluster.json("registry", "show", key)["value"]


class ThreeHosts(RegistryTest):
    def test_a_minority_lost_goes_unnoticed_and_a_majority_stops_changes_only(self):
        c = self.cluster(4)
        self.deployed(c, place="{hosts: [host3, host4]}")
        found, members = self.status(c)
        self.assertTrue(found["quorum"])
        self.assertEqual(sorted(members), ["host1", "host2", "host3"])
        self.assertEqual({one["state"] for one in members.values()}, {"ok"})
        self.assertEqual({one["uncommitted"] for one in members.values()}, {0})

        c.bed.kill(2)
        c.release("web", "1.1.0")
        done = c.run("deploy", "web", "1.1.0")
        self.assertIn("host2", done.stderr)  # was not told the names
        self.assertEqual(c.versions("web"), ["1.1.0", "1.1.0"])

        before = {one["instance"]: one["pid"] for one in c.json("status", check=4)["instances"]}
        c.bed.cut(1)
        refused = c.run("deploy", "web", "1.0.0", check=8)
        self.assertIn("host1", refused.stderr)
        self.assertIn("host2", refused.stderr)
        self.status(c, check=8)
        # What runs goes on, and is seen.
        after = {one["instance"]: one["pid"] for one in c.json("status", check=4)["instances"]}
        self.assertEqual(after, before)
        self.assertEqual(len(c.endpoints("web")), 2)
        c.run("resolve", "web", "--consistent", check=8)
        stopped = c.run("stop", "web/0", "--without-quorum", "-y", check=4)
        self.assertIn("1 of 1 instance done", stopped.stdout)
        c.bed.heal(1)
        c.bed.boot(2)
        wait_for(lambda: c.run("ping", check=None).returncode == 0, what="all hosts are back")
        # Brings up to date what the dead host missed; quiet the second time.
        told = c.run("sync").stdout
        self.assertIn("host2: brought up to date", told)
        self.assertIn("web/0 stopped by ", told)
        self.assertIn("0", self.value(c, "desired/web")["held"])
        entry = c.json("history", "web")["entries"][-1]
        self.assertEqual((entry["action"], entry["outcome"]), ("sync", "done"))
        self.assertIn("web/0 stopped by ", entry["detail"])
        self.assertIn("--without-quorum", c.run("events", "--since", "1h").stdout)
        c.run("start", "web/0")
        again = c.run("sync")
        self.assertEqual((again.stdout, again.stderr), ("", ""))
        self.assertEqual(c.registry_file(2)["services"]["web"], c.registry_file(4)["services"]["web"])

    def test_values_of_the_single_acceptor_are_carried_over(self):
        c = self.cluster(3)
        self.deployed(c)
        desired, endpoints = self.value(c, "desired/web"), self.value(c, "endpoints/web")
        lock = c.json("registry", "show", "lock/web")["revision"]
        # As the version before left it: one log on the first host, empty ones elsewhere.
        for host in (1, 2, 3):
            c.bed.kill(host)
            acceptor = c.root_path(host, "shim/acceptor")
            shutil.rmtree(acceptor)
            os.makedirs(acceptor, mode=0o700)
            records = [] if host != 1 else [
                {"key": "config", "revision": 1, "value": {"format": 1, "cluster": "demo", "id": "ab" * 16,
                                                           "hosts": ["host1", "host2", "host3"]}},
                {"key": "desired/web", "revision": 1, "value": {}},
                {"key": "desired/web", "revision": 9, "value": desired},
                {"key": "endpoints/web", "revision": 8, "value": endpoints},
                {"key": "lock/web", "revision": lock, "value": None}]
            with open(os.path.join(acceptor, "registers.log"), "wb") as file:
                file.write(b"clusterctl log 1\n" + b"".join(map(record, records)))
            with open(os.path.join(acceptor, "uuid"), "w") as file:
                file.write(f"{host:032x}\n")
            c.bed.boot(host)
        wait_for(lambda: c.run("ping", check=None).returncode == 0, what="all hosts are back")
        c.release("web", "1.1.0")
        c.run("deploy", "web", "1.1.0")
        self.assertEqual(c.versions("web"), ["1.1.0", "1.1.0"])
        self.assertGreater(c.json("registry", "show", "endpoints/web")["revision"], 8)
        self.assertEqual(self.value(c, "desired/web")["placement"], desired["placement"])
        self.assertTrue(self.status(c)[0]["quorum"])

    def test_a_wiped_disk_takes_no_part_until_it_is_admitted_anew(self):
        c = self.cluster(3)
        self.deployed(c)
        c.bed.kill(3)
        shutil.rmtree(c.root_path(3, "shim/acceptor"))
        c.bed.boot(3)
        wait_for(lambda: c.run("ping", check=None).returncode == 0, what="all hosts are back")
        _, members = self.status(c, check=2)
        self.assertEqual(members["host3"]["state"], "other-disk")
        self.assertIn("registry members replace host3", members["host3"]["problem"])
        # The two others are a quorum, and whoever writes is told of the third.
        c.run("restart", "web")
        for command in (["restart", "web"], ["sync"], ["deploy", "web", "1.0.0"]):
            told = [line for line in c.run(*command).stderr.splitlines() if "takes no part" in line]
            self.assertEqual(len(told), 1, command)
            self.assertRegex(told[0], "warning: host3: .*registry members replace host3")
        c.run("registry", "members", "replace", "host3", check=64)  # asks
        c.run("-y", "registry", "members", "replace", "host3")
        _, members = self.status(c)
        self.assertEqual(members["host3"]["state"], "ok")
        c.bed.cut(1)
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")
        c.run("restart", "web/1")
        c.bed.heal(1)

    def test_a_cli_killed_between_commit_and_push_is_repaired_by_the_next_command(self):
        c = self.cluster(3)
        self.deployed(c, place="{hosts: [host1]}")
        c.web("other", place="{hosts: [host2]}")
        c.release("other", "1.0.0")
        c.run("deploy", "other", "1.0.0")
        c.release("web", "1.1.0")
        told = c.registry_file(1)["services"]["web"]["revision"]
        killed = subprocess.run([FAULTS, "-i", c.inventory, "deploy", "web", "1.1.0"], capture_output=True,
                                stdin=subprocess.DEVNULL, timeout=120,
                                env={**c.environment(), "FAULT_NAME": "names", "FAULT_STEP": "1", "FAULT_ACTION": "kill"})
        self.assertEqual(killed.returncode, -signal.SIGKILL, killed.stderr)
        committed = c.json("resolve", "web", "--consistent")
        self.assertGreater(committed["revision"], told)
        for host in (1, 2, 3):
            self.assertEqual(c.registry_file(host)["services"]["web"]["revision"], told)
        # Of whatever service it is.
        c.run("restart", "other")
        for host in (1, 2, 3):
            wait_for(lambda: c.registry_file(host)["services"]["web"]["revision"] >= committed["revision"],
                     what=f"host{host} to be told")
            self.assertEqual(c.registry_file(host)["services"]["web"]["endpoints"], committed["endpoints"])
        c.run("deploy", "web", "1.1.0", "--lock-wait", "30s")
        self.assertEqual(c.versions("web"), ["1.1.0"])

    def test_an_unhealthy_instance_is_committed_by_the_next_command_and_leaves_the_views(self):
        c = self.cluster(3)
        c.append("cluster.yaml", "views:\n  - {plain: web.txt, service: web, port: main}\n")
        c.web("web")
        with open(os.path.join(c.inventory, "services/web.yaml")) as file:
            text = file.read()
        c.manifest("web", text.replace("policy: always", "policy: never"))
        c.web("other", place="{hosts: [host2]}")
        for service in ("web", "other"):
            c.release(service, "1.0.0")
            c.run("deploy", service, "1.0.0")
        targets = {e["instance"]: f"{e['address']}:{e['ports']['main']}" for e in c.endpoints("web")}

        def states():
            return {one["instance"]: one["state"] for one in self.value(c, "endpoints/web")}

        def view(host):
            with open(c.live_path(host, "registry/views/web.txt")) as file:
                return set(file.read().split())

        def fell_and_committed_by(instance, host, *command):
            c.bed.exec(host, "kill", "-9", str(c.instances("web")[instance]["pid"]))
            # Its own host knows at once; the registry, and the others, from whoever holds the pen next.
            wait_for(lambda: targets[instance] not in view(host), what="the view of its own host")
            self.assertEqual(set(states().values()), {"ready"})
            self.assertIn(targets[instance], view(3))
            c.run(*command)
            self.assertEqual(states(), {one: "unhealthy" if one == instance else "ready" for one in targets})
            for other in (1, 2, 3):
                wait_for(lambda: view(other) == set(targets.values()) - {targets[instance]},
                         what=f"the view of host{other}")

        for each in (1, 2, 3):
            wait_for(lambda: view(each) == set(targets.values()), what="both in the view")
        fell_and_committed_by("web/0", 1, "restart", "other")
        c.run("start", "web/0")
        self.assertEqual(set(states().values()), {"ready"})
        targets = {e["instance"]: f"{e['address']}:{e['ports']['main']}" for e in c.endpoints("web")}
        for each in (1, 2, 3):
            wait_for(lambda: view(each) == set(targets.values()), what="back in the view")
        fell_and_committed_by("web/1", 2, "retire", "other", "-y")

    def test_what_was_ordered_without_a_quorum_is_not_undone_by_the_next_command(self):
        c = self.cluster(3)
        self.deployed(c)
        c.run("stop", "web/0", "--without-quorum", "-y")
        self.assertNotIn("0", self.value(c, "desired/web").get("held", {}))
        c.release("web", "1.1.0")
        done = c.run("deploy", "web", "1.1.0")
        self.assertRegex(done.stderr, "taken over: web/0 stopped by .* without the registry")
        self.assertEqual(c.instances("web")["web/0"]["state"], "stopped")
        self.assertIn("0", self.value(c, "desired/web")["held"])
        self.assertEqual(c.versions("web"), ["1.1.0"])  # what is down is not published
        # The other way round: what was started again belongs to the service again.
        c.run("start", "web/0", "--without-quorum")
        c.run("deploy", "web", "1.1.0")
        self.assertEqual(c.versions("web"), ["1.1.0", "1.1.0"])
        self.assertEqual(self.value(c, "desired/web").get("held", {}), {})

    def test_a_member_that_did_not_answer_at_first_takes_part_once_it_is_back(self):
        c = self.cluster(3)
        self.deployed(c)
        c.bed.cut(3)
        history = os.path.join(c.directory, "history")
        # One process all the time, with connections of its own.
        writer = subprocess.Popen([WRITER, c.inventory, "1", "300", "1", history], env=c.environment(),
                                  stdin=subprocess.DEVNULL)
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)

        def decided_since(moment):
            if not os.path.exists(history):
                return False
            with open(history) as file:
                ops = [json.loads(line) for line in file.read().splitlines()[:-1]]
            return any(op["status"] == "ok" and op["call_ns"] > moment for op in ops)

        wait_for(lambda: decided_since(0), what="a write without host3", seconds=60)
        c.bed.heal(3)
        c.bed.cut(2)
        cut = time.monotonic_ns()
        wait_for(lambda: decided_since(cut), what="a write with host3 and without host2", seconds=120)

    def test_what_reads_waits_for_no_member_beyond_a_quorum(self):
        c = self.cluster(3)
        self.deployed(c)
        with open(os.path.join(c.inventory, "cluster.yaml")) as file:
            text = file.read()
        c.write("cluster.yaml", text.replace("connect_timeout: 2s", "connect_timeout: 10m", 1))

        def silence(host):  # what comes is dropped, and nobody says so
            c.bed.exec(host, "nft add table inet silent && nft 'add chain inet silent in "
                             "{ type filter hook input priority 0; policy drop; }'")

        silence(1)
        for command in (["resolve", "web"], ["resolve", "web", "--consistent"], ["registry", "show"],
                        ["registry", "show", "endpoints/web"], ["history", "web"], ["lock", "show"], ["lock", "show", "web"]):
            with self.subTest(command=command):
                waits = c.start("ping", "-l", "host1")  # from before it, until the connection is given up
                c.run(*command)
                self.assertIsNone(waits.poll(), "it waited for host1")
                interrupt(waits)
                waits.communicate()
        waits = c.start("ping", "-l", "host1")
        watch = c.start("watch", "web", "-o", "jsonl")
        for process in (waits, watch):
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
        self.assertEqual(len(json.loads(watch.stdout.readline())["endpoints"]), 2)
        self.assertIsNone(waits.poll(), "it waited for host1")
        for process in (waits, watch):
            interrupt(process)
            process.wait()
        # Whoever is waited for is named meanwhile.
        silence(2)
        for command in (["resolve", "web", "--consistent"], ["resolve", "web"]):
            with self.subTest(command=command):
                waits = c.start(*command)
                self.assertRegex(waits.stderr.readline(), "host[12]: no answer yet")
                interrupt(waits)
                waits.communicate(timeout=60)

    def test_a_watch_comes_back_to_the_host_whose_link_was_lost(self):
        c = self.cluster(3)
        self.deployed(c)
        watch = c.start("watch", "web", "-o", "jsonl", "-l", "host3")
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.kill)
        self.assertEqual(len(json.loads(watch.stdout.readline())["endpoints"]), 2)
        for pid in c.processes(3, "^sshd: deploy"):
            c.bed.exec(3, "kill", "-9", str(pid), check=False)
        self.assertIn("host3: ", watch.stderr.readline())
        c.run("stop", "web/0", "-y")
        self.assertEqual([one["instance"] for one in json.loads(watch.stdout.readline())["endpoints"]], ["web/1"])

    def test_a_malformed_name_is_a_slip_of_the_caller(self):
        c = self.cluster(1)
        for command in (["watch"], ["resolve"], ["deploy", "--dry-run"], ["retire"]):
            name = ["Not A Name"] + (["1.0"] if command[0] == "deploy" else [])
            self.assertIn("Not A Name", c.run(*command, *name, check=64).stderr)


class FiveHosts(RegistryTest):
    HOSTS = ["host1", "host2", "host3", "host4", "host5"]

    def test_members_come_and_go_and_the_registry_is_recovered_from_what_is_left(self):
        c = self.cluster(5)
        self.deployed(c)
        c.run("registry", "members", "add", "host4", check=65)  # an even number
        added = c.run("registry", "members", "add", "host[4-5]")
        self.assertIn("registry: {hosts: [host1, host2, host3, host4, host5]}", added.stderr)
        refused = c.run("restart", "web", check=65)
        self.assertIn("registry members", refused.stderr)
        self.name_hosts(c, self.HOSTS)
        found, members = self.status(c)
        self.assertEqual(sorted(members), self.HOSTS)
        c.bed.kill(1)
        c.bed.cut(3)
        c.run("restart", "web/1")  # three of five
        # One more: no quorum, nothing changes, until what is left is told to go on.
        c.bed.cut(5)
        told = c.run("restart", "web/1", check=8).stderr
        self.assertRegex(told, "no quorum: host[135]: cannot be reached; host[135]: cannot be reached")
        c.run("registry", "members", "remove", "host[1,3]", "-y", check=8)
        c.run("registry", "recover", check=64)
        done = c.run("registry", "recover", "-y")
        self.assertIn("incarnation 2", done.stdout)
        self.assertIn("is lost", done.stderr)
        keeper = done.stdout.split("members ")[1].strip()
        self.name_hosts(c, [keeper])
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")
        c.run("restart", "web/1")
        # Those that were lost come back with another registry's state: they take no part.
        for host in (3, 5):
            c.bed.heal(host)
        c.bed.boot(1)
        wait_for(lambda: c.run("ping", check=None).returncode == 0, what="all hosts are back")
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")
        c.run("registry", "members", "add", "host1", "host3", "-y")
        self.name_hosts(c, [keeper, "host1", "host3"])
        self.assertTrue(self.status(c)[0]["quorum"])
        # host3 is replaced while it is away, and comes back believing in the members of before.
        c.bed.cut(3)
        c.run("registry", "members", "replace", "host3", "host5", "-y")
        self.name_hosts(c, [keeper, "host1", "host5"])
        c.bed.heal(3)
        for host in (int(keeper[-1]), 1):
            c.bed.cut(host)
        done = c.run("registry", "recover", "-y")
        self.assertIn("members host5\n", done.stdout)
        self.name_hosts(c, ["host5"])
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")

    def test_two_first_runs_at_once_yield_one_registry(self):
        c = self.cluster(5, registry=self.HOSTS)
        for service in ("one", "two"):
            c.web(service, place="{hosts: [host1]}")
            c.release(service, "1.0.0")
        jobs = [c.start("deploy", service, "1.0.0") for service in ("one", "two")]
        for job in jobs:
            out, err = job.communicate(timeout=120)
            self.assertEqual(job.returncode, 0, out + err)
        found, members = self.status(c)
        self.assertEqual(len(members), 5)
        self.assertEqual({one["state"] for one in members.values()}, {"ok"})
        keys = c.json("registry", "show")["keys"]
        for key in ("config", "desired/one", "desired/two", "endpoints/one", "endpoints/two"):
            self.assertIn(key, keys)


class FullDisk(RegistryTest):
    def test_a_full_disk_on_one_member_stops_nobody(self):
        c = self.cluster(3, disk_size={2: "64M"})
        self.deployed(c, place="{hosts: [host1]}")
        c.web("there", place="{hosts: [host2]}")
        c.release("there", "1.0.0")
        c.run("deploy", "there", "1.0.0")
        filler = os.path.join(c.live_path(2), "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 65536):
                    pass
            except OSError:
                pass
        for _ in range(3):
            told = c.run("restart", "web").stderr
        # It was reached, and what is wrong with it is said.
        self.assertRegex(told, "warning: host2: reached, but .*No space left.*make room")
        self.assertNotIn("not told", told)
        # What it could not write down, it has done: clients are sent there again.
        before = c.get(c.endpoints("there")[0])[1]["pid"]
        c.run("restart", "there", check=2)
        self.assertNotEqual(c.get(c.endpoints("there")[0])[1]["pid"], before)
        _, members = self.status(c, check=2)
        self.assertEqual((members["host2"]["state"], members["host1"]["state"]), ("cannot-write", "ok"))
        self.assertIn("No space left", members["host2"]["problem"])
        self.assertIn("No space left", c.run("sync", check=2).stderr)
        os.unlink(filler)
        wait_for(lambda: c.run("registry", "status", check=None).returncode == 0, what="host2 serves again")
        self.assertEqual(c.run("sync").stderr, "")
        c.bed.cut(1)
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")
        c.bed.heal(1)


def record(value):
    """One record of a record log (PROTOCOL.md), as the single acceptor wrote them."""
    payload = json.dumps(value, separators=(",", ":")).encode()
    return struct.pack(">II", len(payload), crc32c(payload)) + payload


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


if __name__ == "__main__":
    unittest.main()
