"""Whether a posterior's uncertainties are right, tried on simulated data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.conditional import condition
from tfp_flows.inference.posteriors import NeuralPosterior
from tfp_flows.internal.arguments import Arrays, checked_number, invalid
from tfp_flows.internal.batching import map_rows
from tfp_flows.internal.pictures import BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 1804  # what a seed is joined with for the points of `tarp`
_TIES = 1805  # and for draws that equal the truth
# A conditional flow, or a function from data to the posterior given them.
Posterior = tfd.Distribution | Callable[..., tfd.Distribution]


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
        names: One for each value.
        truths: The true parameters `[n, d]`, or None.
        means: Of the draws for each of them, `[n, d]`, or None.
        deviations: Of the draws, `[n, d]`, or None.

    Reference: Talts, Betancourt, Simpson, Vehtari, Gelman: Validating Bayesian
    inference algorithms with simulation-based calibration, 2018, arXiv:1804.06788.
    """

    ranks: np.ndarray
    draws: int
    names: tuple[str, ...]
    truths: np.ndarray | None = None
    means: np.ndarray | None = None
    deviations: np.ndarray | None = None

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

    def ecdf(self) -> tuple[np.ndarray, np.ndarray]:
        """Computes the share of ranks below each of at most 100 thresholds.

        Returns the shares `[thresholds]` of an exact posterior, in (0, 1), and those
        found, `[thresholds, d]`.
        """
        thresholds = _thresholds(self.draws)
        below = self.ranks[np.newaxis] < thresholds[:, np.newaxis, np.newaxis]
        return thresholds / (self.draws + 1), below.mean(axis=1)

    def ecdf_band(self, confidence: float = 0.99) -> tuple[np.ndarray, np.ndarray]:
        """Computes between what `ecdf` lies for an exact posterior, `[thresholds]`.

        The band is simultaneous: with the probability `confidence` no share is outside.
        At each threshold it is the binomial's interval, at a level that simulated ranks
        calibrate.

        Reference: Säilynoja, Bürkner, Vehtari: Graphical test for discrete uniformity
        and its applications in goodness-of-fit evaluation and multiple sample
        comparison, 2022, arXiv:2103.10522.
        """
        from scipy import stats

        checked_number("confidence", confidence, above=0.0, below=1.0)
        n, (share, _) = len(self.ranks), self.ecdf()
        tail = 0.5 * np.quantile(_least_tails(n, self.draws), 1.0 - confidence)
        low, high = (stats.binom.ppf(q, n, share) / n for q in (tail, 1.0 - tail))
        return low, high

    def ecdf_p_values(self) -> np.ndarray:
        """Tests each value's ranks for uniformity by the whole of `ecdf`.

        Returns probabilities `[d]` of so large a departure anywhere under an exact
        posterior, at least 1/1001: it is finer than that of the bins, for small shifts.
        """
        n, (share, found) = len(self.ranks), self.ecdf()
        null = _least_tails(n, self.draws)
        tails = [_least_tail(np.rint(n * column), n, share) for column in found.T]
        return np.array([(1 + np.sum(null <= t)) / (1 + len(null)) for t in tails])

    def z_scores(self) -> np.ndarray:
        """Computes `(mean - truth) / deviation` of the draws, `[n, d]`.

        Of an exact posterior their mean square is 1, whatever its shape.
        """
        truths, means, deviations = self._moments()
        away = means - truths
        spike = (deviations == 0.0) & (away == 0.0)  # a constant, and so it is drawn
        return away / np.where(spike, 1.0, deviations)

    def contraction(self) -> np.ndarray:
        """Computes `1 - posterior variance / prior variance`, `[n, d]`.

        The prior's is that of the true parameters. 0 says that the data told nothing;
        of an exact posterior the mean is `variance of the means / prior variance`.

        Reference: Schad, Betancourt, Vasishth: Toward a principled Bayesian workflow
        in cognitive science, 2021, arXiv:1904.12765.
        """
        truths, _, deviations = self._moments()
        prior = truths.var(axis=0, ddof=1)
        share = deviations**2 / np.where(prior > 0.0, prior, 1.0)
        return np.where(prior > 0.0, 1.0 - share, 0.0)

    def _moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.truths is None or self.means is None or self.deviations is None:
            raise ValueError(
                "The calibration must hold truths and moments of the draws, as that of "
                "`calibrate` does. Received: one of ranks alone"
            )
        return self.truths, self.means, self.deviations


def _thresholds(draws: int) -> np.ndarray:
    """Returns at most 100 ranks above 0, spread evenly."""
    count = min(draws, 100)
    return np.arange(1, count + 1) * (draws + 1) // (count + 1)


