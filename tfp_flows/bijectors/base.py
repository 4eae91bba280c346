"""`FlowBijector`: a TFP bijector whose weights live in Keras 3 layers."""

from __future__ import annotations

import re
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.compat import PairedCache
from tfp_flows.nets.conditioner import keras_variables

tfb = tfp.bijectors


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

    Every weight belongs to a Keras layer that is built in the constructor and
    kept as an attribute through `_own`. `variables` and `trainable_variables`
    list those weights as `tf.Variable`s, so plain TFP training loops work too.

    The constructor of a subclass begins with `parameters = dict(locals())` and
    hands that on; `get_config`, `from_config` and `copy` follow from it.

    Shapes: `[..., *event]` with any batch rank, none included. The log-det has
    the batch shape, or is a scalar where the Jacobian is constant. Values and
    log-dets have the dtype of the input.
    """

    _cache = PairedCache(
        forward_name="_augmented_forward", inverse_name="_augmented_inverse"
    )
    _TF_MODULE_IGNORED_PROPERTIES = tfb.Bijector._TF_MODULE_IGNORED_PROPERTIES.union(
        ("_parameters", "_owned")
    )

    def __init__(
        self,
        *,
        event_ndims: int,
        inverse_event_ndims: int | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        is_constant_jacobian: bool = False,
        parameters: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """Initializes the TFP side of the bijector.

        Args:
            event_ndims: Number of trailing axes on which the bijector acts.
            inverse_event_ndims: The same on the data's side; defaults to
                `event_ndims`.
            dtype: Float type of the inputs and weights. Defaults to
                `keras.config.floatx()`.
            validate_args: Whether to check at run time that outputs are finite.
            is_constant_jacobian: Whether the log-det is the same for all inputs.
            parameters: The constructor's arguments, `dict(locals())`.
            name: Name of the bijector; TFP routes conditions by it.
        """
        dtype = tf.as_dtype(dtype or keras.config.floatx())
        if not dtype.is_floating:
            raise ValueError(
                "Argument `dtype` must be a floating point type. "
                f"Received: dtype={dtype.name}"
            )
        super().__init__(
            forward_min_event_ndims=event_ndims,
            inverse_min_event_ndims=(
                event_ndims if inverse_event_ndims is None else inverse_event_ndims
            ),
            is_constant_jacobian=is_constant_jacobian,
            validate_args=validate_args,
            dtype=dtype,
            parameters=_constructor_arguments(parameters or {}, dtype),
            name=name or _snake_case(type(self).__name__),
        )
        self._owned: dict[str, keras.Layer] = self._no_dependency({})

    # What a subclass writes.

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        raise NotImplementedError(
            f"{type(self).__name__} does not define `_forward_and_log_det`."
        )

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        raise NotImplementedError(
            f"{type(self).__name__} does not define `_inverse_and_log_det`."
        )

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition, or None where the bijector takes none."""
        return None

    def adapt(self, y: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """Initializes data-dependent weights from a batch; returns the latents.

        Args:
            y: A batch of data as it reaches this bijector, `[n, *event]`.
            condition: The conditions of that batch, where there are any.

        Returns:
            `inverse(y)` under the new weights. Most bijectors have nothing to
            initialize and only pass the data on.
        """
        return self._inverse_and_log_det(y, **given(self, condition))[0]

    @property
    def is_adapted(self) -> bool:
        """Whether nothing waits for `adapt`."""
        return True

    # Ownership of weights.

    def _own(self, name: str, layer: keras.Layer) -> keras.Layer:
        """Keeps a built Keras layer as attribute `name` and lists its weights."""
        if not isinstance(layer, keras.Layer):
            raise TypeError(
                f"Argument `{name.strip('_')}` of {type(self).__name__} must be a "
                f"`keras.Layer`. Received: {layer!r} of type {type(layer).__name__}"
            )
        self._owned[name] = layer
        setattr(self, name, layer)
        # `tf.train.Checkpoint` does not look into the lists of layers that Keras keeps.
        for index, variable in enumerate(keras_variables(layer)):
            self._track_trackable(
                variable._value, f"{name.strip('_')}_{index}", overwrite=True
            )
        variables = [keras_variables(owned) for owned in self._owned.values()]
        self._tf_variables = self._no_dependency(
            [variable._value for group in variables for variable in group]
        )
        return layer

    # TFP's methods, derived.

    def _augmented_forward(
        self, x: tf.Tensor, **kwargs: Any
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        y, fldj = self._forward_and_log_det(x, **self._checked(kwargs))
        y, fldj = self._validated(y, fldj)
        return y, {"fldj": fldj, "ildj": -fldj}

    def _augmented_inverse(
        self, y: tf.Tensor, **kwargs: Any
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        x, ildj = self._inverse_and_log_det(y, **self._checked(kwargs))
        x, ildj = self._validated(x, ildj)
        return x, {"ildj": ildj, "fldj": -ildj}

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

    def _checked(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Refuses a condition that nobody uses and a missing one."""
        condition = kwargs.get("condition")
        if condition is None and self.condition_shape is not None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' needs a `condition` of shape "
                f"[..., {', '.join(map(str, self.condition_shape))}]. Pass one, or "
                "bind it with `tfpf.condition(flow, c)`. Received: condition=None"
            )
        if condition is not None and self.condition_shape is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' takes no `condition`; build it "
                "with `condition_shape` to make it conditional. "
                f"Received: condition={condition!r}"
            )
        return given(self, condition)

    def _validated(
        self, value: tf.Tensor, log_det: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self.validate_args:
            return value, log_det
        message = f"{type(self).__name__} '{self.name}' returned a non-finite"
        return (
            tf.debugging.assert_all_finite(value, f"{message} value."),
            tf.debugging.assert_all_finite(log_det, f"{message} log-det."),
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict:
        return {}

    def _batch_shape(self, x_event_ndims: Any) -> tf.TensorShape:
        return tf.TensorShape([])

    def _batch_shape_tensor(self, x_event_ndims: Any) -> tf.Tensor:
        return tf.constant([], tf.int32)

    # Identity, configuration and copies.

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def get_config(self) -> dict[str, Any]:
        """Returns exactly the constructor's arguments."""
        return dict(self.parameters)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FlowBijector:
        """Builds the bijector that `get_config` described, with fresh weights."""
        return cls(**config)

    def copy(self, **override_parameters_kwargs: Any) -> FlowBijector:
        """Returns a copy that shares this bijector's weights.

        Args:
            **override_parameters_kwargs: Constructor arguments to replace. With
                any but `name` and `validate_args`, layers that the constructor
                makes are made afresh.

        Returns:
            A bijector of the same class.
        """
        copied = super().copy(**override_parameters_kwargs)
        if set(override_parameters_kwargs) <= {"name", "validate_args"}:
            for name, layer in self._owned.items():
                copied._own(name, layer)
        return copied


def given(bijector: tfb.Bijector, condition: Any) -> dict[str, Any]:
    """Returns the keyword arguments that carry `condition` to one of our bijectors."""
    takes_none = getattr(bijector, "condition_shape", None) is None
    return {} if condition is None or takes_none else {"condition": condition}


def _constructor_arguments(
    parameters: dict[str, Any], dtype: tf.DType
) -> dict[str, Any]:
    """Drops what is no argument, and says the dtype that a default stood for.

    A copy or a loaded bijector must not depend on Keras's default at that time.
    """
    arguments = {
        key: value
        for key, value in parameters.items()
        if not key.startswith("__") and key != "self"
    }
    if "dtype" in arguments:
        arguments["dtype"] = dtype.name
    return arguments


def _snake_case(name: str) -> str:
    # "LeakyReLU" is two words: capitals in a row belong together.
    words = re.findall(r"[A-Z]*[a-z0-9]+[A-Z]*$|[A-Z]+[a-z0-9]*", name)
    return "_".join(words).lower()
