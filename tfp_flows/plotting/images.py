"""Grids of images, alone or real beside sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tfp_flows.internal.pictures import picture_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_grid(
    images: ArrayLike,
    pixel_levels: float = 256,
    columns: int | None = None,
    title: str | None = None,
    column_titles: Sequence[str] = (),
) -> Figure:
    """Draws images in a grid.

    Args:
        images: Pixel values in `[0, pixel_levels)`, `[n, height, width, channels]` or
            `[rows, columns, height, width, channels]`, with 1 or 3 channels.
        pixel_levels: How many values a pixel can take, of which the highest is white;
            what lies outside is clipped.
        columns: How many images in a row; None for about as many as rows.
    """
    grid = _grid(images, pixel_levels, columns)
    figure = _figure({title: grid})
    (axes,) = figure.axes
    if column_titles:
        axes.set_title(title or "", pad=24)
    for index, text in enumerate(column_titles):
        middle = (index + 0.5) * grid.shape[1] / len(column_titles)
        axes.text(middle, -2.5, text, ha="center", va="bottom", fontsize=9)
    return figure


def real_and_sampled_images(
    real: ArrayLike,
    sampled: ArrayLike,
    pixel_levels: float = 256,
    columns: int | None = None,
) -> Figure:
    """Draws a grid of real images beside one of samples, both as in `image_grid`."""
    both = {"real": real, "sampled": sampled}
    return _figure({k: _grid(x, pixel_levels, columns) for k, x in both.items()})


def _grid(images: ArrayLike, pixel_levels: float, columns: int | None) -> np.ndarray:
    images = np.asarray(images)
    height = images.shape[-3] if images.ndim > 2 else 1
    return picture_grid(images, pixel_levels, columns, margin=max(1, height // 14))


def _figure(grids: dict[str | None, np.ndarray]) -> Figure:
    """Draws pictures side by side, each at most 4.4 inches high, under their titles."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height, width = next(iter(grids.values())).shape[:2]
    across = min(16.0, (4.4 * width / height + 0.3) * len(grids))
    high = min(5.0, 1.0 + across / len(grids) * height / width)
    # White between grids of images and around them.
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(across, high), layout=layout)
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    for axes, (title, grid) in zip(panels, grids.items(), strict=True):
        picture = grid[..., 0] if grid.shape[-1] == 1 else grid
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        if title:
            axes.set_title(title)
    return figure
