"""ELBO, moments and ESS per second on eight schools and Neal's funnel.

    python -m benchmarks.inference.run

writes `benchmarks/results/inference.json`. Reference moments are exact.
"""

import argparse
import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow_probability as tfp

from benchmarks.default_runs import machine
from benchmarks.inference import methods
from benchmarks.inference.problems import PROBLEMS

RESULTS = Path(__file__).parents[1] / "results" / "inference.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--burn-in", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = {
        "machine": f"{machine()}, load before the run {os.getloadavg()[0]:.1f}",
        "options": {
            "steps": options.steps,
            "draws": options.draws,
            "burn_in": options.burn_in,
            "chains": 16,
            "leapfrog_steps": 8,
        },
        "problems": {
            name: measured(make(), options) for name, make in PROBLEMS.items()
        },
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def measured(problem, options):
    """Returns the figures of one problem."""
    keras.utils.set_random_seed(0)
    flow = methods.iaf(problem)
    _, seconds = methods.fit(problem, flow, steps=options.steps)
    draws, log_weights = methods.weighed(problem, flow)
    figures = {
        "log_evidence": problem.log_evidence,
        "elbo": float(log_weights.mean()),
        "elbo_standard_error": float(log_weights.std() / np.sqrt(len(log_weights))),
        "fit_seconds": seconds,
        "surrogate": moments(problem, draws, len(draws)),
        "chains": {},
    }
    chains = {"hmc": tfp.bijectors.Identity(), "neutra": flow.bijector}
    for name, bijector in chains.items():
        values, run = methods.hmc(
            problem, bijector=bijector, draws=options.draws, burn_in=options.burn_in
        )
        sizes = methods.ess(values)
        flat = values.reshape(-1, problem.size)
        figures["chains"][name] = {
            **run,
            "least_ess": float(sizes.min()),
            "least_ess_per_second": float(sizes.min() / run["seconds"]),
            "least_ess_per_cpu_second": float(sizes.min() / run["cpu_seconds"]),
            "least_ess_per_1000_gradients": float(
                1000 * sizes.min() / run["gradients"]
            ),
            "largest_rhat": float(methods.rhat(values).max()),
            **moments(problem, flat, sizes),
        }
        print(problem.name, name, json.dumps(figures["chains"][name]))
    print(problem.name, figures["elbo"], figures["log_evidence"])
    return figures


def moments(problem, draws, sizes):
    """Means and deviations, and how many standard errors the means are off."""
    error = problem.deviations / np.sqrt(np.maximum(sizes, 1.0))
    return {
        "means": draws.mean(axis=0).tolist(),
        "deviations": draws.std(axis=0).tolist(),
        "largest_error_of_means_in_standard_errors": float(
            np.abs((draws.mean(axis=0) - problem.means) / error).max()
        ),
        "ratios_of_deviations": (draws.std(axis=0) / problem.deviations).tolist(),
    }


if __name__ == "__main__":
    main()
