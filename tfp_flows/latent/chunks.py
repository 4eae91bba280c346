"""Many images through a network, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

ROWS = 500


def in_chunks(function: Callable[[tf.Tensor], tf.Tensor], x: Any) -> tf.Tensor:
    """Returns `function(x)`, computed on a few hundred rows at a time.

    Args:
        function: From rows `[n, ...]` to rows `[n, ...]`, each row on its own.
        x: Rows, as a tensor or an array of any number type.

    Returns:
        The results. In a graph under construction there is only one chunk.
    """
    if not tf.executing_eagerly() or len(x) <= ROWS:
        return function(tf.cast(x, tf.float32))
    starts = range(0, len(x), ROWS)
    return tf.concat(
        [function(tf.cast(x[start : start + ROWS], tf.float32)) for start in starts], 0
    )
