"""`Parametrized` bijectors of vectors: `Planar`, `Radial`, `Sylvester`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.base import FlowBijector, broadcast_batch, call_layer
from tfp_flows.bijectors.transforms.roots import solve
from tfp_flows.internal.arguments import (
    Condition,
    Initializer,
    Mapped,
    Shape,
    check_last_axis,
    checked_integer,
    invalid,
)
from tfp_flows.nets import conditioner as conditioners
from tfp_flows.nets.dense import MLP


class Parametrized(FlowBijector):
    """A bijector of vectors `[..., d]` whose parameters no value of them decides.

        p = weights                   without a condition
        p = weights + network(c)      with one, of shape `condition_shape`

    A subclass names its parameters, with shapes and initializers, and reads them by
    `_values_and_parameters`. The network is `conditioner`, a Keras layer from
    conditions to all parameters beside each other; None for `tfpf.nets.MLP()`.
    """

    def __init__(
        self,
        d: int,
        parameters: Mapping[str, tuple[Shape, Initializer]],
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        self._d = checked_integer("d", d)
        if conditioner is not None and condition_shape is None:
            raise invalid("condition_shape", "be given with `conditioner`", None)
        super().__init__(event_ndims=1, condition_shape=condition_shape, **kwargs)
        self._own = [
            self.add_weight(shape, start, name=name)
            for name, (shape, start) in parameters.items()
        ]
        if condition_shape is not None:
            outputs = (sum(math.prod(shape) for shape, _ in parameters.values()),)
            conditioner = conditioner or MLP(dtype=self.dtype.name)
            conditioners.connect(conditioner, self.condition_shape, outputs)
            self._conditioner = conditioner

    def _values_and_parameters(
        self, x: tf.Tensor, condition: Condition
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns `x`, with the condition's batch axes, and parameters `[..., *p]`."""
        check_last_axis(self, x, self._d)
        own = [tf.convert_to_tensor(weight) for weight in self._own]
        if condition is None:
            return x, own
        condition = tf.cast(condition, x.dtype)
        ndims = len(self.condition_shape or ())
        made = call_layer(self._conditioner, condition, ndims)
        x, made = broadcast_batch(x, 1, made, 1)
        sizes = [math.prod(weight.shape) for weight in own]
        return x, [
            weight + tf.reshape(part, tf.concat([tf.shape(x)[:-1], weight.shape], 0))
            for weight, part in zip(own, tf.split(made, sizes, -1), strict=True)
        ]


