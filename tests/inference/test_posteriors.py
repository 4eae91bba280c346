"""Amortised posteriors: exact where the posterior is known, within every support."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfp_flows as tfpf

tfd = tfp.distributions
RNG = np.random.default_rng(0)
QUICK = {"hidden_units": (32,), "steps": 2}


def supports():
    """Positive, ordered by a bound of another, simplex, and data of two parts."""
    return tfd.JointDistributionNamed(
        {
            "scale": tfd.LogNormal(0.0, 0.5),
            "below": lambda scale: tfd.Uniform(0.0, scale),
            "shares": tfd.Dirichlet([2.0, 2.0, 2.0]),
            "y": lambda scale, below: tfd.Sample(tfd.Normal(below, scale), [4]),
            "count": lambda shares: tfd.Multinomial(10.0, probs=shares),
        }
    )


def conjugate():
    """A normal mean seen through four normal values."""
    return tfd.JointDistributionSequential(
        [
            tfd.Normal(0.0, 2.0, name="mean"),
            lambda mean: tfd.Sample(tfd.Normal(mean, 1.0), [4], name="y"),
        ]
    )


def bounded_by_data():
    """A latent part that lies below an observed one."""
    return tfd.JointDistributionNamed(
        {"y": tfd.Uniform(1.0, 2.0), "z": lambda y: tfd.Uniform(0.0, y)}
    )


def test_is_the_known_posterior_and_calibrated():
    posterior = tfpf.inference.amortize(
        conjugate(),
        ["y"],
        simulations=4000,
        epochs=25,
        rate=5e-3,
        batch_size=128,
        verbose=0,
        seed=1,
        options=QUICK,
    )
    y = np.array([0.5, 1.0, 2.0, 0.3], "float32")
    (draws,) = posterior(y).sample(4000, seed=(0, 1))
    precision = 0.25 + 4.0
    assert abs(float(tf.reduce_mean(draws)) - y.sum() / precision) < 0.12
    np.testing.assert_allclose(tf.math.reduce_std(draws), precision**-0.5, rtol=0.15)
    theta, x = posterior.simulate(400, seed=5)
    means = np.asarray(theta[0])
    np.testing.assert_array_equal(means, posterior.simulate(400, seed=5)[0][0])
    (ranked,) = posterior(x).sample(200, seed=(0, 2))
    ranks = np.mean(ranked < means, axis=0)
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
    again = posterior({"y": y}).log_prob([draws[:3]])
    np.testing.assert_allclose(again, posterior(y).log_prob([draws[:3]]), rtol=1e-6)


def test_draws_have_the_structure_and_the_support_of_the_latent_parts():
    posterior = tfpf.inference.amortize(
        supports(), ["y", "count"], simulations=200, epochs=2, verbose=0, options=QUICK
    )
    observed = {"y": [0.1, 0.5, -0.3, 1.0], "count": [2.0, 3.0, 5.0]}
    q = posterior(observed)
    draws = tf.function(lambda: q.sample(500, seed=(0, 1)), autograph=False)()
    assert set(draws) == {"scale", "below", "shares"}
    assert (draws["scale"] > 0.0).numpy().all()
    below = (draws["below"] >= 0.0) & (draws["below"] <= draws["scale"])
    assert below.numpy().all()
    np.testing.assert_allclose(tf.reduce_sum(draws["shares"], -1), 1.0, rtol=1e-5)
    assert np.isfinite(q.log_prob(draws)).all()
    both = {name: np.stack([value, value]) for name, value in observed.items()}
    assert posterior(both).batch_shape == (2,)
    compiled = posterior.sample(observed, 5, seed=(0, 1))
    eagerly = q.sample(5, seed=(0, 1))
    for name, value in eagerly.items():
        np.testing.assert_allclose(compiled[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        QUICK,
        {"objective": "flow_matching", "hidden_units": (16, 16)},
        pytest.param(
            {"flow": tfpf.maf, "transform": "spline", **QUICK}, marks=pytest.mark.slow
        ),
    ],
    ids=["likelihood", "flow_matching", "maf"],
)
def test_linear_gaussian_posteriors_take_few_epochs(options):
    prior = tfd.Sample(tfd.Normal(0.0, 1.0), [3])
    theta = prior.sample(2000, seed=(0, 1)).numpy()
    noise = np.random.default_rng(0).normal(scale=0.5, size=theta.shape)
    posterior = tfpf.inference.NeuralPosterior(prior, **options)
    x = (2.0 * theta + noise).astype("float32")
    posterior.fit(theta, x, epochs=3, rate=1e-3, batch_size=64, verbose=0)
    draws = posterior([1.0, -2.0, 0.0]).sample(1000, seed=(0, 1))
    mean = np.array([1.0, -2.0, 0.0]) * 2.0 / 4.25
    np.testing.assert_allclose(tf.reduce_mean(draws, 0), mean, atol=0.08)
    np.testing.assert_allclose(tf.math.reduce_std(draws, 0), 17.0**-0.5, rtol=0.25)


@pytest.mark.slow
def test_truncated_rounds_draw_where_the_posterior_has_mass():
    prior = tfd.Sample(tfd.Uniform(-1.0, 1.0), [2])
    posterior = tfpf.inference.NeuralPosterior(prior, **QUICK)
    noise = tfd.Normal(0.0, 0.1)
    taken = posterior.fit_rounds(
        lambda theta: theta + noise.sample(theta.shape, seed=(0, 3)),
        [0.3, -0.5],
        rounds=2,
        simulations=400,
        epochs=12,
        rate=5e-3,
        verbose=0,
    )
    assert taken[0] == 400
    assert taken[1] > 400
    draws = posterior([0.3, -0.5]).sample(1000, seed=(0, 1))
    np.testing.assert_allclose(tf.reduce_mean(draws, 0), [0.3, -0.5], atol=0.08)
    np.testing.assert_allclose(tf.math.reduce_std(draws, 0), 0.1, rtol=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.2, "steps": 1},
        pytest.param({"members": 2, "steps": 1}, marks=pytest.mark.slow),
        pytest.param({"objective": "flow_matching"}, marks=pytest.mark.slow),
    ],
)
def test_a_model_that_trains_again_is_like_a_new_one(options):
    prior = tfd.Sample(tfd.Uniform(-1.0, 1.0), [2])
    theta = prior.sample(300, seed=(0, 1))
    x = theta + tfd.Normal(0.0, 0.3).sample(theta.shape, seed=(0, 2))
    options["hidden_units"] = (16,)
    new, same = (tfpf.inference.NeuralPosterior(prior, **options) for _ in range(2))
    given = {"epochs": 2, "batch_size": 32, "verbose": 0}
    same.fit(0.5 * theta[:200], 10.0 + 5.0 * x[:200], **given)
    before = same.models[0]
    same.fit(theta, x, again=True, **given)
    assert same.models[0] is before
    new.fit(theta, x, **given)
    for a, b in zip(new.models, same.models, strict=True):
        for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    points = new([0.2, -0.3]).sample(50, seed=(0, 3))
    np.testing.assert_allclose(
        new([0.2, -0.3]).log_prob(points),
        same([0.2, -0.3]).log_prob(points),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.slow
def test_a_summary_network_is_trained_along():
    prior = tfd.Sample(tfd.Normal(0.0, 1.0), [1])
    theta = prior.sample(400, seed=(0, 1))
    x = theta[:, tf.newaxis] + tfd.Normal(0.0, 0.5).sample([400, 6, 2], seed=(0, 2))

    def summary():
        return keras.Sequential([keras.layers.GRU(4), keras.layers.Dense(3)])

    posterior = tfpf.inference.NeuralPosterior(
        prior, summary=summary, members=2, **QUICK
    )
    posterior.fit(theta, x, epochs=2, verbose=0)
    assert posterior(x[:3]).sample(5).shape == (5, 3, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tfpf.inference.amortize(conjugate(), ["z"]), "list some, not all"),
        (lambda: tfpf.inference.amortize(conjugate(), ["mean", "y"]), "not all"),
        (lambda: tfpf.inference.amortize(conjugate(), "y"), "`observed` must list"),
        (lambda: tfpf.inference.amortize(conjugate(), ["y"] * 2), "each once"),
        (
            lambda: tfpf.inference.amortize(
                tfd.JointDistributionNamed(
                    {"k": tfd.Poisson(2.0), "y": lambda k: tfd.Normal(k, 1.0)}
                ),
                ["y"],
            ),
            "`joint` must have continuous parts",
        ),
        (lambda: tfpf.inference.amortize(tfd.Normal(0.0, 1.0), ["y"]), "joint"),
        (lambda: tfpf.inference.amortize(bounded_by_data(), ["y"]), "support"),
        (
            lambda: tfpf.inference.NeuralPosterior(tfd.Normal(0.0, 1.0))([1.0]),
            "must be trained",
        ),
        (
            lambda: tfpf.inference.NeuralPosterior(
                tfd.Sample(tfd.Normal(0.0, 1.0), [1])
            ).fit(np.zeros((3, 1)), np.full((3, 2), np.nan)),
            "`x` must be finite",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_one_callback_will_do():
    theta, ends = np.random.default_rng(0).normal(size=(100, 1)), []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(1))
    prior = tfd.Sample(tfd.Normal(0.0, 1.0), 1)
    posterior = tfpf.inference.NeuralPosterior(prior, hidden_units=(4,), steps=1)
    posterior.fit(theta, theta, epochs=1, callbacks=one, verbose=0)
    assert len(ends) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_data_far_from_zero_keep_their_digits(whole):
    """Seconds since 1970, say, of which float32 keeps minutes."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(2000, 1)).astype("float32")
    x = 1.7e9 + 20.0 * theta.astype("float64") + rng.normal(size=theta.shape)
    x = np.round(x).astype("int64") if whole else x
    posterior = tfpf.inference.NeuralPosterior(
        tfd.Sample(tfd.Normal(0.0, 1.0), 1), hidden_units=(8,), steps=1
    )
    posterior.fit(theta, x, epochs=6, verbose=0)
    seen = [posterior([x.dtype.type(1_700_000_000 + o)]) for o in (20, -20)]
    means = [np.mean(q.sample(500, seed=(0, 1))) for q in seen]
    np.testing.assert_allclose(means, [1.0, -1.0], atol=0.1)


