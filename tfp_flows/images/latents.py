"""Images by their latents: an image has exactly one, and every latent is an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import Seed, check_event, checked_integer, invalid
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.training.model import FlowModel
from tfp_flows.training.sampling import distribution_of, tempered

Flow: TypeAlias = "FlowModel | tfd.Distribution"
Images: TypeAlias = "npt.ArrayLike | tf.Tensor"


def flow_of(flow: Flow) -> tfd.TransformedDistribution:
    """Returns the image flow in `flow`, a distribution or a `FlowModel`."""
    found = distribution_of(flow, "flow")
    # TFP's own classes of transformed distributions have no common public base.
    if not hasattr(found, "bijector") or len(found.event_shape) != 3:
        must = "be a flow of images (height, width, channels), or a `FlowModel` of one"
        raise invalid("flow", must, flow, TypeError)
    return found


def encode(flow: Flow, images: Images) -> tf.Tensor:
    """Returns the latents of images `[..., h, w, c]`."""
    flow = flow_of(flow)
    images = tf.cast(tf.convert_to_tensor(images), flow.dtype)
    check_event(images, flow.event_shape, f"the flow '{flow.name}'", "images")
    return flow.bijector.inverse(images)


def decode(flow: Flow, latents: Images) -> tf.Tensor:
    """Returns the images of latents `[..., d]`."""
    return flow_of(flow).bijector.forward(latents)


def temperature_series(
    flow: Flow,
    n: int,
    temperatures: Sequence[float] = (0.0, 0.5, 0.7, 1.0),
    seed: Seed = 0,
) -> tf.Tensor:
    """Draws the same n samples at several temperatures: `[n, temperatures, h, w, c]`.

    A latent z becomes `mean + temperature (z - mean)`; a lower temperature gives
    likelier and less varied images (Kingma, Dhariwal: Glow, 2018, section 5).
    """
    if not temperatures or not all(0 <= t < np.inf for t in temperatures):
        must = "hold at least one number, all finite and none negative"
        raise invalid("temperatures", must, temperatures)
    base = flow_of(flow).distribution
    z = base.sample(n, seed=stateless_seed(seed))
    return _series(flow, [tempered(base, z, float(t)) for t in temperatures])


def interpolate(
    flow: Flow, start: Images, end: Images, steps: int = 8, *, spherical: bool = True
) -> tf.Tensor:
    """Interpolates between images along a path of latents: `[n, steps, h, w, c]`.

    The first images are `start`, the last `end`. With `spherical`, latents move on the
    arc between their directions while their length changes linearly. A straight line
    between two draws of a normal distribution in many dimensions leads through its
    middle, where no image has its latent, and looks washed out.
    """
    checked_integer("steps", steps, minimum=2)
    a, b = encode(flow, start), encode(flow, end)
    path = _arc if spherical else _line
    return _series(flow, [path(a, b, t) for t in np.linspace(0.0, 1.0, steps)])


def _series(flow: Flow, latents: Sequence[tf.Tensor]) -> tf.Tensor:
    """Decodes latents `[n, *latent]` of several steps, `[n, steps, h, w, c]`."""
    # One by one: a bound condition belongs to an image, whatever the step.
    return tf.stack([decode(flow, z) for z in latents], axis=1)


def _line(a: tf.Tensor, b: tf.Tensor, t: float) -> tf.Tensor:
    return (1.0 - t) * a + t * b


def _arc(a: tf.Tensor, b: tf.Tensor, t: float) -> tf.Tensor:
    """Moves from `a` to `b` along a circle, with lengths in between."""
    axes = list(range(1, a.shape.rank))

    def inner(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(a * b, axis=axes, keepdims=True)

    length_a, length_b = (tf.sqrt(inner(z, z)) for z in (a, b))
    cosine = inner(a, b) / (length_a * length_b)
    # Nearly equal or opposite latents leave the arc undefined, as does 0, which has no
    # direction and the cosine NaN: take the line.
    angle = tf.acos(tf.clip_by_value(cosine, -1.0, 1.0))
    straight = tf.logical_not(tf.sin(angle) >= 1e-4)
    safe = tf.where(straight, tf.ones_like(angle), angle)
    along_a = tf.sin((1.0 - t) * safe) / tf.sin(safe) / length_a
    along_b = tf.sin(t * safe) / tf.sin(safe) / length_b
    arc = (along_a * a + along_b * b) * ((1.0 - t) * length_a + t * length_b)
    return tf.where(straight, _line(a, b, t), arc)


def attribute_vector(
    flow: Flow, images: Images, has_attribute: npt.ArrayLike
) -> tf.Tensor:
    """Returns the direction, one latent, among the latents in which an attribute grows.

    It is the mean latent of the images that have the attribute minus the mean latent of
    those that have not (Kingma, Dhariwal: Glow, 2018, section 5). `has_attribute` are
    booleans `[n]`, such as `labels == 9` for boots.
    """
    has = np.asarray(has_attribute).astype(bool)
    if has.shape != (len(images),) or has.all() or not has.any():
        raise ValueError(
            "Argument `has_attribute` must hold one boolean for each of the "
            f"{len(images)} images, some true and some false. "
            f"Received: {has.sum()} true values in shape {has.shape}"
        )
    latents = encode(flow, images)
    return tf.reduce_mean(latents[has], axis=0) - tf.reduce_mean(latents[~has], axis=0)


def add_attribute(
    flow: Flow,
    images: Images,
    vector: Images,
    strengths: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0),
) -> tf.Tensor:
    """Moves images along an attribute vector: `[n, strengths, h, w, c]`."""
    latents = encode(flow, images)
    vector = tf.cast(vector, latents.dtype)
    return _series(flow, [latents + strength * vector for strength in strengths])
