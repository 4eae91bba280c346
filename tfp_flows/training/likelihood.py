"""The loss that every flow is trained by, and the two figures that report it."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfp_flows")
class NegativeLogLikelihood(keras.losses.Loss):
    """Mean of `-log p(x)` in nats, with Keras's sample weights and replicas."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns `-y_pred`: the model's prediction is the log-likelihood itself."""
        return -y_pred


class MeanNll(keras.metrics.Mean):
    """Mean negative log-likelihood of an epoch, in nats."""

    def __init__(self) -> None:
        """Starts empty, under the name `nll`."""
        super().__init__(name="nll")


class BitsPerDim(keras.metrics.Metric):
    """`nll / (D ln 2)`: the same figure in bits for each of an event's D values."""

    def __init__(self, nll: MeanNll, values: int) -> None:
        """Reports `nll` for events of `values` values."""
        super().__init__(name="bits_per_dim")
        self._nll = nll
        self._nats = values * math.log(2.0)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the nats are counted once, by `nll`."""

    def result(self) -> tf.Tensor:
        """Returns the bits per value so far."""
        return self._nll.result() / self._nats
