"""`Weights`: the Keras layer that owns a bijector's own numbers."""

from __future__ import annotations

from typing import Any

import keras


class Weights(keras.Layer):
    """Base class of a layer that holds weights and computes nothing.

    A subclass makes its weights in `build`, which the constructor of a bijector
    calls through `made`. The configuration says how to draw them anew, so that
    `Repeat` can give each copy of a step its own initial draw.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Configures the layer.

        Args:
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.
        """
        super().__init__(autocast=False, **kwargs)

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Adds a weight that mixed precision never rounds: see `keras.Layer`."""
        kwargs.setdefault("autocast", False)
        return super().add_weight(*args, **kwargs)

    def made(self) -> Weights:
        """Builds the layer, if need be, and returns it."""
        if not self.built:
            self.build(None)
        return self

    def get_build_config(self) -> dict[str, Any]:
        """Returns nothing: the constructor's arguments fix all shapes."""
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the weights."""
        self.made()
