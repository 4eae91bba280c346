"""`NllScorer`: the negative log-likelihood."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.anomaly.scorer import AnomalyScorer


@keras.saving.register_keras_serializable(package="tfp_flows")
class NllScorer(AnomalyScorer):
    """Scores by the negative log-likelihood, in nats.

        s(x) = -log p(x)

    The first thing to try on tables. On images it misleads: what is simpler than the
    training data is often more likely than any of it. `TypicalityScorer` and
    `ComplexityScorer` are made for that.

    Reference:
        Bishop: Novelty detection and neural network validation, 1994. Nalisnick et
        al.: Do Deep Generative Models Know What They Don't Know?, 2019,
        arXiv:1810.09136.
    """

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        return -log_prob
