"""Flows as surrogate posteriors, on a regression whose posterior is exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
FEATURES = np.column_stack([np.ones(12), np.linspace(-1.0, 2.0, 12)]).astype("float32")
NOISE = 0.7
TARGETS = (FEATURES @ [0.5, -1.0] + NOISE * RNG.normal(size=12)).astype("float32")


def regression():
    """Two weights `N(0, I)` seen through `y ~ N(X w, NOISE)`."""
    return tfd.JointDistributionSequential(
        [
            tfd.Sample(tfd.Normal(0.0, 1.0), [2]),
            lambda w: tfd.Independent(
                tfd.Normal(tf.linalg.matvec(FEATURES, w), NOISE), 1
            ),
        ]
    ).experimental_pin(None, TARGETS)


def exact():
    """Mean, covariance and log-evidence of the regression."""
    precision = np.eye(2) + FEATURES.T @ FEATURES / NOISE**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ FEATURES.T @ TARGETS / NOISE**2
    marginal = NOISE**2 * np.eye(12) + FEATURES @ FEATURES.T
    sign, log_det = np.linalg.slogdet(marginal)
    quadratic = TARGETS @ np.linalg.solve(marginal, TARGETS)
    return mean, covariance, -0.5 * (quadratic + log_det + 12 * np.log(2 * np.pi))


def iaf(d=2, **options):
    options = {"layers": 2, "hidden_units": (16,), "inverse": True, **options}
    return tfpf.maf((d,), **options)


def fitted(target, posterior, steps):
    """TFP's own loop under a Keras optimizer."""
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.02, steps)
    )
    optimizer.build(list(posterior.trainable_variables))
    return tfp.vi.fit_surrogate_posterior(
        target.unnormalized_log_prob,
        posterior,
        optimizer=optimizer,
        num_steps=steps,
        sample_size=32,
        trainable_variables=posterior.trainable_variables,
        seed=(0, 1),
    )


@pytest.fixture(scope="module")
def flow():
    keras.utils.set_random_seed(0)
    made = iaf()
    fitted(regression(), tfpf.surrogate_posterior(regression(), made), 400)
    return made


@pytest.fixture
def posterior(flow):
    return tfpf.surrogate_posterior(regression(), flow)


def test_the_elbo_reaches_the_evidence(posterior):
    _, _, log_evidence = exact()
    [w], log_q = posterior.experimental_sample_and_log_prob(20_000, seed=(1, 2))
    weights = np.asarray(regression().unnormalized_log_prob(w) - log_q, float)
    error = 4.0 * weights.std() / np.sqrt(len(weights))
    # The gap is the divergence from the exact posterior, never negative.
    gap = log_evidence - weights.mean()
    assert -error < gap < error + 0.05
    importance = np.logaddexp.reduce(weights) - np.log(len(weights))
    ratio = np.exp(weights - importance)
    assert abs(importance - log_evidence) < 4.0 * ratio.std() / np.sqrt(len(ratio))


def test_the_moments_are_right(posterior):
    mean, covariance, _ = exact()
    [w] = posterior.sample(20_000, seed=(3, 4))
    spread = np.sqrt(np.diag(covariance))
    # Means within a tenth of a deviation; the Monte Carlo error is 3 percent of one.
    np.testing.assert_allclose(np.mean(w, axis=0), mean, atol=0.1 * spread.min())
    np.testing.assert_allclose(
        np.cov(w, rowvar=False), covariance, atol=0.1 * spread.max() ** 2
    )


def test_neutra_samples_the_exact_posterior(flow):
    """HMC in the latents of the fitted flow, by TFP's transformed kernel."""
    mean, covariance, _ = exact()
    flat = tfpf.flat_target(regression())
    kernel = tfp.mcmc.TransformedTransitionKernel(
        tfp.mcmc.HamiltonianMonteCarlo(
            flat.log_prob, step_size=0.5, num_leapfrog_steps=4
        ),
        flow.bijector,
    )

    @tf.function(autograph=False)
    def run():
        return tfp.mcmc.sample_chain(
            300,
            tf.zeros([16, 2]),
            kernel=kernel,
            num_burnin_steps=50,
            trace_fn=lambda _, results: results.inner_results.is_accepted,
            seed=(5, 6),
        )

    u, accepted = run()
    [w] = flat.unpack.forward(u)
    assert np.mean(accepted) > 0.8
    size = tfp.mcmc.effective_sample_size(w, cross_chain_dims=1)
    error = 4.0 * np.sqrt(np.diag(covariance) / size)
    assert np.all(np.abs(np.mean(w, axis=(0, 1)) - mean) < error)
    deviations = np.std(w, axis=(0, 1)) / np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        deviations, 1.0, atol=4.0 / np.sqrt(2 * size.numpy().min())
    )


