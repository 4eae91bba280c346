"""`AnomalyScorer`: what every scorer has."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.anomaly.rows import Rows

SCORE_CEILING = 1e38
"""Score of a row that has no finite one: as anomalous as can be."""


class AnomalyScorer(keras.layers.Layer):
    """A Keras layer from `(x, log_prob, latent)` to anomaly scores.

    A larger score means a more anomalous row. What a scorer learns from held-out rows
    is numbers in its configuration; weights that it brings along are frozen. So it is
    saved with the `tfpf.FlowModel` that it is given to as `model.anomaly_scorer`, and
    exported with it.

    Subclasses define `call(x, log_prob, latent)`, perhaps `adapt(rows)`, and extend
    `get_config`. They are registered with Keras.

    Args:
        threshold: Score above which a row counts as an anomaly; None if not fitted.
        false_alarm_rate: The rate that the threshold was chosen for.
        name: Name of the layer.
    """

    def __init__(
        self,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        name: str | None = None,
    ) -> None:
        # Without autocasting, which would round data under a mixed precision policy.
        super().__init__(name=name, trainable=False, autocast=False)
        self.threshold = threshold
        self.false_alarm_rate = false_alarm_rate
        self.built = True

    @property
    def trainable(self) -> bool:
        """False: training a flow does not train the scorer that it carries."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Whoever sets this on the whole model does not mean a scorer's weights.
        for layer in self._layers:
            layer.trainable = False

    def adapt(self, rows: Rows) -> None:
        """Learns what the scorer needs to know from held-out normal rows.

        Args:
            rows: Held-out rows, as `evaluate_rows` returns them.
        """

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`.

        Args:
            x: Data `[n, *event]`.
            log_prob: Its log-density `[n]`, in nats.
            latent: Its latents `[n, *latent]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `call`.")

    def scores(self, rows: Rows, batch_size: int = 256) -> np.ndarray:
        """Scores rows whose densities and latents are known.

        Args:
            rows: What `evaluate_rows` returned.
            batch_size: Rows at a time.

        Returns:
            Scores `[n]`; `SCORE_CEILING` where a score is not finite.
        """
        parts = [
            np.asarray(self(part.x, part.log_prob, part.latent))
            for part in rows.batches(batch_size)
        ]
        scores = np.concatenate(parts)
        return np.where(np.isfinite(scores), scores, scores.dtype.type(SCORE_CEILING))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
        }
