"""Prints the results as Markdown tables and draws them."""

import argparse
import collections
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.quality.protocol import TABLES, TOYS, current

# Ours, and the flow of zuko of the same kind.
PAIRS = (
    ("maf", "zuko_maf"),
    ("maf_spline", "zuko_nsf"),
    ("spline", "zuko_nsf"),
    ("ffjord", "zuko_cnf"),
    ("flow_matching", "zuko_cnf"),
)


def results(folder, steps):
    """Returns `{model: {set: {seed: nll}}}` for one number of steps."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for side in ("ours", "zuko"):
        path = folder / f"{side}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["steps"] == steps and current(row):
                found[row["model"]][row["set"]][row["seed"]] = row["nll"]
    return found


def mean_and_error(values):
    """Returns the mean and its standard error; that of one value is not known."""
    values = list(values)
    if len(values) < 2:
        return (float(values[0]) if values else math.nan), math.nan
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(error)


def sets_of(found):
    """Returns the sets that there are results of, in the tables' order."""
    return [s for s in (*TOYS, *TABLES) if any(row[s] for row in found.values())]


def markdown(found):
    """One row a model: held-out nll, its standard error, the number of seeds."""
    names = sets_of(found)
    lines = ["| model | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for model, row in found.items():
        cells = []
        for name in names:
            mean, error = mean_and_error(row[name].values())
            cells.append(f"{mean:.3f} ± {error:.3f} ({len(row[name])})")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(found):
    """One row a pair: our nll minus zuko's, over the seeds that both have."""
    names = sets_of(found)
    header = "| ours − zuko's | " + " | ".join(names) + " |"
    lines = [header, "|---" * (len(names) + 1) + "|"]
    for ours, theirs in PAIRS:
        cells = []
        for name in names:
            mine, yours = found[ours][name], found[theirs][name]
            both = sorted(set(mine) & set(yours))
            mean, error = mean_and_error(mine[s] - yours[s] for s in both)
            mark = "" if math.isnan(error) or mean <= error else " **worse**"
            cells.append(f"{mean:+.3f} ± {error:.3f}{mark}")
        lines.append(f"| {ours} − {theirs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found, path):
    """Draws each set's means with their errors; what is far worse is cut off."""
    names = sets_of(found)
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.2 * len(names), 3.4), sharey=True
    )
    models = list(found)
    colours = ["C1" if m.startswith("zuko") else "C0" for m in models]
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        pairs = [mean_and_error(found[m][name].values()) for m in models]
        for place, ((mean, error), colour) in enumerate(
            zip(pairs, colours, strict=True)
        ):
            axis.errorbar(mean, place, xerr=error, fmt="o", markersize=4, color=colour)
        means = [mean for mean, _ in pairs]
        low, middle = np.nanmin(means), np.nanmedian(means)
        margin = max(middle - low, 1e-3)
        axis.set_xlim(low - 0.3 * margin, middle + 2.0 * margin)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("held-out nll (nats)", fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
        axis.set_yticks(range(len(models)), models, fontsize=8)
        axis.grid(axis="x", alpha=0.3)
    np.atleast_1d(axes)[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    found = results(options.folder, options.steps)
    print(markdown(found), differences(found), sep="\n\n")
    draw(found, options.folder / "quality.png")


if __name__ == "__main__":
    main()
