"""`pair_plot`: histograms of columns and scatters of their pairs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_flows.plotting.points import REAL, SAMPLED, frame_of, scatter

MAX_PAIR_COLUMNS = 6


def pair_plot(real: Any, sampled: Any, columns: Sequence[str] | None = None) -> Figure:
    """Draws histograms of each column and scatters of each pair, real and sampled.

    Args:
        real: Rows ``[n, columns]``.
        sampled: Samples of as many columns.
        columns: Column names. Of more than six columns the first six are drawn.

    Returns:
        The figure.

    Raises:
        ValueError: If the tables do not have equally many columns.
    """
    real, sampled = (np.asarray(table, np.float64) for table in (real, sampled))
    if real.ndim != 2 or real.shape[1:] != sampled.shape[1:]:
        raise ValueError(
            f"`real` and `sampled` must have the shapes [n, columns] and [m, columns]. "
            f"Received: {real.shape} and {sampled.shape}."
        )
    d = min(real.shape[1], MAX_PAIR_COLUMNS)
    names = list(columns or (f"x{i}" for i in range(d)))
    frames = [frame_of(real[:, i]) for i in range(d)]
    size = max(4.2, 1.9 * d)
    figure = Figure(figsize=(size, size), layout="constrained")
    grid = figure.subplots(d, d, squeeze=False)
    for i in range(d):
        for j in range(d):
            if i == j:
                _histograms(grid[i, i], real[:, i], sampled[:, i], frames[i])
            else:
                # Real below the diagonal, sampled above: the two mirror each other.
                table, colour = (real, REAL) if i > j else (sampled, SAMPLED)
                scatter(grid[i, j], table[:, [j, i]], colour, "")
                grid[i, j].set(xlim=frames[j], ylim=frames[i])
            _label_outside(grid[i, j], i, j, d, names)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _histograms(
    axes: Axes, real: np.ndarray, sampled: np.ndarray, frame: tuple[float, float]
) -> None:
    count = int(np.clip(math.sqrt(min(len(real), len(sampled))), 8, 40))
    bins = list(np.linspace(*frame, count + 1))
    for values, colour, label in ((real, REAL, "real"), (sampled, SAMPLED, "sampled")):
        axes.hist(
            values,
            bins,
            density=True,
            histtype="step",
            color=colour,
            label=label,
            lw=1.4,
        )
    axes.set(xlim=frame, yticks=[])


def _label_outside(axes: Axes, i: int, j: int, d: int, names: Sequence[str]) -> None:
    """Puts names on the left and lower rim only, and ticks nowhere else."""
    if i == d - 1:
        axes.set_xlabel(names[j])
    else:
        axes.tick_params(labelbottom=False)
    if j == 0:
        axes.set_ylabel(names[i])
    if j != 0 or i == 0:
        axes.tick_params(labelleft=False)
