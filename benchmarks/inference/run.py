"""Evidence, k-hat, moments and ESS per second of flows fitted to known posteriors.

    python -m benchmarks.inference.run [problem ...]

writes `benchmarks/results/inference.json`, or replaces the named problems in it.
Reference moments are exact, or good to 1e-3.
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
from tfp_flows import inference

RESULTS = Path(__file__).parents[1] / "results" / "inference.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--burn-in", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.problems:
        found = {
            "machine": f"{machine()}, load before the run {os.getloadavg()[0]:.1f}",
            "options": {
                "steps": options.steps,
                "draws": options.draws,
                "burn_in": options.burn_in,
                "chains": 16,
                "leapfrog_steps": 8,
            },
            **measured(PROBLEMS[name](), options),
        }
        report[name] = found
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def measured(problem, options):
    """Returns the figures of one problem."""
    keras.utils.set_random_seed(0)
    flow = methods.iaf(problem, linear=problem.name == "gaussian")
    anneal = None
    if problem.name == "two_modes":
        half = options.steps // 2
        anneal = keras.optimizers.schedules.PolynomialDecay(0.02, half, 1.0)
    _, seconds, cpu_seconds = methods.fit(
        problem, flow, steps=options.steps, anneal=anneal
    )
    draws, log_weights = methods.weighed(problem, flow)
    found, smoothed = inference.evidence(log_weights), inference.psis(log_weights)
    weights = np.exp(smoothed.log_weights)
    size = inference.effective_sample_size(smoothed.log_weights)
    figures = {
        "log_evidence": problem.log_evidence,
        "elbo": float(log_weights.mean()),
        "elbo_standard_error": float(log_weights.std() / np.sqrt(len(log_weights))),
        "importance_evidence": found.log_evidence,
        "importance_evidence_standard_error": found.standard_error,
        "k_hat": smoothed.k_hat,
        "effective_share": size / len(weights),
        "fit_seconds": seconds,
        "fit_cpu_seconds": cpu_seconds,
        "surrogate": moments(problem, draws, len(draws)),
        "weighted": moments(problem, draws, size, weights),
        "chains": {},
    }
    figures["weighted"]["largest_errors_of_more_draws"] = [
        weighted_error(problem, flow, (3, 5 + k)) for k in range(7)
    ]
    identity = tfp.bijectors.Identity()
    chains = {
        "hmc": {"bijector": identity},
        "nuts": {"bijector": identity, "nuts": True},
        "neutra": {"bijector": flow.bijector},
    }
    for name, how in chains.items():
        values, run = methods.hmc(
            problem, draws=options.draws, burn_in=options.burn_in, **how
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
    print(problem.name, {k: v for k, v in figures.items() if type(v) is float})
    return figures


def weighted_error(problem, flow, seed):
    """Draws anew; returns the largest error of a weighted mean in standard errors."""
    draws, log_weights = methods.weighed(problem, flow, seed=seed)
    smoothed = inference.psis(log_weights).log_weights
    size = inference.effective_sample_size(smoothed)
    found = moments(problem, draws, size, np.exp(smoothed))
    return found["largest_error_of_means_in_standard_errors"]


def moments(problem, draws, sizes, weights=None):
    """Means and deviations, and how many standard errors the means are off."""
    means = np.average(draws, axis=0, weights=weights)
    deviations = np.sqrt(np.average((draws - means) ** 2, axis=0, weights=weights))
    error = problem.deviations / np.sqrt(np.maximum(sizes, 1.0))
    return {
        "means": means.tolist(),
        "deviations": deviations.tolist(),
        "largest_error_of_means_in_standard_errors": float(
            np.abs((means - problem.means) / error).max()
        ),
        "ratios_of_deviations": (deviations / problem.deviations).tolist(),
    }


if __name__ == "__main__":
    main()
