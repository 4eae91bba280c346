"""`AdditiveCoupling` (NICE), `AffineCoupling` (RealNVP) and `SplineCoupling`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.transforms import Spline, TanhScale
from tfp_flows.nets import conditioner as conditioners


class Coupling(FlowBijector):
    """A bijector that moves one part of an event by a network of the other part.

    With `x = (x_k, x_m)` split by `mask` into kept and moved values,

        y_k = x_k,    y_m = g(x_m; conditioner(x_k)),

    and `g` an elementwise bijection that the subclass defines through `_transform`
    and `_untransform`. The Jacobian is triangular, so its log-det is the sum of
    `log |dg/dx_m|` over the moved values.
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        parameters_per_value: int,
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        parameters: dict[str, Any],
        name: str | None = None,
    ) -> None:
        if not isinstance(mask, Mask):
            raise TypeError(
                "Argument `mask` must be a mask such as `tfpf.masks.half(d)`. "
                f"Received: mask={mask!r} of type {type(mask).__name__}"
            )
        self._mask = mask
        self._condition_shape = condition_shape and tuple(condition_shape)
        super().__init__(
            event_ndims=len(mask.event_shape),
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        *positions, values = mask.moved_shape
        conditioners.connect(
            conditioner,
            mask.kept_shape,
            (*positions, values * parameters_per_value),
            self._condition_shape,
        )
        self._own("_conditioner", conditioner)

    @property
    def mask(self) -> Mask:
        """The division into kept and moved values."""
        return self._mask

    @property
    def conditioner(self) -> keras.Layer:
        """The network that maps kept values to the parameters of the move."""
        return self._conditioner

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None."""
        return self._condition_shape

    def _transform(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        raise NotImplementedError

    def _untransform(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        raise NotImplementedError

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._couple(self._transform, x, condition)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._couple(self._untransform, y, condition)

    def _couple(
        self, move: Callable, x: tf.Tensor, condition: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        kept, moved = self._mask.split(self._checked_event(x))
        event_ndims = len(self._mask.event_shape)
        parameters = conditioners.apply(
            self._conditioner,
            kept,
            event_ndims,
            condition,
            len(self._condition_shape or ()),
        )
        moved, log_derivative = move(moved, parameters)
        if kept.shape.rank != moved.shape.rank or condition is not None:
            kept = _like_batch(kept, moved)
        value = self._mask.merge(kept, moved)
        if log_derivative is None:
            return value, tf.zeros(tf.shape(value)[:-event_ndims], value.dtype)
        axes = list(range(-event_ndims, 0))
        return value, tf.reduce_sum(log_derivative, axis=axes)

    def _checked_event(self, x: tf.Tensor) -> tf.Tensor:
        expected = self._mask.event_shape
        if not x.shape[-len(expected) :].is_compatible_with(expected):
            raise ValueError(
                f"{type(self).__name__} '{self.name}' expected events of shape "
                f"{expected} on the last axes. Received: input of shape {x.shape}"
            )
        return x


def _like_batch(kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
    """Repeats kept values over batch axes that only the condition has."""
    if kept.shape[:-1].is_fully_defined() and kept.shape[:-1] == moved.shape[:-1]:
        return kept
    shape = tf.concat([tf.shape(moved)[:-1], tf.shape(kept)[-1:]], 0)
    broadcast = tf.broadcast_to(kept, shape)
    broadcast.set_shape(moved.shape[:-1].concatenate(kept.shape[-1:]))
    return broadcast


@keras.saving.register_keras_serializable(package="tfp_flows")
class AdditiveCoupling(Coupling):
    """Coupling that shifts: volume is kept.

        forward:  y_k = x_k,  y_m = x_m + t(x_k)
        inverse:  x_k = y_k,  x_m = y_m - t(y_k)
        log-det:  0

    Shapes: events as the mask's; log-dets have the batch shape.

    Reference:
        Dinh, Krueger, Bengio: NICE, 2014, arXiv:1410.8516.

    Example:
        >>> import tfp_flows as tfpf
        >>> b = tfpf.AdditiveCoupling(tfpf.masks.half(4), tfpf.nets.MLP((16,)))
        >>> b.forward([1.0, 2.0, 3.0, 4.0]).shape
        TensorShape([4])
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Builds the coupling and connects its conditioner.

        Args:
            mask: Division into kept and moved values, from `tfpf.masks`.
            conditioner: Keras layer that maps kept values to one shift for each
                moved value; `tfpf.nets` have no output size until they are used.
            condition_shape: Shape of one condition, for a conditional flow.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        super().__init__(
            mask,
            conditioner,
            parameters_per_value=1,
            condition_shape=condition_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _transform(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        return x + parameters, None

    def _untransform(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        return y - parameters, None


@keras.saving.register_keras_serializable(package="tfp_flows")
class AffineCoupling(Coupling):
    """Coupling that scales and shifts.

        forward:  y_k = x_k,  y_m = x_m exp(s(x_k)) + t(x_k)
        inverse:  x_k = y_k,  x_m = (y_m - t(y_k)) exp(-s(y_k))
        log-det:  sum of s over the moved values (forward), minus that (inverse)

    The conditioner returns `t` and a raw value `r` for each moved value, shifts
    first on the last axis. `log_scale` says how `r` becomes `s`:

    * `"soft_clamp"`: `s = 2 tanh(r / 2)`, so a scale stays within `e^-2..e^2`;
    * `"sigmoid"`: `s = log sigmoid(r + 2)`, as in Glow's published code;
    * `"tanh"`: `s = c tanh(r)` with one learned weight `c`, as in RealNVP's
      experiments;
    * `"exp"`: `s = r`, unbounded, as in RealNVP's formula.

    Shapes: events as the mask's; log-dets have the batch shape.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803. Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039.
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        log_scale: str = "soft_clamp",
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Builds the coupling and connects its conditioner.

        Args:
            mask: Division into kept and moved values, from `tfpf.masks`.
            conditioner: Keras layer that maps kept values to two parameters for
                each moved value; `tfpf.nets` have no output size until used.
            log_scale: `"soft_clamp"`, `"sigmoid"`, `"tanh"` or `"exp"`; see above.
            condition_shape: Shape of one condition, for a conditional flow.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `log_scale` is not one of these names.
        """
        parameters = dict(locals())
        if log_scale not in (*LOG_SCALES, "tanh"):
            raise ValueError(
                f"Argument `log_scale` must be one of {sorted([*LOG_SCALES, 'tanh'])}. "
                f"Received: log_scale={log_scale!r}"
            )
        super().__init__(
            mask,
            conditioner,
            parameters_per_value=2,
            condition_shape=condition_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        if log_scale == "tanh":
            self._own("_log_scale", TanhScale(dtype=self.dtype.name).made())
        else:
            self._log_scale = LOG_SCALES[log_scale]

    def _transform(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        t, r = tf.split(parameters, 2, axis=-1)
        s = self._log_scale(r)
        return x * tf.exp(s) + t, s

    def _untransform(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        t, r = tf.split(parameters, 2, axis=-1)
        minus_s = -self._log_scale(r)
        return (y - t) * tf.exp(minus_s), minus_s


def _soft_clamp(r: tf.Tensor) -> tf.Tensor:
    return 2.0 * tf.tanh(0.5 * r)


def _log_sigmoid(r: tf.Tensor) -> tf.Tensor:
    return tf.math.log_sigmoid(r + 2.0)


LOG_SCALES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "soft_clamp": _soft_clamp,
    "sigmoid": _log_sigmoid,
    "exp": tf.identity,
}


@keras.saving.register_keras_serializable(package="tfp_flows")
class SplineCoupling(Coupling):
    """Coupling that bends each moved value by a rational-quadratic spline.

        forward:  y_k = x_k,  y_m = g(x_m)        g: `bins` pieces on [-bound, bound]
        inverse:  x_k = y_k,  x_m = g^-1(y_m)     closed form: one quadratic equation
        log-det:  sum of log g'(x_m) over the moved values (forward), minus that

    The widths, heights and knot slopes of each spline come from the conditioner.
    Zero parameters give the identity. `tails` says what happens at the borders:

    * `"linear"`: `g` is the identity outside `[-bound, bound]`, with slope 1 at the
      borders, so `y` and its derivative are continuous everywhere
      (`3 bins - 1` parameters a value);
    * `"circular"`: values are angles on a circle of circumference `2 bound`; the
      first and the last slope are equal and a learned turn follows the spline
      (`3 bins + 1` parameters a value). Values outside are wrapped into
      `[-bound, bound)`. Give the conditioner features of kept angles that are
      periodic too, such as their sine and cosine.

    Floats: bins have at least `min_bin` of the side and knots at least `min_slope`,
    so slopes stay positive and the error of a round trip is at most rounding times
    the inverse of the smallest slope.

    Shapes: events as the mask's; log-dets have the batch shape.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios: Neural Spline Flows, 2019,
        arXiv:1906.04032. Rezende et al.: Normalizing Flows on Tori and Spheres,
        2020, arXiv:2002.02428 (circular).

    Example:
        >>> import tfp_flows as tfpf
        >>> b = tfpf.SplineCoupling(tfpf.masks.half(4), tfpf.nets.MLP((16,)), bins=4)
        >>> b.forward([1.0, 2.0, 3.0, 40.0]).shape
        TensorShape([4])
    """

    def __init__(
        self,
        mask: Mask,
        conditioner: keras.Layer,
        *,
        bins: int = 8,
        bound: float = 5.0,
        tails: str = "linear",
        min_bin: float = 1e-3,
        min_slope: float = 1e-3,
        condition_shape: Sequence[int] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Builds the coupling and connects its conditioner.

        Args:
            mask: Division into kept and moved values, from `tfpf.masks`.
            conditioner: Keras layer that maps kept values to `3 bins - 1` (linear)
                or `3 bins + 1` (circular) parameters for each moved value.
            bins: Number of bins of each spline, at least 2.
            bound: Half the side of the square on which a spline bends.
            tails: `"linear"` or `"circular"`; see above.
            min_bin: Smallest width and height of a bin, as a share of the side.
            min_slope: Smallest slope at a knot, below 1.
            condition_shape: Shape of one condition, for a conditional flow.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If an argument is out of its range.
        """
        parameters = dict(locals())
        self._spline = Spline(bins, float(bound), tails, min_bin, min_slope)
        super().__init__(
            mask,
            conditioner,
            parameters_per_value=self._spline.parameters_per_value,
            condition_shape=condition_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _transform(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._spline.forward(self._with_batch_of(x, parameters), parameters)

    def _untransform(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._spline.inverse(self._with_batch_of(y, parameters), parameters)

    def _with_batch_of(self, value: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Repeats values over batch axes that only the condition has."""
        if self._condition_shape is None:
            return value
        return _like_batch(value, parameters)
