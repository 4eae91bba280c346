"""Bijectors between one column of data and values that look standard normal."""

from __future__ import annotations

import numpy as np
import tensorflow_probability as tfp
from scipy.special import ndtri
from sklearn.preprocessing import QuantileTransformer

from tfp_flows.bijectors.elementwise import Quantile

tfb = tfp.bijectors

NAMES = ("quantile", "standard", "log")

_ROWS_PER_KNOT, _MOST_KNOTS = 25, 65
# Knots closer than this share of the range make slopes that float64 cannot resolve.
_LEAST_GAP = 1e-9


def fitted_transform(
    name: str, values: np.ndarray, *, low: float = 0.0, knots: int | None = None
) -> tfb.Bijector:
    """Returns the transform of that name, fitted to a column's values.

    Args:
        name: One of `NAMES`.
        values: Values `[n]`, at least two of them different.
        low: For "log", what all values are above.
        knots: For "quantile", how many; None for one in 25 rows, 3 to 65.

    Returns:
        A float64 bijector of single values, latent to data.
    """
    if name == "standard":
        return standard(values)
    if name == "log":
        return log(values, low)
    return quantile(values, knots)


def standard(values: np.ndarray) -> tfb.Bijector:
    """Returns `y = mean + deviation x`, in float64."""
    return tfb.Chain(
        [tfb.Shift(values.mean()), tfb.Scale(values.std())], name="standard"
    )


def log(values: np.ndarray, low: float) -> tfb.Bijector:
    """Returns `y = low + exp(mean + deviation x)` by the moments of `log(y - low)`.

    Args:
        values: Values `[n]` above `low`.
        low: End of the support; no sample is below it.

    Returns:
        The bijector, in float64.
    """
    logs = np.log(values - low)
    return tfb.Chain(
        [
            tfb.Shift(np.float64(low)),
            tfb.Exp(),
            tfb.Shift(logs.mean()),
            tfb.Scale(logs.std()),
        ],
        name="log",
    )


def quantile(values: np.ndarray, knots: int | None = None) -> Quantile:
    """Returns a `Quantile` through scikit-learn's quantiles of the values.

    The quantiles of `sklearn.preprocessing.QuantileTransformer`, from the least value
    to the greatest, meet those of a standard normal. Its own map is flat beyond the
    data and linear in the distribution function, so it has no inverse in the tails and
    a density with jumps; of it, only the knots are used here. The k-th of n sorted
    values stands for the level `(k - 1/2) / n`. Equal knots become one, at their mean
    level.

    Args:
        values: Values `[n]`, at least two of them different.
        knots: How many; None for one in 25 rows, at least 3 and at most 65.

    Returns:
        The bijector, in float64.
    """
    n = len(values)
    if knots is None:
        knots = int(np.clip(n // _ROWS_PER_KNOT, 3, _MOST_KNOTS))
    transformer = QuantileTransformer(n_quantiles=min(knots, n), subsample=None)
    transformer.fit(values[:, None])
    levels = (0.5 + transformer.references_ * (n - 1)) / n
    places, levels = _distinct(transformer.quantiles_[:, 0], levels)
    return Quantile(ndtri(levels), places, dtype="float64")


def _distinct(places: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins knots that lie too close together to have a slope between them."""
    gap = _LEAST_GAP * (places[-1] - places[0])
    group = np.cumsum(np.diff(places, prepend=places[0]) > gap)
    counts = np.bincount(group)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return places[first], np.bincount(group, weights=levels) / counts
