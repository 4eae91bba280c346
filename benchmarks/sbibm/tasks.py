"""The ten tasks of the benchmark: priors, simulators, observations, references.

Lueckmann, Boelts, Greenberg, Goncalves, Macke: Benchmarking simulation-based
inference, 2021, arXiv:2101.04653. Observations and reference draws are files of the
package `sbibm` 1.1.0; a folder that holds its `sbibm/tasks` is an argument.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks.sbibm import torch_files

tfd = tfp.distributions


class Task:
    """A prior, a simulator `simulate(theta, rng)`, and ten observed cases.

    Attributes:
        files: The folder of the package that holds the task's files.
        observation: First part of the names of the files of observations.
    """

    files = ""
    observation = "observation.csv"

    def __init__(self, folder):
        self.folder = Path(folder) / "sbibm" / "tasks" / self.files / "files"

    @property
    def prior(self):
        """Distribution of the parameters, vectors `[d]`."""
        raise NotImplementedError

    def simulate(self, theta, rng):
        """Returns data `[n, k]` of parameters `[n, d]`."""
        raise NotImplementedError

    def pairs(self, n, seed):
        """Returns `n` draws of the prior and their data."""
        theta = self.prior.sample(n, seed=(seed, n)).numpy()
        return theta, self.data(theta, seed)

    def data(self, theta, seed):
        """Returns data as 32-bit numbers."""
        rng = np.random.default_rng(seed)
        return self.simulate(np.asarray(theta, float), rng).astype(np.float32)

    def observed(self, number):
        """Returns an observation, `[k]`."""
        return self._read(number, self.observation)[0]

    def parameters(self, number):
        """Returns the parameters that an observation came from, `[d]`."""
        return self._read(number, "true_parameters.csv")[0]

    def reference(self, number):
        """Returns 10,000 draws of the true posterior."""
        return self._read(number, "reference_posterior_samples.csv.bz2")

    def _read(self, number, name):
        path = self.folder / f"num_observation_{number}" / name
        return np.loadtxt(path, np.float32, delimiter=",", skiprows=1, ndmin=2)


class GaussianLinear(Task):
    files = "gaussian_linear"

    @property
    def prior(self):
        return tfd.Sample(tfd.Normal(0.0, 0.1**0.5), [10])

    def simulate(self, theta, rng):
        return theta + rng.normal(scale=0.1**0.5, size=theta.shape)


class GaussianLinearUniform(GaussianLinear):
    files = "gaussian_linear_uniform"

    @property
    def prior(self):
        return tfd.Sample(tfd.Uniform(-1.0, 1.0), [10])


class GaussianMixture(Task):
    files = "gaussian_mixture"

    @property
    def prior(self):
        return tfd.Sample(tfd.Uniform(-10.0, 10.0), [2])

    def simulate(self, theta, rng):
        scale = rng.choice([1.0, 0.1], size=(len(theta), 1))
        return theta + scale * rng.normal(size=theta.shape)


class TwoMoons(Task):
    files = "two_moons"

    @property
    def prior(self):
        return tfd.Sample(tfd.Uniform(-1.0, 1.0), [2])

    def simulate(self, theta, rng):
        angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        radius = rng.normal(0.1, 0.01, len(theta))
        across, along = theta[:, 0] + theta[:, 1], theta[:, 1] - theta[:, 0]
        first = radius * np.cos(angle) + 0.25 - abs(across) / np.sqrt(2)
        return np.stack([first, radius * np.sin(angle) + along / np.sqrt(2)], -1)


class SLCP(Task):
    files = "slcp"

    @property
    def prior(self):
        return tfd.Sample(tfd.Uniform(-3.0, 3.0), [5])

    def simulate(self, theta, rng):
        first, second = theta[:, 2] ** 2, theta[:, 3] ** 2
        correlation = np.tanh(theta[:, 4])
        noise = rng.normal(size=(4, 2, len(theta)))
        mixed = correlation * noise[:, 0]
        mixed = mixed + np.sqrt(1 - correlation**2) * noise[:, 1]
        points = [theta[:, 0] + first * noise[:, 0], theta[:, 1] + second * mixed]
        return np.stack(points, -1).transpose(1, 0, 2).reshape(-1, 8)


class SLCPDistractors(SLCP):
    """Also 92 values of a mixture of Student's t distributions, all in one order."""

    observation = "observation_distractors.csv"

    def simulate(self, theta, rng):
        mixture, storages = torch_files.load(self.folder / "gmm.torch")
        of_kinds = mixture._component_distribution.base_dist
        mean, scale, degrees = (
            getattr(of_kinds, name).array(storages)
            for name in ("loc", "_unbroadcasted_scale_tril", "df")
        )
        kind = rng.integers(len(mean), size=len(theta))
        noise = rng.normal(size=(len(theta), mean.shape[1]))
        noise /= np.sqrt(rng.chisquare(degrees[kind]) / degrees[kind])[:, np.newaxis]
        for k in range(len(mean)):
            noise[kind == k] = mean[k] + noise[kind == k] @ scale[k].T
        both = np.concatenate([super().simulate(theta, rng), noise], axis=1)
        return both[:, torch_files.array(self.folder / "permutation_idx.torch")]


