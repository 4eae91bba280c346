"""A distribution or bijector as JSON, and back."""

from __future__ import annotations

import collections
import copy
import copyreg
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.tree import live_config
from tfp_flows.distributions.base import LayeredDistribution
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import Config
from tfp_flows.saving import classes
from tfp_flows.saving.classes import KIND, plain, read_array

# What `k1 + k2` and `k1 * k2` of TFP's kernels are, which have no public names.
_COMBINED_KERNELS = {"_SumKernel": "sum", "_ProductKernel": "product"}
_REGISTER = "`@keras.saving.register_keras_serializable(package=...)`"


def serialize(value: object) -> Any:
    """Describes a TFP distribution, bijector or argument of one, ready for JSON.

    A `TypeError` names a part, and its place, of an unregistered class, a lambda, and
    what makes weights that are not among its arguments.
    """
    return _Writer().write(value, type(value).__name__)


def deserialize(description: Any) -> Any:
    """Builds the object that `serialize` described, with fresh weights.

    A `ValueError` names what is not registered, unknown, lacking or takes no such
    arguments.
    """
    try:
        return _Reader().read(description)
    except KeyError as error:
        raise ValueError(
            "The description of a distribution is damaged: "
            f"one of its parts lacks {error}."
        ) from error


def _reduce(part: Any) -> Any:
    """Makes `copy.deepcopy` and `pickle` build a part again, from copies of its parts.

    What several parts share, parts, layers and variables, is one object to Python, and
    so it is in the copies.
    """
    cls, ours = type(part), isinstance(part, _OURS)
    if not ours and (classes.public_name(part) is None or classes.obstacle(part)):
        return copyreg.__newobj__, (cls,), vars(part)
    defaults = classes.defaults(cls)
    given = part.get_config() if ours else classes.arguments(part)
    given = {
        key: _copied_whole(value)
        for key, value in given.items()
        if not (key in defaults and value is defaults[key]) and key != "parameters"
    }
    return _built, (cls, given, *_state(_own_layers(part)))


def _built(cls: type, given: Config, *state: Any) -> Any:
    part = getattr(cls, "from_config", lambda config: cls(**config))(given)
    if isinstance(part, _OURS):
        _take(_own_layers(part), *state)
        part.list_variables()
    return part


class _CopiedLayer:
    """Stands for a layer, which Keras copies by a file, without what it shares."""

    def __init__(self, layer: keras.Layer) -> None:
        self._layer = layer

    def __reduce__(self) -> Any:
        layer = self._layer
        config = live_config(layer)
        if type(layer) is keras.Sequential:  # which describes its layers by names
            config = {"layers": layer.layers, "name": layer.name}
        described = _copied_whole((config, layer.get_build_config()))
        return _built_layer, (type(layer), *described, *_state([layer]))

    def __deepcopy__(self, memo: dict[int, Any]) -> keras.Layer:
        function, arguments = self.__reduce__()
        made = function(*copy.deepcopy(arguments, memo))
        memo[id(self._layer)] = made
        return made


def _copied_whole(value: Any) -> Any:
    """Puts what Python can copy in the place of layers."""
    if isinstance(value, keras.Layer):
        # One for each layer, so that Python knows it again.
        return vars(value).setdefault("_copied_layer", _CopiedLayer(value))
    # What Keras and TensorFlow make of lists and dictionaries refers to their owner.
    if isinstance(value, dict):
        ordered = isinstance(value, collections.OrderedDict)
        pairs = [(key, _copied_whole(item)) for key, item in value.items()]
        return collections.OrderedDict(pairs) if ordered else dict(pairs)
    if isinstance(value, list | tuple):
        items = map(_copied_whole, value)
        if isinstance(value, list):
            return list(items)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _built_layer(cls: type, config: Config, built: Any, *state: Any) -> keras.Layer:
    sequential = cls is keras.Sequential
    layer = cls(**config) if sequential else cls.from_config(config)
    if built is not None:
        layer.build_from_config(built)
    _take([layer], *state)
    return layer


