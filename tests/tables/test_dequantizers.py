"""Dequantizers: values survive, densities are right, bounds are bounds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, stats

from tfp_flows.tables import (
    ArgmaxDequantizer,
    IntegerDequantizer,
    RealDequantizer,
    TableDistribution,
)

tfd = tfp.distributions

MEANS, SCALE = np.array([0.3, -0.5, 1.0]), 1.3


def argmax_dequantizer(categories=3):
    """An argmax dequantizer with weights that differ from those at the start."""
    each = ArgmaxDequantizer(categories, dtype="float64")
    rng = np.random.default_rng(0)
    each.mean.assign(rng.normal(size=each.mean.shape))
    each.log_width.assign(0.3 * rng.normal(size=each.mean.shape))
    return each


def normals(means, scale):
    components = tfd.Normal(np.float64(means), np.float64(scale))
    return tfd.Independent(components, 1)


@pytest.mark.parametrize(
    ("each", "x"),
    [
        (RealDequantizer(dtype="float64"), [-1.5, 0.0, 1e9]),
        (IntegerDequantizer(dtype="float64"), [-3.0, 0.0, 2.0**40]),
        (argmax_dequantizer(), [0.0, 1.0, 2.0]),
    ],
)
def test_values_survive(each, x):
    x = tf.repeat(tf.constant(x, tf.float64), 1000)
    v, log_q = each.dequantized(x, seed=(0, 1))
    assert v.shape == (3000, each.width)
    assert log_q.shape == (3000,)
    np.testing.assert_array_equal(each.quantized(v), x)


def test_noise_never_rounds_up_to_the_next_whole_number():
    x = tf.constant([255.0, 2.0**22] * 100_000, tf.float32)
    each = IntegerDequantizer()
    np.testing.assert_array_equal(
        each.quantized(each.dequantized(x, seed=(0, 1))[0]), x
    )


def test_samples_of_integers_keep_to_their_bounds():
    v = tf.constant([[-4.2], [0.9], [8.0]], tf.float64)
    assert IntegerDequantizer(0.0, 5.0).quantized(v).numpy().tolist() == [0.0, 0.0, 5.0]
    assert IntegerDequantizer().quantized(v).numpy().tolist() == [-5.0, 0.0, 8.0]


@pytest.mark.parametrize("category", [0, 1])
def test_density_of_argmax_coordinates(category):
    # The mean of 1 / q over draws in a box is the box's share of the category's
    # region: here half of a square, which the diagonal cuts.
    each = argmax_dequantizer(2)
    x = tf.fill([400_000], np.float64(category))
    v, log_q = (t.numpy() for t in each.dequantized(x, seed=(0, category)))
    inside = np.all(np.abs(v) < 0.7, axis=1)
    weights = np.where(inside, np.exp(-log_q), 0.0)
    error = weights.std() / np.sqrt(len(weights))
    assert error < 0.01
    assert abs(weights.mean() - 0.5 * 1.4**2) < 4.0 * error


def exact_argmax():
    """`P(argmax v = k)` of independent normals, by quadrature."""

    def integrand(t, k):
        others = np.delete(MEANS, k)
        below = np.prod(stats.norm.cdf(t, others, SCALE))
        return stats.norm.pdf(t, MEANS[k], SCALE) * below

    return [integrate.quad(integrand, -12, 12, args=(k,))[0] for k in range(3)]


def exact_integers(x):
    return np.diff(stats.norm.cdf([x, x + 1], 1.3, 0.6), axis=0)[0]


@pytest.mark.parametrize("draws", [1, 4])
def test_bound_of_categories_is_below_the_exact_value_and_reaches_it(draws):
    exact = np.log(exact_argmax())
    np.testing.assert_allclose(np.exp(exact).sum(), 1.0, atol=1e-8)
    table = TableDistribution(normals(MEANS, SCALE), [argmax_dequantizer()])
    x = tf.constant([[0.0], [1.0], [2.0]], tf.float64)
    many = table.bound(tf.repeat(x, 4_000, axis=0), draws, seed=(0, 1))
    many = many.numpy().reshape(3, 4_000)
    error = many.std(axis=1) / np.sqrt(4_000)
    assert np.all(many.mean(axis=1) + 4.0 * error < exact)
    np.testing.assert_allclose(table.bound(x, 100_000, (0, 2)), exact, atol=0.02)


def test_bound_of_integers_is_below_the_exact_value_and_reaches_it():
    x = np.array([0.0, 1.0, 3.0])
    exact = np.log(exact_integers(x))
    each = IntegerDequantizer(dtype="float64")
    table = TableDistribution(normals([1.3], 0.6), [each])
    rows = tf.constant(x[:, None])
    many = table.bound(tf.repeat(rows, 4_000, axis=0), 1, seed=(0, 1))
    many = many.numpy().reshape(3, 4_000)
    error = many.std(axis=1) / np.sqrt(4_000)
    assert np.all(many.mean(axis=1) + 4.0 * error < exact)
    np.testing.assert_allclose(table.bound(rows, 100_000, (0, 2)), exact, atol=0.02)
    # What is sampled has these probabilities.
    sampled = table.sample(50_000, seed=(0, 3)).numpy()[:, 0]
    shares = [np.mean(sampled == value) for value in x]
    np.testing.assert_allclose(shares, np.exp(exact), atol=0.01)


def test_training_the_dequantizer_makes_the_bound_tight():
    table = TableDistribution(
        normals(MEANS, SCALE), [ArgmaxDequantizer(3, dtype="float64")]
    )
    x = tf.constant([[0.0], [1.0], [2.0]] * 100, tf.float64)
    variables = table.trainable_variables
    assert len(variables) == 2

    def gap():
        tight = table.bound(x, 50, (0, 1))
        return float(tf.reduce_mean(tight) - mean_of_one_draw((0, 1), 50))

    @tf.function(autograph=False)
    def mean_of_one_draw(seed, times=1):
        return tf.reduce_mean(table.bound(tf.repeat(x, times, axis=0), 1, seed))

    before = gap()
    for step in range(60):
        with tf.GradientTape() as tape:
            loss = -mean_of_one_draw(tf.constant([1, step]))
        slopes = tape.gradient(loss, variables)
        for variable, slope in zip(variables, slopes, strict=True):
            variable.assign_sub(0.5 * slope)
    assert 0.0 <= gap() < 0.7 * before


def test_a_dequantizer_that_is_not_learned_has_no_trainable_weights():
    assert ArgmaxDequantizer(3, learned=False).trainable_weights == []


def test_files_know_dequantizers_by_their_old_names():
    config = keras.saving.serialize_keras_object(ArgmaxDequantizer(3))
    assert config["registered_name"] == "tfp_flows>ArgmaxLift"
    assert keras.saving.deserialize_keras_object(config).categories == 3
    old = {"flow": normals([0.0], 1.0), "lifts": [IntegerDequantizer()]}
    assert len(TableDistribution.from_config(old).dequantizers) == 1


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`categories` must be an integer of at least"):
        ArgmaxDequantizer(1)
    with pytest.raises(
        ValueError, match="`flow` must be a distribution of vectors of 3"
    ):
        TableDistribution(normals([0.0, 0.0], 1.0), [ArgmaxDequantizer(3)])


def test_bounds_keep_their_digits():
    each = IntegerDequantizer(low=20250101.0, high=20261231.0, dtype="float64")
    found = each.quantized(tf.constant([[3e7], [1.0]], tf.float64))
    np.testing.assert_array_equal(found, [20261231.0, 20250101.0])
