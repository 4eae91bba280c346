"""Log-density of new pairs by posteriors trained with different dropouts.

    python -m benchmarks.sbibm.held_out FOLDER --tasks slcp --dropouts 0 0.1 0.2

FOLDER is as for `python -m benchmarks.sbibm`. Prints the mean over 10,000 new pairs in
nats, epochs, and CPU seconds of training: what the default's dropout was chosen by.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from benchmarks.sbibm.tasks import TASKS

NEW, ROWS = 10_000, 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--dropouts", nargs="+", type=float, default=[0.0, 0.1, 0.2])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.tasks:
        task = TASKS[name](options.folder)
        theta, x = task.pairs(options.simulations, options.seed)
        new, data = task.pairs(NEW, options.seed + 1000)
        for dropout in options.dropouts:
            start = time.process_time()
            posterior = tfpf.inference.NeuralPosterior(task.prior, dropout=dropout)
            (history,) = posterior.fit(theta, x, seed=options.seed, verbose=0)
            seconds = time.process_time() - start
            parts = range(0, NEW, ROWS)
            found = [
                posterior(data[i : i + ROWS]).log_prob(new[i : i + ROWS]) for i in parts
            ]
            print(
                f"{name} dropout {dropout}: {np.mean(found):.3f} nats, "
                f"{len(history.epoch)} epochs, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
