"""Rows of pictures that show a restoration beside what it was given.

Each function takes whole images, hides a part of them, and returns
`[n, columns, h, w, c]`, which `picture_grid` lays out with a row for each image.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.tools.images import flow_of
from tfp_flows.tools.restoration import inpaint, super_resolve


def inpainting_series(
    flow: Any, images: Any, known: Any, draws: int = 3, *, seed: Any = 0, **options: Any
) -> tf.Tensor:
    """Hides pixels and fills them in.

    The columns are: what is known, the rest in the mean colour of the image; the
    likely image that `method="optimize"` finds; `draws` random images of
    `method="langevin"`; the original.

    Args:
        flow: The flow or model.
        images: Images `[n, h, w, c]`.
        known: Booleans that broadcast to `images`, true where a pixel is known.
        draws: Number of random images.
        seed: Seed of the random steps.
        **options: `steps` and `sigma` of `inpaint`.

    Returns:
        Images `[n, draws + 3, h, w, c]`.
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
    flow: Any,
    images: Any,
    factor: int = 4,
    draws: int = 3,
    *,
    seed: Any = 0,
    **options: Any,
) -> tf.Tensor:
    """Shrinks images and enlarges them again.

    The columns are: the small image in large pixels; the likely image that
    `method="optimize"` finds; `draws` random images of `method="langevin"`; the
    original.

    Args:
        flow: The flow or model.
        images: Images `[n, h, w, c]`.
        factor: How many times smaller they are made, a divisor of h and w.
        draws: Number of random images.
        seed: Seed of the random steps.
        **options: `steps` and `sigma` of `super_resolve`.

    Returns:
        Images `[n, draws + 3, h, w, c]`.
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
    given: tf.Tensor, likely: tf.Tensor, drawn: tf.Tensor, draws: int, truth: tf.Tensor
) -> tf.Tensor:
    drawn = tf.reshape(drawn, [-1, draws, *truth.shape[1:]])
    ends = given[:, None], likely[:, None]
    return tf.concat([*ends, drawn, truth[:, None]], axis=1)
