"""One picture of a calibration: rank histograms above, coverage below."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from tfp_flows.tools.calibration.ranks import Calibration

# Blue and grey of the other pictures, distinct for colour-blind readers too.
_RANKS, _BAND = "#0072B2", "0.82"


def calibration_figure(
    calibration: Calibration, bins: int | None = None, confidence: float = 0.99
) -> Figure:
    """Draws the ranks of each parameter and the coverage of its intervals.

    Grey bands hold what an exact posterior would show, in each bin and at each level
    with the given probability.

    Args:
        calibration: What `calibrate` returned.
        bins: Number of bins of the histograms; see `Calibration.counts`.
        confidence: Probability of the bands, in (0, 1).

    Returns:
        A `matplotlib.figure.Figure`, to be saved by its `savefig`.
    """
    d = len(calibration.names)
    figure = Figure(figsize=(2.9 * max(d, 2) + 0.5, 5.4), layout="constrained")
    axes = figure.subplots(2, d, squeeze=False, sharey="row")
    counts, expected = calibration.counts(bins)
    for k, name in enumerate(calibration.names):
        _histogram(axes[0, k], counts[k], expected, calibration, confidence)
        p = calibration.p_values(bins)[k]
        axes[0, k].set_title(f"{name}: p = {p:.2g}")
        _coverage(axes[1, k], calibration, k, confidence)
    axes[0, 0].set_ylabel("simulations")
    axes[1, 0].set_ylabel("share that holds the truth")
    return figure


def _histogram(
    axes: Axes,
    counts: np.ndarray,
    expected: np.ndarray,
    calibration: Calibration,
    confidence: float,
) -> None:
    n = len(calibration.ranks)
    edges = np.linspace(0.0, 1.0, len(counts) + 1)
    share = expected / n
    tail = 0.5 * (1.0 - confidence)
    low, high = (stats.binom.ppf(q, n, share) for q in (tail, 1.0 - tail))
    axes.stairs(high, edges, baseline=low, fill=True, color=_BAND)
    axes.stairs(expected, edges, color="0.45", lw=1.0)
    axes.stairs(counts, edges, color=_RANKS, lw=1.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("rank of the truth among draws")


def _coverage(axes: Axes, calibration: Calibration, k: int, confidence: float) -> None:
    n = len(calibration.ranks)
    levels = np.linspace(0.0, 1.0, 101)
    tail = 0.5 * (1.0 - confidence)
    low, high = (stats.binom.ppf(q, n, levels) / n for q in (tail, 1.0 - tail))
    axes.fill_between(levels, low, high, color=_BAND, lw=0.0)
    axes.plot([0.0, 1.0], [0.0, 1.0], color="0.45", lw=1.0)
    axes.plot(levels, calibration.coverage(levels)[:, k], color=_RANKS, lw=1.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("mass of the central interval")