class BernoulliGLM(Task):
    """Spikes that a filter of a stimulus makes, as sufficient statistics."""

    files = "bernoulli_glm"

    @property
    def prior(self):
        steps = np.eye(9) - np.eye(9, k=-1)
        rough = steps @ steps + np.diag(np.sqrt(np.arange(9) / 9))
        precision = np.zeros([10, 10])
        precision[0, 0], precision[1:, 1:] = 0.5, rough.T @ rough
        scale = np.linalg.cholesky(np.linalg.inv(precision))
        return tfd.MultivariateNormalTriL(tf.zeros(10), tf.cast(scale, tf.float32))

    def simulate(self, theta, rng):
        return self.spikes(theta, rng) @ self._design

    def spikes(self, theta, rng):
        """Returns zeros and ones, `[n, 100]`."""
        chances = 1.0 / (1.0 + np.exp(-theta @ self._design.T))
        return 1.0 * (rng.random(chances.shape) < chances)

    @property
    def _design(self):
        return torch_files.array(self.folder / "design_matrix.pt")


class BernoulliGLMRaw(BernoulliGLM):
    observation = "observation_raw.csv"

    def simulate(self, theta, rng):
        return self.spikes(theta, rng)


class SIR(Task):
    """An epidemic: tests of a thousand people at ten times."""

    files = "sir"

    @property
    def prior(self):
        location = np.log([0.4, 0.125]).astype(np.float32)
        return tfd.Independent(tfd.LogNormal(location, [0.5, 0.2]), 1)

    def simulate(self, theta, rng):
        infection, recovery = theta.T

        def slope(state):
            susceptible, infected = state
            new = infection * susceptible * infected
            return np.stack([-new, new - recovery * infected])

        start = np.full([2, len(theta)], [[1.0 - 1e-6], [1e-6]])
        path = runge_kutta(slope, start, step=0.25, every=68, count=10)
        return rng.binomial(1000, np.clip(path[:, 1], 0.0, 1.0)).T


class LotkaVolterra(Task):
    """Hunters and prey, seen ten times with noise in proportion."""

    files = "lotka_volterra"

    @property
    def prior(self):
        location = [-0.125, -3.0, -0.125, -3.0]
        return tfd.Independent(tfd.LogNormal(location, [0.5] * 4), 1)

    def simulate(self, theta, rng):
        birth, eaten, death, growth = theta.T

        def slope(logs):
            prey, hunters = np.exp(logs)
            return np.stack([birth - eaten * hunters, growth * prey - death])

        start = np.log(np.full([2, len(theta)], [[30.0], [1.0]]))
        logs = runge_kutta(slope, start, step=0.01, every=210, count=10)
        logs = np.clip(logs, np.log(1e-10), np.log(1e4))
        noisy = logs + rng.normal(scale=0.1, size=logs.shape)
        return np.exp(noisy).transpose(2, 1, 0).reshape(len(theta), 20)


def runge_kutta(slope, state, step, every, count):
    """Returns states at the start and after each `every` steps, `[count, *state]`."""
    states = [state]
    for _ in range(count - 1):
        for _ in range(every):
            a = slope(state)
            b = slope(state + step / 2 * a)
            c = slope(state + step / 2 * b)
            d = slope(state + step * c)
            state = state + step / 6 * (a + 2 * b + 2 * c + d)
        states.append(state)
    return np.stack(states)


TASKS = {
    "gaussian_linear": GaussianLinear,
    "gaussian_linear_uniform": GaussianLinearUniform,
    "slcp": SLCP,
    "slcp_distractors": SLCPDistractors,
    "bernoulli_glm": BernoulliGLM,
    "bernoulli_glm_raw": BernoulliGLMRaw,
    "gaussian_mixture": GaussianMixture,
    "two_moons": TwoMoons,
    "sir": SIR,
    "lotka_volterra": LotkaVolterra,
}
