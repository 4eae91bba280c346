"""Image preprocessing before the flow: fewer bits, dequantization, a fixed split.

What changes a density (scaling, centring, the logit) is no preprocessing here: it is a
bijector in the flow's chain, so that log-likelihoods stay in data units.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal.seeds import dequantized


def dequantize(pixels: Any, seed: Any) -> tf.Tensor:
    """Adds uniform noise in ``[0, 1)`` to whole-number pixel values.

    The density of ``v = pixels + u`` integrated over a pixel's unit cell bounds the
    probability of the pixel from below, so ``-log2 p(v) / D`` of a flow is an upper
    bound of the bits per dimension of the lossless code (Theis, van den Oord and
    Bethge, "A note on the evaluation of generative models", 2016).

    Args:
        pixels: Whole numbers, of any shape and integer or float dtype.
        seed: Two integers (a stateless seed): the same seed gives the same noise.

    Returns:
        A float32 tensor of the same shape with ``pixels <= v < pixels + 1``.
    """
    return dequantized(tf.cast(pixels, tf.float32), seed)


def reduce_bits(pixels: np.ndarray, n_bits: int) -> np.ndarray:
    """Keeps the ``n_bits`` highest bits of 8-bit pixel values.

    Args:
        pixels: Whole numbers in 0..255.
        n_bits: 1 to 8.

    Returns:
        A uint8 array with values in ``0 .. 2**n_bits - 1``.

    Raises:
        ValueError: If ``n_bits`` is not in 1..8.
    """
    if n_bits not in range(1, 9):
        raise ValueError(f"`n_bits` must be 1 to 8. Received: {n_bits!r}.")
    return pixels.astype(np.uint8) >> (8 - n_bits)


def split_indices(n: int, test_size: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Splits ``range(n)`` at random, and always in the same way.

    Args:
        n: How many examples there are.
        test_size: How many of them are held out.
        seed: The same seed gives the same split.

    Returns:
        The indices of the training part and those of the held-out part.

    Raises:
        ValueError: If either part would be empty.
    """
    if not 0 < test_size < n:
        raise ValueError(
            f"`test_size` must leave both parts with examples out of {n}. "
            f"Received: {test_size}."
        )
    order = np.random.default_rng(seed).permutation(n)
    return order[test_size:], order[:test_size]
