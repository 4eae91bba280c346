"""How few steps solve flows that flow matching trained, by pairing and path.

    python -m benchmarks.flow_matching
    python -m benchmarks.flow_matching --seeds 3 --steps 2000

Data are scaled to a deviation of 1. For each way of training:

| figure | what it is |
|---|---|
| `euler_steps` | fewest Euler steps with a root-mean-square error of at most 0.05 |
| `one_step` | that error of a single step |
| `bend` | mean length of a path by the distance of its ends; 1 is straight |
| `nll` | held-out negative log-likelihood, nats, by RK4 with 40 steps |

Errors are distances of samples to those of the same latents by RK4 with 100 steps.
"reflow" trains the first way's flow on its own pairs for as many steps. "conditional"
has one condition `c`, and data `N((c, sin 2c), 0.3^2)`: `excess` is the held-out nll
above the true entropy, for the weights of the condition's distance.

Writes `benchmarks/results/flow_matching.json`.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from tfp_flows import data as flow_data

RESULTS = Path(__file__).parent / "results" / "flow_matching.json"
TOYS = ("eight_gaussians", "two_moons")
WAYS = {
    "independent": {},
    "variance_preserving": {"path": "variance_preserving"},
    "optimal_transport": {"pairing": "optimal_transport"},
    "sinkhorn": {"pairing": "sinkhorn"},
}
WEIGHTS = (0.0, 1.0, 10.0, 100.0, 1000.0)
ERROR, EULER = 0.05, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
BATCH, LATENTS = 256, 2000


def trained(x, c=None, seed=0, steps=1500, model=None, **way):
    """Trains a flow, or one further, on data or pairs."""
    keras.utils.set_random_seed(seed)
    if model is None:
        shape = None if c is None else c.shape[1:]
        flow = tfpf.ffjord((2,), hidden_units=(64, 64), condition_shape=shape)
        model = tfpf.FlowMatchingModel(flow, seed=seed, **way)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    epochs = steps * BATCH // len(x)
    model.fit(x, c, epochs=epochs, batch_size=BATCH, verbose=0)
    return model


def solved(model, z, method, steps, c=None):
    """Carries latents through the flow, by so many steps of a method."""
    flow = model._flow.copy(solver=tfpf.FixedStep(method, steps), trace="rademacher")
    run = tf.function(flow.forward, autograph=False)
    return (run(z) if c is None else run(z, condition=c)).numpy()


def bend(model, z, steps=100):
    """Computes the mean length of Euler's paths by the distance of their ends."""
    path = [z]
    for k in range(steps):
        t = tf.fill([len(z)], k / steps)
        path.append(path[-1] + model._flow.velocity_at(t, path[-1]).numpy() / steps)
    moves = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum(axis=0)
    return float(np.mean(moves) / np.mean(np.linalg.norm(path[-1] - z, axis=-1)))


def figures(model, x):
    """Measures a flow without conditions."""
    z = np.random.default_rng(0).normal(size=(LATENTS, 2)).astype("float32")
    exact = solved(model, z, "rk4", 100)
    errors = {
        k: float(np.sqrt(np.mean((solved(model, z, "euler", k) - exact) ** 2) * 2))
        for k in EULER
    }
    fine = model._flow.copy(solver=tfpf.FixedStep("rk4", 40))
    base = model.distribution.distribution
    density = tfpf.FlowModel(tfd.TransformedDistribution(base, fine))
    return {
        "euler_steps": next((k for k, e in errors.items() if e <= ERROR), None),
        "one_step": errors[1],
        "bend": bend(model, z),
        "nll": -float(np.mean(density.predict(x, batch_size=1000, verbose=0))),
    }


def toy(name, seed, steps):
    """Measures all ways of training on one set of points."""
    loaded = flow_data.load(name)
    mean, std = loaded.x_train.mean(0), loaded.x_train.std(0)
    x, held_out = ((v - mean) / std for v in (loaded.x_train, loaded.x_test[:2000]))
    rows = {}
    for way, options in WAYS.items():
        model = trained(x, seed=seed, steps=steps, **options)
        rows[way] = figures(model, held_out)
        if way == "independent":
            model = trained(
                model.pairs(len(x), seed), seed=seed, steps=steps, model=model
            )
            rows["reflow"] = figures(model, held_out)
    return rows


def conditional(seed, steps):
    """Measures what pairing costs a conditional density, and gains."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(22_000, 1)).astype("float32")
    noise = 0.3 * rng.normal(size=(22_000, 2))
    x = (np.concatenate([c, np.sin(2 * c)], axis=1) + noise).astype("float32")
    entropy = np.log(2 * np.pi * np.e) + 2 * np.log(0.3)
    z = rng.normal(size=(2000, 2)).astype("float32")
    ways = {"independent": {}}
    for weight in WEIGHTS:
        way = {"pairing": "optimal_transport", "condition_weight": weight}
        ways[f"optimal_transport, weight {weight:g}"] = way
    rows = {}
    for name, way in ways.items():
        model = trained(x[2000:], c[2000:], seed=seed, steps=steps, **way)
        log_prob = model.predict((x[:2000], c[:2000]), verbose=0)
        one, exact = (
            solved(model, z, m, k, c[:2000]) for m, k in (("euler", 1), ("rk4", 100))
        )
        rows[name] = {
            "excess": float(-np.mean(log_prob) - entropy),
            "one_step": float(np.sqrt(np.mean((one - exact) ** 2) * 2)),
        }
    return rows


def main():
    """Measures, prints and writes all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    results = {"machine": machine(), "steps": options.steps, "batch": BATCH}
    seeds = range(options.seeds)
    for name in TOYS:
        results[name] = [toy(name, seed, options.steps) for seed in seeds]
    results["conditional"] = [conditional(seed, options.steps) for seed in seeds]
    for name in (*TOYS, "conditional"):
        for way in results[name][0]:
            rows = [row[way] for row in results[name]]
            shown = {k: [round(r[k], 3) for r in rows] for k in rows[0]}
            print(f"{name:16} {way:32} {shown}")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
