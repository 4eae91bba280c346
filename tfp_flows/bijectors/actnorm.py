"""`ActNorm`: one scale and shift a channel, initialized from data."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class ActNormWeights(Weights):
    """`shift` and `log_scale` of each channel, and whether data has set them."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, input_shape: Any = None) -> None:
        """Makes the identity, marked as waiting for data."""
        shape = (self.channels,)
        self.shift = self.add_weight(shape, "zeros", name="shift")
        self.log_scale = self.add_weight(shape, "zeros", name="log_scale")
        self.adapted = self.add_weight(
            (), "zeros", name="adapted", trainable=False, dtype="int32"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="tfp_flows")
class ActNorm(FlowBijector):
    """Activation normalization: a learned affine map of each channel.

        forward:  y = x exp(s) + b
        inverse:  x = (y - b) exp(-s)
        log-det:  sum(s) for each position (forward), minus that (inverse)

    `b` and `s` have one value a channel. They start at the identity; `adapt` sets
    them so that the latents of one batch have mean 0 and variance 1 in each
    channel. `FlowModel.fit` calls it once before training; no call of the bijector
    ever changes a weight.

    Shapes: channels-last with any number of positions, `[..., channels]` or
    `[..., h, w, channels]`. The log-det is a scalar for one position; TFP
    multiplies it by the number of positions in the event.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039, section 3.1.
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights of an identity map.

        Args:
            channels: Size of the last axis.
            epsilon: Smallest standard deviation that `adapt` believes in.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._epsilon = float(epsilon)
        check_channels(channels)
        self._own("_weights", ActNormWeights(channels, dtype=self.dtype.name).made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        s, b = self.log_scale_and_shift(x)
        return x * tf.exp(s) + b, tf.reduce_sum(s)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        s, b = self.log_scale_and_shift(y)
        return (y - b) * tf.exp(-s), -tf.reduce_sum(s)

    @property
    def channels(self) -> int:
        """Size of the last axis."""
        return self._weights.channels

    def log_scale_and_shift(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `s` and `b`, once it is sure that `x` has as many channels."""
        check_last_axis(self, x, self._weights.channels)
        return (
            tf.convert_to_tensor(self._weights.log_scale),
            tf.convert_to_tensor(self._weights.shift),
        )

    @property
    def is_adapted(self) -> bool:
        """Whether data has set the weights."""
        return bool(keras.ops.convert_to_numpy(self._weights.adapted))

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Sets mean and variance of the latents of `y` to 0 and 1."""
        y = tf.convert_to_tensor(y)
        axes = list(range(y.shape.rank - 1))
        mean, variance = tf.nn.moments(y, axes)
        floor = tf.constant(self._epsilon, y.dtype)
        deviation = tf.maximum(tf.sqrt(variance), floor)
        # A channel that never varies keeps its scale: dividing by ~0 would blow up.
        log_scale = tf.where(
            deviation > floor, tf.math.log(deviation), tf.zeros_like(deviation)
        )
        self._weights.shift.assign(mean)
        self._weights.log_scale.assign(log_scale)
        self._weights.adapted.assign(1)
        return self._inverse_and_log_det(y)[0]


def check_channels(channels: int) -> None:
    """Refuses a channel count that is not a positive integer."""
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(
            "Argument `channels` must be a positive integer, the size of the last "
            f"axis. Received: channels={channels!r}"
        )


def check_last_axis(bijector: FlowBijector, x: tf.Tensor, channels: int) -> None:
    """Refuses an input whose last axis does not have the bijector's channels."""
    if x.shape.rank == 0 or not x.shape[-1:].is_compatible_with([channels]):
        raise ValueError(
            f"{type(bijector).__name__} '{bijector.name}' expected {channels} channels "
            f"on the last axis. Received: input of shape {x.shape}"
        )
