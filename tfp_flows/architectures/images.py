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
from tfp_flows.internal.arguments import checked_choice
from tfp_flows.nets.conv import PriorNet, ZeroConv2D

tfb, tfd = tfp.bijectors, tfp.distributions


Shape = tuple[int, ...]

PRIORS = ("learned", "normal")

_MOST_LEVELS = 3


def is_image(
    event_shape: Shape,
    levels: int | None,
    hidden_channels: int | None,
    hidden_units: Sequence[int] | None,
) -> bool:
    """Tells whether an architecture is to build its image flow.

    Args:
        event_shape: Shape of one data point.
        levels: The architecture's argument, None if it was not given.
        hidden_channels: The same.
        hidden_units: The same.

    Returns:
        True for `(h, w, c)`, unless `hidden_units` asks for a flattened flow.

    Raises:
        ValueError: If arguments of image flows and of vector flows were mixed.
    """
    given = {"levels": levels, "hidden_channels": hidden_channels}
    given = {key: value for key, value in given.items() if value is not None}
    image = len(event_shape) == 3 and hidden_units is None
    if given and not image:
        raise ValueError(
            "Arguments `levels` and `hidden_channels` are for images (height, width, "
            "channels), and exclude `hidden_units`. Received: "
            f"event_shape={event_shape}, hidden_units={hidden_units}, {given}"
        )
    return image


def checked_levels(event_shape: Shape, levels: int | None) -> int:
    """Returns the number of levels for an image, or says what would make it fit.

    Args:
        event_shape: Shape `(h, w, c)`.
        levels: Number of halvings, or None for as many as fit, at most 3.

    Returns:
        The number of levels.

    Raises:
        ValueError: If height and width are not divisible by `2**levels`; the message
            says which padding would do.
    """
    fitting = _halvings(event_shape)
    if levels is None and fitting:
        return min(fitting, _MOST_LEVELS)
    levels = 1 if levels is None else levels
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(
            "Argument `levels` must be an integer of at least 1. "
            f"Received: levels={levels!r}"
        )
    if levels > fitting:
        raise ValueError(
            "Argument `event_shape` must have a height and width divisible by "
            f"2**levels = {2**levels}: {_remedy(event_shape, levels)}. "
            f"Received: event_shape={event_shape}, levels={levels}"
        )
    return levels


def _halvings(event_shape: Shape) -> int:
    common = math.gcd(*event_shape[:2])
    return (common & -common).bit_length() - 1


def _remedy(event_shape: Shape, levels: int) -> str:
    height, width, channels = event_shape
    unit = 2**levels
    rows, columns = -height % unit, -width % unit
    words = (
        f"pad the images by {rows} rows and {columns} columns to "
        f"({height + rows}, {width + columns}, {channels})"
    )
    fitting = _halvings(event_shape)
    return f"{words}, or use at most levels={fitting}" if fitting else words


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
