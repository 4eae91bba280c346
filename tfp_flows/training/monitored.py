"""Callbacks that watch a figure of ours: which way is better."""

from __future__ import annotations

from typing import Any

import keras

_FALLING = ("nll", "bits_per_dim")


def less_is_better(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Lists the callbacks, told that our figures should fall.

    Keras works this out only for metrics that were given to `compile`.
    """
    if callbacks is None:
        return []
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    for callback in listed:
        monitored = str(getattr(callback, "monitor", "")).removeprefix("val_")
        automatic = getattr(callback, "mode", None) == "auto"
        if automatic and monitored in _FALLING:
            callback.mode = "min"
    return list(listed)
