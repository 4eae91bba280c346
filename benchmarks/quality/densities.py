"""Draws the density of each of our flows on the toys, trained as for the table.

    python -m benchmarks.quality.densities FOLDER --steps 1000

FOLDER is that of the splits; the picture is `docs/densities.png`.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.quality import ours, protocol

PICTURE = Path(__file__).parents[2] / "docs" / "densities.png"
POINTS = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--models", nargs="*", default=list(ours.MODELS))
    options = parser.parse_args()
    rows, columns = len(options.models) + 1, len(protocol.TOYS)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 1.5 * rows), layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], aspect="equal")
    for column, toy in enumerate(protocol.TOYS):
        train, validation, test = protocol.split(options.folder, toy, 0)
        edge = 1.1 * np.abs(train).max()
        line = np.linspace(-edge, edge, POINTS, dtype="float32")
        points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        axes[0, column].hist2d(*train.T, bins=POINTS // 2, range=[[-edge, edge]] * 2)
        axes[0, column].set_title(toy, fontsize=8)
        for row, model in enumerate(options.models, start=1):
            every = protocol.EVERY[toy]
            parts = (train, validation, test, 0, every)
            found = ours.train_one(model, *parts, steps=options.steps)
            score = ours.compiled(model, 2)[3]
            density = np.exp(score(points)).reshape(POINTS, POINTS)
            axis = axes[row, column]
            axis.imshow(density, origin="lower", extent=[-edge, edge, -edge, edge])
            axis.set_xlabel(f"{found['nll']:.3f} nats", fontsize=6)
            print(toy, model, found, flush=True)
            figure.savefig(PICTURE, dpi=80)
    names = ["data", *options.models]
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=7)
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main()
