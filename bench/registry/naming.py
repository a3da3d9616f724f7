"""The naming side of the shim: subscribers told, one change among many services, memory."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

from figures import Figure, median

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "supervisor"))
import processes  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "e2e"))
from test_shim import Client  # noqa: E402  (the control socket, spoken in Python)

ENDPOINTS = 20
SUBSCRIBERS = 1000
SLOW = 10  # that never read
MANY = 10_000
BATCH = 500  # services in one push: 1.4 MB


def endpoints(service, generation):
    """As registry.json has them, about 130 bytes each."""
    return [{"instance": f"{service}/{i}", "host": f"host{i % 50 + 10}", "address": f"10.0.{i % 50}.{i % 200 + 1}",
             "ports": {"main": 21000 + (i + generation) % 9000}, "version": "1.1.0", "state": "ready"}
            for i in range(ENDPOINTS)]


class Shim:
    """One of our own in a directory of its own, without services to run."""

    def __init__(self, build):
        self.base = tempfile.mkdtemp(prefix="cctl-bench-")
        self.root = os.path.join(self.base, "root")
        self.program = os.path.join(self.base, "clusterctl-shim")
        shutil.copy(os.path.join(build, "clusterctl-shim"), self.program)  # a build may go on
        self.process = None
        self.revision = 0
        subprocess.run([self.program, "install", "--root", self.root, "--cluster", "bench", "--host", "host1",
                        "--no-boot-hook"], check=True, stdout=subprocess.DEVNULL)
        self.client = Client(os.path.join(self.root, "run", "control.sock"))

    @property
    def socket(self):
        return os.path.join(self.root, "run", "naming.sock")

    def pids(self):
        with open(os.path.join(self.root, "shim", "shim.lock"), encoding="utf-8") as file:
            pid, anchor = file.read().split()[:2]
        return [int(pid), int(anchor)]

    def push(self, *services):
        self.revision += 1
        self.client.ask("names-push", services=[
            {"service": s, "revision": self.revision, "endpoints": endpoints(s, self.revision)} for s in services])

    def fill(self, count):
        names = [f"service-{i:05}" for i in range(count)]
        for at in range(0, count, BATCH):
            self.push(*names[at:at + BATCH])

    def wait_for_registry(self, text):
        path = os.path.join(self.root, "registry", "registry.json")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with open(path, encoding="utf-8") as file:
                if text in file.read():
                    return
            time.sleep(0.05)
        raise AssertionError(f"{path} has no {text}")

    def restart(self):
        self.client.close()
        self.processes_before = self.pids()
        os.kill(self.processes_before[0], 9)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.client = Client(os.path.join(self.root, "run", "control.sock"))
                self.client.ask("hello", protocol=1, client="bench")
                return
            except (OSError, EOFError):
                time.sleep(0.05)
        raise AssertionError("the shim did not come back")

    def close(self):
        self.client.close()
        subprocess.run([self.program, "uninstall", "--root", self.root, "--stop-services", "--purge"], check=False,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)


class Subscribers:
    def __init__(self, program, socket, count, slow, service):
        self.process = subprocess.Popen([program, socket, str(count), str(slow), service], stdout=subprocess.PIPE,
                                        text=True)
        assert self.process.stdout.readline() == "ready\n", "the subscribers did not come up"

    def last_told(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.communicate()


def compile_tool(base, name):
    target = os.path.join(base, name)
    subprocess.run(["cc", "-O2", "-o", target, os.path.join(HERE, name + ".c")], check=True)
    return target


def measure_telling(tools, rounds, count, slow, socket, change):
    """→ ms from before a change is asked for until the last subscriber has it, for each round."""
    subscribers = Subscribers(tools["subscribers"], socket, count, slow, "service-00000")
    times = []
    try:
        for _ in range(rounds):
            before = time.monotonic_ns()
            change()
            times.append((subscribers.last_told() - before) / 1e6)
            time.sleep(0.02)
    finally:
        subscribers.close()
    return times[1:]


def measure_floor(tools, rounds, base):
    socket = os.path.join(base, "floor.sock")
    line = len(str(endpoints("service-00000", 1)))
    floor = subprocess.Popen([tools["floor"], socket, str(SUBSCRIBERS), str(line)], stdin=subprocess.PIPE, text=True)
    while not os.path.exists(socket):
        time.sleep(0.01)

    def change():
        floor.stdin.write("\n")
        floor.stdin.flush()
    try:
        return measure_telling(tools, rounds, SUBSCRIBERS, 0, socket, change)
    finally:
        floor.kill()
        floor.wait()
        os.unlink(socket)


def progress(text):
    print(f"  .. {text}", file=sys.stderr, flush=True)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def telling(shim, tools, rounds):
    progress(f"{SUBSCRIBERS} subscribers")
    ours, floor = [], []
    for _ in range(3):  # in turns
        ours += measure_telling(tools, rounds // 3, SUBSCRIBERS, SLOW, shim.socket,
                                lambda: shim.push("service-00000"))
        floor += measure_floor(tools, rounds // 3, shim.base)
    return Figure(f"{SUBSCRIBERS} subscribers told, {SLOW} more read nothing", "ms", median(ours), median(floor),
                  target="5 ms", limit=5.0,
                  notes=[f"99th percentile {percentile(ours, 0.99):.1f} ms; from before the request to the shim to the "
                         "last subscriber's read"])


def one_change(shim, tools, rounds):
    def measure():
        return measure_telling(tools, rounds, 1, 0, shim.socket, lambda: shim.push("service-00000"))
    progress("one change among 10 services")
    few = measure()
    progress(f"one change among {MANY} services")
    shim.fill(MANY)
    shim.wait_for_registry(f"service-{MANY - 1:05}")
    many = measure()
    return Figure(f"one change pushed and told, {MANY} services beside 10", "ms", median(many), median(few),
                  target="flat: 1.5x", limit=1.5 * median(few),
                  notes=[f"99th percentile {percentile(many, 0.99):.1f} ms of {MANY}, {percentile(few, 0.99):.1f} ms of "
                         f"10; floor: among 10 services. {os.path.getsize(shim.root + '/registry/registry.json') >> 20} "
                         "MiB of registry.json are written meanwhile, a tenth of the time"])


def memory(build):
    progress("memory of 1,000 services")
    shim = Shim(build)
    try:
        alone = processes.pss_bytes(shim.pids())
        shim.fill(1000)
        shim.wait_for_registry("service-00999")
        full = processes.pss_bytes(shim.pids())
        shim.restart()
        time.sleep(2)
        again = processes.pss_bytes(shim.pids())
    finally:
        shim.close()
    return Figure(f"names of 1,000 services x {ENDPOINTS} endpoints, over the shim alone", "MB",
                  (full - alone) / 1e6, target="16 MB with the registers", limit=16.0,
                  notes=[f"alone {alone / 1e6:.1f} MB; {(again - alone) / 1e6:.1f} MB more after a restart, which reads "
                         "them from the disk"])


def run(options):
    rounds = 30 if options.quick else 150
    figures = []
    shim = Shim(options.build)
    try:
        tools = {name: compile_tool(shim.base, name) for name in ("subscribers", "floor")}
        shim.fill(10)
        if options.wants("tell"):
            figures.append(telling(shim, tools, rounds))
        if options.wants("change"):
            figures.append(one_change(shim, tools, rounds))
    finally:
        shim.close()
    if options.wants("memory"):
        figures.append(memory(options.build))
    return figures
