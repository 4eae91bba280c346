"""Times calls of few rows, thousands of them, and looks whether memory stays flat.

    python -m benchmarks.small_calls
    python -m benchmarks.small_calls --python peers/bin/python --rounds 5

Two flows of W1's size score 1, 8 and 64 rows in every way that this package has, and
by TFP's own classes; libraries on PyTorch run in processes of their own, if `--python`
names an interpreter that has them. The ways take turns, and ratios to the bare compiled
call are taken within a round. Then each is called `--calls` times more, eager ones a
fiftieth of that, with 1 to 64 rows in turn: memory before and after, and how often
Python traced a step.
"""

import argparse
import contextlib
import dataclasses
import gc
import json
import random
import statistics
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.speed.adapters import tfp_flows as ours
from benchmarks.speed.peers import installed
from benchmarks.speed.run import Worker, default_pythons
from benchmarks.speed.worker import milliseconds, resident_mb
from benchmarks.speed.workloads import SMALL, SMALL_ROWS

RESULTS = Path(__file__).parent / "results" / "small_calls.json"
BARE = "tf.function(flow.log_prob)"
EAGER = ("flow.log_prob", "TFP, eager")
PEERS = ("zuko", "normflows", "nflows")


def function(body, width):
    """Compiles a function of any number of rows."""
    return tf.function(
        body, input_signature=[tf.TensorSpec([None, width])], autograph=False
    )


def ways_of(w, folder):
    """Returns functions of rows by name, and what counts their traces."""
    keras.utils.set_random_seed(0)
    model = tfpf.FlowModel(ours.flow(w))
    flow, traces = model.distribution, []
    step = model.predict_step
    model.predict_step = lambda data: (traces.append(1), step(data))[1]
    bare = function(flow.log_prob, w.features)
    path = tfpf.export_saved_model(model, folder, warmup=False)
    served = tf.saved_model.load(path).signatures["log_prob"]
    ways = {
        BARE: lambda x: bare(tf.constant(x)).numpy(),
        "model.log_prob": lambda x: model.log_prob(x).numpy(),
        "model.predict": lambda x: model.predict(x, verbose=0),
        "model.predict_on_batch": model.predict_on_batch,
        "served log_prob": lambda x: served(x=tf.constant(x))["log_prob"].numpy(),
        "flow.log_prob": lambda x: flow.log_prob(x).numpy(),
    }
    with contextlib.suppress(ImportError):
        from benchmarks.speed.adapters import tfp

        theirs = tfp.vectors(w)[0]
        compiled = function(theirs.log_prob, w.features)
        ways["TFP, tf.function"] = lambda x: compiled(tf.constant(x)).numpy()
        ways["TFP, eager"] = lambda x: theirs.log_prob(x).numpy()
    counts = {
        BARE: bare.experimental_get_tracing_count,
        "model.log_prob": lambda: len(traces),
        "model.predict": lambda: len(traces),
        "model.predict_on_batch": lambda: len(traces),
    }
    return ways, counts


def timed(ways, workers, rows, rounds, seconds):
    """Returns milliseconds by rows and way, a number for each round."""
    times = {n: {name: [] for name in (*ways, *workers)} for n in rows}
    order = random.Random(0)
    for n in rows:
        x = np.random.default_rng(0).normal(size=(n, 2)).astype("float32")
        calls = {name: lambda way=way: way(x) for name, way in ways.items()}  # noqa: B023
        names = [*calls, *workers]
        for name in names:
            ask(calls, workers, name, n, 0.0)
        for _ in range(rounds):
            order.shuffle(names)
            for name in names:
                times[n][name].append(ask(calls, workers, name, n, seconds))
    return times


def ask(calls, workers, name, n, seconds):
    if name in calls:
        return milliseconds(calls[name], seconds)
    return workers[name][n].ask(what="log_prob", seconds=seconds).get("ms")


def kept(way, calls):
    """Returns the memory, in MB, before and after calls of 1 to 64 rows."""
    x = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
    for n in range(1, 65, 9):
        way(x[:n])
    gc.collect()
    before = resident_mb()
    for index in range(calls):
        way(x[: 1 + index % 64])
    gc.collect()
    return before, resident_mb()


def measure(kind, options, found):
    """Returns the rows of one flow's table."""
    w = SMALL[f"{kind}-1"]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ways, counts = ways_of(w, folder)
        workers = {}
        for peer in found:
            if peer in PEERS:
                each = {n: Worker(found[peer], peer, f"{kind}-{n}") for n in SMALL_ROWS}
                for worker in each.values():
                    stack.callback(worker.close)
                if all("parameters" in worker.facts for worker in each.values()):
                    workers[peer] = each
        times = timed(ways, workers, SMALL_ROWS, options.rounds, options.seconds)
        rows = {}
        for name in (*ways, *workers):
            ms, ratios = {}, {}
            for n in SMALL_ROWS:
                pairs = zip(times[n][name], times[n][BARE], strict=True)
                ms[n] = statistics.median(times[n][name])
                ratios[n] = statistics.median(mine / bare for mine, bare in pairs)
            rows[name] = {"ms": ms, "of_bare": ratios}
            if name in ways:
                calls = options.calls // 50 if name in EAGER else options.calls
                before, after = kept(ways[name], calls)
                memory = {"calls": calls, "before_mb": before, "after_mb": after}
                count = counts.get(name)
                rows[name] |= memory | {"traces": count and count()}
    return rows


def table(results):
    """Formats the results as Markdown."""
    head = "".join(f" {n} rows (ms) | of the bare call |" for n in SMALL_ROWS)
    lines = [
        f"| flow | call |{head} MB more after calls | traces |",
        "|---|---|" + "---:|" * (2 * len(SMALL_ROWS) + 2),
    ]
    for kind, found in results.items():
        for name, row in found["ways"].items():
            cells = []
            for n in SMALL_ROWS:
                ms, ratio = (row[key].get(n, row[key].get(str(n))) for key in KEYS)
                cells.append(f" {ms:.2f} | {ratio:.1f}x |")
            more = "-"
            if "calls" in row:
                grown = row["after_mb"] - row["before_mb"]
                more = f"{grown:+.1f} ({row['calls']:,})"
            traces = row.get("traces")
            traces = "-" if traces is None else traces
            lines.append(f"| {kind} | {name} |{''.join(cells)} {more} | {traces} |")
    return "\n".join(lines)


KEYS = ("ms", "of_bare")


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small_calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = sorted({name.split("-")[0] for name in SMALL})
    parser.add_argument("--flows", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--python", action="append", default=[], help="look here too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="each time")
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = installed([*default_pythons(), *options.python])
    for kind in options.flows:
        results[kind] = {
            "machine": machine(),
            "rounds": options.rounds,
            "workload": dataclasses.asdict(SMALL[f"{kind}-1"]),
            "ways": measure(kind, options, found),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(table({kind: results[kind]}), flush=True)
    print(f"\nMeasured on {machine()}.")


if __name__ == "__main__":
    main()
