"""Views that live on a terminal, and what they are elsewhere."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from harness import SharedCluster, namespaces_permitted, wait_for

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"


class Terminal:
    """clusterctl with a terminal of its own."""

    def __init__(self, cluster, *args, rows=20, columns=120):
        self.text = ""
        self.fd, self.tty = pty.openpty()
        fcntl.ioctl(self.tty, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.tty)
        self.process = subprocess.Popen(
            cluster.command(*args), env={**cluster.environment(), "TERM": "xterm"}, stdin=self.tty, stdout=self.tty,
            stderr=self.tty, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def until(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text)):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} did not come; there is {self.text!r}")
            self.text += os.read(self.fd, 65536).decode(errors="replace")
        self.text = self.text[match.end():]
        return match

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def close(self):
        """The exit status."""
        code = self.process.wait(timeout=60)
        os.close(self.fd)
        os.close(self.tty)
        return code


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class TerminalTest(SharedCluster):
    HOSTS = 2

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.c.web("web")
        cls.c.release("web", "1.0.0")
        cls.c.run("deploy", "web", "1.0.0")

    def ended(self, terminal):
        """It left the screen, and the terminal is as it was."""
        terminal.until(re.escape(LEAVE))
        for _ in range(600):
            if terminal.process.poll() is not None:
                break
            time.sleep(0.1)
        self.assertEqual(termios.tcgetattr(terminal.tty), terminal.before)
        return terminal.close()

    def test_status_lives_until_q(self):
        terminal = Terminal(self.c, "status", "web", "--watch", "--interval", "200ms")
        terminal.until(re.escape(ENTER))
        terminal.until(r"web/0 .*ready")
        self.assertNotEqual(termios.tcgetattr(terminal.tty)[3] & termios.ICANON, termios.ICANON)
        self.c.run("stop", "web/1", "-y")
        terminal.until(r"web/1 .*stopped by ")
        self.c.run("start", "web/1")
        terminal.until(r"2 of 2 instances ready")
        terminal.type("q")
        self.assertEqual(self.ended(terminal), 0)

    def test_ctrl_c_leaves_the_terminal_as_it_was(self):
        terminal = Terminal(self.c, "top", "--interval", "200ms", columns=60)
        terminal.until(re.escape(ENTER))
        terminal.until(r"web/[01] +host[12] +ready")
        terminal.until(r"host2 ")
        terminal.type("\x03")
        self.assertEqual(self.ended(terminal), 0)

    def test_a_host_that_is_lost_and_comes_back(self):
        terminal = Terminal(self.c, "status", "--watch", "--interval", "200ms", columns=200)
        terminal.until(r"2 of 2 instances ready")
        self.c.bed.exec(2, "sh", "-c", "kill -9 $(pgrep -f '^[^ ]*clusterctl-shim[^ ]* (run|start)')", check=False)
        terminal.until(r"host2: ")
        self.c.run("bootstrap", "host2")
        terminal.until(r"web/1 .*ready")
        terminal.until(r"on 2 of 2 hosts")
        terminal.type("q")
        self.assertEqual(self.ended(terminal), 0)

    def test_q_does_not_wait_for_a_registry_that_is_lost(self):
        terminal = Terminal(self.c, "status", "--watch", "--interval", "200ms", columns=200)
        terminal.until(r"2 of 2 instances ready")
        self.c.bed.kill(1)
        try:
            terminal.until(r"what should run is not known")
            terminal.type("q")
            before = time.monotonic()
            self.assertEqual(self.ended(terminal), 0)
            self.assertLess(time.monotonic() - before, 12)
        finally:
            self.c.bed.boot(1)
            wait_for(lambda: "2 of 2 instances ready" in self.c.run("status", check=None).stdout, 60, "all is back")

    def test_elsewhere_views_follow_each_other(self):
        done = self.c.run("status", "--watch", "--interval", "100ms", "-n", "3")
        self.assertEqual(len(re.findall(r"(?m)^\d{4}-\d\d-\d\dT.*Z$", done.stdout)), 3)
        self.assertNotIn("\x1b", done.stdout)
        views = [json.loads(line) for line in
                 self.c.run("status", "--watch", "--interval", "100ms", "-n", "2", "-o", "jsonl").stdout.splitlines()]
        self.assertEqual([len(view["instances"]) for view in views], [2, 2])
        self.c.run("status", "-n", "2", check=64)

    def test_top_tells_what_is_used(self):
        done = self.c.run("top", "--interval", "500ms", "-n", "1", "-o", "json")
        view = json.loads(done.stdout)
        for instance in view["instances"]:
            self.assertGreaterEqual(instance["processors"], 0)
            self.assertGreater(instance["rss"], 0)
        self.assertEqual([host["reachable"] for host in view["hosts"]], [True, True])
        self.assertGreaterEqual(view["hosts"][0]["sent_per_second"], 0)
        self.assertIn("web/0", self.c.run("top", "web", "--interval", "100ms", "-n", "1").stdout)
        process = self.c.start("top", "--interval", "100ms")
        self.assertRegex(process.stdout.readline(), r"^\d{4}-")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    unittest.main()
