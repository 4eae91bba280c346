"""Log-density of new pairs by estimators of different flows and dropouts.

    python -m benchmarks.sbibm.held_out FOLDER --tasks slcp --dropouts 0 0.1 0.2
    python -m benchmarks.sbibm.held_out FOLDER --method nle --flows spline_flow maf

FOLDER is as for `python -m benchmarks.sbibm`. Prints the mean over 10,000 new pairs in
nats, epochs, and CPU seconds of training: what the defaults were chosen by.
"""

import argparse
import functools
import itertools
import time
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from benchmarks.sbibm.tasks import TASKS

ESTIMATORS = {
    "npe": tfpf.inference.NeuralPosterior,
    "nle": tfpf.inference.NeuralLikelihood,
}
FLOWS = {
    "spline_flow": tfpf.spline_flow,
    "maf": functools.partial(tfpf.maf, transform="spline"),
}
NEW, ROWS = 10_000, 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--dropouts", nargs="+", type=float, default=[0.0, 0.1, 0.2])
    parser.add_argument("--method", default="npe", choices=["npe", "nle"])
    parser.add_argument("--flows", nargs="+", default=["spline_flow"], choices=FLOWS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.tasks:
        task = TASKS[name](options.folder)
        theta, x = task.pairs(options.simulations, options.seed)
        new, data = task.pairs(NEW, options.seed + 1000)
        for flow, dropout in itertools.product(options.flows, options.dropouts):
            estimator = ESTIMATORS[options.method](
                task.prior, flow=FLOWS[flow], dropout=dropout
            )
            start = time.process_time()
            (history,) = estimator.fit(theta, x, seed=options.seed, verbose=0)
            seconds = time.process_time() - start
            parts = range(0, NEW, ROWS)
            found = [
                log_density(estimator, new[i : i + ROWS], data[i : i + ROWS])
                for i in parts
            ]
            print(
                f"{name} {flow} dropout {dropout}: {np.mean(found):.3f} nats, "
                f"{len(history.epoch)} epochs, {seconds:.0f} s",
                flush=True,
            )


def log_density(estimator, theta, x):
    """Returns `log q(theta | x)`, or of a likelihood `log q(x | theta)`."""
    if isinstance(estimator, tfpf.inference.NeuralLikelihood):
        return estimator.log_prob(x, theta)
    return estimator(x).log_prob(theta)


if __name__ == "__main__":
    main()
