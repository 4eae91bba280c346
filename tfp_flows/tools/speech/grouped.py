"""`Grouped`: audio as a sequence of short vectors."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors.base import FlowBijector


@keras.saving.register_keras_serializable(package="tfp_flows")
class Grouped(FlowBijector):
    """Cuts a series into groups of neighbours, which become channels.

        inverse:  x_{n, i} = y_{n g + i}     (data to latent: `[t]` to `[t/g, g]`)
        forward:  y_{n g + i} = x_{n, i}
        log-det:  0

    It is to audio what `Squeeze` is to images, and knows no length: any multiple of
    the group will do.

    Shapes: data `[..., t]`, latents `[..., t/g, g]`; the log-det is a scalar 0.

    Reference:
        Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.

    Example:
        >>> Grouped(4).inverse(tf.zeros([1, 12])).shape
        TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        group: int = 8,
        *,
        dtype: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Chooses the number of samples of a group.

        Args:
            group: Number g of neighbouring samples, at least 2.
            dtype: Float type; defaults to `keras.config.floatx()`.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `group` is not an integer of at least 2.
        """
        parameters = dict(locals())
        super().__init__(
            event_ndims=2,
            inverse_event_ndims=1,
            dtype=dtype,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._group = checked_count("group", group, least=2)

    @property
    def group(self) -> int:
        """Number of samples of a group."""
        return self._group

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = y.shape[:-1].concatenate(self._inverse_event_shape(y.shape[-1:]))
        sizes = tf.concat([tf.shape(y)[:-1], [-1, self._group]], axis=0)
        x = tf.ensure_shape(tf.reshape(y, sizes), shape)
        return x, tf.zeros([], y.dtype)

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = x.shape[:-2].concatenate(self._forward_event_shape(x.shape[-2:]))
        sizes = tf.concat([tf.shape(x)[:-2], [-1]], axis=0)
        y = tf.ensure_shape(tf.reshape(x, sizes), shape)
        return y, tf.zeros([], x.dtype)

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        groups, size = input_shape
        if size not in (None, self._group):
            raise ValueError(
                f"Grouped '{self.name}' expected groups of {self._group} values. "
                f"Received: latents of shape {input_shape}"
            )
        return tf.TensorShape([groups and groups * self._group])

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        (length,) = output_shape
        if (length or 0) % self._group:
            raise ValueError(
                f"Grouped '{self.name}' expected a number of samples divisible by "
                f"{self._group}. Received: audio of shape {output_shape}"
            )
        return tf.TensorShape([length and length // self._group, self._group])

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return tf.stack([input_shape[0] * self._group])

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return tf.stack([output_shape[0] // self._group, self._group])
