"""The report's figures are scikit-learn's, and its intervals cover the truth."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from tfp_flows.anomaly import detection_report


def scores(seed, shift, n=200):
    return np.random.default_rng(seed).normal(shift, 1.0, n)


@pytest.fixture(scope="module")
def report():
    normal = {"good": scores(0, 0.0), "coin": scores(1, 0.0)}
    anomalies = {
        "far": {"good": scores(2, 3.0), "coin": scores(3, 0.0)},
        "near": {"good": scores(4, 1.0, 50), "coin": scores(5, 0.0, 50)},
    }
    return detection_report(normal, anomalies, resamples=100)


def test_figures_are_those_of_scikit_learn(report):
    labels = np.repeat([0, 1], [200, 50])
    values = np.concatenate([scores(0, 0.0), scores(4, 1.0, 50)])
    near = report.best("near")
    assert near.scorer == "good"
    assert near.auroc.value == pytest.approx(roc_auc_score(labels, values))
    assert near.aupr.value == pytest.approx(average_precision_score(labels, values))
    assert (near.normal_count, near.anomaly_count) == (200, 50)
    for row in report.rows:
        for figure in (row.auroc, row.aupr):
            assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    truth = stats.norm.cdf(1.0 / np.sqrt(2.0))
    covered = 0
    for seed in range(30):
        normal, far = scores(2 * seed, 0.0, 60), scores(2 * seed + 1, 1.0, 60)
        row = detection_report(
            {"s": normal}, {"a": {"s": far}}, confidence=0.8, resamples=50, seed=seed
        ).rows[0]
        covered += row.auroc.low <= truth <= row.auroc.high
    # 24 are expected of 30, with a standard deviation of 2.
    assert 17 <= covered <= 29


def test_more_rows_narrow_the_interval():
    def width(n):
        report = detection_report(
            {"s": scores(0, 0.0, n)}, {"a": {"s": scores(1, 1.0, n)}}, resamples=100
        )
        return report.rows[0].auroc.high - report.rows[0].auroc.low

    assert width(1600) < 0.5 * width(100)


def test_is_a_table_and_json(report):
    text = str(report)
    for word in ("far", "near", "good", "coin", "AUROC", "95%", "200 + 50"):
        assert word in text
    best = report.best("far")
    assert f"{best.auroc.value:.3f} [{best.auroc.low:.3f}" in text
    document = json.loads(json.dumps(report.to_dict()))
    assert document["rows"][0]["auroc"]["value"] == report.rows[0].auroc.value
    assert document["resamples"] == 100


def test_wrong_arguments_are_named(report):
    with pytest.raises(ValueError, match=r"must have the scorers \['s'\]"):
        detection_report({"s": [0.0]}, {"a": {"t": [1.0]}})
    with pytest.raises(ValueError, match="`anomalies` must be one of"):
        report.best("nothing")
