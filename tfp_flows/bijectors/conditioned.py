"""`condition`: binds conditions to a conditional flow."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import paired
from tfp_flows.bijectors.base import FlowBijector, known_dtype, nested_bijectors

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_flows")
class Conditioned(FlowBijector):
    """A conditional bijector with its condition filled in.

        forward:  y = f(x; c)
        inverse:  x = f^-1(y; c)
        log-det:  that of f at c

    The batch axes of the condition are batch axes of the bijector.
    """

    def __init__(
        self, bijector: tfb.Bijector, condition: Any, name: str | None = None
    ) -> None:
        """Binds `condition` to `bijector`.

        Args:
            bijector: A bijector, or chain of them, that takes a condition.
            condition: Tensor `[..., *condition_shape]`; gradients flow to it.
            name: Name of the bijector.
        """
        parameters = dict(locals())
        super().__init__(
            event_ndims=int(bijector.forward_min_event_ndims),
            inverse_event_ndims=int(bijector.inverse_min_event_ndims),
            dtype=known_dtype(bijector),
            parameters=parameters,
            name=name,
        )
        self._bijector = bijector
        self._condition = tf.convert_to_tensor(condition)

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return paired.forward_and_log_det(
            self._bijector, x, self.forward_min_event_ndims, self._condition
        )

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return paired.inverse_and_log_det(
            self._bijector, y, self.inverse_min_event_ndims, self._condition
        )

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.forward_event_shape(input_shape)

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.inverse_event_shape(output_shape)

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.forward_event_shape_tensor(input_shape)

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.inverse_event_shape_tensor(output_shape)

    def _batch_shape(self, x_event_ndims: Any) -> tf.TensorShape:
        return self._condition.shape[: self._condition.shape.rank - self._ndims()]

    def _batch_shape_tensor(self, x_event_ndims: Any) -> tf.Tensor:
        return tf.shape(self._condition)[: tf.rank(self._condition) - self._ndims()]

    def _ndims(self) -> int:
        return len(condition_shape(self._bijector) or ())


def condition_shape(bijector: tfb.Bijector) -> tuple[int, ...] | None:
    """Returns the shape of one condition, or None for an unconditional bijector."""
    shapes = (getattr(b, "condition_shape", None) for b in nested_bijectors(bijector))
    return next((shape for shape in shapes if shape is not None), None)


def condition(flow: tfd.Distribution, c: Any) -> tfd.TransformedDistribution:
    """Returns the distribution of a conditional flow given the condition `c`.

    Args:
        flow: A conditional flow, such as `tff.glow((2,), condition_shape=(3,))`.
        c: Tensor `[*batch, *condition_shape]`; gradients flow to it.

    Returns:
        A `tfd.TransformedDistribution` of batch shape `batch`, to be used like any
        other: `log_prob`, `sample`, in joint distributions.

    Raises:
        ValueError: If the flow takes no condition, or `c` has another shape.

    Example:
        >>> import tfp_flows as tff
        >>> flow = tff.real_nvp((2,), couplings=2, condition_shape=(3,))
        >>> tff.condition(flow, [[0.0, 1.0, 2.0]]).batch_shape
        TensorShape([1])
    """
    bijector = getattr(flow, "bijector", None)
    shape = None if bijector is None else condition_shape(bijector)
    if shape is None:
        raise ValueError(
            "Argument `flow` must be a conditional flow, built with "
            f"`condition_shape=(...)`. Received: {flow}"
        )
    c = tf.convert_to_tensor(c)
    if (
        c.shape.rank is None
        or c.shape.rank < len(shape)
        or not (c.shape[c.shape.rank - len(shape) :].is_compatible_with(shape))
    ):
        raise ValueError(
            f"Argument `c` must have shape [..., {', '.join(map(str, shape))}]. "
            f"Received: c of shape {c.shape}"
        )
    return tfd.TransformedDistribution(
        flow.distribution, Conditioned(bijector, c), name=f"{flow.name}_conditioned"
    )
