"""`LatentModel`: what a latent flow and a VAE share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    TensorLike,
    checked_instance,
    checked_integer,
    checked_shape,
    invalid,
    words,
)
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.latent.likelihood import PixelLikelihood
from tfp_flows.nets.autoencoder import conv_decoder, conv_encoder
from tfp_flows.training.data import first_batch, split_inputs
from tfp_flows.training.model import FlowModel, LikelihoodModel
from tfp_flows.training.nonfinite import is_finite, not_finite_data
from tfp_flows.training.sampling import sample

# Evaluation draws the same noise in each batch, so that it gives equal metrics twice.
_EVALUATION_SEED = 0
_NETWORKS = "encoder", "decoder", "likelihood"
_ROWS = 500  # that go through the networks at once


class LatentModel(LikelihoodModel):
    """Images explained by latent vectors: prior, decoder, approximate posterior.

    For an image x, one draw z of the posterior q gives

        elbo = log p(x | z) + log p(z) - log q(z | x)     [nats]

    whose mean over q is at most log p(x). The loss is the mean of `-elbo`; the
    metrics `elbo`, `reconstruction_nll = -log p(x | z)` and `latent_nll = -log p(z)`
    are means in nats for each image. `predict` gives all three for each image.

    A subclass says what q is, in `posterior`, and what `encode` returns.
    """

    rising = ("elbo",)

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        prior: tfd.Distribution,
        encoder_outputs: int,
        *,
        pixel_levels: float = 256,
        likelihood: str | PixelLikelihood = "gaussian",
        channels: Sequence[int] = (32, 64),
        encoder: keras.Layer | None = None,
        decoder: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        names = ("elbo", "reconstruction_nll", "latent_nll")
        super().__init__(names, "float32", **kwargs)
        self.event_shape = checked_shape("event_shape", event_shape, minimum=1)
        self.latent_dim = latent_dim
        self.prior_model = FlowModel(prior)
        if isinstance(likelihood, str):
            likelihood = PixelLikelihood(likelihood, pixel_levels)
        if encoder is None:
            encoder = conv_encoder(event_shape, encoder_outputs, channels)
        if decoder is None:
            decoder = conv_decoder(event_shape, latent_dim, channels)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        _check_network("encoder", encoder, self.event_shape, (encoder_outputs,))
        _check_network("decoder", decoder, (latent_dim,), self.event_shape)
        self._seeds = keras.random.SeedGenerator()

    # What a subclass fills in.

    def posterior(
        self, x: tf.Tensor, seed: Seed, training: bool | None = None
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

    def encode(self, x: TensorLike) -> tf.Tensor:
        """Returns the latents `[n, latent_dim]` of images, without noise."""
        return self._mapped(self.latents, x)

    def decode(self, z: TensorLike) -> tf.Tensor:
        """Returns the mean images of latents: pixel values in `[0, pixel_levels)`."""
        return _by_rows(self._picture, "z", z, (self.latent_dim,))

    def reconstruct(self, x: TensorLike) -> tf.Tensor:
        """Returns what is left of images on their way through the latents."""
        return self._mapped(lambda rows: self._picture(self.latents(rows)), x)

    def latent_log_prob(self, x: TensorLike) -> tf.Tensor:
        """Returns `log p(z)` in nats of the latents of images: exact, `[n]`.

        It is a density of latents, not of images; for those see `elbo`.
        """
        return self._mapped(lambda rows: self._log_prior(self.latents(rows)), x)

    def sample(self, n: int, seed: Seed = None, temperature: float = 1.0) -> tf.Tensor:
        """Draws mean images `[n, *event_shape]`: prior, then decoder."""
        return self.decode(sample(self.prior, n, seed, temperature))

    def elbo(self, x: TensorLike, seed: Seed = 0) -> tf.Tensor:
        """Returns one draw of the bound on `log p(x)` of images, in nats, `[n]`.

        The seed is one for all images, or `[n, 2]`.
        """

        def elbo(rows: tf.Tensor, own: Seed = seed) -> tf.Tensor:
            return self.terms(rows, own)["elbo"]

        if tf.executing_eagerly() and np.ndim(seed) < 2 and len(x) > _ROWS:
            # Or each block of images would have the noise of the first.
            seed = tf.random.experimental.stateless_split(stateless_seed(seed), len(x))
        seeds = [seed] if np.ndim(seed) == 2 else []
        return _by_rows(elbo, "x", x, self.event_shape, *seeds)

    def terms(
        self, x: tf.Tensor, seed: Seed, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns `elbo`, `reconstruction_nll` and `latent_nll`, in nats, `[n]`.

        A `seed` of shape `[n, 2]` makes what an image gets independent of the others.
        """
        z, log_q = self.posterior(x, seed, training)
        output = self.decoder(z, training=training)
        log_likelihood = self.likelihood.log_prob(x, output)
        log_prior = self._log_prior(z)
        return {
            "elbo": log_likelihood + log_prior - log_q,
            "reconstruction_nll": -log_likelihood,
            "latent_nll": -log_prior,
        }

    def _log_prior(self, z: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.prior.log_prob(tf.cast(z, self.prior.dtype)), tf.float32)

    def _picture(self, z: tf.Tensor) -> tf.Tensor:
        return self.likelihood.picture(self.decoder(z, training=False))

    def _mapped(
        self, function: Callable[[tf.Tensor], tf.Tensor], x: TensorLike
    ) -> tf.Tensor:
        return _by_rows(function, "x", x, self.event_shape)

    # Training, as Keras asks for it.

    def call(
        self, inputs: Arrays, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns `terms` of a batch, with fresh noise in training only."""
        inputs = checked_rows("x", inputs, self.event_shape)
        seed = tf.cast(self._seeds.next(), tf.int32) if training else _EVALUATION_SEED
        return self.terms(tf.cast(inputs, tf.float32), seed, training)

    def check(self, batch: Arrays) -> None:
        """Refuses a batch of images of another shape."""
        x = keras.utils.unpack_x_y_sample_weight(batch)[0]
        checked_rows("x", split_inputs(x)[0], self.event_shape)

    def example_losses(self, y_pred: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns `-elbo`."""
        return -y_pred["elbo"]

    def example_metrics(self, y_pred: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `terms`."""
        return y_pred

    def where_not_finite(self, *batch: tf.Tensor) -> str:
        """Says which part of the loss of images is not finite."""
        x = tf.cast(batch[0], tf.float32)
        if not is_finite(x):
            return not_finite_data(x)
        terms = self.terms(x, _EVALUATION_SEED, training=True)
        for name, part in (("latent_nll", "prior"), ("reconstruction_nll", "decoder")):
            if not is_finite(terms[name]):
                return f"`{name}`, of the {part}, is not finite."
        return "the log-density of the encoder's draws is not finite."

    @property
    def distributions(self) -> list[tfd.Distribution]:
        """The distributions that are trained."""
        return [self.prior]

    @property
    def is_adapted(self) -> bool:
        """Whether nothing in the prior waits for data."""
        return self.prior_model.is_adapted

    def adapt(self, data: Arrays, condition: None = None) -> None:
        """Initializes what waits for data in the prior, such as `ActNorm`."""
        images = tf.cast(first_batch(data, None, False)[0], tf.float32)
        checked_rows("x", images, self.event_shape)
        self.prior_model.adapt(self.posterior(images, _EVALUATION_SEED, True)[0])

    def summary(self, *args: object, **kwargs: Any) -> None:
        """Prints the networks and the prior; see `keras.Model.summary`."""
        for part in (self.encoder, self.decoder, self.prior_model):
            part.summary(*args, **kwargs)

    # Saving.

    def get_config(self) -> Config:
        """Returns what both kinds of model are built from, without weights."""
        return {
            "event_shape": list(self.event_shape),
            "latent_dim": self.latent_dim,
            **{n: serialization.layer_config(getattr(self, n), n) for n in _NETWORKS},
            **super().get_config(),
        }

    @classmethod
    def constructor_arguments(cls, config: Config) -> Config:
        """Builds the networks and distributions that `get_config` described."""
        readers = dict.fromkeys(
            _NETWORKS, keras.saving.deserialize_keras_object
        ) | dict.fromkeys(("flow", "prior", "posterior"), serialization.deserialize)
        return {k: readers[k](v) if k in readers else v for k, v in config.items()}


def importance_weighted_bound(
    model: LatentModel, x: TensorLike, k: int = 64, seed: Seed = 0
) -> np.ndarray:
    """Estimates `log p(x)` from below, in nats for each image.

        bound_k = log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),   z_i ~ q(z | x)

    Its mean over draws is at most log p(x), and rises to it with k, the number of draws
    for each image; k = 1 is the elbo.

    Returns:
        The bounds `[n]`.

    Reference: Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders, 2015,
    arXiv:1509.00519.
    """
    checked_integer("k", k)
    checked_rows("x", x, model.event_shape)

    @tf.function(autograph=False)
    def log_weights(images: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        return model.terms(images, draw, training=False)["elbo"]

    def bound(images: TensorLike, own: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        draws = tfp.random.split_seed(own, n=k)
        weights = tf.stack([log_weights(images, draws[i]) for i in range(k)])
        return tf.reduce_logsumexp(weights, axis=0) - math.log(k)

    return map_rows(bound, x, rows=_ROWS, seed=seed)


def _by_rows(
    function: Callable[..., tf.Tensor],
    name: str,
    x: TensorLike,
    event: tuple,
    *others: tf.Tensor,
) -> tf.Tensor:
    """Returns a function of rows `[n, *event]`, computed a few hundred at a time."""
    x = checked_rows(name, x, event)

    def computed(rows: TensorLike, *own: tf.Tensor) -> tf.Tensor:
        return function(tf.cast(rows, tf.float32), *own)

    if not tf.executing_eagerly():
        return computed(x, *others)
    return tf.constant(map_rows(computed, x, *others, rows=_ROWS))


def checked_rows(name: str, x: TensorLike, event: tuple[int, ...]) -> TensorLike:
    """Returns what has the shape `[n, *event]`, known in full, and refuses the rest."""
    shape = tf.TensorShape(x.shape if hasattr(x, "shape") else np.shape(x))
    if not shape.is_compatible_with((None, *event)):
        must = f"have shape [{words(('n', *event))}]"
        raise invalid(name, must, got=f"{name} of shape {shape}")
    # Keras's step forgets shapes after a batch of another one.
    return tf.ensure_shape(x, (None, *event)) if tf.is_tensor(x) else x


def checked_prior(
    name: str, prior: tfd.Distribution, latent_dim: int
) -> tfd.Distribution:
    """Returns `prior` if it is one of latents that takes no condition."""
    check_latent_distribution(name, prior, latent_dim)
    bijector = getattr(prior, "bijector", None)
    if bijector is not None and condition_shape(bijector) is not None:
        raise invalid(name, "be a distribution that takes no condition", prior)
    return prior


def check_latent_distribution(
    name: str, distribution: tfd.Distribution, latent_dim: int
) -> None:
    """Refuses what is no distribution of vectors of `latent_dim` values."""
    if not isinstance(distribution, tfd.Distribution) or (
        tuple(distribution.event_shape) != (latent_dim,)
    ):
        must = f"be a TFP distribution of vectors of `latent_dim={latent_dim}` values"
        raise invalid(name, must, distribution)


def _check_network(
    name: str, network: keras.Layer, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    """Raises unless `network` turns `[n, *inputs]` into `[n, *outputs]`; builds it."""
    checked_instance(name, network, keras.Layer, "a Keras layer or model")
    if not network.built:
        network.build((None, *inputs))
    shape = network.compute_output_shape((None, *inputs))
    if tuple(shape) != (None, *outputs):
        must = f"turn [n, {words(inputs)}] into [n, {words(outputs)}]"
        raise invalid(name, must, got=f"outputs of shape {shape}")
