"""Grids of images, alone or real beside sampled."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def image_grid(
    images: Any,
    levels: float = 256,
    columns: int | None = None,
    title: str | None = None,
    column_titles: Sequence[str] = (),
) -> Figure:
    """Draws images in a grid.

    Args:
        images: Pixel values in ``[0, levels)``, ``[n, height, width, channels]`` or
            ``[rows, columns, height, width, channels]``, with 1 or 3 channels.
        levels: The value of white; what lies outside of ``[0, levels]`` is clipped.
        columns: How many images in a row; None for about as many as rows.
        title: Text above the grid.
        column_titles: A word for each column.

    Returns:
        The figure.

    Raises:
        ValueError: If ``images`` has another shape.
    """
    images = np.asarray(images)
    if images.ndim == 5:
        columns = columns or images.shape[1]
        images = images.reshape(-1, *images.shape[2:])
    tiles = _tiles(images, levels, columns)
    figure = Figure(figsize=_grid_size(tiles, 1), layout=_roomy())
    axes = figure.add_subplot()
    _draw_tiles(axes, tiles, title)
    if column_titles:
        axes.set_title(title or "", pad=24)
    for index, text in enumerate(column_titles):
        middle = (index + 0.5) * tiles.shape[1] / len(column_titles)
        axes.text(middle, -2.5, text, ha="center", va="bottom", fontsize=9)
    return figure


def real_and_sampled_images(
    real: Any, sampled: Any, levels: float = 256, columns: int | None = None
) -> Figure:
    """Draws a grid of real images beside one of samples.

    Args:
        real: Real images, as in ``image_grid``.
        sampled: Samples of the same shape.
        levels: The value of white.
        columns: How many images in a row of each grid.

    Returns:
        The figure.

    Raises:
        ValueError: If the images have another shape.
    """
    both = {
        "real": _tiles(real, levels, columns),
        "sampled": _tiles(sampled, levels, columns),
    }
    figure = Figure(figsize=_grid_size(both["real"], 2), layout=_roomy())
    for axes, (title, tiles) in zip(figure.subplots(1, 2), both.items(), strict=True):
        _draw_tiles(axes, tiles, title)
    return figure


def _tiles(images: Any, levels: float, columns: int | None) -> np.ndarray:
    """Lays images out as one picture in [0, 1], with a white gap between them."""
    x = np.asarray(images, np.float64)
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or len(x) == 0:
        raise ValueError(
            f"`images` must have the shape [n, height, width, 1 or 3]. "
            f"Received: {x.shape}."
        )
    x = np.clip(np.nan_to_num(x / levels), 0.0, 1.0)
    n, height, width, channels = x.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    gap = max(1, height // 14)
    canvas = np.ones(
        [rows * (height + gap) - gap, columns * (width + gap) - gap, channels]
    )
    for index in range(n):
        top = (index // columns) * (height + gap)
        left = (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = x[index]
    return canvas


def _grid_size(tiles: np.ndarray, panels: int) -> tuple[float, float]:
    """Figure size in inches for panels at most 4.4 inches high, with titles."""
    height, width = tiles.shape[:2]
    across = min(16.0, (4.4 * width / height + 0.3) * panels)
    return across, min(5.0, 1.0 + across / panels * height / width)


def _roomy() -> ConstrainedLayoutEngine:
    """A layout that leaves white between grids of images and around them."""
    return ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)


def _draw_tiles(axes: Axes, tiles: np.ndarray, title: str | None) -> None:
    picture = tiles[..., 0] if tiles.shape[-1] == 1 else tiles
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title)
