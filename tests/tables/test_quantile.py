"""The monotone spline of a column: laws, tails, densities in the column's units."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import tfp_flows as tfpf
from tfp_flows.tables import Quantile
from tfp_flows.tables.columns import fitted_transform

tfb, tfd = tfp.bijectors, tfp.distributions

RNG = np.random.default_rng(0)
VALUES = {
    "normal": RNG.normal(50.0, 7.0, 900),
    "lognormal": np.exp(RNG.normal(8.0, 2.0, 900)),
    "two heaps": np.concatenate([RNG.normal(0, 1e-3, 450), RNG.normal(1, 1e-3, 450)]),
    "many zeros": np.concatenate([np.zeros(300), RNG.exponential(4.0, 600)]),
    "rounded": np.round(RNG.normal(0.0, 1.0, 900), 1),
}
TRANSFORMS = {
    **{
        f"quantile, {name}": fitted_transform("quantile", v)
        for name, v in VALUES.items()
    },
    "standard": fitted_transform("standard", VALUES["normal"]),
    "log": fitted_transform("log", VALUES["lognormal"], 0.0),
    "log above -3": fitted_transform("log", VALUES["rounded"] + 2.0, -3.0),
}


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]


def latents():
    """Places inside, outside and at the knots of most splines."""
    return tf.constant(np.linspace(-6.0, 6.0, 401))


def test_round_trips(transform):
    x = latents()
    y = transform.forward(x)
    back = transform.inverse(tf.identity(y))
    np.testing.assert_allclose(back, x, rtol=0.0, atol=1e-8)
    again = transform.forward(tf.identity(back))
    np.testing.assert_allclose(again, y, rtol=1e-9, atol=1e-9 * np.ptp(y))


def test_log_det_is_that_of_automatic_differentiation(transform):
    x = latents()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = transform.forward(x + 0.0)
    slope = tape.gradient(y, x)
    assert np.all(slope > 0.0)
    forward = transform.forward_log_det_jacobian(x, 0)
    np.testing.assert_allclose(forward, np.log(slope), rtol=1e-9, atol=1e-9)
    y = tf.identity(y)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x = transform.inverse(y + 0.0)
    inverse = transform.inverse_log_det_jacobian(y, 0)
    expected = np.log(tape.gradient(x, y))
    np.testing.assert_allclose(inverse, expected, rtol=1e-6, atol=1e-6)


def test_density_in_the_columns_units_is_one_in_all(transform):
    normal = tfd.Normal(np.float64(0.0), np.float64(1.0))
    density = tfd.TransformedDistribution(normal, transform)
    # Between places of equal mass, so that no narrow heap is missed.
    ends = transform.forward(np.linspace(-8.0, 8.0, 200_001)).numpy()
    middles, widths = 0.5 * (ends[1:] + ends[:-1]), np.diff(ends)
    mass = np.sum(np.exp(density.log_prob(middles)) * widths)
    np.testing.assert_allclose(mass, 1.0, atol=1e-5)


def test_columns_become_normal():
    for name in ("normal", "lognormal", "two heaps"):
        latent = TRANSFORMS[f"quantile, {name}"].inverse(VALUES[name])
        assert stats.kstest(latent, "norm").statistic < 0.05, name
        # The least and the greatest of n values are where those of a normal are.
        least = stats.norm.ppf(0.5 / 900)
        np.testing.assert_allclose([latent.numpy().min(), -latent.numpy().max()], least)


def test_each_tail_is_as_wide_as_the_data_at_its_end():
    values = VALUES["lognormal"]
    far = TRANSFORMS["quantile, lognormal"].forward(np.float64([-4.0, 4.0])).numpy()
    # To the left, where the data are dense, samples stay near; to the right they go on.
    assert values.min() - 0.05 * np.median(values) < far[0] < values.min()
    assert values.max() < far[1] < 3.0 * values.max()


def test_slopes_are_continuous():
    transform = TRANSFORMS["quantile, lognormal"]
    knots = tf.constant(transform._knots[0])
    for step in (-1e-10, 1e-10):
        at = transform.forward_log_det_jacobian(knots, 0)
        beside = transform.forward_log_det_jacobian(knots + step, 0)
        np.testing.assert_allclose(at, beside, atol=1e-6)


def test_equal_knots_become_one():
    transform = TRANSFORMS["quantile, many zeros"]
    assert np.sum(transform._knots[1].numpy() == 0.0) == 1
    assert fitted_transform("quantile", np.array([0.0] * 99 + [1.0]))._knots[
        1
    ].shape == (2,)


def test_knots_are_saved_and_not_trained(tmp_path):
    transform = TRANSFORMS["quantile, lognormal"]
    assert transform.trainable_variables == ()
    assert len(transform.variables) == 3
    tfpf.save_bijector(transform, tmp_path / "column.keras")
    loaded = tfpf.load_bijector(tmp_path / "column.keras")
    x = latents()
    np.testing.assert_array_equal(loaded.forward(x), transform.forward(x))
    assert tfpf.check_bijector(transform, VALUES["lognormal"][:50]).ok


@pytest.mark.parametrize(
    ("latents", "values", "message"),
    [
        ([0.0], [1.0], "`latents` must be at least 2 increasing"),
        ([0.0, 0.0], [1.0, 2.0], "`latents` must be at least 2 increasing"),
        ([0.0, 1.0], [2.0, 1.0], "`values` must be at least 2 increasing"),
        ([0.0, 1.0], [0.0, 1.0, 2.0], "must have 2 knots"),
    ],
)
def test_wrong_knots_are_named(latents, values, message):
    with pytest.raises(ValueError, match=message):
        Quantile(latents, values)
