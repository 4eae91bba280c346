"""The threshold keeps its promise, whatever the scores' distribution."""

import numpy as np
import pytest

from tfp_flows.anomaly import false_alarm_threshold


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
