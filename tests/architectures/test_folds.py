"""`Folded`, `Exchangeable`, `MaxPooled`, `Decoded`: exact densities, training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions
X = np.random.default_rng(0).normal(size=(6, 3))


def normal(shape):
    return tfpf.bases.standard_normal(shape, "float64")


def test_signs_halve_a_density():
    sizes = tfd.Sample(tfd.HalfNormal(tf.ones([], tf.float64)), 3)
    folded = tfpf.Folded(sizes)
    np.testing.assert_allclose(folded.log_prob(X), normal(3).log_prob(X))
    drawn = folded.sample(500, seed=1)
    assert np.all(np.abs(np.mean(np.sign(drawn), 0)) < 0.2)


def test_an_order_is_one_of_all_and_a_density_has_the_sum_one():
    narrow = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 0.3), 2)
    flow = tfpf.on("ordered", narrow)
    side = np.arange(-4.0, 6.0, 0.02)
    grid = np.stack(np.meshgrid(side, side + 0.01), -1)
    density = np.exp(tfpf.Exchangeable(flow).log_prob(grid))
    np.testing.assert_allclose(np.sum(density) * 0.02**2, 1.0, atol=2e-3)
    x = np.array([[0.2, 1.1], [1.1, 0.2]])
    one, other = tfpf.Exchangeable(flow).log_prob(x)
    assert one == other
    drawn = tfpf.Exchangeable(flow).sample(400, seed=2)
    assert 100 < np.sum(drawn[:, 0] < drawn[:, 1]) < 300


def test_points_are_shuffled_whole():
    made = tfpf.Exchangeable(normal((6, 3)), by="shuffle")
    np.testing.assert_allclose(made.log_prob(X), normal((6, 3)).log_prob(X))
    v, _ = made.dequantize(tf.constant(X), [1, 2])
    assert not np.array_equal(v, X)
    np.testing.assert_array_equal(np.sort(v, 0)[:, 0], np.sort(X, 0)[:, 0])
    assert {tuple(row) for row in v.numpy()} == {tuple(row) for row in X}
    _, log_q = tfpf.Exchangeable(normal((6, 3))).dequantize(tf.constant(X), [1, 2])
    np.testing.assert_allclose(log_q, np.log(720.0))


def test_maxima_have_the_density_of_the_map():
    made = tfpf.MaxPooled(normal((1, 2, 8)))
    assert made.event_shape == (2, 4, 2)
    x = tf.constant(np.random.default_rng(1).normal(size=(3, 2, 4, 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        v, _ = made.dequantize(x, None)
    jacobian = tf.reshape(tape.batch_jacobian(v, x), [3, 16, 16])
    expected = made.flow.log_prob(v) - 4 * np.log(4.0) + tf.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(made.log_prob(x), expected, rtol=1e-10)
    np.testing.assert_allclose(v[:, 0, 0, 0], np.max(x[:, :, :2, 0], (1, 2)))
    again, _ = made.dequantize(made.draw(v, [1, 2]), None)
    np.testing.assert_allclose(again, v, atol=1e-9)


def given(d, k, kernel, log_scale):
    """A normal distribution around a multiple of its condition."""
    made = tfpf.bases.conditional_normal(d, (k,), dtype="float64")
    weights = made.bijector.trainable_variables
    weights[0].assign(np.concatenate([kernel * np.eye(d), np.zeros((d, d))], 1))
    weights[1].assign([0.0] * d + [log_scale] * d)
    return made


def test_the_bound_is_tight_with_the_true_posterior():
    decoder, encoder = given(3, 3, 1.0, 0.0), given(3, 3, 0.5, 0.5 * np.log(0.5))
    made = tfpf.Decoded(normal(3), decoder, encoder)
    both = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 2.0**0.5), 3)
    np.testing.assert_allclose(made.log_prob(X), both.log_prob(X))
    spread = np.std(made.sample(2000, seed=1))
    np.testing.assert_allclose(spread, 2.0**0.5, rtol=0.05)
    with pytest.raises(ValueError, match="`encoder`.*Received"):
        tfpf.Decoded(normal(2), decoder, encoder)


def flows():
    small = {"steps": 2, "hidden_units": (4,)}
    bases = tfpf.bases
    inner = tfpf.real_nvp((2,), condition_shape=(2,), **small)
    return {
        "folded": tfpf.Folded(tfpf.on("positive", inner)),
        "sorted": tfpf.Exchangeable(tfpf.on("ordered", tfpf.real_nvp((2,), **small))),
        "decoded": tfpf.Decoded(
            bases.diagonal_normal(1),
            bases.conditional_normal(2, (1,)),
            bases.conditional_normal(1, (2,)),
        ),
        "pooled": tfpf.MaxPooled(
            tfpf.glow((2, 2, 4), levels=1, steps=1, hidden_channels=4)
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "folded",
        "decoded",
        pytest.param("sorted", marks=pytest.mark.slow),
        pytest.param("pooled", marks=pytest.mark.slow),
    ],
)
def test_trains_and_saves(name, tmp_path):
    flow = flows()[name]
    shape = tuple(flow.event_shape)
    x = np.random.default_rng(2).normal(1.0, 0.3, (128, *shape)).astype("float32")
    c = np.zeros((128, 2), "float32")
    conditional = name == "folded"
    model = tfpf.FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.02))
    data = ((x, c),) if conditional else (x,)
    nll = model.fit(*data, epochs=3, batch_size=64, verbose=0).history["nll"]
    assert nll[-1] < nll[0]
    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    options = {"condition": c[:5]} if conditional else {}
    np.testing.assert_array_equal(
        again.sample(5, seed=1, **options), model.sample(5, seed=1, **options)
    )
