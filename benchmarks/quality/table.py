"""Prints the results as Markdown tables and draws them."""

import argparse
import collections
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.quality.protocol import TABLES, TOYS, current

ORDER = (
    "nice",
    "real_nvp",
    "glow",
    "spline",
    "maf",
    "maf_spline",
    "ffjord",
    "flow_matching",
    "zuko_nsf",
    "zuko_maf",
    "zuko_cnf",
    *("naf", "unaf", "sos", "bernstein", "gaussianization", "bnaf", "residual"),
    *("zuko_naf", "zuko_unaf", "zuko_sos", "zuko_bernstein", "zuko_gaussianization"),
    *("flowjax_bnaf", "normflows_residual"),
)
# Ours, and the peer's flow of the same kind.
PAIRS = (
    ("maf", "zuko_maf"),
    ("maf_spline", "zuko_nsf"),
    ("spline", "zuko_nsf"),
    ("ffjord", "zuko_cnf"),
    ("flow_matching", "zuko_cnf"),
    *((n, f"zuko_{n}") for n in ("naf", "unaf", "sos", "bernstein", "gaussianization")),
    ("bnaf", "flowjax_bnaf"),
    ("residual", "normflows_residual"),
)
SIDES = ("ours", "zuko", "flowjax", "normflows")


def results(folder, steps):
    """Returns `{model: {set: {seed: nll}}}` for one number of steps."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for side in SIDES:
        path = folder / f"{side}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["steps"] == steps and current(row):
                found[row["model"]][row["set"]][row["seed"]] = row["nll"]
    return {model: found[model] for model in ORDER if model in found}


def mean_and_error(values):
    """Returns the mean and its standard error; that of one value is not known."""
    values = list(values)
    if len(values) < 2:
        return (float(values[0]) if values else math.nan), math.nan
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(error)


def cell(mean, error, form=""):
    """Writes a mean with its error; a single value has none, no value is a dash."""
    if math.isnan(mean):
        return "–"
    around = "" if math.isnan(error) else f" ± {error:.3f}"
    return f"{mean:{form}.3f}{around}"


def sets_of(found):
    """Returns the sets that there are results of, in the tables' order."""
    return [s for s in (*TOYS, *TABLES) if any(row[s] for row in found.values())]


def table(header, lines):
    """Formats rows of cells as Markdown."""
    lines = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def likelihoods(found):
    """One row a model: held-out nll, its standard error, the number of seeds."""
    names, lines = sets_of(found), []
    for model, row in found.items():
        cells = [model]
        for name in names:
            count = f" ({len(row[name])})" if row[name] else ""
            cells.append(cell(*mean_and_error(row[name].values())) + count)
        lines.append(cells)
    return table(["model", *names], lines)


def differences(found):
    """One row a pair: our nll minus the peer's, over the seeds that both have."""
    names, lines = sets_of(found), []
    for ours, theirs in (pair for pair in PAIRS if set(pair) <= set(found)):
        cells = [f"{ours} − {theirs}"]
        for name in names:
            mine, yours = found[ours][name], found[theirs][name]
            both = sorted(set(mine) & set(yours))
            mean, error = mean_and_error(mine[s] - yours[s] for s in both)
            mark = "" if math.isnan(error) or mean <= error else " **worse**"
            cells.append(cell(mean, error, "+") + mark)
        lines.append(cells)
    return table(["ours − the peer's", *names], lines)


def draw(found, path):
    """Draws each set's means with their errors, the peers' in another colour."""
    names, models = sets_of(found), list(found)
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.2 * len(names), 3.6), sharey=True, squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        _draw_set(axis, {m: mean_and_error(found[m][name].values()) for m in models})
        axis.set_title(name, fontsize=9)
    axes[0][0].set_yticks(range(len(models)), models, fontsize=8)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def _draw_set(axis, pairs):
    """Draws one set; a triangle at the border gives the number of what lies beyond."""
    means = np.array([mean for mean, _ in pairs.values()])
    errors = np.nan_to_num([error for _, error in pairs.values()])
    low = np.nanmin(means - errors)
    margin = max(np.nanmedian(means) - low, 1e-3)
    high = low + 3.0 * margin
    for place, (model, mean, error) in enumerate(
        zip(pairs, means, errors, strict=True)
    ):
        colour = "C1" if model.startswith(SIDES[1:]) else "C0"
        if mean > high:
            axis.plot(high, place, ">", color=colour, clip_on=False)
            text = f"{mean:.3g} "
            axis.text(
                high - 0.1 * margin, place, text, fontsize=7, ha="right", va="center"
            )
        else:
            axis.errorbar(mean, place, xerr=error, fmt="o", markersize=4, color=colour)
    axis.set_xlim(low - 0.2 * margin, high)
    axis.set_xlabel("held-out nll (nats)", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    found = results(options.folder, options.steps)
    print(likelihoods(found), differences(found), sep="\n\n")
    draw(found, options.folder / "quality.png")


if __name__ == "__main__":
    main()
