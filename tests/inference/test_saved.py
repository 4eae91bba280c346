"""Estimators in files, and the picture of a posterior."""

import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions


def box(high):
    return tfd.Sample(tfd.Uniform(-1.0, high), [2])


def pairs(prior, n=200):
    theta = prior.sample(n, seed=(0, 1))
    return theta, theta + tfd.Normal(0.0, 0.1).sample([n, 2], seed=(0, 2))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = tfpf.inference.NeuralPosterior(box(1.0), steps=1, members=2)
    made.fit(*pairs(box(1.0)), epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("saved") / "posterior.keras"
    made.save(path)
    return made, path


def test_a_loaded_posterior_is_the_saved_one(saved):
    made, path = saved
    again = tfpf.inference.NeuralPosterior(box(1.0))
    again.load(path)
    theta, x = pairs(box(1.0), 20)
    np.testing.assert_array_equal(again(x).log_prob(theta), made(x).log_prob(theta))


def test_what_does_not_fit_is_refused(saved, tmp_path):
    _, path = saved
    with pytest.raises(ValueError, match=r"`path` must name.*same support"):
        tfpf.inference.NeuralPosterior(box(2.0)).load(path)
    with pytest.raises(ValueError, match=r"`path` must name a file with a NeuralL"):
        tfpf.inference.NeuralLikelihood(box(1.0)).load(path)
    tfpf.save_distribution(box(1.0), tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"with a NeuralPosterior. Received: a Saved"):
        tfpf.inference.NeuralPosterior(box(1.0)).load(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"must be trained before it is saved"):
        tfpf.inference.NeuralPosterior(box(1.0)).save(tmp_path / "none.keras")


def test_the_picture_has_a_panel_for_each_pair():
    draws = np.random.default_rng(0).normal(size=(500, 3))
    figure = tfpf.inference.posterior_figure(
        draws, 3 * draws, names=["a", "b", "c"], truth=[0.0, 1.0, 2.0]
    )
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 6
    assert [axes.get_xlabel() for axes in figure.axes[6:]] == ["a", "b", "c"]
    assert len(tfpf.inference.posterior_figure(draws[:, :1]).axes) == 1
    with pytest.raises(ValueError, match=r"`truth` must be of 3 values.*Received: 2"):
        tfpf.inference.posterior_figure(draws, truth=[0.0, 1.0])
    with pytest.raises(ValueError, match="`draws` must be finite"):
        tfpf.inference.posterior_figure(draws * np.nan)
