"""`LocalCondition`: frames of a spectrogram, brought to the pace of the audio."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors.wrapped import Wrapped
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.tools.speech.early_output import checked_sequences

tfb = tfp.bijectors


@keras.saving.register_keras_serializable(package="tfp_flows")
class LocalCondition(Wrapped):
    """A bijector of sequences that sees frames through a learned upsampling.

        forward:  y = f(x; u(c))
        inverse:  x = f^-1(y; u(c))
        log-det:  that of f at u(c)

    The Keras layer `u` makes `stride` positions of each frame. It runs once in each
    direction, however many parts of `f` look at its output.

    Shapes: sequences `[..., stride frames, channels]`, conditions
    `[..., frames, features]`, with any number of frames.

    Reference:
        Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        upsampler: keras.Layer,
        *,
        features: int,
        stride: int,
        name: str | None = None,
    ) -> None:
        """Builds the upsampling.

        Args:
            bijector: A bijector of sequences, or chain of them, with conditions of
                shape `(None, n)`.
            upsampler: Keras layer from `[batch, frames, features]` to
                `[batch, stride frames, n]`, such as a `keras.layers.Conv1DTranspose`
                with `strides=stride` and `padding="same"`.
            features: Number of values of a frame, such as the mel channels.
            stride: Number of positions to a frame.
            name: Name of the bijector.

        Raises:
            TypeError: If `upsampler` is not a Keras layer.
            ValueError: If it does not make `stride` positions of a frame.
        """
        parameters = dict(locals())
        checked_sequences(bijector)
        self._features = checked_count("features", features)
        self._stride = checked_count("stride", stride)
        _check_upsampler(upsampler, features, stride)
        super().__init__(bijector, parameters, name=name)
        self._own("_upsampler", upsampler)

    @property
    def stride(self) -> int:
        """Number of positions to a frame."""
        return self._stride

    @property
    def upsampler(self) -> keras.Layer:
        """The layer that frames go through."""
        return self._upsampler

    @property
    def condition_shape(self) -> tuple[int | None, int]:
        """Shape of one condition: any number of frames."""
        return (None, self._features)

    def _inner_condition(self, condition: Any) -> tf.Tensor:
        frames = tf.cast(tf.convert_to_tensor(condition), self.dtype)
        return conditioners.apply(self._upsampler, frames, 2)


def _check_upsampler(upsampler: Any, features: int, stride: int) -> None:
    if not isinstance(upsampler, keras.Layer):
        raise TypeError(
            "Argument `upsampler` must be a `keras.Layer`, such as "
            "`keras.layers.Conv1DTranspose`. "
            f"Received: upsampler={upsampler!r} of type {type(upsampler).__name__}"
        )
    if not upsampler.built:
        upsampler.build((None, None, features))
    probe = keras.KerasTensor((1, 3, features), dtype=upsampler.compute_dtype)
    shape = tuple(upsampler(probe).shape)
    if len(shape) != 3 or shape[1] != 3 * stride:
        raise ValueError(
            f"Argument `upsampler` must make stride={stride} positions of each frame. "
            f"Received: '{upsampler.name}', which makes {shape} of {probe.shape}"
        )
