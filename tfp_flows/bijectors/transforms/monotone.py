"""Monotone functions of many parameters: polynomials, integrals, small networks.

Each is written from data to noise, the direction that densities take; the other is the
root search of the base class. The first three bend on `[-bound, bound]`; outside their
slope falls to 1, so that no value is out of reach, and steps in a chain do not multiply
outliers.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.transforms.affine import sizes_of
from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.bijectors.transforms.mixture import LogisticMixture
from tfp_flows.bijectors.transforms.spline import positive
from tfp_flows.internal.arguments import (
    Mapped,
    checked_integer,
    checked_number,
    checked_widths,
)


class Extended(Transform):
    """Base class of a curve on `[-bound, bound]` whose slope falls to 1 outside.

    At a distance `t` from the border, with the slope `s` there,

        inverse:  x = x(border) +/- (t + (s - 1) (1 - exp(-t)))

    A subclass writes `_curve(y, parameters)`, which returns values and log-slopes of
    `inverse`.
    """

    def __init__(self, bound: float) -> None:
        self.bound = checked_number("bound", bound, above=0.0)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the curve."""
        inside = tf.clip_by_value(y, -self.bound, self.bound)
        x, log_slope = self._curve(inside, parameters)
        slope, beyond = tf.exp(log_slope), y - inside
        left = tf.exp(-tf.abs(beyond))
        gone = -tf.math.expm1(-tf.abs(beyond))
        x += beyond + (slope - 1.0) * tf.sign(beyond) * gone
        return x, tf.math.log(slope * left + gone)

    def _curve(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        raise NotImplementedError(f"{type(self).__name__} lacks `_curve`.")


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class Bernstein(Extended):
    """A Bernstein polynomial of growing coefficients on `[-bound, bound]`.

    With `u = (y + bound) / (2 bound)` and the polynomials `B_{i,M}(u) = binom(M, i)
    u^i (1 - u)^(M - i)`,

        inverse:  x = sum_i c_i B_{i,M}(u)          c_0 < c_1 < ... < c_M
        forward:  by a root search, to rounding
        log-derivative:  log sum_i M / (2 bound) (c_{i+1} - c_i) B_{i,M-1}(u) (inverse),
                         minus that

    A value has `degree + 1` parameters: a shift, and the logarithms, nearly, of the
    steps between coefficients. Zero gives the identity.

    Reference: Sick, Hothorn, Duerr: Deep transformation models, 2020, arXiv:2004.00464.
    """

    def __init__(self, degree: int = 16, bound: float = 5.0) -> None:
        """Chooses the degree, and where the polynomial ends."""
        super().__init__(bound)
        self.degree = checked_integer("degree", degree, 2)
        self.parameters_per_value = self.degree + 1

    def _curve(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        slopes = positive(parameters[..., 1:], 1e-3)
        coefficients = tf.cumsum(slopes, axis=-1) * (2.0 * self.bound / self.degree)
        start = parameters[..., :1] - self.bound
        coefficients = start + tf.pad(
            coefficients, [[0, 0]] * (len(y.shape)) + [[1, 0]]
        )
        u = (y + self.bound) / (2.0 * self.bound)
        x = tf.reduce_sum(coefficients * _bernstein(u, self.degree), -1)
        slope = tf.reduce_sum(slopes * _bernstein(u, self.degree - 1), -1)
        return x, tf.math.log(slope)


def _bernstein(u: tf.Tensor, degree: int) -> tf.Tensor:
    """Returns all Bernstein polynomials of a degree at `u`, on one axis more."""
    counts = [float(math.comb(degree, k)) for k in range(degree + 1)]
    up, down = (_powers(v[..., tf.newaxis], degree) for v in (u, 1.0 - u))
    return tf.constant(counts, u.dtype) * up * down[..., ::-1]


def _powers(x: tf.Tensor, degree: int) -> tf.Tensor:
    """Returns `[1, x, ..., x^degree]` on the last axis, of size 1."""
    powers = [tf.ones_like(x)]
    for _ in range(degree):
        powers.append(powers[-1] * x)
    return tf.concat(powers, axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class SumOfSquares(Extended):
    """The integral of a sum of squared polynomials, on `[-bound, bound]`.

        inverse:  x = t + int_0^y q(v) dv,   q(v) = e + (1 - e) mean_k p_k(v / bound)^2
        forward:  by a root search, to rounding
        log-derivative:  log q(y) (inverse), minus that

    The p_k are `polynomials` polynomials of the degree `degree` and `e` is 1e-3. The
    integral is exact: a Gauss-Legendre sum of `degree + 1` points. A value has
    `polynomials (degree + 1) + 1` parameters: of the polynomials, as changes `w / (1 +
    |w| / 3)` from constants, and the shift. Zero gives the identity.

    Reference: Jaini, Selby, Yu: Sum-of-Squares Polynomial Flow, 2019, arXiv:1905.02325.
    """

    def __init__(
        self, polynomials: int = 3, degree: int = 4, bound: float = 5.0
    ) -> None:
        """Chooses the polynomials, and where their integral ends."""
        super().__init__(bound)
        self.polynomials = checked_integer("polynomials", polynomials)
        self.degree = checked_integer("degree", degree)
        self.parameters_per_value = self.polynomials * (self.degree + 1) + 1

    def _curve(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        shift, raw = parameters[..., 0], parameters[..., 1:]
        k, n = self.polynomials, self.degree + 1
        raw = tf.reshape(raw, [*sizes_of(raw)[:-1], k, n])
        # Squares of what networks give for outliers would grow from step to step.
        raw = raw / (1.0 + tf.abs(raw) / 3.0)
        # Equal ones would have equal gradients, and stay equal.
        constants = np.linspace(0.5, 1.5, k) if k > 1 else np.ones(1)
        constants = constants / np.sqrt(np.mean(constants**2))
        start = np.zeros((k, n), y.dtype.as_numpy_dtype)
        start[:, 0] = constants
        raw = raw + start

        def slope(v: tf.Tensor) -> tf.Tensor:
            powers = _powers(v[..., tf.newaxis] / self.bound, self.degree)
            values = tf.linalg.matvec(raw, powers)
            return 1e-3 + (1.0 - 1e-3) * tf.reduce_mean(tf.square(values), -1)

        return shift + _integral(slope, y, n), tf.math.log(slope(y))


def _integral(
    slope: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, nodes: int
) -> tf.Tensor:
    """Integrates a function from 0 to `x`, by Gauss and Legendre."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    terms = [
        float(w) * slope(x * float(0.5 + 0.5 * p))
        for p, w in zip(places, weights, strict=True)
    ]
    return 0.5 * x * tf.add_n(terms)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class UnconstrainedMonotonic(Extended):
    """The integral of a positive network (UMNN).

        inverse:  x = t + int_0^y f(v, h) dv
        forward:  by a root search, to rounding
        log-derivative:  log f(y, h) (inverse), minus that

    The network `f` has one input for `v`, and `features` inputs `h` that are parameters
    of the value, as is the shift `t`; its weights are shared by all values and belong
    to the bijector. The integral is a Gauss-Legendre sum of `nodes` points, on
    `[-bound, bound]`. Before training it is the identity. Units of the first layer
    start with bends of their own, most of them on `[-2, 2]`, so that what has sharp
    edges is learned in few steps.

    Reference: Wehenkel, Louppe: Unconstrained Monotonic Neural Networks, 2019,
    arXiv:1908.05164.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (32, 32),
        features: int = 8,
        nodes: int = 20,
        bound: float = 10.0,
    ) -> None:
        """Chooses the network, and the accuracy of its integral."""
        super().__init__(bound)
        self.hidden_units = checked_widths("hidden_units", hidden_units)
        self.features = checked_integer("features", features)
        self.nodes = checked_integer("nodes", nodes, 2)
        self.parameters_per_value = self.features + 1
        self._layers: list[tuple] = []

    def with_weights(self, add_weight: Callable) -> UnconstrainedMonotonic:
        """Returns the transform with a network of its own."""
        own = copy.copy(self)
        sizes = [1 + self.features, *self.hidden_units, 1]
        own._layers = []
        places = keras.initializers.RandomUniform(-6.0, 6.0)
        slopes = keras.initializers.RandomUniform(-3.0, 3.0)
        inner = ["glorot_uniform"] * (len(self.hidden_units) - 1)
        for i, start in enumerate([slopes, *inner, "zeros"]):
            kernel = add_weight(sizes[i : i + 2], start, name=f"k{i}")
            start = "zeros" if i else places
            offsets = add_weight(sizes[i + 1 : i + 2], start, name=f"b{i}")
            own._layers.append((kernel, offsets))
        return own

    def _curve(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        shift, h = parameters[..., 0], parameters[..., 1:]
        if not self._layers:
            raise ValueError(
                "`UnconstrainedMonotonic` has weights and must be used in a bijector, "
                "such as `tfpf.Coupling`. Received: a call of the transform alone"
            )
        weights = [
            [tf.cast(tf.convert_to_tensor(w), y.dtype) for w in layer]
            for layer in self._layers
        ]
        # What the first layer makes of `h` is the same at all points.
        (first, bias), *others = weights
        start = tf.tensordot(h, first[1:], 1) + bias

        def slope(v: tf.Tensor) -> tf.Tensor:
            value = start + v[..., tf.newaxis] * first[0]
            for kernel, bias in others:
                value = tf.tensordot(tf.tanh(value), kernel, 1) + bias
            return positive(value[..., 0], 1e-3)

        return shift + _integral(slope, y, self.nodes), tf.math.log(slope(y))


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class SigmoidalNetwork(Transform):
    """A monotone network of sigmoids, with weights from the conditioner (NAF).

        inverse:  h_0 = y;   h_l = logit(W_l sigmoid(a_l U_l h_{l-1} + b_l));   x = h_L
        forward:  by a root search, to rounding
        log-derivative:  the same, in logarithms (inverse), minus that

    `a_l` is positive and the rows of `W_l` and `U_l` are positive and sum to 1. With
    `dense` the hidden h_l are vectors of `units` values (the paper's DDSF), else single
    values (DSF). Zero parameters give something near the identity: offsets `b` differ
    from unit to unit, so that units learn different things.

    Reference: Huang, Krueger, Lacoste, Courville: Neural Autoregressive Flows, 2018,
    arXiv:1804.00779.
    """

    def __init__(self, units: int = 8, layers: int = 2, dense: bool = True) -> None:
        """Chooses the number of sigmoids of a layer, and the number of layers."""
        self.units = checked_integer("units", units)
        self.layers = checked_integer("layers", layers)
        self.dense = bool(dense)
        widths = [1, *[self.units if dense else 1] * (self.layers - 1), 1]
        self._shapes = list(zip(widths, widths[1:], strict=False))
        self.parameters_per_value = sum(map(sum, map(self._counts, self._shapes)))

    def _counts(self, shape: tuple[int, int]) -> list[int]:
        """Returns the numbers of parameters of a layer: a, b, U and W."""
        before, after = shape
        return [self.units] * 2 + [self.units * before, self.units * after]

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Runs the network."""
        sizes = [size for shape in self._shapes for size in self._counts(shape)]
        parts = iter(tf.split(parameters, sizes, axis=-1))
        places = tf.cast(tf.linspace(-1.0, 1.0, self.units + 2)[1:-1], y.dtype)
        h = y[..., tf.newaxis]
        log_slope = tf.zeros_like(h)
        for before, after in self._shapes:
            a, b, u, w = (next(parts) for _ in range(4))
            leading = sizes_of(y)
            log_u = tf.nn.log_softmax(tf.reshape(u, [*leading, self.units, before]))
            log_w = tf.nn.log_softmax(tf.reshape(w, [*leading, after, self.units]))
            a = positive(a, 1e-3)
            z = a * (tf.linalg.matvec(tf.exp(log_u), h) - places) + b
            log_z = tf.math.log(a) + _log_matvec(log_u, log_slope)
            log_on, log_off = tf.math.log_sigmoid(z), tf.math.log_sigmoid(-z)
            log_p, log_rest = _log_matvec(log_w, log_on), _log_matvec(log_w, log_off)
            h = log_p - log_rest
            log_slope = _log_matvec(log_w, log_on + log_off + log_z) - log_p - log_rest
        return h[..., 0], log_slope[..., 0]


def _log_matvec(log_matrix: tf.Tensor, log_vector: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(log_matrix + log_vector[..., tf.newaxis, :], axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class Gaussianization(LogisticMixture):
    """Makes a mixture of logistic distributions standard normal noise.

        inverse:  x = Phi^-1(F(y)),  F(y) = sum_k w_k sigmoid((y - m_k) / s_k)
        forward:  y with Phi^-1(F(y)) = x, by a bracketed root search, to rounding
        log-derivative:  log F'(y) - log phi(x) (inverse), minus that

    `Phi` and `phi` are the standard normal distribution function and density. For
    parameters and `components` see `LogisticMixture`; those of 0 give a mixture near
    the standard normal.

    Reference: Meng, Song, Song, Ermon: Gaussianization Flows, 2020, arXiv:2003.01941.
    """

    # Logistic noise of this scale around places of variance 0.45 has variance 1.
    _log_scale = math.log(math.sqrt(3.0 * 0.55) / math.pi)

    def _places(self) -> np.ndarray:
        share = (np.arange(self.components) + 0.5) / self.components
        places = np.array([statistics.NormalDist().inv_cdf(p) for p in share])
        return places * math.sqrt(0.45) / max(float(np.std(places)), 1e-6)

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Searches for the value that has this noise."""
        logit, log_slope = _normal_to_logistic(x)
        y, log_slope_after = super().forward(logit, parameters)
        return y, log_slope + log_slope_after

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Evaluates the distribution function, as a normal quantile."""
        logit, log_slope = super().inverse(y, parameters)
        x = _logistic_to_normal(logit)
        return x, log_slope - _normal_to_logistic(x)[1]


def _normal_to_logistic(x: tf.Tensor) -> Mapped:
    """Returns `logit Phi(x)` and the logarithm of its slope.

    Far out that is `a + 1/a - 2/a^3`, with `a = |x|`: the difference of logarithms
    would be all rounding.
    """
    normal = tfd.Normal(tf.zeros([], x.dtype), 1.0)
    size = tf.abs(x)
    near = size <= _FAR
    inner = tf.where(near, x, tf.zeros_like(x))
    log_below, log_above = normal.log_cdf(inner), normal.log_cdf(-inner)
    log_slope = normal.log_prob(inner) - log_below - log_above
    a = tf.where(near, tf.cast(_FAR, x.dtype), size)
    far = tf.math.log(a + 1.0 / a - 2.0 / a**3)
    logit = tf.sign(x) * (0.5 * a * a + 0.5 * math.log(2.0 * math.pi) + far)
    return (
        tf.where(near, log_below - log_above, logit),
        tf.where(near, log_slope, far),
    )


_FAR = 30.0


def _logistic_to_normal(logit: tf.Tensor) -> tf.Tensor:
    """Returns the `x` with `logit Phi(x) = logit`, with three derivatives."""
    a = tf.stop_gradient(logit)
    size = tf.maximum(tf.abs(a), 1.0)
    far = tf.sqrt(2.0 * size)
    # In float32 XLA's `ndtri` is infinite of what is below 1.5e-8, the logit -18.
    near = -tf.math.ndtri(tf.sigmoid(-tf.minimum(tf.abs(a), 16.0)))
    x = tf.sign(a) * tf.where(size > 16.0, far, near)
    # Newton's steps in logits, in which tails are nearly parabolas.
    for _ in range(4):
        reached, log_slope = _normal_to_logistic(x)
        x += (a - reached) * tf.exp(-log_slope)
    x = tf.stop_gradient(x)
    # Each of Newton's steps from the root doubles how many derivatives are right.
    for _ in range(2):
        reached, log_slope = _normal_to_logistic(x)
        x += (logit - reached) * tf.exp(-log_slope)
    return x
