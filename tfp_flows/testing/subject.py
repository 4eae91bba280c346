"""The bijector under test, in its own dtype and in float64."""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.bijectors.tree import known_dtype, layers_in
from tfp_flows.saving import deserialize, serialize

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


# Size of the random values that stand in for zero-initialised weights.
_SPREAD = 0.1


class Subject:
    """A bijector with a batch of its inputs, called without TFP's cache.

    TFP answers `inverse(forward(x))` from memory. Every call here takes a fresh
    copy of its input, so that what is measured is computed.

    Attributes:
        bijector: The bijector.
        x: Inputs of `forward`, `[n, *event]`, in the bijector's dtype.
        condition: Conditions `[n, *condition_event]`, or None.
        event_ndims: Number of axes of `x` after the first.
    """

    def __init__(self, bijector: tfb.Bijector, x: Any, condition: Any = None) -> None:
        """Brings inputs and conditions into the bijector's shape and dtype.

        Args:
            bijector: Any TFP bijector from one tensor to one tensor.
            x: Inputs of `forward`, `[n, *event]`, or one event.
            condition: Conditions of those inputs, or None.

        Raises:
            TypeError: If `bijector` is none, or its parts are not single tensors.
            ValueError: If `x` is empty.
        """
        if not isinstance(bijector, tfb.Bijector):
            raise TypeError(
                "Argument `bijector` must be a `tfp.bijectors.Bijector`. "
                f"Received: {bijector!r} of type {type(bijector).__name__}"
            )
        least = bijector.forward_min_event_ndims
        parts = least, bijector.inverse_min_event_ndims
        if any(map(tf.nest.is_nested, parts)):
            raise TypeError(
                "Argument `bijector` must map one tensor to one tensor. "
                f"Received: a bijector of parts, {bijector!r}"
            )
        self.bijector = bijector
        x = tf.convert_to_tensor(x)
        x = tf.cast(x, _float_dtype(bijector, x))
        alone = x.shape.rank == int(least)
        self.x = x[tf.newaxis] if alone else x
        self.condition = condition
        if condition is not None:
            condition = tf.cast(condition, self.x.dtype)
            self.condition = condition[tf.newaxis] if alone else condition
        self.event_ndims = self.x.shape.rank - 1
        if self.x.shape.num_elements() == 0:
            raise ValueError(
                "Argument `x` must hold at least one input of `forward`. "
                f"Received: x of shape {x.shape}"
            )

    @property
    def dtype(self) -> tf.DType:
        """Float type of the inputs."""
        return self.x.dtype

    def first(self, rows: int) -> Subject:
        """Returns the same bijector with the first rows of its inputs."""
        condition = None if self.condition is None else self.condition[:rows]
        return Subject(self.bijector, self.x[:rows], condition)

    # The four methods, paired, on fresh tensors.

    def forward(
        self, x: tf.Tensor, condition: Any = None, log_det: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f(x)` and `log |det df/dx|` with the batch shape of `x`."""
        x, keywords = tf.identity(x), self._keywords(condition)
        y = self.bijector.forward(x, **keywords)
        batch = tf.shape(x)[: tf.rank(x) - self.event_ndims]
        if not log_det:
            return y, tf.zeros(batch, y.dtype)
        fldj = self.bijector.forward_log_det_jacobian(x, self.event_ndims, **keywords)
        return y, tf.broadcast_to(fldj, batch)

    def inverse(
        self, y: tf.Tensor, condition: Any = None, log_det: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `f^-1(y)` and `log |det df^-1/dy|` with the batch shape of `y`."""
        y, keywords = tf.identity(y), self._keywords(condition)
        event_ndims = self.bijector.forward_event_ndims(self.event_ndims)
        x = self.bijector.inverse(y, **keywords)
        batch = tf.shape(y)[: tf.rank(y) - event_ndims]
        if not log_det:
            return x, tf.zeros(batch, x.dtype)
        ildj = self.bijector.inverse_log_det_jacobian(y, event_ndims, **keywords)
        return x, tf.broadcast_to(ildj, batch)

    def there_and_back(self, x: tf.Tensor, condition: Any = None) -> tuple:
        """Returns `y, fldj` of `x` and then `x, ildj` of that `y`."""
        y, fldj = self.forward(x, condition)
        return (y, fldj, *self.inverse(y, condition))

    @functools.cached_property
    def expected(self) -> tuple:
        """`there_and_back` of all inputs, eagerly: what other ways must equal."""
        return self.there_and_back(self.x, self.condition)

    @functools.cached_property
    def open_graph(self) -> Any:
        """`there_and_back` as a graph that is traced for any batch size."""
        tensors = [self.x] if self.condition is None else [self.x, self.condition]
        specs = [
            tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
            for tensor, name in zip(tensors, ("x", "condition"), strict=False)
        ]
        function = tf.function(self.there_and_back, autograph=False)
        function.get_concrete_function(*specs)
        return function

    def _keywords(self, condition: Any) -> dict[str, Any]:
        routed = condition_kwargs(self.bijector, condition)
        if routed or condition is None or isinstance(self.bijector, FlowBijector):
            return routed
        return {"condition": condition}

    # Weights and networks.

    def variables(self) -> dict[str, tf.Variable]:
        """Returns every variable by name, those of Keras layers included."""
        found: dict[int, tuple[str, tf.Variable]] = {}
        for layer in layers_in(self.bijector):
            for weight in layer.variables:
                found[id(weight.value)] = weight.path, weight.value
        for variable in self.bijector.variables:
            found.setdefault(id(variable), (variable.name, variable))
        counted: dict[str, tf.Variable] = {}
        for name, variable in found.values():
            counted[name if name not in counted else f"{name} #{len(counted)}"] = (
                variable
            )
        return counted

    def trainable_variables(self) -> dict[str, tf.Variable]:
        """Returns every variable that training may change, by name."""
        frozen = {
            id(weight.value)
            for layer in layers_in(self.bijector)
            for weight in layer.non_trainable_variables
        }
        return {
            name: variable
            for name, variable in self.variables().items()
            if variable.trainable and id(variable) not in frozen
        }

    @contextlib.contextmanager
    def off_the_identity(self) -> Iterator[None]:
        """Gives weights that are all zero small random values for a while.

        Zero-initialised last layers make a flow the identity, for which every law
        holds and most gradients vanish. Trained weights are left as they are.
        """
        held = {
            name: (variable, variable.numpy())
            for name, variable in self.trainable_variables().items()
            if not np.any(variable.numpy())
        }
        generator = np.random.default_rng(0)
        try:
            for variable, value in held.values():
                noise = _SPREAD * generator.standard_normal(value.shape)
                variable.assign(noise.astype(value.dtype))
            yield
        finally:
            for variable, value in held.values():
                variable.assign(value)

    def networks(self) -> dict[int, tuple[keras.Layer, int]]:
        """Returns each bijector's own Keras layers and how often each is due.

        A layer is due once for each bijector that holds it, and once for each copy
        of a repeated step.
        """
        due: dict[int, tuple[keras.Layer, int]] = {}
        for bijector, copies in _parts(self.bijector, 1):
            for leaf in bijector._flatten(recursive=False):
                if isinstance(leaf, keras.Layer):
                    due[id(leaf)] = leaf, copies + due.get(id(leaf), (leaf, 0))[1]
        return due


def _parts(bijector: tfb.Bijector, copies: int) -> Iterator[tuple[tfb.Bijector, int]]:
    yield bijector, copies
    for leaf in bijector._flatten(recursive=False):
        if isinstance(leaf, tfb.Bijector):
            yield from _parts(leaf, copies)
    step = getattr(bijector, "step", None)
    if isinstance(step, tfb.Bijector):
        yield from _parts(step, copies * bijector.n)


def _float_dtype(bijector: tfb.Bijector, x: tf.Tensor) -> tf.DType:
    dtype = known_dtype(bijector)
    if dtype is not None:
        return dtype
    for variable in bijector.variables:
        if variable.dtype.is_floating:
            return variable.dtype
    return x.dtype if x.dtype.is_floating else tf.as_dtype(keras.config.floatx())
