"""`TanhScale`: the learned bound of a coupling's log-scale, as RealNVP has it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors.weights import Weights


@keras.saving.register_keras_serializable(package="tfp_flows")
class TanhScale(Weights):
    """Log-scale `s = c tanh(r)` with one learned factor `c`, which starts at 1.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803, section 4.1.
    """

    def build(self, input_shape: Any = None) -> None:
        """Makes the factor."""
        self.factor = self.add_weight((), "ones", name="factor")

    def call(self, r: tf.Tensor) -> tf.Tensor:
        """Maps raw values of any shape to log-scales."""
        return tf.convert_to_tensor(self.factor) * tf.tanh(r)
