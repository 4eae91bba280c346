"""Times this package against the other flow libraries that are installed.

    python -m benchmarks run
    python -m benchmarks run --workloads W1 W4 --rounds 3
    python -m benchmarks run --python peers/bin/python

Installs nothing: `pip install '.[bench]'` brings the peers, or `--python` names an
interpreter of another environment that has them. Times mean something only on a
machine that does nothing else.
"""

import argparse
import os
from pathlib import Path

from benchmarks.default_runs import machine
from benchmarks.speed import report
from benchmarks.speed.run import (
    default_names,
    default_pythons,
    default_workloads,
    run,
)

RESULTS = Path(__file__).parent / "results" / "speed.json"


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
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}); the times will be too long.")
    results = run(
        options.workloads,
        options.peers,
        [*default_pythons(), *options.python],
        options.rounds,
        options.seconds,
    )
    settings = {"rounds": options.rounds, "seconds": options.seconds, "load": load}
    report.write(results, machine(), settings, RESULTS)
    report.picture(results, RESULTS.with_suffix(".png"))
    print(f"Measured on {machine()}; load before the run {load:.1f}.\n")
    print(report.table(results))


if __name__ == "__main__":
    main()
