"""How well a flow and two simple models do on held-out data, in nats and in bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.data import Data, log_density
from tfp_flows.training.model import FlowModel

# So many noisy copies of a small held-out part average the dequantization noise out.
MOST_DRAWS, ENOUGH_IMAGES = 16, 5_000


def held_out_nll(model: FlowModel, data: Data) -> tuple[np.ndarray, int]:
    """Returns the nll of every held-out example, averaged over noise draws, and those.

    The noise is fixed by the seed of the data. An example without a finite log-density
    is a `ValueError`.
    """
    draws = 1
    if data.pixel_levels is not None:
        draws = max(1, min(MOST_DRAWS, ENOUGH_IMAGES // len(data.x_test)))
    log_probs = [
        model.predict(data.evaluation(draw), verbose=0) for draw in range(draws)
    ]
    nll = -np.mean(np.asarray(log_probs, np.float64), axis=0)
    lost = int(np.sum(~np.isfinite(nll)))
    if lost:
        raise ValueError(
            f"The data must lie where the flow has a density. Received: {lost} of "
            f"{len(nll)} examples without a finite log-density"
        )
    return nll, draws


class Total:
    """Adds up the scores of data that come in shards."""

    def __init__(self, event_shape: Sequence[int]) -> None:
        self._event_shape = tuple(event_shape)
        self._draws = 0
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, model: FlowModel, data: Data) -> np.ndarray:
        """Scores the held-out part of a shard and returns each example's nll."""
        nll, draws = held_out_nll(model, data)
        self._draws = min(self._draws or draws, draws)
        # Chan, Golub and LeVeque's update, which loses no digits to large means.
        count, mean = len(nll), float(np.mean(nll))
        both, apart = self._count + count, mean - self._mean
        self._squares += float(np.sum((nll - mean) ** 2))
        self._squares += apart**2 * self._count * count / both
        self._mean += apart * count / both
        self._count = both
        return nll

    def score(self) -> dict[str, float]:
        """Returns the mean nll in nats with its standard error, and in bits/dim."""
        return {
            "nll": self._mean,
            "standard_error": math.sqrt(self._squares) / self._count,
            "bits_per_dim": bits(self._mean, self._event_shape),
            "examples": self._count,
            "noise_draws": self._draws,
        }


def bits(nll: float, event_shape: Sequence[int]) -> float:
    """Turns nats an example into bits per dimension."""
    return nll / (math.prod(event_shape) * math.log(2.0))


def excess_over_truth(nll: np.ndarray, data: Data) -> float:
    """Estimates a toy set's `KL(truth || flow)` in nats from its held-out points.

    The mean of `log p_true(x) - log p_flow(x)` varies much less from one sample to
    the next than either term.
    """
    true_log_p = log_density(data.name, data.x_test)
    inside = np.isfinite(true_log_p)  # float32 rounds a few points over an edge
    return float(np.mean(true_log_p[inside] + nll[inside]))


def log_prob_of(model: FlowModel) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the log-density of a model, in large batches, for pictures."""
    # A picture's grid has whole batches: XLA compiles each length anew.
    return lambda x: model.predict(x, batch_size=5000, verbose=0)


def gaussian_nll(train: Iterable[tf.Tensor], test: Iterable[tf.Tensor]) -> float:
    """Fits a full-covariance Gaussian and scores held-out data by it.

    Mean and covariance are the maximum-likelihood ones, in float64, with a millionth of
    each variance added, so that columns may determine each other.
    """
    # Sums of squares of shifted data lose no digits to a large mean.
    shift = _rows(next(iter(train))).mean(axis=0)
    count, total, products = 0, np.zeros_like(shift), 0.0
    for batch in train:
        rows = _rows(batch) - shift
        count += len(rows)
        total += rows.sum(axis=0)
        products = products + rows.T @ rows
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    covariance += np.diag(1e-6 * np.diag(covariance))
    gaussian = tfd.MultivariateNormalTriL(mean + shift, np.linalg.cholesky(covariance))
    log_probs = [gaussian.log_prob(_rows(batch)).numpy() for batch in test]
    return float(-np.mean(np.concatenate(log_probs)))


def histogram_nll(train: np.ndarray, test: np.ndarray, pixel_levels: int) -> float:
    """Fits a histogram of each pixel, with one count added to every value.

    p(v) = (count(v) + 1) / (n + pixel_levels)       for each pixel, independently
    """
    train, test = (x.reshape(len(x), -1).astype(np.int64) for x in (train, test))
    nll = 0.0
    for pixel in range(train.shape[1]):
        counts = np.bincount(train[:, pixel], minlength=pixel_levels) + 1.0
        log_p = np.log(counts) - math.log(len(train) + pixel_levels)
        nll -= float(log_p[test[:, pixel]].mean())
    return nll


def _rows(batch: tf.Tensor) -> np.ndarray:
    return np.asarray(batch, np.float64).reshape(len(batch), -1)
