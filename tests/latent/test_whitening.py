"""`Whitening` starts a flow as the Gaussian that is fitted to the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from benchmarks.latent.frechet import fitted_gaussian
from tfp_flows import latent
from tfp_flows.internal.seeds import noise_like

tfd = tfp.distributions


@pytest.fixture(scope="module")
def rows():
    """Correlated vectors of five values whose axes have variances of all sizes."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(5, 5)) * [3.0, 1.0, 0.3, 0.1, 0.03]
    return generator.normal(size=(400, 5)) @ mixing.T + np.arange(5.0)


@pytest.fixture
def adapted(rows):
    whitening = latent.Whitening(5, dtype="float64")
    whitening.adapt(rows)
    return whitening


def test_it_is_the_fitted_gaussian(adapted, rows):
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(5, tf.float64)), adapted
    )
    covariance = np.cov(rows, rowvar=False, bias=True)
    exact = tfd.MultivariateNormalTriL(
        rows.mean(axis=0), np.linalg.cholesky(covariance)
    )
    np.testing.assert_allclose(flow.log_prob(rows), exact.log_prob(rows), rtol=1e-9)


def test_latents_are_white_and_come_back(adapted, rows):
    z = adapted.inverse(rows).numpy()
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.cov(z, rowvar=False, bias=True), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(adapted.forward(z), rows, atol=1e-10)
    images = rows.reshape(4, 10, 10, 5)
    np.testing.assert_allclose(adapted.inverse(images), z.reshape(4, 10, 10, 5))


def test_log_det_is_that_of_the_jacobian(adapted, rows):
    x = adapted.inverse(rows[:1])
    jacobian = np.stack([adapted.forward(x + row) - rows[:1] for row in np.eye(5)])[
        :, 0
    ]
    expected = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(
        adapted.forward_log_det_jacobian(x, 1), expected, rtol=1e-8
    )
    np.testing.assert_allclose(
        adapted.inverse_log_det_jacobian(rows[:1], 1), -expected, rtol=1e-8
    )


def test_axes_are_dealt_out_to_both_halves(adapted, rows):
    variances = np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True))[::-1]
    scale = np.asarray(adapted.variables[1])
    np.testing.assert_allclose(scale**2, variances[[0, 2, 4, 1, 3]], rtol=1e-9)


def test_nothing_is_trained(adapted):
    assert adapted.trainable_variables == ()
    assert adapted.is_adapted


def test_a_constant_value_keeps_its_scale(rows):
    rows = np.column_stack([rows, np.full(len(rows), 7.0)])
    whitening = latent.Whitening(6, dtype="float64")
    z = whitening.adapt(rows).numpy()
    assert np.isfinite(z).all()
    np.testing.assert_allclose(np.sort(z.std(axis=0)), [0, 1, 1, 1, 1, 1], atol=1e-6)


def test_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"more than 5 rows"):
        latent.Whitening(5).adapt(rows[:5].astype("float32"))
    with pytest.raises(ValueError, match="`d` must be an integer of at least 1"):
        latent.Whitening(0)


def test_a_latent_flow_measures_all_its_latents(images, tmp_path):
    flow = tfpf.real_nvp(
        (4,), couplings=2, hidden_units=(8,), preprocess=latent.Whitening(4)
    )
    model = latent.LatentFlow(
        (8, 8, 1),
        latent_dim=4,
        flow=flow,
        training="two-stage",
        pixel_levels=17,
        channels=(4, 4),
    )
    model.compile(optimizer="adam")
    images = images[:160]
    # Batches of 4 rows could not say what the covariance of 4 values is.
    history = model.fit(images, batch_size=4, flow_epochs=0, verbose=0).history
    assert set(history) == {"reconstruction_nll"}
    z = model.encode(images)
    gaussian = fitted_gaussian(z + model.noise * noise_like(z, 0))
    np.testing.assert_allclose(
        model.latent_log_prob(images), gaussian.log_prob(z), rtol=1e-3, atol=1e-3
    )
    history = model.fit(images, batch_size=64, epochs=0, flow_epochs=3, verbose=0)
    assert len(history.history["latent_nll"]) == 3
    np.testing.assert_array_equal(z, model.encode(images))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model.latent_log_prob(images), loaded.latent_log_prob(images)
    )
