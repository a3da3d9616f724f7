"""A cluster of test hosts, an inventory in a temporary directory, and the real clusterctl on them.

BUILD_DIR names the build directory (default: build/release).
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD_DIR = os.path.abspath(os.environ.get("BUILD_DIR", os.path.join(TOP, "build", "release")))
CLUSTERCTL = os.path.join(BUILD_DIR, "clusterctl")
FAULTS = os.path.join(BUILD_DIR, "tests", "drivers", "clusterctl_faults")
sys.path.insert(0, os.path.join(TOP, "tests", "testbed"))

from testbed import Testbed, namespaces_permitted  # noqa: E402

# A service in one script: answers with its version, its arguments and its config; ready at
# /healthz. MODE decides how it misbehaves.
SERVER = """#!/usr/bin/python3
import http.server, json, os, signal, sys, threading
VERSION, MODE = "{version}", "{mode}"
port = int(os.environ["PORT_MAIN"])
conf_path = sys.argv[1] if len(sys.argv) > 1 else None
print("version", VERSION, "on port", port, flush=True)
print("a line on stderr", file=sys.stderr, flush=True)
if MODE == "crash":
    print("cannot open the puzzle database", file=sys.stderr, flush=True)
    sys.exit(3)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
        code = 503 if MODE == "never-ready" and self.path == "/healthz" else 200
        conf = open(conf_path).read() if conf_path else ""
        body = json.dumps({{"version": VERSION, "pid": os.getpid(), "uid": os.getuid(), "conf": conf,
                           "cwd": os.getcwd(), "env": dict(os.environ)}}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
print("bye", flush=True)
"""

MANIFEST = """
service: {service}
place: {place}
run: [bin/server, "{{{{conf_dir}}}}/app.conf"]
ports: {{main: auto}}
config: [{{template: app.conf.mustache, path: app.conf, mode: "0640"}}]
health:
  ready: {{http: "main:/healthz"}}
  start_timeout: {start_timeout}
restart: {{policy: always, backoff: 100ms..2s, limit: "10 in 1m"}}
stop: {{signal: TERM, grace: 3s}}
upgrade: {{batch: {batch}, order: {order}, drain: 1s}}
"""

TEMPLATE = """name = {{instance.name}}
host = {{host.name}}
port = {{port.main}}
version = {{version}}
"""


def wait_for(condition, seconds=20, what="the condition"):
    """The first true value of condition(); the suite's one way of waiting."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Cluster:
    """Test hosts and an inventory of their own. Use as a context manager or call close()."""

    def __init__(self, hosts=3, user="deploy", cluster="demo", **bed):
        self.bed = Testbed(hosts, **bed).up()
        self.directory = tempfile.mkdtemp(prefix="clusterctl-e2e-")
        self.inventory = os.path.join(self.directory, "inventory")
        os.makedirs(os.path.join(self.inventory, "services"))
        os.makedirs(os.path.join(self.inventory, "templates"))
        self.bed.write_inventory(self.inventory, user=user, cluster=cluster)
        self.template("app.conf.mustache", TEMPLATE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.bed.down()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- files ----
    def write(self, path, text):
        with open(os.path.join(self.inventory, path), "w") as file:
            file.write(text)

    def append(self, path, text):
        with open(os.path.join(self.inventory, path), "a") as file:
            file.write(text)

    def template(self, name, text):
        self.write(f"templates/{name}", text)

    def manifest(self, service, text):
        self.write(f"services/{service}.yaml", textwrap.dedent(text))

    def web(self, service="web", place="{hosts: [host1, host2]}", batch=1, order="start-first", start_timeout="15s",
            more=""):
        self.manifest(service, MANIFEST.format(service=service, place=place, batch=batch, order=order,
                                               start_timeout=start_timeout) + more)

    def edit(self, service, old, new):
        """Changes a manifest; `old` must be in it."""
        path = f"{self.inventory}/services/{service}.yaml"
        with open(path) as file:
            text = file.read()
        if old not in text:
            raise AssertionError(f"{path}: no {old!r} in it")
        with open(path, "w") as file:
            file.write(text.replace(old, new))

    def release(self, service, version, files=None, mode="good", check=True):
        """Adds a release of {path: content}; executable when the path begins with bin/."""
        files = files or {"bin/server": SERVER.format(version=version, mode=mode)}
        source = tempfile.mkdtemp(dir=self.directory)
        for path, content in files.items():
            full = os.path.join(source, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
            os.chmod(full, 0o755 if path.startswith("bin/") else 0o644)
        return self.run("release", "add", service, version, source, check=0 if check else None)

    # ---- clusterctl ----
    def command(self, *args, inventory=None):
        return [CLUSTERCTL, "-i", inventory or self.inventory, *map(str, args)]

    def environment(self):
        # A home of its own: no ssh_config, agent or known_hosts of whoever runs the tests.
        return {"PATH": os.environ["PATH"], "HOME": self.directory, "LC_ALL": "C.UTF-8", "USER": "tester"}

    def run(self, *args, check=0, timeout=180, inventory=None):
        """Exit status must be `check`, unless None."""
        done = subprocess.run(self.command(*args, inventory=inventory), env=self.environment(), capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)
        if check is not None and done.returncode != check:
            raise AssertionError(f"clusterctl {' '.join(map(str, args))}: exit {done.returncode}, not {check}\n"
                                 f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}")
        return done

    def start(self, *args):
        return subprocess.Popen(self.command(*args), env=self.environment(), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)

    def run_faulty(self, step, action, *args, name="", command="", timeout=240):
        """Something happens just before the step with this number (0: none), of all or of those called `name`:
        "kill", "interrupt", or "exec" of `command` on this machine. Returns the names of the steps that were
        reached, and the process when it had ended."""
        with tempfile.NamedTemporaryFile("r", dir=self.directory) as log:
            faults = {"FAULT_STEP": str(step), "FAULT_ACTION": action, "FAULT_NAME": name, "FAULT_COMMAND": command,
                      "FAULT_LOG": log.name}
            done = subprocess.run([FAULTS, "-i", self.inventory, *args], capture_output=True, text=True, timeout=timeout,
                                  stdin=subprocess.DEVNULL, env={**self.environment(), **faults})
            if "FAULT_COMMAND failed" in done.stderr:
                raise AssertionError(f"{command}: {done.stderr}")
            return [line.split(" ", 1)[1].strip() for line in log], done

    def testbed_command(self, *words):
        """A shell command that does to the hosts what `testbed WORDS` does."""
        program = os.path.join(TOP, "tests", "testbed", "testbed")
        return shlex.join(["env", f"TESTBED_DIR={self.bed.state.dir}", program, *map(str, words)])

    def json(self, *args, check=0):
        return json.loads(self.run("-o", "json", *args, check=check).stdout)

    def instances(self, service=None, check=0):
        """instance → its status object, of generations that are shown."""
        found = self.json("status", *([service] if service else []), check=check)
        return {one["instance"]: one for one in found["instances"]}

    def endpoints(self, service):
        return self.json("resolve", service)["endpoints"]

    # ---- hosts ----
    def get(self, endpoint, path="/"):
        """HTTP GET of a service, from host 1: (status, parsed body)."""
        code = textwrap.dedent(f"""
            import http.client, sys
            c = http.client.HTTPConnection("{endpoint['address']}", {endpoint['ports']['main']}, timeout=5)
            c.request("GET", "{path}")
            r = c.getresponse()
            print(r.status)
            print(r.read().decode())
        """)
        out = self.bed.exec(1, "/usr/bin/python3", "-c", code).stdout
        status, body = out.split("\n", 1)
        return int(status), json.loads(body)

    def versions(self, service):
        """What each published endpoint answers with."""
        return sorted(self.get(endpoint)[1]["version"] for endpoint in self.endpoints(service))

    def root_path(self, host, *parts):
        """A path below the cluster's root on a host, seen from here; also while the host is off."""
        return os.path.join(self.bed.root(host), "opt/clusterctl", *parts)

    def live_path(self, host, *parts):
        return os.path.join(self.bed.live_root(host), "opt/clusterctl", *parts)

    def registry_file(self, host):
        with open(self.live_path(host, "registry/registry.json")) as file:
            return json.load(file)

    def processes(self, host, pattern):
        """pids on the host whose command line matches."""
        done = self.bed.exec(host, "pgrep", "-f", pattern, check=False)
        return [int(pid) for pid in done.stdout.split()]

    def shim_pids(self, host):
        return self.processes(host, "^[^ ]*clusterctl-shim[^ ]* (run|start)")


def interrupt(process):
    process.send_signal(signal.SIGINT)


@unittest.skipUnless(namespaces_permitted(), "test hosts with power loss need root and namespaces")
class SharedCluster(unittest.TestCase):
    """One cluster, `c`, for all tests of a class; every test has services of its own."""

    HOSTS = 3
    OPTIONS = {}  # of Cluster()

    @classmethod
    def setUpClass(cls):
        cls.c = Cluster(cls.HOSTS, **cls.OPTIONS)
        cls.addClassCleanup(cls.c.close)

    def deployed(self, service, *versions, **manifest):
        """A service as Cluster.web() makes it, at each of these versions in turn (1.0.0)."""
        self.c.web(service, **manifest)
        for version in versions or ["1.0.0"]:
            self.c.release(service, version)
            done = self.c.run("deploy", service, version)
        return done

    def pids(self, service):
        return {i: s["pid"] for i, s in self.c.instances(service).items()}
