"""Seeds for stateless samplers, and the noise that several rooms draw from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import (
    Arrays,
    DescribedLayer,
    Seed,
    invalid,
    is_integer,
)


def stateless_seed(seed: Seed) -> tf.Tensor:
    """Returns a seed of two integers; None draws one, as Keras's generators do."""
    if isinstance(seed, keras.random.SeedGenerator):
        return tf.cast(seed.next(), tf.int32)
    if isinstance(seed, str | float):
        must = "be an integer, a pair of integers, a `SeedGenerator` of Keras's or None"
        raise invalid("seed", must, seed)
    if is_integer(seed):
        return tf.stack([0, tf.cast(seed, tf.int32)])
    return tfp.random.sanitize_seed(seed)


def folded(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Returns the seed of the `number`-th of many draws that share one seed."""
    number = tf.cast(number, seed.dtype)
    return tf.random.experimental.stateless_fold_in(seed, number)


def noise_like(mean: tf.Tensor, seed: Seed) -> tf.Tensor:
    """Draws standard normal values of the shape and dtype of `mean` `[n, ...]`.

    The seed is one for all rows, or a tensor `[n, 2]` of one for each. A row's own
    seed gives what it gives to a batch of one row.
    """
    if not (isinstance(seed, tf.Tensor) and seed.shape.rank == 2):
        return tf.random.stateless_normal(
            tf.shape(mean), stateless_seed(seed), dtype=mean.dtype
        )
    event = tf.shape(mean)[1:]

    def row(pair: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal(event, pair, dtype=mean.dtype)

    spec = tf.TensorSpec(mean.shape[1:], mean.dtype)
    return tf.map_fn(row, seed, fn_output_signature=spec)


def dequantized(x: tf.Tensor, seed: Seed) -> tf.Tensor:
    """Returns `x + u` of whole numbers x, with `u ~ Uniform[0, 1)` for each.

    The sum never rounds up to the next whole number: in float32 255 + 0.9999999 would
    be 256, which a logit maps to infinity. `floor` gives x back.

    Reference: Theis, van den Oord, Bethge: A note on the evaluation of generative
    models, 2015, arXiv:1511.01844, section 3.1.
    """
    noise = tf.random.stateless_uniform(tf.shape(x), seed, dtype=x.dtype)
    return tf.minimum(x + noise, tf.math.nextafter(x + 1.0, x))


class TrainingNoise(DescribedLayer):
    """Draws of a Monte-Carlo estimate inside a distribution or bijector.

    While Keras trains each call has a seed of its own, so that no weight can adapt to
    the draws; otherwise all have the same, so that a density is a fixed function.
    """

    def __init__(self, seed: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(
        self, draw: Callable[[tf.Tensor, bool], Arrays], training: bool | None = None
    ) -> Arrays:
        """Returns `draw(seed, training)`; Keras wants `draw` as a keyword argument."""
        state = self._generator.next() if training else [self.seed, 0]
        return draw(tf.cast(state, tf.int32), bool(training))
