"""What tells right posteriors from wrong ones."""

import sys

import numpy as np
import pytest
from scipy import stats
from tensorflow_probability import distributions as tfd

from benchmarks.inference import diagnostics
from tfp_flows.inference import (
    c2st,
    ecdf_figure,
    effective_sample_size,
    evidence,
    from_arviz,
    local_c2st,
    mmd,
    posterior_predictive,
    psis,
    tarp,
    to_arviz,
    two_sample_figure,
    weights_figure,
)


def normal(*shape, seed=0, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, shape)


def test_c2st_is_that_of_the_benchmark():
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    p = normal(100, 2, mean=3.0, scale=2.0)
    q = normal(100, 2, seed=1, mean=4.0)
    x, y = (p - p.mean(0)) / p.std(0, ddof=1), (q - p.mean(0)) / p.std(0, ddof=1)
    network = MLPClassifier((20, 20), max_iter=1000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    scores = cross_val_score(
        network, np.concatenate([x, y]), [0] * 100 + [1] * 100, cv=folds
    )
    assert c2st(p, q, seed=1) == pytest.approx(scores.mean(), abs=1e-12)


def test_c2st_of_equal_and_of_shifted_draws():
    # The best accuracy for means two deviations apart is the normal's at 1.
    p = normal(500, 1)
    assert abs(c2st(p, normal(500, 1, seed=1)) - 0.5) < 0.05
    assert abs(c2st(p, normal(500, seed=1, mean=2.0)) - 0.841) < 0.04


@pytest.mark.parametrize(
    ("p", "q", "word"),
    [
        (np.zeros([5, 2]), np.zeros([5, 3]), "draws_q"),
        (np.zeros([5, 2]), np.zeros([4, 2]), "draws_q"),
        (np.full([5, 2], np.nan), np.zeros([5, 2]), "draws_p"),
        (np.zeros([5, 2, 2]), np.zeros([5, 2]), "draws_p"),
    ],
)
def test_c2st_refuses(p, q, word):
    with pytest.raises(ValueError, match=f"Argument `{word}` must"):
        c2st(p, q)


def test_local_c2st_finds_where_a_posterior_is_wrong():
    # theta ~ N(0, 1), x | theta ~ N(theta, 1): theta | x ~ N(x / 2, 1 / 2). The tried
    # posterior is right for x < 0 and shifted for x > 0.
    n = 700
    theta = normal(n)
    x = theta + normal(n, seed=1)

    def draws(x, seed):
        return x / 2 + np.sqrt(0.5) * normal(len(x), seed=seed) + 1.5 * (x > 0)

    found = [
        local_c2st(
            draws(x, 2), theta, x, draws(np.full(300, o), 3), [o], trials=19, seed=0
        )
        for o in (-1.5, 1.5)
    ]
    assert found[0].p_value > 0.05 >= found[1].p_value
    assert found[1].statistic > 3.0 * found[0].statistic


def test_mmd_is_the_mean_over_pairs_without_bias():
    x, y = normal(30, 2), normal(20, 2, seed=1, mean=1.0)
    test = mmd(x, y, trials=50)
    both = (np.concatenate([x, y]) - x.mean(0)) / x.std(0, ddof=1)
    distance = np.linalg.norm(both[:, None] - both, axis=-1)
    width = np.median(distance[np.triu_indices(50, 1)])
    kernel = np.exp(-(distance**2) / (2 * width**2))
    np.fill_diagonal(kernel, 0.0)
    expected = kernel[:30, :30].sum() / (30 * 29) + kernel[30:, 30:].sum() / (20 * 19)
    expected -= 2 * kernel[:30, 30:].mean()
    assert test.statistic == pytest.approx(expected, abs=1e-12)
    assert test.p_value == 1 / 51


def test_mmd_of_one_observation():
    x = normal(300, 3)
    assert mmd(x, np.zeros([1, 3])).p_value > 0.1
    assert mmd(x, np.full([1, 3], 4.0)).p_value < 0.01


def test_mmd_p_values_are_uniform_for_equal_distributions():
    found = [
        mmd(normal(60, seed=2 * s), normal(40, seed=2 * s + 1), trials=99).p_value
        for s in range(200)
    ]
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_tarp_points_are_not_the_truths_of_an_equal_seed():
    rng = np.random.default_rng(0)
    truths = rng.uniform(size=[400, 2])
    found = tarp(rng.uniform(size=[63, 400, 2]), truths, seed=0)
    assert found.ecdf_p_values()[0] > 1e-3
    assert tarp(0.5 * rng.uniform(size=[63, 400, 2]), truths).ecdf_p_values()[0] < 0.01


def test_figures():
    rng = np.random.default_rng(0)
    assert two_sample_figure(mmd(normal(50), normal(50, seed=1), trials=20)).axes
    assert weights_figure(rng.normal(size=200)).axes
    ranked = tarp(rng.uniform(size=[63, 100, 2]), rng.uniform(size=[100, 2]))
    assert ecdf_figure(ranked).axes


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_k_hat_is_the_shape_of_the_tail(k):
    weights = stats.genpareto.rvs(k, size=[20, 4000], random_state=0)
    found = [psis(np.log(row)).k_hat for row in weights]
    assert np.mean(found) == pytest.approx(k, abs=0.06)


def test_psis_lessens_the_error_of_means():
    # q = N(0, 0.7^2) for p = N(0, 1): weights of infinite variance.
    z = normal(60, 1000, scale=0.7)
    log_weights = stats.norm.logpdf(z) - stats.norm.logpdf(z, scale=0.7)
    raw = np.exp(log_weights) / np.exp(log_weights).sum(1, keepdims=True)
    smooth = np.exp([psis(row).log_weights for row in log_weights])
    np.testing.assert_allclose(smooth.sum(1), 1.0, atol=1e-9)
    error = [((w * z**2).sum(1) - 1.0).std() for w in (raw, smooth)]
    assert error[1] < error[0]
    # What is not in the tail keeps its weight, relative to each other.
    assert np.ptp((np.log(smooth) - log_weights)[0][np.argsort(raw[0])[:800]]) < 1e-9


def test_equal_weights_and_weights_of_zero():
    rng = np.random.default_rng(0)
    assert psis(1e-7 * rng.normal(size=100)).k_hat == -np.inf
    assert effective_sample_size(np.zeros(100)) == pytest.approx(100.0)
    half = np.where(np.arange(100) < 50, 0.0, -np.inf)
    assert effective_sample_size(half) == pytest.approx(50.0)
    assert evidence(half).log_evidence == pytest.approx(np.log(0.5))
    assert evidence(half).standard_error == pytest.approx(0.1, rel=0.01)
    assert psis(half).log_weights[-1] == -np.inf
    with pytest.raises(ValueError, match="Argument `log_weights` must"):
        evidence([0.0, np.nan])


def test_evidence_has_its_standard_error():
    z = normal(300, 500, scale=1.5)
    log_weights = stats.norm.logpdf(z) - stats.norm.logpdf(z, scale=1.5) + 3.0
    found = np.array([evidence(row) for row in log_weights])
    assert found[:, 0].mean() == pytest.approx(3.0, abs=0.01)
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.15)


