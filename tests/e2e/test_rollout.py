"""How a roll-out goes: canary, observe window, budgets, drains, what is put back. On real hosts."""

import json
import signal
import socket
import threading
import unittest

from harness import SERVER, SharedCluster, wait_for

# Becomes ready, and fails a little later: alone, in instance 0, or as soon as it has had a client.
DIES_LATER = SERVER.format(version="1.1.0", mode="good").replace(
    "server.serve_forever()",
    "if {condition}: threading.Timer(0.3, lambda: (print('out of puzzles', flush=True), os._exit(9))).start()\n"
    "server.serve_forever()")


class RolloutTest(SharedCluster):
    def web(self, service, upgrade, place="{hosts: [host1, host2, host3]}"):
        self.c.web(service, place=place)
        path = f"{self.c.inventory}/services/{service}.yaml"
        with open(path) as file:
            lines = [line for line in file if not line.startswith("upgrade:")]
        self.c.manifest(service, "".join(lines) + f"upgrade: {{{upgrade}}}\n")

    def deployed(self, service, upgrade, **more):
        self.web(service, upgrade, **more)
        self.c.release(service, "1.0.0")
        self.c.run("deploy", service, "1.0.0")

    def running(self, service):
        return {i: (s["pid"], s["version"]) for i, s in self.c.instances(service).items()}

    def release_that_dies(self, service, condition="True"):
        self.c.release(service, "1.1.0", {"bin/server": DIES_LATER.replace("{condition}", condition)})

    def test_a_canary_that_dies_while_it_is_observed_is_all_that_was_ever_tried(self):
        self.deployed("canary", "canary: 1, batch: 100%, observe: 3s, drain: 1s")
        before, endpoints = self.running("canary"), self.c.endpoints("canary")
        self.release_that_dies("canary")
        done = self.c.run("deploy", "canary", "1.1.0", check=3)
        self.assertIn("ended by itself", done.stdout)
        self.assertIn("out of puzzles", done.stdout)
        self.assertEqual(self.running("canary"), before)
        self.assertEqual(self.c.endpoints("canary"), endpoints)
        lines = self.c.run("-o", "jsonl", "events", "--since", "5m").stdout.splitlines()
        started = [e for e in map(json.loads, lines)
                   if e.get("service") == "canary" and e["kind"] == "start" and e.get("version") == "1.1.0"]
        self.assertEqual({e["index"] for e in started}, {0})

    def test_a_good_version_passes_canary_and_observation(self):
        self.deployed("passes", "canary: 1, batch: 100%, observe: 300ms, drain: 1s")
        self.c.release("passes", "1.1.0")
        done = self.c.run("deploy", "passes", "1.1.0")
        self.assertIn("canary: passes/0", done.stderr)
        self.assertEqual(self.c.versions("passes"), ["1.1.0"] * 3)

    def test_while_it_goes_on_status_does_not_call_its_instances_strays(self):
        self.c.web("inwork", start_timeout="60s", place="{hosts: [host1]}")
        self.c.release("inwork", "1.0.0", mode="never-ready")
        self.c.release("inwork", "1.1.0", mode="never-ready")
        self.check_starting("inwork", "1.0.0")  # its first
        self.c.release("inwork", "0.9.0")
        self.c.run("deploy", "inwork", "0.9.0")
        self.check_starting("inwork", "1.1.0")  # beside another

    def check_starting(self, service, version):
        def started():
            found = self.c.json("status", service, check=None)["instances"]
            return [one for one in found if one["version"] == version and one["pid"]]
        deploy = self.c.start("deploy", service, version)
        found = wait_for(started, what=f"the start of {version}")
        self.assertEqual([one["note"] for one in found], ["of the roll-out"])
        deploy.send_signal(signal.SIGINT)
        deploy.communicate(timeout=60)
        self.assertEqual(deploy.returncode, 130)
        wait_for(lambda: not started(), what="the end of what was begun")

    def test_a_failure_in_the_last_wave_undoes_the_waves_before_it(self):
        self.deployed("whole", "batch: 1, observe: 1s, drain: 1s")
        before = self.c.versions("whole")
        self.release_that_dies("whole", "os.environ['CLUSTERCTL_INSTANCE'].endswith('2')")
        done = self.c.run("deploy", "whole", "1.1.0", check=3)
        self.assertIn("whole/2 on host3", done.stdout)
        self.assertEqual(self.c.versions("whole"), before)
        for host in (1, 2, 3):
            self.assertEqual(len(self.c.processes(host, "services/whole/")), 1)

    def test_what_an_interrupted_run_had_done_is_not_called_put_back(self):
        self.deployed("goeson", "batch: 1, observe: 1s, drain: 1s")
        self.release_that_dies("goeson", "os.environ['CLUSTERCTL_INSTANCE'].endswith('2')")
        first = self.c.start("deploy", "goeson", "1.1.0")
        wait_for(lambda: len(self.c.processes(2, "services/goeson/")) == 2, what="the second one begun")
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
        self.assertEqual(first.returncode, 130)
        kept = self.c.versions("goeson").count("1.1.0")
        done = self.c.run("deploy", "goeson", "1.1.0", check=5)
        self.assertIn("NOT put back: what this run did is undone, but goeson/0", done.stdout)
        self.assertIn("'clusterctl deploy goeson 1.0.0' puts all back", done.stdout)
        self.assertEqual(self.c.versions("goeson").count("1.1.0"), kept)
        self.assertEqual(self.c.json("status", "goeson", check=None)["services"]["goeson"]["rolling_to"], "1.1.0")
        self.c.run("deploy", "goeson", "1.0.0")
        self.assertEqual(self.c.versions("goeson"), ["1.0.0"] * 3)

    def test_failures_within_the_budget_are_put_back_alone(self):
        self.deployed("budget", "batch: 100%, observe: 1s, max_failures: 1, drain: 1s")
        self.release_that_dies("budget", "os.environ['CLUSTERCTL_INSTANCE'].endswith('0')")
        done = self.c.run("deploy", "budget", "1.1.0", check=2)
        self.assertIn("budget/0 on host1", done.stdout)
        self.assertIn("1 failed and stay as they were", done.stdout)
        self.assertEqual(self.c.versions("budget"), ["1.0.0", "1.1.0", "1.1.0"])
        self.assertEqual(len(self.c.processes(1, "services/budget/")), 1)

    def test_failures_within_the_budget_stop_first_start_the_old_again(self):
        self.deployed("budgetstop", "batch: 100%, order: stop-first, observe: 1s, max_failures: 1, drain: 1s")
        self.release_that_dies("budgetstop", "os.environ['CLUSTERCTL_INSTANCE'].endswith('0')")
        self.c.run("deploy", "budgetstop", "1.1.0", check=2)
        self.assertEqual(self.c.versions("budgetstop"), ["1.0.0", "1.1.0", "1.1.0"])

    def test_no_rollback_stops_there_and_leaves_what_is_done(self):
        self.deployed("stays", "batch: 1, observe: 1s, drain: 1s")
        self.release_that_dies("stays", "os.environ['CLUSTERCTL_INSTANCE'].endswith('1')")
        done = self.c.run("deploy", "stays", "1.1.0", "--no-rollback", check=5)
        self.assertIn("not rolled back", done.stdout)
        self.assertEqual(self.c.versions("stays"), ["1.0.0", "1.0.0", "1.1.0"])
        self.c.run("deploy", "stays", "1.0.0")
        self.assertEqual(self.c.versions("stays"), ["1.0.0"] * 3)

    def test_the_old_one_is_not_stopped_while_clients_are_connected(self):
        self.deployed("clients", "drain: 30s", place="{hosts: [host1]}")
        endpoint = self.c.endpoints("clients")[0]
        self.c.release("clients", "1.1.0")
        client = socket.create_connection((endpoint["address"], endpoint["ports"]["main"]), timeout=20)
        with client:
            deploy = self.c.start("deploy", "clients", "1.1.0")
            wait_for(lambda: self.c.endpoints("clients")[0]["version"] == "1.1.0", what="the new one published")
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"200", client.recv(4096))
            self.assertIsNone(deploy.poll())
            self.assertEqual(len(self.c.processes(1, "services/clients/")), 2)
        out, err = deploy.communicate(timeout=25)  # well before its drain of 30 s is up
        self.assertEqual(deploy.returncode, 0, out + err)
        self.assertEqual(len(self.c.processes(1, "services/clients/")), 1)

    def test_a_drain_ends_when_its_time_is_up(self):
        self.deployed("stubborn", "drain: 1200ms", place="{hosts: [host1]}")
        endpoint = self.c.endpoints("stubborn")[0]
        self.c.release("stubborn", "1.1.0")
        with socket.create_connection((endpoint["address"], endpoint["ports"]["main"]), timeout=20):
            done = self.c.run("deploy", "stubborn", "1.1.0")
        self.assertIn("1 connection open after", done.stderr)

    def test_a_restart_obeys_upgrade_and_stops_at_the_canary_that_fails(self):
        script = SERVER.format(version="1.0.0", mode="good").replace(
            'if MODE == "crash":', 'if os.path.exists("/opt/clusterctl/fail-now"):')
        self.web("rolling", "canary: 1, batch: 100%, drain: 1s")
        self.c.release("rolling", "1.0.0", {"bin/server": script})
        self.c.run("deploy", "rolling", "1.0.0")
        before = self.running("rolling")
        done = self.c.run("restart", "rolling")
        self.assertIn("canary: rolling/0", done.stderr)
        after = self.running("rolling")
        self.assertTrue(all(after[i][0] != before[i][0] for i in before))
        self.assertEqual(len(self.c.endpoints("rolling")), 3)
        self.c.bed.exec(1, "touch", "/opt/clusterctl/fail-now")
        done = self.c.run("restart", "rolling", check=2)
        self.assertIn("rolling/0 on host1", done.stdout)
        self.assertEqual({i: v for i, v in self.running("rolling").items() if i != "rolling/0"},
                         {i: v for i, v in after.items() if i != "rolling/0"})
        self.assertEqual([e["instance"] for e in self.c.endpoints("rolling")], ["rolling/1", "rolling/2"])
        self.c.bed.exec(1, "rm", "/opt/clusterctl/fail-now")
        self.c.run("restart", "rolling/0")
        self.assertEqual(len(self.c.endpoints("rolling")), 3)


