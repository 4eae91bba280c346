"""`PriorNet`: mean and log-scale of leaving channels, given a condition too."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.nets.conditioner import Conditioner, Shape
from tfp_flows.nets.convnet import _block_of
from tfp_flows.nets.zero_conv import ZeroConv2D


@keras.saving.register_keras_serializable(package="tfp_flows")
class PriorNet(Conditioner):
    """Glow's prior between levels, `ZeroConv2D`, with a condition.

        output = zero_conv(h) + W c        for a condition that is a vector
        output = zero_conv(h, c)           for one that is an image

    Images may be larger than `h` by a whole factor, as in `ConvNet`. Kernel and `W`
    start at zero, so that the prior starts as a standard normal.

    With n input and m output channels it has `9 n m + 2 m` weights, and `k m` more for
    a condition of k values or k channels times 9.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.
    """

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolution and the projection of the condition."""
        channels, outputs = input_shape[-1], output_shape[-1]
        self._block = _block_of(condition_shape, input_shape)
        self._project = None
        if self._block:
            channels += condition_shape[-1] * self._block**2
        elif condition_shape:
            self._project = keras.layers.Dense(
                outputs,
                use_bias=False,
                kernel_initializer="zeros",
                dtype=self.dtype_policy,
            )
            self._project.build((None, *condition_shape))
        self._conv = ZeroConv2D(outputs, 3, dtype=self.dtype_policy)
        self._conv.build((None, *input_shape[:-1], channels))

    def call(self, inputs: Any, condition: Any = None) -> Any:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        condition = keras.ops.cast(condition, inputs.dtype)
        if self._project is not None:
            return self._conv(inputs) + self._project(condition)[:, None, None, :]
        if self._block > 1:
            condition = tf.nn.space_to_depth(condition, self._block)
        return self._conv(keras.ops.concatenate([inputs, condition], axis=-1))
