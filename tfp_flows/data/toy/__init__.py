"""Two-dimensional toy sets that come with their true density and entropy.

Each set is a small class with the same three methods: ``sample`` draws points,
``log_density`` is the exact log-density in nats, and ``entropy`` its differential
entropy ``H = -E[log p(x)]`` in nats, which no flow's held-out nll can beat. All
arithmetic is float64; points are returned as float32.
"""

import functools
from typing import Protocol

import numpy as np

from tfp_flows.data.toy.checkerboard import Checkerboard
from tfp_flows.data.toy.density_math import Array
from tfp_flows.data.toy.eight_gaussians import EightGaussians
from tfp_flows.data.toy.pinwheel import Pinwheel
from tfp_flows.data.toy.rings import Rings
from tfp_flows.data.toy.two_moons import TwoMoons


class ToySet(Protocol):
    """What every toy set can do."""

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws ``n`` points, shape ``[n, 2]``."""
        ...

    def log_density(self, x: Array) -> Array:
        """Returns ``log p(x)`` in nats, shape ``[...]`` for ``x`` of ``[..., 2]``."""
        ...

    def entropy(self) -> float:
        """Returns the differential entropy in nats."""
        ...


TOY_SETS: dict[str, ToySet] = {
    "two_moons": TwoMoons(),
    "eight_gaussians": EightGaussians(),
    "pinwheel": Pinwheel(),
    "checkerboard": Checkerboard(),
    "rings": Rings(),
}


def _toy(name: str) -> ToySet:
    if name not in TOY_SETS:
        raise ValueError(
            f"`name` must be one of {', '.join(TOY_SETS)}. Received: {name!r}."
        )
    return TOY_SETS[name]


def sample(name: str, n: int, seed: int = 0) -> Array:
    """Draws ``n`` points of a toy set.

    Args:
        name: ``two_moons``, ``eight_gaussians``, ``pinwheel``, ``checkerboard`` or
            ``rings``.
        n: How many points.
        seed: The same seed gives the same points.

    Returns:
        A float32 array of shape ``[n, 2]``.

    Raises:
        ValueError: If there is no toy set of that name.
    """
    return _toy(name).sample(n, np.random.default_rng(seed)).astype(np.float32)


def log_density(name: str, x: Array) -> Array:
    """Returns the true log-density of a toy set, in nats.

    Args:
        name: A toy set, as in ``sample``.
        x: Points of shape ``[..., 2]``.

    Returns:
        A float64 array of shape ``[...]``; ``-inf`` where the density is zero.

    Raises:
        ValueError: If there is no toy set of that name, or ``x`` is not 2-D points.
    """
    toy, x = _toy(name), np.asarray(x, np.float64)
    if x.shape[-1:] != (2,):
        raise ValueError(f"`x` must have the shape [..., 2]. Received: {x.shape}.")
    return toy.log_density(x)


@functools.cache
def true_entropy(name: str) -> float:
    """Returns the differential entropy of a toy set, in nats.

    It is the lowest mean negative log-likelihood that any model can reach on fresh
    points. Method and precision stand in the docstring of each set: ``log 32`` exactly
    for the checkerboard, numerical integration to 1e-6 nats for the others.

    Args:
        name: A toy set, as in ``sample``.

    Returns:
        The entropy in nats.

    Raises:
        ValueError: If there is no toy set of that name.
    """
    return float(_toy(name).entropy())
