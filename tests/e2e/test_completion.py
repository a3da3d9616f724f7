"""Completion as bash does it, at a terminal with TAB pressed; no hosts."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import BUILD_DIR, CLUSTERCTL

PROMPT = "READY> "


class Bash:
    """An interactive bash that has loaded the script."""

    def __init__(self, directory):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"],
                      {"PATH": f"{BUILD_DIR}:/usr/bin:/bin", "HOME": directory, "TERM": "dumb", "PS1": PROMPT,
                       "INPUTRC": "/dev/null", "HISTFILE": "/dev/null", "LC_ALL": "C.UTF-8"})
        self.until(PROMPT)
        for setting in ("show-all-if-ambiguous on", "completion-query-items 0", "page-completions off",
                        "bell-style none", "enable-bracketed-paste off"):
            self.line(f"bind 'set {setting}'")
        self.line("source <(clusterctl completion bash)")

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def until(self, pattern, seconds=60):
        """What came up to and with the pattern."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} did not come; there is {self.seen!r}")
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        taken, self.seen = self.seen[:match.end()], self.seen[match.end():]
        return taken

    def line(self, text):
        os.write(self.fd, text.encode() + b"\n")
        return self.until(PROMPT)

    def complete(self, text):
        """The line after TAB, and what bash showed meanwhile."""
        # Then in front of it: printf 'DONE<%s>' ' -- and a quote behind it.
        os.write(self.fd, text.encode() + b"\t" + b"\x01printf 'DONE<%s>\\n' '\x05'\n")
        shown = self.until(r"\nDONE<.*?>\r?\n")
        self.until(PROMPT)
        return re.search(r"\nDONE<(.*?)>", shown).group(1), shown


class CompletionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="clusterctl-e2e-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        run = lambda *args: subprocess.run([CLUSTERCTL, *args], cwd=cls.directory, check=True, capture_output=True)
        run("init", "--host", "10.0.0.1")
        run("release", "add", "hello", "1.0.0", "releases-src/hello")
        with open(f"{cls.directory}/nightly.yaml", "w") as file:
            file.write("steps: []\n")
        cls.bash = Bash(cls.directory)
        cls.addClassCleanup(cls.bash.close)

    def completed(self, text):
        return self.bash.complete(text)[0]

    def test_commands_and_options(self):
        self.assertEqual(self.completed("clusterctl depl"), "clusterctl deploy ")
        self.assertEqual(self.completed("clusterctl release verif"), "clusterctl release verify ")
        self.assertEqual(self.completed("clusterctl deploy --no-r"), "clusterctl deploy --no-rollback ")
        self.assertEqual(self.completed("clusterctl --output=jsonl sta"), "clusterctl --output=jsonl sta")

    def test_several_are_listed(self):
        line, shown = self.bash.complete("clusterctl un")
        self.assertEqual(line, "clusterctl un")
        self.assertIn("unbootstrap", shown)
        self.assertIn("undrain", shown)

    def test_names_of_the_inventory_and_the_store(self):
        self.assertEqual(self.completed("clusterctl deploy hel"), "clusterctl deploy hello ")
        self.assertEqual(self.completed("clusterctl deploy hello 1"), "clusterctl deploy hello 1.0.0 ")
        self.assertEqual(self.completed("clusterctl status hello/"), "clusterctl status hello/0 ")
        self.assertEqual(self.completed("clusterctl -i inventory drain 10"), "clusterctl -i inventory drain 10.0.0.1 ")
        self.assertEqual(self.completed("clusterctl --limit=10"), "clusterctl --limit=10.0.0.1 ")
        self.assertEqual(self.completed("clusterctl -i nowhere deploy hel"), "clusterctl -i nowhere deploy hel")

    def test_files_where_they_are_meant(self):
        self.assertEqual(self.completed("clusterctl play nigh"), "clusterctl play nightly.yaml ")
        self.assertEqual(self.completed("clusterctl -i inv"), "clusterctl -i inventory/")
        self.assertEqual(self.completed("clusterctl deploy nigh"), "clusterctl deploy nigh")

    def test_the_other_shells_scripts_ask_the_same(self):
        for shell, check in (("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])):
            script = subprocess.run([CLUSTERCTL, "completion", shell], check=True, capture_output=True, text=True).stdout
            self.assertIn("completion words -- ", script)
            if shutil.which(shell):
                subprocess.run(check, input=script, text=True, check=True)

    @unittest.skipUnless(shutil.which("fish"), "there is no fish here")
    def test_fish(self):
        script = "clusterctl completion fish | source; complete -C 'clusterctl deploy hello 1'"
        done = subprocess.run(["fish", "-c", script], cwd=self.directory, capture_output=True, text=True, check=True,
                              env={"PATH": f"{BUILD_DIR}:{os.environ['PATH']}", "HOME": self.directory})
        self.assertEqual(done.stdout, "1.0.0\n")


if __name__ == "__main__":
    unittest.main()
