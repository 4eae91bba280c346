"""A value and its log-det through any bijector, and its initialization from data.

Containers, models and conditions evaluate bijectors with it instead of TFP's four
methods: no cache, one run of each part, and conditions without names.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.base import FlowBijector, ValueAndLogDet
from tfp_flows.bijectors.tree import children, layers_in
from tfp_flows.bijectors.watchers import WATCHERS, watched
from tfp_flows.bijectors.weights import is_adapted
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import Arrays, Condition, Config, Shape

tfb, tfd = tfp.bijectors, tfp.distributions

# How a leaf is evaluated: (bijector, value, rank of its event, condition).
Leaf = Callable[[tfb.Bijector, tf.Tensor, int, Condition], ValueAndLogDet]


def forward_and_log_det(
    bijector: tfb.Bijector, x: tf.Tensor, event_ndims: int, condition: Condition = None
) -> ValueAndLogDet:
    """Computes `y = f(x)` and `log |det dy/dx|` of latents `[..., *event]`.

    The log-det has the batch shape, or is a scalar constant.
    """
    return _evaluate(_forward_leaf, bijector, x, event_ndims, condition, True)


def inverse_and_log_det(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition = None
) -> ValueAndLogDet:
    """Computes `x = f^-1(y)` and `log |det dx/dy|`: see `forward_and_log_det`."""
    return _evaluate(_inverse_leaf, bijector, y, event_ndims, condition)


def adapt(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition = None
) -> tf.Tensor:
    """Initializes every data-dependent weight inside `bijector` from a batch.

    Returns the latents of the data `y`, `[n, *event]`, under the new weights, or raises
    a `ValueError` where a part that waits for data stands where it gets none.
    """
    return _evaluate(_adapting_leaf, bijector, y, event_ndims, condition)[0]


def _evaluate(
    leaf: Leaf,
    bijector: tfb.Bijector,
    x: tf.Tensor,
    event_ndims: int,
    condition: Condition,
    forward: bool = False,
) -> ValueAndLogDet:
    """Goes through containers, forward (latents to data) or back."""
    if isinstance(bijector, compat.Chain):
        total = None
        parts = bijector.bijectors
        for part in reversed(parts) if forward else parts:
            x, log_det = _evaluate(leaf, part, x, event_ndims, condition, forward)
            total = log_det if total is None else total + log_det
            ranks = part.forward_event_ndims if forward else part.inverse_event_ndims
            event_ndims = ranks(event_ndims)
        return x, tf.zeros([], x.dtype) if total is None else total
    whole = leaf is _inverse_leaf and bends(bijector)
    if isinstance(bijector, compat.Invert) and not whole:
        inner, inverted = bijector.bijector, _INVERTED[leaf]
        return _evaluate(inverted, inner, x, event_ndims, condition, not forward)
    blockwise = isinstance(bijector, compat.Blockwise)
    if not blockwise and not isinstance(bijector, compat.JointMap):
        return leaf(bijector, x, event_ndims, condition)
    parts, values, ranks = map(tf.nest.flatten, (bijector.bijectors, x, event_ndims))
    if blockwise:
        sizes = bijector.block_sizes if forward else bijector.inverse_block_sizes
        values = tf.split(x, sizes, axis=-1)
    ranks = ranks * len(parts) if len(ranks) == 1 else ranks
    results = [
        _evaluate(leaf, part, value, rank, condition, forward)
        for part, value, rank in zip(parts, values, ranks, strict=True)
    ]
    values = [value for value, _ in results]
    total = functools.reduce(operator.add, (log_det for _, log_det in results))
    if blockwise:
        return tf.concat(values, axis=-1), total
    return tf.nest.pack_sequence_as(x, values), total


def _forward_leaf(
    bijector: tfb.Bijector, x: tf.Tensor, event_ndims: int, condition: Condition
) -> ValueAndLogDet:
    if isinstance(bijector, FlowBijector):
        ndims = bijector.forward_min_event_ndims
        condition = over_positions(
            condition, bijector.condition_shape, event_ndims - ndims
        )
        y, fldj = bijector.forward_and_log_det(x, condition)
        return y, over_event(fldj, x, ndims, event_ndims)
    keywords = condition_kwargs(bijector, condition)
    y = bijector.forward(x, **keywords)
    fldj = bijector.forward_log_det_jacobian(x, event_ndims, **keywords)
    return watched(bijector, y, _over_batch(fldj, x, event_ndims))


def _inverse_leaf(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition
) -> ValueAndLogDet:
    """Inverts a leaf; those of TFP have the log-det `-inf` outside of their range."""
    if not bends(bijector):
        return _bare_inverse_leaf(bijector, y, event_ndims, condition)
    x, ildj = within_range(bijector, y)
    ndims = bijector.inverse_min_event_ndims
    return watched(bijector, x, over_event(ildj, y, ndims, event_ndims))


def _bare_inverse_leaf(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition
) -> ValueAndLogDet:
    if isinstance(bijector, FlowBijector):
        ndims = bijector.inverse_min_event_ndims
        condition = over_positions(
            condition, bijector.condition_shape, event_ndims - ndims
        )
        x, ildj = bijector.inverse_and_log_det(y, condition)
        return x, over_event(ildj, y, ndims, event_ndims)
    keywords = condition_kwargs(bijector, condition)
    x = bijector.inverse(y, **keywords)
    if isinstance(bijector, tfb.Power):  # TFP's square has no NaN where no root is
        again = bijector.forward(tf.identity(x))  # not `y`, as TFP remembers
        x = tf.where(again * y < 0.0, tf.cast(np.nan, x.dtype), x)
    ildj = bijector.inverse_log_det_jacobian(y, event_ndims, **keywords)
    return watched(bijector, x, _over_batch(ildj, y, event_ndims))


def _adapting_leaf(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition
) -> ValueAndLogDet:
    if isinstance(bijector, FlowBijector) and not is_adapted(bijector):
        extra = event_ndims - bijector.inverse_min_event_ndims
        condition = over_positions(condition, bijector.condition_shape, extra)
        keywords = condition_kwargs(bijector, condition)
        return bijector.adapt(y, **keywords), tf.zeros([], y.dtype)
    _refuse_waiting(bijector, "a container that is not looked into")
    return _bare_inverse_leaf(bijector, y, event_ndims, condition)


def _adapting_inverted_leaf(
    bijector: tfb.Bijector, y: tf.Tensor, event_ndims: int, condition: Condition
) -> ValueAndLogDet:
    """Adapts a bijector whose `forward` leads to the latents, where it can be."""
    inverted = getattr(bijector, "adapt_inverted", None)
    if inverted is not None:
        return inverted(y), tf.zeros([], y.dtype)
    _refuse_waiting(bijector, "`tfb.Invert`")
    return _forward_leaf(bijector, y, event_ndims, condition)


_INVERTED: dict[Leaf, Leaf] = {
    _forward_leaf: _inverse_leaf,
    _inverse_leaf: _forward_leaf,
    _bare_inverse_leaf: _forward_leaf,
    _adapting_leaf: _adapting_inverted_leaf,
    _adapting_inverted_leaf: _adapting_leaf,
}


def _refuse_waiting(bijector: tfb.Bijector, place: str) -> None:
    if not is_adapted(bijector):
        raise ValueError(
            f"{type(bijector).__name__} '{bijector.name}' waits for data to set its "
            f"weights and cannot be set inside of {place}. Call its own "
            "`adapt(batch)` with data as it reaches it."
        )


def within_range(
    bijector: tfb.Bijector, y: tf.Tensor, beyond: tf.Tensor | None = None
) -> ValueAndLogDet:
    """Inverts a bijector that `bends`, with the log-det `-inf` outside of its range.

    Finite values without a finite latent or log-det are no values of TFP's `Exp`,
    `Sigmoid` and the like, nor are vectors and matrices that `forward` does not lead
    back to, and `beyond` marks others. Their latent is 0.5.
    """
    ndims = bijector.inverse_min_event_ndims
    x, ildj = _evaluate(_bare_inverse_leaf, bijector, tf.stop_gradient(y), ndims, None)

    def everywhere(holds: tf.Tensor, axes: int = ndims) -> tf.Tensor:
        return tf.reduce_all(holds, axis=list(range(-axes, 0)))

    known = everywhere(tf.math.is_finite(x), bijector.forward_min_event_ndims)
    known = tf.logical_and(known, tf.math.is_finite(ildj))
    if ndims:
        axes = list(range(-ndims, 0))
        off = tf.abs(bijector.forward(tf.identity(x)) - y)  # `y`, as TFP remembers
        rounding = 1e3 * np.finfo(y.dtype.as_numpy_dtype).eps
        largest = tf.reduce_max(tf.abs(y), axis=axes, keepdims=True)
        known = tf.logical_and(known, everywhere(off <= rounding * largest))
    outside = tf.logical_and(everywhere(tf.math.is_finite(y)), tf.logical_not(known))
    outside = outside if beyond is None else tf.logical_or(outside, beyond)
    # Inside of the domain of TFP's `WeibullCDF`, say, and of most supports.
    with contextlib.suppress(NotImplementedError):  # of a `tfb.Inline`
        start = tf.stop_gradient(bijector.forward(0.5 * tf.ones_like(x)))
        y = tf.where(outside[(..., *[tf.newaxis] * ndims)], start, y)
    x, ildj = _evaluate(_bare_inverse_leaf, bijector, y, ndims, None)
    return x, tf.where(outside, tf.cast(-np.inf, y.dtype), ildj)


def elementwise(bijector: tfb.Bijector) -> bool:
    """Returns whether a bijector of TFP, with all of its parts, maps single values."""
    if isinstance(bijector, compat.Chain):
        return all(map(elementwise, bijector.bijectors))
    if hasattr(bijector, "step"):  # a `Repeat`
        return elementwise(bijector.step)
    ndims = bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims
    ours = compat.nested(bijector, FlowBijector) or isinstance(bijector, FlowBijector)
    return ndims == (0, 0) and not ours and not isinstance(bijector, tfb.AbsoluteValue)


# Onto a part of the vectors or matrices.
_ONTO_A_PART = (
    *(tfb.Ascending, tfb.SoftmaxCentered, tfb.IteratedSigmoidCentered),
    *(tfb.CorrelationCholesky, tfb.CholeskyOuterProduct, tfb.FillScaleTriL),
    *(tfb.FillTriangular, tfb.TransformDiagonal),
)


def bends(bijector: tfb.Bijector) -> bool:
    """Returns whether it is one of TFP's whose range may end.

    Those are the elementwise ones that are not affine, known ones of vectors, and
    chains of these.
    """
    if isinstance(bijector, _ONTO_A_PART):
        return True
    if isinstance(bijector, compat.Chain):
        parts = bijector.bijectors
        known = all(elementwise(part) or bends(part) for part in parts)
        return known and any(map(bends, parts))
    return elementwise(bijector) and not bijector.is_constant_jacobian


def condition_kwargs(bijector: tfb.Bijector, condition: Condition) -> Config:
    """Returns the keyword arguments that bring `condition` to where it is taken.

    TFP's containers route keyword arguments by the names of their parts, as in
    `chain.forward(x, coupling={"condition": c})`; nested containers nest them.
    """
    if condition is None:
        return {}
    if isinstance(bijector, FlowBijector):
        return {} if bijector.condition_shape is None else {"condition": condition}
    if isinstance(bijector, compat.Invert):
        return condition_kwargs(bijector.bijector, condition)
    if not isinstance(bijector, compat.Composition):
        return {}
    inner = {
        part.name: condition_kwargs(part, condition) for part in children(bijector)
    }
    return {name: keywords for name, keywords in inner.items() if keywords}


def over_positions(condition: Condition, shape: Shape | None, extra: int) -> Condition:
    """Gives a condition an axis of 1 for each event axis that is none of a part's own.

    There is one condition for an event, `[..., *shape]`; a part of vectors on events
    `[t, d]` takes the same at all `t` positions.
    """
    if condition is None or shape is None or not extra:
        return condition
    c = tf.convert_to_tensor(condition)
    place = c.shape.rank - len(shape)
    for _ in range(extra):
        c = tf.expand_dims(c, place)
    return c


def over_event(
    log_det: tf.Tensor, x: tf.Tensor, min_event_ndims: int, event_ndims: int
) -> tf.Tensor:
    """Sums a log-det over the event axes to the left of a bijector's own.

    A constant log-det is multiplied by the number of positions instead, such as
    the number of pixels under a 1x1 convolution.
    """
    extra = event_ndims - min_event_ndims
    if extra == 0:
        return log_det
    if log_det.shape.rank == 0:
        positions = x.shape[-event_ndims : x.shape.rank - min_event_ndims]
        if positions.is_fully_defined():
            return log_det * tf.cast(positions.num_elements(), log_det.dtype)
        count = tf.reduce_prod(
            tf.shape(x)[-event_ndims : x.shape.rank - min_event_ndims]
        )
        return log_det * tf.cast(count, log_det.dtype)
    return tf.reduce_sum(log_det, axis=list(range(-extra, 0)))


def _over_batch(log_det: tf.Tensor, x: tf.Tensor, event_ndims: Any) -> tf.Tensor:
    """Gives TFP's log-dets of parameters that broadcast all batch axes of `x`."""
    if log_det.shape.rank == 0 or tf.nest.is_nested(event_ndims):
        return log_det
    shape = tf.shape(x)[: len(x.shape) - event_ndims]
    return log_det + tf.zeros(shape, log_det.dtype)


