"""How values of one column become real coordinates for a flow, and come back.

A flow has a density on real numbers. A whole number or a category `x` gets real
coordinates `v` from a distribution `q(v | x)` whose supports for different `x` do not
overlap, so that `x` is a function of `v`: a surjection with a stochastic right inverse.
With the flow's density `p(v)`, the probability of `x` is the integral of `p` over the
part of space that belongs to it, and

    log P(x) >= E[ log mean_k  p(v_k) / q(v_k | x) ],   v_k ~ q(. | x)    [nats]
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors.weights import Weights

tfd = tfp.distributions

# Of the noise of an argmax flow.
_LEAST_WIDTH = 0.5


class Lift(Weights):
    """Base class of the way of one column's values into a flow and out of it.

    Attributes:
        width: Number of coordinates of a value.
        is_exact: Whether `lift` draws nothing, so that likelihoods are exact.
    """

    width = 1
    is_exact = False

    def build(self, input_shape: Any = None) -> None:
        """Makes no weights, unless a subclass does."""

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `v ~ q(v | x)`.

        Args:
            x: Values `[...]`.
            seed: A stateless seed.

        Returns:
            Coordinates `[..., width]`, and `log q(v | x)` `[...]` in nats.
        """
        raise NotImplementedError

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the value `[...]` to which coordinates `[..., width]` belong."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="tfp_flows")
class RealLift(Lift):
    """A real number, which is its own coordinate: `q` has no randomness."""

    is_exact = True

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the value and 0."""
        return x[..., None], tf.zeros_like(x)

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the coordinate."""
        return v[..., 0]


@keras.saving.register_keras_serializable(package="tfp_flows")
class IntegerLift(Lift):
    """A whole number by uniform dequantization: `v = x + u` with `u` in `[0, 1)`.

    `log q(v | x) = 0`, and `x = floor(v)`, kept within `[low, high]`.

    Reference:
        Theis, van den Oord, Bethge: A note on the evaluation of generative models,
        2015, arXiv:1511.01844, section 3.1.
    """

    def __init__(
        self, low: float | None = None, high: float | None = None, **kwargs: Any
    ) -> None:
        """Takes the least and the greatest value of a sample; None for no bound."""
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds noise that never rounds to the next whole number."""
        noise = tf.random.stateless_uniform(tf.shape(x), seed, dtype=x.dtype)
        v = tf.minimum(x + noise, tf.math.nextafter(x + 1.0, x))
        return v[..., None], tf.zeros_like(x)

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Rounds down."""
        x = tf.floor(v[..., 0])
        if self.low is not None:
            x = tf.maximum(x, tf.cast(self.low, x.dtype))
        if self.high is not None:
            x = tf.minimum(x, tf.cast(self.high, x.dtype))
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(package="tfp_flows")
class ArgmaxLift(Lift):
    """A category by an argmax flow: K coordinates, of which the greatest says which.

    `q(v | x)` draws `u ~ Logistic(m[x], s[x])` in K dimensions and pushes all but the
    chosen coordinate below it (thresholding by a softplus):

        v_x = u_x,   v_i = u_x - softplus(u_x - u_i)    for i != x
        log q(v | x) = log Logistic(u; m[x], s[x]) - sum_{i != x} log sigmoid(u_x - u_i)

    so `argmax v = x`. The means `m` and widths `s`, one vector a category, are learned
    together with the flow: those that make the bound tight. With `learned=False` they
    stay where they start: widths of 1, and means of 2 for the chosen coordinate and of
    0 for others.

    The paper draws `u` from a normal distribution. Then q vanishes so fast where two
    coordinates meet that the weights `p / q` of a bound of several draws have no finite
    variance. A logistic distribution wider than 1/2, as all are here, gives them one.

    Shapes: codes `[...]` in 0..K-1 in a float type, coordinates `[..., K]`.

    Reference:
        Hoogeboom, Nielsen, Jaini, Forré, Welling: Argmax Flows and Multinomial
        Diffusion: Learning Categorical Distributions, 2021, arXiv:2102.05379.
    """

    def __init__(self, categories: int, learned: bool = True, **kwargs: Any) -> None:
        """Takes the number K of categories and whether `q` is learned."""
        super().__init__(**kwargs)
        checked_count("categories", categories, least=2)
        self.categories, self.learned = categories, learned
        self.width = categories

    def build(self, input_shape: Any = None) -> None:
        """Makes the means and widths."""
        shape = (self.categories, self.categories)
        start = keras.initializers.Identity(gain=2.0)
        self.mean = self.add_weight(shape, start, name="mean", trainable=self.learned)
        start = keras.initializers.Constant(math.log(1.0 - _LEAST_WIDTH))
        self.log_width = self.add_weight(
            shape, start, name="log_width", trainable=self.learned
        )

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws coordinates whose greatest is that of the category."""
        chosen = tf.one_hot(tf.cast(x, tf.int32), self.categories, dtype=x.dtype)
        mean, log_width = (
            tf.linalg.matmul(chosen, tf.cast(tf.convert_to_tensor(table), x.dtype))
            for table in (self.mean, self.log_width)
        )
        logistic = tfd.Logistic(mean, _LEAST_WIDTH + tf.exp(log_width))
        u = logistic.sample(seed=seed)
        log_q = logistic.log_prob(u)
        top = tf.reduce_sum(chosen * u, axis=-1, keepdims=True)
        below = (1.0 - chosen) * tf.math.log_sigmoid(top - u)
        v = tf.where(chosen > 0.0, u, top - tf.nn.softplus(top - u))
        return v, tf.reduce_sum(log_q - below, axis=-1)

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the place of the greatest coordinate."""
        return tf.cast(tf.argmax(v, axis=-1), v.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"categories": self.categories, "learned": self.learned}
        return {**super().get_config(), **own}
