"""`TypicalityScorer`: how far a likelihood is from the usual one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.anomaly.rows import Rows
from tfp_flows.anomaly.scorer import AnomalyScorer


@keras.saving.register_keras_serializable(package="tfp_flows")
class TypicalityScorer(AnomalyScorer):
    """Scores by the distance of the nll from the entropy, in nats.

        s(x) = | -log p(x) - H |,    H = mean of -log p over held-out rows

    In many dimensions nearly all draws of a density have an nll near its entropy: a
    row that is far more likely than that is as strange as one that is far less so.
    For several rows at once see `BatchTypicality`.

    Args:
        entropy: H in nats; None until `adapt` measures it.
        **kwargs: Arguments of `AnomalyScorer`.

    Reference:
        Nalisnick, Matsukawa, Teh, Lakshminarayanan: Detecting Out-of-Distribution
        Inputs to Deep Generative Models Using Typicality, 2019, arXiv:1906.02994.
    """

    def __init__(self, entropy: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entropy = entropy

    def adapt(self, rows: Rows) -> None:
        """Takes the mean nll of held-out rows, of those that have one, for `H`."""
        self.entropy = mean_nll(rows.log_prob)

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        if self.entropy is None:
            raise ValueError(
                "Argument `entropy` must be known: fit the scorer with "
                "`tfpf.anomaly.fit_scorer`. Received: entropy=None"
            )
        return tf.abs(-log_prob - self.entropy)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "entropy": self.entropy}


def mean_nll(log_prob: np.ndarray) -> float:
    """Returns the mean of `-log_prob` over the rows where it is finite.

    Raises:
        ValueError: If there is none.
    """
    finite = np.asarray(log_prob, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        raise ValueError(
            "Argument `log_prob` must have a finite value among the held-out rows. "
            f"Received: {np.asarray(log_prob)}"
        )
    return float(-finite.mean())
