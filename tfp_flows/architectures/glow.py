"""`glow`: actnorm, invertible 1x1 convolutions and couplings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import (
    assemble,
    checked_event,
    condition_places,
    coupling_maker,
    is_image,
    mixing,
    seen_condition,
)
from tfp_flows.architectures.images import PRIORS, multiscale_flow
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    Shape,
    case_of,
    checked_choice,
    checked_integer,
)
from tfp_flows.nets.conditioner import size
from tfp_flows.nets.conv import ConvNet
from tfp_flows.nets.dense import MLP
from tfp_flows.nets.features import LabelChannels


def glow(
    event_shape: int | Sequence[int],
    *,
    levels: int | None = None,
    steps: int = 8,
    hidden_channels: int | None = None,
    hidden_units: Sequence[int] | None = None,
    activation: Activation = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    coupling: str | Transform = "affine",
    log_scale: str | None = None,
    permutation: str | None = None,
    split_prior: str | None = None,
    top_prior: str | None = None,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    condition_use: str | Sequence[str] = "couplings",
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "glow",
) -> tfd.TransformedDistribution:
    """Builds Glow: steps of actnorm, 1x1 mixing and coupling.

    Images `(h, w, c)` get the paper's multi-scale flow: `levels` times a squeeze,
    `steps` steps with convolutional couplings, and a split of the channels.
    Vectors, and images for which `hidden_units` is given, are flattened and get
    `steps` steps with fully connected couplings; they refuse options for images.

    Args:
        levels: For images, number L of levels; height and width must be divisible
            by `2**L`. None for as many as fit, at most 3.
        hidden_channels: For images, width of each conditioner; None for 128.
        hidden_units: For vectors; None for `(128, 128)`.
        log_scale: None for `"tanh"` on images, with which Adam's first steps do not
            explode (`python -m benchmarks.naive`), and `"soft_clamp"` on vectors.
        split_prior: For images, prior of the channels that leave after a level:
            `"learned"` from those that stay, or `"normal"`. None for the first.
        top_prior: For images, prior of the last level: `"normal"`, or `"learned"`, one
            mean and scale a channel. None for the first.
        condition_use: For images, where conditions go: `"couplings"`, `"split_prior"`,
            `"top_prior"` (the paper's class-conditional model, with one-hot classes) or
            a tuple of some. For a vector's latents see `tfpf.bases.conditional_normal`.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039.

    Example:
        >>> glow((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
        >>> glow((8, 8, 1), levels=2, steps=2, hidden_channels=8).event_shape
        TensorShape([8, 8, 1])
    """
    shape = checked_event(event_shape)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps)
    image = is_image(
        shape,
        hidden_units,
        images={
            "levels": levels,
            "hidden_channels": hidden_channels,
            "split_prior": split_prior,
            "top_prior": top_prior,
            "condition_use": None if condition_use == "couplings" else condition_use,
        },
        vectors={},
    )
    split_prior = split_prior or "learned"
    top_prior = checked_choice("top_prior", top_prior or "normal", PRIORS)
    places = ("couplings", "split_prior", "top_prior")
    uses = condition_places(condition_use, places, split_prior)

    def network(mask: Mask) -> keras.Layer:
        if image:
            width = 128 if hidden_channels is None else hidden_channels
            return ConvNet(width, activation, residual, dropout=dropout, dtype=dtype)
        widths = hidden_units or (128, 128)
        return MLP(widths, activation, residual, dropout, dtype=dtype)

    coupled = coupling_maker(
        coupling,
        network,
        log_scale=log_scale or ("tanh" if image else "soft_clamp"),
        condition_shape=seen if "couplings" in uses else None,
        dtype=dtype,
    )

    def repeated(channels: int, mask: Mask) -> tfb.Bijector:
        step = [
            ActNorm(channels, dtype=dtype),
            mixing(permutation, channels, dtype),
            coupled(mask),
        ]
        return Repeat(tfb.Chain(step), steps, mode=mode)

    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}

    def level(event: Shape, last: bool) -> tuple[list[tfb.Bijector], Shape]:
        height, width, channels = event
        event = (height // 2, width // 2, 4 * channels)
        bijectors = [Squeeze(dtype=dtype), repeated(event[-1], masks.channel(event))]
        if last:
            condition = seen if "top_prior" in uses else None
            bijectors += _top_prior(event, top_prior, condition, dtype)
        return bijectors, event

    if image:
        condition = seen if "split_prior" in uses else None
        options |= {"split_prior": split_prior, "split_condition": condition}
        return multiscale_flow(shape, levels, level, **options)
    d = math.prod(shape)
    return assemble(shape, [repeated(d, masks.half(d))], **options)


def _top_prior(
    shape: Shape, kind: str, condition_shape: Sequence[int] | None, dtype: DType
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


@case_of(glow, "levels", "encoder", "preprocess")
def dequantization_noise(
    event_shape: tuple[int, int, int],
    *,
    steps: int = 4,
    hidden_channels: int = 32,
    labels: int | None = None,
    condition_shape: Sequence[int] | None = None,
    name: str = "dequantization_noise",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a flow of noise in (0, 1) given an image, for `Dequantized`.

    It is a Glow of one level whose couplings see the image, behind a sigmoid: a
    conditional flow with `condition_shape=event_shape`. Height and width are even.

    Args:
        labels: Number of classes of a class-conditional flow, which the noise then
            knows: the label, or `labels` for no class, is one more channel of its
            condition.
        condition_shape: The same for other conditions of k values: k more channels.
            Other `options` are such as `glow`'s `mode` and `dtype`.

    Reference: Ho et al.: Flow++, 2019, arXiv:1902.00275, section 3.1.
    """
    values = size(condition_shape) if labels is None else 1
    encoder = (
        None
        if labels is None
        else LabelChannels(labels + 1, dtype=options.get("dtype"))
    )
    *positions, channels = event_shape
    return glow(
        event_shape,
        levels=1,
        steps=steps,
        hidden_channels=hidden_channels,
        condition_shape=(*positions, channels + values),
        encoder=encoder,
        preprocess=tfb.Sigmoid(),
        name=name,
        **options,
    )
