"""`WeightNormConv2D`: a convolution whose filters have a length of their own."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfp_flows")
class WeightNormConv2D(keras.Layer):
    """Convolution with weight normalization, to stand before a batch normalization.

        output = conv(inputs, g v / |v|)

    with one learned length `g` for each filter `v`. A batch normalization cancels
    a bias, so there is none. With kernel size k, n input and m output channels it
    has `k^2 n m + m` weights.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`, zero-padded at the borders.

    Reference:
        Salimans, Kingma: Weight normalization, 2016, arXiv:1602.07868.
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
        """Makes directions and lengths."""
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape, "he_normal", name="kernel")
        # Expected length of a filter drawn as above, so that both start equal.
        length = keras.initializers.Constant(2.0**0.5)
        self.length = self.add_weight((self.filters,), length, name="length")

    def call(self, inputs: Any) -> Any:
        """Maps `[batch, h, w, n]` to `[batch, h, w, filters]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        kernel = tf.math.l2_normalize(kernel, axis=[0, 1, 2]) * self.length
        return tf.nn.conv2d(inputs, kernel, 1, "SAME")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        arguments = {"filters": self.filters, "kernel_size": self.kernel_size}
        return {**super().get_config(), **arguments}
