"""A deploy that is broken off at every one of its steps, by SIGKILL and by Ctrl-C; a restart too.

After each the state is old, new, or what the output said; the next command repairs it; and nothing is
left behind: no process that nobody knows of, no endpoint that does not answer.
FAULT_EVERY=1 takes every step (`./dev soak`), else every fifth is taken, others for each way.
"""

import os
import subprocess
import tempfile
import unittest

from harness import BUILD_DIR, Cluster, namespaces_permitted

DRIVER = os.path.join(BUILD_DIR, "tests", "drivers", "clusterctl_faults")
EVERY = int(os.environ.get("FAULT_EVERY", "5"))


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class InterruptionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = Cluster(2)
        cls.c.web("svc")
        for version in ("1.0.0", "1.1.0"):
            cls.c.release("svc", version)
        cls.c.run("deploy", "svc", "1.0.0")

    @classmethod
    def tearDownClass(cls):
        cls.c.close()

    def faulty(self, step, action, *args):
        """The steps that were reached, and the process when it had ended."""
        with tempfile.NamedTemporaryFile("r") as log:
            done = subprocess.run([DRIVER, "-i", self.c.inventory, *args], capture_output=True, text=True,
                                  timeout=120, stdin=subprocess.DEVNULL,
                                  env={**self.c.environment(), "FAULT_STEP": str(step), "FAULT_ACTION": action,
                                       "FAULT_LOG": log.name})
            return [line.split(" ", 1)[1].strip() for line in log], done

    def check_answers(self, allowed):
        """Every published endpoint answers, with a version that is allowed."""
        versions = self.c.versions("svc")
        self.assertEqual(len(versions), 2)
        self.assertLessEqual(set(versions), allowed)

    def check_clean(self, version):
        """Exactly what was asked for, and nothing else."""
        self.assertEqual(self.c.versions("svc"), [version] * 2)
        for host in (1, 2):
            self.assertEqual(len(self.c.processes(host, "services/svc/")), 1)
        status = self.c.run("status", "svc").stdout
        self.assertNotIn("stray", status)
        self.assertNotIn("did not end", status)

    def walk(self, action, offset):
        versions = ["1.0.0", "1.1.0"]
        self.c.run("deploy", "svc", versions[0])
        steps, done = self.faulty(0, action, "deploy", "svc", versions[1])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(steps), 12)
        for number in range(1 + offset % EVERY, len(steps) + 1, EVERY):
            versions.reverse()  # from versions[0] to versions[1]
            with self.subTest(action=action, step=f"{number} {steps[number - 1]}"):
                _, done = self.faulty(number, action, "deploy", "svc", versions[1])
                self.check_answers(set(versions))
                if action == "interrupt" and done.returncode == 130:
                    self.assertIn("interrupted", done.stdout + done.stderr)
                elif action == "interrupt":
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.c.run("deploy", "svc", versions[1])
            self.check_clean(versions[1])

    def test_killed_at_each_step(self):
        self.walk("kill", 0)

    def test_interrupted_at_each_step(self):
        self.walk("interrupt", 2)

    def test_a_restart_killed_at_each_step(self):
        steps, done = self.faulty(0, "kill", "restart", "svc")
        self.assertEqual(done.returncode, 0, done.stderr)
        version = self.c.versions("svc")[0]
        for number in range(1, len(steps) + 1, EVERY):
            with self.subTest(step=f"{number} {steps[number - 1]}"):
                self.faulty(number, "kill", "restart", "svc")
                self.assertLessEqual(set(self.c.versions("svc")), {version})
                self.c.run("restart", "svc")
                self.check_clean(version)


if __name__ == "__main__":
    unittest.main()
