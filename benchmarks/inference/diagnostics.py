"""Which diagnostics find which faults of a posterior, over seeds.

    python -m benchmarks.inference.diagnostics

writes `benchmarks/results/diagnostics.json`: of 20 seeds, how many each diagnostic
flags at the level of 1 % (5 % for `local_c2st`, of 19 trials).

The exact posterior lies within a box: `theta ~ U(-1, 1)^2`, `x ~ N(theta, 1/2)`, so
`theta | x` is a truncated normal. The faults: `overconfident`, of 0.4 times the
spread; `shifted` by 0.3; `leaking`, the normal without the box.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy import special, stats

from tfp_flows import inference

RESULTS = Path(__file__).parents[1] / "results" / "diagnostics.json"
NOISE, D = 0.5, 2
KINDS = ("right", "overconfident", "shifted", "leaking")
OBSERVED = np.array([0.6, -0.4])
LEVEL = 0.01


def parts(kind, x):
    """Returns location, scale and end of a posterior given `x [..., 2]`."""
    scale = NOISE * (0.4 if kind == "overconfident" else 1.0)
    return x + 0.3 * (kind == "shifted"), scale, np.inf if kind == "leaking" else 1.0


def masses(loc, scale, end):
    """Normal masses below the box's ends, mirrored so that none is near 1."""
    return tuple(special.ndtr((e - np.abs(loc)) / scale) for e in (-end, end))


def log_density(kind, theta, x):
    loc, scale, end = parts(kind, x)
    low, high = masses(loc, scale, end)
    return (stats.norm.logpdf(theta, loc, scale) - np.log(high - low)).sum(axis=-1)


def simulated(n, rng, noise=NOISE):
    theta = rng.uniform(-1.0, 1.0, [n, D])
    return theta, theta + noise * rng.normal(size=[n, D])


def draws(kind, x, k, rng):
    """Draws `[k, n, 2]` for data `[n, 2]`, by the inverse of the normal's function."""
    loc, scale, end = parts(kind, x)
    low, high = masses(loc, scale, end)
    u = low + (high - low) * rng.uniform(size=[k, *np.shape(x)])
    return np.sign(loc) * (np.abs(loc) + scale * special.ndtri(u))


def calibrated(kind, n, k, rng):
    theta, x = simulated(n, rng)
    drawn = draws(kind, x, k, rng)
    names = tuple(f"theta {j + 1}" for j in range(D))
    moments = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    ranked = inference.calibration.ranks(drawn, theta)
    return inference.Calibration(ranked, k, names, theta, *moments), drawn, theta


def smallest(p_values):
    """Whether the smallest of some p-values is below the level, for all together."""
    return bool(np.min(p_values) < LEVEL / np.size(p_values))


def by_calibration(kind, rng, n=1000, k=127):
    """What is flagged by ranks and moments over simulated data."""
    calibration, drawn, theta = calibrated(kind, n, k, rng)
    held = np.rint(n * calibration.coverage([0.9])[0]).astype(int)
    z = calibration.z_scores()
    # The law of total variance, for each simulation.
    means = calibration.means
    gap = (theta - theta.mean(axis=0)) ** 2 - (means - means.mean(axis=0)) ** 2
    gap = gap - calibration.deviations**2
    return {
        "ranks, chi-squared": smallest(calibration.p_values()),
        "ranks, ECDF band": smallest(calibration.ecdf_p_values()),
        "coverage of 90 % intervals": smallest(
            [stats.binomtest(int(h), n, 0.9).pvalue for h in held]
        ),
        "TARP, random points": smallest(inference.tarp(drawn, theta).ecdf_p_values()),
        "TARP, a corner": smallest(
            inference.tarp(drawn, theta, np.ones_like(theta)).ecdf_p_values()
        ),
        "mean z-score": smallest(stats.ttest_1samp(z, 0.0).pvalue),
        "mean square of z-scores": smallest(stats.ttest_1samp(z**2, 1.0).pvalue),
        "contraction": smallest(stats.ttest_1samp(gap, 0.0).pvalue),
    }


