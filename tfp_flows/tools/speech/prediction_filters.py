"""Linear prediction by least squares: the arithmetic, without any model around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tfp_flows.architectures.assembly import checked_count


class PredictionFilters(NamedTuple):
    """The best linear predictions of a sample from the 0, 1, ..., p before it.

    Attributes:
        mean: Mean of all samples, a number.
        coefficients: Row k predicts from k samples: entry j - 1 is the weight of the
            sample j steps before, `[p + 1, p]`; the entries beyond k are 0.
        deviations: Standard deviation of what is left, `[p + 1]`.
    """

    mean: float
    coefficients: np.ndarray
    deviations: np.ndarray


def prediction_filters(windows: Any, order: int) -> PredictionFilters:
    """Fits predictions of all orders up to `order` by least squares.

    With `m` the mean and `t` over all samples of all windows that have p before them,
    row k of the coefficients minimizes

        sum_t (y_t - sum_{j=1..k} a_j y_{t-j})^2,    y = x - m,

    and the squared deviation is the mean of what it leaves.

    Args:
        windows: Audio, `[n, length]`, with `length` above `order`.
        order: Highest number p of samples to predict from; 0 for none.

    Returns:
        The filters.

    Raises:
        ValueError: If the windows are too short, or hold nothing but silence.
    """
    checked_count("order", order, least=0)
    x = checked_audio(windows, least=order + 1)
    mean = float(x.mean())
    second = _lagged_moments(x - mean, order)
    coefficients = np.zeros([order + 1, order])
    deviations = np.zeros(order + 1)
    for k in range(order + 1):
        among, with_now = second[1 : k + 1, 1 : k + 1], second[1 : k + 1, 0]
        best = np.linalg.lstsq(among, with_now, rcond=None)[0]
        coefficients[k, :k] = best
        left = second[0, 0] - 2.0 * best @ with_now + best @ among @ best
        # Of a signal that is all predictable, rounding is left.
        deviations[k] = np.sqrt(max(left, 1e-14 * second[0, 0]))
    if not np.all(deviations > 0):
        raise ValueError(
            "Argument `windows` must hold more than silence. "
            f"Received: {len(x)} windows of the one value {mean}"
        )
    return PredictionFilters(mean, coefficients, deviations)


def checked_audio(windows: Any, least: int = 1) -> np.ndarray:
    """Returns windows of audio as numbers of double precision, `[n, length]`."""
    x = np.asarray(windows, np.float64)
    if x.ndim != 2 or not len(x) or x.shape[1] < least or not np.all(np.isfinite(x)):
        raise ValueError(
            f"Argument `windows` must be finite audio [n, length] of at least {least} "
            f"samples each. Received: an array of shape {x.shape}"
        )
    return x


def stable(coefficients: np.ndarray, most: float = 0.999) -> np.ndarray:
    """Returns a filter that leaves the same, and whose recursion dies out.

    Synthesis runs `y_t = e_t + sum_j a_j y_{t-j}`, which grows without end if a root
    of `z^p - sum_j a_j z^{p-j}` lies outside of the unit circle. Such a root is
    mirrored at the circle, and none stays nearer to it than `most`.

    Args:
        coefficients: The weights `a_1, ..., a_p`.
        most: Largest modulus of a root.

    Returns:
        The weights of the stable filter, `[p]`; the given ones if it is stable.
    """
    roots = np.roots([1.0, *-np.asarray(coefficients)])
    size = np.abs(roots)
    if np.all(size <= most):
        return np.asarray(coefficients)
    inside = np.minimum(np.where(size > 1.0, 1.0 / np.maximum(size, 1.0), size), most)
    shrunk = roots * inside / np.maximum(size, np.finfo(float).tiny)
    return -np.poly(shrunk)[1:].real


def _lagged_moments(y: np.ndarray, order: int) -> np.ndarray:
    """Returns the means of `y_{t-i} y_{t-j}` for lags up to `order`."""
    length = y.shape[1]
    lagged = [y[:, order - lag : length - lag] for lag in range(order + 1)]
    second = np.empty([order + 1, order + 1])
    for i, one in enumerate(lagged):
        for j in range(i, order + 1):
            second[i, j] = second[j, i] = np.mean(one * lagged[j])
    return second
