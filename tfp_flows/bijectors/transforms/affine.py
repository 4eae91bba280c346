"""Transforms in closed form: `Shift`, `Affine`, `LeakyReLU`, `SinhArcsinh`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.transforms.base import Transform
from tfp_flows.internal.arguments import Mapped, checked_choice, checked_number


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class Shift(Transform):
    """Shift by a parameter, which preserves volume.

        forward:  y = x + t
        inverse:  x = y - t
        log-derivative:  0

    Reference: Dinh, Krueger, Bengio: NICE, 2014, arXiv:1410.8516.
    """

    parameters_per_value = 1

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Adds the shift."""
        y = x + parameters[..., 0]
        return y, tf.zeros_like(y)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Subtracts the shift."""
        x = y - parameters[..., 0]
        return x, tf.zeros_like(x)


LOG_SCALES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "soft_clamp": lambda r: 2.0 * tf.tanh(0.5 * r),
    "sigmoid": lambda r: tf.math.log_sigmoid(r + 2.0),
    "tanh": tf.tanh,
    "exp": tf.identity,
}
ORDERS = ("interleaved", "halves")


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class Affine(Transform):
    """Scale and shift.

        forward:  y = x exp(s) + t
        inverse:  x = (y - t) exp(-s)
        log-derivative:  s (forward), -s (inverse)

    The parameters of a value are `t` and a raw value `r`. `log_scale` says how `r`
    becomes `s`:

    * `"soft_clamp"`: `s = 2 tanh(r / 2)`, so a scale stays within `e^-2..e^2`;
    * `"sigmoid"`: `s = log sigmoid(r + 2)`, as in Glow's published code;
    * `"tanh"`: `s = c tanh(r)` with one learned weight `c`, as in RealNVP's
      experiments;
    * `"exp"`: `s = r`, unbounded, as in RealNVP's formula.

    Reference: Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
    arXiv:1605.08803. Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039.
    """

    parameters_per_value = 2

    def __init__(
        self, log_scale: str = "soft_clamp", order: str = "interleaved"
    ) -> None:
        """Chooses how scales are bounded.

        Args:
            order: How a network's outputs are meant: `"interleaved"` for `t, r` of one
                value beside each other, as for every transform, or `"halves"` for all
                `t` before all `r`, as in `AffineCoupling` and TFP's networks.
        """
        self.log_scale = checked_choice("log_scale", log_scale, LOG_SCALES)
        self.order = checked_choice("order", order, ORDERS)
        self._factor: keras.Variable | float = 1.0

    def with_weights(self, add_weight: Callable) -> Transform:
        """Makes the learned factor of `"tanh"`, which starts at 1."""
        if self.log_scale != "tanh":
            return self
        own = copy.copy(self)
        own._factor = add_weight((), "ones", name="factor")
        return own

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Scales, then shifts."""
        t, s = self._shift_and_log_scale(parameters)
        return x * tf.exp(s) + t, s

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Shifts back, then scales back."""
        t, s = self._shift_and_log_scale(parameters)
        return (y - t) * tf.exp(-s), -s

    def _shift_and_log_scale(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        if self.order == "halves":
            *batch, values, _ = parameters.shape
            last = 2 * int(values)
            flat = tf.reshape(parameters, [*sizes_of(parameters)[:-2], last])
            flat.set_shape([*batch, last])
            t, r = tf.split(flat, 2, axis=-1)
        else:
            t, r = tf.unstack(parameters, axis=-1)
        s = LOG_SCALES[self.log_scale](r)
        return [t, s if self.log_scale != "tanh" else self._factor * s]


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class VolumePreserving(Affine):
    """Scale and shift, with scales whose product is 1 (GIN).

        forward:  y = x exp(s) + t
        inverse:  x = (y - t) exp(-s)
        log-derivative:  s (forward), -s (inverse), of sum 0

    `s` is that of `Affine` minus its mean over the last axis of the values, so that
    volume is kept as by `Shift`, but not the directions. It looks at all values that it
    transforms: a value of a coupling, elementwise for given parameters, and of no
    autoregressive flow.

    Reference: Sorrenson, Rother, Koethe: Disentanglement by Nonlinear ICA with General
    Incompressible-flow Networks (GIN), 2020, arXiv:2001.04872.
    """

    def __init__(self, log_scale: str = "soft_clamp") -> None:
        """Chooses how scales are bounded: see `Affine`."""
        super().__init__(log_scale)

    def _shift_and_log_scale(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        t, s = super()._shift_and_log_scale(parameters)
        return [t, s - tf.reduce_mean(s, axis=-1, keepdims=True)]


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class PeriodicShift(Transform):
    """A turn of an angle, on a circle of circumference `2 bound`.

    forward:  y = wrap(x + t)      into [-bound, bound)
    inverse:  x = wrap(y - t)
    log-derivative:  0
    """

    parameters_per_value = 1

    def __init__(self, bound: float = math.pi) -> None:
        """Chooses half the circumference."""
        self.bound = checked_number("bound", bound, above=0.0)

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Turns."""
        return wrapped(x + parameters[..., 0], self.bound), tf.zeros_like(x)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Turns back."""
        return wrapped(y - parameters[..., 0], self.bound), tf.zeros_like(y)


def wrapped(angle: tf.Tensor, bound: float) -> tf.Tensor:
    """Returns angles of period `2 bound` in `[-bound, bound)`, those inside as is.

    Infinity is no angle: it becomes NaN.
    """
    turned = tf.math.floormod(angle + bound, 2.0 * bound) - bound
    end = tf.fill(tf.shape(angle), tf.constant(-bound, angle.dtype))
    turned = tf.where(turned < bound, turned, end)
    inside = tf.logical_and(angle >= -bound, angle < bound)
    turned = tf.where(tf.math.is_finite(angle), turned, tf.cast(np.nan, angle.dtype))
    return tf.where(inside, angle, turned)


def sizes_of(x: tf.Tensor) -> list[int | tf.Tensor]:
    """Returns the sizes of all axes, as integers where they are known."""
    dynamic = tf.shape(x)
    return [dynamic[i] if n is None else n for i, n in enumerate(x.shape)]


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class LeakyReLU(Transform):
    """Leaky ReLU with a slope of its own below zero.

        forward:  y = x where x >= 0, exp(s) x elsewhere
        inverse:  x = y where y >= 0, exp(-s) y elsewhere
        log-derivative:  s below zero, 0 elsewhere (forward), minus that

    with `s = log(slope) + parameter`.
    """

    parameters_per_value = 1

    def __init__(self, slope: float = 0.5) -> None:
        """Chooses the slope that parameter 0 stands for, positive."""
        self.slope = checked_number("slope", slope, above=0.0)

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Bends below zero."""
        return self._bent(x, math.log(self.slope) + parameters[..., 0])

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Bends back."""
        return self._bent(y, -math.log(self.slope) - parameters[..., 0])

    def _bent(self, x: tf.Tensor, log_slope: tf.Tensor) -> Mapped:
        s = tf.where(x < 0.0, log_slope, tf.zeros_like(x))
        return x * tf.exp(s), s


@keras.saving.register_keras_serializable(package="tfp_flows.transforms")
class SinhArcsinh(Transform):
    """Skewness and tail weight (`tfb.SinhArcsinh`).

        forward:  y = c sinh((arcsinh(x) + skewness) tailweight)
        inverse:  x = sinh(arcsinh(y / c) / tailweight - skewness)

    `c = 2 / sinh(arcsinh(2) tailweight)` keeps the point 2 in its place without
    skewness. A tail weight above 1 makes tails heavier. The parameters are the skewness
    and the logarithm of the tail weight. Log-dets are written here: the gradient of
    TFP's is NaN at some values under `tf.vectorized_map` (0.25).

    Reference: Jones, Pewsey: Sinh-arcsinh distributions, Biometrika, 2009.
    """

    parameters_per_value = 2

    def forward(self, x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Changes skewness and tails."""
        skewness, log_tailweight = tf.unstack(parameters, axis=-1)
        bijector = tfb.SinhArcsinh(skewness, tf.exp(log_tailweight))
        a = (tf.asinh(x) + skewness) * tf.exp(log_tailweight)
        log_slope = log_cosh(a) - _log_hypot(x) + log_tailweight
        return bijector.forward(x), log_slope + self._log_factor(log_tailweight)

    def inverse(self, y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
        """Changes them back."""
        skewness, log_tailweight = tf.unstack(parameters, axis=-1)
        bijector = tfb.SinhArcsinh(skewness, tf.exp(log_tailweight))
        log_factor = self._log_factor(log_tailweight)
        y_over_c = y * tf.exp(-log_factor)
        a = tf.asinh(y_over_c) * tf.exp(-log_tailweight) - skewness
        log_slope = log_cosh(a) - _log_hypot(y_over_c) - log_tailweight
        return bijector.inverse(y), log_slope - log_factor

    def _log_factor(self, log_tailweight: tf.Tensor) -> tf.Tensor:
        two = tf.cast(2.0, log_tailweight.dtype)
        return tf.math.log(2.0 / tf.sinh(tf.asinh(two) * tf.exp(log_tailweight)))


def log_cosh(x: tf.Tensor) -> tf.Tensor:
    """TFP's has a gradient of its own, which `tf.vectorized_map` loses."""
    # Without `tf.abs`, which has no curvature at 0.
    return tf.math.softplus(2.0 * x) - x - math.log(2.0)


def _log_hypot(x: tf.Tensor) -> tf.Tensor:
    """Returns `log sqrt(1 + x^2)`, also where the square would be infinite."""
    size = tf.maximum(tf.abs(x), 1.0)
    return tf.math.log(size) + 0.5 * tf.math.log(size**-2.0 + tf.square(x / size))
