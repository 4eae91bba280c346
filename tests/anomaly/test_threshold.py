"""The threshold keeps its promise, whatever the scores' distribution."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows import anomaly
from tfp_flows.anomaly import false_alarm_threshold
from tfp_flows.anomaly.scorers import SCORE_CEILING
from tfp_flows.testing.subject import perturb


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_no_more_false_alarms_than_promised(rate):
    generator = np.random.default_rng(0)
    # Heavy tails, and few rows: the promise holds for any of both.
    draws = generator.standard_cauchy((20_000, 40))
    alarms = [row[-1] > false_alarm_threshold(row[:-1], rate) for row in draws]
    standard_error = np.sqrt(rate * (1.0 - rate) / len(draws))
    assert np.mean(alarms) < rate + 3.0 * standard_error
    # With 39 rows these rates are met exactly, not only kept.
    assert np.mean(alarms) > rate - 3.0 * standard_error


def test_is_one_of_the_scores():
    scores = np.random.default_rng(1).permutation(99)
    assert false_alarm_threshold(scores, 0.01) == 98
    assert false_alarm_threshold(scores, 0.05) == 94
    assert false_alarm_threshold(scores, 0.5) == 49


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_rate_must_be_a_share(rate):
    with pytest.raises(ValueError, match="`rate` must be a finite number above 0"):
        false_alarm_threshold(np.arange(100), rate)


def test_too_few_scores_promise_nothing():
    with pytest.raises(ValueError, match="n = 98 held-out scores"):
        false_alarm_threshold(np.arange(98), 0.01)


def conditional_model():
    flow = tfpf.real_nvp((2,), steps=2, hidden_units=(4,), condition_shape=(1,))
    return tfpf.FlowModel(perturb(flow))


def test_rows_and_conditions_go_together():
    """One condition for each row or one for all, also of more rows than a batch."""
    model, rng = conditional_model(), np.random.default_rng(0)
    x, c = (rng.normal(size=(300, d)).astype("float32") for d in (2, 1))
    for given in (c[:1], c[0]):
        found = anomaly.evaluate_rows(model, x, condition=given).log_prob
        expected = model.predict((x, np.repeat(c[:1], 300, 0)), verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for rows, given in ((x, c[:257]), (x[:257], c), (x[:1], c[:3]), (x, np.zeros(()))):
        with pytest.raises(ValueError, match=r"`condition` must have shape"):
            anomaly.evaluate_rows(model, rows, condition=given)
    with pytest.raises(ValueError, match=r"`x` must be an array"):
        anomaly.evaluate_rows(model, tf.data.Dataset.from_tensor_slices(x))


def test_what_has_no_finite_score_is_an_anomaly():
    model = tfpf.FlowModel(tfpf.real_nvp((2,), steps=2, hidden_units=(4,)))
    x = np.random.default_rng(0).normal(size=(200, 2))
    model.adapt(x)
    broken = np.where(np.arange(200)[:, None] < 5, np.nan, x)
    with pytest.raises(ValueError, match=r"`held_out` must be finite.*5 of 200"):
        anomaly.fit_scorer(model, anomaly.NllScorer(), broken)
    scorer = anomaly.fit_scorer(model, anomaly.NllScorer(), x)
    scorer.threshold = SCORE_CEILING
    rows = [[np.nan, 0.0], [1e30, 1e30], [0.0, 0.0]]
    assert anomaly.is_anomaly(model, rows).tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"`scores` must hold no NaN"):
        anomaly.false_alarm_threshold([np.nan, 1.0, 2.0], 0.5)


def test_estimated_scores_are_the_same_each_time():
    model = tfpf.FlowModel(tfpf.Dequantized(tfpf.real_nvp((2,), steps=2)))
    x = np.random.default_rng(0).integers(0, 256, (40, 2))
    first, second = (anomaly.evaluate_rows(model, x).log_prob for _ in range(2))
    np.testing.assert_array_equal(first, second)
