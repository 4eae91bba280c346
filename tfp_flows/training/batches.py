"""Batches for `fit`, `evaluate` and `predict` that do not stall between passes.

`tf.data` tunes what is left to `tf.data.AUTOTUNE` in a thread of its own. That thread
sleeps ever longer, and an iterator that ends waits for it: now and then it misses the
call and sleeps on, so that a pass of a few seconds is followed by one or two of waiting
(TensorFlow 2.21; `python -m benchmarks.passes`). Without the tuner parallel maps have
as many calls as the machine has cores, which batches in memory do not need anyway.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.training.inputs import with_weights

_BATCH_SIZE = 32  # Keras's own
_AHEAD = 2


def untuned(data: Any) -> Any:
    """Returns a dataset without its tuner, unless its options ask for one.

    Whatever else `data` is comes back as it is.
    """
    if not isinstance(data, tf.data.Dataset):
        return data
    if data.options().autotune.enabled is not None:
        return data
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def batches(
    x: Any, y: Any, sample_weight: Any, batch_size: int | None, shuffle: bool = False
) -> tf.data.Dataset | None:
    """Returns the batches of arrays that lie in memory.

    Args:
        x: An array, or a tuple, list or dictionary of some.
        y: The same, or None.
        sample_weight: An array, or None.
        batch_size: Rows of a batch; None means 32.
        shuffle: Whether each pass has an order of its own.

    Returns:
        A dataset of what `fit` packs these arguments into; None for anything but NumPy
        arrays and tensors of equally many rows.
    """
    data = _tuples(keras.utils.pack_x_y_sample_weight(x, y, sample_weight))
    n = _rows(data)
    if not n or not isinstance(shuffle, bool):
        return None
    size = batch_size or _BATCH_SIZE
    with tf.device("CPU:0"):  # `tf.data` runs there, wherever the model does
        arrays = tf.nest.map_structure(_tensor, data)

    def order(seed: tf.Tensor) -> tf.Tensor:
        rows = tf.range(n, dtype=tf.int64)
        if not shuffle:
            return rows
        return tf.random.experimental.stateless_shuffle(rows, seed)

    def batch(order: tf.Tensor, start: tf.Tensor) -> Any:
        chosen = order[start : start + size]
        chosen.set_shape([size if n % size == 0 else None])
        return tf.nest.map_structure(lambda array: tf.gather(array, chosen), arrays)

    def one_pass(order: tf.Tensor) -> tf.data.Dataset:
        starts = tf.data.Dataset.range(0, n, size)
        return starts.map(lambda start: batch(order, start))

    # Not `tf.random.shuffle`: once a seed is set it gives all passes one order.
    seeds = tf.data.Dataset.random(rerandomize_each_iteration=True).batch(2).take(1)
    dataset = seeds.map(order).flat_map(one_pass)
    count = tf.data.experimental.assert_cardinality(math.ceil(n / size))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.apply(count).prefetch(_AHEAD).with_options(options)


def for_fit(x: Any, y: Any, arguments: dict[str, Any]) -> tuple[Any, Any, dict]:
    """Puts batches in the place of arrays in the arguments of `keras.Model.fit`.

    Args:
        x: Data, as `fit` takes it.
        y: Targets, or None.
        arguments: All other arguments.

    Returns:
        The same three, changed where there are arrays that `batches` takes.
    """
    arguments = dict(arguments)
    weight, size = arguments.get("sample_weight"), arguments.get("batch_size")
    share = arguments.get("validation_split")
    if share and arguments.get("validation_data") is None and _rows((x, y, weight)):
        (x, y, weight), arguments["validation_data"] = _divided((x, y, weight), share)
        arguments |= {"sample_weight": weight, "validation_split": 0.0}
    if not arguments.get("validation_steps"):
        later = arguments.get("validation_batch_size") or size
        arguments["validation_data"] = _batches_of(
            arguments.get("validation_data"), later
        )
    if arguments.get("steps_per_epoch") or arguments.get("class_weight"):
        return untuned(x), y, arguments
    made = batches(x, y, weight, size, arguments.get("shuffle", True))
    if made is None:
        return untuned(x), y, arguments
    return made, None, {**_without_arrays(arguments), "shuffle": False}


def for_one_pass(x: Any, y: Any, arguments: dict[str, Any]) -> tuple[Any, Any, dict]:
    """Does the same for `evaluate` and `predict`, which keep the order of rows."""
    if arguments.get("steps"):
        return untuned(x), y, arguments
    made = batches(x, y, arguments.get("sample_weight"), arguments.get("batch_size"))
    if made is None:
        return untuned(x), y, arguments
    return made, None, _without_arrays(arguments)


def _without_arrays(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what batches have in them."""
    there = ("sample_weight", "batch_size")
    return {name: value for name, value in arguments.items() if name not in there}


def _batches_of(data: Any, size: int | None) -> Any:
    """Does the same for `validation_data`."""
    if data is None or isinstance(data, tf.data.Dataset):
        return untuned(data)
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    made = batches(x, with_weights(y, weight), weight, size)
    return data if made is None else made


def _divided(data: Any, share: float) -> tuple[Any, Any]:
    """Splits arrays as `validation_split` does: the last `share` of the rows apart."""
    kept = math.floor(_rows(data) * (1.0 - share))
    first = tf.nest.map_structure(lambda a: None if a is None else a[:kept], data)
    last = tf.nest.map_structure(lambda a: None if a is None else a[kept:], data)
    return first, last


def _rows(data: Any) -> int | None:
    """Returns how many rows all arrays have, or None if they are not such arrays."""
    counts = set()
    for leaf in tf.nest.flatten(data):
        if leaf is None:
            continue
        if not isinstance(leaf, np.ndarray | tf.Tensor) or not leaf.shape:
            return None
        counts.add(leaf.shape[0])
    return counts.pop() if len(counts) == 1 else None


def _tensor(array: Any) -> tf.Tensor:
    """Returns a tensor, real numbers as Keras's default float type, as Keras does."""
    tensor = tf.convert_to_tensor(array)
    if not tensor.dtype.is_floating:
        return tensor
    return tf.cast(tensor, keras.config.floatx())


def _tuples(data: Any) -> Any:
    """Turns lists into tuples: `tf.data` would stack a list's members."""
    if isinstance(data, list | tuple):
        return tuple(_tuples(part) for part in data)
    if isinstance(data, dict):
        return {key: _tuples(part) for key, part in data.items()}
    return data
