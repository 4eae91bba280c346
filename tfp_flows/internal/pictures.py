"""Images laid out as one picture, and the colours of the package's figures."""

from __future__ import annotations

import math
import os

import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import TensorLike, invalid
from tfp_flows.internal.files import atomic_write

# Colours of Okabe and Ito, distinct for colour-blind readers too.
BLUE, VERMILLION = "#0072B2", "#D55E00"
REAL, SAMPLED = BLUE, VERMILLION


def picture_grid(
    images: TensorLike, pixel_levels: float, columns: int | None = None, margin: int = 1
) -> np.ndarray:
    """Lays images out as one picture, in rows from the top left.

    Args:
        images: Pixel values `[n, h, w, c]` in `[0, pixel_levels)`, or `[rows, columns,
            h, w, c]`, with 1 or 3 channels; values outside are clipped, and whatever
            is not a number turns black.
        pixel_levels: How many values a pixel can take, such as 256; 1 for values that
            fill [0, 1].
        columns: Images in a row; None for the rows that `images` has, or else for
            a grid about as wide as high.

    Returns:
        The picture, `uint8` of shape `[height, width, c]`.
    """
    images = np.asarray(images)
    if images.ndim == 5:
        columns = columns or images.shape[1]
        images = images.reshape(-1, *images.shape[2:])
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        must = "have shape [n, height, width, 1 or 3] with n > 0"
        raise invalid("images", must, got=f"images of shape {images.shape}")
    n, height, width, channels = images.shape
    in_a_row = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / in_a_row)
    shape = (rows * (height + margin) - margin, in_a_row * (width + margin) - margin)
    picture = np.full((*shape, channels), 255, np.uint8)
    whole, most = np.nan_to_num(images), pixel_levels
    if pixel_levels > 1:  # a value v of a dequantized image stands for floor(v)
        whole, most = np.floor(whole), pixel_levels - 1
    whole = np.rint(np.clip(whole, 0, most) * (255 / most)).astype(np.uint8)
    for index, image in enumerate(whole):
        top = index // in_a_row * (height + margin)
        left = index % in_a_row * (width + margin)
        picture[top : top + height, left : left + width] = image
    return picture


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes a `uint8` picture `[height, width, 1 or 3]`."""
    with atomic_write(path) as written:
        written.write_bytes(tf.io.encode_png(picture).numpy())
