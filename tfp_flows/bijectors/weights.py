"""`WeightedBijector`: what a bijector holds, and how it is described and copied."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Config,
    DType,
    Initializer,
    Shape,
    bound_arguments,
    check_no_trace,
    float_dtype,
    invalid,
)

_SHARED = keras.Layer, keras.Variable, Transform

# The `dtype` of bijectors around others without one, such as TFP's permutations.
OF_INPUT = "of input"

Starts = list[tuple[keras.Variable, np.ndarray]]


class WeightedBijector(tfb.Bijector):
    """A TFP bijector with Keras weights, which its constructor's arguments describe.

    Weights are made by `self.add_weight(shape)`, or belong to Keras layers that are
    built and stored as attributes. `variables` and `trainable_variables` list them as
    `tf.Variable`s, so plain TFP training loops work too.
    """

    _TF_MODULE_IGNORED_PROPERTIES = compat.ignored_properties(
        tfb.Bijector, "_parameters", "_arguments", "_layers"
    )
    # Class name of the layer that holds the weights, by which files find them.
    _WEIGHTS: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> WeightedBijector:
        """Remembers the constructor's arguments, for `get_config`."""
        self = super().__new__(cls)
        # Past `tf.Module`, which would wrap lists and dictionaries.
        object.__setattr__(self, "_arguments", bound_arguments(cls, args, kwargs))
        return self

    def __init__(
        self,
        *,
        dtype: DType = None,
        parameters: Config | None = None,
        name: str | None = None,
        **tfp: Any,
    ) -> None:
        """Initializes the TFP side of the bijector, with its arguments `tfp`.

        The constructor's arguments are known; classes of before may still give theirs
        as `parameters=dict(locals())`, which go before.
        """
        known = None if dtype == OF_INPUT else _checked_dtype(dtype)
        own = self._arguments | {
            name: value
            for name, value in (parameters or {}).items()
            if name != "self" and not name.startswith("__")
        }
        if known is not None and "dtype" in own:
            # A copy or a loaded bijector must not depend on Keras's default then.
            own["dtype"] = known.name
        name = name or _snake_case(type(self).__name__)
        super().__init__(dtype=known, parameters=own, name=name, **tfp)
        self._layers: dict[str, keras.Layer] = compat.untracked(self, {})

    @property
    def children(self) -> list[tfb.Bijector]:
        """The bijectors that it holds itself, from the data's side."""
        return compat.nested(self, tfb.Bijector, recursive=False)

    @property
    def set_from_data(self) -> list[tuple[keras.Variable, Starts]]:
        """Integer weights that are nonzero once `adapt` has set others.

        Each comes with those others that train, and the values that they began with.
        """
        return []

    @property
    def is_adapted(self) -> bool:
        """Whether no weight waits for `adapt`, in the bijector or in those inside."""
        return is_adapted(self)

    def add_weight(
        self,
        shape: Shape = (),
        initializer: Initializer = "zeros",
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: DType = None,
        **kwargs: Any,
    ) -> keras.Variable:
        """Makes a Keras weight, which mixed precision never rounds.

        The initializer may be an array. TensorFlow takes the weight like a tensor.
        """
        check_no_trace(self)
        if "_weights" not in self._layers:
            holder = self._WEIGHTS or f"{type(self).__name__}Weights"
            self._weights = type(holder, (Weights,), {})(dtype=self.dtype.name)
        start: Any = initializer
        if not isinstance(start, str) and not callable(start):
            start = keras.initializers.Constant(start)
        weight = self._weights.add_weight(
            tuple(shape),
            start,
            name=name,
            trainable=trainable,
            dtype=dtype and tf.as_dtype(dtype).name,
            autocast=False,
            **kwargs,
        )
        self.list_variables()
        return weight

    def __setattr__(self, name: str, value: object) -> None:
        """Lists the weights of Keras layers in what becomes an attribute."""
        super().__setattr__(name, value)
        parts = [value]
        if isinstance(value, (list, tuple, dict)):
            parts = tf.nest.flatten(value)
        layers = [part for part in parts if isinstance(part, keras.Layer)]
        for layer in layers:
            if not layer.built:
                raise ValueError(
                    f"Attribute `{name}` of {type(self).__name__} must be a built "
                    "layer, so that its weights are known: call "
                    f"`layer.build(shape)` first. Received: {layer!r}"
                )
        if layers:
            self.list_variables()

    def list_variables(self) -> None:
        """Makes TensorFlow see the weights that the layers have now."""
        found = compat.named_layers(self)
        for name in [name for name in self._layers if name not in found]:
            del self._layers[name]
        self._layers.update(found)
        # `tf.train.Checkpoint` does not look into the lists of layers that Keras keeps.
        for name, layer in self._layers.items():
            for index, variable in enumerate(layer.variables):
                compat.follow_trainable(variable)
                compat.track_variable(self, variable, f"{name.strip('_')}_{index}")
        self._tf_variables = compat.untracked(
            self, compat.tf_variables(self._layers.values())
        )

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def get_config(self) -> Config:
        """Returns exactly the constructor's arguments."""
        return dict(self.parameters)

    @classmethod
    def from_config(cls, config: Config) -> WeightedBijector:
        """Builds the bijector that `get_config` described, with fresh weights."""
        return cls(**config)

    def copy(self, **override_parameters_kwargs: Any) -> WeightedBijector:
        """Returns a copy that shares this bijector's weights, some arguments replaced.

        With any but `name` and `validate_args`, its layers are made afresh.
        """
        copied = super().copy(**override_parameters_kwargs)
        if set(override_parameters_kwargs) <= {"name", "validate_args"}:
            for name, value in list(vars(self).items()):
                parts = tf.nest.flatten(value) if isinstance(value, list) else [value]
                if any(isinstance(part, _SHARED) for part in parts):
                    setattr(copied, name, value)
        return copied

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict:
        """Tells TFP which arguments have batch axes: bijectors inside, by `component`.

        TFP works out the batch shape by it, and slices a batch.
        """
        return {}


