"""The bound lies below a likelihood that is known, and closes in on it."""

import numpy as np
import pytest

from tfp_flows import latent

X = np.random.default_rng(0).uniform(0.0, 4.0, (64, 2, 2, 1)).astype("float32")


def test_exact_posterior_gives_the_likelihood_with_every_draw(linear):
    vae = linear.vae()
    expected = linear.log_prob(X)
    for seed in (1, (2, 3)):
        np.testing.assert_allclose(vae.elbo(X, seed), expected, atol=2e-4)
    np.testing.assert_allclose(
        latent.importance_weighted_bound(vae, X, k=3, seed=4), expected, atol=2e-4
    )


@pytest.mark.parametrize("kind", ["vae", "latent_flow"])
def test_more_draws_close_in_from_below(linear, kind):
    model = linear.vae(width_factor=0.8) if kind == "vae" else linear.latent_flow()
    # Many copies of few images: the mean over draws, not a single draw, is a bound.
    few, copies = X[:4], 400
    expected = linear.log_prob(few)
    many = np.repeat(few, copies, axis=0)

    def mean(k):
        bounds = latent.importance_weighted_bound(model, many, k=k, seed=k)
        return bounds.reshape(4, copies).mean(axis=1)

    one, eight, hundred = mean(1), mean(8), mean(100)
    assert np.all(one < eight)
    assert np.all(eight < hundred + 0.03)
    assert np.all(hundred < expected + 0.02)
    np.testing.assert_allclose(hundred, expected, atol=0.05)
    assert np.all(one < expected - 0.02)


def test_one_draw_is_the_elbo(linear):
    model = linear.latent_flow()
    drawn = latent.importance_weighted_bound(model, np.repeat(X, 20, axis=0), k=1)
    elbo = model.elbo(np.repeat(X, 20, axis=0), seed=9)
    np.testing.assert_allclose(drawn.mean(), np.mean(elbo), atol=0.1)


def test_equal_seeds_give_equal_bounds(linear):
    model = linear.latent_flow()
    first, again, other = (
        latent.importance_weighted_bound(model, X, k=2, seed=seed) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize("k", [0, 1.5, True])
def test_wrong_k_is_named(linear, k):
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
        latent.importance_weighted_bound(linear.vae(), X, k=k)


def test_wrong_images_are_named(linear):
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, 2, 2, 1\]"):
        latent.importance_weighted_bound(linear.vae(), X[:, :1])
