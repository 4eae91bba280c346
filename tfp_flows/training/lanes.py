"""`in_lanes`: a batch through a flow as several parts, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
