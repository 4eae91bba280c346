"""`LayeredDistribution`: a distribution made of another one and of Keras layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import bound_arguments
from tfp_flows.internal.compat import nested, tf_variables


class LayeredDistribution(tfd.Distribution):
    """Base class: shapes, dtype and configuration of a distribution around another."""

    # Old names of the constructor's arguments, for files that have them.
    renamed: Mapping[str, str] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> LayeredDistribution:
        """Remembers the constructor's arguments, for `get_config`."""
        self = super().__new__(cls)
        # Until `__init__`: `tf.Module` would look for weights in it.
        vars(self)["_arguments"] = bound_arguments(cls, args, kwargs)
        return self

    def __init__(
        self,
        inner: tfd.Distribution,
        *,
        layers: Iterable[keras.Layer] = (),
        event_shape: tf.TensorShape | None = None,
    ) -> None:
        """Takes dtype, batch shape and, for None, event shape over from `inner`.

        The weights of `layers` are shown to plain TFP loops too; `event_shape` is
        needed if it is not that of `inner`.
        """
        parameters = vars(self).pop("_arguments")
        super().__init__(
            dtype=inner.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=parameters["validate_args"],
            allow_nan_stats=True,
            parameters=parameters,
            name=parameters["name"],
        )
        self._inner = inner
        self._weights = tf_variables(layers)
        self._shape = inner.event_shape if event_shape is None else event_shape

    def list_variables(self) -> None:
        """Makes TensorFlow see the weights that the layers have now."""
        self._weights = tf_variables(nested(self, keras.Layer, recursive=False))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dict(self.parameters)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayeredDistribution:
        """Builds the distribution that `get_config` described."""
        return cls(
            **{cls.renamed.get(key, key): value for key, value in config.items()}
        )

    def __getitem__(self, slices: Any) -> tfd.Distribution:
        """Refuses: what TFP slices are parameters with batch axes."""
        raise NotImplementedError(
            f"A batch of {type(self).__name__} has no slices: slice the condition or "
            "the parameters that it is made of"
        )

    def _event_shape(self) -> tf.TensorShape:
        return self._shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._shape.as_list(), tf.int32)

    def _batch_shape(self) -> tf.TensorShape:
        return self._inner.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._inner.batch_shape_tensor()
