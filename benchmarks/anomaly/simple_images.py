"""Simple images that no photograph looks like, to try a detector on."""

from __future__ import annotations

from typing import Any

import numpy as np


def simple_anomalies(
    images: Any, *, levels: int = 256, seed: int = 0
) -> dict[str, np.ndarray]:
    """Makes three sets of foreign images as large as a set of normal ones.

    Args:
        images: Whole pixel values `[n, h, w, c]` from 0 to `levels - 1`.
        levels: Number of values a pixel can take.
        seed: Of the random ones.

    Returns:
        Arrays of the shape and dtype of `images`: `"inverted"`, whose pixels are
        `levels - 1 - v`; `"constant"`, of one random colour each; `"noise"`, of
        independent uniform pixels.
    """
    images = _checked(images, levels)
    generator = np.random.default_rng(seed)
    n, *_, channels = images.shape
    colours = generator.integers(0, levels, [n, 1, 1, channels])
    return {
        "inverted": (levels - 1 - images.astype(np.int64)).astype(images.dtype),
        "constant": np.broadcast_to(colours, images.shape).astype(images.dtype),
        "noise": generator.integers(0, levels, images.shape).astype(images.dtype),
    }


def mutated(
    images: Any, *, rate: float = 0.2, levels: int = 256, seed: int = 0
) -> np.ndarray:
    """Replaces a share of the pixels by random ones, to train a background flow on.

    Args:
        images: Whole pixel values `[n, h, w, c]` from 0 to `levels - 1`.
        rate: Probability that a pixel is replaced, from 0 to 1.
        levels: Number of values a pixel can take.
        seed: Of the random choices.

    Returns:
        An array of the shape and dtype of `images`.

    Reference:
        Ren et al., 2019, arXiv:1906.02845, section 3.
    """
    images = _checked(images, levels)
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"Argument `rate` must be from 0 to 1. Received: rate={rate}")
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, levels, images.shape)
    replaced = generator.random(images.shape) < rate
    return np.where(replaced, noise, images).astype(images.dtype)


def _checked(images: Any, levels: int) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "Argument `images` must have shape [n, h, w, c]. "
            f"Received: shape {images.shape}"
        )
    if images.size and not (0 <= images.min() and images.max() < levels):
        raise ValueError(
            f"Argument `images` must hold pixel values from 0 to {levels - 1}. "
            f"Received: values from {images.min()} to {images.max()}"
        )
    return images
