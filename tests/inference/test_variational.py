"""Flows fitted to densities by `fit`: gradients, targets, callbacks, annealing."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.inference.variational import ESTIMATORS

tfd = tfp.distributions
STOPPED = ("sticking_the_landing", "doubly_reparameterized")


def normal(shift=0.0, scale=1.0):
    """A normal distribution of one value, whose two weights are trained."""
    return tfd.Independent(
        tfd.Normal(
            tf.Variable([shift]),
            tfp.util.TransformedVariable([scale], tfp.bijectors.Exp()),
        ),
        1,
    )


def standard(z):
    return -0.5 * tf.reduce_sum(z**2, axis=-1)


def gradients(estimator, shift, scale, n, **options):
    """Gradients of the mean loss of n terms for the shift and the scale's logarithm."""
    model = tfpf.VariationalModel(
        normal(shift, scale), standard, estimator=estimator, seed=0, **options
    )
    model.compile("sgd")
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y_pred=model({"draws": tf.zeros([n])}, training=True))
    found = tape.gradient(loss, model.trainable_variables)
    return np.array([float(g[0]) for g in found])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_those_of_the_divergence(estimator):
    # KL(N(m, s) | N(0, 1)) = (m^2 + s^2 - 1) / 2 - log s, for m and log s.
    shift, scale = 0.4, 0.8
    one = {"importance_samples": 1} if ESTIMATORS[estimator][1] > 1 else {}
    found = gradients(estimator, shift, scale, 200_000, **one)
    np.testing.assert_allclose(sorted(found), sorted([shift, scale**2 - 1]), atol=0.02)


@pytest.mark.parametrize("estimator", ["importance", "doubly_reparameterized"])
def test_bounds_of_many_draws_have_equal_gradients(estimator):
    found = gradients(estimator, 0.4, 0.8, 100_000, importance_samples=4)
    single = gradients("importance", 0.4, 0.8, 100_000, importance_samples=1)
    assert np.all(np.abs(found) < 0.7 * np.abs(single))
    other = gradients("importance", 0.4, 0.8, 100_000, importance_samples=4)
    np.testing.assert_allclose(found, other, atol=0.01)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_noise_at_the_target_only_without_the_score(estimator):
    found = np.abs(gradients(estimator, 0.0, 1.0, 16))
    if estimator in STOPPED:
        assert found.max() < 1e-6
    else:
        assert found.max() > 1e-3


def model_of_scale():
    return tfd.JointDistributionNamed(
        {
            "scale": tfd.LogNormal(0.0, 0.5),
            "y": lambda scale: tfd.Sample(tfd.Normal(0.0, scale), [6]),
        }
    )


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_pinned_joint_distribution_with_callbacks(jit_compile, tmp_path):
    y = np.array([0.5, -1.0, 2.0, 0.3, -0.2, 1.4], np.float32)
    target = model_of_scale().experimental_pin(y=y)
    keras.utils.set_random_seed(0)
    flow = tfpf.maf((1,), inverse=True, steps=2, hidden_units=(8,))
    model = tfpf.VariationalModel(flow, target, seed=0)
    model.compile(
        keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9),
        jit_compile=jit_compile,
    )
    stop = keras.callbacks.EarlyStopping("elbo", patience=1, min_delta=100.0)
    history = model.fit(
        epochs=9,
        steps_per_epoch=60,
        batch_size=32,
        verbose=0,
        callbacks=[stop, tfpf.AveragedWeights()],
    ).history
    assert len(history["elbo"]) == 2
    assert stop.mode == "max"
    draws, log_weights = model.importance_sample(4000, seed=1)
    assert list(draws) == ["scale"]
    assert draws["scale"].min() > 0.0
    # Against the integral over the scale.
    s = np.linspace(0.01, 12.0, 20_000)
    log_p = tfd.LogNormal(0.0, 0.5).log_prob(s) + np.sum(
        tfd.Normal(0.0, s[:, None]).log_prob(y), axis=1
    )
    exact = np.log(np.sum(np.exp(log_p)) * (s[1] - s[0]))
    found = tfpf.inference.evidence(log_weights)
    assert abs(found.log_evidence - exact) < max(4 * found.standard_error, 0.005)
    assert np.mean(log_weights) > exact - 0.2
    assert list(model.posterior.sample(3)) == ["scale"]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    z = flow.sample(5, seed=(0, 1))
    np.testing.assert_allclose(again.predict(z), model.predict(z), rtol=1e-6)
    with pytest.raises(ValueError, match="Argument `target` must be set"):
        again.fit(steps_per_epoch=1)
    again.target = target
    assert np.isfinite(again.evaluate(steps=2, verbose=0)[0])


def test_annealing_tempers_the_target():
    # KL(N(m, s) | N(0, 1 / sqrt(beta))): gradients beta m, beta s^2 - 1.
    beta = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 1.0)
    found = gradients("reparameterization", 0.4, 0.8, 200_000, anneal=beta)
    np.testing.assert_allclose(sorted(found), sorted([0.2, 0.32 - 1]), atol=0.02)


def test_draws_train_by_likelihood():
    keras.utils.set_random_seed(0)
    model = tfpf.VariationalModel(normal(), standard)
    model.compile(keras.optimizers.Adam(0.1))
    x = 3.0 + np.random.default_rng(0).normal(size=[512, 1]).astype("float32")
    history = model.fit(x, epochs=4, batch_size=32, verbose=0).history
    assert set(history) == {"loss", "nll", "bits_per_dim"}
    assert model.sample(1000, seed=0).numpy().mean() == pytest.approx(3.0, abs=0.6)
    assert set(model.evaluate(x, return_dict=True, verbose=0)) == set(history)
    assert set(model.evaluate(return_dict=True, verbose=0)) == {"loss", "elbo"}


