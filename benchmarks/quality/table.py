"""Prints the results as a Markdown table and draws them."""

import argparse
import collections
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.quality.protocol import TABLES, TOYS, current


def results(folder, steps):
    """Returns `{model: {set: [nll of each seed]}}` for one number of steps."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for side in ("ours", "zuko"):
        path = folder / f"{side}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["steps"] == steps and current(row):
                found[row["model"]][row["set"]].append(row["nll"])
    return found


def mean_and_error(values):
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)


def markdown(found):
    sets = [s for s in (*TOYS, *TABLES) if any(s in row for row in found.values())]
    lines = ["| model | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for model, row in found.items():
        cells = []
        for name in sets:
            mean, error = mean_and_error(row[name]) if row[name] else (math.nan, 0)
            cells.append(f"{mean:.3f} ± {error:.3f}")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found, path):
    sets = [s for s in (*TOYS, *TABLES) if any(row[s] for row in found.values())]
    figure, axes = plt.subplots(1, len(sets), figsize=(2.4 * len(sets), 3), sharey=True)
    models = list(found)
    for axis, name in zip(np.atleast_1d(axes), sets, strict=True):
        pairs = [mean_and_error(found[m][name] or [math.nan]) for m in models]
        means, errors = zip(*pairs, strict=True)
        axis.errorbar(means, range(len(models)), xerr=errors, fmt="o", markersize=4)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("held-out nll (nats)", fontsize=8)
        axis.set_yticks(range(len(models)), models, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    found = results(options.folder, options.steps)
    print(markdown(found))
    draw(found, options.folder / "quality.png")


if __name__ == "__main__":
    main()
