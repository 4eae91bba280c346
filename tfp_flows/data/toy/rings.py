"""`Rings`: four concentric circles, equally likely, with normal noise."""

import dataclasses

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import i0e

from tfp_flows.data.toy.density_math import Array, circle, log_normal, log_sum_exp


@dataclasses.dataclass(frozen=True)
class Rings:
    """Four concentric circles, equally likely, with normal noise.

    Noise convolves a circle of radius ``r`` to a closed form in the distance ``d``
    from the origin, with the scaled Bessel function ``I0e(z) = exp(-z) I0(z)``:

        p(x) = 1/4 sum_r N(d - r; 0, sigma^2 I_2) I0e(d r / sigma^2).

    The entropy is one integral over ``d`` by the trapezoidal rule, exact to 1e-6 nats.
    """

    radii: tuple[float, ...] = (0.75, 1.5, 2.25, 3.0)
    sigma: float = 0.08

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws ``n`` points."""
        radius = rng.choice(self.radii, (n, 1))
        clean = radius * circle(rng.uniform(0.0, 2 * np.pi, n))
        return clean + self.sigma * rng.standard_normal((n, 2))

    def _radial_log_density(self, distance: Array) -> Array:
        d, radii = distance[..., None], np.asarray(self.radii)
        log_p = log_normal((d - radii) ** 2, self.sigma)
        log_p = log_p + np.log(i0e(d * radii / self.sigma**2))
        return log_sum_exp(log_p) - np.log(len(self.radii))

    def log_density(self, x: Array) -> Array:
        """Returns ``log p(x)`` in nats."""
        return self._radial_log_density(np.linalg.norm(x, axis=-1))

    def entropy(self) -> float:
        """Returns the differential entropy in nats."""
        distance = np.linspace(0.0, max(self.radii) + 8 * self.sigma, 4001)
        log_p = self._radial_log_density(distance)
        integrand = -2 * np.pi * distance * np.exp(log_p) * log_p
        return float(trapezoid(integrand, distance))
