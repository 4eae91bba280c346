"""Normalizing flows as TFP bijectors that Keras 3 trains, saves and serves."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The import registers every class with Keras, so that files load. The command alone
# puts that off until a name is used: `tfp-flows --help` answers without TensorFlow.
_PROGRAM = next(iter(sys.argv), "")  # "-m" only while Python looks for the module
_IS_COMMAND = Path(_PROGRAM).stem == "tfp-flows" or (
    _PROGRAM == "-m" and ("-m", "tfp_flows") in itertools.pairwise(sys.orig_argv)
)

if TYPE_CHECKING or not _IS_COMMAND:
    from tfp_flows.api import *  # noqa: F403
    from tfp_flows.api import __all__  # noqa: F401
else:

    def __getattr__(name: str) -> object:
        """Loads the package when the first of its names is used."""
        if name.startswith("__"):
            raise AttributeError(f"module 'tfp_flows' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module("tfp_flows.api"), name)
