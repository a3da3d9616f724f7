"""What needs no hosts: arguments, init, validate, releases, exit codes."""

import json
import os
import subprocess
import tempfile
import unittest

from harness import CLUSTERCTL


class CliTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def run_in(self, *args, check=0, **options):
        done = subprocess.run([CLUSTERCTL, *args], cwd=self.directory, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60, **options)
        self.assertEqual(done.returncode, check, done.stdout + done.stderr)
        return done

    def test_init_makes_a_valid_inventory_and_never_overwrites(self):
        done = self.run_in("init")
        self.assertIn("clusterctl deploy hello 1.0.0", done.stdout)
        self.assertIn("valid", self.run_in("validate").stdout)
        self.run_in("release", "add", "hello", "1.0.0", "releases-src/hello")
        self.assertIn("exists already", self.run_in("init", check=64).stderr)

    def test_every_mistake_comes_in_one_run_with_its_place(self):
        self.run_in("init")
        with open(f"{self.directory}/inventory/cluster.yaml", "a") as file:
            file.write("prots: 1-2\nhosts: {}\n")
        with open(f"{self.directory}/inventory/services/hello.yaml", "a") as file:
            file.write("usr: nobody\n")
        done = self.run_in("validate", check=65)
        self.assertRegex(done.stderr, r"inventory/cluster\.yaml:\d+:\d+: .*prots")
        self.assertRegex(done.stderr, r"inventory/services/hello\.yaml:\d+:\d+: .*usr")
        found = json.loads(self.run_in("validate", "-o", "json", check=65).stdout)
        self.assertFalse(found["valid"])
        self.assertGreaterEqual(len(found["problems"]), 3)

    def test_no_inventory_says_where_it_looked_and_what_to_do(self):
        done = self.run_in("status", check=65)
        self.assertIn("inventory: there is no cluster.yaml", done.stderr)
        self.assertIn("init", done.stderr)

    def test_usage_mistakes(self):
        self.run_in(check=64)
        self.assertIn("deploy", self.run_in("deplyo", check=64).stderr)
        self.run_in("deploy", "--help")
        self.run_in("--version")

    def test_environment_variables_stand_for_options(self):
        self.run_in("init", "elsewhere")
        environment = {**os.environ, "CLUSTERCTL_INVENTORY": "elsewhere/inventory"}
        self.assertIn("valid", self.run_in("validate", env=environment).stdout)

    def test_release_store(self):
        self.run_in("init")
        found = json.loads(self.run_in("release", "add", "hello", "1.0.0", "releases-src/hello", "-o", "json").stdout)
        self.assertFalse(found["already"])
        found = json.loads(self.run_in("release", "add", "hello", "1.0.0", "releases-src/hello", "-o", "json").stdout)
        self.assertTrue(found["already"])
        with open(f"{self.directory}/releases-src/hello/bin/hello", "a") as file:
            file.write("# changed\n")
        self.assertIn("bin/hello", self.run_in("release", "add", "hello", "1.0.0", "releases-src/hello", check=77).stderr)
        listed = json.loads(self.run_in("release", "list", "-o", "json").stdout)["releases"]
        self.assertEqual([(r["service"], r["version"]) for r in listed], [("hello", "1.0.0")])
        store = os.path.join(self.directory, "releases/hello/1.0.0")
        subprocess.run(["sha256sum", "-c", "--quiet", "../SHA256SUMS"], cwd=f"{store}/files", check=True)
        self.run_in("release", "verify", "hello", "1.0.0")
        path = f"{store}/files/bin/hello"
        os.chmod(path, 0o755)
        with open(path, "a") as file:
            file.write("# an intruder\n")
        self.run_in("release", "verify", "hello", "1.0.0", check=77)
        self.assertIn("not what was added", self.run_in("deploy", "hello", "1.0.0", check=77).stderr)

    def test_render_sample_contacts_nothing(self):
        self.run_in("init")
        self.assertIn("hello", self.run_in("render", "hello", "--sample").stdout)


if __name__ == "__main__":
    unittest.main()
