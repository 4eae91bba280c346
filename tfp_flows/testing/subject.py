"""The bijector under test with its inputs, in its own dtype and in float64."""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.chain import condition_kwargs
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.tree import bijectors_in, known_dtype, layers_in
from tfp_flows.internal.arguments import Config, invalid
from tfp_flows.internal.compat import nested, tf_variable
from tfp_flows.saving import deserialize, serialize
from tfp_flows.testing.report import message_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

T = TypeVar("T")
# Value and log-det of both directions: `y, fldj, x, ildj`.
Outputs = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]

# Size of the random values that stand in for zero-initialised weights.
_SPREAD = 0.1
_SHORTER = ("float32", "float16", "bfloat16")


def perturb(module: T, spread: float = 0.3, seed: int = 0) -> T:
    """Adds normal noise to the trainable weights of anything; returns that.

    A fresh flow is near the identity, for which every law holds, and behind a last
    layer of zeros no gradient gets through. A list of variables will do, too.
    """
    generator = np.random.default_rng(seed)
    variables: Any = getattr(module, "trainable_variables", module)
    for variable in variables:
        noise = spread * generator.standard_normal(variable.shape)
        variable.assign_add(tf.cast(noise, variable.dtype))
    return module


@contextlib.contextmanager
def float_type(dtype: str) -> Iterator[None]:
    """Makes a float type Keras's own for a while."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


class Subject:
    """A bijector with a batch of its inputs, called without TFP's cache.

    TFP answers `inverse(forward(x))` from memory. Every call here takes a fresh
    copy of its input, so that what is measured is computed.

    Attributes:
        x: Inputs of `forward`, `[n, *event]`; `condition` theirs, or None.
        inputs: `x`, and `condition` where there is one.
        event_ndims: Number of axes of `x` after the first.
        first_weights: Names of the weights that there are before any call.
    """

    def __init__(
        self, bijector: tfb.Bijector, x: ArrayLike, condition: ArrayLike | None = None
    ) -> None:
        ends = "forward_min_event_ndims", "inverse_min_event_ndims"
        least, other = (getattr(bijector, end, None) for end in ends)
        of_parts = tf.nest.is_nested(least) or tf.nest.is_nested(other)
        if not isinstance(bijector, tfb.Bijector) or of_parts:
            must = "be a `tfp.bijectors.Bijector` of one tensor, not of parts"
            raise invalid("bijector", must, bijector, kind=TypeError)
        x = tf.convert_to_tensor(x)
        if x.shape.num_elements() == 0:
            must = "hold at least one input of `forward`"
            raise invalid("x", must, got=f"x of shape {x.shape}")
        self.bijector = bijector
        self.dtype = _float_dtype(bijector, x)
        alone = x.shape.rank == int(least)
        self.inputs = tuple(
            tf.cast(part, self.dtype)[tf.newaxis if alone else ...]
            for part in (x, condition)
            if part is not None
        )
        self.x: tf.Tensor = self.inputs[0]
        self.condition = (*self.inputs, None)[1]
        self.event_ndims = self.x.shape.rank - 1
        self.first_weights = set(self.variables())

    @property
    def tolerance(self) -> float:
        """The largest difference that rounding, or a solver, explains."""
        exact = {tf.float64: 1e-8, tf.float32: 1e-3}.get(self.dtype, 0.1)
        return max(exact, 1e-3) if self.has_part(ContinuousFlow) else exact

    def has_part(self, *kinds: type) -> bool:
        """Says whether the bijector, or one inside it, is of one of some classes."""
        return any(isinstance(part, kinds) for part in bijectors_in(self.bijector))

    def first(self, rows: int) -> Subject:
        """Returns the same bijector with the first rows of its inputs."""
        if rows >= len(self.x):
            return self
        return Subject(self.bijector, *(part[:rows] for part in self.inputs))

    # Both directions, with their log-dets, on fresh tensors.

    def run(
        self,
        direction: str,
        value: tf.Tensor,
        condition: tf.Tensor | None = None,
        log_det: bool = True,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what one direction makes of inputs, and the log-dets or zeros."""
        bijector, keywords = self.bijector, self._keywords(condition)
        ndims = self.event_ndims
        if direction == "inverse":
            ndims = bijector.forward_event_ndims(ndims)
        value = tf.identity(value)
        result = getattr(bijector, direction)(value, **keywords)
        batch = tf.shape(value)[: tf.rank(value) - ndims]
        if not log_det:
            return result, tf.zeros(batch, result.dtype)
        log_det_of = getattr(bijector, f"{direction}_log_det_jacobian")
        return result, tf.broadcast_to(log_det_of(value, ndims, **keywords), batch)

    def there_and_back(
        self, x: tf.Tensor, condition: tf.Tensor | None = None
    ) -> Outputs:
        """Returns `y, fldj` of `x` and then `x, ildj` of that `y`."""
        y, fldj = self.run("forward", x, condition)
        return (y, fldj, *self.run("inverse", y, condition))

    @functools.cached_property
    def expected(self) -> Outputs:
        """`there_and_back` of all inputs, eagerly: what other ways must equal."""
        return self.there_and_back(*self.inputs)

    def input_of(self, direction: str) -> tf.Tensor:
        """Returns the inputs of one direction: `x` or `y`."""
        return self.x if direction == "forward" else self.expected[0]

    @functools.cached_property
    def open_graph(self) -> tf.types.experimental.PolymorphicFunction:
        """`there_and_back` as a graph that is traced for any batch size."""
        specs = [
            tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
            for tensor, name in zip(self.inputs, ("x", "condition"), strict=False)
        ]
        function = tf.function(self.there_and_back, autograph=False)
        function.get_concrete_function(*specs)
        return function

    def _keywords(self, condition: tf.Tensor | None) -> dict[str, tf.Tensor]:
        routed = condition_kwargs(self.bijector, condition)
        if routed or condition is None or isinstance(self.bijector, FlowBijector):
            return routed
        return {"condition": condition}

    # Weights and networks.

    def variables(self, trainable: bool = False) -> dict[str, tf.Variable]:
        """Returns the variables by name, or only those that training may change."""
        layers = layers_in(self.bijector)
        weights = [weight for layer in layers for weight in layer.variables]
        found = {id(tf_variable(w)): (w.path, tf_variable(w)) for w in weights}
        for variable in self.bijector.variables:
            found.setdefault(id(variable), (variable.name, variable))
        if trainable:
            fixed = [w for layer in layers for w in layer.non_trainable_variables]
            fixed = {id(tf_variable(weight)) for weight in fixed}
            found = {
                k: v for k, v in found.items() if k not in fixed and v[1].trainable
            }
        named: dict[str, tf.Variable] = {}
        for name, variable in found.values():
            named[name if name not in named else f"{name} #{len(named)}"] = variable
        return named

    @contextlib.contextmanager
    def off_the_identity(self) -> Iterator[None]:
        """Perturbs weights that are all zero, as in fresh last layers, for a while."""
        weights = self.variables(trainable=True).values()
        zero = [weight for weight in weights if not np.any(weight.numpy())]
        try:
            perturb(zero, _SPREAD)
            yield
        finally:
            for weight in zero:
                weight.assign(tf.zeros_like(weight))

    def networks(self) -> dict[int, tuple[keras.Layer, int]]:
        """Returns each bijector's own Keras layers and how often each is due.

        That is once for each bijector that holds it, in each copy of a repeated step.
        """
        due: dict[int, tuple[keras.Layer, int]] = {}
        for bijector, copies in _parts(self.bijector, 1):
            for layer in nested(bijector, keras.Layer, recursive=False):
                due[id(layer)] = layer, copies + due.get(id(layer), (layer, 0))[1]
        return due

    @functools.cached_property
    def in_double(self) -> tuple[Subject, str]:
        """The same in float64, and a note if there is no such copy.

        It is built from the bijector's description, every float type in it widened.
        """
        try:
            double = _double(self)
            _ = double.expected
        except Exception as error:  # any reason is one to stay in the own float type
            note = f"In {self.dtype.name}: no float64 copy ({message_of(error)})"
            return self, note
        return double, ""


