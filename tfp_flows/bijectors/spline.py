"""`SplineCoupling`: coupling by monotone rational-quadratic splines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.coupling import Coupling, _like_batch
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.spline_math import Spline


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
