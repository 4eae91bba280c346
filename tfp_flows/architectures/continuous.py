"""`ffjord`: continuous flows one behind the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors.continuous import ContinuousFlow
from tfp_flows.bijectors.normalization import ActNorm
from tfp_flows.bijectors.ode import FixedStep, Solver
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    checked_integer,
    checked_shape,
    renamed,
)
from tfp_flows.nets.velocity import VelocityNet

# Up to so many values an exact trace costs less than the noise of an estimate.
_EXACT_UP_TO = 8


@renamed(blocks="steps")
def ffjord(
    event_shape: int | Sequence[int],
    *,
    steps: int = 1,
    hidden_units: Sequence[int] = (64, 64),
    activation: Activation = "tanh",
    style: str = "concat",
    solver: Solver | None = None,
    trace: str | None = None,
    kinetic: float = 0.0,
    jacobian: float = 0.0,
    seed: int = 0,
    actnorm: bool = True,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    base: tfd.Distribution | None = None,
    preprocess: tfb.Bijector | None = None,
    dtype: DType = None,
    name: str = "ffjord",
) -> tfd.TransformedDistribution:
    """Builds FFJORD: `steps` continuous flows, each with a velocity of its own.

    Images `(h, w, c)` get 3x3 convolutions of `hidden_units` channels, all other
    events dense layers.

    Args:
        steps: Number of continuous flows; 1 is enough for most densities.
        activation: Smooth Keras activation of the velocities.
        style: How velocities see the time; see `VelocityNet`.
        solver: `tfpf.FixedStep(...)`, which XLA compiles, or `tfpf.Adaptive(...)`;
            None for RK4 with 10 steps.
        trace: Kind of trace, see `ContinuousFlow`; None for the exact one of up to
            8 values and Rademacher probes above.
        seed: Integer from which the probes of an estimated trace follow.
        actnorm: Whether data are standardized first, by an `ActNorm` that the first
            batch sets and training leaves as it is.

    Reference: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud: FFJORD, 2018,
    arXiv:1810.01367.

    Example:
        >>> ffjord((2,), hidden_units=(8,)).event_shape
        TensorShape([2])
    """
    shape = checked_shape("event_shape", event_shape, minimum=1)
    options = {"base": base, "preprocess": preprocess, "dtype": dtype, "name": name}
    options |= {"encoder": encoder, "condition_shape": condition_shape}
    seen = seen_condition(condition_shape, encoder)
    checked_integer("steps", steps)
    size = math.prod(shape)
    image = len(shape) == 3
    exact = size <= _EXACT_UP_TO
    flows: list[tfb.Bijector] = [
        ContinuousFlow(
            VelocityNet(
                hidden_units, activation, style, 3 if image else None, dtype=dtype
            ),
            shape if image else (size,),
            solver=solver or FixedStep(),
            trace=trace or ("exact" if exact else "rademacher"),
            kinetic=kinetic,
            jacobian=jacobian,
            seed=seed + step,
            condition_shape=seen,
            dtype=dtype,
        )
        for step in range(steps)
    ]
    if actnorm:
        channels = shape[-1] if image else size
        flows.insert(0, ActNorm(channels, trainable=False, dtype=dtype))
    return assemble(shape, flows, latent_shape=shape if image else None, **options)
