"""`VelocityNet`: the vector field of a continuous flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Activation,
    Config,
    Initializer,
    checked_choice,
    checked_widths,
    invalid,
)
from tfp_flows.nets.conditioner import Conditioner, Shape, ops, size
from tfp_flows.nets.dense import built, cast, hidden_initializers

STYLES = ("concat", "concatsquash")


class TimedLayer(keras.Layer):
    """A dense or convolutional layer that also sees the context `u = (t, c)`.

        concat:        y = x W + b + u S
        concatsquash:  y = (x W + b) * sigmoid(u G + g) + u S

    "concat" is what a layer of `concatenate([x, u])` computes, written without the
    concatenation; over images the context is the same at every pixel.
    """

    def __init__(
        self, linear: keras.Layer, context: int, units: int, gated: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._linear = linear
        self._shift = self._dense(context, units, use_bias=False)
        self._gate = self._dense(context, units, use_bias=True) if gated else None
        self.built = True

    def _dense(self, inputs: int, units: int, use_bias: bool) -> keras.layers.Dense:
        dense = keras.layers.Dense(units, use_bias=use_bias, dtype=self.dtype_policy)
        return built(dense, inputs)

    def call(self, x: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        """Maps `x` of `[n, ..., inputs]` and `context` of `[n or 1, context]`."""
        y = self._linear(x)
        if self._gate is not None:
            y = y * _at_every_pixel(ops.sigmoid(self._gate(context)), y)
        return y + _at_every_pixel(self._shift(context), y)


@keras.saving.register_keras_serializable(package="tfp_flows")
class VelocityNet(Conditioner):
    """A network `f(t, x)` for `dx/dt = f(t, x)`, called as `net(x, t, condition)`.

    Every layer sees the time `t`, and the condition where there is one, in one of
    FFJORD's two ways:

    * `"concat"`: as further inputs of the layer;
    * `"concatsquash"`: as a gate and a shift of the layer's outputs.

    With `kernel_size` the layers are convolutions over images `(h, w, c)`, otherwise
    dense over flattened events. The activation has to be smooth: the log-det is the
    integral of a derivative. The flow starts as the identity.

    Reference: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud: FFJORD, 2018,
    arXiv:1810.01367.

    Example:
        >>> net = VelocityNet((16,))
        >>> net.connect(input_shape=(2,), output_shape=(2,))
        >>> net.count_params()  # (2 + 1 + 1) 16 + (16 + 1 + 1) 2
        100
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        style: str = "concat",
        kernel_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            activation: Smooth Keras activation after each hidden layer.
            kernel_size: Side of the convolutions' kernels; None for dense layers.
        """
        super().__init__(**kwargs)
        self.hidden_units = checked_widths("hidden_units", hidden_units)
        self.activation = keras.activations.get(activation)
        self.style = checked_choice("style", style, STYLES)
        self.kernel_size = kernel_size

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for the given shapes."""
        if self.kernel_size is not None and len(input_shape) != 3:
            must = "be None for events that are not images (h, w, c)"
            got = f"kernel_size={self.kernel_size} for events of shape {input_shape}"
            raise invalid("kernel_size", must, got=got)
        conditions = size(condition_shape)
        context = 1 + conditions
        dense = self.kernel_size is None
        width = size(input_shape) if dense else input_shape[-1]
        last = size(output_shape) if dense else output_shape[-1]
        values, self._timed = self._seen(width) + conditions, []
        for units in (*self.hidden_units, last):
            final = len(self._timed) == len(self.hidden_units)
            start: Config = {"kernel_initializer": "zeros"}
            if not final:
                start = hidden_initializers(self._seen(width), values)
            shape = () if dense else input_shape[:-1]
            linear = built(self._linear(units, **start), *shape, width)
            layer = TimedLayer(
                linear,
                context,
                units,
                self.style == "concatsquash",
                dtype=self.dtype_policy,
            )
            if final:
                kernel: Any = layer._shift.kernel
                kernel.assign(ops.zeros_like(kernel))
            self._timed.append(layer)
            width = units

    def _seen(self, width: int) -> int:
        """Returns how many inputs each output of a layer of this width has."""
        return width * (self.kernel_size or 1) ** 2

    def _linear(self, units: int, **initializers: Initializer) -> keras.Layer:
        arguments = {"dtype": self.dtype_policy, **initializers}
        if self.kernel_size is None:
            return keras.layers.Dense(units, **arguments)
        return keras.layers.Conv2D(units, self.kernel_size, padding="same", **arguments)

    def call(
        self, inputs: tf.Tensor, time: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns the velocities of `[n, *event]` at `time`, a scalar or `[n]`."""
        h = inputs
        if self.kernel_size is None and len(h.shape) != 2:
            h = ops.reshape(h, (-1, size(inputs.shape[1:])))
        context = ops.reshape(ops.cast(time, h.dtype), (-1, 1))
        if condition is not None:
            context = self._joined(context, condition, ops.shape(h)[0])
        for layer in self._timed[:-1]:
            h = self.activation(layer(h, context))
        h = self._timed[-1](h, context)
        if h.shape[1:] == inputs.shape[1:]:
            return h
        return ops.reshape(h, (-1, *inputs.shape[1:]))

    def _joined(
        self, time: tf.Tensor, condition: tf.Tensor, n: int | tf.Tensor
    ) -> tf.Tensor:
        values = cast(condition, time.dtype)
        flat = ops.reshape(values, (-1, size(values.shape[1:])))
        times = ops.broadcast_to(time, (n, 1))
        return ops.concatenate([times, flat], axis=-1)


def _at_every_pixel(context: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    if len(y.shape) == 2:
        return context
    return ops.expand_dims(context, (1, 2))
