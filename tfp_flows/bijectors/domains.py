"""Where data live: circles, `Sphere`, `ZeroSum`, and `Onto` a part of the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import scipy.linalg
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.conditional import Wrapped
from tfp_flows.bijectors.transforms.affine import wrapped
from tfp_flows.bijectors.weights import OF_INPUT, WeightedBijector
from tfp_flows.internal.arguments import (
    Condition,
    Mapped,
    check_last_axis,
    checked_choice,
    checked_number,
)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Wrap(FlowBijector):
    """Angles as points of a circle: the same value for all that are whole turns apart.

        forward:  y = wrap(x)      into [-bound, bound)
        inverse:  x = wrap(y)
        log-det:  0

    It is the identity on `[-bound, bound)`, and no bijection of all numbers: densities
    behind it are those on the circle, whichever angle a point is given by.

    Shapes: single values, `[...]`; log-dets have the same shape.
    """

    def __init__(self, bound: float = math.pi, **kwargs: Any) -> None:
        """Chooses half the circumference of the circle."""
        self._bound = checked_number("bound", bound, above=0.0)
        super().__init__(event_ndims=0, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        return wrapped(x, self._bound), tf.zeros_like(x)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        return wrapped(y, self._bound), tf.zeros_like(y)


def _off(total: tf.Tensor) -> tf.Tensor:
    """Returns where sums that should be 1 are not, by more than rounding."""
    eps = np.finfo(total.dtype.as_numpy_dtype).eps
    return tf.abs(total - 1.0) > 100.0 * eps


SUPPORTS: dict[str, Callable[[], tfb.Bijector]] = {
    "positive": tfb.Softplus,
    "unit_interval": tfb.Sigmoid,
    "ordered": tfb.Ascending,
    "simplex": tfb.SoftmaxCentered,
}


@keras.saving.register_keras_serializable(package="tfp_flows")
class Onto(Wrapped):
    """A bijector of TFP onto a part of the numbers, with density 0 outside of it.

        forward:  y = f(x)
        inverse:  x = f^-1(y), with the log-det -inf where `y` is outside
        log-det:  that of f

    | `support` | data | f |
    |---|---|---|
    | `"positive"` | `y > 0` | `tfb.Softplus` |
    | `"unit_interval"` | `0 < y < 1` | `tfb.Sigmoid` |
    | `"ordered"` | `y_1 < ... < y_d` | `tfb.Ascending` |
    | `"simplex"` | `y_i > 0`, sum 1 | `tfb.SoftmaxCentered`, of d - 1 latents |

    Densities on the simplex are by its area, as `tfb.SoftmaxCentered` has them: in
    logarithms `log(d) / 2` below those of the first `d - 1` values, which
    `tfd.Dirichlet` gives. A sum is 1 if it is so to rounding.

    Shapes: single values, or vectors `[..., d]` for the last two.
    """

    def __init__(self, support: str, **kwargs: Any) -> None:
        """Chooses the part."""
        checked_choice("support", support, SUPPORTS)
        super().__init__(SUPPORTS[support](), **kwargs)

    def _inner_condition(self, condition: Condition) -> Condition:
        return None

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        return chain.within_range(self._bijector, y)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Remeasured(WeightedBijector):
    """Leaves vectors as they are; what densities are by changes, by a constant.

    forward:  y = x
    log-det:  the constant
    """

    def __init__(self, log_det: float, name: str | None = None) -> None:
        super().__init__(dtype=OF_INPUT, forward_min_event_ndims=1, name=name)
        self._log_det = log_det

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return tf.identity(x)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return tf.identity(y)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return tf.fill(tf.shape(x)[:-1], tf.constant(self._log_det, x.dtype))

    def _inverse_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        return -self._forward_log_det_jacobian(y)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Sphere(FlowBijector):
    """Longitude and height to points of the unit sphere in three dimensions.

        forward:  y = (r cos a, r sin a, z),    r = sqrt(1 - z^2)
        inverse:  a = atan2(y_2, y_1),  z = y_3
        log-det:  0, or -inf for points that are not on the sphere

    The map keeps areas (Archimedes): densities are those by area on the sphere, of sum
    1 over its `4 pi`. Points count as on the sphere if they are to rounding. At the two
    poles, where longitude has no meaning, densities need not be continuous.

    Shapes: latents `[..., 2]`, `-pi <= a < pi` and `-1 <= z <= 1`; data `[..., 3]`.

    Reference: Rezende et al.: Normalizing Flows on Tori and Spheres, 2020,
    arXiv:2002.02428, section 2.2.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(event_ndims=1, is_constant_jacobian=False, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        check_last_axis(self, x, 2)
        a, z = tf.unstack(x, axis=-1)
        r = tf.sqrt(tf.maximum((1.0 - z) * (1.0 + z), 0.0))
        y = tf.stack([r * tf.cos(a), r * tf.sin(a), z], axis=-1)
        return y, tf.zeros_like(z)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        check_last_axis(self, y, 3)
        off = _off(tf.reduce_sum(tf.square(y), axis=-1))
        first, second, z = tf.unstack(y, axis=-1)
        x = tf.stack([tf.atan2(second, first), tf.clip_by_value(z, -1.0, 1.0)], -1)
        return x, tf.where(off, tf.cast(-np.inf, y.dtype), tf.zeros_like(z))

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([3])

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([2])

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return tf.constant([3])

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return tf.constant([2])


@keras.saving.register_keras_serializable(package="tfp_flows")
class ZeroSum(FlowBijector):
    """Vectors as those of one value more, of sum 0; or points, of mean 0.

        forward:  y = Q x       the columns of Q orthonormal, their sums 0 (Helmert)
        inverse:  x = Q^T y
        log-det:  0, or -inf for y whose sum is not 0, by more than rounding

    The map keeps lengths: densities are those by volume in the subspace of sum 0.

    Shapes: latents `[..., n - 1]` and data `[..., n]` for `axis=-1`; `[..., n - 1, d]`
    and `[..., n, d]` for `axis=-2`.

    Example:
        >>> print(ZeroSum().forward([2.0]).numpy().round(2))
        [ 1.41 -1.41]
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        """Chooses the axis, -1 or -2, along which sums are 0."""
        self._axis = checked_choice("axis", axis, (-1, -2))
        super().__init__(event_ndims=-axis, is_constant_jacobian=False, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor) -> Mapped:
        q = scipy.linalg.helmert(x.shape[self._axis] + 1).T
        y = self._times(q.astype(x.dtype.as_numpy_dtype), x)
        return y, self._log_det(tf.zeros_like(y), y)

    def _inverse_and_log_det(self, y: tf.Tensor) -> Mapped:
        q = scipy.linalg.helmert(y.shape[self._axis])
        x = self._times(q.astype(y.dtype.as_numpy_dtype), y)
        sums = tf.abs(tf.reduce_sum(y, axis=self._axis, keepdims=True))
        return x, self._log_det(sums, y)

    def _times(self, matrix: np.ndarray, x: tf.Tensor) -> tf.Tensor:
        if self._axis == -2:
            return tf.matmul(matrix, x)
        return tf.linalg.matvec(matrix, x)

    def _log_det(self, sums: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        axes = list(range(self._axis, 0))
        eps = np.finfo(y.dtype.as_numpy_dtype).eps
        size = tf.reduce_sum(1.0 + tf.abs(y), axis=axes)
        off = tf.reduce_max(sums, axis=axes) > 100.0 * eps * size
        return tf.where(off, tf.cast(-np.inf, y.dtype), tf.zeros_like(size))

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(np.add(input_shape, self._more))

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(np.subtract(output_shape, self._more))

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return input_shape + self._more

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return output_shape - self._more

    @property
    def _more(self) -> list[int]:
        return [1, *[0] * (-self._axis - 1)]
