"""`glow`: steps of actnorm, invertible 1x1 convolution and affine coupling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import (
    assemble,
    checked_count,
    checked_shape,
    seen_condition,
)
from tfp_flows.architectures.glow_image import glow_image
from tfp_flows.architectures.images import checked_choice, is_image
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.coupling import AdditiveCoupling, AffineCoupling
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.nets.convnet import ConvNet
from tfp_flows.nets.mlp import MLP

tfb, tfd = tfp.bijectors, tfp.distributions

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
            `tff.bases.conditional_normal`.
        base: Distribution of flat latents; None for a standard normal. `MultiScale`
            documents the order of an image's latents.
        preprocess: Bijector on the data's side, such as `tff.logit(256)`.
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
    shape = checked_shape(event_shape)
    seen = seen_condition(condition_shape, encoder)
    checked_count("steps", steps)
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
