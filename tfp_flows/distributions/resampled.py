"""`Resampled`: a base distribution whose draws are kept with a learned probability."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal.arguments import checked_integer
from tfp_flows.internal.compat import tf_variables
from tfp_flows.nets.conditioner import Conditioner

tfd = tfp.distributions


class Draws(keras.Layer):
    """Says which draws a mean is taken over.

    While Keras trains they are new ones in each call, so that no weight can adapt to
    them; otherwise always the same, so that a density is a fixed function.
    """

    def __init__(
        self, draws: int, training_draws: int, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.draws = draws
        self.training_draws = training_draws
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, like: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Returns a seed of two integers, and the logarithm of each draw's weight."""
        n = self.training_draws if training else self.draws
        state = self._generator.next() if training else [self.seed, 0]
        return tf.cast(state, tf.int32), tf.fill([n], tf.cast(-math.log(n), like.dtype))


@keras.saving.register_keras_serializable(package="tfp_flows")
class Resampled(tfd.Distribution):
    """Draws of a proposal `pi`, kept with a learned probability `a(z)`.

        p(z) = pi(z) ((1 - alpha) a(z) / Z + alpha)
        Z = E_pi[a(z)],  alpha = (1 - Z)^(T - 1)

    A draw that is not kept is drawn again, the T-th one is kept in any case. So the
    base may have holes and several pieces, which spares a flow, a continuous map,
    the bridges between the pieces of its data.

    `a` is the sigmoid of a network that starts at zero: `a = 1/2` everywhere, and `p`
    starts as the proposal. `Z` is the mean of `a` over draws of the proposal: fresh
    ones in each training step of Keras, and otherwise the same `draws` ones, so that
    `log_prob` is off by one constant for all points, whose standard deviation is
    about `sqrt((1 - Z) / (Z draws))` nats at most. A call of `log_prob` runs the
    network on so many more rows; XLA and other devices draw others. Train by `fit`,
    or on `FlowModel(flow)(x, training=True)`: weights could learn fixed draws by
    heart.

    Shapes: events those of the proposal, `[d]`; no batch of distributions.

    Reference:
        Stimper, Schölkopf, Hernández-Lobato: Resampling Base Distributions of
        Normalizing Flows, 2022, arXiv:2110.15828. Bauer, Mnih: Resampled Priors for
        Variational Autoencoders, 2019, arXiv:1810.11428.

    Example:
        >>> import tfp_flows as tfpf
        >>> base = tfpf.bases.resampled(2, hidden_units=(8,))
        >>> base.sample(3, seed=1).shape
        TensorShape([3, 2])
    """

    def __init__(
        self,
        proposal: tfd.Distribution,
        acceptance: Conditioner,
        *,
        truncation: int = 100,
        draws: int = 10_000,
        training_draws: int = 1024,
        seed: int = 0,
        validate_args: bool = False,
        name: str = "resampled",
    ) -> None:
        """Connects the network.

        Args:
            proposal: Distribution `pi` of vectors.
            acceptance: Network, such as `tfpf.nets.MLP((64, 64))`, whose sigmoid is
                the probability `a`.
            truncation: Largest number of draws `T`, at least 2.
            draws: Draws from which `Z` is estimated.
            training_draws: The same in each training step.
            seed: Integer from which the draws for `Z` follow.
            validate_args: Passed on to `tfd.Distribution`.
            name: Name of the distribution.

        Raises:
            TypeError: If `acceptance` is not a conditioner.
            ValueError: If the proposal is not one distribution of vectors, or a
                number is too small.
        """
        parameters = dict(locals())
        _check_arguments(proposal, acceptance)
        self._truncation = checked_integer("truncation", truncation, minimum=2)
        for key in ("draws", "training_draws"):
            checked_integer(key, parameters[key])
        self._proposal = proposal
        super().__init__(
            dtype=proposal.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )
        acceptance.connect(tuple(proposal.event_shape), (1,))
        self._acceptance = acceptance
        self._draws = Draws(draws, training_draws, seed)
        # For plain TFP loops, which see no weights of Keras layers.
        self._weights = [*tf_variables([self._acceptance, self._draws])]

    @property
    def proposal(self) -> tfd.Distribution:
        """The distribution that is drawn from."""
        return self._proposal

    @property
    def acceptance(self) -> Conditioner:
        """The network whose sigmoid is the probability of keeping a draw."""
        return self._acceptance

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        keys = (
            "proposal",
            "acceptance",
            "truncation",
            "draws",
            "training_draws",
            "seed",
            "validate_args",
            "name",
        )
        return {key: self.parameters[key] for key in keys}

    def log_normalizer(self, training: bool | None = None) -> tuple[Any, Any]:
        """Estimates `log Z` and `log (1 - Z)`.

        Args:
            training: Whether to use fresh draws; None for what Keras is doing.

        Returns:
            Two scalars.
        """
        keywords = {} if training is None else {"training": training}
        seed, log_weights = self._draws(tf.zeros([], self.dtype), **keywords)
        z = self._proposal.sample(log_weights.shape[0], seed=seed)
        logits = self._logits(tf.stop_gradient(z))
        return tuple(
            tf.reduce_logsumexp(tf.math.log_sigmoid(sign * logits) + log_weights)
            for sign in (1.0, -1.0)
        )

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        log_z, log_rest = self.log_normalizer()
        # Where nothing is ever kept `alpha` is 1 and its complement has no logarithm.
        least = 8.0 * np.finfo(self.dtype.as_numpy_dtype).eps
        log_alpha = tf.minimum((self._truncation - 1.0) * log_rest, -least)
        log_kept = tf.math.log_sigmoid(self._logits(z)) - log_z
        log_kept += tfp.math.log1mexp(log_alpha)
        log_ratio = tfp.math.log_add_exp(log_kept, log_alpha)
        return self._proposal.log_prob(z) + log_ratio

    def _logits(self, z: tf.Tensor) -> tf.Tensor:
        """The network's value at points of any batch shape."""
        flat = tf.reshape(z, [-1, *self._proposal.event_shape])
        logits = tf.cast(self._acceptance(flat), self.dtype)
        return tf.reshape(logits, tf.shape(z)[:-1])

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        seed = tfp.random.sanitize_seed(seed)

        def draw(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            proposed, coin = tf.unstack(
                tfp.random.split_seed(
                    tf.random.experimental.stateless_fold_in(seed, t), n=2
                )
            )
            z = self._proposal.sample(n, seed=proposed)
            u = tf.random.stateless_uniform(tf.shape(z)[:-1], coin, dtype=self.dtype)
            return z, u < tf.sigmoid(self._logits(z))

        def again(t: tf.Tensor, z: tf.Tensor, kept: tf.Tensor) -> tuple:
            new, keep = draw(t)
            return t + 1, tf.where(kept[:, None], z, new), kept | keep

        first, kept = draw(tf.constant(0))
        _, z, _ = tf.while_loop(
            lambda t, z, kept: (t < self._truncation) & ~tf.reduce_all(kept),
            again,
            (tf.constant(1), first, kept),
        )
        return z

    def _event_shape(self) -> tf.TensorShape:
        return self._proposal.event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._proposal.event_shape_tensor()

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def _default_event_space_bijector(self) -> Any:
        return self._proposal.experimental_default_event_space_bijector()


def _check_arguments(proposal: Any, acceptance: Any) -> None:
    if not isinstance(acceptance, Conditioner):
        raise TypeError(
            "Argument `acceptance` must be a conditioner, such as "
            f"`tfpf.nets.MLP((64, 64))`. Received: {acceptance!r} of type "
            f"{type(acceptance).__name__}"
        )
    shapes = proposal.event_shape, proposal.batch_shape
    if shapes[0].rank != 1 or shapes[1].rank != 0:
        raise ValueError(
            "Argument `proposal` must be one distribution of vectors, such as "
            "`tfd.MultivariateNormalDiag(tf.zeros([2]))`. Received: event shape "
            f"{shapes[0]}, batch shape {shapes[1]}"
        )
