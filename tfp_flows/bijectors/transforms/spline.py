"""`RationalQuadraticSpline`, and what all splines share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.transforms.affine import wrapped
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal.arguments import (
    Mapped,
    checked_choice,
    checked_integer,
    checked_number,
)

TAILS = ("linear", "circular", "none")
_LARGEST = 1e4  # parameter, in size


class Spline(Transform):
    """Base class of monotone pieces on `[-bound, bound]`.

    A subclass sets `parameters_per_value` and writes `_within(value, rows, inverse)`,
    for values `[n]` of the interval and parameters `[n, parameters_per_value]`. Outside
    of the interval the spline is the identity.
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float = 5.0,
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
    ) -> None:
        """Chooses the shape of the spline.

        Args:
            bins: Number of bins, at least 2.
            bound: Half the side of the square on which the spline bends.
            min_bin: Smallest width and height of a bin, as a share of the side.
            min_slope: Smallest slope at a knot, below 1.
        """
        self.bins = checked_integer("bins", bins, 2)
        self.bound = checked_number("bound", bound, above=0.0)
        self.min_bin = checked_number("min_bin", min_bin, above=0.0, below=1.0 / bins)
        self.min_slope = checked_number("min_slope", min_slope, above=0.0, below=1.0)

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the spline."""
        return self._evaluated(x, parameters, inverse=False)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the inverse spline."""
        return self._evaluated(y, parameters, inverse=True)

    def _evaluated(
        self, value: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> Mapped:
        flat = tf.reshape(value, [-1])
        rows = tf.reshape(parameters, [-1, self.parameters_per_value])
        return tuple(
            tf.ensure_shape(tf.reshape(result, tf.shape(value)), value.shape)
            for result in self._everywhere(flat, rows, inverse)
        )

    def _everywhere(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        # A safe stand-in for values beyond the borders, so that the spline's
        # gradient is finite where its result is not used.
        inside = tf.clip_by_value(value, -self.bound, self.bound)
        result, log_slope = self._within(inside, rows, inverse)
        # Rounding must not lead out of the interval.
        rounded = tf.clip_by_value(result, -self.bound, self.bound)
        result = result + tf.stop_gradient(rounded - result)
        within = tf.abs(value) <= self.bound
        slope = tf.constant(self._log_slope, value.dtype)
        outside = tf.fill(tf.shape(log_slope), slope)
        return tf.where(within, result, value), tf.where(within, log_slope, outside)

    _log_slope = 0.0  # outside

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        raise NotImplementedError(f"{type(self).__name__} lacks `_within`.")

    def _intervals(self, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where the bins start, and how wide they are, `[n, bins]`."""
        side = 2.0 * self.bound
        least, free = side * self.min_bin, side * (1.0 - self.bins * self.min_bin)
        widths = least + free * tf.nn.softmax(raw)
        # Knots as a product with a triangle of ones: faster than a cumulative sum over
        # a short axis, in the graph executor as under XLA.
        ones = np.ones((self.bins, self.bins), raw.dtype.as_numpy_dtype)
        return tf.matmul(widths, np.triu(ones, 1)) - self.bound, widths


def picker(value: tf.Tensor, starts: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns what picks the entries, of `[n, bins]`, of the bin of each value `[n]`.

    It is a sum over a one-hot mask, which costs less than a gather, whose gradient is a
    scatter.
    """
    reached = tf.cast(value[:, tf.newaxis] >= starts[:, 1:], value.dtype)
    # `tf.pad` by another number than 0 is wrong under `tf.vectorized_map`.
    from_first = tf.concat([tf.ones_like(reached[:, :1]), reached], axis=-1)
    one_hot = from_first - tf.pad(reached, [[0, 0], [0, 1]])
    return lambda candidates: tf.reduce_sum(one_hot * candidates, axis=-1)


def positive(raw: tf.Tensor, least: float) -> tf.Tensor:
    """Returns numbers above `least`, 1 where `raw` is 0."""
    offset = math.log(math.expm1(1.0 - least))
    # Larger ones overflow when squared.
    return least + tf.nn.softplus(tf.minimum(raw, _LARGEST) + offset)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class RationalQuadraticSpline(Spline):
    """A monotone rational-quadratic spline of `bins` pieces on `[-bound, bound]`.

        forward:  y = g(x)
        inverse:  x = g^-1(y)     closed form: one quadratic equation
        log-derivative:  log g'(x) (forward), minus that

    Zero parameters give the identity. `tails` says what happens at the borders:

    * `"linear"`: `g` is the identity outside `[-bound, bound]`, with slope 1 at the
      borders, so `y` and its derivative are continuous everywhere
      (`3 bins - 1` parameters a value);
    * `"circular"`: values are angles on a circle of circumference `2 bound`; the first
      and the last slope are equal and a learned turn follows the spline (`3 bins + 1`
      parameters a value). Values outside are wrapped into `[-bound, bound)`;
    * `"none"`: the interval is all there is, with free slopes at its ends
      (`3 bins + 1` parameters a value). Values outside stay where they are, with the
      log-derivative `-inf`, which is their log-density.

    Bins have at least `min_bin` of the side and knots at least `min_slope`: the error
    of a round trip is at most rounding over the smallest slope.

    Reference: Durkan, Bekasov, Murray, Papamakarios: Neural Spline Flows, 2019,
    arXiv:1906.04032. Rezende et al.: Normalizing Flows on Tori and Spheres, 2020,
    arXiv:2002.02428 (circular).
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float = 5.0,
        tails: str = "linear",
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
    ) -> None:
        """Chooses the shape of the spline, and its tails: see `Spline`."""
        super().__init__(bins, bound, min_bin, min_slope)
        self.tails = checked_choice("tails", tails, TAILS)
        self.parameters_per_value = 3 * bins + (-1 if tails == "linear" else 1)
        self._log_slope = -math.inf if tails == "none" else 0.0

    def _everywhere(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        if self.tails != "circular":
            return super()._everywhere(value, rows, inverse)
        turn = rows[:, -1]
        start = wrapped(value - turn if inverse else value, self.bound)
        result, log_slope = self._within(start, rows, inverse)
        return wrapped(result if inverse else result + turn, self.bound), log_slope

    def _within(self, value: tf.Tensor, rows: tf.Tensor, inverse: bool) -> Mapped:
        n, rest = self.bins, self.parameters_per_value - 2 * self.bins
        widths, heights, slopes = tf.split(rows, [n, n, rest], -1)
        if self.tails == "linear":
            slopes = tf.pad(slopes, [[0, 0], [1, 1]])
        elif self.tails == "circular":
            slopes = tf.concat([slopes[:, :-1], slopes[:, :1]], -1)
        lefts, widths = self._intervals(widths)
        bottoms, heights = self._intervals(heights)
        picked = picker(value, bottoms if inverse else lefts)
        # Slopes are picked raw, so that the softplus runs on two numbers a value.
        found = Bin(
            *map(picked, (lefts, widths, bottoms, heights)),
            positive(picked(slopes[:, :-1]), self.min_slope),
            positive(picked(slopes[:, 1:]), self.min_slope),
        )
        return (inverse_in_bin if inverse else forward_in_bin)(value, found)


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


def forward_in_bin(x: tf.Tensor, b: Bin) -> Mapped:
    """Returns the spline's value and log-derivative at `x` within its bin.

    With `u = (x - left) / width`, `s = height / width` and
    `t = slope + next_slope - 2 s`,

        y = bottom + height (s u^2 + slope u (1 - u)) / (s + t u (1 - u)).
    """
    s = b.height / b.width
    u = (x - b.left) / b.width
    y_share, log_derivative = _share_and_log_derivative(u, s, b)
    return b.bottom + b.height * y_share, log_derivative


def inverse_in_bin(y: tf.Tensor, b: Bin) -> Mapped:
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


def _share_and_log_derivative(u: tf.Tensor, s: tf.Tensor, b: Bin) -> Mapped:
    rest = 1.0 - u
    mixed = u * rest
    denominator = s + (b.slope + b.next_slope - 2.0 * s) * mixed
    share = (s * tf.square(u) + b.slope * mixed) / denominator
    slope = (
        b.next_slope * tf.square(u) + 2.0 * s * mixed + b.slope * tf.square(rest)
    ) * tf.square(s / denominator)
    return share, tf.math.log(slope)
