"""`NegativeLogLikelihood`: the loss that every flow is trained by."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfp_flows")
class NegativeLogLikelihood(keras.losses.Loss):
    """Mean of `-log p(x)` in nats, with Keras's sample weights and replicas."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns `-y_pred`: the model's prediction is the log-likelihood itself."""
        return -y_pred
