"""`MaskedAutoregressive` (MADE) and `Causal` (recurrent)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain as paired
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.bijectors.coupling import LOG_SCALES
from tfp_flows.bijectors.transforms import Spline
from tfp_flows.bijectors.tree import known_dtype
from tfp_flows.internal.arguments import checked_shape
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.dense import MADE
from tfp_flows.nets.sequence import CausalLSTM

tfb = tfp.bijectors


TRANSFORMS = ("affine", "spline")


@keras.saving.register_keras_serializable(package="tfp_flows")
class MaskedAutoregressive(FlowBijector):
    """Masked autoregressive flow (MAF), affine or with splines.

        inverse:  x_k = g^-1(y_k; net(y_1, ..., y_{k-1}))   all k in one network call
        forward:  y_k = g(x_k; net(y_1, ..., y_{k-1}))      one k after the other:
                                                            D network calls
        log-det:  sum of log |g'| over all values (forward), minus that (inverse)

    Densities are fast and samples are slow. `tfb.Invert` of it is the inverse
    autoregressive flow (IAF), of which the opposite holds. `g` is

    * `"affine"`: `g(x) = x exp(s) + t`, `s` bounded as `log_scale` says;
    * `"spline"`: the rational-quadratic spline of `SplineCoupling`.

    The order of the values is the network's. A `MADE` is also what TFP's
    `tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=...)` takes, once it is
    connected to outputs of shape `(d, 2)`.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference:
        Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
        arXiv:1705.07057. Kingma et al.: Inverse Autoregressive Flow, 2016,
        arXiv:1606.04934.

    Example:
        >>> import tfp_flows as tfpf
        >>> b = tfpf.MaskedAutoregressive(3, tfpf.nets.MADE((16,)))
        >>> b.inverse([1.0, 2.0, 3.0]).shape
        TensorShape([3])
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
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Connects the masked network.

        Args:
            d: Number of values in a vector, at least 2.
            conditioner: A `tfpf.nets.MADE`.
            transform: `"affine"` or `"spline"`.
            log_scale: How an affine map bounds its scale; see `AffineCoupling`.
            bins: Number of bins of each spline.
            bound: Half the side of the square on which a spline bends.
            condition_shape: Shape of one condition, for a conditional flow.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            TypeError: If `conditioner` is not a `MADE`.
            ValueError: If `transform` or `log_scale` is not known.
        """
        parameters = dict(locals())
        if not isinstance(conditioner, MADE):
            raise TypeError(
                "Argument `conditioner` must be a masked network, such as "
                f"`tfpf.nets.MADE((128, 128))`. Received: conditioner={conditioner!r}"
            )
        if transform not in TRANSFORMS:
            raise ValueError(
                f"Argument `transform` must be one of {TRANSFORMS}. "
                f"Received: transform={transform!r}"
            )
        self._d = int(d)
        self._condition_shape = condition_shape and tuple(condition_shape)
        self._map = (
            Spline(bins, float(bound)) if transform == "spline" else Affine(log_scale)
        )
        super().__init__(
            event_ndims=1,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        outputs = (self._d * self._map.parameters_per_value,)
        conditioners.connect(conditioner, (self._d,), outputs, self._condition_shape)
        self._own("_conditioner", conditioner)

    @property
    def conditioner(self) -> keras.Layer:
        """The masked network."""
        return self._conditioner

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None."""
        return self._condition_shape

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        y, condition = self._with_equal_batch(y, condition)
        x, log_derivative = self._map.inverse(y, self._parameters_at(y, condition))
        return x, tf.reduce_sum(log_derivative, axis=-1)

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        x, condition = self._with_equal_batch(x, condition)

        def one_more_value(k: tf.Tensor, y: tf.Tensor, _: tf.Tensor) -> tuple:
            # After k rounds the first k values in the order are right, and so are
            # the parameters of the next one.
            y, log_derivative = self._map.forward(x, self._parameters_at(y, condition))
            return k + 1, y, log_derivative

        _, y, log_derivative = tf.while_loop(
            lambda k, *_: k < self._d,
            one_more_value,
            (tf.constant(0), tf.zeros_like(x), tf.zeros_like(x)),
            maximum_iterations=self._d,
            parallel_iterations=1,
        )
        return y, tf.reduce_sum(log_derivative, axis=-1)

    def _parameters_at(self, y: tf.Tensor, condition: Any) -> tf.Tensor:
        ndims = len(self._condition_shape or ())
        return conditioners.apply(self._conditioner, y, 1, condition, ndims)

    def _with_equal_batch(self, x: tf.Tensor, condition: Any) -> tuple:
        if not x.shape[-1:].is_compatible_with([self._d]):
            raise ValueError(
                f"{type(self).__name__} '{self.name}' expected vectors of {self._d} "
                f"values. Received: input of shape {x.shape}"
            )
        if condition is None:
            return x, None
        ndims = len(self._condition_shape or ())
        condition = tf.cast(condition, x.dtype)
        return conditioners.broadcast_batch(x, 1, condition, ndims)


class Affine:
    """The elementwise map `g(x) = x exp(s) + t`, with `(t, s)` beside each other."""

    parameters_per_value = 2

    def __init__(self, log_scale: str) -> None:
        """Bounds `s` as `AffineCoupling` does."""
        if log_scale not in LOG_SCALES:
            raise ValueError(
                f"Argument `log_scale` must be one of {sorted(LOG_SCALES)}. "
                f"Received: log_scale={log_scale!r}"
            )
        self._log_scale = LOG_SCALES[log_scale]

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple:
        """Returns values and log-derivatives."""
        t, s = self._shift_and_log_scale(x, parameters)
        return x * tf.exp(s) + t, s

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> tuple:
        """Undoes `forward`; returns the log-derivatives of the inverse."""
        t, s = self._shift_and_log_scale(y, parameters)
        return (y - t) * tf.exp(-s), -s

    def _shift_and_log_scale(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple:
        pairs = tf.reshape(parameters, tf.concat([tf.shape(x), [2]], 0))
        t, r = tf.unstack(pairs, num=2, axis=-1)
        t.set_shape(x.shape)
        r.set_shape(x.shape)
        return t, self._log_scale(r)


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
        >>> import tfp_flows as tfpf
        >>> net = tfpf.nets.MADE((8,))
        >>> f = tfpf.MaskedAutoregressive(2, net, condition_shape=(16,))
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
                "Argument `net` must be a `tfpf.text.CausalLSTM`. "
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
    shape = checked_shape("event_shape", event_shape, 2)
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
            "conditions, such as `tfpf.MaskedAutoregressive(d, net, "
            f"condition_shape=(h,))`. Received: {bijector!r}"
        )
    return shape
