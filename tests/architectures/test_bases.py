"""Learned bases: what they start as, and that they train and save in a flow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions

BASES = {
    "diagonal_normal": (tfpf.bases.diagonal_normal, 2),
    "full_normal": (tfpf.bases.full_normal, 2),
    "normal_mixture": (lambda d: tfpf.bases.normal_mixture(d, 3), 3),
    "student_t": (tfpf.bases.student_t, 3),
}


def points(n=64):
    return np.random.default_rng(0).normal(2.0, 0.5, (n, 2)).astype("float32")


@pytest.mark.parametrize("name", ["diagonal_normal", "full_normal"])
def test_normals_start_standard(name):
    standard = tfd.MultivariateNormalDiag(tf.zeros([2]))
    log_prob = BASES[name][0](2).log_prob(points())
    np.testing.assert_allclose(log_prob, standard.log_prob(points()), rtol=1e-5)


def test_a_mixture_starts_at_the_clusters_of_data():
    centres = np.array([[-5.0, 0.0], [5.0, 1.0], [0.0, 8.0]])
    noise = np.random.default_rng(1).normal(0.0, 0.5, (400, 2))
    x = noise + centres[np.arange(400) % 4 % 3]  # shares 1/2, 1/4, 1/4
    base = tfpf.bases.normal_mixture(2, 3, data=x)
    found = np.sort(base.components_distribution.mean(), axis=0)
    np.testing.assert_allclose(found, np.sort(centres, axis=0), atol=0.2)
    shares = base.mixture_distribution.probs_parameter()
    np.testing.assert_allclose(np.sort(shares), [0.25, 0.25, 0.5], atol=0.02)
    spreads = base.components_distribution.stddev()
    np.testing.assert_allclose(spreads, 0.5, atol=0.3)
    with pytest.raises(ValueError, match="`data`.*Received"):
        tfpf.bases.normal_mixture(3, data=x)


def test_tails_of_student_t_are_heavy():
    base = tfpf.bases.student_t(2, degrees=3.0)
    far = base.log_prob([[1e3, 0.0]]) - base.log_prob([[1e4, 0.0]])
    np.testing.assert_allclose(far, 4 * np.log(10), rtol=1e-3)  # r^-(degrees + 1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n != "normal_mixture" else [])
        for n in BASES
    ],
)
def test_trains_and_saves_with_the_flow(name, tmp_path):
    make, variables = BASES[name]
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), base=make(2))
    model = tfpf.FlowModel(flow)
    assert len(model.trainable_weights) == len(flow.bijector.trainable_variables) + (
        variables
    )
    before = [np.array(v) for v in flow.distribution.trainable_variables]
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(points(), epochs=1, verbose=0)
    for old, new in zip(before, flow.distribution.trainable_variables, strict=True):
        assert np.abs(new - old).max() > 0
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(
        again.predict(points(), verbose=0), model.predict(points(), verbose=0)
    )


def test_names_the_argument_that_is_wrong():
    with pytest.raises(ValueError, match="`degrees`.*Received"):
        tfpf.bases.student_t(2, degrees=0.0)
    with pytest.raises(ValueError, match="`components`.*Received"):
        tfpf.bases.normal_mixture(2, components=0)


def test_a_mixture_of_flows_learns_its_weights_and_is_saved(tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(800, 2)).astype("float32")
    x[:, 0] += np.where(np.arange(800) % 4, -6.0, 6.0)
    flows = (tfpf.real_nvp((2,), steps=2, hidden_units=(8,)) for _ in range(2))
    flow = tfpf.mixture(*flows)
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.Adam(2e-2))
    model.fit(x, epochs=6, batch_size=50, verbose=0)
    weights = np.sort(tf.nn.softmax(flow.cat.logits))
    np.testing.assert_allclose(weights, [0.25, 0.75], atol=0.05)
    tfpf.save_distribution(flow, tmp_path / "mixture.keras")
    loaded = tfpf.load_distribution(tmp_path / "mixture.keras")
    np.testing.assert_array_equal(loaded.log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize(
    "flows",
    [
        lambda: [tfpf.real_nvp((2,), steps=2)],
        lambda: [tfpf.real_nvp((d,), steps=2) for d in (2, 3)],
        lambda: [tfpf.real_nvp((2,), steps=2, dtype=t) for t in ("float32", "float64")],
    ],
)
def test_flows_that_cannot_be_mixed_are_refused(flows):
    with pytest.raises(ValueError, match="Argument `flows` must"):
        tfpf.mixture(*flows())
