"""Elementwise bijectors: `LeakyReLU`, `SinhArcsinh` and `ConditionalAffine`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import Weights
from tfp_flows.internal.arguments import check_last_axis, checked_integer
from tfp_flows.nets import conditioner as conditioners

tfb = tfp.bijectors


@keras.saving.register_keras_serializable(package="tfp_flows")
class ElementaryWeights(Weights):
    """Some numbers for each channel, which start at given values."""

    def __init__(self, channels: int, starts: dict[str, float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.starts = dict(starts)

    def build(self, input_shape: Any = None) -> None:
        """Makes one vector for each name."""
        self.vectors = [
            self.add_weight((self.channels,), keras.initializers.Constant(v), name=name)
            for name, v in self.starts.items()
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"channels": self.channels, "starts": self.starts}
        return {**super().get_config(), **arguments}


class Elementary(FlowBijector):
    """Base of a bijector of single values with learned numbers for each channel.

    Shapes: channels-last, `[..., channels]`; the log-det is summed over them.
    """

    def __init__(
        self,
        channels: int,
        starts: dict[str, float],
        *,
        dtype: Any,
        validate_args: bool,
        parameters: dict[str, Any],
        name: str | None,
    ) -> None:
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        checked_integer("channels", channels)
        weights = ElementaryWeights(channels, starts, dtype=self.dtype.name)
        self._own("_weights", weights.made())

    def _vectors(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Returns the learned vectors, after a look at the shape of the input."""
        check_last_axis(self, x, self._weights.channels)
        return [tf.convert_to_tensor(vector) for vector in self._weights.vectors]


@keras.saving.register_keras_serializable(package="tfp_flows")
class SinhArcsinh(Elementary):
    """Learned skewness and tail weight of each channel (`tfb.SinhArcsinh`).

        forward:  y = c sinh((arcsinh(x) + skewness) tailweight)
        inverse:  x = sinh(arcsinh(y / c) / tailweight - skewness)
        log-det:  sum over the channels, in closed form

    `c = 2 / sinh(arcsinh(2) tailweight)` keeps the point 2 in its place without
    skewness. A tail weight above 1 makes tails heavier.

    Shapes: channels-last, `[..., channels]`; the log-det is summed over them.

    Reference:
        Jones, Pewsey: Sinh-arcsinh distributions, Biometrika, 2009.
    """

    def __init__(
        self,
        channels: int,
        *,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights of an identity map.

        Args:
            channels: Size of the last axis.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        super().__init__(
            channels,
            {"skewness": 0.0, "log_tailweight": 0.0},
            parameters=parameters,
            dtype=dtype,
            validate_args=validate_args,
            name=name,
        )

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        bijector = self._of_values(x)
        return bijector.forward(x), bijector.forward_log_det_jacobian(x, 1)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        bijector = self._of_values(y)
        return bijector.inverse(y), bijector.inverse_log_det_jacobian(y, 1)

    def _of_values(self, x: tf.Tensor) -> tfb.Bijector:
        skewness, log_tailweight = self._vectors(x)
        return tfb.SinhArcsinh(skewness, tf.exp(log_tailweight))


@keras.saving.register_keras_serializable(package="tfp_flows")
class LeakyReLU(Elementary):
    """Leaky ReLU with a learned slope below zero.

        forward:  y = x where x >= 0, exp(s) x elsewhere
        inverse:  x = y where y >= 0, exp(-s) y elsewhere
        log-det:  sum of s over the negative channels (forward), minus that

    Shapes: channels-last, `[..., channels]`; the log-det is summed over them.
    """

    def __init__(
        self,
        channels: int,
        *,
        slope: float = 0.5,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights.

        Args:
            channels: Size of the last axis.
            slope: Slope below zero to start from, positive.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `slope` is not positive.
        """
        parameters = dict(locals())
        if not slope > 0.0:
            raise ValueError(
                f"Argument `slope` must be positive. Received: slope={slope}"
            )
        super().__init__(
            channels,
            {"log_slope": math.log(slope)},
            parameters=parameters,
            dtype=dtype,
            validate_args=validate_args,
            name=name,
        )

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._scaled_below_zero(x, 1.0)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._scaled_below_zero(y, -1.0)

    def _scaled_below_zero(
        self, x: tf.Tensor, sign: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        (log_slope,) = self._vectors(x)
        s = tf.where(x < 0.0, sign * log_slope, tf.zeros_like(x))
        return x * tf.exp(s), tf.reduce_sum(s, axis=-1)


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
