"""Every exit status of clusterctl(1), in text and in JSON, and the keys of what each command prints as JSON.

What is documented is read from the manual page itself.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import unittest

from harness import TOP, SharedCluster, interrupt, wait_for


def manual():
    """The manual page as plain text, the heading of each paragraph (.TP) on a line of its own."""
    with open(os.path.join(TOP, "man", "clusterctl.1")) as file:
        text = re.sub(r"\\f[BIR]|\\fR", "", file.read()).replace("\\-", "-")
    return re.sub(r"(?m)^\.(B|BR|I|IP|SS) ?", "", text)


def documented_codes():
    table = manual().split(".SH EXIT STATUS")[1].split(".TE")[0]
    return {int(code) for code in re.findall(r"(?m)^(\d+)\t", table)}


def documented_words(command):
    """Words of the paragraphs that are headed by this command."""
    first = command.split()[0]
    words = set()
    for paragraph in manual().split(".TP\n"):
        heading, _, body = paragraph.partition("\n")
        heading = heading.replace('"', "")
        if re.search(rf"\b{command}\b", heading) or re.match(first, heading) and re.search(rf"\b{command}\b", body):
            words |= set(re.findall(r"[a-z][a-z0-9_]*", body))
    return words


class Documented(SharedCluster):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.web("web")
        for version in ("1.1.0", "1.0.0"):
            cls.c.release("web", version)
            cls.c.run("deploy", "web", version)

    def inventory_without(self, *hosts):
        """A copy of the inventory in which nothing listens where these hosts' sshd should be."""
        directory = os.path.join(self.c.directory, "without-" + "-".join(map(str, hosts)))
        if not os.path.exists(directory):
            shutil.copytree(self.c.inventory, directory)
            path = os.path.join(directory, "cluster.yaml")
            with open(path) as file:
                text = file.read()
            for host in hosts:
                text = text.replace(f"host{host}: {{address: {self.c.bed.addr(host)}",
                                    f"host{host}: {{ssh: {{port: 1}}, address: {self.c.bed.addr(host)}")
            with open(path, "w") as file:
                file.write(text)
        return directory

    def check(self, code, *command, error=None, inventory=None):
        """Ends with `code` in text and in JSON, where the exit status and, if any, the error are repeated."""
        done = self.c.run(*command, check=code, inventory=inventory)
        if code not in (0, 130):
            self.assertNotEqual(done.stdout + done.stderr, "")
        done = self.c.run("-o", "json", *command, check=code, inventory=inventory)
        result = json.loads(done.stdout)
        self.assertEqual(result["format"], 1)
        if error is not None:
            self.assertEqual(result.get("exit"), code)
            self.assertRegex(result["error"], error)
            if len(result) == 3:  # nothing but the error: people read the same
                self.assertIn("clusterctl: " + result["error"].splitlines()[0], done.stderr)
        return result

    # ---- exit statuses ----
    def test_0(self):
        result = self.check(0, "deploy", "web", "1.0.0")
        self.assertEqual((result["exit"], result["error"]), (0, None))

    def test_1_error(self):
        self.check(1, "deploy", "web", "9.9.9", error="9.9.9")

    def test_2_a_host_failed(self):
        result = self.check(2, "exec", "host1", "--", "false")
        self.assertEqual([h["exit"] for h in result["hosts"]], [1])

    def test_3_failed_and_rolled_back(self):
        self.deployed("back")
        self.c.release("back", "1.1.0", mode="crash")
        result = self.check(3, "deploy", "back", "1.1.0", error="back/0")
        self.assertEqual(result["failures"][0]["exit"]["exit_status"], 3)
        self.assertEqual(self.c.versions("back"), ["1.0.0"] * 2)

    def test_4_hosts_unreachable(self):
        away = self.inventory_without(2)
        result = self.check(4, "ping", inventory=away)
        self.assertEqual([h["host"] for h in result["hosts"] if not h["reachable"]], ["host2"])
        self.check(4, "deploy", "web", "1.1.0", error="nothing was changed: cannot use host2", inventory=away)

    def test_5_partly(self):
        self.deployed("partly")
        self.c.release("partly", "1.1.0", mode="crash")
        self.check(5, "deploy", "partly", "1.1.0", "--no-rollback", error="partly/0")

    def test_6_locked_and_130_interrupted(self):
        self.deployed("held")
        self.c.release("held", "1.1.0", mode="never-ready")
        for options in ([], ["-o", "json"]):
            process = self.c.start(*options, "deploy", "held", "1.1.0")
            wait_for(lambda: self.c.json("lock", "show", "held")["locks"]
                     and self.c.processes(1, "services/held/1.1.0/"), what="the deploy that waits")
            if not options:
                self.check(6, "restart", "held", error="deploy held 1.1.0")
            interrupt(process)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, out + err)
            self.assertIn("interrupted", out + err)
            if options:
                self.assertEqual(json.loads(out)["exit"], 130)
        self.assertEqual(self.c.versions("held"), ["1.0.0"] * 2)

    def test_130_when_it_is_made_to_leave_at_once(self):
        self.deployed("left")
        self.c.release("left", "1.1.0", mode="never-ready")
        for options in ([], ["-o", "json"]):
            process = self.c.start(*options, "deploy", "left", "1.1.0")
            wait_for(lambda: self.c.processes(1, "services/left/1.1.0/"), what="the deploy that waits")
            for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
                process.send_signal(number)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, out + err)
            self.assertIn("it left at once: what it was changing, if anything, was not put back", err)
            if options:
                self.assertEqual(json.loads(out), {"format": 1, "error": "interrupted again, and left at once",
                                                   "exit": 130})
            self.c.run("deploy", "left", "1.0.0")  # nothing of the other is left
        self.assertEqual(self.c.versions("left"), ["1.0.0"] * 2)

    def test_7_stale_plan(self):
        self.deployed("planned")
        plan = os.path.join(self.c.directory, "planned.plan")
        self.c.run("plan", "planned", "--out", plan)
        self.c.run("stop", "-y", "planned/0")
        self.check(7, "apply", "--plan", plan, error="nothing was changed")

    def test_8_no_quorum(self):
        minority = self.inventory_without(2, 3)
        self.check(8, "restart", "web/0", error="host2", inventory=minority)
        self.check(8, "registry", "status", inventory=minority)

    def test_64_usage(self):
        self.check(64, "deplyo", "web", "1.0.0", error='unknown command "deplyo"')
        self.check(64, "deploy", "web", error="VERSION")
        self.check(64, "--forks", "0", "status", error="forks")
        self.check(64, "stop", "web", error="-y")

    def test_65_bad_inventory(self):
        self.check(65, "deploy", "nothing", "1.0.0", error="nothing")
        directory = os.path.join(self.c.directory, "bad")
        if not os.path.exists(directory):
            shutil.copytree(self.c.inventory, directory)
            with open(os.path.join(directory, "services", "web.yaml"), "a") as file:
                file.write("usr: nobody\n")
        self.check(65, "status", error=r"services/web\.yaml:\d+:\d+: ", inventory=directory)
        result = self.check(65, "validate", inventory=directory)
        self.assertEqual(result["problems"][0]["file"], f"{directory}/services/web.yaml")

    def test_77_refused(self):
        other = os.path.join(self.c.directory, "other")
        with open(other, "w") as file:
            file.write("not what was added\n")
        self.check(77, "release", "add", "web", "1.0.0", other, error="web 1.0.0")

    def test_errors_of_streams_are_their_last_line(self):
        done = self.c.run("-o", "jsonl", "watch", "web", check=4, inventory=self.inventory_without(1, 2, 3))
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["exit"], 4)

    # ---- keys ----
    def keys(self, command, *arguments, required=(), like=None, check=0, lines=False):
        """All keys at the top, and those of the first element of each list, are documented, some as those of `like`;
        `required` are there."""
        done = self.c.run("-o", "json", *command.split(), *arguments, check=check)
        result = json.loads(done.stdout.splitlines()[0] if lines else done.stdout)
        self.assertEqual(result["format"], 1)
        self.assertLessEqual(set(required), set(result), command)
        found = set(result) - {"format"}
        for value in result.values():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                found |= set(value[0])
        if command != "status":  # hosts say more of themselves than is listed
            known = documented_words(command) | (documented_words(like) if like else set())
            self.assertEqual(found - known, set(), f"not in the manual of {command}")
        return result

    def test_keys_of_what_looks(self):
        self.keys("validate", required=("valid", "problems", "warnings"))
        self.keys("hosts", required=("hosts",))
        self.keys("render", "web/0", "--sample", required=("generation",))
        self.keys("render", "web/0", required=("generation",))
        self.keys("ping", required=("hosts",))
        self.keys("doctor", check=None, required=("hosts", "findings"))
        self.keys("bootstrap", required=("hosts",))
        found = self.keys("exec", "all", "--", "echo hello", required=("hosts",))
        self.assertEqual({(h["exit"], h["stdout"], h["stderr"]) for h in found["hosts"]}, {(0, "hello\n", "")})
        self.keys("release list", required=("releases",))
        self.keys("release show", "web", "1.0.0", required=("service", "version", "digest", "files"))
        self.keys("release verify", "web", "1.0.0", required=("signed_off", "exact", "problems"))
        self.keys("release prune", "--dry-run", required=("dry_run", "services"))
        self.keys("verify", required=("items",))
        self.keys("plan", required=("services", "drained", "empty", "removals"))
        self.keys("deps", required=("services", "start_order", "stop_order"))
        self.keys("clients", "web", required=("clients", "unknown_hosts"))
        self.keys("history", required=("entries", "intact", "problems"))
        self.keys("lock show", required=("locks",))
        self.keys("cores", required=("cores", "errors"))
        self.keys("registry status", required=("founded", "quorum", "members"))
        self.keys("registry members", like="registry status", required=("founded", "quorum", "members"))
        self.keys("registry show", required=("keys",))
        self.keys("registry show", "desired/web", required=("key", "revision", "value"))
        self.keys("logs", "web/0", lines=True, required=("instance", "host", "time", "stream", "text"))
        self.keys("events", lines=True, required=("host", "seq", "at", "kind", "text"))
        self.keys("version", required=("version",))
        self.assertEqual(set(self.keys("resolve", "web")), {"format", "service", "revision", "endpoints"})

    def test_keys_of_status_that_scripts_rely_on(self):
        result = self.keys("status", required=("instances", "hosts", "services", "registry"))
        for instance in result["instances"]:
            self.assertLessEqual({"instance", "service", "host", "address", "version", "state", "pid", "ports", "since",
                                  "restarts"}, set(instance))
            self.assertLessEqual(set(instance), documented_words("status"))
            self.assertRegex(instance["since"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        for host in result["hosts"]:
            self.assertEqual(host["reachable"], True)

    def test_keys_of_what_changes(self):
        outcome = ("error", "exit")
        self.deployed("keys")
        self.c.release("keys", "1.1.0")
        deploy = ("service", "version", "previous_version", "instances", "ready", "failures", *outcome)
        self.keys("deploy", "keys", "1.1.0", required=deploy)
        self.keys("rollback", "keys", required=deploy)
        for command in ("stop -y", "start", "restart", "reload"):
            word, *more = command.split()
            self.keys(word, *more, "keys/0", required=("action", "selected", "done", "failures", *outcome))
        self.keys("signal", "HUP", "keys/0", required=("action", "selected", "done", *outcome))
        self.c.web("keys", place="{group: all-hosts, count: 2}")
        self.c.append("cluster.yaml", 'groups: {all-hosts: "host[1-3]"}\n')
        self.keys("apply", "keys", like="plan", required=("services", "applied", "missed_hosts", *outcome))
        self.keys("migrate", "keys/0", "--to", "host3", required=("services", *outcome))
        self.keys("drain", "-y", "--leave", "host3", like="migrate", required=("host", "drained", "services", "stuck", *outcome))
        self.keys("undrain", "host3", required=("host", "was_drained", "started", *outcome))
        self.keys("retire", "-y", "keys", like="clients", required=("service", "dependants", "clients", "removed", "exit"))
        self.keys("sync", required=("settled", "health", "reconciled", "behind", "missed"))

    def test_dry_runs_without_a_result_of_their_own(self):
        self.assertEqual(self.c.run("--dry-run", "exec", "host1", "--", "reboot").stdout, "would run on host1: reboot\n")
        self.assertEqual(self.c.json("--dry-run", "exec", "host1", "--", "reboot"),
                         {"format": 1, "dry_run": True, "would": "run on host1: reboot"})

    def test_dry_runs_with_one(self):
        result = self.keys("unbootstrap", "--dry-run", "host1", required=("dry_run", "hosts"))
        self.assertEqual((result["dry_run"], result["hosts"][0]["host"]), (True, "host1"))
        new = os.path.join(self.c.directory, "new")
        result = self.keys("init", "--dry-run", new, required=("dry_run", "written"))
        self.assertIn(f"{new}/inventory/cluster.yaml", result["written"])
        self.assertFalse(os.path.exists(new))

    def test_jsonl_is_one_line(self):
        for command in (["status"], ["deploy", "web", "9.9.9"], ["plan"], ["registry", "status"]):
            out = subprocess.run(self.c.command("-o", "jsonl", *command), env=self.c.environment(), capture_output=True,
                                 text=True, timeout=60, stdin=subprocess.DEVNULL).stdout
            self.assertEqual(out.count("\n"), 1, command)
            self.assertEqual(json.loads(out)["format"], 1)

    def test_every_documented_exit_status_was_seen(self):
        for number in documented_codes():
            self.assertTrue(any(re.match(rf"test_(\d+_\w+_and_)?{number}(_|$)", name) for name in dir(self)), number)


if __name__ == "__main__":
    unittest.main()
