"""docs/ci.md, every command of it, as it stands there."""

import os
import re
import shutil
import subprocess
import unittest

from harness import CLUSTERCTL, SERVER, TOP, Cluster


def commands():
    with open(os.path.join(TOP, "docs", "ci.md")) as file:
        return re.findall(r"^```sh\n(.*?)^```$", file.read(), re.M | re.S)


class Pipeline(unittest.TestCase):
    def test_as_documented(self):
        with Cluster(2) as cluster:
            cluster.web()
            cluster.append("cluster.yaml", "\nsign_off: {required: true, allowed_signers: allowed_signers, "
                                           "by: [\"*@qa.example.com\"], count: 1}\n")
            work = cluster.directory
            key = os.path.join(work, "qa_key")
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            with open(key + ".pub") as file:
                cluster.write("allowed_signers", 'alice@qa.example.com namespaces="clusterctl-release" ' + file.read())
            shutil.copytree(os.path.join(TOP, "playbooks"), os.path.join(work, "playbooks"))
            os.makedirs(os.path.join(work, "bin"))
            os.symlink(CLUSTERCTL, os.path.join(work, "bin", "clusterctl"))
            environment = dict(cluster.environment(), QA_KEY=key, CLUSTERCTL_INVENTORY=cluster.inventory,
                               STORE=os.path.join(work, "releases"))
            environment["PATH"] = os.path.join(work, "bin") + ":" + environment["PATH"]
            before = "1.0.0"
            for version in ("1.0.0", "1.1.0"):
                server = os.path.join(work, "build", "web", "bin", "server")
                os.makedirs(os.path.dirname(server), exist_ok=True)
                with open(server, "w") as file:
                    file.write(SERVER.format(version=version, mode="good"))
                os.chmod(server, 0o755)
                environment.update(VERSION=version, BEFORE=before)
                for block in commands():
                    done = subprocess.run(["sh", "-ec", block], cwd=work, env=environment, capture_output=True, text=True,
                                          timeout=120, stdin=subprocess.DEVNULL)
                    self.assertEqual(done.returncode, 0, f"{block}\n{done.stdout}\n{done.stderr}")
                self.assertEqual(cluster.versions("web"), [version, version])
                self.assertIn("signed off by alice@qa.example.com", cluster.run("-o", "json", "events").stdout)


if __name__ == "__main__":
    unittest.main()
