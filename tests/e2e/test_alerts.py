"""alerts: programs that the hosts run by themselves when a service crashes, crash-loops or fails."""

import json
import os
import unittest

from harness import Cluster, namespaces_permitted, wait_for

# Keeps the events it is given, a line each.
PAGE = """#!/bin/sh
cat >> "$0.$1.events"
[ "$1" != fails ] || { echo "no pager here" >&2; exit 9; }
"""


@unittest.skipUnless(namespaces_permitted(), "test hosts with processes of their own need root and namespaces")
class AlertsTest(unittest.TestCase):
    def setUp(self):
        self.c = Cluster(1)
        self.addCleanup(self.c.close)
        self.page = "/opt/clusterctl/page"

    def put_program(self):
        path = self.c.live_path(1, "page")
        with open(path, "w") as file:
            file.write(PAGE)
        os.chmod(path, 0o755)

    def events(self, name):
        try:
            with open(self.c.live_path(1, f"page.{name}.events")) as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def journal(self, kind):
        lines = self.c.run("-o", "jsonl", "events").stdout.splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def deployed(self, alerts, more=""):
        self.c.append("cluster.yaml", f"alerts: {alerts}\n")
        self.c.web(place="{hosts: [host1]}", more=more)
        self.c.release("web", "1.0.0")
        self.c.run("deploy", "web", "1.0.0")
        self.put_program()

    def kill(self):
        pid = self.c.instances("web")["web/0"]["pid"]
        self.c.bed.exec(1, "kill", "-SEGV", str(pid))
        wait_for(lambda: self.c.instances("web")["web/0"]["pid"] not in (0, pid), what="the restart")

    def test_a_crash_runs_the_program_with_the_event(self):
        self.deployed(f"[{{on: [crash], host_exec: [{self.page}, crash]}}]")
        self.c.run("restart", "web")  # an exit that was ordered is none
        self.kill()
        events = wait_for(lambda: self.events("crash"), what="the alert")
        self.assertEqual(len(events), 1)
        self.assertEqual((events[0]["alert"], events[0]["service"], events[0]["index"]), ("crash", "web", 0))
        self.assertEqual((events[0]["host"], events[0]["cluster"]), ("host1", "demo"))
        self.assertEqual(events[0]["exit"]["signal"], 11)
        self.assertEqual(events[0]["exit"]["release_digest"],
                         self.c.json("release", "show", "web", "1.0.0")["digest"])
        self.assertEqual(self.journal("hook"), [])

    def test_a_program_that_fails_or_is_missing_is_journalled(self):
        self.deployed(f"[{{on: [crash], host_exec: [{self.page}, fails]}}, {{on: [crash], host_exec: [/nope]}}]")
        self.kill()
        failed = wait_for(lambda: len(self.journal("hook")) == 2 and self.journal("hook"), what="two failures")
        texts = sorted(event["text"] for event in failed)
        self.assertEqual(texts, ["alert /nope failed: exit status 127",
                                 f"alert {self.page} failed: exit status 9"])
        self.assertIn("no pager here", self.c.run("events").stdout)

    def test_a_service_that_is_given_up_is_a_crash_loop(self):
        self.c.append("cluster.yaml", f"alerts: [{{on: [crash-loop], host_exec: [{self.page}, loop]}}]\n")
        self.c.manifest("loops", """
            service: loops
            place: {hosts: [host1]}
            run: [bin/run]
            restart: {policy: always, backoff: 1ms..10ms, limit: "2 in 1m"}
        """)
        self.c.release("loops", "1", {"bin/run": "#!/bin/sh\nsleep 0.6\nexit 1\n"})
        self.c.run("bootstrap")
        self.put_program()
        self.c.run("deploy", "loops", "1")
        events = wait_for(lambda: self.events("loop"), what="the alert", seconds=30)
        self.assertEqual([event["alert"] for event in events], ["crash-loop"])
        self.assertEqual(events[0]["kind"], "failed")
        line = next(line for line in self.c.run("status", check=None).stdout.splitlines() if "loops/0" in line)
        self.assertEqual(line.count("exit status 1"), 1, line)  # of the last one, not twice

    def test_changed_alerts_reach_hosts_with_the_next_change_and_survive_the_shim(self):
        self.deployed("[]")
        hooks = self.c.live_path(1, "shim/state/hooks.json")
        self.assertFalse(os.path.exists(hooks))
        with open(os.path.join(self.c.inventory, "cluster.yaml")) as file:
            text = file.read()
        self.c.write("cluster.yaml",
                     text.replace("alerts: []", f"alerts: [{{on: [unhealthy], host_exec: [{self.page}, x]}}]"))
        self.c.run("restart", "web")
        with open(hooks) as file:
            self.assertEqual(json.load(file)["body"]["hooks"], [{"on": ["unhealthy"], "argv": [self.page, "x"]}])
        before = self.journal("order")
        self.c.run("restart", "web")
        told = [e for e in self.journal("order")[len(before):] if "alerts" in e["text"]]
        self.assertEqual(told, [])  # the same again is nothing
        self.c.write("cluster.yaml", text)
        self.c.run("restart", "web")
        with open(hooks) as file:
            self.assertEqual(json.load(file)["body"]["hooks"], [])


if __name__ == "__main__":
    unittest.main()
