"""Checks that travel inside an exported graph and answer with one sentence.

A server checks neither the width of an input nor its values: a wrong request
fails inside some op, or worse, succeeds. Each function here takes an input of
unknown shape and returns the same input, to be computed only after the check has
passed. A failed check raises `InvalidArgumentError` whose text is the sentence,
from Python, from C and from a server alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def checked_rows(name: str, x: tf.Tensor, event_shape: Sequence[int]) -> tf.Tensor:
    """Requires `[batch, *event_shape]` with at least one row.

    Args:
        name: Name of the input, the first word of the sentence.
        x: The input, of unknown shape.
        event_shape: Shape of one row.

    Returns:
        `x` with its static shape set.
    """
    x = _with_shape(name, x, ["batch", *event_shape])
    rows = _shape(x)[0]
    sentence = tf.strings.join(
        [name, ": expected at least one row, received shape ", _shape_text(x), "."]
    )
    return after(rows >= 1, sentence, x)


def checked_scalar(name: str, x: tf.Tensor) -> tf.Tensor:
    """Requires a single number."""
    return _with_shape(name, x, [])


def required_shape(name: str, x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Requires exactly this shape, without a batch axis."""
    return _with_shape(name, x, shape)


def checked_finite(name: str, x: tf.Tensor) -> tf.Tensor:
    """Requires numbers without NaN and infinity."""
    finite = tf.math.is_finite(x)
    wrong = tf.reduce_sum(tf.cast(tf.logical_not(finite), tf.int32))
    sentence = tf.strings.join(
        [
            name,
            ": expected finite numbers, received ",
            tf.strings.as_string(wrong),
            " that are NaN or infinite.",
        ]
    )
    return after(tf.equal(wrong, 0), sentence, x)


def checked_range(
    name: str, x: tf.Tensor, low: int, high: int | None = None
) -> tf.Tensor:
    """Requires every number to lie in `[low, high]`; NaN lies nowhere."""
    bounds = f"at least {low}" if high is None else f"a number from {low} to {high}"
    if low == high:
        bounds = f"{low}, the only value this model takes"
    inside = x >= tf.cast(low, x.dtype)
    if high is not None:
        inside = tf.logical_and(inside, x <= tf.cast(high, x.dtype))
    values = tf.reshape(x, [-1])
    offending = tf.boolean_mask(values, tf.reshape(tf.logical_not(inside), [-1]))
    # One value more keeps the first element defined when nothing offends.
    first = tf.concat([offending, tf.zeros([1], x.dtype)], axis=0)[0]
    received = tf.strings.as_string(first, shortest=x.dtype.is_floating)
    sentence = tf.strings.join([name, f": expected {bounds}, received ", received, "."])
    return after(tf.reduce_all(inside), sentence, x)


def checked_same_rows(
    name: str, x: tf.Tensor, other_name: str, other: tf.Tensor
) -> tf.Tensor:
    """Requires `x` to have as many rows as another input has."""
    received, wanted = _shape(x)[0], _shape(other)[0]
    sentence = tf.strings.join(
        [
            name,
            f": expected as many rows as `{other_name}` has, ",
            tf.strings.as_string(wanted),
            ", received ",
            tf.strings.as_string(received),
            ".",
        ]
    )
    x = after(tf.equal(received, wanted), sentence, x)
    # As in `_with_shape`: keeps what follows from being held against the check.
    row_shape = tf.constant(x.shape[1:].as_list(), tf.int64)
    return tf.reshape(x, tf.concat([[received], row_shape], axis=0))


def after(condition: tf.Tensor, sentence: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns `x`, to be computed only after `condition` has been found true.

    Without the control dependency an op further on could fail first, or take
    memory first.
    """
    check = tf.raw_ops.Assert(condition=condition, data=[sentence], summarize=1)
    with tf.control_dependencies([check]):
        return tf.identity(x)


def _with_shape(name: str, x: tf.Tensor, dimensions: Sequence[int | str]) -> tf.Tensor:
    """Requires a shape; a dimension given by name may have any size."""
    rank = len(dimensions)
    named = [isinstance(size, str) for size in dimensions]
    # A fixed number of entries, so that comparing never fails whatever the rank.
    # The entry after the last is -1 exactly if the rank is not larger than wanted.
    filler = tf.fill([rank + 1], tf.constant(-1, tf.int64))
    received = tf.concat([_shape(x), filler], axis=0)[: rank + 1]
    wanted = [0 if isinstance(size, str) else int(size) for size in dimensions]
    same = tf.where(
        tf.constant([*named, False]),
        received >= 0,
        tf.equal(received, tf.constant([*wanted, -1], tf.int64)),
    )
    shape = "shape [" + ", ".join(map(str, dimensions)) + "]"
    expected = shape if dimensions else "a single number"
    sentence = tf.strings.join(
        [name, f": expected {expected}, received shape ", _shape_text(x), "."]
    )
    # TensorFlow's graph optimizer takes a graph to be right: from an op that needs a
    # width it concludes that the input has it, and folds the check away. It does not
    # look through a reshape, which costs nothing at run time.
    static = [-1 if isinstance(size, str) else int(size) for size in dimensions]
    return tf.reshape(after(tf.reduce_all(same), sentence, x), static)


def _shape(x: tf.Tensor) -> tf.Tensor:
    """The shape in 64 bits: an empty tensor may claim axes of any length."""
    return tf.shape(x, out_type=tf.int64)


def _shape_text(x: tf.Tensor) -> tf.Tensor:
    sizes = tf.strings.reduce_join(tf.strings.as_string(_shape(x)), separator=", ")
    return tf.strings.join(["[", sizes, "]"])