@pytest.mark.parametrize("objective", ["likelihood", "flow_matching"])
def test_double_precision(objective, tmp_path):
    prior = tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), 2)
    theta = prior.sample(100, seed=(0, 1))
    options = {"objective": objective, "hidden_units": (4,)}
    posterior = tfpf.inference.NeuralPosterior(prior, **options)
    posterior.fit(theta, theta.numpy(), epochs=1, verbose=0)
    q = posterior([0.0, 1.0])
    assert q.sample(3).dtype == q.log_prob(theta[:2]).dtype == tf.float64
    posterior.save(tmp_path / "posterior.keras")
    again = tfpf.inference.NeuralPosterior(prior, **options)
    again.load(tmp_path / "posterior.keras")
    expected = q.log_prob(theta[:2])
    np.testing.assert_allclose(again([0.0, 1.0]).log_prob(theta[:2]), expected)
    joint = tfd.JointDistributionNamed(
        {"t": prior, "y": lambda t: tfd.Independent(tfd.Normal(1e9 + t, 0.3), 1)}
    )
    made = tfpf.inference.AmortizedPosterior(joint, ["y"], **options)
    assert len(np.unique(made.simulate(100)[1])) == 200


def test_draws_that_were_rounded_to_an_edge_are_taken():
    prior = tfd.Sample(tfd.Uniform(1000.0, 1001.0), [2])
    theta = prior.sample(300, seed=(0, 1)).numpy()
    theta[:2] = [[1000.0, 1000.5], [1000.5, 1001.0]]
    estimator = tfpf.inference.NeuralPosterior(prior, hidden_units=(4,), steps=1)
    estimator.fit(theta, theta, epochs=1, verbose=0)
    assert np.all(np.isfinite(estimator(theta[0]).sample(3)))
    theta[0] = 1002.0
    with pytest.raises(ValueError, match="1 of 300 rows are not"):
        estimator.fit(theta, theta, epochs=1, verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "given", [np.float32, np.float64, np.int64, tf.constant, np.ndarray.tolist]
)
def test_parameters_are_cast_to_the_prior_s_dtype(dtype, given):
    prior = tfd.Sample(tfd.Normal(np.zeros((), dtype), 3.0), [2])
    theta = np.round(RNG.normal(size=(40, 2)))
    expected, made = [], tfpf.inference.NeuralPosterior(prior)
    for one in (theta.astype(dtype), given(theta)):
        u, _ = made._pairs(one, theta)
        expected.append(u)
    assert expected[0].dtype == expected[1].dtype == dtype
    np.testing.assert_array_equal(*expected)


