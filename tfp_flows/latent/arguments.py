"""Checks of what latent models are given."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.conditional import condition_shape

tfd = tfp.distributions


def checked_prior(name: str, prior: Any, latent_dim: int) -> tfd.Distribution:
    """Returns `prior` if it is one of latents that takes no condition."""
    checked_latent_distribution(name, prior, latent_dim)
    bijector = getattr(prior, "bijector", None)
    if bijector is not None and condition_shape(bijector) is not None:
        raise ValueError(
            f"Argument `{name}` must be a distribution that takes no condition. "
            f"Received: {prior}"
        )
    return prior


def checked_latent_distribution(
    name: str, distribution: Any, latent_dim: int
) -> tfd.Distribution:
    """Returns `distribution` if it is one of vectors of `latent_dim` values."""
    if not isinstance(distribution, tfd.Distribution) or (
        tuple(distribution.event_shape) != (latent_dim,)
    ):
        shape = getattr(distribution, "event_shape", None)
        what = distribution if shape is None else f"event shape {shape}"
        raise ValueError(
            f"Argument `{name}` must be a TFP distribution of vectors of "
            f"`latent_dim={latent_dim}` values, "
            f"such as `tfpf.real_nvp(({latent_dim},))`"
            f". Received: {what}"
        )
    return distribution


def check_shape(name: str, x: Any, event_shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless `x` has the shape `[n, *event_shape]`."""
    shape = tf.TensorShape(x.shape if tf.is_tensor(x) else np.shape(x))
    if not shape.is_compatible_with((None, *event_shape)):
        words = ", ".join(map(str, ("n", *event_shape)))
        raise ValueError(
            f"Argument `{name}` must have shape [{words}]. "
            f"Received: {name} of shape {shape}"
        )


def check_network(
    name: str, network: Any, taken: tuple[int, ...], made: tuple[int, ...]
) -> None:
    """Raises unless `network` turns `[n, *taken]` into `[n, *made]`; builds it."""
    if not isinstance(network, keras.Layer):
        raise TypeError(
            f"Argument `{name}` must be a Keras layer or model. "
            f"Received: {network!r} of type {type(network).__name__}"
        )
    if not network.built:
        network.build((None, *taken))
    shape = network.compute_output_shape((None, *taken))
    if tuple(shape) != (None, *made):
        raise ValueError(
            f"Argument `{name}` must turn [n, {', '.join(map(str, taken))}] into "
            f"[n, {', '.join(map(str, made))}]. Received: outputs of shape {shape}"
        )
