"""A value and its log-det through any TFP bijector, in one call a part.

Containers such as `Repeat` and `MultiScale` use these instead of TFP's four
methods: nothing is looked up, nothing is kept alive, each part runs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector, given
from tfp_flows.bijectors.linear import InvertibleConv1x1, mix_channels
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.internal.compat import Chain, Composition, Invert

tfb = tfp.bijectors


def condition_arguments(bijector: tfb.Bijector, condition: Any) -> dict[str, Any]:
    """Returns the keyword arguments that bring `condition` to where it is taken.

    TFP's containers route keyword arguments by the names of their parts, as in
    `chain.forward(x, coupling={"condition": c})`; nested containers nest them.

    Args:
        bijector: Any TFP bijector.
        condition: A tensor of conditions, or None.

    Returns:
        Keyword arguments for the bijector's methods; empty if no part takes one.
    """
    if condition is None:
        return {}
    if isinstance(bijector, FlowBijector):
        return given(bijector, condition)
    if isinstance(bijector, Invert):
        return condition_arguments(bijector.bijector, condition)
    if isinstance(bijector, Composition):
        arguments = {}
        for part in tf.nest.flatten(bijector.bijectors):
            inner = condition_arguments(part, condition)
            if inner:
                arguments[part.name] = inner
        return arguments
    return {}


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


def forward_and_log_det(
    bijector: tfb.Bijector, x: tf.Tensor, event_ndims: int, condition: Any = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes `y = f(x)` and `log |det dy/dx|`.

    Args:
        bijector: Any TFP bijector, ours included.
        x: Latents `[..., *event]`.
        event_ndims: Rank of `event`.
        condition: The conditions of the batch, for bijectors that take one.

    Returns:
        `(y, fldj)`; `fldj` has the batch shape or is a scalar constant.
    """
    if isinstance(bijector, FlowBijector):
        y, fldj = bijector._forward_and_log_det(x, **given(bijector, condition))
        return y, over_event(fldj, x, bijector.forward_min_event_ndims, event_ndims)
    if isinstance(bijector, Chain):
        total = None
        for part in reversed(paired_up(bijector.bijectors)):
            if isinstance(part, LinearPair):
                x, fldj = part.forward_and_log_det(x)
                fldj = over_event(fldj, x, 1, event_ndims)
            else:
                x, fldj = forward_and_log_det(part, x, event_ndims, condition)
                event_ndims = part.forward_event_ndims(event_ndims)
            total = _added(total, fldj)
        return x, _or_zero(total, x)
    if isinstance(bijector, Invert):
        return inverse_and_log_det(bijector.bijector, x, event_ndims, condition)
    keywords = condition_arguments(bijector, condition)
    y = bijector.forward(x, **keywords)
    return y, bijector.forward_log_det_jacobian(x, event_ndims, **keywords)


def inverse_and_log_det(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Any = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes `x = f^-1(y)` and `log |det dx/dy|`.

    Args:
        bijector: Any TFP bijector, ours included.
        y: Data `[..., *event]`.
        event_ndims: Rank of `event`.
        condition: The conditions of the batch, for bijectors that take one.

    Returns:
        `(x, ildj)`; `ildj` has the batch shape or is a scalar constant.
    """
    if isinstance(bijector, FlowBijector):
        x, ildj = bijector._inverse_and_log_det(y, **given(bijector, condition))
        return x, over_event(ildj, y, bijector.inverse_min_event_ndims, event_ndims)
    if isinstance(bijector, Chain):
        total = None
        for part in paired_up(bijector.bijectors):
            if isinstance(part, LinearPair):
                y, ildj = part.inverse_and_log_det(y)
                ildj = over_event(ildj, y, 1, event_ndims)
            else:
                y, ildj = inverse_and_log_det(part, y, event_ndims, condition)
                event_ndims = part.inverse_event_ndims(event_ndims)
            total = _added(total, ildj)
        return y, _or_zero(total, y)
    if isinstance(bijector, Invert):
        return forward_and_log_det(bijector.bijector, y, event_ndims, condition)
    keywords = condition_arguments(bijector, condition)
    x = bijector.inverse(y, **keywords)
    return x, bijector.inverse_log_det_jacobian(y, event_ndims, **keywords)


def adapt(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Any = None
) -> tf.Tensor:
    """Initializes every data-dependent weight inside `bijector` from a batch.

    Args:
        bijector: Any TFP bijector.
        y: A batch of data `[n, *event]`.
        event_ndims: Rank of `event`.
        condition: The conditions of that batch.

    Returns:
        The latents of `y` under the new weights.
    """
    if isinstance(bijector, FlowBijector):
        return bijector.adapt(y, **given(bijector, condition))
    if isinstance(bijector, Chain):
        for part in bijector.bijectors:
            y = adapt(part, y, event_ndims, condition)
            event_ndims = part.inverse_event_ndims(event_ndims)
        return y
    return inverse_and_log_det(bijector, y, event_ndims, condition)[0]


def over_event(
    log_det: tf.Tensor, x: tf.Tensor, min_event_ndims: int, event_ndims: int
) -> tf.Tensor:
    """Sums a log-det over the event axes to the left of a bijector's own.

    A constant log-det is multiplied by the number of positions instead, such as
    the number of pixels under a 1x1 convolution.
    """
    extra = event_ndims - min_event_ndims
    if extra == 0:
        return log_det
    if log_det.shape.rank == 0:
        positions = x.shape[-event_ndims : x.shape.rank - min_event_ndims]
        if positions.is_fully_defined():
            return log_det * tf.cast(positions.num_elements(), log_det.dtype)
        count = tf.reduce_prod(
            tf.shape(x)[-event_ndims : x.shape.rank - min_event_ndims]
        )
        return log_det * tf.cast(count, log_det.dtype)
    return tf.reduce_sum(log_det, axis=list(range(-extra, 0)))


def _added(total: tf.Tensor | None, log_det: tf.Tensor) -> tf.Tensor:
    return log_det if total is None else total + log_det


def _or_zero(total: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    return tf.zeros([], x.dtype) if total is None else total