@pytest.mark.parametrize("named", [True, False])
def test_posterior_predictive(named):
    def given(mean):
        return tfd.Sample(tfd.Normal(mean, 0.1), [3])

    root = tfd.Normal(0.0, 1.0)
    latent = np.linspace(-5.0, 5.0, 7, dtype=np.float32)
    if named:
        joint = tfd.JointDistributionNamed({"mean": root, "y": given})
        drawn = posterior_predictive(joint, {"mean": latent}, seed=0)["y"]
    else:
        joint = tfd.JointDistributionSequential([root, given])
        drawn = posterior_predictive(joint, [latent, None], seed=0)[1]
    assert drawn.shape == (7, 3)
    assert np.abs(np.asarray(drawn) - latent[:, None]).max() < 1.0


def test_diagnostics_find_what_they_are_for():
    seeds = 4
    counts = diagnostics.counts(seeds, diagnostics.QUICK)
    for name, row in counts.items():
        assert row["right"] <= 1, name
    for kind, found_by in {
        "overconfident": ["ranks, ECDF band", "TARP, random points", "contraction"],
        "shifted": ["ranks, ECDF band", "TARP, a corner", "mean z-score"],
        "leaking": ["TARP, random points", "contraction", "ESS below 90 %"],
    }.items():
        assert all(counts[name][kind] == seeds for name in found_by), kind
    assert counts["k-hat above 0.7, no box"]["overconfident"] >= seeds // 2


@pytest.mark.slow
def test_two_sample_tests_find_what_they_are_for():
    seeds = 3
    counts = diagnostics.counts(
        seeds, (diagnostics.by_reference, diagnostics.by_local_test)
    )
    for name, row in counts.items():
        assert row["right"] <= 1, name
        least = seeds - 1 if name == "L-C2ST" else seeds  # which misses one in five
        assert min(row[kind] for kind in diagnostics.KINDS[1:]) >= least, name


def test_arviz_there_and_back():
    arviz = pytest.importorskip("arviz")
    draws = {"a": normal(20), "b": normal(20, 3)}
    data = to_arviz(draws, chains=4, observed={"y": normal(5)}, prior={"a": normal(40)})
    assert isinstance(data, arviz.InferenceData)
    assert dict(data.posterior.sizes)["chain"] == 4
    back = from_arviz(data)
    np.testing.assert_array_equal(back["b"], draws["b"])
    assert list(from_arviz(data, ["a"])) == ["a"]
    with pytest.raises(ValueError, match="Argument `names` must"):
        from_arviz(data, ["c"])


def test_k_hat_beside_arviz():
    arviz = pytest.importorskip("arviz")
    log_weights = 1.5 * normal(2000)
    theirs, k = arviz.psislw(log_weights)
    ours = psis(log_weights)
    assert ours.k_hat == pytest.approx(float(k), abs=0.05)
    np.testing.assert_allclose(ours.log_weights, theirs, atol=0.15)


def test_without_arviz_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install tfp-flows\[arviz\]"):
        to_arviz({"a": [1.0]})


def test_weights_of_zero_stay_zero():
    """Where less than a tail of draws lies within the support, too."""
    log_weights = np.full(1000, -np.inf)
    log_weights[:50] = 0.3 * np.random.default_rng(0).normal(size=50)
    smoothed = psis(log_weights)
    assert np.all(smoothed.log_weights[50:] == -np.inf)
    assert smoothed.k_hat < 0.7


def test_mmd_of_counts_most_of_which_are_equal():
    rng = np.random.default_rng(0)
    few, others = rng.poisson(0.15, (200, 1)), rng.poisson(0.15, (200, 1))
    assert mmd(few, others).p_value > 0.01
    assert mmd(few, rng.poisson(2.0, (200, 1))).p_value < 0.01
