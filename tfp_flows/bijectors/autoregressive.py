"""`Autoregressive` and `MaskedAutoregressive` (MADE), and `Causal` (recurrent)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector, broadcast_batch, call_layer, reshaped
from tfp_flows.bijectors.conditional import conditional_part
from tfp_flows.bijectors.coupling import Structure, checked_transform
from tfp_flows.bijectors.transforms.affine import Affine
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.bijectors.tree import known_dtype
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    Shape,
    checked_choice,
    checked_instance,
    checked_shape,
    invalid,
)
from tfp_flows.nets.conditioner import connect
from tfp_flows.nets.dense import MADE
from tfp_flows.nets.sequence import CausalLSTM

TRANSFORMS = ("affine", "spline")


@keras.saving.register_keras_serializable(package="tfp_flows")
class Autoregressive(Structure):
    """Transforms each value of a vector, given those before it.

    With `g` the elementwise `transform` and the network's order of the values,

        inverse:  x_k = g^-1(y_k; net(y_1, ..., y_{k-1}))   all k in one network call
        forward:  y_k = g(x_k; net(y_1, ..., y_{k-1}))      one k after the other:
                                                            D network calls
        log-det:  sum of log |g'| over all values (forward), minus that (inverse)

    Densities are fast and samples are slow. `tfb.Invert` of it is the inverse
    autoregressive flow (IAF), of which the opposite holds.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057. Kingma et al.: Inverse Autoregressive Flow, 2016,
    arXiv:1606.04934.

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
        if getattr(transform, "order", "interleaved") != "interleaved":
            # Of a vector's outputs the k-th ones must belong to the k-th value.
            raise invalid("transform", "have order='interleaved'", transform)
        super().__init__(event_ndims=1, condition_shape=condition_shape, **kwargs)
        self._use(transform)
        # In a tuple, since it may not be built yet.
        self._network = (conditioner,)
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
        return self._network[0]

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, condition = self._with_equal_batch(y, condition)
        x, log_slope = self._transform.inverse(y, self._parameters_at(y, condition))
        return x, tf.reduce_sum(log_slope, axis=-1)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, condition = self._with_equal_batch(x, condition)

        def one_more_value(k: tf.Tensor, y: tf.Tensor, _: tf.Tensor) -> tuple:
            # After k rounds the first k values in the order are right, and so are
            # the parameters of the next one.
            parameters = self._parameters_at(y, condition)
            return k + 1, *self._transform.forward(x, parameters)

        (d,) = self._event or (x.shape[-1],)
        _, y, log_slope = tf.while_loop(
            lambda k, *_: k < d,
            one_more_value,
            (tf.constant(0), tf.zeros_like(x), tf.zeros_like(x)),
            maximum_iterations=d,
            parallel_iterations=1,
        )
        return y, tf.reduce_sum(log_slope, axis=-1)

    def _parameters_at(self, y: tf.Tensor, condition: Condition) -> tf.Tensor:
        ndims = len(self.condition_shape or ())
        parameters = call_layer(self.conditioner, y, 1, condition, ndims)
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