def component(
    event_ndims: Callable[[Any, int], Any] = lambda _, x_event_ndims: x_event_ndims,
) -> tfp.util.BatchedComponentProperties:
    """Returns the properties of an argument that is a bijector, or more of them.

    `event_ndims(self, x_event_ndims)` is the rank of the events that it is given, the
    same by default.
    """
    return tfp.util.BatchedComponentProperties(event_ndims=event_ndims)


def is_adapted(part: tf.Module) -> bool:
    """Returns whether no weight in a bijector or distribution waits for a batch."""
    flags = (flag for flag, _ in _set_from_data(part))
    return all(np.all(keras.ops.convert_to_numpy(flag)) for flag in flags)


def keep_moved(part: tf.Module) -> None:
    """Counts as adapted what a loop of one's own, or an assignment, has moved."""
    for flag, starts in _set_from_data(part):
        known = keras.ops.convert_to_numpy(flag)
        adapted = known.copy()
        for weight, start in starts:
            moved = keras.ops.convert_to_numpy(weight) != start
            adapted |= moved.reshape(*adapted.shape, -1).any(-1)
        if np.any(adapted != known):
            flag.assign(adapted)


def _set_from_data(part: tf.Module) -> list[tuple[keras.Variable, Starts]]:
    parts = [part, *compat.nested(part, WeightedBijector)]
    return [each for one in parts for each in getattr(one, "set_from_data", ())]


class Weights(keras.Layer):
    """The layer that holds what `FlowBijector.add_weight` makes."""

    # Whether another layer reads it from older files, and has to from this one.
    may_be_missing = missing = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.built = True

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads the weights from a file."""
        self.missing = self.may_be_missing and not store.keys()
        if not self.missing:
            super().load_own_variables(store)


def _checked_dtype(dtype: DType) -> tf.DType:
    """Returns the float type asked for, Keras's default where it is None.

    Log-densities in 16 bits would have two digits.
    """
    asked = float_dtype() if dtype is None else dtype
    with contextlib.suppress(TypeError):
        if (known := tf.as_dtype(asked)) in (tf.float32, tf.float64):
            return known
    must = (
        "be float32 or float64; for networks in 16 bits build the flow inside of "
        "`with tfpf.network_precision('mixed_bfloat16')`"
    )
    raise invalid("dtype", must, got=str(getattr(asked, "name", asked)))


def _snake_case(name: str) -> str:
    # "LeakyReLU" is two words: capitals in a row belong together.
    return "_".join(re.findall(r"[A-Z]*[a-z0-9]+[A-Z]*$|[A-Z]+[a-z0-9]*", name)).lower()