def _parts(bijector: tfb.Bijector, copies: int) -> Iterable[tuple[tfb.Bijector, int]]:
    yield bijector, copies
    for part in nested(bijector, tfb.Bijector, recursive=False):
        yield from _parts(part, copies)
    step = getattr(bijector, "step", None)
    if isinstance(step, tfb.Bijector):
        yield from _parts(step, copies * bijector.n)


def _float_dtype(bijector: tfb.Bijector, x: tf.Tensor) -> tf.DType:
    dtype = known_dtype(bijector)
    if dtype is not None:
        return dtype
    floats = (v.dtype for v in bijector.variables if v.dtype.is_floating)
    own = x.dtype if x.dtype.is_floating else tf.as_dtype(keras.config.floatx())
    return next(floats, own)


# A copy in float64.


def _double(subject: Subject) -> Subject:
    if subject.dtype == tf.float64:
        return subject
    x = tf.cast(subject.x, tf.float64)
    plain = Subject(subject.bijector, x, subject.condition)
    if plain.dtype == tf.float64:
        return plain
    with float_type("float64"):
        copy = deserialize(_widened(serialize(subject.bijector)))
    double = Subject(copy, x, subject.condition)
    if double.dtype != tf.float64:
        raise TypeError(f"{type(copy).__name__} insists on {double.dtype.name}.")
    old, new = subject.variables().values(), double.variables().values()
    if [v.shape for v in old] != [v.shape for v in new]:
        raise TypeError("The copy has other weights than the original.")
    for variable, value in zip(new, old, strict=True):
        variable.assign(tf.cast(value, variable.dtype))
    return double


def _widened(part: Any) -> Any:
    """Widens every float type in the description of a bijector."""
    if isinstance(part, list):
        return [_widened(item) for item in part]
    if not isinstance(part, dict):
        return part
    kind = part.get("kind")
    if kind in ("array", "tensor") and part["dtype"] in _SHORTER:
        dtype = tf.as_dtype(part["dtype"]).as_numpy_dtype
        values = np.frombuffer(base64.b64decode(part["data"]), dtype)
        data = base64.b64encode(values.astype("float64").tobytes()).decode("ascii")
        return {**part, "dtype": "float64", "data": data}
    if part.get("class_name") == "DTypePolicy":  # mixed ones too
        return {**part, "config": {**part["config"], "name": "float64"}}
    if kind == "public":
        part = {**part, "config": _with_tensors(part)}
    types = ("dtype", "name") if kind == "dtype" else ("dtype",)
    return {
        key: "float64" if key in types and value in _SHORTER else _widened(value)
        for key, value in part.items()
    }


def _with_tensors(part: Config) -> Config:
    """Writes plain numbers, which TFP would read as float32, as tensors."""
    try:
        tensors = getattr(tfb, part["class"]).parameter_properties()
    except (AttributeError, NotImplementedError):
        tensors = {}
    config = dict(part["config"])
    for key in set(tensors).intersection(config):
        if _is_numbers(config[key]):
            described = serialize(tf.constant(config[key], tf.float64))
            # Its number among shared parts belongs to a description of its own.
            config[key] = {k: v for k, v in described.items() if k != "id"}
    return config


def _is_numbers(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_numbers, value))
    return isinstance(value, float)
