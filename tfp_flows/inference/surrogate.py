"""Flows over the variables of a TFP model: `surrogate_posterior`, `flat_target`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.domains import Remeasured
from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.compat import (
    BlockwiseDistribution,
    drawn_parts,
    replace_default_bijector,
)


class FlatTarget(NamedTuple):
    """A model's density as a function of one vector of unconstrained values.

    Attributes:
        log_prob: From vectors `[..., size]` to log-densities `[...]`, in nats and up to
            the model's own normalizer; the log-det of `unpack` is in it.
        unpack: Bijector from such vectors to the model's draws.
    """

    log_prob: Callable[[tf.Tensor], tf.Tensor]
    unpack: tfb.Bijector
    size: int


def flat_target(target: tfd.Distribution) -> FlatTarget:
    """Rewrites a model's density for vectors of unconstrained values.

    With `z = unpack(u)` the draw of the model that belongs to the vector `u`,

        log_prob(u) = target.log_prob(z) + log |det dz/du|

    Variational inference and MCMC with flows take it from there: fit a flow with
    `tfp.vi.fit_surrogate_posterior(flat.log_prob, flow, ...)`, then sample with
    `tfp.mcmc.TransformedTransitionKernel(HamiltonianMonteCarlo(flat.log_prob, ...),
    flow.bijector)` (NeuTra), and carry the chain over by `flat.unpack.forward`.

    Args:
        target: A `tfd.JointDistribution`, pinned to data or not, or any distribution
            that has `experimental_default_event_space_bijector`; a `TypeError` else.

    Reference: Hoffman et al.: NeuTra-lizing bad geometry in Hamiltonian Monte Carlo
    using neural transport, 2019, arXiv:1903.03704.
    """
    unpack, size = unpacking(target)
    density = getattr(target, "unnormalized_log_prob", None) or target.log_prob
    dtype = dtype_of(target)

    def log_prob(u: tf.Tensor) -> tf.Tensor:
        # A tensor of its own, so that TFP's cache does not hold on to the caller's.
        u = tf.cast(tf.identity(u), dtype)
        return density(unpack.forward(u)) + unpack.forward_log_det_jacobian(u, 1)

    return FlatTarget(log_prob, unpack, size)


def dtype_of(target: tfd.Distribution) -> tf.DType:
    """Returns the dtype of the vectors that stand for draws of a model."""
    return tf.nest.flatten(target.dtype)[0]


def unpacking(
    target: tfd.Distribution, name: str = "target"
) -> tuple[tfb.Bijector, int]:
    """Returns the bijector from vectors to draws of a model, and the vectors' size.

    `name` is that of the argument by which the model was given.
    """
    if not hasattr(target, "experimental_default_event_space_bijector"):
        must = "be a distribution, such as `model.experimental_pin(data)`"
        got = f"{target!r} of type {type(target).__name__}"
        raise invalid(name, must, got=got, kind=TypeError)
    for part in drawn_parts(target) or ():
        if _default(part) is None:
            must = "have continuous parts with a support of their own, but for those "
            must += "that are observed"
            raise invalid(name, must, got=f"a part {part.name}: {part!r}")
    constrain = _default(target)
    if constrain is None:  # TFP has none for mixtures
        must = "be continuous, with a default bijector; of vectors without one, such "
        must += (
            "as a mixture of normals, the `log_prob` is already that of a flat target"
        )
        raise invalid(name, must, target)
    log_area = _log_area(target, name)
    shapes = constrain.inverse_event_shape(target.event_shape)
    cut, size = _cut(target.dtype, shapes)
    after = [Remeasured(-log_area)] if log_area else []
    return tfb.Chain([constrain, *cut, *after], name="unpack"), size


def _default(target: tfd.Distribution) -> tfb.Bijector | None:
    """Returns TFP's bijector onto a support, if it has one."""
    try:
        return target.experimental_default_event_space_bijector()
    except NotImplementedError:
        return None


def _cut(structure: Any, shapes: Any) -> tuple[list[tfb.Bijector], int]:
    """Returns what cuts a vector into parts, the first step last, and its size."""
    parts = [tuple(shape) for shape in _flat_shapes(shapes)]
    sizes = [math.prod(shape) for shape in parts]
    if tf.nest.is_nested(structure):
        tokens = tf.nest.pack_sequence_as(structure, list(range(len(sizes))))
        reshapes = [
            tfb.Reshape(shape, event_shape_in=(size,))
            for shape, size in zip(parts, sizes, strict=True)
        ]
        cut = [
            tfb.Restructure(tokens, list(range(len(sizes)))),
            tfb.JointMap(reshapes),
            tfb.Split(sizes),
        ]
    elif parts[0] != (sizes[0],):
        cut = [tfb.Reshape(parts[0], event_shape_in=(sizes[0],))]
    else:
        cut = []
    return cut, sum(sizes)


