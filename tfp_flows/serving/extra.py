"""The `serving` extra: packages that only servers and clients need."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def optional_module(name: str, purpose: str) -> ModuleType:
    """Imports a module of the `serving` extra.

    Args:
        name: Full name of the module.
        purpose: What needs it, as the start of a sentence.

    Returns:
        The module.

    Raises:
        ImportError: If it is not installed, saying what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the packages of the `serving` extra: "
            f"pip install 'tfp-flows[serving]'. Received: {error}"
        ) from error


def has_serving_protos() -> bool:
    """Whether tensorflow-serving-api is installed, with which warm-up is written."""
    return importlib.util.find_spec("tensorflow_serving") is not None
