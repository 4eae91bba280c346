"""`Elementwise`: transforms whose parameters no other value decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, call_layer
from tfp_flows.bijectors.coupling import Structure, checked_transform
from tfp_flows.bijectors.transforms import affine
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.spline import Bin, forward_in_bin, inverse_in_bin
from tfp_flows.bijectors.weights import Weights
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    checked_integer,
    checked_number,
    checked_shape,
    invalid,
)
from tfp_flows.internal.compat import Holder
from tfp_flows.nets.conditioner import connect
from tfp_flows.nets.dense import MLP


@keras.saving.register_keras_serializable(package="tfp_flows")
class Elementwise(Structure):
    """Transforms each value by itself, by learned parameters or those of a condition.

        forward:  y_i = g(x_i; p_i)      p learned, or p = conditioner(c)
        inverse:  x_i = g^-1(y_i; p_i)
        log-det:  sum of log |g'| over the event (forward), minus that (inverse)

    It is what a coupling is for events of one value, the conditional density of single
    numbers, and a learned distribution function of each value.

    Shapes: events `event_shape`; conditions `[..., *condition_shape]`; log-dets have
    the broadcast batch shape.

    Example:
        >>> import tfp_flows as tfpf
        >>> g = tfpf.transforms.RationalQuadraticSpline(bins=4)
        >>> b = tfpf.Elementwise(g, (1,), condition_shape=(3,))
        >>> b.forward([[0.5]], condition=[[1.0, 2.0, 3.0]]).shape
        TensorShape([1, 1])
    """

    def __init__(
        self,
        transform: Transform,
        event_shape: int | Sequence[int],
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        *,
        shared_positions: bool = False,
        **kwargs: Any,
    ) -> None:
        """Makes the parameters, or connects the conditioner.

        Args:
            condition_shape: Shape of one condition; None for learned parameters.
            conditioner: Keras layer from conditions to the parameters; None for
                `tfpf.nets.MLP()`.
            shared_positions: Whether all positions of an event, channels last, share
                the parameters of their channel.
        """
        transform = checked_transform(transform)
        event = checked_shape("event_shape", event_shape)
        if conditioner is not None and condition_shape is None:
            raise invalid("condition_shape", "be given with `conditioner`", None)
        super().__init__(
            event_ndims=len(event), condition_shape=condition_shape, **kwargs
        )
        self._event = event
        self._use(transform)
        self._own = own = event[-1:] if shared_positions else event
        each = transform.parameters_per_value
        if condition_shape is None:
            self._own_parameters = self.add_weight((*own, each), name="parameters")
        else:
            if conditioner is None:
                conditioner = MLP(dtype=self.dtype.name)
            outputs = (*own[:-1], own[-1] * each)
            connect(conditioner, self.condition_shape, outputs)
            self._conditioner = conditioner

    def _evaluated(
        self, x: tf.Tensor, condition: Condition, direction: Callable
    ) -> Mapped:
        self._check_shape(x, self._event)
        ndims = len(self._event)
        if condition is None:
            parameters = tf.convert_to_tensor(self._own_parameters)
        else:
            condition = tf.cast(tf.convert_to_tensor(condition), x.dtype)
            rank = len(self.condition_shape or ())
            outputs = call_layer(self._conditioner, condition, rank)
            parameters = self._per_value(outputs, x)
            # Shared parameters have no axes for positions.
            for _ in range(ndims - len(self._own)):
                parameters = tf.expand_dims(parameters, -3)
        # Transforms want one set of parameters for each value.
        sizes = tf.broadcast_dynamic_shape(tf.shape(x), tf.shape(parameters)[:-1])
        static = tf.broadcast_static_shape(x.shape, parameters.shape[:-1])
        x = tf.ensure_shape(tf.broadcast_to(x, sizes), static)
        each = parameters.shape[-1]
        parameters = tf.broadcast_to(parameters, tf.concat([sizes, [each]], 0))
        value, log_slope = direction(x, tf.ensure_shape(parameters, [*static, each]))
        return value, tf.reduce_sum(log_slope, axis=list(range(-ndims, 0)))


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConditionalAffine(Elementwise):
    """`Elementwise` with `transforms.Affine`: a scale and shift of each channel.

    Next to a standard normal base it is a class-conditional prior,
    `Normal(m(c), exp(s(c)))`, as on Glow's top level. Shifts are before log-scales.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039; its published code.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        conditioner: keras.Layer,
        *,
        condition_shape: Sequence[int],
        **kwargs: Any,
    ) -> None:
        """Connects the network.

        Args:
            conditioner: Keras layer from conditions to two values a channel, means
                first; a `keras.layers.Dense(2 * c, kernel_initializer="zeros")`
                starts at the identity.
        """
        super().__init__(
            affine.Affine("exp", order="halves"),
            event_shape,
            condition_shape,
            conditioner,
            shared_positions=True,
            **kwargs,
        )


