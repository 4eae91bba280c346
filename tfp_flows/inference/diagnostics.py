"""Whether draws are those of a posterior: tests of two samples, global and local."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import (
    Arrays,
    Seed,
    checked_instance,
    checked_integer,
    invalid,
)
from tfp_flows.internal.pictures import BLUE
from tfp_flows.internal.seeds import stateless_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(
    name: str, values: npt.ArrayLike, columns: int | None = None, least: int = 2
) -> np.ndarray:
    """Returns finite draws `[n, d]` in double precision; `[n]` stands for `[n, 1]`."""
    array = np.asarray(values, np.float64)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) < least or columns not in (None, array.shape[1]):
        must = f"have shape [n, {columns or 'd'}] with n of at least {least}"
        raise invalid(name, must, got=f"{name} of shape {array.shape}")
    bad = np.count_nonzero(~np.isfinite(array).all(axis=1))
    if bad:
        got = f"{bad} of {len(array)} rows that are not"
        raise invalid(name, "be finite", got=got)
    return array


def _scaling(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of each column; 1 where it is constant."""
    scale = x.std(axis=0, ddof=1)
    return x.mean(axis=0), np.where(scale > 0.0, scale, 1.0)


def _classifier(width: int, seed: int, **options: Any) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((width, width), max_iter=1000, random_state=seed, **options)


def c2st(
    draws_p: npt.ArrayLike, draws_q: npt.ArrayLike, *, folds: int = 5, seed: int = 0
) -> float:
    """Tells two sets of draws apart by a network (classifier two-sample test).

        c2st = mean over folds of the accuracy on the draws that are left out

    0.5 for draws that the network cannot tell apart, 1 for those that it always can.
    Both sets are standardized by the first; the network has two hidden layers of `10 d`
    rectified units. With `draws_p` the reference it is the figure of sbibm's tables.

    Args:
        draws_p: Draws `[n, d]`, or `[n]`.
        draws_q: Draws `[n, d]`; equally many, or 0.5 is not what chance gives.
        folds: Number of parts of the draws, each of which is left out once.
        seed: Integer from which parts and weights follow.

    Reference: Lopez-Paz, Oquab: Revisiting classifier two-sample tests, 2017,
    arXiv:1610.06545. Lueckmann et al.: Benchmarking simulation-based inference, 2021,
    arXiv:2101.04653.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> c2st(rng.normal(size=[200, 2]), rng.normal(5.0, size=[200, 2])) > 0.95
        True
    """
    from sklearn.model_selection import KFold, cross_val_score

    p = rows("draws_p", draws_p)
    q = rows("draws_q", draws_q, p.shape[1])
    checked_integer("folds", folds, 2)
    if len(p) != len(q):
        must = f"have {len(p)} rows, as `draws_p`"
        raise invalid("draws_q", must, got=f"{len(q)} rows")
    if folds > 2 * len(p):
        raise invalid("folds", f"be at most the {2 * len(p)} draws", folds)
    mean, scale = _scaling(p)
    inputs = (np.concatenate([p, q]) - mean) / scale
    labels = np.repeat([0, 1], [len(p), len(q)])
    parts = KFold(folds, shuffle=True, random_state=seed)
    network = _classifier(10 * p.shape[1], seed)
    return float(np.mean(cross_val_score(network, inputs, labels, cv=parts)))


class TwoSampleTest(NamedTuple):
    """A statistic, those of trials under the hypothesis tested, and a p-value."""

    statistic: float
    null: np.ndarray
    p_value: float


def local_c2st(
    draws: npt.ArrayLike,
    parameters: npt.ArrayLike,
    data: npt.ArrayLike,
    observed_draws: npt.ArrayLike,
    observed: npt.ArrayLike,
    *,
    trials: int = 100,
    seed: int = 0,
) -> TwoSampleTest:
    """Tests a posterior at one observation, without a draw of the exact one there.

    A network learns the probability `d(theta, x)` that a pair is of the joint
    distribution, `(theta_i, x_i)`, rather than of the posterior's,
    `(theta ~ q(. | x_i), x_i)`. At the observation,

        statistic = mean of (d(theta, x_o) - 1/2)^2 over theta ~ q(. | x_o)

    is compared with that of networks which learnt permuted labels. A small p-value says
    that the posterior is wrong there.

    Args:
        draws: One draw of the posterior given each data set, `[n, d]`.
        parameters: Those that the data were simulated from, `[n, d]`.
        data: Data or features of them, `[n, m]`, not trained on.
        observed_draws: Draws of the posterior given the observation, `[k, d]`.
        observed: The observation, `[m]`.
        trials: Number of permutations, each of which trains a network.
        seed: Integer from which permutations and weights follow.

    Reference: Linhart, Gramfort, Rodrigues: L-C2ST: local diagnostics for posterior
    approximations in simulation-based inference, 2023, arXiv:2306.03580.
    """
    q = rows("draws", draws)
    d = q.shape[1]
    p = rows("parameters", parameters, d)
    x = rows("data", data)
    if not len(q) == len(p) == len(x):
        raise invalid("data", f"have {len(q)} rows, as `draws` and `parameters`", x)
    o = np.asarray(observed, np.float64).reshape(-1)
    if o.shape != x.shape[1:] or not np.isfinite(o).all():
        raise invalid("observed", f"be {x.shape[1]} finite numbers", observed)
    at = rows("observed_draws", observed_draws, d)
    checked_integer("trials", trials)

    inputs = np.concatenate([np.hstack([q, x]), np.hstack([p, x])])
    mean, scale = _scaling(inputs)
    inputs = (inputs - mean) / scale
    tested = np.hstack([at, np.broadcast_to(o, [len(at), len(o)])])
    tested = (tested - mean) / scale

    def statistic(labels: np.ndarray, seed: int) -> float:
        network = _classifier(10 * inputs.shape[1], seed, early_stopping=True)
        probability = network.fit(inputs, labels).predict_proba(tested)[:, 1]
        return float(np.mean((probability - 0.5) ** 2))

    labels = np.repeat([0, 1], len(q))
    rng = np.random.default_rng(seed)
    found = statistic(labels, seed)
    null = [statistic(rng.permutation(labels), seed) for _ in range(trials)]
    return _tested(found, np.asarray(null))


