"""Coupling flows: `nice`, `real_nvp` and `spline_flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.architectures.images import is_image, real_nvp_image
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    SplineCoupling,
)
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.normalization import ActNorm, BatchNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.internal.arguments import checked_choice, checked_integer, checked_shape
from tfp_flows.nets.conv import ConvNet
from tfp_flows.nets.dense import MLP

tfb, tfd = tfp.bijectors, tfp.distributions


def nice(
    event_shape: int | Sequence[int],
    *,
    couplings: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: Any = None,
    name: str = "nice",
) -> tfd.TransformedDistribution:
    """Builds NICE: additive couplings that take turns, then a diagonal scale.

    Even and odd positions of the (flattened) event are kept in turn, as in the
    paper. Volume changes only in the scale `y = exp(s) x` at the latent end.

    Args:
        event_shape: Shape of one data point, such as `(2,)` or `(8, 8, 1)`.
        couplings: Number of coupling layers, at least 2.
        hidden_units: Widths of each conditioner's hidden layers.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks.
        dropout: Share of hidden values dropped while training.
        condition_shape: Shape of one condition, for a conditional flow; `()` for
            labels, which need an `encoder`.
        encoder: Keras layer that conditions go through first, such as
            `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition`.
        base: Distribution of flat latents; None for a standard normal. The paper
            also uses `tfd.Sample(tfd.Logistic(0.0, 1.0), [d])`.
        preprocess: Bijector on the data's side, such as `tfpf.logit(levels)`.
        mode: How repeated steps run; `"reversible"` trains in memory that does not
            grow with their number. See `Repeat`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Reference:
        Dinh, Krueger, Bengio: NICE, 2014, arXiv:1410.8516.

    Example:
        >>> nice((2,), couplings=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape, 2)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("couplings", couplings, minimum=2)
    d = math.prod(shape)

    def coupling(kept: range) -> tfb.Bijector:
        net = MLP(hidden_units, activation, residual, dropout, dtype=dtype)
        return AdditiveCoupling(
            masks.indices(d, kept), net, condition_shape=seen, dtype=dtype
        )

    pair = [coupling(range(0, d, 2)), coupling(range(1, d, 2))]
    bijectors = [Repeat(tfb.Chain(pair), couplings // 2, mode=mode)]
    if couplings % 2:
        bijectors.append(coupling(range(0, d, 2)))
    zeros = tf.zeros([d], dtype or keras.config.floatx())
    bijectors.append(tfb.Scale(log_scale=tf.Variable(zeros, name="log_scale")))
    return assemble(
        shape,
        bijectors,
        base=base,
        preprocess=preprocess,
        encoder=encoder,
        condition_shape=condition_shape,
        dtype=dtype,
        name=name,
    )


def real_nvp(
    event_shape: int | Sequence[int],
    *,
    levels: int | None = None,
    couplings: int = 8,
    hidden_channels: int | None = None,
    blocks: int = 2,
    widen: bool = False,
    normalized: bool = False,
    hidden_units: Sequence[int] | None = None,
    activation: Any = "relu",
    residual: bool | None = None,
    dropout: float = 0.0,
    coupling: str = "affine",
    log_scale: str = "soft_clamp",
    actnorm: bool = True,
    batchnorm: bool = False,
    split_prior: str = "normal",
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    condition_use: str = "couplings",
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: Any = None,
    name: str = "real_nvp",
) -> tfd.TransformedDistribution:
    """Builds RealNVP: affine couplings that keep one part of the data in turn.

    Images `(h, w, c)` get the paper's multi-scale flow. Each of the first
    `levels - 1` levels has three checkerboard couplings, a squeeze, three channel
    couplings and a split of the channels; the last level has four checkerboard
    couplings. Vectors, and images for which `hidden_units` is given, are flattened
    and get `couplings` couplings that keep the halves in turn.

    Args:
        event_shape: Shape of one data point, such as `(2,)` or `(32, 32, 3)`.
        levels: For images, number L of levels; height and width must be divisible
            by `2**L`. None for as many as fit, at most 3.
        couplings: For vectors, number of coupling layers, at least 2.
        hidden_channels: For images, width of each conditioner; None for 64.
        blocks: For images, number of residual blocks of each conditioner.
        widen: For images, whether conditioners get twice as wide each time the
            resolution is halved, as in the paper.
        normalized: For images, whether conditioners have weight and batch
            normalization inside, as in the paper; see `tfpf.nets.ConvNet`.
        hidden_units: For vectors, widths of each conditioner's hidden layers; None
            for `(128, 128)`.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks; None for True on
            images, as in the paper, and False on vectors.
        dropout: Share of hidden values dropped while training.
        coupling: `"affine"`, or `"additive"`.
        log_scale: How affine couplings bound their scale; see `AffineCoupling`.
        actnorm: Whether to put an `ActNorm` before each pair of couplings of
            vectors, and behind each coupling of images.
        batchnorm: Whether to use `BatchNorm` there instead, as in the paper.
        split_prior: For images, prior of the channels that leave after a level:
            `"normal"`, or `"learned"` from those that stay.
        condition_shape: Shape of one condition, for a conditional flow; `()` for
            labels, which need an `encoder`.
        encoder: Keras layer that conditions go through first, such as
            `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition`.
        condition_use: For images, where conditions go: to the `"couplings"`, to the
            learned `"priors"` between levels, or to `"all"`.
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
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803.

    Example:
        >>> real_nvp((2,), couplings=2, hidden_units=(8,)).event_shape
        TensorShape([2])
        >>> real_nvp((8, 8, 1), levels=2, hidden_channels=8).event_shape
        TensorShape([8, 8, 1])
    """
    shape = checked_shape("event_shape", event_shape, 2)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("couplings", couplings, minimum=2)
    checked_choice("coupling", coupling, ("affine", "additive"))
    image = is_image(shape, levels, hidden_channels, hidden_units)
    checked_choice("condition_use", condition_use, ("couplings", "priors", "all"))
    if condition_use != "couplings" and not (image and split_prior == "learned"):
        raise ValueError(
            "Argument `condition_use` must be 'couplings' unless images have "
            f"`split_prior='learned'`. Received: condition_use={condition_use!r}"
        )
    in_couplings = seen if condition_use != "priors" else None
    residual = image if residual is None else residual
    normalization = BatchNorm if batchnorm else ActNorm if actnorm else None

    def make_net(mask: Mask) -> keras.Layer:
        if image:
            width = 64 if hidden_channels is None else hidden_channels
            if widen:
                width *= shape[0] // mask.event_shape[0]
            options = {"normalized": normalized, "dtype": dtype}
            return ConvNet(width, activation, residual, blocks, dropout, **options)
        widths = hidden_units or (128, 128)
        return MLP(widths, activation, residual, dropout, dtype=dtype)

    def coupled(mask: Mask) -> tfb.Bijector:
        options = {"condition_shape": in_couplings, "dtype": dtype}
        if coupling == "additive":
            return AdditiveCoupling(mask, make_net(mask), **options)
        net = make_net(mask)
        return AffineCoupling(mask, net, log_scale=log_scale, **options)

    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    if image:
        return real_nvp_image(
            shape,
            levels=levels,
            coupled=coupled,
            normalization=normalization,
            split_prior=split_prior,
            split_condition=seen if condition_use != "couplings" else None,
            **options,
        )
    d = math.prod(shape)
    pair = [coupled(masks.half(d)), coupled(masks.half(d, flip=True))]
    if normalization is not None:
        pair.insert(0, normalization(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), couplings // 2, mode=mode)]
    if couplings % 2:
        bijectors.append(coupled(masks.half(d)))
    return assemble(shape, bijectors, **options)


def spline_flow(
    event_shape: int | Sequence[int],
    *,
    couplings: int = 8,
    bins: int = 8,
    bound: float = 5.0,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    permutation: str = "lu",
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: Any = None,
    name: str = "spline_flow",
) -> tfd.TransformedDistribution:
    """Builds a neural spline flow: `couplings` times actnorm, mixing, spline.

    Each coupling keeps the first half of the values; the learned linear map before
    it decides what those are. Actnorm keeps the values where the splines bend.

    Args:
        event_shape: Shape of one data point, such as `(2,)`; others are flattened.
        couplings: Number of coupling layers.
        bins: Number of bins of each spline.
        bound: Splines bend on `[-bound, bound]` and are the identity outside, in
            standard deviations where there is an actnorm: 3 suits data without
            tails, 5 outliers.
        hidden_units: Widths of each conditioner's hidden layers.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks, as in the paper.
        dropout: Share of hidden values dropped while training.
        permutation: Kind of mixing before couplings; see `InvertibleConv1x1`.
        actnorm: Whether each step starts with an `ActNorm`.
        condition_shape: Shape of one condition, for a conditional flow; `()` for
            labels, which need an `encoder`.
        encoder: Keras layer that conditions go through first, such as
            `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition`.
        base: Distribution of flat latents; None for a standard normal.
        preprocess: Bijector on the data's side, such as `tfpf.logit(levels)`.
        mode: How the copies of the step run; see `Repeat`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios: Neural Spline Flows, 2019,
        arXiv:1906.04032.

    Example:
        >>> spline_flow((2,), couplings=2, bins=4, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape, 2)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("couplings", couplings)
    d = math.prod(shape)
    step = [
        InvertibleConv1x1(d, kind=permutation, dtype=dtype),
        SplineCoupling(
            masks.half(d),
            MLP(hidden_units, activation, residual, dropout, dtype=dtype),
            bins=bins,
            bound=bound,
            condition_shape=seen,
            dtype=dtype,
        ),
    ]
    if actnorm:
        step.insert(0, ActNorm(d, dtype=dtype))
    return assemble(
        shape,
        [Repeat(tfb.Chain(step), couplings, mode=mode)],
        base=base,
        preprocess=preprocess,
        encoder=encoder,
        condition_shape=condition_shape,
        dtype=dtype,
        name=name,
    )
