"""`Squeeze` (images) and `Grouped` (sequences): positions become channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.base import FlowBijector, reshaped
from tfp_flows.internal.arguments import (
    Mapped,
    checked_choice,
    checked_integer,
    invalid,
)

ORDERS = ("block", "channel", "checkerboard")
KINDS = ("space_to_depth", "haar")


def space_to_depth(x: tf.Tensor, block: int) -> tf.Tensor:
    """Moves each `block x block` patch of `[..., h, w, c]` onto the channel axis.

    Channels are ordered by row in the patch, then column, then the old channel.
    """
    return _on_one_batch_axis(lambda y: tf.nn.space_to_depth(y, block), x)


def depth_to_space(x: tf.Tensor, block: int) -> tf.Tensor:
    """Undoes `space_to_depth`."""
    return _on_one_batch_axis(lambda y: tf.nn.depth_to_space(y, block), x)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Squeeze(FlowBijector):
    """Trades height and width for channels: space to depth.

        inverse:  x = space_to_depth(y)    (data to latent: `[h, w, c]` to
                                            `[h/b, w/b, b^2 c]`)
        forward:  y = depth_to_space(x)
        log-det:  0

    With `r, q` the row and column within a `b x b` patch and `k` the old channel,
    `order` says where a value goes on the new channel axis:

    * `"block"`: `(r b + q) c + k`; patches in reading order, as
      `tf.nn.space_to_depth` has it;
    * `"channel"`: `k b^2 + r b + q`; old channels stay together, as in Glow's
      published code;
    * `"checkerboard"` (2 x 2 patches only): as `"block"`, but with the pixels in
      the order top left, bottom right, top right, bottom left: the first half of the
      channels is one colour of a checkerboard, as in RealNVP's published code.

    With `kind="haar"` the four pixels `p` of a 2 x 2 patch, in reading order, become
    their Haar wavelet coefficients before they are put in this order,

        x = H p,    2 H = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))

    `H` is orthonormal and its own inverse. In `"block"` order the means of the patches
    (times 2) come first, then the differences across, down and diagonally.

    Shapes: channels-last with any batch rank. The log-det is a scalar 0.

    Reference: Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
    arXiv:1605.08803, section 3.6. Ardizzone et al.: Guided Image Generation with
    Conditional Invertible Neural Networks, 2019, arXiv:1907.02392 (Haar).

    Example:
        >>> import tensorflow as tf
        >>> Squeeze().inverse(tf.zeros([1, 8, 8, 3])).shape
        TensorShape([1, 4, 4, 12])
    """

    def __init__(
        self,
        block: int = 2,
        *,
        order: str = "block",
        kind: str = "space_to_depth",
        **kwargs: Any,
    ) -> None:
        """Chooses patch size, channel order, and pixels or wavelets."""
        if checked_choice("kind", kind, KINDS) == "haar" and block != 2:
            raise invalid("block", "be 2 for kind='haar'", block)
        checked_integer("block", block, 2)
        if order not in ORDERS or (order == "checkerboard" and block != 2):
            must = f"be one of {ORDERS}, and 'checkerboard' needs `block=2`"
            raise invalid("order", must, got=f"order={order!r} with block={block}")
        super().__init__(event_ndims=3, is_constant_jacobian=True, **kwargs)
        self._block = block
        self._order = order
        self._haar = kind == "haar"

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        self._squeezed_shape(y.shape[-3:])
        x = self._wavelets(space_to_depth(y, self._block))
        if self._order != "block":
            x = tf.gather(x, self._places(y.shape[-1]), axis=-1)
        return x, tf.zeros([], y.dtype)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        shape = self._unsqueezed_shape(x.shape[-3:])
        if self._order != "block":
            x = tf.gather(x, np.argsort(self._places(shape[-1])), axis=-1)
        x = self._wavelets(x)
        return depth_to_space(x, self._block), tf.zeros([], x.dtype)

    def _wavelets(self, x: tf.Tensor) -> tf.Tensor:
        """Mixes the four pixels of each patch, on the channel axis."""
        if not self._haar:
            return x
        a, b, c, d = tf.split(x, 4, axis=-1)
        (up, down), (left, right) = (a + b, c + d), (a - b, c - d)
        parts = [up + down, left + right, up - down, left - right]
        return 0.5 * tf.concat(parts, axis=-1)

    def _places(self, channels: int) -> np.ndarray:
        """Returns, for each new channel, its place in `"block"` order."""
        places = np.arange(self._block**2 * channels).reshape(-1, channels)
        if self._order == "channel":
            return places.T.reshape(-1)
        return places[[0, 3, 1, 2]].reshape(-1)

    def _squeezed_shape(self, shape: tf.TensorShape) -> list[int | None]:
        height, width, channels = shape
        b = self._block
        if (height or 0) % b or (width or 0) % b:
            raise ValueError(
                f"Squeeze '{self.name}' expected a height and width divisible by {b}. "
                f"Received: images of shape {shape}"
            )
        return [height and height // b, width and width // b, int(channels) * b * b]

    def _unsqueezed_shape(self, shape: tf.TensorShape) -> list[int | None]:
        height, width, channels = shape
        b = self._block
        if int(channels) % (b * b):
            raise ValueError(
                f"Squeeze '{self.name}' expected a number of latent channels divisible "
                f"by {b * b}. Received: images of shape {shape}"
            )
        return [height and height * b, width and width * b, int(channels) // (b * b)]

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(self._unsqueezed_shape(input_shape))

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(self._squeezed_shape(output_shape))

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        b = self._block
        return tf.stack(
            [input_shape[0] * b, input_shape[1] * b, input_shape[2] // (b * b)]
        )

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        b = self._block
        return tf.stack(
            [output_shape[0] // b, output_shape[1] // b, output_shape[2] * (b * b)]
        )


def _on_one_batch_axis(
    function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor
) -> tf.Tensor:
    if x.shape.rank == 4:
        return function(x)
    batch = tf.shape(x)[:-3]
    y = function(tf.reshape(x, [-1, *x.shape[-3:]]))
    static = x.shape[:-3].concatenate(y.shape[1:])
    return reshaped(y, tf.concat([batch, tf.shape(y)[1:]], 0), static)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Grouped(FlowBijector):
    """Cuts a series into groups of neighbours, which become channels.

        inverse:  x_{n, i} = y_{n g + i}     (data to latent: `[t]` to `[t/g, g]`)
        forward:  y_{n g + i} = x_{n, i}
        log-det:  0

    It is to audio what `Squeeze` is to images, of any multiple of the group in length.

    Shapes: data `[..., t]`, latents `[..., t/g, g]`; the log-det is a scalar 0.

    Reference: Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.

    Example:
        >>> Grouped(4).inverse(tf.zeros([1, 12])).shape
        TensorShape([1, 3, 4])
    """

    def __init__(self, group: int = 8, **kwargs: Any) -> None:
        """Chooses the number of samples of a group."""
        super().__init__(
            event_ndims=2, inverse_event_ndims=1, is_constant_jacobian=True, **kwargs
        )
        self._group = checked_integer("group", group, minimum=2)

    @property
    def group(self) -> int:
        """Number of samples of a group."""
        return self._group

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        shape = y.shape[:-1].concatenate(self._inverse_event_shape(y.shape[-1:]))
        sizes = tf.concat([tf.shape(y)[:-1], [-1, self._group]], axis=0)
        x = tf.ensure_shape(tf.reshape(y, sizes), shape)
        return x, tf.zeros([], y.dtype)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
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


def checked_sequences(bijector: object) -> tfb.Bijector:
    """Returns `bijector` if it maps sequences of vectors to such."""
    ranks = (
        (bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims)
        if isinstance(bijector, tfb.Bijector)
        else ()
    )
    if not ranks or tf.nest.is_nested(ranks[0]) or ranks[0] != ranks[1] or ranks[0] > 2:
        must = "be a bijector of sequences [steps, channels]"
        raise invalid("bijector", must, bijector)
    return bijector
