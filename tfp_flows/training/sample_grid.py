"""`SampleGrid`: pictures of what an image flow samples, while it trains."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def picture_grid(
    images: Any, levels: float, columns: int | None = None, margin: int = 1
) -> np.ndarray:
    """Lays images out as one picture, in rows from the top left.

    Args:
        images: Pixel values `[n, h, w, c]`, or `[rows, columns, h, w, c]` as the
            tools for images return them, in `[0, levels)` with 1 or 3 channels;
            values outside are clipped, and whatever is not a number turns black.
        levels: How many values a pixel can take, such as 256.
        columns: Images in a row; None for the rows that `images` has, or else for
            a grid about as wide as high.
        margin: White pixels between the images.

    Returns:
        The picture, `uint8` of shape `[height, width, c]`.

    Raises:
        ValueError: If `images` has another shape or holds no image.
    """
    images = np.asarray(images)
    if images.ndim == 5:
        columns = columns or images.shape[1]
        images = images.reshape(-1, *images.shape[2:])
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise ValueError(
            "Argument `images` must have shape [n, height, width, 1 or 3] with n > 0. "
            f"Received: images of shape {images.shape}"
        )
    n, height, width, channels = images.shape
    in_a_row = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / in_a_row)
    shape = (rows * (height + margin) - margin, in_a_row * (width + margin) - margin)
    picture = np.full((*shape, channels), 255, np.uint8)
    # A value v of a dequantized image stands for the whole pixel floor(v).
    whole = np.clip(np.floor(np.nan_to_num(images)), 0, levels - 1)
    whole = np.rint(whole * (255 / (levels - 1))).astype(np.uint8)
    for index, image in enumerate(whole):
        top = index // in_a_row * (height + margin)
        left = index % in_a_row * (width + margin)
        picture[top : top + height, left : left + width] = image
    return picture


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes a `uint8` picture `[height, width, 1 or 3]`, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(tf.io.encode_png(picture).numpy())
    os.replace(beside, path)


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of samples after every few epochs, to disk and TensorBoard.

    The latents are the same each time, so that the pictures show one flow change.

    Example:
        >>> import keras, tfp_flows as tff
        >>> flow = tff.glow((8, 8, 1), levels=1, steps=1, hidden_channels=4)
        >>> grids = SampleGrid("samples", levels=17, every=5)
        >>> # tff.FlowModel(flow).fit(data, callbacks=[grids])
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        levels: float,
        *,
        every: int = 1,
        n: int = 64,
        temperature: float = 1.0,
        condition: Any = None,
        seed: int = 0,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        """Chooses what to draw and where.

        Args:
            directory: Folder for the files `samples-0001.png`, ..., by epoch.
            levels: How many values a pixel can take, such as 256.
            every: Epochs from one grid to the next.
            n: Number of samples, for each condition where there are any.
            temperature: Spread of the latents; see `FlowModel.sample`.
            condition: For a conditional flow, conditions `[m, *shape]`; the grid then
                has a column for each of them.
            seed: Seed of the latents.
            log_dir: TensorBoard's folder; None to write files only.

        Raises:
            ValueError: If `every` or `n` is not a positive integer.
        """
        super().__init__()
        for name, value in {"every": every, "n": n}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"Argument `{name}` must be a positive integer. "
                    f"Received: {name}={value!r}"
                )
        self._directory = Path(directory)
        self._levels = levels
        self._every = every
        self._arguments = {"n": n, "seed": seed, "temperature": temperature}
        self._condition = condition
        self._writer = (
            None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        )
        self._draw: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepares a graph that draws samples with the weights of the moment."""

        def draw() -> tf.Tensor:
            return self.model.sample(**self._arguments, condition=self._condition)

        self._draw = tf.function(draw)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Draws and writes, if it is time to."""
        if (epoch + 1) % self._every:
            return
        samples = self._draw().numpy()
        columns = None if self._condition is None else samples.shape[1]
        images = samples.reshape(-1, *samples.shape[-3:])
        picture = picture_grid(images, self._levels, columns)
        write_png(self._directory / f"samples-{epoch + 1:04d}.png", picture)
        if self._writer is not None:
            _log_image(self._writer, "samples", picture, epoch + 1)


def _log_image(
    writer: tf.summary.SummaryWriter, tag: str, picture: np.ndarray, step: int
) -> None:
    """Writes a picture for TensorBoard, which need not be installed here."""
    # What its image plugin reads: width, height, then the encoded pictures.
    height, width = picture.shape[:2]
    parts = [str(width).encode(), str(height).encode(), tf.io.encode_png(picture)]
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
    with writer.as_default():
        tf.summary.write(tag, tf.stack(parts), step=step, metadata=metadata)
    writer.flush()
