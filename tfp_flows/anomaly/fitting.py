"""From a trained flow and a scorer to decisions: fit, threshold, score, decide."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tensorflow_probability import distributions as tfd

from tfp_flows.anomaly.rows import Rows, evaluate_rows
from tfp_flows.anomaly.scorers import SCORE_CEILING, AnomalyScorer
from tfp_flows.internal.arguments import checked_number, invalid
from tfp_flows.training.model import FlowModel
from tfp_flows.training.nonfinite import non_finite_rows

Scorer = TypeVar("Scorer", bound=AnomalyScorer)


def fit_scorer(
    flow: FlowModel | tfd.Distribution,
    scorer: Scorer,
    held_out: Rows | npt.ArrayLike,
    *,
    false_alarm_rate: float = 0.01,
    condition: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> Scorer:
    """Fits a scorer and its threshold on held-out normal rows.

    A `tfpf.FlowModel` carries the scorer from then on, in its file and as the signature
    `anomaly_score` of its export. See `tfp_flows.anomaly` for the other arguments.

    Args:
        held_out: Normal rows `[n, *event]` that the flow was not trained on, or `Rows`
            of them.
        false_alarm_rate: Share of normal rows that may be called anomalous, at least
            `1 / (n + 1)`.
    """
    rows = held_out
    if not isinstance(rows, Rows):
        rows = evaluate_rows(flow, rows, condition=condition, batch_size=batch_size)
    if not np.isfinite(rows.x).all():
        raise invalid("held_out", "be finite", got=non_finite_rows(rows.x))
    scorer.adapt(rows)
    scores = scorer.scores(rows, batch_size)
    scorer.threshold = false_alarm_threshold(scores, false_alarm_rate)
    scorer.false_alarm_rate = false_alarm_rate
    if isinstance(flow, FlowModel):
        flow.anomaly_scorer = scorer
    return scorer


def false_alarm_threshold(scores: npt.ArrayLike, rate: float) -> float:
    """Returns a threshold that normal rows exceed with at most this probability.

    It is the k-th smallest of n held-out scores with `k = ceil((n + 1)(1 - rate))`. If
    these and a new score are exchangeable, whatever their distribution, the new one is
    above it with a probability of at most `rate` (split conformal prediction).

    Args:
        scores: Scores `[n]` of normal rows that neither flow nor scorer was trained on.

    Raises:
        ValueError: If `rate` is out of range, or lower than `1 / (n + 1)`, which n
            scores cannot promise.

    Reference: Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005.
    Laxhammar, Falkman: Sequential conformal anomaly detection, 2011.

    Example:
        >>> false_alarm_threshold(range(1, 100), rate=0.05)
        95.0
    """
    rate = checked_number("rate", rate, above=0, below=1)
    scores = np.sort(np.asarray(scores, np.float64).ravel())
    if np.isnan(scores).any():
        raise invalid("scores", "hold no NaN", got=f"{np.isnan(scores).sum()} of them")
    # Without the last bits, in which 100 * 0.99 is above 99.
    rank = math.ceil((len(scores) + 1) * (1.0 - rate) - 1e-9)
    if rank > len(scores):
        must = f"be at least 1 / (n + 1) for n = {len(scores)} held-out scores"
        raise invalid("rate", must, got=f"rate={rate}")
    return float(scores[rank - 1])


def anomaly_scores(
    flow: FlowModel | tfd.Distribution,
    x: npt.ArrayLike,
    *,
    scorer: AnomalyScorer | None = None,
    condition: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Scores rows, `[n]`: larger is more anomalous, 1e38 without a finite score.

    A `scorer` of None is the one that the model carries.
    """
    scorer = _scorer(flow, scorer)
    rows = evaluate_rows(flow, x, condition=condition, batch_size=batch_size)
    return scorer.scores(rows, batch_size)


def is_anomaly(
    flow: FlowModel | tfd.Distribution,
    x: npt.ArrayLike,
    *,
    scorer: AnomalyScorer | None = None,
    condition: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Decides which rows are anomalies, `[n]`, by the fitted threshold.

    A row without a finite score is one, whatever the threshold.
    """
    scorer = _scorer(flow, scorer)
    if scorer.threshold is None:
        must = "have a threshold: fit it with `tfpf.anomaly.fit_scorer`"
        raise invalid("scorer", must, got=f"{scorer!r} without one")
    scores = anomaly_scores(
        flow, x, scorer=scorer, condition=condition, batch_size=batch_size
    )
    return (scores > scorer.threshold) | (scores >= SCORE_CEILING)


def _scorer(
    flow: FlowModel | tfd.Distribution, scorer: AnomalyScorer | None
) -> AnomalyScorer:
    found = scorer or getattr(flow, "anomaly_scorer", None)
    if found is None:
        must = "be given unless `flow` is a `tfpf.FlowModel` that carries one"
        raise invalid("scorer", must, got="scorer=None")
    return found