def _tested(found: float, null: np.ndarray) -> TwoSampleTest:
    """Returns the test; its p-value counts what was found among the trials."""
    p_value = (1 + np.count_nonzero(null >= found)) / (1 + len(null))
    return TwoSampleTest(float(found), null, float(p_value))


def mmd(
    draws: npt.ArrayLike,
    others: npt.ArrayLike,
    *,
    trials: int = 500,
    seed: int = 0,
) -> TwoSampleTest:
    """Compares two sets of draws by their maximum mean discrepancy.

        MMD^2 = mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j),    i != j

    without bias, so it can be below 0; `k(a, b) = exp(-|a - b|^2 / (2 h^2))`, `h` the
    median distance of pairs that differ. Columns are standardized by `draws`. The
    p-value is that of permuted rows.

    Against misspecified models: with `draws` the data (or a network's features of them)
    that the posterior was trained on and `others` the observations, a small p-value
    says that the simulator does not make such data and that the posterior given them
    can be anything. One observation will do; the second mean then falls away.

    Args:
        draws: Draws `[n, d]`; of thousands, some: memory and time grow as `(n + m)^2`.
        others: Draws `[m, d]`.
        trials: Number of permutations.
        seed: Integer from which the permutations follow.

    Reference: Gretton et al.: A kernel two-sample test, 2012. Schmitt et al.: Detecting
    model misspecification in amortized Bayesian inference with neural networks, 2022,
    arXiv:2112.08866.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mmd(rng.normal(size=[200, 2]), rng.normal(3.0, size=[20, 2])).p_value < 0.01
        True
    """
    from scipy.spatial.distance import pdist, squareform

    x = rows("draws", draws)
    y = rows("others", others, x.shape[1], least=1)
    checked_integer("trials", trials)
    mean, scale = _scaling(x)
    distances = pdist((np.concatenate([x, y]) - mean) / scale)
    apart = distances[distances > 0.0]  # most whole numbers may be equal
    width = np.median(apart) if len(apart) else 0.0
    if not width > 0.0:
        raise invalid("draws", "differ from each other", got="equal rows")
    kernel = squareform(np.exp(-0.5 * (distances / width) ** 2))  # 0 on the diagonal
    n, m = len(x), len(y)
    first = np.arange(n + m) < n

    def statistics(first: np.ndarray) -> np.ndarray:
        """Returns those of the rows `[trials, n + m]` that are in the first set."""
        ones = first.astype(np.float64)
        to_first = ones @ kernel
        within = np.sum(ones * to_first, axis=-1)
        between = np.sum((1.0 - ones) * to_first, axis=-1)
        rest = kernel.sum() - within - 2.0 * between
        pairs = max(m * (m - 1), 1)
        return within / (n * (n - 1)) + rest / pairs - 2.0 * between / (n * m)

    rng = np.random.default_rng(seed)
    permuted = rng.permuted(np.tile(first, (trials, 1)), axis=1)
    return _tested(statistics(first), statistics(permuted))


def two_sample_figure(test: TwoSampleTest) -> Figure:
    """Draws a test's statistic over those of its trials."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.hist(test.null, bins=30, color="0.82")
    axes.axvline(test.statistic, color=BLUE, lw=1.8)
    axes.set_xlabel("statistic; grey: under the hypothesis")
    axes.set_ylabel("trials")
    axes.set_title(f"p = {test.p_value:.2g}")
    return figure


def posterior_predictive(
    joint: tfd.JointDistribution, latent: Arrays, seed: Seed = None
) -> Arrays:
    """Draws data of a joint distribution for draws of its latent parts.

        x_i ~ p(x | z_i),    z_i ~ q(z | observed)

    Args:
        joint: The model, not pinned.
        latent: Draws `[n, ...]` by the parts' names, or in the form that `joint.sample`
            takes as `value`, such as a list with None for what is to be drawn.
        seed: None, an integer or a pair of integers.

    Returns:
        Draws of all parts, `[n, ...]`, in the model's structure; the latent ones are
        those given.
    """
    checked_instance(
        "joint", joint, tfd.JointDistribution, "a joint distribution, not pinned"
    )
    given = [part for part in tf.nest.flatten(latent) if part is not None]
    if not given:
        raise invalid("latent", "hold draws of the latent parts", latent)
    n = tf.convert_to_tensor(given[0]).shape[0]
    seed = None if seed is None else stateless_seed(seed)
    if isinstance(latent, Mapping):
        return joint.sample(n, seed=seed, **latent)
    return joint.sample(n, seed=seed, value=latent)
