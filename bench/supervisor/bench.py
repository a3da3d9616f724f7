"""The shim as a supervisor, beside others. README.md says what each figure is."""

import contextlib
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from figures import Figure, median, times

from . import processes
from .record import Record, wait_for
from .supervisors import (PEERS, Daemontools, Floor, Ours, OursLarge, Runit, RunitReadable,
                          S6, S6Readable)

NAME = "supervisor"
ABOUT = "restart, memory, cold start, idle, log capture: the shim, a floor program and four others"
PACKAGES = ["gcc", "libc6-dev", "runit", "s6", "daemontools", "supervisor"]

HERE = os.path.dirname(os.path.abspath(__file__))
SERVICES = 100
HEALTHY, CRASHING = 10, 20
SETTLE = 2.5  # every supervisor takes a service that lived as long for one that lives
PAUSE = 0.03  # between two kills
PATIENCE = 8.0  # with the slow ones, in a round


class Plan:
    """How much is measured."""

    def __init__(self, quick):
        self.rounds = 1 if quick else 3
        self.kills = 20 if quick else 40  # in a round, each of another service
        self.idle = 3.0 if quick else 10.0
        self.lines = 50_000 if quick else 200_000
        self.batches = 2 if quick else 5


class Site:
    """A temporary directory with the compiled programs, and the figures so far."""

    def __init__(self, options):
        self.options = options
        self.plan = Plan(options.quick)
        self.base = tempfile.mkdtemp(prefix="cctl-bench-")
        os.chmod(self.base, 0o755)
        self.tools = {
            "shim": self.copy_shim(),
            "floor": self.compile("floor"),
            "service": self.compile("service", "-nostdlib", "-ffreestanding",
                                    "-fno-stack-protector"),
        }

    def copy_shim(self):
        """So that a build that goes on does not change what is measured."""
        target = os.path.join(self.base, "clusterctl-shim")
        shutil.copy(os.path.join(self.options.build, "clusterctl-shim"), target)
        return target

    def compile(self, name, *flags):
        target = os.path.join(self.base, name)
        subprocess.run(["cc", "-O2", "-static", "-s", *flags, "-o", target,
                        os.path.join(HERE, name + ".c")], check=True)
        return target

    @contextlib.contextmanager
    def prepared(self, kind, part, layout, **environment):
        """A supervisor with its layout made, not yet started; nothing of it is left afterwards."""
        base = os.path.join(self.base, f"{kind.__name__}-{part}")
        record = Record(base + ".record")
        try:
            supervisor = kind(base, self.tools, {"BENCH_RECORD": record.path, **environment},
                              layout)
            supervisor.prepare()
            yield supervisor, record
        finally:
            processes.end_all()
            record.close()

    def remove(self):
        if self.options.keep:
            print(f"  kept: {self.base}")
            return
        subprocess.run(["chmod", "-R", "u+w", self.base], check=False)
        shutil.rmtree(self.base, ignore_errors=True)


def progress(text):
    print(f"  .. {text}", file=sys.stderr, flush=True)


def installed(kinds):
    return [kind for kind in kinds if not kind.missing()]


# ---- what is measured ----------------------------------------------------------------------------


def start_cold(supervisor, record):
    """Milliseconds from the supervisor's start to the last service's first instruction."""
    wanted = set(supervisor.layout)
    before = time.monotonic_ns()
    supervisor.start()

    def all_began():
        first = {}
        for name, _, at in record.starts(after=before):
            first.setdefault(name, at)
        return first if wanted <= first.keys() else None
    first = wait_for(all_began, 60, f"{supervisor.name}: the start of all services", step=0.01)
    return (max(first.values()) - before) / 1e6


def kill_one(supervisor, record, name, pid):
    """→ milliseconds from SIGKILL to the new process's first instruction."""
    if not processes.runs(pid, supervisor.tools["service"]):
        raise RuntimeError(f"{supervisor.name}: {name} does not run")
    killed = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    time.sleep(PAUSE)  # nothing of the bench runs meanwhile
    back = wait_for(lambda: record.starts(name, after=killed), 60,
                    f"{supervisor.name}: the restart of {name}", step=0.01)
    return (back[0][2] - killed) / 1e6


def kill_each(supervisor, record, names):
    """Kills one after the other, fewer of them where a restart takes a second."""
    pids = record.latest()
    until = time.monotonic() + PATIENCE
    took = []
    for name in names:
        took.append(kill_one(supervisor, record, name, pids[name]))
        if time.monotonic() > until:
            break
    return took


def watch_idle(supervisor, seconds):
    """→ (context switches, CPU ticks) of the supervisor's processes while nothing happens."""
    own = supervisor.own_processes()
    before = processes.activity(own)
    time.sleep(seconds)
    after = processes.activity(own)
    return after[0] - before[0], after[1] - before[1]


def rotation(names, round_number, count):
    """`count` of the names, others in each round."""
    at = round_number * count
    return [names[(at + i) % len(names)] for i in range(count)]


