"""`FlowMatchingModel`: the loss, its optimum, and the likelihood beside it."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.training import pairing

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


CHOICES = [
    {"path": "variance_preserving"},
    {"pairing": "optimal_transport"},
    {"pairing": "sinkhorn", "sigma_min": 0.1, "draws": 2},
]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: "-".join(map(str, c)))
def test_each_path_and_pairing_learns_the_density(choice, tmp_path):
    flow = tfpf.ffjord((2,), hidden_units=(32,), solver=tfpf.FixedStep("rk4", 6))
    made = tfpf.FlowMatchingModel(flow, seed=1, **choice)
    made.compile(keras.optimizers.Adam(0.01), jit_compile=made.supports_jit)
    assert made.jit_compile == (choice.get("pairing") != "optimal_transport")
    made.fit(data(), epochs=40, batch_size=128, verbose=0)
    entropy = np.log(2 * np.pi * np.e) + np.log(0.5 * 1.5)
    assert made.evaluate(data(), verbose=0)[1] == pytest.approx(entropy, abs=0.15)
    made.save(tmp_path / "flow.keras")
    assert keras.models.load_model(tmp_path / "flow.keras").described() == (
        made.described()
    )


@pytest.mark.parametrize("path", ["straight", "variance_preserving"])
def test_velocities_are_the_derivatives_of_paths(path):
    made = model(path=path)
    x_0, x_1 = tf.constant(data(64)), tf.constant(data(64)[::-1].copy())
    t = tf.constant(np.linspace(0, 1, 64), tf.float32)
    with tf.autodiff.ForwardAccumulator(t, tf.ones_like(t)) as forward:
        x_t, velocity = made._on_path(t, x_0, x_1)
    np.testing.assert_allclose(forward.jvp(x_t), velocity, atol=1e-5)
    np.testing.assert_allclose(x_t[0], x_0[0], atol=1e-6)
    np.testing.assert_allclose(x_t[-1], x_1[-1], atol=1e-6)


def _mean_cost(x_0, x_1):
    return float(tf.reduce_mean(tf.reduce_sum(tf.square(x_0 - x_1), axis=1)))


def test_pairs_of_a_batch_have_the_least_cost():
    """In one dimension optimal transport pairs by rank."""
    x_0, x_1 = tf.random.stateless_normal([2, 200, 1], (0, 1))
    seed = tf.constant([0, 1])
    exact = pairing.paired("optimal_transport", x_0, x_1, None, 1.0, seed)
    ranks = [np.argsort(np.argsort(x[:, 0])) for x in (exact, x_1)]
    np.testing.assert_array_equal(*ranks)
    least = _mean_cost(exact, x_1)
    near = pairing.paired("sinkhorn", x_0, x_1, None, 1.0, seed)
    assert least <= _mean_cost(near, x_1) < least + 0.1 * _mean_cost(x_0, x_1)
    # Of many draws all latents are taken alike.
    draw = tf.function(
        lambda s: pairing.paired("sinkhorn", x_0, x_1, None, 1.0, tf.stack([0, s]))
    )
    taken = [draw(s) for s in tf.range(50)]
    counts = np.unique(np.stack(taken), return_counts=True)[1]
    assert len(counts) == 200
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_above_a_thousand_rows_pairs_come_of_sinkhorn():
    x_0, x_1 = tf.random.stateless_normal([2, 1001, 1], (0, 1))
    seed = tf.constant([0, 1])
    found = [
        pairing.paired(kind, x_0, x_1, None, 1.0, seed)
        for kind in ("optimal_transport", "sinkhorn")
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("kind", ["optimal_transport", "sinkhorn"])
def test_latents_stay_with_their_label_and_near_their_condition(kind):
    seed = tf.constant([0, 1])
    labels = tf.constant(np.arange(200) % 4)
    # The first value says whose latent it is; data far apart would pull it elsewhere.
    x_0 = tf.stack([tf.cast(labels, tf.float32), tf.zeros([200])], axis=1)
    x_1 = 100.0 * tf.random.stateless_normal([200, 2], (0, 1))
    paired = pairing.paired(kind, x_0, x_1, labels, 1.0, seed)
    np.testing.assert_array_equal(paired[:, 0], tf.cast(labels, tf.float32))
    c = tf.linspace(-1.0, 1.0, 200)[:, tf.newaxis]
    x_0 = tf.concat([c, tf.random.stateless_normal([200, 1], (0, 2))], axis=1)
    far = [
        np.abs(pairing.paired(kind, x_0, x_1, c, w, seed)[:, :1] - c).mean()
        for w in (0.0, 100.0, 1e6)
    ]
    assert far[0] > 3 * far[1] > 3 * far[2]


def test_pairing_is_refused_where_it_cannot_be():
    flow = tfpf.ffjord((2,), hidden_units=(4,))
    made = tfpf.FlowMatchingModel(flow, pairing="optimal_transport")
    with pytest.raises(ValueError, match=r"`jit_compile` must not be True.*sinkhorn"):
        made.compile("adam", jit_compile=True)
    with pytest.raises(ValueError, match="`pairing`.*Received: pairing='sinkhorm'"):
        tfpf.FlowMatchingModel(flow, pairing="sinkhorm")
    with pytest.raises(ValueError, match="`path`.*Received: path='curved'"):
        tfpf.FlowMatchingModel(flow, path="curved")
    with pytest.raises(ValueError, match="`sigma_min` must be 0 for the path"):
        tfpf.FlowMatchingModel(flow, 0.1, path="variance_preserving")


@pytest.mark.slow
def test_reflow_makes_paths_straight(trained):
    made = trained[0]
    pairs = made.pairs(512, seed=3)
    np.testing.assert_allclose(
        made.distribution.bijector.forward(pairs[:, 0]), pairs[:, 1], atol=1e-4
    )
    again = model()
    again.fit(pairs, epochs=40, batch_size=128, verbose=0)
    coarse = tfpf.FixedStep("euler", 1)
    errors = []
    for m in (made, again):
        step = m._flow.copy(solver=coarse).forward(pairs[:, 0])
        errors.append(np.abs(step - m._flow.forward(pairs[:, 0])).mean())
    assert errors[1] < 0.5 * errors[0]
    found, expected = (again.evaluate(x, verbose=0)[0] for x in (pairs, pairs[:, 1]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pairs_have_their_conditions():
    flow = tfpf.ffjord((2,), hidden_units=(8,), condition_shape=(1,))
    made = tfpf.FlowMatchingModel(flow, seed=1, pairing="optimal_transport")
    made.compile("adam")
    c = np.linspace(-1, 1, 64).astype("float32")[:, None]
    made.fit(data(64) + 3 * c, c, epochs=2, verbose=0)
    pairs = made.pairs(64, seed=1, condition=c, batch_size=50)
    bijector = tfpf.condition(flow, c).bijector
    np.testing.assert_allclose(bijector.forward(pairs[:, 0]), pairs[:, 1], atol=1e-4)
    assert made.fit(pairs, c, epochs=1, verbose=0).history["loss"][0] > 0
    # A new flow is initialized by the pairs' data, given as arrays or a dataset.
    dataset = tf.data.Dataset.from_tensor_slices((pairs, c)).batch(64)
    for given in ((pairs, c), (dataset,)):
        flow = tfpf.ffjord((2,), hidden_units=(8,), condition_shape=(1,))
        fresh = tfpf.FlowMatchingModel(flow)
        fresh.compile(keras.optimizers.Adam(0.0))
        fresh.fit(*given, epochs=1, verbose=0)
        z = flow.bijector.bijectors[0].inverse(pairs[:, 1])
        np.testing.assert_allclose(tf.math.reduce_std(z, axis=0), 1.0, rtol=1e-3)
    with pytest.raises(ValueError, match=r"`condition` must have shape \(64, 1\)"):
        made.pairs(64, condition=c[:5])
    with pytest.raises(ValueError, match="`condition` must be None"):
        model().pairs(64, condition=c)


@pytest.mark.parametrize("kind", ["optimal_transport", "sinkhorn"])
@pytest.mark.parametrize("given", ["nothing", "labels", "vectors"])
def test_pairs_are_near_whatever_the_conditions(kind, given):
    """Half as far as independent ones, and among rows of one label."""
    rng = np.random.default_rng(0)
    x_0, x_1 = (tf.constant(rng.normal(size=(128, 2))) for _ in range(2))
    c = {"nothing": None, "labels": rng.integers(0, 2, 128)}.get(given, 0.1 * x_1)
    found = pairing.paired(kind, x_0, x_1, c, 1.0, tf.constant([0, 1])).numpy()
    assert np.square(found - x_1).mean() < 0.5 * np.square(x_0 - x_1).mean()
    if given == "labels":
        place = [np.flatnonzero((x_0.numpy() == row).all(1))[0] for row in found]
        np.testing.assert_array_equal(c[place], c)


def test_a_batch_of_one_row_is_paired():
    made = tfpf.FlowMatchingModel(
        tfpf.ffjord((2,), hidden_units=(4,)), pairing="sinkhorn"
    )
    made.compile("sgd")
    history = made.fit(data(33), batch_size=32, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_data_outside_of_the_support_are_not_learnt():
    flow = tfpf.ffjord((2,), hidden_units=(4,), preprocess=tfpf.logit(1.0))
    made = tfpf.FlowMatchingModel(flow)
    made.compile("sgd")
    with pytest.raises((FloatingPointError, ValueError), match=r"latent|support"):
        made.fit(5.0 + np.abs(data(32)), verbose=0)


def test_a_diverged_loss_is_told_from_data():
    made = tfpf.FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(4,)))
    made.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(FloatingPointError, match="velocities"):
        made.fit(data(64), epochs=5, verbose=0)


def test_pairs_that_are_held_out_are_judged_by_their_data():
    made = tfpf.FlowMatchingModel(tfpf.ffjord((2,), hidden_units=(4,)))
    made.compile("sgd")
    pairs = np.stack([data(40), data(40) + 1.0], axis=1)
    history = made.fit(pairs, validation_split=0.5, batch_size=20, verbose=0).history
    expected = -made.predict(pairs[20:, 1], verbose=0).mean()
    np.testing.assert_allclose(history["val_nll"], expected, rtol=1e-5)
