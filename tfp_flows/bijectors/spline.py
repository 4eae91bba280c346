"""`SplineCoupling`: coupling by monotone rational-quadratic splines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.coupling import Coupling, _like_batch
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.spline_math import find_bin, forward_in_bin, inverse_in_bin

TAILS = ("linear", "circular")


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
      periodic too, as `tff.nets.Periodic` does.

    Floats: bins have at least `min_bin` of the side and knots at least `min_slope`,
    so slopes stay positive and the error of a round trip is at most rounding times
    the inverse of the smallest slope.

    Shapes: events as the mask's; log-dets have the batch shape.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios: Neural Spline Flows, 2019,
        arXiv:1906.04032. Rezende et al.: Normalizing Flows on Tori and Spheres,
        2020, arXiv:2002.02428 (circular).

    Example:
        >>> import tfp_flows as tff
        >>> b = tff.SplineCoupling(tff.masks.half(4), tff.nets.MLP((16,)), bins=4)
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
            mask: Division into kept and moved values, from `tff.masks`.
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
        _check_arguments(bins, bound, tails, min_bin, min_slope)
        self._bins = bins
        self._bound = float(bound)
        self._circular = tails == "circular"
        self._minima = {"min_bin": float(min_bin), "min_slope": float(min_slope)}
        super().__init__(
            mask,
            conditioner,
            parameters_per_value=3 * bins + (1 if self._circular else -1),
            condition_shape=condition_shape,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _transform(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._bend(forward_in_bin, x, parameters, inverse=False)

    def _untransform(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._bend(inverse_in_bin, y, parameters, inverse=True)

    def _bend(
        self, in_bin: Callable, value: tf.Tensor, parameters: tf.Tensor, inverse: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if self._condition_shape is not None:
            value = _like_batch(value, parameters)
        k = self._bins
        flat = tf.reshape(value, [-1])
        rows = tf.reshape(parameters, [-1, 3 * k + (1 if self._circular else -1)])
        if self._circular:
            raw_widths, raw_heights, raw_slopes, turn = tf.split(rows, [k, k, k, 1], -1)
            raw_slopes = tf.concat([raw_slopes, raw_slopes[:, :1]], -1)
            turn = tf.squeeze(turn, -1)
            inside = self._wrapped(flat - turn if inverse else flat)
        else:
            raw_widths, raw_heights, raw_slopes = tf.split(rows, [k, k, k - 1], -1)
            raw_slopes = tf.pad(raw_slopes, [[0, 0], [1, 1]])
            inside = tf.clip_by_value(flat, -self._bound, self._bound)
        here = find_bin(
            inside,
            raw_widths,
            raw_heights,
            raw_slopes,
            bound=self._bound,
            by_height=inverse,
            **self._minima,
        )
        bent, log_derivative = in_bin(inside, here)
        if self._circular:
            bent = bent if inverse else self._wrapped(bent + turn)
        else:
            # `inside` is a safe stand-in for values beyond the borders, so the
            # spline's gradient is finite where its result is not used.
            within = tf.abs(flat) <= self._bound
            bent = tf.where(within, bent, flat)
            log_derivative = tf.where(
                within, log_derivative, tf.zeros_like(log_derivative)
            )
        return tf.reshape(bent, tf.shape(value)), tf.reshape(
            log_derivative, tf.shape(value)
        )

    def _wrapped(self, angle: tf.Tensor) -> tf.Tensor:
        return tf.math.floormod(angle + self._bound, 2.0 * self._bound) - self._bound


def _check_arguments(
    bins: Any, bound: float, tails: str, min_bin: float, min_slope: float
) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ValueError(
            f"Argument `bins` must be an integer of at least 2. Received: bins={bins!r}"
        )
    if not bound > 0.0:
        raise ValueError(f"Argument `bound` must be positive. Received: bound={bound}")
    if tails not in TAILS:
        raise ValueError(f"Argument `tails` must be one of {TAILS}. Received: {tails!r}")
    if not 0.0 < min_bin * bins < 1.0:
        raise ValueError(
            "Argument `min_bin` must lie between 0 and 1 / bins. "
            f"Received: min_bin={min_bin} with bins={bins}"
        )
    if not 0.0 < min_slope < 1.0:
        raise ValueError(
            "Argument `min_slope` must lie between 0 and 1. "
            f"Received: min_slope={min_slope}"
        )
