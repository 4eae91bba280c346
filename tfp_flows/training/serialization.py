"""TFP distributions as JSON, without pickle and without code.

An object is described by its public class and its constructor's arguments. What
is learned is not in the description but in the weights that Keras saves: a
`tf.Variable` is described by shape and dtype, a Keras layer by its configuration.
Parts that are shared stay shared.
"""

from __future__ import annotations

import base64
import inspect
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfb, tfd = tfp.bijectors, tfp.distributions

# Where public classes are looked up by name; nothing else is ever imported.
_MODULES = {
    "tfp.bijectors": tfp.bijectors,
    "tfp.distributions": tfp.distributions,
    "tfp.math.psd_kernels": tfp.math.psd_kernels,
    "tf.linalg": tf.linalg,
}
_KIND = "kind"


def serialize(value: Any) -> Any:
    """Describes a distribution, bijector or anything inside one.

    Args:
        value: A TFP distribution or bijector, or an argument of one.

    Returns:
        Lists, dictionaries, strings and numbers, ready for JSON.

    Raises:
        TypeError: If a part has an unregistered class or is a lambda; the message
            names it and says where it was found.
    """
    return _Writer().write(value, type(value).__name__)


def deserialize(description: Any) -> Any:
    """Builds the object that `serialize` described, with fresh weights.

    Args:
        description: What `serialize` returned.

    Returns:
        The object.

    Raises:
        ValueError: If a class is not registered here or a part is unknown.
    """
    return _Reader().read(description)


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
            return value if math.isfinite(value) else {_KIND: "float", "is": str(value)}
        if isinstance(value, list | tuple):
            return self._sequence(value, where)
        if isinstance(value, dict):
            items = [
                [self.write(k, where), self.write(v, f"{where}[{k!r}]")]
                for k, v in value.items()
            ]
            return {_KIND: "dict", "items": items}
        plain = _plain(value)
        if plain is not None:
            return plain
        return self._shared(value, where)

    def _sequence(self, value: list | tuple, where: str) -> Any:
        items = [self.write(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if hasattr(value, "_fields"):
            raise _not_covered(value, where, "is a named tuple")
        return items if isinstance(value, list) else {_KIND: "tuple", "items": items}

    def _shared(self, value: Any, where: str) -> Any:
        if id(value) in self._numbers:
            return {_KIND: "same", "id": self._numbers[id(value)]}
        description = self._object(value, where)
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return {**description, "id": self._numbers[id(value)]}

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, tfp.util.TransformedVariable):
            return self._transformed_variable(value, where)
        if isinstance(value, tf.Variable):
            return {
                _KIND: "variable",
                "shape": value.shape.as_list(),
                "dtype": value.dtype.name,
                "trainable": value.trainable,
                "name": value.name.split(":")[0].rsplit("/", maxsplit=1)[-1],
            }
        if tf.is_tensor(value):
            return _tensor(value, where)
        if isinstance(value, keras.layers.Layer):
            return self._layer(value, where)
        if inspect.isfunction(value) or inspect.isbuiltin(value):
            return _function(value, where)
        return self._class(value, where)

    def _transformed_variable(self, value: Any, where: str) -> dict[str, Any]:
        return {
            _KIND: "transformed_variable",
            "variable": self.write(value.pretransformed_input, where),
            "bijector": self.write(value.bijector, f"{where}.bijector"),
        }

    def _layer(self, value: keras.Layer, where: str) -> dict[str, Any]:
        try:
            config = keras.saving.serialize_keras_object(value)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise _not_covered(value, where, f"cannot be saved ({error})") from error
        if _is_lambda_config(config):
            raise _not_covered(value, where, "holds a lambda")
        if not _is_known_to_keras(value):
            raise _not_registered(value, where)
        return {_KIND: "layer", "config": config}

    def _class(self, value: Any, where: str) -> dict[str, Any]:
        cls = type(value)
        registered = keras.saving.get_registered_name(cls)
        if keras.saving.get_registered_object(registered) is cls:
            config = _registered_config(value, where)
            return {
                _KIND: "registered",
                "class": registered,
                "config": self._arguments(cls, config, where),
            }
        public = _public_name(value)
        if public is None:
            raise _not_registered(value, where)
        module, name = public
        constructor = getattr(_MODULES[module], name)
        return {
            _KIND: "public",
            "module": module,
            "class": name,
            "config": self._arguments(constructor, value.parameters, where),
        }

    def _arguments(
        self, constructor: type, arguments: dict[str, Any], where: str
    ) -> dict[str, Any]:
        defaults = _defaults(constructor)
        return {
            key: self.write(value, f"{where}.{key}")
            for key, value in arguments.items()
            if not (key in defaults and value is defaults[key]) and key != "parameters"
        }


class _Reader:
    """Reads what `_Writer` wrote."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}

    def read(self, description: Any) -> Any:
        if isinstance(description, list):
            return [self.read(item) for item in description]
        if not isinstance(description, dict):
            return description
        kind = description.get(_KIND)
        if kind == "same":
            return self._objects[description["id"]]
        readers: dict[Any, Callable[[dict[str, Any]], Any]] = {
            "float": lambda d: float(d["is"]),
            "tuple": lambda d: tuple(self.read(item) for item in d["items"]),
            "dict": lambda d: {self.read(k): self.read(v) for k, v in d["items"]},
            "array": _read_array,
            "tensor": lambda d: tf.constant(_read_array(d)),
            "dtype": lambda d: tf.as_dtype(d["name"]),
            "shape": lambda d: tf.TensorShape(d["dims"]),
            "variable": _read_variable,
            "transformed_variable": self._transformed_variable,
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

    def _transformed_variable(self, description: dict[str, Any]) -> Any:
        variable = self.read(description["variable"])
        bijector = self.read(description["bijector"])
        # The saved value replaces the zeros, which only have to be in range.
        made = tfp.util.TransformedVariable(bijector.forward(variable), bijector)
        made.pretransformed_input.assign(variable)
        return made

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
        module = _MODULES.get(description["module"])
        cls = getattr(module, description["class"], None)
        if cls is None:
            raise ValueError(
                f"The saved distribution holds a '{description['module']}."
                f"{description['class']}', which the installed version of TensorFlow "
                "Probability does not have."
            )
        return cls(**{k: self.read(v) for k, v in description["config"].items()})


def _plain(value: Any) -> dict[str, Any] | None:
    if isinstance(value, np.generic | np.ndarray):
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype.hasobject:
            return None
        data = base64.b64encode(array.tobytes()).decode("ascii")
        shape = list(array.shape)
        return {_KIND: "array", "dtype": array.dtype.name, "shape": shape, "data": data}
    if isinstance(value, tf.DType):
        return {_KIND: "dtype", "name": value.name}
    if isinstance(value, tf.TensorShape):
        return {
            _KIND: "shape",
            "dims": value.as_list() if value.rank is not None else None,
        }
    return None


def _tensor(value: tf.Tensor, where: str) -> dict[str, Any]:
    if not hasattr(value, "numpy"):
        raise _not_covered(value, where, "is a tensor of a graph under construction")
    described = _plain(value.numpy())
    if described is None:
        raise _not_covered(value, where, f"has dtype {value.dtype.name}")
    return {**described, _KIND: "tensor"}


def _read_array(description: dict[str, Any]) -> np.ndarray:
    dtype = tf.as_dtype(description["dtype"]).as_numpy_dtype
    data = np.frombuffer(base64.b64decode(description["data"]), dtype)
    return data.reshape(description["shape"]).copy()


def _read_variable(description: dict[str, Any]) -> tf.Variable:
    zeros = tf.zeros(description["shape"], description["dtype"])
    return tf.Variable(
        zeros, trainable=description["trainable"], name=description["name"]
    )


def _read_layer(description: dict[str, Any]) -> keras.Layer:
    return keras.saving.deserialize_keras_object(description["config"])


def _function(value: Callable, where: str) -> dict[str, Any]:
    name = keras.saving.get_registered_name(value)
    if keras.saving.get_registered_object(name) is not value:
        what = "a lambda" if value.__name__ == "<lambda>" else f"'{value.__name__}'"
        raise TypeError(
            f"A distribution can be saved only without unregistered functions: {where} "
            f"is {what}. Write it as a bijector or a Keras layer, or as a named "
            "function with `@keras.saving.register_keras_serializable(package=...)`."
        )
    return {_KIND: "function", "name": name}


def _read_function(description: dict[str, Any]) -> Callable:
    function = keras.saving.get_registered_object(description["name"])
    if function is None:
        raise ValueError(
            f"The saved distribution uses the function '{description['name']}', which "
            "is not registered here: import the module that defines it before loading."
        )
    return function


def _registered_config(value: Any, where: str) -> dict[str, Any]:
    if hasattr(value, "get_config"):
        return value.get_config()
    if isinstance(getattr(value, "parameters", None), dict):
        return value.parameters
    raise _not_covered(value, where, "has neither `get_config` nor `parameters`")


def _public_name(value: Any) -> tuple[str, str] | None:
    name = type(value).__name__.lstrip("_")
    for module, namespace in _MODULES.items():
        public = getattr(namespace, name, None)
        if (
            inspect.isclass(public)
            and (isinstance(value, public) or issubclass(public, type(value)))
            and isinstance(getattr(value, "parameters", None), dict)
        ):
            return module, name
    return None


def _defaults(constructor: type) -> dict[str, Any]:
    parameters = inspect.signature(constructor.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


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


def _not_registered(value: Any, where: str) -> TypeError:
    name = type(value).__name__
    return TypeError(
        f"A distribution can be saved only if Keras knows its parts: {where} is of the "
        f"unregistered class '{name}'. Put "
        "`@keras.saving.register_keras_serializable(package=...)` on the class and "
        "define `get_config`."
    )


def _not_covered(value: Any, where: str, why: str) -> TypeError:
    return TypeError(
        f"A distribution cannot be saved: {where}, a '{type(value).__name__}', {why}."
    )


def checked_path(path: str | os.PathLike) -> Path:
    """Returns `path` if it names a `.keras` file; raises `ValueError` otherwise."""
    checked = Path(path)
    if checked.suffix != ".keras":
        raise ValueError(f"Argument `path` must end in '.keras'. Received: {path}")
    return checked


def check_archive(path: Path) -> None:
    """Refuses a missing or damaged `.keras` archive with one sentence."""
    if not path.is_file():
        raise ValueError(f"Argument `path` must name a file. Received: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"The file {path} is not a whole archive: {error}.") from error
    missing = {"config.json", "metadata.json"} - names
    if damaged or missing:
        what = f"'{damaged}' is damaged" if damaged else f"{sorted(missing)} is missing"
        raise ValueError(f"The file {path} is not a whole `.keras` archive: {what}.")
