"""Who follows the names: the sudoku web server, small clients, `watch`, and the views of real nginx, HAProxy and
Prometheus, while solvers and servers come, go, fall ill and are replaced under load."""

import json
import os
import signal
import socket
import subprocess
import time
import unittest
from pathlib import Path

import sudoku_front
from harness import TOP, Cluster, namespaces_permitted, wait_for
from sudoku_front import Front, Load, fetch, url_of

SOLVER = """
service: sudoku-solver
place: {place}
run: [bin/sudoku-solver, --port, "{{{{port.main}}}}", --admin-port, "{{{{port.admin}}}}"]
ports: {{main: auto, admin: auto}}
# A time-out beyond the interval: an attempt was once given up for the next one, and never failed.
health:
  ready: {{http: "admin:/healthz"}}
  live: {{http: "admin:/healthz", interval: 200ms, timeout: 300ms, failures: 2}}
restart: {{policy: always, backoff: 100ms..2s, limit: "10 in 1m"}}
stop: {{signal: TERM, grace: 2s}}
upgrade: {{batch: 1, order: start-first, drain: 1s}}
"""

WEB = """
service: web-server
place: {place}
run: [bin/web-server, --port, "{{{{port.main}}}}", --solver-service, sudoku-solver]
ports: {{main: auto}}
health: {{ready: {{http: "main:/healthz"}}}}
upgrade: {{batch: 1, order: start-first, drain: 1s}}
"""

PROMETHEUS = """
scrape_configs:
  - job_name: clusterctl
    scrape_interval: 1s
    file_sd_configs: [{files: [/opt/clusterctl/registry/views/*.json]}]
"""

VIEWS = f"""
views:{sudoku_front.VIEWS.format(host=1)}
  - {{prometheus: targets.json, service: [web-server], labels: {{team: solver}}, hosts: host1}}
  - {{plain: solvers.txt, service: sudoku-solver, port: main}}
"""


