"""Affine maps set from data: `ActNorm`, `BatchNorm` and `Whitening`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.linear import mix_channels
from tfp_flows.bijectors.weights import Weights
from tfp_flows.internal.arguments import check_last_axis, checked_integer


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
        checked_integer("channels", channels)
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
        checked_integer("channels", channels)
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


@keras.saving.register_keras_serializable(package="tfp_flows")
class WhiteningWeights(Weights):
    """Axes, scales and mean of a set of vectors; nothing in it is trained."""

    def __init__(self, d: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d = d

    def build(self, input_shape: Any = None) -> None:
        """Makes the identity, marked as waiting for data."""
        d, fixed = self.d, {"trainable": False}
        self.axes = self.add_weight((d, d), "identity", name="axes", **fixed)
        self.scale = self.add_weight((d,), "ones", name="scale", **fixed)
        self.shift = self.add_weight((d,), "zeros", name="shift", **fixed)
        self.adapted = self.add_weight(
            (), "zeros", name="adapted", dtype="int32", **fixed
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "d": self.d}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Whitening(FlowBijector):
    """Turns vectors onto their principal axes, each with variance 1.

        forward:  y = V (s x) + m
        inverse:  x = V^T (y - m) / s
        log-det:  sum(log s) (forward), minus that (inverse)

    `adapt` measures `m`, the mean, the columns of `V`, the orthonormal eigenvectors
    of the covariance, and `s^2`, its eigenvalues. They are not trained.

    With it as the first bijector on the data's side, a flow starts as the Gaussian
    fitted to the data, and learns only what that misses. The latents of an
    autoencoder need this: most of them are copies of a few directions, and couplings
    that take turns in the given order first have to find those. The axes are dealt out
    in turn, the largest, third, fifth, ... to the first half, so that both halves of
    `tfpf.masks.half` have large ones.

    Shapes: vectors `[..., d]`; the log-det is a scalar.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.real_nvp((4,), couplings=2, preprocess=Whitening(4))
        >>> tfpf.FlowModel(flow).is_adapted
        False
    """

    def __init__(
        self,
        d: int,
        *,
        epsilon: float = 1e-6,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the weights of an identity map.

        Args:
            d: Number of values in a vector.
            epsilon: Smallest standard deviation that `adapt` believes in; an axis
                with less keeps its scale.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        checked_integer("channels", d)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._epsilon = float(epsilon)
        self._own("_weights", WhiteningWeights(d, dtype=self.dtype.name).made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._weights.d)
        axes, scale, shift = self._parts()
        y = mix_channels(x * scale, tf.transpose(axes)) + shift
        return y, tf.reduce_sum(tf.math.log(scale))

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        check_last_axis(self, y, self._weights.d)
        axes, scale, shift = self._parts()
        x = mix_channels(y - shift, axes) / scale
        return x, -tf.reduce_sum(tf.math.log(scale))

    def _parts(self) -> list[tf.Tensor]:
        weights = self._weights
        parts = (weights.axes, weights.scale, weights.shift)
        return [tf.convert_to_tensor(part) for part in parts]

    @property
    def is_adapted(self) -> bool:
        """Whether data has set the weights."""
        return bool(keras.ops.convert_to_numpy(self._weights.adapted))

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Measures mean and principal axes of vectors `[n, d]`, with n > d.

        Raises:
            ValueError: If there are too few vectors to measure a covariance.
        """
        y = tf.convert_to_tensor(y)
        d = self._weights.d
        rows = np.asarray(y, np.float64).reshape(-1, d)
        if len(rows) <= d:
            raise ValueError(
                f"Argument `y` must have more than {d} rows to measure the covariance "
                f"of {d} values. Received: {len(rows)} rows"
            )
        variances, axes = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
        order = _dealt(d)
        deviations = np.sqrt(np.clip(variances[order], 0.0, None))
        self._weights.axes.assign(axes[:, order])
        self._weights.scale.assign(
            np.where(deviations > self._epsilon, deviations, 1.0)
        )
        self._weights.shift.assign(rows.mean(axis=0))
        self._weights.adapted.assign(1)
        return self._inverse_and_log_det(y)[0]


def _dealt(d: int) -> np.ndarray:
    """Positions in ascending order of variance, dealt out from the largest in turn."""
    descending = np.arange(d)[::-1]
    return np.concatenate([descending[::2], descending[1::2]])
