"""`nice`: additive couplings and one learned scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import (
    assemble,
    checked_count,
    checked_shape,
    seen_condition,
)
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.coupling import AdditiveCoupling
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.nets.mlp import MLP

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
        preprocess: Bijector on the data's side, such as `tff.logit(levels)`.
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
    shape = checked_shape(event_shape)
    seen = seen_condition(condition_shape, encoder)
    checked_count("couplings", couplings, least=2)
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
