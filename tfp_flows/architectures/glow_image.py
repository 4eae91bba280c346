"""Glow for images: levels of steps, with learned priors between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble
from tfp_flows.architectures.images import (
    PRIORS,
    Shape,
    checked_choice,
    checked_levels,
    learned_prior,
)
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conditional_affine import ConditionalAffine
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.squeeze import Squeeze

tfb, tfd = tfp.bijectors, tfp.distributions


def glow_image(
    event_shape: Shape,
    *,
    levels: int | None,
    steps: int,
    mode: str,
    coupled: Callable[[Mask], tfb.Bijector],
    permutation: str,
    split_prior: str,
    top_prior: str,
    top_condition: Sequence[int] | None,
    split_condition: Sequence[int] | None,
    dtype: Any,
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds Glow for `(h, w, c)`; `glow` and `assemble` document the arguments.

    From the data to the latents each level is a squeeze, `steps` steps of actnorm,
    invertible 1x1 convolution and coupling, and the prior of the channels that leave.
    """
    levels = checked_levels(event_shape, levels)
    checked_choice("split_prior", split_prior, PRIORS)
    checked_choice("top_prior", top_prior, PRIORS)

    def step(shape: Shape) -> tfb.Bijector:
        return tfb.Chain(
            [
                ActNorm(shape[-1], dtype=dtype),
                InvertibleConv1x1(shape[-1], kind=permutation, dtype=dtype),
                coupled(masks.channel(shape)),
            ]
        )

    parts, shape = [], event_shape
    for level in range(1, levels + 1):
        height, width, channels = shape
        shape = (height // 2, width // 2, 4 * channels)
        bijectors = [Squeeze(dtype=dtype), Repeat(step(shape), steps, mode=mode)]
        if level == levels:
            bijectors += _top_prior(shape, top_prior, top_condition, dtype)
        else:
            if split_prior == "learned":
                bijectors.append(learned_prior(shape, dtype, split_condition))
            shape = (*shape[:-1], shape[-1] // 2)
        parts.append(tfb.Chain(bijectors))
    return assemble(
        event_shape,
        [MultiScale(event_shape, parts)],
        dtype=dtype,
        latent_shape=(math.prod(event_shape),),
        **options,
    )


def _top_prior(
    shape: Shape, kind: str, condition_shape: Sequence[int] | None, dtype: Any
) -> list[tfb.Bijector]:
    """Returns what stands between the last level and the base distribution."""
    bijectors = []
    if condition_shape is not None:
        net = keras.layers.Dense(
            2 * shape[-1], kernel_initializer="zeros", use_bias=False, dtype=dtype
        )
        bijectors.append(
            ConditionalAffine(shape, net, condition_shape=condition_shape, dtype=dtype)
        )
    if kind == "learned":
        # A mean and a scale a channel; it starts from the data like any actnorm.
        bijectors.append(ActNorm(shape[-1], dtype=dtype))
    return bijectors
