"""`Planar` and `Radial` flows."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.internal.arguments import Mapped, check_last_axis, checked_integer


@keras.saving.register_keras_serializable(package="tfp_flows")
class Planar(FlowBijector):
    """Planar flow.

        forward:  y = x + u tanh(a + b),  a = w.x
        inverse:  x = y - u tanh(a + b),  a the root of a + w.u tanh(a + b) = w.y
        log-det:  log(1 + w.u (1 - tanh^2(a + b))) (forward), minus that (inverse)

    The learned `u` is moved along `w` so that `w.u > -1`, which makes the map
    invertible. The root is searched to rounding, with the gradient of the true root.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770.
    """

    def __init__(self, d: int, **kwargs: Any) -> None:
        """Draws directions for `d` values; a small `u` is near the identity."""
        self._d = checked_integer("d", d)
        super().__init__(event_ndims=1, **kwargs)
        small = keras.initializers.RandomNormal(stddev=0.05)
        self._u = self.add_weight((d,), small, name="u")
        self._w = self.add_weight((d,), "random_normal", name="w")
        self._b = self.add_weight(name="b")

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        u, w, b, wu = self._plane(x)
        bend = tf.tanh(tf.reduce_sum(w * x, -1) + b)
        return x + u * bend[..., tf.newaxis], _log_slope(wu, bend)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        u, w, b, wu = self._plane(y)
        a = _root(tf.reduce_sum(w * y, -1), wu, b)
        bend = tf.tanh(a + b)
        return y - u * bend[..., tf.newaxis], -_log_slope(wu, bend)

    def _plane(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns `u` after its correction, `w`, `b` and `w.u`."""
        check_last_axis(self, x, self._d)
        u, w, b = map(tf.convert_to_tensor, (self._u, self._w, self._b))
        raw = tf.reduce_sum(u * w)
        wu = tf.nn.softplus(raw) - 1.0
        tiny = tf.constant(1e-12, w.dtype)
        return u + (wu - raw) * w / (tf.reduce_sum(w * w) + tiny), w, b, wu


def _log_slope(wu: tf.Tensor, bend: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(wu * (1.0 - tf.square(bend)))


def _root(target: tf.Tensor, wu: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Solves `a + wu tanh(a + b) = target`, whose left side grows with `a`."""

    def function(a: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wu, b = tf.unstack(parameters)
        bend = tf.tanh(a + b)
        return a + wu * bend, _log_slope(wu, bend)

    reach = tf.abs(wu)
    parameters = tf.stack([wu, b])
    return solve(function, target, parameters, target - reach, target + reach)[0]


@keras.saving.register_keras_serializable(package="tfp_flows")
class Radial(FlowBijector):
    """Radial flow.

    With `r = |x - c|`, `alpha > 0`, `beta > -alpha` and `g = 1 + beta/(alpha + r)`,

        forward:  y = c + (x - c) g
        inverse:  x = c + (y - c) / g,  r the positive root of
                  r^2 + (alpha + beta - |y - c|) r - alpha |y - c| = 0
        log-det:  (d - 1) log g + log(1 + alpha beta / (alpha + r)^2) (forward),
                  minus that (inverse)

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770.
    """

    def __init__(self, d: int, **kwargs: Any) -> None:
        """Draws a weak pull around a centre near 0 for vectors of `d` values."""
        self._d = checked_integer("d", d)
        super().__init__(event_ndims=1, **kwargs)
        self._centre = self.add_weight((d,), "random_normal", name="centre")
        self._raw_alpha = self.add_weight(name="raw_alpha")
        self._raw_beta = self.add_weight(name="raw_beta")

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        centre, alpha, beta = self._centre_and_pull(x)
        r = _length(x - centre)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (x - centre) * growth, log_det

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        centre, alpha, beta = self._centre_and_pull(y)
        far = _length(y - centre)
        p = alpha + beta - far
        q = tf.abs(p) + tf.sqrt(tf.square(p) + 4.0 * alpha * far)
        # The form of the root that subtracts no near-equal numbers.
        r = tf.where(p > 0.0, 2.0 * alpha * far / q, 0.5 * q)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (y - centre) / growth, -log_det

    def _centre_and_pull(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._d)
        alpha = tf.nn.softplus(tf.convert_to_tensor(self._raw_alpha))
        beta = tf.nn.softplus(tf.convert_to_tensor(self._raw_beta)) - alpha
        return tf.convert_to_tensor(self._centre), alpha, beta

    def _growth_and_log_det(
        self, r: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        pull = beta / (alpha + r)
        across = tf.math.log1p(pull)
        along = tf.math.log1p(alpha * pull / (alpha + r))
        log_det = (self._d - 1) * across + along
        return 1.0 + pull[..., tf.newaxis], log_det


def _length(v: tf.Tensor) -> tf.Tensor:
    # Keeps the gradient finite at the centre itself.
    return tf.sqrt(tf.reduce_sum(v * v, axis=-1) + v.dtype.as_numpy_dtype(1e-30))
