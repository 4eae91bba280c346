"""Classes and values that a file may name."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import Config
from tfp_flows.internal.compat import nested, tf_variables

KIND = "kind"


def plain(value: object) -> Config | None:
    """Describes an array, a dtype or a shape; returns None for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        # What TensorFlow has no type for, such as Python objects, is not for a file.
        if array.dtype.hasobject or array.dtype.kind in "SUMm":
            return None
        data = base64.b64encode(array.tobytes()).decode("ascii")
        shape = list(array.shape)
        return {KIND: "array", "dtype": array.dtype.name, "shape": shape, "data": data}
    if isinstance(value, tf.DType):
        return {KIND: "dtype", "name": value.name}
    if isinstance(value, tf.TensorShape):
        return {
            KIND: "shape",
            "dims": value.as_list() if value.rank is not None else None,
        }
    return None


def read_array(description: Config) -> np.ndarray:
    """Returns the array that `plain` described."""
    dtype = tf.as_dtype(description["dtype"]).as_numpy_dtype
    data = np.frombuffer(base64.b64decode(description["data"]), dtype)
    return data.reshape(description["shape"]).copy()


# Where public classes are looked up by name; nothing else is ever imported.
MODULES = {
    "tfp.bijectors": tfp.bijectors,
    "tfp.distributions": tfp.distributions,
    "tfp.math.psd_kernels": tfp.math.psd_kernels,
    "tf.linalg": tf.linalg,
}

# Public classes that only others derive from.
_ABSTRACT = (
    "AutoCompositeTensorBijector",
    "AutoCompositeTensorDistribution",
    "AutoCompositeTensorPsdKernel",
    "Bijector",
    "Composition",
    "Distribution",
    "JointDistribution",
    "LinearOperator",
    "PositiveSemidefiniteKernel",
)

_INSTEAD = {
    "BatchNormalization": "use `tfpf.BatchNorm`",
    "Glow": "carry it over with `tfpf.from_tfp`",
    "MaskedAutoregressiveFlow": "use `tfpf.MaskedAutoregressive`",
    "RealNVP": "carry it over with `tfpf.from_tfp`",
}


def public_name(value: object) -> tuple[str, str] | None:
    """Returns module and name under which TFP or TensorFlow publish a class.

    TFP's private siblings, such as `_Chain`, go by the public name. A class derived
    from a public one elsewhere does not, whatever it is called.
    """
    cls = type(value)
    name = cls.__name__.lstrip("_")
    for module, namespace in MODULES.items():
        public = getattr(namespace, name, None)
        if (
            inspect.isclass(public)
            and (cls is public or _is_sibling(cls, public))
            and isinstance(getattr(value, "parameters", None), dict)
        ):
            return module, name
    return None


def arguments(value: object) -> Config:
    """Returns the constructor's arguments of an object of a public class."""
    recovered = _RECOVERED.get(type(value).__name__)
    return value.parameters if recovered is None else recovered(value)


def _is_sibling(cls: type, public: type) -> bool:
    ours = cls.__module__.startswith(("tensorflow_probability.", "tensorflow."))
    return ours and (issubclass(cls, public) or issubclass(public, cls))


def _lambert_w_tail(value: object) -> Config:
    """TFP keeps the parts that it is a chain of as its parameters."""
    names = ("shift", "scale", "tailweight")
    tensors = {name: getattr(value, f"_{name}") for name in names}
    return {**tensors, "validate_args": value.validate_args, "name": value.name}


def _zero_inflated(value: object) -> Config:
    """TFP keeps all local names of its constructor as its parameters."""
    stored = value.parameters
    names = ("inflated_loc_logits", "inflated_loc_probs", "name")
    arguments = {**stored.get("kwargs", {}), **{name: stored[name] for name in names}}
    # The class says this one itself.
    arguments.pop("require_integer_total_count", None)
    return arguments


_RECOVERED: dict[str, Callable[[object], Config]] = {
    "LambertWTail": _lambert_w_tail,
    "ZeroInflatedNegativeBinomial": _zero_inflated,
}


def public_class(module: str, name: str) -> type | None:
    """Returns the class that `public_name` named, or None if there is none."""
    found = getattr(MODULES.get(module), name, None)
    return found if inspect.isclass(found) else None


def obstacle(value: object) -> str | None:
    """Says why an object of a public class cannot be built anew, or returns None."""
    name = type(value).__name__
    if name in _ABSTRACT:
        return "is of an abstract class, which only others derive from"
    if isinstance(value, tf.Module) and any(map(_is_tf_keras, nested(value, object))):
        return "holds a layer of tf_keras, which Keras 3 does not save" + instead(name)
    unknown = _unknown_arguments(value)
    if unknown:
        return f"does not take its own arguments {sorted(unknown)}" + instead(name)
    if _own_variables(value):
        return "makes weights of its own, which are not among its arguments" + instead(
            name
        )
    return None


def instead(name: str) -> str:
    """Returns what to use in place of a class, if anything."""
    advice = _INSTEAD.get(name.lstrip("_"))
    return "" if advice is None else f": {advice}"


def defaults(constructor: type) -> Config:
    """Returns the default values of a class's constructor."""
    parameters = inspect.signature(constructor.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _unknown_arguments(value: object) -> set[str]:
    """Returns the arguments that the constructor would refuse."""
    parameters = inspect.signature(type(value).__init__).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return set()
    return set(arguments(value)) - {p.name for p in parameters} - {"parameters"}


def _is_tf_keras(part: object) -> bool:
    return any(cls.__module__.startswith("tf_keras.") for cls in type(part).__mro__)


def _own_variables(value: object) -> bool:
    if not isinstance(value, tf.Module):
        return False
    own = {id(variable) for variable in _variables(arguments(value))}
    return any(id(variable) not in own for variable in value.variables)


def _variables(argument: object) -> Iterator[tf.Variable]:
    """Yields the variables inside a constructor's argument."""
    if isinstance(argument, dict):
        argument = list(argument.values())
    if isinstance(argument, list | tuple):
        for item in argument:
            yield from _variables(item)
    elif isinstance(argument, tf.Variable):
        yield argument
    elif isinstance(argument, keras.Layer):
        yield from tf_variables([argument])
    elif isinstance(argument, tf.Module):
        yield from argument.variables
