"""Times whole steps with each of the package's speed mechanisms and without it.

    python -m benchmarks.mechanisms
    python -m benchmarks.mechanisms map_batches --workloads W1 W4 --rounds 20
    python -m benchmarks.mechanisms fit shards

| group | with | without |
|---|---|---|
| `map_batches` | scores and samples by `tfpf.map_batches` | the whole batch at once |
| `fit` | an epoch of `FlowModel.fit` on arrays | the same on a `tf.data` pipeline |
| `shards` | `fit` with `compile(shards=2)`, one thread an operation | one shard |

The two sides take turns in one process, in an order that changes from round to round;
`shards`, which needs a setting of the process, takes turns in processes that wait for
each other. A ratio is the time with the mechanism by the time without it, the median
over rounds; "nothing" compares two equal sides, for the noise. Rows are added to
`benchmarks/results/mechanisms.json`, which also holds the last ones of mechanisms that
are gone.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.speed.adapters import tfp_flows as adapter
from benchmarks.speed.report import median, paired
from benchmarks.speed.workloads import LEARNING_RATE, WORKLOADS
from tfp_flows.cli import recipes

RESULTS = Path(__file__).parent / "results" / "mechanisms.json"
SLICE = 0.15  # seconds a side has in each round, at least one call
NAMES = ("W1", "W2", "W4", "digits")


def sliced(call):
    """Returns the mean milliseconds of the calls that fit into a side's turn."""
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < SLICE:
        call()
        calls += 1
    return 1e3 * (time.perf_counter() - start) / calls


def in_turns(sides, rounds):
    """Returns the times of each side, a list of one for each round."""
    times = {name: [] for name in sides}
    names = list(sides)
    for k in range(-1, rounds):  # the first round warms up
        for name in names[k % len(names) :] + names[: k % len(names)]:
            times[name].append(sides[name]())
    return {name: values[1:] for name, values in times.items()}


def row(mechanism, workload, what, mode, ours, theirs, **more):
    """Returns what is written down of two sides."""
    middle, low, high = paired(ours, theirs)
    return {
        "mechanism": mechanism,
        "workload": workload,
        "what": what,
        "mode": mode,
        "with_ms": median(ours),
        "without_ms": median(theirs),
        "ratio": middle,
        "quartiles": [low, high],
        **more,
    }


def traced(name, what, jit, whole):
    """Returns a call that was built, traced and warmed up."""
    without = patch.object(tfpf, "map_batches", lambda function: function)
    with without if whole else contextlib.nullcontext():
        call = getattr(adapter.build(WORKLOADS[name], jit=jit), what)
        call(), call()
    return call


def map_batches(rounds, workloads):
    """Yields scores and samples of 10,000 rows, 2,048 at a time and all at once."""
    for name in ("W1", "W2", "W4"):
        if name not in workloads:
            continue
        for jit in (False, True):
            for what in ("log_prob", "sample"):
                calls = {
                    "with": traced(name, what, jit, whole=False),
                    "nothing": traced(name, what, jit, whole=False),
                    "map_batches": traced(name, what, jit, whole=True),
                }
                sides = {m: lambda call=call: sliced(call) for m, call in calls.items()}
                times = in_turns(sides, rounds)
                for m in ("nothing", "map_batches"):
                    mode = "XLA" if jit else "plain"
                    yield row(m, name, what, mode, times["with"], times[m])


class EpochTimes(keras.callbacks.Callback):
    """Notes the seconds of epochs, and those until their first batch."""

    def __init__(self):
        super().__init__()
        self.waits, self.epochs = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.start, self.first = time.perf_counter(), None

    def on_train_batch_begin(self, batch, logs=None):
        self.first = self.first or time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:  # the first epoch of a call makes its dataset
            self.waits.append(self.first - self.start)
            self.epochs.append(time.perf_counter() - self.start)


