"""`Checkerboard`: uniform on the dark fields of a board."""

import dataclasses

import numpy as np

from tfp_flows.data.toy.density_math import Array


@dataclasses.dataclass(frozen=True)
class Checkerboard:
    """Uniform on the eight dark fields of a 4x4 board that spans ``[-4, 4]^2``.

    ``p(x) = 1/32`` on a dark field and 0 elsewhere (log-density ``-inf``); the entropy
    is ``log 32`` exactly.
    """

    field: float = 2.0

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws ``n`` points."""
        column = rng.integers(0, 4, n)
        row = 2 * rng.integers(0, 2, n) + column % 2
        corner = np.stack([column, row], axis=-1) - 2.0
        return self.field * (corner + rng.uniform(size=(n, 2)))

    def log_density(self, x: Array) -> Array:
        """Returns ``log p(x)`` in nats, ``-inf`` outside of the dark fields."""
        index = np.floor(x / self.field).astype(int) + 2
        inside = np.all((index >= 0) & (index < 4), axis=-1)
        dark = inside & (np.sum(index, axis=-1) % 2 == 0)
        return np.where(dark, -self.entropy(), -np.inf)

    def entropy(self) -> float:
        """Returns the differential entropy in nats."""
        return float(np.log(8 * self.field**2))
