"""Durable writes of 512 bytes, one after the other: ours over unix sockets and through SSH, beside etcd's."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import figures


TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))

SIZE = 512
NODES = (3, 5)


def timed(lines):
    return [tuple(map(int, line.split())) for line in lines]


def median_ms(pairs):
    return figures.median([after - before for before, after in pairs]) / 1e6 if pairs else None


def largest_gap_ms(pairs):
    """Between two writes that were acknowledged, one after the other."""
    ends = [after for _, after in pairs]
    return max(b - a for a, b in zip(ends, ends[1:])) / 1e6


class Etcd:
    """So many nodes on loopback, each with its data on the disk that the shims use too."""

    def __init__(self, nodes, base):
        self.directory = tempfile.mkdtemp(prefix="etcd-", dir=base)
        self.processes = []
        peers = ",".join(f"n{i}=http://127.0.0.1:{24380 + i}" for i in range(nodes))
        for i in range(nodes):
            client, peer = f"http://127.0.0.1:{24300 + i}", f"http://127.0.0.1:{24380 + i}"
            self.processes.append(subprocess.Popen(
                ["etcd", "--name", f"n{i}", "--data-dir", os.path.join(self.directory, f"n{i}"),
                 "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                 "--initial-advertise-peer-urls", peer, "--initial-cluster", peers, "--initial-cluster-token", "bench"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        self.endpoints = [f"127.0.0.1:{24300 + i}" for i in range(nodes)]
        end = time.monotonic() + 60
        while not all(map(self.healthy, range(nodes))):
            if time.monotonic() > end:
                raise RuntimeError("etcd does not become healthy")
            time.sleep(0.1)

    def healthy(self, i):
        try:
            with urllib.request.urlopen(f"http://{self.endpoints[i]}/health", timeout=1) as answer:
                return b"true" in answer.read()
        except OSError:
            return False

    def leader(self):
        for i, endpoint in enumerate(self.endpoints):
            with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=2) as answer:
                if b"\netcd_server_is_leader 1" in answer.read():
                    return i
        return 0

    def client(self, count):
        leader = self.leader()
        order = self.endpoints[leader:] + self.endpoints[:leader]
        script = os.path.join(os.path.dirname(__file__), "etcd_client.py")
        return subprocess.Popen(["/usr/bin/python3", script, ",".join(order), str(count), str(SIZE)],
                                stdout=subprocess.PIPE, text=True)

    def resident_mib(self):
        return max(rss_kib(process.pid) for process in self.processes) / 1024

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


class Ours:
    """Test hosts with real sshd and shims, whose sockets are also reached as files from here."""

    def __init__(self, nodes, build):
        os.environ["BUILD_DIR"] = build
        from harness import Cluster  # reads BUILD_DIR
        self.cluster = Cluster(nodes)
        self.driver = os.path.join(build, "tests", "drivers", "registry_driver")
        hosts = [f"host{i + 1}" for i in range(nodes)]
        self.cluster.append("cluster.yaml", f"registry: {{hosts: [{', '.join(hosts)}]}}\n")
        self.cluster.run("bootstrap")
        # Short enough for a socket's address.
        self.links = tempfile.mkdtemp(prefix="rb", dir="/tmp")
        for i in range(nodes):
            os.symlink(self.cluster.live_path(i + 1, "run"), os.path.join(self.links, str(i + 1)))
        self.unix = "unix:" + ",".join(f"{host}={self.links}/{i + 1}/control.sock" for i, host in enumerate(hosts))

    def start(self, where, *what):
        return subprocess.Popen([self.driver, self.cluster.inventory if where == "ssh" else self.unix, *map(str, what)],
                                stdout=subprocess.PIPE, text=True, env=self.cluster.environment())

    def run(self, where, *what):
        process = self.start(where, *what)
        out, _ = process.communicate(timeout=600)
        if process.returncode != 0:
            raise RuntimeError(f"registry_driver {what}: exit {process.returncode}")
        return timed(out.splitlines())

    def shim_pids(self, host):
        """Of that host's supervisor and anchor, as seen from here."""
        root = os.path.realpath(self.cluster.live_path(host))
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
                if b"clusterctl-shim" in line and os.readlink(f"/proc/{pid}/root") in root:
                    found.append(int(pid))
            except OSError:
                continue
        return [pid for pid in found if os.readlink(f"/proc/{pid}/ns/net") == self.namespace(host)]

    def namespace(self, host):
        done = self.cluster.bed.exec(host, "readlink", "/proc/self/ns/net")
        return done.stdout.strip()

    def close(self):
        shutil.rmtree(self.links, ignore_errors=True)
        self.cluster.close()


