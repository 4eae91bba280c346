"""Draws samples of every flow whose log and model lie in a folder, a row each.

    python -m benchmarks.images.page --out LOGS --picture docs/image_samples.png

`ours` leaves such a folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import tfp_flows as tfpf

COLUMNS = 16


def rows_of(folder):
    """Yields names, logs and samples, from the best likelihood to the worst."""
    logs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    for log in sorted(logs, key=lambda log: log["test_bits_per_dim"]):
        path = folder / f"{log['name']}.keras"
        if path.exists():
            model = tfpf.FlowModel(tfpf.load_distribution(path))
            yield log, model.sample(COLUMNS, seed=0).numpy()


def draw(rows):
    """Returns the picture: rows of samples, named at their left."""
    logs, samples = zip(*rows, strict=True)
    figure = tfpf.plotting.image_grid(np.stack(samples))
    (axes,) = figure.axes
    low, high = sorted(axes.get_ylim())
    for index, log in enumerate(logs):
        middle = low + (index + 0.5) * (high - low) / len(logs)
        text = f"{log['name']}\n{log['test_bits_per_dim']:.3f} bits/dim"
        axes.text(-4, middle, text, ha="right", va="center", fontsize=6)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    figure = draw(list(rows_of(options.out)))
    figure.savefig(options.picture, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
