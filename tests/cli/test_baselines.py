"""The two baselines against scikit-learn and SciPy, and against known densities."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.naive_bayes import CategoricalNB

from tfp_flows import data as flow_data
from tfp_flows.cli import scoring

RNG = np.random.default_rng(0)


def batches(x):
    return np.array_split(x, 7)


def test_gaussian_is_the_maximum_likelihood_one():
    x = RNG.normal(size=(500, 4)) @ RNG.normal(size=(4, 4)) + 1e4
    train, test = x[:400], x[400:]
    mle = multivariate_normal(train.mean(axis=0), np.cov(train.T, bias=True))
    nll = scoring.gaussian_nll(batches(train), batches(test))
    assert nll == pytest.approx(-mle.logpdf(test).mean(), rel=1e-5)


def test_gaussian_survives_columns_that_determine_each_other():
    x = RNG.normal(size=(300, 2))
    x = np.c_[x, x @ [2.0, -1.0]]
    assert np.isfinite(scoring.gaussian_nll(batches(x), batches(x)))


def test_gaussian_of_images():
    x = RNG.normal(size=(300, 4, 4, 1))
    nll = scoring.gaussian_nll(batches(x), batches(x))
    assert nll == pytest.approx(16 * 0.5 * np.log(2 * np.pi * np.e), rel=0.05)


def test_histogram_is_that_of_scikit_learn():
    """A naive Bayes classifier with one class is a product of histograms."""
    digits = load_digits().data.astype(np.uint8)
    train, test = digits[:1500], digits[1500:]
    peer = CategoricalNB(alpha=1.0, min_categories=17).fit(train, np.zeros(1500))
    table = np.stack([table[0] for table in peer.feature_log_prob_])
    expected = -table[np.arange(64), test].sum(axis=1).mean()
    nll = scoring.histogram_nll(train, test, 17)
    assert nll == pytest.approx(expected, rel=1e-9)


def test_histogram_knows_values_that_training_never_showed():
    train = np.zeros([10, 2, 2, 1], np.uint8)
    test = np.full([1, 2, 2, 1], 3, np.uint8)
    nll = scoring.histogram_nll(train, test, 4)
    assert nll == pytest.approx(4 * np.log(14.0))


def test_digits_baselines_are_the_documented_ones():
    data = flow_data.load("digits")
    gaussian = scoring.bits(scoring.gaussian_nll(*data), data.event_shape)
    histogram = scoring.histogram_nll(data.x_train, data.x_test, data.pixel_levels)
    assert gaussian == pytest.approx(2.93, abs=0.05)
    assert scoring.bits(histogram, data.event_shape) == pytest.approx(2.42, abs=0.05)
