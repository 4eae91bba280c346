"""Writes the data of every set and seed to NumPy files that both sides read."""

import argparse
from pathlib import Path

import numpy as np
from sklearn import datasets

import tfp_flows as tfpf
from benchmarks.quality.protocol import TABLES, TOYS


def toy(name, seed):
    rows = tfpf.data.sample(name, 14_000, seed=seed)
    return rows[:8000], rows[8000:9000], rows[9000:]


def table(name, seed):
    """Splits 70/15/15 and standardises by the training rows."""
    rows = getattr(datasets, f"load_{name}")().data
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    ends = [int(0.7 * len(rows)), int(0.85 * len(rows))]
    train, validation, test = np.split(rows, ends)
    mean, deviation = train.mean(0), train.std(0)
    return [(part - mean) / deviation for part in (train, validation, test)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for make, names in ((toy, TOYS), (table, TABLES)):
        for name in names:
            for seed in range(options.seeds):
                parts = [np.asarray(p, "float32") for p in make(name, seed)]
                np.savez(
                    options.folder / f"{name}_{seed}.npz",
                    **dict(zip(("train", "validation", "test"), parts, strict=True)),
                )


if __name__ == "__main__":
    main()
