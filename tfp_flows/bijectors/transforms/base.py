"""`Transform`: the contract of an elementwise bijection, and a root search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import Described, Mapped

_MOST_STEPS = 200  # of a root search: bisection alone needs about 60 in float64


class Transform(Described):
    """An elementwise bijection `y = g(x; parameters)` that grows or falls with `x`.

    A subclass sets `parameters_per_value` and writes `forward`, `inverse` or both; the
    one that is missing is found by a root search, to rounding, with gradients by the
    implicit function theorem. Parameters that are all 0 should give the identity, or
    something near it.

    Shapes: values `[...]`, parameters `[..., parameters_per_value]`.

    Example:
        >>> class Cubic(Transform):
        ...     parameters_per_value = 1
        ...
        ...     def forward(self, x, parameters):
        ...         a = tf.exp(parameters[..., 0])
        ...         return x + a * x**3, tf.math.log1p(3.0 * a * x**2)
        >>> y = Cubic().forward(tf.constant([2.0]), tf.zeros([1, 1]))[0]
        >>> print(Cubic().inverse(y, tf.zeros([1, 1]))[0].numpy())
        [2.]
    """

    parameters_per_value: int

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Returns `y = g(x)` and `log |dy/dx|`."""
        x, log_slope = solve(self.inverse, x, parameters)
        return x, -log_slope

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Returns `x` with `g(x) = y`, and `log |dx/dy|`."""
        y, log_slope = solve(self.forward, y, parameters)
        return y, -log_slope

    def with_weights(self, add_weight: Callable) -> Transform:
        """Returns the transform with weights of its own, made by `add_weight`.

        A structure calls this once; a transform without weights is returned as it is.
        """
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))


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
    limits = np.finfo(target.dtype.as_numpy_dtype)
    found = tfp.math.find_root_chandrupatla(
        miss,
        tf.stop_gradient(low),
        tf.stop_gradient(high),
        position_tolerance=limits.eps * tf.maximum(tf.abs(low), tf.abs(high)),
        max_iterations=_MOST_STEPS,
    )
    root = tf.stop_gradient(found.estimated_root)
    value, log_slope = function(root, parameters)
    rising = miss(tf.stop_gradient(high)) >= miss(tf.stop_gradient(low))
    size = tf.maximum(tf.stop_gradient(tf.exp(log_slope)), limits.tiny)
    slope = tf.where(rising, size, -size)
    # Adds nothing to the root but its gradient.
    change = (target - sought) - (value - tf.stop_gradient(value))
    root = root + change / slope
    return root, function(root, parameters)[1]


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
