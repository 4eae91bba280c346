"""`SavedObject`: any distribution or bijector as something that Keras can save."""

from __future__ import annotations

from typing import Any

import keras

from tfp_flows.bijectors.nested import nested_layers
from tfp_flows.training import serialization
from tfp_flows.training.adopted import AdoptedVariables, raw_variables


@keras.saving.register_keras_serializable(package="tfp_flows")
class SavedObject(keras.Model):
    """A Keras model that holds a distribution or bijector, and only keeps it.

    `FlowModel` trains distributions of one tensor of known shape. This holds the
    rest on its way to a file and back: joint distributions, distributions whose
    shape is not static, and bijectors without a base.
    """

    def __init__(self, content: Any, **kwargs: Any) -> None:
        """Adopts every weight of `content`.

        Args:
            content: A TFP distribution or bijector.
            **kwargs: Passed on to `keras.Model`, such as `name`.
        """
        super().__init__(autocast=False, **kwargs)
        self._content = _Kept(content)
        layers = nested_layers(content)
        self._content_layers = layers
        self._adopted = AdoptedVariables(raw_variables(content, layers), name="adopted")
        self.built = True

    @property
    def content(self) -> Any:
        """The distribution or bijector."""
        return self._content.value

    def get_config(self) -> dict[str, Any]:
        """Describes the content."""
        return {"content": serialization.serialize(self.content), "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> SavedObject:
        """Builds the model that `get_config` described, with fresh weights."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            content = serialization.deserialize(config["content"])
        return cls(content, name=config["name"])


class _Kept:
    """Keeps Keras from wrapping the content's own lists and dictionaries."""

    def __init__(self, value: Any) -> None:
        self.value = value
