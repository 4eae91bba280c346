"""Ways to run many equal layers with stacked weights: in a loop, and reversibly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfp_flows.internal import compat
from tfp_flows.internal.arguments import Condition, Mapped

# A layer maps (value, its slices of the stacks, condition) to (value, log-det).
Layer = Callable[[tf.Tensor, list[tf.Tensor], Condition], Mapped]
# Takes the number of a layer and returns its slices of the stacks.
Reader = Callable[[tf.Tensor], list[tf.Tensor]]

# Reconstructed inputs that miss the true ones by more than this, relative to the
# largest of them, make wrong gradients.
_DRIFT = {tf.float64: 1e-6, tf.float32: 1e-2}


def looped(
    layer: Layer,
    x: tf.Tensor,
    stacks: list[tf.Tensor],
    order: range,
    condition: Condition,
    zero: tf.Tensor,
    reader: Callable[[list[tf.Tensor]], Reader] | None = None,
) -> Mapped:
    """Runs the layers in a `tf.while_loop`; sums up their log-dets from `zero`.

    `stacks` hold the weights of all layers, each with a first axis of `n`; `order` says
    in which order these run, and `reader` how the weights of one layer are read: None
    for a way that has a gradient at little cost.
    """
    n, read, static = len(order), (reader or _from_arrays)(stacks), x.shape

    def body(i: tf.Tensor, value: tf.Tensor, total: tf.Tensor) -> tuple:
        value, log_det = layer(value, read(_at(order, i)), condition)
        return i + 1, tf.ensure_shape(value, static), total + log_det

    _, value, total = _rounds(n, body, (x, zero))
    return value, total


def reversible(
    layer: Layer,
    inverse: Layer,
    x: tf.Tensor,
    stacks: list[tf.Tensor],
    order: range,
    condition: Condition,
    zero: tf.Tensor,
) -> Mapped:
    """Runs the layers in a loop whose gradient stores one layer at a time.

    Only the last value is stored: going back, each layer's input is recomputed by its
    inverse, and its gradient taken at once. Memory does not grow with the number of
    layers; the time of a step grows by about a third to a half.

    Where rounding errors have let the recomputed input drift from the true one, a
    second run forward keeps the true input of each layer for the gradients. Memory then
    grows by one value a layer: XLA plans for both cases in advance, whichever is taken.

    Arguments are those of `looped`, and `inverse`, a layer's inverse.

    Reference: Gomez et al.: The reversible residual network, 2017, arXiv:1707.04585.
    """
    floats = [i for i, stack in enumerate(stacks) if stack.dtype.is_floating]
    conditions = [] if condition is None else [condition]

    def ordinary(x: tf.Tensor, *rest: tf.Tensor) -> Mapped:
        return looped(layer, x, *_regrouped(rest), zero, _from_stacks)

    def _regrouped(rest: tuple[tf.Tensor, ...]) -> tuple:
        whole = list(stacks)
        for i, stack in zip(floats, rest, strict=False):
            whole[i] = stack
        return whole, order, rest[len(floats)] if conditions else None

    @tf.custom_gradient
    def run(x: tf.Tensor, *rest: tf.Tensor) -> tuple:
        y, log_det = ordinary(x, *rest)

        def gradient(dy: tf.Tensor, d_log_det: tf.Tensor) -> list[tf.Tensor]:
            whole, _, c = _regrouped(rest)

            def back(recall: Callable) -> tuple[tf.Tensor, list[tf.Tensor]]:
                return _backward(
                    layer, recall, y, whole, floats, order, c, dy, d_log_det
                )

            def by_inverse(_: tf.Tensor, value: tf.Tensor, slices: list) -> tf.Tensor:
                return inverse(value, slices, c)[0]

            def from_stored() -> list[tf.Tensor]:
                stored = _inputs(layer, x, whole, order, c)
                return back(lambda i, *_: stored.read(i))[1]

            again, gradients = back(by_inverse)
            return tf.cond(_drifted(again, x), from_stored, lambda: gradients)

        def with_derivatives(*upstream: tf.Tensor) -> list[tf.Tensor]:
            @tf.custom_gradient
            def first(*sources: tf.Tensor) -> tuple:
                def second(*up: tf.Tensor) -> list[tf.Tensor]:
                    with tf.GradientTape() as tape:
                        tape.watch(sources)
                        found = _pulled(ordinary, sources[2:], sources[:2])
                    return tape.gradient(found, sources, up, _ZERO)

                return tuple(gradient(*upstream)), second

            sources = (*upstream, x, *rest)
            if compat.in_forward_mode(sources):  # which follows every operation
                return _pulled(ordinary, sources[2:], upstream)
            return list(first(*sources))

        return (y, log_det), with_derivatives

    return run(x, *[stacks[i] for i in floats], *conditions)


_ZERO = tf.UnconnectedGradients.ZERO


def _pulled(
    function: Callable, inputs: Sequence[tf.Tensor], upstream: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns the gradients of a function's results, stored as they usually are."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value, log_det = function(*inputs)
    both = [upstream[0], _shaped(upstream[1], log_det)]
    gradients: Any = tape.gradient((value, log_det), inputs, both, _ZERO)
    return gradients


def _backward(
    layer: Layer,
    recall: Callable,
    y: tf.Tensor,
    stacks: list[tf.Tensor],
    floats: list[int],
    order: range,
    condition: Condition,
    dy: tf.Tensor,
    d_log_det: tf.Tensor,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Goes from the output to the input; returns that and all gradients.

    `recall(i, value, slices)` gives the input of the i-th layer that ran, whose output
    was `value`.
    """
    n, read, static = len(order), _from_stacks(stacks), y.shape
    conditions = [] if condition is None else [condition]
    written = tuple(
        tf.TensorArray(stacks[i].dtype, size=n, element_shape=stacks[i].shape[1:])
        for i in floats
    )

    def body(
        i: tf.Tensor, value: tf.Tensor, d_value: tf.Tensor, sums: tuple, out: tuple
    ) -> tuple:
        k = _at(order, n - 1 - i)
        slices = read(k)
        value = tf.stop_gradient(recall(n - 1 - i, value, slices))
        with tf.GradientTape() as tape:
            watched = [value, *(slices[j] for j in floats), *conditions]
            tape.watch(watched)
            result = layer(value, slices, condition)
        gradients: Any = tape.gradient(
            result,
            watched,
            [d_value, _shaped(d_log_det, result[1])],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        d_value, rest = gradients[0], gradients[1:]
        out = tuple(
            array.write(k, d) for array, d in zip(out, rest[: len(floats)], strict=True)
        )
        sums = tuple(s + d for s, d in zip(sums, rest[len(floats) :], strict=True))
        return i + 1, tf.ensure_shape(value, static), d_value, sums, out

    zeros = tuple(tf.zeros_like(c) for c in conditions)
    _, value, d_value, sums, out = _rounds(n, body, (y, dy, zeros, written))
    return value, [d_value, *(array.stack() for array in out), *sums]


def _inputs(
    layer: Layer,
    x: tf.Tensor,
    stacks: list[tf.Tensor],
    order: range,
    condition: Condition,
) -> tf.TensorArray:
    """Runs the layers once more and keeps the input of each."""
    n, read, static = len(order), _from_stacks(stacks), x.shape

    def body(i: tf.Tensor, value: tf.Tensor, stored: tf.TensorArray) -> tuple:
        stored = stored.write(i, value)
        value = layer(value, read(_at(order, i)), condition)[0]
        return i + 1, tf.ensure_shape(value, static), stored

    empty = tf.TensorArray(x.dtype, size=n, element_shape=static)
    return _rounds(n, body, (x, empty))[2]


def _drifted(again: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    error = tf.reduce_max(tf.abs(again - x))
    scale = 1.0 + tf.reduce_max(tf.abs(x))
    # Written so that NaN counts as drift.
    return tf.logical_not(error <= _DRIFT.get(x.dtype, 1e-2) * scale)


def _shaped(d_log_det: tf.Tensor, log_det: tf.Tensor) -> tf.Tensor:
    """Fits the gradient of a sum of log-dets to one that may be a constant."""
    if log_det.shape.rank == d_log_det.shape.rank:
        return d_log_det
    return tf.reduce_sum(d_log_det)


def _from_arrays(stacks: list[tf.Tensor]) -> Reader:
    # Not `stack[k]`, whose gradient is as large as the whole stack in each round.
    arrays = [
        tf.TensorArray(
            stack.dtype,
            size=stack.shape[0],
            element_shape=stack.shape[1:],
            clear_after_read=False,
        ).unstack(stack)
        for stack in stacks
    ]
    return lambda k: [array.read(k) for array in arrays]


def _from_stacks(stacks: list[tf.Tensor]) -> Reader:
    # Where no gradient goes through the reading: an array is a copy of all weights.
    return lambda k: [stack[k] for stack in stacks]


def _at(order: range, i: tf.Tensor) -> tf.Tensor:
    """Returns `order[i]`: layers run up or down in steps of one."""
    return i if order[0] == 0 else order[0] - i


def _rounds(n: int, body: Callable, start: tuple) -> tuple:
    return tf.while_loop(
        lambda i, *_: i < n,
        body,
        (tf.constant(0), *start),
        parallel_iterations=1,
        maximum_iterations=n,
    )