# ---- 100 services: memory, cold start, restart, idle ---------------------------------------------


class Steady:
    """What one supervisor showed with 100 services."""

    def __init__(self):
        self.cold, self.restart, self.pss = [], [], []
        self.restart_ready = []  # s6: of services that had said that they were ready
        self.idle = (None, None)
        self.processes = 0


def steady_round(site, supervisor, record, seen, number):
    seen.cold.append(start_cold(supervisor, record))
    time.sleep(SETTLE)
    own = supervisor.own_processes()
    seen.processes = len(own)
    seen.pss.append(processes.pss_bytes(own) / 1e6)
    if number == 0:
        seen.idle = watch_idle(supervisor, site.plan.idle)
    names = supervisor.layout
    if isinstance(supervisor, S6):
        names, ready = names[:len(names) // 2], names[len(names) // 2:]
        seen.restart_ready += kill_each(supervisor, record,
                                        rotation(ready, number, site.plan.kills // 2))
        seen.restart += kill_each(supervisor, record,
                                  rotation(names, number, site.plan.kills // 2))
    else:
        seen.restart += kill_each(supervisor, record, rotation(names, number, site.plan.kills))
    supervisor.stop()


def measure_steady(site):
    """name → Steady. The rounds of all supervisors alternate: the machine has other work too."""
    layout = [f"svc-{i:03}" for i in range(SERVICES)]
    found = {}
    with contextlib.ExitStack() as stack:
        prepared = []
        for kind in [Floor, Ours, OursLarge, *installed(PEERS)]:
            progress(f"{kind.name}: {SERVICES} services laid out")
            prepared.append(stack.enter_context(site.prepared(kind, "steady", layout)))
            found[kind.name] = Steady()
        for number in range(site.plan.rounds):
            for supervisor, record in prepared:
                progress(f"{supervisor.name}: {SERVICES} services, round {number + 1}")
                steady_round(site, supervisor, record, found[supervisor.name], number)
    return found


def steady_figures(site):
    found = measure_steady(site)
    ours, floor = found["ours"], found["floor"]
    large = found["ours, 1 MiB each"]
    peers = {k.name: found[k.name] for k in installed(PEERS)}
    restart = {name: median(seen.restart) for name, seen in peers.items()}
    if "s6" in peers:
        restart["s6, ready"] = median(peers["s6"].restart_ready)

    def of_peers(value):
        return {name: value(seen) for name, seen in peers.items()}
    cold = of_peers(lambda s: median(s.cold))
    floor_restart, floor_cold = median(floor.restart), median(floor.cold)
    return [
        Figure("restart after SIGKILL", "ms", median(ours.restart), floor_restart, restart,
               "1.5 x floor", times(floor_restart, 1.5), notes=[spread(ours.restart)]),
        Figure("PSS, 100 services", "MB", median(ours.pss), median(floor.pss),
               of_peers(lambda s: median(s.pss)), "4 MB", 4.0,
               notes=["processes: " + ", ".join(f"{n} {s.processes}" for n, s in found.items())]),
        Figure("100 services from cold", "ms", median(ours.cold), floor_cold, cold,
               "2 x floor", times(floor_cold, 2), notes=[spread(ours.cold)]),
        Figure("the same, 1 MiB each to check", "ms", median(large.cold), floor_cold, cold,
               notes=[spread(large.cold)]),
        Figure(f"idle switches in {site.plan.idle:.0f} s", "", ours.idle[0], floor.idle[0],
               of_peers(lambda s: s.idle[0]), "0", 0),
        Figure(f"idle CPU in {site.plan.idle:.0f} s", "ticks", ours.idle[1], floor.idle[1],
               of_peers(lambda s: s.idle[1]), "0", 0),
    ]


def spread(values):
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    return (f"ours over {len(ordered)}: least {ordered[0]:.2f}, 10% {low:.2f}, "
            f"90% {high:.2f}, most {ordered[-1]:.2f}")


# ---- a healthy service among those that crash ----------------------------------------------------


def crash_figures(site):
    healthy = [f"svc-{i:03}" for i in range(HEALTHY)]
    layout = healthy + [f"crash-{i:03}" for i in range(CRASHING)]
    found = {}
    for kind in [Floor, Ours, *installed(PEERS)]:
        progress(f"{kind.name}: {HEALTHY} healthy services beside {CRASHING} that crash")
        found[kind.name] = []
        with site.prepared(kind, "crash", layout) as (supervisor, record):
            for _ in range(site.plan.rounds):
                supervisor.start()
                wait_for(lambda s=supervisor, r=record: set(s.layout) <= r.latest().keys(), 30,
                         "the start of all")
                time.sleep(SETTLE)
                names = healthy[HEALTHY // 2:] if kind is S6 else healthy
                found[kind.name] += kill_each(supervisor, record, names)
                supervisor.stop()
    floor = median(found.pop("floor"))
    ours = found.pop("ours")
    return [Figure(f"restart beside {CRASHING} that crash", "ms", median(ours), floor,
                   {name: median(values) for name, values in found.items()}, "2 x floor",
                   times(floor, 2), notes=[spread(ours)])]


# ---- log capture ---------------------------------------------------------------------------------


def last_bytes(path, size=4096):
    with open(path, "rb") as f:
        end = f.seek(0, os.SEEK_END)
        f.seek(max(0, end - size))
        return f.read()


def capture_batch(supervisor, record, batch, lines):
    """→ lines a second, from the first write to the last line in the file."""
    mark = f"batch {batch:03} line {lines:09} ".encode()

    def written():
        try:
            # The newest rotated file too: the mark may have been the last line before a rotation.
            return any(mark in last_bytes(p) for p in supervisor.log_files("lines-0")[-2:])
        except FileNotFoundError:
            return False  # rotated a moment ago
    record.go(batch)
    wait_for(written, 120, f"{supervisor.name}: the last line", step=0.001)
    return lines / ((time.monotonic_ns() - record.writing_since(batch)) / 1e9)


def open_logs(supervisor):
    """All files of the writer's log, open; looked at anew while one of them is being compressed."""
    while True:
        files = []
        try:
            for path in supervisor.log_files("lines-0"):
                files.append((gzip.open if path.endswith(".gz") else open)(path, "rb"))
            return files
        except FileNotFoundError:
            for file in files:
                file.close()


def count_lines(supervisor, batches, lines):
    """Whole lines of the writer in all files; a capture that is fast by losing does not count."""
    found = 0
    for file in open_logs(supervisor):
        with file:
            found += sum(1 for line in file if b" line " in line and line.endswith(b"(bench)\n"))
    if found != batches * lines:
        raise RuntimeError(f"{supervisor.name}: {found} of {batches * lines} lines captured")


def measure_capture(site, kind):
    """→ (lines a second, nanoseconds of the supervisor's CPU time a line) of each batch."""
    plan = site.plan
    rates, ticks = [], []
    with site.prepared(kind, "logs", ["lines-0"], BENCH_LINES=str(plan.lines)) as (
            supervisor, record):
        record.all.clear()
        before = time.monotonic_ns()
        supervisor.start()
        wait_for(lambda: record.starts(after=before), 30, "the start of the writer")
        time.sleep(0.5)
        own = supervisor.own_processes()
        for batch in range(1, plan.batches + 1):
            used = processes.activity(own)[1]
            rates.append(capture_batch(supervisor, record, batch, plan.lines))
            ticks.append(processes.activity(own)[1] - used)
        count_lines(supervisor, plan.batches, plan.lines)
        supervisor.stop()
    tick = 1e9 / os.sysconf("SC_CLK_TCK")
    return median(rates), sum(ticks) * tick / (plan.batches * plan.lines)


def logs_figures(site):
    found = {}
    for kind in [Floor, Ours, *installed([Runit, RunitReadable, S6, S6Readable, Daemontools])]:
        progress(f"{kind.name}: captures {site.plan.batches} x {site.plan.lines} lines")
        found[kind.name] = measure_capture(site, kind)
    rates = {name: seen[0] / 1000 for name, seen in found.items()}
    costs = {name: seen[1] / 1000 for name, seen in found.items()}
    floor, ours = rates.pop("floor"), rates.pop("ours")
    floor_cost, ours_cost = costs.pop("floor"), costs.pop("ours")
    better = max((rates[n] for n in ("runit", "s6") if n in rates), default=None)
    return [
        Figure("log capture", "1000 lines/s", ours, floor, rates, "2 x the better",
               times(better, 2), more_is_better=True,
               notes=["the floor copies without time stamps and never rotates",
                      "runit and s6 stamp with TAI64N, -tt and T with a date and time"]),
        Figure("log capture, CPU a line", "us", ours_cost, floor_cost, costs),
    ]


# ---- all -----------------------------------------------------------------------------------------


PARTS = {"steady": steady_figures, "crash": crash_figures, "logs": logs_figures}


def measured(part, measure, site):
    """One part's figures; one that fails takes no other with it."""
    try:
        return measure(site)
    except Exception as error:
        traceback.print_exc()
        processes.end_all()
        return [Figure(part, "", None, notes=[f"not measured: {error}"])]


def run(options):
    if os.geteuid() != 0:
        raise PermissionError("the supervisor bench runs as root: some of the others need it")
    unknown = [p for p in options.only if p not in PARTS]
    if unknown:
        raise ValueError(f"no part is called {unknown[0]}; there are: {', '.join(PARTS)}")
    processes.become_subreaper()
    site = Site(options)
    figures = []
    try:
        for part, measure in PARTS.items():
            if options.wants(part):
                figures += measured(part, measure, site)
    finally:
        processes.end_all()
        site.remove()
    return figures
