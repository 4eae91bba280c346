"""`LatentModel`: what a latent flow and a VAE share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows.internal.arguments import checked_shape
from tfp_flows.latent.arguments import check_network, check_shape
from tfp_flows.latent.chunks import in_chunks
from tfp_flows.latent.likelihood import PixelLikelihood
from tfp_flows.nets.autoencoder import conv_decoder, conv_encoder
from tfp_flows.training.data import first_batch
from tfp_flows.training.model import FlowModel, NegativeLogLikelihood
from tfp_flows.training.nonfinite import StopAtNonFinite
from tfp_flows.training.sampling import sample

tfd = tfp.distributions

# Evaluation draws the same noise in each batch, so that it gives equal figures twice.
_EVALUATION_SEED = 0


class LatentModel(keras.Model):
    """Images explained by latent vectors: prior, decoder, approximate posterior.

    For an image x, one draw z of the posterior q gives

        elbo = log p(x | z) + log p(z) - log q(z | x)     [nats]

    whose mean over q is at most log p(x). The loss is the mean of `-elbo`; the
    metrics `elbo`, `reconstruction_nll = -log p(x | z)` and `latent_nll = -log p(z)`
    are means in nats for each image. `predict` gives all three for each image.

    A subclass says what q is, in `posterior`, and what `encode` returns.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        prior: tfd.Distribution,
        encoder_outputs: int,
        *,
        channels: Sequence[int],
        encoder: keras.Layer | None,
        decoder: keras.Layer | None,
        likelihood: PixelLikelihood,
        **kwargs: Any,
    ) -> None:
        """Builds or takes the networks and adopts every weight of the prior."""
        super().__init__(autocast=False, **kwargs)
        self.event_shape = checked_shape("event_shape", event_shape, minimum=1)
        self.latent_dim = latent_dim
        self.prior_model = FlowModel(prior)
        if encoder is None:
            encoder = conv_encoder(event_shape, encoder_outputs, channels)
        if decoder is None:
            decoder = conv_decoder(event_shape, latent_dim, channels)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        check_network("encoder", encoder, self.event_shape, (encoder_outputs,))
        check_network("decoder", decoder, (latent_dim,), self.event_shape)
        self._seeds = keras.random.SeedGenerator()
        self._loss = NegativeLogLikelihood()
        names = ("elbo", "reconstruction_nll", "latent_nll")
        self._means = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    # What a subclass fills in.

    def posterior(
        self, x: tf.Tensor, seed: Any, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `z` of `q(z | x)`, and returns it with `log q(z | x)` in nats."""
        raise NotImplementedError

    def latents(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the latents of float images without noise."""
        raise NotImplementedError

    # Images and latents.

    @property
    def prior(self) -> tfd.Distribution:
        """The distribution of the latents."""
        return self.prior_model.distribution

    def encode(self, x: Any) -> tf.Tensor:
        """Returns the latents `[n, latent_dim]` of images, without noise."""
        self._check_images(x)
        return in_chunks(self.latents, x)

    def decode(self, z: Any) -> tf.Tensor:
        """Returns the mean images of latents: pixel values in `[0, levels)`."""
        check_shape("z", z, (self.latent_dim,))
        return in_chunks(self._picture, z)

    def reconstruct(self, x: Any) -> tf.Tensor:
        """Returns what is left of images on their way through the latents."""
        self._check_images(x)
        return in_chunks(lambda part: self._picture(self.latents(part)), x)

    def latent_log_prob(self, x: Any) -> tf.Tensor:
        """Returns `log p(z)` in nats of the latents of images: exact, `[n]`.

        It is a density of latents, not of images; for those see `elbo`.
        """
        self._check_images(x)
        return in_chunks(lambda part: self.prior.log_prob(self.latents(part)), x)

    def sample(self, n: Any, seed: Any = None, temperature: Any = 1.0) -> tf.Tensor:
        """Draws images: prior, then decoder.

        Args:
            n: Number of images.
            seed: None, an integer or a pair of integers; equal seeds, equal images.
            temperature: Factor on the spread of the prior's base distribution.

        Returns:
            Mean images `[n, *event_shape]`, pixel values in `[0, levels)`.
        """
        return self.decode(sample(self.prior, n, seed, temperature))

    def elbo(self, x: Any, seed: Any = 0) -> tf.Tensor:
        """Returns one draw of the bound on `log p(x)` for each image, in nats.

        Args:
            x: Images `[n, *event_shape]`.
            seed: An integer or a pair of integers. Images are taken a few hundred at a
                time, each time with the same noise.

        Returns:
            The bounds `[n]`; see `importance_weighted_bound` for tighter ones.
        """
        self._check_images(x)
        return in_chunks(lambda part: self.terms(part, seed)["elbo"], x)

    def terms(
        self, x: tf.Tensor, seed: Any, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns the bound and its parts for each image, in nats.

        Args:
            x: Float images `[n, *event_shape]`.
            seed: An integer, a pair of integers, or a tensor `[n, 2]` of pairs, which
                makes what an image gets independent of the other images.
            training: Whether the networks are being trained.

        Returns:
            `elbo`, `reconstruction_nll` and `latent_nll`, each `[n]`.
        """
        z, log_q = self.posterior(x, seed, training)
        output = self.decoder(z, training=training)
        log_likelihood = self.likelihood.log_prob(x, output)
        log_prior = self.prior.log_prob(z)
        return {
            "elbo": log_likelihood + log_prior - log_q,
            "reconstruction_nll": -log_likelihood,
            "latent_nll": -log_prior,
        }

    def _picture(self, z: tf.Tensor) -> tf.Tensor:
        return self.likelihood.picture(self.decoder(z, training=False))

    def _check_images(self, x: Any) -> None:
        check_shape("x", x, self.event_shape)

    # Training, as Keras asks for it.

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Returns `terms` of a batch, with fresh noise in training only."""
        self._check_images(inputs)
        seed = tf.cast(self._seeds.next(), tf.int32) if training else _EVALUATION_SEED
        return self.terms(tf.cast(inputs, tf.float32), seed, training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the mean of `-elbo` plus the layers' losses, in nats."""
        elbo = y_pred["elbo"]
        loss = self._loss(elbo, elbo, sample_weight=sample_weight)
        return loss + sum(self._aggregate_additional_loss(e) for e in self.losses)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, tf.Tensor]:
        """Updates and returns the means of `terms`."""
        for name, metric in self._means.items():
            metric.update_state(y_pred[name], sample_weight=sample_weight)
        return self.get_metrics_result()

    def fit(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains everything on `-elbo`; see `keras.Model.fit`.

        Args:
            x: Images `[n, *event_shape]` with values in `[0, levels)`, or a dataset.
            y: Ignored, such as labels that come with a dataset.
            **kwargs: All other arguments of `keras.Model.fit`.

        Returns:
            Keras's history.

        Raises:
            FloatingPointError: If the loss of an epoch is not finite.
        """
        self.adapt(x)
        if kwargs.get("sample_weight") is not None and y is None:
            # Keras forgets weights where there is no target.
            y = np.zeros(len(kwargs["sample_weight"]), "float32")
        kwargs.setdefault("shuffle", not isinstance(x, tf.data.Dataset))
        callbacks = with_stop(kwargs.pop("callbacks", None))
        return super().fit(x, y, callbacks=callbacks, **kwargs)

    def adapt(self, x: Any) -> None:
        """Initializes what the prior draws from data, such as `ActNorm`, once.

        Args:
            x: Images, or a dataset, whose first batch is taken.
        """
        if not self.prior_model.is_adapted:
            images = tf.cast(first_batch(x, None, None)[0], tf.float32)
            self._check_images(images)
            self.prior_model.adapt(self.posterior(images, _EVALUATION_SEED, True)[0])

    def summary(self, **kwargs: Any) -> None:
        """Prints the networks and the prior; see `keras.Model.summary`."""
        for part in (self.encoder, self.decoder, self.prior_model):
            part.summary(**kwargs)

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """Returns what both kinds of model are built from, without weights."""
        return {
            "event_shape": list(self.event_shape),
            "latent_dim": self.latent_dim,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> LatentModel:
        """Builds the model that `get_config` described, with fresh weights."""
        config = dict(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            for name in ("encoder", "decoder", "likelihood"):
                part = config[name]
                config[name] = keras.saving.deserialize_keras_object(part)
            for name in {"flow", "prior", "posterior"} & set(config):
                config[name] = serialization.deserialize(config[name])
        return cls(**config)


def with_stop(callbacks: Any) -> Any:
    """Returns callbacks of `fit`, and one that stops at a loss that is not finite."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    if callbacks is None:
        callbacks = []
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return [*listed, StopAtNonFinite()]
