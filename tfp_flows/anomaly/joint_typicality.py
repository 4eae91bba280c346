"""`JointTypicalityScorer`: how unusual several statistics of a row are together."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.anomaly.complexity import CHANNELS, png_bytes
from tfp_flows.anomaly.rows import Rows
from tfp_flows.anomaly.scorer import AnomalyScorer


@keras.saving.register_keras_serializable(package="tfp_flows")
class JointTypicalityScorer(AnomalyScorer):
    """Scores by the distance of a row's statistics from their usual values.

        t(x) = (-log p(x), ||z||),   for images also the size of the PNG file
        s(x) = sqrt((t - m)^T C^-1 (t - m))

    Here `m` and `C` are mean and covariance of `t` over held-out rows, so that the
    score is in standard deviations (Mahalanobis's distance). An image may be as likely
    as others and as large a file as others, and yet be less likely than others of that
    size. Density of states estimation has more statistics, and kernels for the
    Gaussian.

    What counts as an image are rows `[n, h, w, c]` with 1 to 4 channels; their pixel
    values are in [0, 256), as `ComplexityScorer` says.

    Args:
        mean: `m`, a list of 2 or 3 values; None until `adapt` measures it.
        whitening: Rows of a matrix `W` with `W^T W = C^-1`.
        **kwargs: Arguments of `AnomalyScorer`.

    Reference:
        Morningstar et al.: Density of States Estimation for Out-of-Distribution
        Detection, 2021, arXiv:2006.09273.
    """

    def __init__(
        self,
        mean: list[float] | None = None,
        whitening: list[list[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = mean
        self.whitening = whitening

    def adapt(self, rows: Rows) -> None:
        """Measures mean and covariance over the held-out rows with finite statistics.

        Raises:
            ValueError: If the statistics do not vary, each on its own.
        """
        parts = [
            statistics(part.x, part.log_prob, part.latent).numpy()
            for part in rows.batches(256)
        ]
        found = np.concatenate(parts)
        found = found[np.isfinite(found).all(axis=1)]
        count, k = found.shape
        spread = found.std(axis=0) if count > k else np.zeros(k)
        # Scaled, so that the rank does not depend on units.
        scaled = (found - found.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
        if np.linalg.matrix_rank(scaled) < k:
            raise ValueError(
                f"Argument `rows` must have {k} statistics that vary, each on its own. "
                f"Received: {count} rows with standard deviations {spread}"
            )
        factor = np.linalg.cholesky(np.cov(scaled, rowvar=False))
        self.mean = found.mean(axis=0).tolist()
        self.whitening = (np.linalg.inv(factor) / spread).tolist()

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        if self.mean is None or self.whitening is None:
            raise ValueError(
                "Argument `mean` must be known: fit the scorer with "
                "`tfpf.anomaly.fit_scorer`. Received: mean=None"
            )
        off = statistics(x, log_prob, latent) - tf.constant(self.mean, tf.float64)
        whitening = tf.constant(self.whitening, tf.float64)
        distance = tf.norm(tf.matmul(off, whitening, transpose_b=True), axis=1)
        return tf.cast(distance, log_prob.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {"mean": self.mean, "whitening": self.whitening}
        return {**super().get_config(), **config}


def statistics(x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
    """Returns nll, norm of the latents and, for images, bytes of a PNG file.

    Args:
        x: Data `[n, *event]`.
        log_prob: Its log-density `[n]`, in nats.
        latent: Its latents `[n, *latent]`.

    Returns:
        Statistics `[n, 2]` or `[n, 3]`, of dtype float64.
    """
    x = tf.convert_to_tensor(x)
    flat = tf.reshape(latent, [tf.shape(latent)[0], -1])
    columns = [-tf.cast(log_prob, tf.float64)]
    columns.append(tf.norm(tf.cast(flat, tf.float64), axis=1))
    if x.shape.rank == 4 and x.shape[-1] in CHANNELS:
        columns.append(tf.cast(png_bytes(x), tf.float64))
    return tf.stack(columns, axis=1)
