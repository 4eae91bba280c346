"""Standard normal noise with one seed, or one for each row."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.training.sampling import stateless_seed


def noise_like(mean: tf.Tensor, seed: Any) -> tf.Tensor:
    """Draws standard normal values of the shape of `mean` `[n, d]`.

    Args:
        mean: Gives shape and dtype.
        seed: One seed for all rows, or a tensor `[n, 2]` of one for each.

    Returns:
        The values. A row's own seed gives what it gives to a batch of one row.
    """
    if not (tf.is_tensor(seed) and seed.shape.rank == 2):
        return tf.random.stateless_normal(
            tf.shape(mean), stateless_seed(seed), dtype=mean.dtype
        )
    width = tf.shape(mean)[1:]

    def row(pair: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal(width, pair, dtype=mean.dtype)

    spec = tf.TensorSpec(mean.shape[1:], mean.dtype)
    return tf.map_fn(row, seed, fn_output_signature=spec)
