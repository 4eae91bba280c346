"""Flows on supports, circles and spheres, and with noise beside the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

SMALL = {"steps": 2, "hidden_units": (8,), "dtype": "float64"}
MIDDLES = (np.arange(160) + 0.5) / 160


@pytest.mark.parametrize("autoregressive", [False, True])
def test_a_density_on_the_torus_sums_to_one_and_knows_no_seam(autoregressive):
    flow = tfpf.torus_flow(2, autoregressive=autoregressive, bins=4, **SMALL)
    perturb(flow, 0.1)
    angles = 2.0 * np.pi * (MIDDLES - 0.5)
    x = np.stack(np.meshgrid(angles, angles), -1).reshape(-1, 2)
    log_prob = flow.log_prob(x).numpy()
    assert np.ptp(log_prob) > 0.3
    np.testing.assert_allclose(np.mean(np.exp(log_prob)) * 4 * np.pi**2, 1.0, rtol=2e-3)
    turned = x[:9] + [2.0 * np.pi, -6.0 * np.pi]
    np.testing.assert_allclose(flow.log_prob(turned), log_prob[:9], atol=1e-9)
    seam = flow.log_prob([[np.pi - 1e-9, 0.3], [-np.pi + 1e-9, 0.3]])
    np.testing.assert_allclose(seam[0], seam[1], atol=1e-6)
    samples = flow.sample(500, seed=1)
    assert np.all(np.abs(samples) <= np.pi)
    assert np.all(np.isfinite(flow.log_prob(samples)))


def test_a_density_on_the_sphere_sums_to_one():
    flow = perturb(tfpf.sphere_flow(bins=4, **SMALL), 0.1)
    a, z = np.meshgrid(2.0 * np.pi * MIDDLES, 2.0 * MIDDLES - 1.0)
    r = np.sqrt(1.0 - z**2)
    y = np.stack([r * np.cos(a), r * np.sin(a), z], -1).reshape(-1, 3)
    density = np.exp(flow.log_prob(y))
    assert np.ptp(density) > 0.01
    np.testing.assert_allclose(np.mean(density) * 4.0 * np.pi, 1.0, rtol=2e-3)
    poles = flow.log_prob([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    assert np.all(np.isfinite(poles))
    off = flow.log_prob([[0.0, 0.0, 1.1], [np.nan, 0.0, 0.0]])
    assert off[0] == -np.inf
    assert np.isnan(off[1])
    samples = flow.sample(500, seed=1)
    np.testing.assert_allclose(np.linalg.norm(samples, axis=-1), 1.0, atol=1e-12)
    assert np.all(np.isfinite(flow.log_prob(samples)))


@pytest.mark.parametrize(
    ("support", "outside"),
    [
        ("positive", [0.5, -1.0]),
        ("unit_interval", [0.5, 1.5]),
        ("ordered", [0.5, 0.4]),
        ("simplex", [0.5, 0.2, 0.4]),
    ],
)
def test_a_flow_lives_on_a_support(support, outside):
    flow = tfpf.on(support, tfpf.real_nvp(2, **SMALL))
    samples = flow.sample(200, seed=1)
    assert samples.shape[1:] == flow.event_shape == (len(outside),)
    assert np.all(np.isfinite(flow.log_prob(samples)))
    found = flow.log_prob([outside, [np.nan] * len(outside)])
    assert found[0] == -np.inf
    assert np.isnan(found[1])


def _fill(dtype):
    return tfb.FillScaleTriL(diag_shift=tf.constant(1e-5, dtype))


_LOWER, _UPPER = [[1.0, 0.0], [0.5, 1.0]], [[1.0, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "inside", "outside"),
    [
        (lambda _: tfb.Ascending(), [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]),
        (lambda _: tfb.SoftmaxCentered(), [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5]),
        (
            lambda _: tfb.IteratedSigmoidCentered(),
            [0.1, 0.2, 0.3, 0.4],
            [0.1, 0.2, 0.3, -0.4],
        ),
        (_fill, _LOWER, _UPPER),
        (
            lambda _: tfb.CorrelationCholesky(),
            [[1.0, 0.0], [0.6, 0.8]],
            [[1.0, 0.0], [0.6, 0.7]],
        ),
        (
            lambda dtype: tfb.Chain([tfb.CholeskyOuterProduct(), _fill(dtype)]),
            [[1.0, 0.5], [0.5, 1.0]],
            [[1.0, 1.5], [1.5, 1.0]],
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_range_of_vectors_or_matrices_ends(make, inside, outside, dtype):
    support = make(dtype)
    size = support.inverse_event_shape(np.shape(inside))[0]
    noise = tfpf.bases.standard_normal(size, dtype)
    flow = tfpf.on(support, noise)
    by_tfp = tfd.TransformedDistribution(noise, make(dtype))
    y = np.array([inside, outside, np.full_like(inside, np.nan)], dtype)
    between = [support, *(tfb.Scale(tf.constant(s, dtype)) for s in (2.0, 0.5))]
    chained = tfd.TransformedDistribution(noise, tfb.Chain(between))
    served = [tfpf.FlowModel(f).predict(y, verbose=0) for f in (by_tfp, chained)]
    for found in (flow.log_prob(y).numpy(), *served):
        np.testing.assert_allclose(found[0], by_tfp.log_prob(y[0]), rtol=1e-5)
        assert found[1] == -np.inf
        assert np.isnan(found[2])
    with tf.GradientTape() as tape:
        x = tf.constant(y[:2])
        tape.watch(x)
        value = flow.log_prob(x)[0]
    assert np.all(np.isfinite(tape.gradient(value, x)))


@pytest.mark.parametrize(
    ("make", "inside", "outside"),
    [
        (
            lambda: tfb.Blockwise([tfb.Softplus(), tfb.Sigmoid()], [1, 1]),
            [1.0, 0.5],
            [[-1.0, 0.5], [1.0, 1.5]],
        ),
        (
            lambda: tfb.Chain([tfb.Permute([1, 0]), tfb.Exp()]),
            [1.0, 0.5],
            [[-1.0, 0.5], [1.0, -0.5]],
        ),
        (
            lambda: tfb.Chain([tfb.Reshape([2, 1], [2]), tfb.Softplus()]),
            [[1.0], [0.5]],
            [[[-1.0], [0.5]], [[1.0], [-0.5]]],
        ),
        (
            lambda: tfb.Invert(tfb.Chain([tfb.Permute([1, 0]), tfb.Log()])),
            [1.0, 0.5],
            [[-1.0, 0.5], [1.0, -0.5]],
        ),
    ],
    ids=["blockwise", "permuted", "reshaped", "inverted"],
)
def test_a_range_ends_in_any_container(make, inside, outside, tmp_path):
    plain = tfpf.real_nvp(2, **SMALL)
    by_tfp = tfd.TransformedDistribution(plain, make())
    y = np.array([inside, *outside, np.full_like(inside, np.nan)])
    flow = tfpf.on(make(), plain)
    tfpf.save_distribution(flow, tmp_path / "flow.keras")
    again = tfpf.load_distribution(tmp_path / "flow.keras")
    on_noise = tfpf.on(make(), tfpf.bases.standard_normal(2, "float64"))
    for one in (flow, again, on_noise):
        found = one.log_prob(y).numpy()
        assert np.isfinite(found[0])
        assert np.all(np.isneginf(found[1:3]))
        assert np.isnan(found[3])
    np.testing.assert_allclose(flow.log_prob(y[0]), by_tfp.log_prob(y[0]), rtol=1e-9)


def test_a_conditional_support_gets_its_conditions():
    inner = tfpf.real_nvp(2, condition_shape=(3,), **SMALL)
    perturb(inner, 0.3)
    permuted = [tfb.Permute([1, 0]), tfb.Exp(), inner.bijector]
    flow = tfpf.on(tfb.Chain(permuted), tfpf.bases.standard_normal(2, "float64"))
    c = np.ones((1, 3))
    found = tfpf.condition(flow, c).log_prob([[1.0, 0.5], [-1.0, 0.5]])
    logs = np.log([0.5, 1.0])
    expected = tfpf.condition(inner, c).log_prob([logs])[0] - logs.sum()
    np.testing.assert_allclose(found, [expected, -np.inf])


def test_a_density_on_the_simplex_is_by_its_area():
    noise = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), [1])
    first = (np.arange(4000) + 0.5) / 4000
    log_prob = tfpf.on("simplex", noise).log_prob(np.stack([first, 1.0 - first], -1))
    np.testing.assert_allclose(np.mean(np.exp(log_prob)) * 2**0.5, 1.0, rtol=1e-4)


@pytest.mark.parametrize("kind", ["torus", "sphere", "ordered", "augmented"])
def test_conditions_training_and_files(kind, tmp_path):
    options = {"steps": 2, "hidden_units": (8,)}
    x = np.random.default_rng(0).normal([1.0, 2.0], 0.3, (256, 2)).astype("float32")
    if kind == "augmented":
        noise = tfpf.spline_flow((1,), condition_shape=(2,), **options)
        flow = tfpf.Augmented(tfpf.real_nvp((3,), **options), 2, noise, samples=2)
    else:
        options["condition_shape"] = (3,)
        flow = {
            "torus": lambda: tfpf.torus_flow(2, **options),
            "sphere": lambda: tfpf.sphere_flow(**options),
            "ordered": lambda: tfpf.on("ordered", tfpf.real_nvp(2, **options)),
        }[kind]()
        assert tfpf.condition(flow, np.zeros((4, 3), "float32")).batch_shape == (4,)
    if kind == "sphere":
        x = np.pad(x, [[0, 0], [0, 1]])
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
    if kind == "ordered":
        x = np.sort(x, -1)
    c = np.zeros((len(x), 3), "float32")
    data = (x,) if kind == "augmented" else ((x, c),)
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(*data, epochs=4, batch_size=64, verbose=0).history["nll"]
    assert history[-1] < history[0]
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    given = {} if kind == "augmented" else {"condition": c[:5]}
    np.testing.assert_array_equal(
        again.sample(5, seed=1, **given), model.sample(5, seed=1, **given)
    )


def test_augmented_is_exact_where_noise_is_independent():
    flow = tfpf.Augmented(tfpf.bases.standard_normal(3, "float64"), 2)
    x = np.random.default_rng(0).normal(size=(4, 2))
    exact = tfpf.bases.standard_normal(2, "float64").log_prob(x)
    np.testing.assert_allclose(flow.log_prob(x), exact)
    with pytest.raises(ValueError, match="`values`.*Received"):
        tfpf.Augmented(tfpf.bases.standard_normal(3), 3)
    with pytest.raises(ValueError, match="`noise`.*Received"):
        tfpf.Augmented(tfpf.bases.standard_normal(3), 2, tfpf.real_nvp(2, steps=2))


def test_an_unknown_support_is_refused():
    with pytest.raises(ValueError, match="`support`.*Received"):
        tfpf.on("sphere", tfpf.bases.standard_normal(3))
    with pytest.raises(TypeError, match="`support`.*Received"):
        tfpf.on(None, tfpf.bases.standard_normal(3))
    flow = tfpf.on(tfb.Exp(), tfpf.bases.standard_normal(3))
    assert np.all(flow.sample(5) > 0.0)
