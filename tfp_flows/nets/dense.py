"""`Dense`: Keras's dense layer, by the products that are fast for few values.

Flows are full of dense layers that read one value or write two. Matrix products are
blocked for wide matrices and suit narrow ones badly: a layer from 128 values to 2 takes
0.89 times as long with its gradients, one from 1 value to 128 as long
(`python -m benchmarks.shortcuts`, 2 cores of an AMD EPYC, 2026-11-28).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


# Saved under Keras's name of the layer: archives know layers by it.
@keras.saving.register_keras_serializable(package="tfp_flows")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` of the same formula, arguments, weights and archives.

        y = f(x W + b)

    With one input the product is a multiplication by broadcasting. With fewer outputs
    than inputs the gradient of `W` is computed as the transpose of `g^T x`, which is
    the same sums with the wide matrix second. All else is left to Keras, as are
    quantized layers and those with LoRA.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Maps `[..., n]` to `[..., units]`."""
        if not self._is_narrow(inputs):
            return super().call(inputs, training=training)
        kernel = tf.convert_to_tensor(self.kernel)
        inputs = tf.convert_to_tensor(inputs)
        if inputs.shape[-1] == 1:
            outputs = _outer(inputs, kernel)
        else:
            # TensorFlow differentiates by the second factor as it was written.
            outputs = tf.matmul(inputs, tf.transpose(kernel), transpose_b=True)
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return outputs if self.activation is None else self.activation(outputs)

    def _is_narrow(self, inputs: Any) -> bool:
        """Whether this is a narrow product that Keras does not alter."""
        if len(inputs.shape) != 2 or self.lora_enabled or self.quantization_mode:
            return False
        if isinstance(inputs, keras.KerasTensor):
            return False
        return inputs.shape[-1] == 1 or self.units < inputs.shape[-1]


@tf.custom_gradient
def _outer(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Multiplies a column with a row; its gradients are sums, left to products."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (
            tf.matmul(upstream, kernel, transpose_b=True),
            tf.matmul(inputs, upstream, transpose_a=True),
        )

    return inputs * kernel, gradient
