"""deploy, status and what belongs to them, through the real binary on real test hosts."""

import os
import select
import subprocess
import unittest

from harness import SERVER, SharedCluster, interrupt, wait_for


class DeployTest(SharedCluster):
    def test_first_deploy_runs_publishes_and_says_so(self):
        done = self.deployed("first")
        self.assertRegex(done.stdout.splitlines()[-1], r"^first 1\.0\.0: 2 of 2 instances ready in ")
        found = self.c.instances("first")
        self.assertEqual({i: s["state"] for i, s in found.items()}, {"first/0": "ready", "first/1": "ready"})
        self.assertEqual({s["host"] for s in found.values()}, {"host1", "host2"})
        for endpoint in self.c.endpoints("first"):
            status, body = self.c.get(endpoint)
            self.assertEqual((status, body["version"]), (200, "1.0.0"))
            self.assertIn(f"port = {endpoint['ports']['main']}\n", body["conf"])
            self.assertEqual(body["env"]["CLUSTERCTL_SERVICE"], "first")
            self.assertEqual(body["env"]["PORT"], str(endpoint["ports"]["main"]))
        for host in (1, 2, 3):
            told = self.c.registry_file(host)
            self.assertEqual(told["format"], 1)
            self.assertEqual(told["services"]["first"]["endpoints"], self.c.endpoints("first"))

    def test_the_same_deploy_again_changes_nothing(self):
        self.deployed("again")
        before = self.pids("again")
        done = self.c.run("deploy", "again", "1.0.0")
        self.assertIn("nothing to do", done.stdout)
        self.assertEqual(self.pids("again"), before)

    def test_second_version_start_first_keeps_the_old_release(self):
        self.deployed("second")
        old = self.c.endpoints("second")
        self.c.release("second", "1.1.0")
        self.c.run("deploy", "second", "1.1.0")
        self.assertEqual(self.c.versions("second"), ["1.1.0", "1.1.0"])
        new = self.c.endpoints("second")
        self.assertNotEqual([e["ports"] for e in old], [e["ports"] for e in new])
        self.assertTrue(os.path.exists(self.c.root_path(1, "services/second/1.0.0/bin/server")))
        self.assertEqual(len(self.c.processes(1, "services/second/")), 1)

    def test_second_version_stop_first(self):
        self.deployed("stopfirst", order="stop-first")
        self.c.release("stopfirst", "1.1.0")
        self.c.run("deploy", "stopfirst", "1.1.0")
        self.assertEqual(self.c.versions("stopfirst"), ["1.1.0", "1.1.0"])

    def check_put_back(self, service, version, *said):
        before = {i: (s["pid"], s["version"]) for i, s in self.c.instances(service).items()}
        endpoints = self.c.endpoints(service)
        done = self.c.run("deploy", service, version, check=3)
        for text in said:
            self.assertIn(text, done.stdout)
        self.assertIn("1.0.0 is back", done.stdout)
        after = {i: (s["pid"], s["version"]) for i, s in self.c.instances(service).items()}
        self.assertEqual(after, before)
        self.assertEqual(self.c.endpoints(service), endpoints)
        self.assertEqual(self.c.versions(service), ["1.0.0", "1.0.0"])
        return done.stdout

    def test_a_version_that_crashes_at_start_is_put_back(self):
        self.deployed("crasher")
        self.c.release("crasher", "1.1.0", mode="crash")
        self.check_put_back("crasher", "1.1.0", "exit status 3", "cannot open the puzzle database")

    def test_a_shell_script_that_fails_is_put_back(self):
        self.deployed("script")
        self.c.release("script", "1.1.0", {"bin/server": "#!/bin/sh\necho no such luck >&2\nexit 7\n"})
        self.check_put_back("script", "1.1.0", "exit status 7", "no such luck")

    def test_a_program_that_cannot_be_executed_is_put_back(self):
        self.deployed("noexec")
        self.c.release("noexec", "1.1.0", {"bin/server": "#!/no/such/interpreter\n"}, check=True)
        done = self.c.run("deploy", "noexec", "1.1.0", check=None)
        self.assertIn(done.returncode, (3, 77), done.stdout + done.stderr)
        self.assertIn("/no/such/interpreter", done.stdout + done.stderr)
        self.assertEqual(self.c.versions("noexec"), ["1.0.0", "1.0.0"])

    def test_a_version_that_is_never_ready_is_put_back(self):
        self.deployed("unready", start_timeout="2s")
        self.c.release("unready", "1.1.0", mode="never-ready")
        out = self.check_put_back("unready", "1.1.0", "503")
        self.assertEqual(out.count("503 Service Unavailable"), 1, out)

    def test_a_bad_second_batch_puts_back_the_first(self):
        # Instance 1 finds its port's marker file and fails; instance 0 has been replaced by then.
        self.deployed("halfway")
        script = SERVER.format(version="1.1.0", mode="good").replace(
            'if MODE == "crash":', 'if os.environ["CLUSTERCTL_INSTANCE"].endswith("1"):')
        self.c.release("halfway", "1.1.0", {"bin/server": script})
        done = self.c.run("deploy", "halfway", "1.1.0", check=3)
        self.assertIn("halfway/1 on host2", done.stdout)
        self.assertEqual(self.c.versions("halfway"), ["1.0.0", "1.0.0"])
        self.assertEqual({s["version"] for s in self.c.instances("halfway").values()}, {"1.0.0"})

    def test_a_first_deploy_that_fails_leaves_nothing_running(self):
        self.c.web("firstbad")
        self.c.release("firstbad", "1.0.0", mode="crash")
        done = self.c.run("deploy", "firstbad", "1.0.0", check=3)
        self.assertIn("nothing of it runs", done.stdout)
        self.assertEqual(self.c.processes(1, "services/firstbad/"), [])
        self.assertEqual(self.c.instances("firstbad"), {})

    def test_a_release_changed_on_the_host_is_not_started(self):
        self.deployed("tampered")
        path = self.c.root_path(1, "services/tampered/1.0.0/bin/server")
        os.chmod(path, 0o755)
        with open(path, "a") as file:
            file.write("# hello from an intruder\n")
        done = self.c.run("restart", "tampered/0", check=2)
        self.assertIn("bin/server", done.stdout)
        self.assertRegex(done.stdout, "content differs|changed|does not match")
        done = self.c.run("verify", "tampered", check=77)
        self.assertIn("bin/server", done.stdout)

    def test_a_version_never_changes(self):
        self.deployed("fixed")
        done = self.c.release("fixed", "1.0.0", {"bin/server": "#!/bin/sh\n"}, check=False)
        self.assertEqual(done.returncode, 77)
        # Not even when the local store is made anew.
        subprocess.run(["rm", "-rf", f"{self.c.directory}/releases/fixed"], check=True)
        self.c.release("fixed", "1.0.0", {"bin/server": "#!/bin/sh\n"})
        done = self.c.run("deploy", "fixed", "1.0.0", check=77)
        self.assertIn("new version", done.stderr)

    def test_unknown_names_are_refused_before_anything_is_contacted(self):
        self.c.web("known")
        self.assertIn("did you mean", self.c.run("deploy", "knwon", "1.0.0", check=65).stderr)
        self.assertIn("2.0.0", self.c.run("deploy", "known", "2.0.0", check=1).stderr)

    def test_dry_run_changes_nothing(self):
        self.deployed("dry")
        self.c.release("dry", "1.1.0")
        done = self.c.run("deploy", "dry", "1.1.0", "--dry-run")
        self.assertIn("1.0.0 → 1.1.0", done.stdout)
        self.assertEqual(self.c.versions("dry"), ["1.0.0", "1.0.0"])
        self.assertFalse(os.path.exists(self.c.root_path(1, "services/dry/1.1.0")))

    def test_scale_down_removes_the_highest(self):
        self.deployed("scaled", place="{hosts: [host1, host2, host3]}")
        self.c.web("scaled", place="{hosts: [host1, host2]}")
        self.c.run("deploy", "scaled", "1.0.0")
        self.assertEqual(set(self.c.instances("scaled")), {"scaled/0", "scaled/1"})
        self.assertEqual([e["instance"] for e in self.c.endpoints("scaled")], ["scaled/0", "scaled/1"])
        self.assertEqual(self.c.processes(3, "services/scaled/"), [])

    def test_crash_is_restarted_and_journalled(self):
        self.deployed("crash")
        before = self.c.instances("crash")["crash/0"]
        self.c.bed.exec(1, "kill", "-9", str(before["pid"]))
        after = wait_for(lambda: (lambda s: s["state"] == "ready" and s["pid"] != before["pid"] and s)(
            self.c.instances("crash")["crash/0"]), what="crash/0 ready again")
        self.assertEqual(after["restarts"], 1)
        self.assertEqual(after["ports"], before["ports"])
        events = self.c.run("events", "--since", "5m", "-l", "host1").stdout
        self.assertRegex(events, r"crash/0 exit: .*KILL")

    def test_stop_start_restart_keep_their_word(self):
        self.deployed("life")
        self.c.run("stop", "life/0", check=64)  # no terminal, no -y
        self.c.run("stop", "life/0", "-y")
        self.assertEqual([e["instance"] for e in self.c.endpoints("life")], ["life/1"])
        self.assertEqual(self.c.processes(1, "services/life/"), [])
        self.c.release("life", "1.1.0")
        done = self.c.run("deploy", "life", "1.1.0")
        self.assertIn("stopped by hand", done.stdout)
        self.assertEqual(self.c.processes(1, "services/life/"), [])
        self.c.run("start", "life/0")
        self.assertEqual(len(self.c.endpoints("life")), 2)
        pids = self.pids("life")
        done = self.c.run("restart", "life")
        self.assertIn("2 of 2 instances done", done.stdout)
        now = self.pids("life")
        self.assertTrue(all(now[i] != pids[i] for i in pids))
        self.assertEqual(len(self.c.endpoints("life")), 2)

    def test_restart_by_host_touches_only_that_host(self):
        self.deployed("byhost")
        pids = self.pids("byhost")
        self.c.run("restart", "byhost", "--host", "host2")
        now = self.pids("byhost")
        self.assertEqual(now["byhost/0"], pids["byhost/0"])
        self.assertNotEqual(now["byhost/1"], pids["byhost/1"])

    def test_logs_show_both_streams_with_times(self):
        self.deployed("logs")
        out = self.c.run("logs", "logs/0").stdout
        self.assertRegex(out, r"(?m)^\d{4}-\d\d-\d\dT\S+Z? O version 1\.0\.0 on port \d+$")
        self.assertRegex(out, r"(?m) E a line on stderr$")

    def test_logs_follow_until_interrupted(self):
        self.deployed("tail")
        follower = self.c.start("logs", "-f", "-n", "0", "tail/0")
        wait_for(lambda: self.c.run("reload", "tail/0") and _line_available(follower), what="a line")
        interrupt(follower)
        out, _ = follower.communicate(timeout=20)
        self.assertIn("reloaded", out)

    def test_dependants_follow_without_a_restart(self):
        self.deployed("backend")
        self.c.template("front.conf.mustache",
                        "{{#services.backend}}backend = {{address}}:{{port.main}}\n{{/services.backend}}")
        self.c.web("front", place="{hosts: [host3]}",
                   more="depends_on: [backend]\non_change: {backend: reload}\n")
        self.c.edit("front", "app.conf.mustache", "front.conf.mustache")
        self.c.release("front", "1.0.0")
        self.c.run("deploy", "front", "1.0.0")
        pid = self.c.instances("front")["front/0"]["pid"]
        self.c.release("backend", "1.1.0")
        self.c.run("deploy", "backend", "1.1.0")
        conf = self.c.get(self.c.endpoints("front")[0])[1]["conf"]
        for endpoint in self.c.endpoints("backend"):
            self.assertIn(f"backend = {endpoint['address']}:{endpoint['ports']['main']}\n", conf)
        self.assertEqual(len(conf.splitlines()), 2)
        self.assertEqual(self.c.instances("front")["front/0"]["pid"], pid)
        self.assertIn("reloaded", self.c.run("logs", "front/0").stdout)

    def test_started_but_not_published_when_killed_is_published_by_the_next(self):
        # Found by killing at random: the next deploy kept the new one and stopped the old one, and
        # the registry went on naming the old one's port.
        self.deployed("unpublished", place="{hosts: [host1]}")
        slow = SERVER.format(version="1.1.0", mode="good")
        self.c.release("unpublished", "1.1.0", {"bin/server": slow})
        process = self.c.start("deploy", "unpublished", "1.1.0")
        wait_for(lambda: len(self.c.processes(1, "services/unpublished/")) == 2, what="the new one started")
        process.kill()
        process.communicate()
        wait_for(lambda: {s["state"] for s in self.c.json("status", "unpublished")["instances"]} == {"ready"},
                 what="all ready")
        self.c.run("deploy", "unpublished", "1.1.0")
        self.assertEqual(self.c.versions("unpublished"), ["1.1.0"])
        self.assertEqual(len(self.c.processes(1, "services/unpublished/")), 1)

    def test_two_deploys_at_once_one_is_told_of_the_other(self):
        self.c.web("twice", start_timeout="8s")
        self.c.release("twice", "1.0.0")
        self.c.release("twice", "1.1.0", mode="never-ready")
        self.c.run("deploy", "twice", "1.0.0")
        first = self.c.start("deploy", "twice", "1.1.0")
        wait_for(lambda: len(self.c.processes(1, "services/twice/")) == 2, what="the first one at work")
        done = self.c.run("deploy", "twice", "1.0.0", check=6)
        self.assertIn("deploy twice 1.1.0", done.stderr)
        self.assertIn("--lock-wait", done.stderr)
        first.communicate(timeout=60)
        self.assertEqual(first.returncode, 3)

    def test_interrupt_puts_back_and_releases_the_lock(self):
        self.deployed("ctrlc", start_timeout="30s")
        self.c.release("ctrlc", "1.1.0", mode="never-ready")
        process = self.c.start("deploy", "ctrlc", "1.1.0")
        wait_for(lambda: self.c.processes(1, "services/ctrlc/1.1.0/") or self.c.processes(1, "ctrlc.*1.1.0")
                 or len(self.c.processes(1, "services/ctrlc/")) > 1, what="the new version under way")
        interrupt(process)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        self.assertEqual(self.c.versions("ctrlc"), ["1.0.0", "1.0.0"])
        self.assertEqual(len(self.c.processes(1, "services/ctrlc/")), 1)
        self.c.run("deploy", "ctrlc", "1.0.0")

    def test_killed_in_the_middle_the_same_command_finishes(self):
        self.deployed("killed")
        self.c.release("killed", "1.1.0")
        for delay in (0.05, 0.3, 0.8, 1.6, 2.6):
            process = self.c.start("deploy", "killed", "1.1.0")
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            self.assertEqual(len(self.c.endpoints("killed")), 2)
        self.c.run("deploy", "killed", "1.1.0")
        self.assertEqual(self.c.versions("killed"), ["1.1.0", "1.1.0"])
        for host in (1, 2):
            self.assertEqual(len(self.c.processes(host, "services/killed/")), 1)
        self.assertNotIn("did not end", self.c.run("status", "killed").stdout)


def _line_available(process):
    return select.select([process.stdout], [], [], 0.5)[0]


if __name__ == "__main__":
    unittest.main()
