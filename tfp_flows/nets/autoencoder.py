"""The convolutional encoder and decoder around a latent vector."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfp_flows.internal.arguments import checked_widths, invalid

HIDDEN_UNITS = 256


def image_shape(event_shape: Sequence[int] | None) -> tuple[int, int, int]:
    """Returns `(height, width, channels)` if such images can be halved twice."""
    try:
        shape = tuple(map(int, event_shape))
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or shape[0] % 4 or shape[1] % 4:
        raise invalid(
            "event_shape",
            "be (height, width, channels) with a height and a width divisible by 4, "
            "since the networks halve images twice",
            event_shape,
        )
    return shape


def conv_encoder(
    event_shape: Sequence[int],
    outputs: int,
    channels: Sequence[int] = (32, 64),
    activation: str = "swish",
) -> keras.Model:
    """Builds a network from images to vectors: two halvings, then two dense layers."""
    first, second = _two(channels)
    layers = [
        keras.Input(image_shape(event_shape)),
        keras.layers.Conv2D(first, 3, 2, "same", activation=activation),
        keras.layers.Conv2D(second, 3, 2, "same", activation=activation),
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN_UNITS, activation),
        keras.layers.Dense(outputs),
    ]
    return keras.Sequential(layers, name="encoder")


def conv_decoder(
    event_shape: Sequence[int],
    inputs: int,
    channels: Sequence[int] = (32, 64),
    activation: str = "swish",
) -> keras.Model:
    """Builds the mirror image of `conv_encoder`: two dense layers, two doublings."""
    height, width, depth = image_shape(event_shape)
    first, second = _two(channels)
    small = (height // 4, width // 4, second)
    layers = [
        keras.Input((inputs,)),
        keras.layers.Dense(HIDDEN_UNITS, activation),
        keras.layers.Dense(small[0] * small[1] * small[2], activation),
        keras.layers.Reshape(small),
        # A kernel that its stride divides leaves no checkerboard in the picture.
        keras.layers.Conv2DTranspose(second, 4, 2, "same", activation=activation),
        keras.layers.Conv2DTranspose(first, 4, 2, "same", activation=activation),
        keras.layers.Conv2D(depth, 3, padding="same"),
    ]
    return keras.Sequential(layers, name="decoder")


def _two(channels: Sequence[int]) -> tuple[int, ...]:
    checked = checked_widths("channels", channels)
    if len(checked) != 2:
        raise invalid("channels", "be two positive integers", channels)
    return checked
