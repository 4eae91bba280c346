"""Affine maps set from data: `ActNorm`, `BatchNorm` and `Whitening`."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, ValueAndLogDet
from tfp_flows.bijectors.linear import mix_channels
from tfp_flows.bijectors.weights import Starts
from tfp_flows.internal.arguments import (
    Condition,
    Config,
    TensorLike,
    check_last_axis,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.compat import Holder


class Adaptable(FlowBijector):
    """A bijector with weights that `adapt` sets, and one that says whether it has."""

    def _wait_for_data(self) -> None:
        trained = self._weights.trainable_variables
        starts = [(v, np.array(keras.ops.convert_to_numpy(v))) for v in trained]
        self._starts = Holder(starts)
        self._adapted = self.add_weight(name="adapted", trainable=False, dtype="int32")

    @property
    def set_from_data(self) -> list[tuple[keras.Variable, Starts]]:
        """The weight that is nonzero once `adapt` has run, and those that train."""
        return [(self._adapted, self._starts.value)]


def moments(y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance of each channel over all other axes."""
    y = tf.convert_to_tensor(y)
    return tf.nn.moments(y, list(range(y.shape.rank - 1)))


# Outliers are looked for where a column's deviation is more than `_INFLATED` times that
# of its middle 95 %: Student's t with 2 degrees of freedom and log-normal columns stay
# below, five rows in a thousand at 1,000 deviations do not. Then those beyond `_REACH`
# ranges of the middle do not count. Too few rows cannot tell.
_OUTER, _INFLATED, _REACH, _LEAST_ROWS, _QUANTILE_ROWS = 0.025, 30.0, 10.0, 16, 4096
_NORMAL_RANGE = 3.92  # deviations, of the middle 95 %


def fences(rows: np.ndarray, reach: float = _REACH) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and highest value of each column `[n, d]` that counts.

    They are infinite in a column without outliers. One of which 95 % or more are one
    value is judged by the others.
    """
    rows = np.asarray(rows, np.float64)
    n, d = rows.shape
    low, high = np.full(d, -np.inf), np.full(d, np.inf)
    if n < _LEAST_ROWS:
        return low, high
    ranked = np.sort(rows[:: -(-n // _QUANTILE_ROWS)], axis=0)
    last = len(ranked) - 1
    outer = max(math.ceil(last * _OUTER), min(3, n // 8))  # few rows: more than 2.5 %
    bottom, top = ranked[outer], ranked[last - outer]
    width = top - bottom
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.mean(np.square((rows - bottom) / width), axis=0))
        fenced = (width > 0.0) & (spread > _INFLATED / _NORMAL_RANGE)
    low[fenced] = (bottom - reach * width)[fenced]
    high[fenced] = (top + reach * width)[fenced]
    for k in np.flatnonzero(width <= 0.0):
        others = rows[rows[:, k] != bottom[k], k]
        found = fences(others[:, None], reach)
        low[k] = np.minimum(found[0][0], bottom[k])
        high[k] = np.maximum(found[1][0], top[k])
    return low, high


def robust_moments(y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and deviation of each channel over all rows but outliers.

    A value is one if it lies more than 10 times the range of the channel's middle 95 %
    beyond it, and only where the plain deviation is more than 30 times that which this
    range stands for. Otherwise, heavy tails included, all rows count.

    A channel that is constant but for rounding has the deviation 0. No unit overflows:
    sums are of numbers in [-1, 1].
    """
    y = tf.convert_to_tensor(y)
    if y.shape.rank < 2 or 0 in y.shape:
        must = "be a batch `[n, ..., channels]` of at least one row to be measured"
        raise invalid("y", must, tuple(y.shape))
    rows = tf.reshape(y, [-1, y.shape[-1]])
    low, high = (tf.constant(f, y.dtype) for f in fences(rows.numpy()))
    within = tf.logical_and(rows >= low, rows <= high)
    share = tf.reduce_mean(tf.cast(within, y.dtype), axis=0)
    first = tf.argmax(within, axis=0)
    center = tf.gather(tf.transpose(rows), first, batch_dims=1)
    off = tf.where(within, rows - center, tf.zeros_like(rows))
    unit = tf.reduce_max(tf.abs(off), axis=0)
    off = tf.math.divide_no_nan(off, unit)
    mean = tf.reduce_mean(off, axis=0) / share
    off = tf.where(within, off - mean, tf.zeros_like(off))
    deviation = unit * tf.sqrt(tf.reduce_mean(tf.square(off), axis=0) / share)
    mean = center + unit * mean
    rounding = 2.0 * np.finfo(y.dtype.as_numpy_dtype).eps * tf.abs(mean)
    return mean, tf.where(deviation > rounding, deviation, tf.zeros_like(deviation))


