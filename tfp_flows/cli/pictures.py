"""Which pictures a run draws, by the kind of its data."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfp_flows import plotting
from tfp_flows.data import Data
from tfp_flows.training.model import FlowModel

GRID_IMAGES, POINTS = 64, 2_000


def real_and_sampled(model: FlowModel, data: Data, seed: int) -> Figure | None:
    """Draws held-out data beside samples: a grid, a density map or a pair plot.

    Args:
        model: The trained model.
        data: Its data.
        seed: Seed of the samples.

    Returns:
        The figure, or None for images that no screen could show.
    """
    images = len(data.event_shape) == 3
    n = GRID_IMAGES if images else POINTS
    sampled = model.sample(n, seed=seed).numpy()
    if images:
        return _image_grids(data, sampled)
    if data.event_shape == (2,):

        def log_prob(x: np.ndarray) -> np.ndarray:
            return model.predict(x, batch_size=4096, verbose=0)

        labels = data.columns or ("$x_1$", "$x_2$")
        return plotting.density_map(log_prob, data.x_test, sampled, labels=labels)
    return plotting.pair_plot(data.x_test, sampled, data.columns)


def _image_grids(data: Data, sampled: np.ndarray) -> Figure | None:
    if data.event_shape[-1] not in (1, 3):
        return None
    real = np.asarray(data.x_test[: len(sampled)], np.float32)
    low, high = display_range(real, data.levels)
    return plotting.real_and_sampled_images(real - low, sampled - low, high - low)


def display_range(images: np.ndarray, levels: int | None) -> tuple[float, float]:
    """The values to show as black and white."""
    if levels is not None:
        return 0.0, float(levels)
    return float(images.min()), float(images.max())


def learning_curve(history: dict[str, list[float]], data: Data, lines: Any) -> Figure:
    """Draws bits per dimension for images and nats for everything else."""
    if data.kind == "image":
        return plotting.learning_curve(history, "bits_per_dim", "bits", lines)
    return plotting.learning_curve(history, "nll", "nats", lines)
