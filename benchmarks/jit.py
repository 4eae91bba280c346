"""Times `fit` with and without `jit_compile`, and with `steps_per_execution`.

    python -m benchmarks.jit
    python -m benchmarks.jit --workloads W1 W4 --rounds 5

The switches take turns, so that a change of the machine's load meets all of them.
Besides the time on the clock it reports the time that the process's threads spent on
the processors, which other work on the machine changes little.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.speed.adapters.tfp_flows import flow
from benchmarks.speed.workloads import LEARNING_RATE, WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results" / "jit.json"
SMALL_GLOW = Workload("glow 8x8", "glow", (8, 8, 1), 4, 32, 64, 64, levels=2)
ALL = {name: WORKLOADS[name] for name in ("W1", "W2", "W4")} | {"glow": SMALL_GLOW}
EXECUTION = 20
SWITCHES = {
    "plain": {"jit_compile": False},
    "steps_per_execution": {"jit_compile": False, "steps_per_execution": EXECUTION},
    "jit": {"jit_compile": True},
    "jit + steps_per_execution": {
        "jit_compile": True,
        "steps_per_execution": EXECUTION,
    },
}
# Two lengths of `fit`; their difference leaves out what happens once a call.
SHORT, LONG = EXECUTION, 3 * EXECUTION


def clocks():
    return np.array([time.perf_counter(), time.process_time()])


def fit_of(w, **compiling):
    """Returns a function that trains for so many steps."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(w.train_batch, *w.event_shape))
    x = x.astype("float32")
    model = tfpf.FlowModel(flow(w))
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), **compiling)
    model.adapt(x)

    def fit(steps):
        data = np.tile(x, (steps,) + (1,) * len(w.event_shape))
        start = clocks()
        model.fit(data, batch_size=w.train_batch, verbose=0)
        return clocks() - start

    return fit


def measure(w, rounds):
    """Returns milliseconds a step for each switch, and the seconds to start."""
    fits = {name: fit_of(w, **compiling) for name, compiling in SWITCHES.items()}
    starts = {name: fit(SHORT)[0] for name, fit in fits.items()}
    times = {name: [] for name in fits}
    for _ in range(rounds):
        for name, fit in fits.items():
            short, long = fit(SHORT), fit(LONG)
            times[name].append(1e3 * (long - short) / (LONG - SHORT))
    return {
        name: {
            "clock_ms": statistics.median(t[0] for t in times[name]),
            "processor_ms": statistics.median(t[1] for t in times[name]),
            "start_s": starts[name],
        }
        for name in fits
    }


def table(results):
    lines = [
        "| flow | switch | ms a step | processor ms a step | first call of fit (s) |",
        "|---|---|---:|---:|---:|",
    ]
    for name, switches in results.items():
        for switch, row in switches.items():
            lines.append(
                f"| {name} | {switch} | {row['clock_ms']:.1f} | "
                f"{row['processor_ms']:.1f} | {row['start_s']:.1f} |"
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workloads", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.workloads:
        kept[name] = {
            "machine": machine(),
            "rounds": options.rounds,
            "workload": dataclasses.asdict(ALL[name]),
            "switches": measure(ALL[name], options.rounds),
        }
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
        print(table({name: kept[name]["switches"]}), flush=True)
    print(f"\nMeasured on {machine()}.")


if __name__ == "__main__":
    main()
