"""logs -f and events -f: what is followed goes on over kills and upgrades of the shim, and lost links."""

import json
import re
import shutil
import threading
import unittest

from harness import Cluster, interrupt, namespaces_permitted, wait_for

ROOT = "/opt/clusterctl"

COUNTS = """#!/bin/sh
n=0
while :; do n=$((n + 1)); echo "number $n"; sleep 0.01; done
"""

MANIFEST = """
service: counts
place: {hosts: [host1]}
run: [bin/counts]
logs: {max_size: 20K, keep: 20}
"""


class Followed:
    """A command that runs, and the lines that it has printed."""

    def __init__(self, cluster, *args):
        self.process = cluster.start(*args)
        self.lines, self.errors = [], []
        self.readers = [threading.Thread(target=self.read, args=pair) for pair in
                        ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(pipe, lines):
        for line in pipe:
            lines.append(line.rstrip("\n"))

    def more(self):
        """Waits for lines that are not there yet."""
        before = len(self.lines)
        wait_for(lambda: len(self.lines) > before + 3, 30, f"more lines after {self.lines[-3:]} {self.errors}")

    def end(self):
        """-> the exit status."""
        interrupt(self.process)
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.wait()


@unittest.skipUnless(namespaces_permitted(), "test hosts that can be cut need root and namespaces")
class StreamsTest(unittest.TestCase):
    def setUp(self):
        self.c = Cluster(1)
        self.addCleanup(self.c.close)
        self.c.manifest("counts", MANIFEST)
        self.c.release("counts", "1", {"bin/counts": COUNTS})
        self.c.run("deploy", "counts", "1")

    def info(self):
        said = self.c.bed.exec(1, ROOT + "/shim/current", "info", "--root", ROOT)
        return json.loads(said.stdout)

    def kill(self, which):
        before = self.info()
        self.c.bed.exec(1, "kill", "-9", str(before[which]))
        wait_for(lambda: self.info()["pid"] not in (0, 1, before["pid"]), what="another supervisor")

    def upgrade(self):
        """As bootstrap does it, with another executable."""
        here = self.c.live_path(1, "newer")
        shutil.copy(self.c.live_path(1, "shim", "current"), here)
        with open(here, "ab") as file:
            file.write(b"\0")
        before = self.info()
        self.c.bed.exec(1, ROOT + "/newer", "install", "--root", ROOT, "--cluster",
                        before["cluster"], "--host", "host1")
        self.assertNotEqual(self.info()["digest"], before["digest"])

    def test_logs_and_events_go_on_where_they_were(self):
        logs = Followed(self.c, "logs", "counts", "-f", "-n", "5")
        events = Followed(self.c, "-o", "jsonl", "events", "-f")
        pid = self.c.instances("counts")["counts/0"]["pid"]
        try:
            logs.more()
            for act in (lambda: self.kill("pid"), lambda: self.kill("anchor"), self.upgrade, lambda: self.kill("pid")):
                act()
                logs.more()
            wait_for(lambda: sum('"shim-start"' in line for line in events.lines) >= 4, 30, f"events {events.errors}")
        finally:
            codes = logs.end(), events.end()
        self.assertEqual(codes, (0, 0), (logs.errors, events.errors, logs.lines[-3:]))
        numbers = [int(re.search(r"number (\d+)$", line)[1]) for line in logs.lines]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        self.assertGreater(len(numbers), 20)
        self.assertIn("trying again", "\n".join(logs.errors))
        self.assertNotIn("host1: host1:", "\n".join(logs.errors))
        told = [json.loads(line) for line in events.lines]
        sequence = [event["seq"] for event in told]
        self.assertEqual(sequence, list(range(sequence[0], sequence[0] + len(sequence))))
        self.assertGreaterEqual(sum(event["kind"] == "shim-start" for event in told), 4)
        self.assertEqual(self.c.instances("counts")["counts/0"]["pid"], pid)


if __name__ == "__main__":
    unittest.main()
