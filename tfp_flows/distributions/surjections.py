"""Densities over discrete data: `Dequantized` images and `CategoricalFlow`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.conditional import EncodedCondition, condition
from tfp_flows.bijectors.elementwise import ConditionalAffine
from tfp_flows.distributions.bases import standard_logistic
from tfp_flows.internal.arguments import checked_integer
from tfp_flows.nets.sequence import code_table

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_flows")
class Dequantized(tfd.Distribution):
    """Whole values `x` in `0, ..., levels - 1`, modelled by a flow of real values.

    With `p` the density of the flow, the probability of an image is the integral
    of `p(x + u)` over noise `u` in `[0, 1)^D`. `log_prob` returns an estimate of a
    lower bound of its logarithm, with fresh noise in each call:

        log P(x) >= E[ log mean_k  p(x + u_k) / q(u_k | x) ],    u_k ~ q(. | x)

    `noise=None` is uniform dequantization, `q = 1`. Otherwise `q` is a conditional
    flow, such as `dequantization_noise(event_shape)`, that learns together with
    `p` which noise makes the bound tight: variational dequantization. It is given
    `x / levels - 1/2` as its condition.

    It is a distribution like any other: `FlowModel(Dequantized(flow, noise))`
    trains both flows on whole pixel values, and `sample` draws whole values.

    Shapes: as the flow's, `[..., *event_shape]`.

    Reference:
        Ho et al.: Flow++, 2019, arXiv:1902.00275. Theis et al.: A note on the
        evaluation of generative models, 2015, arXiv:1511.01844, section 3.1.

    Example:
        >>> flow = glow((4, 4, 1), levels=1, steps=1, hidden_channels=4)
        >>> noise = dequantization_noise((4, 4, 1), steps=1, hidden_channels=4)
        >>> Dequantized(flow, noise, levels=17).event_shape
        TensorShape([4, 4, 1])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        noise: tfd.Distribution | None = None,
        *,
        levels: int = 256,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "dequantized",
    ) -> None:
        """Joins a flow of real values and a flow of noise.

        Args:
            flow: Flow of dequantized values in `[0, levels)`.
            noise: Conditional flow of noise in (0, 1), or None for uniform noise.
            levels: How many values a pixel can take.
            samples: Number of noise draws for each image; more make the bound
                tighter and cost as many times more.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            ValueError: If `noise` has another event shape than `flow`, or `levels`
                or `samples` is too small.
        """
        parameters = dict(locals())
        if noise is not None and noise.event_shape != flow.event_shape:
            raise ValueError(
                "Argument `noise` must be a flow of the event shape of `flow`, "
                f"{flow.event_shape}. Received: {noise.event_shape}"
            )
        self._levels = checked_integer("levels", levels, minimum=2)
        self._samples = checked_integer("samples", samples)
        self._flow = flow
        self._noise = noise
        super().__init__(
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of real values."""
        return self._flow

    @property
    def noise(self) -> tfd.Distribution | None:
        """The flow of noise, or None."""
        return self._noise

    @property
    def levels(self) -> int:
        """How many values a pixel can take."""
        return self._levels

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = ("flow", "noise", "levels", "samples", "validate_args", "name")
        return {key: self.parameters[key] for key in keys}

    def adapt(self, x: Any) -> None:
        """Initializes data-dependent weights of both flows from whole values `x`."""
        x = tf.cast(x, self.dtype)
        u = tf.random.uniform(tf.shape(x), dtype=x.dtype)
        ndims = len(self.event_shape)
        chain.adapt(self._flow.bijector, x + u, ndims)
        if self._noise is not None:
            chain.adapt(self._noise.bijector, u, ndims, self._condition(x))

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        u, log_q = self._draw_noise(x)
        log_weights = self._flow.log_prob(x + u) - log_q
        if self._samples == 1:
            return log_weights[0]
        return tf.reduce_logsumexp(log_weights, axis=0) - math.log(self._samples)

    def _draw_noise(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns noise `[samples, *x.shape]` and its log-density."""
        seed = tfp.random.sanitize_seed(None)
        if self._noise is None:
            shape = tf.concat([[self._samples], tf.shape(x)], axis=0)
            u = tf.random.stateless_uniform(shape, seed, dtype=x.dtype)
            return tf.ensure_shape(u, [self._samples, *x.shape]), tf.zeros([], x.dtype)
        noise = condition(self._noise, self._condition(x))
        return noise.experimental_sample_and_log_prob(self._samples, seed=seed)

    def _condition(self, x: tf.Tensor) -> tf.Tensor:
        return x / self._levels - 0.5

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        values = tf.floor(self._flow.sample(n, seed=seed))
        return tf.clip_by_value(values, 0.0, self._levels - 1.0)

    def _event_shape(self) -> tf.TensorShape:
        return self._flow.event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._flow.event_shape_tensor()

    def _batch_shape(self) -> tf.TensorShape:
        return self._flow.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._flow.batch_shape_tensor()


@keras.saving.register_keras_serializable(package="tfp_flows")
class CategoricalFlow(tfd.Distribution):
    """Sequences `x` of whole numbers, each stood for by a vector of a flow.

    With `p(v)` the density of the flow over sequences of vectors, `q(v | c)` the
    learned code of category c, and every vector read as

        P(x_t = c | v_t) = q(v_t | c) / sum_c' q(v_t | c'),

    the probability of a sequence is `P(x) = E[w]` over `v_t ~ q(. | x_t)` with

        w = p(v) prod_t P(x_t | v_t) / q(v_t | x_t) = p(v) / prod_t sum_c q(v_t | c).

    `log_prob` returns an estimate of a lower bound of its logarithm, in nats, with
    fresh draws in each call; it is tight where codes do not overlap and the flow has
    the shape of the codes:

        log P(x) >= E[ log mean_k  w_k ]

    It is a distribution like any other: `FlowModel(CategoricalFlow(flow, codes))`
    trains flow and codes together, and `sample` draws whole numbers.

    Shapes: `[..., length]` for a flow of `[..., length, d]`.

    Reference:
        Lippe, Gavves: Categorical Normalizing Flows via Continuous Transformations,
        2021, arXiv:2006.09790. Hoogeboom et al.: Argmax Flows and Multinomial
        Diffusion, 2021, arXiv:2102.05379. Burda, Grosse, Salakhutdinov: Importance
        Weighted Autoencoders, 2015, arXiv:1509.00519 (several draws).

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.text.causal_flow(6, 2, categories=3, units=(8,), features=4)
        >>> codes = tfpf.text.character_codes(3, 2)
        >>> CategoricalFlow(flow, codes, categories=3).event_shape
        TensorShape([6])
    """

    def __init__(
        self,
        flow: tfd.Distribution,
        codes: tfd.Distribution,
        *,
        categories: int,
        samples: int = 1,
        validate_args: bool = False,
        name: str = "categorical_flow",
    ) -> None:
        """Joins a flow of sequences of vectors and the codes of the categories.

        Args:
            flow: Flow of sequences `[length, d]`.
            codes: Flow of vectors `[d]` whose conditions are whole numbers, such as
                `character_codes(categories, d)`.
            categories: How many values a number can take.
            samples: Number of draws for each sequence; more make the bound tighter
                and cost as many times more.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            ValueError: If the shapes of flow and codes do not fit, or a count is not
                a positive integer.
        """
        parameters = dict(locals())
        shape = tuple(flow.event_shape)
        if len(shape) != 2 or tuple(codes.event_shape) != shape[1:]:
            raise ValueError(
                "Argument `codes` must be a flow of vectors as `flow`, one of sequences"
                f" [length, d], has them. Received: codes of shape {codes.event_shape},"
                f" a flow of shape {flow.event_shape}"
            )
        self._categories = checked_integer("categories", categories, minimum=2)
        self._samples = checked_integer("samples", samples)
        self._flow, self._codes = flow, codes
        super().__init__(
            dtype=flow.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def flow(self) -> tfd.Distribution:
        """The flow of sequences of vectors."""
        return self._flow

    @property
    def codes(self) -> tfd.Distribution:
        """The codes, given a category."""
        return self._codes

    @property
    def categories(self) -> int:
        """How many values a number can take."""
        return self._categories

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = ("flow", "codes", "categories", "samples", "validate_args", "name")
        return {key: self.parameters[key] for key in keys}

    # Between whole numbers and vectors.

    def encode(self, x: Any, seed: Any = None) -> tf.Tensor:
        """Draws `v ~ q(. | x)`, `[..., length, d]`, for numbers `[..., length]`."""
        given = condition(self._codes, tf.cast(x, tf.int32))
        return given.sample(seed=tfp.random.sanitize_seed(seed))

    def log_odds(self, v: tf.Tensor) -> tf.Tensor:
        """Returns `log q(v_t | c)` for every category c, `[..., length, categories]`.

        They are the logits of `P(x_t | v_t)`.
        """
        every = condition(self._codes, tf.range(self._categories))
        return every.log_prob(v[..., tf.newaxis, :])

    def decode(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the most probable numbers of vectors, `[..., length]`."""
        return tf.argmax(self.log_odds(v), axis=-1, output_type=tf.int32)

    def log_weight(self, x: Any, seed: Any = None) -> tf.Tensor:
        """Returns one draw of `log w`, in nats, `[...]`: its mean is the ELBO.

        Args:
            x: Whole numbers `[..., length]`.
            seed: Seed of the draw; None for a fresh one.
        """
        v = self.encode(x, seed)
        log_sums = tf.reduce_logsumexp(self.log_odds(v), axis=-1)
        return self._flow.log_prob(v) - tf.reduce_sum(log_sums, axis=-1)

    # TFP's side.

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        if self._samples == 1:
            return self.log_weight(x)
        several = tf.broadcast_to(x, tf.concat([[self._samples], tf.shape(x)], 0))
        several = tf.ensure_shape(several, [self._samples, *x.shape])
        total = tf.reduce_logsumexp(self.log_weight(several), axis=0)
        return total - math.log(self._samples)

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        of_flow, of_numbers = tfp.random.split_seed(seed, n=2)
        logits = self.log_odds(self._flow.sample(n, seed=of_flow))
        numbers = tfd.Categorical(logits=logits).sample(seed=of_numbers)
        return tf.cast(numbers, self.dtype)

    def _event_shape(self) -> tf.TensorShape:
        return self._flow.event_shape[:-1]

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._flow.event_shape_tensor()[:-1]

    def _batch_shape(self) -> tf.TensorShape:
        return self._flow.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._flow.batch_shape_tensor()


def character_codes(
    categories: int, d: int, *, scale: float = 0.2, dtype: Any = None
) -> tfd.TransformedDistribution:
    """Builds `q(v | x)`: a vector for a character, at a learned place of its own.

        v = m_x + s_x e,    e ~ Logistic(0, 1)^d

    Args:
        categories: Number of characters.
        d: Number of values in a vector, at least `log2(categories)`.
        scale: The scale that all `s_x` start with.
        dtype: Float type; None for Keras's default.

    Returns:
        A conditional flow of vectors `[d]`, its conditions whole numbers.

    Raises:
        ValueError: If there are more characters than `2^d`.

    Example:
        >>> import tfp_flows as tfpf
        >>> codes = character_codes(27, 5)
        >>> tfpf.condition(codes, [0, 1, 2]).sample().shape
        TensorShape([3, 5])
    """
    dtype = tf.as_dtype(dtype or keras.config.floatx())
    table = code_table(categories, d, scale, dtype.name)
    affine = ConditionalAffine(
        (d,),
        # The table holds locations and log-scales as they are.
        keras.layers.Activation("linear", dtype=dtype.name),
        condition_shape=(2 * d,),
        dtype=dtype.name,
    )
    return tfd.TransformedDistribution(
        standard_logistic((d,), dtype),
        EncodedCondition(affine, table, condition_shape=()),
        name="character_codes",
    )