class UnreachableTest(SharedCluster):
    def setUp(self):
        self.addCleanup(lambda: self.c.bed.heal(3))

    def test_a_host_that_cannot_be_reached_is_refused_or_left_out_as_max_unreachable_says(self):
        place = "{hosts: [host1, host3]}"
        self.c.web("away", place=place)
        self.c.release("away", "1.0.0")
        self.c.release("away", "1.1.0")
        self.c.run("deploy", "away", "1.0.0")
        self.c.bed.cut(3)
        done = self.c.run("deploy", "away", "1.1.0", check=4)
        self.assertIn("nothing was changed", done.stderr)
        self.assertEqual({e["version"] for e in self.c.endpoints("away")}, {"1.0.0"})
        self.c.edit("away", "drain: 1s", "drain: 1s, max_unreachable: 1")
        done = self.c.run("deploy", "away", "1.1.0", check=4)
        self.assertIn("left out: host3", done.stdout)
        self.c.bed.heal(3)
        self.c.run("deploy", "away", "1.1.0")
        self.assertEqual(self.c.versions("away"), ["1.1.0", "1.1.0"])

    def lose_host3_midway(self, service, upgrade):
        """Three instances one after the other; the last one's host is lost just before it is begun, and that is known
        at once: its sshd is gone."""
        self.c.web(service, place="{hosts: [host1, host2, host3]}")
        self.c.edit(service, "drain: 1s", f"drain: 1s{upgrade}")
        for version in ("1.0.0", "1.1.0"):
            self.c.release(service, version)
        self.c.run("deploy", service, "1.0.0")
        _, done = self.c.run_faulty(3, "exec", "deploy", service, "1.1.0", name="start",
                                    command=self.c.testbed_command("exec", 3, "pkill -KILL sshd"))
        return done

    def near(self, service):
        """Versions of the endpoints on the hosts that are there."""
        return [self.c.get(e)[1]["version"] for e in self.c.endpoints(service) if e["host"] != "host3"]

    def check_repaired(self, service, before):
        self.c.bed.kill(3)
        self.c.bed.boot(3)
        wait_for(lambda: self.c.run("status", check=None).returncode == 0, 60, "host3 is back")
        self.c.run("deploy", service, "1.1.0")
        self.assertEqual(self.c.versions(service), ["1.1.0"] * 3)
        for host in (1, 2, 3):
            self.assertEqual(len(self.c.processes(host, f"services/{service}/")), 1)
        outcomes = [(e["outcome"], e["detail"]) for e in self.c.json("history", service)["entries"]]
        self.assertEqual([outcome for outcome, _ in outcomes], ["done", before, "done"])
        self.assertIn("host3", outcomes[1][1])

    def test_a_host_that_is_lost_before_it_is_told_to_stop_is_unreachable_not_failed(self):
        self.deployed("told", place="{hosts: [host1, host3]}")
        _, done = self.c.run_faulty(1, "exec", "stop", "-y", "told", name="stop",
                                    command=self.c.testbed_command("exec", 3, "pkill -KILL sshd"))
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertIn("told/1 on host3", done.stdout)
        self.c.bed.kill(3)
        self.c.bed.boot(3)
        wait_for(lambda: self.c.run("status", check=None).returncode == 0, 60, "host3 is back")
        self.c.run("stop", "-y", "told")
        for host in (1, 3):
            self.assertEqual(self.c.processes(host, "services/told/"), [])

    def test_a_host_lost_midway_is_left_out_within_the_budget(self):
        done = self.lose_host3_midway("midway", ", max_unreachable: 1")
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertIn("left out: host3", done.stdout)
        self.assertEqual(self.near("midway"), ["1.1.0", "1.1.0"])
        self.check_repaired("midway", "partial")

    def test_a_host_lost_midway_undoes_the_roll_out_beyond_the_budget(self):
        done = self.lose_host3_midway("beyond", "")
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertEqual(self.near("beyond"), ["1.0.0", "1.0.0"])
        self.check_repaired("beyond", "rolled-back")


