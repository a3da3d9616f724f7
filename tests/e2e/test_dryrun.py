"""--dry-run: every command that changes something takes it, says what it would do, and does nothing."""

import json
import os
import shutil
import signal
import subprocess
import unittest

from harness import SharedCluster, namespaces_permitted, wait_for


def tree(directory, skip=()):
    """path → (kind, size) of all below; a directory's own size says nothing."""
    found = {}
    for where, directories, files in os.walk(directory):
        directories[:] = [one for one in directories if os.path.relpath(os.path.join(where, one), directory) not in skip]
        for name in directories:
            found[os.path.relpath(os.path.join(where, name), directory)] = "directory"
        for name in files:
            path = os.path.join(where, name)
            found[os.path.relpath(path, directory)] = os.readlink(path) if os.path.islink(path) else os.stat(path).st_size
    return found


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class DryRunTest(SharedCluster):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.web("web", place="{group: all, count: 2}")
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            cls.c.release("web", version)
        cls.c.run("deploy", "web", "1.0.0")
        cls.c.run("deploy", "web", "1.1.0")
        cls.c.append("services/web.yaml", "env: {WAITS: for-apply}\n")
        cls.key = os.path.join(cls.c.directory, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cls.key], check=True)
        cls.source = os.path.join(cls.c.directory, "source")
        os.makedirs(os.path.join(cls.source, "bin"))
        with open(os.path.join(cls.source, "bin", "server"), "w") as file:
            file.write("#!/bin/sh\n")
        cls.book = os.path.join(cls.c.directory, "book.yaml")
        with open(cls.book, "w") as file:
            file.write("play: p\nsteps:\n - restart: {targets: web}\n - stop: {targets: web/0}\n"
                       " - exec: {hosts: all, command: touch /tmp/dry}\n")

    def commands(self):
        """Arguments, exit status (that of the real one when it would not begin), and what is said."""
        out = os.path.join(self.c.directory, "new")
        return [
            (["deploy", "web", "1.2.0"], 0, "replace as 1.2.0"),
            (["deploy", "web", "9.9.9"], 1, "not in the store"),
            (["rollback", "web"], 0, "replace as 1.0.0"),
            (["rollback", "web", "1.2.0"], 1, "never brought to a good end"),
            (["plan", "--out", out], 0, "would be saved"),
            (["apply"], 0, "2 to replace; dry run"),
            (["start", "web"], 0, "start web/0"),
            (["stop", "web"], 0, "stop web/0"),
            (["restart", "web/1"], 0, "restart web/1"),
            (["restart", "--without-quorum", "web/1"], 0, "restart web/1"),
            (["reload", "web"], 0, "reload web/0"),
            (["signal", "HUP", "web"], 0, "signal web/0"),
            (["stop", "nothing"], 65, "nothing"),
            (["migrate", "web/0"], 0, "web/0 would move"),
            (["drain", "host1"], 0, "web/0 would move: host1"),
            (["undrain", "host1"], 0, "dry run"),
            (["retire", "web"], 0, "would retire web 1.1.0"),
            (["sync"], 0, "dry run"),
            (["lock", "break", "web"], 1, "no operation is in progress"),
            (["bootstrap", "--force"], 0, "would be installed anew"),
            (["unbootstrap", "host1"], 0, "host1: the shim and web/0 would be taken off"),
            (["exec", "all", "--", "touch", "/tmp/dry"], 0, "would run on host[1-3]: touch /tmp/dry"),
            (["registry", "members", "replace", "host3"], 0, "would have 3 members: host[1-3]"),
            (["registry", "members", "remove", "host3"], 65, "would make 2"),
            (["registry", "recover"], 77, ""),
            (["release", "add", "web", "2.0.0", self.source], 0, "would be added"),
            (["release", "add", "web", "1.0.0", self.source], 77, ""),
            (["release", "sign", "web", "1.0.0", "--key", self.key], 0, ""),
            (["release", "prune", "web", "--keep", "1"], 0, "would go"),
            (["cores", "web", "--fetch", out], 1, "no core"),
            (["init", out], 0, "would write"),
            (["play", self.book], 0, "dry run of 3 steps, nothing was changed"),
        ]

    def on_hosts(self):
        """Files (what the registry writes when it is read left out), and processes that run."""
        found = {}
        for host in (1, 2, 3):
            found[host] = tree(self.c.live_path(host), skip=("registry",))
            found[host, "processes"] = self.c.processes(host, "services/web/"), self.c.shim_pids(host)
            found[host, "tmp"] = self.c.bed.exec(host, "ls", "/tmp").stdout
        return found

    def registers(self):
        keys = self.c.json("registry", "show")["keys"]
        return {key: self.c.json("registry", "show", key) for key in keys}

    def test_every_command_does_nothing(self):
        registers, status = self.registers(), self.c.instances()
        hosts, here = self.on_hosts(), tree(self.c.directory, skip=(".ssh",))
        for arguments, code, text in self.commands():
            with self.subTest(arguments):
                done = self.c.run("--dry-run", *arguments, check=code)
                self.assertIn(text, done.stdout + done.stderr)
                self.assertEqual(self.on_hosts(), hosts)
                self.assertEqual(tree(self.c.directory, skip=(".ssh",)), here)
        self.assertEqual(self.registers(), registers)
        now = self.c.instances()
        for instance, before in status.items():
            for key in ("pid", "generation", "state", "since", "restarts"):
                self.assertEqual(now[instance][key], before[key])

    def test_json_says_that_it_is_one(self):
        for arguments in (["deploy", "web", "1.2.0"], ["migrate", "web/0"], ["drain", "host1"], ["undrain", "host1"],
                          ["retire", "web"], ["sync"], ["unbootstrap", "host1"]):
            self.assertTrue(self.c.json(*arguments, "--dry-run")["dry_run"], arguments)

    def test_a_lock_is_seen_and_a_dead_holder_named(self):
        self.c.web("slow", place="{hosts: [host3]}", start_timeout="60s")
        self.c.release("slow", "1.0.0", mode="never-ready")
        process = self.c.start("deploy", "slow", "1.0.0")
        try:
            wait_for(lambda: self.c.json("lock", "show", "slow")["locks"], what="the lock of slow")
            refused = self.c.run("deploy", "slow", "1.0.0", "--dry-run", check=6)
            self.assertIn("another operation is in progress", refused.stderr)
            waits = self.c.run("deploy", "slow", "1.0.0", "--dry-run", "--lock-wait", "1m")
            self.assertIn("would wait for", waits.stderr)
            self.assertFalse(self.c.json("lock", "show", "slow")["locks"][0]["holder_gone"])
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.assertIn("this process of this machine is gone", self.c.run("lock", "show", "slow").stdout)
        self.assertTrue(self.c.json("lock", "show", "slow")["locks"][0]["holder_gone"])
        self.c.run("deploy", "slow", "1.0.0", "--dry-run")
        self.c.run("retire", "slow", "-y")
        os.unlink(f"{self.c.inventory}/services/slow.yaml")

    def test_a_release_that_does_not_fit_a_host_is_refused(self):
        self.c.release("web", "3.0.0", {"bin/server": "#!/opt/there/is/none\n"})
        for more in (["--dry-run"], []):
            done = self.c.run("deploy", "web", "3.0.0", *more, check=77)
            for host in ("host1", "host2"):
                self.assertIn(f"{host}: web 3.0.0 cannot run there", done.stderr)
            self.assertIn("/opt/there/is/none", done.stderr)

    def test_a_version_with_other_content_is_refused(self):
        kept = os.path.join(self.c.directory, "releases", "web", "1.0.0")
        os.rename(kept, kept + ".kept")
        try:
            self.c.release("web", "1.0.0", {"bin/server": "#!/bin/sh\n"})
            for more in (["--dry-run"], []):
                done = self.c.run("deploy", "web", "1.0.0", *more, check=77)
                self.assertIn("first deployed with other content", done.stderr)
        finally:
            shutil.rmtree(kept)
            os.rename(kept + ".kept", kept)

    def test_apply_checks_what_it_would_push(self):
        store = os.path.join(self.c.directory, "releases")
        program = os.path.join(store, "web", "1.1.0", "files", "bin", "server")
        with open(program) as file:
            text = file.read()
        os.chmod(program, 0o755)
        with open(program, "a") as file:
            file.write("# changed\n")
        try:
            for more in (["--dry-run"], []):
                self.assertIn("not what was added", self.c.run("apply", *more, check=77).stderr)
        finally:
            with open(program, "w") as file:
                file.write(text)
            os.chmod(program, 0o555)

    def test_sync_tells_what_is_behind(self):
        """Alerts, views, and configs that follow other services."""
        self.assertEqual(self.c.json("sync", "--dry-run")["settings"], {})
        self.c.template("user.mustache", "{{#services.web}}{{address}}:{{port.main}}\n{{/services.web}}")
        self.c.web("user", place="{hosts: [host3]}", more="depends_on: [web]\non_change: {web: reload}\n")
        self.c.edit("user", "app.conf.mustache", "user.mustache")
        self.c.release("user", "1.0.0")
        self.c.run("deploy", "user", "1.0.0")
        with open(f"{self.c.inventory}/cluster.yaml") as file:
            before = file.read()
        self.c.run("stop", "-y", "web/0")
        # Killed between the new endpoints and those who follow them.
        _, done = self.c.run_faulty(1, "kill", "start", "web/0", name="dependants")
        self.assertEqual(done.returncode, -9)
        self.c.append("cluster.yaml", "\nalerts: [{on: [crash], host_exec: [/bin/true]}]\n"
                                      "views: [{plain: web.txt, service: web, hosts: host2}]\n")
        dry = self.c.json("sync", "--dry-run")
        self.assertEqual(dry["settings"], {"host1": ["alerts"], "host2": ["alerts", "views"], "host3": ["alerts"]})
        self.assertEqual((dry["dependants"], dry["taken_over"]), (["user/0"], ["web"]))
        self.assertIn("host2: alerts and views would be brought up to date", self.c.run("sync", "--dry-run").stdout)
        done = self.c.run("sync")
        self.assertIn("host2: alerts and views brought up to date", done.stdout)
        self.assertIn("user/0: its config follows the endpoints of today", done.stdout)
        self.assertIn("web: the lock of an operation that did not end was taken over", done.stdout)
        self.assertEqual(self.c.json("lock", "show")["locks"], [])
        self.assertEqual(self.c.run("sync").stdout, "")
        self.assertEqual([e["outcome"] for e in self.c.json("history", "web")["entries"]][-2:], ["interrupted", "done"])
        self.c.run("start", "web/0")
        self.c.write("cluster.yaml", before)
        self.c.run("retire", "user", "-y")
        os.unlink(f"{self.c.inventory}/services/user.yaml")


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class ForeseenTest(SharedCluster):
    """What a dry run says of others is what the real one then does to them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.web("store", place="{hosts: [host1, host2, host3]}")
        cls.c.template("user.mustache", "{{#services.store}}{{address}}:{{port.main}}\n{{/services.store}}")
        cls.c.template("top.mustache", "{{#services.user}}{{instance}}\n{{/services.user}}")
        cls.c.web("user", place="{hosts: [host1, host2]}", more="depends_on: [store]\non_change: {store: restart}\n")
        cls.c.edit("user", "app.conf.mustache", "user.mustache")
        cls.c.web("top", place="{hosts: [host3]}", more="depends_on: [user]\non_change: {user: reload}\n")
        cls.c.edit("top", "app.conf.mustache", "top.mustache")
        for service in ("store", "user", "top"):
            cls.c.release(service, "1.0.0")
            cls.c.run("deploy", service, "1.0.0")
        cls.c.release("store", "2.0.0")

    def restarts(self, started):
        """instance of user → how often it began since."""
        counts = {}
        for line in self.c.run("-o", "jsonl", "events", "--since", "1h").stdout.splitlines():
            event = json.loads(line)
            if event.get("service") == "user" and event["kind"] == "ready" and event["at"] >= started:
                name = f"user/{event['index']}"
                counts[name] = counts.get(name, 0) + 1
        return counts

    def foreseen(self, *arguments):
        return {one["service"]: one for one in self.c.json("--dry-run", *arguments)["dependants"]}

    def assert_comes_true(self, *arguments, expected):
        foreseen = self.foreseen(*arguments)
        self.assertEqual(foreseen.get("user", {"instances": {}})["instances"], expected)
        started = self.c.json("history")["entries"][-1]["ended"]
        self.c.run(*arguments)
        self.assertEqual(self.restarts(started), expected)
        return foreseen

    def test_those_who_follow_are_named(self):
        text = self.c.run("--dry-run", "deploy", "store", "2.0.0").stdout
        self.assertIn("user/[0-1]: its config follows the changed endpoints, and it restarts, 1 at a time; 3 times, once "
                      "for each change", text)
        self.assertIn("top/0: its config follows the changed endpoints, and it is reloaded", text)
        foreseen = self.assert_comes_true("deploy", "store", "2.0.0", expected={"user/0": 3, "user/1": 3})
        self.assertEqual(foreseen["user"]["on_change"], "restart")
        self.assertEqual(foreseen["top"]["instances"], {"top/0": 12})  # each of the 6 leaves and comes back
        # Nothing changes, and the same generation starts again on the same port.
        self.assert_comes_true("deploy", "store", "2.0.0", expected={})
        self.assert_comes_true("restart", "store/0", expected={"user/0": 2, "user/1": 2})
        self.assert_comes_true("-y", "stop", "store/0", expected={"user/0": 1, "user/1": 1})
        self.assert_comes_true("start", "store/0", expected={"user/0": 1, "user/1": 1})
        self.assert_comes_true("reload", "store", expected={})
        self.assertIn("user/[0-1]: its config follows", self.c.run("retire", "--force", "store", "--dry-run").stdout)
        self.c.bed.cut(2, 0)
        try:
            done = self.c.run("stop", "store/0", "--dry-run")
            self.assertIn("user/1: depends on store, and what follows for it cannot be seen now: host2: ", done.stderr)
        finally:
            self.c.bed.heal(2)
        self.c.append("services/store.yaml", "env: {CHANGED: here}\n")
        plan = self.c.json("plan")["services"]
        store = next(one for one in plan if one["service"] == "store")
        self.assertEqual(store["dependants"][0]["instances"], {"user/0": 3, "user/1": 3})
        self.assertIn("user/[0-1]: its config follows", self.c.run("plan").stdout)
        self.c.run("apply", "-y")

    def test_what_drain_would_stop_is_named(self):
        done = self.c.run("drain", "--stop", "host1", "--dry-run")
        for line in ("store/0: would be stopped, until undrain", "user/0: would be stopped, until undrain",
                     "user/[0-1]: its config follows the changed endpoints, and it restarts"):
            self.assertIn(line, done.stdout)
        said = self.c.json("drain", "--stop", "host1", "--dry-run")
        self.assertEqual(sorted(said["stopped"]), ["store/0", "user/0"])
        self.assertIn("store/0: would be left running", self.c.run("drain", "--leave", "host1", "--dry-run").stdout)
        self.assertEqual(self.c.instances("store")["store/0"]["state"], "ready")
        self.c.run("drain", "-y", "--stop", "host1")
        said = self.c.json("undrain", "host1", "--dry-run")
        self.assertEqual(sorted(said["started"]), ["store/0", "user/0"])
        self.c.run("undrain", "host1")

    def test_what_was_stopped_before_a_deploy_starts_as_it_was_and_says_so(self):
        self.c.web("aside", place="{hosts: [host1, host2]}")
        for version in ("1.0.0", "2.0.0"):
            self.c.release("aside", version)
        self.c.run("deploy", "aside", "1.0.0")
        self.c.run("-y", "stop", "aside/0")
        self.c.run("deploy", "aside", "2.0.0")
        warning = "aside/0: it is 1.0.0 there, from before 2.0.0 was deployed; 'clusterctl apply aside' brings it up"
        self.assertIn(warning, self.c.run("start", "aside/0", "--dry-run").stderr)
        self.assertIn(warning, self.c.run("start", "aside/0").stderr)
        self.assertEqual(self.c.versions("aside"), ["1.0.0", "2.0.0"])
        self.c.run("apply", "aside")
        self.assertEqual(self.c.versions("aside"), ["2.0.0", "2.0.0"])
        self.c.run("retire", "-y", "aside")

    def test_what_a_killed_one_left_is_told_as_what_it_is(self):
        self.c.web("left", place="{hosts: [host1, host2]}")
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            self.c.release("left", version)
        self.c.run("deploy", "left", "1.0.0")
        _, done = self.c.run_faulty(1, "kill", "deploy", "left", "2.0.0", name="publish")
        self.assertEqual(done.returncode, -9)
        text = self.c.run("--dry-run", "deploy", "left", "3.0.0").stdout
        self.assertIn("left: a roll-out of 2.0.0 by ", text)
        self.assertIn("stop and remove 1.0.0 (generation 1 is left over from a roll-out that did not end)", text)
        # Which one is published still: it goes on until another is.
        self.assertIn("left: would take over the lock that was left behind by", self.c.run("--dry-run", "stop", "left").stderr)
        self.c.run_faulty(1, "kill", "deploy", "left", "3.0.0", name="start")
        self.assertEqual([self.c.get(one)[1]["version"] for one in self.c.endpoints("left")], ["1.0.0", "1.0.0"])
        self.c.run("deploy", "left", "3.0.0")
        self.assertEqual(self.c.versions("left"), ["3.0.0", "3.0.0"])
        self.c.run("retire", "-y", "left")


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class BareHostsTest(SharedCluster):
    """Hosts where nothing was placed yet are looked at over SSH."""

    HOSTS = 2

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.web("web")
        cls.c.release("web", "1.0.0")

    def test_what_would_come_is_said(self):
        for arguments, code, text in (
                (["bootstrap"], 0, "would be placed"),
                (["deploy", "web", "1.0.0"], 0, "+ web/1 on host2: start as 1.0.0 (not there yet)"),
                (["plan"], 0, "never deployed"),
                (["apply"], 0, "nothing to do"),
                (["restart", "web"], 64, "not deployed"),
                (["retire", "web"], 1, "nothing to retire"),
                (["sync"], 0, "dry run"),
                (["drain", "host1"], 0, "dry run"),
                (["unbootstrap", "host1"], 2, "no shim is there")):
            with self.subTest(arguments):
                done = self.c.run(*arguments, "--dry-run", check=code)
                self.assertIn(text, done.stdout + done.stderr)
        for host in (1, 2):
            self.assertFalse(os.path.exists(self.c.live_path(host)))

    def test_where_only_some_have_it(self):
        self.c.run("bootstrap", "host1")
        done = self.c.run("deploy", "web", "1.0.0", "--dry-run")
        self.assertIn("host2: there is no shim yet; it would be placed in /opt/clusterctl", done.stderr)
        self.assertIn("start as 1.0.0", done.stdout)
        self.assertFalse(os.path.exists(self.c.live_path(2)))
        self.c.run("unbootstrap", "host1", "-y")

    def test_accepted_host_keys_are_written_nowhere(self):
        known = os.path.join(self.c.directory, "known_hosts")
        with open(f"{self.c.inventory}/cluster.yaml") as file:
            before = file.read()
        self.c.write("cluster.yaml", before.replace(str(self.c.bed.known_hosts), known))
        done = self.c.run("bootstrap", "--accept-new", "--dry-run")
        self.assertIn("would add the host key", done.stderr)
        self.assertFalse(os.path.exists(known))
        self.c.run("bootstrap", "--dry-run", check=4)
        self.c.run("ping", "--accept-new")
        self.assertTrue(os.path.exists(known))
        self.c.write("cluster.yaml", before)


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class BareRegistryHostTest(SharedCluster):
    """More hosts are not asked where nothing was deployed."""

    HOSTS = 1

    def test_plan_looks_and_apply_places(self):
        self.c.web("web", place="{hosts: [host1]}")
        for command in (["plan"], ["apply", "--dry-run"]):
            done = self.c.run(*command)
            self.assertIn("never deployed", done.stdout)
            self.assertIn("host1: there is no shim yet; it would be placed", done.stderr)
            self.assertFalse(os.path.exists(self.c.live_path(1)))
        self.assertIn("nothing to do", self.c.run("apply", "-y").stdout)
        self.assertTrue(os.path.exists(self.c.live_path(1)))
        self.assertNotIn("would be placed", self.c.run("plan").stderr)


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class DeadShimTest(SharedCluster):
    HOSTS = 2  # the first one keeps the registry

    def test_a_shim_that_does_not_run_would_be_started(self):
        self.deployed("web")
        pids = lambda: self.c.processes(2, "^[^ ]*clusterctl-shim")
        self.c.bed.exec(2, "kill", "-KILL", *map(str, pids()))
        self.assertEqual(pids(), [])
        done = self.c.run("deploy", "web", "1.0.0", "--force", "--dry-run")
        self.assertIn("host2: the shim in /opt/clusterctl does not run and would be started", done.stderr)
        self.assertIn("~ web/0 on host1: replace as 1.0.0", done.stdout)
        self.assertIn("would be started", self.c.run("bootstrap", "--dry-run").stdout)
        self.assertEqual(pids(), [])
        self.c.run("deploy", "web", "1.0.0", "--force")
        self.assertEqual(self.c.versions("web"), ["1.0.0", "1.0.0"])


if __name__ == "__main__":
    unittest.main()
