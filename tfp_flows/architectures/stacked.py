"""Flows of one kind of step: Gaussianization, block, residual and Sylvester flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import mixing, stacked
from tfp_flows.bijectors.block import BlockAutoregressive
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.linear import Linear
from tfp_flows.bijectors.planar import Sylvester
from tfp_flows.bijectors.residual import Residual
from tfp_flows.bijectors.transforms.monotone import Gaussianization
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    Shape,
    case_of,
)
from tfp_flows.nets.dense import MLP
from tfp_flows.nets.lipschitz import LipschitzMLP

# Up to so many values an exact log-det costs less than the noise of an estimate.
_EXACT_UP_TO = 8
_UNITS = 8  # of a step of a Sylvester flow, of more than as many values


@case_of(stacked)
def gaussianization_flow(
    event_shape: int | Sequence[int],
    *,
    components: int = 16,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    steps: int = 6,
    dtype: DType = None,
    name: str = "gaussianization_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a Gaussianization flow: rotations between elementwise mixtures.

    Each step makes every value normal by itself, `Elementwise` with
    `transforms.Gaussianization`, behind a learned rotation. Without a condition there
    is no network in it.

    Args:
        components: Components of the mixture of each value.
        hidden_units: Widths of the networks from the condition to the mixtures.

    Reference: Meng, Song, Song, Ermon: Gaussianization Flows, 2020, arXiv:2003.01941.

    Example:
        >>> gaussianization_flow((2,), steps=2).event_shape
        TensorShape([2])
    """

    def step(d: int, seen: Shape | None) -> list[tfb.Bijector]:
        net = MLP(hidden_units, activation, dtype=dtype) if seen else None
        value = Gaussianization(components)
        parts = [Elementwise(value, (d,), seen, net, dtype=dtype)]
        return [*parts, Linear(d, kind="householder", dtype=dtype)] if d > 1 else parts

    return stacked(event_shape, step, steps=steps, dtype=dtype, name=name, **options)


@case_of(stacked)
def bnaf(
    event_shape: int | Sequence[int],
    *,
    hidden_units: Sequence[int] = (8, 8),
    steps: int = 2,
    dtype: DType = None,
    name: str = "bnaf",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a block neural autoregressive flow; the order of values turns each step.

    Densities cost one pass; samples are found by root searches, value by value.

    Args:
        hidden_units: Units that each value has in each hidden layer.

    Reference: De Cao, Titov, Aziz: Block Neural Autoregressive Flow, 2019,
    arXiv:1904.04676.

    Example:
        >>> bnaf((2,), hidden_units=(4,)).event_shape
        TensorShape([2])
    """

    def step(d: int, seen: Shape | None) -> list[tfb.Bijector]:
        given = {"condition_shape": seen, "dtype": dtype}
        parts = [BlockAutoregressive(d, hidden_units, **given)]
        return [*parts, mixing("reverse", d, dtype)] if d > 1 else parts

    return stacked(event_shape, step, steps=steps, dtype=dtype, name=name, **options)


@case_of(stacked)
def residual_flow(
    event_shape: int | Sequence[int],
    *,
    hidden_units: Sequence[int] = (64, 64),
    log_det: str | None = None,
    steps: int = 8,
    dtype: DType = None,
    name: str = "residual_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a residual flow: steps `y + g(y)` of Lipschitz-bounded networks.

    Densities cost one pass and a log-det; samples are fixed points.

    Args:
        log_det: `"exact"` or `"estimate"`, see `Residual`; None for the exact one of up
            to 8 values. With estimates, log-densities are no densities.

    Reference: Chen, Behrmann, Duvenaud, Jacobsen: Residual Flows for Invertible
    Generative Modeling, 2019, arXiv:1906.02735.

    Example:
        >>> residual_flow((2,), steps=2, hidden_units=(8,)).event_shape
        TensorShape([2])
    """

    def step(d: int, seen: Shape | None) -> list[tfb.Bijector]:
        kind = log_det or ("exact" if d <= _EXACT_UP_TO else "estimate")
        net = LipschitzMLP(hidden_units, dtype=dtype)
        given = {"log_det": kind, "condition_shape": seen, "dtype": dtype}
        return [Residual(net, (d,), **given)]

    return stacked(event_shape, step, steps=steps, dtype=dtype, name=name, **options)


@case_of(stacked)
def sylvester_flow(
    event_shape: int | Sequence[int],
    *,
    units: int | None = None,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    inverse: bool = False,
    steps: int = 8,
    dtype: DType = None,
    name: str = "sylvester_flow",
    **options: Any,
) -> tfd.TransformedDistribution:
    """Builds a Sylvester flow; densities cost one pass, samples root searches.

    Args:
        units: Units of each step, at most as many as values; None for as many, up to 8:
            each is a root search of a sample.
        hidden_units: Widths of the networks from the condition to the weights.
        inverse: Whether to build the paper's flow for variational inference, which
            samples in one pass and takes root searches for a density.

    Reference: van den Berg, Hasenclever, Tomczak, Welling: Sylvester Normalizing Flows
    for Variational Inference, 2018, arXiv:1803.05649.

    Example:
        >>> sylvester_flow((2,), steps=2).event_shape
        TensorShape([2])
    """

    def step(d: int, seen: Shape | None) -> list[tfb.Bijector]:
        net = MLP(hidden_units, activation, dtype=dtype) if seen else None
        given = {"condition_shape": seen, "conditioner": net, "dtype": dtype}
        made = Sylvester(d, units=min(d, _UNITS) if units is None else units, **given)
        return [made if inverse else tfb.Invert(made)]

    return stacked(event_shape, step, steps=steps, dtype=dtype, name=name, **options)
