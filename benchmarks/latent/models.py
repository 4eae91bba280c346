"""The latent models of the benchmark, trained once and kept in a folder."""

import math
import time
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tff
from tfp_flows.tools import latent

SHAPE, LATENTS, FEATURES = (28, 28, 1), 128, 64


def two_stage():
    """Autoencoder, then four affine couplings on its latents."""
    return latent.LatentFlow(SHAPE, latent_dim=LATENTS, training="two-stage")


def joint():
    """Autoencoder and couplings together."""
    return latent.LatentFlow(SHAPE, latent_dim=LATENTS)


def vae():
    """A VAE without flows."""
    return latent.LatentVAE(SHAPE, latent_dim=LATENTS)


def vae_flow_prior():
    """A VAE whose prior is four affine couplings."""
    return latent.LatentVAE(SHAPE, latent_dim=LATENTS, prior=_prior())


def vae_flow_prior_posterior():
    """The same with an inverse autoregressive flow behind the encoder."""
    posterior = tff.maf(
        (LATENTS,),
        layers=2,
        hidden_units=(256,),
        inverse=True,
        condition_shape=(FEATURES,),
    )
    return latent.LatentVAE(
        SHAPE, latent_dim=LATENTS, prior=_prior(), posterior=posterior
    )


def _prior():
    return tff.real_nvp((LATENTS,), couplings=4, hidden_units=(256, 256))


TWO_STAGES = "AE + flow, two stages"
BUILDERS = {
    TWO_STAGES: two_stage,
    "AE + flow, jointly": joint,
    "VAE": vae,
    "VAE, flow prior": vae_flow_prior,
    "VAE, flow prior and posterior": vae_flow_prior_posterior,
}


def trained(name, images, folder, *, epochs, flow_epochs, seed):
    """Returns a model and the CPU seconds of its training, from `folder` if it can.

    Args:
        name: A key of `BUILDERS`.
        images: Dequantized training images.
        folder: Where trained models are kept.
        epochs: Passes over the images.
        flow_epochs: Passes over the latents in the second of two stages.
        seed: Seed of weights, order and noise.
    """
    path = _path(folder, name)
    clock = path.with_suffix(".seconds")
    if path.exists():
        return keras.models.load_model(path), float(clock.read_text())
    keras.utils.set_random_seed(seed)
    model = BUILDERS[name]()
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    stages = {"flow_epochs": flow_epochs} if name == TWO_STAGES else {}
    start = time.process_time()
    model.fit(images, epochs=epochs, batch_size=64, verbose=2, **stages)
    seconds = time.process_time() - start
    model.save(path)
    clock.write_text(str(seconds))
    return model, seconds


def train_flow_on(model, images, folder, epochs):
    """Trains the flow of a two-stage model on, its autoencoder staying as it is.

    The learning rate falls along half a cosine. The model takes the place of the old
    one in `folder`. Returns the CPU seconds.
    """

    def rate(epoch):
        return 1e-3 * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))

    start = time.process_time()
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(
        images,
        epochs=0,
        flow_epochs=epochs,
        batch_size=128,
        verbose=2,
        callbacks=[keras.callbacks.LearningRateScheduler(rate)],
    )
    seconds = time.process_time() - start
    path = _path(folder, TWO_STAGES)
    model.save(path)
    clock = path.with_suffix(".seconds")
    clock.write_text(str(float(clock.read_text()) + seconds))
    return seconds


def classifier(images, labels, folder, *, epochs, seed):
    """Returns the feature classifier, from `folder` if it is there."""
    path = _path(folder, "classifier")
    if path.exists():
        return keras.models.load_model(path)
    judge = latent.train_classifier(images, labels, epochs=epochs, seed=seed, verbose=2)
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
