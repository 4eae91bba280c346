"""`CategoricalFlow`: a distribution of whole numbers from a flow of real vectors."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.bijectors.conditioned import condition

tfb, tfd = tfp.bijectors, tfp.distributions


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
        >>> import tfp_flows as tff
        >>> flow = tff.text.causal_flow(6, 2, categories=3, units=(8,), features=4)
        >>> codes = tff.text.character_codes(3, 2)
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
        self._categories = checked_count("categories", categories, least=2)
        self._samples = checked_count("samples", samples)
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
