"""`save_distribution` and `load_distribution`: whole distributions in one file."""

from __future__ import annotations

import os
import tempfile

import keras
import tensorflow_probability as tfp

from tfp_flows.training.model import FlowModel
from tfp_flows.training.serialization import check_archive, checked_path

tfd = tfp.distributions


def save_distribution(distribution: tfd.Distribution, path: str | os.PathLike) -> None:
    """Writes a distribution with all its weights to a `.keras` archive.

    The file is written beside its place and renamed, so that it is whole or absent.

    Args:
        distribution: A flow, or any TFP distribution with a static event shape.
        path: Name of the file, ending in `.keras`.

    Raises:
        TypeError: If a part cannot be saved; the message names it.
        ValueError: If `path` does not end in `.keras`.
    """
    save_model(FlowModel(distribution), path)


def save_model(model: FlowModel, path: str | os.PathLike) -> None:
    """Writes a model to a `.keras` archive, whole or not at all."""
    target = checked_path(path)
    if not target.parent.is_dir():
        raise ValueError(
            f"Argument `path` must lie in an existing folder. Received: {path}"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".saving-") as folder:
        written = os.path.join(folder, target.name)
        model.save(written)
        os.replace(written, target)


def load_model(path: str | os.PathLike) -> FlowModel:
    """Reads a model from a `.keras` archive.

    Args:
        path: Name of a file that holds a `FlowModel`.

    Returns:
        The model.

    Raises:
        ValueError: If the file is missing, damaged or holds something else.
    """
    target = checked_path(path)
    check_archive(target)
    model = keras.models.load_model(target)
    if not isinstance(model, FlowModel):
        raise ValueError(
            f"The file {path} must hold a `tff.FlowModel`. "
            f"Received: a {type(model).__name__}"
        )
    return model


def load_distribution(path: str | os.PathLike) -> tfd.Distribution:
    """Reads a distribution that `save_distribution` or `FlowModel.save` wrote.

    Args:
        path: Name of the `.keras` file.

    Returns:
        The distribution, with its weights.

    Raises:
        ValueError: If the file is missing, damaged, or holds a class that is not
            registered; the message names it.
    """
    return load_model(path).distribution
