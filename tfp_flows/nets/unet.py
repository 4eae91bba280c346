"""`UNet`: velocities of images at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import Activation, invalid
from tfp_flows.nets.conditioner import Shape, ops, size
from tfp_flows.nets.dense import built
from tfp_flows.nets.velocity import TimedLayer, VelocityNet


@keras.saving.register_keras_serializable(package="tfp_flows")
class UNet(VelocityNet):
    """A velocity of images that goes down to coarser ones and comes up again.

        down:  h_k = f(conv(pool(h_{k-1})))      pool: means of 2x2 pixels
        up:    u_k = f(conv([h_k, double(u_{k+1})]))
        velocity = conv(u_1), zero at the start

    Every convolution sees the time, and the condition where there is one, as those of
    `VelocityNet` do. One of `channels` for each resolution: a pixel sees as far as the
    coarsest convolutions reach, for a quarter of the work at each level.

    Shapes: `[n, h, w, c]` to the same; `2^(len(channels) - 1)` divides h and w.

    Reference: Ronneberger, Fischer, Brox: U-Net, 2015, arXiv:1505.04597. Lipman et al.:
    Flow Matching for Generative Modeling, 2022, arXiv:2210.02747.

    Example:
        >>> net = UNet((8, 16))
        >>> net.connect(input_shape=(4, 4, 1), output_shape=(4, 4, 1))
        >>> net(ops.zeros([2, 4, 4, 1]), time=0.5).shape
        TensorShape([2, 4, 4, 1])
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 64),
        activation: Activation = "silu",
        style: str = "concatsquash",
        kernel_size: int = 3,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            channels: Channels at each resolution, finest first.
            activation: Smooth Keras activation f.
            style: How convolutions see the time: see `VelocityNet`.
        """
        super().__init__(channels, activation, style, kernel_size, **kwargs)
        self.channels = self.hidden_units

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolutions for images of the given shape."""
        deepest = 2 ** (len(self.channels) - 1)
        if (
            len(input_shape) != 3
            or input_shape[0] % deepest
            or input_shape[1] % deepest
        ):
            must = f"be (h, w, c) with sides that {deepest} divides"
            raise invalid("event_shape", must, input_shape)
        self._context = 1 + size(condition_shape)
        widths = (input_shape[-1], *self.channels)
        self._down = [
            self._conv(n, m) for n, m in zip(widths[:-1], widths[1:], strict=True)
        ]
        self._up = [
            self._conv(n + m, n) for n, m in zip(widths[1:-1], widths[2:], strict=True)
        ]
        self._last = self._conv(widths[1], output_shape[-1], final=True)

    def _conv(self, inputs: int, units: int, final: bool = False) -> TimedLayer:
        start = {"kernel_initializer": "zeros"} if final else {}
        linear = built(self._linear(units, **start), None, None, inputs)
        gated = self.style == "concatsquash"
        layer = TimedLayer(linear, self._context, units, gated, dtype=self.dtype_policy)
        if final:
            kernel: Any = layer._shift.kernel
            kernel.assign(ops.zeros_like(kernel))
        return layer

    def call(
        self, inputs: tf.Tensor, time: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns the velocities of `[n, h, w, c]` at `time`, a scalar or `[n]`."""
        f = self.activation
        context = ops.reshape(ops.cast(time, inputs.dtype), (-1, 1))
        if condition is not None:
            context = self._joined(context, condition, ops.shape(inputs)[0])
        h = f(self._down[0](inputs, context))
        levels = [h]
        for conv in self._down[1:]:
            h = f(conv(ops.average_pool(h, 2), context))
            levels.append(h)
        for conv, level in zip(self._up[::-1], levels[-2::-1], strict=True):
            h = ops.repeat(ops.repeat(h, 2, axis=1), 2, axis=2)
            h = f(conv(ops.concatenate([level, h], axis=-1), context))
        return self._last(h, context)
