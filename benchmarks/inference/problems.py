"""Posteriors and densities, with what is known of them exactly."""

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
        parts = [np.asarray(part) for part in tf.nest.flatten(draw)]
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


def logistic_regression() -> Problem:
    """Ten measurements of 569 tumours, standardized; weights and bias `N(0, 2)`.

    Evidence and moments are those of 200,000 draws of Student's distribution around the
    mode, weighted: good to some 1e-3.
    """
    from scipy import optimize, special, stats
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = (x[:, :10] - x[:, :10].mean(axis=0)) / x[:, :10].std(axis=0)
    x = np.column_stack([x, np.ones(len(x))])
    d, scale = x.shape[1], 2.0

    def log_joint(w):
        logits = w @ x.T
        prior = stats.norm.logpdf(w, 0.0, scale).sum(axis=-1)
        return (special.log_expit(logits) - (1 - y) * logits).sum(axis=-1) + prior

    mode = optimize.minimize(lambda w: -log_joint(w), np.zeros(d)).x
    p = special.expit(x @ mode)
    hessian = (x.T * (p * (1 - p))) @ x + np.eye(d) / scale**2
    q = stats.multivariate_t(mode, 1.3 * np.linalg.inv(hessian), 8, seed=0)
    w = q.rvs(200_000)
    log_weights = log_joint(w) - q.logpdf(w)
    weights = special.softmax(log_weights)
    means = weights @ w
    features = tf.constant(x.T, tf.float32)
    model = tfd.JointDistributionSequential(
        [
            tfd.Sample(tfd.Normal(0.0, scale), [d]),
            lambda w: tfd.Independent(tfd.Bernoulli(tf.tensordot(w, features, 1)), 1),
        ]
    )
    return Problem(
        name="logistic_regression",
        target=model.experimental_pin(None, tf.constant(y)),
        log_evidence=float(special.logsumexp(log_weights) - np.log(len(w))),
        means=means,
        deviations=np.sqrt(weights @ (w - means) ** 2),
        labels=[f"w{k}" for k in range(1, d)] + ["bias"],
        start=np.zeros(d),
    )


class Mixture(tfd.MixtureSameFamily):
    """A mixture over all vectors, which TFP does not say of it."""

    def _default_event_space_bijector(self):
        return tfp.bijectors.Identity()


def two_modes(apart: float = 3.0, share: float = 0.3) -> Problem:
    """Two normal modes of width 0.6 at `(-apart, 0)` and `(apart, 0)`."""
    centres = np.array([[-apart, 0.0], [apart, 0.0]])
    target = Mixture(
        tfd.Categorical(probs=[share, 1.0 - share]),
        tfd.MultivariateNormalDiag(
            tf.constant(centres, tf.float32), 0.6 * tf.ones([2, 2])
        ),
    )
    between = 4.0 * share * (1.0 - share) * apart**2
    return Problem(
        name="two_modes",
        target=target,
        log_evidence=0.0,
        means=np.array([(1.0 - 2.0 * share) * apart, 0.0]),
        deviations=np.sqrt([0.36 + between, 0.36]),
        labels=["x1", "x2"],
        start=centres[0],
    )


def gaussian(size: int = 50, condition: float = 1e4) -> Problem:
    """A turned normal whose variances spread evenly, in logarithms, by `condition`."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=[size, size]))
    variances = np.geomspace(condition**-0.5, condition**0.5, size)
    covariance = (turn * variances) @ turn.T
    factor = np.linalg.cholesky(covariance)
    return Problem(
        name="gaussian",
        target=tfd.MultivariateNormalTriL(
            tf.ones([size]), tf.constant(factor, tf.float32)
        ),
        log_evidence=0.0,
        means=np.ones(size),
        deviations=np.sqrt(np.diag(covariance)),
        labels=[f"x{k}" for k in range(1, size + 1)],
        start=np.zeros(size),
    )


PROBLEMS = {
    made.__name__: made
    for made in (eight_schools, funnel, logistic_regression, two_modes, gaussian)
}
