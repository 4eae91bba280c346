"""Autoregressive flows of any transform, and of sequences: `causal_flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors.autoregressive import (
    TRANSFORMS,
    Autoregressive,
    MaskedAutoregressive,
)
from tfp_flows.bijectors.causal import Causal
from tfp_flows.bijectors.coupling import checked_transform
from tfp_flows.bijectors.elementwise import Elementwise, Sinh
from tfp_flows.bijectors.mixture import ConditionalMixture
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.transforms.affine import Affine
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.monotone import (
    Bernstein,
    SigmoidalNetwork,
    SumOfSquares,
    UnconstrainedMonotonic,
)
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.distributions.bases import standard_logistic
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    case_of,
    checked_choice,
    checked_integer,
    checked_number,
    checked_shape,
    float_dtype,
    renamed,
)
from tfp_flows.nets.dense import MADE, MLP
from tfp_flows.nets.sequence import CausalLSTM


def autoregressive_flow(
    event_shape: int | Sequence[int],
    *,
    transform: Transform | None = None,
    steps: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    residual: bool = False,
    dropout: float = 0.0,
    passes: int | None = None,
    inverse: bool = False,
    actnorm: bool = True,
    squash: float | None = None,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    mode: str = "auto",
    dtype: DType = None,
    name: str = "autoregressive_flow",
) -> tfd.TransformedDistribution:
    """Builds a masked autoregressive flow of any transform.

    The order of the values turns each step. For events of one value the layers are
    `Elementwise`, given the condition alone.

    Args:
        transform: A value of `tfpf.transforms`; None for `Affine()`.
        steps: Number of autoregressive layers, at least 2.
        passes: Network calls that a layer takes to sample, from 2 (a coupling) to D;
            values of one group do not see each other. None for D.
        inverse: Whether to build an inverse autoregressive flow (IAF), which
            samples in one network call a layer and takes `D` calls for a density.
        actnorm: Whether to put an `ActNorm` before each pair of layers.
        squash: The scale `s` of a map `s arcsinh(x / s)` from each layer towards the
            latents, which keeps outliers from growing layer by layer; None for none.

    Example:
        >>> import tfp_flows as tfpf
        >>> g = tfpf.transforms.SumOfSquares()
        >>> autoregressive_flow((2,), transform=g, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape)
    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps, minimum=2)
    if squash is not None:
        checked_number("squash", squash, above=0.0)
    value = checked_transform(transform)
    d = math.prod(shape)

    def layer(reverse: bool) -> tfb.Bijector:
        if d == 1:
            net = MLP(hidden_units, activation, residual, dropout, dtype=dtype)
            made = Elementwise(value, (1,), seen, net if seen else None, dtype=dtype)
        else:
            given = {"residual": residual, "dropout": dropout, "passes": passes}
            net = MADE(hidden_units, activation, reverse, dtype=dtype, **given)
            made = Autoregressive(net, value, (d,), condition_shape=seen, dtype=dtype)
        return tfb.Invert(made) if inverse else made

    def layers(*reverse: bool) -> list[tfb.Bijector]:
        return [part for each in reverse for part in (layer(each), *behind)]

    behind = [] if squash is None else [Sinh(squash, dtype=dtype)]
    pair = layers(False, True)
    if actnorm:
        pair.insert(0, ActNorm(d, dtype=dtype))
    bijectors = [Repeat(tfb.Chain(pair), steps // 2, mode=mode)]
    if steps % 2:
        bijectors += layers(False)
    return assemble(shape, bijectors, **options)


@renamed(layers="steps")
@case_of(autoregressive_flow, "transform")
def maf(
    event_shape: int | Sequence[int],
    *,
    transform: str = "affine",
    log_scale: str = "soft_clamp",
    bins: int = 8,
    bound: float = 5.0,
    name: str = "maf",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a masked autoregressive flow of affine maps or splines.

    Args:
        transform: `"affine"`, or `"spline"` for autoregressive spline flows.
        **options: The other arguments of `autoregressive_flow`.

    Reference: Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow, 2017,
    arXiv:1705.07057.

    Example:
        >>> maf((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    checked_choice("transform", transform, TRANSFORMS)
    spline = transform == "spline"
    value = RationalQuadraticSpline(bins, bound) if spline else Affine(log_scale)
    return autoregressive_flow(event_shape, transform=value, name=name, **options)


@case_of(autoregressive_flow, "transform")
def naf(
    event_shape: int | Sequence[int],
    *,
    units: int = 16,
    layers: int = 1,
    steps: int = 2,
    squash: float | None = 2.0,
    name: str = "naf",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a neural autoregressive flow: `autoregressive_flow` of sigmoidal networks.

    Densities cost one pass; samples are found by root searches.

    Args:
        units: Sigmoids of a layer of each network.
        layers: Layers of each network; more than 1 is the paper's DDSF.
        **options: The other arguments of `autoregressive_flow`.

    Reference: Huang, Krueger, Lacoste, Courville: Neural Autoregressive Flows, 2018,
    arXiv:1804.00779.

    Example:
        >>> naf((2,), hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    value = SigmoidalNetwork(units, layers)
    options |= {"steps": steps, "squash": squash, "name": name}
    return autoregressive_flow(event_shape, transform=value, **options)


@case_of(autoregressive_flow, "transform")
def unaf(
    event_shape: int | Sequence[int],
    *,
    features: int = 8,
    integrand_units: Sequence[int] = (32, 32),
    steps: int = 2,
    name: str = "unaf",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of integrals of positive networks (UMNN-MAF).

    Densities cost one pass; samples are found by root searches.

    Args:
        features: Numbers that the conditioner gives to the network of a value.
        integrand_units: Widths of the network that is integrated. For the other
            arguments see `autoregressive_flow`.

    Reference: Wehenkel, Louppe: Unconstrained Monotonic Neural Networks, 2019,
    arXiv:1908.05164.

    Example:
        >>> unaf((2,), hidden_units=(8,), integrand_units=(8,)).event_shape
        TensorShape([2])
    """
    value = UnconstrainedMonotonic(integrand_units, features)
    options |= {"steps": steps, "name": name}
    return autoregressive_flow(event_shape, transform=value, **options)


@case_of(autoregressive_flow, "transform")
def bernstein_flow(
    event_shape: int | Sequence[int],
    *,
    degree: int = 16,
    bound: float = 5.0,
    squash: float | None = 2.0,
    name: str = "bernstein_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of Bernstein polynomials.

    Densities cost one pass; samples are found by root searches.

    For all arguments but `degree` and `bound` see `autoregressive_flow`; without
    `squash` outliers of tables are stretched layer by layer.

    Reference: Sick, Hothorn, Duerr: Deep transformation models, 2020, arXiv:2004.00464.

    Example:
        >>> bernstein_flow((2,), degree=8, hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    options |= {"squash": squash, "name": name}
    return autoregressive_flow(
        event_shape, transform=Bernstein(degree, bound), **options
    )


@case_of(autoregressive_flow, "transform")
def sos_flow(
    event_shape: int | Sequence[int],
    *,
    polynomials: int = 3,
    degree: int = 4,
    bound: float = 5.0,
    squash: float | None = 2.0,
    name: str = "sos_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds an autoregressive flow of sum-of-squares polynomials.

    Densities cost one pass; samples are found by root searches.

    For the arguments of the polynomials see `transforms.SumOfSquares`, for all others
    `autoregressive_flow`; without `squash` outliers of tables are stretched layer by
    layer.

    Reference: Jaini, Selby, Yu: Sum-of-Squares Polynomial Flow, 2019, arXiv:1905.02325.

    Example:
        >>> sos_flow((2,), hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    value = SumOfSquares(polynomials, degree, bound)
    options |= {"squash": squash, "name": name}
    return autoregressive_flow(event_shape, transform=value, **options)


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
    dtype = float_dtype(dtype).name
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