def _own_layers(part: Any) -> list[keras.Layer]:
    return compat.nested(part, keras.Layer, recursive=False)


def _variables(layers: list[keras.Layer]) -> list[keras.Variable]:
    return list({id(v): v for layer in layers for v in layer.variables}.values())


def _state(layers: list[keras.Layer]) -> tuple[list[bool], list, list[bool]]:
    """Returns the variables of layers, and which layers and variables train."""
    inside = [one for layer in layers for one in compat.layers_inside(layer)]
    trained = [v.trainable for v in _variables(layers)]
    return [one.trainable for one in inside], compat.tf_variables(layers), trained


def _take(
    layers: list[keras.Layer], train: list[bool], variables: list, trained: list[bool]
) -> None:
    """Gives layers variables, in the place of those that they have made."""
    inside = [one for layer in layers for one in compat.layers_inside(layer)]
    for layer, flag in zip(inside, train, strict=True):
        layer.trainable = flag
    own = _variables(layers)
    for weight, variable, flag in zip(own, variables, trained, strict=True):
        compat.share_storage(weight, variable)
        weight.trainable = flag


_OURS = FlowBijector, LayeredDistribution
# Python would make copies of TFP's containers without weights, or not at all.
for _base in (tfb.Bijector, tfd.Distribution):
    _base.__reduce__ = _reduce


