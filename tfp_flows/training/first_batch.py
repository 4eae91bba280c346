"""The first batch of whatever `fit` accepts, for data-dependent initialization."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

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
