"""The registry on a quorum of real hosts: minorities and majorities lost, members changed, disks wiped and full."""

import json
import os
import shutil
import signal
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import Cluster, namespaces_permitted, wait_for  # noqa: E402


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

    def kill_shim(self, cluster, host):
        for pid in cluster.shim_pids(host):
            cluster.bed.exec(host, "kill", "-9", str(pid), check=False)


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
        c.run("restart", "web")  # the two others are a quorum
        c.run("registry", "members", "replace", "host3", check=64)  # asks
        c.run("-y", "registry", "members", "replace", "host3")
        _, members = self.status(c)
        self.assertEqual(members["host3"]["state"], "ok")
        c.bed.cut(1)
        self.assertEqual(self.value(c, "desired/web")["version"], "1.0.0")
        c.run("restart", "web/1")
        c.bed.heal(1)

    def test_a_cli_killed_between_commit_and_push_is_repaired_by_the_next_command(self):
        c = self.cluster(4)
        self.deployed(c, place="{hosts: [host1]}")
        c.bed.cut(4)
        # Stopped when the new version is in the registry, and killed before it can tell anybody more.
        c.release("web", "1.1.0")
        job = c.start("deploy", "web", "1.1.0")
        revision = c.registry_file(1)["services"]["web"]["revision"]
        wait_for(lambda: c.registry_file(1)["services"]["web"]["revision"] > revision, what="a new revision")
        job.send_signal(signal.SIGKILL)
        job.communicate()
        c.bed.heal(4)
        c.run("deploy", "web", "1.1.0", "--lock-wait", "30s")
        for host in (1, 2, 3, 4):
            self.assertEqual(c.registry_file(host)["services"]["web"], c.registry_file(1)["services"]["web"])
        self.assertEqual(c.versions("web"), ["1.1.0"])

    def test_an_unhealthy_instance_is_committed_by_whoever_comes_next(self):
        c = self.cluster(3)
        self.deployed(c)
        instance = c.instances("web")["web/0"]
        c.bed.exec(1, "kill", "-STOP", str(instance["pid"]))
        self.kill_shim(c, 1)  # what its shim knows of it survives as well
        c.bed.exec(1, "kill", "-9", str(instance["pid"]))
        # Its shim may be coming back just now: said, with exit 4, and the next one reaches it.
        wait_for(lambda: c.run("sync", check=None).returncode == 0, what="a sync that reaches every host")
        wait_for(lambda: c.instances("web")["web/0"]["state"] == "ready", what="restarted")
        c.run("sync")
        self.assertEqual({one["state"] for one in c.endpoints("web")}, {"ready"})


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
        c.run("restart", "web/1", check=8)
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
        c.run("registry", "members", "replace", "host3", "host5", "-y")
        self.name_hosts(c, [keeper, "host1", "host5"])
        c.run("restart", "web")

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
        filler = os.path.join(c.live_path(2), "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 65536):
                    pass
            except OSError:
                pass
        for _ in range(3):
            c.run("restart", "web")
        os.unlink(filler)
        wait_for(lambda: c.run("registry", "status", check=None).returncode == 0, what="host2 serves again")
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