class _Writer:
    """Writes objects, and a reference for one that was written already."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # Objects must live until the end, or Python would reuse their ids.
        self._alive: list[object] = []

    def write(self, value: object, where: str) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        # A NumPy float64 is a Python float too, but has a dtype to keep.
        if isinstance(value, float) and not isinstance(value, np.generic):
            return value if math.isfinite(value) else {KIND: "float", "is": str(value)}
        if isinstance(value, list | tuple):
            items = [self.write(item, f"{where}[{i}]") for i, item in enumerate(value)]
            if hasattr(value, "_fields"):
                raise _not_covered(value, where, "is a named tuple")
            return items if isinstance(value, list) else {KIND: "tuple", "items": items}
        if isinstance(value, dict):
            items = [
                [self.write(k, where), self.write(v, f"{where}[{k!r}]")]
                for k, v in value.items()
            ]
            ordered = isinstance(value, collections.OrderedDict)
            return {KIND: "ordered_dict" if ordered else "dict", "items": items}
        described = plain(value)
        if described is not None:
            return described
        if id(value) in self._numbers:
            return {KIND: "same", "id": self._numbers[id(value)]}
        description = self._object(value, where)
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return {**description, "id": self._numbers[id(value)]}

    def _object(self, value: object, where: str) -> Config:
        if isinstance(value, tfp.util.TransformedVariable):
            return {
                KIND: "transformed_variable",
                "variable": self.write(value.pretransformed_input, where),
                "bijector": self.write(value.bijector, f"{where}.bijector"),
            }
        if isinstance(value, tf.Variable):
            if value.constraint is not None:
                raise _not_covered(value, where, "has a constraint")
            return {
                KIND: "variable",
                "value": _array(value, where),
                "trainable": value.trainable,
                "name": value.name.split(":")[0].rsplit("/", maxsplit=1)[-1],
            }
        if tf.is_tensor(value) and not isinstance(value, tf.Module):
            return {**_array(value, where), KIND: "tensor"}
        if isinstance(value, keras.layers.Layer):
            return _layer(value, where)
        if inspect.isroutine(value):
            return _function(value, where)
        if inspect.isclass(value):
            raise _not_covered(value, where, "is called to make parts of its own")
        if type(value).__name__ in _COMBINED_KERNELS:
            how = _COMBINED_KERNELS[type(value).__name__]
            kernels = self.write(list(value.kernels), f"{where}.kernels")
            return {KIND: "kernels", "how": how, "kernels": kernels}
        return self._class(value, where)

    def _class(self, value: object, where: str) -> Config:
        cls = type(value)
        if _is_registered(cls):
            config = self._arguments(cls, _registered_config(value, where), where)
            name = keras.saving.get_registered_name(cls)
            found = {KIND: "registered", "class": name, "config": config}
            own = cls.__module__.startswith("tfp_flows.")  # its modules may move
            return found if own else {**found, "module": cls.__module__}
        public = classes.public_name(value)
        if public is None:
            raise _not_registered(value, where)
        obstacle = classes.obstacle(value)
        if obstacle is not None:
            raise _not_covered(value, where, obstacle)
        module, name = public
        constructor = getattr(classes.MODULES[module], name)
        try:
            config = self._arguments(constructor, classes.arguments(value), where)
        except TypeError as error:
            advice = classes.instead(name)
            if not advice:
                raise
            raise TypeError(f"{error} In place of '{name}'{advice}.") from error
        return {KIND: "public", "module": module, "class": name, "config": config}

    def _arguments(self, constructor: type, arguments: Config, where: str) -> Config:
        defaults = classes.defaults(constructor)
        return {
            key: self.write(value, f"{where}.{key}")
            for key, value in arguments.items()
            if not (key in defaults and value is defaults[key]) and key != "parameters"
        }


def _array(value: object, where: str) -> Config:
    if not hasattr(value, "numpy") or not tf.executing_eagerly():
        raise _not_covered(value, where, "is a tensor of a graph under construction")
    described = plain(value.numpy())
    if described is None:
        raise _not_covered(value, where, f"has dtype {value.dtype.name}")
    return described


def _layer(value: keras.Layer, where: str) -> Config:
    return {KIND: "layer", "config": layer_config(value, where)}


def layer_config(value: keras.Layer, where: str) -> Config:
    """Returns Keras's description of a layer that needs no code to be built again."""
    try:
        with compat.lambdas_allowed():
            config: Any = keras.saving.serialize_keras_object(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _not_covered(value, where, f"cannot be saved ({error})") from error
    # A layer that another one makes for itself is not in the file.
    names = set(_named(config))
    for layer in compat.layers_inside(value):
        if layer is not value and layer.name not in names:
            continue
        if not _is_known(type(layer)):
            raise _not_registered(layer, where)
        for key, (_, held) in compat.described(layer).items():
            for one in keras.tree.flatten(held):
                routine = inspect.isroutine(one)
                if not callable(one) or _is_known(one if routine else type(one)):
                    continue
                if not routine:
                    raise _not_registered(one, f"{where}.{key}")
                _function(one, f"{where}.{key}")
    return config


def _named(config: Any) -> Iterator[str]:
    """Yields the names of all layers that a configuration describes."""
    if isinstance(config, dict):
        if isinstance(config.get("name"), str):
            yield config["name"]
        config = list(config.values())
    if isinstance(config, list | tuple):
        for part in config:
            yield from _named(part)


def _is_known(value: Any) -> bool:
    """Whether Keras finds a class or function by its name, without importing it."""
    ours, _, _ = str(value.__module__).partition(".")
    if inspect.isclass(value):
        return ours == "keras" or _is_registered(value)
    # `tf.nn.relu` goes by the name of Keras's own.
    of_keras = ours in ("keras", "tensorflow")
    named = of_keras and hasattr(keras.activations, value.__name__)
    return named or _is_registered(value)


def _function(value: object, where: str) -> Config:
    if _is_registered(value):
        return {KIND: "function", "name": keras.saving.get_registered_name(value)}
    name = getattr(value, "__name__", type(value).__name__)
    what = "a lambda" if name == "<lambda>" else f"'{name}'"
    raise TypeError(
        f"A distribution can be saved only without unregistered functions: {where} "
        f"is {what}. Write it as a bijector or a Keras layer, or as a named "
        f"function with {_REGISTER}."
    )


def _is_registered(value: object) -> bool:
    """Whether Keras finds a class or function under the name that it has there."""
    name = keras.saving.get_registered_name(value)
    return keras.saving.get_registered_object(name) is value


def _registered_config(value: object, where: str) -> Config:
    if hasattr(value, "get_config"):
        return value.get_config()
    if isinstance(getattr(value, "parameters", None), dict):
        return value.parameters
    raise _not_covered(value, where, "has neither `get_config` nor `parameters`")


def _not_registered(value: object, where: str) -> TypeError:
    return TypeError(
        f"A distribution can be saved only if Keras knows its parts: {where} is of the "
        f"unregistered class '{type(value).__name__}'. Put {_REGISTER} on the class "
        "and define `get_config`."
    )


def _not_covered(value: object, where: str, why: str) -> TypeError:
    what = f"the class '{value.__name__}'" if inspect.isclass(value) else ""
    what = what or f"a '{type(value).__name__}'"
    return TypeError(f"A distribution cannot be saved: {where}, {what}, {why}.")


class _Reader:
    """Reads what `_Writer` wrote."""

    def __init__(self) -> None:
        self._objects: dict[int, object] = {}
        self._readers: dict[str, Callable[[Config], object]] = {
            "same": lambda d: self._objects[d["id"]],
            "float": lambda d: float(d["is"]),
            "tuple": lambda d: tuple(self.read(d["items"])),
            "dict": lambda d: dict(self.read(d["items"])),
            "ordered_dict": lambda d: collections.OrderedDict(self.read(d["items"])),
            "array": read_array,
            "tensor": lambda d: tf.constant(read_array(d)),
            "dtype": lambda d: tf.as_dtype(d["name"]),
            "shape": lambda d: tf.TensorShape(d["dims"]),
            "variable": _read_variable,
            "transformed_variable": self._transformed_variable,
            "kernels": self._kernels,
            "layer": lambda d: keras.saving.deserialize_keras_object(d["config"]),
            "function": _read_function,
            "registered": self._registered,
            "public": self._public,
        }

    def read(self, description: Any) -> Any:
        if isinstance(description, list):
            return [self.read(item) for item in description]
        if not isinstance(description, dict):
            return description
        kind = description.get(KIND)
        if kind not in self._readers:
            raise ValueError(
                "The description of a distribution holds a part of unknown kind, "
                f"perhaps from a newer version of tfp_flows. Received: kind={kind!r}"
            )
        value = self._readers[kind](description)
        if "id" in description:
            self._objects[description["id"]] = value
        return value

    def _transformed_variable(self, description: Config) -> object:
        variable = self.read(description["variable"])
        bijector = self.read(description["bijector"])
        made = tfp.util.TransformedVariable(bijector.forward(variable), bijector)
        # Forward and back again, a value loses its last bits.
        made.pretransformed_input.assign(variable)
        return made

    def _kernels(self, description: Config) -> object:
        how = {"sum": operator.add, "product": operator.mul}[description["how"]]
        return functools.reduce(how, self.read(description["kernels"]))

    def _registered(self, description: Config) -> object:
        cls = keras.saving.get_registered_object(description["class"])
        if cls is None:
            raise ValueError(
                f"The saved distribution holds a '{description['class']}', which is "
                f"not registered here: `import {description.get('module', '...')}`, "
                f"the module that defines it with {_REGISTER}, before loading."
            )
        config = {key: self.read(v) for key, v in description["config"].items()}
        try:
            return getattr(cls, "from_config", lambda c: cls(**c))(config)
        except TypeError as error:
            raise TypeError(f"{description['class']}: {error}") from error

    def _public(self, description: Config) -> object:
        name = f"{description['module']}.{description['class']}"
        cls = classes.public_class(description["module"], description["class"])
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


def _read_variable(description: Config) -> tf.Variable:
    # The file's weights replace the value. It must be there before them, for the
    # constructors that compute with it, as that of a full-covariance normal does.
    return tf.Variable(
        read_array(description["value"]),
        trainable=description["trainable"],
        name=description["name"],
    )


def _read_function(description: Config) -> Callable:
    function = keras.saving.get_registered_object(description["name"])
    if function is None:
        raise ValueError(
            f"The saved distribution uses the function '{description['name']}', which "
            "is not registered here: import the module that defines it before loading."
        )
    return function
