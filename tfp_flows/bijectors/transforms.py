"""Elementwise monotone maps: the rational-quadratic spline, and scale helpers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class TanhScale(Weights):
    """Log-scale `s = c tanh(r)` with one learned factor `c`, which starts at 1.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803, section 4.1.
    """

    def build(self, input_shape: Any = None) -> None:
        """Makes the factor."""
        self.factor = self.add_weight((), "ones", name="factor")

    def call(self, r: tf.Tensor) -> tf.Tensor:
        """Maps raw values of any shape to log-scales."""
        return tf.convert_to_tensor(self.factor) * tf.tanh(r)


TAILS = ("linear", "circular")


@dataclasses.dataclass(frozen=True)
class Spline:
    """The elementwise map of `SplineCoupling`, whose docstring says what it does.

    Attributes:
        bins: Number of bins `K`.
        bound: Half the side of the square on which the spline bends.
        tails: `"linear"` or `"circular"`.
        min_bin: Smallest width and height of a bin, as a share of the side.
        min_slope: Smallest slope at a knot.
    """

    bins: int = 8
    bound: float = 5.0
    tails: str = "linear"
    min_bin: float = 1e-3
    min_slope: float = 1e-3

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        if type(self.bins) is not int or self.bins < 2:
            raise ValueError(
                "Argument `bins` must be an integer of at least 2. "
                f"Received: bins={self.bins!r}"
            )
        if not self.bound > 0.0:
            raise ValueError(
                f"Argument `bound` must be positive. Received: bound={self.bound}"
            )
        if self.tails not in TAILS:
            raise ValueError(
                f"Argument `tails` must be one of {TAILS}. Received: {self.tails!r}"
            )
        if not 0.0 < self.min_bin * self.bins < 1.0:
            raise ValueError(
                "Argument `min_bin` must lie between 0 and 1 / bins. "
                f"Received: min_bin={self.min_bin} with bins={self.bins}"
            )
        if not 0.0 < self.min_slope < 1.0:
            raise ValueError(
                "Argument `min_slope` must lie between 0 and 1. "
                f"Received: min_slope={self.min_slope}"
            )

    @property
    def parameters_per_value(self) -> int:
        """Number of parameters that one value's spline has."""
        return 3 * self.bins + (1 if self.tails == "circular" else -1)

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple:
        """Returns the values of `[..., v]` and their log-derivatives.

        Args:
            x: Values `[..., v]`.
            parameters: Parameters `[..., v * parameters_per_value]`, those of one
                value beside each other.
        """
        return self._bend(x, parameters, inverse=False)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple:
        """Undoes `forward`; returns the log-derivatives of the inverse."""
        return self._bend(y, parameters, inverse=True)

    def _bend(self, value: tf.Tensor, parameters: tf.Tensor, inverse: bool) -> tuple:
        flat = tf.reshape(value, [-1])
        rows = tf.reshape(parameters, [-1, self.parameters_per_value])
        bend = self._on_circle if self.tails == "circular" else self._on_line
        bent, log_derivative = bend(flat, rows, inverse)
        shape = tf.shape(value)
        bent, log_derivative = (tf.reshape(t, shape) for t in (bent, log_derivative))
        bent.set_shape(value.shape)
        log_derivative.set_shape(value.shape)
        return bent, log_derivative

    def _on_line(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> tuple:
        *extents, slopes = tf.split(rows, [self.bins, self.bins, self.bins - 1], -1)
        slopes = tf.pad(slopes, [[0, 0], [1, 1]])
        # A safe stand-in for values beyond the borders, so that the spline's
        # gradient is finite where its result is not used.
        inside = tf.clip_by_value(value, -self.bound, self.bound)
        bent, log_derivative = self._in_bin(inside, (*extents, slopes), inverse)
        within = tf.abs(value) <= self.bound
        zeros = tf.zeros_like(log_derivative)
        return tf.where(within, bent, value), tf.where(within, log_derivative, zeros)

    def _on_circle(self, angle: tf.Tensor, rows: tf.Tensor, inverse: bool) -> tuple:
        *extents, slopes, turn = tf.split(rows, [self.bins] * 3 + [1], -1)
        slopes = tf.concat([slopes, slopes[:, :1]], -1)
        turn = tf.squeeze(turn, -1)
        start = self._wrapped(angle - turn if inverse else angle)
        bent, log_derivative = self._in_bin(start, (*extents, slopes), inverse)
        return bent if inverse else self._wrapped(bent + turn), log_derivative

    def _in_bin(self, value: tf.Tensor, raw: tuple, inverse: bool) -> tuple:
        here = find_bin(
            value,
            *raw,
            bound=self.bound,
            min_bin=self.min_bin,
            min_slope=self.min_slope,
            by_height=inverse,
        )
        return inverse_in_bin(value, here) if inverse else forward_in_bin(value, here)

    def _wrapped(self, angle: tf.Tensor) -> tf.Tensor:
        return tf.math.floormod(angle + self.bound, 2.0 * self.bound) - self.bound


class Bin(NamedTuple):
    """The bin of a spline in which a value lies; every field has its shape.

    `left` and `bottom` are the corner, `width` and `height` the extent, `slope` and
    `next_slope` the derivatives at the two knots.
    """

    left: tf.Tensor
    width: tf.Tensor
    bottom: tf.Tensor
    height: tf.Tensor
    slope: tf.Tensor
    next_slope: tf.Tensor


def find_bin(
    value: tf.Tensor,
    raw_widths: tf.Tensor,
    raw_heights: tf.Tensor,
    raw_slopes: tf.Tensor,
    *,
    bound: float,
    min_bin: float,
    min_slope: float,
    by_height: bool,
) -> Bin:
    """Returns the bin that holds each value, for `K` bins on `[-bound, bound]`.

    The bin is picked by a sum over a one-hot mask: it costs less than a gather,
    whose gradient is a scatter. Slopes are picked raw, so that the softplus runs on
    two numbers a value instead of `K + 1`.

    Args:
        value: Values within `[-bound, bound]`, shape `[n]`.
        raw_widths: Any real numbers, `[n, K]`; a softmax makes them widths.
        raw_heights: Likewise for the heights.
        raw_slopes: Any real numbers, `[n, K + 1]`, one for each knot; a softplus
            makes them derivatives, and 0 stands for derivative 1.
        bound: Half the side of the square on which the spline lives.
        min_bin: Smallest width and height, as a share of the side.
        min_slope: Smallest derivative at a knot.
        by_height: Whether `value` is an output of the spline, to be inverted.

    Returns:
        The bins, with fields of shape `[n]`.
    """
    bins = raw_widths.shape[-1]
    widths = _extents(raw_widths, bound, min_bin)
    heights = _extents(raw_heights, bound, min_bin)
    # Knots as a product with a triangle of ones: faster than a cumulative sum over
    # a short axis, in the graph executor as under XLA.
    triangle = np.triu(np.ones((bins, bins)), 1).astype(value.dtype.as_numpy_dtype)
    lefts = tf.matmul(widths, triangle) - bound
    bottoms = tf.matmul(heights, triangle) - bound
    reached = tf.cast(
        value[:, tf.newaxis] >= (bottoms if by_height else lefts)[:, 1:], value.dtype
    )
    from_first = tf.pad(reached, [[0, 0], [1, 0]], constant_values=1.0)
    one_hot = from_first - tf.pad(reached, [[0, 0], [0, 1]])

    def picked(candidates: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(one_hot * candidates, axis=-1)

    # softplus(offset) + min_slope = 1.
    offset = math.log(math.expm1(1.0 - min_slope))
    return Bin(
        left=picked(lefts),
        width=picked(widths),
        bottom=picked(bottoms),
        height=picked(heights),
        slope=min_slope + tf.nn.softplus(picked(raw_slopes[:, :-1]) + offset),
        next_slope=min_slope + tf.nn.softplus(picked(raw_slopes[:, 1:]) + offset),
    )


def forward_in_bin(x: tf.Tensor, b: Bin) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the spline's value and log-derivative at `x` within its bin.

    With `u = (x - left) / width`, `s = height / width` and
    `t = slope + next_slope - 2 s`,

        y = bottom + height (s u^2 + slope u (1 - u)) / (s + t u (1 - u)).
    """
    s = b.height / b.width
    u = (x - b.left) / b.width
    y_share, log_derivative = _share_and_log_derivative(u, s, b)
    return b.bottom + b.height * y_share, log_derivative


def inverse_in_bin(y: tf.Tensor, b: Bin) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the `x` with spline value `y` and the log-derivative of the inverse.

    With `v = (y - bottom) / height` the position `u` in the bin solves

        (s - p) u^2 + p u - s v = 0,    p = slope - v t.

    Its discriminant is written as a sum of two terms that cannot be negative, and
    the root in the form that subtracts no near-equal numbers, so that no digits are
    lost in float32.
    """
    s = b.height / b.width
    share = (y - b.bottom) / b.height
    # A border that rounding has put outside the bin keeps its gradient.
    v = share + tf.stop_gradient(tf.clip_by_value(share, 0.0, 1.0) - share)
    p = b.slope - v * (b.slope + b.next_slope - 2.0 * s)
    discriminant = tf.square(p - 2.0 * s * v) + 4.0 * tf.square(s) * v * (1.0 - v)
    q = tf.abs(p) + tf.sqrt(discriminant)
    falling = p < 0.0
    # The branch that is not taken divides by 1, so that its gradient stays finite.
    safe = tf.where(falling, s - p, tf.ones_like(p))
    u = tf.where(falling, 0.5 * q / safe, 2.0 * s * v / q)
    _, log_derivative = _share_and_log_derivative(u, s, b)
    return b.left + b.width * u, -log_derivative


def _share_and_log_derivative(
    u: tf.Tensor, s: tf.Tensor, b: Bin
) -> tuple[tf.Tensor, tf.Tensor]:
    rest = 1.0 - u
    mixed = u * rest
    denominator = s + (b.slope + b.next_slope - 2.0 * s) * mixed
    share = (s * tf.square(u) + b.slope * mixed) / denominator
    slope = (
        b.next_slope * tf.square(u) + 2.0 * s * mixed + b.slope * tf.square(rest)
    ) * tf.square(s / denominator)
    return share, tf.math.log(slope)


def _extents(raw: tf.Tensor, bound: float, min_bin: float) -> tf.Tensor:
    side = 2.0 * bound
    free = side * (1.0 - raw.shape[-1] * min_bin)
    return side * min_bin + free * tf.nn.softmax(raw)
