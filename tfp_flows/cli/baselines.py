"""Two models to beat, fitted on the same training part as the flow."""

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def gaussian_nll(train: Iterable[tf.Tensor], test: Iterable[tf.Tensor]) -> float:
    """Fits a full-covariance Gaussian and scores held-out data by it.

    Mean and covariance are the maximum-likelihood ones of one pass over `train`, in
    float64. To the covariance's diagonal a millionth of each variance is added, so
    that columns which determine each other leave it invertible.

    Args:
        train: Batches `[n, *event]` of training data.
        test: Batches of held-out data.

    Returns:
        The mean negative log-likelihood of the held-out data, in nats.
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


def histogram_nll(train: np.ndarray, test: np.ndarray, levels: int) -> float:
    """Fits a histogram of each pixel, with one count added to every level.

        p(v) = (count(v) + 1) / (n + levels)       for each pixel, independently

    Args:
        train: Whole pixel values `[n, *event]`, without noise.
        test: Held-out pixel values.
        levels: How many values a pixel can take.

    Returns:
        The mean negative log-likelihood of a held-out image, in nats. It is exact for
        whole pixels, and so for uniformly dequantized ones.
    """
    train, test = (x.reshape(len(x), -1).astype(np.int64) for x in (train, test))
    nll = 0.0
    for pixel in range(train.shape[1]):
        counts = np.bincount(train[:, pixel], minlength=levels) + 1.0
        log_p = np.log(counts) - math.log(len(train) + levels)
        nll -= float(log_p[test[:, pixel]].mean())
    return nll


def _rows(batch: tf.Tensor) -> np.ndarray:
    return np.asarray(batch, np.float64).reshape(len(batch), -1)
