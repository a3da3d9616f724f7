"""What a bench gives back, and how it is printed."""

import dataclasses
import json
import statistics


@dataclasses.dataclass
class Options:
    """What run.py was asked for."""

    build: str  # build directory, with clusterctl and clusterctl-shim
    quick: bool = False  # fewer repetitions, shorter windows: to see that it works
    only: tuple = ()  # parts of a bench by name; empty: all
    keep: bool = False  # leave the temporary directory

    def wants(self, part):
        return not self.only or part in self.only


@dataclasses.dataclass
class Figure:
    """One line of a bench's table. `limit` is what ours may be at most (at least, where more is
    better); None: shown only."""

    name: str
    unit: str
    ours: float | None
    floor: float | None = None
    peers: dict = dataclasses.field(default_factory=dict)  # name → value
    target: str = ""
    limit: float | None = None
    more_is_better: bool = False
    notes: list = dataclasses.field(default_factory=list)

    @property
    def met(self):
        if self.limit is None or self.ours is None:
            return None
        return self.ours >= self.limit if self.more_is_better else self.ours <= self.limit

    def best_peer(self):
        """→ (name, value), or None without peers."""
        known = [(n, v) for n, v in self.peers.items() if v is not None]
        pick = max if self.more_is_better else min
        return pick(known, key=lambda p: p[1]) if known else None


def median(values):
    return statistics.median(values) if values else None


def times(value, factor):
    """`factor` × value, or None when the value is not known."""
    return None if value is None else factor * value


def number(value):
    """Three digits that count."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(value, base):
    return "-" if value is None or not base else f"{number(value / base)}x"


def print_table(rows):
    """The first row is the head; the first column is words, the others are numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for at, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells).rstrip())
        if at == 0:
            print("  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))


def print_figures(figures):
    """Two tables: what was measured, and how ours compares."""
    peers = list(dict.fromkeys(name for f in figures for name in f.peers))
    print_table([["measured", "unit", "ours", "floor", *peers]] + [
        [f.name, f.unit, number(f.ours), number(f.floor),
         *(number(f.peers.get(name)) for name in peers)] for f in figures])
    print()
    print_table([["compared", "x floor", "best peer", "x peer", "limit", "met", "target"]] + [
        verdict(f) for f in figures])
    for figure in figures:
        for note in figure.notes:
            print(f"  {figure.name}: {note}")


def verdict(figure):
    name, value = figure.best_peer() or ("-", None)
    met = {True: "yes", False: "NO", None: "-"}[figure.met]
    return [figure.name, ratio(figure.ours, figure.floor), name, ratio(figure.ours, value),
            number(figure.limit), met, figure.target]


def as_json(benches):
    """benches: name → figures."""
    def plain(figure):
        return {**dataclasses.asdict(figure), "met": figure.met}
    return json.dumps({n: [plain(f) for f in figures] for n, figures in benches.items()}, indent=1)
