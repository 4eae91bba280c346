"""`glow`: steps of actnorm, invertible 1x1 convolution and affine coupling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble, checked_count, checked_shape
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.nets.mlp import MLP

tfb, tfd = tfp.bijectors, tfp.distributions


def glow(
    event_shape: int | Sequence[int],
    *,
    steps: int = 8,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    log_scale: str = "soft_clamp",
    permutation: str = "lu",
    condition_shape: Sequence[int] | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    dtype: Any = None,
    name: str = "glow",
) -> tfd.TransformedDistribution:
    """Builds Glow for vectors: `steps` times actnorm, 1x1 mixing, affine coupling.

    Args:
        event_shape: Shape of one data point, such as `(2,)`.
        steps: Number of steps.
        hidden_units: Widths of each conditioner's hidden layers.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks.
        dropout: Share of hidden values dropped while training.
        log_scale: How couplings bound their scale; see `AffineCoupling`.
        permutation: Kind of mixing between couplings; see `InvertibleConv1x1`.
        condition_shape: Shape of one condition, for a conditional flow.
        base: Distribution of flat latents; None for a standard normal.
        preprocess: Bijector on the data's side, such as `tff.logit(levels)`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039.

    Example:
        >>> glow((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape(event_shape)
    checked_count("steps", steps)
    d = math.prod(shape)
    step = tfb.Chain(
        [
            ActNorm(d, dtype=dtype),
            InvertibleConv1x1(d, kind=permutation, dtype=dtype),
            AffineCoupling(
                masks.half(d),
                MLP(hidden_units, activation, residual, dropout, dtype=dtype),
                log_scale=log_scale,
                condition_shape=condition_shape,
                dtype=dtype,
            ),
        ]
    )
    return assemble(
        shape,
        [Repeat(step, steps)],
        base=base,
        preprocess=preprocess,
        dtype=dtype,
        name=name,
    )
