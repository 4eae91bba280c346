"""`ServedLatentModel`: what an exported graph needs to know about a latent model."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.serving.served_flow import ServedFlow

tfd = tfp.distributions

_METHODS = ("latents", "decode", "terms")


class ServedLatentModel(ServedFlow):
    """A latent flow or VAE, seen from the server: tensors in, tensors out.

    Its data are images and its latents are what the encoder makes of them. Encoding
    loses something, so that `decode(encode(x))` is not `x`, and `log_prob` is the
    density of the latents: that of images has only a bound, `elbo`.

    Args:
        model: A `tfpf.latent.LatentFlow` or `tfpf.latent.LatentVAE`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        # The flow of the latents first: what it says of itself holds for the model.
        super().__init__(model.prior)
        prior = self.distribution
        self._base, self.has_latent = prior, True
        self.event_shape = tuple(model.event_shape)
        self.latent_shape = tuple(prior.event_shape)
        self._inverse = self._traced(self.trace_inverse, self.event_shape)
        self._forward = self._traced(self.trace_forward, self.latent_shape)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model is one of images explained by latents."""
        return isinstance(getattr(model, "prior", None), tfd.Distribution) and all(
            callable(getattr(model, name, None)) for name in _METHODS
        )

    @property
    def data_bijector(self) -> None:
        """None: an encoder loses something of an image."""
        return None

    def elbo(self, x: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """One draw of the bound on the log-density of each image, `[batch]`."""
        return self.model.terms(x, seeds, training=False)["elbo"]

    def trace_inverse(self, x: tf.Tensor, condition: Any = None) -> tuple:
        """The latents of images and the log-density of these latents."""
        latent = self.model.latents(x)
        return latent, self.distribution.log_prob(latent)

    def trace_forward(self, latent: tf.Tensor, condition: Any = None) -> tf.Tensor:
        """The mean images of latents."""
        return self.model.decode(latent)
