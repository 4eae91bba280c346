"""Inpainting and super-resolution, by MCMC or MAP under a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.images.latents import Flow, Images, decode, encode, flow_of
from tfp_flows.internal.arguments import (
    Seed,
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.internal.seeds import stateless_seed

METHODS = ("optimize", "langevin")


def inpaint(flow: Flow, images: Images, known: Images, **options: Any) -> tf.Tensor:
    """Fills in the pixels of images that are not known.

    Args:
        images: Images `[n, h, w, c]`; values of unknown pixels do not matter.
        known: Booleans that broadcast to `images`, true where a pixel is known.
        **options: `method`, `steps`, `sigma` and `seed` of `restore`. Known pixels may
            be off by `sigma` while it runs, and are returned as they were.
    """
    flow = flow_of(flow)
    images = tf.cast(tf.convert_to_tensor(images), flow.dtype)
    known = tf.broadcast_to(tf.cast(known, tf.bool), images.shape)
    weight = tf.cast(known, flow.dtype)
    count = tf.maximum(tf.reduce_sum(weight, axis=[1, 2], keepdims=True), 1.0)
    mean = tf.reduce_sum(weight * images, axis=[1, 2], keepdims=True) / count
    rough = tf.where(known, images, mean)
    restored = restore(flow, lambda x: x * weight, weight * images, rough, **options)
    return tf.where(known, images, restored)


def super_resolve(
    flow: Flow, small: Images, *, sigma: float | None = None, **options: Any
) -> tf.Tensor:
    """Enlarges images to the size that the flow knows.

    Args:
        small: Images `[n, h / k, w / k, c]`, whose pixels are means over blocks.
        sigma: Standard deviation of the small pixels, in pixel values; None for 1/64
            of their range.
        **options: `method`, `steps` and `seed` of `restore`.

    Returns:
        Images `[n, h, w, c]` whose block means are nearly `small`.
    """
    flow = flow_of(flow)
    small = tf.cast(tf.convert_to_tensor(small), flow.dtype)
    height, width, _ = flow.event_shape
    factor = height // int(small.shape[1])
    if factor < 2 or [int(n) * factor for n in small.shape[1:3]] != [height, width]:
        must = f"hold images smaller by a whole factor than {tuple(flow.event_shape)}"
        raise invalid("small", must, got=f"small of shape {small.shape}")
    rough = tf.repeat(tf.repeat(small, factor, axis=1), factor, axis=2)
    sigma = _share_of_range(small, 1.0 / 64.0) if sigma is None else sigma

    def measure(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.avg_pool2d(x, factor, factor, "VALID")

    return restore(flow, measure, small, rough, sigma=sigma, **options)


def restore(
    flow: Flow,
    measure: Callable[[tf.Tensor], tf.Tensor],
    measured: tf.Tensor,
    rough: tf.Tensor,
    *,
    method: str = "langevin",
    steps: int = 300,
    sigma: float | None = None,
    seed: Seed = 0,
) -> tf.Tensor:
    """Finds images of a known measurement, under the flow's exact density.

    Args:
        measure: The function A from images `[n, h, w, c]` to what is measured.
        measured: The measurement y of the images that are wanted.
        method: `"optimize"` climbs `log p(z | y)` by Adam, to a likely image;
            `"langevin"` draws a random one by the Metropolis-adjusted Langevin
            algorithm, from a random start.
        sigma: Standard deviation of the measurement's noise; None for 1/32 of its
            range, 8 of 256 levels.
    """
    checked_choice("method", method, METHODS)
    checked_integer("steps", steps)
    sigma = _share_of_range(measured, 1.0 / 32.0) if sigma is None else sigma
    checked_number("sigma", sigma, above=0)
    flow = flow_of(flow)

    def log_likelihood(z: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        error = measure(flow.bijector.forward(z)) - y
        axes = list(range(1, error.shape.rank))
        return -tf.reduce_sum(tf.square(error), axis=axes) / (2.0 * sigma**2)

    def log_posterior(z: tf.Tensor) -> tf.Tensor:
        return flow.distribution.log_prob(z) + log_likelihood(z, measured)

    if method == "optimize":
        return decode(flow, _climb(log_posterior, encode(flow, rough), steps))
    of_start, of_noise, of_steps = tf.unstack(
        tf.random.experimental.stateless_split(stateless_seed(seed), 3)
    )
    start = flow.distribution.sample(len(rough), seed=of_start)
    noise = tf.random.stateless_normal(
        tf.shape(measured), of_noise, stddev=sigma, dtype=flow.dtype
    )

    def nearby(z: tf.Tensor) -> tf.Tensor:
        away = tf.reduce_sum(tf.square(z - start), list(range(1, z.shape.rank))) / 2.0
        return log_likelihood(z, measured + noise) - away

    z = _climb(nearby, start, steps)
    return decode(flow, _langevin(log_posterior, z, steps, of_steps))


def _share_of_range(values: tf.Tensor, share: float) -> float:
    extent = float(tf.reduce_max(values) - tf.reduce_min(values))
    return share * (extent or float(tf.reduce_max(tf.abs(values))) or 1.0)


def _climb(log_posterior: Callable, z: tf.Tensor, steps: int) -> tf.Tensor:
    """Moves latents uphill by Adam."""
    z = tf.Variable(z)
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build([z])

    @tf.function
    def climb() -> tf.Tensor:
        return tfp.math.minimize(
            lambda: -tf.reduce_sum(log_posterior(z)),
            num_steps=steps,
            optimizer=optimizer,
            trainable_variables=[z],
        )

    climb()
    return tf.convert_to_tensor(z)


def _langevin(
    log_posterior: Callable, z: tf.Tensor, steps: int, seed: Seed
) -> tf.Tensor:
    """Draws latents; each image is a chain with a step size of its own."""
    # One leapfrog step is the Metropolis-adjusted Langevin algorithm; 0.57 is its
    # best rate of acceptance.
    kernel = tfp.mcmc.SimpleStepSizeAdaptation(
        tfp.mcmc.HamiltonianMonteCarlo(
            log_posterior,
            step_size=tf.fill(
                [len(z), *[1] * (z.shape.rank - 1)], tf.constant(0.02, z.dtype)
            ),
            num_leapfrog_steps=1,
        ),
        num_adaptation_steps=max(1, int(0.8 * steps)),
        target_accept_prob=tf.constant(0.574, z.dtype),
    )

    @tf.function
    def run() -> tf.Tensor:
        return tfp.mcmc.sample_chain(
            num_results=1,
            num_burnin_steps=steps,
            current_state=z,
            kernel=kernel,
            trace_fn=None,
            seed=seed,
        )

    return run()[0]


def inpainting_series(
    flow: Flow,
    images: Images,
    known: Images,
    draws: int = 3,
    *,
    seed: Seed = 0,
    **options: Any,
) -> tf.Tensor:
    """Hides pixels and fills them in: `[n, draws + 3, h, w, c]`.

    The columns are: what is known, the rest in the mean colour of the image; the likely
    image that `method="optimize"` finds; `draws` random images of `method="langevin"`;
    the original. `options` are `steps` and `sigma` of `inpaint`.
    """
    flow = flow_of(flow)
    images = tf.cast(tf.convert_to_tensor(images), flow.dtype)
    known = tf.broadcast_to(tf.cast(known, tf.bool), images.shape)
    mean = tf.reduce_mean(images, axis=[1, 2], keepdims=True)
    likely = inpaint(flow, images, known, method="optimize", **options)
    many = tf.repeat(images, draws, axis=0)
    drawn = inpaint(flow, many, tf.repeat(known, draws, axis=0), seed=seed, **options)
    return _columns(tf.where(known, images, mean), likely, drawn, draws, images)


def super_resolution_series(
    flow: Flow,
    images: Images,
    factor: int = 4,
    draws: int = 3,
    *,
    seed: Seed = 0,
    **options: Any,
) -> tf.Tensor:
    """Shrinks images by a factor and enlarges them again: `[n, draws + 3, h, w, c]`.

    The columns are: the small image in large pixels; the likely image that
    `method="optimize"` finds; `draws` random images of `method="langevin"`; the
    original. `options` are `steps` and `sigma` of `super_resolve`.
    """
    flow = flow_of(flow)
    images = tf.cast(tf.convert_to_tensor(images), flow.dtype)
    small = tf.nn.avg_pool2d(images, factor, factor, "VALID")
    likely = super_resolve(flow, small, method="optimize", **options)
    many = tf.repeat(small, draws, axis=0)
    drawn = super_resolve(flow, many, seed=seed, **options)
    coarse = tf.repeat(tf.repeat(small, factor, axis=1), factor, axis=2)
    return _columns(coarse, likely, drawn, draws, images)


def _columns(
    known: tf.Tensor, likely: tf.Tensor, drawn: tf.Tensor, draws: int, truth: tf.Tensor
) -> tf.Tensor:
    drawn = tf.reshape(drawn, [-1, draws, *truth.shape[1:]])
    first = known[:, None], likely[:, None]
    return tf.concat([*first, drawn, truth[:, None]], axis=1)