def _of_blocks(target: tfd.Distribution) -> tfb.Bijector | None:
    """Returns the bijector of a `tfd.Blockwise`, of those of its parts.

    There is none of the parts of a joint distribution, which may depend on each other.
    """
    bijectors, sizes = [], []
    for part in drawn_parts(target) or ():
        constrain = _default(part)
        if constrain is None or isinstance(target.distributions, tfd.Distribution):
            return None
        cut, size = _cut(part.dtype, constrain.inverse_event_shape(part.event_shape))
        together, _ = _cut(part.dtype, part.event_shape)
        bijectors.append(tfb.Chain([*map(tfb.Invert, together), constrain, *cut]))
        sizes.append(size)
    return tfb.Blockwise(bijectors, sizes)


# TFP's is that of the parts, of another structure.
replace_default_bijector(BlockwiseDistribution, _of_blocks)


class _Between(tfb.Sigmoid):
    """Numbers to those between `low` and `high`, each of which may be infinite.

    | bounds | forward |
    |---|---|
    | both | `y = low + (high - low) sigmoid(x)` |
    | `low` | `y = low + softplus(x)` |
    | `high` | `y = high - softplus(-x)` |
    | none | `y = x` |
    """

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        case = self._case()
        half = case.bound + case.sign * tf.math.softplus(case.sign * x)
        return case.choose(case.sigmoid.forward(x), half, x)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        case = self._case()
        # Values that are inside in the cases which are not chosen: of no gradient.
        inner = tf.where(case.both, y, 0.5)
        outer = tf.where(case.both | case.none, 1.0, case.sign * (y - case.bound))
        half = case.sign * tfp.math.softplus_inverse(outer)
        return case.choose(case.sigmoid.inverse(inner), half, y)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        case = self._case()
        half = -tf.math.softplus(-case.sign * x)
        whole = case.sigmoid.forward_log_det_jacobian(x)
        return case.choose(whole, half, tf.zeros_like(x))

    def _case(self) -> _Case:
        low, high = (tf.convert_to_tensor(bound) for bound in (self.low, self.high))
        above, below = tf.math.is_finite(low), tf.math.is_finite(high)
        both, none = above & below, ~(above | below)
        return _Case(
            both,
            none,
            sigmoid=tfb.Sigmoid(tf.where(both, low, 0.0), tf.where(both, high, 1.0)),
            bound=tf.where(above, low, tf.where(below, high, 0.0)),
            sign=tf.where(above, tf.ones_like(low), -1.0),
        )


class _Case(NamedTuple):
    """Which of the bounds of `_Between` are finite, and what maps where they are."""

    both: tf.Tensor
    none: tf.Tensor
    sigmoid: tfb.Bijector
    bound: tf.Tensor
    sign: tf.Tensor

    def choose(self, whole: tf.Tensor, half: tf.Tensor, free: tf.Tensor) -> tf.Tensor:
        return tf.where(self.both, whole, tf.where(self.none, free, half))


def _between(target: tfd.Distribution) -> tfb.Bijector:
    return _Between(target.low, target.high, validate_args=target.validate_args)


# TFP's is a sigmoid, which is NaN where a bound is infinite.
replace_default_bijector(tfd.TruncatedNormal, _between)


# By the first d - 1 values, where TFP's bijector for them, `SoftmaxCentered`, goes by
# area, which is sqrt(d) times as large.
_SHARES = (
    tfd.Dirichlet,
    tfd.RelaxedOneHotCategorical,
    tfd.ExpRelaxedOneHotCategorical,
)
_WRONG = {
    tfd.VonMisesFisher: "covers a part of the sphere only",
    tfd.SphericalUniform: "covers a part of the sphere only",
    tfd.PowerSpherical: "covers a part of the sphere only",
    tfd.LKJ: "has a wrong log-det; `tfd.CholeskyLKJ` has a right one",
    tfd.TruncatedCauchy: "is NaN where a bound is infinite, as are its draws and its "
    "density; those of `tfd.HalfCauchy` are not",
}


def _is_right(target: tfd.Distribution) -> bool:
    """Whether a distribution of a class in `_WRONG` is none that is."""
    if isinstance(target, tfd.TruncatedCauchy):
        bounds = [tf.get_static_value(end) for end in (target.low, target.high)]
        return all(end is None or np.isfinite(end).all() for end in bounds)
    return getattr(target, "input_output_cholesky", False)


