"""Autoregressive flows: `maf` and `causal_flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors.autoregressive import (
    TRANSFORMS,
    Autoregressive,
    Causal,
    MaskedAutoregressive,
)
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.mixture import ConditionalMixture
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.transforms.affine import Affine
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.distributions.bases import standard_logistic
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    checked_choice,
    checked_integer,
    checked_shape,
    renamed,
)
from tfp_flows.nets.dense import MADE, MLP
from tfp_flows.nets.sequence import CausalLSTM


@renamed(layers="steps")
def maf(
    event_shape: int | Sequence[int],
    *,
    steps: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
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
    mode: str = "auto",
    dtype: DType = None,
    name: str = "maf",
) -> tfd.TransformedDistribution:
    """Builds a masked autoregressive flow whose order of values turns each step.

    For events of one value the layers are `Elementwise`, given the condition alone.

    Args:
        steps: Number of autoregressive layers, at least 2.
        transform: `"affine"`, or `"spline"` for autoregressive spline flows.
        inverse: Whether to build an inverse autoregressive flow (IAF), which
            samples in one network call a layer and takes `D` calls for a density.
        actnorm: Whether to put an `ActNorm` before each pair of layers.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057.

    Example:
        >>> maf((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape)
    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps, minimum=2)
    d = math.prod(shape)

    checked_choice("transform", transform, TRANSFORMS)
    spline = transform == "spline"
    value = RationalQuadraticSpline(bins, bound) if spline else Affine(log_scale)

    def layer(reverse: bool) -> tfb.Bijector:
        if d == 1:
            net = MLP(hidden_units, activation, dtype=dtype) if seen else None
            made = Elementwise(value, (1,), seen, net, dtype=dtype)
        else:
            net = MADE(hidden_units, activation, reverse, dtype=dtype)
            made = Autoregressive(net, value, (d,), condition_shape=seen, dtype=dtype)
        return tfb.Invert(made) if inverse else made

    pair = [layer(False), layer(True)]
    if actnorm:
        pair.insert(0, ActNorm(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), steps // 2, mode=mode)]
    if steps % 2:
        bijectors.append(layer(False))
    return assemble(shape, bijectors, **options)


_BOUND = 4.0  # of splines: components that start at -1 and 1 have room to move


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
    dtype: DType = None,
    name: str = "causal_flow",
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of sequences of vectors for `CategoricalFlow`.

    Logistic noise runs through one `Causal` bijector: a recurrent network sums up the
    vectors before a position, and gives the summary to

    * `"mixture"`: a `ConditionalMixture` of as many components as there are categories;
    * `"spline"`: rational-quadratic splines, one value of the vector after the other
      (`tfpf.MaskedAutoregressive`), which know nothing of categories.

    Args:
        categories: Number of components of the mixture.
        hidden_units: Widths of the masked network between summary and splines.
        scale: The scale that the components of a mixture start with.

    Returns:
        A distribution of sequences `[length, d]`.
    """
    checked_integer("length", length)
    checked_choice("step", step, ("mixture", "spline"))
    dtype = tf.as_dtype(dtype or keras.config.floatx()).name
    net = CausalLSTM(units, features=features, dtype=dtype)
    options = {"condition_shape": (net.units[-1],), "dtype": dtype}
    if step == "mixture":
        weights = keras.layers.Dense(
            categories, kernel_initializer="zeros", dtype=dtype
        )
        one = ConditionalMixture(
            d, weights, components=categories, scale=scale, **options
        )
    else:
        made = MADE(hidden_units, dtype=dtype)
        one = MaskedAutoregressive(
            d, made, transform="spline", bins=bins, bound=_BOUND, **options
        )
    return tfd.TransformedDistribution(
        standard_logistic((length, d), dtype), Causal((length, d), one, net), name=name
    )
