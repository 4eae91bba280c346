"""Flows of images as tokens, by attention: `tarflow` and `jet`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.causal import Causal
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.reshape import Squeeze
from tfp_flows.bijectors.transforms.affine import Affine
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal.arguments import (
    DType,
    Shape,
    checked_choice,
    checked_integer,
    checked_shape,
    invalid,
)
from tfp_flows.nets.attention import CausalTransformer, Transformer
from tfp_flows.nets.features import LabelEmbedding


def tarflow(
    event_shape: Sequence[int],
    *,
    patch: int = 4,
    steps: int = 4,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    positions: str = "learned",
    dropout: float = 0.0,
    transform: Transform | None = None,
    log_scale: str = "soft_clamp",
    actnorm: bool = True,
    labels: int | None = None,
    label_dropout: float = 0.1,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "tarflow",
) -> tfd.TransformedDistribution:
    """Builds TarFlow: causal attention over the patches of an image.

    An image becomes a sequence of `T = (h / patch) (w / patch)` tokens of
    `patch^2 c` values, in reading order. Each of `steps` parts is a `Causal` flow,

        inverse:  x_t = (y_t - m_t) exp(-s_t),   (m_t, s_t) = net(y_1, ..., y_{t-1})

    whose network is a `CausalTransformer` and whose order turns from part to part. A
    density takes one pass of each network over all tokens; a sample takes T steps of
    each, with the keys and values of the tokens before kept.

    Args:
        patch: Side of a patch; it divides height and width.
        steps: Number of causal parts, at least 2.
        width: Features of a token in the networks.
        layers: Attention blocks of each network.
        heads: Attention heads, which divide `width`.
        positions: `"learned"`, `"rotary"` or `"none"`; see `CausalTransformer`.
        transform: A value of `tfpf.transforms` for each value of a token, given the
            tokens before; None for `Affine(log_scale)`, as published. The paper's log
            scales are unbounded: `log_scale="exp"`.
        actnorm: Whether to put an `ActNorm` of tokens before each pair of parts (not in
            the paper).
        labels: Number of classes, for a class-conditional flow, in the place of
            `condition_shape` and `encoder`. Label number `labels` stands for no class;
            see `tfpf.guided` for guidance.
        label_dropout: Share of labels replaced by no class while training. For the
            other arguments see `tfp_flows.architectures`.

    The paper trains with Gaussian noise added to images and takes it out of samples:
    see `tfpf.Noised`.

    Reference: Zhai et al.: Normalizing Flows are Capable Generative Models, 2024,
    arXiv:2412.06329.

    Example:
        >>> flow = tarflow((8, 8, 1), steps=2, width=8, layers=1, heads=2)
        >>> flow.event_shape
        TensorShape([8, 8, 1])
    """
    shape, _, tokens = _patches(event_shape, patch)
    checked_integer("steps", steps, minimum=2)
    if labels is not None:
        if condition_shape is not None or encoder is not None:
            must = "be None beside `condition_shape` or `encoder`"
            raise invalid("labels", must, labels)
        encoder = LabelEmbedding(labels, width, label_dropout, dtype=dtype)
        condition_shape = ()
    seen = seen_condition(condition_shape, encoder)
    value = Affine(log_scale) if transform is None else transform

    def part(reverse: bool) -> tfb.Bijector:
        net = CausalTransformer(
            width, layers, heads, positions=positions, dropout=dropout, dtype=dtype
        )
        last = keras.layers.Dense(
            tokens[1] * value.parameters_per_value,
            kernel_initializer="zeros",
            dtype=dtype,
        )
        one = Elementwise(value, tokens[1:], (width,), last, dtype=dtype)
        return Causal(tokens, one, net, reverse=reverse, condition_shape=seen)

    pair = [part(False), part(True)]
    if actnorm:
        pair.insert(0, ActNorm(tokens[1], dtype=dtype))
    parts = [Repeat(tfb.Chain(pair), steps // 2, mode=mode)]
    if steps % 2:
        parts.append(part(False))
    return _assembled(
        shape,
        patch,
        tokens,
        parts,
        base=base,
        preprocess=preprocess,
        dtype=dtype,
        name=name,
        encoder=encoder,
        condition_shape=condition_shape,
    )


def jet(
    event_shape: Sequence[int],
    *,
    patch: int = 4,
    steps: int = 12,
    width: int = 64,
    layers: int = 1,
    heads: int = 4,
    kinds: Sequence[str] = ("channels", "channels", "positions"),
    positions: str = "learned",
    dropout: float = 0.0,
    transform: Transform | None = None,
    log_scale: str = "soft_clamp",
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "jet",
) -> tfd.TransformedDistribution:
    """Builds Jet: couplings of the patches of an image, by vision transformers.

    An image becomes `(h / patch) (w / patch)` tokens of `patch^2 c` values. Each of
    `steps` couplings transforms one part of them given the other, by a `Transformer`:

    * `"channels"`: half of the values of every token, after a random permutation;
    * `"positions"`: every second token of the grid, as on a checkerboard, in turn
      the even and the odd ones.

    Densities and samples both take one pass.

    Args:
        patch: Side of a patch; it divides height and width, into at least 2 patches.
        steps: Number of couplings.
        width: Features of a token in the networks.
        layers: Attention blocks of each network.
        heads: Attention heads, which divide `width`.
        kinds: What couplings do in turn, `"channels"` or `"positions"`.
        positions: `"learned"`, `"rotary"` or `"none"`; see `Transformer`.
        transform: A value of `tfpf.transforms`; None for `Affine(log_scale)`.
        actnorm: Whether to put an `ActNorm` of tokens before each turn of two `kinds`
            (not in the paper). For the other arguments see `tfp_flows.architectures`.

    Reference: Kolesnikov, Pinto, Tschannen: Jet: A Modern Transformer-Based Normalizing
    Flow, 2024, arXiv:2412.15129.

    Example:
        >>> jet((8, 8, 1), steps=3, width=8, heads=2).event_shape
        TensorShape([8, 8, 1])
    """
    shape, (rows, columns), tokens = _patches(event_shape, patch)
    checked_integer("steps", steps)
    for kind in kinds:
        checked_choice("kinds", kind, ("channels", "positions"))
    if not kinds:
        raise invalid("kinds", "name some couplings", kinds)
    if tokens[1 if "channels" in kinds else 0] < 2 or tokens[0] < 2:
        must = "leave at least 2 patches, and 2 values in each"
        raise invalid("patch", must, f"{patch}, event_shape={shape}")
    seen = seen_condition(condition_shape, encoder)
    value = Affine(log_scale) if transform is None else transform
    odd = [i for i in range(tokens[0]) if (i // columns + i % columns) % 2]
    even = [i for i in range(tokens[0]) if i not in odd]

    def coupling(kind: str, flip: bool) -> list[tfb.Bijector]:
        net = Transformer(
            width, layers, heads, positions=positions, dropout=dropout, dtype=dtype
        )
        channels = kind == "channels"
        mask = masks.channel(tokens) if channels else None
        mask = mask or masks.positions(tokens, even if flip else odd)
        made = Coupling(mask, net, value, condition_shape=seen, dtype=dtype)
        kept = {"kind": "permutation", "dtype": dtype}
        return [InvertibleConv1x1(tokens[1], **kept), made] if channels else [made]

    def turn(count: int) -> tfb.Bijector:
        parts, checkerboards = [], 0
        for k in range(count):
            kind = kinds[k % len(kinds)]
            parts += coupling(kind, bool(checkerboards % 2))
            checkerboards += kind == "positions"
        if actnorm:
            parts.insert(0, ActNorm(tokens[1], dtype=dtype))
        return tfb.Chain(parts)

    whole, rest = divmod(steps, 2 * len(kinds))
    bijectors = [Repeat(turn(2 * len(kinds)), whole, mode=mode)] if whole else []
    bijectors += [turn(rest)] if rest else []
    return _assembled(
        shape,
        patch,
        tokens,
        bijectors,
        base=base,
        preprocess=preprocess,
        dtype=dtype,
        name=name,
        encoder=encoder,
        condition_shape=condition_shape,
    )


def _patches(
    event_shape: Sequence[int], patch: int
) -> tuple[Shape, tuple[int, int], tuple[int, int]]:
    """Returns the shapes of the image, of the grid of patches and of the tokens."""
    shape = checked_shape("event_shape", event_shape)
    if len(shape) != 3:
        raise invalid("event_shape", "be that of an image, (h, w, c)", event_shape)
    checked_integer("patch", patch)
    if shape[0] % patch or shape[1] % patch:
        must = "divide height and width of the images"
        raise invalid("patch", must, f"{patch}, event_shape={shape}")
    grid = (shape[0] // patch, shape[1] // patch)
    return shape, grid, (math.prod(grid), patch**2 * shape[2])


def _assembled(
    shape: Shape,
    patch: int,
    tokens: tuple[int, int],
    bijectors: Sequence[tfb.Bijector],
    **options: Any,
) -> tfd.TransformedDistribution:
    """Puts the cut into tokens on the data's side of bijectors of tokens."""
    grid = (shape[0] // patch, shape[1] // patch, tokens[1])
    cut = [tfb.Reshape(grid, event_shape_in=tokens)]
    if patch > 1:
        cut.insert(0, Squeeze(patch, dtype=options["dtype"]))
    return assemble(shape, [*cut, *bijectors], latent_shape=tokens, **options)
