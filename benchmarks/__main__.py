"""Times this package against the other flow libraries that are installed.

    python -m benchmarks run
    python -m benchmarks run --workloads W1 W4 --rounds 3
    python -m benchmarks run --python peers/bin/python
    python -m benchmarks depth --python peers/bin/python
    python -m benchmarks continuous
    python -m benchmarks profile
    python -m benchmarks show

Installs nothing: `pip install '.[bench]'` brings the peers, or `--python` names an
interpreter of another environment that has them. Times mean something only on a
machine that does nothing else.
"""

import argparse
import json
import os
from pathlib import Path

from benchmarks.default_runs import machine
from benchmarks.speed import depth, profile, report
from benchmarks.speed.run import default_names, default_pythons, default_workloads, run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, dest="verb")
    verb = verbs.add_parser("run", help="time everything")
    verb.add_argument("--workloads", nargs="+", default=default_workloads())
    verb.add_argument("--peers", nargs="+", default=default_names())
    verb.add_argument("--python", action="append", default=[], help="look here too")
    verb.add_argument("--rounds", type=int, default=7)
    verb.add_argument("--seconds", type=float, default=1.0, help="each time")
    verb.set_defaults(do=run_all)
    verb = verbs.add_parser("depth", help="memory and start-up by number of steps")
    verb.add_argument("--peers", nargs="+", default=depth.NAMES)
    verb.add_argument("--python", action="append", default=[], help="look here too")
    verb.set_defaults(do=run_depths)
    verb = verbs.add_parser("profile", help="where the time of a step goes")
    verb.add_argument("--workloads", nargs="+", default=default_workloads())
    verb.set_defaults(do=run_profile)
    verb = verbs.add_parser("show", help="print and draw what was measured")
    verb.set_defaults(do=show)
    verb = verbs.add_parser("continuous", help="a continuous flow by two solvers (W5)")
    verb.add_argument("--training-steps", type=int, default=1500)
    verb.add_argument("--solver-steps", type=int, default=10)
    verb.add_argument("--rounds", type=int, default=15)
    verb.set_defaults(do=run_continuous)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}); the times will be too long.")
    options.do(options, load)


def run_all(options: argparse.Namespace, load: float) -> None:
    """Times every library on every workload."""
    settings = {"rounds": options.rounds, "seconds": options.seconds, "load": load}

    def keep(results: dict) -> None:
        report.write(results, machine(), settings, RESULTS / "speed.json")

    results = run(
        options.workloads,
        options.peers,
        [*default_pythons(), *options.python],
        options.rounds,
        options.seconds,
        keep=keep,
    )
    print(f"Measured on {machine()}; load before the run {load:.1f}.\n")
    print(report.table(results))


def run_depths(options: argparse.Namespace, load: float) -> None:
    """Measures how memory and start-up grow with the number of steps."""
    where = f"{machine()}; load {load:.1f}"

    def keep(rows: list) -> list:
        return depth.write(rows, where, RESULTS / "depth.json")

    pythons = [*default_pythons(), *options.python]
    rows = keep(depth.depth(pythons, tuple(options.peers), keep=keep))
    depth.picture(rows, RESULTS / "depth.png")
    print(f"Measured on {machine()}; load before the run {load:.1f}.\n")
    print(depth.table(rows))


def run_profile(options: argparse.Namespace, load: float) -> None:
    """Divides the time of a step among its parts."""

    def keep(found: dict) -> None:
        document = {"machine": machine(), "load": load, "workloads": found}
        (RESULTS / "profile.json").write_text(json.dumps(document, indent=1) + "\n")

    found = profile.profile(options.workloads, keep)
    print(f"Measured on {machine()}; load before the run {load:.1f}.\n")
    print(profile.table(found))


def show(_options: argparse.Namespace, _load: float) -> None:
    """Prints the tables of the results that are kept, and draws them."""
    kept = json.loads((RESULTS / "speed.json").read_text())
    rows = {workload: kept[workload]["rows"] for workload in sorted(kept)}
    report.picture(rows, RESULTS / "speed.png")
    for workload in sorted(kept):
        print(f"{workload}, measured on {kept[workload]['machine']}.\n")
        print(report.table({workload: kept[workload]["rows"]}))
        print()


def run_continuous(options: argparse.Namespace, load: float) -> None:
    """Trains and times continuous flows with fixed and with adaptive steps."""
    from benchmarks.speed import continuous

    rows = continuous.compare(
        options.training_steps, options.rounds, options.solver_steps
    )
    continuous.write(rows, f"{machine()}; load {load:.1f}", RESULTS / "continuous.json")
    print(f"Measured on {machine()}; load before the run {load:.1f}.\n")
    print(continuous.table(rows))


if __name__ == "__main__":
    main()