@keras.saving.register_keras_serializable(package="tfp_flows")
class Causal(FlowBijector):
    """An autoregressive flow over the positions of a sequence of vectors.

    With `f(.; h)` any bijector of one vector that takes a condition, and `h_t` what a
    causal network makes of the vectors before position t,

        inverse:  x_t = f^-1(y_t; h_t),  h_t = net(y_1, ..., y_{t-1})    all t at once
        forward:  y_t = f(x_t; h_t)                          one t after the other
        log-det:  sum over t of that of f at h_t

    The Jacobian is block-triangular, its blocks those of `f`. Densities are fast,
    samples take `length` steps of the network.

    Shapes: sequences `[..., length, d]`; log-dets have the batch shape.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057. Oliva et al.: Transformation Autoregressive Networks, 2018,
    arXiv:1801.09819 (a recurrent network for the past).

    Example:
        >>> import tfp_flows as tfpf
        >>> net = tfpf.nets.MADE((8,))
        >>> f = tfpf.MaskedAutoregressive(2, net, condition_shape=(16,))
        >>> b = Causal((5, 2), f, CausalLSTM((16,), features=4))
        >>> b.inverse(tf.zeros([3, 5, 2])).shape
        TensorShape([3, 5, 2])
    """

    fills_conditions = True  # of the bijector inside, from the network

    def __init__(
        self,
        event_shape: Sequence[int],
        bijector: tfb.Bijector,
        net: CausalLSTM,
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the network, from `[n, length, d]` to `[n, length, h]`.

        Args:
            event_shape: `(length, d)`.
            bijector: A bijector of vectors of `d` values, or chain of them, with
                conditions of shape `(h,)`.
        """
        event = checked_shape("event_shape", event_shape, 2)
        if len(event) != 2:
            raise invalid("event_shape", "be (length, d)", event_shape)
        checked_instance("net", net, CausalLSTM, "a `tfpf.nets.CausalLSTM`")
        (features,) = _checked_condition(bijector)
        super().__init__(
            event_ndims=2,
            dtype=known_dtype(bijector),
            validate_args=validate_args,
            name=name,
        )
        self._event_shape = event
        connect(net, event, (event[0], features))
        self._net = net
        self._bijector = bijector

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector of one vector."""
        return self._bijector

    @property
    def net(self) -> CausalLSTM:
        """The network that sums up the past."""
        return self._net

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        self._check_shape(y, self._event_shape)
        h = call_layer(self._net, y, 2)
        x, ildj = chain.inverse_and_log_det(self._bijector, y, 1, h)
        return x, chain.over_event(ildj, y, 1, 2)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        self._check_shape(x, self._event_shape)
        length, d = self._event_shape
        noise = tf.transpose(tf.reshape(x, [-1, length, d]), [1, 0, 2])
        n = tf.shape(noise)[1]

        def one_more(
            t: tf.Tensor,
            y: tf.Tensor,
            states: list,
            done: tf.TensorArray,
            fldj: tf.Tensor,
        ) -> tuple:
            h, states = self._net.step(y, tf.equal(t, 0), states)
            y, log_det = chain.forward_and_log_det(
                self._bijector, noise[t], 1, tf.cast(h, x.dtype)
            )
            return t + 1, y, states, done.write(t, y), fldj + log_det

        _, _, _, done, fldj = tf.while_loop(
            lambda t, *_: t < length,
            one_more,
            (
                tf.constant(0),
                tf.zeros_like(noise[0]),
                self._net.start(n),
                tf.TensorArray(x.dtype, length, element_shape=noise.shape[1:]),
                tf.zeros([n], x.dtype),
            ),
            maximum_iterations=length,
            parallel_iterations=1,
        )
        y = tf.transpose(done.stack(), [1, 0, 2])
        return (
            reshaped(y, tf.shape(x), x.shape),
            reshaped(fldj, tf.shape(x)[:-2], x.shape[:-2]),
        )

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Initializes the bijector inside from the vectors of all positions."""
        h = call_layer(self._net, y, 2)
        vectors = tf.reshape(y, [-1, y.shape[-1]])
        past = tf.reshape(h, [-1, h.shape[-1]])
        return tf.reshape(chain.adapt(self._bijector, vectors, 1, past), tf.shape(y))


def _checked_condition(bijector: object) -> tuple[int, ...]:
    """Returns the shape of one condition of a bijector of vectors."""
    part = conditional_part(bijector) if isinstance(bijector, tfb.Bijector) else None
    shape = None if part is None else part.condition_shape
    if shape is None or len(shape) != 1 or int(bijector.forward_min_event_ndims) > 1:
        must = "be of vectors with vectors for conditions, such as "
        must += "`tfpf.MaskedAutoregressive(d, net, condition_shape=(h,))`"
        raise invalid("bijector", must, bijector)
    return shape
