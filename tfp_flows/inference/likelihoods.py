"""Likelihoods trained on simulations, and posteriors by tempered MCMC."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.inference.density import (
    ConditionalDensity,
    Flow,
    Regression,
    Scaling,
    splines,
)
from tfp_flows.inference.estimators import Estimator
from tfp_flows.internal.arguments import (
    Arrays,
    Seed,
    TensorLike,
    checked_integer,
    invalid,
)
from tfp_flows.internal.seeds import stateless_seed

tfb, tfd = tfp.bijectors, tfp.distributions


class NeuralLikelihood(Estimator):
    """A flow in place of a simulator's likelihood, `q(x | theta)`, and its posterior.

        minimize  - mean log q(x_i | theta_i),    x_i ~ p(x | theta_i)

    over pairs whose `theta_i` may be any: no rounds bias it. The posterior is drawn
    from by sequential Monte Carlo: particles, chains of the prior's draws, move under
    `p(theta) q(x | theta)^t` while `t` goes from 0 to 1, in the unconstrained space.

    Data are vectors. Whole numbers get uniform noise of width 1 while training, and
    `log_prob` is the density in the middle, near their log-probability where that is
    smooth. Counts of a few values are not.

    Example:
        >>> import tfp_flows as tfpf
        >>> prior = tfd.Sample(tfd.Uniform(-1.0, 1.0), [2])
        >>> theta = prior.sample(200, seed=(0, 1))
        >>> x = theta + tfd.Normal(0.0, 0.1).sample([200, 2], seed=(0, 2))
        >>> likelihood = tfpf.inference.NeuralLikelihood(prior, steps=2)
        >>> _ = likelihood.fit(theta, x, epochs=2, verbose=0)
        >>> likelihood.sample([0.2, -0.3], 50).shape
        TensorShape([50, 2])

    Reference: Papamakarios, Sterratt, Murray: Sequential neural likelihood, 2019,
    arXiv:1805.07226. Del Moral, Doucet, Jasra: Sequential Monte Carlo samplers, 2006.
    """

    def __init__(
        self,
        prior: tfd.Distribution,
        *,
        flow: Flow | None = None,
        members: int = 1,
        **options: Any,
    ) -> None:
        """Chooses the flow; it is built when `fit` sees the data.

        Args:
            prior: Distribution of the parameters: of vectors, or a joint one.
            flow: Architecture, see `NeuralPosterior`; None for `tfpf.spline_flow`, or
                from 5 values on `tfpf.maf` with splines and, below 30,000 pairs, a
                dropout of 0.1.
            members: Number of flows, of which the likelihood is the mixture.
            **options: Further arguments of `flow`.
        """
        density = ConditionalDensity(
            flow=flow, default=splines, members=members, options=options
        )
        super().__init__(prior, density)

    def fit(
        self, theta: Arrays, x: TensorLike, *, seed: int = 0, **kwargs: Any
    ) -> list[keras.callbacks.History]:
        """Trains on pairs, as `NeuralPosterior.fit` does.

        Args:
            theta: Parameters, of the prior's structure, `[n, ...]`.
            x: Data simulated from them, `[n, k]`.
            seed: Integer from which weights, order and noise follow.
            **kwargs: Further arguments of `NeuralPosterior.fit`.
        """
        u, x = self._pairs(theta, x)
        if x.ndim != 2:
            raise invalid("x", "be vectors `[n, k]`", got=f"shape {x.shape}")
        whole = (x == np.round(x)).all(axis=0)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, x.shape)
        x = x + whole * noise
        self._scaling = Scaling.of(x)
        y = self._scaled(x).astype(u.dtype)
        return self._density.fit(y, u, seed=seed, **kwargs)

    def log_prob(self, x: TensorLike, theta: Arrays) -> tf.Tensor:
        """Returns `log q(x | theta)`, in nats.

        Args:
            x: Data `[k]`, or `[n, k]`.
            theta: Parameters, of the prior's structure: one, or a batch `[n, ...]`.
        """
        y, volume = self._observed(x)
        u = self._unpack.inverse(self._parameters(theta))
        return self._density(u).log_prob(y) + volume

    def _observed(self, x: TensorLike) -> tuple[np.ndarray, np.ndarray]:
        """Returns data as the flow has them, and the log-det of that."""
        size = self._density.condition_shape and self.models[0].distribution.event_shape
        x = np.asarray(x)
        x = x[..., np.newaxis] if size == [1] and x.shape[-1:] != (1,) else x
        if x.shape[-1:] != tuple(size) or not np.isfinite(x).all():
            raise invalid("x", f"be finite and of shape {tuple(size)}", x)
        dtype = self.models[0].distribution.dtype.as_numpy_dtype
        scaling = self._scaling
        volume = np.zeros(()) if scaling is None else scaling.log_det(x)
        return self._scaled(x).astype(dtype), volume.astype(dtype)

    def sample(
        self,
        x: TensorLike,
        n: int,
        *,
        particles: int | None = None,
        steps: int = 25,
        seed: Seed = 0,
    ) -> Arrays:
        """Draws from the posterior given one observation.

        Args:
            x: The observation, `[k]`.
            n: Number of draws.
            particles: Number of chains; None for `n`, at least 1,000.
            steps: Most moves of a chain at a temperature.
            seed: Integer or pair of integers from which the draws follow.

        Returns:
            Draws of the prior's structure, `[n, ...]`.
        """
        particles = particles or max(checked_integer("n", n), 1000)
        if particles < n:
            raise invalid("particles", f"be at least `n`, {n}", particles)
        seeds = tf.stack(tfp.random.split_seed(stateless_seed(seed), n=3))
        move = self._density.traced(self._move)
        y, volume = (tf.constant(v) for v in self._observed(x))
        fitted = vars(self._density.regression)
        u = move(y, volume, fitted, seeds, particles, steps)
        return self._unpack.forward(u[:n])

    def _move(
        self,
        y: tf.Tensor,
        volume: tf.Tensor,
        fitted: dict[str, tf.Tensor],
        seeds: tf.Tensor,
        particles: int,
        steps: int,
    ) -> tf.Tensor:
        """Moves draws of the prior to the posterior; returns unconstrained ones."""
        density = getattr(self.prior, "unnormalized_log_prob", self.prior.log_prob)

        def prior(u: tf.Tensor) -> tf.Tensor:
            theta = self._unpack.forward(u)
            return density(theta) + self._unpack.forward_log_det_jacobian(u, 1)

        def likelihood(u: tf.Tensor) -> tf.Tensor:
            return self._density(u, Regression(**fitted)).log_prob(y) + volume

        start = self._unpack.inverse(self.prior.sample(particles, seed=seeds[0]))
        _, u, _ = tfp.experimental.mcmc.sample_sequential_monte_carlo(
            prior, likelihood, start, max_num_steps=steps, seed=seeds[1]
        )
        return tf.random.experimental.stateless_shuffle(u, seeds[2])

    def _proposed(self, x: TensorLike, n: int, seed: tf.Tensor) -> tuple[Arrays, int]:
        return self.sample(x, n, seed=seed), n
