"""What all architectures share: arguments, couplings, base, final assembly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import (
    EncodedCondition,
    encoded_shape,
    within_support,
)
from tfp_flows.bijectors.conditional import condition_shape as condition_shape_of
from tfp_flows.bijectors.coupling import AdditiveCoupling, AffineCoupling, Coupling
from tfp_flows.bijectors.linear import InvertibleConv1x1
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.distributions.bases import standard_normal
from tfp_flows.distributions.supports import forced
from tfp_flows.internal.arguments import (
    DType,
    Shape,
    checked_choice,
    checked_integer,
    checked_shape,
    float_dtype,
    invalid,
)


def assemble(
    event_shape: Shape,
    bijectors: Sequence[tfb.Bijector],
    *,
    base: tfd.Distribution | None,
    preprocess: tfb.Bijector | None,
    dtype: DType,
    name: str,
    encoder: keras.Layer | None = None,
    condition_shape: Sequence[int] | None = None,
    latent_shape: Shape | None = None,
) -> tfd.TransformedDistribution:
    """Chains bijectors on a base distribution over flat latent vectors.

    Args:
        bijectors: Bijectors of flat vectors, from the data's side to the latents'; that
            of a conditional base joins them, so that conditions reach it.
        latent_shape: Shape that the last of `bijectors` takes from the latent side,
            if they are not of vectors.
    """
    size = math.prod(event_shape)
    parts = list(bijectors)
    if latent_shape is not None and latent_shape != (size,):
        parts.append(tfb.Reshape(latent_shape, event_shape_in=(size,)))
    elif latent_shape is None and event_shape != (size,):
        parts.insert(0, tfb.Reshape(event_shape, event_shape_in=(size,)))
    if base is None:
        base = standard_normal(size, dtype)
    elif base.dtype != float_dtype(dtype):
        raise invalid("base", f"have the flow's dtype {float_dtype(dtype).name}", base)
    elif not base.event_shape.is_compatible_with((size,)):
        must = f"be a distribution of vectors of {size} values"
        raise invalid("base", must, got=f"event shape {base.event_shape}")
    elif (own := _own_condition(base)) is not None:
        seen = seen_condition(condition_shape, encoder)
        if seen is not None and own != seen:
            must = f"take conditions of shape {seen}, as the flow's parts do"
            raise invalid("base", must, got=f"a base with conditions of shape {own}")
        parts.append(base.bijector)
        base = base.distribution
    if encoder is not None:
        parts = [
            EncodedCondition(tfb.Chain(parts), encoder, condition_shape=condition_shape)
        ]
    if preprocess is not None:
        parts.insert(0, within_support(preprocess, dtype))
    return tfd.TransformedDistribution(forced(base), tfb.Chain(parts), name=name)


def checked_event(event_shape: int | Sequence[int]) -> Shape:
    """Returns the shape of one data point of a flow whose parts look at each other."""
    shape = checked_shape("event_shape", event_shape)
    if math.prod(shape) < 2:
        raise ValueError(
            "Argument `event_shape` must be the shape of one data point with at least "
            "2 values; for single values use `tfpf.spline_flow` or `tfpf.maf`. "
            f"Received: event_shape={event_shape!r}"
        )
    return shape


def seen_condition(
    condition_shape: Sequence[int] | None, encoder: keras.Layer | None
) -> Shape | None:
    """Returns the shape of the conditions that the parts of a flow see.

    It is that of one encoded condition; None for an unconditional flow.
    """
    if encoder is not None:
        return encoded_shape(encoder, condition_shape)
    if condition_shape is None:
        return None
    if not tuple(condition_shape):
        raise ValueError(
            "Argument `condition_shape` must have at least one axis, such as (1,), "
            "unless an `encoder` such as `keras.layers.Embedding(10, 8)` turns labels "
            "into vectors. Received: condition_shape=()"
        )
    return tuple(condition_shape)


def _own_condition(base: tfd.Distribution) -> Shape | None:
    bijector = getattr(base, "bijector", None)
    return None if bijector is None else condition_shape_of(bijector)


def is_image(
    event_shape: Shape,
    hidden_units: Sequence[int] | None,
    *,
    images: Mapping[str, Any],
    vectors: Mapping[str, Any],
) -> bool:
    """Tells whether an architecture is to build its image flow: for `(h, w, c)`.

    With `hidden_units` it is a flattened flow. Options that only the other kind has are
    refused; they are None where not given.
    """
    image = len(event_shape) == 3 and hidden_units is None
    unused = vectors if image else images
    given = {key: value for key, value in unused.items() if value is not None}
    for key, value in given.items():
        suits = (
            "vectors, or with `hidden_units`"
            if image
            else ("images (height, width, channels), and without `hidden_units`")
        )
        must = f"only be given for {suits}"
        raise invalid(key, must, got=f"{key}={value!r}, event_shape={event_shape}")
    return image


def condition_places(
    condition_use: str | Sequence[str], places: Sequence[str], split_prior: str
) -> tuple[str, ...]:
    """Returns where conditions go: some of `places`, "couplings" the first of them."""
    once = {  # what it was called before places had names
        "prior": ("top_prior",),
        "both": ("couplings", "top_prior"),
        "priors": tuple(places[1:]),
        "all": tuple(places),
    }
    if isinstance(condition_use, str):
        condition_use = once.get(condition_use, (condition_use,))
    for place in condition_use:
        checked_choice("condition_use", place, places)
    if "split_prior" in condition_use and split_prior != "learned":
        must = "not name 'split_prior' unless that is 'learned'"
        got = f"condition_use={condition_use!r}, split_prior={split_prior!r}"
        raise invalid("condition_use", must, got=got)
    return tuple(condition_use)


# One step of Adam moves every weight of a square matrix by its rate: that of a larger
# one than this, learned from the start, lets the loss explode (benchmarks/naive.py).
_LEARNED_UP_TO = 128


def stacked(
    event_shape: int | Sequence[int],
    step: Callable[[int, Shape | None], list[tfb.Bijector]],
    *,
    steps: int = 4,
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "stacked",
) -> tfd.TransformedDistribution:
    """Builds `steps` times an actnorm and what `step(d, condition_shape)` returns."""
    shape = checked_shape("event_shape", event_shape)
    checked_integer("steps", steps)
    d = math.prod(shape)
    parts = step(d, seen_condition(condition_shape, encoder))
    if actnorm:
        parts.insert(0, ActNorm(d, dtype=dtype))
    return assemble(
        shape,
        [Repeat(tfb.Chain(parts), steps, mode=mode)],
        base=base,
        preprocess=preprocess,
        dtype=dtype,
        name=name,
        encoder=encoder,
        condition_shape=condition_shape,
    )


def mixing(kind: str | None, channels: int, dtype: DType) -> tfb.Bijector:
    """Returns what mixes values before couplings; None for what suits their number."""
    kind = kind or ("lu" if channels <= _LEARNED_UP_TO else "permutation")
    return InvertibleConv1x1(channels, kind=kind, dtype=dtype)


def coupling_maker(
    kind: str | Transform,
    network: Callable[[Mask], keras.Layer],
    *,
    log_scale: str,
    condition_shape: Sequence[int] | None,
    dtype: DType,
) -> Callable[[Mask], tfb.Bijector]:
    """Returns what makes a coupling, affine, additive or of a transform, for a mask."""
    if not isinstance(kind, Transform):
        checked_choice("coupling", kind, ("affine", "additive"))

    def coupled(mask: Mask) -> tfb.Bijector:
        options = {"condition_shape": condition_shape, "dtype": dtype}
        if isinstance(kind, Transform):
            return Coupling(mask, network(mask), kind, **options)
        if kind == "additive":
            return AdditiveCoupling(mask, network(mask), **options)
        return AffineCoupling(mask, network(mask), log_scale=log_scale, **options)

    return coupled