def test_a_target_that_is_not_finite_stops():
    model = tfpf.VariationalModel(normal(), lambda z: tf.math.log(z[..., 0]), seed=0)
    model.compile("sgd")
    with pytest.raises(FloatingPointError, match="target is not finite at .* of 32"):
        model.fit(steps_per_epoch=1, verbose=0)


def two_modes():
    normals = tfd.Independent(tfd.Normal([[0.0], [1.0]], 1.0), 1)
    return tfd.MixtureSameFamily(tfd.Categorical(probs=[0.5, 0.5]), normals)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"estimator": "pathwise"}, "estimator"),
        ({"importance_samples": 4}, "importance_samples"),
        ({"target": tfd.Sample(tfd.Normal(0.0, 1.0), [3])}, "flow"),
        ({"target": 3.0}, "target"),
        ({"target": two_modes()}, "target"),
        ({"anneal": 0.5}, "anneal"),
    ],
)
def test_refuses(arguments, word):
    with pytest.raises((TypeError, ValueError), match=f"Argument `{word}` must"):
        tfpf.VariationalModel(normal(), **{"target": standard, **arguments})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("y", np.ones(5)),
        ("sample_weight", np.ones(5)),
        ("class_weight", {0: 2.0}),
        ("validation_split", 0.25),
    ],
)
def test_what_goes_with_data_is_refused_without(name, value):
    model = tfpf.VariationalModel(normal(), standard)
    model.compile("sgd")
    with pytest.raises(ValueError, match=f"Argument `{name}` must go with data `x`"):
        model.fit(steps_per_epoch=2, **{name: value})


def test_fit_refuses():
    model = tfpf.VariationalModel(normal(), lambda z: standard(z)[:, tf.newaxis])
    model.compile("sgd")
    with pytest.raises(ValueError, match="Argument `steps_per_epoch` must"):
        model.fit(epochs=2)
    with pytest.raises(ValueError, match="Argument `target` must return one"):
        model.fit(steps_per_epoch=1, verbose=0)
    conditional = tfpf.maf((2,), condition_shape=(1,), steps=2, hidden_units=(4,))
    with pytest.raises(ValueError, match="Argument `distribution` must take no"):
        tfpf.VariationalModel(conditional, standard)
    with pytest.raises(ValueError, match="Argument `distribution` must have rep"):
        tfpf.VariationalModel(two_modes(), standard)
    tfpf.VariationalModel(two_modes(), standard, estimator="score_function")


def pinned(data):
    """A number seen through a number: more data do not fit."""
    parts = {"m": tfd.Normal(0.0, 1.0), "y": lambda m: tfd.Normal(m, 1.0)}
    return tfd.JointDistributionNamed(parts).experimental_pin(y=data)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: pinned([3.0, -3.0]), "must return one log-density for each draw"),
        (lambda: pinned([3.0, 0.0, -3.0]), "must return one log-density for each draw"),
        (
            lambda: lambda z: -np.sum(z**2, -1),
            "must be made of TensorFlow's operations",
        ),
    ],
)
def test_targets_that_do_not_take_draws_one_by_one_are_named(target, message):
    flow = tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), [1])
    model = tfpf.VariationalModel(flow, target())
    model.compile("sgd")
    with pytest.raises(ValueError, match=f"Argument `target` {message}"):
        model.fit(steps_per_epoch=1, batch_size=2, verbose=0)


@pytest.mark.parametrize(("of_flow", "of_target"), [(4, 8), (8, 4)])
def test_flow_and_target_of_different_precision(of_flow, of_target):
    """Of `m ~ N(0, 1)` seen as 1 with noise 1 the posterior is `N(1/2, 1/2)`."""
    zero = np.zeros((), f"f{of_target}")
    parts = {"m": tfd.Normal(zero, 1.0), "y": lambda m: tfd.Normal(m, 1.0)}
    target = tfd.JointDistributionNamed(parts).experimental_pin(y=zero + 1.0)
    mean = tf.Variable(np.array(0.5, f"f{of_flow}"))
    flow = tfd.Sample(tfd.Normal(mean, 0.5**0.5), [1])
    model = tfpf.VariationalModel(flow, target)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(steps_per_epoch=1, batch_size=4, verbose=0)
    draws, log_weights = model.importance_sample(5, seed=0)
    evidence = -0.25 - 0.5 * np.log(4.0 * np.pi)
    np.testing.assert_allclose(log_weights, evidence, rtol=1e-5)
    assert draws["m"].dtype == zero.dtype
    log_q = model.posterior.log_prob(draws)
    exact = tfd.Normal(zero + 0.5, 0.5**0.5).log_prob(draws["m"])
    np.testing.assert_allclose(log_q, exact, rtol=1e-4, atol=1e-5)


def test_double_precision_and_a_metric():
    flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(4,), dtype="float64")
    model = tfpf.VariationalModel(flow, standard, seed=0)
    model.compile("adam", metrics=[lambda y, loss: 2.0 * loss])
    history = model.fit(steps_per_epoch=2, batch_size=8, verbose=0).history
    assert history["elbo"] == [-history["loss"][0]]
    assert history["lambda"][0] == pytest.approx(2.0 * history["loss"][0], rel=1e-6)


def test_a_seed_gives_the_initialization_too():
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,))
    found = []
    for one in [flow, copy.deepcopy(flow)]:  # copied before the first is set
        model = tfpf.VariationalModel(one, standard, seed=0)
        model.compile("adam")
        fitted = model.fit(epochs=1, steps_per_epoch=2, verbose=0)
        found.append(fitted.history["elbo"])
    assert found[0] == found[1]
