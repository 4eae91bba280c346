"""`Resampled`: a base whose draws are accepted with a learned probability."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.base import LayeredDistribution
from tfp_flows.internal.arguments import Seed, checked_instance, checked_integer
from tfp_flows.internal.seeds import TrainingNoise
from tfp_flows.nets.conditioner import Conditioner


@keras.saving.register_keras_serializable(package="tfp_flows")
class Resampled(LayeredDistribution):
    """Draws of a proposal `pi`, accepted with a learned probability `a(z)`.

        p(z) = pi(z) ((1 - alpha) a(z) / Z + alpha)
        Z = E_pi[a(z)],  alpha = (1 - Z)^(T - 1)

    A draw that is rejected is drawn again, the T-th one is accepted in any case. So
    the base may have holes and several modes, which spares a flow, a continuous map,
    the bridges between the modes of its data.

    `a` is the sigmoid of a network that starts at zero, so that `p` starts as the
    proposal. `Z` is the mean of `a` over draws of the proposal: fresh ones in each
    training step of Keras, and otherwise the same `draws` ones (XLA and other devices
    draw others), so that `log_prob` is off by one constant for all points, of standard
    deviation `sqrt((1 - Z) / (Z draws))` nats at most. A call of `log_prob` runs the
    network on so many more rows. Train by `fit`, or on `FlowModel(flow)(x,
    training=True)`: weights could overfit to fixed draws.

    Shapes: events those of the proposal, `[d]`; no batch of distributions.

    Reference: Stimper, Schölkopf, Hernández-Lobato: Resampling Base Distributions of
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
        """
        checked_instance(
            "acceptance",
            acceptance,
            Conditioner,
            "a conditioner, such as `tfpf.nets.MLP((64, 64))`",
        )
        _check_proposal(proposal)
        self._truncation = checked_integer("truncation", truncation, minimum=2)
        self._draws = checked_integer("draws", draws)
        self._training_draws = checked_integer("training_draws", training_draws)
        acceptance.connect(tuple(proposal.event_shape), (1,))
        self._acceptance, self._noise = acceptance, TrainingNoise(seed)
        super().__init__(proposal, layers=(acceptance, self._noise))

    @property
    def proposal(self) -> tfd.Distribution:
        """The distribution that is drawn from."""
        return self._inner

    @property
    def acceptance(self) -> Conditioner:
        """The network whose sigmoid is the probability of accepting a draw."""
        return self._acceptance

    def log_normalizer(self, training: bool | None = None) -> tuple[tf.Tensor, ...]:
        """Estimates `log Z` and `log (1 - Z)`, from fresh draws where Keras trains."""

        def drawn(seed: tf.Tensor, training: bool) -> tf.Tensor:
            n = self._training_draws if training else self._draws
            return self.proposal.sample(n, seed=seed)

        keywords = {} if training is None else {"training": training}
        z = self._noise(draw=drawn, **keywords)
        logits = self._logits(tf.stop_gradient(z))
        return tuple(
            tf.reduce_logsumexp(tf.math.log_sigmoid(sign * logits))
            - math.log(logits.shape[0])
            for sign in (1.0, -1.0)
        )

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        log_z, log_rest = self.log_normalizer()
        # Where nothing is accepted `alpha` is 1 and its complement has no logarithm.
        least = 8.0 * np.finfo(self.dtype.as_numpy_dtype).eps
        log_alpha = tf.minimum((self._truncation - 1.0) * log_rest, -least)
        log_accepted = tf.math.log_sigmoid(self._logits(z)) - log_z
        log_accepted += tfp.math.log1mexp(log_alpha)
        log_ratio = tfp.math.log_add_exp(log_accepted, log_alpha)
        return self.proposal.log_prob(z) + log_ratio

    def _logits(self, z: tf.Tensor) -> tf.Tensor:
        """The network's value at points of any batch shape."""
        flat = tf.reshape(z, [-1, *self.proposal.event_shape])
        logits = tf.cast(self._acceptance(flat), self.dtype)
        return tf.reshape(logits, tf.shape(z)[:-1])

    def _sample_n(self, n: int | tf.Tensor, seed: Seed = None) -> tf.Tensor:
        seed = tfp.random.sanitize_seed(seed)

        def draw(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            proposed, coin = tf.unstack(
                tfp.random.split_seed(
                    tf.random.experimental.stateless_fold_in(seed, t), n=2
                )
            )
            z = self.proposal.sample(n, seed=proposed)
            u = tf.random.stateless_uniform(tf.shape(z)[:-1], coin, dtype=self.dtype)
            return z, u < tf.sigmoid(self._logits(z))

        def again(t: tf.Tensor, z: tf.Tensor, accepted: tf.Tensor) -> tuple:
            new, accept = draw(t)
            return t + 1, tf.where(accepted[:, None], z, new), accepted | accept

        first, accepted = draw(tf.constant(0))
        _, z, _ = tf.while_loop(
            lambda t, z, accepted: (t < self._truncation) & ~tf.reduce_all(accepted),
            again,
            (tf.constant(1), first, accepted),
        )
        return z

    def _default_event_space_bijector(self) -> Any:
        return self.proposal.experimental_default_event_space_bijector()


def _check_proposal(proposal: tfd.Distribution) -> None:
    shapes = proposal.event_shape, proposal.batch_shape
    if shapes[0].rank != 1 or shapes[1].rank != 0:
        raise ValueError(
            "Argument `proposal` must be one distribution of vectors, such as "
            "`tfd.MultivariateNormalDiag(tf.zeros([2]))`. Received: event shape "
            f"{shapes[0]}, batch shape {shapes[1]}"
        )
