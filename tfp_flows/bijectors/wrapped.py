"""`Wrapped`: a bijector around another that sees a condition of its own making."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import paired
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.nested import known_dtype

tfb = tfp.bijectors


class Wrapped(FlowBijector):
    """Runs another bijector under the condition that `_inner_condition` returns.

    A subclass hands the bijector to the constructor and says which condition the
    bijector sees; everything else is the bijector's.

    Shapes: those of the bijector inside.
    """

    def __init__(
        self, bijector: tfb.Bijector, parameters: dict[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(
            event_ndims=int(bijector.forward_min_event_ndims),
            inverse_event_ndims=int(bijector.inverse_min_event_ndims),
            dtype=known_dtype(bijector),
            parameters=parameters,
            **kwargs,
        )
        self._bijector = bijector

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector inside."""
        return self._bijector

    def _inner_condition(self, condition: Any) -> Any:
        raise NotImplementedError

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ndims, inner = self.forward_min_event_ndims, self._inner_condition(condition)
        return paired.forward_and_log_det(self._bijector, x, ndims, inner)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ndims, inner = self.inverse_min_event_ndims, self._inner_condition(condition)
        return paired.inverse_and_log_det(self._bijector, y, ndims, inner)

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Adapts the bijector inside."""
        ndims, inner = self.inverse_min_event_ndims, self._inner_condition(condition)
        return paired.adapt(self._bijector, y, ndims, inner)

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.forward_event_shape(input_shape)

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.inverse_event_shape(output_shape)

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.forward_event_shape_tensor(input_shape)

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.inverse_event_shape_tensor(output_shape)
