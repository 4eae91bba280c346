"""`TableDistribution`: rows of a table, and a dequantizer for each kind of column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.surjections import Surjection
from tfp_flows.internal import seeds
from tfp_flows.internal.arguments import DescribedLayer, Seed, checked_integer

_LEAST_WIDTH = 0.5  # of the noise of an argmax flow


class Dequantizer(DescribedLayer):
    """Base class: one column's values as real coordinates, and back.

    Attributes:
        width: Number of coordinates of a value.
        is_exact: Whether `dequantized` draws nothing, so that likelihoods are exact.
    """

    width = 1
    is_exact = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.built = True

    # Keras's layers have a method `quantize`, which compresses their weights.

    def dequantized(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `v ~ q(v | x)` for values `[...]`.

        Returns coordinates `[..., width]`, and `log q(v | x)` `[...]` in nats.
        """
        raise NotImplementedError

    def quantized(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the value `[...]` to which coordinates `[..., width]` belong."""
        raise NotImplementedError

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which values no coordinates belong to, `[...]`."""
        return tf.zeros(tf.shape(x), tf.bool)


@keras.saving.register_keras_serializable(package="tfp_flows", name="RealLift")
class RealDequantizer(Dequantizer):
    """A real number, which is its own coordinate: `q` has no randomness."""

    is_exact = True

    def dequantized(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the value and 0."""
        return x[..., None], tf.zeros_like(x)

    def quantized(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the coordinate."""
        return v[..., 0]


@keras.saving.register_keras_serializable(package="tfp_flows", name="IntegerLift")
class IntegerDequantizer(Dequantizer):
    """A whole number by uniform dequantization: `v = x + u` with `u` in `[0, 1)`.

    `log q(v | x) = 0`, and `x = floor(v)`, clipped to `[low, high]`.
    """

    def __init__(
        self, low: float | None = None, high: float | None = None, **kwargs: Any
    ) -> None:
        """Takes the least and the greatest value of a sample; None for no bound."""
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def dequantized(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds noise that never rounds to the next whole number."""
        return seeds.dequantized(x, seed)[..., None], tf.zeros_like(x)

    def quantized(self, v: tf.Tensor) -> tf.Tensor:
        """Rounds down."""
        x = tf.floor(v[..., 0])
        if self.low is not None:
            x = tf.maximum(x, tf.constant(self.low, x.dtype))
        if self.high is not None:
            x = tf.minimum(x, tf.constant(self.high, x.dtype))
        return x

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which values are not whole or out of the bounds."""
        wrong = x > tf.floor(x)
        if self.low is not None:
            wrong |= x < tf.constant(self.low, x.dtype)
        if self.high is not None:
            wrong |= x > tf.constant(self.high, x.dtype)
        return wrong


@keras.saving.register_keras_serializable(package="tfp_flows", name="ArgmaxLift")
class ArgmaxDequantizer(Dequantizer):
    """A category by an argmax flow: K coordinates, of which the greatest says which.

    `q(v | x)` draws `u ~ Logistic(m[x], s[x])` in K dimensions and pushes all but the
    chosen coordinate below it (thresholding by a softplus):

        v_x = u_x,   v_i = u_x - softplus(u_x - u_i)    for i != x
        log q(v | x) = log Logistic(u; m[x], s[x]) - sum_{i != x} log sigmoid(u_x - u_i)

    so `argmax v = x`. Means `m` and widths `s`, one vector a category, are learned with
    the flow; with `learned=False` widths are 1, and means 2 for the chosen coordinate
    and 0 for others. With the paper's normal `u` the weights `p / q` have no finite
    variance; with logistic ones wider than 1/2, as all are here, they have.

    Shapes: categories `[...]` in 0..K-1 in a float type, coordinates `[..., K]`.

    Reference: Hoogeboom, Nielsen, Jaini, Forré, Welling: Argmax Flows and Multinomial
    Diffusion: Learning Categorical Distributions, 2021, arXiv:2102.05379.
    """

    def __init__(self, categories: int, learned: bool = True, **kwargs: Any) -> None:
        """Takes the number K of categories and whether `q` is learned."""
        super().__init__(**kwargs)
        checked_integer("categories", categories, minimum=2)
        self.categories, self.learned = categories, learned
        self.width = categories
        starts = {
            "mean": keras.initializers.Identity(gain=2.0),
            "log_width": keras.initializers.Constant(math.log(1.0 - _LEAST_WIDTH)),
        }
        self.mean, self.log_width = (
            self.add_weight(
                (categories, categories),
                start,
                name=name,
                trainable=learned,
                autocast=False,
            )
            for name, start in starts.items()
        )

    def dequantized(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
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

    def quantized(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the place of the greatest coordinate."""
        return tf.cast(tf.argmax(v, axis=-1), v.dtype)

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which values are no category."""
        return (x < 0.0) | (x >= float(self.categories)) | (x > tf.floor(x))


# Files know the weights of a layer by the name of its class.
ArgmaxDequantizer.__name__ = "ArgmaxLift"


@keras.saving.register_keras_serializable(package="tfp_flows")
class TableDistribution(Surjection):
    """Rows of C encoded values, dequantized to D >= C real coordinates of a flow.

    `log_prob` is a density along real columns and a probability along the others: exact
    if all columns are real, else one draw of the bound of `Surjection`.

    Shapes: rows `[..., C]`, in the order of `dequantizers`; categories in 0..K-1.
    """

    renamed = {"lifts": "dequantizers"}

    def __init__(
        self,
        flow: tfd.Distribution,
        dequantizers: Sequence[Dequantizer],
        *,
        validate_args: bool = False,
        name: str = "table",
    ) -> None:
        """Joins a flow of vectors and one dequantizer a column, together as wide."""
        dequantizers = list(dequantizers)
        width = sum(each.width for each in dequantizers)
        if tuple(flow.event_shape) != (width,):
            raise ValueError(
                f"Argument `flow` must be a distribution of vectors of {width} values, "
                "as wide as the dequantized columns. Received: event shape "
                f"{flow.event_shape}"
            )
        self.dequantizers = tuple(dequantizers)
        super().__init__(
            flow,
            layers=dequantizers,
            event_shape=tf.TensorShape([len(dequantizers)]),
        )

    @property
    def is_exact(self) -> bool:
        """Whether log-likelihoods are exact: all columns are real."""
        return all(each.is_exact for each in self.dequantizers)

    @property
    def scoring_samples(self) -> int:
        """Number of draws for a score: one that is exact, or 32."""
        return 1 if self.is_exact else 32

    def outside(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which rows hold a value that its column cannot have."""
        columns = enumerate(self.dequantizers)
        return tf.reduce_any(
            tf.stack([each.outside(x[..., i]) for i, each in columns], -1), axis=-1
        )

    def dequantize(self, x: tf.Tensor, seed: Seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws coordinates `[..., D]` of rows; returns them and `log q(v | x)`."""
        own = tfp.random.split_seed(seed, n=len(self.dequantizers))
        drawn = [
            each.dequantized(x[..., i], own[i])
            for i, each in enumerate(self.dequantizers)
        ]
        v, log_q = zip(*drawn, strict=True)
        return tf.concat(v, axis=-1), tf.add_n(log_q)

    def quantize(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the rows `[..., C]` to which coordinates `[..., D]` belong."""
        columns = tf.split(v, [each.width for each in self.dequantizers], axis=-1)
        pairs = zip(self.dequantizers, columns, strict=True)
        return tf.stack([each.quantized(column) for each, column in pairs], axis=-1)
