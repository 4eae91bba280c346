"""`deserialize`: objects from their description."""

from __future__ import annotations

import collections
import functools
import operator
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.saving.classes import KIND, public_class, read_array, read_variable


def deserialize(description: Any) -> Any:
    """Builds the object that `serialize` described, with fresh weights.

    Args:
        description: What `serialize` returned.

    Returns:
        The object.

    Raises:
        ValueError: If a class is not registered here, a part is unknown or lacks
            something, or a class does not take its arguments; the message names it.
    """
    try:
        return _Reader().read(description)
    except KeyError as error:
        raise ValueError(
            "The description of a distribution is damaged: "
            f"one of its parts lacks {error}."
        ) from error


class _Reader:
    """Reads what `_Writer` wrote."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}

    def read(self, description: Any) -> Any:
        if isinstance(description, list):
            return [self.read(item) for item in description]
        if not isinstance(description, dict):
            return description
        kind = description.get(KIND)
        if kind == "same":
            return self._objects[description["id"]]
        readers: dict[Any, Callable[[dict[str, Any]], Any]] = {
            "float": lambda d: float(d["is"]),
            "tuple": lambda d: tuple(self.read(item) for item in d["items"]),
            "dict": self._dict,
            "ordered_dict": lambda d: collections.OrderedDict(self._dict(d)),
            "array": read_array,
            "tensor": lambda d: tf.constant(read_array(d)),
            "dtype": lambda d: tf.as_dtype(d["name"]),
            "shape": lambda d: tf.TensorShape(d["dims"]),
            "variable": read_variable,
            "transformed_variable": self._transformed_variable,
            "kernels": self._kernels,
            "layer": _read_layer,
            "function": _read_function,
            "registered": self._registered,
            "public": self._public,
        }
        if kind not in readers:
            raise ValueError(
                "The description of a distribution holds a part of unknown kind, "
                f"perhaps from a newer version of tfp_flows. Received: kind={kind!r}"
            )
        value = readers[kind](description)
        if "id" in description:
            self._objects[description["id"]] = value
        return value

    def _dict(self, description: dict[str, Any]) -> dict:
        return {self.read(k): self.read(v) for k, v in description["items"]}

    def _transformed_variable(self, description: dict[str, Any]) -> Any:
        variable = self.read(description["variable"])
        bijector = self.read(description["bijector"])
        made = tfp.util.TransformedVariable(bijector.forward(variable), bijector)
        # Forward and back again, a value loses its last bits.
        made.pretransformed_input.assign(variable)
        return made

    def _kernels(self, description: dict[str, Any]) -> Any:
        how = {"sum": operator.add, "product": operator.mul}[description["how"]]
        return functools.reduce(how, self.read(description["kernels"]))

    def _registered(self, description: dict[str, Any]) -> Any:
        cls = keras.saving.get_registered_object(description["class"])
        if cls is None:
            raise ValueError(
                f"The saved distribution holds a '{description['class']}', which is "
                "not registered here: import the module that defines it, with "
                "`@keras.saving.register_keras_serializable(package=...)` on the "
                "class, before loading."
            )
        config = {key: self.read(v) for key, v in description["config"].items()}
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)

    def _public(self, description: dict[str, Any]) -> Any:
        name = f"{description['module']}.{description['class']}"
        cls = public_class(description["module"], description["class"])
        if cls is None:
            raise ValueError(
                f"The saved distribution holds a '{name}', which the installed version "
                "of TensorFlow Probability does not have."
            )
        arguments = {k: self.read(v) for k, v in description["config"].items()}
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The saved distribution holds a '{name}', which the installed version "
                f"of TensorFlow Probability cannot build from its description: {error}"
            ) from error


def _read_layer(description: dict[str, Any]) -> keras.Layer:
    return keras.saving.deserialize_keras_object(description["config"])


def _read_function(description: dict[str, Any]) -> Callable:
    function = keras.saving.get_registered_object(description["name"])
    if function is None:
        raise ValueError(
            f"The saved distribution uses the function '{description['name']}', which "
            "is not registered here: import the module that defines it before loading."
        )
    return function
