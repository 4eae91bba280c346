"""`Residual`: a step of a Lipschitz-bounded network, inverted by a fixed point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import (
    FlowBijector,
    broadcast_batch,
    log_abs_det,
    reshaped,
)
from tfp_flows.bijectors.continuous import (
    Field,
    Probe,
    pullback,
    sum_event,
    value_and_jacobian,
)
from tfp_flows.bijectors.transforms.roots import only_once, repeated
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    checked_choice,
    checked_instance,
    checked_integer,
    checked_shape,
)
from tfp_flows.internal.compat import in_vectorized_map, open_scope
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.lipschitz import LipschitzMLP

LOG_DETS = ("exact", "estimate")
_MOST_DRAWN = 64  # terms of a series, beyond those that are always summed


def fixed_point(
    function: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, most: int
) -> tf.Tensor:
    """Repeats a contraction of rows `[n, ...]` until rounding is all that changes.

    It ends after `most` steps at the latest, and on rows that are not finite. No
    gradient flows through it.
    """
    eps = 2.0 * np.finfo(start.dtype.as_numpy_dtype).eps

    def moves(k: tf.Tensor, now: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(tf.abs(now - before) > eps * (1.0 + tf.abs(now)))

    def step(k: tf.Tensor, now: tf.Tensor, _: tf.Tensor) -> tuple:
        return k + 1, tf.ensure_shape(function(now), now.shape), now

    start = tf.stop_gradient(start)
    loop = (tf.constant(1), tf.stop_gradient(function(start)), start)
    return tf.stop_gradient(
        tf.while_loop(moves, step, loop, maximum_iterations=most)[1]
    )


def implicit(
    function: Callable[[tf.Tensor], tf.Tensor],
    root: tf.Tensor,
    target: tf.Tensor,
    most: int,
    slope: tf.Tensor | float = 1.0,
) -> tf.Tensor:
    """Gives the root of `function(y) = target` the gradient that it has.

        dy = J^-1 (dtarget - df)

    The product with `J^-1` is the fixed point of `w <- w + (u - w J) / slope`, which
    must be a contraction, or end after `most` steps. First derivatives only.
    """
    root, scope = tf.stop_gradient(root), open_scope()
    if in_vectorized_map():
        return repeated(lambda y: y + (target - function(y)) / slope, root, most)

    @tf.custom_gradient
    def zero(miss: tf.Tensor) -> tuple:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            def step(w: tf.Tensor) -> tf.Tensor:
                pulled = pullback(lambda y, _: function(y), root, None, w)[1]
                return w + (upstream - pulled) / slope

            with scope():
                found = fixed_point(step, upstream / slope, most)
            return only_once(found, miss, upstream)

        return tf.zeros_like(miss), gradient

    return root + zero(target - function(root))


class Rowwise(FlowBijector):
    """A bijector that is written for one batch axis: `[n, *event]`, `[n, *condition]`.

    A subclass writes `_forward_rows` and `_inverse_rows`.
    """

    _event: tuple[int, ...]

    def _forward_rows(self, x: tf.Tensor, condition: Condition) -> Mapped:
        raise NotImplementedError

    def _inverse_rows(self, y: tf.Tensor, condition: Condition) -> Mapped:
        raise NotImplementedError

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._on_rows(self._forward_rows, x, condition)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        return self._on_rows(self._inverse_rows, y, condition)

    def _on_rows(
        self, direction: Callable, x: tf.Tensor, condition: Condition
    ) -> Mapped:
        self._check_shape(x, self._event)
        given, ndims = self.condition_shape or (), len(self._event)
        if condition is not None:
            condition = tf.cast(condition, x.dtype)
            x, condition = broadcast_batch(x, ndims, condition, len(given))
            condition = tf.reshape(condition, [-1, *given])
        value, log_det = direction(tf.reshape(x, [-1, *self._event]), condition)
        batch = x.shape.rank - ndims
        return (
            reshaped(value, tf.shape(x), x.shape),
            reshaped(log_det, tf.shape(x)[:batch], x.shape[:batch]),
        )


class Roulette(Probe):
    """Draws probes, and how many terms of a series to sum beyond the first ones.

    There are at least m of them with a probability of 2^-m; see `Probe` for when they
    are drawn anew.
    """

    def call(self, z: tf.Tensor, training: bool | None = None) -> tuple:
        """Returns one probe for each point, in the shape of `z`, and the number."""
        probe = super().call(z, training)
        state = self._generator.next() if training else [self.seed, 1]
        # Below the smallest uniform number there is nothing to draw.
        u = tf.random.stateless_uniform([], tf.cast(state, tf.int32), dtype=tf.float64)
        drawn = tf.floor(-tf.math.log(tf.maximum(u, 1e-18)) / math.log(2.0))
        return probe, tf.minimum(tf.cast(drawn, tf.int32), _MOST_DRAWN)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Residual(Rowwise):
    """A residual step, of a network `g` with a Lipschitz constant below 1 (i-ResNet).

        inverse:  x = y + g(y)
        forward:  y = x - g(y), the fixed point, to rounding
        log-det:  log det(I + dg/dy) (inverse), minus that (forward)

    The gradient of the fixed point is that of the implicit function. `log_det` says how
    the determinant is found, for events of D values:

    * `"exact"`: by the Jacobian, at the cost of D pullbacks of the network;
    * `"estimate"`: `sum_k (-1)^(k+1)/k e^T J^k e`, unbiased: the first `terms` of it
      and a random number of others, which are weighted by the inverse of the
      probability that they are summed (Russian roulette), with a random probe `e`;
      gradients by the Neumann series of `(I + J)^-1`. Then log-densities are estimates,
      and no densities. Draws are new in each training step of Keras and follow from
      `seed` and the shape of the batch everywhere else: train with `fit`. For exact
      densities with the same weights there is `bijector.copy(log_det="exact")`.

    Shapes: events of `event_shape`; log-dets have the batch shape.

    Reference: Behrmann et al.: Invertible Residual Networks, 2019, arXiv:1811.00995.
    Chen, Behrmann, Duvenaud, Jacobsen: Residual Flows for Invertible Generative
    Modeling, 2019, arXiv:1906.02735.

    Example:
        >>> import tfp_flows as tfpf
        >>> b = tfpf.Residual(tfpf.nets.LipschitzMLP((16,)), (2,))
        >>> b.inverse([[1.0, 2.0]]).shape
        TensorShape([1, 2])
    """

    def __init__(
        self,
        net: LipschitzMLP,
        event_shape: int | Sequence[int],
        *,
        log_det: str = "exact",
        terms: int = 8,
        seed: int = 0,
        condition_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Connects the network.

        Args:
            net: A `tfpf.nets.LipschitzMLP`.
            terms: Number of terms that an estimate always sums.
            seed: Integer from which the draws of an estimate follow.
        """
        words = "a network of bounded slope, such as `tfpf.nets.LipschitzMLP((64, 64))`"
        checked_instance("net", net, LipschitzMLP, words)
        self._event = checked_shape("event_shape", event_shape)
        self._log_det = checked_choice("log_det", log_det, LOG_DETS)
        self._terms = checked_integer("terms", terms)
        super().__init__(
            event_ndims=len(self._event), condition_shape=condition_shape, **kwargs
        )
        conditioners.connect(net, self._event, self._event, self.condition_shape)
        self._net = net
        if log_det == "estimate":
            self._roulette = Roulette("rademacher", checked_integer("seed", seed, 0))

    @property
    def net(self) -> LipschitzMLP:
        """The network."""
        return self._net

    def _field(self, dtype: tf.DType) -> Field:
        bounded = self._net.bounded()
        return lambda y, condition: tf.cast(bounded(y, condition), dtype)

    def _inverse_rows(self, y: tf.Tensor, condition: Condition) -> Mapped:
        return self._moved(self._field(y.dtype), y, condition)

    def _forward_rows(self, x: tf.Tensor, condition: Condition) -> Mapped:
        g = self._field(x.dtype)
        # As many as rounding needs at the slowest rate that the bound allows.
        eps, rate = np.finfo(x.dtype.as_numpy_dtype).eps, self._net.lipschitz
        most = math.ceil(math.log(eps * (1.0 - rate)) / math.log(rate))
        y = fixed_point(lambda y: x - g(y, condition), x, most)
        y = implicit(lambda y: y + g(y, condition), y, x, most)
        return y, -self._moved(g, y, condition)[1]

    def _moved(self, g: Field, y: tf.Tensor, condition: Condition) -> Mapped:
        """Returns `y + g(y)`, and the log-determinant of its Jacobian."""
        if self._log_det == "estimate":
            step, log_det = self._estimated(g, y, condition)
            return y + step, log_det
        step, jacobian = value_and_jacobian(g, y, condition)
        matrix = jacobian + tf.eye(jacobian.shape[-1], dtype=y.dtype)
        return y + step, log_abs_det(matrix)

    def _estimated(self, g: Field, y: tf.Tensor, condition: Condition) -> Mapped:
        probe, drawn = self._roulette(y)
        at = tf.stop_gradient(y)

        def one_more(
            k: tf.Tensor, row: tf.Tensor, total: tf.Tensor, series: tf.Tensor
        ) -> tuple:
            row = tf.ensure_shape(pullback(g, at, condition, row)[1], row.shape)
            beyond = tf.cast(tf.maximum(k - self._terms, 0), y.dtype)
            sign = tf.cast(1 - 2 * tf.math.floormod(k, 2), y.dtype) * tf.exp(
                beyond * math.log(2.0)
            )
            total -= sign / tf.cast(k, y.dtype) * sum_event(row * probe)
            return k + 1, row, total, series + sign * row

        none = tf.zeros_like(sum_event(probe))
        *_, total, series = tf.while_loop(
            lambda k, *_: k <= self._terms + drawn,
            one_more,
            (tf.constant(1), probe, none, probe),
            maximum_iterations=self._terms + _MOST_DRAWN,
        )
        step, row = pullback(g, y, condition, tf.stop_gradient(series))
        slope = sum_event(row * probe)  # of which only the gradient counts
        return step, tf.stop_gradient(total) + slope - tf.stop_gradient(slope)
