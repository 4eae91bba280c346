"""Times whole steps with each of the package's speed mechanisms and without it.

    python -m benchmarks.mechanisms
    python -m benchmarks.mechanisms steps --workloads W3 digits --rounds 20
    python -m benchmarks.mechanisms fit memory lanes

The two sides take turns in one process, in an order that changes from round to round;
those that differ in a setting of the process (`memory`, `lanes`) take turns in
processes that wait for each other. A ratio is the time with the mechanism by the time
without it, the median over rounds; "nothing" compares two equal sides, for the noise.
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
from benchmarks.speed.workloads import LEARNING_RATE, WORKLOADS, Workload
from tfp_flows.bijectors import paired as walks
from tfp_flows.cli import recipes, train
from tfp_flows.nets import zero_conv
from tfp_flows.nets.dense import Dense
from tfp_flows.training import model as flow_model

RESULTS = Path(__file__).parent / "results" / "mechanisms.json"
SLICE = 0.15  # seconds a side has in each round, at least one call
# What each mechanism is replaced by while a side is built and traced.
WITHOUT = {
    "nothing": contextlib.nullcontext(),
    "in_parts": patch.object(tfpf, "in_parts", lambda function: function),
    "Dense": patch.object(Dense, "_is_narrow", lambda self, inputs: False),
    "LinearPair": patch.object(walks, "paired_up", list),
    "FusedAdam": patch.object(tfpf, "optimizer", keras.optimizers.Adam),
    "narrow_conv": patch.object(zero_conv, "WIDEST", 0),
    "batches": patch.multiple(
        flow_model, for_fit=lambda *given: given, for_one_pass=lambda *given: given
    ),
}
ALL = {
    **WORKLOADS,
    "digits": Workload("digits", "glow", (8, 8, 1), 8, 64, 64, 256, levels=2),
    "vectors": Workload("vectors", "vector glow", (16,), 8, 128, 256, 2_000),
}
VECTORS = {
    "train": ("nothing", "Dense", "FusedAdam"),
    "log_prob": ("in_parts", "Dense"),
    "sample": ("in_parts", "Dense"),
}
IMAGES = {
    "train": ("nothing", "LinearPair", "narrow_conv", "FusedAdam"),
    "log_prob": ("LinearPair", "narrow_conv"),
    "sample": ("LinearPair", "narrow_conv"),
}
VECTOR_GLOW = {
    "train": ("nothing", "LinearPair", "Dense", "FusedAdam"),
    "log_prob": ("LinearPair",),
    "sample": ("LinearPair",),
}
CASES = (
    ("W1", False, VECTORS),
    ("W1", True, VECTORS),
    ("W3", False, IMAGES),
    ("digits", False, IMAGES),
    ("W2", False, VECTORS),
    ("W2", True, VECTORS),
    ("vectors", False, VECTOR_GLOW),
    ("W4", False, VECTORS),
    ("W4", True, VECTORS),
    ("vectors", True, {"train": VECTOR_GLOW["train"]}),
)


def flow(w, mode="auto"):
    """Returns a workload's flow; Glow of vectors is not among the adapter's."""
    if w.kind == "vector glow":
        units = (w.width, w.width)
        return tfpf.glow(w.event_shape, steps=w.layers, hidden_units=units, mode=mode)
    return adapter_flow(w, mode)


adapter_flow, adapter.flow = adapter.flow, flow


def traced(name, jit, what, without, **arguments):
    """Returns a call that was built, traced and warmed up without a mechanism."""
    with WITHOUT[without]:
        steps = adapter.build(ALL[name], jit=jit, **arguments)
        call = getattr(steps, what)
        if what == "fit":
            call(20)
            return lambda: steps.fit(100)
        call(), call()
    return call


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


def steps(rounds, workloads):
    """Yields the mechanisms inside a train step, a score or a sample."""
    for name, jit, whats in CASES:
        if name not in workloads:
            continue
        mode = "XLA" if jit else "plain"
        for what, mechanisms in whats.items():
            calls = {m: traced(name, jit, what, m) for m in mechanisms}
            calls["with"] = traced(name, jit, what, "nothing")
            sides = {m: lambda call=call: sliced(call) for m, call in calls.items()}
            times = in_turns(sides, rounds)
            for m in mechanisms:
                yield row(m, name, what, mode, times["with"], times[m])


class Passes(keras.callbacks.Callback):
    """Notes how long passes take, and how long they wait for their first batch."""

    def __init__(self):
        super().__init__()
        self.waits, self.passes = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.start, self.first = time.perf_counter(), None

    def on_train_batch_begin(self, batch, logs=None):
        self.first = self.first or time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:  # the first pass of a call makes its data set
            self.waits.append(self.first - self.start)
            self.passes.append(time.perf_counter() - self.start)


def fit(rounds, workloads):
    """Yields `fit` of arrays and of the command line's data, by other pipelines.

    Times are those of a pass. `keras` is Keras's own way with the same data; `tf.data`
    is the shortest pipeline without a tuner.
    """
    for name in ("W1", "digits", "W2"):
        if name not in workloads:
            continue
        if name == "digits":
            model, data = digits()
            x, size = np.concatenate(list(data.train)), data.batch_size
        else:
            w = WORKLOADS[name]
            keras.utils.set_random_seed(0)
            rng, size = np.random.default_rng(0), w.train_batch
            x = rng.normal(size=(100 * size, *w.event_shape)).astype("float32")
            model = tfpf.FlowModel(adapter.flow(w))
            model.compile(tfpf.optimizer(LEARNING_RATE))
        options = tf.data.Options()
        options.autotune.enabled = False
        short = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(size)
        short = short.prefetch(2).with_options(options)
        arrays = {"x": x, "batch_size": size}
        sides = {
            "ours": ("nothing", arrays),
            "keras": ("batches", arrays),
            "tf.data": ("batches", {"x": short}),
        }
        yield from compared("batches, arrays", name, model, sides, rounds)
        if name == "digits":
            passes = {
                "x": data.passes(0),
                "steps_per_epoch": data.steps,
                "validation_data": data.test,
                "shuffle": False,
            }
            sides = {"ours": ("nothing", passes), "keras": ("batches", passes)}
            yield from compared("batches, dataset", name, model, sides, rounds)


def digits():
    """Returns what `tfp-flows train --data digits` trains, and its data."""
    data = tfpf.data.load("digits")
    recipe = recipes.choose(data, None, "small", {}, {})
    keras.utils.set_random_seed(0)
    data = dataclasses.replace(data, batch_size=recipe.batch_size)
    return train._compiled(recipe, data), data


def compared(mechanism, name, model, sides, rounds):
    """Yields our `fit` beside each of the others, on one model, calls in turns."""
    notes = {side: Passes() for side in sides}

    def call(side):
        without, arguments = sides[side]
        before = len(notes[side].passes)
        with WITHOUT[without]:
            model.fit(epochs=4, verbose=0, callbacks=[notes[side]], **arguments)
        return 1e3 * float(np.mean(notes[side].passes[before:]))

    model.fit(**sides["ours"][1], epochs=1, verbose=0)
    turns = {side: lambda side=side: call(side) for side in sides}
    times = in_turns(turns, rounds)
    longest = {f"longest_wait_s_{s}": max(n.waits) for s, n in notes.items()}
    total = {f"mean_ms_{side}": float(np.mean(t)) for side, t in times.items()}
    for other in list(sides)[1:]:
        what = f"fit, beside {other}"
        mode = "XLA" if model.jit_compile else "plain"
        found = times["ours"], times[other]
        yield row(mechanism, name, what, mode, *found, **longest, **total)


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


def work(setting):
    """Times a slice for every line of input."""
    if setting.pop("hold", False):
        tfpf.hold_memory()
    if setting.pop("one_thread", False):
        tf.config.threading.set_intra_op_parallelism_threads(1)
    call = traced(**{"jit": False, "without": "nothing"} | setting)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(sliced(call), flush=True)


def memory(rounds, _workloads):
    """Yields `hold_memory`, and `in_parts` beside it."""
    score = {"name": "W1", "what": "log_prob"}
    whole = score | {"without": "in_parts"}
    step = {"name": "W3", "what": "train"}
    held = {"hold": True}
    mine = "hold_memory"
    times = processes({0: score, 1: score | held, 2: whole, 3: whole | held}, rounds)
    yield row(mine, "W1", "log_prob in parts", "plain", times[1], times[0])
    yield row(mine, "W1", "log_prob whole", "plain", times[3], times[2])
    yield row("in_parts, held", "W1", "log_prob", "plain", times[1], times[3])
    yield row("in_parts or held", "W1", "log_prob", "plain", times[0], times[3])
    times = processes({0: step, 1: step | held}, rounds)
    yield row(mine, "W3", "train", "plain", times[1], times[0])


def lanes(rounds, workloads):
    """Yields a lane a core beside one lane, one thread an operation, ten steps a call.

    The third side is TensorFlow's own threads, which need no mechanism.
    """
    for name in ("W1", "W2", "W4"):
        if name not in workloads:
            continue
        own = {"name": name, "what": "fit"}
        one = own | {"one_thread": True}
        times = processes({"own": own, "one": one, "two": one | {"lanes": 2}}, rounds)
        times = {k: [t / 100 for t in v] for k, v in times.items()}  # steps a fit
        mode, two = "plain, one thread", times["two"]
        yield row("lanes", name, "fit, beside one lane", mode, two, times["one"])
        yield row("lanes", name, "fit, beside own threads", mode, two, times["own"])


GROUPS = {"steps": steps, "fit": fit, "memory": memory, "lanes": lanes}


def main():
    """Measures, prints and writes down, row by row, in place of older such rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mechanisms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--workloads", nargs="+", default=list(ALL))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
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
            kept[", ".join(words)] = found | about
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\nMeasured on {machine()}.")


if __name__ == "__main__":
    main()
