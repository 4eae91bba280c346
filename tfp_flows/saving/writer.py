"""A distribution or bijector as JSON."""

from __future__ import annotations

import collections
import inspect
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.saving import classes
from tfp_flows.saving.classes import KIND, plain


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


# What `k1 + k2` and `k1 * k2` of TFP's kernels are, which have no public names.
_COMBINED_KERNELS = {"_SumKernel": "sum", "_ProductKernel": "product"}


def serialize(value: Any) -> Any:
    """Describes a distribution, bijector or anything inside one.

    Args:
        value: A TFP distribution or bijector, or an argument of one.

    Returns:
        Lists, dictionaries, strings and numbers, ready for JSON.

    Raises:
        TypeError: If a part has an unregistered class, is a lambda or makes weights
            that are not among its arguments; the message names it and says where it
            was found.
    """
    return _Writer().write(value, type(value).__name__)


class _Writer:
    """Writes objects, and a reference for one that was written already."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # Objects must live until the end, or Python would reuse their ids.
        self._alive: list[Any] = []

    def write(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        # A NumPy float64 is a Python float too, but has a dtype to keep.
        if isinstance(value, float) and not isinstance(value, np.generic):
            return value if math.isfinite(value) else {KIND: "float", "is": str(value)}
        if isinstance(value, list | tuple):
            return self._sequence(value, where)
        if isinstance(value, dict):
            return self._dict(value, where)
        described = plain(value)
        if described is not None:
            return described
        return self._shared(value, where)

    def _sequence(self, value: list | tuple, where: str) -> Any:
        items = [self.write(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if hasattr(value, "_fields"):
            raise not_covered(value, where, "is a named tuple")
        return items if isinstance(value, list) else {KIND: "tuple", "items": items}

    def _dict(self, value: dict, where: str) -> dict[str, Any]:
        items = [
            [self.write(k, where), self.write(v, f"{where}[{k!r}]")]
            for k, v in value.items()
        ]
        ordered = isinstance(value, collections.OrderedDict)
        return {KIND: "ordered_dict" if ordered else "dict", "items": items}

    def _shared(self, value: Any, where: str) -> Any:
        if id(value) in self._numbers:
            return {KIND: "same", "id": self._numbers[id(value)]}
        description = self._object(value, where)
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return {**description, "id": self._numbers[id(value)]}

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, tfp.util.TransformedVariable):
            return self._transformed_variable(value, where)
        if isinstance(value, tf.Variable):
            return _variable(value, where)
        if tf.is_tensor(value) and not isinstance(value, tf.Module):
            return _tensor(value, where)
        if isinstance(value, keras.layers.Layer):
            return _layer(value, where)
        if inspect.isroutine(value):
            return _function(value, where)
        if inspect.isclass(value):
            raise not_covered(value, where, "is called to make parts of its own")
        if type(value).__name__ in _COMBINED_KERNELS:
            how = _COMBINED_KERNELS[type(value).__name__]
            kernels = self.write(list(value.kernels), f"{where}.kernels")
            return {KIND: "kernels", "how": how, "kernels": kernels}
        return self._class(value, where)

    def _transformed_variable(self, value: Any, where: str) -> dict[str, Any]:
        return {
            KIND: "transformed_variable",
            "variable": self.write(value.pretransformed_input, where),
            "bijector": self.write(value.bijector, f"{where}.bijector"),
        }

    def _class(self, value: Any, where: str) -> dict[str, Any]:
        cls = type(value)
        registered = keras.saving.get_registered_name(cls)
        if keras.saving.get_registered_object(registered) is cls:
            config = _registered_config(value, where)
            return {
                KIND: "registered",
                "class": registered,
                "config": self._arguments(cls, config, where),
            }
        public = classes.public_name(value)
        if public is None:
            raise not_registered(value, where)
        return self._public(value, *public, where)

    def _public(self, value: Any, module: str, name: str, where: str) -> dict[str, Any]:
        obstacle = classes.obstacle(value)
        if obstacle is not None:
            raise not_covered(value, where, obstacle)
        constructor = getattr(classes.MODULES[module], name)
        try:
            config = self._arguments(constructor, classes.arguments(value), where)
        except TypeError as error:
            advice = classes.instead(name)
            if not advice:
                raise
            raise TypeError(f"{error} In place of '{name}'{advice}.") from error
        return {KIND: "public", "module": module, "class": name, "config": config}

    def _arguments(
        self, constructor: type, arguments: dict[str, Any], where: str
    ) -> dict[str, Any]:
        defaults = classes.defaults(constructor)
        return {
            key: self.write(value, f"{where}.{key}")
            for key, value in arguments.items()
            if not (key in defaults and value is defaults[key]) and key != "parameters"
        }


def _variable(value: tf.Variable, where: str) -> dict[str, Any]:
    if value.constraint is not None:
        raise not_covered(value, where, "has a constraint")
    return {
        KIND: "variable",
        "value": _array(value, where),
        "trainable": value.trainable,
        "name": value.name.split(":")[0].rsplit("/", maxsplit=1)[-1],
    }


def _tensor(value: tf.Tensor, where: str) -> dict[str, Any]:
    return {**_array(value, where), KIND: "tensor"}


def _array(value: Any, where: str) -> dict[str, Any]:
    if not hasattr(value, "numpy") or not tf.executing_eagerly():
        raise not_covered(value, where, "is a tensor of a graph under construction")
    described = plain(value.numpy())
    if described is None:
        raise not_covered(value, where, f"has dtype {value.dtype.name}")
    return described


def _layer(value: keras.Layer, where: str) -> dict[str, Any]:
    try:
        config = keras.saving.serialize_keras_object(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise not_covered(value, where, f"cannot be saved ({error})") from error
    if _is_lambda_config(config):
        raise not_covered(value, where, "holds a lambda")
    if not _is_known_to_keras(value):
        raise not_registered(value, where)
    return {KIND: "layer", "config": config}


def _function(value: Any, where: str) -> dict[str, Any]:
    name = keras.saving.get_registered_name(value)
    if keras.saving.get_registered_object(name) is not value:
        raise not_a_function(value, where)
    return {KIND: "function", "name": name}


def _registered_config(value: Any, where: str) -> dict[str, Any]:
    if hasattr(value, "get_config"):
        return value.get_config()
    if isinstance(getattr(value, "parameters", None), dict):
        return value.parameters
    raise not_covered(value, where, "has neither `get_config` nor `parameters`")


def _is_known_to_keras(layer: keras.Layer) -> bool:
    cls = type(layer)
    if cls.__module__.partition(".")[0] == "keras":
        return True
    registered = keras.saving.get_registered_name(cls)
    return keras.saving.get_registered_object(registered) is cls


def _is_lambda_config(config: Any) -> bool:
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return True
        return any(_is_lambda_config(value) for value in config.values())
    return isinstance(config, list) and any(map(_is_lambda_config, config))
