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
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.laws import exact_ode
from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.testing.catalogue import TABLE, Row, built

RESULTS = Path(__file__).parents[1] / "results" / "laws.json"
# Enough that a rare bad input would show.
BATCH = (64,)
# An adaptive solver may come back to within this many of its tolerances.
ROUND_TRIP_FACTOR = 10
CONTINUOUS = {
    "continuous_rk4": Row(
        lambda net: tfpf.ContinuousFlow(
            tfpf.nets.VelocityNet((8,)), (4,), solver=tfpf.FixedStep("rk4", 40)
        )
    ),
}
ROWS = TABLE | CONTINUOUS
LOG_DETS = ("forward log-det", "inverse log-det")
GRADIENTS = ("forward gradients", "inverse gradients")
CALLS = ("forward network calls", "inverse network calls")
MODES = ("graph", "XLA", "unknown batch size")
FILES = ("save and load", "export and load")


def net():
    """A small smooth conditioner."""
    return tfpf.nets.MLP((8,), activation="tanh")


def in_float(floatx):
    """Makes a float type Keras's own."""
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)


def float32_round_trip(row):
    """Returns the largest `|f^-1(f(x)) - x| / (1 + |x|)` in float32."""
    in_float("float32")
    bijector = built(row, net)
    x, *condition = row.inputs(BATCH)
    keywords = condition_kwargs(bijector, *condition) if condition else {}

    @tf.function(autograph=False)
    def there_and_back(x):
        y = bijector.forward(x, **keywords)
        return bijector.inverse(tf.identity(y), **keywords)

    x = x.numpy()
    return float(np.max(np.abs(there_and_back(x) - x) / (1 + np.abs(x))))


def checked(row):
    """Returns what `check_bijector` finds of one row, and its weights."""
    in_float("float64")
    bijector = built(row, net)
    x, condition = (*row.inputs(BATCH), None)[:2]
    report = tfpf.check_bijector(bijector, x, condition=condition)
    return {
        "bijector": type(bijector).__name__,
        "weights": len(bijector.trainable_variables),
        "ok": report.ok,
        "checks": {
            each.name: {
                "value": each.value,
                "tolerance": each.tolerance,
                "ok": each.ok,
                "sentence": each.sentence,
            }
            for each in report.rows
        },
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


def kept(found, names):
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
        "weights reached",
        "calls of a network",
        "graph, XLA",
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
            f"{one['weights'] - int(unreached)} of {one['weights']}",
            calls(one),
            kept(one, MODES),
            kept(one, FILES),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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
    """Returns a sentence for each law that does not hold."""
    sentences = [
        f"{name}, {check}: {what['sentence']}"
        for name, one in found.items()
        for check, what in one["checks"].items()
        if what["ok"] is False
    ]
    return sentences + [
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
    in_float("float64")
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