def fit(rounds, workloads):
    """Yields epochs of `fit` on arrays, beside a pipeline as one writes it."""
    for name in ("W1", "digits", "W2"):
        if name not in workloads:
            continue
        model, x, size = digits() if name == "digits" else noise(WORKLOADS[name])
        pipeline = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x))
        sides = {
            "ours": {"x": x, "batch_size": size},
            "tf.data": {"x": pipeline.batch(size).prefetch(tf.data.AUTOTUNE)},
        }
        notes = {side: EpochTimes() for side in sides}

        def call(side, model=model, sides=sides, notes=notes):
            before = len(notes[side].epochs)
            model.fit(epochs=4, verbose=0, callbacks=[notes[side]], **sides[side])
            return 1e3 * float(np.mean(notes[side].epochs[before:]))

        turns = {side: lambda side=side, call=call: call(side) for side in sides}
        times = in_turns(turns, rounds)
        waits = {f"longest_wait_s_{s}": max(n.waits) for s, n in notes.items()}
        mode = "XLA" if model.jit_compile else "plain"
        found = times["ours"], times["tf.data"]
        yield row("fit", name, "an epoch, beside tf.data", mode, *found, **waits)


def noise(w):
    """Returns a model of a workload, 100 batches of noise, and their size."""
    keras.utils.set_random_seed(0)
    rng, size = np.random.default_rng(0), w.train_batch
    x = rng.normal(size=(100 * size, *w.event_shape)).astype("float32")
    model = tfpf.FlowModel(adapter.flow(w))
    model.compile(tfpf.optimizer(LEARNING_RATE))
    return model, x, size


def digits():
    """Returns what `tfp-flows train --data digits` trains, its data, and their size."""
    data = tfpf.data.load("digits")
    recipe = recipes.choose(data, None, "small", {}, {})
    keras.utils.set_random_seed(0)
    data = dataclasses.replace(data, batch_size=recipe.batch_size)
    images = np.concatenate(list(data.train))
    return recipes.compiled(recipe, data), images, data.batch_size


def shards(rounds, workloads):
    """Yields two shards beside one, one thread an operation, ten steps a call.

    The third side is TensorFlow's own threads, which need no mechanism.
    """
    for name in ("W1", "W2", "W4"):
        if name not in workloads:
            continue
        own = {"name": name, "one_thread": False, "shards": 1}
        one = own | {"one_thread": True}
        times = processes({"own": own, "one": one, "two": one | {"shards": 2}}, rounds)
        times = {k: [t / 100 for t in v] for k, v in times.items()}  # steps a fit
        mode, two = "plain, one thread", times["two"]
        yield row("shards", name, "fit, beside one shard", mode, two, times["one"])
        yield row("shards", name, "fit, beside own threads", mode, two, times["own"])


def processes(settings, rounds):
    """Returns the times of workers, each with a name and settings, in turns."""
    command = [sys.executable, "-m", "benchmarks.mechanisms", "--worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {
        name: subprocess.Popen([*command, json.dumps(setting)], **pipes)
        for name, setting in settings.items()
    }

    def ask(worker):
        worker.stdin.write("\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    for worker in workers.values():
        worker.stdout.readline()  # it is ready
    times = in_turns({n: lambda w=w: ask(w) for n, w in workers.items()}, rounds)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return times


def work(name, one_thread, shards):
    """Times 100 steps of `fit`, or as many as fill a turn, for every line of input."""
    if one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    steps = adapter.build(WORKLOADS[name], shards=shards)
    steps.fit(20)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(sliced(lambda: steps.fit(100)), flush=True)


GROUPS = {"map_batches": map_batches, "fit": fit, "shards": shards}


def main():
    """Measures, prints and writes down, row by row, in place of older such rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mechanisms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--workloads", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(**json.loads(options.worker))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print(
        "| mechanism | workload | what | mode | with, ms | without, ms | ratio "
        "| quartiles |\n|---|---|---|---|---:|---:|---:|---|"
    )
    for group in options.groups or GROUPS:
        for found in GROUPS[group](options.rounds, options.workloads):
            low, high = found["quartiles"]
            words = [found[k] for k in ("mechanism", "workload", "what", "mode")]
            print(
                f"| {' | '.join(words)} | {found['with_ms']:.2f} "
                f"| {found['without_ms']:.2f} | {found['ratio']:.3f} "
                f"| {low:.2f} to {high:.2f} |",
                flush=True,
            )
            about = {"rounds": options.rounds, "load": os.getloadavg()[0]}
            about["machine"] = machine()
            results[", ".join(words)] = found | about
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nMeasured on {machine()}.")


if __name__ == "__main__":
    main()