def _least_tail(below: np.ndarray, n: int, share: np.ndarray) -> np.ndarray:
    """Returns the least two-sided binomial tail over thresholds, the last axis."""
    from scipy import stats

    lower = stats.binom.cdf(below, n, share)
    upper = stats.binom.sf(below - 1, n, share)
    return 2.0 * np.minimum(lower, upper).min(axis=-1)


@functools.lru_cache(maxsize=8)
def _least_tails(n: int, draws: int, trials: int = 1000) -> np.ndarray:
    """Returns `_least_tail` of the uniform ranks of an exact posterior, `[trials]`."""
    share = _thresholds(draws) / (draws + 1)
    cells = np.diff(share, prepend=0.0, append=1.0)
    counts = np.random.default_rng(0).multinomial(n, cells, size=trials)
    return _least_tail(np.cumsum(counts, axis=1)[:, :-1], n, share)


def ranks(
    samples: npt.ArrayLike, truths: npt.ArrayLike, *, seed: int = 0
) -> np.ndarray:
    """Counts posterior draws `[draws, n, d]` below the true values `[n, d]`.

    Of those that are equal, as whole numbers can be, a random number counts, so that
    ranks are uniform for them as well.
    """
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
    equal = (samples == truths).sum(axis=0)
    rng = np.random.default_rng([seed, _TIES])
    return (samples < truths).sum(axis=0) + rng.integers(0, equal + 1)


