"""`MaskedAutoregressive`: each value moved by a function of those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.coupling import LOG_SCALES
from tfp_flows.bijectors.spline_math import Spline
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.made import MADE

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
        >>> import tfp_flows as tff
        >>> b = tff.MaskedAutoregressive(3, tff.nets.MADE((16,)))
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
            conditioner: A `tff.nets.MADE`.
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
                f"`tff.nets.MADE((128, 128))`. Received: conditioner={conditioner!r}"
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
