"""plan and apply through the real binary on real test hosts."""

import glob
import json
import os
import re
import unittest

from harness import SharedCluster


class ApplyTest(SharedCluster):
    """One cluster for all; every test has a service of its own, and takes it out at the end."""

    def test_nothing_to_do_says_so(self):
        self.deployed("idle")
        self.assertIn("plan: nothing to do", self.c.run("plan", "idle").stdout)
        before = self.pids("idle")
        self.assertEqual(self.c.run("apply", "idle").stdout.splitlines()[-1], "apply: nothing to do")
        self.assertEqual(self.pids("idle"), before)

    def test_a_changed_config_rolls_and_says_why(self):
        self.deployed("conf")
        before = self.pids("conf")
        self.c.edit("conf", "mode: \"0640\"}]", "mode: \"0640\"}]\nenv: {THREADS: \"4\"}")
        plan = self.c.run("plan", "conf").stdout
        self.assertIn("~ conf/0 on host1: replace as 1.0.0 (environment THREADS)", plan)
        self.assertIn("wave 2 of 2", plan)
        self.assertIn("plan: 2 to replace", plan)
        self.assertEqual(self.pids("conf"), before)
        done = self.c.run("apply", "conf")
        self.assertEqual(done.stdout.splitlines()[-2], "conf 1.0.0: 2 of 2 instances ready")
        for endpoint in self.c.endpoints("conf"):
            self.assertEqual(self.c.get(endpoint)[1]["env"]["THREADS"], "4")
        self.assertIn("nothing to do", self.c.run("apply", "conf").stdout)

    def test_scaling_touches_only_what_comes_and_goes(self):
        self.deployed("size")
        before = self.pids("size")
        self.c.edit("size", "[host1, host2]", "[host1, host2, host3]")
        done = self.c.run("apply", "size")
        self.assertIn("+ size/2 on host3: start as 1.0.0 (not there yet)", done.stdout)
        now = self.pids("size")
        self.assertEqual({i: now[i] for i in before}, before)
        self.assertEqual(len(self.c.endpoints("size")), 3)
        self.c.edit("size", "[host1, host2, host3]", "[host1, host2]")
        refused = self.c.run("apply", "size", check=64)
        self.assertIn("-y", refused.stderr)
        self.assertEqual(len(self.c.endpoints("size")), 3)
        done = self.c.run("apply", "size", "-y")
        self.assertIn("- size/2 on host3: stop and remove 1.0.0 (only 2 wanted)", done.stdout)
        self.assertEqual(self.pids("size"), before)
        self.assertEqual(self.c.processes(3, "services/size/"), [])

    def test_what_was_stopped_by_hand_is_left_alone(self):
        self.deployed("held")
        self.c.run("stop", "held/0", "-y")
        self.assertIn("held/0: stays stopped", self.c.run("plan", "held").stdout)
        self.c.run("apply", "held")
        self.assertEqual(self.c.processes(1, "services/held/"), [])

    def test_a_service_taken_out_of_the_inventory_is_removed(self):
        self.deployed("going")
        os.unlink(f"{self.c.inventory}/services/going.yaml")
        plan = self.c.json("plan", "going")
        self.assertTrue(plan["removals"])
        self.assertEqual({(c["action"], c["instance"]) for c in plan["services"][0]["changes"]},
                         {("remove", "going/0"), ("remove", "going/1")})
        self.c.run("apply", "going", check=64)
        self.assertIn("going 1.0.0: removed", self.c.run("apply", "going", "-y").stdout)
        self.assertEqual(self.c.processes(1, "services/going/"), [])
        self.assertEqual(self.c.endpoints("going"), [])
        self.c.run("plan", "going", check=65)

    def test_a_failure_is_put_back(self):
        self.deployed("bad", start_timeout="2s")
        before = self.c.endpoints("bad")
        self.c.edit("bad", "run: [bin/server", "run: [/bin/false")
        done = self.c.run("apply", "bad", check=3)
        self.assertIn("failed and put back", done.stdout)
        self.assertEqual(self.c.endpoints("bad"), before)
        self.assertEqual(self.c.versions("bad"), ["1.0.0", "1.0.0"])
        self.c.edit("bad", "run: [/bin/false", "run: [bin/server")

    def test_differences_are_folded_and_hide_secrets(self):
        self.c.template("secret.conf.mustache",
                        "name = {{instance.name}}\nthreads = {{vars.threads}}\npassword = {{vars.password}}\n")
        self.c.web("hush", start_timeout="2s", more='vars: {threads: "4", password: swordfish}\nenv: {DSN: "db:{{vars.password}}"}\n'
                                "secrets: [password]\n")
        self.c.edit("hush", "app.conf.mustache", "secret.conf.mustache")
        self.c.edit("hush", '/app.conf"]\n', '/app.conf", "{{vars.password}}"]\n')
        self.c.release("hush", "1.0.0")
        self.c.run("deploy", "hush", "1.0.0")
        shown = self.c.run("render", "hush").stdout
        self.assertIn("password = (secret)", shown)
        self.assertIn("# env: DSN=db:(secret)", shown)
        self.assertIn("password = swordfish", self.c.run("render", "hush", "--show-secrets").stdout)
        self.assertIn("no generated file differs", self.c.run("render", "hush", "--diff").stdout)

        self.c.edit("hush", 'threads: "4", password: swordfish', 'threads: "8", password: hunter22')
        folded = ("hush/[0-1]: app.conf\n--- app.conf (runs now)\n+++ app.conf (planned)\n@@ -1,3 +1,3 @@\n"
                  " name = hush/0\n-threads = 4\n-password = (old secret)\n"
                  "+threads = 8\n+password = (new secret)\n")
        before = self.pids("hush")
        for command in (["plan", "hush", "--diff"], ["apply", "hush", "--dry-run", "--diff"],
                        ["deploy", "hush", "1.0.0", "--dry-run", "--diff"], ["render", "hush", "--diff"]):
            self.assertIn(folded, self.c.run(*command).stdout, command)
        plan = self.c.json("plan", "hush", "--diff")
        self.assertIn("+threads = 8\n", plan["services"][0]["changes"][1]["files"][0]["diff"])
        self.assertNotIn("diff", self.c.run("plan", "hush").stdout)
        self.assertEqual(self.pids("hush"), before)
        done = self.c.run("apply", "hush", "--diff")
        for text in (json.dumps(plan), done.stdout + done.stderr):
            self.assertNotIn("swordfish", text)
            self.assertNotIn("hunter22", text)
        self.assertIn(folded, done.stdout)
        self.assertEqual(self.c.get(self.c.endpoints("hush")[0])[1]["env"]["DSN"], "db:hunter22")

        events = self.c.run("events").stdout
        self.assertRegex(events, r"hush/0 start: started bin/server .*/app.conf \(secret\)")
        self.assertNotIn("swordfish", events)
        # Nor does the evidence of a failure.
        self.c.edit("hush", "password: hunter22", "password: correcthorse")
        self.c.release("hush", "2.0.0", mode="never-ready")
        failed = self.c.run("deploy", "hush", "2.0.0", check=3)
        directory = re.search(r"(?m)^evidence: (.*)$", failed.stdout).group(1)
        with open(glob.glob(f"{directory}/*-hush-*/config.diff")[0]) as file:
            diff = file.read()
        self.assertIn("-password = (old secret)\n+password = (new secret)\n", diff)
        self.assertIn("+DSN=db:(new secret)\n", diff)
        for secret in ("hunter22", "correcthorse"):
            self.assertNotIn(secret, diff)

    def test_new_files_are_shown_whole(self):
        """Of what starts anew or moves; ports that its host will choose are (auto)."""
        self.c.template("new.conf.mustache", "name = {{instance.name}} on {{host.name}}\nport = {{port.main}}\n"
                                             "password = {{vars.password}}\n")
        self.c.web("fresh", place="{group: all, count: 1}", more="vars: {password: swordfish}\nsecrets: [password]\n")
        self.c.edit("fresh", "app.conf.mustache", "new.conf.mustache")
        self.c.release("fresh", "1.0.0")

        def added(index, host):
            return (f"fresh/{index}: app.conf\n--- /dev/null\n+++ app.conf (planned)\n@@ -0,0 +1,3 @@\n"
                    f"+name = fresh/{index} on {host}\n+port = (auto)\n+password = (secret)\n")

        self.assertIn(added(0, "host1"), self.c.run("deploy", "fresh", "1.0.0", "--dry-run", "--diff").stdout)
        self.assertIn(added(0, "host1"), self.c.run("deploy", "fresh", "1.0.0", "--diff").stdout)
        self.assertIn("\nport = 2", "\n" + self.c.get(self.c.endpoints("fresh")[0])[1]["conf"])
        self.c.edit("fresh", "count: 1", "count: 2")
        self.assertIn(added(1, "host2"), self.c.run("plan", "fresh", "--diff").stdout)
        self.assertIn("+port = (auto)\n", self.c.json("plan", "fresh", "--diff")["services"][0]["changes"][0]["files"][0]["diff"])
        self.c.edit("fresh", "{group: all, count: 2}", "{hosts: [host3]}")
        done = self.c.run("plan", "fresh", "--diff").stdout
        self.assertIn("~ fresh/0 from host1 to host3", done)
        self.assertIn(added(0, "host3"), done)

    def saved(self, service):
        path = os.path.join(self.c.directory, service + ".plan")
        self.c.run("plan", service, "--out", path)
        return path

    def test_a_saved_plan_is_carried_out_once(self):
        self.deployed("saved")
        self.c.edit("saved", "mode: \"0640\"}]", "mode: \"0600\"}]")
        plan = self.saved("saved")
        with open(plan) as file:
            self.assertEqual(json.load(file)["kind"], "clusterctl-plan")
        self.c.run("apply", "--plan", plan)
        self.assertIn("nothing to do", self.c.run("plan", "saved").stdout)
        again = self.c.run("apply", "--plan", plan, check=7)
        self.assertIn("what should run was changed", again.stderr)

    def test_a_saved_plan_is_refused_when_the_fleet_changed(self):
        self.deployed("stale")
        self.c.edit("stale", "mode: \"0640\"}]", "mode: \"0600\"}]")
        plan = self.saved("stale")
        self.c.run("stop", "stale/1", "-y")
        before = self.pids("stale")
        self.c.run("apply", "--plan", plan, check=7)
        self.assertEqual(self.pids("stale"), before)

    def test_a_saved_plan_is_refused_when_the_inventory_changed(self):
        self.deployed("edited")
        plan = self.saved("edited")
        self.c.append("services/edited.yaml", "env: {A: b}\n")
        refused = self.c.run("apply", "--plan", plan, check=7)
        self.assertIn("the files of the inventory", refused.stderr)
        self.c.run("apply", "other", "--plan", plan, check=64)
        self.c.write("../garbage", "{}")
        self.c.run("apply", "--plan", f"{self.c.directory}/garbage", check=65)

    def test_dependants_follow_within_one_apply(self):
        self.deployed("below")
        self.c.template("above.conf.mustache",
                        "{{#services.below}}below = {{address}}:{{port.main}}\n{{/services.below}}")
        self.c.web("above", place="{hosts: [host3]}", more="depends_on: [below]\non_change: {below: reload}\n")
        self.c.edit("above", "app.conf.mustache", "above.conf.mustache")
        self.c.release("above", "1.0.0")
        self.c.run("deploy", "above", "1.0.0")
        self.c.edit("below", "mode: \"0640\"}]", "mode: \"0600\"}]")
        self.c.edit("above", "mode: \"0640\"}]", "mode: \"0600\"}]")
        done = self.c.run("apply", "-y").stdout
        self.assertLess(done.index("below 1.0.0: 2 of 2"), done.index("above 1.0.0: 1 of 1"))
        conf = self.c.get(self.c.endpoints("above")[0])[1]["conf"]
        for endpoint in self.c.endpoints("below"):
            self.assertIn(f":{endpoint['ports']['main']}\n", conf)
        self.assertIn("plan: nothing to do", self.c.run("plan").stdout)


if __name__ == "__main__":
    unittest.main()
