"""The toy sets' densities against their samples, and entropies against both."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from tfp_flows.data import toy

SETS = sorted(toy.TOY_SETS)


@pytest.mark.parametrize("name", SETS)
def test_samples_follow_the_density(name):
    """Counts in a grid of cells agree with the density's mass there (chi-squared)."""
    n, cells, fine = 100_000, 16, 12
    x = toy.sample(name, n, seed=3).astype(np.float64)
    edges = np.linspace(-4.0, 4.0, cells + 1)
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=[edges, edges])
    # Midpoints of fine x fine sub-cells integrate the density over each cell.
    step = 8.0 / (cells * fine)
    middle = -4.0 + step * (np.arange(cells * fine) + 0.5)
    grid = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1)
    p = np.exp(toy.log_density(name, grid)) * step**2
    mass = p.reshape(cells, fine, cells, fine).sum(axis=(1, 3))
    expected = n * mass
    full = expected > 25
    z = (counts[full] - expected[full]) / np.sqrt(expected[full])
    assert np.mean(z**2) < 1.5
    assert np.abs(z).max() < 6.0
    assert counts[~full].sum() < 30 * (~full).sum()


@pytest.mark.parametrize("name", SETS)
def test_density_integrates_to_one(name):
    axis = np.linspace(-6.0, 6.0, 401) + 1e-3
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    rows = [trapezoid(np.exp(toy.log_density(name, row)), axis) for row in grid]
    # The checkerboard jumps at its edges, where the rule is first order only.
    tolerance = 2e-2 if name == "checkerboard" else 1e-4
    assert trapezoid(rows, axis) == pytest.approx(1.0, abs=tolerance)


@pytest.mark.parametrize("name", SETS)
def test_entropy_is_the_mean_negative_log_density(name):
    minus_log_p = -toy.log_density(name, toy.sample(name, 50_000, seed=5))
    finite = minus_log_p[np.isfinite(minus_log_p)]
    assert len(finite) >= 0.9999 * len(minus_log_p)
    error = np.std(finite) / np.sqrt(len(finite)) + 1e-6
    assert abs(np.mean(finite) - toy.true_entropy(name)) < 4.5 * error


def test_checkerboard_entropy_is_exact():
    assert toy.true_entropy("checkerboard") == pytest.approx(np.log(32.0), abs=1e-12)


def test_eight_gaussians_entropy_lies_just_below_that_of_separate_ones():
    separate = np.log(8.0) + np.log(2 * np.pi * np.e * 0.125)
    overlap = separate - toy.true_entropy("eight_gaussians")
    assert 0.0 < overlap < 0.02


@pytest.mark.parametrize("name", SETS)
def test_seeds(name):
    assert np.array_equal(toy.sample(name, 50, seed=1), toy.sample(name, 50, seed=1))
    assert not np.array_equal(toy.sample(name, 50, 1), toy.sample(name, 50, 2))
    assert toy.sample(name, 0).shape == (0, 2)
    assert toy.sample(name, 7).dtype == np.float32


def test_far_points_have_a_finite_density():
    for name in set(SETS) - {"checkerboard"}:
        assert np.all(np.isfinite(toy.log_density(name, np.array([[60.0, -80.0]]))))


def test_density_keeps_the_batch_shape():
    for name in SETS:
        assert toy.log_density(name, np.zeros([2])).shape == ()
        assert toy.log_density(name, np.zeros([3, 4, 2])).shape == (3, 4)


def test_wrong_arguments():
    for call in (toy.true_entropy, lambda name: toy.sample(name, 2)):
        with pytest.raises(ValueError, match="`name` must be one of 'two_moons'"):
            call("three_moons")
    with pytest.raises(ValueError, match=r"`x` must have the shape \[..., 2\]"):
        toy.log_density("rings", np.zeros([5, 3]))
