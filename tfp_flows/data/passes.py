"""Endless passes over arrays whose order follows from the number of the pass."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# What a pass's seed is folded with for its order; its batches count from 0 for noise.
_ORDER = 2**31 - 1


def endless_passes(
    arrays: Any,
    batch_size: int,
    *,
    seed: int = 0,
    first: int = 0,
    finish: Callable[[Any, tf.Tensor], Any] | None = None,
) -> tf.data.Dataset:
    """Makes an endless dataset of batches, pass after pass, each in a new order.

    The order of pass k and the noise in it follow from `seed` and k alone, whatever
    was drawn before: training that goes on at pass k after an interruption sees what
    it would have seen without one. A pass ends with a smaller batch if need be, so
    `fit` needs `steps_per_epoch=steps_of_pass(...)`.

    Args:
        arrays: An array `[n, ...]`, or a structure of arrays with the same `n`.
        batch_size: Examples in a batch.
        seed: Seed of orders and noise.
        first: Number of the first pass, from 0.
        finish: Applied to each batch, with a seed of two integers of its own; None
            leaves batches as they are.

    Returns:
        Batches `[batch_size, ...]`, without end.
    """
    with tf.device("CPU:0"):  # `tf.data` runs there, wherever the model does
        examples = tf.nest.map_structure(tf.constant, arrays)
    n = len(tf.nest.flatten(examples)[0])

    def batch(order: tf.Tensor, pass_seed: tf.Tensor, start: tf.Tensor) -> Any:
        chosen = order[start : start + batch_size]
        values = tf.nest.map_structure(lambda part: tf.gather(part, chosen), examples)
        if finish is None:
            return values
        return finish(values, _folded(pass_seed, start))

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        pass_seed = _folded(tf.constant([seed, 0], tf.int64), number)
        # Shuffled by sorting random keys: equal everywhere and stateless.
        order = tf.random.experimental.stateless_shuffle(
            tf.range(n, dtype=tf.int64), _folded(pass_seed, _ORDER)
        )
        starts = tf.data.Dataset.range(0, n, batch_size)
        return starts.map(
            lambda start: batch(order, pass_seed, start), tf.data.AUTOTUNE
        )

    passes = tf.data.Dataset.range(first, tf.int64.max)
    return passes.flat_map(one_pass).prefetch(tf.data.AUTOTUNE)


def steps_of_pass(n: int, batch_size: int) -> int:
    """Returns how many batches a pass over `n` examples has."""
    return math.ceil(n / batch_size)


def _folded(seed: tf.Tensor, number: Any) -> tf.Tensor:
    number = tf.cast(number, tf.int64)
    return tf.random.experimental.stateless_fold_in(seed, number)
