"""A value and its log-det in one walk over any TFP bijector, without a cache.

Containers such as `Repeat` and `MultiScale` use these instead of TFP's four
methods: nothing is looked up, nothing is kept alive, each part runs once.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector, given
from tfp_flows.bijectors.conditioning import condition_arguments
from tfp_flows.bijectors.linear_pieces import LinearPair, paired_up
from tfp_flows.bijectors.tfp_internals import Chain, Invert

tfb = tfp.bijectors


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
