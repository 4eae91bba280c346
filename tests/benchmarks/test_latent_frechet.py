"""The Fréchet distance against closed forms, and the Gaussian it is compared with."""

import numpy as np
import pytest
import scipy.linalg

from benchmarks.latent.frechet import fitted_gaussian
from tfp_flows.images import frechet_distance

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 3))
# Without covariance between columns, so that covariances of scalings commute.
WHITE = np.linalg.qr(RNG.normal(size=(500, 3)) - 0.0)[0]
WHITE = np.linalg.qr(WHITE - WHITE.mean(axis=0))[0] * np.sqrt(499)


def test_shift_costs_its_square():
    shift = np.array([1.0, -2.0, 0.5])
    distance = frechet_distance(X, X + shift)
    np.testing.assert_allclose(distance, shift @ shift, rtol=1e-9)


def test_widths_cost_the_square_of_their_difference():
    first, second = np.array([1.0, 2.0, 0.1]), np.array([3.0, 0.5, 0.2])
    distance = frechet_distance(WHITE * first, WHITE * second)
    np.testing.assert_allclose(distance, np.sum((first - second) ** 2), rtol=1e-9)


def test_any_two_sets_follow_the_formula():
    other = RNG.normal(size=(300, 3)) @ RNG.normal(size=(3, 3)) + 0.3
    one, two = np.cov(X.T), np.cov(other.T)
    root = scipy.linalg.sqrtm(one @ two).real
    shift = X.mean(axis=0) - other.mean(axis=0)
    expected = shift @ shift + np.trace(one + two - 2.0 * root)
    np.testing.assert_allclose(frechet_distance(X, other), expected, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(other, X), expected, rtol=1e-8)


def test_equal_sets_have_none_even_where_a_column_is_constant():
    flat = np.concatenate([X, np.ones([500, 2])], axis=1)
    assert frechet_distance(flat, flat[::-1]) < 1e-6


def test_fitted_gaussian_has_the_moments():
    gaussian = fitted_gaussian(X)
    np.testing.assert_allclose(gaussian.mean(), X.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gaussian.covariance(), np.cov(X.T, bias=True), rtol=1e-3)
    drawn = gaussian.sample(20_000, seed=(1, 2))
    spread = np.trace(np.cov(X.T))
    assert frechet_distance(drawn, X) < 0.01 * spread


def test_fitted_gaussian_exists_where_a_column_is_constant():
    flat = np.concatenate([X, np.ones([500, 1])], axis=1)
    assert np.all(np.isfinite(fitted_gaussian(flat).sample(5, seed=(1, 2))))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (X[:1], X, "`first` must be finite vectors"),
        (X, X[:, 0], "`second` must be finite vectors"),
        (X, X[:, :2], "equally many columns"),
        (X * np.nan, X, "`first` must be finite vectors"),
    ],
)
def test_wrong_arguments_are_named(first, second, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(first, second)
