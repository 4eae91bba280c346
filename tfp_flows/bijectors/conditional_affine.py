"""`ConditionalAffine`: mean and scale of each channel, given a condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.nets import conditioner as conditioners


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConditionalAffine(FlowBijector):
    """A scale and shift of each channel that depend on the condition alone.

        forward:  y = x exp(s(c)) + m(c)
        inverse:  x = (y - m(c)) exp(-s(c))
        log-det:  sum(s(c)) times the number of positions (forward)

    Next to a standard normal base it is a class-conditional prior,
    `Normal(m(c), exp(s(c)))`, as Glow has it on its top level.

    Shapes: events `event_shape`, channels last; conditions `condition_shape`;
    log-dets have the broadcast batch shape.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039; its published code.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        conditioner: keras.Layer,
        *,
        condition_shape: Sequence[int],
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the network.

        Args:
            event_shape: Shape of one event, channels last.
            conditioner: Keras layer from conditions to two values a channel, means
                first; a `keras.layers.Dense(2 * c, kernel_initializer="zeros")`
                starts at the identity.
            condition_shape: Shape of one condition.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        self._event_shape = tuple(event_shape)
        self._condition_shape = tuple(condition_shape)
        super().__init__(
            event_ndims=len(self._event_shape),
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        output_shape = (2 * self._event_shape[-1],)
        conditioners.connect(conditioner, self._condition_shape, output_shape)
        self._own("_conditioner", conditioner)

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition."""
        return self._condition_shape

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        m, s, log_det = self._mean_and_log_scale(x, condition)
        return x * tf.exp(s) + m, log_det

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        m, s, log_det = self._mean_and_log_scale(y, condition)
        return (y - m) * tf.exp(-s), -log_det

    def _mean_and_log_scale(
        self, x: tf.Tensor, condition: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        condition = tf.cast(tf.convert_to_tensor(condition), x.dtype)
        parameters = conditioners.apply(
            self._conditioner, condition, len(self._condition_shape)
        )
        m, s = tf.split(parameters, 2, axis=-1)
        positions = self._event_shape[:-1]
        log_det = tf.reduce_sum(s, axis=-1) * math.prod(positions)
        for _ in positions:
            m, s = m[..., None, :], s[..., None, :]
        return m, s, log_det
