"""`FlowMatchingModel`: the loss, its optimum, and the likelihood beside it."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions


def data(n=512):
    """Points of a normal distribution away from the standard one."""
    noise = np.random.default_rng(0).normal(size=(n, 2))
    return (noise * [0.5, 1.5] + [2.0, -1.0]).astype("float32")


def model(**kwargs):
    flow = tfpf.ffjord((2,), hidden_units=(32,), solver=tfpf.FixedStep("rk4", 6))
    made = tfpf.FlowMatchingModel(flow, seed=1, **kwargs)
    made.compile(keras.optimizers.Adam(0.01), jit_compile=True)
    return made


@pytest.fixture(scope="module")
def trained():
    made = model()
    before = made.evaluate(data(), verbose=0, return_dict=True)
    history = made.fit(data(), epochs=40, batch_size=128, verbose=0).history
    return made, before, history


def test_learns_a_density_without_solving(trained):
    made, before, history = trained
    assert set(history) == {"loss", "flow_matching"}
    np.testing.assert_allclose(history["loss"], history["flow_matching"], rtol=1e-4)
    after = made.evaluate(data(), verbose=0, return_dict=True)
    assert set(after) == {"loss", "nll", "bits_per_dim", "nfe"}
    entropy = np.log(2 * np.pi * np.e) + np.log(0.5 * 1.5)
    assert after["nll"] < before["nll"] - 1.0
    assert after["nll"] == pytest.approx(entropy, abs=0.15)


def test_likelihood_is_the_flows(trained):
    made = trained[0]
    log_prob = made.distribution.log_prob(data(16))
    np.testing.assert_allclose(made.predict(data(16), verbose=0), log_prob, rtol=1e-4)


def test_saves_and_loads(trained, tmp_path):
    made = trained[0]
    made.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    assert isinstance(again, tfpf.FlowMatchingModel)
    np.testing.assert_array_equal(
        again.predict(data(16), verbose=0), made.predict(data(16), verbose=0)
    )


def test_loss_of_a_constant_velocity_is_known():
    made = model(sigma_min=0.1)
    # The zero velocity of a fresh flow: E|x_1 - 0.9 x_0|^2 for independent ends.
    x = data(20_000)
    losses = made.matching_loss(x).numpy()
    expected = np.mean(np.sum(x**2, axis=1)) + 0.81 * 2
    assert losses.mean() == pytest.approx(expected, abs=4 * float(losses.std()) / 141)


def test_data_side_is_applied_and_conditions_pass():
    net = tfpf.nets.VelocityNet((8,))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), [2]),
        tfb.Chain(
            [tfb.Scale(100.0), tfpf.ContinuousFlow(net, (2,), condition_shape=(1,))]
        ),
    )
    made = tfpf.FlowMatchingModel(flow, seed=1)
    made.compile("adam")
    x, c = 100 * data(64), np.ones((64, 1), "float32")
    history = made.fit(x, c, epochs=1, verbose=0).history
    assert history["flow_matching"][0] < 40


def test_conditions_are_drawn_as_often_as_their_examples():
    flow = tfpf.ffjord((2,), hidden_units=(8,), condition_shape=(1,))
    made = tfpf.FlowMatchingModel(flow, seed=1, draws=3)
    made.compile("adam")
    x, c = data(64), np.ones((64, 1), "float32")
    assert made.matching_loss(tf.constant(x), c).shape == [64]
    assert made.fit(x, c, epochs=1, verbose=0).history["flow_matching"][0] > 0


def test_labels_go_through_their_encoder():
    embedding = keras.layers.Embedding(3, 4)
    flow = tfpf.ffjord(
        (2,), hidden_units=(8,), condition_shape=(), encoder=embedding, name="labels"
    )
    made = tfpf.FlowMatchingModel(flow, seed=1)
    made.compile("adam")
    before = [np.array(weight) for weight in made.trainable_weights]
    made.fit(data(64), np.arange(64) % 3, batch_size=16, epochs=1, verbose=0)
    for weight, old in zip(made.trainable_weights, before, strict=True):
        assert np.any(np.array(weight) != old), weight.path


def test_needs_one_continuous_flow():
    with pytest.raises(ValueError, match="exactly one `ContinuousFlow`.*Received: 0"):
        tfpf.FlowMatchingModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(4,)))
    with pytest.raises(ValueError, match="`sigma_min`.*Received"):
        tfpf.FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(4,)), sigma_min=1.0)


@pytest.mark.parametrize("draws", [1, 3])
def test_times_have_their_density_and_lie_evenly(draws):
    """Each one alone is uniform; together they fill [0, 1) with no large gap."""
    made = model(draws=draws)
    times = np.stack([made._times_of(64, tf.constant([s, 0])) for s in range(500)])
    for alone in (times[:, 0], times[:, 41]):
        assert scipy.stats.kstest(alone, "uniform").pvalue > 1e-3
    assert np.diff(np.sort(times, axis=1), axis=1).max() < 3 / 64


def test_late_times_are_log_uniform_near_the_data():
    times = model(times="late")._times_of(20_000, tf.constant([0, 0])).numpy()
    assert times.min() >= 0.0
    assert times.max() <= 1.0
    logs = np.log(1.01 - times)
    low, high = np.log(0.01), np.log(1.01)
    uniform = scipy.stats.uniform(low, high - low)
    assert scipy.stats.kstest(logs, uniform.cdf).statistic < 1e-3


def test_more_draws_mean_the_same_loss_with_less_noise():
    x = tf.constant(data(64))
    one, many = (
        np.stack([made.matching_loss(x) for _ in range(100)])
        for made in (model(), model(draws=16))
    )
    assert one.shape == many.shape == (100, 64)
    error = one.mean(axis=1).std() / 10
    assert many.mean() == pytest.approx(one.mean(), abs=float(4 * error))
    assert many[:, 0].std() < 0.5 * one[:, 0].std()


def test_bad_arguments_are_named():
    flow = tfpf.ffjord((2,), hidden_units=(4,))
    with pytest.raises(ValueError, match="`draws` must be an integer of at least 1"):
        tfpf.FlowMatchingModel(flow, draws=0)
    with pytest.raises(ValueError, match="`times`.*Received: times='early'"):
        tfpf.FlowMatchingModel(flow, times="early")


def test_noise_is_new_in_each_call():
    made = model()
    x = tf.constant(data(8))
    assert np.abs(made.matching_loss(x) - made.matching_loss(x)).max() > 0