def models():
    def body():
        scale = yield tfd.JointDistributionCoroutine.Root(tfd.LogNormal(0.0, 1.0))
        mean = yield tfd.JointDistributionCoroutine.Root(
            tfd.Sample(tfd.Normal(0.0, 1.0), [2])
        )
        yield tfd.Independent(tfd.Normal(mean, scale[..., tf.newaxis]), 1)

    named = tfd.JointDistributionNamed(
        {
            "scale": tfd.LogNormal(0.0, 1.0),
            "mean": tfd.Sample(tfd.Normal(0.0, 1.0), [2]),
            "y": lambda scale, mean: tfd.Independent(
                tfd.Normal(mean, scale[..., tf.newaxis]), 1
            ),
        }
    )
    data = np.array([0.3, -0.2], "float32")
    return {
        "coroutine": tfd.JointDistributionCoroutine(body).experimental_pin(
            None, None, data
        ),
        "named": named.experimental_pin(y=data),
        "not joint": tfd.Sample(tfd.Gamma(2.0, 1.0), [3]),
    }


@pytest.mark.parametrize("name", ["coroutine", "named", "not joint"])
def test_structures_and_supports(name):
    target = models()[name]
    posterior = tfpf.surrogate_posterior(target, iaf(3))
    draw, log_q = posterior.experimental_sample_and_log_prob(5, seed=(0, 1))
    tf.nest.assert_same_structure(draw, target.dtype)
    positive = {"coroutine": lambda d: d[0], "named": lambda d: d["scale"]}
    assert np.all(np.asarray(positive.get(name, lambda d: d)(draw)) > 0.0)
    again = tf.nest.map_structure(tf.identity, draw)
    np.testing.assert_allclose(posterior.log_prob(again), log_q, rtol=1e-4)
    flat = tfpf.flat_target(target)
    assert flat.size == 3
    # The density of draws does not depend on how they are written.
    u = flat.unpack.inverse(tf.nest.map_structure(tf.identity, draw))
    score = getattr(target, "unnormalized_log_prob", None) or target.log_prob
    log_det = flat.unpack.inverse_log_det_jacobian(
        tf.nest.map_structure(tf.identity, draw), unpacked_ndims(target)
    )
    np.testing.assert_allclose(
        flat.log_prob(u), score(draw) - log_det, rtol=1e-3, atol=1e-3
    )


def unpacked_ndims(target):
    return tf.nest.map_structure(
        lambda _, shape: len(shape), target.dtype, target.event_shape
    )


def test_an_amortised_posterior():
    """One conditional flow for all data: `theta ~ N(0, 1)`, `x ~ N(theta, 1/2)`."""
    keras.utils.set_random_seed(0)
    flow = iaf(condition_shape=(2,))
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(256, 2)).astype("float32")
    data = tf.constant(theta + 0.5 * rng.normal(size=(256, 2)).astype("float32"))

    def loss():
        posterior = tfpf.condition(flow, data)
        z, log_q = posterior.experimental_sample_and_log_prob(4)
        likelihood = tfd.Independent(tfd.Normal(z, 0.5), 1).log_prob(data)
        prior = tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)).log_prob(z)
        return tf.reduce_mean(log_q - likelihood - prior)

    optimizer = keras.optimizers.Adam(0.02)
    optimizer.build(list(flow.trainable_variables))
    tfp.math.minimize(
        loss,
        num_steps=300,
        optimizer=optimizer,
        trainable_variables=flow.trainable_variables,
    )
    fresh = np.array([[1.0, -0.5], [0.2, 0.8]], "float32")
    draws = tfpf.condition(flow, fresh).sample(5000, seed=(1, 2))
    np.testing.assert_allclose(np.mean(draws, axis=0), 0.8 * fresh, atol=0.12)
    np.testing.assert_allclose(np.std(draws, axis=0), np.sqrt(0.2), atol=0.08)


@pytest.mark.parametrize(
    ("target", "size", "error", "message"),
    [
        (regression, 3, ValueError, "`flow` must be a distribution of vectors of 2"),
        (lambda: "model", 2, TypeError, "`target` must be a distribution"),
    ],
)
def test_wrong_arguments(target, size, error, message):
    with pytest.raises(error, match=message):
        tfpf.surrogate_posterior(target(), iaf(size))


def shares(*concentration):
    return tfd.Dirichlet(np.array(concentration))


@tfd.JointDistributionCoroutineAutoBatched
def counted():
    p = yield tfd.Dirichlet(np.array([2.0, 3.0, 1.5]), name="p")
    yield tfd.Multinomial(np.float64(10.0), probs=p, name="n")


COUNTS = np.array([3.0, 5.0, 2.0])
SIMPLEXES = {
    "plain": lambda: shares(2.0, 3.0, 1.5),
    "Sample": lambda: tfd.Sample(shares(2.0, 3.0), 2),
    "Independent": lambda: tfd.Independent(shares([2.0, 3.0], [1.0, 2.0]), 1),
    "transformed": lambda: tfd.TransformedDistribution(
        shares(2.0, 3.0, 1.5), tfb.Identity()
    ),
    "relaxed": lambda: tfd.RelaxedOneHotCategorical(
        np.float64(1.0), probs=np.array([0.2, 0.3, 0.5])
    ),
    "joint": lambda: tfd.JointDistributionSequential(
        [shares(2.0, 3.0), lambda p: shares(1.0, 2.0)]
    ),
    "pinned": lambda: counted.experimental_pin(n=COUNTS),
}


