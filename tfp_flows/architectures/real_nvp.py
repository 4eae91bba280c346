"""`real_nvp`: affine couplings that take turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble, checked_count, checked_shape
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.nets.mlp import MLP

tfb, tfd = tfp.bijectors, tfp.distributions


def real_nvp(
    event_shape: int | Sequence[int],
    *,
    couplings: int = 8,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    log_scale: str = "soft_clamp",
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    dtype: Any = None,
    name: str = "real_nvp",
) -> tfd.TransformedDistribution:
    """Builds RealNVP for vectors: affine couplings that keep the halves in turn.

    Args:
        event_shape: Shape of one data point, such as `(2,)`.
        couplings: Number of coupling layers, at least 2.
        hidden_units: Widths of each conditioner's hidden layers.
        activation: Keras activation of the conditioners.
        residual: Whether the conditioners use residual blocks.
        dropout: Share of hidden values dropped while training.
        log_scale: How couplings bound their scale; see `AffineCoupling`.
        actnorm: Whether to put an `ActNorm` before each pair of couplings.
        condition_shape: Shape of one condition, for a conditional flow.
        base: Distribution of flat latents; None for a standard normal.
        preprocess: Bijector on the data's side, such as `tff.logit(levels)`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Reference:
        Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
        arXiv:1605.08803.

    Example:
        >>> real_nvp((2,), couplings=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape(event_shape)
    checked_count("couplings", couplings, least=2)
    d = math.prod(shape)

    def coupling(flip: bool) -> tfb.Bijector:
        return AffineCoupling(
            masks.half(d, flip),
            MLP(hidden_units, activation, residual, dropout, dtype=dtype),
            log_scale=log_scale,
            condition_shape=condition_shape,
            dtype=dtype,
        )

    pair = [coupling(False), coupling(True)]
    if actnorm:
        pair.insert(0, ActNorm(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), couplings // 2)]
    if couplings % 2:
        bijectors.append(coupling(False))
    return assemble(
        shape, bijectors, base=base, preprocess=preprocess, dtype=dtype, name=name
    )
