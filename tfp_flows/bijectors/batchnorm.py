"""`BatchNorm`: batch normalization as a bijector, with running statistics."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.actnorm import check_channels, check_last_axis
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class RunningStatistics(Weights):
    """Mean and variance of each channel; a training call moves and returns them."""

    def __init__(self, channels: int, momentum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.momentum = momentum

    def build(self, input_shape: Any = None) -> None:
        """Starts at mean 0 and variance 1, marked as waiting for data."""
        shape = (self.channels,)
        self.mean = self.add_weight(shape, "zeros", name="mean", trainable=False)
        self.variance = self.add_weight(shape, "ones", name="variance", trainable=False)
        self.adapted = self.add_weight(
            (), "zeros", name="adapted", trainable=False, dtype="int32"
        )

    def call(self, y: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Returns mean and variance to normalize `y` with."""
        mean, variance = self.running()
        if not training:
            return mean, variance
        batch_mean, batch_variance = tf.nn.moments(y, list(range(y.shape.rank - 1)))
        rho = tf.constant(self.momentum, y.dtype)
        mean = rho * mean + (1.0 - rho) * batch_mean
        variance = rho * variance + (1.0 - rho) * batch_variance
        self.mean.assign(tf.stop_gradient(mean))
        self.variance.assign(tf.stop_gradient(variance))
        return mean, variance

    def running(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the running mean and variance."""
        return tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"channels": self.channels, "momentum": self.momentum}
        return {**super().get_config(), **arguments}


@keras.saving.register_keras_serializable(package="tfp_flows")
class BatchNorm(FlowBijector):
    """Batch normalization of each channel, with running statistics.

        inverse:  x = (y - mu) / sqrt(v + epsilon)
        forward:  y = x sqrt(v + epsilon) + mu
        log-det:  -sum(log(v + epsilon)) / 2 for each position (inverse)

    `mu` and `v` are running averages, one value a channel, and no trained weights:

    * In a training step of `fit`, the density direction (`inverse`) first moves
      them towards the moments of the batch, `mu <- rho mu + (1 - rho) mean(y)` and
      likewise `v`, and normalizes with the result. Gradients flow through the
      moments of this batch only. `momentum=0` is plain batch normalization.
    * Everywhere else, and always in `forward`, they stand still, so that the flow
      is a proper bijector and its density integrates to 1.

    Which of the two it is follows from Keras's `training` argument of the call that
    is under way; nothing is stored, and a plain TFP call never trains. `adapt` sets
    both to the moments of one batch.

    Shapes: channels-last with any number of positions, `[..., channels]` or
    `[..., h, w, channels]`. The log-det is a scalar for one position; TFP
    multiplies it by the number of positions in the event.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803, section 3.7 and appendix E.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.95,
        epsilon: float = 1e-5,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the statistics of an identity map.

        Args:
            channels: Size of the last axis.
            momentum: Share `rho` of the old statistics in the new, in [0, 1).
            epsilon: Added to the variance before its root is taken.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `channels`, `momentum` or `epsilon` is out of range.
        """
        parameters = dict(locals())
        check_channels(channels)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(
                f"Argument `momentum` must lie in [0, 1). Received: momentum={momentum}"
            )
        if not epsilon > 0.0:
            raise ValueError(
                f"Argument `epsilon` must be positive. Received: epsilon={epsilon}"
            )
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._epsilon = float(epsilon)
        statistics = RunningStatistics(channels, momentum, dtype=self.dtype.name)
        self._own("_statistics", statistics.made())

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, y, self._statistics.channels)
        mean, variance = self._statistics(y)
        spread = variance + tf.constant(self._epsilon, y.dtype)
        log_det = -0.5 * tf.reduce_sum(tf.math.log(spread))
        return (y - mean) * tf.math.rsqrt(spread), log_det

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._statistics.channels)
        mean, variance = self._statistics.running()
        spread = variance + tf.constant(self._epsilon, x.dtype)
        log_det = 0.5 * tf.reduce_sum(tf.math.log(spread))
        return x * tf.sqrt(spread) + mean, log_det

    @property
    def is_adapted(self) -> bool:
        """Whether data has set the statistics."""
        return bool(keras.ops.convert_to_numpy(self._statistics.adapted))

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Sets the statistics to the moments of `y`."""
        y = tf.convert_to_tensor(y, self.dtype)
        mean, variance = tf.nn.moments(y, list(range(y.shape.rank - 1)))
        self._statistics.mean.assign(mean)
        self._statistics.variance.assign(variance)
        self._statistics.adapted.assign(1)
        return self._inverse_and_log_det(y)[0]
