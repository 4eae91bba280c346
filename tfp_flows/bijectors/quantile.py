"""`Quantile`: a monotone spline between the values of data and those of latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.interpolate import PchipInterpolator

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.transforms import Bin, forward_in_bin, inverse_in_bin
from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class Knots(Weights):
    """Places, values and slopes of a spline's knots; no training moves them."""

    def __init__(
        self,
        latents: Sequence[float],
        values: Sequence[float],
        slopes: Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.starts = {"latents": latents, "values": values, "slopes": slopes}

    def build(self, input_shape: Any = None) -> None:
        """Makes one vector for each name."""
        for name, start in self.starts.items():
            start = np.asarray(start, self.dtype)
            weight = self.add_weight(start.shape, "zeros", name=name, trainable=False)
            weight.assign(start)
            setattr(self, name, weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        starts = {name: list(map(float, v)) for name, v in self.starts.items()}
        return {**super().get_config(), **starts}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Quantile(FlowBijector):
    """A monotone rational-quadratic spline through given knots, with linear tails.

        forward:  y = g(x)             g goes through (latents[k], values[k])
        inverse:  x = g^-1(y)          closed form: one quadratic equation
        log-det:  log g'(x) (forward), minus that

    With quantiles of data for values, and the same quantiles of a standard normal for
    latents, it makes a column nearly normal. The slopes at inner knots are those of
    monotone cubic interpolation, which overshoots nowhere; `g'` is continuous, and so
    are densities in the units of the data. Beyond the outer knots `g` goes on straight,
    as steep as the outermost bin is on average: tails are those of a normal
    distribution as wide as the data at that end, whatever the other end looks like.

    The knots are weights that are saved and never trained.

    Shapes: single values, `[...]`; log-dets have the same shape.

    Reference:
        Gregory, Delbourgo: Piecewise rational quadratic interpolation to monotonic
        data, 1982. Fritsch, Butland: A method for constructing local monotone
        piecewise cubic interpolants, 1984.

    Example:
        >>> b = Quantile([-1.0, 0.0, 1.0], [0.0, 10.0, 1000.0], dtype="float64")
        >>> b.forward(tf.constant([-2.0, 0.0, 2.0], "float64")).numpy().tolist()
        [-10.0, 10.0, 1990.0]
    """

    def __init__(
        self,
        latents: Sequence[float],
        values: Sequence[float],
        *,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = "quantile",
    ) -> None:
        """Puts a spline through the knots.

        Args:
            latents: Increasing latents, at least 2.
            values: As many increasing values of the data.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If there are fewer than 2 knots, or they do not increase.
        """
        parameters = dict(locals())
        at, heights = (np.asarray(v, np.float64) for v in (latents, values))
        _check_knots(at, heights)
        super().__init__(
            event_ndims=0,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        knots = Knots(at, heights, _slopes(at, heights), dtype=self.dtype.name)
        self._own("_knots", knots.made())

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        knots = self._vectors()
        places, slopes = knots[0], knots[-1]
        inside = tf.clip_by_value(x, places[0], places[-1])
        y, log_slope = forward_in_bin(inside, _bin_of(inside, places, *knots))
        steep = _tail_slope(x, places, slopes)
        y = y + steep * (x - inside)
        return y, tf.where(x == inside, log_slope, tf.math.log(steep))

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        knots = self._vectors()
        places, slopes = knots[1], knots[-1]
        inside = tf.clip_by_value(y, places[0], places[-1])
        x, log_slope = inverse_in_bin(inside, _bin_of(inside, places, *knots))
        steep = _tail_slope(y, places, slopes)
        x = x + (y - inside) / steep
        return x, tf.where(y == inside, log_slope, -tf.math.log(steep))

    def _vectors(self) -> list[tf.Tensor]:
        own = self._knots
        return [tf.convert_to_tensor(v) for v in (own.latents, own.values, own.slopes)]


def _bin_of(
    value: tf.Tensor,
    sought: tf.Tensor,
    latents: tf.Tensor,
    values: tf.Tensor,
    slopes: tf.Tensor,
) -> Bin:
    """Returns the bin between knots in whose stretch of `sought` each value lies."""
    index = tf.reduce_sum(tf.cast(value[..., None] >= sought[1:-1], tf.int32), axis=-1)
    left, right = (
        [tf.gather(v, index + step) for v in (latents, values, slopes)]
        for step in (0, 1)
    )
    return Bin(
        left=left[0],
        width=right[0] - left[0],
        bottom=left[1],
        height=right[1] - left[1],
        slope=left[2],
        next_slope=right[2],
    )


def _tail_slope(value: tf.Tensor, knots: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    return tf.where(value < knots[0], slopes[0], slopes[-1])


def _slopes(latents: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns positive slopes at the knots: monotone cubic inside, secants outside."""
    slopes = PchipInterpolator(latents, values).derivative()(latents)
    secants = np.diff(values) / np.diff(latents)
    slopes[0], slopes[-1] = secants[0], secants[-1]
    return slopes


def _check_knots(latents: np.ndarray, values: np.ndarray) -> None:
    for name, knots in (("latents", latents), ("values", values)):
        if knots.ndim != 1 or len(knots) < 2 or not np.all(np.diff(knots) > 0.0):
            raise ValueError(
                f"Argument `{name}` must be at least 2 increasing numbers. "
                f"Received: {name}={knots.tolist()}"
            )
    if len(latents) != len(values):
        raise ValueError(
            "Arguments `latents` and `values` must have equally many knots. "
            f"Received: {len(latents)} and {len(values)}"
        )
