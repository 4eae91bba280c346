"""Likelihoods trained on simulations, where densities and posteriors are known."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfp_flows as tfpf
from tfp_flows.inference.density import Scaling

tfd = tfp.distributions
QUICK = {"hidden_units": (16,), "steps": 2}
FIT = {"rate": 1e-3, "batch_size": 64, "verbose": 0}


def simulate(theta, seed=0):
    """Two looks at each of two means."""
    noise = np.random.default_rng(seed).normal(scale=0.5, size=(len(theta), 4))
    return (np.tile(theta, 2) + noise).astype("float32")


def prior():
    return tfd.Sample(tfd.Normal(0.0, 1.0), [2])


@pytest.fixture(scope="module")
def trained():
    likelihood = tfpf.inference.NeuralLikelihood(prior(), **QUICK)
    theta = prior().sample(2000, seed=(0, 1))
    likelihood.fit(theta, simulate(theta), epochs=2, **FIT)
    return likelihood


def test_log_prob_is_the_simulators_density(trained):
    theta = prior().sample(50, seed=(0, 2)).numpy()
    x = simulate(theta, seed=1)
    known = stats.norm.logpdf(x, np.tile(theta, 2), 0.5).sum(-1)
    assert np.mean(abs(trained.log_prob(x, theta) - known)) < 0.25


def test_draws_are_those_of_the_posterior(trained):
    x = np.array([1.0, -2.0, 0.6, -1.0], "float32")
    draws = trained.sample(x, 2000, seed=3)
    precision = 1.0 + 2.0 / 0.25
    mean = np.array([1.6, -3.0]) / 0.25 / precision
    np.testing.assert_allclose(tf.reduce_mean(draws, 0), mean, atol=0.12)
    np.testing.assert_allclose(tf.math.reduce_std(draws, 0), precision**-0.5, rtol=0.15)
    np.testing.assert_array_equal(draws, trained.sample(x, 2000, seed=3))
    trained.sample(x + 0.5, 2000, seed=4)
    move = trained._density.traced(trained._move)
    assert move.experimental_get_tracing_count() == 1


def test_whole_numbers_have_probabilities():
    shape = tfd.Sample(tfd.Uniform(20.0, 60.0), [1])
    theta = shape.sample(2000, seed=(0, 1)).numpy()
    counts = np.random.default_rng(0).poisson(theta)
    likelihood = tfpf.inference.NeuralLikelihood(shape, **QUICK)
    likelihood.fit(theta, counts, epochs=8, **FIT)
    at = np.array([[30.0], [40.0], [50.0]], "float32")
    known = stats.poisson.logpmf(40, at[:, 0])
    np.testing.assert_allclose(likelihood.log_prob([40], at), known, atol=0.4)


@pytest.mark.slow
def test_rounds_draw_from_the_present_posterior():
    likelihood = tfpf.inference.NeuralLikelihood(prior(), **QUICK)
    x = np.array([1.0, -2.0, 0.6, -1.0], "float32")
    seen = []

    def simulator(theta):
        seen.append(np.asarray(theta))
        return simulate(theta)

    likelihood.fit_rounds(simulator, x, rounds=2, simulations=300, epochs=10, verbose=0)
    assert seen[0].std(0).min() > 0.8
    assert seen[1].std(0).max() < 0.6


@pytest.mark.parametrize("kind", ["normal", "skewed", "counts", "heavy", "constant"])
def test_scaling_is_one_to_one_and_knows_its_volume(kind):
    rng = np.random.default_rng(0)
    x = {
        "normal": lambda: rng.normal(5.0, 3.0, [500, 2]),
        "skewed": lambda: np.exp(rng.normal(0.0, 2.0, [500, 2])),
        "counts": lambda: 1 + rng.poisson(np.exp(rng.normal(2.0, 2.0, [500, 2]))),
        "heavy": lambda: rng.standard_t(1.5, [500, 2]),
        "constant": lambda: np.ones([500, 2]),
    }[kind]()
    scaling = Scaling.of(x)
    y = scaling(x)
    assert np.isfinite(y).all()
    assert abs(y).max() < 9.0
    if kind != "constant":
        assert (np.argsort(y[:100, 0]) == np.argsort(x[:100, 0])).mean() > 0.9
    h = 1e-4 * np.abs(x).clip(1e-3)
    slope = np.log((scaling(x + h) - scaling(x - h)) / (2 * h))
    np.testing.assert_allclose(
        scaling.log_det(x)[:100], slope.sum(-1)[:100], rtol=0.02, atol=1e-6
    )


def test_parameters_are_cast_to_the_prior_s_dtype():
    one = tfd.JointDistributionNamed({"mean": tfd.Normal(0.0, 1.0)})
    theta = {"mean": np.random.default_rng(0).normal(size=50)}
    likelihood = tfpf.inference.NeuralLikelihood(one, hidden_units=(4,), steps=1)
    likelihood.fit(theta, theta["mean"], epochs=1, **FIT)
    assert likelihood.log_prob([0.1], {"mean": 0.2}).dtype == tf.float32
    assert likelihood.models[0].distribution.dtype == tf.float32  # as `sample` needs


def test_wrong_data_are_named(trained):
    with pytest.raises(ValueError, match="`x` must be finite and of shape"):
        trained.sample([1.0, 2.0], 10)
    with pytest.raises(ValueError, match="`particles` must be at least"):
        trained.sample(np.zeros(4), 10, particles=5)
    with pytest.raises(ValueError, match="must be trained"):
        tfpf.inference.NeuralLikelihood(prior()).log_prob(np.zeros(4), np.zeros(2))
    images = np.zeros((20, 3, 3), "float32")
    with pytest.raises(ValueError, match="`x` must be vectors"):
        tfpf.inference.NeuralLikelihood(prior()).fit(np.zeros((20, 2)), images)
