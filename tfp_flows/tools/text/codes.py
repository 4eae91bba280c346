"""Codes: every character as a cloud of vectors, a flow given its number."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.conditional_affine import ConditionalAffine
from tfp_flows.bijectors.encoded import EncodedCondition

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_flows")
class BinaryCodes(keras.initializers.Initializer):
    """Starts row k of a table `[n, 2 d]` at the k-th corner of a cube.

    The first `d` numbers are a location: the binary digits of k as -1 and 1. The
    others are `log(scale)`. Locations of different rows lie at least 2 apart.
    """

    def __init__(self, scale: float = 0.2) -> None:
        """Remembers the scale that all rows start with."""
        self.scale = float(scale)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Returns the table."""
        rows, width = shape
        digits = (np.arange(rows)[:, np.newaxis] >> np.arange(width // 2)) & 1
        scales = np.full(digits.shape, math.log(self.scale))
        table = np.concatenate([2.0 * digits - 1.0, scales], axis=1)
        return keras.ops.convert_to_tensor(table, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"scale": self.scale}


def code_table(rows: int, d: int, scale: float, dtype: Any = None) -> keras.Layer:
    """Returns a built table of `rows` learned locations and log-scales in `d` values.

    Args:
        rows: Number of rows, at most `2^d`, so that no two start equal.
        d: Number of values of a location.
        scale: The scale to start with, positive.
        dtype: Float type; None for Keras's default.

    Returns:
        A `keras.layers.Embedding` of `2 d` numbers a row, as `BinaryCodes` starts it.

    Raises:
        ValueError: If `rows` is larger than `2^d` or `scale` is not positive.
    """
    if rows > 2**d:
        raise ValueError(
            f"Codes of {d} values have {2**d} places to start from; {rows} codes need "
            f"at least {math.ceil(math.log2(rows))} values. Received: d={d}"
        )
    if not scale > 0.0:
        raise ValueError(f"Argument `scale` must be positive. Received: scale={scale}")
    table = keras.layers.Embedding(
        rows, 2 * d, embeddings_initializer=BinaryCodes(scale), dtype=dtype
    )
    table.build((None,))
    return table


def character_codes(
    categories: int, d: int, *, scale: float = 0.2, dtype: Any = None
) -> tfd.TransformedDistribution:
    """Builds `q(v | x)`: a vector for a character, at a learned place of its own.

        v = m_x + s_x e,    e ~ Logistic(0, 1)^d

    Args:
        categories: Number of characters.
        d: Number of values in a vector, at least `log2(categories)`.
        scale: The scale that all `s_x` start with.
        dtype: Float type; None for Keras's default.

    Returns:
        A conditional flow of vectors `[d]`, its conditions whole numbers.

    Raises:
        ValueError: If there are more characters than `2^d`.

    Example:
        >>> import tfp_flows as tff
        >>> codes = character_codes(27, 5)
        >>> tff.condition(codes, [0, 1, 2]).sample().shape
        TensorShape([3, 5])
    """
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    table = code_table(categories, d, scale, dtype.name)
    affine = ConditionalAffine(
        (d,),
        # The table holds locations and log-scales as they are.
        keras.layers.Activation("linear", dtype=dtype.name),
        condition_shape=(2 * d,),
        dtype=dtype.name,
    )
    return tfd.TransformedDistribution(
        standard_logistic((d,), dtype),
        EncodedCondition(affine, table, condition_shape=()),
        name="character_codes",
    )


def standard_logistic(shape: tuple[int, ...], dtype: Any = None) -> tfd.Distribution:
    """Returns independent standard logistic noise of a shape."""
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    zero, one = (tf.constant(value, dtype) for value in (0.0, 1.0))
    return tfd.Sample(tfd.Logistic(zero, one), sample_shape=list(shape))
