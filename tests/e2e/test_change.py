"""Locks, history, dependencies, clients, retire: the real binary on test hosts."""

import json
import os
import re
import signal
import subprocess
import unittest

from harness import SharedCluster, interrupt, wait_for

JOB = "https://ci.example.com/jobs/4711"

# Connects to every address of its config and holds the connections; ready by its own port.
CLIENT = """#!/usr/bin/python3
import os, socket, sys, threading, http.server
held = []
for line in open(sys.argv[1]):
    if line.startswith("store = "):
        host, port = line.split("=")[1].strip().rsplit(":", 1)
        held.append(socket.create_connection((host, int(port)), 5))

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()

http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT_MAIN"])), Handler).serve_forever()
"""

# Holds one connection until it is killed.
HOLD = "import socket, time; s = socket.create_connection(({address!r}, {port})); print('on', flush=True); time.sleep(600)"


class ChangeTest(SharedCluster):
    def start_as_ci(self, *args):
        """As a job of GitLab would run it, in the background."""
        process = subprocess.Popen(self.c.command(*args), env={**self.c.environment(), "CI_JOB_URL": JOB},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def lock_of(self, service):
        return next(iter(self.c.json("lock", "show", service)["locks"]), None)

    def history_of(self, service):
        found = self.c.json("history", service)
        self.assertTrue(found["intact"], found["problems"])
        return found["entries"]

    def hung_deploy(self, service, version="1.1.0"):
        """A deploy that waits for an instance that is never ready; its lock is held by now."""
        self.c.release(service, version, mode="never-ready")
        process = self.start_as_ci("deploy", service, version)
        wait_for(lambda: self.c.processes(1, f"services/{service}/{version}/"), what="the start of the new version")
        return process

    # ---- locks ----
    def test_the_second_is_told_who_is_at_work(self):
        self.deployed("busy", start_timeout="60s")
        process = self.hung_deploy("busy")
        lock = self.lock_of("busy")
        self.assertEqual((lock["ci_job"], lock["action"], lock["to"]), (JOB, "deploy", "1.1.0"))
        self.assertFalse(lock["expired"])
        self.assertLessEqual(lock["expires_in_ms"], 15000)
        shown = self.c.run("lock", "show").stdout
        for text in ("busy", JOB, "deploy busy 1.1.0", "expires in"):
            self.assertIn(text, shown)
        for command in (["deploy", "busy", "1.0.0"], ["restart", "busy"], ["stop", "-y", "busy/0"]):
            refused = self.c.run(*command, check=6)
            self.assertIn(JOB, refused.stderr)
        waiting = self.c.start("--lock-wait", "60s", "restart", "busy")
        self.addCleanup(self.end, waiting)
        interrupt(process)
        self.assertEqual(process.wait(60), 130)
        self.assertEqual(waiting.wait(60), 0, "the one that waited goes on")
        self.assertIsNone(self.lock_of("busy"))
        self.assertEqual([(e["action"], e["outcome"]) for e in self.history_of("busy")],
                         [("deploy", "done"), ("deploy", "interrupted"), ("restart", "done")])

    def test_a_killed_job_is_recorded_and_finished_by_its_successor(self):
        self.deployed("killed", start_timeout="60s")
        process = self.hung_deploy("killed")
        process.kill()
        process.wait()
        self.c.release("killed", "1.2.0")
        done = self.c.run("deploy", "killed", "1.2.0")
        self.assertIn("took over the lock that was left behind by", done.stderr)
        self.assertIn(JOB, done.stderr)
        self.assertIn("1.1.0", done.stderr)
        self.assertEqual(self.c.versions("killed"), ["1.2.0", "1.2.0"])
        self.assertEqual(len(self.c.processes(1, "services/killed/")), 1)
        first, killed, last = self.history_of("killed")
        self.assertEqual((killed["outcome"], killed["to"], killed["ci_job"]), ("interrupted", "1.1.0", JOB))
        self.assertIn("@", killed["recorded_by"])
        self.assertEqual((last["outcome"], last["from"], last["to"]), ("done", "1.0.0", "1.2.0"))

    def test_a_restart_after_a_killed_roll_out_stops_what_it_left(self):
        self.deployed("left", start_timeout="60s")
        process = self.hung_deploy("left")
        process.kill()
        process.wait()
        done = self.c.run("restart", "left")
        self.assertIn("took over the lock that was left behind by", done.stderr)
        self.assertRegex(done.stderr, r"left/0: stopping generation 2 \(1.1.0\) on host1, left over")
        self.assertIn("the roll-out of 1.1.0", done.stderr)
        self.assertIn("is undone: 1.0.0 runs everywhere", done.stderr)
        self.assertEqual(self.c.processes(1, "services/left/1.1.0/"), [])
        self.assertEqual(self.c.versions("left"), ["1.0.0", "1.0.0"])
        self.assertNotIn("did not end", self.c.run("status", "left").stdout)

    def test_an_apply_with_nothing_to_do_ends_what_a_killed_one_left(self):
        self.deployed("ends")
        self.c.append("services/ends.yaml", "env: {A: b}\n")
        # All is done but for the record.
        _, done = self.c.run_faulty(1, "kill", "apply", "ends", name="record")
        self.assertEqual(done.returncode, -9)
        plan = self.c.run("plan", "ends").stdout
        self.assertIn("ends: an operation that did not end left its lock", plan)
        self.assertIn("plan: nothing to do", plan)
        self.assertIsNotNone(self.lock_of("ends"))
        dry = self.c.run("apply", "ends", "--dry-run").stdout
        self.assertIn("what was left would be brought to its end", dry)
        self.assertIsNotNone(self.lock_of("ends"))
        before = self.pids("ends")
        done = self.c.run("apply", "ends")
        self.assertIn("took over the lock that was left behind by", done.stderr)
        self.assertIn("finishing after a roll-out of 1.0.0", done.stderr)
        self.assertIsNone(self.lock_of("ends"))
        self.assertEqual(self.pids("ends"), before)
        self.assertEqual([e["outcome"] for e in self.history_of("ends")], ["done", "interrupted", "done"])
        self.assertNotIn("did not end", self.c.run("status", "ends").stdout)
        # What runs now is what a roll-back would come from.
        self.assertIn("ends 1.0.0: 2 of 2 instances ready", self.c.run("rollback", "ends").stdout)
        self.assertNotIn("A", self.c.get(self.c.endpoints("ends")[0])[1]["env"])

    def test_a_first_deploy_that_was_killed_is_told_by_apply(self):
        self.c.web("first")
        self.c.release("first", "1.0.0")
        self.c.run_faulty(1, "kill", "deploy", "first", "1.0.0", name="publish")
        done = self.c.run("apply", "first")
        self.assertIn("took over the lock", done.stderr)
        self.assertIn("finish it with 'clusterctl deploy first 1.0.0'", done.stdout)
        self.assertIsNone(self.lock_of("first"))
        self.assertIn("finish it with", self.c.run("apply", "first").stdout)
        self.c.run("deploy", "first", "1.0.0")
        self.assertEqual(self.c.versions("first"), ["1.0.0", "1.0.0"])

    def test_a_paused_owner_cannot_act_when_it_wakes(self):
        self.deployed("paused", start_timeout="120s")
        process = self.hung_deploy("paused")
        process.send_signal(signal.SIGSTOP)
        lock = wait_for(lambda: (lambda l: l if l and l["expired"] else None)(self.lock_of("paused")), 40,
                        "the lock expires")
        self.assertGreater(lock["age_ms"], 15000)
        self.assertIn("expired", self.c.run("lock", "show", "paused").stdout)
        self.c.release("paused", "1.2.0")
        done = self.c.run("deploy", "paused", "1.2.0")
        self.assertIn("took over", done.stderr)
        before = self.c.instances("paused")
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 5, out + err)
        self.assertIn("lock", out + err)
        self.assertEqual({i: s["pid"] for i, s in self.c.instances("paused").items()},
                         {i: s["pid"] for i, s in before.items()})
        self.assertEqual(self.c.versions("paused"), ["1.2.0", "1.2.0"])
        self.assertEqual([(e["to"], e["outcome"]) for e in self.history_of("paused")],
                         [("1.0.0", "done"), ("1.1.0", "interrupted"), ("1.2.0", "done")])

    def test_lock_break_takes_it_from_whoever_holds_it(self):
        self.deployed("stuck", start_timeout="60s")
        self.c.run("lock", "break", "-y", "stuck", check=1)
        process = self.hung_deploy("stuck")
        self.assertIn("-y", self.c.run("lock", "break", "stuck", check=64).stderr)
        self.c.run("lock", "break", "--dry-run", "stuck")
        self.assertIsNotNone(self.lock_of("stuck"))
        self.c.run("lock", "break", "-y", "stuck")
        self.assertIsNone(self.lock_of("stuck"))
        interrupt(process)  # it may wait for its instance for long yet
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 5, out + err)
        self.assertRegex(out + err, "lock on stuck was lost|was taken over by another operation")
        self.assertEqual([(e["action"], e["outcome"]) for e in self.history_of("stuck")],
                         [("deploy", "done"), ("deploy", "interrupted"), ("lock break", "done")])
        self.c.run("deploy", "stuck", "1.0.0")
        self.assertEqual(self.c.versions("stuck"), ["1.0.0", "1.0.0"])

    # ---- history ----
    def test_history_tells_who_did_what_and_how_it_ended(self):
        self.deployed("told")
        self.c.release("told", "1.1.0", mode="crash")
        self.c.run("deploy", "told", "1.1.0", check=3)
        self.c.run("stop", "-y", "told/1")
        entries = self.history_of("told")
        self.assertEqual([(e["number"], e["action"], e["outcome"]) for e in entries],
                         [(1, "deploy", "done"), (2, "deploy", "rolled-back"), (3, "stop", "done")])
        self.assertEqual((entries[0]["from"], entries[0]["to"]), ("", "1.0.0"))
        self.assertEqual((entries[1]["from"], entries[1]["to"]), ("1.0.0", "1.1.0"))
        self.assertIn("exit status 3", entries[1]["detail"])
        self.assertEqual(entries[0]["command"].split()[0], "clusterctl")
        self.assertRegex(entries[0]["who"], "@")
        text = self.c.run("history", "told").stdout
        self.assertIn("told#2 deploy 1.0.0 → 1.1.0: rolled-back", text)
        self.assertIn("the chain holds", text.splitlines()[-1])
        self.assertEqual(len(self.c.json("history", "-n", "1", "told")["entries"]), 1)
        self.c.run("deploy", "--dry-run", "told", "1.0.0")
        self.assertEqual(len(self.history_of("told")), 3)

    # ---- dependencies ----
    def chain(self, prefix):
        """base ← middle ← top, all on host 1."""
        names = [f"{prefix}-{part}" for part in ("c-base", "b-middle", "a-top")]
        for needs, name in zip([None, *names], names):
            self.c.web(name, place="{hosts: [host1]}", more=f"depends_on: [{needs}]\n" if needs else "")
            self.c.release(name, "1.0.0")
        for name in names:
            self.c.run("deploy", name, "1.0.0")
        return names

    @staticmethod
    def order_in(text, names, word):
        found = re.findall(rf"^(?:.*?)({'|'.join(names)})/0.*{word}", text, re.M)
        return list(dict.fromkeys(found))

    def test_services_start_in_order_and_stop_in_reverse(self):
        base, middle, top = names = self.chain("chain")
        done = self.c.run("stop", "-y", *names)
        self.assertEqual(self.order_in(done.stderr, names, "stopped"), [top, middle, base], done.stderr)
        done = self.c.run("start", *names)
        self.assertEqual(self.order_in(done.stderr, names, "ready"), [base, middle, top], done.stderr)
        # Who is behind one that does not come up is left alone.
        self.c.run("stop", "-y", *names)
        path = self.c.root_path(1, f"services/{middle}/1.0.0/bin/server")
        os.chmod(path, 0o755)
        with open(path, "a") as file:
            file.write("# changed\n")
        done = self.c.run("start", *names, check=2)
        self.assertEqual(self.order_in(done.stderr, names, "ready"), [base], done.stderr)
        self.assertEqual(self.c.processes(1, f"services/{top}/"), [])
        self.assertEqual(self.history_of(top)[-1]["outcome"], "failed")
        self.assertIn("not begun", self.history_of(top)[-1]["detail"])

    def test_deps_shows_the_graph(self):
        base, middle, top = self.chain("graph")
        self.assertIn(f"└─ {middle}\n   └─ {base}\n", self.c.run("deps", top).stdout)
        self.assertIn(f"{base}, needed by\n└─ {middle}\n   └─ {top}\n", self.c.run("deps", base, "--reverse").stdout)
        self.assertIn(f'"{top}" -> "{middle}";', self.c.run("deps", "--dot").stdout)
        found = self.c.json("deps", top)
        self.assertEqual(found["start_order"], [base, middle, top])
        self.assertEqual(found["stop_order"], [top, middle, base])

    def test_a_cycle_is_refused_with_its_path(self):
        names = ["loop-a", "loop-b", "loop-c"]
        for name, needs in zip(names, names[1:] + names[:1]):
            self.c.web(name, more=f"depends_on: [{needs}]\n")
        try:
            refused = self.c.run("deps", check=65)
            self.assertIn("loop-a → loop-b → loop-c → loop-a", refused.stderr)
        finally:
            for name in names:
                os.remove(os.path.join(self.c.inventory, f"services/{name}.yaml"))

    # ---- clients, retire ----
    def store_with_client(self, prefix):
        store, user = f"{prefix}-store", f"{prefix}-user"
        self.deployed(store, place="{hosts: [host1]}")
        self.c.template(f"{user}.conf.mustache",
                        f"{{{{#services.{store}}}}}store = {{{{address}}}}:{{{{port.main}}}}\n"
                        f"{{{{/services.{store}}}}}")
        self.c.web(user, place="{hosts: [host2]}", more=f"depends_on: [{store}]\n")
        manifest = os.path.join(self.c.inventory, f"services/{user}.yaml")
        with open(manifest) as file:
            text = file.read()
        with open(manifest, "w") as file:
            file.write(text.replace("template: app.conf.mustache", f"template: {user}.conf.mustache"))
        self.c.release(user, "1.0.0", {"bin/server": CLIENT})
        self.c.run("deploy", user, "1.0.0")
        return store, user

    def hold_connection(self, host, address, port):
        process = subprocess.Popen(self.c.bed.exec_command(host, "/usr/bin/python3", "-c", HOLD.format(address=address, port=port)),
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdout.close()))
        self.assertEqual(process.stdout.readline(), "on\n")
        return process

    def test_clients_are_found_on_every_host(self):
        store, user = self.store_with_client("seen")
        endpoint = self.c.endpoints(store)[0]
        port = endpoint["ports"]["main"]
        self.hold_connection(3, endpoint["address"], port)
        self.hold_connection(1, "127.0.0.1", port)
        self.c.run("clients", store + "x", check=65)
        found = self.c.json("clients", store)["clients"]
        self.assertEqual({(c["host"], c["instance"]) for c in found},
                         {("host2", f"{user}/0"), ("host3", None), ("host1", None)}, found)
        for client in found:
            self.assertEqual((client["connected_to"], client["port"]), (f"{store}/0", "main"))
            self.assertIn(client["command"], ("server", "python3"))
            self.assertGreater(client["pid"], 0)
        text = self.c.run("clients", store).stdout
        self.assertIn(f"{store}: 3 clients now", text.splitlines()[-1])

    def test_a_client_that_comes_later_is_seen_by_a_watch(self):
        self.deployed("watched", place="{hosts: [host1]}")
        endpoint = self.c.endpoints("watched")[0]
        watch = self.c.start("-o", "jsonl", "clients", "watched", "--for", "60s")
        self.addCleanup(self.end, watch)
        self.hold_connection(3, endpoint["address"], endpoint["ports"]["main"])
        seen = json.loads(watch.stdout.readline())
        self.assertEqual((seen["host"], seen["connected_to"]), ("host3", "watched/0"))
        interrupt(watch)
        self.assertEqual(watch.wait(30), 130)

    def test_retire_is_refused_while_something_uses_it(self):
        store, user = self.store_with_client("used")
        refused = self.c.run("retire", "-y", store, check=77)
        self.assertIn(f"{user} depends on it", refused.stderr)
        self.assertRegex(refused.stderr, rf"connected to {store}/0: {user}/0 \(server, pid \d+\) on host2")
        self.assertEqual(len(self.c.endpoints(store)), 1)
        self.assertIn("-y", self.c.run("retire", "--force", store, check=64).stderr)
        self.c.run("retire", "--force", "--dry-run", store)
        self.assertEqual(len(self.c.endpoints(store)), 1)
        done = self.c.run("retire", "--force", "-y", store)
        self.assertIn("1 instance removed", done.stdout)
        self.assert_gone(store)
        self.assertEqual([(e["action"], e["outcome"]) for e in self.history_of(store)],
                         [("deploy", "done"), ("retire", "done")])
        # Again: there is nothing left that could be in use.
        self.c.run("retire", "-y", store)
        # It can come back.
        self.c.run("deploy", store, "1.0.0")
        self.assertEqual(self.c.versions(store), ["1.0.0"])

    def assert_gone(self, service):
        self.assertEqual(self.c.instances(service), {})
        for host in (1, 2, 3):
            self.assertEqual(self.c.processes(host, f"services/{service}/"), [])
            self.assertEqual(self.c.registry_file(host)["services"].get(service, {}).get("endpoints", []), [])

    def test_retire_that_is_killed_is_finished_by_the_next(self):
        for phase in ("withdrawing", "draining", "removing"):
            with self.subTest(phase=phase):
                service = f"half-{phase}"
                self.deployed(service)
                process = self.c.start("retire", "-y", service)
                self.addCleanup(self.end, process)
                for line in process.stderr:
                    if phase in line:
                        break
                process.kill()
                process.wait()
                self.c.run("retire", "-y", service)
                self.assert_gone(service)
                self.assertEqual(self.history_of(service)[-1]["outcome"], "done")

    def test_retire_of_what_the_inventory_no_longer_has(self):
        self.deployed("dropped")
        os.remove(os.path.join(self.c.inventory, "services/dropped.yaml"))
        self.c.run("retire", "-y", "dropped")
        for host in (1, 2):
            self.assertEqual(self.c.processes(host, "services/dropped/"), [])
        self.assertEqual(self.history_of("dropped")[-1]["action"], "retire")
        self.c.run("retire", "-y", "never-there", check=65)

    # ---- dependants ----
    def store_with_users(self, prefix, action, hosts="host1, host2, host3"):
        """A store on host 1 and users of it on all hosts, each with the store's endpoints in its config."""
        store, user = f"{prefix}-store", f"{prefix}-user"
        self.deployed(store, place="{hosts: [host1]}")
        self.c.template(f"{user}.conf.mustache",
                        f"{{{{#services.{store}}}}}store = {{{{address}}}}:{{{{port.main}}}}\n"
                        f"{{{{/services.{store}}}}}")
        self.c.web(user, place=f"{{hosts: [{hosts}]}}", batch="100%",
                   more=f"depends_on: [{store}]\non_change: {{{store}: {action}}}\n")
        manifest = os.path.join(self.c.inventory, f"services/{user}.yaml")
        with open(manifest) as file:
            text = file.read()
        with open(manifest, "w") as file:
            file.write(text.replace("template: app.conf.mustache", f"template: {user}.conf.mustache"))
        self.c.release(user, "1.0.0")
        self.c.run("deploy", user, "1.0.0")
        return store, user

    def confs(self, user):
        """What each instance was told when it began, or reads now."""
        return {e["instance"]: self.c.get(e)[1]["conf"] for e in self.c.endpoints(user)}

    def assert_follows(self, store, user):
        told = self.c.endpoints(store)[0]
        line = f"store = {told['address']}:{told['ports']['main']}\n"
        self.assertEqual(set(self.confs(user).values()), {line})

    def down_at_once(self, user):
        """The most instances that were down at one time, as the journals of the hosts tell."""
        events = [json.loads(line) for line in self.c.run("-o", "jsonl", "events").stdout.splitlines()]
        events = [e for e in events if e.get("service") == user and e["kind"] in ("exit", "ready")]
        down, most = set(), 0
        for event in sorted(events, key=lambda e: e["at"]):
            (down.add if event["kind"] == "exit" else down.discard)(event["index"])
            most = max(most, len(down))
        return most

    def test_dependants_restart_in_batches_and_never_all_at_once(self):
        store, user = self.store_with_users("batch", "restart")
        before = {i: s["pid"] for i, s in self.c.instances(user).items()}
        self.c.release(store, "1.1.0")
        done = self.c.run("deploy", store, "1.1.0")
        self.assertIn("restarted with the new endpoints", done.stderr)
        after = {i: s["pid"] for i, s in self.c.instances(user).items()}
        self.assertEqual(len(after), 3)
        self.assertFalse(set(before.values()) & set(after.values()))
        self.assert_follows(store, user)
        self.assertLessEqual(self.down_at_once(user), 2, "batch: 100% of three, and one is left alone")
        self.assertIn(("on-change restart", "done"), [(e["action"], e["outcome"]) for e in self.history_of(user)])

    def test_what_was_stopped_stays_so(self):
        """It gets the new config, and is not started by what others do; nor by a restart of all."""
        store, user = self.store_with_users("rest", "restart")
        self.c.run("-y", "stop", f"{user}/0")
        foreseen = self.c.json("restart", store, "--dry-run")["dependants"]
        self.assertEqual([(one["on_change"], sorted(one["instances"])) for one in foreseen],
                         [("restart", [f"{user}/1", f"{user}/2"]), ("none", [f"{user}/0"])])
        self.c.release(store, "1.1.0")
        done = self.c.run("deploy", store, "1.1.0")
        self.assertIn(f"{user}/0: config follows the new endpoints\n", done.stderr)
        self.assertIn(f"{user}/0: stays stopped", self.c.run("restart", user).stdout)
        self.assertEqual(self.c.json("restart", f"{user}/0")["held"], [f"{user}/0"])
        self.c.run("sync")
        self.assertEqual(self.c.instances(user)[f"{user}/0"]["state"], "stopped")
        self.assertEqual(len(self.c.endpoints(user)), 2)
        self.c.run("start", f"{user}/0")
        self.assert_follows(store, user)

    def test_a_dependant_out_of_reach_is_told_and_follows_later(self):
        store, user = self.store_with_users("late", "reload", "host2, host3")
        other = self.store_with_users("other", "none")[0]
        self.c.bed.cut(3, 0)
        try:
            self.c.release(store, "1.1.0")
            done = self.c.run("deploy", store, "1.1.0")
            self.assertRegex(done.stderr, rf"{user}/1.*still has the old endpoints")
        finally:
            self.c.bed.heal(3)
        self.assertEqual(len(set(self.confs(user).values())), 2)
        self.c.run("restart", other)
        self.assert_follows(store, user)

    def test_a_dependant_that_does_not_come_up_stops_the_rest(self):
        store, user = self.store_with_users("stuck-dep", "restart")
        path = self.c.root_path(1, f"services/{user}/1.0.0/bin/server")
        os.chmod(path, 0o755)
        with open(path, "a") as file:
            file.write("# changed\n")
        manifest = os.path.join(self.c.inventory, f"services/{user}.yaml")
        with open(manifest) as file:
            text = file.read()
        with open(manifest, "w") as file:
            file.write(text.replace("batch: 100%", "batch: 1"))
        self.c.release(store, "1.1.0")
        done = self.c.run("deploy", store, "1.1.0", check=None)
        self.assertIn(f"{user}: was not brought up to date", done.stderr)
        found = self.c.instances(user)
        self.assertEqual([found[f"{user}/{i}"]["state"] for i in (1, 2)], ["ready", "ready"])
        self.assertEqual(len(self.c.endpoints(user)), 2)


if __name__ == "__main__":
    unittest.main()