@pytest.fixture(scope="module")
def of_two_parts():
    """Of a number `a` and a matrix `b`, not trained."""
    parts = {
        "mean": tfd.Normal(0.0, 1.0),
        "a": lambda mean: tfd.Normal(mean, 1.0),
        "b": lambda mean: tfd.Sample(tfd.Normal(mean, 1.0), [3, 2]),
    }
    joint = tfd.JointDistributionNamed(parts)
    return tfpf.inference.AmortizedPosterior(joint, ["a", "b"])


B = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (0.1, B.T, r"`b` must have shape \[..., 3, 2\]"),
        (0.1, B.ravel(), r"`b` must have shape \[..., 3, 2\]"),
        (0.1, 2.0, r"`b` must have shape \[..., 3, 2\]"),
        ([0.1, 0.2], [B, B, B], "`observed` must have parts of batch shapes that"),
    ],
)
def test_observed_parts_of_wrong_shapes_are_named(of_two_parts, a, b, message):
    with pytest.raises(ValueError, match=message):
        of_two_parts({"a": a, "b": b})


def test_observed_parts_broadcast(of_two_parts):
    rows = of_two_parts.encoded({"a": [0.1, 0.2], "b": B})
    np.testing.assert_array_equal(rows, [[0.1, *B.ravel()], [0.2, *B.ravel()]])
    [row] = of_two_parts.encoded({"a": 0.1, "b": B[np.newaxis]})
    np.testing.assert_array_equal(row, rows[0])


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.zeros((9, 3)), r"`theta` must have the prior's structure"),
        ({"a": np.zeros(9)}, r"`theta` must have the prior's structure"),
        (
            {"a": np.zeros(9), "b": np.zeros((9, 3))},
            r"must have shape \[..., 2\]",
        ),
        ({"a": ["x"] * 9, "b": np.zeros((9, 2))}, "`theta` must be a dense array"),
    ],
)
def test_wrong_parameters_are_named(theta, message):
    parts = {"a": tfd.Normal(0.0, 1.0), "b": tfd.Sample(tfd.Gamma(2.0, 1.0), 2)}
    made = tfpf.inference.NeuralPosterior(tfd.JointDistributionNamed(parts))
    with pytest.raises(ValueError, match=message):
        made.fit(theta, np.zeros((9, 2)))


