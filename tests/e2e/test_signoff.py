"""Sign-off: the real clusterctl and the real ssh-keygen, both ways; what is not signed off goes nowhere."""

import glob
import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import CLUSTERCTL, Cluster, namespaces_permitted

TYPES = {"ed25519": ["ed25519"], "p256": ["ecdsa", "-b", "256"], "p384": ["ecdsa", "-b", "384"],
         "p521": ["ecdsa", "-b", "521"], "rsa": ["rsa", "-b", "2048"]}


class Desk(unittest.TestCase):
    """An inventory whose one host is a socket that counts who comes."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="clusterctl-signoff-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.host = socket.create_server(("127.0.0.1", 0))
        self.contacts = 0
        threading.Thread(target=self.count, daemon=True).start()
        self.addCleanup(self.hang_up)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.dir, "LC_ALL": "C.UTF-8", "USER": "tester"}
        os.makedirs(self.path("inventory", "services"))
        self.write("inventory/services/web.yaml",
                   "service: web\nplace: {hosts: [host1]}\nrun: [bin/web]\n")
        self.write("build/bin/web", "#!/bin/sh\nexec sleep 1000\n", 0o755)
        self.write("build/doc", "text\n")
        os.symlink("doc", self.path("build/link"))
        self.policy("required: true, allowed_signers: signers")
        self.write("inventory/signers", "")
        self.ctl("release", "add", "web", "1.0", self.path("build"))
        self.sums = self.path("releases/web/1.0/SHA256SUMS")

    def count(self):
        while True:
            try:
                connection, _ = self.host.accept()
            except OSError:
                return
            self.contacts += 1
            connection.close()

    def hang_up(self):
        self.host.shutdown(socket.SHUT_RDWR)
        self.host.close()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)

    def policy(self, text):
        port = self.host.getsockname()[1]
        self.write("inventory/cluster.yaml", "cluster: demo\n"
                   f"hosts: {{host1: {{address: 127.0.0.1, ssh: {{port: {port}, connect_timeout: 2s}}}}}}\n"
                   f"sign_off: {{{text}}}\n")

    def run_any(self, *argv, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=60, cwd=self.dir, **more)

    def ctl(self, *args, check=0):
        done = self.run_any(CLUSTERCTL, *args)
        self.assertEqual(done.returncode, check, f"{args}\n{done.stdout}\n{done.stderr}")
        return done

    def keygen(self, *args, **more):
        done = self.run_any("ssh-keygen", *args, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def key(self, name, kind=("ed25519",), passphrase="", principals=None, options=""):
        """A key, and a line for it in allowed_signers."""
        self.keygen("-q", "-t", *kind, "-N", passphrase, "-C", name, "-f", name)
        with open(self.path(name + ".pub")) as file, open(self.path("inventory/signers"), "a") as signers:
            signers.write(f"{principals or name} {options} {file.read().strip()}\n")
        return self.path(name)

    def signatures(self):
        return sorted(glob.glob(self.path("releases/web/1.0/signatures/*.sig")))

    def refused(self, *wanted, args=("deploy", "web", "1.0")):
        """Not allowed, and nobody was contacted."""
        done = self.ctl(*args, check=77)
        for text in wanted:
            self.assertIn(text, done.stderr)
        self.assertEqual(self.contacts, 0)
        return done

    def allowed(self):
        """The policy lets it pass: the next thing is the host, which hangs up."""
        done = self.run_any(CLUSTERCTL, "deploy", "web", "1.0")
        self.assertIn(done.returncode, (4, 8), done.stderr)
        self.assertGreater(self.contacts, 0)


class Keys(Desk):
    def test_every_type_of_key_signs_for_ssh_keygen(self):
        for name, kind in TYPES.items():
            with self.subTest(name):
                key = self.key(name, kind)
                done = self.ctl("release", "sign", "web", "1.0", "--key", key)
                self.assertIn(f"web 1.0: signed by {name} with", done.stdout)
        self.assertEqual(len(self.signatures()), len(TYPES))
        found = set()
        for signature in self.signatures():
            who = self.keygen("-Y", "find-principals", "-f", "inventory/signers", "-s", signature).strip()
            with open(self.sums) as message:
                out = self.keygen("-Y", "verify", "-n", "clusterctl-release", "-f", "inventory/signers", "-I", who,
                                  "-s", signature, stdin=message)
            self.assertIn(f'Good "clusterctl-release" signature for {who}', out)
            found.add(who)
        self.assertEqual(found, set(TYPES))
        self.assertIn("signed off: 5 signatures, 1 needed", self.ctl("release", "verify", "web", "1.0").stdout)
        self.allowed()

    def test_every_type_of_key_of_ssh_keygen_is_taken(self):
        for name, kind in TYPES.items():
            with self.subTest(name):
                key = self.key(name, kind)
                with open(self.sums) as message:
                    text = self.keygen("-Y", "sign", "-q", "-n", "clusterctl-release", "-f", key, stdin=message)
                self.write("one.sig", text)
                done = self.ctl("release", "sign", "web", "1.0", "--signature", self.path("one.sig"))
                self.assertIn(f"signed by {name} with", done.stdout)
        shown = json.loads(self.ctl("-o", "json", "release", "verify", "web", "1.0").stdout)
        self.assertEqual(shown["signers"], sorted(TYPES))
        self.assertTrue(shown["signed_off"] and shown["exact"])
        self.allowed()

    def test_plain_ssh_keygen_beside_the_sums(self):
        key = self.key("alice")
        self.keygen("-Y", "sign", "-q", "-n", "clusterctl-release", "-f", key, self.sums)
        self.assertTrue(os.path.exists(self.sums + ".sig"))
        self.assertIn("signed by alice", self.ctl("release", "verify", "web", "1.0").stdout)
        self.allowed()

    def test_pem_keys_and_keys_by_their_public_file(self):
        self.key("pem", ("rsa", "-b", "2048", "-m", "PEM"))
        self.assertIn("signed by pem", self.ctl("release", "sign", "web", "1.0", "--key", self.path("pem")).stdout)
        self.key("pub")
        self.assertIn("signed by pub", self.ctl("release", "sign", "web", "1.0", "--key", self.path("pub.pub")).stdout)

    def test_certificates(self):
        self.key("ca", principals="*@qa", options="cert-authority")
        self.keygen("-q", "-t", "ecdsa", "-N", "", "-f", "eve")
        self.keygen("-q", "-s", "ca", "-I", "eve", "-n", "eve@qa", "-V", "-1h:+1h", "eve.pub")
        done = self.ctl("release", "sign", "web", "1.0", "--key", self.path("eve-cert.pub"))
        self.assertIn("signed by eve@qa with ecdsa", done.stdout)
        with open(self.sums) as message:
            self.keygen("-Y", "verify", "-n", "clusterctl-release", "-f", "inventory/signers", "-I", "eve@qa", "-s",
                        self.signatures()[0], stdin=message)
        self.allowed()

    def test_passphrase_is_asked_on_the_terminal_only(self):
        for name, kind in (("ed", ("ed25519",)), ("rsa", ("rsa", "-b", "2048")), ("ec", ("ecdsa",))):
            with self.subTest(name):
                key = self.key(name, kind, passphrase="open sesame")
                done = self.ctl("release", "sign", "web", "1.0", "--key", key, check=1)
                self.assertIn(f"run `ssh-add {key}`", done.stderr)
                status, asked = self.on_terminal(["wrong", "open sesame"], "release", "sign", "web", "1.0", "--key", key)
                self.assertEqual((status, asked), (0, 2))
        self.assertEqual(len(self.signatures()), 3)

    def on_terminal(self, answers, *args):
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.dir)
            os.execve(CLUSTERCTL, [CLUSTERCTL, *args], self.env)
        output, asked = b"", 0
        while select.select([fd], [], [], 60)[0]:
            try:
                output += os.read(fd, 4096)
            except OSError:
                break
            while asked < output.count(b"Passphrase for") and asked < len(answers):
                os.write(fd, answers[asked].encode() + b"\n")
                asked += 1
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), asked

    def test_agent(self):
        started = self.run_any("ssh-agent", "-s").stdout
        self.env["SSH_AUTH_SOCK"] = re.search("SSH_AUTH_SOCK=([^;]*);", started)[1]
        self.env["SSH_AGENT_PID"] = re.search("SSH_AGENT_PID=([0-9]*);", started)[1]
        self.addCleanup(self.run_any, "ssh-agent", "-k")
        self.assertIn("--key FILE", self.ctl("release", "sign", "web", "1.0", check=64).stderr)
        for name, kind in TYPES.items():
            key = self.key(name, kind)
            self.run_any("ssh-add", "-q", key)
            os.remove(key)
        # Several could: one must be named. Of what allowed_signers does not know, none can.
        self.assertIn("name one with --key FILE.pub", self.ctl("release", "sign", "web", "1.0", check=64).stderr)
        for name in TYPES:
            done = self.ctl("release", "sign", "web", "1.0", "--key", self.path(name + ".pub"))
            self.assertIn(f"signed by {name} with", done.stdout)
        with open(self.path("inventory/signers")) as file:
            lines = [line for line in file if line.startswith("rsa")]
        self.write("inventory/signers", "".join(lines))
        self.assertIn("signed by rsa with", self.ctl("release", "sign", "web", "1.0").stdout)


class Policy(Desk):
    def test_unsigned(self):
        self.refused("web 1.0 is not signed off: 0 of 1 signature", "nobody has signed it",
                     "clusterctl release sign web 1.0")
        self.refused(args=("deploy", "web", "1.0", "--dry-run"))
        self.ctl("release", "verify", "web", "1.0", check=77)

    def test_not_required(self):
        self.policy("required: false")
        self.allowed()

    def test_signed_by_somebody_else(self):
        self.keygen("-q", "-t", "ed25519", "-N", "", "-f", "mallory")
        done = self.ctl("release", "sign", "web", "1.0", "--key", self.path("mallory"))
        self.assertIn("does not count: its key is not in", done.stderr)
        self.refused("its key is not in inventory/signers")

    def test_two_of_them_by_name(self):
        self.policy('required: true, allowed_signers: signers, by: ["*@qa"], count: 2')
        for name in ("alice@qa", "bob@qa", "dev@web"):
            self.key(name)
        self.ctl("release", "sign", "web", "1.0", "--key", self.path("dev@web"))
        self.ctl("release", "sign", "web", "1.0", "--key", self.path("alice@qa"))
        self.refused("1 of 2 signatures by *@qa", "dev@web, sign_off.by asks for *@qa", "alice@qa, good")
        self.ctl("release", "sign", "web", "1.0", "--key", self.path("bob@qa"))
        self.allowed()

    def test_expired_not_yet_and_for_another_purpose(self):
        for name, options, why in (("old", 'valid-before="20200101"', "only until"),
                                   ("new", 'valid-after="20990101"', "only from"),
                                   ("git", 'namespaces="git"', "in the namespaces git only")):
            with self.subTest(name):
                self.ctl("release", "sign", "web", "1.0", "--key", self.key(name, options=options))
                self.refused(why)

    def test_a_signature_over_something_else(self):
        key = self.key("alice")
        self.write("other", "other\n")
        self.keygen("-Y", "sign", "-q", "-n", "clusterctl-release", "-f", key, "other")
        self.keygen("-Y", "sign", "-q", "-n", "file", "-f", key, self.sums)
        refused = self.ctl("release", "sign", "web", "1.0", "--signature", self.path("other.sig"), check=77)
        self.assertIn("not over this content", refused.stderr)
        refused = self.ctl("release", "sign", "web", "1.0", "--signature", self.sums + ".sig", check=77)
        self.assertIn('namespace "file"', refused.stderr)
        self.refused("SHA256SUMS.sig: it was made for another purpose")
        self.assertEqual(self.signatures(), [])

    def signed(self):
        self.ctl("release", "sign", "web", "1.0", "--key", self.key("alice"))
        return self.path("releases/web/1.0")

    def test_changed_content(self):
        release = self.signed()
        os.chmod(release + "/files/bin/web", 0o755)
        with open(release + "/files/bin/web", "a") as file:
            file.write("exec evil\n")
        self.refused("is not what was added", "bin/web")
        self.ctl("release", "verify", "web", "1.0", check=77)
        self.ctl("release", "sign", "web", "1.0", "--key", self.path("alice"), check=77)

    def test_changed_with_its_records(self):
        """Somebody who rewrites files, sums and records to agree still lacks the signature."""
        release = self.signed()
        self.write("build/doc", "other\n")
        self.ctl("release", "add", "web", "evil", self.path("build"))
        evil = self.path("releases/web/evil")
        for name in ("SHA256SUMS", "release.json", "files/doc"):
            os.chmod(f"{release}/{name}", 0o644)
            shutil.copy(f"{evil}/{name}", f"{release}/{name}")
            with open(f"{release}/{name}") as file:
                text = file.read()
            if name != "files/doc":
                text = text.replace("web evil ", "web 1.0 ").replace('"version": "evil"', '"version": "1.0"')
                text = text.replace('"version":"evil"', '"version":"1.0"')
            with open(f"{release}/{name}", "w") as file:
                file.write(text)
        os.chmod(release + "/files/doc", 0o444)
        self.refused("the signature is not over this content")

    def test_another_release_under_this_name(self):
        """A signed release does not pass as another version, and its links and modes are signed too."""
        self.signed()
        self.ctl("release", "add", "web", "2.0", self.path("build"))
        shutil.copytree(self.path("releases/web/1.0/signatures"), self.path("releases/web/2.0/signatures"))
        self.refused("the signature is not over this content", args=("deploy", "web", "2.0"))
        sums = {}
        for change, version in ((lambda: os.chmod(self.path("build/doc"), 0o755), "3.0"),
                                (lambda: os.remove(self.path("build/link")), "4.0")):
            change()
            self.ctl("release", "add", "web", version, self.path("build"))
            with open(self.path(f"releases/web/{version}/SHA256SUMS")) as file:
                sums[version] = file.read().replace(f"web {version} ", "")
        self.assertNotEqual(sums["3.0"], sums["4.0"])
        self.run_any("sh", "-c", "cd releases/web/3.0/files && sha256sum --strict --quiet -c ../SHA256SUMS")

    def test_damaged_signatures_do_not_stop_good_ones(self):
        release = self.signed()
        for name, text in (("SHA256SUMS.sig", "junk"), ("signatures/z.sig", "x" * 200000)):
            with open(f"{release}/{name}", "w") as file:
                file.write(text)
        os.makedirs(release + "/signatures/dir.sig")
        self.assertIn("BAD: SHA256SUMS.sig: no signature", self.ctl("release", "verify", "web", "1.0", check=77).stdout)
        self.allowed()

    def test_allowed_signers_with_mistakes(self):
        self.signed()
        with open(self.path("inventory/signers"), "a") as file:
            file.write("bob namespace=\"x\" ssh-ed25519 AAAA\ncarol ssh-dss AAAAB3NzaC1kc3MAAAAA\n")
        for args in (("validate",), ("deploy", "web", "1.0"), ("release", "verify", "web", "1.0")):
            done = self.ctl(*args, check=65)
            self.assertIn('inventory/signers:2:5: unknown option "namespace"; did you mean "namespaces"?', done.stderr)
            self.assertIn("inventory/signers:3:7: keys of type ssh-dss are not accepted", done.stderr)
        problems = json.loads(self.ctl("-o", "json", "validate", check=65).stdout)["problems"]
        self.assertEqual([problem["line"] for problem in problems], [2, 3])
        os.remove(self.path("inventory/signers"))
        self.assertIn("No such file", self.ctl("deploy", "web", "1.0", check=65).stderr)
        self.assertEqual(self.contacts, 0)

    def test_dry_run_signs_nothing(self):
        key = self.key("alice")
        self.assertIn("would sign web 1.0 with", self.ctl("--dry-run", "release", "sign", "web", "1.0", "--key", key).stdout)
        self.assertEqual(self.signatures(), [])


@unittest.skipUnless(namespaces_permitted(), "needs root and namespaces")
class OnHosts(unittest.TestCase):
    def test_deploy_records_who_signed(self):
        with Cluster(1) as cluster:
            cluster.web(place="{hosts: [host1]}")
            cluster.append("cluster.yaml", "\nsign_off: {required: true, allowed_signers: signers}\n")
            key = os.path.join(cluster.directory, "alice")
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            with open(key + ".pub") as file:
                cluster.write("signers", "alice@example.com " + file.read())
            cluster.release("web", "1.0.0")
            cluster.run("deploy", "web", "1.0.0", check=77)
            cluster.run("release", "sign", "web", "1.0.0", "--key", key)
            cluster.run("deploy", "web", "1.0.0")
            events = cluster.run("-o", "json", "events").stdout
            self.assertIn("signed off by alice@example.com", events)
            self.check_signatures_travel(cluster, key)

    def check_signatures_travel(self, cluster, key):
        """A runner whose store is empty fetches a release from a host, and who signed it."""
        cluster.release("web", "1.1.0")
        cluster.run("release", "sign", "web", "1.1.0", "--key", key)
        cluster.run("deploy", "web", "1.1.0")
        store = os.path.join(cluster.directory, "releases")
        shutil.rmtree(store)
        cluster.run("rollback", "web")
        self.assertEqual(cluster.versions("web"), ["1.0.0"])
        self.assertEqual(cluster.json("release", "verify", "web", "1.0.0")["signers"], ["alice@example.com"])
        # What is no signature over this release counts for nothing, wherever it came from.
        records = cluster.root_path(1, "shim/state/releases")
        shutil.copy(f"{records}/web@1.0.0.signatures", f"{records}/web@1.1.0.signatures")
        shutil.rmtree(store)
        for more in (["--dry-run"], []):
            self.assertIn("nobody has signed it", cluster.run("rollback", "web", *more, check=77).stderr)
            shutil.rmtree(store, ignore_errors=True)
        self.assertEqual(cluster.versions("web"), ["1.0.0"])


if __name__ == "__main__":
    unittest.main()
