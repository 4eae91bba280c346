"""Masks of coupling layers, as index splits: nothing is multiplied by zero.

`split` and `merge` are slices and concatenations, so a conditioner sees only the
identity part and computes only parameters that are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.coupling import Mask
from tfp_flows.bijectors.reshape import depth_to_space, space_to_depth
from tfp_flows.internal.arguments import Config, checked_integer, invalid

Part = TypeVar("Part")


class _Halves(Mask):
    """Two parts that `flip` exchanges."""

    flip: bool = False

    def _ordered(self, first: Part, second: Part) -> tuple[Part, Part]:
        return (second, first) if self.flip else (first, second)


@keras.saving.register_keras_serializable(package="tfp_flows")
class LastAxisMask(_Halves):
    """The first half of the last axis passes as it is; with `flip`, the second."""

    def __init__(self, event_shape: Sequence[int], flip: bool = False) -> None:
        """Halves the last axis of `event_shape`; an odd value is transformed."""
        self.event_shape, self.flip = tuple(event_shape), bool(flip)
        *positions, width = self.event_shape
        if width < 2:
            raise ValueError(
                "A mask needs at least 2 values on the last axis to split. "
                f"Received: shape {self.event_shape}"
            )
        self._sizes = [width // 2, width - width // 2]
        identity, transformed = self._ordered(*self._sizes)
        self.identity_shape = (*positions, identity)
        self.transformed_shape = (*positions, transformed)

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two halves."""
        return self._ordered(*tf.split(x, self._sizes, axis=-1))

    def merge(self, identity: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
        """Concatenates the halves in their order."""
        return tf.concat(self._ordered(identity, transformed), axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows")
class CheckerboardMask(_Halves):
    """Pixels with even `row + column` pass as they are; with `flip`, the odd ones.

    Each part is `[h/2, w/2, 2c]`: the two pixels that a 2x2 block contributes lie
    beside each other on the channel axis, upper one first. A convolution over a
    part sees true neighbours and does a quarter of the positions' work.
    """

    def __init__(self, event_shape: Sequence[int], flip: bool = False) -> None:
        """Splits an image of even height and width."""
        self.event_shape, self.flip = tuple(event_shape), bool(flip)
        if len(self.event_shape) != 3 or any(n % 2 for n in self.event_shape[:2]):
            must = "be (h, w, c) with even h and w for a checkerboard"
            raise invalid("event_shape", must, self.event_shape)
        height, width, self._channels = self.event_shape
        self.identity_shape = (height // 2, width // 2, 2 * self._channels)
        self.transformed_shape = self.identity_shape

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two sets of pixels."""
        c = self._channels
        top_left, odd, bottom_right = tf.split(space_to_depth(x, 2), [c, 2 * c, c], -1)
        return self._ordered(tf.concat([top_left, bottom_right], axis=-1), odd)

    def merge(self, identity: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
        """Puts the pixels back on the board."""
        even, odd = self._ordered(identity, transformed)
        top_left, bottom_right = tf.split(even, 2, axis=-1)
        return depth_to_space(tf.concat([top_left, odd, bottom_right], axis=-1), 2)


@keras.saving.register_keras_serializable(package="tfp_flows")
class IndexMask(Mask):
    """Any chosen values of a vector pass as they are, such as every second one."""

    def __init__(self, size: int, identity: Sequence[int]) -> None:
        """Lets the positions `identity` of a vector of `size` values pass."""
        self.size, self.identity = int(size), tuple(int(i) for i in identity)
        self.others = tuple(i for i in range(size) if i not in self.identity)
        order = self.identity + self.others
        if not self.identity or not self.others or sorted(order) != [*range(size)]:
            must = f"name some, not all, of the positions 0 to {size - 1}, each once"
            raise invalid("identity", must, self.identity)
        self.places = sorted(range(size), key=order.__getitem__)
        self.event_shape = (self.size,)
        self.identity_shape = (len(self.identity),)
        self.transformed_shape = (len(self.others),)

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two sets of values."""
        return tf.gather(x, self.identity, axis=-1), tf.gather(x, self.others, axis=-1)

    def merge(self, identity: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
        """Puts the values back in their places."""
        return tf.gather(tf.concat([identity, transformed], -1), self.places, axis=-1)

    @classmethod
    def from_config(cls, config: Config) -> IndexMask:
        """Builds the mask; files of version 0.1 say `kept` for `identity`."""
        return cls(config["size"], config.get("identity", config.get("kept")))


@keras.saving.register_keras_serializable(package="tfp_flows")
class PositionMask(Mask):
    """Any chosen vectors of a sequence `(length, d)` pass as they are."""

    def __init__(self, event_shape: Sequence[int], identity: Sequence[int]) -> None:
        """Lets the vectors at the positions `identity` pass."""
        self.event_shape = tuple(event_shape)
        if len(self.event_shape) != 2:
            raise invalid("event_shape", "be (length, d)", self.event_shape)
        length, d = self.event_shape
        self._inner = IndexMask(length, identity)
        self.identity = self._inner.identity
        self.identity_shape = (*self._inner.identity_shape, d)
        self.transformed_shape = (*self._inner.transformed_shape, d)

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two sets of vectors."""
        parts = self._inner.identity, self._inner.others
        same, changed = (tf.gather(x, part, axis=-2) for part in parts)
        return same, changed

    def merge(self, identity: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
        """Puts the vectors back in their places."""
        both = tf.concat([identity, transformed], axis=-2)
        return tf.gather(both, self._inner.places, axis=-2)


def half(d: int, flip: bool = False) -> Mask:
    """Lets the first `d // 2` values of a vector pass; with `flip`, the others."""
    return LastAxisMask((int(d),), flip)


def channel(event_shape: Sequence[int], flip: bool = False) -> Mask:
    """Lets the first half of an image's channels pass; with `flip`, the others.

    Args:
        event_shape: Shape `(h, w, c)` with at least 2 channels; unknown sizes are None.
    """
    return LastAxisMask(event_shape, flip)


def checkerboard(event_shape: Sequence[int], flip: bool = False) -> Mask:
    """Lets every second pixel of an image pass, as on a checkerboard (RealNVP).

    Args:
        event_shape: Shape `(h, w, c)` with even `h` and `w`.
    """
    return CheckerboardMask(event_shape, flip)


def positions(event_shape: Sequence[int], identity: Sequence[int]) -> Mask:
    """Lets the vectors at some positions of a sequence `(length, d)` pass."""
    return PositionMask(event_shape, identity)


def indices(d: int, identity: Sequence[int]) -> Mask:
    """Lets positions of a vector of `d` values pass, such as `range(0, d, 2)`."""
    return IndexMask(d, identity)


def random(d: int, seed: int = 0, flip: bool = False) -> Mask:
    """Lets half of the values of a vector pass, drawn by `seed`; with `flip`, the rest.

    It is the mask of the indices that were drawn: `d // 2` of `d`.
    """
    d = checked_integer("d", d, 2)
    drawn = np.random.default_rng(seed).permutation(d)
    part = drawn[d // 2 :] if flip else drawn[: d // 2]
    return IndexMask(d, sorted(part.tolist()))
