"""A float64 copy of a bijector, to compare log-dets with autodiff exactly."""

from __future__ import annotations

import base64
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.tools.checking.subject import Subject
from tfp_flows.training.serialization import deserialize, serialize

tfb = tfp.bijectors

_SHORTER = ("float32", "float16", "bfloat16")


def in_double(subject: Subject) -> Subject:
    """Returns the subject in float64, with the same weights.

    The bijector is described as if to be saved, every float type in the
    description is widened, and a copy is built from it.

    Args:
        subject: A bijector with its inputs.

    Returns:
        The subject itself if it is in float64 already.

    Raises:
        TypeError: If the bijector cannot be described, or insists on its float type.
    """
    if subject.dtype == tf.float64:
        return subject
    x = tf.cast(subject.x, tf.float64)
    plain = Subject(subject.bijector, x, subject.condition)
    if plain.dtype == tf.float64:
        return plain
    floatx = keras.config.floatx()
    try:
        keras.config.set_floatx("float64")
        copy = deserialize(_widened(serialize(subject.bijector)))
    finally:
        keras.config.set_floatx(floatx)
    double = Subject(copy, x, subject.condition)
    if double.dtype != tf.float64:
        raise TypeError(f"{type(copy).__name__} insists on {double.dtype.name}.")
    _copy_weights(subject, double)
    return double


def _copy_weights(source: Subject, target: Subject) -> None:
    old, new = source.variables().values(), target.variables().values()
    if [v.shape for v in old] != [v.shape for v in new]:
        raise TypeError("The copy has other weights than the original.")
    for variable, value in zip(new, old, strict=True):
        variable.assign(tf.cast(value, variable.dtype))


def _widened(part: Any) -> Any:
    if isinstance(part, list):
        return [_widened(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("kind") in ("array", "tensor") and part["dtype"] in _SHORTER:
        return _widened_array(part)
    if part.get("kind") == "public":
        part = {**part, "config": _with_tensors(part)}
    return {
        key: "float64" if _names_a_type(part, key) else _widened(value)
        for key, value in _policy(part).items()
    }


def _policy(part: dict[str, Any]) -> dict[str, Any]:
    """Replaces a Keras dtype policy, mixed ones too, by plain float64."""
    if part.get("class_name") != "DTypePolicy":
        return part
    return {**part, "config": {**part["config"], "name": "float64"}}


def _names_a_type(part: dict[str, Any], key: str) -> bool:
    named = key == "dtype" or (key == "name" and part.get("kind") == "dtype")
    return named and part[key] in _SHORTER


def _widened_array(part: dict[str, Any]) -> dict[str, Any]:
    dtype = tf.as_dtype(part["dtype"]).as_numpy_dtype
    values = np.frombuffer(base64.b64decode(part["data"]), dtype)
    data = base64.b64encode(values.astype("float64").tobytes()).decode("ascii")
    return {**part, "dtype": "float64", "data": data}


def _with_tensors(part: dict[str, Any]) -> dict[str, Any]:
    """Writes a TFP class's tensor arguments, given as plain numbers, as tensors.

    TFP would read plain numbers as float32.
    """
    tensors = _tensor_arguments(part)
    return {
        key: _tensor(value) if key in tensors and _is_numbers(value) else value
        for key, value in part["config"].items()
    }


def _tensor_arguments(part: dict[str, Any]) -> set[str]:
    cls = getattr(tfb, part["class"], None)
    try:
        return set(cls.parameter_properties()) if cls is not None else set()
    except NotImplementedError:
        return set()


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_numbers, value))
    return isinstance(value, float)


def _tensor(value: Any) -> dict[str, Any]:
    described = serialize(tf.constant(value, tf.float64))
    # Numbers of shared parts belong to the description they are written into.
    return {key: each for key, each in described.items() if key != "id"}
