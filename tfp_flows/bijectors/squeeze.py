"""`Squeeze`: trades an image's size for channels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def space_to_depth(x: tf.Tensor, block: int) -> tf.Tensor:
    """Moves each `block x block` patch onto the channel axis, any batch rank.

    Args:
        x: Images `[..., h, w, c]` with `h` and `w` divisible by `block`.
        block: Side of a patch.

    Returns:
        Images `[..., h/block, w/block, block**2 c]`; channels are ordered by row
        in the patch, then column, then the old channel.
    """
    return _on_one_batch_axis(lambda y: tf.nn.space_to_depth(y, block), x)


def depth_to_space(x: tf.Tensor, block: int) -> tf.Tensor:
    """Undoes `space_to_depth`."""
    return _on_one_batch_axis(lambda y: tf.nn.depth_to_space(y, block), x)


def _on_one_batch_axis(function: Any, x: tf.Tensor) -> tf.Tensor:
    if x.shape.rank == 4:
        return function(x)
    batch = tf.shape(x)[:-3]
    y = function(tf.reshape(x, [-1, *x.shape[-3:]]))
    unfolded = tf.reshape(y, tf.concat([batch, tf.shape(y)[1:]], 0))
    unfolded.set_shape(x.shape[:-3].concatenate(y.shape[1:]))
    return unfolded