def by_reference(kind, rng, n=300):
    """What is flagged by draws of the exact posterior given one observation."""
    exact = draws("right", OBSERVED, n, rng)
    tried = draws(kind, OBSERVED, n, rng)
    most = 0.5 + stats.norm.isf(LEVEL) * np.sqrt(0.25 / (2 * n))
    test = inference.mmd(exact, tried, trials=200)
    return {"C2ST": inference.c2st(exact, tried) > most, "MMD": test.p_value < LEVEL}


def by_weights(kind, rng, n=2000):
    """What is flagged by the density of the model at the posterior's own draws."""
    theta = draws(kind, OBSERVED, n, rng)
    inside = (np.abs(theta) <= 1.0).all(axis=-1)
    log_joint = stats.norm(theta, NOISE).logpdf(OBSERVED).sum(axis=-1) - D * np.log(2.0)
    log_joint[~inside] = -np.inf
    log_weights = log_joint - log_density(kind, theta, OBSERVED)
    low, high = masses(OBSERVED, NOISE, 1.0)
    exact = np.log((high - low) / 2.0).sum()
    found = inference.evidence(log_weights)
    error = abs(found.log_evidence - exact)
    loc, scale, _ = parts(kind, OBSERVED)
    free = loc + scale * rng.normal(size=[n, D])
    log_free = stats.norm.logpdf(free, OBSERVED, NOISE)
    log_free = (log_free - stats.norm.logpdf(free, loc, scale)).sum(axis=-1)
    return {
        "ESS below 90 %": inference.effective_sample_size(log_weights) < 0.9 * n,
        "k-hat above 0.7, no box": inference.psis(log_free).k_hat > 0.7,
        "evidence, by 3 standard errors": error > 3 * found.standard_error + 1e-9,
    }


def by_local_test(kind, rng, n=500):
    """What is flagged at one observation without exact draws there."""
    theta, x = simulated(n, rng)
    own = draws(kind, x, 1, rng)[0]
    there = draws(kind, OBSERVED, 500, rng)
    test = inference.local_c2st(own, theta, x, there, OBSERVED, trials=19)
    return {"L-C2ST": test.p_value <= 0.05}


def misspecified(rng, m, n=500):
    """Whether MMD flags m data of the model, and of one with twice the noise."""
    _, trained = simulated(n, rng)
    flags = {}
    for kind, noise in (("right", NOISE), ("other noise", 2 * NOISE)):
        _, seen = simulated(m, rng, noise)
        flags[kind] = inference.mmd(trained, seen, trials=200).p_value < LEVEL
    return flags


QUICK = (by_calibration, by_weights)
ALL = (*QUICK, by_reference, by_local_test)


def counts(seeds, parts=ALL):
    """Counts flags over seeds: `{diagnostic: {kind: count}}`."""
    counted = {}
    for seed in range(seeds):
        for kind in KINDS:
            rng = np.random.default_rng([seed, KINDS.index(kind)])
            for part in parts:
                for name, flag in part(kind, rng).items():
                    row = counted.setdefault(name, dict.fromkeys(KINDS, 0))
                    row[kind] += int(flag)
    return counted


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    started = time.perf_counter()
    counted = counts(options.seeds)
    other = {}
    for m in (20, 100):
        row = other[f"{m} observations"] = {"right": 0, "other noise": 0}
        for seed in range(options.seeds):
            found = misspecified(np.random.default_rng([seed, 9]), m)
            for kind, flag in found.items():
                row[kind] += int(flag)
    report = {
        "seeds": options.seeds,
        "level": LEVEL,
        "flagged": counted,
        "observations, MMD": other,
        "seconds": time.perf_counter() - started,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, row in counted.items():
        print(f"| {name} |", " | ".join(str(row[kind]) for kind in KINDS), "|")
    print(other)


if __name__ == "__main__":
    main()
