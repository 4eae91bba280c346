"""Autoregressive flows: `maf` and `causal_flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors.autoregressive import Causal, MaskedAutoregressive
from tfp_flows.bijectors.mixture import ConditionalMixture
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.distributions.bases import standard_logistic
from tfp_flows.internal.arguments import checked_integer, checked_shape
from tfp_flows.nets.dense import MADE
from tfp_flows.nets.sequence import CausalLSTM

tfb, tfd = tfp.bijectors, tfp.distributions


def maf(
    event_shape: int | Sequence[int],
    *,
    layers: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    transform: str = "affine",
    log_scale: str = "soft_clamp",
    bins: int = 8,
    bound: float = 5.0,
    inverse: bool = False,
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    dtype: Any = None,
    name: str = "maf",
) -> tfd.TransformedDistribution:
    """Builds a masked autoregressive flow whose order of values turns each layer.

    Args:
        event_shape: Shape of one data point, such as `(2,)`; others are flattened.
        layers: Number of autoregressive layers, at least 2.
        hidden_units: Widths of each masked network's hidden layers.
        activation: Keras activation of the networks.
        transform: `"affine"`, or `"spline"` for autoregressive spline flows.
        log_scale: How affine layers bound their scale; see `AffineCoupling`.
        bins: Number of bins of each spline.
        bound: Splines bend on `[-bound, bound]`, in standard deviations where there
            is an actnorm: 3 suits data without tails, 5 outliers.
        inverse: Whether to build an inverse autoregressive flow (IAF), which
            samples in one network call a layer and takes `D` calls for a density.
        actnorm: Whether to put an `ActNorm` before each pair of layers.
        condition_shape: Shape of one condition, for a conditional flow; `()` for
            labels, which need an `encoder`.
        encoder: Keras layer that conditions go through first, such as
            `keras.layers.Embedding(10, 8)` for labels; see `EncodedCondition`.
        base: Distribution of flat latents; None for a standard normal.
        preprocess: Bijector on the data's side, such as `tfpf.logit(levels)`.
        dtype: Float type of flow and networks; None for Keras's defaults.
        name: Name of the distribution.

    Returns:
        A distribution of events of `event_shape`.

    Reference:
        Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
        arXiv:1705.07057.

    Example:
        >>> maf((2,), layers=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape, 2)
    seen = seen_condition(condition_shape, encoder)
    checked_integer("layers", layers, minimum=2)
    d = math.prod(shape)

    def layer(reverse: bool) -> tfb.Bijector:
        made = MaskedAutoregressive(
            d,
            MADE(hidden_units, activation, reverse, dtype=dtype),
            transform=transform,
            log_scale=log_scale,
            bins=bins,
            bound=bound,
            condition_shape=seen,
            dtype=dtype,
        )
        return tfb.Invert(made) if inverse else made

    pair = [layer(False), layer(True)]
    if actnorm:
        pair.insert(0, ActNorm(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), layers // 2)]
    if layers % 2:
        bijectors.append(layer(False))
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


STEPS = ("mixture", "spline")

_BOUND = 4.0  # of splines: clouds that start at -1 and 1 have room to move


def causal_flow(
    length: int,
    d: int,
    *,
    categories: int,
    units: Sequence[int] = (256,),
    features: int = 64,
    step: str = "mixture",
    bins: int = 12,
    hidden_units: Sequence[int] = (128,),
    scale: float = 0.2,
    dtype: Any = None,
    name: str = "causal_flow",
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of sequences of vectors for `CategoricalFlow`.

    Logistic noise runs through one `Causal` bijector: a recurrent network sums up the
    vectors before a position, and gives the summary to

    * `"mixture"`: a `ConditionalMixture` of as many clouds as there are categories;
    * `"spline"`: rational-quadratic splines, one value of the vector after the other
      (`tfpf.MaskedAutoregressive`), which know nothing of categories.

    Args:
        length: Number of positions.
        d: Number of values in a vector.
        categories: Number of clouds of the mixture.
        units: Units of each layer of LSTM.
        features: Features that the network makes of a vector first.
        step: `"mixture"` or `"spline"`.
        bins: Number of bins of each spline.
        hidden_units: Widths of the masked network between summary and splines.
        scale: The scale that the clouds of a mixture start with.
        dtype: Float type of flow and networks; None for Keras's default.
        name: Name of the distribution.

    Returns:
        A distribution of sequences `[length, d]`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checked_integer("length", length)
    if step not in STEPS:
        raise ValueError(
            f"Argument `step` must be one of {STEPS}. Received: step={step!r}"
        )
    dtype = tf.as_dtype(dtype or keras.config.floatx()).name
    net = CausalLSTM(units, features=features, dtype=dtype)
    past = (net.units[-1],)
    if step == "mixture":
        weights = keras.layers.Dense(
            categories, kernel_initializer="zeros", dtype=dtype
        )
        one = ConditionalMixture(
            d,
            weights,
            components=categories,
            condition_shape=past,
            scale=scale,
            dtype=dtype,
        )
    else:
        one = MaskedAutoregressive(
            d,
            MADE(hidden_units, dtype=dtype),
            transform="spline",
            bins=bins,
            bound=_BOUND,
            condition_shape=past,
            dtype=dtype,
        )
    return tfd.TransformedDistribution(
        standard_logistic((length, d), dtype), Causal((length, d), one, net), name=name
    )
