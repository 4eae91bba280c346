"""Times this checkout beside another one of the same package, in turns.

    git worktree add ../before COMMIT
    python -m benchmarks.against ../before --workloads W1 W3 --rounds 8

Each checkout has a process of its own for each way (plain, XLA, one thread, reversible)
and workload; they take turns. A ratio is the time here by the time there in one round;
memory is the peak of a process above what it had once the flow was built.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from benchmarks.default_runs import machine
from benchmarks.speed import run
from benchmarks.speed.report import median, paired
from benchmarks.speed.workloads import CONTINUOUS, WORKLOADS

WAYS = ("tfp_flows", "tfp_flows_jit", "tfp_flows_one_thread", "tfp_flows_reversible")
WHATS = ("train", "log_prob", "sample")


def worker(root, way, workload):
    """Starts a worker in a checkout, whatever is installed."""
    with (
        patch.object(run, "ROOT", root),
        patch.dict(os.environ, {"PYTHONPATH": str(root)}),
    ):
        return run.Worker(sys.executable, way, workload)


def compared(other, way, workload, whats, rounds, seconds):
    """Yields one row for each thing that is timed, and one for memory."""
    here = Path(__file__).parents[1]
    sides = [worker(root, way, workload) for root in (here, other)]
    if any("unsupported" in side.facts for side in sides):
        return
    for side in sides:
        if "error" in side.facts:
            raise SystemExit(f"{way}, {workload}: {side.facts['error']}")
    for what in whats:
        for side in sides:
            side.ask(what=what, warm=True)
        times = [[], []]
        for k in range(rounds):
            for i in (0, 1) if k % 2 else (1, 0):
                times[i].append(sides[i].ask(what=what, seconds=seconds)["ms"])
        middle, low, high = paired(*times)
        yield [way, workload, what, *map(median, times), middle, low, high]
    for fact in ("first_step_s", "peak_above_built_mb"):
        mine, theirs = (side.facts[fact] for side in sides)
        yield [way, workload, fact, mine, theirs, mine / theirs, None, None]
    for side in sides:
        side.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("other", type=Path)
    parser.add_argument(
        "--workloads", nargs="+", default=list(WORKLOADS) + list(CONTINUOUS)
    )
    parser.add_argument("--ways", nargs="+", default=["tfp_flows", "tfp_flows_jit"])
    parser.add_argument("--whats", nargs="+", default=list(WHATS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    console = Console()
    rows = []
    for workload in given.workloads:
        for way in given.ways:
            for row in compared(
                given.other.resolve(),
                way,
                workload,
                given.whats,
                given.rounds,
                given.seconds,
            ):
                rows.append(row)
                console.print(*(f"{v:.3g}" if isinstance(v, float) else v for v in row))
                if given.out:
                    found = {"machine": machine(), "rows": rows}
                    given.out.write_text(json.dumps(found, indent=1) + "\n")
    table = Table("way", "workload", "what", "here", "there", "ratio", "quartiles")
    for way, workload, what, here, there, ratio, low, high in rows:
        spread = "" if low is None else f"{low:.2f} to {high:.2f}"
        numbers = f"{here:.4g}", f"{there:.4g}", f"{ratio:.2f}x", spread
        table.add_row(way, workload, what, *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
