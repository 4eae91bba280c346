"""`Reconstruction`: the autoencoder alone, for the first of two stages."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.latent.arguments import check_shape
from tfp_flows.training.model import NegativeLogLikelihood


class Reconstruction(keras.Model):
    """Trains the autoencoder inside a latent flow on `-log p(x | d(z))` alone.

    It owns no weights: they are those of the latent flow's encoder, decoder and
    likelihood. Its prediction is `log p(x | d(z))` for each image, in nats.
    """

    def __init__(self, latent_flow: Any) -> None:
        """Looks at the networks of `latent_flow`, whose flow stays out of it."""
        super().__init__(autocast=False)
        self.event_shape = latent_flow.event_shape
        self.encoder, self.decoder = latent_flow.encoder, latent_flow.decoder
        self.likelihood = latent_flow.likelihood
        self.normalizer = latent_flow.normalizer
        self._noise = keras.layers.GaussianNoise(latent_flow.noise, dtype="float32")
        self._loss = NegativeLogLikelihood()
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `log p(x | d(z))` in nats, one value for each image."""
        check_shape("x", inputs, self.event_shape)
        x = tf.cast(inputs, tf.float32)
        z = tf.cast(self.encoder(x, training=training), tf.float32)
        z = self._noise(self.normalizer(z, training=training), training=training)
        return self.likelihood.log_prob(x, self.decoder(z, training=training))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the mean of `-log p(x | d(z))` plus the layers' losses, in nats."""
        loss = self._loss(y_pred, y_pred, sample_weight=sample_weight)
        return loss + sum(self._aggregate_additional_loss(e) for e in self.losses)
