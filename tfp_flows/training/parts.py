"""`in_parts`: large batches through a flow, a cacheful of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def in_parts(function: Callable[..., Any], rows: int = 2048) -> Callable[..., Any]:
    """Makes a function of a batch work on some rows at a time.

    Between two layers of a network lie rows times units numbers. For ten thousand rows
    they are written to memory and read again; a part of them stays in the processor's
    cache, and takes as many times less memory as there are parts. Results are those of
    the whole batch but for rounding. Splines gain under XLA only; figures are in
    docs/speed.md.

    The parts run in a `tf.while_loop`, so that the graph holds the function once, or
    twice where the rows do not divide evenly. It can be differentiated, but then keeps
    what all parts computed: it is meant for scores and samples.

    Args:
        function: Maps tensors `[n, ...]`, each row by itself, to one tensor `[n, ...]`
            of the first one's dtype, such as `flow.log_prob` or
            `flow.bijector.forward`.
        rows: The most rows at a time.

    Returns:
        A function of the same tensors with the same result. Compile it:
        `tf.function(tff.in_parts(flow.log_prob), jit_compile=True)`.

    Raises:
        ValueError: If `rows` is not positive; when called, if a tensor has no rows or
            the tensors differ in how many they have.

    Example:
        >>> square = in_parts(tf.square, rows=2)
        >>> square(tf.constant([1.0, 2.0, 3.0])).numpy().tolist()
        [1.0, 4.0, 9.0]
    """
    if rows < 1:
        raise ValueError(f"Argument `rows` must be positive. Received: rows={rows}")

    def on_parts(*tensors: Any) -> tf.Tensor:
        first = tf.convert_to_tensor(tensors[0])
        given = [first, *map(tf.convert_to_tensor, tensors[1:])]
        n = _common_rows(given)
        if n is not None and n <= rows:
            return function(*given)
        parts, size = _divided(tf.shape(first)[0] if n is None else n, rows)
        whole, rest = parts * size, None if n is None else n - parts * size
        results = tf.map_fn(
            lambda part: function(*part),
            [_stacked(x[:whole], parts, size) for x in given],
            fn_output_signature=first.dtype,
        )
        results = tf.reshape(results, tf.concat([[whole], tf.shape(results)[2:]], 0))
        if rest == 0:
            return results
        return tf.concat([results, function(*(x[whole:] for x in given))], axis=0)

    return on_parts


def _divided(n: Any, rows: int) -> tuple[Any, Any]:
    """Returns how many parts of how many rows leave the fewest over."""
    if not isinstance(n, int):
        return n // rows, rows
    parts = -(-n // rows)
    return parts, n // parts


def _stacked(x: tf.Tensor, parts: Any, size: Any) -> tf.Tensor:
    return tf.reshape(x, tf.concat([[parts, size], tf.shape(x)[1:]], 0))


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
