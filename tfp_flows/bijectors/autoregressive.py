"""`Autoregressive` and `MaskedAutoregressive` (MADE)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import broadcast_batch, call_layer
from tfp_flows.bijectors.coupling import Structure, checked_transform
from tfp_flows.bijectors.transforms.affine import Affine, VolumePreserving
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.roots import only_once, repeated
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    Shape,
    checked_choice,
    checked_instance,
    checked_shape,
    invalid,
)
from tfp_flows.internal.compat import (
    Holder,
    in_a_loop_with_variables,
    in_vectorized_map,
    open_scope,
)
from tfp_flows.nets.conditioner import connect
from tfp_flows.nets.dense import MADE

TRANSFORMS = ("affine", "spline")


@keras.saving.register_keras_serializable(package="tfp_flows")
class Autoregressive(Structure):
    """Transforms each value of a vector, given those before it.

    With `g` the elementwise `transform` and the network's order of the values,

        inverse:  x_k = g^-1(y_k; net(y_1, ..., y_{k-1}))   all k in one network call
        forward:  y_k = g(x_k; net(y_1, ..., y_{k-1}))      the fixed point (Jacobi):
                                                            at most D network calls
        log-det:  sum of log |g'| over all values (forward), minus that (inverse)

    Densities are fast and samples are slow. A round of the iteration is one network
    call for all k: after n rounds the first n values in the order are right, and
    mostly many more, so that it ends when rounding is all that changes. With
    `tfpf.nets.MADE(passes=2)` it is a coupling, with more `passes` something between
    a coupling and the full thing, and a known graph of dependence takes at most as
    many calls as its longest path has values.
    `tfb.Invert` of it is the inverse autoregressive flow (IAF), of which the opposite
    holds.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057. Kingma et al.: Inverse Autoregressive Flow, 2016,
    arXiv:1606.04934. Song et al.: Accelerating Feedforward Computation via Parallel
    Nonlinear Equation Solving, 2021, arXiv:2002.03629 (Jacobi iteration).

    Example:
        >>> import tfp_flows as tfpf
        >>> net = tfpf.nets.MADE((16,))
        >>> b = tfpf.Autoregressive(net, tfpf.transforms.Affine(), event_shape=(3,))
        >>> b.inverse([1.0, 2.0, 3.0]).shape
        TensorShape([3])
    """

    def __init__(
        self,
        conditioner: MADE,
        transform: Transform | None = None,
        event_shape: int | Sequence[int] | None = None,
        *,
        condition_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Connects the masked network.

        Args:
            conditioner: A network whose outputs for the k-th value see only values
                before it: a `tfpf.nets.MADE`.
            transform: A value of `tfpf.transforms`; None for `Affine()`.
            event_shape: Shape `(d,)` of one vector, or `d`. None takes it from the
                first input; the weights are made then.
        """
        words = "a masked network, such as `tfpf.nets.MADE((128, 128))`"
        checked_instance("conditioner", conditioner, MADE, words)
        transform = checked_transform(transform)
        mixed = isinstance(transform, VolumePreserving)
        if mixed or getattr(transform, "order", "interleaved") != "interleaved":
            # Of a vector's outputs the k-th ones must belong to the k-th value.
            must = "have order='interleaved' and transform each value by itself"
            raise invalid("transform", must, transform)
        super().__init__(event_ndims=1, condition_shape=condition_shape, **kwargs)
        self._use(transform)
        # Out of sight, since it may not be built yet.
        self._network = Holder(conditioner)
        self._event: Shape | None = None
        if event_shape is not None:
            self._connect(event_shape)

    def _connect(self, event_shape: int | Sequence[int]) -> None:
        event = checked_shape("event_shape", event_shape)
        if len(event) != 1:
            raise invalid("event_shape", "be that of a vector, (d,)", event_shape)
        outputs = (event[0] * self._transform.parameters_per_value,)
        connect(self.conditioner, event, outputs, self.condition_shape)
        self._event = event
        if self.parameters.get("event_shape", event) is None:
            self.parameters["event_shape"] = event
        self._conditioner = self.conditioner

    @property
    def conditioner(self) -> keras.Layer:
        """The masked network."""
        return self._network.value

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, condition = self._with_equal_batch(y, condition)
        x, log_slope = self._transform.inverse(y, self._parameters_at(y, condition))
        return x, tf.reduce_sum(log_slope, axis=-1)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, condition = self._with_equal_batch(x, condition)

        # A dropout would have each round look for another fixed point.
        net = functools.partial(self.conditioner, training=False)

        def next_round(y: tf.Tensor) -> Mapped:
            return self._transform.forward(x, self._parameters_at(y, condition, net))

        y, log_slope = iterated(next_round, x, self.conditioner.network_calls)
        return y, tf.reduce_sum(log_slope, axis=-1)

    def _parameters_at(
        self, y: tf.Tensor, condition: Condition, net: Callable | None = None
    ) -> tf.Tensor:
        ndims = len(self.condition_shape or ())
        parameters = call_layer(net or self.conditioner, y, 1, condition, ndims)
        return self._per_value(parameters, y)

    def _with_equal_batch(self, x: tf.Tensor, condition: Condition) -> tuple:
        if self._event is None:
            self._connect(x.shape[-1:])
        self._check_shape(x, self._event)
        if condition is None:
            return x, None
        condition = tf.cast(condition, x.dtype)
        ndims = len(self.condition_shape or ())
        return broadcast_batch(x, 1, condition, ndims)


