"""`LatentVAE`: a variational autoencoder with flows for prior and posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.internal.arguments import Config, Seed, invalid
from tfp_flows.internal.seeds import noise_like
from tfp_flows.latent.model import LatentModel, check_latent_distribution, checked_prior
from tfp_flows.training.model import FlowModel

# Widths of the posterior stay above this, so that its density has a bound.
_LEAST_WIDTH = 1e-4


@keras.saving.register_keras_serializable(package="tfp_flows")
class LatentVAE(LatentModel):
    """A VAE whose prior and whose posterior may be flows.

    The encoder gives a mean m, widths s and features h of an image:

        u = m + s eps,   eps ~ Normal(0, I),   z = f(u; h)
        log q(z | x) = log Normal(u; m, s) - log |det df/du|
        elbo = log p(x | z) + log p(z) - log q(z | x)              [nats]

    f is the bijector of `posterior`, the identity if there is none; p(z) is `prior`, a
    standard normal if there is none. A posterior flow should be fast from latent to
    data, such as `tfpf.maf((d,), inverse=True, condition_shape=(h,))` or
    `tfpf.real_nvp((d,), condition_shape=(h,))`.

    Args:
        prior: Distribution of vectors of `latent_dim` values; None for a standard
            normal.
        posterior: Flow of as many values whose bijector follows on `Normal(m, s)`, with
            `condition_shape=(h,)` to see features of the image, or without; its own
            base is not used. None for no flow.
        encoder: Keras layer from images to `2 D + h` values, in the place of the
            default: means, raw widths (through a softplus), features.
        **kwargs: Those of `LatentFlow`.

    Reference: Kingma, Welling: Auto-Encoding Variational Bayes, 2013, arXiv:1312.6114.
    Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770. Kingma et al.: Improved Variational Inference with Inverse
    Autoregressive Flow, 2016, arXiv:1606.04934.

    Example:
        >>> import tfp_flows as tfpf
        >>> posterior = tfpf.maf((4,), layers=2, inverse=True, condition_shape=(8,))
        >>> model = LatentVAE(
        ...     (8, 8, 1), latent_dim=4, pixel_levels=17, channels=(4, 4),
        ...     prior=tfpf.real_nvp((4,), couplings=2), posterior=posterior)
        >>> model.sample(3, seed=1).shape
        TensorShape([3, 8, 8, 1])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        latent_dim: int = 128,
        prior: tfd.Distribution | None = None,
        posterior: tfd.Distribution | None = None,
        **kwargs: Any,
    ) -> None:
        prior = standard_normal(latent_dim, "float32") if prior is None else prior
        features = 0 if posterior is None else _features(posterior, latent_dim)
        super().__init__(
            event_shape,
            latent_dim,
            checked_prior("prior", prior, latent_dim),
            2 * latent_dim + features,
            **kwargs,
        )
        self.posterior_model = None if posterior is None else FlowModel(posterior)
        self._sizes = [latent_dim, latent_dim, features]

    def latents(self, x: tf.Tensor) -> tf.Tensor:
        """Returns f(m; h), where the middle of `Normal(m, s)` goes."""
        mean, _, features = self._encoded(x, training=False)
        return self._flowed(mean, features)[0]

    def posterior(
        self, x: tf.Tensor, seed: Seed, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `z = f(u; h)`, and returns it with `log q(z | x)` in nats."""
        mean, width, features = self._encoded(x, training)
        u = mean + width * noise_like(mean, seed)
        log_q = tf.reduce_sum(tfd.Normal(mean, width).log_prob(u), axis=-1)
        z, log_det = self._flowed(u, features)
        return z, log_q - log_det

    def _encoded(
        self, x: tf.Tensor, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded = tf.cast(self.encoder(x, training=training), tf.float32)
        mean, raw, features = tf.split(encoded, self._sizes, axis=-1)
        return mean, tf.nn.softplus(raw) + _LEAST_WIDTH, features

    def _flowed(
        self, u: tf.Tensor, features: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | float]:
        if self.posterior_model is None:
            return u, 0.0
        flow = self.posterior_model.distribution
        u, features = tf.cast(u, flow.dtype), tf.cast(features, flow.dtype)
        condition = features if self._sizes[-1] else None
        z, log_det = chain.forward_and_log_det(flow.bijector, u, 1, condition)
        return tf.cast(z, tf.float32), tf.cast(log_det, tf.float32)

    @property
    def distributions(self) -> list[tfd.Distribution]:
        """The distributions that are trained."""
        flow = self.posterior_model
        return [self.prior, *(() if flow is None else flow.distributions)]

    def get_config(self) -> Config:
        """Returns the constructor's arguments, without weights."""
        names = ("prior", "posterior")
        flows = map(serialization.serialize, self.distributions)
        return {**super().get_config(), **dict(zip(names, flows, strict=False))}


def _features(posterior: tfd.Distribution, latent_dim: int) -> int:
    """Returns how many features the posterior flow takes as its condition."""
    check_latent_distribution("posterior", posterior, latent_dim)
    bijector = getattr(posterior, "bijector", None)
    shape = () if bijector is None else condition_shape(bijector) or (0,)
    if len(shape) != 1 or posterior.distribution.trainable_variables:
        must = "be a transformed distribution of a base without weights, whose"
        raise invalid("posterior", f"{must} condition, if any, is a vector", posterior)
    return shape[0]
