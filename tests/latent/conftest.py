"""Small latent models, and one whose likelihood is known in closed form."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows import latent

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE, D, LEVELS = (8, 8, 1), 4, 17
SMALL = {"latent_dim": D, "pixel_levels": LEVELS, "channels": (4, 4)}


def small_flow():
    return tfpf.real_nvp((D,), couplings=2, hidden_units=(8,))


def inverse_autoregressive(**options):
    return tfpf.maf((D,), layers=2, hidden_units=(8,), inverse=True, **options)


MODELS = {
    "joint": lambda: latent.LatentFlow(SHAPE, flow=small_flow(), **SMALL),
    "two-stage": lambda: latent.LatentFlow(
        SHAPE, flow=small_flow(), training="two-stage", likelihood="logistic", **SMALL
    ),
    "vae": lambda: latent.LatentVAE(SHAPE, **SMALL),
    "vae, flow prior": lambda: latent.LatentVAE(SHAPE, prior=small_flow(), **SMALL),
    "vae, two flows": lambda: latent.LatentVAE(
        SHAPE,
        prior=small_flow(),
        posterior=inverse_autoregressive(condition_shape=(3,)),
        **SMALL,
    ),
    "vae, flow without condition": lambda: latent.LatentVAE(
        SHAPE,
        posterior=tfpf.real_nvp((D,), couplings=2, hidden_units=(8,), actnorm=False),
        **SMALL,
    ),
}


@pytest.fixture(params=MODELS)
def model(request):
    """Each kind of model, with its zero-initialized weights moved."""
    return shake(MODELS[request.param]())


@pytest.fixture(scope="session")
def build():
    """`build(kind)` gives a model of that kind as it is built."""
    return lambda kind: MODELS[kind]()


@pytest.fixture(scope="session")
def images():
    """A batch of handwritten digits, dequantized."""
    data = tfpf.data.load("digits")
    noise = np.random.default_rng(0).random((512, *SHAPE), np.float32)
    return data.x_train[:512] + 0.999 * noise


def shake(model):
    """Moves every weight, so that no gradient is zero for a zero in its way."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        noise = rng.normal(scale=0.1, size=weight.shape)
        weight.assign_add(noise.astype("float32"))
    return model


class LinearGaussian:
    """`x = L (z W + b + 1/2) + L s e` with standard normal z and e.

    The rows of W are orthogonal, so that the latents of an image are independent:
    a VAE can have the exact posterior.
    """

    shape, latent_dim, levels, scale = (2, 2, 1), 2, 4.0, 0.3
    kernel = np.array([[0.3, 0.3, -0.3, 0.3], [0.1, 0.4, 0.4, -0.1]])
    bias = np.array([0.1, -0.2, 0.0, 0.3])

    def __init__(self):
        self.precision = 1.0 + np.sum(self.kernel**2, axis=1) / self.scale**2
        self.gain = (self.kernel / self.scale**2).T / self.precision

    def decoder(self):
        dense = keras.layers.Dense(4)
        network = keras.Sequential(
            [keras.Input((2,)), dense, keras.layers.Reshape(self.shape)]
        )
        dense.set_weights([self.kernel, self.bias])
        return network

    def encoder(self, kernel, bias):
        dense = keras.layers.Dense(len(bias))
        network = keras.Sequential(
            [keras.Input(self.shape), keras.layers.Flatten(), dense]
        )
        dense.set_weights([kernel, bias])
        return network

    def posterior_mean(self):
        """Kernel and bias of the posterior's mean, as a function of pixels."""
        kernel = self.gain / self.levels
        return kernel, -(self.bias + 0.5) @ self.gain

    def likelihood(self):
        return latent.PixelLikelihood("gaussian", self.levels, scale=self.scale)

    def vae(self, width_factor=1.0):
        """A VAE with the exact posterior's means and a multiple of its widths.

        Importance weights have a finite variance from a factor of `sqrt(1/2)` on.
        """
        mean_kernel, mean_bias = self.posterior_mean()
        width = width_factor / np.sqrt(self.precision)
        raw = np.log(np.expm1(width - 1e-4))
        kernel = np.concatenate([mean_kernel, np.zeros([4, 2])], axis=1)
        return latent.LatentVAE(
            self.shape,
            latent_dim=2,
            likelihood=self.likelihood(),
            encoder=self.encoder(kernel, np.concatenate([mean_bias, raw])),
            decoder=self.decoder(),
        )

    def latent_flow(self):
        """A latent flow whose prior is the standard normal, by way of a flow."""
        base = tfd.Sample(tfd.Normal(1.0, 2.0), 2)
        chain = tfb.Chain([tfb.Scale(0.5), tfb.Shift(-1.0)])
        return latent.LatentFlow(
            self.shape,
            latent_dim=2,
            noise=0.35,
            flow=tfd.TransformedDistribution(base, chain),
            likelihood=self.likelihood(),
            encoder=self.encoder(*self.posterior_mean()),
            decoder=self.decoder(),
        )

    def log_prob(self, x):
        flat = x.reshape(len(x), -1).astype("float64")
        covariance = self.kernel.T @ self.kernel + self.scale**2 * np.eye(4)
        exact = tfd.MultivariateNormalTriL(
            self.levels * (self.bias + 0.5),
            self.levels * np.linalg.cholesky(covariance),
        )
        return exact.log_prob(flat).numpy()


@pytest.fixture(scope="session")
def linear():
    """A model of images with a known likelihood."""
    return LinearGaussian()
