"""Support, adaptation and solvers: right at the borders, or refused in a sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.bijectors.normalization import Whitening, robust_moments
from tfp_flows.cli.recipes import FLOWS
from tfp_flows.tables.columns import fitted_transform
from tfp_flows.training.sampling import log_prob

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = tf.constant(
    [[0.5, 0.5], [0.0, 1.0], [-1.0, 0.5], [2.0, 0.5], [np.nan, 0.5], [np.nan, -1.0]]
)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def small(d=2, **options):
    return tfpf.real_nvp((d,), steps=2, hidden_units=(4,), **options)


def test_support_of_a_logit(tmp_path):
    flow = small(preprocess=tfpf.logit(1.0))
    found = flow.log_prob(X).numpy()
    assert np.isfinite(found[:2]).all()
    assert np.isneginf(found[2:4]).all()
    assert np.isnan(found[4])
    wide = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    both = tfd.Mixture(tfd.Categorical(probs=[0.5, 0.5]), [flow, wide])
    with tf.GradientTape() as tape:
        log_prob = both.log_prob(X[:4])
    np.testing.assert_allclose(log_prob[2], np.log(0.25 / np.pi) - 0.625, rtol=1e-5)
    gradients = tape.gradient(log_prob, flow.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    draws = flow.sample(20_000, seed=(0, 1)).numpy()
    assert draws.min() == 0.0
    assert draws.max() == 1.0
    tfpf.save_distribution(flow, tmp_path / "f.keras")
    again = tfpf.load_distribution(tmp_path / "f.keras")
    np.testing.assert_array_equal(again.log_prob(X), found)


@pytest.mark.parametrize("bijector", [tfb.Sigmoid(), tfb.Exp(), tfb.Softplus()])
def test_support_of_bijectors_of_tfp(bijector):
    single = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), bijector)
    for flow in (
        small(preprocess=bijector),
        tfd.TransformedDistribution(small(), bijector),
        tfd.Sample(single, 2),
    ):
        found = tfpf.FlowModel(flow).predict(X, verbose=0)
        assert np.isfinite(found[0])
        assert np.isneginf(found[2])
        assert np.isnan(found[4])
        assert not np.isfinite(found[5])


@pytest.mark.parametrize("name", [n for n in FLOWS if n not in ("tarflow", "jet")])
def test_every_flow_starts_in_the_units_of_its_data(name):
    units = np.float32([1e-3, 1.0, 1e4])
    x = units * (3.0 + normal(200, 3)).astype("float32")
    model = tfpf.FlowModel(getattr(tfpf, name)((3,)))
    model.adapt(x)
    nll = -np.mean(model.distribution.log_prob(x)) - np.log(units).sum()
    assert nll < 5.5  # that of the normal distribution of this scale is 4.3


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e12])
def test_adapt_takes_any_unit(unit):
    y = (unit * (3.0 + normal(1000, 2))).astype("float32")
    y[7] = 1e25  # a sentinel
    act = tfpf.ActNorm(2)
    x = np.delete(act.adapt(tf.constant(y)), 7, axis=0)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=0), 1.0, rtol=1e-4)


def with_outliers(d=4, n=1000):
    y = normal(n, d)
    wild = y.copy()
    wild[::200] += 1e4 * np.sign(normal(n // 200, d))
    wild[7] = 1e20
    return y, wild


def test_moments_without_outliers():
    y, wild = with_outliers()
    acts = [(tfpf.ActNorm(4), unit) for unit in (1e-9, 1.0, 1e12)]
    for part, unit in [*acts, (tfpf.BatchNorm(4), 1.0), (Whitening(4), 1.0)]:
        x = part.adapt(tf.constant((unit * wild).astype("float32")))
        np.testing.assert_allclose(np.median(x, axis=0), 0.0, atol=0.1)
        width = np.diff(np.quantile(x, [0.159, 0.841], axis=0), axis=0)
        np.testing.assert_allclose(width, 2.0, rtol=0.2)
    tails = np.stack([RNG.standard_t(2, 2000), np.exp(2.0 * RNG.normal(size=2000))], 1)
    few = normal(2000, 2) * (RNG.random((2000, 2)) < 0.02)
    for honest in (tails.astype("float32"), few, y):
        mean, deviation = robust_moments(tf.constant(honest))
        np.testing.assert_allclose(mean, honest.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(deviation, honest.std(axis=0), rtol=1e-4)
    few[3] = 1e20
    assert np.all(robust_moments(tf.constant(few))[1] < 1.0)
    column = wild[:, 0].astype("float64")
    for name in ("standard", "quantile"):
        z = fitted_transform(name, column).inverse(column)
        assert np.diff(np.quantile(z, [0.159, 0.841])) == pytest.approx(2.0, rel=0.1)


def mixture_of_flows(*arguments, **options):
    parts = [tfpf.nice(*arguments, **options) for _ in range(2)]
    return tfd.Mixture(tfd.Categorical(logits=[0.0, 0.0]), parts)


def with_batchnorm(*arguments, **options):
    return tfpf.real_nvp(*arguments, batchnorm=True, **options)


OUTLIERS = [
    tfpf.nice,
    tfpf.maf,
    pytest.param(mixture_of_flows, marks=pytest.mark.slow),
    with_batchnorm,
]


@pytest.mark.parametrize("make", OUTLIERS)
def test_outliers_do_not_spoil_training(make):
    y, wild = with_outliers()
    rows = 6
    if make is with_batchnorm:  # a batch's own moments, which 1e4 deviations move
        wild, rows = np.where(wild > 1e6, wild, y), 1
    model = tfpf.FlowModel(make((4,), steps=2, hidden_units=(16,)))
    model.compile(keras.optimizers.Adam(1e-3))
    with pytest.warns(UserWarning, match=f"{rows} rows of this epoch lie so far"):
        history = model.fit(wild, epochs=3, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["nll"][-1] == pytest.approx(history["loss"][-1], abs=0.1)
    clean = np.arange(1000) % 200 != 0
    clean[7] = False
    found = np.median(model.predict(wild[clean], verbose=0))
    assert found == pytest.approx(np.median(-0.5 * (y**2).sum(1)) - 3.68, abs=0.2)
    # `predict` is exact; no gradient is NaN.
    assert model.predict(wild[7:8], verbose=0)[0] < -1e38
    model.train_on_batch(wild[:32])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_adapt_through_two_inversions():
    act = tfpf.ActNorm(2)
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Invert(tfb.Chain([tfb.Invert(act)]))
    )
    y = 5.0 + 2.0 * normal(100, 2)
    tfpf.FlowModel(flow).adapt(y)
    np.testing.assert_allclose(np.mean(act.inverse(y), axis=0), 0.0, atol=1e-4)


def test_adapt_refuses_or_warns():
    model = tfpf.FlowModel(small())
    for rows in (normal(0, 2), normal(2)):
        with pytest.raises(ValueError, match=r"must (be a |have shape \[)batch"):
            model.adapt(rows)
    waiting = tfb.Invert(tfpf.BatchNorm(2))
    act = tfpf.ActNorm(2)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    flow = tfd.TransformedDistribution(base, tfb.Chain([act, waiting]))
    with pytest.raises(ValueError, match="BatchNorm 'batch_norm' waits"):
        tfpf.FlowModel(flow).adapt(normal(9, 2))
    assert not act.is_adapted
    y = normal(50, 2)
    y[:, 1] = 7.3
    with pytest.warns(UserWarning, match=r"Columns \[1\]"):
        model.adapt(y)
    assert np.isfinite(model.distribution.log_prob(y)).all()


@pytest.mark.parametrize("method", ["dormand_prince", "bdf"])
def test_solvers_end(method):
    solver = tfpf.Adaptive(method, max_steps=30)
    flow = tfpf.ffjord((2,), hidden_units=(4,), solver=solver)
    y = tf.constant([[0.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]])
    found = flow.log_prob(y).numpy()
    assert np.isfinite(found[0])
    assert np.isnan(found[1:]).all()
    if method == "dormand_prince":  # TFP's BDF wants static shapes
        log_prob = tf.function(flow.log_prob).get_concrete_function(
            tf.TensorSpec([None, 2], tf.float32)
        )
        assert log_prob(y[:0]).shape == flow.log_prob(y[:0]).shape == (0,)
        assert flow.sample(0).shape == (0, 2)
        for variable in flow.trainable_variables:
            variable.assign(100.0 * tf.random.stateless_normal(variable.shape, [0, 1]))
        x = np.array([[0.0, 0.0], [1.0, 2.0], [1e6, 1e6]], "float32")
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="row [0-2] of the batch"
        ):
            flow.log_prob(x)


def test_latents_outside_of_the_base_are_told():
    base = tfd.Independent(tfd.Uniform([-1.0, -1.0], [1.0, 1.0]), 1)
    model = tfpf.FlowModel(tfpf.maf((2,), base=base, steps=2, hidden_units=(4,)))
    model.compile("adam")
    with pytest.raises(FloatingPointError, match="IndependentUniform.*actnorm=False"):
        model.fit(normal(50, 2), verbose=0)


def test_splines_of_sentinels():
    flow = tfpf.maf(
        (3,), steps=2, hidden_units=(4,), transform="spline", bound=3.0, actnorm=False
    )
    for variable in flow.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [0, 1]))
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob([[1e20, 0.0, 0.0]])
    gradients = tape.gradient(log_prob, flow.trainable_variables)
    assert not np.isnan(log_prob).any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def mixed(kind, mean):
    """Makes a mixture of a normal distribution and one on (-1, 1)."""
    inside = tfd.TransformedDistribution(tfd.Normal(mean, 1.0), tfb.Tanh())
    if kind == "same family":
        return tfd.MixtureSameFamily(tfd.Categorical(logits=[0.0, 0.0]), inside)
    parts = [tfd.Normal(0.5, 1.0), inside]
    if kind == "functions":  # of another class in TFP than a mixture of its own parts
        parts[0] = tfd.TransformedDistribution(
            parts[0],
            tfb.Inline(
                tf.identity, tf.identity, tf.zeros_like, forward_min_event_ndims=0
            ),
        )
    return tfd.Mixture(tfd.Categorical(logits=[0.0, 0.0]), parts)


@pytest.mark.parametrize("kind", ["mixture", "functions", "same family"])
def test_mixtures_are_finite_where_a_component_is_not(kind):
    mean = tf.Variable([0.0, 0.5] if kind == "same family" else 0.5)
    flow = mixed(kind, mean)
    x = tf.constant([0.3, 2.0])
    with tf.GradientTape() as tape:
        found = log_prob(flow, x)
        total = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, 0.0))
    assert np.all(np.isfinite(tape.gradient(total, mean)))
    expected = [flow.log_prob(0.3), -np.inf]
    if kind != "same family":
        expected[1] = np.log(0.5) + tfd.Normal(0.5, 1.0).log_prob(2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_supports_of_blocks_and_of_bases():
    base = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
    blocks = tfb.Blockwise([tfb.Sigmoid(), tfb.Shift(1.0)], [1, 1])
    positive = tfd.TransformedDistribution(base, tfb.Exp())
    repeated = tfpf.Repeat(tfb.Softplus(), 2, mode="loop")
    for flow, inside, outside in (
        (tfd.TransformedDistribution(base, blocks), [0.5, 3.0], [2.0, 3.0]),
        (tfd.TransformedDistribution(positive, tfb.Softplus()), [2.0, 2.0], [0.1, 2.0]),
        (tfd.TransformedDistribution(base, repeated), [2.0, 2.0], [0.1, 2.0]),
    ):
        found = log_prob(flow, tf.constant([inside, outside]))
        np.testing.assert_allclose(found, [flow.log_prob(inside), -np.inf], rtol=1e-6)


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_a_range_between_couplings(conditional):
    kind = {"steps": 2, "hidden_units": (4,), "actnorm": False}
    shape = (1,) if conditional else None
    data, latent = (
        tfpf.real_nvp((2,), condition_shape=shape, **kind).bijector for _ in range(2)
    )
    for weight in (*data.trainable_variables, *latent.trainable_variables):
        weight.assign(tf.random.stateless_normal(weight.shape, (0, 1), stddev=0.2))
    bijector = tfb.Chain([data, tfb.Shift(0.1), tfb.Sigmoid(), latent])
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0]), bijector
    )
    x = np.random.default_rng(0).normal(0.5, 0.5, (64, 2)).astype("float32")
    c = np.full((64, 1), 0.5, "float32")
    found = tfpf.FlowModel(flow).predict((x, c) if conditional else x, verbose=0)
    if conditional:
        data, flow = (
            tfpf.condition(
                tfd.TransformedDistribution(flow.distribution, data), c
            ).bijector,
            tfpf.condition(flow, c),
        )
    unit = data.inverse(x) - 0.1
    inside = np.all((unit > 0.0) & (unit < 1.0), axis=-1)
    assert 5 < inside.sum() < 60
    assert np.all(found[~inside] == -np.inf)
    expected = flow.log_prob(x)
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-5)


BASES = {
    "exponential": lambda: tfd.Exponential(2.0),
    "gamma": lambda: tfd.Gamma(tf.Variable(2.0), 2.0),
    "beta": lambda: tfd.Beta(1.0, 1.0),
    "weibull": lambda: tfd.Weibull(2.0, 1.0),
    "pareto": lambda: tfd.GeneralizedPareto(0.0, 1.0, 0.1),
    "uniform": lambda: tfd.Uniform(0.0, 1.0),
    "lognormal": lambda: tfd.LogNormal(0.0, 1.0),
    "normal": lambda: tfd.Normal(0.0, 1.0),
}


@pytest.mark.parametrize("name", BASES)
def test_supports_of_base_distributions(name, tmp_path):
    one = BASES[name]()
    base = tfd.Sample(one, 2)
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), base=base, actnorm=False)
    by_hand = tfd.TransformedDistribution(base, flow.bijector)
    x = np.array([[0.5, 0.4], [-0.5, 0.4], [0.4, -7.0]], "float32")
    latents = flow.bijector.inverse(x)
    inside = [True, name == "normal", name == "normal"]
    expected = tf.reduce_sum(one.log_prob(latents), -1)
    expected += flow.bijector.inverse_log_det_jacobian(x, 1)
    expected = np.where(inside, expected, -np.inf)
    model = tfpf.FlowModel(flow)
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    with tf.GradientTape() as tape:
        density = log_prob(flow, x)
        total = tf.reduce_sum(tf.where(tf.math.is_finite(density), density, 0.0))
    gradients = tape.gradient(total, flow.trainable_variables)
    assert all(np.all(np.isfinite(g)) for g in gradients if g is not None)
    if name not in ("weibull", "pareto", "lognormal"):  # TFP's are NaN, or a number
        np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)
    for found in (
        density,
        model.predict(x, verbose=0),
        tfpf.FlowModel(by_hand).predict(x, verbose=0),
        loaded.predict(x, verbose=0),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    samples = model.sample(100, seed=0, temperature=0.5)
    assert np.all(np.isfinite(model.predict(samples, verbose=0)))


EXPONENTIAL = tfd.Exponential(1.0)
HALVES = {
    "same family": lambda: tfd.Sample(
        tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.5, 0.5]), tfd.Exponential([1.0, 1.0])
        ),
        2,
    ),
    "mixture": lambda: tfd.Sample(
        tfd.Mixture(tfd.Categorical(probs=[0.5, 0.5]), [EXPONENTIAL, EXPONENTIAL]), 2
    ),
    "blockwise": lambda: tfd.Blockwise([EXPONENTIAL, tfd.Gamma(1.0, 1.0)]),
    "reshaped": lambda: tfd.Independent(
        tfd.BatchReshape(tfd.Exponential([[1.0], [1.0]]), [2]), 1
    ),
    "concatenated": lambda: tfd.Independent(
        tfd.BatchConcat([tfd.Exponential([1.0]), tfd.Exponential([1.0])], axis=0), 1
    ),
}


@pytest.mark.parametrize("place", HALVES)
def test_supports_of_parts_of_bases(place):
    base = HALVES[place]()
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), base=base, actnorm=False)
    by_hand = tfd.TransformedDistribution(base, flow.bijector)
    z = np.array([[0.5, 0.4], [-0.5, 0.4], [0.4, -7.0]], "float32")
    x = flow.bijector.forward(z)
    expected = -tf.reduce_sum(z, -1) + flow.bijector.inverse_log_det_jacobian(x, 1)
    expected = np.where([True, False, False], expected, -np.inf)
    for found in (
        flow.log_prob(x),
        tfpf.FlowModel(flow).predict(x, verbose=0),
        tfpf.FlowModel(by_hand).predict(x, verbose=0),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("one", "x"),
    [
        (tfd.Weibull(2.0, 1.0), [4.0, 5.0, 10.0]),
        (tfd.GeneralizedExtremeValue(0.0, 1.0, 0.1), [5.0, 20.0, 100.0]),
        (tfd.TruncatedNormal(0.0, 1.0, 0.0, np.inf), [-0.5, 0.0, 0.5]),
        (tfd.QuantizedDistribution(tfd.LogNormal(0.0, 1.0)), [1.0, 2.0, 3.0]),
        (tfd.Exponential(2.0), [0.0, 1.0, 2.0]),
    ],
    ids=["weibull", "gev", "truncated", "quantized", "edge"],
)
def test_densities_inside_are_those_of_tfp(one, x):
    x = np.array(x, "float32")
    np.testing.assert_array_equal(log_prob(one, x), one.log_prob(x))


class Tempered(tfd.TransformedDistribution):
    def _log_prob(self, y, **kwargs):
        return 0.5 * super()._log_prob(y, **kwargs)


class Around(tfd.Distribution):
    def __init__(self, distribution):
        super().__init__(
            tf.float32, tfd.FULLY_REPARAMETERIZED, False, True, dict(locals())
        )

    def _log_prob(self, x):
        return -x


def test_what_others_write_is_not_looked_into():
    normal = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    inverse_only = tfb.Inline(
        inverse_fn=tf.math.log,
        inverse_log_det_jacobian_fn=lambda y: -tf.math.log(y),
        forward_min_event_ndims=0,
    )
    x = tf.constant([[1.0, 2.0]])
    for one in (
        Tempered(normal, tfb.Exp()),
        Around(EXPONENTIAL),
        tfd.TransformedDistribution(normal, inverse_only),
    ):
        np.testing.assert_allclose(log_prob(one, x), one.log_prob(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("base", "bijector", "x"),
    [
        (tfd.Gamma(0.5, 1.0), tfb.Exp(), -1.0),
        (tfd.Gamma(2.0, 1.0), tfb.Power(0.5), -1.0),
        (tfd.InverseGamma(2.0, 1.0), tfb.Shift(0.0), 0.0),
        (tfd.Beta(0.5, 0.5), tfb.Tanh(), 2.0),
    ],
    ids=["infinite", "power", "edge", "tanh"],
)
def test_densities_outside_are_0(base, bijector, x):
    flow = tfd.TransformedDistribution(base, bijector)
    preprocessed = tfpf.maf(
        (1,), preprocess=bijector, base=tfd.Sample(base, 1), steps=2, actnorm=False
    )
    assert log_prob(flow, tf.constant(x)) == -np.inf
    assert log_prob(preprocessed, tf.constant([x])) == -np.inf


@pytest.mark.parametrize(
    "part",
    [
        lambda a: tfd.TransformedDistribution(
            tfd.Normal(a, 1.0), tfb.WeibullCDF(1.0, a)
        ),
        lambda a: tfd.TransformedDistribution(tfd.Gamma(a, 1.0), tfb.Softplus()),
        lambda a: tfd.Exponential(a),
    ],
    ids=["weibull", "softplus", "exponential"],
)
def test_mixtures_learn_where_a_component_has_no_support(part):
    first = part(tf.Variable(0.5))
    flow = tfd.Mixture(
        tfd.Categorical(logits=[0.0, 0.0]), [first, tfd.Normal(0.0, tf.Variable(2.0))]
    )
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.SGD(1e-3))
    x = np.array([0.3, 0.6, -2.0, 1.5], "float32")
    history = model.fit(x, epochs=2, verbose=0).history["nll"]
    assert history[1] < history[0]


def test_slices_of_batches_of_bounded_flows():
    flow = tfpf.maf((2,), steps=2, hidden_units=(4,), actnorm=False)
    shift = tfb.Shift([[0.0, 0.0], [1.0, 1.0]])
    many = tfpf.on(tfb.Chain([shift, tfb.Exp()]), flow)
    y = np.array([[2.0, 2.0], [1.5, 1.2]], "float32")
    assert many[1].batch_shape == ()
    np.testing.assert_allclose(
        many[1].log_prob(y), tfpf.on(tfb.Exp(), flow).log_prob(y - 1.0), rtol=1e-5
    )


def test_bases_of_tfp_keep_what_they_can():
    first, second = (
        tfpf.maf((2,), steps=2, base=tfd.Sample(tfd.Gamma(a, 1.0), 2)).distribution
        for a in (2.0, 3.0)
    )
    expected = tfd.kl_divergence(tfd.Gamma(2.0, 1.0), tfd.Gamma(3.0, 1.0))
    np.testing.assert_allclose(tfd.kl_divergence(first, second), 2.0 * expected, 1e-5)
    assert first.distribution.quantile(0.5) > 0.0


def test_a_step_by_hand_says_where_it_stops():
    scale = tf.Variable([1.0, np.nan])
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Scale(scale)
    )
    model = tfpf.FlowModel(flow)
    model.compile("sgd")
    with pytest.raises(FloatingPointError, match="loss of training step 1 is nan"):
        model.train_on_batch(X)


@pytest.mark.parametrize(
    "ahead",
    [
        lambda: [tfb.Permute([1, 0])],
        lambda: [tfb.Scale(2.0), tfb.Reshape([2], [1, 2]), tfb.Transpose([1, 0])],
    ],
    ids=["permute", "reshape"],
)
def test_a_range_behind_other_orders_of_the_values(ahead):
    parts = ahead()
    shape = [2, 1] if len(parts) > 1 else [2]
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,)).bijector
    bijector = tfb.Chain([*parts, tfb.Exp(), tfb.Reshape(shape, [2]), flow])
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, bijector))
    found = model.predict(np.array([[0.5, 0.5], [-0.5, 0.5]], "float32"), verbose=0)
    assert np.isfinite(found[0])
    assert found[1] == -np.inf


def test_the_guard_names_a_part_of_tfps():
    parts = [tfpf.ActNorm(2), tfb.Softplus()]
    base = tfd.Sample(tfd.Normal(0.0, 1.0), 2)
    model = tfpf.FlowModel(tfd.TransformedDistribution(base, tfb.Chain(parts)))
    model.compile("sgd")
    x = np.random.default_rng(0).normal(size=(32, 2))
    with pytest.raises(FloatingPointError, match="latent of Softplus 'softplus'"):
        model.fit(x, verbose=0)


ROWS = normal(64, 2)


def trained_by_a_loop(flow):
    weights = flow.trainable_variables
    optimizer = keras.optimizers.Adam(0.03)
    optimizer.build(weights)
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(ROWS))
        optimizer.apply(tape.gradient(loss, weights), weights)


def assigned(flow):
    for weight in flow.trainable_variables:
        weight.assign_add(0.1 * tf.ones_like(weight))


def fit(model):
    model.fit(ROWS, verbose=0)


@pytest.mark.parametrize("steps", [2, 10])  # unrolled, and a loop over stacked weights
@pytest.mark.parametrize("train", [fit, lambda model: model.train_on_batch(ROWS)])
@pytest.mark.parametrize("moved", [trained_by_a_loop, assigned])
def test_what_a_loop_has_trained_waits_for_no_data(moved, train, steps, tmp_path):
    flow = tfpf.real_nvp((2,), steps=steps, hidden_units=(4,))
    assert not tfpf.FlowModel(flow).is_adapted
    moved(flow)
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    for one in (flow, tfpf.load_distribution(tmp_path / "flow.keras")):
        model = tfpf.FlowModel(one)
        model.compile(keras.optimizers.SGD(0.0))
        before = [v.numpy() for v in model.trainable_variables]
        train(model)
        assert model.is_adapted
        for old, new in zip(before, model.trainable_variables, strict=True):
            np.testing.assert_array_equal(old, new)


def test_only_parts_that_wait_are_set():
    trained, fresh = small(), small()
    assigned(trained)
    before = [v.numpy() for v in trained.trainable_variables]
    both = tfb.Chain([trained.bijector, fresh.bijector])
    flow = tfd.TransformedDistribution(fresh.distribution, both)
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(ROWS, verbose=0)
    assert model.is_adapted
    for old, new in zip(before, trained.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    x = trained.bijector.inverse(ROWS)
    z = fresh.bijector.inverse(x)
    np.testing.assert_allclose(np.std(z, axis=0), 1.0, atol=0.3)
