"""Pixel likelihoods against scipy, and as probabilities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_flows.latent import PixelLikelihood

RNG = np.random.default_rng(0)
OUTPUT = RNG.uniform(-0.6, 0.6, (3, 2, 2, 1)).astype("float32")
X = RNG.uniform(0.0, 17.0, (3, 2, 2, 1)).astype("float32")


def test_gaussian_is_a_density_of_pixel_values():
    likelihood = PixelLikelihood("gaussian", 17, scale=0.2)
    normal = scipy.stats.norm(17 * (OUTPUT + 0.5), 17 * 0.2)
    expected = normal.logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(likelihood.log_prob(X, OUTPUT), expected, rtol=1e-5)


def test_logistic_is_a_probability_of_whole_values():
    likelihood = PixelLikelihood("logistic", 17, scale=0.05)
    logistic = scipy.stats.logistic(17 * (OUTPUT + 0.5), 17 * 0.05)
    value = np.floor(X)
    upper = np.where(value == 16, 1.0, logistic.cdf(value + 1))
    lower = np.where(value == 0, 0.0, logistic.cdf(value))
    expected = np.log(upper - lower).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(likelihood.log_prob(X, OUTPUT), expected, rtol=1e-4)


@pytest.mark.parametrize("center", [-3.0, -0.5, 0.1, 0.49, 2.0])
def test_probabilities_of_a_pixel_sum_to_one(center):
    likelihood = PixelLikelihood("logistic", 17, scale=0.1)
    values = np.arange(17, dtype="float32").reshape(17, 1, 1, 1) + 0.3
    output = np.full_like(values, center)
    log_prob = likelihood.log_prob(values, output)
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "logistic"])
def test_far_pixels_have_finite_likelihoods_and_gradients(kind):
    likelihood = PixelLikelihood(kind, 256, scale=0.01)
    x = tf.constant([[[[0.0], [255.9]]], [[[255.9], [128.0]]]])
    output = tf.constant([[[[0.6], [-0.6]]], [[[-5.0], [5.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(output)
        log_prob = likelihood.log_prob(x, output)
    gradients = tape.gradient(log_prob, [output, likelihood.log_scale.value])
    for values in (log_prob, *gradients):
        assert np.all(np.isfinite(values))
    assert np.all(log_prob < -50.0)


@pytest.mark.parametrize("kind", ["gaussian", "logistic"])
def test_width_finds_the_error_it_has_to_explain(kind):
    likelihood = PixelLikelihood(kind, 256, scale=0.3)
    noise = RNG.normal(scale=8.0, size=(64, 8, 8, 1)).astype("float32")
    output = np.zeros_like(noise)
    optimizer = keras.optimizers.Adam(0.1)
    weight = likelihood.log_scale

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(likelihood.log_prob(128.0 + noise, output))
        optimizer.apply_gradients([(tape.gradient(loss, weight.value), weight)])

    optimizer.build([weight])
    for _ in range(150):
        step()
    # The width of a logistic is its deviation times sqrt(3) / pi.
    expected = 8.0 if kind == "gaussian" else 8.0 * np.sqrt(3.0) / np.pi
    np.testing.assert_allclose(256 * np.exp(weight.numpy()), expected, rtol=0.1)


def test_picture_stays_in_range():
    likelihood = PixelLikelihood(pixel_levels=256)
    picture = likelihood.picture(tf.constant([[-9.0, 0.0, 0.25, 0.5, 9.0]])).numpy()
    np.testing.assert_array_equal(picture[0, 1:3], [128.0, 192.0])
    assert picture.min() == 0.0
    assert np.floor(picture.max()) == 255.0


def test_config_and_fixed_width():
    likelihood = PixelLikelihood("logistic", 17, scale=0.25, learned=False)
    assert likelihood.trainable_weights == []
    again = PixelLikelihood.from_config(likelihood.get_config())
    assert again.get_config() == likelihood.get_config()


@pytest.mark.parametrize(
    "arguments", [{"kind": "beta"}, {"pixel_levels": 0}, {"scale": -1.0}]
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        PixelLikelihood(**arguments)
