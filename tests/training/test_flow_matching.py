"""`FlowMatchingModel`: the loss, its optimum, and the likelihood beside it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions


def data(n=512):
    """Points of a normal distribution away from the standard one."""
    noise = np.random.default_rng(0).normal(size=(n, 2))
    return (noise * [0.5, 1.5] + [2.0, -1.0]).astype("float32")


def model(**kwargs):
    flow = tff.ffjord((2,), hidden_units=(32,), solver=tff.FixedStep("rk4", 6))
    made = tff.FlowMatchingModel(flow, seed=1, **kwargs)
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
    assert isinstance(again, tff.FlowMatchingModel)
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
    net = tff.nets.VelocityNet((8,))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), [2]),
        tfb.Chain(
            [tfb.Scale(100.0), tff.ContinuousFlow(net, (2,), condition_shape=(1,))]
        ),
    )
    made = tff.FlowMatchingModel(flow, seed=1)
    made.compile("adam")
    x, c = 100 * data(64), np.ones((64, 1), "float32")
    history = made.fit(x, c, epochs=1, verbose=0).history
    assert history["flow_matching"][0] < 40


def test_labels_go_through_their_encoder():
    embedding = keras.layers.Embedding(3, 4)
    flow = tff.ffjord(
        (2,), hidden_units=(8,), condition_shape=(), encoder=embedding, name="labels"
    )
    made = tff.FlowMatchingModel(flow, seed=1)
    made.compile("adam")
    before = [np.array(weight) for weight in made.trainable_weights]
    made.fit(data(64), np.arange(64) % 3, batch_size=16, epochs=1, verbose=0)
    for weight, old in zip(made.trainable_weights, before, strict=True):
        assert np.any(np.array(weight) != old), weight.path


def test_needs_one_continuous_flow():
    with pytest.raises(ValueError, match="exactly one `ContinuousFlow`.*Received: 0"):
        tff.FlowMatchingModel(tff.real_nvp((2,), couplings=2, hidden_units=(4,)))
    with pytest.raises(ValueError, match="`sigma_min`.*Received"):
        tff.FlowMatchingModel(tff.ffjord((2,), hidden_units=(4,)), sigma_min=1.0)


def test_noise_is_new_in_each_call():
    made = model()
    x = tf.constant(data(8))
    assert np.abs(made.matching_loss(x) - made.matching_loss(x)).max() > 0