def _log_area(target: tfd.Distribution, name: str) -> float:
    """Returns by how much the log-dets of a default bijector are too large."""
    inner: Any = getattr(target, "distribution", None)
    if (parts := drawn_parts(target)) is not None:
        return sum(_log_area(part, name) for part in parts)
    for kind, why in _WRONG.items():
        if isinstance(target, kind) and not _is_right(target):
            must = f"have no `tfd.{kind.__name__}`, whose default bijector in TFP {why}"
            raise invalid(name, must, target)
    if isinstance(target, _SHARES):
        return 0.5 * math.log(target.event_shape[-1])
    if not isinstance(inner, tfd.Distribution):
        return 0.0
    each = _log_area(inner, name)
    if not each or isinstance(target, tfd.TransformedDistribution):
        return each
    whole, one = (
        sum(shape.num_elements() for shape in _flat_shapes(part.event_shape))
        for part in (target, inner)
    )
    return each * whole / one


def surrogate_posterior(
    target: tfd.Distribution, flow: tfd.Distribution
) -> tfd.TransformedDistribution:
    """Spreads a flow of vectors over the variables of a model.

    A draw `u` of the flow, a vector of as many values as the model has unconstrained
    ones, is cut into one part a variable, and each part is carried to the variable's
    support by the model's own bijector (`Exp` for a scale, and so on):

        z = unpack(u),    log q(z) = log q_flow(u) - log |det dz/du|

    The result is a `tfd.TransformedDistribution` for
    `tfp.vi.fit_surrogate_posterior`, whose trained variables are those of the flow. An
    inverse autoregressive flow, `tfpf.maf(d, inverse=True)`, draws samples and their
    densities in one pass, which is what variational inference needs; a conditional
    flow, bound with `tfpf.condition(flow, features)`, gives an amortised posterior.

    Args:
        target: As for `flat_target`.
        flow: Distribution of vectors `[d]`, d the number of unconstrained values.

    Reference: Rezende, Mohamed: Variational inference with normalizing flows, 2015,
    arXiv:1505.05770. Kingma et al.: Inverse Autoregressive Flow, 2016,
    arXiv:1606.04934.

    Example:
        >>> import tfp_flows as tfpf
        >>> model = tfd.JointDistributionSequential(
        ...     [
        ...         tfd.LogNormal(0.0, 1.0),
        ...         tfd.Normal(0.0, 1.0),
        ...         lambda mean, scale: tfd.Normal(mean, scale),
        ...     ]
        ... )
        >>> pinned = model.experimental_pin(None, None, 0.3)
        >>> flow = tfpf.maf((2,), inverse=True, layers=2, hidden_units=(8,))
        >>> scale, mean = surrogate_posterior(pinned, flow).sample(seed=(0, 1))
        >>> bool(scale > 0.0)
        True
    """
    flat = flat_target(target)
    if not flow.event_shape.is_compatible_with([flat.size]):
        raise ValueError(
            f"Argument `flow` must be a distribution of vectors of {flat.size} values, "
            "as many as the target has without constraints. "
            f"Received: event shape {flow.event_shape}"
        )
    bijector = getattr(flow, "bijector", None)
    base = flow if bijector is None else flow.distribution
    parts = [flat.unpack] if bijector is None else [flat.unpack, bijector]
    if (dtype := dtype_of(target)) != flow.dtype:
        parts.insert(1, _Cast(dtype, flow.dtype))
    return tfd.TransformedDistribution(
        base, tfb.Chain(parts), name="surrogate_posterior"
    )


class _Cast(tfb.Bijector):
    """Values of one dtype to those of another."""

    def __init__(self, to: tf.DType, back: tf.DType) -> None:
        self._to, self._back = to, back
        super().__init__(forward_min_event_ndims=0, is_constant_jacobian=True)

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x, self._to)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(y, self._back)

    def _forward_dtype(self, dtype: tf.DType) -> tf.DType:
        return self._to

    def _inverse_dtype(self, dtype: tf.DType) -> tf.DType:
        return self._back

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return tf.zeros([], x.dtype)

    def _inverse_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        return tf.zeros([], y.dtype)


def _flat_shapes(shapes: tf.TensorShape | dict | list | tuple) -> list[tf.TensorShape]:
    """Lists the shapes in a structure; a shape is itself a sequence to `tf.nest`."""
    if isinstance(shapes, tf.TensorShape):
        return [shapes]
    if isinstance(shapes, dict):
        return [flat for key in sorted(shapes) for flat in _flat_shapes(shapes[key])]
    return [flat for shape in shapes for flat in _flat_shapes(shape)]
