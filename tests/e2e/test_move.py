"""migrate, drain and undrain through the real binary on real test hosts."""

import os
import shutil
import unittest

from harness import TOP, SharedCluster, namespaces_permitted, wait_for

GROUPS = """
groups: {pool: "host[1-3]", pair: "host[1-2]"}
"""


class MoveTest(SharedCluster):
    """One cluster for all; every test has a service of its own, and leaves no host drained."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.append("cluster.yaml", GROUPS)

    def tearDown(self):
        for host in ("host1", "host2", "host3"):
            self.c.run("undrain", host)
        services = os.path.join(self.c.inventory, "services")
        for name in os.listdir(services):
            os.unlink(os.path.join(services, name))
        self.c.run("apply", "-y")

    def hosts(self, service):
        return {i: s["host"] for i, s in self.c.instances(service).items()}

    def test_migrate_moves_one_and_touches_no_other(self):
        self.deployed("mig", place="{group: pool, count: 2}")
        before = self.c.instances("mig")
        self.assertEqual(self.hosts("mig"), {"mig/0": "host1", "mig/1": "host2"})
        dry = self.c.run("migrate", "mig/0", "--from", "host1", "--to", "host3", "--dry-run")
        self.assertIn("mig/0 would move: host1 → host3", dry.stdout)
        self.assertEqual(self.hosts("mig"), {"mig/0": "host1", "mig/1": "host2"})
        done = self.c.run("migrate", "mig/0", "--from", "host1", "--to", "host3")
        self.assertIn("mig/0 moved: host1 → host3", done.stdout)
        self.assertEqual(self.hosts("mig"), {"mig/0": "host3", "mig/1": "host2"})
        self.assertEqual(self.c.instances("mig")["mig/1"]["pid"], before["mig/1"]["pid"])
        self.assertEqual({e["host"] for e in self.c.endpoints("mig")}, {"host2", "host3"})
        self.assertEqual(self.c.processes(1, "services/mig/"), [])
        # It stays there: placement is sticky.
        self.assertIn("nothing to do", self.c.run("apply", "mig").stdout)
        self.c.run("migrate", "mig/0", "--from", "host1", "--to", "host2", check=64)

    def test_what_cannot_leave_is_refused_left_or_stopped(self):
        self.deployed("pinned", place="{hosts: [host1, host2]}")
        refused = self.c.run("drain", "host1", "-y", check=77)
        self.assertIn("pinned/0 cannot leave host1", refused.stderr)
        self.assertIn("clusterctl apply pinned", refused.stderr)
        self.assertFalse(any(h["drained"] for h in self.c.json("status")["hosts"]))
        self.c.run("migrate", "pinned/0", "--to", "host2", check=77)
        self.c.run("drain", "host1", "--stop", check=64)  # no terminal, no -y
        self.c.run("drain", "host1", "-y", "--leave")
        self.assertEqual(len(self.c.endpoints("pinned")), 2)
        self.c.run("drain", "host1", "-y", "--stop")
        self.assertEqual([e["instance"] for e in self.c.endpoints("pinned")], ["pinned/1"])
        self.assertEqual(self.c.processes(1, "services/pinned/"), [])
        self.assertIn("pinned/0: started", self.c.run("undrain", "host1").stdout)
        self.assertEqual(len(self.c.endpoints("pinned")), 2)

    def test_drain_moves_all_and_keeps_new_ones_away(self):
        self.deployed("one", place="{group: pool, count: 2}")
        self.deployed("two", place="{group: pair, count: 1}")
        done = self.c.json("drain", "host1", "-y")
        self.assertTrue(done["drained"])
        self.assertEqual(self.c.processes(1, "services/one/") + self.c.processes(1, "services/two/"), [])
        self.assertEqual(self.hosts("two"), {"two/0": "host2"})
        self.deployed("three", place="{group: pool, count: 3}")
        self.assertNotIn("host1", self.hosts("three").values())
        self.assertIn("host1: drained by", self.c.run("status").stdout)
        self.c.run("undrain", "host1")
        self.assertNotIn("drained", self.c.run("status").stdout)

    def test_an_undrained_host_gets_its_share_back_on_request(self):
        self.deployed("even", place="{group: pool, count: 3}")
        before = self.hosts("even")
        self.c.run("drain", "host1", "-y")
        self.assertNotIn("host1", self.hosts("even").values())
        done = self.c.run("undrain", "host1")
        self.assertRegex(done.stdout, r"even/\d could come back: host[23] → host1")
        self.assertIn("until 'clusterctl undrain --back host1'", done.stdout)
        self.assertNotIn("host1", self.hosts("even").values())
        self.assertIn("nothing to do", self.c.run("apply", "even").stdout)
        dry = self.c.run("undrain", "--back", "host1", "--dry-run")
        self.assertRegex(dry.stdout, r"even/\d would move: host[23] → host1")
        self.assertNotIn("host1", self.hosts("even").values())
        done = self.c.run("undrain", "--back", "host1")
        self.assertRegex(done.stdout, r"even/\d moved: host[23] → host1")
        self.assertIn("host1: was not drained; 1 instance moved there in", done.stdout)
        self.assertEqual(sorted(self.hosts("even").values()), sorted(before.values()))
        self.assertEqual(self.c.versions("even"), ["1.0.0"] * 3)
        self.assertIn("0 instances moved there", self.c.run("undrain", "--back", "host1").stdout)

    def test_a_drain_with_nothing_to_move_ends_what_a_killed_one_left(self):
        self.deployed("gone", place="{group: pool, count: 2}")
        _, done = self.c.run_faulty(1, "kill", "drain", "-y", "host1", name="tell hosts")
        self.assertEqual(done.returncode, -9)
        _, done = self.c.run_faulty(1, "kill", "restart", "gone/1", name="restart")
        self.assertEqual(len(self.c.json("lock", "show")["locks"]), 1)
        done = self.c.run("drain", "-y", "host1")
        self.assertIn("took over the lock that was left behind by", done.stderr)
        self.assertEqual(self.c.json("lock", "show")["locks"], [])

    def test_host_by_host_goes_past_those_that_have_nothing(self):
        self.deployed("lone", place="{hosts: [host2]}")
        pid = self.c.instances("lone")["lone/0"]["pid"]
        done = self.c.run("restart", "--host", "host1")
        self.assertIn("host1: nothing of this cluster is placed there", done.stderr)
        self.assertEqual(self.c.instances("lone")["lone/0"]["pid"], pid)
        self.assertIn("0 of 0 instances done", self.c.run("stop", "--host", "host1", "-y").stdout)
        done = self.c.run("play", os.path.join(TOP, "playbooks", "restart-host-by-host.yaml"))
        self.assertIn("restart host by host: 6 steps done", done.stdout)
        self.assertNotEqual(self.c.instances("lone")["lone/0"]["pid"], pid)

    def test_what_a_killed_drain_was_to_stop_is_stopped_by_the_next(self):
        self.deployed("noted", place="{hosts: [host1, host2]}")
        _, done = self.c.run_faulty(1, "kill", "drain", "-y", "--stop", "host1", name="stop")
        self.assertEqual(done.returncode, -9)
        self.assertEqual(len(self.c.processes(1, "services/noted/")), 1)
        self.c.run("drain", "-y", "--stop", "host1")
        self.assertEqual(self.c.processes(1, "services/noted/"), [])
        self.c.run("undrain", "host1")
        self.assertEqual(self.c.versions("noted"), ["1.0.0", "1.0.0"])

    def check_nothing_left(self, service, host, *command):
        self.assertEqual(len(self.c.processes(host, f"services/{service}/")), 1)
        self.c.run(*command)
        self.assertEqual(self.c.processes(host, f"services/{service}/"), [])
        self.assertEqual([i["note"] for i in self.c.json("status", service)["instances"]], [""] * 2)

    def test_what_a_killed_move_had_begun_elsewhere_is_taken_off(self):
        for service, command in (("lefta", ["apply", "-y", "lefta"]), ("leftb", ["sync"])):
            self.deployed(service, place="{group: pool, count: 2}")
            _, done = self.c.run_faulty(1, "kill", "migrate", f"{service}/0", "--to", "host3", name="publish")
            self.assertEqual(done.returncode, -9)
            self.check_nothing_left(service, 3, *command)
            self.assertEqual(self.hosts(service), {f"{service}/0": "host1", f"{service}/1": "host2"})

    @unittest.skipUnless(namespaces_permitted(), "hosts that can be cut need root and namespaces")
    def test_what_runs_on_a_host_that_was_away_while_it_was_drained_is_taken_off(self):
        self.deployed("away", place="{group: pool, count: 2}")
        self.c.bed.cut(2)
        self.addCleanup(self.c.bed.heal, 2)
        self.c.run("drain", "-y", "host2", "--skip-unreachable", check=4)
        self.c.bed.heal(2)
        wait_for(lambda: self.c.run("ping", "-l", "host2", check=None).returncode == 0, what="host2")
        self.assertIn("remove", self.c.run("plan", "away", check=None).stdout)
        self.check_nothing_left("away", 2, "apply", "-y", "away")
        self.assertEqual(self.hosts("away"), {"away/0": "host1", "away/1": "host3"})

    def test_a_move_that_fails_leaves_all_as_it_was(self):
        self.c.web("stays", place="{group: pool, count: 1}", start_timeout="2s")
        start = '[/bin/sh, -c, "[ $CLUSTERCTL_HOST = host1 ] && exec {{release_dir}}/bin/server {{conf_dir}}/app.conf"]'
        self.c.edit("stays", '[bin/server, "{{conf_dir}}/app.conf"]', start)
        self.c.release("stays", "1.0.0")
        self.c.run("deploy", "stays", "1.0.0")
        before = self.c.endpoints("stays")
        self.assertEqual(self.hosts("stays"), {"stays/0": "host1"})
        self.c.run("drain", "host1", "-y", check=3)
        self.assertEqual(self.c.endpoints("stays"), before)
        self.assertFalse(any(h["drained"] for h in self.c.json("status")["hosts"]))

    def test_from_a_machine_without_the_releases(self):
        """A runner that has the inventory and nothing else fetches what it needs from a host that has it."""
        self.deployed("far", place="{group: pool, count: 2}")
        store = os.path.join(self.c.directory, "releases")

        def from_nothing(text, *command):
            shutil.rmtree(store)
            dry = self.c.run(*command, "--dry-run")
            self.assertIn("far 1.0.0 is not in the local store", dry.stderr)
            self.assertFalse(os.path.exists(store))
            done = self.c.run(*command)
            self.assertIn("fetching far 1.0.0 from a host that has it", done.stderr)
            self.assertIn(text, done.stdout)
            self.assertIn("exactly as added", self.c.run("release", "verify", "far", "1.0.0").stdout)
            self.assertEqual(self.c.versions("far"), ["1.0.0", "1.0.0"])

        from_nothing("far/0 moved: host1 → host3", "migrate", "far/0", "--to", "host3")
        self.c.append("services/far.yaml", "env: {NEW: setting}\n")
        from_nothing("far 1.0.0: 2 of 2 instances ready", "apply", "far")
        from_nothing("host3: drained", "drain", "host3", "-y")
        self.assertEqual(self.hosts("far"), {"far/0": "host1", "far/1": "host2"})
        shutil.rmtree(store)
        self.c.run("stop", "far", "-y")
        self.c.run("start", "far")
        self.assertFalse(os.path.exists(store))

    def test_what_is_deployed_is_moved_not_what_the_manifest_says_by_now(self):
        self.deployed("edited", place="{group: pool, count: 2}")
        self.c.append("services/edited.yaml", "env: {PENDING: edit}\n")
        host = self.hosts("edited")["edited/1"]
        self.c.run("migrate", "edited/1")
        self.assertNotEqual(self.hosts("edited")["edited/1"], host)
        for endpoint in self.c.endpoints("edited"):
            self.assertNotIn("PENDING", self.c.get(endpoint)[1]["env"])
        self.assertIn("2 to replace", self.c.run("plan", "edited").stdout)


if __name__ == "__main__":
    unittest.main()
