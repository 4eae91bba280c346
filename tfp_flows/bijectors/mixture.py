"""`ConditionalMixture`: a mixture of clouds of vectors, made into noise and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.sequence import code_table

_MOST_STEPS = 100  # of a search for a root: bisection alone needs 53 in float64


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConditionalMixture(FlowBijector):
    """The map that makes a mixture of logistic clouds standard logistic noise.

    A mixture of `K` clouds with learned locations `m_k` and scales `s_k` in R^d, whose
    weights are `softmax(net(c))`, has the density

        p(y; c) = sum_k w_k(c) prod_j logistic(y_j; m_kj, s_kj).

    Value by value, its conditional distribution functions

        F_j(y_j | y_1 ... y_{j-1}) = sum_k w_kj sigmoid((y_j - m_kj) / s_kj),
        w_k1 = w_k(c),   w_k,j+1 proportional to w_kj logistic(y_j; m_kj, s_kj)

    map it one to one to noise (the transform of Rosenblatt):

        inverse:  x_j = logit F_j(y_j | y_1 ... y_{j-1})
        forward:  y_j from x_j by a bracketed search for the root, to rounding
        log-det:  log p(y; c) - sum_j log(sigmoid(x_j) sigmoid(-x_j)) (inverse)

    Behind a standard logistic base the density is `p(y; c)` itself. Both directions
    are computed from logarithms, so that nothing under- or overflows far out; between
    clouds that lie many scales apart `forward` is steep and rounding is amplified.
    Gradients of `forward` follow from the implicit function theorem, for first
    derivatives.

    Shapes: vectors `[..., d]`, conditions `[..., *condition_shape]`; log-dets have the
    batch shape.

    Reference:
        Rosenblatt: Remarks on a Multivariate Transformation, 1952. Ho et al.:
        Flow++, 2019, arXiv:1902.00275, section 3.2 (mixtures of logistics).

    Example:
        >>> net = keras.layers.Dense(8)
        >>> b = ConditionalMixture(3, net, components=8, condition_shape=(4,))
        >>> b.inverse([[1.0, -1.0, 0.0]], condition=[[0.0] * 4]).shape
        TensorShape([1, 3])
    """

    def __init__(
        self,
        d: int,
        conditioner: keras.Layer,
        *,
        components: int,
        condition_shape: Sequence[int],
        scale: float = 0.2,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Makes the table of clouds and connects the network.

        Args:
            d: Number of values in a vector.
            conditioner: Keras layer from conditions to `components` logarithms of
                weights, up to a constant.
            components: Number K of clouds, at most `2^d`; they start at corners of
                the cube `[-1, 1]^d`.
            condition_shape: Shape of one condition.
            scale: The scale that all clouds start with.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If an argument is out of its range.
        """
        parameters = dict(locals())
        self._d = checked_integer("d", d)
        checked_integer("components", components)
        self._condition_shape = tuple(condition_shape)
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        conditioners.connect(conditioner, self._condition_shape, (components,))
        self._own("_conditioner", conditioner)
        self._own("_table", code_table(components, d, scale, self.dtype.name))

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition."""
        return self._condition_shape

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        log_weights = self._log_weights(y, condition)
        x, ildj = [], 0.0
        for y_j, cloud in self._values(y):
            seen = look(y_j, cloud, log_weights)
            x.append(seen.noise)
            ildj += seen.log_slope
            log_weights = seen.log_weights
        return tf.stack(x, axis=-1), ildj

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        log_weights = self._log_weights(x, condition)
        y, fldj = [], 0.0
        for x_j, cloud in self._values(x):
            y_j = solve(x_j, cloud, log_weights)
            seen = look(y_j, cloud, log_weights)
            y.append(y_j)
            fldj -= seen.log_slope
            log_weights = seen.log_weights
        return tf.stack(y, axis=-1), fldj

    def _log_weights(self, x: tf.Tensor, condition: Any) -> tf.Tensor:
        if not x.shape[-1:].is_compatible_with([self._d]):
            raise ValueError(
                f"{type(self).__name__} '{self.name}' expected vectors of {self._d} "
                f"values. Received: input of shape {x.shape}"
            )
        condition = tf.cast(tf.convert_to_tensor(condition), x.dtype)
        ndims = len(self._condition_shape)
        return tf.nn.log_softmax(
            conditioners.apply(self._conditioner, condition, ndims)
        )

    def _values(self, x: tf.Tensor) -> list[tuple[tf.Tensor, Cloud]]:
        """Returns each value of a vector with what the clouds are in that direction."""
        table = tf.cast(tf.convert_to_tensor(self._table.embeddings), x.dtype)
        locations, log_scales = tf.split(table, 2, axis=-1)
        clouds = map(
            Cloud, tf.unstack(locations, axis=-1), tf.unstack(log_scales, axis=-1)
        )
        return list(zip(tf.unstack(x, num=self._d, axis=-1), clouds, strict=True))


class Cloud(NamedTuple):
    """Locations and log-scales of all components for one value, `[K]` each."""

    location: tf.Tensor
    log_scale: tf.Tensor


class Seen(NamedTuple):
    """What follows from one value.

    `noise` is `logit F(y)`, `log_slope` the logarithm of its derivative, and
    `log_weights` those of the components once the value is known.
    """

    noise: tf.Tensor
    log_slope: tf.Tensor
    log_weights: tf.Tensor


def look(y: tf.Tensor, cloud: Cloud, log_weights: tf.Tensor) -> Seen:
    """Evaluates the distribution function of a mixture at `y`.

    Args:
        y: Values `[...]`.
        cloud: The components.
        log_weights: Logarithms of weights `[..., K]`, normalized.
    """
    a = (y[..., tf.newaxis] - cloud.location) * tf.exp(-cloud.log_scale)
    log_below = tf.math.log_sigmoid(a)
    log_above = log_below - a
    below, above, density = (
        log_weights + part
        for part in (log_below, log_above, log_below + log_above - cloud.log_scale)
    )
    log_f, log_rest, log_density = map(_log_sum, (below, above, density))
    return Seen(
        log_f - log_rest,
        log_density - log_f - log_rest,
        density - log_density[..., tf.newaxis],
    )


def solve(x: tf.Tensor, cloud: Cloud, log_weights: tf.Tensor) -> tf.Tensor:
    """Returns the `y` with `logit F(y) = x`; gradients flow to all arguments."""
    fixed = Cloud(*map(tf.stop_gradient, cloud))
    target, held = tf.stop_gradient(x), tf.stop_gradient(log_weights)
    # Each component alone would have its root here; the mixture's lies in between.
    alone = fixed.location + tf.exp(fixed.log_scale) * target[..., tf.newaxis]

    def miss(y: tf.Tensor) -> tf.Tensor:
        return look(y, fixed, held).noise - target

    low, high = tf.reduce_min(alone, axis=-1), tf.reduce_max(alone, axis=-1)
    rounding = np.finfo(x.dtype.as_numpy_dtype)
    found = tfp.math.find_root_chandrupatla(
        miss,
        low,
        high,
        position_tolerance=rounding.eps * tf.maximum(tf.abs(low), tf.abs(high)),
        max_iterations=_MOST_STEPS,
    )
    root = tf.stop_gradient(found.estimated_root)
    seen = look(root, cloud, log_weights)
    # dy = (dx - dG) / G' with G = logit F: adds nothing to the value.
    slope = tf.maximum(tf.stop_gradient(tf.exp(seen.log_slope)), rounding.tiny)
    moved = (x - target) - (seen.noise - tf.stop_gradient(seen.noise))
    return root + moved / slope


def _log_sum(terms: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(terms, axis=-1)
