"""`BatchTypicality`: whether several rows together are what the flow would draw."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfp_flows.anomaly.threshold import checked_rate
from tfp_flows.anomaly.typicality import mean_nll


@dataclasses.dataclass(frozen=True)
class BatchTypicality:
    """A test of batches of rows that come from one source.

        s(x_1, ..., x_m) = | -1/m (log p(x_1) + ... + log p(x_m)) - H |    [nats]

    The mean of m rows scatters around the entropy `H` by `1 / sqrt(m)` of what one row
    does, so sources are told apart that single rows could not tell.

    Attributes:
        entropy: Mean nll of held-out rows, in nats.
        batch_size: Rows m of a batch.
        threshold: Score above which a batch counts as anomalous.

    Reference:
        Nalisnick et al., 2019, arXiv:1906.02994, algorithm 1.

    Example:
        >>> log_prob = np.random.default_rng(0).normal(-5.0, 1.0, 1000)
        >>> test = BatchTypicality.fit(log_prob, batch_size=25)
        >>> test.is_anomaly([log_prob[:25], log_prob[:25] + 1.0])
        array([False,  True])
    """

    entropy: float
    batch_size: int
    threshold: float

    @classmethod
    def fit(
        cls,
        log_prob: Any,
        *,
        batch_size: int,
        false_alarm_rate: float = 0.01,
        resamples: int = 10_000,
        seed: int = 0,
    ) -> BatchTypicality:
        """Measures the entropy, and the threshold by the bootstrap.

        Args:
            log_prob: Log-densities `[n]` of held-out normal rows, in nats.
            batch_size: Rows m of a batch.
            false_alarm_rate: Share of normal batches that may be called anomalous.
            resamples: Batches drawn with replacement from the rows.
            seed: Of the draws.

        Returns:
            The fitted test.
        """
        if batch_size < 1:
            raise ValueError(
                "Argument `batch_size` must be at least 1. "
                f"Received: batch_size={batch_size}"
            )
        log_prob = np.asarray(log_prob, np.float64)
        entropy = mean_nll(log_prob)
        finite = log_prob[np.isfinite(log_prob)]
        generator = np.random.default_rng(seed)
        drawn = [
            np.abs(-generator.choice(finite, batch_size).mean() - entropy)
            for _ in range(resamples)
        ]
        rate = checked_rate(false_alarm_rate)
        return cls(entropy, batch_size, float(np.quantile(drawn, 1.0 - rate)))

    def scores(self, log_prob: Any) -> np.ndarray:
        """Scores batches.

        Args:
            log_prob: Log-densities `[..., m]` of the rows of each batch.

        Returns:
            Scores `[...]`; infinity where a row has no finite density.
        """
        log_prob = np.asarray(log_prob, np.float64)
        if log_prob.shape[-1:] != (self.batch_size,):
            raise ValueError(
                f"Argument `log_prob` must have shape [..., {self.batch_size}]. "
                f"Received: shape {log_prob.shape}"
            )
        scores = np.abs(-log_prob.mean(axis=-1) - self.entropy)
        return np.where(np.isfinite(scores), scores, np.inf)

    def is_anomaly(self, log_prob: Any) -> np.ndarray:
        """Whether batches `[..., m]` are anomalous, `[...]`."""
        return self.scores(log_prob) > self.threshold
