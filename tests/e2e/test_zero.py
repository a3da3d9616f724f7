"""No request is lost: every operation on a live system under open-loop load, on real hosts.

The load comes from sudoku-load: straight to the web servers where these keep their addresses, and always through a
real nginx and a real HAProxy, which follow the registry and may not ask another server when one fails. The web
servers follow their solvers by name. Each operation prints what it cost in latency.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import unittest

import sudoku_front
from harness import BUILD_DIR, CLUSTERCTL, SharedCluster, TOP
from sudoku_front import Front, Load, url_of

FRONT = 4  # the host of nginx and HAProxy; it keeps no part of the registry
SOLVER, WEB = "sudoku-solver", "web-server"
GROUPS = """
groups: {solvers: "host[1-4]", front: "host[1-3]"}
"""


class ZeroTest(SharedCluster):
    HOSTS = 4

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.programs = 0
        source = os.path.join(TOP, "examples", "sudoku", "inventory")
        for part in ("services", "templates"):
            for name in os.listdir(os.path.join(source, part)):
                shutil.copy(os.path.join(source, part, name), os.path.join(cls.c.inventory, part, name))
        cls.c.append("cluster.yaml", GROUPS + "views:" + sudoku_front.VIEWS.format(host=FRONT))
        cls.c.edit(WEB, "per_host: 1", "count: 2")
        cls.manifests = {}
        for service in (SOLVER, WEB):
            cls.c.edit(service, "drain: 2s", "drain: 1s")
            with open(f"{cls.c.inventory}/services/{service}.yaml") as file:
                cls.manifests[service] = file.read()
        sudoku_front.add_releases(cls.c)
        cls.front = Front(cls.c, FRONT, strict=True)
        for service in (SOLVER, WEB):
            cls.c.run("deploy", service, "1.0.0")
        cls.front.start()

    def urls(self):
        return [url_of(e) for e in self.c.endpoints(WEB)]

    def hosts(self, service):
        return [e["host"] for e in self.c.endpoints(service)]

    def versions(self, service):
        return {e["version"] for e in self.c.endpoints(service)}

    def another_clusterctl(self):
        """The same program with another shim inside: one letter of a message is another."""
        ZeroTest.programs += 1
        with open(CLUSTERCTL, "rb") as file:
            program = file.read()
        with open(os.path.join(BUILD_DIR, "clusterctl-shim"), "rb") as file:
            shim = file.read()
        self.assertEqual(program.count(shim), 1)
        path = os.path.join(self.c.directory, f"clusterctl{self.programs}")
        other = (b"Knows", b"KNows")[self.programs % 2] + b" no such operation"
        with open(path, "wb") as file:
            file.write(program.replace(shim, shim.replace(b"knows no such operation", other)))
        os.chmod(path, 0o755)
        return path

    @contextlib.contextmanager
    def load(self, what, straight=True):
        """On everything in the block; `straight` also past nginx and HAProxy."""
        targets = {"nginx": ([self.front.nginx],), "HAProxy": ([self.front.haproxy], "--new-connections")}
        if straight:
            targets["straight"] = (self.urls(),)
            targets["straight, new connections"] = (self.urls(), "--new-connections")
        loads = {way: Load(*to, rate=30) for way, to in targets.items()}
        try:
            yield
            results = {way: load.end() for way, load in loads.items()}
        finally:
            for load in loads.values():
                load.close()
        for way, result in results.items():
            latency = result["latency_ms"]
            print(f"{what}, {way}: {result['sent']} requests, {result['failed']} failed, latency ms p50 {latency['p50']} "
                  f"p99 {latency['p99']} max {latency['max']}", file=sys.stderr)
        for way, result in results.items():
            self.assertEqual(result["failed"], 0, f"{what}, {way}: {json.dumps(result)}")
            self.assertGreater(result["ok"], 0)

    def operations(self, mode, keeps_ports):
        """Everything that is done to a live system; all is as before afterwards. `keeps_ports`: whether web servers
        have the same port after an operation in place."""
        with self.load(f"{mode}: nothing is changed"):
            for _ in range(5):
                self.c.run("status")
        with self.load(f"{mode}: deploy solvers"):
            self.c.run("deploy", SOLVER, "1.1.0")
        with self.load(f"{mode}: deploy web servers", keeps_ports):
            self.c.run("deploy", WEB, "1.1.0")
        self.assertEqual(self.versions(SOLVER) | self.versions(WEB), {"1.1.0"})
        with self.load(f"{mode}: rolling restart", keeps_ports):
            self.c.run("restart", SOLVER, WEB)
        with self.load(f"{mode}: rollback solvers"):
            self.c.run("rollback", SOLVER)
        with self.load(f"{mode}: rollback web servers", keeps_ports):
            self.c.run("rollback", WEB)
        self.assertEqual(self.versions(SOLVER) | self.versions(WEB), {"1.0.0"})
        self.move(mode)
        for service in (SOLVER, WEB):
            self.c.edit(service, 'motd: "', f'motd: "{mode}: ')
        with self.load(f"{mode}: config change", keeps_ports):
            self.c.run("apply")
        self.upgrade_shims(mode)

    def move(self, mode):
        host = self.hosts(WEB)[0]
        empty = next(h for h in ("host1", "host2", "host3") if h not in self.hosts(WEB))
        self.assertIn(host, self.hosts(SOLVER))
        with self.load(f"{mode}: drain", False):
            self.c.run("drain", "-y", host)
        self.assertNotIn(host, self.hosts(SOLVER) + self.hosts(WEB))
        with self.load(f"{mode}: undrain, and migrate back", False):
            self.c.run("undrain", host)
            self.c.run("migrate", WEB, "--from", empty, "--to", host)
            self.c.run("migrate", SOLVER, "--from", f"host{FRONT}", "--to", host)
        self.assertIn(host, self.hosts(SOLVER))
        self.assertIn(host, self.hosts(WEB))

    def upgrade_shims(self, mode):
        def links():
            return [os.readlink(self.c.root_path(host, "shim/current")) for host in range(1, self.HOSTS + 1)]
        before = links()
        with self.load(f"{mode}: shim upgrade"):
            done = subprocess.run([self.another_clusterctl(), *self.c.command("bootstrap", "--force")[1:]],
                                  env=self.c.environment(), capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(all(new != old for new, old in zip(links(), before)), links())

    def deploy_both(self, main):
        """With this as the manifests' `main` port; solvers first."""
        for service, text in self.manifests.items():
            self.assertIn("main: auto", text)
            self.c.manifest(service, text.replace("main: auto", f"main: {main}"))
            self.c.run("deploy", service, "1.0.0")

    def test_start_first(self):
        """On a new port, known to nginx, HAProxy and the web servers before the old one goes."""
        self.deploy_both("auto")
        self.operations("start-first", keeps_ports=False)

    def test_passed_sockets(self):
        """The old and the new on one port: those who know nothing but the port lose nothing, either."""
        self.deploy_both("{socket: true, port: auto}")
        urls = self.urls()
        self.operations("passed sockets", keeps_ports=True)
        self.assertEqual(self.urls()[1:], urls[1:])  # the first was moved, and back


if __name__ == "__main__":
    unittest.main()
