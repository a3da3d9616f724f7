"""doctor and cores: what is wrong with hosts, and what crashes leave behind."""

import hashlib
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