def gap(process, kill, seconds):
    """The largest pause of a writer while one member is killed in its middle."""
    began = time.monotonic()
    killed = False
    lines = []
    for line in process.stdout:
        lines.append(line)
        if not killed and time.monotonic() - began > seconds / 3:
            killed = True
            kill()
        if time.monotonic() - began > seconds:
            process.kill()
            break
    process.wait()
    return largest_gap_ms(timed(lines[:-1]))


def measure(nodes, options, found):
    count = 150 if options.quick else 600
    base = os.path.expanduser("~")
    ours = Ours(nodes, options.build)
    try:
        ours.run("unix", "write", 20, SIZE)
        etcd = Etcd(nodes, base)
        try:
            rounds = 3
            samples = {"unix": [], "ssh": [], "etcd": []}
            for _ in range(rounds):
                for where in ("unix", "ssh"):
                    samples[where] += ours.run(where, "write", count // rounds, SIZE)
                out, _ = etcd.client(count // rounds).communicate(timeout=600)
                samples["etcd"] += timed(out.splitlines())
            found["write", nodes] = {name: median_ms(pairs) for name, pairs in samples.items()}
            found["etcd memory", nodes] = etcd.resident_mib()
            if nodes == 3:
                turns = ours.run("ssh", "told", count // 2, f"{ours.links}/1")
                found["told"], found["one way"] = median_ms(turns[::2]), median_ms(turns[1::2])
                before = sum(map(pss_kib, ours.shim_pids(2)))
                ours.run("unix", "fill", 100 if options.quick else 1000, 20)
                found["memory"] = (sum(map(pss_kib, ours.shim_pids(2))) - before) / 1024
            # Last: the shim that is killed with its anchor does not come back by itself.
            seconds = 3 if options.quick else 6
            leader = etcd.processes[etcd.leader()]
            found["gap", nodes] = {
                "etcd": gap(etcd.client(10**6), leader.kill, seconds),
                "ssh": gap(ours.start("ssh", "write", 10**6, SIZE),
                           lambda: [os.kill(pid, signal.SIGKILL) for pid in ours.shim_pids(nodes)], seconds)}
        finally:
            etcd.close()
    finally:
        ours.close()


def run(options):
    found = {}
    for nodes in NODES:
        measure(nodes, options, found)
    table = []
    for nodes in NODES:
        write, paused = found["write", nodes], found["gap", nodes]
        peers = {"etcd": write["etcd"]}
        table += [
            figures.Figure(f"durable write, {nodes} nodes, unix sockets", "ms", write["unix"], peers=peers,
                           target="0.8 × etcd", limit=figures.times(write["etcd"], 0.8)),
            figures.Figure(f"durable write, {nodes} nodes, SSH sessions", "ms", write["ssh"], peers=peers,
                           target="1.5 × etcd", limit=figures.times(write["etcd"], 1.5)),
            figures.Figure(f"longest pause of writes when a member is killed, {nodes} nodes", "ms", paused["ssh"],
                           peers={"etcd, its leader": paused["etcd"]}, target="100 ms", limit=100)]
    table.append(figures.Figure("commit acknowledged to local subscriber told", "ms", found["told"],
                                floor=found["one way"], target="2 × one way through SSH",
                                limit=figures.times(found["one way"], 2)))
    table.append(figures.Figure("memory of a member, 1,000 services × 20 endpoints, over the shim alone", "MiB",
                                found["memory"], peers={"etcd, nearly empty": found["etcd memory", 3]},
                                target="16 MiB", limit=16))
    return table
