"""Checks of arguments, one for each kind, with one form of error.

    Argument `steps` must be an integer of at least 1. Received: steps=0

Every check returns the value that it has passed, in the type that the caller needs.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeGuard, TypeVar

import keras
import numpy as np
import tensorflow as tf

Shape = tuple[int, ...]
# What TensorFlow makes a tensor of, and structures of arrays with equally many rows.
TensorLike = tf.Tensor | np.ndarray | Sequence | float
Arrays = Any
# The conditions of a batch; None where there are none.
Condition = tf.Tensor | None
# A value, and the logarithm of the absolute Jacobian determinant at it; of a transform
# values, and the logarithms of the absolute derivatives.
Mapped = tuple[tf.Tensor, tf.Tensor]
# None stands for Keras's default, for no activation, and for a fresh draw.
DType = str | tf.DType | None
Activation = str | Callable | None
Initializer = str | Callable | TensorLike | None
Seed = int | Sequence[int] | tf.Tensor | None
# The arguments of a constructor by their names.
Config = dict[str, Any]
Choice, Kind = TypeVar("Choice"), TypeVar("Kind")


class Described:
    """A value that its constructor's arguments, attributes of equal names, describe."""

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls: type[Kind], config: Config) -> Kind:
        """Builds the value that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        """Shows the constructor's call."""
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class DescribedLayer(keras.Layer):
    """A Keras layer that is described like a `Described` value."""

    def _own_config(self) -> Config:
        """Returns the arguments of all constructors but Keras's."""
        classes = type(self).__mro__
        own = [c.__init__ for c in classes[: classes.index(DescribedLayer)]]
        names = {name for init in own for name in inspect.signature(init).parameters}
        known = inspect.signature(keras.Layer.__init__).parameters.keys()
        return {name: getattr(self, name) for name in names - known - {"kwargs"}}

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self._own_config()}


def float_dtype(dtype: DType = None) -> tf.DType:
    """Returns a dtype, and for None Keras's default: its policy's if that is wider."""
    if dtype is not None:
        return tf.as_dtype(dtype)
    wide = keras.config.dtype_policy().variable_dtype == "float64"
    return tf.float64 if wide else tf.as_dtype(keras.config.floatx())


def invalid(
    name: str,
    must: str,
    value: object = None,
    kind: type = ValueError,
    got: str | None = None,
) -> Exception:
    """Returns the error "Argument `name` must `must`. Received: ..." to be raised.

    What was received is said by `got`, or else by the name and the value.
    """
    if got is None:
        large = hasattr(value, "shape") and len(repr(value)) > 80
        got = f" of shape {tuple(value.shape)}" if large else f"={value!r}"
        got = f"{name}{got}"
    return kind(f"Argument `{name}` must {must}. Received: {got}")


_NOT_DENSE = (
    tf.RaggedTensor,
    tf.SparseTensor,
    tf.RaggedTensorSpec,
    tf.SparseTensorSpec,
)


def check_dense(array: object, name: str) -> None:
    """Refuses an array, a tensor or its description of anything but real numbers."""
    dtype = getattr(array, "dtype", None)
    dtype = tf.as_dtype(dtype) if isinstance(dtype, str) else dtype  # Keras's tensors
    known = dtype if isinstance(dtype, tf.DType) else getattr(dtype, "kind", "O")
    # NumPy's kinds of objects, words, times and complex numbers.
    wrong = known in (*"OSUMmc", tf.string, tf.complex64, tf.complex128)
    wrong = wrong or bool(getattr(dtype, "names", None))  # of a structured array
    if wrong or isinstance(array, _NOT_DENSE):
        found = f"{type(array).__name__} of {getattr(dtype, 'name', 'objects')}"
        raise invalid(name, "be a dense array of real numbers", found)


def is_integer(value: object) -> TypeGuard[int]:
    """Returns whether a value is a whole number, NumPy's included, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def checked_integer(name: str, value: object, minimum: int = 1) -> int:
    """Returns `value` if it is an integer of at least `minimum`."""
    if not is_integer(value) or value < minimum:
        raise invalid(name, f"be an integer of at least {minimum}", value)
    return int(value)


def checked_widths(name: str, values: Sequence[int]) -> Shape:
    """Returns a sequence of positive integers, such as the widths of layers."""
    try:
        checked = tuple(values)
    except TypeError:
        checked = ()
    if not checked or not all(is_integer(n) and n > 0 for n in checked):
        raise invalid(
            name, "be a sequence of positive integers, such as (128, 128)", values
        )
    return tuple(int(n) for n in checked)


def checked_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """Returns `value` as a float if it is a finite real number within its limits."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    limits = (
        (above, "above", lambda v, limit: v > limit),
        (minimum, "at least", lambda v, limit: v >= limit),
        (below, "below", lambda v, limit: v < limit),
        (maximum, "at most", lambda v, limit: v <= limit),
    )
    used = [(limit, word, holds) for limit, word, holds in limits if limit is not None]
    if (
        not real
        or not math.isfinite(value)
        or not all(holds(value, limit) for limit, _, holds in used)
    ):
        words = " and ".join(f"{word} {limit:g}" for limit, word, _ in used)
        raise invalid(name, f"be a finite number {words}".rstrip(), value)
    return float(value)


