"""Arrays, tensors, dtypes and shapes as JSON, bit for bit."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import tensorflow as tf

KIND = "kind"


def plain(value: Any) -> dict[str, Any] | None:
    """Describes an array, a dtype or a shape; returns None for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        # What TensorFlow has no type for, such as Python objects, is not for a file.
        if array.dtype.hasobject or array.dtype.kind in "SUMm":
            return None
        data = base64.b64encode(array.tobytes()).decode("ascii")
        shape = list(array.shape)
        return {KIND: "array", "dtype": array.dtype.name, "shape": shape, "data": data}
    if isinstance(value, tf.DType):
        return {KIND: "dtype", "name": value.name}
    if isinstance(value, tf.TensorShape):
        return {
            KIND: "shape",
            "dims": value.as_list() if value.rank is not None else None,
        }
    return None


def read_array(description: dict[str, Any]) -> np.ndarray:
    """Returns the array that `plain` described."""
    dtype = tf.as_dtype(description["dtype"]).as_numpy_dtype
    data = np.frombuffer(base64.b64decode(description["data"]), dtype)
    return data.reshape(description["shape"]).copy()


def read_variable(description: dict[str, Any]) -> tf.Variable:
    """Returns a variable that starts at the described value.

    The file's weights replace the value. It must be there before them, for the
    constructors that compute with it, as that of a full-covariance normal does.
    """
    return tf.Variable(
        read_array(description["value"]),
        trainable=description["trainable"],
        name=description["name"],
    )
