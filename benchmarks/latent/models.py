"""The latent models of the benchmark, trained once and kept in a folder."""

import time
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tfpf
from benchmarks.latent import flows
from benchmarks.latent.classifier import train_classifier
from benchmarks.latent.flows import LATENTS
from benchmarks.latent.schedule import HalfCosine
from tfp_flows import latent

SHAPE, FEATURES = (28, 28, 1), 64
RATE = 2e-3
AUTOENCODER, JOINT = "autoencoder", "AE + flow, jointly"


def autoencoder(noise):
    """An autoencoder, which so far has no more than a Gaussian on its latents."""
    return latent.LatentFlow(
        SHAPE,
        latent_dim=LATENTS,
        training="two-stage",
        noise=noise,
        flow=flows.gaussian(),
    )


def on_latents_of(trained_autoencoder, flow):
    """The same autoencoder with another flow on its latents."""
    return latent.LatentFlow(
        SHAPE,
        latent_dim=LATENTS,
        training="two-stage",
        noise=trained_autoencoder.noise,
        flow=flow,
        encoder=trained_autoencoder.encoder,
        decoder=trained_autoencoder.decoder,
    )


def joint(noise):
    """Autoencoder and four affine couplings, trained together."""
    return latent.LatentFlow(
        SHAPE, latent_dim=LATENTS, noise=noise, flow=flows.affine()
    )


def vae():
    """A VAE without flows."""
    return latent.LatentVAE(SHAPE, latent_dim=LATENTS)


def vae_flow_prior():
    """A VAE whose prior is four affine couplings."""
    return latent.LatentVAE(SHAPE, latent_dim=LATENTS, prior=flows.affine())


def vae_flow_prior_posterior():
    """The same with an inverse autoregressive flow behind the encoder."""
    posterior = tfpf.maf(
        (LATENTS,),
        layers=2,
        hidden_units=(256,),
        inverse=True,
        condition_shape=(FEATURES,),
    )
    return latent.LatentVAE(
        SHAPE, latent_dim=LATENTS, prior=flows.affine(), posterior=posterior
    )


VAES = {
    "VAE": vae,
    "VAE, flow prior": vae_flow_prior,
    "VAE, flow prior and posterior": vae_flow_prior_posterior,
}


def trained(name, build, images, folder, *, seed, rate=RATE, **options):
    """Returns a model and the CPU seconds of its training, from `folder` if it can.

    Args:
        name: What the model is called; it names its file.
        build: Makes the model.
        images: Dequantized training images.
        folder: Where trained models are kept.
        seed: Seed of weights, order and noise.
        rate: Learning rate of the first epoch; it falls to zero.
        **options: Arguments of `fit`, such as `epochs`.
    """
    path = _path(folder, name)
    clock = path.with_suffix(".seconds")
    if path.exists():
        return keras.models.load_model(path), float(clock.read_text())
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=100.0))
    start = time.process_time()
    model.fit(images, verbose=2, callbacks=[HalfCosine(rate)], **options)
    seconds = time.process_time() - start
    model.save(path)
    clock.write_text(str(seconds))
    return model, seconds


def classifier(images, labels, folder, *, epochs, seed):
    """Returns the feature classifier, from `folder` if it is there."""
    path = _path(folder, "classifier")
    if path.exists():
        return keras.models.load_model(path)
    judge = train_classifier(images, labels, epochs=epochs, seed=seed, verbose=2)
    judge.save(path)
    return judge


def dequantized(images, seed):
    """Adds uniform noise to whole pixel values, as flows on pixels are trained."""
    noise = np.random.default_rng(seed).random(images.shape, np.float32)
    # The float below 1, so that no value reaches the next pixel's.
    return images + np.minimum(noise, np.float32(1 - 2**-16))


def _path(folder, name):
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / (name.replace(",", "").replace(" ", "_") + ".keras")
