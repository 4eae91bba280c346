"""`BlockAutoregressive`: one masked network that grows in each value (BNAF)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.residual import Rowwise, implicit
from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    checked_integer,
    checked_widths,
)
from tfp_flows.nets import conditioner as conditioners


@keras.saving.register_keras_serializable(package="tfp_flows")
class BlockAutoregressive(Rowwise):
    """A network whose k-th output grows in `y_k` and sees `y_1, ..., y_k` (BNAF).

        inverse:  x_k = exp(s_k) y_k + F_k(y_1, ..., y_k)
        forward:  by D root searches, one value after the other, to rounding
        log-det:  sum_k log(exp(s_k) + dF_k/dy_k) (inverse), minus that (forward)

    Each value has a block of tanh units in each hidden layer of F. Kernels between the
    blocks of one value are positive, `exp(r) / inputs`, those to blocks of later values
    are free, and there are none to earlier ones. The slopes `dF_k/dy_k` go through the
    blocks as log-sum-exps. The learned straight part `exp(s) y` is what makes the map
    reach all numbers, and the slope bounded from below: the paper's F alone has bounded
    values. Conditions enter the first layer.

    Densities are fast, samples cost D searches of some dozen network calls.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: De Cao, Titov, Aziz: Block Neural Autoregressive Flow, 2019,
    arXiv:1904.04676.

    Example:
        >>> import tfp_flows as tfpf
        >>> tfpf.BlockAutoregressive(2, (8, 8)).inverse([[1.0, 2.0]]).shape
        TensorShape([1, 2])
    """

    def __init__(
        self,
        d: int,
        hidden_units: Sequence[int] = (8, 8),
        *,
        condition_shape: Sequence[int] | None = None,
        **kwargs: object,
    ) -> None:
        """Makes the weights for vectors of `d` values.

        Args:
            hidden_units: Units that each value has in each hidden layer.
        """
        self._event = (checked_integer("d", d),)
        widths = [1, *checked_widths("hidden_units", hidden_units), 1]
        super().__init__(event_ndims=1, condition_shape=condition_shape, **kwargs)
        half = math.log(0.5)
        self._log_scale = self.add_weight((d,), np.full(d, half), name="log_scale")
        initializers = keras.initializers
        self._blocks = []
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            last, far = i == len(widths) - 2, 1.0 / math.sqrt(d * a)
            spread = initializers.RandomNormal(stddev=0.3)
            bias = "zeros" if last else initializers.RandomUniform(-2.0, 2.0)
            free = initializers.RandomUniform(-far, far)
            block = [
                self.add_weight((d, a, b), spread, name=f"own_{i}"),
                self.add_weight((d, b), bias, name=f"bias_{i}"),
            ]
            if d > 1:
                shape = (d, a, d, b)
                block.append(self.add_weight(shape, free, name=f"later_{i}"))
            self._blocks.append(block)
        self._from_condition = None
        if condition_shape is not None:
            shape = (conditioners.size(self.condition_shape), d * widths[1])
            self._from_condition = self.add_weight(
                shape, "glorot_uniform", name="from_condition"
            )

    def _network(
        self, y: tf.Tensor, condition: Condition
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns all `x_k` and the logarithms of `dx_k/dy_k`, each `[n, d]`."""
        (d,) = self._event
        later = np.triu(np.ones((d, d), y.dtype.as_numpy_dtype), 1)
        later = later[:, np.newaxis, :, np.newaxis]
        h, log_slope = y[..., np.newaxis], tf.zeros_like(y)[..., np.newaxis]
        for i, (own, bias, *to_later) in enumerate(self._blocks):
            log_kernel = tf.convert_to_tensor(own) - math.log(own.shape[1])
            if i:
                bend = tf.tanh(h)
                log_slope += 2.0 * (math.log(2.0) - h - tf.nn.softplus(-2.0 * h))
                h = bend
            before = h
            h = tf.einsum("nda,dab->ndb", before, tf.exp(log_kernel)) + bias
            if to_later:
                h += tf.einsum("nia,iajb->njb", before, to_later[0] * later)
            if i == 0 and condition is not None and self._from_condition is not None:
                size = conditioners.size(self.condition_shape)
                given = tf.reshape(condition, [-1, size]) @ self._from_condition
                h += tf.reshape(given, [-1, d, own.shape[2]])
            log_slope = tf.reduce_logsumexp(
                log_slope[..., np.newaxis] + log_kernel, axis=-2
            )
        s = tf.convert_to_tensor(self._log_scale)
        steep = tf.reduce_logsumexp(
            tf.stack([log_slope[..., 0], tf.broadcast_to(s, tf.shape(y))]), axis=0
        )
        return tf.exp(s) * y + h[..., 0], steep

    def _inverse_rows(self, y: tf.Tensor, condition: Condition) -> Mapped:
        x, log_slope = self._network(y, condition)
        return x, tf.reduce_sum(log_slope, -1)

    def _forward_rows(self, x: tf.Tensor, condition: Condition) -> Mapped:
        (d,) = self._event

        def one_more_value(k: tf.Tensor, y: tf.Tensor) -> tuple:
            here = tf.one_hot(k, d, dtype=x.dtype)

            def function(value: tf.Tensor, _: tf.Tensor) -> tuple:
                tried = y * (1.0 - here) + value[:, np.newaxis] * here
                return tuple(
                    tf.reduce_sum(here * part, -1)
                    for part in self._network(tried, condition)
                )

            target = tf.reduce_sum(here * x, -1)
            value, _ = solve(function, target, tf.zeros_like(target))
            return k + 1, y + here * value[:, np.newaxis]

        _, y = tf.while_loop(
            lambda k, _: k < d,
            one_more_value,
            (tf.constant(0), tf.zeros_like(x)),
            maximum_iterations=d,
        )
        y = tf.stop_gradient(y)
        slope = tf.stop_gradient(tf.exp(self._network(y, condition)[1]))
        # A triangular matrix: d steps are all that its inverse takes.
        y = implicit(lambda y: self._network(y, condition)[0], y, x, d, slope)
        return y, -tf.reduce_sum(self._network(y, condition)[1], -1)
