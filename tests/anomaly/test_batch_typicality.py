"""Batches of rows are told apart where single rows are not."""

import numpy as np
import pytest

from tfp_flows.anomaly import BatchTypicality

HELD_OUT = np.random.default_rng(0).normal(-10.0, 2.0, 4000)


def test_false_alarms_and_power():
    test = BatchTypicality.fit(HELD_OUT, batch_size=25, false_alarm_rate=0.05)
    assert test.entropy == pytest.approx(-HELD_OUT.mean())
    generator = np.random.default_rng(1)
    normal = generator.normal(-10.0, 2.0, (4000, 25))
    assert test.is_anomaly(normal).mean() == pytest.approx(0.05, abs=0.02)
    # One spread above the entropy, on either side: a row alone would pass.
    for shift in (-2.0, 2.0):
        assert test.is_anomaly(normal + shift).mean() > 0.99
    single = BatchTypicality.fit(HELD_OUT, batch_size=1, false_alarm_rate=0.05)
    assert single.is_anomaly(normal[:, :1] + 2.0).mean() < 0.3


def test_score_is_the_distance_of_the_mean():
    test = BatchTypicality(entropy=3.0, batch_size=2, threshold=0.5)
    log_prob = np.array([[[-1.0, -5.0], [-4.0, -4.0]], [[-1.0, -np.inf], [-3.0, -2.0]]])
    np.testing.assert_allclose(test.scores(log_prob), [[0.0, 1.0], [np.inf, 0.5]])
    np.testing.assert_array_equal(
        test.is_anomaly(log_prob), [[False, True], [True, False]]
    )


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        BatchTypicality.fit(HELD_OUT, batch_size=0)
    test = BatchTypicality(entropy=3.0, batch_size=2, threshold=0.5)
    with pytest.raises(ValueError, match=r"`log_prob` must have shape \[..., 2\]"):
        test.scores(np.zeros([4, 3]))
