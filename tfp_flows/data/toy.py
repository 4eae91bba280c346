"""Two-dimensional toy sets that come with their true density and entropy.

Each set has the same three methods: `sample` draws points `[n, 2]`, `log_density` is
the exact log-density in nats of points `[..., 2]`, and `entropy` its differential
entropy `H = -E[log p(x)]` in nats, which no flow's held-out nll can beat. All
arithmetic is in float64; points are returned as float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from tfp_flows.internal.arguments import checked_choice, invalid

Array = np.ndarray


def sample(name: str, n: int, seed: int = 0) -> Array:
    """Draws points of a toy set, `[n, 2]` in float32; equal seeds, equal points."""
    return _toy(name).sample(n, np.random.default_rng(seed)).astype(np.float32)


def log_density(name: str, x: Array) -> Array:
    """Returns the true log-density of a toy set at points `[..., 2]`, in nats."""
    toy, x = _toy(name), np.asarray(x, np.float64)
    if x.shape[-1:] != (2,):
        raise invalid("x", "have the shape [..., 2]", x.shape)
    return toy.log_density(x)


@functools.cache
def true_entropy(name: str) -> float:
    """Returns the differential entropy of a toy set, in nats.

    It is the lowest mean nll on fresh points: `log 32` exactly for the checkerboard, by
    numerical integration to 1e-6 nats for the others.
    """
    return float(_toy(name).entropy())


def _toy(name: str) -> _ToySet:
    return TOY_SETS[checked_choice("name", name, TOY_SETS)]


class _ToySet(Protocol):
    """What every toy set can do."""

    def sample(self, n: int, rng: np.random.Generator) -> Array: ...

    def log_density(self, x: Array) -> Array: ...

    def entropy(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class _TwoMoons:
    """Two half circles of radius 1, facing each other, with normal noise.

    The upper arc is `(cos t, sin t)` and the lower one `(1 - cos t, 1/2 - sin t)`
    for `t` uniform in `[0, pi]`; noise of standard deviation `sigma` is added:

        p(x) = 1/(2 pi) sum_arcs int_0^pi N(x; arc(t), sigma^2 I) dt,

    integrated by a Gauss-Legendre rule whose nodes lie closer than `sigma / 2`, exact
    to 1e-9. The entropy is a trapezoidal sum over a grid of spacing `sigma / 2.5`,
    exact to 1e-6 nats.
    """

    sigma: float = 0.1

    def _arcs(self, t: Array) -> Array:
        upper = _circle(t)
        lower = np.array([1.0, 0.5]) - upper
        return np.stack([upper, lower])

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        arcs = self._arcs(rng.uniform(0.0, np.pi, n))
        clean = np.where(rng.integers(0, 2, (n, 1)) == 0, arcs[0], arcs[1])
        return clean + self.sigma * rng.standard_normal((n, 2))

    def log_density(self, x: Array) -> Array:
        nodes, weights = np.polynomial.legendre.leggauss(128)
        centres = self._arcs(0.5 * np.pi * (nodes + 1.0)).reshape(-1, 2)
        # The rule's weights sum to 2 on each arc; a fair mixture has mass 1/2 on each.
        log_mass = np.log(np.tile(weights / 4.0, 2))

        def mixture(points: Array) -> Array:
            log_p = _log_normal(_squared_distances(points, centres), self.sigma)
            return _log_sum_exp(log_p + log_mass)

        # A few MB at a time stay in the processor's cache.
        blocks = np.array_split(x.reshape(-1, 2), x.size // 2000 + 1)
        return np.concatenate([mixture(points) for points in blocks]).reshape(
            x.shape[:-1]
        )

    def entropy(self) -> float:
        margin = 8 * self.sigma
        low, high = (-1 - margin, -0.5 - margin), (2 + margin, 1 + margin)
        return _grid_entropy(self.log_density, low, high, points=120)


@dataclasses.dataclass(frozen=True)
class _EightGaussians:
    """Eight equal round normals on a circle, a closed-form mixture.

    The means lie at `radius (cos(k pi / 4), sin(k pi / 4))`. The entropy is a
    trapezoidal sum over a grid of spacing `sigma / 5` and exact to 1e-6 nats.
    """

    radius: float = 2.0 * 2.0**0.5
    sigma: float = 0.5 / 2.0**0.5

    def _means(self) -> Array:
        return self.radius * _circle(np.arange(8) * np.pi / 4)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        means = self._means()[rng.integers(0, 8, n)]
        return means + self.sigma * rng.standard_normal((n, 2))

    def log_density(self, x: Array) -> Array:
        squared = _squared_distances(x, self._means())
        return _log_sum_exp(_log_normal(squared, self.sigma)) - np.log(8.0)

    def entropy(self) -> float:
        edge = self.radius + 8 * self.sigma
        return _grid_entropy(self.log_density, (-edge, -edge), (edge, edge), points=180)


@dataclasses.dataclass(frozen=True)
class _Pinwheel:
    """Five elongated normals around the origin, twisted into arms.

    A point `u` of the straight star, a mixture of normals with mean `radius` and
    deviations `(along, across)` in each arm's frame, is turned by the angle
    `twist * |u|`. A turn that depends on the distance from the origin alone keeps
    areas, so `p(x) = p_star(u(x))` in closed form and the entropy is that of the
    star: a trapezoidal sum over a grid of spacing `across / 4`, exact to 1e-6 nats.
    """

    arms: int = 5
    radius: float = 2.0
    along: float = 0.6
    across: float = 0.2
    twist: float = 0.8

    def _turn(self, x: Array, direction: float) -> Array:
        angle = direction * self.twist * np.linalg.norm(x, axis=-1)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = [cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]]
        return np.stack(turned, axis=-1)

    def _axes(self) -> Array:
        """Unit vectors along and across each arm, shape `[arms, 2, 2]`."""
        along = _circle(np.arange(self.arms) * 2 * np.pi / self.arms)
        across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
        return np.stack([along, across], axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        local = rng.standard_normal((n, 2)) * [self.along, self.across]
        local = local + [self.radius, 0.0]
        axes = self._axes()[rng.integers(0, self.arms, n)]
        return self._turn(np.einsum("ni,nij->nj", local, axes), 1.0)

    def _star_log_density(self, u: Array) -> Array:
        local = np.einsum("...j,kij->...ki", u, self._axes())
        z = (local - [self.radius, 0.0]) / [self.along, self.across]
        log_p = -0.5 * np.sum(z**2, axis=-1)
        scale = np.log(2 * np.pi * self.along * self.across * self.arms)
        return _log_sum_exp(log_p) - scale

    def log_density(self, x: Array) -> Array:
        return self._star_log_density(self._turn(x, -1.0))

    def entropy(self) -> float:
        edge = self.radius + 8 * self.along
        low, high = (-edge, -edge), (edge, edge)
        return _grid_entropy(self._star_log_density, low, high, points=280)


@dataclasses.dataclass(frozen=True)
class _Checkerboard:
    """Uniform on the eight dark fields of a 4x4 board that spans `[-4, 4]^2`.

    `p(x) = 1/32` on a dark field and 0 elsewhere (log-density `-inf`); the entropy
    is `log 32` exactly.
    """

    field: float = 2.0

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        column = rng.integers(0, 4, n)
        row = 2 * rng.integers(0, 2, n) + column % 2
        corner = np.stack([column, row], axis=-1) - 2.0
        return self.field * (corner + rng.uniform(size=(n, 2)))

    def log_density(self, x: Array) -> Array:
        index = np.floor(x / self.field).astype(int) + 2
        inside = np.all((index >= 0) & (index < 4), axis=-1)
        dark = inside & (np.sum(index, axis=-1) % 2 == 0)
        return np.where(dark, -self.entropy(), -np.inf)

    def entropy(self) -> float:
        return float(np.log(8 * self.field**2))


@dataclasses.dataclass(frozen=True)
class _Rings:
    """Four concentric circles, equally likely, with normal noise.

    Noise convolves a circle of radius `r` to a closed form in the distance `d`
    from the origin, with the scaled Bessel function `I0e(z) = exp(-z) I0(z)`:

        p(x) = 1/4 sum_r N(d - r; 0, sigma^2 I_2) I0e(d r / sigma^2).

    The entropy is one integral over `d` by the trapezoidal rule, exact to 1e-6 nats.
    """

    radii: tuple[float, ...] = (0.75, 1.5, 2.25, 3.0)
    sigma: float = 0.08

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        radius = rng.choice(self.radii, (n, 1))
        clean = radius * _circle(rng.uniform(0.0, 2 * np.pi, n))
        return clean + self.sigma * rng.standard_normal((n, 2))

    def _radial_log_density(self, distance: Array) -> Array:
        from scipy.special import i0e

        d, radii = distance[..., None], np.asarray(self.radii)
        log_p = _log_normal((d - radii) ** 2, self.sigma)
        log_p = log_p + np.log(i0e(d * radii / self.sigma**2))
        return _log_sum_exp(log_p) - np.log(len(self.radii))

    def log_density(self, x: Array) -> Array:
        return self._radial_log_density(np.linalg.norm(x, axis=-1))

    def entropy(self) -> float:
        distance = np.linspace(0.0, max(self.radii) + 8 * self.sigma, 4001)
        log_p = self._radial_log_density(distance)
        integrand = -2 * np.pi * distance * np.exp(log_p) * log_p
        return float(np.sum(integrand) * distance[1])  # it vanishes at both ends


def _circle(angle: Array) -> Array:
    """Points of the unit circle, `[..., 2]`."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _log_normal(squared_distance: Array, sigma: float) -> Array:
    """Log-density of a round 2-D normal at a squared distance from its mean."""
    return -0.5 * squared_distance / sigma**2 - np.log(2 * np.pi * sigma**2)


