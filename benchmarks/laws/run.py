"""By how much each bijector misses the laws of change of variables.

    python -m benchmarks.laws.run                 # all of them, about five minutes
    python -m benchmarks.laws.run spline maf      # rows of the catalogue

Every bijector of `tfp_flows.testing.catalogue`, its weights moved off their start,
goes through `tfpf.check_bijector` in float64, and once there and back in float32. The
continuous flow is compared with SciPy's solution of its equation as well. Prints
Markdown, and keeps the figures of a whole run in `benchmarks/results/laws.json`. Ends
with an error if a law does not hold.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import tensorflow as tf
from rich.progress import track

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.laws import exact_ode
from tfp_flows.testing import laws
from tfp_flows.testing.catalogue import TABLE, Row
from tfp_flows.testing.subject import float_type

RESULTS = Path(__file__).parents[1] / "results" / "laws.json"
# Enough that a rare bad input would show.
BATCH = 64
# An adaptive solver may come back to within this many of its tolerances.
ROUND_TRIP_FACTOR = 10
CONTINUOUS = Row(
    lambda: tfpf.ContinuousFlow(
        tfpf.nets.VelocityNet((8,)), (4,), solver=tfpf.FixedStep("rk4", 40)
    )
)
ROWS = TABLE | {"continuous_rk4": CONTINUOUS}
LOG_DETS = ("forward log-det", "inverse log-det")
GRADIENTS = ("forward gradients", "inverse gradients")
CURVATURES = ("forward curvature", "inverse curvature")
CALLS = ("forward network calls", "inverse network calls")
MODES = ("graph", "XLA", "unknown batch size", "vectorized")
FILES = ("save and load", "export and load")


def float32_round_trip(row):
    """Returns the largest `|f^-1(f(x)) - x| / (1 + |x|)` in float32."""
    with float_type("float32"):
        return laws.LAWS["round trip of x"](row.subject(BATCH), None).value


def checked(row):
    """Returns what `check_bijector` finds of one row, and its weights."""
    with float_type("float64"):
        subject = row.subject(BATCH)
        bijector, condition = subject.bijector, subject.condition
        report = tfpf.check_bijector(bijector, subject.x, condition=condition)
    checks = map(dataclasses.asdict, report.rows)
    return {
        "bijector": type(bijector).__name__,
        "weights": len(bijector.trainable_variables),
        "ok": report.ok,
        "checks": {check.pop("name"): check for check in checks},
    }


def measured(names):
    """Measures rows of the catalogue.

    Returns:
        A dictionary for each name.
    """
    return {
        name: checked(ROWS[name]) | {"float32": float32_round_trip(ROWS[name])}
        for name in track(names, "laws")
    }


def of(found, names):
    """Returns those of some checks that were made."""
    return [found["checks"][name] for name in names if name in found["checks"]]


def worst(found, names):
    """Returns the largest of some figures as text; a dash where there is none."""
    values = [check["value"] for check in of(found, names)]
    values = [value for value in values if value is not None]
    return number(max(values)) if values else "–"


def number(value):
    """Writes an error: exact ones as 0."""
    return "0" if value == 0 else f"{value:.0e}"


def verdict(found, names):
    """Says whether some checks passed; a dash where none applies."""
    verdicts = [check["ok"] for check in of(found, names)]
    if False in verdicts:
        return "**NO**"
    return "yes" if True in verdicts else "–"


def table(found):
    """Formats the laws of all rows as Markdown."""
    head = (
        "bijector",
        "`inverse(forward(x))`",
        "`forward(inverse(y))`",
        "the first in float32",
        "log-dets",
        "second derivatives",
        "weights reached",
        "calls of a network",
        "graph, XLA, vectorized",
        "`.keras`, SavedModel",
    )
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for name, one in found.items():
        unreached = max(check["value"] or 0 for check in of(one, GRADIENTS))
        cells = (
            name,
            worst(one, ["round trip of x"]),
            worst(one, ["round trip of y"]),
            number(one["float32"]),
            worst(one, LOG_DETS),
            curvatures(one),
            f"{one['weights'] - int(unreached)} of {one['weights']}",
            calls(one),
            verdict(one, MODES),
            verdict(one, FILES),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def curvatures(found):
    """Says in which directions there are second derivatives, if they are right."""
    right = {name: found["checks"][name]["ok"] for name in CURVATURES}
    if False in right.values():
        return "**NO**"
    return ", ".join(name.split()[0] for name, ok in right.items() if ok) or "–"


def calls(found):
    """How often each direction calls the network, forward and inverse."""
    values = [check["value"] for check in of(found, CALLS)]
    return " / ".join("–" if value is None else f"{value:g}" for value in values)


def solver_table(rows):
    """Formats the errors of the continuous flows' solvers as Markdown."""
    lines = [
        "| flow | solver | there and back, rms | in tolerances | largest | forward "
        "| log-det |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rms, tolerance = row["round_trip_rms"], row["tolerance"]
        cells = (
            row["flow"],
            row["solver"],
            number(rms),
            f"{rms / tolerance:.1f}" if tolerance else "–",
            *(number(row[key]) for key in ("round_trip", "forward", "log_det")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def broken(found, solvers):
    """Returns a message for each law that does not hold."""
    messages = [
        f"{name}, {check}: {what['message']}"
        for name, one in found.items()
        for check, what in one["checks"].items()
        if what["ok"] is False
    ]
    return messages + [
        f"{row['flow']}, {row['solver']}: off by {row['round_trip_rms']:.1e}"
        for row in solvers
        if row["tolerance"]
        and row["round_trip_rms"] > ROUND_TRIP_FACTOR * row["tolerance"]
    ]


def main():
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.laws.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="row")
    names = parser.parse_args().names or list(ROWS)
    unknown = sorted(set(names) - set(ROWS))
    if unknown:
        known = ", ".join(ROWS)
        parser.error(f"no row is called {', '.join(unknown)}; there are {known}")
    # So many small graphs are no mistake.
    tf.get_logger().setLevel("ERROR")
    found = measured(names)
    with float_type("float64"):
        solvers = exact_ode.measured()
    document = {"machine": machine(), "laws": found, "solvers": solvers}
    if names == list(ROWS):
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(f"Measured on {machine()}.\n\n{table(found)}\n\n{solver_table(solvers)}")
    wrong = broken(found, solvers)
    if wrong:
        sys.exit("\n".join(["These laws do not hold:", *wrong]))


if __name__ == "__main__":
    main()
