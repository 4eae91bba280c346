"""What both sides share: files, steps, rates, the command line. NumPy only."""

import argparse
import json
import math
from pathlib import Path

import numpy as np

TOYS = ("two_moons", "eight_gaussians", "pinwheel", "checkerboard", "rings")
TABLES = ("wine", "breast_cancer")
BATCH, RATE = 256, 2e-3
# Steps between looks at the validation rows. The tables have one or four hundred rows
# to train on: within a hundred steps every flow overfits them.
EVERY = {**dict.fromkeys(TOYS, 100), **dict.fromkeys(TABLES, 5)}
# A model stops after so many looks without a better one. zuko's NSF and MAF take all
# their steps, which can only help them.
PATIENCE = 40
# Up to so many features a continuous flow trains by the exact trace, above by
# Hutchinson's estimate. It is judged by the exact one.
EXACT_UP_TO = 8
KEY = ("set", "model", "seed", "steps")


def arguments(models):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="*", default=[*TOYS, *TABLES])
    parser.add_argument("--models", nargs="*", default=list(models))
    return parser.parse_args()


def split(folder, name, seed):
    """Returns training, validation and test rows in float32."""
    with np.load(folder / f"{name}_{seed}.npz") as parts:
        return parts["train"], parts["validation"], parts["test"]


def rate_at(step, steps, rate=RATE):
    """The learning rate of a step, which falls from `rate` along half a cosine."""
    return rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def batches(train, steps, seed):
    """Yields `steps` batches, drawn without repetition within an epoch."""
    rng = np.random.default_rng(seed)
    rows = min(BATCH, len(train))
    order = np.empty(0, int)
    for _ in range(steps):
        if len(order) < rows:
            order = rng.permutation(len(train))
        chosen, order = order[:rows], order[rows:]
        yield train[chosen]


def fit(
    train,
    validation,
    test,
    *,
    every,
    step,
    nll,
    steps,
    seed,
    rate=RATE,
    patience=math.inf,
):
    """Trains and returns the test nll at the best validation nll.

    Args:
        every: Steps between looks at the validation rows.
        step: Takes a batch and a learning rate, and takes one optimizer step.
        nll: Returns the mean nll of rows, in nats.
        rate: The learning rate of the first step.
        patience: Looks without a better validation nll after which to stop.
    """
    best, kept, worse = math.inf, math.inf, 0
    for k, batch in enumerate(batches(train, steps, seed), start=1):
        step(batch, rate_at(k - 1, steps, rate))
        if k % every == 0 or k == steps:
            now, worse = nll(validation), worse + 1
            if now < best:
                best, kept, worse = now, nll(test), 0
            if worse >= patience:
                break
    return kept


def main(side, models, train_one):
    """Reads the command line and runs what is missing of one side."""
    options = arguments(models)

    def one(name, *parts):
        return train_one(name, *parts, steps=options.steps)

    run(side, options, one)


def key_of(row):
    """Names what a result is of."""
    return tuple(row[name] for name in KEY)


def current(row):
    """Says whether a result looked at its validation rows as often as is done now."""
    return row["every"] == EVERY[row["set"]]


def run(side, options, train_one):
    """Runs what is missing and appends one JSON line for each result."""
    path = options.folder / f"{side}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    known = [json.loads(line) for line in lines]
    done = {key_of(r) for r in known if current(r)}
    # Seeds outermost: what a stopped run leaves has every model on every set.
    for seed in range(options.seeds):
        for name in options.sets:
            for model in options.models:
                key = (name, model, seed, options.steps)
                if key in done:
                    continue
                row = dict(zip(KEY, key, strict=True)) | {"every": EVERY[name]}
                parts = split(options.folder, name, seed)
                row |= train_one(model, *parts, seed, EVERY[name])
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(side, *key, f"{row['nll']:.4f}", flush=True)
