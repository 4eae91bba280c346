"""`ConditionalMixture`: a mixture of vectors, made into noise and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, call_layer
from tfp_flows.bijectors.transforms.mixture import mixture_from_noise, mixture_to_noise
from tfp_flows.internal.arguments import Condition, Mapped, checked_integer
from tfp_flows.nets.conditioner import connect
from tfp_flows.nets.sequence import code_table


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConditionalMixture(FlowBijector):
    """The map that makes a mixture of logistic distributions standard logistic noise.

    A mixture of `K` components with learned locations `m_k` and scales `s_k` in R^d,
    whose weights are `softmax(net(c))`, has the density

        p(y; c) = sum_k w_k(c) prod_j logistic(y_j; m_kj, s_kj).

    Value by value, its conditional distribution functions

        F_j(y_j | y_1 ... y_{j-1}) = sum_k w_kj sigmoid((y_j - m_kj) / s_kj),
        w_k1 = w_k(c),   w_k,j+1 proportional to w_kj logistic(y_j; m_kj, s_kj)

    map it one to one to noise (the transform of Rosenblatt):

        inverse:  x_j = logit F_j(y_j | y_1 ... y_{j-1})
        forward:  y_j from x_j by a bracketed search for the root, to rounding
        log-det:  log p(y; c) - sum_j log(sigmoid(x_j) sigmoid(-x_j)) (inverse)

    Behind a standard logistic base the density is `p(y; c)` itself.

    Shapes: vectors `[..., d]`, conditions `[..., *condition_shape]`; log-dets have the
    batch shape.

    Reference: Rosenblatt: Remarks on a Multivariate Transformation, 1952. Ho et al.:
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
        **kwargs: Any,
    ) -> None:
        """Makes the table of components and connects the network.

        Args:
            conditioner: Keras layer from conditions to `components` logarithms of
                weights, up to a constant.
            components: Number K of components, at most `2^d`; they start at corners of
                the cube `[-1, 1]^d`.
        """
        self._d = checked_integer("d", d)
        checked_integer("components", components)
        super().__init__(event_ndims=1, condition_shape=condition_shape, **kwargs)
        connect(conditioner, self.condition_shape, (components,))
        self._conditioner = conditioner
        self._table = code_table(components, d, scale, self.dtype.name)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        log_weights = self._log_weights(y, condition)
        x, ildj = [], tf.zeros([], y.dtype)
        for y_j, components in self._values(y):
            x_j, log_slope, log_weights = mixture_to_noise(
                y_j, log_weights, *components
            )
            x.append(x_j)
            ildj += log_slope
        return tf.stack(x, axis=-1), ildj

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        log_weights = self._log_weights(x, condition)
        y, fldj = [], tf.zeros([], x.dtype)
        for x_j, components in self._values(x):
            y_j, log_slope = mixture_from_noise(x_j, log_weights, *components)
            *_, log_weights = mixture_to_noise(y_j, log_weights, *components)
            y.append(y_j)
            fldj += log_slope
        return tf.stack(y, axis=-1), fldj

    def _log_weights(self, x: tf.Tensor, condition: Condition) -> tf.Tensor:
        self._check_shape(x, (self._d,))
        condition = tf.cast(tf.convert_to_tensor(condition), x.dtype)
        ndims = len(self.condition_shape or ())
        weights = call_layer(self._conditioner, condition, ndims)
        return tf.nn.log_softmax(weights)

    def _values(self, x: tf.Tensor) -> list[tuple[tf.Tensor, tuple]]:
        """Returns each value with the components' locations and log-scales there."""
        table = tf.cast(tf.convert_to_tensor(self._table.embeddings), x.dtype)
        columns = [tf.unstack(half, axis=-1) for half in tf.split(table, 2, axis=-1)]
        values = tf.unstack(x, num=self._d, axis=-1)
        return list(zip(values, zip(*columns, strict=True), strict=True))
