"""Times what `fit` waits between two passes, beside Keras's own `fit`.

    python -m benchmarks.passes
    python -m benchmarks.passes --workload W1 --passes 40

Both train the same model on the same arrays in turns, a call of `fit` each, with as
many passes of 100 steps; the wait is from a pass's beginning to its first batch.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.speed.adapters.tfp_flows import flow
from benchmarks.speed.workloads import LEARNING_RATE, WORKLOADS

RESULTS = Path(__file__).parent / "results" / "passes.json"
STEPS, TURNS = 100, 4


class Waits(keras.callbacks.Callback):
    """Notes how long each pass but the first waits for its first batch."""

    def __init__(self):
        super().__init__()
        self.waits, self.passes = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.start, self.first = time.perf_counter(), None

    def on_train_batch_begin(self, batch, logs=None):
        if self.first is None:
            self.first = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.waits.append(self.first - self.start)
            self.passes.append(time.perf_counter() - self.start)


def measured(w, passes):
    """Returns the waits of both, in seconds, and the times of whole passes."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * w.train_batch, *w.event_shape)).astype("float32")
    model = tfpf.FlowModel(flow(w))
    model.compile(tfpf.optimizer(LEARNING_RATE))
    model.adapt(x[: w.train_batch])
    found = {"keras": Waits(), "tfp_flows": Waits()}
    for _ in range(TURNS):
        for name, cls in (("keras", keras.Model), ("tfp_flows", tfpf.FlowModel)):
            cls.fit(
                model,
                x,
                batch_size=w.train_batch,
                epochs=1 + passes // TURNS,
                verbose=0,
                callbacks=[found[name]],
            )
    return {
        name: {
            "passes": len(each.waits),
            "longer_than_half_a_second": sum(wait > 0.5 for wait in each.waits),
            "mean_wait_s": float(np.mean(each.waits)),
            "longest_wait_s": max(each.waits),
            "mean_ms_a_step": 1e3 * float(np.mean(each.passes)) / STEPS,
        }
        for name, each in found.items()
    }


def main():
    """Measures, prints and writes down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", default="W2", choices=sorted(WORKLOADS))
    parser.add_argument("--passes", type=int, default=24)
    arguments = parser.parse_args()
    results = measured(WORKLOADS[arguments.workload], arguments.passes)
    for name, row in results.items():
        print(name, json.dumps(row))
    results = {"machine": machine(), "workload": arguments.workload, **results}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
