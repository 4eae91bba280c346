"""`FlowBijector`: a TFP bijector whose weights are Keras weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Condition,
    Config,
    DType,
    Initializer,
    Mapped,
    Shape,
    check_event,
    invalid,
    words,
)
from tfp_flows.nets.conditioner import broadcast_batch

ValueAndLogDet = Mapped


class FlowBijector(tfb.Bijector):
    """Base class of a bijector with Keras weights and one conditioner call.

    A subclass writes two methods, each of which returns a value and the
    logarithm of the absolute Jacobian determinant, summed over the event:

    * `_forward_and_log_det(x, condition=None) -> (y, fldj)`, latent to data,
      with `fldj = log |det dy/dx|`;
    * `_inverse_and_log_det(y, condition=None) -> (x, ildj)`, data to latent,
      with `ildj = log |det dx/dy|`.

    From these the class derives TFP's `forward`, `inverse`,
    `forward_log_det_jacobian` and `inverse_log_det_jacobian`. A value and its
    log-det cost one call together, eagerly and traced, alone and in `tfb.Chain`.

    Weights are made by `self.add_weight(shape)`, or belong to Keras layers that are
    built and stored as attributes. `variables` and `trainable_variables` list them as
    `tf.Variable`s, so plain TFP training loops work too. `get_config`, `from_config`
    and `copy` follow from the arguments of the constructor.

    Shapes: `[..., *event]` with any batch rank, none included. The log-det has
    the batch shape, or is a scalar where the Jacobian is constant. Values and
    log-dets have the dtype of the input.

    Example:
        >>> class Scale(FlowBijector):
        ...     def __init__(self, d, **kwargs):
        ...         super().__init__(event_ndims=1, **kwargs)
        ...         self.s = self.add_weight((d,), name="s")
        ...
        ...     def _forward_and_log_det(self, x):
        ...         return x * tf.exp(self.s), tf.reduce_sum(self.s)
        ...
        ...     def _inverse_and_log_det(self, y):
        ...         return y * tf.exp(-self.s), -tf.reduce_sum(self.s)
        >>> Scale(3).forward([1.0, 2.0, 3.0]).numpy().tolist()
        [1.0, 2.0, 3.0]
    """

    _cache = compat.PairedCache(
        forward_name="_augmented_forward", inverse_name="_augmented_inverse"
    )
    _TF_MODULE_IGNORED_PROPERTIES = compat.ignored_properties(
        tfb.Bijector, "_parameters", "_arguments", "_layers"
    )

    def __new__(cls, *args: Any, **kwargs: Any) -> FlowBijector:
        """Remembers the constructor's arguments, for `get_config`."""
        self = super().__new__(cls)
        # Past `tf.Module`, which would wrap lists and dictionaries.
        object.__setattr__(self, "_arguments", _bound(cls, args, kwargs))
        return self

    def __init__(
        self,
        *,
        event_ndims: int,
        inverse_event_ndims: int | None = None,
        condition_shape: Shape | None = None,
        is_constant_jacobian: bool = False,
        dtype: DType = None,
        validate_args: bool = False,
        parameters: Config | None = None,
        name: str | None = None,
    ) -> None:
        """Initializes the TFP side of the bijector.

        Args:
            event_ndims: Number of trailing axes on which the bijector acts.
            inverse_event_ndims: The same on the data's side; defaults to `event_ndims`.
            condition_shape: Shape of one condition, for a conditional bijector.
            is_constant_jacobian: Whether the log-det is the same for all inputs.
            parameters: Not needed: the constructor's arguments are known. Classes of
                before may still give theirs, as `dict(locals())`, which go before.
        """
        dtype = tf.as_dtype(dtype or keras.config.floatx())
        if not dtype.is_floating:
            raise invalid("dtype", "be a floating point type", dtype.name)
        own = self._arguments | {
            name: value
            for name, value in (parameters or {}).items()
            if name != "self" and not name.startswith("__")
        }
        if "dtype" in own:
            # A copy or a loaded bijector must not depend on Keras's default then.
            own["dtype"] = dtype.name
        inverse = event_ndims if inverse_event_ndims is None else inverse_event_ndims
        super().__init__(
            forward_min_event_ndims=event_ndims,
            inverse_min_event_ndims=inverse,
            is_constant_jacobian=is_constant_jacobian,
            validate_args=validate_args,
            dtype=dtype,
            parameters=own,
            name=name or _snake_case(type(self).__name__),
        )
        self._condition_shape = None if condition_shape is None else (*condition_shape,)
        self._layers: dict[str, keras.Layer] = compat.untracked(self, {})

    # Class name of the layer that holds the weights, by which files find them.
    _WEIGHTS: str | None = None

    # What a subclass writes, or may write.

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        raise NotImplementedError(
            f"{type(self).__name__} lacks `_forward_and_log_det`."
        )

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        raise NotImplementedError(
            f"{type(self).__name__} lacks `_inverse_and_log_det`."
        )

    @property
    def condition_shape(self) -> Shape | None:
        """Shape of one condition, or None where the bijector takes none."""
        return self._condition_shape

    @property
    def children(self) -> list[tfb.Bijector]:
        """The bijectors that it holds itself, from the data's side."""
        return compat.nested(self, tfb.Bijector, recursive=False)

    @property
    def adapted_flags(self) -> list[keras.Variable]:
        """Integer weights of its own that are nonzero once `adapt` has set it."""
        return []

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Initializes data-dependent weights from a batch `[n, *event]` of data.

        Returns the latents under the new weights; most bijectors have nothing to
        initialize and only pass the data on.
        """
        return self.inverse_and_log_det(y, condition)[0]

    @property
    def is_adapted(self) -> bool:
        """Whether no weight waits for `adapt`, in the bijector or in those inside."""
        return is_adapted(self)

    def forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        """Returns `y = f(x)` and `log |det dy/dx|` over the event.

        A bijector without condition passes over what is meant for others.
        """
        x = tf.convert_to_tensor(x, dtype_hint=self.dtype)
        result = self._forward_and_log_det(x, **self._condition_kwargs(condition))
        return self._reported(*result)

    def inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        """Returns `x = f^-1(y)` and `log |det dx/dy|` over the event."""
        y = tf.convert_to_tensor(y, dtype_hint=self.dtype)
        result = self._inverse_and_log_det(y, **self._condition_kwargs(condition))
        return self._reported(*result)

    def _condition_kwargs(self, condition: Condition) -> Config:
        if self.condition_shape is None:
            return {}
        if condition is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' needs a `condition` of shape "
                f"[{words(('...', *self.condition_shape))}]. Pass one, or "
                "bind it with `tfpf.condition(flow, c)`. Received: condition=None"
            )
        return {"condition": condition}

    def _over_condition(
        self, x: tf.Tensor, ndims: int, condition: Condition
    ) -> tf.Tensor:
        """Gives `x` the condition's batch axes, so that all parts have them."""
        if condition is None or self.condition_shape is None:
            return x
        condition = tf.convert_to_tensor(condition)
        return broadcast_batch(x, ndims, condition, len(self.condition_shape))[0]

    def _check_shape(self, x: tf.Tensor, event: Shape) -> None:
        check_event(x, event, f"{type(self).__name__} '{self.name}'", "value")

    def _reported(self, value: tf.Tensor, log_det: tf.Tensor) -> Mapped:
        """Checks a result, if asked to, and shows it to the watchers."""
        if self.validate_args:
            message = f"{type(self).__name__} '{self.name}' returned a non-finite"
            value = tf.debugging.assert_all_finite(value, f"{message} value.")
            log_det = tf.debugging.assert_all_finite(log_det, f"{message} log-det.")
        return watched(self, value, log_det)

    def _augmented_forward(self, x: tf.Tensor, condition: Condition = None) -> tuple:
        self._refuse_unused(condition)
        y, fldj = self.forward_and_log_det(x, condition)
        return y, {"fldj": fldj, "ildj": -fldj}

    def _augmented_inverse(self, y: tf.Tensor, condition: Condition = None) -> tuple:
        self._refuse_unused(condition)
        x, ildj = self.inverse_and_log_det(y, condition)
        return x, {"ildj": ildj, "fldj": -ildj}

    def _refuse_unused(self, condition: Condition) -> None:
        if condition is not None and self.condition_shape is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' takes no `condition`; build it "
                "with `condition_shape` to make it conditional. "
                f"Received: condition={condition!r}"
            )

    def _forward(self, x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        return self._augmented_forward(x, **kwargs)[0]

    def _inverse(self, y: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        return self._augmented_inverse(y, **kwargs)[0]

    def _forward_log_det_jacobian(self, x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        # `y` holds the cache entry alive until its log-det has been read.
        y = self._cache.forward(x, **kwargs)
        fldj = self._cache.forward_attributes(x, **kwargs)["fldj"]
        del y
        return fldj

    def _inverse_log_det_jacobian(self, y: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        x = self._cache.inverse(y, **kwargs)
        ildj = self._cache.inverse_attributes(y, **kwargs)["ildj"]
        del x
        return ildj

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict:
        return {}

    def _batch_shape(self, x_event_ndims: int) -> tf.TensorShape:
        return tf.TensorShape([])

    def _batch_shape_tensor(self, x_event_ndims: int) -> tf.Tensor:
        return tf.constant([], tf.int32)

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
        self._list_variables()
        return weight

    def __setattr__(self, name: str, value: object) -> None:
        """Lists the weights of a Keras layer that becomes an attribute."""
        super().__setattr__(name, value)
        if isinstance(value, keras.Layer):
            if not value.built:
                raise ValueError(
                    f"Attribute `{name}` of {type(self).__name__} must be a built "
                    "layer, so that its weights are known: call "
                    f"`layer.build(shape)` first. Received: {value!r}"
                )
            self._layers[name] = value
            self._list_variables()

    def _list_variables(self) -> None:
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
    def from_config(cls, config: Config) -> FlowBijector:
        """Builds the bijector that `get_config` described, with fresh weights."""
        return cls(**config)

    def copy(self, **override_parameters_kwargs: Any) -> FlowBijector:
        """Returns a copy that shares this bijector's weights, some arguments replaced.

        With any but `name` and `validate_args`, its layers are made afresh.
        """
        copied = super().copy(**override_parameters_kwargs)
        if set(override_parameters_kwargs) <= {"name", "validate_args"}:
            for name, value in list(vars(self).items()):
                if isinstance(value, keras.Layer | keras.Variable | Transform):
                    setattr(copied, name, value)
        return copied


def is_adapted(part: tf.Module) -> bool:
    """Returns whether no weight in a bijector or distribution waits for a batch."""
    parts = [part, *compat.nested(part, FlowBijector)]
    flags = (flag for one in parts for flag in getattr(one, "adapted_flags", ()))
    return all(np.all(keras.ops.convert_to_numpy(flag)) for flag in flags)


# Called with each bijector that runs, its value and its log-det.
WATCHERS: list[Callable[[tfb.Bijector, tf.Tensor, tf.Tensor], None]] = []


def watched(bijector: tfb.Bijector, value: tf.Tensor, log_det: tf.Tensor) -> Mapped:
    """Shows a result to the watchers."""
    for watcher in WATCHERS:
        watcher(bijector, value, log_det)
    return value, log_det


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


def _bound(cls: type, args: tuple, kwargs: Config) -> Config:
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


def _snake_case(name: str) -> str:
    # "LeakyReLU" is two words: capitals in a row belong together.
    return "_".join(re.findall(r"[A-Z]*[a-z0-9]+[A-Z]*$|[A-Z]+[a-z0-9]*", name)).lower()