_LAYERS: list[int] = []  # of the repeated steps that are being run, outermost first


@contextlib.contextmanager
def watching(watcher: Callable) -> Iterator[None]:
    """Shows to `watcher` what each bijector computes.

    It is called as `watcher(part, value, log_det)`, for parts inside a part first.
    `layers()` says in which layers of which `Repeat`s that is.
    """
    WATCHERS.append(watcher)
    try:
        yield
    finally:
        WATCHERS.remove(watcher)


@contextlib.contextmanager
def in_layer(k: int) -> Iterator[None]:
    """Notes that the k-th layer of a `Repeat` is being run."""
    _LAYERS.append(k)
    try:
        yield
    finally:
        _LAYERS.pop()


def layers() -> tuple[int, ...]:
    """Returns the layers of the `Repeat`s that are being run, outermost first."""
    return tuple(_LAYERS)


# Distributions.


def adapt_distribution(
    distribution: tfd.Distribution, x: Arrays, condition: Condition = None
) -> None:
    """Initializes every data-dependent weight inside a distribution from a batch `x`.

    It may be around bijectors, other distributions or both; see `adapt`. Where that is
    refused, all weights are those before.
    """
    inside = compat.tf_variables(layers_in(distribution))
    before = [(v, v.numpy()) for v in (*distribution.variables, *inside)]
    try:
        _adapt_parts(distribution, x, condition)
        if not all(np.all(np.isfinite(v.numpy())) for v in inside):
            must = "lie in the support of the distribution to initialize weights from"
            raise ValueError(f"Argument `data` must {must} it.")
    except ValueError:
        for variable, value in before:
            variable.assign(value)
        raise


