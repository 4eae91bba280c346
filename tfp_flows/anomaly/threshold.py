"""`false_alarm_threshold`: from a rate of false alarms to a threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def false_alarm_threshold(scores: Any, rate: float) -> float:
    """Returns a threshold that normal rows exceed with at most this probability.

    It is the k-th smallest of n held-out scores with `k = ceil((n + 1)(1 - rate))`. If
    these and a new score are exchangeable, whatever their distribution, the new one is
    above it with a probability of at most `rate` (split conformal prediction).

    Args:
        scores: Scores `[n]` of normal rows that neither flow nor scorer was trained on.
        rate: Between 0 and 1.

    Returns:
        The threshold.

    Raises:
        ValueError: If `rate` is out of range, or lower than `1 / (n + 1)`, which n
            scores cannot promise.

    Reference:
        Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005.
        Laxhammar, Falkman: Sequential conformal anomaly detection, 2011.

    Example:
        >>> false_alarm_threshold(range(1, 100), rate=0.05)
        95.0
    """
    rate = checked_rate(rate)
    scores = np.sort(np.asarray(scores, np.float64).ravel())
    # Without the last bits, in which 100 * 0.99 is above 99.
    rank = math.ceil((len(scores) + 1) * (1.0 - rate) - 1e-9)
    if rank > len(scores):
        raise ValueError(
            f"Argument `rate` must be at least 1 / (n + 1) for n = {len(scores)} "
            f"held-out scores. Received: rate={rate}"
        )
    return float(scores[rank - 1])


def checked_rate(rate: Any) -> float:
    """Returns a rate of false alarms; raises `ValueError` unless it is in (0, 1)."""
    if not 0.0 < rate < 1.0:
        raise ValueError(
            f"Argument `rate` must lie between 0 and 1. Received: rate={rate}"
        )
    return float(rate)
