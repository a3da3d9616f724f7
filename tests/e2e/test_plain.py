#!/usr/bin/env python3
"""The main job without root anywhere: plain sshds on loopback ports, everything as the current user.

What needs hosts of its own (power loss, cuts, disks that fill) is in the other files, which skip by name there.
"""

import os
import unittest
import urllib.request

from harness import Cluster, wait_for


class PlainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3, user=None, force_plain=True)

    @classmethod
    def tearDownClass(cls):
        # The hosts share the machine: what is left running there would outlive the test.
        for host in (1, 2, 3):
            cls.cluster.run("unbootstrap", f"host{host}", "-y", check=None)
        cls.cluster.close()

    def answers(self, service):
        """What each published endpoint says of itself."""
        for endpoint in self.cluster.endpoints(service):
            url = f"http://{endpoint['address']}:{endpoint['ports']['main']}/"
            with urllib.request.urlopen(url, timeout=10) as answer:
                yield answer.read().decode()

    def test_the_life_of_a_service(self):
        c = self.cluster
        c.web(place="{hosts: [host1, host2, host3]}")
        for version, mode in (("1.0.0", "good"), ("1.1.0", "good"), ("1.2.0", "crash")):
            c.release("web", version, mode=mode)
        c.run("deploy", "web", "1.0.0")
        self.assertEqual([f'"version": "1.0.0"' in text for text in self.answers("web")], [True] * 3)
        self.assertEqual({f'"uid": {os.geteuid()},' in text for text in self.answers("web")}, {True})

        c.run("deploy", "web", "1.1.0")
        self.assertEqual([f'"version": "1.1.0"' in text for text in self.answers("web")], [True] * 3)

        done = c.run("deploy", "web", "1.2.0", check=3)
        self.assertIn("cannot open the puzzle database", done.stdout)
        self.assertEqual([f'"version": "1.1.0"' in text for text in self.answers("web")], [True] * 3)

        before = c.instances("web")["web/1"]
        os.kill(before["pid"], 9)
        after = wait_for(lambda: next((one for one in [c.instances("web")["web/1"]]
                                       if one["state"] == "ready" and one["pid"] != before["pid"]), None),
                         what="a restart")
        self.assertEqual(after["restarts"], 1)

        c.run("restart", "--host", "host2")
        self.assertNotEqual(c.instances("web")["web/1"]["pid"], after["pid"])
        self.assertIn("web/2", c.run("status").stdout)
        self.assertIn("version 1.1.0", c.run("logs", "web/2").stdout)
        c.run("verify")
        c.run("stop", "web", "-y")
        self.assertEqual(c.endpoints("web"), [])
        self.assertEqual({one["state"] for one in c.instances("web").values()}, {"stopped"})

    @unittest.skipIf(os.geteuid() == 0, "root may become any user")
    def test_a_user_that_cannot_be_had_is_refused_before_anything_is_pushed(self):
        c = self.cluster
        c.web(service="other", more="user: nobody\n")
        c.release("other", "1.0.0")
        self.assertIn("nobody", c.run("deploy", "other", "1.0.0", check=65).stderr)


if __name__ == "__main__":
    unittest.main()