def iterated(
    function: Callable[[tf.Tensor], Mapped], x: tf.Tensor, rounds: int
) -> Mapped:
    """Returns the fixed point of `y = g(y)` for a triangular `g`, and log-slopes there.

    `function(y)` returns `g(y)`, which is right after so many rounds wherever it
    starts, and the log-slopes. With `J = dg/dy`, strictly triangular,

        dy = (I - J)^-1 dg,    u (I - J)^-1 = u + u J + u J^2 + ...

    so that neither direction takes more rounds, and both end when only rounding is
    left to change. First derivatives only.
    """
    start = tf.zeros_like(x)
    if in_a_loop_with_variables() or in_vectorized_map():
        return function(repeated(lambda y: function(y)[0], start, rounds - 1))
    y = tf.stop_gradient(_settled(lambda y: function(y)[0], start, rounds - 1))
    scope, result = open_scope(), function(y)
    if rounds == 1:
        return result

    @tf.custom_gradient
    def through(value: tf.Tensor, log_slope: tf.Tensor) -> tuple:
        def gradient(to_value: tf.Tensor, to_slope: tf.Tensor) -> tuple:
            def pulled(w: tf.Tensor) -> tf.Tensor:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(y)
                    outputs = function(y)
                none = tf.UnconnectedGradients.ZERO
                return to_value + tape.gradient(outputs, y, [w, to_slope], none)

            with scope():
                found = _settled(pulled, to_value, rounds - 1)
            given = value, log_slope, to_value, to_slope
            return only_once(found, *given), only_once(to_slope, *given)

        return (tf.identity(value), tf.identity(log_slope)), gradient

    return through(*result)


def _settled(
    function: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, most: int
) -> tf.Tensor:
    """Repeats a function until rounding is all that changes, or so many times."""
    eps = 2.0 * np.finfo(start.dtype.as_numpy_dtype).eps

    def moves(now: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(tf.abs(now - before) > eps * (1.0 + tf.abs(now)))

    return tf.while_loop(
        moves,
        lambda now, _: (tf.ensure_shape(function(now), now.shape), now),
        (start, start + np.inf),
        maximum_iterations=most,
        parallel_iterations=1,
    )[0]


@keras.saving.register_keras_serializable(package="tfp_flows")
class MaskedAutoregressive(Autoregressive):
    """`Autoregressive` with `transforms.Affine` or splines (MAF).

    TFP's `tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=...)` takes the same
    `MADE`, connected to outputs of shape `(d, 2)`.
    """

    def __init__(
        self,
        d: int,
        conditioner: MADE,
        *,
        transform: str = "affine",
        log_scale: str = "soft_clamp",
        bins: int = 8,
        bound: float = 5.0,
        **kwargs: Any,
    ) -> None:
        """Connects the masked network: see `Autoregressive`.

        Args:
            transform: `"affine"`, with `log_scale`, or `"spline"`, with `bins` and
                `bound`; see `tfpf.transforms`.
        """
        checked_choice("transform", transform, TRANSFORMS)
        spline = transform == "spline"
        super().__init__(
            conditioner,
            RationalQuadraticSpline(bins, bound) if spline else Affine(log_scale),
            (d,),
            **kwargs,
        )
