"""`glow`: actnorm, invertible 1x1 convolutions and couplings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.architectures.images import (
    PRIORS,
    Shape,
    checked_levels,
    is_image,
    learned_prior,
)
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import AdditiveCoupling, AffineCoupling
from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.internal.arguments import checked_choice, checked_integer, checked_shape
from tfp_flows.nets.conv import ConvNet
from tfp_flows.nets.dense import MLP

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


CONDITION_USES = ("couplings", "prior", "both", "priors", "all")


def glow(
    event_shape: int | Sequence[int],
    *,
    levels: int | None = None,
    steps: int = 8,
    hidden_channels: int | None = None,
    hidden_units: Sequence[int] | None = None,
    activation: Any = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    coupling: str = "affine",
    log_scale: str = "soft_clamp",
    permutation: str = "lu",
    split_prior: str = "learned",
    top_prior: str = "normal",
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    condition_use: str = "couplings",
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: Any = None,
    name: str = "glow",
) -> tfd.TransformedDistribution:
    """Builds Glow: steps of actnorm, 1x1 mixing and coupling.

    Images `(h, w, c)` get the paper's multi-scale flow: `levels` times a squeeze,
    `steps` steps with convolutional couplings, and a split of the channels.
    Vectors, and images for which `hidden_units` is given, are flattened and get
    `steps` steps with fully connected couplings.

    Args:
        event_shape: Shape of one data point, such as `(2,)` or `(32, 32, 3)`.
        levels: For images, number L of levels; height and width must be divisible
            by `2**L`. None for as many as fit, at most 3.
        steps: Number K of steps, on each level where there are several.
        hidden_channels: For images, width of each conditioner; None for 128.
        hidden_units: For vectors, widths of each conditioner's hidden layers; None
            for `(128, 128)`.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks.
        dropout: Share of hidden values dropped while training.
        coupling: `"affine"`, or `"additive"`.
        log_scale: How affine couplings bound their scale; see `AffineCoupling`.
        permutation: `"lu"`, `"matrix"`, `"permutation"` or `"reverse"`, the kind of
            mixing between couplings; see `InvertibleConv1x1`.
        split_prior: For images, prior of the channels that leave after a level:
            `"learned"` from those that stay, or `"normal"`.
        top_prior: For images, prior of the last level: `"normal"`, or `"learned"`, one
            mean and scale a channel.
        condition_shape: Shape of one condition, for a conditional flow; `()` for
            labels, which need an `encoder`.
        encoder: Keras layer that conditions go through first, such as
            `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition`.
        condition_use: For images, where conditions go: to the `"couplings"`, to the
            `"prior"` of the last level (the paper's class-conditional model, with
            one-hot classes), to `"both"`, to the `"priors"` of all levels, or to
            `"all"` of these. Vectors have couplings only; for their latents see
            `tfpf.bases.conditional_normal`.
        base: Distribution of flat latents; None for a standard normal. `MultiScale`
            documents the order of an image's latents.
        preprocess: Bijector on the data's side, such as `tfpf.logit(256)`.
        mode: How repeated steps run; `"reversible"` trains in memory that does not
            grow with their number. See `Repeat`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Raises:
        ValueError: If an argument is out of range, or an image cannot be halved
            `levels` times; the message says which padding would do.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039.

    Example:
        >>> glow((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
        >>> glow((8, 8, 1), levels=2, steps=2, hidden_channels=8).event_shape
        TensorShape([8, 8, 1])
    """
    shape = checked_shape("event_shape", event_shape, 2)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps)
    checked_choice("coupling", coupling, ("affine", "additive"))
    checked_choice("condition_use", condition_use, CONDITION_USES)
    image = is_image(shape, levels, hidden_channels, hidden_units)
    if condition_use != "couplings" and not image:
        raise ValueError(
            "Argument `condition_use` must be 'couplings' for vectors. "
            f"Received: condition_use={condition_use!r}, event_shape={shape}"
        )
    in_couplings = seen if condition_use in ("couplings", "both", "all") else None

    def make_net() -> keras.Layer:
        if image:
            width = 128 if hidden_channels is None else hidden_channels
            return ConvNet(width, activation, residual, dropout=dropout, dtype=dtype)
        return MLP(
            hidden_units or (128, 128), activation, residual, dropout, dtype=dtype
        )

    def coupled(mask: Mask) -> tfb.Bijector:
        options = {"condition_shape": in_couplings, "dtype": dtype}
        if coupling == "additive":
            return AdditiveCoupling(mask, make_net(), **options)
        return AffineCoupling(mask, make_net(), log_scale=log_scale, **options)

    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    if image:
        return glow_image(
            shape,
            levels=levels,
            steps=steps,
            mode=mode,
            coupled=coupled,
            permutation=permutation,
            split_prior=split_prior,
            top_prior=top_prior,
            top_condition=seen if condition_use != "couplings" else None,
            split_condition=seen if condition_use in ("priors", "all") else None,
            **options,
        )
    d = math.prod(shape)
    step = [
        ActNorm(d, dtype=dtype),
        InvertibleConv1x1(d, kind=permutation, dtype=dtype),
        coupled(masks.half(d)),
    ]
    return assemble(shape, [Repeat(tfb.Chain(step), steps, mode=mode)], **options)


def dequantization_noise(
    event_shape: tuple[int, int, int],
    *,
    steps: int = 4,
    hidden_channels: int = 32,
    dtype: Any = None,
    name: str = "dequantization_noise",
) -> tfd.TransformedDistribution:
    """Builds a flow of noise in (0, 1) given an image, for `Dequantized`.

    It is a Glow of one level whose couplings see the image, behind a sigmoid.

    Args:
        event_shape: Shape `(h, w, c)` of image and noise, h and w even.
        steps: Number of steps.
        hidden_channels: Width of each conditioner.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A conditional flow with `condition_shape=event_shape`.

    Reference:
        Ho et al.: Flow++, 2019, arXiv:1902.00275, section 3.1.
    """
    return glow(
        event_shape,
        levels=1,
        steps=steps,
        hidden_channels=hidden_channels,
        condition_shape=event_shape,
        preprocess=tfb.Sigmoid(),
        dtype=dtype,
        name=name,
    )