def checked_choice(name: str, value: Choice, choices: Collection[Choice]) -> Choice:
    """Returns `value` if it is one of the names that an argument can have."""
    # Unhashable values are not in a dictionary of choices, and must not break it.
    if value not in tuple(choices):
        listed = ", ".join(map(repr, choices))
        raise invalid(name, f"be one of {listed}", value)
    return value


def checked_instance(name: str, value: object, kind: type[Kind], words: str) -> Kind:
    """Returns `value` if it is of class `kind`, described by `words`."""
    if not isinstance(value, kind):
        raise TypeError(
            f"Argument `{name}` must be {words}. "
            f"Received: {name}={value!r} of type {type(value).__name__}"
        )
    return value


def checked_shape(name: str, value: int | Sequence[int], minimum: int = 1) -> Shape:
    """Returns the shape of one data point as a tuple of positive integers.

    An integer stands for a vector; `minimum` is the smallest number of values in all.
    """
    try:
        sizes = (value,) if is_integer(value) else tuple(value)
    except TypeError:
        sizes = ()
    good = bool(sizes) and all(is_integer(n) and n > 0 for n in sizes)
    if not good or math.prod(sizes) < minimum:
        raise invalid(
            name,
            f"be the shape of one data point with at least {minimum} "
            f"value{'s' if minimum > 1 else ''}, such as (2,) or (8, 8, 1)",
            value,
        )
    return tuple(int(n) for n in sizes)


def words(sizes: Sequence[object]) -> str:
    """Writes a shape without its brackets, as in "8, 8, 1"."""
    return ", ".join(map(str, sizes))


def has_event(x: tf.Tensor, event: Sequence[int]) -> bool:
    """Returns whether the last axes of a tensor can be those of an event."""
    known = tf.TensorShape(x.shape)
    if known.rank is None:
        return True
    start = known.rank - len(event)
    return start >= 0 and known[start:].is_compatible_with(tuple(event))


def check_event(
    x: tf.Tensor, event: Sequence[int], owner: str, name: str = "x"
) -> None:
    """Refuses a tensor whose last axes are not the event that `owner` has."""
    if not has_event(x, event):
        raise ValueError(
            f"Argument `{name}` must have shape [{words(('...', *event))}], as {owner} "
            f"has. Received: {name} of shape {tf.TensorShape(x.shape)}"
        )


def with_rank(x: tf.Tensor, event: Sequence[int], name: str) -> tf.Tensor:
    """Returns a batch `[n, *event]` with the shape that a relaxed trace forgot."""
    if tf.TensorShape(x.shape).rank is not None:
        return x
    sizes, ndims = tf.shape(x), len(event) + 1
    good = tf.cond(
        tf.equal(tf.size(sizes), ndims),
        lambda: tf.reduce_all(tf.equal(sizes[1:], tf.constant(event, sizes.dtype))),
        lambda: tf.constant(False),
    )
    must = f"Argument `{name}` must have shape [{words(('batch', *event))}]"
    with tf.control_dependencies([tf.debugging.Assert(good, [must])]):
        return tf.ensure_shape(x, (None, *event))


def check_no_trace(owner: object) -> None:
    """Refuses to make weights while a function is traced, which would be lost then."""
    if tf.inside_function():
        raise RuntimeError(
            f"{type(owner).__name__} must be built before a function is traced, since "
            "each trace would have weights of its own: build the flow outside of "
            "`tf.function`, of a model's `call` and of a joint distribution's function."
        )


def check_last_axis(owner: object, x: tf.Tensor, channels: int) -> None:
    """Refuses an input of a bijector whose last axis has another size."""
    if not has_event(x, (channels,)):
        raise ValueError(
            f"{type(owner).__name__} '{owner.name}' expected {channels} channels on "
            f"the last axis. Received: input of shape {x.shape}"
        )


def case_of(general: Callable, *fixed: str) -> Callable[[Callable], Callable]:
    """Shows, in a function that passes `**options` on, what `general` takes of them.

    All keyword arguments of `general` but the `fixed` ones and those of the function's
    own stand in its signature, for `help`, editors and the command line.
    """

    def decorate(function: Callable) -> Callable:
        own = list(inspect.signature(function).parameters.values())[:-1]
        taken = {parameter.name for parameter in own} | set(fixed)
        more = inspect.signature(general).parameters.values()
        own += [p for p in more if p.kind is p.KEYWORD_ONLY and p.name not in taken]
        returned = inspect.signature(general).return_annotation
        function.__signature__ = inspect.Signature(  # pyright: ignore
            own, return_annotation=returned
        )
        return function

    return decorate


def renamed(**names: str) -> Callable[[Callable], Callable]:
    """Makes a function take keyword arguments under names that they once had, too.

    `names` has today's for each old one; the result knows them as its `renamed`.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(
                        f"Arguments `{names[old]}` and `{old}` must not both be given: "
                        f"they are one. Received: {old}={kwargs[old]!r}"
                    )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        called.renamed = names  # pyright: ignore[reportFunctionMemberAccess]
        return called

    return decorate


def bound_arguments(cls: type, args: tuple, kwargs: Config) -> Config:
    """Returns the arguments of a constructor's call by their names."""
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:  # the constructor itself says what is wrong
        return {}
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            others = arguments.pop(parameter.name)
            arguments |= {"dtype": None, "validate_args": False, "name": None, **others}
    return arguments
