"""Flows where data live: `on` a support, `torus_flow`, `sphere_flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.architectures.assembly import assemble, seen_condition
from tfp_flows.bijectors import masks
from tfp_flows.bijectors.autoregressive import Autoregressive
from tfp_flows.bijectors.conditional import within_support
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.domains import Onto, Sphere, Wrap
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.transforms.spline import RationalQuadraticSpline
from tfp_flows.distributions.bases import uniform
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import (
    Activation,
    DType,
    checked_integer,
    checked_shape,
    float_dtype,
    invalid,
)
from tfp_flows.nets.dense import MADE, MLP

_TURN = 2.0 * math.pi


def on(
    support: str | tfb.Bijector, flow: tfd.Distribution, name: str | None = None
) -> tfd.TransformedDistribution:
    """Puts a flow onto a support: data are `f(v)`, for `v` drawn from the flow.

    Conditions of the flow are conditions of the result. Log-densities of values outside
    of the support are `-inf`.

    Args:
        support: `"positive"`, `"unit_interval"`, `"ordered"` or `"simplex"`, of which
            the last has one value more than the flow: see `Onto`. Or a bijector `f` of
            TFP, whose range is the support.
        flow: A flow of real numbers. For circles and spheres see `torus_flow` and
            `sphere_flow`.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.on("simplex", tfpf.real_nvp((2,), steps=2))
        >>> flow.event_shape
        TensorShape([3])
    """
    if isinstance(support, str):
        support = Onto(support, dtype=flow.dtype)
    elif not isinstance(support, tfb.Bijector):
        raise invalid("support", "be a name or a bijector", support, TypeError)
    else:
        support = within_support(support, flow.dtype)
    if (support.forward_min_event_ndims or 0) > flow.event_shape.rank:
        raise invalid("flow", "be a flow of vectors for this support", flow)
    name = name or flow.name
    if not isinstance(flow, compat.TransformedDistribution):
        return tfd.TransformedDistribution(flow, support, name=name)
    bijector = tfb.Chain([support, flow.bijector])
    return tfd.TransformedDistribution(flow.distribution, bijector, name=name)


def _circle(bins: int) -> RationalQuadraticSpline:
    return RationalQuadraticSpline(bins, math.pi, "circular")


def torus_flow(
    event_shape: int | Sequence[int],
    *,
    autoregressive: bool = False,
    steps: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    bins: int = 8,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    dtype: DType = None,
    name: str = "torus_flow",
) -> tfd.TransformedDistribution:
    """Builds a flow of angles in radians, each on its circle.

    Circular splines of all values, given cosines and sines of those before them, on a
    uniform base. Densities are continuous over the seam, and those of an angle and of
    its whole turns are equal; samples are in `[-pi, pi)`.

    Args:
        autoregressive: Whether layers are autoregressive, in orders that turn, instead
            of couplings with masks that are drawn.

    Reference: Rezende et al.: Normalizing Flows on Tori and Spheres, 2020,
    arXiv:2002.02428.

    Example:
        >>> torus_flow(2, steps=2, hidden_units=(8,)).log_prob([3.0, 7.0]).shape
        TensorShape([])
    """
    shape = checked_shape("event_shape", event_shape)
    d, seen = math.prod(shape), seen_condition(condition_shape, encoder)
    options = {"condition_shape": seen, "dtype": dtype}

    def layer(step: int) -> tfb.Bijector:
        if d == 1:
            net = MLP(hidden_units, activation, dtype=dtype) if seen else None
            return Elementwise(_circle(bins), (1,), seen, net, dtype=dtype)
        if autoregressive:
            net = MADE(
                hidden_units, activation, step % 2 > 0, period=_TURN, dtype=dtype
            )
            return Autoregressive(net, _circle(bins), (d,), **options)
        net = MLP(hidden_units, activation, period=_TURN, dtype=dtype)
        mask = masks.random(d, seed=step // 2, flip=step % 2 > 0)
        return Coupling(mask, net, _circle(bins), **options)

    layers = [layer(step) for step in range(checked_integer("steps", steps))]
    return assemble(
        shape,
        [Wrap(dtype=dtype), *layers] if len(shape) == 1 else layers,
        base=uniform(d, -math.pi, math.pi, dtype=dtype),
        preprocess=None if len(shape) == 1 else Wrap(dtype=dtype),
        dtype=dtype,
        name=name,
        encoder=encoder,
        condition_shape=condition_shape,
    )


def sphere_flow(
    *,
    steps: int = 4,
    hidden_units: Sequence[int] = (128, 128),
    activation: Activation = "relu",
    bins: int = 8,
    condition_shape: Sequence[int] | None = None,
    encoder: keras.Layer | None = None,
    dtype: DType = None,
    name: str = "sphere_flow",
) -> tfd.TransformedDistribution:
    """Builds a flow of directions: unit vectors in three dimensions.

    Longitude and height transform each other in turn, by circular splines and by
    splines of `[-1, 1]`; the base is uniform on the sphere. Densities are by area, and
    `-inf` in logarithms for vectors that have another length. At the two poles they
    need not be continuous: turn data so that these are where little is.

    Reference: Rezende et al.: Normalizing Flows on Tori and Spheres, 2020,
    arXiv:2002.02428.

    Example:
        >>> sphere_flow(steps=2, hidden_units=(8,)).sample(5).shape
        TensorShape([5, 3])
    """
    seen = seen_condition(condition_shape, encoder)
    height = RationalQuadraticSpline(bins, 1.0, "none")

    def layer(step: int) -> tfb.Bijector:
        angle = step % 2 == 0  # is what moves
        net = MLP(
            hidden_units, activation, period=None if angle else _TURN, dtype=dtype
        )
        mask = masks.indices(2, [1 if angle else 0])
        transform = _circle(bins) if angle else height
        return Coupling(mask, net, transform, condition_shape=seen, dtype=dtype)

    layers = [layer(step) for step in range(checked_integer("steps", steps, 2))]
    kind = float_dtype(dtype)
    low, high = (tf.constant([s * math.pi, s], kind) for s in (-1.0, 1.0))
    flow = assemble(
        (2,),
        layers,
        base=tfd.Independent(tfd.Uniform(low, high), 1),
        preprocess=None,
        dtype=dtype,
        name=name,
        encoder=encoder,
        condition_shape=condition_shape,
    )
    return on(Sphere(dtype=dtype), flow, name)
