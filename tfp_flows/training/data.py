"""What `fit` accepts: data, conditions and weights, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def check_lanes(lanes: Any) -> int:
    """Returns the number of lanes, or raises `ValueError`."""
    if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1:
        raise ValueError(
            f"Argument `lanes` must be a positive integer. Received: lanes={lanes!r}"
        )
    return lanes


def in_lanes(function: Callable[..., tf.Tensor], lanes: int) -> Callable[..., Any]:
    """Writes a function of a batch into the graph once for each of some lanes.

    Nothing in one lane waits for another, forward or backward, so TensorFlow runs as
    many at once as it has threads for operations. Each lane has an even share of the
    rows, the last one also those that are left over.

    Args:
        function: Maps tensors `[n, ...]`, each row by itself, to one `[n, ...]`.
        lanes: How many; 1 returns the function as it is.

    Returns:
        A function of the same tensors with the same result.
    """
    if lanes == 1:
        return function

    def on_lanes(*tensors: Any) -> tf.Tensor:
        given = [tf.convert_to_tensor(x) for x in tensors]
        shares = zip(*(_shares(x, lanes) for x in given), strict=True)
        results = tf.concat([function(*share) for share in shares], axis=0)
        if given[0].shape[0] is not None:
            return results
        return results[: tf.shape(given[0])[0]]

    return on_lanes


def _shares(x: tf.Tensor, lanes: int) -> list[tf.Tensor]:
    n = x.shape[0]
    if n is None:
        # No lane may be empty: the step of an ODE's solver, say, would have no error.
        missing = tf.maximum(lanes - tf.shape(x)[0], 0)
        x = tf.concat([x, tf.repeat(x[:1], missing, axis=0)], axis=0)
        n = tf.shape(x)[0]
    elif n < lanes:
        lanes = max(n, 1)
    each = n // lanes
    return tf.split(x, [each] * (lanes - 1) + [n - each * (lanes - 1)], num=lanes)


def split_inputs(inputs: Any) -> tuple[Any, Any]:
    """Returns data and conditions; the conditions are None where there are none."""
    if isinstance(inputs, dict):
        unknown = set(inputs) - {"x", "condition"}
        if "x" not in inputs or unknown:
            raise ValueError(
                "Argument `x` given as a dictionary must have the keys 'x' and, for a "
                f"conditional flow, 'condition'. Received: keys {sorted(inputs)}"
            )
        return inputs["x"], inputs.get("condition")
    if isinstance(inputs, list | tuple):
        if len(inputs) not in (1, 2):
            raise ValueError(
                "Argument `x` given as a sequence must be `(x,)` or `(x, condition)`. "
                f"Received: {len(inputs)} parts"
            )
        return inputs[0], inputs[1] if len(inputs) == 2 else None
    return inputs, None


def check_event(x: Any, event: tuple[int, ...], name: str) -> None:
    """Raises `ValueError` unless the last axes of `x` are the distribution's event."""
    shape = tf.TensorShape(x.shape)
    if shape.rank is None or shape.rank <= len(event) - 1:
        compatible = shape.rank is None
    else:
        compatible = shape[shape.rank - len(event) :].is_compatible_with(event)
    if not compatible:
        words = ", ".join(map(str, ("batch", *event)))
        raise ValueError(
            f"Argument `x` must have shape [{words}], as the distribution "
            f"'{name}' has. Received: x of shape {shape}"
        )


def with_weights(y: Any, sample_weight: Any) -> Any:
    """Returns a target for Keras to carry: it forgets weights that have none."""
    if sample_weight is None or y is not None:
        return y
    return np.zeros(len(sample_weight), "float32")


# A mean and a deviation for each channel need no more; `fit` shuffles, this does not.
_ROWS = 2048


def first_batch(x: Any, y: Any, batch_size: int | None) -> tuple[Any, Any]:
    """Returns data and conditions to initialize from.

    Args:
        x: What was given to `fit`: arrays, a dataset, a `PyDataset`, a dictionary.
        y: The conditions, if they were given apart.
        batch_size: Number of rows of an array to take at the most, if given.

    Returns:
        `(x, condition)`; the condition is None where there is none.
    """
    if isinstance(x, tf.data.Dataset):
        return _unpacked(next(iter(x)))
    if isinstance(x, tf.distribute.DistributedDataset):
        batch = next(iter(x))
        local = tf.nest.map_structure(lambda part: _first_replica(part), batch)
        return _unpacked(local)
    if isinstance(x, keras.utils.PyDataset):
        return _unpacked(x[0])
    if hasattr(x, "__next__"):
        raise ValueError(
            "Argument `x` must not be a generator while weights wait for data: call "
            "`model.adapt(batch)` before `fit`. "
            f"Received: x of type {type(x).__name__}"
        )
    rows = max(_ROWS, batch_size or 0)
    x, inner = _parts(x)
    condition = inner if y is None else y
    return _spread(x, rows), None if condition is None else _spread(condition, rows)


def _spread(array: Any, rows: int) -> Any:
    """Takes rows evenly over the whole array, which may be sorted by class."""
    n = len(array)
    if n <= rows:
        return array
    chosen = np.linspace(0, n - 1, rows).astype(int)
    if tf.is_tensor(array):
        return tf.gather(array, chosen)
    return np.asarray(array)[chosen]


def _unpacked(batch: Any) -> tuple[Any, Any]:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    x, inner = _parts(x)
    return x, inner if y is None else y


def _parts(x: Any) -> tuple[Any, Any]:
    if isinstance(x, dict):
        return x["x"], x.get("condition")
    if isinstance(x, tuple):
        return x[0], x[1] if len(x) > 1 else None
    return x, None


def _first_replica(part: Any) -> Any:
    return part.values[0] if hasattr(part, "values") else part


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
