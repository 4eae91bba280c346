"""The picture: example images, their likelihoods, and the AUROC of every scorer."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

COLOURS = ("dimgrey", "#0072B2", "#E69F00", "#009E73", "#CC79A7")


def draw(report, bits: dict, sets: dict, path) -> None:
    """Writes the picture as a PNG file."""
    kinds = [kind for kind in bits if kind != "normal"]
    names = list(dict.fromkeys(row.scorer for row in report.rows))
    figure = plt.figure(figsize=(11, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    examples, histogram = upper.subfigures(1, 2, width_ratios=[1, 1.7])
    _examples(examples, sets)
    _histogram(histogram.subplots(), bits)
    _table(lower.subplots(), report, kinds, names)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _examples(figure, sets: dict) -> None:
    axes = figure.subplots(len(sets), 5)
    for row, (kind, images) in zip(axes, sets.items(), strict=True):
        for axis, image in zip(row, images[:5], strict=True):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind, rotation=0, ha="right", va="center")


def _histogram(axis, bits: dict) -> None:
    low = min(np.quantile(part, 0.01) for part in bits.values())
    high = max(np.quantile(part, 0.99) for part in bits.values())
    edges = np.linspace(low, high, 80)
    for colour, (kind, part) in zip(COLOURS, bits.items(), strict=True):
        axis.hist(
            np.clip(part, low, high),
            edges,
            density=True,
            histtype="stepfilled" if kind == "normal" else "step",
            alpha=0.45 if kind == "normal" else 1.0,
            linewidth=1.6,
            color=colour,
            label=kind,
        )
    axis.set(
        yscale="log",
        xlabel="negative log-likelihood (bits/dim): left is more likely",
        ylabel="density of images",
        title="What the flow finds likely",
    )
    axis.legend()


def _table(axis, report, kinds: list, names: list) -> None:
    value = {(row.scorer, row.anomalies): row.auroc for row in report.rows}
    table = np.array([[value[name, kind].value for kind in kinds] for name in names])
    image = axis.imshow(table, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
    axis.set(
        xticks=range(len(kinds)),
        yticks=range(len(names)),
        xticklabels=kinds,
        yticklabels=names,
        title=f"AUROC, with {report.confidence:.0%} intervals; 0.5 is a coin",
    )
    dark = mpl.colormaps["cividis"]
    for i, name in enumerate(names):
        for j, kind in enumerate(kinds):
            light = sum(dark(table[i, j])[:3]) > 1.5
            axis.text(
                j,
                i,
                str(value[name, kind]),
                ha="center",
                va="center",
                color="black" if light else "white",
            )
    axis.figure.colorbar(image, ax=axis, shrink=0.9)