def mass(flat, low, high, points):
    """Returns the integral of a density of two values."""
    axis = np.linspace(low, high, points)
    u = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return np.exp(flat.log_prob(tf.constant(u))).sum() * (axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("name", SIMPLEXES)
def test_densities_on_simplexes_integrate_to_the_evidence(name):
    """TFP's densities are by the first values of a simplex, its bijector by area."""
    flat = tfpf.flat_target(SIMPLEXES[name]())
    evidence = mass(flat, -14.0, 14.0, 141)
    exact = tfd.DirichletMultinomial(np.float64(10.0), np.array([2.0, 3.0, 1.5]))
    expected = np.exp(exact.log_prob(COUNTS)) if name == "pinned" else 1.0
    assert evidence == pytest.approx(expected, rel=1e-3)


INF = np.float64(np.inf)
TRUNCATED = {
    "below": lambda: tfd.TruncatedNormal(0.0, np.float64(1.0), -1.0, INF),
    "above": lambda: tfd.TruncatedNormal(0.0, np.float64(1.0), -INF, 0.5),
    "nowhere": lambda: tfd.TruncatedNormal(0.0, np.float64(1.0), -INF, INF),
    "both": lambda: tfd.TruncatedNormal(0.0, np.float64(1.0), -1.0, 2.0),
    "joint": lambda: tfd.JointDistributionNamed(
        {"one": tfd.Sample(tfd.TruncatedNormal(0.0, np.float64(1.0), 0.0, INF), [1])}
    ),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_densities_between_bounds_that_may_be_infinite_integrate_to_one(name):
    flat = tfpf.flat_target(TRUNCATED[name]())
    u = tf.constant(np.linspace(-40.0, 40.0, 20_001)[:, np.newaxis])
    assert np.exp(flat.log_prob(u)).sum() * 0.004 == pytest.approx(1.0, rel=1e-3)


def test_bounds_of_one_vector_differ():
    lows, highs = np.array([[0.0, -INF, -INF, 1.0], [INF, 0.0, INF, 3.0]])
    prior = tfd.Independent(tfd.TruncatedNormal(0.0, np.float64(1.0), lows, highs), 1)
    unpack = tfpf.flat_target(prior).unpack
    u = tf.constant(3.0 * RNG.normal(size=(50, 4)))
    z = tf.identity(unpack.forward(u))
    assert np.all((z > lows) & (z < highs))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([u, z])
        forward, inverse = unpack.forward(tf.identity(u)), unpack.inverse(z)
    np.testing.assert_allclose(inverse, u, rtol=1e-6, atol=1e-6)
    slope, back = tape.gradient(forward, u), tape.gradient(inverse, z)
    np.testing.assert_allclose(slope * back, 1.0, rtol=1e-6)
    log_det = unpack.forward_log_det_jacobian(tf.identity(u), 1)
    np.testing.assert_allclose(log_det, np.log(slope).sum(axis=1), rtol=1e-6)


def blocks(*parts):
    return tfd.Blockwise([tfd.Gamma(np.float64(2.0), 1.0), *parts])


BLOCKS = {
    "plain": lambda: blocks(tfd.Uniform(np.float64(-1.0), 3.0)),
    "simplex": lambda: blocks(shares(2.0, 3.0)),
    "joint": lambda: tfd.JointDistributionNamed(
        {"one": blocks(tfd.Normal(np.float64(0.0), 1.0))}
    ),
    "Independent": lambda: tfd.Independent(
        tfd.Blockwise([tfd.Uniform(np.array([0.0, 5.0]), np.array([1.0, 9.0]))]), 1
    ),
    "Sample": lambda: tfd.Sample(tfd.Blockwise([tfd.Gamma(np.float64(2.0), 1.0)]), 2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_densities_of_blocks_integrate_to_one(name):
    flat = tfpf.flat_target(BLOCKS[name]())
    assert mass(flat, -16.0, 24.0, 161) == pytest.approx(1.0, rel=1e-3)


def test_blocks_without_a_bijector_are_refused():
    discrete = tfd.Blockwise([tfd.Gamma(2.0, 1.0), tfd.Poisson(3.0)])
    with pytest.raises(ValueError, match="continuous parts .* Received: a part Poi"):
        tfpf.flat_target(discrete)
    joint = tfd.JointDistributionSequential([tfd.Gamma(2.0, 1.0)])
    with pytest.raises(ValueError, match="with a default bijector"):
        tfpf.flat_target(tfd.Blockwise(joint))


@pytest.mark.parametrize(
    "target",
    [
        tfd.VonMisesFisher([1.0, 0.0, 0.0], 2.0),
        tfd.LKJ(2, 1.5),
        tfd.Sample(tfd.TruncatedCauchy(0.0, 1.0, 0.0, np.inf), [2]),
    ],
)
def test_supports_that_tfp_s_bijectors_do_not_cover_are_refused(target):
    for one in (target, tfd.JointDistributionSequential([target])):
        with pytest.raises(ValueError, match="whose default bijector in TFP"):
            tfpf.flat_target(one)
