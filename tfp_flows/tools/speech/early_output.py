"""`EarlyOutput`: some channels are done, the others go on."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors import paired
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditioned import condition_shape
from tfp_flows.bijectors.nested import known_dtype
from tfp_flows.nets.conditioner import broadcast_batch

tfb = tfp.bijectors


@keras.saving.register_keras_serializable(package="tfp_flows")
class EarlyOutput(FlowBijector):
    """Passes the first channels of a sequence on, and the others through a bijector.

    With `y = (y_d, y_r)` split into the `channels` that are done and the rest,

        inverse:  x = (y_d, f^-1(y_r))
        forward:  y = (x_d, f(x_r))
        log-det:  that of f

    Gradients reach the steps near the data by the shorter way too, and channels of
    which all has been said cost nothing more.

    Shapes: those of sequences `[..., steps, channels + r]` for a bijector of
    `[..., steps, r]`; log-dets have the batch shape.

    Reference:
        Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.4.

    Example:
        >>> import tfp_flows as tff
        >>> f = tff.AffineCoupling(tff.masks.channel((None, 4)), tff.speech.WaveNet(8))
        >>> EarlyOutput(f, 2).inverse(tf.zeros([1, 5, 6])).shape
        TensorShape([1, 5, 6])
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        channels: int,
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Keeps the bijector of the rest.

        Args:
            bijector: A bijector of sequences, or chain of them.
            channels: Number of channels that are done.
            validate_args: Whether to check outputs for finiteness.
            name: Name of the bijector.

        Raises:
            ValueError: If `bijector` is none of sequences, or `channels` no positive
                integer.
        """
        parameters = dict(locals())
        checked_sequences(bijector)
        super().__init__(
            event_ndims=2,
            dtype=known_dtype(bijector),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        self._bijector = bijector
        self._channels = checked_count("channels", channels)

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector of the channels that go on."""
        return self._bijector

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition of the bijector inside."""
        return condition_shape(self._bijector)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        done, rest = self._split(y, condition)
        rest, ildj = paired.inverse_and_log_det(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1), ildj

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        done, rest = self._split(x, condition)
        rest, fldj = paired.forward_and_log_det(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1), fldj

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Adapts the bijector inside to the channels that go on."""
        done, rest = self._split(tf.convert_to_tensor(y), condition)
        rest = paired.adapt(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1)

    def _split(self, x: tf.Tensor, condition: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Cuts off the channels that are done; they get the condition's batch axes."""
        if x.shape.rank is not None and (x.shape[-1] or 0) <= self._channels:
            raise ValueError(
                f"EarlyOutput '{self.name}' expected more than {self._channels} "
                f"channels on the last axis. Received: input of shape {x.shape}"
            )
        if condition is not None and self.condition_shape is not None:
            condition = tf.convert_to_tensor(condition)
            x = broadcast_batch(x, 2, condition, len(self.condition_shape))[0]
        return x[..., : self._channels], x[..., self._channels :]


def checked_sequences(bijector: Any) -> tfb.Bijector:
    """Returns `bijector` if it maps sequences of vectors to such."""
    ranks = (
        (bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims)
        if isinstance(bijector, tfb.Bijector)
        else ()
    )
    if not ranks or tf.nest.is_nested(ranks[0]) or ranks[0] != ranks[1] or ranks[0] > 2:
        raise ValueError(
            "Argument `bijector` must be a bijector of sequences [steps, channels]. "
            f"Received: {bijector!r}"
        )
    return bijector
