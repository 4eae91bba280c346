"""How clouds of points are drawn: their colours, the frame round them, the dots."""

import numpy as np
from matplotlib.axes import Axes

# Colours of Okabe and Ito, distinct for colour-blind readers too.
REAL, SAMPLED = "#0072B2", "#D55E00"

MAX_POINTS = 2_000


def frame_of(values: np.ndarray) -> tuple[float, float]:
    """Limits that hold nearly all values, with a margin."""
    low, high = np.percentile(values, [0.2, 99.8])
    margin = 0.12 * (high - low) or 1.0
    return low - margin, high + margin


def scatter(axes: Axes, points: np.ndarray, colour: str, title: str) -> None:
    """Draws points, or the first of very many."""
    shown = points[:MAX_POINTS]
    area = 3.0 if len(shown) > 500 else 10.0
    axes.scatter(
        *shown.T, s=area, color=colour, alpha=0.5, linewidths=0, rasterized=True
    )
    axes.set_title(title)