@unittest.skipUnless(namespaces_permitted(), "test hosts with networks of their own need root and namespaces")
class NamingTest(unittest.TestCase):
    """One cluster: solvers on hosts 1 and 2, web servers on 2 and 3. The tests leave it whole."""

    @classmethod
    def setUpClass(cls):
        cls.c = Cluster(3)
        cls.addClassCleanup(cls.c.close)
        cls.place("sudoku-solver", "{hosts: [host1, host2]}")
        cls.place("web-server", "{hosts: [host2, host3]}")
        cls.c.append("cluster.yaml", VIEWS)
        sudoku_front.add_releases(cls.c)
        # The web servers come first: what they do not know yet is not nothing.
        cls.c.run("deploy", "web-server", "1.0.0")
        cls.c.run("deploy", "sudoku-solver", "1.0.0")

    @classmethod
    def place(cls, service, place):
        cls.c.manifest(service, (SOLVER if service == "sudoku-solver" else WEB).format(place=place))

    # ---- the parts ----
    def load(self, *targets):
        load = Load(targets)
        self.addCleanup(load.close)
        return load

    def solvers_of(self, endpoint):
        """The addresses that a web server spreads its puzzles over."""
        return sorted(solver["address"] for solver in json.loads(fetch(url_of(endpoint) + "/stats"))["solvers"])

    def registered(self):
        return sorted(f"{e['address']}:{e['ports']['main']}" for e in self.c.endpoints("sudoku-solver"))

    def wait_until_followed(self):
        for web in self.c.endpoints("web-server"):
            wait_for(lambda: self.solvers_of(web) == self.registered(), what="the web server to follow")

    def socket_path(self, host):
        return self.c.live_path(host, "run/naming.sock")

    def watch(self, host, service):
        """Lines of the host's naming socket, as objects."""
        s = socket.socket(socket.AF_UNIX)
        self.addCleanup(s.close)
        s.settimeout(30)
        s.connect(self.socket_path(host))
        s.sendall(json.dumps({"watch": service}).encode() + b"\n")
        return map(json.loads, s.makefile())

    def no_request_lost(self, load):
        result = load.end()
        self.assertGreater(result["ok"], 50)
        self.assertEqual(result["failed"], 0, result)

    # ---- who follows ----
    def test_solvers_come_go_fall_and_are_replaced_and_no_request_is_lost(self):
        self.wait_until_followed()
        pids = [one["pid"] for one in self.c.instances("web-server").values()]
        load = self.load(*map(url_of, self.c.endpoints("web-server")))
        self.place("sudoku-solver", "{hosts: [host1, host2, host3]}")
        self.c.run("deploy", "sudoku-solver", "1.0.0")
        self.assertEqual(len(self.registered()), 3)
        self.wait_until_followed()
        victim = self.c.instances("sudoku-solver")["sudoku-solver/1"]
        self.c.bed.exec(2, "kill", "-9", str(victim["pid"]))
        wait_for(lambda: self.c.instances("sudoku-solver")["sudoku-solver/1"]["pid"] not in (0, victim["pid"]),
                 what="the restart")
        self.c.run("deploy", "sudoku-solver", "1.1.0")  # every one on another port
        self.wait_until_followed()
        self.c.run("stop", "-y", "sudoku-solver/2")
        self.assertEqual(len(self.registered()), 2)
        self.wait_until_followed()
        self.no_request_lost(load)
        self.c.run("start", "sudoku-solver/2")
        self.assertEqual([one["pid"] for one in self.c.instances("web-server").values()], pids)

    def test_a_process_that_fails_its_checks_is_unhealthy_to_its_host_at_once(self):
        lines = self.watch(1, "sudoku-solver")
        before = next(lines)
        self.assertTrue(all(e["state"] == "ready" for e in before["endpoints"]), before)
        pid = self.c.instances("sudoku-solver")["sudoku-solver/0"]["pid"]
        self.c.bed.exec(1, "kill", "-STOP", str(pid))
        self.addCleanup(self.c.bed.exec, 1, "kill", "-CONT", str(pid), check=False)
        ill = next(lines)
        mine = next(e for e in ill["endpoints"] if e["instance"] == "sudoku-solver/0")
        self.assertEqual((mine["state"], mine["registered"]), ("unhealthy", "ready"))
        self.assertEqual(ill["revision"], before["revision"])
        others = [e for e in ill["endpoints"] if e is not mine]
        self.assertTrue(others and all(e["state"] == "ready" and "registered" not in e for e in others))
        # Its file follows those who watch.
        path = self.c.live_path(1, "registry/services/sudoku-solver.json")
        wait_for(lambda: b"registered" in Path(path).read_bytes(), what="the file")
        well = next(lines)  # killed after its grace, and started again
        self.assertEqual(well, before)

    def test_a_shim_that_is_killed_leaves_the_last_list(self):
        self.wait_until_followed()
        load = self.load(url_of(self.c.endpoints("web-server")[0]))
        host = int(self.c.endpoints("web-server")[0]["host"][-1])
        lines = self.watch(host, "sudoku-solver")
        next(lines)
        self.c.bed.exec(host, "pkill", "-9", "-f", "clusterctl-shim")
        self.assertEqual(list(lines), [])
        self.c.bed.exec(host, "/opt/clusterctl/shim/current", "start", "--root", "/opt/clusterctl")
        again = next(self.watch(host, "sudoku-solver"))
        self.assertEqual(again["as_of"], again["revision"])
        self.c.run("restart", "sudoku-solver/0")  # also a change that those who reconnected must hear of
        self.wait_until_followed()
        self.no_request_lost(load)
        self.assertNotIn("as_of", next(self.watch(host, "sudoku-solver")))

    # ---- small clients ----
    def follow(self, *command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True,
                                   env={**os.environ, "CLUSTERCTL_NAMING": self.socket_path(3)})

        def end():
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self.addCleanup(end)
        return process.stdout

    def test_small_clients_and_watch_follow(self):
        clients = os.path.join(TOP, "examples", "naming")
        python = self.follow(os.path.join(clients, "follow.py"), "sudoku-solver")
        shell = self.follow(os.path.join(clients, "follow.sh"), "sudoku-solver", "main", "echo")
        watch = self.c.start("watch", "sudoku-solver", "-o", "jsonl", "-l", "host3")
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.kill)
        people = self.c.start("watch", "sudoku-solver")
        self.addCleanup(people.communicate)
        self.addCleanup(people.kill)
        now = self.registered()
        first = python.readline().split()
        self.assertEqual(sorted(first[1:]), now)
        self.assertEqual(sorted(shell.readline().split()), now)
        told = json.loads(watch.stdout.readline())
        self.assertEqual((told["format"], told["service"], str(told["revision"])), (1, "sudoku-solver", first[0]))
        self.assertIn(f"revision {first[0]}, {len(now)} endpoints, {len(now)} ready", people.stdout.readline())
        for _ in now:
            self.assertIn("  + sudoku-solver/", people.stdout.readline())
        self.c.run("stop", "-y", "sudoku-solver/1")
        left = self.registered()
        self.assertEqual(sorted(python.readline().split()[1:]), left)
        self.assertEqual(sorted(shell.readline().split()), left)
        self.assertEqual(len(json.loads(watch.stdout.readline())["endpoints"]), len(left))
        self.assertIn("ready", people.stdout.readline())
        self.assertIn("  - sudoku-solver/1", people.stdout.readline())
        people.send_signal(signal.SIGINT)
        self.assertEqual(people.wait(30), 0)
        self.c.run("start", "sudoku-solver/1")

    # ---- views ----
    def background(self, *command):
        process = subprocess.Popen(self.c.bed.exec_command(1, *command), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(self.c.bed.exec, 1, "pkill", "-x", os.path.basename(command[0]), check=False)

    def view(self, host, name):
        with open(self.c.live_path(host, "registry/views", name)) as file:
            return file.read()

    def start_front(self):
        """nginx, HAProxy and Prometheus on host 1."""
        front = Front(self.c, 1)
        self.addCleanup(front.end)
        front.start()
        front.put("/etc/prometheus-t.yml", PROMETHEUS)
        self.background("/usr/bin/prometheus", "--config.file=/etc/prometheus-t.yml",
                        "--storage.tsdb.path=/tmp/prometheus", "--web.listen-address=:9090", "--log.level=error")
        return front

    def targets(self):
        """What Prometheus scrapes: (address, instance, team)."""
        try:
            found = json.loads(fetch(f"http://{self.c.bed.addr(1)}:9090/api/v1/targets"))
        except OSError:
            return None
        return sorted((t["discoveredLabels"]["__address__"], t["labels"]["instance"], t["labels"]["team"])
                      for t in found["data"]["activeTargets"])

    def wanted_targets(self):
        return sorted((f"{e['address']}:{e['ports']['main']}", e["instance"], "solver")
                      for e in self.c.endpoints("web-server"))

    def test_views_for_nginx_haproxy_and_prometheus_follow_a_deploy(self):
        for host in (1, 2, 3):
            wait_for(lambda: self.view(host, "solvers.txt").split() == self.registered(), what="the plain view")
        front = self.start_front()
        wait_for(lambda: self.targets() == self.wanted_targets(), what="Prometheus")
        loads = [self.load(front.nginx), self.load(front.haproxy)]
        before = self.wanted_targets()
        self.c.run("deploy", "web-server", "1.1.0")
        self.assertNotEqual(self.wanted_targets(), before)
        for load in loads:
            self.no_request_lost(load)
        wait_for(lambda: self.targets() == self.wanted_targets(), what="Prometheus")
        # A HAProxy that starts anew has forgotten everything.
        front.end("haproxy")
        wait_for(lambda: not front.answers(front.haproxy), what="the end of HAProxy")
        front.start_haproxy()
        wait_for(lambda: front.answers(front.haproxy), what="HAProxy to be filled again")
        told = [e["text"] for e in map(json.loads, self.c.run("-o", "jsonl", "events", "-l", "host1").stdout.splitlines())
                if e["kind"] == "view"]
        self.assertTrue(all("written again" in text or "haproxy" in text or "nginx" in text for text in told), told)


if __name__ == "__main__":
    unittest.main()