def _adapt_parts(
    distribution: tfd.Distribution, x: Arrays, condition: Condition
) -> None:
    if is_adapted(distribution):
        return
    own = getattr(distribution, "adapt", None)
    if own is not None:  # ours, such as `tfpf.Dequantized`
        own(x) if condition is None else own(x, condition)
    elif isinstance(distribution, compat.TransformedDistribution):
        ndims = tf.nest.map_structure(len, distribution.event_shape)
        z = adapt(distribution.bijector, x, ndims, condition)
        _adapt_parts(distribution.distribution, z, condition)
    elif isinstance(distribution, compat.BlockwiseDistribution):
        _adapt_parts(*compat.in_blocks(distribution, x), condition)
    elif isinstance(distribution, tfd.JointDistribution):
        for part, values in zip(
            _joint_parts(distribution, x), tf.nest.flatten(x), strict=False
        ):
            if isinstance(part, tfd.Distribution):
                _adapt_parts(part, values, None)
    else:
        for part in children(distribution):
            if isinstance(part, tfd.Distribution) and not is_adapted(part):
                _adapt_parts(part, _as_batch_of(part, distribution, x), condition)
    if not is_adapted(distribution):
        raise ValueError(
            f"The distribution '{distribution.name}' holds weights that wait for data "
            "where `adapt` cannot reach them. Adapt the flow inside by a model of its "
            f"own first. Received: a {type(distribution).__name__}"
        )


