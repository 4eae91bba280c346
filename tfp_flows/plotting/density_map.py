"""`density_map`: a density on the plane, beside the points it was learned from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_flows.plotting.points import REAL, SAMPLED, frame_of, scatter

DENSITY_MAP = "viridis"


def density_map(
    log_prob: Callable[[np.ndarray], Any],
    data: Any,
    sampled: Any | None = None,
    grid_points: int = 200,
    labels: Sequence[str] = ("$x_1$", "$x_2$"),
    title: str = "data",
) -> Figure:
    """Draws 2-D data, samples of a flow if given, and the flow's density.

    Args:
        log_prob: Log-density in nats of points ``[n, 2]`` in float32, ``[n]``.
        data: Points ``[n, 2]``; a few thousand of them are shown, and they set the
            frame of all panels.
        sampled: Samples ``[n, 2]`` of the flow.
        grid_points: Resolution of the map in each direction.
        labels: Names of the two axes.
        title: What to write above ``data``.

    Returns:
        The figure.

    Raises:
        ValueError: If ``data`` or ``sampled`` are no 2-D points.
    """
    data = _points("data", data)
    frame = [frame_of(data[:, i]) for i in range(2)]
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
        scatter(axes, x, colour, title)
    _draw_density(all_axes[-1], log_prob, frame, grid_points)
    for axes in all_axes:
        axes.set(xlim=frame[0], ylim=frame[1], xlabel=labels[0], aspect="equal")
    all_axes[0].set_ylabel(labels[1])
    return figure


def _draw_density(
    axes: Axes,
    log_prob: Callable[[np.ndarray], Any],
    frame: Sequence[tuple[float, float]],
    grid_points: int,
) -> None:
    """Colours a panel by the density at the middle of each cell of a grid."""
    edges = [np.linspace(*limits, grid_points + 1) for limits in frame]
    middles = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    grid = np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2)
    p = np.exp(np.asarray(log_prob(grid.astype(np.float32)), np.float64))
    p = p.reshape(grid_points, grid_points)
    mesh = axes.pcolormesh(*edges, p, cmap=DENSITY_MAP, rasterized=True)
    bar = axes.inset_axes((1.03, 0.0, 0.04, 1.0))
    axes.figure.colorbar(mesh, cax=bar, label="density")
    axes.set_title("density of the flow")


def _points(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != 2 or len(x) == 0:
        raise ValueError(f"`{name}` must have the shape [n, 2]. Received: {x.shape}.")
    return x
