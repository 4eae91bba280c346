"""RealNVP for images: checkerboard and channel couplings on several scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.squeeze import Squeeze

tfb, tfd = tfp.bijectors, tfp.distributions


def real_nvp_image(
    event_shape: Shape,
    *,
    levels: int | None,
    coupled: Callable[[Mask], tfb.Bijector],
    normalization: Callable[..., tfb.Bijector] | None,
    split_prior: str,
    split_condition: Sequence[int] | None,
    dtype: Any,
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds RealNVP for `(h, w, c)`; see `real_nvp` and `assemble` for arguments.

    From the data to the latents each level but the last has three checkerboard
    couplings, a squeeze and three channel couplings; the last has four checkerboard
    couplings. Every coupling is followed by a normalization.
    """
    levels = checked_levels(event_shape, levels)
    checked_choice("split_prior", split_prior, PRIORS)

    def normalized(mask: Mask) -> list[tfb.Bijector]:
        if normalization is None:
            return [coupled(mask)]
        return [coupled(mask), normalization(mask.event_shape[-1], dtype=dtype)]

    def alternating(make: Any, shape: Shape, n: int) -> list[tfb.Bijector]:
        return [part for k in range(n) for part in normalized(make(shape, bool(k % 2)))]

    parts, shape = [], event_shape
    for _ in range(levels - 1):
        height, width, channels = shape
        squeezed = (height // 2, width // 2, 4 * channels)
        bijectors = [
            *alternating(masks.checkerboard, shape, 3),
            Squeeze(order="checkerboard", dtype=dtype),
            *alternating(masks.channel, squeezed, 3),
        ]
        if split_prior == "learned":
            bijectors.append(learned_prior(squeezed, dtype, split_condition))
        parts.append(tfb.Chain(bijectors))
        shape = (*squeezed[:-1], 2 * channels)
    pair = alternating(masks.checkerboard, shape, 2)
    parts.append(Repeat(tfb.Chain(pair), 2))
    return assemble(
        event_shape,
        [MultiScale(event_shape, parts)],
        dtype=dtype,
        latent_shape=(math.prod(event_shape),),
        **options,
    )
