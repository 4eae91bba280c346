"""`spline_flow`: spline couplings with learned mixing between them."""

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
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.spline import SplineCoupling
from tfp_flows.nets.mlp import MLP

tfb, tfd = tfp.bijectors, tfp.distributions


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
        preprocess: Bijector on the data's side, such as `tff.logit(levels)`.
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
    shape = checked_shape(event_shape)
    seen = seen_condition(condition_shape, encoder)
    checked_count("couplings", couplings)
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
