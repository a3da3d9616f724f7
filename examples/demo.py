#!/usr/bin/env python3
"""The demo of ./dev demo: test hosts, a deploy, a crash, an upgrade under load, all for real.

Everything shown is what clusterctl printed. Exits 1 when a request failed or a step did.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "testbed"))

from testbed import Testbed  # noqa: E402

HOSTS = 5
RATE = 200


def heading(text):
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


class Demo:
    def __init__(self, build, directory):
        self.build = os.path.abspath(build)
        self.directory = directory
        self.inventory = os.path.join(directory, "inventory")
        self.clusterctl_path = os.path.join(self.build, "clusterctl")

    # ---- commands ----
    def clusterctl(self, *args, show=True):
        """Runs it in the demo's directory; its output goes to the screen."""
        if show:
            print(f"$ clusterctl {' '.join(args)}", flush=True)
        subprocess.run([self.clusterctl_path, *args], cwd=self.directory, check=True)

    def json(self, *args):
        done = subprocess.run([self.clusterctl_path, *args, "-o", "json"], cwd=self.directory, check=True,
                              capture_output=True, text=True)
        return json.loads(done.stdout)

    def example(self, name):
        return os.path.join(self.build, "examples", name)

    # ---- the parts ----
    def prepare(self, bed):
        shutil.copytree(os.path.join(TOP, "examples", "sudoku", "inventory"), self.inventory)
        bed.write_inventory(self.inventory, user="deploy", cluster="sudoku")
        with open(os.path.join(self.inventory, "cluster.yaml"), "a") as file:
            file.write('\ngroups: {solvers: "host[1-3]", front: "host[4-5]"}\n')
        for service in ("sudoku-solver", "web-server"):
            for version in ("1.0.0", "1.1.0"):
                self.clusterctl("release", "add", service, version, self.example(f"{service}-{version}"))

    def start_load(self):
        urls = [f"http://{e['address']}:{e['ports']['main']}" for e in self.json("resolve", "web-server")["endpoints"]]
        command = [os.path.join(self.example("sudoku-load"), "bin", "sudoku-load"), "--target", ",".join(urls),
                   "--rate", str(RATE), "--until-signal", "-o", "json"]
        print(f"{RATE} puzzles a second to {', '.join(urls)}", flush=True)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def crash(self, bed):
        """kill -9 of a solver; returns once it is ready again."""
        before = self.instance("sudoku-solver/0")
        host = int(before["host"].removeprefix("host"))
        print(f"$ ssh {before['host']} sudo kill -9 {before['pid']}", flush=True)
        bed.ssh(host, "sudo", "kill", "-9", str(before["pid"]))
        end = time.monotonic() + 30
        while True:
            after = self.instance("sudoku-solver/0")
            if after["state"] == "ready" and after["pid"] != before["pid"]:
                break
            if time.monotonic() > end:
                raise SystemExit("sudoku-solver/0 was not restarted")
        self.clusterctl("events", "--since", "1m", "-l", before["host"])

    def instance(self, name):
        return next(i for i in self.json("status", name)["instances"] if i["instance"] == name)

    def summary(self, load):
        load.send_signal(signal.SIGINT)
        out, _ = load.communicate(timeout=60)
        result = json.loads(out)
        latency = result["latency_ms"]
        print(f"{result['sent']} requests in {result['duration_s']:.0f} s: {result['ok']} ok, {result['failed']} failed; "
              f"latency ms: p50 {latency['p50']}, p99 {latency['p99']}, max {latency['max']}")
        return result["failed"]


def hints(demo, bed, kept):
    heading("yours to try" if kept else "what next")
    if not kept:
        print("./dev demo --keep      the same, and leaves the hosts up to play with")
        return
    page = demo.json("resolve", "web-server")["endpoints"][0]
    print(f"cd {demo.directory}\nexport PATH={os.path.dirname(demo.clusterctl_path)}:$PATH\n"
          "clusterctl status\nclusterctl logs -f web-server\nclusterctl events -f\n"
          "clusterctl restart --host host1\nclusterctl deploy web-server 1.1.0\nclusterctl verify\n"
          f"A page to fill in:     http://{page['address']}:{page['ports']['main']}/\n"
          f"Power loss:            {TOP}/tests/testbed/testbed kill 1 --name demo   (then: boot 1 --name demo)\n"
          f"Take it all down:      {TOP}/tests/testbed/testbed down --name demo")


def run(demo, bed, kept):
    heading(f"{HOSTS} test hosts, each with its own network, disk and sshd")
    demo.prepare(bed)
    demo.clusterctl("ping")
    heading("first deploy: shims are placed, releases pushed, ports chosen, configs generated")
    demo.clusterctl("deploy", "sudoku-solver", "1.0.0")
    demo.clusterctl("deploy", "web-server", "1.0.0")
    heading("load")
    load = demo.start_load()
    try:
        heading("a crash, by kill -9: the shim restarts it at once and reports it")
        demo.crash(bed)
        heading("upgrade under load: the new one is ready and known before the old one goes")
        demo.clusterctl("deploy", "sudoku-solver", "1.1.0")
        heading("what runs now")
        demo.clusterctl("status")
        demo.clusterctl("verify", "sudoku-solver")
        heading("requests, from before the crash to after the upgrade")
        failed = demo.summary(load)
    finally:
        load.poll() is None and load.kill()
    hints(demo, bed, kept)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="leave the hosts up")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="clusterctl-demo-")
    demo = Demo(arguments.build, directory)
    bed = Testbed(HOSTS, name="demo")
    bed.down()  # of an earlier --keep
    try:
        bed.up()
        code = run(demo, bed, arguments.keep)
    except subprocess.CalledProcessError as error:
        print(f"demo: {error}", file=sys.stderr)
        code = 1
    finally:
        if arguments.keep:
            bed.keep()
        else:
            bed.down()
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
