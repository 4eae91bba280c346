"""The sentences that say what cannot be saved, where it was found, and why."""

from __future__ import annotations

import inspect
from typing import Any


def not_registered(value: Any, where: str) -> TypeError:
    """Returns the error for a class that neither TFP nor Keras knows by name."""
    name = type(value).__name__
    return TypeError(
        f"A distribution can be saved only if Keras knows its parts: {where} is of the "
        f"unregistered class '{name}'. Put "
        "`@keras.saving.register_keras_serializable(package=...)` on the class and "
        "define `get_config`."
    )


def not_covered(value: Any, where: str, why: str) -> TypeError:
    """Returns the error for a part that no file could bring back."""
    what = f"the class '{value.__name__}'" if inspect.isclass(value) else ""
    what = what or f"a '{type(value).__name__}'"
    return TypeError(f"A distribution cannot be saved: {where}, {what}, {why}.")


def not_a_function(value: Any, where: str) -> TypeError:
    """Returns the error for a function that Keras does not know by name."""
    name = getattr(value, "__name__", type(value).__name__)
    what = "a lambda" if name == "<lambda>" else f"'{name}'"
    return TypeError(
        f"A distribution can be saved only without unregistered functions: {where} "
        f"is {what}. Write it as a bijector or a Keras layer, or as a named "
        "function with `@keras.saving.register_keras_serializable(package=...)`."
    )
