"""Whole distributions and bijectors in one file, and back."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.training.archive import check_archive, checked_path
from tfp_flows.training.model import FlowModel
from tfp_flows.training.saved_object import SavedObject

tfb, tfd = tfp.bijectors, tfp.distributions


def save_distribution(distribution: tfd.Distribution, path: str | os.PathLike) -> None:
    """Writes a distribution with all its weights to a `.keras` archive.

    The file is written beside its place and renamed, so that it is whole or absent.
    Which of TFP's classes can be saved is listed in `docs/serialization.md`.

    Args:
        distribution: A flow, or any TFP distribution, joint ones too.
        path: Name of the file, ending in `.keras`.

    Raises:
        TypeError: If `distribution` is none, or a part cannot be saved; the message
            names it.
        ValueError: If `path` does not end in `.keras`.
    """
    if not isinstance(distribution, tfd.Distribution):
        raise _wrong_type("distribution", distribution)
    trainable = isinstance(distribution.event_shape, tf.TensorShape) and (
        distribution.event_shape.is_fully_defined()
    )
    save_model((FlowModel if trainable else SavedObject)(distribution), path)


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
    loaded = _loaded(path)
    if isinstance(loaded, FlowModel):
        return loaded.distribution
    return _content(loaded, path, tfd.Distribution, "distribution")


def save_bijector(bijector: tfb.Bijector, path: str | os.PathLike) -> None:
    """Writes a bijector with all its weights to a `.keras` archive.

    Args:
        bijector: A bijector, ours or TFP's, chains included.
        path: Name of the file, ending in `.keras`.

    Raises:
        TypeError: If `bijector` is none, or a part cannot be saved; the message
            names it.
        ValueError: If `path` does not end in `.keras`.

    Example:
        >>> import os, tempfile, tfp_flows as tff
        >>> path = os.path.join(tempfile.mkdtemp(), "step.keras")
        >>> tff.save_bijector(tff.ActNorm(4), path)
        >>> tff.load_bijector(path).name
        'act_norm'
    """
    if not isinstance(bijector, tfb.Bijector):
        raise _wrong_type("bijector", bijector)
    save_model(SavedObject(bijector), path)


def load_bijector(path: str | os.PathLike) -> tfb.Bijector:
    """Reads a bijector that `save_bijector` wrote.

    Args:
        path: Name of the `.keras` file.

    Returns:
        The bijector, with its weights.

    Raises:
        ValueError: If the file is missing, damaged, or holds a class that is not
            registered; the message names it.
    """
    return _content(_loaded(path), path, tfb.Bijector, "bijector")


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
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
    model = _loaded(path)
    if not isinstance(model, FlowModel):
        raise _wrong_content(path, "`tff.FlowModel`", model)
    return model


def _loaded(path: str | os.PathLike) -> Any:
    target = checked_path(path)
    check_archive(target)
    try:
        return keras.models.load_model(target)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ValueError(f"The file {path} cannot be loaded: {error}") from error


def _content(model: Any, path: str | os.PathLike, cls: type, name: str) -> Any:
    content = model.content if isinstance(model, SavedObject) else model
    if not isinstance(content, cls):
        raise _wrong_content(path, f"TFP {name}", content)
    return content


def _wrong_type(name: str, value: Any) -> TypeError:
    return TypeError(
        f"Argument `{name}` must be a TFP {name}. "
        f"Received: {value!r} of type {type(value).__name__}"
    )


def _wrong_content(path: str | os.PathLike, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"The file {path} must hold a {expected}. Received: a {type(value).__name__}"
    )
