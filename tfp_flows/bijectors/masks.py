"""Masks of coupling layers, as index splits: nothing is multiplied by zero.

A mask divides an event into the part that a coupling keeps and the part that it
moves. `split` and `merge` are slices and concatenations, so a conditioner sees
only kept values and computes only parameters that are used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.reshape import depth_to_space, space_to_depth

Shape = tuple[int, ...]


class Mask(ABC):
    """A division of an event into kept and moved values.

    Attributes:
        event_shape: Shape of the whole event.
        kept_shape: Shape of the part that passes unchanged.
        moved_shape: Shape of the part that the coupling transforms.
        flip: Whether kept and moved parts are exchanged.
    """

    event_shape: Shape
    kept_shape: Shape
    moved_shape: Shape
    flip: bool

    @abstractmethod
    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the kept and the moved part of `x`."""

    @abstractmethod
    def merge(self, kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        """Puts the two parts back in their places."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""

    def __repr__(self) -> str:
        """Shows the constructor's call."""
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(package="tfp_flows")
class LastAxisMask(Mask):
    """Keeps the first half of the last axis; with `flip`, the second half."""

    def __init__(self, event_shape: Sequence[int], flip: bool = False) -> None:
        """Halves the last axis of `event_shape`; an odd value moves."""
        self.event_shape = tuple(event_shape)
        self.flip = bool(flip)
        width = self.event_shape[-1]
        if width < 2:
            raise ValueError(
                "A mask needs at least 2 values on the last axis to split. "
                f"Received: shape {self.event_shape}"
            )
        self._sizes = [width // 2, width - width // 2]
        kept, moved = self._ordered(*self._sizes)
        self.kept_shape = (*self.event_shape[:-1], kept)
        self.moved_shape = (*self.event_shape[:-1], moved)

    def _ordered(self, first: Any, second: Any) -> tuple[Any, Any]:
        return (second, first) if self.flip else (first, second)

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the kept and the moved half."""
        return self._ordered(*tf.split(x, self._sizes, axis=-1))

    def merge(self, kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        """Concatenates the halves in their order."""
        return tf.concat(self._ordered(kept, moved), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"event_shape": self.event_shape, "flip": self.flip}


@keras.saving.register_keras_serializable(package="tfp_flows")
class CheckerboardMask(Mask):
    """Keeps the pixels with even `row + column`; with `flip`, the odd ones.

    Each part is `[h/2, w/2, 2c]`: the two pixels that a 2x2 block contributes lie
    beside each other on the channel axis, upper one first. A convolution over a
    part sees true neighbours and does a quarter of the positions' work, instead of
    running over a full image of which half the outputs are thrown away.
    """

    def __init__(self, event_shape: Sequence[int], flip: bool = False) -> None:
        """Splits an image of even height and width."""
        self.event_shape = tuple(event_shape)
        self.flip = bool(flip)
        if len(self.event_shape) != 3 or any(n % 2 for n in self.event_shape[:2]):
            raise ValueError(
                "Argument `event_shape` of a checkerboard must be (h, w, c) with even "
                f"h and w. Received: event_shape={self.event_shape}"
            )
        height, width, channels = self.event_shape
        self.kept_shape = (height // 2, width // 2, 2 * channels)
        self.moved_shape = self.kept_shape

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the kept and the moved pixels."""
        c = self.event_shape[-1]
        top_left, others, bottom_right = tf.split(
            space_to_depth(x, 2), [c, 2 * c, c], axis=-1
        )
        even = tf.concat([top_left, bottom_right], axis=-1)
        return (others, even) if self.flip else (even, others)

    def merge(self, kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        """Puts the pixels back on the board."""
        even, odd = (moved, kept) if self.flip else (kept, moved)
        top_left, bottom_right = tf.split(even, 2, axis=-1)
        return depth_to_space(tf.concat([top_left, odd, bottom_right], axis=-1), 2)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"event_shape": self.event_shape, "flip": self.flip}


@keras.saving.register_keras_serializable(package="tfp_flows")
class IndexMask(Mask):
    """Keeps any chosen values of a vector, such as every second one (NICE)."""

    def __init__(self, size: int, kept: Sequence[int]) -> None:
        """Keeps the positions `kept` of a vector of `size` values."""
        self.event_shape = (int(size),)
        self.flip = False
        self.kept = tuple(int(i) for i in kept)
        if not 0 < len(set(self.kept)) == len(self.kept) < size or not all(
            0 <= i < size for i in self.kept
        ):
            raise ValueError(
                f"Argument `kept` must name some, not all, of the positions 0 to "
                f"{size - 1}, each once. Received: kept={self.kept}"
            )
        self._moved = tuple(i for i in range(size) if i not in set(self.kept))
        order = self.kept + self._moved
        self._places = sorted(range(size), key=order.__getitem__)
        self.kept_shape = (len(self.kept),)
        self.moved_shape = (len(self._moved),)

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the kept and the moved values."""
        return tf.gather(x, self.kept, axis=-1), tf.gather(x, self._moved, axis=-1)

    def merge(self, kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        """Puts the values back in their places."""
        return tf.gather(tf.concat([kept, moved], axis=-1), self._places, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"size": self.event_shape[0], "kept": self.kept}


def half(d: int, flip: bool = False) -> Mask:
    """Keeps the first `d // 2` values of a vector; with `flip`, the others.

    Args:
        d: Number of values in the vector, at least 2.
        flip: Whether to keep the second half instead.

    Returns:
        The mask.
    """
    return LastAxisMask((int(d),), flip)


def channel(event_shape: Sequence[int], flip: bool = False) -> Mask:
    """Keeps the first half of an image's channels; with `flip`, the others.

    Args:
        event_shape: Shape `(h, w, c)` with at least 2 channels.
        flip: Whether to keep the second half instead.

    Returns:
        The mask.
    """
    return LastAxisMask(event_shape, flip)


def checkerboard(event_shape: Sequence[int], flip: bool = False) -> Mask:
    """Keeps every second pixel of an image, as on a checkerboard (RealNVP).

    Args:
        event_shape: Shape `(h, w, c)` with even `h` and `w`.
        flip: Whether to keep the other colour.

    Returns:
        The mask; see `CheckerboardMask` for the layout of its parts.
    """
    return CheckerboardMask(event_shape, flip)


def indices(d: int, kept: Sequence[int]) -> Mask:
    """Keeps chosen positions of a vector.

    Args:
        d: Number of values in the vector.
        kept: Positions to keep, such as `range(0, d, 2)`.

    Returns:
        The mask.
    """
    return IndexMask(d, kept)
