"""`TableDistribution`, and how columns become coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain as paired
from tfp_flows.bijectors.weights import Weights
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.internal.seeds import dequantized
from tfp_flows.nets.conditioner import keras_variables

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
        return dequantized(x, seed)[..., None], tf.zeros_like(x)

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
        checked_integer("categories", categories, minimum=2)
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


@keras.saving.register_keras_serializable(package="tfp_flows")
class TableDistribution(tfd.Distribution):
    """Rows of C encoded values, lifted to D >= C real coordinates of a flow.

    With the flow's density `p(v)` and the lifts' `q(v | x)`, `log_prob` returns

        log p(v) - log q(v | x),   v ~ q(. | x)                 [nats]

    with fresh noise in each call: the log-density itself if all columns are real, else
    one draw of a lower bound of it; `bound` averages several draws. It is a density
    along real columns and a probability along the others. `FlowModel` trains the flow
    and the lifts together.

    Shapes: rows `[..., C]`, in the order of `lifts`; codes of categories in 0..K-1.
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        lifts: Sequence[Lift],
        *,
        validate_args: bool = False,
        name: str = "table",
    ) -> None:
        """Joins a flow and one lift a column.

        Args:
            flow: Distribution of vectors of as many values as the lifts are wide.
            lifts: One for each column.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            ValueError: If the flow's events have another size.
        """
        parameters = dict(locals())
        width = sum(lift.width for lift in lifts)
        if tuple(flow.event_shape) != (width,):
            raise ValueError(
                f"Argument `flow` must be a distribution of vectors of {width} values, "
                f"as wide as the lifted columns. Received: event shape "
                f"{flow.event_shape}"
            )
        self._flow = flow
        self._lifts = tuple(lift.made() for lift in lifts)
        super().__init__(
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )
        # For plain TFP loops, which see no weights of Keras layers.
        self._lift_variables = self._no_dependency(
            [v._value for lift in self._lifts for v in keras_variables(lift)]
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of real vectors."""
        return self._flow

    @property
    def lifts(self) -> tuple[Lift, ...]:
        """One lift for each column."""
        return tuple(self._lifts)

    @property
    def is_exact(self) -> bool:
        """Whether log-likelihoods are exact: all columns are real."""
        return all(lift.is_exact for lift in self._lifts)

    def lift(self, x: tf.Tensor, seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws coordinates `[..., D]` of rows; returns them and `log q(v | x)`."""
        seeds = tfp.random.split_seed(seed, n=len(self._lifts))
        drawn = [lift.lift(x[..., i], seeds[i]) for i, lift in enumerate(self._lifts)]
        v, log_q = zip(*drawn, strict=True)
        return tf.concat(v, axis=-1), tf.add_n(log_q)

    def lower(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the rows `[..., C]` to which coordinates `[..., D]` belong."""
        parts = tf.split(v, [lift.width for lift in self._lifts], axis=-1)
        pairs = zip(self._lifts, parts, strict=True)
        return tf.stack([lift.lower(part) for lift, part in pairs], axis=-1)

    def bound(self, x: tf.Tensor, draws: Any, seed: Any) -> tf.Tensor:
        """Estimates `log p(x)` from below, in nats for each row.

        Args:
            x: Rows `[n, C]`.
            draws: Number of draws for each row; the mean of the bound rises with it.
            seed: A stateless seed.

        Returns:
            `log 1/draws sum_k p(v_k) / q(v_k | x)`, `[n]`.
        """
        v, log_q = self.lift(tf.repeat(x, draws, axis=0), seed)
        log_weights = tf.reshape(self._flow.log_prob(v) - log_q, [-1, draws])
        count = tf.cast(draws, log_weights.dtype)
        return tf.reduce_logsumexp(log_weights, axis=-1) - tf.math.log(count)

    def adapt(self, x: Any) -> None:
        """Initializes data-dependent weights of the flow from rows."""
        x = tf.cast(x, self.dtype)
        v, _ = self.lift(x, tfp.random.sanitize_seed(None))
        if hasattr(self._flow, "bijector"):
            paired.adapt(self._flow.bijector, v, 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = ("flow", "validate_args", "name")
        arguments = {key: self.parameters[key] for key in keys}
        return {**arguments, "lifts": list(self._lifts)}

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        v, log_q = self.lift(x, tfp.random.sanitize_seed(None))
        return self._flow.log_prob(v) - log_q

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self.lower(self._flow.sample(n, seed=seed))

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([len(self._lifts)])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([len(self._lifts)], tf.int32)

    def _batch_shape(self) -> tf.TensorShape:
        return self._flow.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._flow.batch_shape_tensor()
