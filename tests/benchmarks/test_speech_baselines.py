"""AR baselines: against a formula by hand, a covariance matrix, and a known process."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfp_flows as tfpf
from benchmarks.speech import baselines

tfd = tfp.distributions
A = np.array([1.5, -0.8])


def process(n, length, seed, deviation=0.1):
    """An AR(2) that has run for long before it is heard."""
    noise = deviation * np.random.default_rng(seed).normal(size=[n, length + 200])
    y = np.zeros_like(noise)
    for t in range(2, y.shape[1]):
        y[:, t] = noise[:, t] + A[0] * y[:, t - 1] + A[1] * y[:, t - 2]
    return 0.02 + y[:, 200:]


def by_hand(train, x):
    """AR(1), written out: two regressions, and a sum over the samples."""
    m = train.mean()
    y, now, before = train - m, (train - m)[:, 1:], (train - m)[:, :-1]
    a = np.sum(now * before) / np.sum(before**2)
    s0, s1 = np.sqrt(np.mean(y[:, 1:] ** 2)), np.sqrt(np.mean((now - a * before) ** 2))
    total = []
    for row in x - m:
        first = -0.5 * (row[0] / s0) ** 2 - np.log(s0) - 0.5 * np.log(2 * np.pi)
        others = sum(
            -0.5 * ((row[t] - a * row[t - 1]) / s1) ** 2
            - np.log(s1)
            - 0.5 * np.log(2 * np.pi)
            for t in range(1, len(row))
        )
        total.append((first + others) / len(row))
    return np.array(total)


def test_order_one_is_the_formula_by_hand():
    train, test = process(10, 60, 0), process(4, 60, 1)
    found = baselines.autoregression(train, 1).nats_per_sample(test)
    np.testing.assert_allclose(found, by_hand(train, test), rtol=1e-10)


def test_order_ten_is_a_normal_distribution_of_windows():
    """The same density, from the covariance of the whole window."""
    train, test = process(50, 40, 0), process(4, 40, 1)
    model = baselines.autoregression(train, 10)
    mean, coefficients, deviations = model.filters
    whitening = np.eye(40)
    for t in range(40):
        k = min(t, 10)
        for j in range(1, k + 1):
            whitening[t, t - j] = -coefficients[k, j - 1]
        whitening[t] /= deviations[k]
    covariance = np.linalg.inv(whitening.T @ whitening)
    expected = stats.multivariate_normal(np.full(40, mean), covariance).logpdf(test)
    np.testing.assert_allclose(model.nats_per_sample(test), expected / 40, rtol=1e-8)


def test_least_squares_is_numpys():
    train = process(5, 100, 2)
    filters = baselines.autoregression(train, 3).filters
    y = train - train.mean()
    columns = [y[:, 3 - j : 100 - j].ravel() for j in range(4)]
    design, now = np.stack(columns[1:], axis=1), columns[0]
    best, squares, *_ = np.linalg.lstsq(design, now, rcond=None)
    np.testing.assert_allclose(filters.coefficients[3], best, rtol=1e-6)
    assert filters.deviations[3] == pytest.approx(np.sqrt(squares[0] / len(now)))


def test_it_finds_a_process_and_its_entropy():
    train, test = process(200, 400, 3), process(50, 400, 4)
    model = baselines.autoregression(train, 10)
    expected = np.pad(A, [0, 8])
    np.testing.assert_allclose(model.filters.coefficients[-1], expected, atol=0.02)
    assert model.filters.deviations[-1] == pytest.approx(0.1, rel=0.01)
    entropy_rate = np.log(0.1) + 0.5 * np.log(2 * np.pi * np.e)
    assert model.mean_nats(test) == pytest.approx(-entropy_rate, abs=0.02)
    alone = baselines.gaussian(train)
    expected = np.mean(stats.norm(train.mean(), train.std()).logpdf(test))
    assert alone.mean_nats(test) == pytest.approx(expected, abs=1e-6)
    assert alone.mean_nats(test) < model.mean_nats(test) - 0.8


def test_one_that_has_seen_the_answer_is_better():
    train, test = process(50, 200, 5), process(10, 200, 6)
    fitted = baselines.autoregression(train, 10).nats_per_sample(test)
    own = baselines.own_autoregression(test, 10)
    assert own.shape == fitted.shape
    assert np.all(own > fitted - 0.02)
    assert own.mean() > fitted.mean()


def test_the_filter_as_a_bijector_has_the_same_density():
    train, test = process(50, 60, 7), process(6, 60, 8)
    bijector = tfpf.speech.LinearPrediction(10, dtype="float64")
    bijector.adapt(tf.constant(train))
    base = tfd.Sample(tfd.Normal(np.float64(0), np.float64(1)), 60)
    flow = tfd.TransformedDistribution(base, bijector)
    expected = baselines.autoregression(train, 10).nats_per_sample(test)
    np.testing.assert_allclose(flow.log_prob(tf.constant(test)) / 60, expected)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        (np.zeros([3, 100]), "more than silence"),
        (np.zeros([3, 5]), "at least 11 samples"),
        (np.zeros(100), r"shape \(100,\)"),
        (np.full([2, 100], np.nan), "finite audio"),
    ],
)
def test_wrong_windows_are_named(windows, words):
    with pytest.raises(ValueError, match=words):
        baselines.autoregression(windows, 10)


def test_nothing_is_predicted_before_it_is_fitted():
    with pytest.raises(RuntimeError, match="Call `fit"):
        baselines.Autoregression(2).nats_per_sample(np.ones([2, 10]))
