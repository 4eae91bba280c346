"""`FusedAdam`: Keras's Adam, each weight updated by one TensorFlow operation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class _FusedUpdate(keras.optimizers.Adam):
    """Adam's update of one weight by TensorFlow's own kernel for it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one weight and its two moments."""
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        step = tf.cast(tf.convert_to_tensor(self.iterations) + 1, dtype)
        beta_1 = tf.constant(self.beta_1, dtype)
        beta_2 = tf.constant(self.beta_2, dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable(package="tfp_flows")
class FusedAdam(_FusedUpdate):
    """Keras's Adam by TensorFlow's one kernel for each weight.

        m <- m + (1 - beta_1) (g - m)
        v <- v + (1 - beta_2) (g^2 - v)
        w <- w - rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    The formula, the arguments and the state are those of `keras.optimizers.Adam`,
    of which every argument works here; the numbers differ by rounding only. A flow
    has many small weights, and Keras traces and runs two dozen operations more for
    each of them. What the kernel cannot do (`amsgrad`, sparse gradients) is left to
    Keras.

    Reference:
        Kingma, Ba: Adam, 2014, arXiv:1412.6980.

    Example:
        >>> FusedAdam(1e-3, global_clipnorm=1.0).global_clipnorm
        1.0
    """


@keras.saving.register_keras_serializable(package="tfp_flows")
class FusedAdamW(_FusedUpdate, keras.optimizers.AdamW):
    """Keras's AdamW in the same way; its decay of the weights stays Keras's.

    Reference:
        Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2017,
        arXiv:1711.05101.

    Example:
        >>> FusedAdamW(1e-3, weight_decay=0.01).weight_decay
        0.01
    """


def _handle(variable: Any) -> Any:
    """Returns where a moment is kept, on the device that is being updated."""
    return getattr(variable, "value", variable).handle
