#!/usr/bin/env python3
"""The benches: `./dev bench [NAME...]`, or `python3 bench/run.py --build build/release [NAME...]`.

A bench is a directory here with a bench.py that has NAME, ABOUT, PACKAGES (of Debian, optional
ones to compare with) and run(options) → list of Figure. Exit: 0 all measured, and with --strict
every target met; 1 a target missed or a bench failed; 64 usage.
"""

import argparse
import importlib
import os
import shlex
import sys
import traceback
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import figures  # noqa: E402
import packages  # noqa: E402


def names():
    return sorted(n for n in os.listdir(HERE) if os.path.exists(os.path.join(HERE, n, "bench.py")))


def load(name):
    """bench/NAME/bench.py, whose neighbours it imports as `from . import …`."""
    package = types.ModuleType(f"bench_{name}")
    package.__path__ = [os.path.join(HERE, name)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"bench_{name}.bench")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Runs the benches.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "build", "release"))
    parser.add_argument("--list", action="store_true", help="name the benches and end")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--only", default="", metavar="PART,...", help="parts of a bench")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--strict", action="store_true", help="a missed target is a failure")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    parsed = parser.parse_args(arguments)
    unknown = [n for n in parsed.names if n not in names()]
    if unknown:
        print(f"bench: no bench is called {unknown[0]}; there are: {' '.join(names())}",
              file=sys.stderr)
        sys.exit(64)
    return parsed


def repeat_command(arguments):
    return shlex.join(["python3", "bench/run.py", *arguments])


def run_one(bench, options, arguments):
    """→ its figures, or None when it failed."""
    print(f"\n== {bench.NAME}: {bench.ABOUT}", flush=True)
    packages.need(bench.PACKAGES)
    before = os.getloadavg()[0]
    try:
        measured = bench.run(options)
    except Exception:  # the other benches still run
        traceback.print_exc()
        return None
    print()
    figures.print_figures(measured)
    print(f"\n  machine: {os.cpu_count()} processors, load {before:.1f} before and "
          f"{os.getloadavg()[0]:.1f} after; Linux {os.uname().release}")
    print(f"  again: {repeat_command(arguments)}", flush=True)
    return measured


def main(arguments):
    parsed = parse(arguments)
    if parsed.list:
        for name in names():
            print(f"{name:12} {load(name).ABOUT}")
        return 0
    options = figures.Options(os.path.abspath(parsed.build), parsed.quick,
                              tuple(filter(None, parsed.only.split(","))), parsed.keep)
    done = {}
    for name in parsed.names or names():
        done[name] = run_one(load(name), options, arguments)
    if parsed.json:
        with open(parsed.json, "w", encoding="utf-8") as f:
            f.write(figures.as_json({n: m for n, m in done.items() if m is not None}) + "\n")
    failed = any(m is None or any(f.ours is None for f in m) for m in done.values())
    missed = any(f.met is False for m in done.values() if m for f in m)
    return 1 if failed or (missed and parsed.strict) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
