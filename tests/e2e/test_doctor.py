"""doctor and cores: what is wrong with hosts, and what crashes leave behind."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import Cluster, namespaces_permitted, wait_for

# Runs until it is told to reload, then aborts.
ABORTS = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static volatile sig_atomic_t told;
static void onHup(int signal) { (void)signal; told = 1; }
int main(void) {
  signal(SIGHUP, onHup);
  puts("running"); fflush(stdout);
  while (!told) usleep(20000);
  abort();
}
"""

TALKS = """#!/usr/bin/python3
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"READY=1\\nSTATUS=nice weather")
time.sleep(1000)
"""

MANIFEST = """
service: aborts
place: {hosts: [host2]}
run: [bin/aborts]
limits: {core: unlimited}
restart: {policy: always, backoff: 100ms..1s, limit: "10 in 1m"}
"""


def core_pattern():
    with open("/proc/sys/kernel/core_pattern") as file:
        return file.read().strip()


def compiled(text):
    """The bytes of a program; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        source, program = os.path.join(directory, "a.c"), os.path.join(directory, "a")
        with open(source, "w") as file:
            file.write(text)
        subprocess.run([compiler, "-g", "-o", program, source], check=True, capture_output=True)
        with open(program, "rb") as file:
            return file.read()


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class ClusterTest(unittest.TestCase):
    def cluster(self, *args, **options):
        cluster = Cluster(*args, **options)
        self.addCleanup(cluster.close)
        return cluster

    def findings(self, cluster, *args, check=None):
        """(host, check) → finding."""
        found = cluster.json("doctor", *args, check=check)
        self.assertEqual(found["format"], 1)
        return {(one["host"], one["check"]): one for one in found["findings"]}


@unittest.skipUnless(namespaces_permitted(), "test hosts that can be cut need root and namespaces")
class DoctorTest(ClusterTest):
    def test_each_trouble_is_found_on_its_host_with_the_mend(self):
        c = self.cluster(4, disk_size={2: "64M"})
        before = self.findings(c, check=2)
        for host in ("host1", "host2", "host3", "host4"):
            self.assertIn("bootstrap " + host, before[host, "shim"]["do"])
        self.assertIn(("host1", "registry"), before)
        self.assertRegex(c.run("doctor", check=2).stdout,
                         r"host\[1-4\]: shim: there is no shim in /\S+\n    do: clusterctl bootstrap 'host\[1-4\]'\n")
        c.run("bootstrap")
        healthy = self.findings(c, "-l", "host1,host3")
        self.assertEqual([one for one in healthy.values() if one["level"] == "bad"], [])
        c.run("doctor", "-l", "host1,host3")

        os.unlink(os.path.join(c.bed.live_root(1), "etc/cron.d/clusterctl-demo"))
        with open(os.path.join(c.bed.live_root(4), "etc/cron.d/clusterctl-demo"), "a") as file:
            file.write("# by hand\n")
        c.bed.cut(3)
        found = self.findings(c, check=2)
        self.assertEqual(found["host1", "boot"]["level"], "bad")
        self.assertIn("there is no /etc/cron.d/clusterctl-demo", found["host1", "boot"]["problem"])
        self.assertIn("bootstrap host1 --force", found["host1", "boot"]["do"])
        self.assertIn("was changed", found["host4", "boot"]["problem"])
        self.assertEqual(found["host2", "disk"]["level"], "bad")
        self.assertIn("% free of", found["host2", "disk"]["problem"])
        self.assertEqual(found["host3", "ssh"]["level"], "bad")
        self.assertIn(("host3", "registry"), found)
        self.assertNotIn(("host2", "boot"), found)

        text = c.run("doctor", check=2).stdout
        self.assertIn("host1: boot: nothing starts the shim at boot", text)
        self.assertIn("\n    do: clusterctl bootstrap host1 --force\n", text)
        self.assertRegex(text.splitlines()[-1], r"^doctor: \d+ findings, \d+ of them bad, on 4 of 4 hosts$")
        whole = text.splitlines()[:-1]
        warned = [i for i, line in enumerate(whole) if ": warning: " in line]
        bad = [i for i, line in enumerate(whole) if re.match(r"host\S+: (boot|disk|ssh|registry): ", line)]
        self.assertTrue(bad and (not warned or max(bad) < min(warned)), text)
        # Only unreachable: another exit status.
        c.run("doctor", "-l", "host3", check=4)

        # The mend mends.
        c.bed.heal(3)
        c.run("bootstrap", "host1", "host4", "--force")
        wait_for(lambda: c.run("ping", "-l", "host3", check=None).returncode == 0, what="host3 reachable")
        c.run("doctor", "-l", "host1,host3,host4")

    def test_what_the_manifests_ask_of_a_host_that_cannot_give_it(self):
        c = self.cluster(1, user="plain")
        c.manifest("greedy", "service: greedy\nplace: {hosts: [host1]}\nrun: [bin/x]\nuser: nobody\n"
                   "limits: {nofile: 1000000000, memory: 64M}\n")
        c.run("bootstrap")
        found = self.findings(c, check=2)
        self.assertIn("the shim runs as plain", found["host1", "user"]["problem"])
        self.assertIn("limits", {check for _, check in found})

    def test_what_somebody_removed_below_root_is_named_and_the_mend_mends(self):
        c = self.cluster(3)
        c.manifest("sleeps", "service: sleeps\nplace: {hosts: [host1]}\nrun: [bin/sleeps]\n")
        c.release("sleeps", "1", {"bin/sleeps": "#!/bin/sh\nexec sleep 100000\n"})
        c.run("deploy", "sleeps", "1")
        self.assertEqual(set(self.findings(c)) & {(f"host{i}", k) for i in (1, 2, 3) for k in ("shim", "files")}, set())
        pid = c.instances("sleeps")["sleeps/0"]["pid"]
        root = [None] + [c.live_path(i) for i in (1, 2, 3)]

        # The link: bootstrap makes it again, and says so.
        os.unlink(os.path.join(root[2], "shim/current"))
        found = self.findings(c, check=2)["host2", "shim"]
        self.assertEqual(found["problem"], "nothing could start the shim again: /opt/clusterctl/shim/current is missing")
        self.assertEqual(found["do"], "clusterctl bootstrap host2")
        told = c.json("bootstrap")["hosts"]
        self.assertEqual([one["detail"] for one in told],
                         ["was there already", "was there already; mended: /opt/clusterctl/shim/current is missing",
                          "was there already"])
        self.assertFalse(told[1]["placed"])
        self.assertTrue(os.path.exists(os.path.join(root[2], "shim/current")))
        c.bed.exec(2, "ln -sfn bin/nothing /opt/clusterctl/shim/current")
        self.assertIn("leads to another shim", self.findings(c, check=2)["host2", "shim"]["problem"])
        c.run("bootstrap", "host2")
        self.assertNotIn(("host2", "shim"), self.findings(c))

        # The journal: a new one is begun, whether it is noticed by who asks or by the next shim.
        for restart in (False, True):
            shutil.rmtree(os.path.join(root[1], "shim/journal"))
            if restart:
                self.kill_supervisor(c, 1)
            found = self.findings(c)["host1", "files"]
            self.assertRegex(found["problem"], "^/opt/clusterctl/shim/journal was removed: what happened before ")
            c.run("restart", "sleeps", "-y")
            events = self.events(c, "-l", "host1")
            self.assertTrue([e for e in events if e["kind"] == "start"], events)
            self.assertTrue([e for e in events if "journal was removed" in e["text"]], events)
        pid = c.instances("sleeps")["sleeps/0"]["pid"]

        # The names that local readers read.
        for what in ("services/sleeps.json", "registry.json", "."):
            path = os.path.join(root[3], "registry", what)
            c.bed.exec(3, f"rm -rf /opt/clusterctl/registry/{what}" if what != "." else "rm -rf /opt/clusterctl/registry/*")
            found = self.findings(c)["host3", "files"]
            self.assertIn("who reads names from there finds nothing, or old ones", found["problem"])
            self.assertRegex(found["do"], r"^kill -9 \d+ there .*, then clusterctl sync$")
            self.kill_supervisor(c, 3)
            c.run("sync")
            self.assertNotIn(("host3", "files"), self.findings(c))
            self.assertTrue(os.path.exists(path))
        self.assertIn("sleeps", c.registry_file(3)["services"])

        # What the member of the registry has promised.
        shutil.rmtree(os.path.join(root[1], "shim/acceptor"))
        found = self.findings(c, check=2)["host1", "registry"]
        self.assertIn("it keeps the registry: /opt/clusterctl/shim/acceptor was removed or emptied", found["problem"])
        self.assertRegex(found["do"], r"^kill -9 \d+ there .*, then clusterctl registry members replace host1$")
        self.kill_supervisor(c, 1)
        self.assertEqual(self.findings(c, check=2)["host1", "registry"]["do"], "clusterctl registry members replace host1")
        c.run("registry", "members", "replace", "host1", "-y")
        self.assertNotIn(("host1", "registry"), self.findings(c))
        self.assertEqual(c.instances("sleeps")["sleeps/0"]["pid"], pid)

    def events(self, cluster, *args):
        return [json.loads(line) for line in cluster.run("-o", "jsonl", "events", *args).stdout.splitlines()]

    def kill_supervisor(self, cluster, host):
        """As the mends say."""
        said = "kill -9 $(/opt/clusterctl/shim/bin/clusterctl-shim info --root /opt/clusterctl | jq .pid)"
        cluster.bed.exec(host, said)
        wait_for(lambda: cluster.run("status", "-l", f"host{host}", check=None).returncode == 0, what="the next supervisor")

    def test_an_instance_that_was_given_up_is_named_with_its_last_exit(self):
        c = self.cluster(1)
        c.manifest("dies", "service: dies\nplace: {hosts: [host1]}\nrun: [bin/dies]\n"
                   "restart: {policy: always, backoff: 1ms..2ms, limit: \"2 in 1m\"}\n")
        c.release("dies", "1", {"bin/dies": "#!/bin/sh\nexec sleep 100000\n"})
        c.run("deploy", "dies", "1")
        self.assertNotIn(("host1", "service"), self.findings(c))
        for _ in range(3):
            pid = c.instances("dies")["dies/0"]["pid"]
            c.bed.exec(1, f"kill -SEGV {pid}")
            wait_for(lambda: c.instances("dies", check=None)["dies/0"]["pid"] != pid, what="its end")
        wait_for(lambda: c.instances("dies", check=None)["dies/0"]["state"] == "failed", what="the end of the loop")
        found = self.findings(c, check=2)["host1", "service"]
        self.assertEqual(found["level"], "bad")
        self.assertRegex(found["problem"], r"^dies/0 is not started any more: crash loop: more than 2 restarts in 1m; "
                                           r"last: signal 11 \(SEGV\).* after ")
        self.assertEqual(found["do"], "see `clusterctl logs dies/0`, and when it is mended: clusterctl start dies/0")
        c.run("start", "dies/0")
        self.assertNotIn(("host1", "service"), self.findings(c))

    def test_who_ended_an_instance_is_not_mistaken(self):
        c = self.cluster(1)
        c.manifest("checked", "service: checked\nplace: {hosts: [host1]}\nrun: [bin/checked]\n"
                   "health: {live: {exec: [/usr/bin/test, '!', '-e', /opt/clusterctl/services/checked/instances/0/data/sick], interval: 50ms, timeout: 5s, "
                   "failures: 1}}\nrestart: {policy: always, backoff: 1ms..2ms, limit: \"1000 in 1m\"}\n"
                   "stop: {signal: TERM, grace: 300ms}\n")
        # Ends at TERM; what it has started does not.
        c.release("checked", "1", {"bin/checked": "#!/bin/sh\nsh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &\n"
                                                  "exec sleep 100000\n"})
        c.run("deploy", "checked", "1")
        pid = c.instances("checked")["checked/0"]["pid"]
        sick = "/opt/clusterctl/services/checked/instances/0/data/sick"
        c.bed.exec(1, f"touch {sick}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done; rm {sick}")
        wait_for(lambda: c.instances("checked", check=None)["checked/0"]["state"] == "ready", what="the restart")
        self.assertRegex(c.run("status").stdout, r"last signal TERM, by the shim: its liveness check failed: ")
        exits = [e for e in self.events(c) if e["kind"] == "exit"]
        self.assertTrue(exits[0]["exit"]["stopped_for"].startswith("its liveness check failed: "), exits)
        self.assertRegex(exits[0]["text"], r"^signal 15 \(TERM\), stopped by the shim: its liveness check failed: ")

        done = c.run("stop", "checked", "-y")
        self.assertNotIn("killed", done.stdout + done.stderr)
        told = [e["text"] for e in self.events(c) if e["kind"] == "stop"]
        self.assertIn("it has ended, but what it had started was still running after 300ms: killed", told)
        self.assertNotIn("stopped_for", [e for e in self.events(c) if e["kind"] == "exit"][-1]["exit"])

    def test_a_stop_outlives_the_damage_of_the_hosts_state(self):
        c = self.cluster(1)
        c.manifest("sleeps", "service: sleeps\nplace: {hosts: [host1]}\nrun: [bin/sleeps]\n")
        c.release("sleeps", "1", {"bin/sleeps": "#!/bin/sh\nexec sleep 100000\n"})
        c.run("deploy", "sleeps", "1")

        def stopped_then_damaged():
            c.run("stop", "sleeps", "-y")
            c.bed.exec(1, "R=/opt/clusterctl; S=$R/shim/current; set -- $($S info --root $R | jq '.anchor, .pid'); "
                          "kill -STOP $1; kill -9 $2 $1; echo garbage > $R/shim/state/state.json; "
                          "$S start --root $R")
            wait_for(lambda: c.run("status", check=None).returncode == 0 and
                     c.instances("sleeps")["sleeps/0"]["state"] == "ready", what="the shim without its memory")

        stopped_then_damaged()
        damaged = self.findings(c)["host1", "files"]
        self.assertRegex(damaged["problem"], r"state\.json\.damaged-\S+: a damaged state, set aside$")
        self.assertIn("may be removed", damaged["do"])
        c.run("sync", "--dry-run")
        self.assertEqual(c.instances("sleeps")["sleeps/0"]["state"], "ready")
        done = c.run("sync")
        self.assertRegex(done.stdout + done.stderr, r"sleeps/0 stopped again, as \S+ had stopped it: host1 had lost its state")
        self.assertEqual(c.instances("sleeps")["sleeps/0"]["state"], "stopped")
        self.assertEqual(c.endpoints("sleeps"), [])
        self.assertNotIn("sleeps/0", c.run("sync").stdout)
        # Whoever starts it meanwhile has the last word.
        c.run("start", "sleeps")
        stopped_then_damaged()
        c.run("restart", "sleeps", "--without-quorum", "-y")
        done = c.run("sync")
        self.assertIn("started again without the registry", done.stdout + done.stderr)
        self.assertEqual(c.instances("sleeps")["sleeps/0"]["state"], "ready")

    def test_damaged_names_are_told_until_they_are_whole_again(self):
        c = self.cluster(1)
        c.manifest("sleeps", "service: sleeps\nplace: {hosts: [host1]}\nrun: [bin/sleeps]\n")
        c.release("sleeps", "1", {"bin/sleeps": "#!/bin/sh\nexec sleep 100000\n"})
        c.run("deploy", "sleeps", "1")
        for name in ("sleeps", "nobody"):
            with open(c.live_path(1, f"registry/services/{name}.json"), "w") as file:
                file.write("{garbage")
        self.kill_supervisor(c, 1)
        # That of a service is written again from registry.json; of the other nothing is known.
        found = wait_for(lambda: self.only_one(c.json("doctor")["findings"], "files"), what="only one damaged file")
        self.assertIn("/opt/clusterctl/registry/services/nobody.json: ", found["problem"])
        self.assertNotIn("set aside", found["problem"] + found["do"])
        self.assertIn("clusterctl sync", found["do"])
        self.assertTrue([e for e in self.events(c) if "services/sleeps.json" in e["text"]])
        os.unlink(c.live_path(1, "registry/services/nobody.json"))
        self.assertNotIn(("host1", "files"), self.findings(c))

    def only_one(self, findings, check):
        found = [one for one in findings if one["check"] == check]
        return found[0] if len(found) == 1 else None

    def test_a_shim_whose_socket_cannot_be_bound_says_so_to_whoever_asks(self):
        c = self.cluster(1)
        c.manifest("talks", "service: talks\nplace: {hosts: [host1]}\nrun: [bin/talks]\n"
                   "health: {ready: {notify: true}}\nlimits: {memory: 64M}\n")
        c.release("talks", "1", {"bin/talks": TALKS})
        c.run("deploy", "talks", "1")
        line = next(l for l in c.run("status").stdout.splitlines() if l.startswith("talks/0"))
        self.assertIn("says: nice weather", line)
        instance = c.json("status")["instances"][0]
        self.assertEqual("not applied: limits.memory" in line, "not_limited" in instance)

        c.bed.exec(1, "R=/opt/clusterctl; S=$R/shim/current; rm $R/run/control.sock; mkdir $R/run/control.sock; "
                      "set -- $($S info --root $R | jq '.anchor, .pid'); kill -STOP $1; kill -9 $2 $1; "
                      "while [ $($S info --root $R | jq .pid) = $2 ]; do sleep 0.1; done; "
                      "$S start --root $R || true")  # or cron did
        found = c.json("doctor", check=4)["findings"]
        why = "but nobody can talk to it: /opt/clusterctl/run/control.sock: Is a directory"
        self.assertTrue(any(why in one["problem"] for one in found), found)
        self.assertIn(why, c.run("status", check=None).stdout)
        c.bed.exec(1, "rmdir /opt/clusterctl/run/control.sock")
        wait_for(lambda: c.run("status", check=None).returncode == 0, what="the socket")
        self.assertEqual(c.instances("talks")["talks/0"]["pid"], instance["pid"])


class CoresTest(ClusterTest):
    def core_dir(self, cluster, host=2):
        return cluster.live_path(host, "services/aborts/instances/0/core")

    def put_by_hand(self, cluster):
        """A file in the core directory, for machines whose kernel gives cores away."""
        with open(os.path.join(self.core_dir(cluster), "core.by-hand"), "wb") as file:
            file.write(b"\x7fELF" + os.urandom(700_000))

    def crash(self, cluster):
        if core_pattern().startswith(("|", "@", "/")):
            return self.put_by_hand(cluster)
        pid = cluster.instances("aborts")["aborts/0"]["pid"]
        cluster.run("reload", "aborts")
        wait_for(lambda: cluster.instances("aborts")["aborts/0"]["pid"] not in (0, pid), what="the restart")

    def test_a_core_is_listed_and_fetched_with_the_exact_program(self):
        program = compiled(ABORTS)
        if program is None:
            self.skipTest("no C compiler")
        # By root's own login: sudo takes the right to dump core away, and not every machine gives it back.
        c = self.cluster(2, user="root")
        c.manifest("aborts", MANIFEST)
        c.release("aborts", "1.0.0-rc.1", {"bin/aborts": program})
        c.run("deploy", "aborts", "1.0.0-rc.1")
        self.assertEqual(c.json("cores")["cores"], [])
        self.assertIn("0 cores on 2 of 2 hosts", c.run("cores").stdout)
        self.assertIn("no core on host[1-2]", c.run("cores", "aborts", "--fetch", "x", check=1).stderr)
        c.manifest("aborts", MANIFEST.replace("limits: {core: unlimited}\n", ""))
        self.assertIn("aborts.yaml: limits: {core: unlimited}",
                      c.run("cores", "aborts", "--fetch", "x", check=1).stderr)
        c.manifest("aborts", MANIFEST)
        self.crash(c)

        by_hand = core_pattern().startswith(("|", "@", "/"))
        cores = c.json("cores", "aborts")["cores"]
        self.assertEqual(len(cores), 1)
        core = cores[0]
        self.assertEqual((core["instance"], core["host"]), ("aborts/0", "host2"))
        on_host = os.path.join(self.core_dir(c), core["name"])
        self.assertEqual(core["size"], os.path.getsize(on_host))
        if not by_hand:
            self.assertEqual((core["version"], core["signal"], core["executable"]),
                             ("1.0.0-rc.1", 6, "bin/aborts"))
            self.assertEqual(core["release_digest"], c.json("release", "show", "aborts", "1.0.0-rc.1")["digest"])
            self.assertRegex(c.run("cores").stdout, r"aborts/0 +host2 +\S+ +1.0.0-rc.1 +ABRT ")
        self.assertIn("host2", c.run("cores").stdout)

        fetched = os.path.join(c.directory, "fetched")
        c.run("cores", "aborts", "--fetch", fetched, "--dry-run")
        self.assertFalse(os.path.exists(fetched))
        done = c.run("cores", "aborts/0", "--fetch", fetched, check=2 if by_hand else 0)
        self.assertEqual(sha256(os.path.join(fetched, core["name"])), sha256(on_host))
        self.assertEqual(os.stat(os.path.join(fetched, core["name"])).st_mode & 0o777, 0o600)
        self.assertEqual([name for name in os.listdir(fetched) if ".part" in name], [])
        if by_hand:
            return
        exact = os.path.join(fetched, "aborts-1.0.0-rc.1/bin/aborts")
        with open(exact, "rb") as file:
            self.assertEqual(file.read(), program)
        self.assertIn(f"gdb {exact} {os.path.join(fetched, core['name'])}\n", done.stdout)
        if shutil.which("gdb"):
            told = subprocess.run(["gdb", "-batch", "-ex", "bt", exact, os.path.join(fetched, core["name"])],
                                  capture_output=True, text=True, timeout=60)
            self.assertIn("main", told.stdout)

        # Its generation goes when there are five newer ones; what is known of the core stays.
        for number in range(2, 9):
            c.release("aborts", str(number), {"bin/aborts": program})
            c.run("deploy", "aborts", str(number))
        self.assertEqual(c.json("cores", "aborts")["cores"][0]["executable"], "bin/aborts")
        c.run("cores", "aborts/0", "--fetch", fetched)

        # A release of the store that is not the one that ran is never passed off as it.
        shutil.rmtree(os.path.join(c.directory, "releases"), ignore_errors=True)
        done = c.run("cores", "aborts", "--fetch", fetched, "--core", core["name"], check=2)
        self.assertIn("aborts", done.stderr)
        c.run("cores", "aborts", "--fetch", fetched, "--core", "core.nope", check=1)
        c.run("cores", "--fetch", fetched, check=64)
        c.run("cores", "aborts", "--core", "x", check=64)

    def test_the_core_of_a_script_is_not_opened_with_the_script(self):
        if core_pattern().startswith(("|", "@", "/")):
            self.skipTest("the kernel gives cores away")
        c = self.cluster(2, user="root")
        c.manifest("aborts", MANIFEST)
        c.release("aborts", "1", {"bin/aborts": "#!/bin/sh -e\ntrap 'kill -SEGV $$' HUP\nwhile :; do sleep 0.1; done\n"})
        c.run("deploy", "aborts", "1")
        self.crash(c)
        core = c.json("cores", "aborts")["cores"][0]
        fetched = os.path.join(c.directory, "fetched")
        done = c.run("cores", "aborts/0", "--fetch", fetched, check=2)
        self.assertIn(f"\ngdb -c {os.path.join(fetched, core['name'])}\n", done.stdout)
        self.assertIn("aborts-1/bin/aborts is a script: the core is of its interpreter (/bin/sh -e)", done.stderr)
        self.assertTrue(os.path.exists(os.path.join(fetched, "aborts-1/bin/aborts")))

    def test_a_download_that_is_cut_off_leaves_no_core(self):
        if not namespaces_permitted():
            self.skipTest("cutting a host off needs root and namespaces")
        c = self.cluster(2, user="root")
        c.manifest("aborts", MANIFEST.replace("bin/aborts", "bin/run"))
        c.release("aborts", "1", {"bin/run": "#!/bin/sh\nexec sleep 100000\n"})
        c.run("deploy", "aborts", "1")
        with open(os.path.join(self.core_dir(c), "core.large"), "wb") as file:
            file.truncate(20 << 30)  # sparse
        fetched = os.path.join(c.directory, "fetched")
        process = c.start("cores", "aborts", "--fetch", fetched)
        wait_for(lambda: os.path.isdir(fetched) and os.listdir(fetched), what="the download")
        self.assertTrue(os.listdir(fetched)[0].startswith("core.large.part-"))
        process.terminate()
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertEqual(os.listdir(fetched), [])


if __name__ == "__main__":
    unittest.main()
