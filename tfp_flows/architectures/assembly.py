"""What all architectures share: arguments, base distribution, final assembly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows.bijectors.conditional import EncodedCondition, encoded_shape
from tfp_flows.bijectors.conditional import condition_shape as condition_shape_of
from tfp_flows.distributions.bases import standard_normal

tfb, tfd = tfp.bijectors, tfp.distributions


def assemble(
    event_shape: tuple[int, ...],
    bijectors: Sequence[tfb.Bijector],
    *,
    base: tfd.Distribution | None,
    preprocess: tfb.Bijector | None,
    dtype: Any,
    name: str,
    encoder: keras.Layer | None = None,
    condition_shape: Sequence[int] | None = None,
    latent_shape: tuple[int, ...] | None = None,
) -> tfd.TransformedDistribution:
    """Chains bijectors on a base distribution over flat latent vectors.

    Args:
        event_shape: Shape of one data point.
        bijectors: Bijectors from the data's side to the latent side. They act on
            flat vectors, unless `latent_shape` says otherwise.
        base: Distribution of latent vectors of `prod(event_shape)` values; None for
            a standard normal. The bijector of a conditional base joins the chain, so
            that conditions reach it.
        preprocess: Bijector between the data and the first of `bijectors`, such as
            `tfpf.logit(levels)`, on events of `event_shape`; None for none.
        dtype: Float type of the flow.
        name: Name of the distribution.
        encoder: Keras layer that conditions go through first, or None.
        condition_shape: Shape of one condition before that.
        latent_shape: Shape that the last of `bijectors` takes from the latent side,
            if it is not a vector already.

    Returns:
        The flow.

    Raises:
        ValueError: If `base` does not produce vectors of the right size.
    """
    size = math.prod(event_shape)
    parts = list(bijectors)
    if latent_shape is not None and latent_shape != (size,):
        parts.append(tfb.Reshape(latent_shape, event_shape_in=(size,)))
    elif latent_shape is None and event_shape != (size,):
        parts.insert(0, tfb.Reshape(event_shape, event_shape_in=(size,)))
    if base is None:
        base = standard_normal(size, dtype)
    elif not base.event_shape.is_compatible_with((size,)):
        raise ValueError(
            f"Argument `base` must be a distribution of vectors of {size} values. "
            f"Received: event shape {base.event_shape}"
        )
    elif (own := _own_condition(base)) is not None:
        _check_base(own, seen_condition(condition_shape, encoder))
        parts.append(base.bijector)
        base = base.distribution
    if encoder is not None:
        parts = [
            EncodedCondition(tfb.Chain(parts), encoder, condition_shape=condition_shape)
        ]
    if preprocess is not None:
        parts.insert(0, preprocess)
    return tfd.TransformedDistribution(base, tfb.Chain(parts), name=name)


def seen_condition(
    condition_shape: Sequence[int] | None, encoder: keras.Layer | None
) -> tuple[int, ...] | None:
    """Returns the shape of the conditions that the parts of a flow see.

    Args:
        condition_shape: Shape of one condition, or None.
        encoder: Keras layer that conditions go through first, or None.

    Returns:
        The shape of one encoded condition; None for an unconditional flow.

    Raises:
        ValueError: If there is an encoder for no condition, or none for labels.
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


def _own_condition(base: tfd.Distribution) -> tuple[int, ...] | None:
    bijector = getattr(base, "bijector", None)
    return None if bijector is None else condition_shape_of(bijector)


def _check_base(own: tuple[int, ...], seen: tuple[int, ...] | None) -> None:
    if seen is not None and own != seen:
        raise ValueError(
            f"Argument `base` must take conditions of shape {seen}, as the flow's "
            f"parts do. Received: a base with conditions of shape {own}"
        )
