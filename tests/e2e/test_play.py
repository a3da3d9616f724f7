"""Playbooks on real hosts: the shipped ones, and what happens when a step fails."""

import json
import os
import unittest

from harness import TOP, Cluster, wait_for

SHIPPED = os.path.join(TOP, "playbooks")


def shipped(name):
    return os.path.join(SHIPPED, name + ".yaml")


class Play(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(2)
        cls.cluster.web()
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            cls.cluster.release("web", version)
        cls.cluster.release("web", "2.0.0", mode="crash")
        cls.cluster.run("deploy", "web", "1.0.0")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def playbook(self, text):
        path = os.path.join(self.cluster.directory, "book.yaml")
        with open(path, "w") as file:
            file.write(text)
        return path

    def pids(self):
        return {name: one["pid"] for name, one in self.cluster.instances("web").items()}

    def test_release_with_canary(self):
        args = ("play", shipped("release-canary"), "-e", "service=web", "-e", "patience=20s")
        dry = self.cluster.run("--dry-run", *args, "-e", "version=1.1.0")
        self.assertIn("dry run of 5 steps, nothing was changed", dry.stdout)
        self.assertEqual(self.cluster.versions("web"), ["1.0.0", "1.0.0"])
        done = self.cluster.run(*args, "-e", "version=1.1.0")
        self.assertTrue(done.stdout.endswith("release with canary: 5 steps done\n"), done.stdout)
        self.assertEqual(self.cluster.versions("web"), ["1.1.0", "1.1.0"])
        # A version that cannot start: the roll-out undoes itself, and the play's status is its own.
        failed = self.cluster.run(*args, "-e", "version=2.0.0", check=3)
        self.assertIn('"roll out, canary first"', failed.stdout)
        self.assertIn("not done: 3 of 5 steps", failed.stdout)
        self.assertEqual(self.cluster.versions("web"), ["1.1.0", "1.1.0"])
        self.cluster.run("deploy", "web", "1.0.0")

    def test_restart_host_by_host(self):
        before = self.pids()
        done = self.cluster.run("play", shipped("restart-host-by-host"), "-e", "patience=20s")
        self.assertIn("restart host by host: 4 steps done", done.stdout)
        after = self.pids()
        self.assertEqual(set(before), set(after))
        self.assertFalse(set(before.values()) & set(after.values()))
        only = self.cluster.json("play", shipped("restart-host-by-host"), "-e", "hosts=host2")
        self.assertEqual([(step["operation"], step["exit"]) for step in only["steps"]], [("restart", 0), ("wait", 0)])
        self.assertEqual(only["steps"][0]["result"]["done"], ["web/1"])
        self.assertEqual(self.pids()["web/0"], after["web/0"])

    def test_on_failure_goes_back(self):
        book = self.playbook("""
            play: try
            vars: {version: {required: true}}
            steps:
              - deploy: {service: web, version: "{{version}}"}
              - name: it is a teapot
                check: {http: {service: web, port: main, path: /}, status: 418}
                on_failure: [{deploy: {service: web, version: 1.0.0}}]
              - exec: {hosts: all, command: "touch /tmp/never"}
        """)
        failed = self.cluster.run("play", book, "-e", "version=1.2.0", check=2)
        self.assertIn('answers "HTTP/1.1 200 OK"', failed.stderr)
        self.assertIn('"it is a teapot"', failed.stdout)
        self.assertIn("its on_failure is done; not done: 1 of 3 steps", failed.stdout)
        self.assertEqual(self.cluster.versions("web"), ["1.0.0", "1.0.0"])
        self.assertNotEqual(self.cluster.bed.exec(1, "test", "-e", "/tmp/never", check=False).returncode, 0)

    def test_going_on_and_the_exit_status(self):
        book = self.playbook("""
            play: look around
            steps:
              - {exec: {hosts: all, command: "exit 3"}, on_failure: continue}
              - {check: {command: [test, -d, /tmp], on: all}}
              - {check: {file: /nowhere, on: host1}, on_failure: continue}
              - {check: {instances: web, version: 1.0.0}}
              - {check: {tcp: {service: web, port: main}}}
              - {check: {http: {service: web, port: main, path: /healthz}}}
              - {check: {instances: web, state: none}, on_failure: continue}
        """)
        shown = self.cluster.json("play", book, check=2)
        self.assertEqual([step["exit"] for step in shown["steps"]], [2, 0, 2, 0, 0, 0, 2])
        self.assertEqual((shown["exit"], shown["not_run"]), (2, []))

    def test_wait_sees_things_change(self):
        book = self.playbook("""
            play: wait
            steps:
              - {wait: {file: /tmp/ready, on: "host[1-2]", interval: 100ms}}
        """)
        self.cluster.bed.exec(1, "touch", "/tmp/ready")
        waiting = self.cluster.start("play", book)
        # The first look has been taken when host 2's login is seen.
        wait_for(lambda: self.cluster.processes(2, "sshd: deploy"), what="a login on host2")
        self.assertIsNone(waiting.poll())
        self.cluster.bed.exec(2, "touch", "/tmp/ready")
        out, err = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 0, err)
        self.assertIn("/tmp/ready is there on host1,host2", out)
        gone = self.playbook("play: x\nsteps: [{wait: {file: /nowhere, on: host1, timeout: 300ms, interval: 100ms}}]\n")
        self.assertIn("not so within 300ms: /nowhere is there on host1: exit status 1 on host1",
                      self.cluster.run("play", gone, check=2).stderr)

    def test_refused_before_the_first_step(self):
        touch = "exec: {hosts: all, command: 'touch /tmp/first'}"
        book = self.playbook(f"""
            play: x
            steps:
              - {touch}
              - deploy: {{service: web, versoin: 1.0.0}}
              - restrat: {{host: host1}}
        """)
        wrong = self.cluster.run("play", book, check=65)
        self.assertIn('book.yaml:5:40: unknown key "deploy.versoin"; did you mean "version"?', wrong.stderr)
        self.assertIn('book.yaml:6:17: unknown key "steps.restrat"; did you mean "restart"?', wrong.stderr)
        missing = self.playbook(f"play: x\nsteps:\n - {touch}\n - deploy: {{service: web, version: 9.9.9}}\n")
        self.assertIn("web 9.9.9 is not in the store", self.cluster.run("play", missing, check=1).stderr)
        asks = self.playbook(f"play: x\nsteps:\n - {touch}\n - stop: {{targets: web/0}}\n")
        self.assertIn("say yes with -y", self.cluster.run("play", asks, check=64).stderr)
        self.assertIn("the playbook needs service", self.cluster.run("play", shipped("release-canary"), check=64).stderr)
        self.assertIn("did you mean \"version\"?",
                      self.cluster.run("play", shipped("release-canary"), "-e", "service=web", "-e", "version=1", "-e",
                                       "verison=1", check=64).stderr)
        self.assertNotEqual(self.cluster.bed.exec(1, "test", "-e", "/tmp/first", check=False).returncode, 0)
        dry = self.cluster.run("--dry-run", "play", asks)
        self.assertIn("would run on host[1-2]: touch /tmp/first", dry.stdout)
        self.assertIn("dry run", dry.stdout)
        self.assertEqual(len(self.pids()), 2)

    def test_interrupted_does_no_more(self):
        book = self.playbook("""
            play: x
            steps:
              - wait: {file: /nowhere, on: host1, timeout: 10m}
                on_failure: [{exec: {hosts: all, command: "touch /tmp/rescued"}}]
        """)
        waiting = self.cluster.start("play", book)
        wait_for(lambda: self.cluster.processes(1, "sshd: deploy"), what="a login on host1")
        waiting.terminate()
        out, err = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 130, err)
        self.assertNotEqual(self.cluster.bed.exec(1, "test", "-e", "/tmp/rescued", check=False).returncode, 0)


class Evacuate(unittest.TestCase):
    def test_evacuate_a_host(self):
        with Cluster(2) as cluster:
            cluster.append("cluster.yaml", 'groups: {pool: "host[1-2]"}\n')
            cluster.web(place="{group: pool, count: 2}")
            cluster.release("web", "1.0.0")
            cluster.run("deploy", "web", "1.0.0")
            args = ("play", shipped("evacuate-host"), "-e", "target=host2", "-e", "patience=20s")
            self.assertIn("-y", cluster.run(*args, check=64).stderr)
            done = cluster.run("-y", *args)
            self.assertIn("evacuate a host: 4 steps done", done.stdout)
            self.assertEqual({one["host"] for one in cluster.endpoints("web")}, {"host1"})
            self.assertEqual(len(cluster.endpoints("web")), 2)
            self.assertEqual(cluster.processes(2, "bin/server"), [])


if __name__ == "__main__":
    unittest.main()
