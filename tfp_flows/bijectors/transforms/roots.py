"""`solve`: roots of many monotone functions at once, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import Mapped

_MOST_STEPS = 200  # bisection alone needs about 60 in float64


def solve(
    function: Callable[[tf.Tensor, tf.Tensor], Mapped],
    target: tf.Tensor,
    parameters: tf.Tensor,
    low: tf.Tensor | None = None,
    high: tf.Tensor | None = None,
) -> Mapped:
    """Finds the `x` with `function(x, parameters) = target`, elementwise.

    Gradients flow to `target` and `parameters`, for first derivatives:
    `dx = (dtarget - df) / f'`. The function grows or falls in its first argument, and
    returns values and the logarithms of the slopes; so does this, at the roots. Without
    `low` and `high` a bracket is doubled until it holds the root.
    """
    fixed, sought = tf.stop_gradient(parameters), tf.stop_gradient(target)

    def miss(x: tf.Tensor) -> tf.Tensor:
        return function(x, fixed)[0] - sought

    if low is None or high is None:
        low, high = _bracket(miss, sought)
    low, high = tf.stop_gradient(low), tf.stop_gradient(high)
    below, above = miss(low), miss(high)
    # No step finds a root there; NaN would hold the others' search to the last step.
    lost = tf.math.is_nan(below + above)
    limits = np.finfo(target.dtype.as_numpy_dtype)
    found = tfp.math.find_root_chandrupatla(
        lambda x: tf.where(lost, tf.zeros_like(x), miss(x)),
        low,
        high,
        position_tolerance=limits.eps * tf.maximum(tf.abs(low), tf.abs(high)),
        max_iterations=_MOST_STEPS,
    )
    root = tf.stop_gradient(found.estimated_root)
    value, log_slope = function(root, parameters)
    size = tf.maximum(tf.stop_gradient(tf.exp(log_slope)), limits.tiny)
    slope = tf.where(above >= below, size, -size)
    # Adds nothing to the root but its gradient.
    change = (target - sought) - (value - tf.stop_gradient(value))
    root = root + _once(change / slope, target, parameters)
    return root, function(root, parameters)[1]


def only_once(gradient: tf.Tensor, *sources: tf.Tensor) -> tf.Tensor:
    """Returns a gradient that depends on `sources` and has none itself: it refuses."""

    @tf.custom_gradient
    def value(gradient: tf.Tensor, *_: tf.Tensor) -> Any:
        def refuse(_: tf.Tensor) -> None:
            raise NotImplementedError(
                "The solution of an equation has first derivatives by "
                "`tf.GradientTape` only: neither a gradient of a gradient nor "
                "`tf.autodiff.ForwardAccumulator` goes through the direction that is "
                "solved for"
            )

        return tf.identity(gradient), refuse

    return value(gradient, *sources)


def repeated(
    function: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, times: int
) -> tf.Tensor:
    """Applies a function so many times, in a loop that gradients flow through."""
    return tf.while_loop(
        lambda y: True,
        lambda y: (function(y),),
        (start,),
        maximum_iterations=times,
        parallel_iterations=1,
    )[0]


@tf.custom_gradient
def _once(change: tf.Tensor, *sources: tf.Tensor) -> tuple:
    def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
        return [only_once(upstream, *sources), *map(tf.zeros_like, sources)]

    return tf.identity(change), gradient


def _bracket(
    miss: Callable[[tf.Tensor], tf.Tensor], near: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Doubles an interval around each value until `miss` changes its sign in it."""

    def outside(low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        return miss(low) * miss(high) > 0.0

    def doubled(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wider = tf.where(outside(low, high), high - low, tf.zeros_like(low))
        return low - 0.5 * wider, high + 0.5 * wider

    reach = 1.0 + 0.1 * tf.abs(near)
    return tf.while_loop(
        lambda low, high: tf.reduce_any(outside(low, high)),
        doubled,
        (near - reach, near + reach),
        maximum_iterations=64,
    )
