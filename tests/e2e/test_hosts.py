"""What hosts do to a deploy: dead, cut off, full, changed, of another login, shared by two clusters."""

import os
import re
import shutil
import subprocess
import unittest

from harness import Cluster, SERVER, namespaces_permitted, wait_for


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class HostsTest(unittest.TestCase):
    def cluster(self, *args, **options):
        cluster = Cluster(*args, **options)
        self.addCleanup(cluster.close)
        return cluster

    def deployed(self, cluster, service="web", version="1.0.0", **manifest):
        cluster.web(service, **manifest)
        cluster.release(service, version)
        return cluster.run("deploy", service, version)

    def test_a_host_that_is_down_is_refused_before_any_change_or_left_out(self):
        c = self.cluster(3)
        self.deployed(c, place="{hosts: [host2, host3]}")
        c.bed.kill(3)
        c.release("web", "1.1.0")
        done = c.run("deploy", "web", "1.1.0", check=4)
        self.assertIn("host3", done.stderr)
        self.assertIn("nothing was changed", done.stderr)
        self.assertEqual({e["version"] for e in c.endpoints("web")}, {"1.0.0"})
        c.run("deploy", "web", "1.1.0", "--dry-run", check=4)
        c.run("retire", "web", "--dry-run", check=4)
        rehearsed = c.run("deploy", "web", "1.1.0", "--skip-unreachable", "--dry-run", check=4)
        self.assertIn("web/0 on host2: replace as 1.1.0", rehearsed.stdout)
        done = c.run("deploy", "web", "1.1.0", "--skip-unreachable", check=4)
        self.assertEqual(done.stderr.count("host3: left out: "), 1)
        self.assertIn("left out: host3", done.stdout)
        self.assertIn("1.1.0", {e["version"] for e in c.endpoints("web") if e["host"] == "host2"})
        # Back again, it runs what it last knew, until the next deploy.
        c.bed.boot(3)
        wait_for(lambda: c.run("ping", "-l", "host3", check=None).returncode == 0, what="host3 reachable")
        c.run("deploy", "web", "1.1.0")
        self.assertEqual(c.versions("web"), ["1.1.0", "1.1.0"])

    def test_a_dead_host_that_is_not_concerned_is_a_warning(self):
        c = self.cluster(3)
        self.deployed(c, place="{hosts: [host1, host2]}")
        c.bed.kill(3)
        c.release("web", "1.1.0")
        done = c.run("deploy", "web", "1.1.0")
        self.assertIn("host3", done.stderr)
        self.assertEqual(c.versions("web"), ["1.1.0", "1.1.0"])

    def test_a_host_that_dies_during_the_deploy(self):
        c = self.cluster(3)
        self.deployed(c, place="{hosts: [host2, host3]}", start_timeout="20s")
        slow = SERVER.format(version="1.1.0", mode="good").replace(
            "server = http", "import time\nif port: time.sleep(3)\nserver = http")
        c.release("web", "1.1.0", {"bin/server": slow})
        process = c.start("deploy", "web", "1.1.0")
        wait_for(lambda: len(c.processes(2, "services/web/")) == 2, what="the new version starting on host2")
        c.bed.kill(3)
        out, err = process.communicate(timeout=120)
        self.assertIn(process.returncode, (3, 4, 5), out + err)
        self.assertIn("host3", out + err)
        published = {e["host"]: e for e in c.endpoints("web")}
        self.assertEqual(c.get(published["host2"])[0], 200)

    def test_services_come_back_after_power_loss(self):
        c = self.cluster(2)
        self.deployed(c, place="{hosts: [host1, host2]}")
        c.run("stop", "web/1", "-y")
        before = c.endpoints("web")
        for host in (1, 2):
            c.bed.kill(host)
        for host in (1, 2):
            c.bed.boot(host)
        wait_for(lambda: c.run("status", "web", check=None).returncode == 0
                 and c.instances("web").get("web/0", {}).get("state") == "ready", 60, "web/0 up after the boot")
        self.assertEqual(c.endpoints("web"), before)
        self.assertEqual(c.versions("web"), ["1.0.0"])
        self.assertEqual(c.processes(2, "services/web/"), [])

    def test_a_shim_that_is_killed_leaves_services_alone_and_comes_back(self):
        c = self.cluster(1)
        self.deployed(c, place="{hosts: [host1]}")
        pid = c.instances("web")["web/0"]["pid"]
        c.bed.exec(1, "sh", "-c", "kill -9 $(pgrep -f [c]lusterctl-shim)")
        self.assertEqual(c.processes(1, "services/web/"), [pid])
        c.run("bootstrap", "host1")
        state = wait_for(lambda: c.instances("web").get("web/0"), what="web/0 known again")
        self.assertEqual((state["pid"], state["state"]), (pid, "ready"))
        self.assertEqual(c.processes(1, "services/web/"), [pid])
        c.release("web", "1.1.0")
        c.run("deploy", "web", "1.1.0")
        self.assertEqual(c.versions("web"), ["1.1.0"])

    def test_a_full_disk_is_said_and_nothing_half_written_is_left(self):
        c = self.cluster(2, disk_size={2: "24M"})
        self.deployed(c, place="{hosts: [host1, host2]}")
        big = {"bin/server": SERVER.format(version="1.1.0", mode="good"), "data/big": os.urandom(40 << 20)}
        c.release("web", "1.1.0", big)
        done = c.run("deploy", "web", "1.1.0", check=1)
        self.assertIn("host2", done.stderr)
        self.assertRegex(done.stderr, "(?i)no space left|needs .* on the disk of .*, which has .* free")
        self.assertEqual(c.versions("web"), ["1.0.0", "1.0.0"])
        names = os.listdir(c.live_path(2, "services/web"))
        self.assertNotIn("1.1.0", names)
        self.assertFalse([n for n in names if n.startswith(".incoming")], names)

    def test_a_changed_host_key_is_refused_with_the_way_forward(self):
        c = self.cluster(2)
        self.deployed(c, place="{hosts: [host1, host2]}")
        c.bed.rekey(2)
        c.release("web", "1.1.0")
        done = c.run("deploy", "web", "1.1.0", check=4)
        self.assertIn("host2", done.stderr)
        self.assertIn("ssh-keygen -R", done.stderr)
        self.assertEqual({e["version"] for e in c.endpoints("web")}, {"1.0.0"})

    def test_unknown_host_keys_are_accepted_only_on_request(self):
        c = self.cluster(1)
        known = os.path.join(c.directory, "known_hosts")
        text = open(f"{c.inventory}/cluster.yaml").read().replace(str(c.bed.known_hosts), known)
        c.write("cluster.yaml", text)
        done = c.run("ping", check=4)
        self.assertIn("--accept-new", done.stdout + done.stderr)
        self.assertIn("SHA256:", done.stdout + done.stderr)
        c.run("ping", "--accept-new")
        c.run("ping")

    def test_hosts_with_different_logins(self):
        c = self.cluster(3)
        text = open(f"{c.inventory}/cluster.yaml").read()
        # host1 by the cluster's login (deploy, sudo), host2 as root.
        text = re.sub(r"(?m)^  host2: *\{(.*)\}$", r"  host2: {\1, ssh: {user: root, become: none}}", text)
        self.assertIn("user: root", text)
        c.write("cluster.yaml", text)
        self.deployed(c, place="{hosts: [host1, host2]}")
        self.assertEqual(c.versions("web"), ["1.0.0", "1.0.0"])

    def test_a_plain_login_needs_no_root_at_all(self):
        c = self.cluster(2, user="plain")
        self.deployed(c)
        self.assertEqual(c.versions("web"), ["1.0.0", "1.0.0"])
        body = c.get(c.endpoints("web")[0])[1]
        self.assertNotEqual(body["uid"], 0)
        self.assertIn("/.clusterctl/", body["cwd"])
        c.bed.kill(2)
        c.bed.boot(2)
        wait_for(lambda: c.instances("web", check=None).get("web/1", {}).get("state") == "ready", 100,
                 "web/1 up after the boot, by the user's crontab")
        c.web("other", more="user: nobody\n")
        c.release("other", "1.0.0")
        done = c.run("deploy", "other", "1.0.0", check=65)
        self.assertIn("cannot become another user", done.stderr)
        self.assertFalse(os.path.exists(os.path.join(c.bed.live_root(1), "home/plain/.clusterctl/services/other/1.0.0")),
                         "refused before anything was pushed")

    def test_another_login_that_may_become_root_is_let_in(self):
        c = self.cluster(1)
        self.deployed(c, place="{hosts: [host1]}")
        c.bed.exec(1, "sh", "-c", 
                   "echo 'second:x:1002:1002::/home/second:/bin/bash' >> /etc/passwd;"
                   "echo 'second:*:19000:0:99999:7:::' >> /etc/shadow;"
                   "echo 'second ALL=(root) NOPASSWD: ALL' >> /etc/sudoers;"
                   "mkdir /home/second && cp -r /home/deploy/.ssh /home/second/ && chown -R 1002 /home/second")
        text = open(f"{c.inventory}/cluster.yaml").read()
        c.write("cluster.yaml", text.replace("user: deploy", "user: second"))
        c.run("status", check=4)  # looking places nothing
        c.release("web", "1.1.0")
        c.run("deploy", "web", "1.1.0")
        self.assertEqual(c.versions("web"), ["1.1.0"])

    def test_a_service_user_is_honoured_as_root(self):
        c = self.cluster(1)
        self.deployed(c, place="{hosts: [host1]}", more="user: nobody\n")
        self.assertEqual(c.get(c.endpoints("web")[0])[1]["uid"], 65534)

    def test_two_clusters_share_a_host(self):
        c = self.cluster(1)
        self.deployed(c, place="{hosts: [host1]}")
        other = os.path.join(c.directory, "other")
        shutil.copytree(c.inventory, other)
        path = os.path.join(other, "cluster.yaml")
        text = open(path).read().replace("cluster: demo", "cluster: second")
        self.assertIn("cluster: second", text)
        open(path, "w").write(text)
        # The same root is refused; a root of its own is fine.
        refused = subprocess.run([*c.command("status")[:1], "-i", other, "deploy", "web", "1.0.0"],
                                 env=c.environment(), capture_output=True, text=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("belongs to cluster", refused.stderr)
        open(path, "w").write(text.replace("/opt/clusterctl", "/opt/second"))
        subprocess.run([*c.command("status")[:1], "-i", other, "deploy", "web", "1.0.0"], env=c.environment(),
                       check=True, capture_output=True)
        self.assertEqual(len(c.processes(1, "services/web/")), 2)
        self.assertEqual(len(c.instances("web")), 1)

    def test_exec_folds_outputs_and_tells_exit_codes_apart(self):
        c = self.cluster(3)
        done = c.run("exec", "all", "--", "echo", "same")
        self.assertIn("host[1-3]: same", done.stdout)
        done = c.run("exec", "all", "--", "test $(hostname) = host2 && exit 255; true", check=2)
        self.assertIn("exit status 255", done.stdout)
        self.assertNotIn("unreachable", done.stdout)
        c.bed.kill(3)
        found = c.json("exec", "all", "--", "true", check=4)
        self.assertEqual([h["exit"] for h in found["hosts"]], [0, 0, None])

    def test_a_hung_host_does_not_hold_up_the_others(self):
        c = self.cluster(3)
        c.run("ping")
        c.bed.cut(2)
        done = c.run("ping", check=4)
        self.assertIn("2 of 3 hosts reached", done.stdout)
        self.assertIn("no answer yet", done.stderr)

    def test_forwarding_forbidden_falls_back_to_the_relay(self):
        c = self.cluster(2, no_forward=[2])
        self.deployed(c)
        self.assertEqual(c.versions("web"), ["1.0.0", "1.0.0"])

    def test_what_init_writes_deploys_as_it_is_by_ssh_config_alone(self):
        c = self.cluster(1)
        os.makedirs(f"{c.directory}/.ssh")
        shutil.copy(c.bed.ssh_config, f"{c.directory}/.ssh/config")
        def run(*args):
            return subprocess.run([*c.command()[:1], *args], cwd=f"{c.directory}/fresh", env=c.environment(),
                                  capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
        os.makedirs(f"{c.directory}/fresh")
        run("init", "--host", "host1")
        run("release", "add", "hello", "1.0.0", "releases-src/hello")
        self.assertIn("1 of 1 instance ready", run("deploy", "hello", "1.0.0"))
        self.assertIn("O Hello from host1", run("logs", "hello"))

    def test_unbootstrap_leaves_nothing(self):
        c = self.cluster(2)
        self.deployed(c)
        c.run("unbootstrap", "host2", check=64)
        c.run("unbootstrap", "host2", "-y")
        self.assertEqual(c.processes(2, "/opt/clusterctl"), [])
        self.assertEqual(c.bed.exec(2, "sh", "-c", "cat /etc/cron.d/clusterctl-* 2>/dev/null; true").stdout, "")


if __name__ == "__main__":
    unittest.main()
