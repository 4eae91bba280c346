"""The mixture as a bijector: laws, its density, far tails, wide gaps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.distributions.bases import standard_logistic
from tfp_flows.nets.sequence import code_table

tfd = tfp.distributions


def mixture(d=3, components=6, dtype="float64", scale=0.4, seed=1):
    """A mixture with components somewhere and weights that depend on conditions."""
    net = keras.layers.Dense(components, dtype=dtype)
    bijector = tfpf.text.ConditionalMixture(
        d, net, components=components, condition_shape=(2,), scale=scale, dtype=dtype
    )
    for k, weight in enumerate(bijector.trainable_variables):
        noise = tf.random.stateless_normal(weight.shape, [seed, k], dtype=weight.dtype)
        weight.assign_add(0.3 * noise)
    return bijector


@pytest.fixture
def conditions():
    return tf.constant(np.random.default_rng(0).normal(size=(6, 2)))


def test_directions_are_inverse_and_log_dets_exact(conditions, jacobian_log_det):
    bijector = mixture()
    x = np.random.default_rng(1).logistic(size=(6, 3))
    y = bijector.forward(x, condition=conditions)
    np.testing.assert_allclose(bijector.inverse(y + 0.0, condition=conditions), x)
    fldj = bijector.forward_log_det_jacobian(x, condition=conditions)
    ildj = bijector.inverse_log_det_jacobian(y + 0.0, condition=conditions)
    np.testing.assert_allclose(ildj, -fldj, rtol=1e-9)
    there = jacobian_log_det(
        lambda v, c: bijector.forward(v, condition=c), x, conditions
    )
    back = jacobian_log_det(
        lambda v, c: bijector.inverse(v, condition=c), y, conditions
    )
    np.testing.assert_allclose(there, fldj, rtol=1e-8)
    np.testing.assert_allclose(back, ildj, rtol=1e-8)


@pytest.mark.slow
def test_it_keeps_all_laws(conditions):
    x = np.random.default_rng(1).logistic(size=(6, 3))
    report = tfpf.check_bijector(mixture(), x, condition=conditions)
    assert report.ok, str(report)


@pytest.mark.slow
def test_it_keeps_all_laws_in_float32(conditions):
    x = np.random.default_rng(1).logistic(size=(6, 3)).astype("float32")
    report = tfpf.check_bijector(mixture(dtype="float32"), x, condition=conditions)
    assert report.ok, str(report)


def test_density_is_that_of_tfps_mixture(conditions):
    bijector = mixture()
    dense, table = bijector._conditioner, bijector._table
    locations, log_scales = np.split(np.array(table.embeddings), 2, axis=-1)
    components = tfd.Independent(tfd.Logistic(locations, np.exp(log_scales)), 1)
    exact = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.convert_to_tensor(dense(conditions))), components
    )
    y = exact.sample(50, seed=(0, 1))
    flow = tfd.TransformedDistribution(standard_logistic((3,), "float64"), bijector)
    log_p = tfpf.condition(flow, conditions).log_prob(y)
    np.testing.assert_allclose(log_p, exact.log_prob(y), rtol=1e-9)


def test_samples_fill_the_components_by_their_weights():
    bijector = mixture(scale=0.05)
    dense, table = bijector._conditioner, bijector._table
    c = tf.constant([[0.5, -1.0]], tf.float64)
    flow = tfd.TransformedDistribution(standard_logistic((3,), "float64"), bijector)
    drawn = tfpf.condition(flow, c).sample(4_000, seed=(0, 2))[:, 0].numpy()
    locations = np.split(np.array(table.embeddings), 2, axis=-1)[0]
    nearest = np.argmin(((drawn[:, None] - locations) ** 2).sum(-1), axis=1)
    shares = np.bincount(nearest, minlength=6) / len(drawn)
    np.testing.assert_allclose(shares, tf.nn.softmax(dense(c))[0], atol=0.03)


def test_tails_and_gaps_stay_finite():
    bijector = mixture(dtype="float32", scale=0.01)
    c = tf.zeros([5, 2])
    far = tf.constant([[0.0] * 3, [1e4] * 3, [-1e4] * 3, [3.0, -50.0, 0.2], [0.5] * 3])
    x = bijector.inverse(far, condition=c)
    ildj = bijector.inverse_log_det_jacobian(far, condition=c)
    assert np.all(np.isfinite(x))
    assert np.all(np.isfinite(ildj))
    z = tf.constant([[40.0] * 3, [-40.0] * 3, [0.0] * 3, [7.0, -3.0, 0.1], [1e-7] * 3])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = bijector.forward(z, condition=c)
        total = tf.reduce_sum(y)
    assert np.all(np.isfinite(y))
    assert np.all(np.isfinite(tape.gradient(total, z)))


def test_one_component_is_an_affine_map():
    net = keras.layers.Dense(1, dtype="float64")
    one = tfpf.text.ConditionalMixture(
        2, net, components=1, condition_shape=(1,), scale=0.5, dtype="float64"
    )
    z = tf.constant([[1.0, -2.0], [30.0, 0.0]], tf.float64)
    c = tf.zeros([2, 1], tf.float64)
    np.testing.assert_allclose(one.forward(z, condition=c), -1.0 + 0.5 * z, rtol=1e-12)
    np.testing.assert_allclose(
        one.forward_log_det_jacobian(z, condition=c), 2 * np.log([0.5, 0.5]), rtol=1e-12
    )


def test_embeddings_start_at_corners():
    table = np.array(code_table(5, 3, 0.25).embeddings)
    corners, log_scales = np.split(table, 2, axis=-1)
    assert set(np.unique(corners)) == {-1.0, 1.0}
    assert len(np.unique(corners, axis=0)) == 5
    np.testing.assert_allclose(np.exp(log_scales), 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"components": 9}, "at least 4 for 9 embeddings"),
        ({"components": 0}, "`components` must be an integer"),
        ({"components": 4, "scale": 0.0}, "`scale` must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tfpf.text.ConditionalMixture(
            3, keras.layers.Dense(arguments["components"] or 1),
            condition_shape=(2,), **arguments
        )  # fmt: skip


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match=r"must have shape \[..., 3\]"):
        mixture().inverse(np.zeros([2, 4]), condition=np.zeros([2, 2]))
