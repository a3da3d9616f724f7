"""rollback: specs and releases come from wherever they are; what is kept as evidence. On real hosts."""

import hashlib
import os
import shutil
import unittest

from harness import SharedCluster


class RollbackTest(SharedCluster):
    def conf(self, service):
        return [self.c.get(endpoint)[1]["conf"] for endpoint in self.c.endpoints(service)]

    def test_specs_lie_on_the_hosts_under_their_digests(self):
        self.deployed("specs", "1.0.0")
        for host in (1, 2):
            directory = self.c.root_path(host, "services/specs/specs")
            names = os.listdir(directory)
            self.assertEqual(len(names), 1)
            path = os.path.join(directory, names[0], "spec.json")
            with open(path, "rb") as file:
                self.assertEqual(hashlib.sha256(file.read()).hexdigest(), names[0])
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o444)

    def test_back_and_back_again(self):
        self.deployed("twice", "1.0.0")
        self.assertIn("nothing to go back to", self.c.run("rollback", "twice", check=1).stderr)
        self.c.release("twice", "1.1.0")
        self.c.run("deploy", "twice", "1.1.0")
        done = self.c.run("rollback", "twice")
        self.assertRegex(done.stdout.splitlines()[-1], r"^twice 1\.0\.0: 2 of 2 instances ready in ")
        self.assertEqual(self.c.versions("twice"), ["1.0.0", "1.0.0"])
        self.c.run("rollback", "twice")
        self.assertEqual(self.c.versions("twice"), ["1.1.0", "1.1.0"])

    def test_a_version_that_was_never_good_is_refused(self):
        self.deployed("never", "1.0.0", "1.1.0")
        self.c.release("never", "1.2.0", mode="crash")
        self.c.run("deploy", "never", "1.2.0", check=3)
        done = self.c.run("rollback", "never", "1.2.0", check=1)
        self.assertIn("good: 1.1.0, 1.0.0", done.stderr)
        self.c.run("rollback", "never", "1.0.0")
        self.assertEqual(self.c.versions("never"), ["1.0.0", "1.0.0"])

    def test_manifest_and_templates_go_back_too_and_from_a_fresh_checkout(self):
        self.c.template("back.mustache", "colour = red\nport = {{port.main}}\n")
        self.c.web("back")
        self.c.edit("back", "app.conf.mustache", "back.mustache")
        self.c.release("back", "1.0.0")
        self.c.run("deploy", "back", "1.0.0")
        self.c.template("back.mustache", "colour = blue\nport = {{port.main}}\n")
        self.c.release("back", "1.1.0")
        self.c.run("deploy", "back", "1.1.0")
        self.assertTrue(all("blue" in conf for conf in self.conf("back")))
        # A CI runner that has the inventory of today and no releases.
        shutil.rmtree(f"{self.c.directory}/releases")
        done = self.c.run("rollback", "back")
        self.assertIn("fetching back 1.0.0", done.stderr)
        self.assertIn("the inventory says otherwise", done.stderr)
        self.assertTrue(all("red" in conf for conf in self.conf("back")), self.conf("back"))
        self.assertEqual(self.c.versions("back"), ["1.0.0", "1.0.0"])
        self.assertIn("exactly as added", self.c.run("release", "verify", "back", "1.0.0").stdout)

    def test_a_config_change_is_undone_by_a_rollback_of_the_same_version(self):
        self.c.web("config")
        self.c.release("config", "1.0.0")
        self.c.run("deploy", "config", "1.0.0")
        with open(f"{self.c.inventory}/services/config.yaml") as file:
            text = file.read()
        self.c.manifest("config", text + "env: {COLOUR: blue}\n")
        self.c.run("deploy", "config", "1.0.0")
        colours = [self.c.get(e)[1]["env"].get("COLOUR") for e in self.c.endpoints("config")]
        self.assertEqual(colours, ["blue", "blue"])
        self.c.run("rollback", "config")
        colours = [self.c.get(e)[1]["env"].get("COLOUR") for e in self.c.endpoints("config")]
        self.assertEqual(colours, [None, None])

    def test_a_spec_or_release_changed_on_a_host_is_not_believed(self):
        self.deployed("forged", "1.0.0", "1.1.0")
        directory = self.c.root_path(1, "services/forged/specs")
        for name in os.listdir(directory):
            path = os.path.join(directory, name, "spec.json")
            os.chmod(path, 0o644)
            with open(path, "a") as file:
                file.write(" ")
        shutil.rmtree(f"{self.c.directory}/releases/forged")
        program = self.c.root_path(1, "services/forged/1.0.0/bin/server")
        os.chmod(program, 0o755)
        with open(program, "a") as file:
            file.write("# changed\n")
        done = self.c.run("rollback", "forged", check=None)
        # host1's are passed over; host2's are as they should be, but host1 refuses to start what was changed.
        self.assertIn("not what was put there", done.stderr)
        self.assertIn("content differs", done.stdout + done.stderr)
        self.assertEqual(self.c.versions("forged"), ["1.1.0", "1.1.0"])

    def test_pruning_leaves_what_runs_and_what_can_be_gone_back_to(self):
        self.deployed("pruned", "1.0.0", "1.1.0", "1.2.0")
        self.c.release("pruned", "1.3.0")  # never deployed
        installed = lambda host: sorted(n for n in os.listdir(self.c.root_path(host, "services/pruned")) if n[0] == "1")
        stored = lambda: sorted(os.listdir(f"{self.c.directory}/releases/pruned"))
        self.c.run("release", "prune", "pruned", check=64)  # no terminal, no -y
        done = self.c.run("release", "prune", "pruned", "--keep", "1", "--dry-run")
        self.assertRegex(done.stdout, r"pruned 1\.0\.0 in host1: (stays|would go)")
        self.assertEqual((installed(1), stored()), (["1.0.0", "1.1.0", "1.2.0"], ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]))
        # Generations are kept for a while, and with them what they were made of.
        for _ in range(6):
            self.c.run("deploy", "pruned", "1.2.0", "--force")
        done = self.c.run("release", "prune", "pruned", "--keep", "1", "-y")
        self.assertIn("pruned 1.0.0 in host1: removed", done.stdout)
        self.assertIn("pruned 1.0.0 in local store: removed", done.stdout)
        self.assertEqual((installed(1), stored()), (["1.1.0", "1.2.0"], ["1.1.0", "1.2.0", "1.3.0"]))
        self.c.run("rollback", "pruned")
        self.assertEqual(self.c.versions("pruned"), ["1.1.0", "1.1.0"])
        self.c.run("verify", "pruned")

    def test_before_anything_is_put_back_evidence_is_kept(self):
        self.deployed("evidence", "1.0.0")
        self.c.release("evidence", "1.1.0", mode="crash")
        done = self.c.run("deploy", "evidence", "1.1.0", "--evidence", f"{self.c.directory}/proof", check=3)
        path = next(line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("evidence: "))
        self.assertTrue(path.startswith(f"{self.c.directory}/proof/evidence-1.1.0-"), path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)

        def text(name):
            with open(os.path.join(path, name)) as file:
                return file.read()

        self.assertIn("deploy evidence 1.1.0", text("summary.txt"))
        self.assertEqual(text("summary.txt").count("exit status 3"), 1, text("summary.txt"))
        self.assertIn('"exit_status": 3', text("failures.json"))
        self.assertIn("cannot open the puzzle database", text("host1-evidence-0/output.log"))
        self.assertIn("exit status 3", text("host1-evidence-0/events.jsonl"))
        self.assertIn("\n-version = 1.0.0\n", text("host1-evidence-0/config.diff"))
        self.assertIn("\n+version = 1.1.0\n", text("host1-evidence-0/config.diff"))
        self.assertIn('"kind":"phase"', text("timeline.jsonl"))


if __name__ == "__main__":
    unittest.main()