def posterior_draws(
    posterior: Posterior,
    data: npt.ArrayLike,
    *,
    draws: int = 255,
    batch_size: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Draws from an amortised posterior for many data sets, `[draws, n, d]`.

    Args:
        posterior: A conditional flow of vectors `[d]` given data; or a function from
            data `[m, ...]` to a distribution, such as what `amortize` returns, whose
            draws' parts are laid side by side.
        data: Data `[n, *condition_shape]`.
        draws: Number of draws for each.
        batch_size: Number of data sets that are drawn for at once.
        seed: Integer from which the draws follow.
    """
    data = np.asarray(data)
    sampled = _sampler(posterior, draws)

    def block(rows: np.ndarray) -> np.ndarray:
        return sampled(data[rows], seed, rows[0]).swapaxes(0, 1)

    return map_rows(block, np.arange(len(data)), rows=batch_size).swapaxes(0, 1)


def _sampler(posterior: Posterior, draws: int) -> Callable[..., np.ndarray]:
    """Returns the function from data and a seed to draws `[draws, m, d]`."""
    if not isinstance(posterior, tfd.Distribution):

        def sample(c: tf.Tensor, seed: tuple[int, int]) -> Arrays:
            if isinstance(posterior, NeuralPosterior):  # compiled
                return posterior.sample(c, draws, seed=seed)
            return posterior(c).sample(draws, seed=seed)

        return lambda c, *seed: _side_by_side(sample(c, seed), 2)

    @tf.function(autograph=False, reduce_retracing=True)
    def sampled(c: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return condition(posterior, c).sample(draws, seed=seed)

    return lambda c, *seed: sampled(tf.constant(c), tf.constant(seed)).numpy()


def _side_by_side(parts: Arrays, batch: int) -> np.ndarray:
    """Joins the parts of events, each after `batch` axes, to vectors `[..., d]`."""
    arrays = [np.asarray(part) for part in tf.nest.flatten(parts)]
    return np.concatenate([a.reshape(*a.shape[:batch], -1) for a in arrays], axis=-1)


def calibrate(
    posterior: Posterior,
    parameters: Arrays,
    data: npt.ArrayLike,
    *,
    draws: int = 255,
    names: Sequence[str] | None = None,
    batch_size: int = 100,
    seed: int = 0,
) -> Calibration:
    """Ranks simulated parameters among the draws of an amortised posterior.

    Args:
        posterior: As for `posterior_draws`.
        parameters: Parameters `[n, d]` drawn from the prior, or a structure of them.
        data: What the simulator made of them, `[n, *condition_shape]`. They must
            not have been trained on.
        draws: Number of posterior draws for each.
        names: One for each value; None numbers them.
        batch_size: Number of data sets whose draws are held in memory at once.
        seed: Integer from which the draws follow.
    """
    whole = isinstance(posterior, tfd.Distribution)
    theta = np.asarray(parameters) if whole else _side_by_side(parameters, 1)
    data = np.asarray(data)
    if theta.ndim != 2 or len(theta) != len(data):
        must = "have shape [n, d], with `data` [n, ...]"
        got = f"parameters of shape {theta.shape}, data of {data.shape}"
        raise invalid("parameters", must, got=got)
    sampled = _sampler(posterior, draws)

    def ranked(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        drawn = sampled(data[rows], seed, rows[0])
        found = ranks(drawn, theta[rows], seed=rows[0])
        wide = drawn.astype(np.float64)
        return found, wide.mean(axis=0), wide.std(axis=0, ddof=min(1, draws - 1))

    found, means, deviations = map_rows(ranked, np.arange(len(data)), rows=batch_size)
    d = theta.shape[1]
    named = tuple(names or (f"parameter {k}" for k in range(1, d + 1)))
    if len(named) != d:
        raise invalid("names", f"name {d} parameters", names)
    return Calibration(found, draws, named, theta, means, deviations)


def tarp(
    samples: npt.ArrayLike,
    truths: npt.ArrayLike,
    references: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> Calibration:
    """Ranks how far true parameters are from random points, among posterior draws.

        rank_i = number of draws with |theta_ij - r_i| < |theta_i - r_i|

    Uniform if the draws are of the exact posterior, for any points `r_i`; all values
    are tested at once (tests of accuracy with random points). `ecdf` of the result is
    the expected coverage.

    Args:
        samples: Posterior draws `[draws, n, d]`.
        truths: True parameters `[n, d]`.
        references: Points `[n, d]`; None draws them evenly from the box of the truths.
            With points that depend on the data the test also finds a posterior that
            ignores the data.
        seed: Integer from which the points follow.

    Reference: Lemos, Coogan, Hezaveh, Perreault-Levasseur: Sampling-based accuracy
    testing of posterior estimators for general inference, 2023, arXiv:2302.03026.
    """
    theta = np.asarray(truths, np.float64)
    drawn = np.asarray(samples, np.float64)
    ranks(drawn, theta)  # refuses other shapes, and what is not finite
    if references is None:
        # Its own stream: truths drawn from an equal seed must not be the points.
        rng = np.random.default_rng([seed, _POINTS])
        points = rng.uniform(theta.min(axis=0), theta.max(axis=0), theta.shape)
    else:
        points = np.asarray(references, np.float64)
        if points.shape != theta.shape or not np.isfinite(points).all():
            must = f"be finite, of shape {theta.shape}, as `truths`"
            raise invalid("references", must, got=f"shape {points.shape}")
    spread = theta.std(axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)

    def distance(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm((values - points) / scale, axis=-1, keepdims=True)

    found = ranks(distance(drawn), distance(theta))
    return Calibration(found, len(drawn), ("distance",))


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
    # After all have been drawn: a limit ends the scaling of the axis that they share.
    axes[0, 0].set_ylim(bottom=0.0)
    axes[0, 0].set_ylabel("simulations")
    axes[1, 0].set_ylabel("share that holds the truth")
    return figure


def ecdf_figure(calibration: Calibration, confidence: float = 0.99) -> Figure:
    """Draws `ecdf` minus what an exact posterior has, within its simultaneous band."""
    from matplotlib.figure import Figure

    d = len(calibration.names)
    figure = Figure(figsize=(2.9 * max(d, 2) + 0.5, 2.9), layout="constrained")
    axes = figure.subplots(1, d, squeeze=False, sharey="row")[0]
    share, found = calibration.ecdf()
    low, high = calibration.ecdf_band(confidence)
    p = calibration.ecdf_p_values()
    for k, name in enumerate(calibration.names):
        axes[k].fill_between(share, low - share, high - share, color=_BAND, lw=0.0)
        axes[k].axhline(0.0, color="0.45", lw=1.0)
        axes[k].plot(share, found[:, k] - share, color=BLUE, lw=1.6)
        axes[k].set_title(f"{name}: p = {p[k]:.2g}")
        axes[k].set_xlabel("rank of the truth among draws")
        axes[k].set_xlim(0.0, 1.0)
    axes[0].set_ylabel("share below, minus uniform")
    return figure


def contraction_figure(calibration: Calibration) -> Figure:
    """Draws the z-scores against the contraction of each parameter."""
    from matplotlib.figure import Figure

    z, contraction = calibration.z_scores(), calibration.contraction()
    d = len(calibration.names)
    figure = Figure(figsize=(2.9 * max(d, 2) + 0.5, 2.9), layout="constrained")
    axes = figure.subplots(1, d, squeeze=False, sharey="row")[0]
    for k, name in enumerate(calibration.names):
        axes[k].axhline(0.0, color="0.45", lw=1.0)
        axes[k].scatter(contraction[:, k], z[:, k], s=4, color=BLUE, alpha=0.5)
        axes[k].set_title(f"{name}: mean z² = {np.mean(z[:, k] ** 2):.2f}")
        axes[k].set_xlabel("contraction")
    axes[0].set_ylabel("z-score")
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
