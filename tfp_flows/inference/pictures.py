"""Pictures of posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.pictures import BLUE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.7"
_MOST_VALUES, _MOST_POINTS, _CELLS = 12, 1000, 60
_MASSES = (0.95, 0.5)


def posterior_figure(
    draws: npt.ArrayLike,
    prior: npt.ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    truth: npt.ArrayLike | None = None,
) -> Figure:
    """Draws the marginals of a posterior, and the regions of each pair of values.

    Regions hold 50 % and 95 % of the draws. Of more than 12 values the first 12 are
    drawn. The frame is that of the posterior, whatever the prior's.

    Args:
        draws: Posterior draws `[n, d]`.
        prior: Draws from the prior `[m, d]`, in grey.
        names: One for each value; None numbers them.
        truth: The true values `[d]`, as lines.
    """
    from matplotlib.figure import Figure

    draws = np.asarray(draws, np.float64)
    if draws.ndim != 2 or not draws.size or not np.isfinite(draws).all():
        raise invalid("draws", "be finite, of shape [n, d]", draws.shape)
    d = draws.shape[1]
    named = list(names or (f"parameter {k}" for k in range(1, d + 1)))
    before = None if prior is None else np.asarray(prior, np.float64)
    for name, size in (
        ("names", len(named)),
        ("prior", d if before is None else before.shape[-1]),
        ("truth", d if truth is None else np.size(truth)),
    ):
        if size != d:
            raise invalid(name, f"be of {d} values, as `draws`", got=f"{size} of them")
    shown = min(d, _MOST_VALUES)
    figure = Figure(figsize=(1.7 * shown + 1.0,) * 2, layout="constrained")
    panels = figure.subplots(shown, shown, squeeze=False)
    frames = [_frame(draws[:, k]) for k in range(shown)]
    for i in range(shown):
        for j in range(shown):
            panel = panels[i, j]
            if j > i:
                panel.set_axis_off()
                continue
            if i == j:
                _marginal(panel, draws[:, i], before, i, frames[i])
            else:
                _region(panel, draws[:, [j, i]], before, (j, i), frames[j], frames[i])
            _mark(panel, truth, j, None if i == j else i)
            panel.tick_params(labelsize=7, labelleft=j == 0 and i > 0)
            panel.tick_params(labelbottom=i == shown - 1, axis="x", rotation=30)
        panels[-1, i].set_xlabel(named[i])
        if i:
            panels[i, 0].set_ylabel(named[i])
    _legend(figure, prior is not None, truth is not None)
    return figure


def _legend(figure: Figure, prior: bool, truth: bool) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=BLUE, label="posterior (regions: 50 %, 95 %)")]
    if prior:
        lines.append(Line2D([], [], color=_GREY, lw=4, label="prior"))
    if truth:
        lines.append(Line2D([], [], color=VERMILLION, label="truth"))
    figure.legend(
        handles=lines, loc="outside upper right", frameon=False, ncols=len(lines)
    )


def _frame(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [0.1, 99.9])
    margin = 0.12 * (high - low) or 0.5
    return low - margin, high + margin


def _marginal(
    panel: Axes,
    draws: np.ndarray,
    prior: np.ndarray | None,
    k: int,
    frame: tuple[float, float],
) -> None:
    edges = np.linspace(*frame, 41)
    width = edges[1] - edges[0]
    if prior is not None:
        heights = np.histogram(prior[:, k], edges)[0] / (len(prior) * width)
        panel.stairs(heights, edges, fill=True, color=_GREY, alpha=0.6)
    heights = np.histogram(draws, edges)[0] / (len(draws) * width)
    panel.stairs(heights, edges, color=BLUE, lw=1.4)
    panel.set(xlim=frame, yticks=[])
    panel.set_ylim(bottom=0.0)


def _region(
    panel: Axes,
    draws: np.ndarray,
    prior: np.ndarray | None,
    pair: tuple[int, int],
    across: tuple[float, float],
    up: tuple[float, float],
) -> None:
    """Draws the smallest cells of a smoothed histogram that hold the masses."""
    from scipy.ndimage import gaussian_filter

    if prior is not None:
        points = prior[:, list(pair)]
        inside = (points > [across[0], up[0]]) & (points < [across[1], up[1]])
        points = points[inside.all(axis=1)][:_MOST_POINTS]
        panel.scatter(*points.T, s=2, color=_GREY, lw=0, rasterized=True)
    # No further than the draws: smoothing would cross the edge of a support.
    ends = zip(draws.min(axis=0), draws.max(axis=0), (across, up), strict=True)
    spans = [(max(low, f[0]), min(high, f[1])) for low, high, f in ends]
    counts, x, y = np.histogram2d(*draws.T, bins=_CELLS, range=spans)
    smooth = gaussian_filter(counts, 1.5)
    heights = np.sort(smooth.ravel())[::-1]
    held = np.cumsum(heights) / heights.sum()
    levels = [heights[np.searchsorted(held, mass)] for mass in _MASSES]
    if levels[0] < levels[1] < heights[0]:
        middles = [0.5 * (edges[1:] + edges[:-1]) for edges in (x, y)]
        fill = [*levels, heights[0]]
        panel.contourf(*middles, smooth.T, fill, colors=[BLUE], alpha=0.25)
        panel.contour(*middles, smooth.T, levels, colors=[BLUE], linewidths=1.0)
    else:
        panel.scatter(*draws[:_MOST_POINTS].T, s=2, color=BLUE, lw=0)
    panel.set(xlim=across, ylim=up)


def _mark(panel: Axes, truth: npt.ArrayLike | None, x: int, y: int | None) -> None:
    if truth is None:
        return
    values = np.ravel(truth)
    panel.axvline(values[x], color=VERMILLION, lw=1.0)
    if y is not None:
        panel.axhline(values[y], color=VERMILLION, lw=1.0)
