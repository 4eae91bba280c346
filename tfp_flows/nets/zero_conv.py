"""`ZeroConv2D`: a convolution that starts at zero and can grow fast."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.nets.narrow_conv import WIDEST, narrow_conv

# The published code's factor: a log-gain learns 3 times as fast as a plain weight.
_FACTOR = 3.0


@keras.saving.register_keras_serializable(package="tfp_flows")
class ZeroConv2D(keras.Layer):
    """Convolution with zero kernel and bias and a learned gain for each channel.

        output = (kernel * inputs + bias) exp(3 logs)

    It ends Glow's conditioners, so that couplings start near the identity, and on
    its own is Glow's prior of the channels that leave after a level: mean and
    log-scale from the channels that stay.

    With kernel size k, n input and m output channels it has `k^2 n m + 2 m` weights.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`, zero-padded at the borders.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039, section 3.3.
    """

    def __init__(self, filters: int, kernel_size: int = 3, **kwargs: Any) -> None:
        """Configures the convolution.

        Args:
            filters: Number of output channels m.
            kernel_size: Side k of the kernel.
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.
        """
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size

    def build(self, input_shape: Any) -> None:
        """Makes kernel, bias and log-gain."""
        kernel = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(kernel, "zeros", name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        self.logs = self.add_weight((self.filters,), "zeros", name="logs")

    def call(self, inputs: Any) -> Any:
        """Maps `[batch, h, w, n]` to `[batch, h, w, filters]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        if self.filters <= WIDEST and None not in inputs.shape[1:]:
            outputs = narrow_conv(inputs, kernel)
        else:
            outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME")
        return (outputs + self.bias) * keras.ops.exp(_FACTOR * self.logs)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"filters": self.filters, "kernel_size": self.kernel_size}
        return {**super().get_config(), **arguments}
