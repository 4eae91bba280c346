"""`Conditioner`: the contract between a bijector and the network inside it."""

from __future__ import annotations

import inspect
import math
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Config,
    Shape,
    check_no_trace,
    checked_instance,
    invalid,
    words,
)
from tfp_flows.internal.compat import constructor_arguments, layers_inside

# Keras types a tensor as that of any of its backends.
ops: Any = keras.ops
_SERIALIZERS = {
    "activation": keras.activations.serialize,
    "kernel_initializer": keras.initializers.serialize,
}


class Conditioner(keras.Layer):
    """Base class of a network that maps identity values to a bijector's parameters.

    The user gives it width, depth and activation, the bijector that holds it its
    input and output shapes, through `connect`.

    A subclass writes `build_network(input_shape, output_shape, condition_shape)`,
    which makes and builds its layers, and `call(inputs, condition=None)`. By
    custom its last layer starts at zero, so that a flow starts near the identity.
    A configuration is read from attributes that are called as the arguments are.
    Other keyword arguments of constructors go to `keras.Layer`: `dtype`, `name`.

    Shapes: `inputs` is `[batch, *input_shape]`, `condition` is
    `[batch, *condition_shape]`, the result `[batch, *output_shape]`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._connection: dict[str, Shape | None] | None = None

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes and builds the layers for shapes without the batch axis."""
        raise NotImplementedError(f"{type(self).__name__} lacks `build_network`.")

    def connect(
        self,
        input_shape: Shape,
        output_shape: Shape,
        condition_shape: Shape | None = None,
    ) -> None:
        """Fixes the shapes, without batch axes, and makes the weights."""
        connection = {
            "input_shape": tuple(input_shape),
            "output_shape": tuple(output_shape),
            "condition_shape": condition_shape and tuple(condition_shape),
        }
        if self._connection is None:
            self._connection = connection
            self.build((None, *input_shape))
        elif self._connection != connection:
            raise ValueError(
                f"Argument `conditioner` must be a network of its own or one of "
                f"equal shapes: '{self.name}' is connected already with "
                f"{self._connection}. Received: {connection}"
            )

    def build(self, input_shape: Shape) -> None:
        """Builds the network once `connect` has said what it must produce."""
        check_no_trace(self)
        self.build_network(**self._connected(input_shape))

    def _connected(self, input_shape: Shape) -> dict[str, Any]:
        if self._connection is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' must be given to a bijector, or "
                "connected with `connect(input_shape, output_shape)`, before it is "
                f"called. Received: input of shape {tuple(input_shape)}"
            )
        return self._connection

    def get_config(self) -> Config:
        """Returns the constructor's arguments, from attributes of their names."""
        own = {
            name: _SERIALIZERS.get(name, lambda value: value)(getattr(self, name))
            for name in inspect.signature(type(self).__init__).parameters
            if hasattr(self, name)
        }
        return {**constructor_arguments(self), **own, **super().get_config()}

    def get_build_config(self) -> Config | None:
        """Returns the shapes given to `connect`, and the layers with LoRA weights."""
        adapted = [
            [place, layer.lora_rank, layer.lora_alpha]
            for place, layer in enumerate(layers_inside(self))
            if getattr(layer, "lora_enabled", False)
        ]
        return {**self._connection, "lora": adapted} if adapted else self._connection

    def build_from_config(self, config: Config) -> None:
        """Connects the network as it was when it was saved."""
        shapes = {key: shape for key, shape in config.items() if key != "lora"}
        self.connect(**{key: shape and tuple(shape) for key, shape in shapes.items()})
        layers: list[Any] = layers_inside(self)
        for place, rank, alpha in config.get("lora", ()):
            if not layers[place].lora_enabled:
                layers[place].enable_lora(rank, lora_alpha=alpha)

    def compute_output_shape(self, input_shape: Shape, *_: object) -> Shape:
        """Returns the batch axis followed by the connected output shape."""
        return (input_shape[0], *self._connected(input_shape)["output_shape"])

    def dense(self, units: int, *inputs: int | None, **options: Any) -> Any:
        """Returns a dense layer, built for inputs `[batch, *inputs]`."""
        layer = keras.layers.Dense(units, dtype=self.dtype_policy, **options)
        layer.build((None, *inputs))
        return layer

    def unflattened(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns outputs `[batch, values]` in the connected output shape."""
        shape = self._connected(outputs.shape)["output_shape"]
        return outputs if len(shape) == 1 else ops.reshape(outputs, (-1, *shape))


def connect(
    layer: keras.Layer,
    input_shape: Shape,
    output_shape: Shape,
    condition_shape: Shape | None = None,
) -> None:
    """Builds a conditioner, or a Keras layer whose output fits, for a bijector.

    Shapes are without the batch axis, `condition_shape` None where there is none.
    """
    kind = "a `keras.Layer`, such as `tfpf.nets.MLP(hidden_units=(128, 128))`"
    checked_instance("conditioner", layer, keras.Layer, kind)
    if isinstance(layer, Conditioner):
        layer.connect(input_shape, output_shape, condition_shape)
        return
    if not layer.built:
        layer.build((None, *input_shape))
    probe = keras.KerasTensor((1, *input_shape), dtype=layer.compute_dtype)
    keywords = {}
    if condition_shape is not None:
        keywords["condition"] = keras.KerasTensor((1, *condition_shape))
    shape = tuple(ops.shape(layer(probe, **keywords)))[1:]
    if shape != tuple(output_shape):
        must = f"map [batch, {words(input_shape)}] to [batch, {words(output_shape)}]"
        got = f"'{layer.name}', which returns [batch, {words(shape)}]"
        raise invalid("conditioner", must, got=got)


def wide_gain(width: int, usual: int) -> float:
    """Returns the gain that a zero-initialized head of so many inputs starts with.

    A step of Adam moves each weight by its rate, so the output of a head moves by the
    rate times its inputs: above the `usual` number of them `usual / width` keeps a
    flow's first steps as small as a narrower one's.
    """
    return min(1.0, usual / width)


def size(shape: Shape | None) -> int:
    """Returns the number of values in a shape; 0 for no shape."""
    return 0 if shape is None else math.prod(shape)
