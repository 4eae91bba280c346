"""Splines of other pieces: linear, quadratic, cubic and linear-rational."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.bijectors.transforms.spline import Spline, picker, positive
from tfp_flows.internal.arguments import Mapped

# Where `0.003 + 2.994 sigmoid(-_AT_MEAN)` is 1.
_AT_MEAN = math.log(2.994 / 0.997 - 1.0)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class LinearSpline(Spline):
    """A piecewise linear bijection of `[-bound, bound]`, the identity outside.

        forward:  y = bottom_k + s_k (x - left_k) in the k-th of equally wide bins
        inverse:  x = left_k + (y - bottom_k) / s_k
        log-derivative:  log s_k (forward), minus that

    The heights of the bins are a softmax of the `bins` parameters of a value; zero
    gives the identity. Densities are steps.

    Reference: Mueller et al.: Neural Importance Sampling, 2018, arXiv:1808.03856.
    """

    def __init__(
        self, bins: int = 16, bound: float = 5.0, min_bin: float = 1e-3
    ) -> None:
        """Chooses the number of bins, at least 2, and half the side of the square."""
        super().__init__(bins, bound, min_bin)
        self.parameters_per_value = bins

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        lefts, widths = self._intervals(tf.zeros_like(rows))
        bottoms, heights = self._intervals(rows)
        picked = picker(value, bottoms if inverse else lefts)
        left, width, bottom, height = map(picked, (lefts, widths, bottoms, heights))
        slope = height / width
        if inverse:
            return left + (value - bottom) / slope, -tf.math.log(slope)
        return bottom + (value - left) * slope, tf.math.log(slope)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class QuadraticSpline(Spline):
    """A piecewise quadratic bijection of `[-bound, bound]`, the identity outside.

    Its derivative is piecewise linear, continuous, and 1 at the borders. With `a` and
    `b` the slopes at the knots of a bin of width `w`, and `u = (x - left) / w`,

        forward:  y = bottom + w (a u + (b - a) u^2 / 2)
        inverse:  one quadratic equation
        log-derivative:  log(a + (b - a) u) (forward), minus that

    A value has `2 bins - 1` parameters: of the widths, and of the slopes at inner
    knots, which are scaled so that the spline ends at `bound`. Zero gives the identity.

    Reference: Mueller et al.: Neural Importance Sampling, 2018, arXiv:1808.03856.
    """

    @property
    def parameters_per_value(self) -> int:
        """Number of parameters of a value."""
        return 2 * self.bins - 1

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        raw_widths, raw_slopes = tf.split(rows, [self.bins, self.bins - 1], -1)
        lefts, widths = self._intervals(raw_widths)
        inner = positive(raw_slopes, self.min_slope)
        outer = 0.5 * (widths[:, :1] + widths[:, -1:])
        area = 0.5 * tf.reduce_sum(
            inner * (widths[:, :-1] + widths[:, 1:]), -1, keepdims=True
        )
        inner *= (2.0 * self.bound - outer) / area
        ones = tf.ones_like(inner[:, :1])
        knots = tf.concat([ones, inner, ones], axis=-1)
        heights = 0.5 * widths * (knots[:, :-1] + knots[:, 1:])
        bottoms = tf.cumsum(heights, axis=-1, exclusive=True) - self.bound
        picked = picker(value, bottoms if inverse else lefts)
        parts = (lefts, widths, bottoms, knots[:, :-1], knots[:, 1:])
        left, width, bottom, a, b = map(picked, parts)
        if inverse:
            v = tf.maximum((value - bottom) / width, 0.0)
            # Both terms under the root are positive: v is at most (a + b) / 2.
            root = tf.sqrt(tf.maximum(a**2 + 2.0 * (b - a) * v, self.min_slope**4))
            u = 2.0 * v / (a + root)
            return left + width * u, -tf.math.log(a + (b - a) * u)
        u = (value - left) / width
        y = bottom + width * u * (a + 0.5 * (b - a) * u)
        return y, tf.math.log(a + (b - a) * u)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class CubicSpline(Spline):
    """A monotone piecewise cubic bijection of `[-bound, bound]`, the identity outside.

    With `s` the mean slope of a bin of width `w`, `a` and `b` the slopes at its knots,
    chosen by Steffen's rule so that it grows everywhere, and `u = (x - left) / w`,

        forward:  y = bottom + w (a u + (3 s - 2 a - b) u^2 + (a + b - 2 s) u^3)
        inverse:  by a root search, to rounding
        log-derivative:  log(a + 2 (3 s - 2 a - b) u + 3 (a + b - 2 s) u^2)

    A value has `2 bins + 2` parameters: of the widths, the heights and the two slopes
    at the borders. Zero gives the identity.

    Reference: Durkan et al.: Cubic-Spline Flows, 2019, arXiv:1906.02145. Steffen: A
    simple method for monotonic interpolation in one dimension, 1990.
    """

    def __init__(
        self, bins: int = 8, bound: float = 5.0, min_bin: float = 1e-3
    ) -> None:
        """Chooses the number of bins, at least 2, and half the side of the square."""
        super().__init__(bins, bound, min_bin)
        self.parameters_per_value = 2 * bins + 2

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        if inverse:
            ends = tf.fill(tf.shape(value), tf.constant(self.bound, value.dtype))
            x, log_slope = solve(self._curve, value, rows, -ends, ends)
            return x, -log_slope
        return self._curve(value, rows)

    def _curve(self, x: tf.Tensor, rows: tf.Tensor) -> Mapped:
        *extents, borders = tf.split(rows, [self.bins, self.bins, 2], -1)
        (lefts, widths), (bottoms, heights) = map(self._intervals, extents)
        means = heights / widths
        before, after = means[:, :-1], means[:, 1:]
        parabola = before * widths[:, 1:] + after * widths[:, :-1]
        parabola /= widths[:, :-1] + widths[:, 1:]
        inner = tf.minimum(2.0 * tf.minimum(before, after), parabola)
        # Between 0 and three times the mean slope of the outer bin, which it is at 0.
        ends = 0.003 + 2.994 * tf.sigmoid(borders - _AT_MEAN)
        first, last = ends[:, :1] * means[:, :1], ends[:, 1:] * means[:, -1:]
        knots = tf.concat([first, inner, last], -1)
        parts = (lefts, widths, bottoms, means, knots[:, :-1], knots[:, 1:])
        left, width, bottom, s, a, b = map(picker(x, lefts), parts)
        u = (x - left) / width
        square, cube = 3.0 * s - 2.0 * a - b, a + b - 2.0 * s
        y = bottom + width * u * (a + u * (square + u * cube))
        return y, tf.math.log(a + u * (2.0 * square + 3.0 * u * cube))


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class LinearRationalSpline(Spline):
    """A monotone spline of two hyperbolas a bin, the identity outside the square.

    Between knots with slopes `a`, `b`, mean slope `s` and a share `r` of the bin, where
    the two pieces meet, each piece is a weighted mean `(w_1 y_1 (1 - v) + w_2 y_2 v) /
    (w_1 (1 - v) + w_2 v)` of the heights at its ends, with `v` the position in it and

        w_left = 1,  w_right = sqrt(a / b),  w_middle = (r a + (1 - r) b w_right) / s

        inverse:  the same form in `y`: no root of an equation is needed
        log-derivative:  closed form (forward), minus that (inverse)

    The spline and its derivative are continuous, with slope 1 at the borders. A value
    has `4 bins - 1` parameters; zero gives the identity.

    Reference: Dolatabadi, Erfani, Leckie: Invertible Generative Modeling using Linear
    Rational Splines, 2020, arXiv:2001.05168.
    """

    @property
    def parameters_per_value(self) -> int:
        """Number of parameters of a value."""
        return 4 * self.bins - 1

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        *extents, shares, raw = tf.split(rows, [self.bins] * 3 + [self.bins - 1], -1)
        (lefts, widths), (bottoms, heights) = map(self._intervals, extents)
        raw = tf.pad(raw, [[0, 0], [1, 1]])
        picked = picker(value, bottoms if inverse else lefts)
        left, width, bottom, height = map(picked, (lefts, widths, bottoms, heights))
        a, b = (
            positive(picked(part), self.min_slope) for part in (raw[:, :-1], raw[:, 1:])
        )
        r = 0.025 + 0.95 * tf.sigmoid(picked(shares))
        # Heights and positions as shares of the bin, so that it is a unit square.
        s = height / width
        w_right = tf.sqrt(a / b)
        w_middle = (r * a + (1.0 - r) * b * w_right) / s
        middle = r * w_right / (1.0 - r + r * w_right)
        if inverse:
            u = self._position((value - bottom) / height, r, middle, w_middle, w_right)
        else:
            u = (value - left) / width
        lower = u <= r
        zero, one = tf.zeros_like(a), tf.ones_like(a)
        start, end = tf.where(lower, zero, middle), tf.where(lower, middle, one)
        w_start = tf.where(lower, one, w_middle)
        w_end = tf.where(lower, w_middle, w_right)
        length = tf.where(lower, r, 1.0 - r)
        v = tf.where(lower, u, u - r) / length
        total = w_start * (1.0 - v) + w_end * v
        log_slope = tf.math.log(s * w_start * w_end * (end - start) / length)
        log_slope -= 2.0 * tf.math.log(total)
        if inverse:
            return left + width * u, -log_slope
        y = (w_start * start * (1.0 - v) + w_end * end * v) / total
        return bottom + height * y, log_slope

    @staticmethod
    def _position(
        t: tf.Tensor,
        r: tf.Tensor,
        middle: tf.Tensor,
        w_middle: tf.Tensor,
        w_right: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the position in the unit square at the height `t`."""
        # Each piece gets heights of its own, so that the other's gradient is finite.
        below, above = tf.minimum(t - middle, 0.0), tf.maximum(t - middle, 0.0)
        rest = w_right * (1.0 - t)
        low = r * t / (t - w_middle * below)
        high = (r * rest + w_middle * above) / (rest + w_middle * above)
        return tf.where(t <= middle, low, high)
