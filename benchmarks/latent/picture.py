"""One picture of a latent model: reconstructions above, samples below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfp_flows.internal.pictures import picture_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def latent_figure(
    model: Any,
    images: Any,
    *,
    sample_rows: int = 4,
    columns: int = 16,
    seed: Any = 0,
    temperature: float = 1.0,
) -> Figure:
    """Draws images, their reconstructions below them, and samples below those.

    Args:
        model: A `LatentFlow` or `LatentVAE`.
        images: Held-out images `[n, h, w, 1 or 3]`; the first `columns` are shown.
        sample_rows: Rows of samples.
        columns: Images in a row.
        seed: Seed of the samples.
        temperature: Spread of the latents; see `LatentFlow.sample`.

    Returns:
        A `matplotlib.figure.Figure`, to be saved by its `savefig`.
    """
    # Only pictures need matplotlib, which takes its time to import.
    from matplotlib.figure import Figure

    shown = np.asarray(images[:columns], np.float32)
    samples = model.sample(sample_rows * columns, seed, temperature)
    panels = {
        "images": shown,
        "reconstructions": model.reconstruct(shown),
        f"samples (temperature {temperature:g})": samples,
    }
    heights = [1, 1, sample_rows]
    height, width = model.event_shape[:2]
    inches = 0.6 * height / width * sum(heights) + 1.2
    figure = Figure(figsize=(0.6 * columns + 0.4, inches), layout="constrained")
    all_axes = figure.subplots(3, 1, height_ratios=heights)
    for axes, (title, tiles) in zip(all_axes, panels.items(), strict=True):
        picture = picture_grid(tiles, model.likelihood.pixel_levels, columns)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, loc="left")
        axes.set_axis_off()
    return figure
