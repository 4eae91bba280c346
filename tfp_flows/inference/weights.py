"""What importance weights `log p - log q` say of a posterior `q`, and the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.pictures import BLUE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Smoothed(NamedTuple):
    """Smoothed importance weights `[n]`, as logarithms that sum to 1, and k-hat."""

    log_weights: np.ndarray
    k_hat: float


class Evidence(NamedTuple):
    """An estimate of `log p(x)` and its standard error, in nats."""

    log_evidence: float
    standard_error: float


# Logarithms of weights that differ by less are rounding, and no tail.
_EQUAL = 1e-4


def _checked(log_weights: npt.ArrayLike) -> np.ndarray:
    """Returns log-weights `[n]`; minus infinity is a weight of 0."""
    array = np.asarray(log_weights, np.float64)
    if array.ndim != 1 or len(array) < 2:
        must = "have shape [n] with n > 1"
        raise invalid("log_weights", must, got=f"log_weights of shape {array.shape}")
    bad = np.count_nonzero(np.isnan(array) | (array == np.inf))
    if bad or not np.isfinite(array).any():
        must = "be numbers below infinity, not all of them of weight 0"
        raise invalid("log_weights", must, got=f"{bad} of {len(array)} that are not")
    return array


def effective_sample_size(log_weights: npt.ArrayLike) -> float:
    """Computes `(sum w)^2 / sum w^2`, from 1 to n, of weights `w` given as logarithms.

    Reference: Kong: A note on importance sampling using standardized weights, 1992.

    Example:
        >>> round(effective_sample_size(np.log([1.0, 1.0, 2.0])), 4)
        2.6667
    """
    from scipy.special import logsumexp

    lw = _checked(log_weights)
    normalized = np.exp(lw - logsumexp(lw))
    return float(1.0 / np.sum(normalized**2))


def evidence(log_weights: npt.ArrayLike) -> Evidence:
    """Estimates the normalizer of a density by importance sampling.

        log Z = log mean w,    standard error = sqrt((n / ESS - 1) / (n - 1))    [nats]

    with `w_i = p(z_i) / q(z_i)`, `z_i ~ q`, and the error that of `mean w` relative to
    it. It can be trusted where `psis` finds a k-hat below 0.7, and only if `q` reaches
    all of `p`: a mode that no draw meets is in none of the three.

    Example:
        >>> round(evidence(np.log([1.0, 2.0, 3.0])).log_evidence, 4)
        0.6931
    """
    from scipy.special import logsumexp

    lw = _checked(log_weights)
    n = len(lw)
    excess = max(0.0, n / effective_sample_size(lw) - 1.0)
    error = float(np.sqrt(excess / (n - 1)))
    return Evidence(float(logsumexp(lw, b=1.0 / n)), error)


def psis(log_weights: npt.ArrayLike) -> Smoothed:
    """Smooths the largest importance weights by a generalized Pareto distribution.

    The `min(n / 5, 3 sqrt(n))` largest become quantiles of the distribution that fits
    their tail, at most the largest of them. Its shape is k-hat: below 0.5 the weights
    have a variance, below `min(1 - 1 / log10(n), 0.7)` means by the weights can be
    trusted, above 1 they have no mean. The fit is SciPy's by maximum likelihood, drawn
    toward 0.5 as by ten more draws. Weights that are equal but for rounding have k-hat
    minus infinity.

    Args:
        log_weights: `log p(z_i) - log q(z_i)` of draws `z_i ~ q`, `[n]`, n at least 25;
            minus infinity where `p` is 0.

    Reference: Vehtari, Simpson, Gelman, Yao, Gabry: Pareto smoothed importance
    sampling, 2024, arXiv:1507.02646.
    """
    from scipy import stats
    from scipy.special import logsumexp

    lw = _checked(log_weights)
    n = len(lw)
    size = int(np.ceil(min(0.2 * n, 3.0 * np.sqrt(n))))
    if size < 5:
        raise invalid("log_weights", "have at least 25 values", got=f"{n} values")
    lw = lw - lw.max()
    order = np.argsort(lw)
    start = np.exp(lw[order[-size - 1]])
    # Weights of 0 are in no tail.
    size = min(size, np.count_nonzero(np.isfinite(lw)))
    largest = order[-size:]
    above = np.exp(lw[largest]) - start
    k_hat = -np.inf
    unit = above.mean()
    least = largest[0] if start == 0.0 else order[-size - 1]
    if lw[order[-1]] - lw[least] > _EQUAL:
        k, _, scale = stats.genpareto.fit(above / unit, floc=0.0)
        k_hat = float((size * k + 10 * 0.5) / (size + 10))
        levels = (np.arange(size) + 0.5) / size
        tail = start + unit * stats.genpareto.ppf(levels, k_hat, scale=scale)
        lw = lw.copy()
        lw[largest] = np.minimum(np.log(tail), 0.0)
    return Smoothed(lw - logsumexp(lw), k_hat)


def weights_figure(log_weights: npt.ArrayLike) -> Figure:
    """Draws the weights' upper tail, raw and smoothed, each over their mean."""
    from matplotlib.figure import Figure

    lw = _checked(log_weights)
    smoothed = psis(lw)
    n = len(lw)
    raw = lw - evidence(lw).log_evidence
    share = np.arange(n, 0, -1) / n
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for values, color, label in (
        (raw, BLUE, "weights"),
        (smoothed.log_weights + np.log(n), VERMILLION, "smoothed"),
    ):
        axes.loglog(np.exp(np.sort(values)), share, color=color, lw=1.4, label=label)
    axes.set_xlabel("weight over mean weight")
    axes.set_ylabel("share of draws with at least that")
    axes.set_title(
        f"k-hat {smoothed.k_hat:.2f}, {effective_sample_size(lw):.0f} of {n} effective"
    )
    axes.legend(frameon=False)
    return figure