class ElementaryWeights(keras.Layer):
    """Reads `weights` from files of the first edition, and holds none.

    Those have one vector a parameter, in a layer of this name, the slope's logarithm
    with the value that it starts at. Keras finds weights by the class of their layer.
    """

    def __init__(self, weights: Weights, start: float) -> None:
        super().__init__()
        weights.may_be_missing = self.built = True
        self._read, self._start = Holder(weights), start

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Stacks the vectors, if `weights` was not found in the file itself."""
        weights = self._read.value
        if weights.missing:
            vectors = [store[str(index)][:] for index in range(len(store.keys()))]
            if not vectors:
                raise ValueError(f"The file holds no weights of '{weights.name}'.")
            weights.variables[0].assign(np.stack(vectors, axis=-1) - self._start)


@keras.saving.register_keras_serializable(package="tfp_flows")
class SinhArcsinh(Elementwise):
    """`Elementwise` with `transforms.SinhArcsinh`, for values `[..., channels]`."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        """Makes the parameters of an identity map of `channels` channels."""
        channels = checked_integer("channels", channels)
        super().__init__(affine.SinhArcsinh(), (channels,), **kwargs)
        self._weights_of_first_edition = ElementaryWeights(self._weights, 0.0)


@keras.saving.register_keras_serializable(package="tfp_flows")
class LeakyReLU(Elementwise):
    """`Elementwise` with `transforms.LeakyReLU`, for values `[..., channels]`."""

    def __init__(self, channels: int, *, slope: float = 0.5, **kwargs: Any) -> None:
        """Starts all `channels` channels with the slope `slope` below zero."""
        channels = checked_integer("channels", channels)
        super().__init__(affine.LeakyReLU(slope), (channels,), **kwargs)
        start = math.log(slope)
        self._weights_of_first_edition = ElementaryWeights(self._weights, start)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Sinh(FlowBijector):
    """`tfb.Sinh` with a scale `s`: the identity near 0, exponential far from it.

        forward:  y = s sinh(x / s)
        inverse:  x = s arcsinh(y / s)
        log-det:  log cosh(x / s) (forward), minus that

    Behind a layer of a flow it keeps outliers from being stretched layer by layer. The
    log-det is finite for every finite `y / s`; TFP's is not where `y^2` overflows.

    Shapes: single values, `[...]`; log-dets have the same shape.

    Example:
        >>> print(Sinh(2.0).inverse([0.1, 1e9]).numpy().round(3))
        [ 0.1   41.447]
    """

    def __init__(
        self, scale: float = 1.0, *, name: str | None = "sinh", **kwargs: Any
    ) -> None:
        """Takes the scale, a positive number."""
        self._scale = checked_number("scale", scale, above=0.0)
        super().__init__(event_ndims=0, name=name, **kwargs)

    def _is_increasing(self) -> bool:  # for `cdf` and the like
        return True

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        a = x / self._scale
        return self._scale * tf.sinh(a), affine.log_cosh(a)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        a = tf.asinh(y / self._scale)
        return self._scale * a, -affine.log_cosh(a)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Quantile(FlowBijector):
    """A monotone rational-quadratic spline through given knots, with linear tails.

        forward:  y = g(x)             g goes through (latents[k], values[k])
        inverse:  x = g^-1(y)          closed form: one quadratic equation
        log-det:  log g'(x) (forward), minus that

    With quantiles of data for values, and the same quantiles of a standard normal for
    latents, it makes a column nearly normal. The slopes at inner knots are those of
    monotone cubic interpolation, which overshoots nowhere; `g'` is continuous, and so
    are densities. Beyond the outer knots `g` goes on as steep as the outermost bin is
    on average: tails are those of a normal as wide as the data at that end. The knots
    are weights that are saved and never trained.

    Shapes: single values, `[...]`; log-dets have the same shape.

    Reference: Gregory, Delbourgo: Piecewise rational quadratic interpolation to
    monotonic data, 1982. Fritsch, Butland: A method for constructing local monotone
    piecewise cubic interpolants, 1984.

    Example:
        >>> b = Quantile([-1.0, 0.0, 1.0], [0.0, 10.0, 1000.0], dtype="float64")
        >>> b.forward(tf.constant([-2.0, 0.0, 2.0], "float64")).numpy().tolist()
        [-10.0, 10.0, 1990.0]
    """

    _WEIGHTS = "Knots"

    def __init__(
        self,
        latents: Sequence[float],
        values: Sequence[float],
        *,
        name: str | None = "quantile",
        **kwargs: Any,
    ) -> None:
        """Puts a spline through at least 2 knots, of increasing latents and values."""
        at, heights = (np.asarray(v, np.float64) for v in (latents, values))
        _check_knots(at, heights)
        super().__init__(event_ndims=0, name=name, **kwargs)
        starts = {"latents": at, "values": heights, "slopes": _slopes(at, heights)}
        self._knots = [
            self.add_weight(start.shape, start, name=key, trainable=False)
            for key, start in starts.items()
        ]

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        knots = self._vectors()
        places, slopes = knots[0], knots[-1]
        inside = tf.clip_by_value(x, places[0], places[-1])
        y, log_slope = forward_in_bin(inside, _bin_of(inside, places, *knots))
        steep = _tail_slope(x, places, slopes)
        y = y + steep * (x - inside)
        return y, tf.where(x == inside, log_slope, tf.math.log(steep))

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        knots = self._vectors()
        places, slopes = knots[1], knots[-1]
        inside = tf.clip_by_value(y, places[0], places[-1])
        x, log_slope = inverse_in_bin(inside, _bin_of(inside, places, *knots))
        steep = _tail_slope(y, places, slopes)
        x = x + (y - inside) / steep
        return x, tf.where(y == inside, log_slope, -tf.math.log(steep))

    def _vectors(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(knot) for knot in self._knots]


def _bin_of(
    value: tf.Tensor,
    sought: tf.Tensor,
    latents: tf.Tensor,
    values: tf.Tensor,
    slopes: tf.Tensor,
) -> Bin:
    """Returns the bin between knots in whose stretch of `sought` each value lies."""
    index = tf.reduce_sum(tf.cast(value[..., None] >= sought[1:-1], tf.int32), axis=-1)
    (left, bottom, slope), (right, top, next_slope) = (
        [tf.gather(v, index + step) for v in (latents, values, slopes)]
        for step in (0, 1)
    )
    return Bin(left, right - left, bottom, top - bottom, slope, next_slope)


def _tail_slope(value: tf.Tensor, knots: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    return tf.where(value < knots[0], slopes[0], slopes[-1])


def _slopes(latents: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns positive slopes at the knots: monotone cubic inside, secants outside."""
    from scipy.interpolate import PchipInterpolator

    slopes = PchipInterpolator(latents, values).derivative()(latents)
    secants = np.diff(values) / np.diff(latents)
    slopes[0], slopes[-1] = secants[0], secants[-1]
    return slopes


def _check_knots(latents: np.ndarray, values: np.ndarray) -> None:
    for name, knots in (("latents", latents), ("values", values)):
        if knots.ndim != 1 or len(knots) < 2 or not np.all(np.diff(knots) > 0.0):
            raise invalid(name, "be at least 2 increasing numbers", knots.tolist())
    if len(latents) != len(values):
        raise invalid("values", f"have {len(latents)} knots, as `latents`", len(values))
