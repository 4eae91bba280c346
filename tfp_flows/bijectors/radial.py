"""`Radial`: values drawn to or pushed from a learned centre."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.actnorm import check_channels, check_last_axis
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import Weights


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
        check_channels(d)
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
