"""No request is lost: every change of a live system under open-loop load, on real hosts.

The load is sudoku-load's: requests fall due whatever becomes of the ones before. Each test prints what
the change cost in latency.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import unittest

from harness import BUILD_DIR, CLUSTERCTL, Cluster, TOP, namespaces_permitted

RATE = 60


class Load:
    """sudoku-load to these targets until the end of the block; `result` is its summary then."""

    def __init__(self, targets, *options):
        command = [os.path.join(BUILD_DIR, "examples", "sudoku-load", "bin", "sudoku-load"), "--target",
                   ",".join(targets), "--rate", str(RATE), "--until-signal", "--timeout", "20s", "-o", "json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.result = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        self.result = json.loads(out)


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class ZeroTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = Cluster(4)
        source = os.path.join(TOP, "examples", "sudoku", "inventory")
        for part in ("services", "templates"):
            for name in os.listdir(os.path.join(source, part)):
                shutil.copy(os.path.join(source, part, name), os.path.join(cls.c.inventory, part, name))
        cls.c.append("cluster.yaml", '\ngroups: {solvers: "host[1-3]", front: "host[3-4]"}\n')
        for service in ("sudoku-solver", "web-server"):
            for version in ("1.0.0", "1.1.0"):
                cls.c.run("release", "add", service, version, os.path.join(BUILD_DIR, "examples", f"{service}-{version}"))
            cls.c.run("deploy", service, "1.0.0")

    @classmethod
    def tearDownClass(cls):
        cls.c.close()

    def edit(self, service, old, new):
        path = f"{self.c.inventory}/services/{service}.yaml"
        with open(path) as file:
            text = file.read()
        self.assertIn(old, text)
        self.c.manifest(service, text.replace(old, new))
        self.addCleanup(self.c.manifest, service, text)

    def urls(self):
        return [f"http://{e['address']}:{e['ports']['main']}" for e in self.c.endpoints("web-server")]

    def another_clusterctl(self):
        """The same program with another shim inside: one letter of a message is another."""
        with open(CLUSTERCTL, "rb") as file:
            program = file.read()
        with open(os.path.join(BUILD_DIR, "clusterctl-shim"), "rb") as file:
            shim = file.read()
        self.assertEqual(program.count(shim), 1)
        path = os.path.join(self.c.directory, "clusterctl")
        with open(path, "wb") as file:
            file.write(program.replace(shim, shim.replace(b"knows no such operation", b"Knows no such operation")))
        os.chmod(path, 0o755)
        return path

    def under_load(self, what, *command, targets=None, options=(), clusterctl=CLUSTERCTL):
        with Load(targets or self.urls(), *options) as load:
            done = subprocess.run([clusterctl, *self.c.command(*command)[1:]], env=self.c.environment(), text=True,
                                  capture_output=True, timeout=300, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result, latency = load.result, load.result["latency_ms"]
        print(f"{what}: {result['sent']} requests, {result['failed']} failed, latency ms p50 {latency['p50']} "
              f"p99 {latency['p99']} max {latency['max']}", file=sys.stderr)
        self.assertEqual(result["failed"], 0, json.dumps(result))
        self.assertGreater(result["ok"], 0)
        return done

    def test_solvers_deployed_rolled_back_restarted_and_reconfigured(self):
        """Start-first: the web servers are told before an old solver goes."""
        self.under_load("deploy", "deploy", "sudoku-solver", "1.1.0")
        self.assertEqual({e["version"] for e in self.c.endpoints("sudoku-solver")}, {"1.1.0"})
        self.under_load("rollback", "rollback", "sudoku-solver")
        self.assertEqual({e["version"] for e in self.c.endpoints("sudoku-solver")}, {"1.0.0"})
        self.under_load("rolling restart", "restart", "sudoku-solver")
        self.edit("sudoku-solver", "solves sudokus", "solves them all")
        self.under_load("config change", "deploy", "sudoku-solver", "1.0.0")
        links = [os.readlink(self.c.root_path(host, "shim/current")) for host in (1, 2, 3, 4)]
        self.under_load("shim upgrade", "bootstrap", "--force", clusterctl=self.another_clusterctl())
        after = [os.readlink(self.c.root_path(host, "shim/current")) for host in (1, 2, 3, 4)]
        self.assertTrue(all(new != old for new, old in zip(after, links)), after)

    def test_web_servers_with_passed_sockets_keep_their_ports_and_every_client(self):
        self.edit("web-server", "ports: {main: auto}", "ports: {main: {socket: true, port: auto}}")
        self.c.run("deploy", "web-server", "1.0.0")
        urls = self.urls()
        for options in ((), ("--new-connections",)):
            self.under_load(f"passed sockets, deploy {options}", "deploy", "web-server", "1.1.0", targets=urls,
                            options=options)
            self.assertEqual(self.urls(), urls)
            self.under_load(f"passed sockets, rollback {options}", "rollback", "web-server", targets=urls,
                            options=options)
        # Its clients do not follow the registry: they wait in the sockets' queues.
        self.under_load("passed sockets, restart", "restart", "web-server", targets=urls)


if __name__ == "__main__":
    unittest.main()