# Asks whoever the names on this host say, each time anew, and one of them over a connection that it keeps for a while;
# until the file is gone. Prints what failed.
CLIENT = """
import http.client, json, os, sys, time
names, service, until, patience = sys.argv[1:]
def endpoints():
    return json.load(open(names))["services"][service]["endpoints"]
def ask(connection):
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
first = endpoints()[0]
kept, leave_at = http.client.HTTPConnection(first["address"], first["ports"]["main"], timeout=5), None
failed, count = [], 0
while os.path.exists(until):
    if leave_at is None and os.path.exists(until + ".begun"):
        leave_at = time.monotonic() + float(patience)
    if leave_at and time.monotonic() > leave_at:
        kept.close()
    else:
        try:
            ask(kept)
        except Exception as problem:
            failed.append("kept: %r" % problem)
            leave_at = 1
    for one in endpoints():
        count += 1
        try:
            connection = http.client.HTTPConnection(one["address"], one["ports"]["main"], timeout=5)
            ask(connection)
            connection.close()
        except Exception as problem:
            failed.append("%s: %r" % (one["instance"], problem))
    time.sleep(0.01)
print(json.dumps({"count": count, "failed": failed[:5]}))
"""


class AfterAKillTest(SharedCluster):
    """What the next command does with what a killed deploy left: nobody who follows the names is let down."""

    def client(self, service):
        root = "/opt/clusterctl/"
        self.c.bed.exec(3, "rm", "-f", root + "clients.begun")
        self.c.bed.exec(3, "touch", root + "clients")
        found = {}
        thread = threading.Thread(target=lambda: found.update(json.loads(self.c.bed.exec(
            3, "/usr/bin/python3", "-c", CLIENT, root + "registry/registry.json", service, root + "clients", "2").stdout)))
        thread.start()

        def end():
            self.c.bed.exec(3, "rm", root + "clients")
            thread.join()
            return found
        return lambda: self.c.bed.exec(3, "touch", root + "clients.begun"), end

    def check_goes_on(self, service, *command):
        begin, end = self.client(service)
        try:
            begin()
            self.c.run(*command)
        finally:
            found = end()
        self.assertEqual(found["failed"], [], command)
        self.assertGreater(found["count"], 5)

    def test_names_that_were_not_told_are_told_before_anything_is_stopped(self):
        self.c.web("told", place="{hosts: [host1, host2]}")
        self.c.edit("told", "drain: 1s", "drain: 20s")
        for version in ("1.0.0", "2.0.0"):
            self.c.release("told", version)
        for command in (["deploy", "told", "2.0.0"], ["sync"], ["restart", "told"], ["start", "told"]):
            self.c.run("deploy", "told", "1.0.0")
            _, done = self.c.run_faulty(1, "kill", "deploy", "told", "2.0.0", name="names")
            self.assertEqual(done.returncode, -9)
            self.check_goes_on("told", *command)

    def test_a_move_or_a_failure_does_not_end_it(self):
        self.c.web("half", place="{group: all, count: 2}")
        for version in ("1.0.0", "2.0.0"):
            self.c.release("half", version)
        self.c.release("half", "3.0.0", mode="crash")
        self.c.run("deploy", "half", "1.0.0")
        _, done = self.c.run_faulty(2, "kill", "deploy", "half", "2.0.0", name="start")
        self.assertEqual(done.returncode, -9)
        done = self.c.run("migrate", "half/1", "--to", "host3")
        self.assertIn("a roll-out of 2.0.0 by ", done.stderr)
        self.assertIn("this does not end it", done.stderr)
        self.assertEqual(self.c.json("status", "half")["services"]["half"]["rolling_to"], "2.0.0")
        done = self.c.run("deploy", "half", "3.0.0", check=3)
        self.assertIn("all is as before: 1.0.0, but half/0 at 2.0.0", done.stdout)
        self.assertEqual(self.c.json("status", "half")["services"]["half"]["rolling_to"], "2.0.0")
        self.assertIn("half: a roll-out of 2.0.0", self.c.run("sync").stdout)
        self.c.run("deploy", "half", "2.0.0")
        self.assertEqual(self.c.versions("half"), ["2.0.0"] * 2)
        self.assertEqual(self.c.json("status", "half")["services"]["half"]["rolling_to"], "")

    def test_what_was_begun_is_observed_to_its_end(self):
        self.c.web("watched", place="{hosts: [host1, host2]}")
        self.c.edit("watched", "drain: 1s", "drain: 1s, observe: 500ms")
        for version in ("1.0.0", "2.0.0"):
            self.c.release("watched", version)
        self.c.run("deploy", "watched", "1.0.0")
        _, done = self.c.run_faulty(1, "kill", "deploy", "watched", "2.0.0", name="observe")
        self.assertEqual(done.returncode, -9)
        done = self.c.run("deploy", "watched", "2.0.0")
        self.assertEqual(done.stderr.count("observing 1 new instance for 500 ms"), 2, done.stderr)
        self.assertIn("watched 2.0.0: 2 of 2 instances ready", done.stdout)

    def test_sync_ends_what_was_put_back(self):
        self.c.web("undone", start_timeout="60s")
        self.c.release("undone", "1.0.0")
        self.c.run("deploy", "undone", "1.0.0")
        self.c.release("undone", "2.0.0", mode="never-ready")
        deploy = self.c.start("deploy", "undone", "2.0.0")
        wait_for(lambda: self.c.processes(1, "services/undone/2.0.0/"), what="the deploy that waits")
        deploy.send_signal(signal.SIGINT)
        deploy.communicate(timeout=60)
        self.assertIn("undone: a roll-out of 2.0.0", self.c.run("sync", "--dry-run").stdout)
        self.assertIn("is undone: 1.0.0 runs everywhere", self.c.run("sync").stderr)
        again = self.c.run("sync")
        self.assertNotIn("undone", again.stdout + again.stderr)


if __name__ == "__main__":
    unittest.main()
