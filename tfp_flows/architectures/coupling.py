"""Coupling flows: `nice`, `real_nvp`, `coupling_flow` and `spline_flow`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
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
    stacked,
)
from tfp_flows.architectures.images import multiscale_flow
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import (
    AdditiveCoupling,
    Coupling,
    checked_transform,
)
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.normalization import ActNorm, BatchNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    Shape,
    case_of,
    checked_integer,
    float_dtype,
    renamed,
)
from tfp_flows.nets.conv import ConvNet
from tfp_flows.nets.dense import MLP


@renamed(couplings="steps")
def nice(
    event_shape: int | Sequence[int],
    *,
    steps: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "nice",
) -> tfd.TransformedDistribution:
    """Builds NICE: additive couplings that take turns, then a diagonal scale.

    Even and odd positions of the (flattened) event are passed on in turn, as in the
    paper. Volume changes only in the scale `y = exp(s) x` at the latent end, and in the
    actnorm. The paper also uses `base=tfd.Sample(tfd.Logistic(0.0, 1.0), [d])`.

    Args:
        steps: Number of couplings, at least 2.
        actnorm: Whether the data's end has an `ActNorm`, with which data of any unit
            of measure trains; the paper has none.

    Reference: Dinh, Krueger, Bengio: NICE, 2014, arXiv:1410.8516.

    Example:
        >>> nice((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_event(event_shape)
    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps, minimum=2)
    d = math.prod(shape)

    def coupling(identity: range) -> tfb.Bijector:
        net = MLP(hidden_units, activation, residual, dropout, dtype=dtype)
        return AdditiveCoupling(
            masks.indices(d, identity), net, condition_shape=seen, dtype=dtype
        )

    pair = [coupling(range(0, d, 2)), coupling(range(1, d, 2))]
    bijectors = [Repeat(tfb.Chain(pair), steps // 2, mode=mode)]
    if steps % 2:
        bijectors.append(coupling(range(0, d, 2)))
    zeros = tf.zeros([d], float_dtype(dtype))
    bijectors.append(tfb.Scale(log_scale=tf.Variable(zeros, name="log_scale")))
    if actnorm:
        bijectors.insert(0, ActNorm(d, dtype=dtype))
    return assemble(shape, bijectors, **options)


@renamed(couplings="steps")
def real_nvp(
    event_shape: int | Sequence[int],
    *,
    levels: int | None = None,
    steps: int | None = None,
    hidden_channels: int | None = None,
    blocks: int | None = None,
    widen: bool | None = None,
    normalized: bool | None = None,
    hidden_units: Sequence[int] | None = None,
    activation: Activation = "relu",
    residual: bool | None = None,
    dropout: float = 0.0,
    coupling: str | Transform = "affine",
    log_scale: str = "soft_clamp",
    actnorm: bool = True,
    batchnorm: bool = False,
    split_prior: str | None = None,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    condition_use: str | Sequence[str] = "couplings",
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "real_nvp",
) -> tfd.TransformedDistribution:
    """Builds RealNVP: affine couplings that pass on one part of the data in turn.

    Images `(h, w, c)` get the paper's multi-scale flow: on each level but the last
    three checkerboard couplings, a squeeze, three channel couplings and a split of the
    channels, on the last four checkerboard couplings, the only ones that are repeated.
    Vectors, and images for which `hidden_units` is given, are flattened and get `steps`
    couplings that pass on the halves in turn. Options of one kind are refused for the
    other.

    Args:
        levels: For images, number L of levels; height and width must be divisible
            by `2**L`. None for as many as fit, at most 3.
        steps: For vectors, number of couplings, at least 2; None for 8.
        hidden_channels: For images, width of each conditioner; None for 64.
        blocks: For images, residual blocks of each conditioner; None for 2.
        widen: For images, whether conditioners get twice as wide each time the
            resolution is halved, as in the paper.
        normalized: For images, whether conditioners have weight and batch
            normalization inside, as in the paper; see `tfpf.nets.ConvNet`.
        hidden_units: For vectors; None for `(128, 128)`.
        residual: None for True on images, as in the paper, and False on vectors.
        actnorm: Whether an `ActNorm` is before each pair of couplings of vectors, and
            behind each coupling of images.
        batchnorm: Whether to use `BatchNorm` there instead, as in the paper.
        split_prior: For images, prior of the channels that leave after a level:
            `"normal"`, or `"learned"` from those that stay. None for the first.
        condition_use: For images, where conditions go: `"couplings"`, `"split_prior"`
            or both, as a tuple.

    Reference: Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
    arXiv:1605.08803.

    Example:
        >>> real_nvp((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
        >>> real_nvp((8, 8, 1), levels=2, hidden_channels=8).event_shape
        TensorShape([8, 8, 1])
    """
    shape = checked_event(event_shape)
    seen = seen_condition(condition_shape, encoder)
    image = is_image(
        shape,
        hidden_units,
        images={
            "levels": levels,
            "hidden_channels": hidden_channels,
            "blocks": blocks,
            "widen": widen,
            "normalized": normalized,
            "split_prior": split_prior,
            "condition_use": None if condition_use == "couplings" else condition_use,
        },
        vectors={"steps": steps},
    )
    split_prior = split_prior or "normal"
    uses = condition_places(condition_use, ("couplings", "split_prior"), split_prior)
    residual = image if residual is None else residual
    normalization = BatchNorm if batchnorm else ActNorm if actnorm else None

    def network(mask: Mask) -> keras.Layer:
        if not image:
            widths = hidden_units or (128, 128)
            return MLP(widths, activation, residual, dropout, dtype=dtype)
        width = 64 if hidden_channels is None else hidden_channels
        if widen:
            width *= shape[0] // mask.event_shape[0]
        return ConvNet(
            width,
            activation,
            residual,
            2 if blocks is None else blocks,
            dropout,
            normalized=bool(normalized),
            dtype=dtype,
        )

    coupled = coupling_maker(
        coupling,
        network,
        log_scale=log_scale,
        condition_shape=seen if "couplings" in uses else None,
        dtype=dtype,
    )
    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}

    def normalized_couplings(
        make: Callable[[Shape, bool], Mask], event: Shape, n: int
    ) -> list[tfb.Bijector]:
        bijectors = []
        for k in range(n):
            bijectors.append(coupled(make(event, bool(k % 2))))
            if normalization is not None:
                bijectors.append(normalization(event[-1], dtype=dtype))
        return bijectors

    def level(event: Shape, last: bool) -> tuple[list[tfb.Bijector], Shape]:
        if last:
            pair = normalized_couplings(masks.checkerboard, event, 2)
            return [Repeat(tfb.Chain(pair), 2, mode=mode)], event
        height, width, channels = event
        squeezed = (height // 2, width // 2, 4 * channels)
        bijectors = [
            *normalized_couplings(masks.checkerboard, event, 3),
            Squeeze(order="checkerboard", dtype=dtype),
            *normalized_couplings(masks.channel, squeezed, 3),
        ]
        return bijectors, squeezed

    if image:
        condition = seen if "split_prior" in uses else None
        options |= {"split_prior": split_prior, "split_condition": condition}
        return multiscale_flow(shape, levels, level, **options)
    steps = checked_integer("steps", 8 if steps is None else steps, minimum=2)
    d = math.prod(shape)
    pair = [coupled(masks.half(d)), coupled(masks.half(d, flip=True))]
    if normalization is not None:
        pair.insert(0, normalization(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), steps // 2, mode=mode)]
    if steps % 2:
        bijectors.append(coupled(masks.half(d)))
    return assemble(shape, bijectors, **options)


@case_of(stacked)
def coupling_flow(
    event_shape: int | Sequence[int],
    *,
    transform: Transform | None = None,
    steps: int = 8,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    permutation: str | None = None,
    dtype: DType = None,
    name: str = "coupling_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds couplings of any transform: `steps` times actnorm, mixing, coupling.

    Each coupling passes on the first half of the values; the learned linear map before
    it decides what those are. Actnorm centers the values where transforms bend. For
    events of one value the transforms are `Elementwise`, given the condition alone.

    Args:
        transform: A value of `tfpf.transforms`; None for `Affine()`.
        actnorm: Whether each step starts with an `ActNorm`.

    Example:
        >>> import tfp_flows as tfpf
        >>> g = tfpf.transforms.Bernstein(degree=8)
        >>> coupling_flow((2,), transform=g, steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    value = checked_transform(transform)

    def step(d: int, seen: Shape | None) -> list[tfb.Bijector]:
        net = MLP(hidden_units, activation, residual, dropout, dtype=dtype)
        given = {"condition_shape": seen, "dtype": dtype}
        if d == 1:
            net = net if seen else None
            return [Elementwise(value, (1,), conditioner=net, **given)]
        coupling = Coupling(masks.half(d), net, value, **given)
        return [mixing(permutation, d, dtype), coupling]

    return stacked(event_shape, step, steps=steps, dtype=dtype, name=name, **options)


@renamed(couplings="steps")
@case_of(coupling_flow, "transform")
def spline_flow(
    event_shape: int | Sequence[int],
    *,
    bins: int = 8,
    bound: float = 5.0,
    name: str = "spline_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a neural spline flow: `coupling_flow` of rational-quadratic splines.

    For all arguments but `bins` and `bound` see `coupling_flow`.

    Reference: Durkan, Bekasov, Murray, Papamakarios: Neural Spline Flows, 2019,
    arXiv:1906.04032.

    Example:
        >>> spline_flow((2,), steps=2, bins=4, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    spline = RationalQuadraticSpline(bins, bound)
    return coupling_flow(event_shape, transform=spline, name=name, **options)
