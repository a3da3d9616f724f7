"""One class for each supervisor: lays out the same services, starts and stops them.

A layout is a list of service names (service.c says what a name does). Every supervisor captures
the services' output into files that it rotates, with time stamps where it can.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

from . import processes
from .record import wait_for

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tests", "e2e"))
from test_shim import Client  # noqa: E402  (the control socket, spoken in Python)

LOG_SIZE = 1 << 20
LOG_KEEP = 1000  # all that a run writes: its lines are counted
CALLER = {"by": "bench", "reason": "bench", "token": 0}


class Supervisor:
    """`tools`: the compiled programs by name; `environment`: what the services need."""

    name = ""
    programs = ()  # that must be installed

    def __init__(self, base, tools, environment, layout):
        self.base = base
        self.tools = tools
        self.environment = {**os.environ, **environment}
        self.service_environment = environment
        self.layout = layout
        self.process = None
        os.makedirs(base)

    @classmethod
    def missing(cls):
        return [p for p in cls.programs if shutil.which(p) is None]

    def prepare(self):
        """Everything that may be done before the start that is measured."""

    def command(self):
        raise NotImplementedError

    def start(self):
        """From cold; returns once the supervisor's process exists."""
        with open(os.path.join(self.base, "supervisor.err"), "ab") as errors:
            self.process = subprocess.Popen(self.command(), env=self.environment, cwd=self.base,
                                            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def ask_to_stop(self):
        self.process.terminate()

    def stop(self):
        """Ends the supervisor and all that it began."""
        self.ask_to_stop()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        processes.end_all()

    def own_processes(self):
        """The supervisor's processes, without the services."""
        root = self.process.pid
        return [root] + [p for p in processes.descendants(root)
                         if not processes.runs(p, self.tools["service"])]

    def log_dir(self, name):
        return os.path.join(self.base, "services", name, "log", "main")

    def log_files(self, name):
        """Oldest first; the last one is written to."""
        directory = self.log_dir(name)
        rotated = sorted(n for n in os.listdir(directory) if self.is_rotated(n))
        return [os.path.join(directory, n) for n in [*rotated, "current"]]

    def is_rotated(self, name):
        return name.startswith("@")


class Floor(Supervisor):
    name = "floor"

    def command(self):
        return [self.tools["floor"], self.base, self.tools["service"], *self.layout]

    def log_files(self, name):
        return [os.path.join(self.base, name)]


class Scanned(Supervisor):
    """The family of daemontools: a directory per service, with `run` and `log/run`."""

    logger = ""

    def prepare(self):
        for name in self.layout:
            self.add(name)

    def directory(self, name):
        return os.path.join(self.base, "services", name)

    def add(self, name):
        os.makedirs(self.log_dir(name))
        os.symlink(self.tools["service"], os.path.join(self.directory(name), "run"))
        path = os.path.join(self.directory(name), "log", "run")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec {self.logger}\n")
        os.chmod(path, 0o755)


class Runit(Scanned):
    name = "runit"
    programs = ("runsvdir", "runsv", "svlogd")
    stamp = "-t"

    @property
    def logger(self):
        return f"svlogd {self.stamp} ./main"

    def add(self, name):
        super().add(name)
        with open(os.path.join(self.log_dir(name), "config"), "w", encoding="ascii") as f:
            f.write(f"s{LOG_SIZE}\nn{LOG_KEEP}\n")

    def command(self):
        return ["runsvdir", "-P", os.path.join(self.base, "services")]

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGHUP)


class RunitReadable(Runit):
    name = "runit -tt"
    stamp = "-tt"


class S6(Scanned):
    """The second half of the services says when it is ready: s6 restarts only those at once."""

    name = "s6"
    programs = ("s6-svscan", "s6-supervise", "s6-log")
    logger = f"s6-log n{LOG_KEEP} s{LOG_SIZE} t ./main"

    def add(self, name):
        super().add(name)
        if not self.tells_ready(name):
            return
        with open(os.path.join(self.directory(name), "notification-fd"), "w",
                  encoding="ascii") as f:
            f.write("3\n")

    def tells_ready(self, name):
        return self.layout.index(name) >= len(self.layout) // 2 and name.startswith("svc-")

    def command(self):
        return ["s6-svscan", "-c", "1000", os.path.join(self.base, "services")]


class S6Readable(S6):
    name = "s6 T"
    logger = f"s6-log n{LOG_KEEP} s{LOG_SIZE} T ./main"


class Daemontools(Scanned):
    name = "daemontools"
    programs = ("svscan", "supervise", "multilog", "svc")
    logger = f"multilog t s{LOG_SIZE} n{LOG_KEEP} ./main"

    def add(self, name):
        super().add(name)
        os.chmod(self.directory(name), 0o1755)  # sticky: `log` is supervised too

    def command(self):
        return ["svscan", os.path.join(self.base, "services")]