def _joint_parts(joint: tfd.JointDistribution, x: Arrays) -> list:
    """Returns the parts of a joint distribution; those of functions are given `x`."""
    parts = tf.nest.flatten(joint.model)
    known = all(isinstance(part, tfd.Distribution) for part in parts)
    if known or getattr(joint, "use_vectorized_map", False):
        return parts
    return tf.nest.flatten(joint.sample_distributions(value=x, seed=(0, 1))[0])


# Whose part has a last batch axis of components or states, which data have not.
_WITH_HIDDEN_STATES = compat.MixtureSameFamily, tfd.HiddenMarkovModel


def _as_batch_of(
    part: tfd.Distribution, whole: tfd.Distribution, x: tf.Tensor
) -> tf.Tensor:
    """Returns data of a distribution as those of a part, `[n, *batch, *event]`.

    An axis of the part's batch has the size 1 there where data are of all its members,
    as of the components of a mixture. All axes of the data that are none of the part's,
    such as those of a `Sample` or of time, are rows.
    """
    event, batch, outer = part.event_shape, part.batch_shape, whole.batch_shape
    hidden = isinstance(whole, _WITH_HIDDEN_STATES)
    extra = whole.event_shape.rank - event.rank
    start = x.shape.rank - event.rank
    if outer.rank and x.shape[: start - extra] == outer:  # one row for each member
        x, start = x[tf.newaxis], start + 1
    as_many = math.prod(outer) == math.prod(batch)
    if outer != batch and as_many and not (hidden or extra):  # under `BatchReshape`
        whole_rows = [*x.shape[: start - outer.rank], *outer, *event]
        x = tf.reshape(tf.broadcast_to(x, whole_rows), [-1, *batch, *event])
        start = 1 + batch.rank
    # The axes of the data that stand for those of the part's batch.
    axes: list[int | None] = [*range(1, start)]
    if batch.rank - hidden != outer.rank + extra:  # unlike under `Independent`
        axes = axes[: len(axes) - extra]
    axes = [*[None] * batch.rank, *axes, *[None] * hidden]
    axes = axes[len(axes) - batch.rank :]
    pairs = list(zip(axes, batch, strict=True))
    sizes = [1 if axis is None or n == 1 else x.shape[axis] for axis, n in pairs]
    fits = all(size in (1, n) for size, n in zip(sizes, batch, strict=True))
    if not (x.shape[start:].is_compatible_with(event) and fits):
        raise ValueError(
            f"The data of a batch cannot be given to the part '{part.name}' to "
            f"initialize it. Received: data of shape {x.shape} for events of shape "
            f"{event} in a batch of shape {part.batch_shape}"
        )
    own = [axis for axis, size in zip(axes, sizes, strict=True) if size != 1]
    rows = [axis for axis in range(start) if axis not in own]
    x = tf.transpose(x, [*rows, *own, *range(start, x.shape.rank)])
    return tf.reshape(x, [-1, *sizes, *event])
