"""What image flows share, and multi-scale RealNVP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.internal.arguments import Shape, checked_choice, checked_integer
from tfp_flows.nets.conv import PriorNet, ZeroConv2D

tfb, tfd = tfp.bijectors, tfp.distributions

PRIORS = ("learned", "normal")

_MOST_LEVELS = 3


def checked_levels(event_shape: Shape, levels: int | None) -> int:
    """Returns the number of levels for an image, or says what would make it fit.

    Args:
        event_shape: Shape `(h, w, c)`.
        levels: Number of halvings, or None for as many as fit, at most 3.

    Raises:
        ValueError: If height and width are not divisible by `2**levels`; the message
            says which padding would do.
    """
    fitting = _halvings(event_shape)
    if levels is None:
        levels = min(fitting, _MOST_LEVELS) or 1
    levels = checked_integer("levels", levels)
    if levels <= fitting:
        return levels
    unit = 2**levels
    height, width, channels = event_shape
    rows, columns = -height % unit, -width % unit
    fewer = f", or use at most levels={fitting}" if fitting else ""
    raise ValueError(
        f"Argument `event_shape` must have a height and width divisible by 2**levels = "
        f"{unit}: pad the images by {rows} rows and {columns} columns to "
        f"({height + rows}, {width + columns}, {channels}){fewer}. "
        f"Received: event_shape={event_shape}, levels={levels}"
    )


def _halvings(event_shape: Shape) -> int:
    common = math.gcd(*event_shape[:2])
    return (common & -common).bit_length() - 1


def learned_prior(
    shape: Shape, dtype: Any, condition_shape: Sequence[int] | None = None
) -> tfb.Bijector:
    """Returns Glow's prior of the second half of the channels given the first.

    It is an affine coupling: from the half `h` that stays a zero-initialised 3x3
    convolution gives mean `m(h)` and log-scale `s(h)`, and the half that leaves,
    `z = m(h) + exp(s(h)) x`, becomes a standard normal `x`.

    Args:
        shape: Shape `(h, w, c)` of both halves together.
        dtype: Float type.
        condition_shape: Shape of a condition that mean and scale also depend on.

    Returns:
        The bijector, from standard normal to `z`, with `h` passed on.
    """
    mask = masks.channel(shape)
    net = ZeroConv2D(2 * mask.moved_shape[-1], 3, dtype=dtype)
    if condition_shape is not None:
        net = PriorNet(dtype=dtype)
    return AffineCoupling(
        mask, net, log_scale="exp", condition_shape=condition_shape, dtype=dtype
    )


def real_nvp_image(
    event_shape: Shape,
    *,
    levels: int | None,
    coupled: Callable[[Mask], tfb.Bijector],
    normalization: Callable[..., tfb.Bijector] | None,
    split_prior: str,
    split_condition: Sequence[int] | None,
    mode: str,
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

    def alternating(
        make: Callable[[Shape, bool], Mask], shape: Shape, n: int
    ) -> list[tfb.Bijector]:
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
    parts.append(Repeat(tfb.Chain(pair), 2, mode=mode))
    return assemble(
        event_shape,
        [MultiScale(event_shape, parts)],
        dtype=dtype,
        latent_shape=(math.prod(event_shape),),
        **options,
    )
