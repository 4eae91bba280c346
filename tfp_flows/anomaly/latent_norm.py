"""`LatentNormScorer`: how far out a row's latents lie."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.anomaly.rows import Rows
from tfp_flows.anomaly.scorer import AnomalyScorer


@keras.saving.register_keras_serializable(package="tfp_flows")
class LatentNormScorer(AnomalyScorer):
    """Scores by the norm of the latents `z`.

        s(x) = ||z||,    or    s(x) = | ||z|| - c |    if centred

    The norm of a standard normal of D values is near `sqrt(D)`. Without a centre the
    score is the distance from the mode, which is blind to what lies too near to it; a
    centred one is not. Volume changes play no part in it.

    Args:
        centered: Whether `adapt` takes the mean norm of held-out rows for `c`.
        center: The number `c`; 0 until it is measured.
        **kwargs: Arguments of `AnomalyScorer`.
    """

    def __init__(
        self, *, centered: bool = False, center: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.centered = centered
        self.center = center

    def adapt(self, rows: Rows) -> None:
        """Takes the mean norm of held-out rows for the centre, if there is one."""
        if self.centered:
            flat = np.reshape(rows.latent, [len(rows), -1]).astype(np.float64)
            norms = np.linalg.norm(flat, axis=1)
            self.center = float(norms[np.isfinite(norms)].mean())

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        rows = tf.shape(latent)[0]
        norm = tf.norm(tf.reshape(latent, [rows, -1]), axis=1)
        return tf.abs(norm - self.center)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {"centered": self.centered, "center": self.center}
        return {**super().get_config(), **config}