@keras.saving.register_keras_serializable(package="tfp_flows")
class ActNorm(Adaptable):
    """Activation normalization: a learned affine map of each channel.

        forward:  y = x exp(s) + b
        inverse:  x = (y - b) exp(-s)
        log-det:  sum(s) for each position (forward), minus that (inverse)

    `b` and `s` have one value a channel. They start at the identity; `adapt` sets
    them so that the latents of one batch have mean 0 and variance 1 in each
    channel. A value more than 10 times the range of the channel's middle 95 % beyond
    it does not count where all values together have a deviation more than 30 times
    that of the middle. `FlowModel.fit` calls it once before training.

    Shapes: `[..., channels]`, images too. The log-det is a scalar for one position,
    which TFP multiplies by the number of positions in the event.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039, section 3.1.
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: float = 0.0,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Makes the weights of an identity map.

        Args:
            epsilon: Smallest standard deviation that `adapt` divides by; a channel
                with no more, or constant but for rounding, keeps its scale.
            trainable: Whether training goes on from what `adapt` sets.
        """
        self.channels = checked_integer("channels", channels)
        super().__init__(event_ndims=1, is_constant_jacobian=True, **kwargs)
        self._epsilon = float(epsilon)
        kind = {"trainable": bool(trainable)}
        self._shift = self.add_weight((channels,), name="shift", **kind)
        self._log_scale = self.add_weight((channels,), name="log_scale", **kind)
        self._wait_for_data()

    def _forward_and_log_det(self, x: tf.Tensor) -> ValueAndLogDet:
        s, b = self.log_scale_and_shift(x)
        return x * tf.exp(s) + b, tf.reduce_sum(s)

    def _inverse_and_log_det(self, y: tf.Tensor) -> ValueAndLogDet:
        s, b = self.log_scale_and_shift(y)
        return (y - b) * tf.exp(-s), -tf.reduce_sum(s)

    def log_scale_and_shift(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `s` and `b`, once it is sure that `x` has as many channels."""
        check_last_axis(self, x, self.channels)
        return tf.convert_to_tensor(self._log_scale), tf.convert_to_tensor(self._shift)

    def set(self, log_scale: TensorLike, shift: TensorLike, adapted: int = 1) -> None:
        """Sets `s` and `b`, and whether they count as set."""
        self._log_scale.assign(log_scale)
        self._shift.assign(shift)
        self._adapted.assign(adapted)

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Sets mean and variance of the latents of `y` to 0 and 1."""
        mean, log_deviation = self._measured(y)
        self.set(log_deviation, mean)
        return self.inverse_and_log_det(y)[0]

    def adapt_inverted(self, x: tf.Tensor) -> tf.Tensor:
        """Does the same for `forward(x)`, inside of `tfb.Invert`."""
        mean, log_deviation = self._measured(x)
        self.set(-log_deviation, -mean * tf.exp(-log_deviation))
        return self.forward_and_log_det(x)[0]

    def _measured(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, deviation = robust_moments(y)
        # A channel that never varies keeps its scale: dividing by ~0 would blow up.
        varies = deviation > tf.constant(self._epsilon, mean.dtype)
        return mean, tf.math.log(tf.where(varies, deviation, tf.ones_like(deviation)))


@keras.saving.register_keras_serializable(package="tfp_flows")
class RunningStatistics(keras.Layer):
    """Mean and variance of each channel; a training call moves and returns them."""

    def __init__(self, channels: int, momentum: float, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        fixed = {"trainable": False, "autocast": False}
        self.channels = channels
        self.momentum = momentum
        self.mean = self.add_weight((channels,), "zeros", name="mean", **fixed)
        self.variance = self.add_weight((channels,), "ones", name="variance", **fixed)
        self.adapted = self.add_weight(
            (), "zeros", name="adapted", dtype="int32", **fixed
        )
        self.built = True

    def call(self, y: tf.Tensor, training: bool | None = None) -> ValueAndLogDet:
        """Returns mean and variance to normalize `y` with."""
        mean, variance = self.running()
        if not training:
            return mean, variance
        batch_mean, batch_variance = moments(y)
        rho = tf.constant(self.momentum, y.dtype)
        mean = rho * mean + (1.0 - rho) * batch_mean
        variance = rho * variance + (1.0 - rho) * batch_variance
        self.mean.assign(tf.stop_gradient(mean))
        self.variance.assign(tf.stop_gradient(variance))
        return mean, variance

    def running(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the running mean and variance."""
        return tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)

    def get_config(self) -> Config:
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

    Keras's `training` argument of the call that is under way tells the two apart; a
    plain TFP call never trains. `adapt` sets both to the moments of one batch.

    Shapes: `[..., channels]`, images too. The log-det is a scalar for one position,
    which TFP multiplies by the number of positions in the event.

    Reference: Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
    arXiv:1605.08803, section 3.7 and appendix E.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.95,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        """Makes the statistics of an identity map.

        Args:
            momentum: Share `rho` of the old statistics in the new, in [0, 1).
        """
        self.channels = checked_integer("channels", channels)
        checked_number("momentum", momentum, minimum=0.0, below=1.0)
        self._epsilon = checked_number("epsilon", epsilon, above=0.0)
        super().__init__(event_ndims=1, is_constant_jacobian=True, **kwargs)
        self._statistics = RunningStatistics(channels, momentum, dtype=self.dtype.name)

    @property
    def set_from_data(self) -> list[tuple[keras.Variable, Starts]]:
        """The weight that is nonzero once `adapt` has run."""
        return [(self._statistics.adapted, [])]

    def _inverse_and_log_det(self, y: tf.Tensor) -> ValueAndLogDet:
        check_last_axis(self, y, self.channels)
        mean, variance = self._statistics(y)
        spread = variance + tf.constant(self._epsilon, y.dtype)
        log_det = -0.5 * tf.reduce_sum(tf.math.log(spread))
        return (y - mean) * tf.math.rsqrt(spread), log_det

    def _forward_and_log_det(self, x: tf.Tensor) -> ValueAndLogDet:
        check_last_axis(self, x, self.channels)
        mean, variance = self._statistics.running()
        spread = variance + tf.constant(self._epsilon, x.dtype)
        log_det = 0.5 * tf.reduce_sum(tf.math.log(spread))
        return x * tf.sqrt(spread) + mean, log_det

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Sets the statistics to the moments of `y`."""
        mean, deviation = robust_moments(y)
        self._statistics.mean.assign(mean)
        self._statistics.variance.assign(tf.square(deviation))
        self._statistics.adapted.assign(1)
        return self.inverse_and_log_det(y)[0]


@keras.saving.register_keras_serializable(package="tfp_flows")
class Whitening(Adaptable):
    """Turns vectors onto their principal axes, each with variance 1.

        forward:  y = V (s x) + m
        inverse:  x = V^T (y - m) / s
        log-det:  sum(log s) (forward), minus that (inverse)

    `adapt` measures `m`, the mean, the columns of `V`, the orthonormal eigenvectors
    of the covariance, and `s^2`, its eigenvalues. They are not trained.

    With it as the first bijector on the data's side, a flow starts as the Gaussian
    fitted to the data, as the latents of an autoencoder need: most of them repeat a few
    directions. The axes are interleaved, the largest, third, fifth, ... in the first
    half, so that both halves of `tfpf.masks.half` have large ones.

    Shapes: vectors `[..., d]`; the log-det is a scalar.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.real_nvp((4,), preprocess=Whitening(4))
        >>> tfpf.FlowModel(flow).is_adapted
        False
    """

    def __init__(self, d: int, *, epsilon: float = 1e-6, **kwargs: Any) -> None:
        """Makes the weights of an identity map.

        Args:
            epsilon: Smallest standard deviation that `adapt` divides by; an axis
                with less keeps its scale.
        """
        self._d = checked_integer("d", d)
        super().__init__(event_ndims=1, is_constant_jacobian=True, **kwargs)
        self._epsilon = float(epsilon)
        fixed = {"trainable": False}
        self._axes = self.add_weight((d, d), "identity", name="axes", **fixed)
        self._scale = self.add_weight((d,), "ones", name="scale", **fixed)
        self._shift = self.add_weight((d,), "zeros", name="shift", **fixed)
        self._wait_for_data()

    def _forward_and_log_det(self, x: tf.Tensor) -> ValueAndLogDet:
        check_last_axis(self, x, self._d)
        axes, scale = map(tf.convert_to_tensor, (self._axes, self._scale))
        y = mix_channels(x * scale, tf.transpose(axes)) + self._shift
        return y, tf.reduce_sum(tf.math.log(scale))

    def _inverse_and_log_det(self, y: tf.Tensor) -> ValueAndLogDet:
        check_last_axis(self, y, self._d)
        axes, scale = map(tf.convert_to_tensor, (self._axes, self._scale))
        x = mix_channels(y - self._shift, axes) / scale
        return x, -tf.reduce_sum(tf.math.log(scale))

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Measures mean and axes of vectors `[n, d]`, n > d, without outliers."""
        rows = np.asarray(y, np.float64).reshape(-1, self._d)
        if len(rows) <= self._d:
            must = f"have more than {self._d} rows to measure a covariance"
            raise invalid("y", must, rows.shape)
        low, high = fences(rows)
        rows = rows[np.all((rows >= low) & (rows <= high), axis=1)]
        variances, axes = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
        # Largest first, then every second one before the others.
        order = np.arange(self._d)[::-1]
        order = np.concatenate([order[::2], order[1::2]])
        deviations = np.sqrt(np.clip(variances[order], 0.0, None))
        self._axes.assign(axes[:, order])
        self._scale.assign(np.where(deviations > self._epsilon, deviations, 1.0))
        self._shift.assign(rows.mean(axis=0))
        self._adapted.assign(1)
        return self.inverse_and_log_det(y)[0]
