"""`frechet_distance`: how far apart two sets of features are."""

from __future__ import annotations

from typing import Any

import numpy as np


def frechet_distance(first: Any, second: Any) -> float:
    """Measures how far apart two sets of feature vectors lie.

    With mean m and covariance S of each set, it is the squared Fréchet (2-Wasserstein)
    distance between the two Gaussians that have them:

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2))

    It has the square of the features' unit; figures compare only within one feature
    network and one number of rows, since few rows make it larger.

    Args:
        first: Features `[n, d]`, with n > 1.
        second: Features `[m, d]`, with m > 1.

    Returns:
        The distance, not negative.

    Raises:
        ValueError: If the arrays have other shapes or hold what is not finite.

    Reference:
        Dowson, Landau: The Fréchet distance between multivariate normal
        distributions, 1982. Heusel et al.: GANs Trained by a Two Time-Scale Update
        Rule Converge to a Local Nash Equilibrium, 2017, arXiv:1706.08500.

    Example:
        >>> frechet_distance([[0.0], [2.0]], [[3.0], [5.0]])
        9.0
    """
    first, second = feature_vectors("first", first), feature_vectors("second", second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            "Arguments `first` and `second` must have equally many columns. "
            f"Received: shapes {first.shape} and {second.shape}"
        )
    shift = first.mean(axis=0) - second.mean(axis=0)
    one, two = (
        np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in (first, second)
    )
    root = _symmetric_root(one)
    # The eigenvalues of a product of covariances are not negative; rounding may be.
    crossed = np.clip(np.linalg.eigvalsh(root @ two @ root), 0.0, None)
    distance = shift @ shift + np.trace(one + two) - 2.0 * np.sqrt(crossed).sum()
    return max(0.0, float(distance))


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def feature_vectors(name: str, x: Any) -> np.ndarray:
    """Returns `x` in float64, if it is finite vectors `[n, d]`."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(
            f"Argument `{name}` must be finite vectors of shape [n, d] with n > 1. "
            f"Received: shape {x.shape}"
        )
    return x
