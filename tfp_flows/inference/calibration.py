"""Whether a posterior's uncertainties are right, tried on simulated data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import condition
from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.pictures import BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Ranks of n true parameters of d values, and what they say of a posterior.

    If `theta_i` is drawn from the prior, `x_i` from the simulator at `theta_i`, and
    the draws from the exact posterior given `x_i`, then the number of draws below
    `theta_i` is uniform on `0, ..., draws`, for each value on its own. Ranks heaped at
    both ends mean a posterior that is too narrow, ranks in the middle one that is
    too wide, ranks at one end one that is shifted. (The reverse does not hold: the
    prior in place of the posterior has uniform ranks too.)

    Attributes:
        ranks: Integers `[n, d]` from 0 to `draws`.
        draws: Number of posterior draws behind each rank.

    Reference: Talts, Betancourt, Simpson, Vehtari, Gelman: Validating Bayesian
    inference algorithms with simulation-based calibration, 2018, arXiv:1804.06788.
    """

    ranks: np.ndarray
    draws: int
    names: tuple[str, ...]

    def counts(self, bins: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Counts ranks in bins of nearly equally many, by None at most 20 and `n / 25`.

        Returns counts `[d, bins]`, and those `[bins]` expected of an exact posterior.
        """
        n, d = self.ranks.shape
        bins = min(bins or self._default_bins(n), self.draws + 1)
        bin_of = np.arange(self.draws + 1) * bins // (self.draws + 1)
        expected = np.bincount(bin_of, minlength=bins) * n / (self.draws + 1)
        counted = [
            np.bincount(bin_of[self.ranks[:, k]], minlength=bins) for k in range(d)
        ]
        return np.stack(counted), expected

    def _default_bins(self, n: int) -> int:
        most = max(2, min(20, n // 25))
        even = [b for b in range(most // 2, most + 1) if (self.draws + 1) % b == 0]
        return max(even, default=most)

    def p_values(self, bins: int | None = None) -> np.ndarray:
        """Tests each value's ranks for uniformity by Pearson's chi-squared test.

        Returns probabilities `[d]` of such uneven ranks under an exact posterior.
        """
        from scipy import stats

        counts, expected = self.counts(bins)
        return np.array([stats.chisquare(row, expected).pvalue for row in counts])

    def coverage(self, levels: Sequence[float]) -> np.ndarray:
        """Computes how often central intervals hold the true value, `[len(levels), d]`.

        Levels are masses in [0, 1]. A true value counts as spread evenly between its
        neighbouring draws: an exact posterior has coverage equal to the level.
        """
        half = 0.5 * np.asarray(levels, float)[:, np.newaxis, np.newaxis]
        low, high = 0.5 - half, 0.5 + half
        cell = 1.0 / (self.draws + 1)
        start = self.ranks * cell
        inside = np.minimum(start + cell, high) - np.maximum(start, low)
        return np.clip(inside / cell, 0.0, 1.0).mean(axis=1)


def ranks(samples: npt.ArrayLike, truths: npt.ArrayLike) -> np.ndarray:
    """Counts posterior draws `[draws, n, d]` below the true values `[n, d]`."""
    samples, truths = np.asarray(samples), np.asarray(truths)
    if samples.ndim != 3 or samples.shape[1:] != truths.shape:
        must = "have shape [draws, n, d] for `truths` [n, d]"
        got = f"samples of shape {samples.shape}, truths of {truths.shape}"
        raise invalid("samples", must, got=got)
    if not (np.isfinite(samples).all() and np.isfinite(truths).all()):
        raise ValueError(
            "Arguments `samples` and `truths` must be finite. Received: "
            f"{np.count_nonzero(~np.isfinite(samples))} draws and "
            f"{np.count_nonzero(~np.isfinite(truths))} truths that are not"
        )
    return (samples < truths).sum(axis=0)


def calibrate(
    posterior: tfd.Distribution,
    parameters: npt.ArrayLike,
    data: npt.ArrayLike,
    *,
    draws: int = 255,
    names: Sequence[str] | None = None,
    batch_size: int = 100,
    seed: int = 0,
) -> Calibration:
    """Ranks simulated parameters among the draws of an amortised posterior.

    Args:
        posterior: A conditional flow of parameter vectors `[d]` given data.
        parameters: Parameters `[n, d]` drawn from the prior.
        data: What the simulator made of them, `[n, *condition_shape]`. They must
            not have been trained on.
        batch_size: Number of data sets whose draws are held in memory at once.
    """
    parameters, data = np.asarray(parameters), np.asarray(data)
    if parameters.ndim != 2 or len(parameters) != len(data):
        must = "have shape [n, d], with `data` [n, ...]"
        got = f"parameters of shape {parameters.shape}, data of {data.shape}"
        raise invalid("parameters", must, got=got)

    @tf.function(autograph=False, reduce_retracing=True)
    def sampled(c: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return condition(posterior, c).sample(draws, seed=seed)

    def ranked(rows: np.ndarray) -> np.ndarray:
        drawn = sampled(tf.constant(data[rows]), tf.constant([seed, rows[0]]))
        return ranks(drawn, parameters[rows])

    found = map_rows(ranked, np.arange(len(data)), rows=batch_size)
    d = parameters.shape[1]
    named = tuple(names or (f"parameter {k}" for k in range(1, d + 1)))
    if len(named) != d:
        raise invalid("names", f"name {d} parameters", names)
    return Calibration(found, draws, named)


_BAND = "0.82"  # grey


def calibration_figure(
    calibration: Calibration, bins: int | None = None, confidence: float = 0.99
) -> Figure:
    """Draws the ranks of each parameter and the coverage of its intervals.

    Grey bands hold what an exact posterior would show, in each bin and at each level
    with the probability `confidence`; see `Calibration.counts` for the bins.
    """
    from matplotlib.figure import Figure

    d = len(calibration.names)
    figure = Figure(figsize=(2.9 * max(d, 2) + 0.5, 5.4), layout="constrained")
    axes = figure.subplots(2, d, squeeze=False, sharey="row")
    counts, expected = calibration.counts(bins)
    for k, name in enumerate(calibration.names):
        _histogram(axes[0, k], counts[k], expected, calibration, confidence)
        p = calibration.p_values(bins)[k]
        axes[0, k].set_title(f"{name}: p = {p:.2g}")
        _coverage(axes[1, k], calibration, k, confidence)
    axes[0, 0].set_ylabel("simulations")
    axes[1, 0].set_ylabel("share that holds the truth")
    return figure


def _histogram(
    axes: Axes,
    counts: np.ndarray,
    expected: np.ndarray,
    calibration: Calibration,
    confidence: float,
) -> None:
    from scipy import stats

    n = len(calibration.ranks)
    edges = np.linspace(0.0, 1.0, len(counts) + 1)
    share = expected / n
    tail = 0.5 * (1.0 - confidence)
    low, high = (stats.binom.ppf(q, n, share) for q in (tail, 1.0 - tail))
    axes.stairs(high, edges, baseline=low, fill=True, color=_BAND)
    axes.stairs(expected, edges, color="0.45", lw=1.0)
    axes.stairs(counts, edges, color=BLUE, lw=1.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("rank of the truth among draws")


def _coverage(axes: Axes, calibration: Calibration, k: int, confidence: float) -> None:
    from scipy import stats

    n = len(calibration.ranks)
    levels = np.linspace(0.0, 1.0, 101)
    tail = 0.5 * (1.0 - confidence)
    low, high = (stats.binom.ppf(q, n, levels) / n for q in (tail, 1.0 - tail))
    axes.fill_between(levels, low, high, color=_BAND, lw=0.0)
    axes.plot([0.0, 1.0], [0.0, 1.0], color="0.45", lw=1.0)
    axes.plot(levels, calibration.coverage(levels)[:, k], color=BLUE, lw=1.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("mass of the central interval")
