"""What a flow of audio has to beat: Gaussian processes, fitted by least squares.

All likelihoods are densities of amplitudes in [-1, 1), in nats a sample, of windows
`[n, length]`, as a flow gives them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfp_flows.bijectors.linear_prediction import (
    PredictionFilters,
    checked_audio,
    prediction_filters,
)
from tfp_flows.internal.arguments import checked_integer


class Autoregression:
    """A Gaussian autoregressive process, AR(p): linear prediction and a residual.

        log p(x) = sum_t log Normal(x_t; m + sum_{j=1..k} a_kj (x_{t-j} - m), s_k^2)

    with `k = min(t, p)`: the first samples of a window, which have fewer than p before
    them, are predicted from as many as there are, by filters of their own.

    Example:
        >>> x = np.random.default_rng(0).normal(size=[20, 100])
        >>> print(f"{Autoregression(2).fit(x).mean_nats(x):.1f}")
        -1.4
    """

    def __init__(self, order: int = 10) -> None:
        """Chooses the number p of samples to predict from; 0 for none."""
        self.order = checked_integer("order", order, minimum=0)
        self.filters: PredictionFilters | None = None

    def fit(self, windows: Any) -> Autoregression:
        """Fits filters and deviations to windows `[n, length]`; returns itself."""
        self.filters = prediction_filters(windows, self.order)
        return self

    def nats_per_sample(self, windows: Any) -> np.ndarray:
        """Returns the log-likelihood of each window in nats a sample, `[n]`.

        Raises:
            RuntimeError: If nothing has been fitted.
        """
        if self.filters is None:
            raise RuntimeError("Call `fit(windows)` before anything is predicted.")
        x = checked_audio(windows, least=self.order + 1)
        return _log_density(x, self.filters) / x.shape[1]

    def mean_nats(self, windows: Any) -> float:
        """Returns the mean log-likelihood of a sample, in nats."""
        return float(np.mean(self.nats_per_sample(windows)))


def gaussian(windows: Any) -> Autoregression:
    """Returns the normal distribution of independent samples: an AR(0)."""
    return Autoregression(0).fit(windows)


def autoregression(windows: Any, order: int = 10) -> Autoregression:
    """Returns the AR process of `order` fitted to windows."""
    return Autoregression(order).fit(windows)


def own_autoregression(windows: Any, order: int = 10) -> np.ndarray:
    """Returns nats a sample of each window under an AR process fitted to it alone.

    It has seen the answer: mean, `order` weights and a deviation of each window come
    from the window itself. It says how far linear prediction gets that adapts to what
    it hears, and is no density of windows.

    Args:
        windows: Audio, `[n, length]`.
        order: Number of samples to predict from.

    Returns:
        The log-likelihoods, `[n]`.
    """
    x = checked_audio(windows, least=order + 1)
    each = [autoregression(row, order).nats_per_sample(row) for row in x[:, np.newaxis]]
    return np.concatenate(each)


def _log_density(x: np.ndarray, filters: PredictionFilters) -> np.ndarray:
    order, length = filters.coefficients.shape[1], x.shape[1]
    y = x - filters.mean
    total = np.zeros(len(x))
    for k in range(order + 1):
        # A filter of k < p samples is for the k-th sample alone.
        now = np.arange(k, k + 1) if k < order else np.arange(order, length)
        left = y[:, now].copy()
        for j in range(1, k + 1):
            left -= filters.coefficients[k, j - 1] * y[:, now - j]
        deviation = filters.deviations[k]
        constant = math.log(deviation) + 0.5 * math.log(2.0 * math.pi)
        total -= 0.5 * np.sum((left / deviation) ** 2, axis=1) + len(now) * constant
    return total
