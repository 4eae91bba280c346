"""Actnorm and the 1x1 convolution behind it as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1, mix_channels

tfb = tfp.bijectors


class LinearPair:
    """An actnorm followed, on the way to the latents, by a 1x1 convolution.

    With `s` and `b` the actnorm's log-scale and shift and `W` the matrix,

        inverse:  x = (y - b) A,    A = diag(exp(-s)) W
        forward:  y = x A^-1 + b,   A^-1 = W^-1 diag(exp(s))
        log-det:  log |det W| - sum of s for each position (inverse), minus that

    The scale multiplies the small matrix instead of every position, on the way back
    too: there its gradient comes from the matrix's, without a sum over positions.
    The shift stays outside the product, where large means lose no digits.
    """

    def __init__(self, actnorm: ActNorm, conv: InvertibleConv1x1) -> None:
        """Keeps the two bijectors."""
        self._actnorm = actnorm
        self._conv = conv

    def inverse_and_log_det(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes data `[..., channels]` to latents; the log-det is of one position."""
        s, b = self._actnorm.log_scale_and_shift(y)
        matrix, log_det = self._conv.matrix_and_log_det()
        matrix = tf.exp(-s)[:, tf.newaxis] * matrix
        return mix_channels(y - b, matrix), log_det - tf.reduce_sum(s)

    def forward_and_log_det(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes latents `[..., channels]` to data; the log-det is of one position."""
        s, b = self._actnorm.log_scale_and_shift(x)
        matrix, log_det = self._conv.inverse_matrix_and_log_det()
        return mix_channels(x, matrix * tf.exp(s)) + b, log_det + tf.reduce_sum(s)


def paired_up(
    bijectors: Sequence[tfb.Bijector],
) -> list[tfb.Bijector | LinearPair]:
    """Replaces each actnorm and the learned 1x1 convolution behind it by a pair.

    Args:
        bijectors: The parts of a chain, from the data's side.

    Returns:
        The parts, fewer where there were pairs.
    """
    parts: list[tfb.Bijector | LinearPair] = []
    for part in bijectors:
        before = parts[-1] if parts else None
        if isinstance(before, ActNorm) and _fits_behind(part, before):
            parts[-1] = LinearPair(before, part)
        else:
            parts.append(part)
    return parts


def _fits_behind(part: tfb.Bijector, actnorm: ActNorm) -> bool:
    return (
        isinstance(part, InvertibleConv1x1)
        and part.has_matrix
        and part.channels == actnorm.channels
    )
