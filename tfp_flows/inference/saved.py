"""Trained estimators in one file, without their prior."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfp_flows.internal.arguments import Config, invalid
from tfp_flows.saving.files import load_archive, reading, save_model, written_by
from tfp_flows.training.model import FlowModel

SUPPORT = "support"
Arrays = Mapping[str, np.ndarray]


@keras.saving.register_keras_serializable(package="tfp_flows")
class SavedEstimator(keras.Model):
    """A Keras model that holds an estimator's flows and arrays, and does nothing else.

    The arrays stand in the configuration: each is as exact as its dtype.
    """

    def __init__(
        self,
        models: Sequence[FlowModel],
        arrays: Arrays,
        kind: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.flows, self.arrays, self.kind = list(models), dict(arrays), kind
        self.built = True

    def get_config(self) -> Config:
        """Describes flows and arrays."""
        return {
            "models": [keras.saving.serialize_keras_object(f) for f in self.flows],
            "arrays": {
                name: {"dtype": str(array.dtype), "values": array.tolist()}
                for name, array in self.arrays.items()
            },
            "kind": self.kind,
            "name": self.name,
            **written_by(),
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Config | None = None
    ) -> SavedEstimator:
        """Builds the model that `get_config` described, with fresh weights."""
        with reading(config), keras.saving.custom_object_scope(custom_objects or {}):
            models = map(keras.saving.deserialize_keras_object, config["models"])
            arrays = {
                name: np.asarray(array["values"], array["dtype"])
                for name, array in config["arrays"].items()
            }
            return cls(list(models), arrays, config["kind"], name=config["name"])


def save_estimator(path: str | os.PathLike, saved: SavedEstimator) -> None:
    """Writes flows and arrays to a `.keras` archive, by an atomic write."""
    if not saved.flows:
        raise ValueError(
            "The estimator must be trained before it is saved: call `fit(theta, x)`. "
            "Received: no training"
        )
    save_model(saved, path)


def load_estimator(
    path: str | os.PathLike, kind: str, support: np.ndarray
) -> SavedEstimator:
    """Reads flows and arrays; refuses those of another class or support."""
    held = load_archive(path)
    if not isinstance(held, SavedEstimator) or held.kind != kind:
        found = getattr(held, "kind", type(held).__name__)
        raise invalid("path", f"name a file with a {kind}", got=f"a {found} in {path}")
    found = held.arrays.pop(SUPPORT)
    if found.shape != support.shape or not np.allclose(found, support):
        must = "name a file of an estimator whose prior had the same support"
        raise invalid("path", must, str(path))
    return held
