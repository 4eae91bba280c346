"""`Planar` and `Radial` flows."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import Weights
from tfp_flows.internal.arguments import check_last_axis, checked_integer

# Halvings of the bracket, to the last bit of a float64 of ordinary size.
_BISECTIONS = 60


@keras.saving.register_keras_serializable(package="tfp_flows")
class PlanarWeights(Weights):
    """The directions `u` and `w` and the offset `b` of a planar flow."""

    def __init__(self, d: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d = d

    def build(self, input_shape: Any = None) -> None:
        """Draws directions; `u` is small, so the map starts near the identity."""
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.u = self.add_weight((self.d,), small, name="u")
        self.w = self.add_weight((self.d,), "random_normal", name="w")
        self.b = self.add_weight((), "zeros", name="b")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "d": self.d}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Planar(FlowBijector):
    """Planar flow.

        forward:  y = x + u tanh(a + b),  a = w.x
        inverse:  x = y - u tanh(a + b),  a the root of a + w.u tanh(a + b) = w.y
        log-det:  log(1 + w.u (1 - tanh^2(a + b))) (forward), minus that (inverse)

    The learned `u` is moved along `w` so that `w.u > -1`, which makes the map
    invertible. The root is found by bisection; a last Newton step gives it the
    gradient of the true root.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference:
        Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
        arXiv:1505.05770.
    """

    def __init__(
        self,
        d: int,
        *,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            d: Number of values in a vector.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        checked_integer("channels", d)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._own("_weights", PlanarWeights(d, dtype=self.dtype.name).made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        u, w, b, wu = self._plane(x)
        bend = tf.tanh(tf.reduce_sum(w * x, -1) + b)
        return x + u * bend[..., tf.newaxis], _log_slope(wu, bend)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        u, w, b, wu = self._plane(y)
        a = _root(tf.reduce_sum(w * y, -1), wu, b)
        bend = tf.tanh(a + b)
        return y - u * bend[..., tf.newaxis], -_log_slope(wu, bend)

    def _plane(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns `u` after its correction, `w`, `b` and `w.u`."""
        check_last_axis(self, x, self._weights.d)
        u, w, b = (
            tf.convert_to_tensor(v)
            for v in (self._weights.u, self._weights.w, self._weights.b)
        )
        raw = tf.reduce_sum(u * w)
        wu = tf.nn.softplus(raw) - 1.0
        tiny = tf.constant(1e-12, w.dtype)
        return u + (wu - raw) * w / (tf.reduce_sum(w * w) + tiny), w, b, wu


def _log_slope(wu: tf.Tensor, bend: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(wu * (1.0 - tf.square(bend)))


def _root(target: tf.Tensor, wu: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Solves `a + wu tanh(a + b) = target`, whose left side grows with `a`."""

    def halve(_: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple:
        middle = 0.5 * (low + high)
        below = middle + wu * tf.tanh(middle + b) < target
        return _ + 1, tf.where(below, middle, low), tf.where(below, high, middle)

    reach = tf.abs(wu)
    _, low, high = tf.while_loop(
        lambda k, *_: k < _BISECTIONS,
        halve,
        tf.nest.map_structure(
            tf.stop_gradient, (tf.constant(0), target - reach, target + reach)
        ),
        maximum_iterations=_BISECTIONS,
    )
    a = tf.stop_gradient(0.5 * (low + high))
    bend = tf.tanh(a + b)
    slope = tf.stop_gradient(1.0 + wu * (1.0 - tf.square(bend)))
    return a - (a + wu * bend - target) / slope


@keras.saving.register_keras_serializable(package="tfp_flows")
class RadialWeights(Weights):
    """The centre of a radial flow, and the raw numbers behind alpha and beta."""

    def __init__(self, d: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d = d

    def build(self, input_shape: Any = None) -> None:
        """Makes a weak pull around a centre near 0."""
        self.centre = self.add_weight((self.d,), "random_normal", name="centre")
        self.raw_alpha = self.add_weight((), "zeros", name="raw_alpha")
        self.raw_beta = self.add_weight((), "zeros", name="raw_beta")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "d": self.d}


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

    Reference:
        Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
        arXiv:1505.05770.
    """

    def __init__(
        self,
        d: int,
        *,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            d: Number of values in a vector.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        checked_integer("channels", d)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._own("_weights", RadialWeights(d, dtype=self.dtype.name).made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        centre, alpha, beta = self._numbers(x)
        r = _length(x - centre)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (x - centre) * growth, log_det

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        centre, alpha, beta = self._numbers(y)
        far = _length(y - centre)
        p = alpha + beta - far
        q = tf.abs(p) + tf.sqrt(tf.square(p) + 4.0 * alpha * far)
        # The form of the root that subtracts no near-equal numbers.
        r = tf.where(p > 0.0, 2.0 * alpha * far / q, 0.5 * q)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (y - centre) / growth, -log_det

    def _numbers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        check_last_axis(self, x, self._weights.d)
        alpha = tf.nn.softplus(tf.convert_to_tensor(self._weights.raw_alpha))
        beta = tf.nn.softplus(tf.convert_to_tensor(self._weights.raw_beta)) - alpha
        return tf.convert_to_tensor(self._weights.centre), alpha, beta

    def _growth_and_log_det(
        self, r: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        pull = beta / (alpha + r)
        across = tf.math.log1p(pull)
        along = tf.math.log1p(alpha * pull / (alpha + r))
        log_det = (self._weights.d - 1) * across + along
        return 1.0 + pull[..., tf.newaxis], log_det


def _length(v: tf.Tensor) -> tf.Tensor:
    # The smallest normal number keeps the gradient finite at the centre itself.
    return tf.sqrt(tf.reduce_sum(v * v, axis=-1) + v.dtype.as_numpy_dtype(1e-30))