@pytest.fixture(scope="module")
def of_pairs():
    prior = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    theta = prior.sample(100, seed=(0, 1))
    made = tfpf.inference.NeuralPosterior(prior, hidden_units=(4,), steps=1)
    made.fit(theta, theta.numpy(), epochs=1, verbose=0)
    return made


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (0.5, r"`x` must have shape \[..., 2\]"),
        ([[0.5], [0.3]], r"`x` must have shape \[..., 2\]"),
        ([0.1, 0.2, 0.3], r"`x` must have shape \[..., 2\]"),
        ([np.nan, 0.0], "`x` must be finite"),
        ([0.0, -np.inf], "`x` must be finite"),
    ],
)
def test_wrong_observations_are_named(of_pairs, x, message):
    with pytest.raises(ValueError, match=message):
        of_pairs(x)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda: tfd.Normal([0.0, 1.0], 1.0), "`prior` must have no batch shape"),
        (lambda: tfd.Bernoulli(0.5), "`prior` must be continuous"),
        (
            lambda: tfd.JointDistributionSequential([tfd.Poisson(3.0)]),
            "must have continuous parts",
        ),
    ],
)
def test_wrong_priors_are_named(prior, message):
    with pytest.raises(ValueError, match=message):
        tfpf.inference.NeuralPosterior(prior())


@pytest.mark.parametrize("members", [1, 2])
def test_compiled_draws_are_those_of_the_distribution(members):
    prior = tfd.Sample(tfd.Uniform(-2.0, 2.0), 2)
    theta = prior.sample(64, seed=(0, 1)).numpy()
    posterior = tfpf.inference.NeuralPosterior(prior, members=members, **QUICK)
    for again in range(2):
        posterior.fit(theta, theta + again, epochs=1, verbose=0)
        for x in (np.zeros(2), np.ones((3, 2))):
            draws = posterior.sample(x, 5, seed=(again, 1))
            expected = posterior(x).sample(5, seed=(again, 1))
            np.testing.assert_allclose(draws, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`n` must be"):
        posterior.sample(np.zeros(2), 0)
