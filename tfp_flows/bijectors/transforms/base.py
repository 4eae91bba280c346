"""`Transform`: the contract of an elementwise bijection."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.internal.arguments import Described, Mapped


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
