"""`learning_curve`: the likelihood over the epochs, beside simple baselines."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfp_flows.plotting.points import REAL, SAMPLED


def learning_curve(
    history: Mapping[str, Sequence[float]],
    metric: str = "nll",
    unit: str = "nats",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draws a metric over the epochs, for training and, if there, held-out data.

    Args:
        history: Values by name, as in Keras's ``History.history``: ``metric`` and, if
            there was validation, ``"val_" + metric``.
        metric: Which metric to draw.
        unit: Unit of the metric, for the axis label.
        levels: Named horizontal lines, such as baselines or the true entropy.

    Returns:
        The figure.

    Raises:
        ValueError: If ``history`` does not hold the metric.
    """
    if metric not in history:
        raise ValueError(
            f"`metric` must be one of {', '.join(history)}. Received: {metric!r}."
        )
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    curves = {"training": (metric, REAL), "held out": (f"val_{metric}", SAMPLED)}
    shown: list[float] = []
    for label, (name, colour) in curves.items():
        if name in history:
            values = np.asarray(history[name], float)
            epochs = np.arange(1, len(values) + 1)
            marker = "o" if len(values) < 30 else None
            axes.plot(epochs, values, color=colour, marker=marker, ms=4, label=label)
            shown.extend(values[np.isfinite(values)])
    for style, (label, value) in zip(
        ("--", ":", "-.", (0, (1, 3))), (levels or {}).items(), strict=False
    ):
        named = f"{label} ({value:.2f})"
        axes.axhline(value, color="0.35", linestyle=style, lw=1.2, label=named)
        shown.append(value)
    _limit_to_the_settled_part(axes, shown, list((levels or {}).values()))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric.replace('_', ' ')} [{unit}]")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _limit_to_the_settled_part(
    axes: Axes, values: Sequence[float], levels: Sequence[float]
) -> None:
    """Cuts the first epochs off the top where they would flatten all the rest.

    The lowest of the levels stays in sight: it is what a curve has to beat.
    """
    if not values:
        return
    low, middle, high = np.min(values), np.median(values), np.max(values)
    if high - low > 8 * (middle - low) > 0:
        span = max(4 * (middle - low), 1.1 * (min(levels, default=low) - low))
        axes.set_ylim(low - 0.08 * span, low + span)
