"""`Causal`: each position of a sequence moved by a function of those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_shape
from tfp_flows.bijectors import paired
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditioned import condition_shape
from tfp_flows.bijectors.nested import known_dtype
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.tools.text.recurrent import CausalLSTM

tfb = tfp.bijectors


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

    Reference:
        Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
        arXiv:1705.07057. Oliva et al.: Transformation Autoregressive Networks, 2018,
        arXiv:1801.09819 (a recurrent network for the past).

    Example:
        >>> import tfp_flows as tff
        >>> f = tff.MaskedAutoregressive(2, tff.nets.MADE((8,)), condition_shape=(16,))
        >>> b = Causal((5, 2), f, CausalLSTM((16,), features=4))
        >>> b.inverse(tf.zeros([3, 5, 2])).shape
        TensorShape([3, 5, 2])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        bijector: tfb.Bijector,
        net: CausalLSTM,
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the network.

        Args:
            event_shape: `(length, d)`.
            bijector: A bijector of vectors of `d` values, or chain of them, with
                conditions of shape `(h,)`.
            net: Network from sequences `[n, length, d]` to `[n, length, h]`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            TypeError: If `net` is not a `CausalLSTM`.
            ValueError: If the shapes do not fit each other.
        """
        parameters = dict(locals())
        self._event_shape = _checked_event(event_shape)
        if not isinstance(net, CausalLSTM):
            raise TypeError(
                "Argument `net` must be a `tff.text.CausalLSTM`. "
                f"Received: net={net!r} of type {type(net).__name__}"
            )
        (features,) = _checked_condition(bijector)
        super().__init__(
            event_ndims=2,
            dtype=known_dtype(bijector),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        length = self._event_shape[0]
        conditioners.connect(net, self._event_shape, (length, features))
        self._own("_net", net)
        self._bijector = bijector

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector of one vector."""
        return self._bijector

    @property
    def net(self) -> CausalLSTM:
        """The network that sums up the past."""
        return self._net

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._check_event(y)
        h = conditioners.apply(self._net, y, 2)
        x, ildj = paired.inverse_and_log_det(self._bijector, y, 1, h)
        return x, paired.over_event(ildj, y, 1, 2)

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._check_event(x)
        length, d = self._event_shape
        noise = tf.transpose(tf.reshape(x, [-1, length, d]), [1, 0, 2])
        n = tf.shape(noise)[1]

        def one_more(t: Any, y: Any, states: Any, done: Any, fldj: Any) -> tuple:
            h, states = self._net.step(y, tf.equal(t, 0), states)
            y, log_det = paired.forward_and_log_det(
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
        y = tf.reshape(tf.transpose(done.stack(), [1, 0, 2]), tf.shape(x))
        y.set_shape(x.shape)
        fldj = tf.reshape(fldj, tf.shape(x)[:-2])
        fldj.set_shape(x.shape[:-2])
        return y, fldj

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Initializes the bijector inside from the vectors of all positions."""
        h = conditioners.apply(self._net, y, 2)
        vectors = tf.reshape(y, [-1, y.shape[-1]])
        past = tf.reshape(h, [-1, h.shape[-1]])
        return tf.reshape(paired.adapt(self._bijector, vectors, 1, past), tf.shape(y))

    def _check_event(self, x: tf.Tensor) -> None:
        if not x.shape[-2:].is_compatible_with(self._event_shape):
            length, d = self._event_shape
            raise ValueError(
                f"{type(self).__name__} '{self.name}' expected sequences of shape "
                f"[..., {length}, {d}]. Received: input of shape {x.shape}"
            )


def _checked_event(event_shape: Sequence[int]) -> tuple[int, ...]:
    shape = checked_shape(event_shape)
    if len(shape) != 2:
        raise ValueError(
            "Argument `event_shape` must be (length, d). "
            f"Received: event_shape={event_shape!r}"
        )
    return shape


def _checked_condition(bijector: Any) -> tuple[int, ...]:
    """Returns the shape of one condition of a bijector of vectors."""
    shape = condition_shape(bijector) if isinstance(bijector, tfb.Bijector) else None
    if shape is None or len(shape) != 1 or int(bijector.forward_min_event_ndims) > 1:
        raise ValueError(
            "Argument `bijector` must be a bijector of vectors with vectors for "
            "conditions, such as `tff.MaskedAutoregressive(d, net, "
            f"condition_shape=(h,))`. Received: {bijector!r}"
        )
    return shape
