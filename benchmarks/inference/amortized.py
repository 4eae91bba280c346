"""Whether an amortised posterior of parts with every support is calibrated.

    python -m benchmarks.inference.amortized

A joint distribution with a positive, a bounded, a simplex and an ordered latent part,
and two observed ones; `tfpf.inference.amortize` with its defaults, for each of three
seeds. Of 1,000 new simulations it gives the p-values of the ranks' ECDF bands, of each
value, and how many of all draws are outside the support. Writes
`benchmarks/results/amortized.json`.
"""

import json
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from benchmarks.default_runs import machine

tfb, tfd = tfp.bijectors, tfp.distributions
RESULTS = Path(__file__).parents[1] / "results" / "amortized.json"
SEEDS, NEW, DRAWS = (0, 1, 2), 1000, 255


def model():
    """Scale of noise, share of a slope, mixture's weights and three thresholds."""
    normal = tfd.Sample(tfd.Normal(0.0, 1.0), [3])
    return tfd.JointDistributionNamed(
        {
            "scale": tfd.LogNormal(0.0, 0.5),
            "slope": lambda scale: tfd.Uniform(0.0, scale),
            "shares": tfd.Dirichlet([2.0, 3.0, 4.0]),
            "thresholds": tfd.TransformedDistribution(normal, tfb.Ascending()),
            "y": lambda thresholds, scale, slope: tfd.Independent(
                tfd.Normal(
                    tf.concat([thresholds, slope[..., tf.newaxis]], -1),
                    scale[..., tf.newaxis],
                ),
                1,
            ),
            "counts": lambda shares: tfd.Multinomial(20.0, probs=shares),
        }
    )


def outside(draws):
    """Counts draws of each part that its support excludes."""
    shares, thresholds = draws["shares"], draws["thresholds"]
    wrong = {
        "scale": draws["scale"] <= 0.0,
        "slope": (draws["slope"] < 0.0) | (draws["slope"] > draws["scale"]),
        "shares": (shares < 0.0).any(-1) | (abs(shares.sum(-1) - 1.0) > 1e-5),
        "thresholds": (np.diff(thresholds, axis=-1) < 0.0).any(-1),
    }
    return {name: int(np.count_nonzero(bad)) for name, bad in wrong.items()}


def measured(seed):
    """Trains once; returns p-values, draws outside, and seconds."""
    start = time.process_time()
    posterior = tfpf.inference.amortize(model(), ["y", "counts"], seed=seed, verbose=0)
    seconds = time.process_time() - start
    theta, x = posterior.simulate(NEW, seed=(seed, 1))
    found = tfpf.inference.calibrate(posterior, theta, x, draws=DRAWS)
    draws = posterior(x).sample(DRAWS, seed=(seed, 2))
    values = {name: np.asarray(v, np.float64) for name, v in draws.items()}
    return {
        "ecdf_p_values": found.ecdf_p_values().tolist(),
        "p_values": found.p_values().tolist(),
        "outside": outside(values),
        "draws": NEW * DRAWS,
        "training_cpu_seconds": seconds,
    }


def main():
    report = {"machine": machine(), "parts": sorted(model().event_shape)}
    for seed in SEEDS:
        report[str(seed)] = measured(seed)
        print(seed, report[str(seed)], flush=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
