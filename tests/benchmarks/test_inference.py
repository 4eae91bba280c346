"""Posteriors of the benchmark: what is called exact, and flows against it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from benchmarks.inference import methods
from benchmarks.inference.problems import (
    EFFECTS,
    ERRORS,
    PROBLEMS,
    eight_schools,
    funnel,
)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(m, marks=pytest.mark.slow if n == "logistic_regression" else [])
        for n, m in PROBLEMS.items()
    ],
)
def test_densities_take_batches(make):
    problem = make()
    flat = tfpf.flat_target(problem.target)
    assert flat.size == problem.size == len(problem.labels)
    start = tf.constant(problem.start, tf.float32)
    values = flat.log_prob(tf.tile(start[tf.newaxis], [3, 1]))
    np.testing.assert_allclose(values, [flat.log_prob(start)] * 3, rtol=1e-5)
    draw = flat.unpack.forward(tf.tile(start[tf.newaxis], [3, 1]))
    assert problem.flat(draw).shape == (3, problem.size)


def test_the_evidence_of_eight_schools_by_draws_from_the_prior():
    """The grid's evidence and means against plain importance sampling."""
    rng = np.random.default_rng(0)
    n = 400_000
    mu, tau = rng.normal(0.0, 10.0, n), np.exp(rng.normal(2.0, 1.0, n))
    variance = ERRORS**2 + tau[:, np.newaxis] ** 2
    log_weight = -0.5 * (
        (EFFECTS - mu[:, np.newaxis]) ** 2 / variance + np.log(2 * np.pi * variance)
    ).sum(axis=1)
    weight = np.exp(log_weight)
    problem = eight_schools()
    error = 4.0 * weight.std() / weight.mean() / np.sqrt(n)
    assert abs(np.log(weight.mean()) - problem.log_evidence) < error
    share = weight / weight.sum()
    for k, values in enumerate((mu, tau)):
        spread = np.sqrt((share**2 * (values - problem.means[k]) ** 2).sum())
        assert abs((share * values).sum() - problem.means[k]) < 4.0 * spread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "largest_gap"), [(eight_schools, 0.15), (funnel, 0.4)]
)
def test_surrogate_and_neutra_agree_with_the_truth_and_long_hmc(make, largest_gap):
    """Stated errors: four standard errors of Monte Carlo, and `largest_gap` nats."""
    keras.utils.set_random_seed(0)
    problem = make()
    flow = methods.iaf(problem)
    methods.fit(problem, flow, steps=2000)
    _, log_weights = methods.weighed(problem, flow)
    error = 4.0 * log_weights.std() / np.sqrt(len(log_weights))
    gap = problem.log_evidence - log_weights.mean()
    assert -error < gap < largest_gap + error
    values, _ = methods.hmc(problem, bijector=flow.bijector, draws=800, burn_in=500)
    sizes = methods.ess(values)
    # The funnel's other values have tails too heavy for an error of their means.
    known = slice(0, 1) if problem.name == "funnel" else slice(0, problem.size)
    assert methods.rhat(values)[known].max() < 1.1  # plain HMC: 1.5
    off = np.abs(values.mean(axis=(0, 1)) - problem.means)[known]
    assert np.all(off < 4.0 * (problem.deviations / np.sqrt(sizes))[known])
    if problem.name == "eight_schools":
        long, _ = methods.hmc(
            problem, bijector=tfp.bijectors.Identity(), draws=4000, burn_in=1000
        )
        between = np.abs(values.mean(axis=(0, 1)) - long.mean(axis=(0, 1)))
        error = problem.deviations * np.sqrt(1.0 / sizes + 1.0 / methods.ess(long))
        assert np.all(between < 4.0 * error)
