"""Transforms that squash: `Tanh` with tails, `CauchyCDF`."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal.arguments import Mapped, checked_choice, checked_number

TAILS = ("linear", "log")


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class Tanh(Transform):
    """Hyperbolic tangent that goes on beyond a cut, so that no value is out of reach.

    With `z = exp(p) x` for the parameter p, the cut c and `h = 1 - tanh(c)^2`,

        forward:  y = exp(-p) tanh(z)                                where |z| <= c
                  y = exp(-p) sign(z) (tanh(c) + h (|z| - c))        tails="linear"
                  y = exp(-p) sign(z) (tanh(c) + h c log(|z| / c))   tails="log"
        inverse:  in closed form
        log-derivative:  log(1 - tanh(z)^2);  log h;  log(h c / |z|)

    Slopes are continuous. Logarithmic tails make heavy-tailed data light.

    Reference: the leaky tangent of FlowJAX; `LogTanh` of Durkan et al.: nflows, 2020.
    """

    parameters_per_value = 1

    def __init__(self, tails: str = "linear", cut: float = 1.0) -> None:
        """Chooses how it goes on, and where, below 8."""
        self.tails = checked_choice("tails", tails, TAILS)
        self.cut = checked_number("cut", cut, above=0.0, below=8.0)
        self._top = math.tanh(self.cut)
        self._slope = 1.0 - self._top**2

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Squashes."""
        b = tf.exp(parameters[..., 0])
        z = b * x
        near = tf.clip_by_value(z, -self.cut, self.cut)
        far = tf.maximum(tf.abs(z), self.cut)
        log_slope = 2.0 * (math.log(2.0) - near - tf.nn.softplus(-2.0 * near))
        beyond = far - self.cut
        if self.tails == "log":
            ratio = tf.math.log(far / self.cut)
            log_slope, beyond = log_slope - ratio, self.cut * ratio
        y = tf.tanh(near) + tf.sign(z) * self._slope * beyond
        return y / b, log_slope

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Stretches."""
        b = tf.exp(parameters[..., 0])
        v = b * y
        near = tf.clip_by_value(v, -self._top, self._top)
        far = tf.maximum(tf.abs(v), self._top)
        beyond = (far - self._top) / self._slope
        log_slope = -tf.math.log1p(-tf.square(near))
        if self.tails == "log":
            log_slope += beyond / self.cut
            beyond = self.cut * tf.math.expm1(beyond / self.cut)
        return (tf.atanh(near) + tf.sign(v) * beyond) / b, log_slope


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class CauchyCDF(Transform):
    """The distribution function of a Cauchy distribution, onto (0, 1).

        forward:  y = 1/2 + arctan(z) / pi,    z = (x - m) exp(-s)
        inverse:  x = m - exp(s) cot(pi y), NaN outside of (0, 1)
        log-derivative:  -log(pi (1 + z^2)) - s (forward), minus that

    The parameters are m and s. Unlike a sigmoid it leaves room at the ends for values
    that are far out.

    Reference: Durkan et al.: nflows, 2020 (`CauchyCDF`).
    """

    parameters_per_value = 2

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the distribution function."""
        m, s = tf.unstack(parameters, axis=-1)
        z = (x - m) * tf.exp(-s)
        return tf.atan2(tf.ones_like(z), -z) / math.pi, _log_density(z) - s

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the quantile."""
        m, s = tf.unstack(parameters, axis=-1)
        inside = tf.logical_and(y > 0.0, y < 1.0)
        y = tf.where(inside, y, tf.cast(0.5, y.dtype))
        # From the nearer end, where `y - 1/2` would lose digits.
        z = tf.sign(y - 0.5) / tf.tan(math.pi * tf.minimum(y, 1.0 - y))
        x = m + tf.exp(s) * z
        nowhere = tf.cast(np.nan, y.dtype)
        return tf.where(inside, x, nowhere), s - _log_density(z)


def _log_density(z: tf.Tensor) -> tf.Tensor:
    """Returns the log-density of the standard Cauchy distribution."""
    return -math.log(math.pi) - tf.math.log1p(tf.square(z))