class Supervisord(Supervisor):
    """It puts no time stamps on what services write."""

    name = "supervisord"
    programs = ("supervisord",)

    def prepare(self):
        programs = "".join(self.program(name) for name in self.layout)
        with open(os.path.join(self.base, "config"), "w", encoding="ascii") as f:
            f.write(f"[supervisord]\nnodaemon=true\nlogfile={self.base}/supervisord.log\n"
                    f"pidfile={self.base}/supervisord.pid\nchildlogdir={self.base}\n{programs}")

    def program(self, name):
        # startsecs=0: one that dies young is started again, as others do.
        return (f"[program:{name}]\ncommand={self.tools['service']} {name}\nstartsecs=0\n"
                f"autorestart=true\nredirect_stderr=true\nstdout_logfile={self.base}/{name}\n"
                f"stdout_logfile_maxbytes={LOG_SIZE}\nstdout_logfile_backups={LOG_KEEP}\n")

    def command(self):
        return ["supervisord", "-c", os.path.join(self.base, "config")]


class Ours(Supervisor):
    """clusterctl's shim, driven over its control socket. Each service is a release of its own."""

    name = "ours"
    ballast = 0  # bytes in each release besides the service

    def root(self):
        return os.path.join(self.base, "root")

    def shim(self, *words):
        return subprocess.run([self.tools["shim"], *words], check=True, capture_output=True,
                              text=True).stdout

    def connect(self):
        client = Client(os.path.join(self.root(), "run", "control.sock"), 60)
        client.ask("hello", protocol=1, client="bench")
        return client

    def prepare(self):
        """Installs, starts each service once, and stops all: a start finds what a boot finds."""
        self.shim("install", "--root", self.root(), "--cluster", "bench", "--host", "bench",
                  "--no-boot-hook")
        with self.connect() as client:
            begun = [self.deploy(client, name) for name in self.layout]
            for number in begun:
                reply = client.finish(number)[0]
                if reply["state"] != "ready":
                    raise RuntimeError(f"a service of {self.name} did not start: {reply}")
            client.ask("shutdown", stop_services=True, replace=False, caller=CALLER)
        wait_for(lambda: not self.running(), 60, "the end of the shim")
        processes.reap()

    def running(self):
        return json.loads(self.shim("info", "--root", self.root()))["running"]

    def files(self, name):
        """Of a release: no two have the same ballast."""
        with open(self.tools["service"], "rb") as f:
            files = {"bin/service": (f.read(), True)}
        if self.ballast:
            files["share/data"] = ((name.encode() + b"\n") * self.ballast)[:self.ballast], False
        return files

    def deploy(self, client, name):
        """→ the number of the request to start it, whose answer is still to come."""
        pushed = client.push(name, "1.0", self.files(name), chunk=1 << 18)
        instance = {"service": name, "index": 0}
        generation = client.ask("allocate", instance=instance, ports=[], pool_low=21000,
                                pool_high=29999, avoid=[], caller=CALLER)["generation"]
        client.ask("prepare", spec=self.spec(name, generation, pushed["digest"]), caller=CALLER)
        return client.begin("start", instance=instance, generation=generation, caller=CALLER)

    def spec(self, name, generation, digest):
        """As a manifest would say it. The wait between restarts of what dies young is that of the
        peers, a second: a crash loop must go on while it is measured."""
        return {"service": name, "index": 0, "generation": generation, "version": "1.0",
                "release_digest": digest, "spec_digest": "", "argv": ["bin/service", name],
                "env": self.service_environment, "ports": {}, "config": [],
                "ready": {"kind": "none"}, "start_timeout": 10000,
                "restart": {"when": "always", "backoff_min": 600, "backoff_max": 600,
                            "limit_count": 1000, "limit_window": 60000},
                "stop_signal": 15, "stop_grace": 2000,
                "log_max_size": LOG_SIZE, "log_keep": LOG_KEEP}

    def command(self):
        return [os.path.join(self.root(), "shim", "current"), "run", "--root", self.root()]

    def ask_to_stop(self):
        with self.connect() as client:
            client.ask("shutdown", stop_services=True, replace=False, caller=CALLER)

    def log_files(self, name):
        directory = os.path.join(self.root(), "services", name, "instances", "0", "log")
        rotated = {}  # by time and number: a file that is there beside its archive is the one
        for name in sorted(n for n in os.listdir(directory) if n.endswith((".log", ".log.gz"))):
            rotated[name[:len("2026-11-23T10:00:00.123Z-000000")]] = name
        return [os.path.join(directory, n) for n in [*rotated.values(), "current"]]


class OursLarge(Ours):
    """A start from cold checks every byte of every release."""

    name = "ours, 1 MiB each"
    ballast = 1 << 20


PEERS = (Runit, S6, Daemontools, Supervisord)
