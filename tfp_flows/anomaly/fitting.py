"""From a trained flow and a scorer to a detector: fit, score, decide."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from tfp_flows.anomaly.rows import Rows, evaluate_rows
from tfp_flows.anomaly.scorer import AnomalyScorer
from tfp_flows.anomaly.threshold import false_alarm_threshold
from tfp_flows.training.model import FlowModel

Scorer = TypeVar("Scorer", bound=AnomalyScorer)


def fit_scorer(
    flow: Any,
    scorer: Scorer,
    held_out: Any,
    *,
    false_alarm_rate: float = 0.01,
    condition: Any = None,
    batch_size: int = 256,
) -> Scorer:
    """Fits a scorer and its threshold on held-out normal rows.

    A `tfpf.FlowModel` carries the scorer from then on: in its saved file, and as the
    signature `anomaly_score` of its export.

    Args:
        flow: A trained `tfpf.FlowModel`, or a TFP distribution.
        scorer: The scorer.
        held_out: Normal rows `[n, *event]` that the flow was not trained on, or `Rows`
            of them.
        false_alarm_rate: Share of normal rows that may be called anomalous, at least
            `1 / (n + 1)`.
        condition: For a conditional flow, the conditions of the rows.
        batch_size: Rows at a time.

    Returns:
        The same scorer, fitted.

    Raises:
        ValueError: If the rate is out of range, or `held_out` has the wrong shape.
    """
    rows = held_out
    if not isinstance(rows, Rows):
        rows = evaluate_rows(flow, rows, condition=condition, batch_size=batch_size)
    scorer.adapt(rows)
    scores = scorer.scores(rows, batch_size)
    scorer.threshold = false_alarm_threshold(scores, false_alarm_rate)
    scorer.false_alarm_rate = false_alarm_rate
    if isinstance(flow, FlowModel):
        flow.anomaly_scorer = scorer
    return scorer


def anomaly_scores(
    flow: Any,
    x: Any,
    *,
    scorer: AnomalyScorer | None = None,
    condition: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Scores rows; larger is more anomalous.

    Args:
        flow: A `tfpf.FlowModel`, or a TFP distribution.
        x: Rows `[n, *event]`.
        scorer: The scorer; None for the one that the model carries.
        condition: For a conditional flow, the conditions of the rows.
        batch_size: Rows at a time.

    Returns:
        Scores `[n]`; 1e38 where a row has no finite score.

    Raises:
        ValueError: If there is no scorer, or `x` has the wrong shape.
    """
    scorer = _scorer(flow, scorer)
    rows = evaluate_rows(flow, x, condition=condition, batch_size=batch_size)
    return scorer.scores(rows, batch_size)


def is_anomaly(
    flow: Any,
    x: Any,
    *,
    scorer: AnomalyScorer | None = None,
    condition: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Decides which rows are anomalies, by the fitted threshold.

    Args:
        flow: A `tfpf.FlowModel`, or a TFP distribution.
        x: Rows `[n, *event]`.
        scorer: The scorer; None for the one that the model carries.
        condition: For a conditional flow, the conditions of the rows.
        batch_size: Rows at a time.

    Returns:
        Booleans `[n]`.

    Raises:
        ValueError: If there is no scorer or it is not fitted, or `x` has the wrong
            shape.
    """
    scorer = _scorer(flow, scorer)
    if scorer.threshold is None:
        raise ValueError(
            "Argument `scorer` must have a threshold: fit it with "
            f"`tfpf.anomaly.fit_scorer`. Received: {scorer!r} without one"
        )
    scores = anomaly_scores(
        flow, x, scorer=scorer, condition=condition, batch_size=batch_size
    )
    return scores > scorer.threshold


def _scorer(flow: Any, scorer: AnomalyScorer | None) -> AnomalyScorer:
    found = scorer or getattr(flow, "anomaly_scorer", None)
    if found is None:
        raise ValueError(
            "Argument `scorer` must be given unless `flow` is a `tfpf.FlowModel` that "
            "carries one. Received: scorer=None"
        )
    return found
