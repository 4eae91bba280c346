"""Energies of small systems of particles: targets for flows that sample them.

Each returns `U(x)`, `[...]`, of positions `[..., particles, d]`; the density to sample
is proportional to `exp(-U)`. Energies depend on distances alone.
"""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.internal.arguments import TensorLike, checked_number


def double_well(
    x: TensorLike,
    *,
    distance: float = 4.0,
    depth: float = 4.0,
    steepness: float = 0.9,
) -> tf.Tensor:
    """Returns the energy of pairs that like two distances.

        U = sum_{i<j} c (r_ij - r_0)^4 - b (r_ij - r_0)^2,    r_ij = |x_i - x_j|

    Four particles in the plane are the system DW4.

    Args:
        distance: The distance `r_0` between the two wells.
        depth: The factor b.
        steepness: The factor c.

    Reference: Koehler, Klein, Noe: Equivariant Flows, 2020, arXiv:2006.02425.
    """
    off = _distances(x) - distance
    terms = steepness * off**4 - depth * tf.square(off)
    return tf.reduce_sum(terms, axis=-1)


def lennard_jones(
    x: TensorLike, *, radius: float = 1.0, strength: float = 1.0, trap: float = 1.0
) -> tf.Tensor:
    """Returns the energy of particles that attract from afar and repel from near.

        U = strength sum_{i<j} (s^12 - 2 s^6) + trap / 2 sum_i |x_i - mean(x)|^2,
        s = radius / |x_i - x_j|

    The trap keeps a cluster together. Of 13 particles in space it is LJ13.

    Args:
        radius: The distance of least energy of a pair.
        strength: The depth of the well there.
        trap: Strength of the harmonic trap; 0 for none.

    Reference: Koehler, Klein, Noe: Equivariant Flows, 2020, arXiv:2006.02425.
    """
    checked_number("radius", radius, above=0.0)
    x = tf.convert_to_tensor(x)
    sixth = (radius / _distances(x)) ** 6
    centred = x - tf.reduce_mean(x, axis=-2, keepdims=True)
    held = 0.5 * trap * tf.reduce_sum(tf.square(centred), axis=[-2, -1])
    return strength * tf.reduce_sum(sixth * (sixth - 2.0), axis=-1) + held


def _distances(x: TensorLike) -> tf.Tensor:
    """Returns the distances of all pairs, `[..., pairs]`."""
    x = tf.convert_to_tensor(x)
    n = int(x.shape[-2])
    first, second = zip(*((i, j) for i in range(n) for j in range(i)), strict=True)
    return tf.norm(
        tf.gather(x, first, axis=-2) - tf.gather(x, second, axis=-2), axis=-1
    )
