"""Eight schools and Neal's funnel, with what is known of them exactly."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@dataclasses.dataclass(frozen=True)
class Problem:
    """A posterior and its exact evidence and moments.

    Attributes:
        name: Its name.
        target: A (pinned) joint distribution; draws are lists of tensors.
        log_evidence: Logarithm of the normalizer of its density, in nats.
        means, deviations: Exact, of the values in `flat`.
        labels: Names of these values.
        start: Where chains start, in unconstrained values.
    """

    name: str
    target: Any
    log_evidence: float
    means: np.ndarray
    deviations: np.ndarray
    labels: list
    start: np.ndarray

    @property
    def size(self):
        """Number of unconstrained values."""
        return len(self.means)

    @staticmethod
    def flat(draw):
        """Joins the parts of draws, `[n, *part]` each, into `[n, size]`."""
        parts = [np.asarray(part) for part in draw]
        batch = np.broadcast_shapes(*(p.shape[:1] for p in parts))
        return np.concatenate([p.reshape(*batch, -1) for p in parts], axis=-1)


def funnel(size: int = 10, scale: float = 3.0) -> Problem:
    """Neal's funnel: `v ~ N(0, 3)`, the others `N(0, exp(v / 2))`."""

    def rest(v):
        spread = tf.exp(0.5 * v)[..., tf.newaxis] * tf.ones([size - 1])
        return tfd.Independent(tfd.Normal(tf.zeros([size - 1]), spread), 1)

    model = tfd.JointDistributionSequential([tfd.Normal(0.0, scale), rest])
    return Problem(
        name="funnel",
        target=model,
        log_evidence=0.0,
        means=np.zeros(size),
        # E[exp(v)] = exp(scale^2 / 2)
        deviations=np.array([scale] + [np.exp(scale**2 / 4)] * (size - 1)),
        labels=["v"] + [f"x{k}" for k in range(1, size)],
        start=np.ones(size),
    )


def eight_schools() -> Problem:
    """Effects of coaching in eight schools, in the centred form that HMC dislikes.

    `mu ~ N(0, 10)`, `tau ~ LogNormal(2, 1)`, `theta_j ~ N(mu, tau)`,
    `y_j ~ N(theta_j, sigma_j)`.
    """
    errors = tf.constant(ERRORS, tf.float32)
    model = tfd.JointDistributionSequential(
        [
            tfd.Normal(0.0, 10.0),
            tfd.LogNormal(2.0, 1.0),
            lambda tau, mu: tfd.Independent(
                tfd.Normal(
                    mu[..., tf.newaxis] * tf.ones([8]),
                    tau[..., tf.newaxis] * tf.ones([8]),
                ),
                1,
            ),
            lambda theta: tfd.Independent(tfd.Normal(theta, errors), 1),
        ]
    )
    pinned = model.experimental_pin(None, None, None, tf.constant(EFFECTS, tf.float32))
    log_evidence, means, deviations = _exact_schools()
    return Problem(
        name="eight_schools",
        target=pinned,
        log_evidence=log_evidence,
        means=means,
        deviations=deviations,
        labels=["mu", "tau"] + [f"theta{j}" for j in range(1, 9)],
        start=np.array([4.0, 1.5] + [4.0] * 8),
    )


def _exact_schools():
    """Evidence and moments: Gaussian given tau, and a fine grid over log tau."""
    log_tau = np.linspace(-8.0, 9.0, 20_001)[:, np.newaxis]
    tau2, error2 = np.exp(2 * log_tau), ERRORS**2
    precision = 1.0 / (error2 + tau2)
    v = 1.0 / (1.0 / 100.0 + precision.sum(axis=1))
    m = v * (precision * EFFECTS).sum(axis=1)
    log_given = (
        0.5 * np.log(precision / (2 * np.pi)) - 0.5 * precision * EFFECTS**2
    ).sum(axis=1) + 0.5 * (m**2 / v + np.log(v / 100.0))
    log_prior = -0.5 * (log_tau[:, 0] - 2.0) ** 2 - 0.5 * np.log(2 * np.pi)
    step = log_tau[1, 0] - log_tau[0, 0]
    log_joint = log_given + log_prior
    log_evidence = np.logaddexp.reduce(log_joint) + np.log(step)
    weight = np.exp(log_joint - log_evidence) * step
    # theta_j given mu and tau is normal, linear in mu.
    spread = 1.0 / (1.0 / error2 + 1.0 / tau2)
    slope = spread / tau2
    mean = spread * EFFECTS / error2 + slope * m[:, np.newaxis]
    second = mean**2 + spread + slope**2 * v[:, np.newaxis]
    firsts = np.column_stack([m, np.exp(log_tau[:, 0]), mean])
    seconds = np.column_stack([m**2 + v, tau2[:, 0], second])
    means = weight @ firsts
    return float(log_evidence), means, np.sqrt(weight @ seconds - means**2)


PROBLEMS = {"eight_schools": eight_schools, "funnel": funnel}