@keras.saving.register_keras_serializable(package="tfp_flows")
class Planar(Parametrized):
    """Planar flow.

        forward:  y = x + u tanh(a + b),  a = w.x
        inverse:  x = y - u tanh(a + b),  a the root of a + w.u tanh(a + b) = w.y
        log-det:  log(1 + w.u (1 - tanh^2(a + b))) (forward), minus that (inverse)

    The learned `u` is moved along `w` so that `w.u > -1`, which makes the map
    invertible. The root is searched to rounding, with the gradient of the true root.
    With `condition_shape`, a network adds to `u`, `w` and `b`.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770.
    """

    def __init__(
        self,
        d: int,
        *,
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        """Draws directions for `d` values; a small `u` is near the identity."""
        small = keras.initializers.RandomNormal(stddev=0.05)
        parameters = {"u": ((d,), small), "w": ((d,), "random_normal")}
        parameters |= {"b": ((), "zeros")}
        super().__init__(d, parameters, condition_shape, conditioner, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, u, w, b, wu = self._plane(x, condition)
        bend = tf.tanh(tf.reduce_sum(w * x, -1) + b)
        return x + u * bend[..., tf.newaxis], _log_slope(wu, bend)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, u, w, b, wu = self._plane(y, condition)
        a = _root(tf.reduce_sum(w * y, -1), wu, tf.ones_like(wu), b)
        bend = tf.tanh(a + b)
        return y - u * bend[..., tf.newaxis], -_log_slope(wu, bend)

    def _plane(self, x: tf.Tensor, condition: Condition) -> tuple[tf.Tensor, ...]:
        """Returns `x`, `u` after its correction, `w`, `b` and `w.u`."""
        x, (u, w, b) = self._values_and_parameters(x, condition)
        raw = tf.reduce_sum(u * w, -1)
        wu = tf.nn.softplus(raw) - 1.0
        along = w / (tf.reduce_sum(w * w, -1, keepdims=True) + 1e-12)
        return x, u + (wu - raw)[..., tf.newaxis] * along, w, b, wu


def _log_slope(wu: tf.Tensor, bend: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(wu * (1.0 - tf.square(bend)))


def _root(target: tf.Tensor, r: tf.Tensor, k: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Solves `a + r tanh(k a + b) = target`, whose left side grows with `a`."""

    def function(a: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        r, k, b = tf.unstack(parameters)
        bend = tf.tanh(k * a + b)
        return a + r * bend, _log_slope(r * k, bend)

    parameters = tf.stack([tf.broadcast_to(p, tf.shape(target)) for p in (r, k, b)])
    reach = tf.abs(r)
    return solve(function, target, parameters, target - reach, target + reach)[0]


@keras.saving.register_keras_serializable(package="tfp_flows")
class Radial(Parametrized):
    """Radial flow.

    With `r = |x - c|`, `alpha > 0`, `beta > -alpha` and `g = 1 + beta/(alpha + r)`,

        forward:  y = c + (x - c) g
        inverse:  x = c + (y - c) / g,  r the positive root of
                  r^2 + (alpha + beta - |y - c|) r - alpha |y - c| = 0
        log-det:  (d - 1) log g + log(1 + alpha beta / (alpha + r)^2) (forward),
                  minus that (inverse)

    With `condition_shape`, a network adds to `c`, `alpha` and `beta` before the last
    two are made positive.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: Rezende, Mohamed: Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770.
    """

    def __init__(
        self,
        d: int,
        *,
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        """Draws a weak pull around a centre near 0 for vectors of `d` values."""
        parameters = {"centre": ((d,), "random_normal")}
        parameters |= {name: ((), "zeros") for name in ("raw_alpha", "raw_beta")}
        super().__init__(d, parameters, condition_shape, conditioner, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, centre, alpha, beta = self._centre_and_pull(x, condition)
        r = _length(x - centre)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (x - centre) * growth, log_det

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, centre, alpha, beta = self._centre_and_pull(y, condition)
        far = _length(y - centre)
        p = alpha + beta - far
        q = tf.abs(p) + tf.sqrt(tf.square(p) + 4.0 * alpha * far)
        # The form of the root that subtracts no near-equal numbers.
        r = tf.where(p > 0.0, 2.0 * alpha * far / q, 0.5 * q)
        growth, log_det = self._growth_and_log_det(r, alpha, beta)
        return centre + (y - centre) / growth, -log_det

    def _centre_and_pull(
        self, x: tf.Tensor, condition: Condition
    ) -> tuple[tf.Tensor, ...]:
        x, (centre, alpha, beta) = self._values_and_parameters(x, condition)
        alpha = tf.nn.softplus(alpha)
        return x, centre, alpha, tf.nn.softplus(beta) - alpha

    def _growth_and_log_det(
        self, r: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        pull = beta / (alpha + r)
        across = tf.math.log1p(pull)
        along = tf.math.log1p(alpha * pull / (alpha + r))
        log_det = (self._d - 1) * across + along
        return 1.0 + pull[..., tf.newaxis], log_det


def _length(v: tf.Tensor) -> tf.Tensor:
    # Keeps the gradient finite at the centre itself.
    return tf.sqrt(tf.reduce_sum(v * v, axis=-1) + v.dtype.as_numpy_dtype(1e-30))


def reflected(vectors: tf.Tensor) -> tf.Tensor:
    """Multiplies one reflection `I - 2 v v^T / |v|^2` for each row of `[..., n, d]`.

        product = I - V^T T^-1 V,    T = triu(V V^T), its diagonal halved

    which is two products and one solution of a triangle in place of n products.

    Reference: Joffrain et al.: Accumulating Householder transformations, revisited,
    2006 (the UT transform).
    """
    gram = tf.matmul(vectors, vectors, transpose_b=True)
    upper = tf.linalg.set_diag(
        tf.linalg.band_part(gram, 0, -1), 0.5 * tf.linalg.diag_part(gram)
    )
    solved = tf.linalg.triangular_solve(upper, vectors, lower=False)
    eye = tf.eye(vectors.shape[-1], dtype=vectors.dtype)
    return eye - tf.matmul(vectors, solved, transpose_a=True)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Sylvester(Parametrized):
    """Sylvester flow: planar flows of `units` units at once.

        forward:  y = x + Q R tanh(R' z + b),  z = Q^T x
        inverse:  x = y - Q R tanh(R' z + b),  z by `units` root searches, from the last
        log-det:  sum_i log(1 + R_ii R'_ii (1 - tanh^2_i)) (forward), minus that

    `R` and `R'` are upper triangular, with diagonals that a tanh keeps within -1 and 1,
    and the columns of `Q` are orthonormal: the first ones of a product of `reflections`
    Householder reflections. With none, `Q` is a part of the identity (the triangular
    kind), between which flows should permute values. With `condition_shape`, a network
    adds to all of them.

    Shapes: vectors `[..., d]`; log-dets have the batch shape.

    Reference: van den Berg, Hasenclever, Tomczak, Welling: Sylvester Normalizing Flows
    for Variational Inference, 2018, arXiv:1803.05649.

    Example:
        >>> import tfp_flows as tfpf
        >>> tfpf.Sylvester(4, units=2).forward([[1.0, 2.0, 3.0, 4.0]]).shape
        TensorShape([1, 4])
    """

    def __init__(
        self,
        d: int,
        *,
        units: int | None = None,
        reflections: int | None = None,
        condition_shape: Sequence[int] | None = None,
        conditioner: keras.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        """Makes the weights of a map that starts as the identity.

        Args:
            units: Number of units, at most `d`; None for `d`.
            reflections: Number of reflections; None for `d`.
        """
        checked_integer("d", d)
        self._units = m = checked_integer("units", d if units is None else units)
        if m > d:
            raise invalid("units", f"be at most {d}, the number of values", units)
        n = checked_integer("reflections", d if reflections is None else reflections, 0)
        parameters = {"reflections": ((n, d), "random_normal")} if n else {}
        parameters |= {
            "outer": ((m, m), "zeros"),
            "inner": ((m, m), keras.initializers.RandomNormal(stddev=0.5)),
            "b": ((m,), keras.initializers.RandomUniform(-1.0, 1.0)),
        }
        super().__init__(d, parameters, condition_shape, conditioner, **kwargs)

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        x, q, outer, inner, b = self._matrices(x, condition)
        z = tf.linalg.matvec(q, x, transpose_a=True)
        bends = tf.tanh(tf.linalg.matvec(inner, z) + b)
        return x + self._step(q, outer, bends), self._log_det(outer, inner, bends)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        y, q, outer, inner, b = self._matrices(y, condition)
        target = tf.linalg.matvec(q, y, transpose_a=True)
        z, bends = tf.zeros_like(target), tf.zeros_like(target)
        for i in reversed(range(self._units)):
            r, k = outer[..., i, i], inner[..., i, i]
            offset = tf.reduce_sum(inner[..., i, :] * z, -1) + b[..., i]
            rest = target[..., i] - tf.reduce_sum(outer[..., i, :] * bends, -1)
            here = tf.one_hot(i, self._units, dtype=y.dtype)
            root = _root(rest, r, k, offset)
            z += root[..., tf.newaxis] * here
            bends += tf.tanh(k * root + offset)[..., tf.newaxis] * here
        return y - self._step(q, outer, bends), -self._log_det(outer, inner, bends)

    def _step(self, q: tf.Tensor, outer: tf.Tensor, bends: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(q, tf.linalg.matvec(outer, bends))

    def _log_det(
        self, outer: tf.Tensor, inner: tf.Tensor, bends: tf.Tensor
    ) -> tf.Tensor:
        both = tf.linalg.diag_part(outer) * tf.linalg.diag_part(inner)
        return tf.reduce_sum(_log_slope(both, bends), -1)

    def _matrices(self, x: tf.Tensor, condition: Condition) -> tuple[tf.Tensor, ...]:
        """Returns `x`, `Q`, `R`, `R'` and `b`."""
        x, (*vectors, outer, inner, b) = self._values_and_parameters(x, condition)
        q = tf.eye(self._d, dtype=x.dtype)
        if vectors:
            q = reflected(vectors[0])
        upper = np.triu(np.ones((self._units, self._units)), 1)
        strict = tf.constant(upper, x.dtype)
        eye = tf.eye(self._units, dtype=x.dtype)
        outer, inner = (
            matrix * strict + tf.tanh(matrix * eye) for matrix in (outer, inner)
        )
        return x, q[..., : self._units], outer, inner, b
