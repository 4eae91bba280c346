"""The divergence of a vector field: exact, or estimated by a random probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

TRACES = ("exact", "rademacher", "gaussian")

Field = Callable[[tf.Tensor, Any], tf.Tensor]
Divergence = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def exact(field: Field, z: tf.Tensor, condition: Any = None) -> Divergence:
    """Computes a field and the trace of its Jacobian.

    Each point is repeated once for each of its D values, so that one pullback gives
    all rows of the Jacobian: the graph does not grow with D.

    Args:
        field: Maps points `[m, *event]` and their conditions to velocities
            `[m, *event]`, row by row.
        z: Points `[n, *event]`.
        condition: The conditions of the points, `[n, ...]`, or None.

    Returns:
        Velocities `[n, *event]`, traces `[n]`, squared Frobenius norms of the
        Jacobian `[n]`.
    """
    d = z.shape[1:].num_elements()
    n = tf.shape(z)[0]
    copies = _repeated(z, d)
    given = None if condition is None else _repeated(condition, d)
    units = tf.reshape(tf.tile(tf.eye(d, dtype=z.dtype), [n, 1]), tf.shape(copies))
    velocity, rows = _pullback(field, copies, given, units)
    jacobian = tf.reshape(rows, [-1, d, d])
    velocity = tf.reshape(velocity, [-1, d, *z.shape[1:]])[:, 0]
    norm = tf.reduce_sum(tf.square(jacobian), axis=[1, 2])
    return velocity, tf.linalg.trace(jacobian), norm


def _repeated(x: tf.Tensor, d: int) -> tf.Tensor:
    """Repeats each row d times, by broadcasting: XLA has no gradient of `tf.repeat`."""
    ones = tf.ones([d] + [1] * (x.shape.rank - 1), x.dtype)
    return tf.reshape(x[:, None] * ones, [-1, *x.shape[1:]])


def hutchinson(
    field: Field, z: tf.Tensor, condition: Any, probe: tf.Tensor
) -> Divergence:
    """Computes a field and Hutchinson's estimate `e^T J e` of its trace.

    The estimate is unbiased for probes `e` of mean 0 and unit covariance, and
    costs one pullback for any dimension.

    Args:
        field: Maps points `[m, *event]` and their conditions to velocities
            `[m, *event]`, row by row.
        z: Points `[n, *event]`.
        condition: The conditions of the points, `[n, ...]`, or None.
        probe: One probe for each point, of the shape of `z`.

    Returns:
        Velocities `[n, *event]`, estimated traces `[n]`, estimated squared
        Frobenius norms `|e^T J|^2` of the Jacobian `[n]`.
    """
    velocity, row = _pullback(field, z, condition, probe)
    return velocity, sum_event(row * probe), sum_event(tf.square(row))


def sum_event(x: tf.Tensor) -> tf.Tensor:
    """Sums `[n, *event]` over the event."""
    return tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))


class Probe(keras.Layer):
    """Draws the probes of a solve.

    While Keras trains (`training=True`) each call draws new ones, so that no weight
    can adapt to them. Otherwise they follow from the seed and the shape alone: a
    density is a fixed function of its batch, and `forward` and `inverse` of the
    same points use the same probes.
    """

    def __init__(self, kind: str, seed: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.kind = kind
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "kind": self.kind, "seed": self.seed}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the layer has no weights but the state of its seed."""

    def call(self, z: Any, training: bool | None = None) -> Any:
        """Returns one probe for each point, in the shape of `z`."""
        state = self._generator.next() if training else [self.seed, 0]
        seed = tf.cast(state, tf.int32)
        if self.kind == "gaussian":
            return tf.random.stateless_normal(tf.shape(z), seed, dtype=z.dtype)
        coins = tf.random.stateless_uniform(
            tf.shape(z), seed, minval=0, maxval=2, dtype=tf.int32
        )
        return tf.cast(2 * coins - 1, z.dtype)


def _pullback(
    field: Field, z: tf.Tensor, condition: Any, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the field and `weights^T J`, row by row."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        velocity = field(z, condition)
    pulled = tape.gradient(
        velocity,
        z,
        output_gradients=weights,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return velocity, pulled
