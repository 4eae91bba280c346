"""Figures of curves, densities and columns, and how they come to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tfp_flows.data.files import narrowed
from tfp_flows.internal.arguments import checked_choice, invalid
from tfp_flows.internal.files import atomic_write
from tfp_flows.internal.pictures import REAL, SAMPLED
from tfp_flows.tables.pictures import pairs_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DENSITY_MAP = "viridis"
MAX_POINTS, MAX_PAIR_COLUMNS = 2_000, 6


def density_map(
    log_prob: Callable[[np.ndarray], ArrayLike],
    data: ArrayLike,
    sampled: ArrayLike | None = None,
    grid_points: int = 200,
    labels: Sequence[str] = ("$x_1$", "$x_2$"),
    title: str = "data",
) -> Figure:
    """Draws 2-D data, samples of a flow if given, and the flow's density.

    Args:
        log_prob: Log-density in nats of points `[n, 2]`, `[n]`; they are in float32, or
            in float64 where float32 would not tell them apart.
        data: Points `[n, 2]`; a few thousand of them are shown, and they set the
            frame of all panels. Those that are not finite are left out.
        sampled: Samples `[n, 2]` of the flow.
    """
    from matplotlib.figure import Figure

    data = _points("data", data)
    frame = [_frame_of(data[:, i]) for i in range(2)]
    points = {title: (data, REAL)}
    if sampled is not None:
        points["sampled"] = (_points("sampled", sampled), SAMPLED)
    (left, right), (bottom, top) = frame
    # Panels as tall as the equal scales of both axes make them.
    height = 3.6 * min(2.0, max(0.4, (top - bottom) / (right - left)))
    panels = len(points) + 1
    figure = Figure(figsize=(4.1 * panels + 0.8, height + 1.1), layout="constrained")
    all_axes = figure.subplots(1, panels, sharex=True, sharey=True)
    for axes, (title, (x, colour)) in zip(all_axes, points.items(), strict=False):
        _scatter(axes, x, colour, title)
    _draw_density(all_axes[-1], log_prob, frame, grid_points)
    for axes in all_axes:
        axes.set(xlim=frame[0], ylim=frame[1], xlabel=labels[0], aspect="equal")
    all_axes[0].set_ylabel(labels[1])
    return figure


def _draw_density(
    axes: Axes,
    log_prob: Callable[[np.ndarray], ArrayLike],
    frame: Sequence[tuple[float, float]],
    grid_points: int,
) -> None:
    """Colours a panel by the density at the middle of each cell of a grid."""
    edges = [np.linspace(*limits, grid_points + 1) for limits in frame]
    middles = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    grid = np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2)
    p = np.exp(np.asarray(log_prob(narrowed(grid)), np.float64))
    p = p.reshape(grid_points, grid_points)
    mesh = axes.pcolormesh(*edges, p, cmap=DENSITY_MAP, rasterized=True)
    bar = axes.inset_axes((1.03, 0.0, 0.04, 1.0))
    axes.figure.colorbar(mesh, cax=bar, label="density")
    axes.set_title("density of the flow")


def _points(name: str, x: ArrayLike) -> np.ndarray:
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x).all(axis=-1)
    if x.ndim != 2 or x.shape[1] != 2 or not finite.any():
        must = "have the shape [n, 2] with n > 0, and finite rows"
        raise invalid(name, must, x.shape)
    return x[finite]


def pair_plot(
    real: ArrayLike, sampled: ArrayLike, columns: Sequence[str] | None = None
) -> Figure:
    """Draws histograms of each column and scatters of each pair, real and sampled.

    Both are rows `[n, columns]`. Of more than six columns the first six are drawn;
    rows that are not finite are left out.
    """
    real, sampled = (np.asarray(table, np.float64) for table in (real, sampled))
    if real.ndim != 2 or real.shape[1:] != sampled.shape[1:]:
        raise ValueError(
            "Arguments `real` and `sampled` must have the shapes [n, columns] and "
            f"[m, columns]. Received: {real.shape} and {sampled.shape}"
        )
    names = list(columns or (f"x{i}" for i in range(real.shape[1])))[:MAX_PAIR_COLUMNS]
    finite = (rows[np.isfinite(rows).all(axis=1)] for rows in (real, sampled))
    # More names than columns, or columns than names, are left out.
    tables = [dict(zip(names, rows.T, strict=False)) for rows in finite]
    return pairs_figure(*tables)


def learning_curve(
    history: Mapping[str, Sequence[float]],
    metric: str = "nll",
    unit: str = "nats",
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draws a metric over the epochs, for training and, if there, held-out data.

    Values come by name, as in Keras's `History.history`: `metric` and, if there was
    validation, `"val_" + metric`, spaced out if only every few epochs had one. `lines`
    are horizontal ones by name, such as baselines or the true entropy; `unit` is for
    the axis label.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    checked_choice("metric", metric, history)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    curves = {"training": (metric, REAL), "held out": (f"val_{metric}", SAMPLED)}
    shown: list[float] = []
    last = max(len(history.get(name, ())) for name, _ in curves.values())
    for label, (name, colour) in curves.items():
        if name in history:
            values = np.asarray(history[name], float)
            every = last // max(1, len(values))  # Keras's `validation_freq`
            epochs = every * np.arange(1, len(values) + 1)
            marker = "o" if len(values) < 30 else None
            axes.plot(epochs, values, color=colour, marker=marker, ms=4, label=label)
            shown.extend(values[np.isfinite(values)])
    for style, (label, value) in zip(
        ("--", ":", "-.", (0, (1, 3))), (lines or {}).items(), strict=False
    ):
        named = f"{label} ({value:.2f})"
        axes.axhline(value, color="0.35", linestyle=style, lw=1.2, label=named)
        shown.append(value)
    _limit_to_the_settled_part(axes, shown, list((lines or {}).values()))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric.replace('_', ' ')} [{unit}]")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _limit_to_the_settled_part(
    axes: Axes, values: Sequence[float], lines: Sequence[float]
) -> None:
    """Cuts the first epochs off the top where they would flatten all the rest.

    The lowest of the lines stays in sight: it is what a curve has to beat.
    """
    if not values:
        return
    low, middle, high = np.min(values), np.median(values), np.max(values)
    if high - low > 8 * (middle - low) > 0:
        span = max(4 * (middle - low), 1.1 * (min(lines, default=low) - low))
        axes.set_ylim(low - 0.08 * span, low + span)


def save(figure: Figure, path: str | os.PathLike, dpi: int = 150) -> None:
    """Writes a figure to a file, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in FigureCanvasAgg.get_supported_filetypes():
        raise invalid("path", "end in a picture format such as .png", str(path))
    with atomic_write(path) as written:
        figure.savefig(written, dpi=dpi, format=kind)


def _frame_of(values: np.ndarray) -> tuple[float, float]:
    """Limits that hold nearly all values, with a margin."""
    low, high = np.percentile(values, [0.2, 99.8])
    margin = 0.12 * (high - low) or 1.0
    return low - margin, high + margin


def _scatter(axes: Axes, points: np.ndarray, colour: str, title: str) -> None:
    """Draws points, or the first of very many."""
    shown = points[:MAX_POINTS]
    area = 3.0 if len(shown) > 500 else 10.0
    axes.scatter(
        *shown.T, s=area, color=colour, alpha=0.5, linewidths=0, rasterized=True
    )
    axes.set_title(title)
