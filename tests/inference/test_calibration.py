"""Calibration on a conjugate normal model, whose posterior is known exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.inference.calibration import (
    Calibration,
    calibrate,
    calibration_figure,
    contraction_figure,
    ecdf_figure,
    posterior_draws,
    ranks,
)

tfb, tfd = tfp.bijectors, tfp.distributions

# theta ~ N(0, 1), x ~ N(theta, NOISE): theta given x is N(GAIN x, SPREAD).
NOISE = 0.5
GAIN = 1.0 / (1.0 + NOISE**2)
SPREAD = NOISE * np.sqrt(GAIN)
N, DRAWS = 2000, 63
# Under a right posterior a test here fails by chance once in a thousand seeds.
CHANCE = 1e-3


def simulated(n=N, d=2, seed=0):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, d))
    x = theta + NOISE * rng.normal(size=(n, d))
    return theta.astype("float32"), x.astype("float32")


def affine_posterior(gain=GAIN, spread=SPREAD, shift=0.0):
    """`N(gain x + shift, spread)`, as a conditional flow."""
    net = linear(gain, spread, shift)
    affine = tfpf.ConditionalAffine((2,), net, condition_shape=(2,))
    return tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [2]), affine)


def linear(gain, spread, shift):
    net = keras.layers.Dense(4)
    net.build((None, 2))
    kernel = np.concatenate([gain * np.eye(2), np.zeros((2, 2))], axis=1)
    net.set_weights([kernel, np.array([shift, shift, np.log(spread), np.log(spread)])])
    return net


def tried(**wrong):
    theta, x = simulated()
    return calibrate(affine_posterior(**wrong), theta, x, draws=DRAWS, seed=1)


def test_an_exact_posterior_passes():
    calibration = tried()
    assert calibration.ranks.shape == (N, 2)
    assert calibration.ranks.min() == 0
    assert calibration.ranks.max() == DRAWS
    assert np.all(calibration.p_values() > CHANCE)
    levels = np.array([0.1, 0.5, 0.8, 0.95])
    error = 4.0 * np.sqrt(levels * (1 - levels) / N)
    assert np.all(np.abs(calibration.coverage(levels).T - levels) < error)


@pytest.mark.parametrize(
    ("wrong", "coverage"),
    [
        ({"spread": 0.6 * SPREAD}, "below"),
        ({"spread": 1.6 * SPREAD}, "above"),
        ({"shift": 0.25}, "below"),
        ({"gain": 0.6 * GAIN}, "below"),
    ],
    ids=["too narrow", "too wide", "shifted", "blind"],
)
def test_a_wrong_posterior_is_found(wrong, coverage):
    calibration = tried(**wrong)
    assert np.all(calibration.p_values() < 1e-6)
    covered = calibration.coverage([0.8])[0]
    assert np.all(covered < 0.78 if coverage == "below" else covered > 0.82)


def test_the_prior_has_uniform_ranks_too():
    """What the docstring warns of: uniform ranks do not make a good posterior."""
    calibration = tried(gain=0.0, spread=1.0)
    assert np.all(calibration.p_values() > CHANCE)


def test_p_values_are_uniform_for_uniform_ranks():
    rng = np.random.default_rng(0)
    uniform = Calibration(rng.integers(0, 101, size=(500, 400)), 100, ("t",) * 400)
    p = uniform.p_values()
    assert abs(np.mean(p) - 0.5) < 4.0 * np.sqrt(1 / 12 / 400)
    assert abs(np.mean(p < 0.1) - 0.1) < 4.0 * np.sqrt(0.1 * 0.9 / 400)


def test_counts_and_expected_counts_add_up():
    rng = np.random.default_rng(0)
    calibration = Calibration(rng.integers(0, 11, size=(300, 2)), 10, ("a", "b"))
    counts, expected = calibration.counts(4)
    np.testing.assert_array_equal(counts.sum(axis=1), 300)
    assert expected.sum() == pytest.approx(300)
    # Eleven ranks in four bins: three bins of three and one of two.
    assert sorted(np.round(expected * 11 / 300).astype(int)) == [2, 3, 3, 3]


def test_bins_of_equally_many_ranks_where_there_are_some():
    def bins(draws, n=1000):
        ranks = np.zeros((n, 1), int)
        return Calibration(ranks, draws, ("t",)).counts()[1].size

    assert [bins(255), bins(99), bins(100), bins(255, n=100)] == [16, 20, 20, 4]


def test_ranks_count_draws_below():
    samples = np.array([[[1.0]], [[2.0]], [[5.0]]])
    np.testing.assert_array_equal(ranks(samples, [[3.0]]), [[2]])
    with pytest.raises(ValueError, match="`samples` must have shape"):
        ranks(samples, [[3.0, 4.0]])
    with pytest.raises(ValueError, match="finite"):
        ranks(samples, [[np.nan]])


def test_batches_change_nothing_but_the_draws():
    theta, x = simulated(250)
    posterior = affine_posterior()
    whole = calibrate(posterior, theta, x, draws=31, batch_size=250)
    parts = calibrate(posterior, theta, x, draws=31, batch_size=100, names=("a", "b"))
    assert whole.ranks.shape == parts.ranks.shape
    assert parts.names == ("a", "b")
    assert np.corrcoef(whole.ranks.ravel(), parts.ranks.ravel())[0, 1] > 0.9


def test_wrong_arguments():
    theta, x = simulated(10)
    with pytest.raises(ValueError, match="`parameters` must have shape"):
        calibrate(affine_posterior(), theta[:5], x)
    with pytest.raises(ValueError, match="`names` must name 2"):
        calibrate(affine_posterior(), theta, x, draws=3, names=("a",))


def test_the_picture_shows_what_was_counted(tmp_path):
    calibration = tried(spread=0.6 * SPREAD)
    figure = calibration_figure(calibration)
    figure.savefig(tmp_path / "calibration.png")
    top, bottom = figure.axes[:2], figure.axes[2:]
    counts, _ = calibration.counts()
    for k in range(2):
        np.testing.assert_array_equal(top[k].patches[-1].get_data().values, counts[k])
        curve = bottom[k].lines[-1].get_ydata()
        np.testing.assert_allclose(
            curve, calibration.coverage(np.linspace(0, 1, 101))[:, k]
        )
    assert "p = " in top[0].get_title()


@pytest.mark.slow
def test_a_trained_flow_is_calibrated():
    theta, x = simulated(20_000, seed=3)
    flow = tfpf.spline_flow((2,), couplings=3, hidden_units=(32,), condition_shape=(2,))
    model = tfpf.FlowModel(flow)
    model.compile(optimizer="adam")
    model.fit(theta, x, batch_size=200, epochs=8, verbose=0)
    fresh, data = simulated(1000, seed=4)
    calibration = calibrate(model.distribution, fresh, data)
    levels = np.array([0.5, 0.8, 0.95])
    assert np.all(np.abs(calibration.coverage(levels).T - levels) < 0.05)
    exact = tfd.MultivariateNormalDiag(GAIN * data, SPREAD * tf.ones(2))
    learned = tfpf.condition(model.distribution, data).log_prob(fresh)
    assert np.mean(exact.log_prob(fresh) - learned) < 0.05


def test_the_band_holds_all_of_an_exact_ecdf_with_its_confidence():
    rng = np.random.default_rng(0)
    uniform = Calibration(rng.integers(0, 64, [200, 400]), 63, ("",) * 400)
    share, found = uniform.ecdf()
    low, high = uniform.ecdf_band(0.9)
    outside = ((found < low[:, None]) | (found > high[:, None])).any(axis=0)
    assert 0.05 < outside.mean() < 0.15
    # Pointwise, it is wider than an interval of 90 %.
    assert np.all(high - low > 2 * 1.645 * np.sqrt(share * (1 - share) / 200))
    assert 0.05 < (uniform.ecdf_p_values() < 0.1).mean() < 0.15


def test_moments_of_an_exact_posterior():
    calibration = tried()
    z, contraction = calibration.z_scores(), calibration.contraction()
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose((z**2).mean(axis=0), 1.0, atol=0.15)
    np.testing.assert_allclose(contraction.mean(axis=0), 1 - SPREAD**2, atol=0.02)
    narrow = tried(spread=0.5 * SPREAD)
    assert (narrow.z_scores() ** 2).mean() > 3.0
    assert len(ecdf_figure(narrow).axes) == len(contraction_figure(narrow).axes) == 2
    with pytest.raises(ValueError, match="must hold truths and moments"):
        Calibration(calibration.ranks, DRAWS, calibration.names).z_scores()


def test_a_function_from_data_to_a_joint_posterior():
    theta, x = simulated(n=500)

    def posterior(x):
        normal = tfd.Normal(GAIN * x, np.float32(SPREAD))
        return tfd.JointDistributionNamed(
            {
                "a": tfd.Independent(normal[..., :1], 1),
                "b": normal[..., 1],
            }
        )

    parameters = {"a": theta[:, :1], "b": theta[:, 1]}
    calibration = calibrate(posterior, parameters, x, draws=DRAWS, seed=1)
    assert calibration.ranks.shape == (500, 2)
    assert np.all(calibration.ecdf_p_values() > CHANCE)
    drawn = posterior_draws(posterior, x, draws=DRAWS, seed=1)
    assert drawn.shape == (DRAWS, 500, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), calibration.means, atol=1e-5)


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(0)
    coins = rng.integers(0, 2, (1000, 1)), rng.integers(0, 2, (99, 1000, 1))
    ones = np.ones((1000, 1)), np.ones((99, 1000, 1))
    for truths, draws in (coins, ones):
        found = ranks(draws, truths)
        assert Calibration(found, 99, ("a",)).p_values() > 1e-3
    points = np.zeros_like(coins[0])
    assert tfpf.inference.tarp(coins[1], coins[0], points).p_values() > 1e-3


def test_constants_and_single_values():
    """Of Cholesky factors some entries are constant."""
    data = np.random.default_rng(0).normal(size=(50, 1)).astype("float32")

    def with_a_constant(x):
        normal = tfd.MultivariateNormalDiag(tf.concat([x, x], -1), [1.0, 0.5])
        return tfd.TransformedDistribution(normal, tfb.Scale([0.0, 1.0]))

    truths = np.concatenate([0.0 * data, data], axis=-1)
    found = calibrate(with_a_constant, truths, data)
    assert np.all(found.contraction()[:, 0] == 0.0)
    assert np.all(found.z_scores()[:, 0] == 0.0)
    single = calibrate(lambda x: tfd.Normal(x[:, 0], 0.5), data[:, 0], data)
    assert single.ranks.shape == (50, 1)
