"""`LogisticMixture`, `NormalMixture`: distribution functions, and their inverses."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.internal.arguments import Mapped, checked_integer


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class LogisticMixture(Transform):
    """Makes a mixture of logistic distributions standard logistic noise.

        inverse:  x = logit F(y),  F(y) = sum_k w_k sigmoid((y - m_k) / s_k)
        forward:  y with logit F(y) = x, by a bracketed root search, to rounding
        log-derivative:  log F'(y) - log F(y) - log(1 - F(y)) (inverse), minus that

    The parameters of a value are, for K components, the logarithms of the weights `w`
    up to a constant, the locations `m` and the logarithms of the scales `s`; locations
    are offsets from K equally spaced places, so that parameters of 0 are no fixed point
    of training. Behind a standard logistic base the density of `y` is the mixture's.
    Between components many scales apart `forward` is steep and amplifies rounding.

    Reference: Ho et al.: Flow++, 2019, arXiv:1902.00275, section 3.2.
    """

    def __init__(self, components: int = 8) -> None:
        """Chooses the number K of components."""
        self.components = checked_integer("components", components)
        self.parameters_per_value = 3 * components

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Searches for the value that has this noise."""
        log_weights, location, log_scale = self._components(parameters)
        return mixture_from_noise(x, log_weights, location, log_scale)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the distribution function, in logits."""
        x, log_slope, _ = mixture_to_noise(y, *self._components(parameters))
        return x, log_slope

    def _components(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        weights, offset, log_scale = tf.split(parameters, 3, axis=-1)
        location = offset + tf.constant(self._places(), parameters.dtype)
        return [tf.nn.log_softmax(weights), location, log_scale + self._log_scale]

    _log_scale = 0.0  # of parameters 0

    def _places(self) -> np.ndarray:
        return np.linspace(-1.0, 1.0, self.components + 2)[1:-1]


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class NormalMixture(LogisticMixture):
    """Makes a mixture of normal distributions standard logistic noise.

        inverse:  x = logit F(y),  F(y) = sum_k w_k Phi((y - m_k) / s_k)
        forward:  y with logit F(y) = x, by a root search, to rounding
        log-derivative:  log F'(y) - log F(y) - log(1 - F(y)) (inverse), minus that

    The parameters are those of `LogisticMixture`. In a single `tfpf.Autoregressive`
    behind a standard logistic base it is MADE with mixtures of Gaussians.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057, section 4 (MADE MoG). Ho et al.: Flow++, 2019, arXiv:1902.00275.
    """

    forward = Transform.forward

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the distribution function, in logits."""
        log_weights, location, log_scale = self._components(parameters)
        a = (y[..., tf.newaxis] - location) * tf.exp(-log_scale)
        most = 0.1 * y.dtype.max**0.5  # the square of more would be infinite
        a = tf.clip_by_value(a, -most, most)
        normal = tfd.Normal(tf.zeros([], y.dtype), 1.0)
        log_f, log_rest, log_density = (
            tf.reduce_logsumexp(log_weights + term, axis=-1)
            for term in (
                normal.log_cdf(a),
                normal.log_survival_function(a),
                normal.log_prob(a) - log_scale,
            )
        )
        return log_f - log_rest, log_density - log_f - log_rest


def mixture_to_noise(
    y: tf.Tensor, log_weights: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns `logit F(y)`, the logarithm of its slope, and the posterior weights.

    Shapes: values, noise and log-slopes `[...]`; normalized log-weights, before and
    given `y`, `[..., K]`; locations and log-scales `[K]` or `[..., K]`.
    """
    a = (y[..., tf.newaxis] - location) * tf.exp(-log_scale)
    log_below = tf.math.log_sigmoid(a)
    log_above = log_below - a
    density = log_weights + log_below + log_above - log_scale
    log_f, log_rest, log_density = (
        tf.reduce_logsumexp(terms, axis=-1)
        for terms in (log_weights + log_below, log_weights + log_above, density)
    )
    log_slope = log_density - log_f - log_rest
    return log_f - log_rest, log_slope, density - log_density[..., tf.newaxis]


def mixture_from_noise(
    x: tf.Tensor, log_weights: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor
) -> Mapped:
    """Returns the `y` with `logit F(y) = x`, and the logarithm of `dy/dx`."""
    # Each component alone would have its root here; the mixture's lies in between.
    alone = location + tf.exp(log_scale) * x[..., tf.newaxis]
    shape = tf.broadcast_static_shape(alone.shape, log_weights.shape)
    sizes = tf.broadcast_dynamic_shape(tf.shape(alone), tf.shape(log_weights))
    parameters = tf.stack(
        [tf.broadcast_to(v, sizes) for v in (log_weights, location, log_scale)]
    )
    parameters.set_shape([3, *shape])

    def function(y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        return mixture_to_noise(y, *tf.unstack(parameters))[:2]

    target = tf.broadcast_to(x, sizes[:-1])
    low, high = tf.reduce_min(alone, axis=-1), tf.reduce_max(alone, axis=-1)
    y, log_slope = solve(
        function,
        tf.ensure_shape(target, shape[:-1]),
        parameters,
        tf.broadcast_to(low, sizes[:-1]),
        tf.broadcast_to(high, sizes[:-1]),
    )
    return y, -log_slope
