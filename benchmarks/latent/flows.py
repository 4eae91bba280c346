"""The flows that are compared on the latents of one autoencoder."""

import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows import latent

tfd = tfp.distributions

LATENTS = 128
HIDDEN = (256, 256)
BEST = "four affine couplings, whitened, mixture base"


def gaussian():
    """No flow: the Gaussian fitted to the latents with their noise."""
    normal = tfd.MultivariateNormalDiag(tf.zeros(LATENTS))
    return tfd.TransformedDistribution(normal, latent.Whitening(LATENTS))


def affine(**options):
    """Four affine couplings that keep the halves in turn."""
    return tfpf.real_nvp((LATENTS,), steps=4, hidden_units=HIDDEN, **options)


def whitened_affine():
    """The same on the principal axes of the latents."""
    return affine(preprocess=latent.Whitening(LATENTS))


def whitened_affine_on_a_mixture():
    """The same from a learned mixture of Gaussians, one for each kind of picture."""
    mixture = tfpf.bases.normal_mixture(LATENTS, 20, spread=0.3)
    return affine(preprocess=latent.Whitening(LATENTS), base=mixture)


FLOWS = {
    "Gaussian": gaussian,
    "four affine couplings": affine,
    "four affine couplings, whitened": whitened_affine,
    BEST: whitened_affine_on_a_mixture,
}
