"""Times what `tfpf.nets` and `tfpf.in_parts` do otherwise, beside the plain way.

    python -m benchmarks.shortcuts
    python -m benchmarks.shortcuts --rounds 20

Dense layers of few inputs or outputs are timed with their gradients beside Keras's, 16
of them one behind the other; scores and the bijector's forward direction of 10,000 rows
in parts and whole. The two sides take turns.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.speed.adapters.tfp_flows import flow
from benchmarks.speed.report import median, paired
from benchmarks.speed.workloads import WORKLOADS
from tfp_flows.nets.dense import Dense

RESULTS = Path(__file__).parent / "results" / "shortcuts.json"
# Rows, inputs, units: the first and the last layers of W1's and W2's networks.
LAYERS = ((256, 1, 128), (256, 128, 2), (512, 256, 44))
COPIES = 16


def in_turns(ours, plain, rounds):
    """Returns the median milliseconds of both, and of the ratios within rounds."""
    times = []
    for _ in range(rounds + 2):
        row = []
        for call in (ours, plain):
            start = time.perf_counter()
            call()
            row.append(1e3 * (time.perf_counter() - start))
        times.append(row)
    times = times[2:]  # the first two calls trace, compile and warm up
    mine, theirs = zip(*times, strict=True)
    return {
        "ours_ms": median(mine),
        "plain_ms": median(theirs),
        "ratio": paired(mine, theirs)[0],
    }


def gradients_of(kind, rows, inputs, units):
    """Returns a step through layers that wait for each other."""
    layers = [kind(units, bias_initializer="normal") for _ in range(COPIES)]
    for layer in layers:
        layer.build((None, inputs))
    weights = [w.value for layer in layers for w in layer.trainable_weights]
    x = tf.random.stateless_normal([rows, inputs], seed=[0, 0])

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = 0.0
            for layer in layers:
                loss = tf.reduce_mean(tf.nn.relu(layer(x + loss)))
        return [loss, *tape.gradient(loss, weights)]

    return lambda: step()[0].numpy()


def directions_of(name, jit):
    """Yields a name, the function in parts and the function of the whole batch."""
    w = WORKLOADS[name]
    keras.utils.set_random_seed(0)
    made = flow(w)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(w.batch, *w.event_shape)).astype("float32"))
    for what, function in (
        ("log_prob", made.log_prob),
        ("forward", made.bijector.forward),
    ):
        compiled = [
            tf.function(f, jit_compile=jit, autograph=False)
            for f in (tfpf.in_parts(function), lambda x, f=function: f(x))
        ]
        yield what, *(lambda f=f: f(x).numpy() for f in compiled)


def measure(rounds):
    """Yields a row of words and its times."""
    for rows, inputs, units in LAYERS:
        sides = [
            gradients_of(kind, rows, inputs, units)
            for kind in (Dense, keras.layers.Dense)
        ]
        what = f"dense, {inputs} to {units}, {rows} rows, gradients"
        yield what, in_turns(*sides, rounds)
    for name in ("W1", "W2", "W4"):
        for jit in (False, True):
            for what, parts, whole in directions_of(name, jit):
                way = "XLA" if jit else "plain"
                yield f"in_parts, {name}, {what}, {way}", in_turns(parts, whole, rounds)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shortcuts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    found = {}
    print("| what | ms | the plain way, ms | ratio |\n|---|---:|---:|---:|")
    for what, row in measure(options.rounds):
        found[what] = row
        print(
            f"| {what} | {row['ours_ms']:.1f} | {row['plain_ms']:.1f} "
            f"| {row['ratio']:.2f} |",
            flush=True,
        )
    kept = {"machine": machine(), "rounds": options.rounds, "rows": found}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"\nMeasured on {kept['machine']}.")


if __name__ == "__main__":
    main()
