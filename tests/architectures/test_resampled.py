"""`Resampled`: a density, its draws, its training and its way through files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions


def base(truncation=3, dtype="float64", spread=1.0, **kwargs):
    """A base of two values whose network says yes here and no there."""
    made = tfpf.bases.resampled(
        2, hidden_units=(8,), truncation=truncation, dtype=dtype, **kwargs
    )
    rng = np.random.default_rng(4)
    for weight in made.acceptance.trainable_weights:
        weight.assign(spread * rng.normal(size=weight.shape))
    logits = made.acceptance(rng.normal(size=(1000, 2)))
    weight.assign_add([-np.mean(logits)])  # The last one is the bias of the output.
    return made


def grid(n=161, bound=6.0):
    ticks = np.linspace(-bound, bound, n)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    return points, (ticks[1] - ticks[0]) ** 2


def test_starts_as_the_proposal():
    made = tfpf.bases.resampled(2, dtype="float64")
    x = np.random.default_rng(0).normal(size=(5, 2))
    standard = tfd.MultivariateNormalDiag(tf.zeros([2], tf.float64))
    np.testing.assert_allclose(made.log_prob(x), standard.log_prob(x), atol=1e-12)


@pytest.mark.parametrize("truncation", [2, 20])
def test_density_is_the_formula_and_integrates_to_one(truncation):
    made = base(truncation, spread=2.0, draws=200_000)
    points, area = grid()
    proposal = np.exp(made.proposal.log_prob(points))
    a = 1 / (1 + np.exp(-made.acceptance(points).numpy()[:, 0]))
    z = np.sum(proposal * a) * area
    assert 0.1 < z < 0.9
    alpha = (1 - z) ** (truncation - 1)
    expected = proposal * ((1 - alpha) * a / z + alpha)
    density = np.exp(made.log_prob(points))
    np.testing.assert_allclose(density, expected, rtol=0.02)
    assert np.sum(density) * area == pytest.approx(1.0, abs=0.01)


def test_draws_have_the_density():
    made = base(truncation=3, spread=2.0, draws=200_000)
    x = made.sample(40_000, seed=[1, 2]).numpy()
    points, area = grid()
    density = np.exp(made.log_prob(points))
    for k in range(2):
        for power in (1, 2):
            true = np.sum(density * points[:, k] ** power) * area
            error = np.std(x[:, k] ** power) / len(x) ** 0.5
            assert np.mean(x[:, k] ** power) == pytest.approx(
                true, abs=5 * error + 0.01
            )
    # The law is that of the truncated sampler, not that of the proposal.
    assert np.abs(np.sum(density * points[:, 0]) * area) > 0.1


def test_graphs_and_xla_draw_and_score_too():
    made = base(dtype="float32")
    eager = made.sample(50, seed=[3, 4])

    def drawn(jit):
        def draw():
            return made.sample(50, seed=[3, 4])

        return tf.function(draw, autograph=False, jit_compile=jit)()

    np.testing.assert_allclose(drawn(jit=False), eager, atol=1e-5)
    # XLA has another generator of random numbers.
    np.testing.assert_array_equal(drawn(jit=True), drawn(jit=True))
    assert drawn(jit=True).shape == (50, 2)
    x = eager.numpy().reshape(5, 10, 2)
    assert made.log_prob(x).shape == (5, 10)
    traced = tf.function(made.log_prob, autograph=False)
    np.testing.assert_allclose(traced(x), made.log_prob(x), atol=1e-5)
    compiled = tf.function(made.log_prob, autograph=False, jit_compile=True)
    # XLA's draws for the constant are others, and so is the constant a little.
    np.testing.assert_allclose(compiled(x), made.log_prob(x), atol=0.05)


def test_density_is_fixed_but_for_training():
    made = base()
    np.testing.assert_array_equal(made.log_normalizer(), made.log_normalizer())
    first, second = (made.log_normalizer(training=True) for _ in range(2))
    assert first[0] != second[0]
    assert float(first[0]) == pytest.approx(float(made.log_normalizer()[0]), abs=0.2)


def test_gradients_stay_finite_where_all_or_nothing_is_kept():
    for bias in (-60.0, 60.0):
        made = base(dtype="float32")
        *_, last = made.acceptance.trainable_weights
        last.assign([bias])
        weights = [w.value for w in made.acceptance.trainable_weights]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made.log_prob([[0.5, -1.0], [2.0, 0.0]]))
        assert np.isfinite(loss)
        for gradient in tape.gradient(loss, weights):
            assert np.all(np.isfinite(gradient))


def moons(n=4000):
    return tfpf.data.sample("two_moons", n, seed=1).astype("float32")


def test_learns_saves_exports_and_beats_its_proposal(tmp_path):
    flow = tfpf.real_nvp(
        (2,), steps=2, hidden_units=(16,), base=tfpf.bases.resampled(2)
    )
    assert len(flow.trainable_variables) == len(flow.bijector.trainable_variables) + 6
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    before = [np.array(w) for w in flow.distribution.acceptance.trainable_weights]
    model.fit(moons(), batch_size=256, epochs=6, verbose=0)
    after = flow.distribution.acceptance.trainable_weights
    assert all(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True))
    x = moons()[:100]
    plain = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 2), flow.bijector
    )
    assert np.mean(flow.log_prob(x)) > np.mean(plain.log_prob(x)) + 0.1

    model.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(again.distribution.log_prob(x), flow.log_prob(x))
    tfpf.save_distribution(flow.distribution, tmp_path / "base.keras")
    alone = tfpf.load_distribution(tmp_path / "base.keras")
    np.testing.assert_array_equal(
        alone.sample(5, seed=[1, 2]), flow.distribution.sample(5, seed=[1, 2])
    )
    version = tfpf.export_saved_model(model, tmp_path / "served", warmup=False)
    served = tf.saved_model.load(version).signatures["log_prob"](x=tf.constant(x))
    np.testing.assert_allclose(served["log_prob"], flow.log_prob(x), atol=1e-4)


def test_names_the_argument_that_is_wrong():
    with pytest.raises(ValueError, match="`truncation`.*Received: truncation=1"):
        tfpf.bases.resampled(2, truncation=1)
    with pytest.raises(ValueError, match="`proposal`.*Received: event shape"):
        tfpf.bases.resampled(2, proposal=tfd.Normal(0.0, 1.0))