def _log_sum_exp(log_terms: Array) -> Array:
    """Returns `log sum exp` over the last axis, which holds finite numbers."""
    largest = np.max(log_terms, axis=-1, keepdims=True)
    total = np.sum(np.exp(log_terms - largest), axis=-1)
    return largest[..., 0] + np.log(total)


def _squared_distances(x: Array, centres: Array) -> Array:
    """Squared distances of points `[..., 2]` to centres `[k, 2]`: `[..., k]`."""
    dx, dy = (x[..., i, None] - centres[:, i] for i in range(2))
    return dx**2 + dy**2


def _grid_entropy(
    log_density: Callable[[Array], Array],
    low: tuple[float, float],
    high: tuple[float, float],
    points: int,
) -> float:
    """Integrates `-p log p` over a rectangle by the trapezoidal rule.

    A spacing below half of the smallest standard deviation gives six digits and more.
    """
    axes = [np.linspace(low[i], high[i], points) for i in range(2)]
    cell = float(np.prod([axis[1] - axis[0] for axis in axes]))
    total = 0.0
    for first in axes[0]:  # one row at a time keeps the memory small
        row = np.stack([np.full(points, first), axes[1]], axis=-1)
        log_p = log_density(row)
        total -= np.sum(np.exp(log_p) * log_p)
    return total * cell


TOY_SETS: dict[str, _ToySet] = {
    "two_moons": _TwoMoons(),
    "eight_gaussians": _EightGaussians(),
    "pinwheel": _Pinwheel(),
    "checkerboard": _Checkerboard(),
    "rings": _Rings(),
}
