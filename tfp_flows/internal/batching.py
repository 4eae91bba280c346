"""Rows in minibatches: shuffled epochs over arrays, and functions of large batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import Arrays, Seed, TensorLike
from tfp_flows.internal.seeds import folded, stateless_seed

# What an epoch's seed is folded with for its order; its batches count from 0.
_ORDER = 2**31 - 1
_PREFETCHED = 4


def minibatches(
    arrays: Arrays,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    finish: Callable[[Arrays, tf.Tensor], Arrays] | None = None,
) -> tf.data.Dataset:
    """Returns one epoch of minibatches of arrays; iterated again, one more epoch.

    Args:
        arrays: An array `[n, ...]`, or a structure of arrays with the same `n`; None
            may stand in it.
        batch_size: Rows of a batch; the last one may have fewer.
        seed: Seed of the orders; None draws one for each epoch.
        finish: Applied to each batch, with a seed of two integers of its own.

    Returns:
        Batches of the structure of `arrays`, in the arrays' own dtypes.
    """
    seeds = tf.data.Dataset.random(
        seed=seed, rerandomize_each_iteration=seed is None or shuffle
    )
    n, epoch = _epochs(arrays, batch_size, shuffle, finish)
    dataset = seeds.batch(2).take(1).flat_map(epoch)
    count = tf.data.experimental.assert_cardinality(math.ceil(n / batch_size))
    return _untuned(dataset.apply(count))


def endless_minibatches(
    arrays: Arrays,
    batch_size: int,
    *,
    seed: int = 0,
    first: int = 0,
    finish: Callable[[Arrays, tf.Tensor], Arrays] | None = None,
) -> tf.data.Dataset:
    """Returns epochs of shuffled `minibatches` without end, from number `first` on.

    The order of epoch k and the noise in it follow from `seed` and k alone: training
    that goes on at epoch k after an interruption sees what it would have seen without
    one. `fit` needs `steps_per_epoch=ceil(n / batch_size)`.
    """
    _, epoch = _epochs(arrays, batch_size, True, finish)
    start = tf.constant([seed, 0], tf.int64)
    epochs = tf.data.Dataset.range(first, tf.int64.max)
    return _untuned(epochs.flat_map(lambda number: epoch(folded(start, number))))


def _epochs(
    arrays: Arrays, batch_size: int, shuffle: bool, finish: Callable | None
) -> tuple[int, Callable[[tf.Tensor], tf.data.Dataset]]:
    """Returns the number of rows, and what makes an epoch of a seed."""
    with tf.device("CPU:0"):  # `tf.data` runs there, wherever the model does
        rows = tf.nest.map_structure(
            lambda a: None if a is None else tf.convert_to_tensor(a), arrays
        )
    n = next(len(a) for a in tf.nest.flatten(rows) if a is not None)
    size = int(batch_size)

    def batch(order: tf.Tensor, seed: tf.Tensor, start: tf.Tensor) -> Arrays:
        chosen = order[start : start + size]
        chosen.set_shape([size if n % size == 0 else None])
        values = tf.nest.map_structure(
            lambda a: None if a is None else tf.gather(a, chosen), rows
        )
        return values if finish is None else finish(values, folded(seed, start))

    def epoch(seed: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(n, dtype=tf.int64)
        if shuffle:  # by sorting random keys: equal everywhere and stateless
            order = tf.random.experimental.stateless_shuffle(
                order, folded(seed, _ORDER)
            )
        starts = tf.data.Dataset.range(0, n, size)
        return starts.map(lambda start: batch(order, seed, start))

    return n, epoch


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off what a dataset of arrays in memory gains nothing from.

    The thread that tunes `tf.data`'s buffers sleeps longer and longer, and an iterator
    that ends sometimes waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.prefetch(_PREFETCHED).with_options(options)


def map_rows(
    function: Callable[..., Arrays],
    *arrays: Arrays,
    rows: int = 1024,
    seed: Seed = None,
) -> Arrays:
    """Computes a function of many rows as NumPy arrays, `rows` at a time, eagerly.

    It maps tensors `[m, ...]` to a structure of tensors `[m, ...]`, each row by itself;
    None among the arrays is handed on. With a `seed` it gets one after the arrays, a
    pair of integers of its own for each block of rows.
    """
    lengths = [len(a) for a in arrays if a is not None]
    none = not any(lengths)
    if none:  # a function of one row tells the shapes
        arrays = [
            a if a is None else np.zeros((1, *np.shape(a)[1:]), np.asarray(a).dtype)
            for a in arrays
        ]
    n = lengths[0]
    if set(lengths) != {n}:
        found = " and ".join(map(str, lengths))
        raise ValueError(f"Arrays must have equally many rows. Received: {found}")
    results = []
    for start in range(0, max(n, 1), rows):
        block = [None if a is None else a[start : start + rows] for a in arrays]
        own = [] if seed is None else [folded(stateless_seed(seed), start)]
        results.append(function(*block, *own))
    found = tf.nest.map_structure(
        lambda *blocks: np.concatenate([np.asarray(b) for b in blocks], axis=0),
        *results,
    )
    return tf.nest.map_structure(lambda a: a[:0], found) if none else found


def map_batches(function: Callable, rows: int = 2048) -> Callable[..., tf.Tensor]:
    """Makes a function of a batch work on some rows at a time, inside a graph.

    What lies between two layers of a network then stays in the processor's cache, and
    takes less memory; splines gain under XLA only (docs/speed.md). It is meant for
    scores and samples: gradients keep what all minibatches computed.

    Args:
        function: Maps tensors `[n, ...]`, each row by itself, to one tensor `[n, ...]`
            of the first one's dtype, such as `flow.log_prob`.

    Returns:
        A function of the same tensors with the same result but for rounding. Compile
        it: `tf.function(tfpf.map_batches(flow.log_prob), jit_compile=True)`.

    Example:
        >>> square = map_batches(tf.square, rows=2)
        >>> square(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
        [1.0, 4.0, 9.0]
    """
    if rows < 1:
        raise ValueError(f"Argument `rows` must be positive. Received: rows={rows}")

    def mapped(*tensors: TensorLike) -> tf.Tensor:
        first = tf.convert_to_tensor(tensors[0])
        given = [first, *map(tf.convert_to_tensor, tensors[1:])]
        n = _common_rows(given)
        if n is not None and n <= rows:
            return function(*given)
        count, size = _divided(tf.shape(first)[0] if n is None else n, rows)
        whole, rest = count * size, None if n is None else n - count * size
        results = tf.map_fn(
            lambda block: function(*block),
            [_stacked(x[:whole], count, size) for x in given],
            fn_output_signature=first.dtype,
        )
        results = tf.reshape(results, tf.concat([[whole], tf.shape(results)[2:]], 0))
        if rest == 0:
            return results
        return tf.concat([results, function(*(x[whole:] for x in given))], axis=0)

    return mapped


def _divided(n: int | tf.Tensor, rows: int) -> tuple[int | tf.Tensor, int]:
    """Returns how many minibatches of how many rows leave the fewest over."""
    if not isinstance(n, int):
        return n // rows, rows
    count = -(-n // rows)
    return count, n // count


def _stacked(x: tf.Tensor, count: int | tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, tf.concat([[count, size], tf.shape(x)[1:]], 0))


def _common_rows(tensors: list[tf.Tensor]) -> int | None:
    """Returns how many rows all tensors have, or None if that is not known yet."""
    known = set()
    for tensor in tensors:
        if tensor.shape.rank == 0:
            raise ValueError(
                "Every tensor must have rows, on its first axis. "
                f"Received: a tensor of shape {tensor.shape}"
            )
        if tensor.shape.rank is not None and tensor.shape[0] is not None:
            known.add(tensor.shape[0])
    if len(known) > 1:
        raise ValueError(
            "All tensors must have equally many rows. "
            f"Received: {', '.join(map(str, (t.shape for t in tensors)))}"
        )
    return known.pop() if known else None
