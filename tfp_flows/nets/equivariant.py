"""`EquivariantVelocity`: a velocity of particles without a place or a direction."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import Activation, checked_integer, invalid
from tfp_flows.nets.conditioner import Conditioner, Shape, ops, size
from tfp_flows.nets.dense import cast


@keras.saving.register_keras_serializable(package="tfp_flows")
class EquivariantVelocity(Conditioner):
    """A network of particles that turns, moves and reorders with them (EGNN).

    With `x_ij = x_i - x_j` and features `h_i` that start as those of the time and of a
    condition, equal for all particles, each of the layers does

        m_ij = f(E [h_i, h_j, |x_ij|^2])
        x_i <- x_i + mean_{j != i} x_ij phi(m_ij) / sqrt(1 + |x_ij|^2)
        h_i <- h_i + H f(G [h_i, sum_{j != i} m_ij])

    and the velocity is what has been added to `x`, without its mean over particles. As
    `velocity` of a `tfpf.ContinuousFlow` it leaves the centre where it is; behind
    `tfpf.bases.mean_free_normal`, the density is the same for all orders, rotations
    and reflections of the particles.

    Shapes: `[n, particles, d]` to the same, with times `[n]` or a scalar.

    Reference: Garcia Satorras, Hoogeboom, Fuchs, Posner, Welling: E(n) Equivariant
    Normalizing Flows, 2021, arXiv:2105.09016. Koehler, Klein, Noe: Equivariant Flows,
    2020, arXiv:2006.02425 (one layer).

    Example:
        >>> import tfp_flows as tfpf
        >>> from tensorflow_probability import distributions as tfd
        >>> f = tfpf.ContinuousFlow(EquivariantVelocity(width=8), (4, 2))
        >>> base = tfpf.bases.mean_free_normal((4, 2))
        >>> tfd.TransformedDistribution(base, f).sample(3).shape
        TensorShape([3, 4, 2])
    """

    def __init__(
        self,
        width: int = 32,
        layers: int = 2,
        activation: Activation = "silu",
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            width: Number of features of a particle, and of a message.
            activation: Smooth Keras activation f.
        """
        super().__init__(**kwargs)
        self.width = checked_integer("width", width)
        self.layers = checked_integer("layers", layers)
        self.activation: Any = keras.activations.get(activation)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for particles `(n, d)`."""
        if len(input_shape) != 2 or input_shape[0] < 2 or output_shape != input_shape:
            raise invalid(
                "event_shape", "be (particles, d) of two or more", input_shape
            )
        w = self.width
        self._enter = self.dense(w, 1 + size(condition_shape))
        self._messages = [self.dense(w, 2 * w + 1) for _ in range(self.layers)]
        self._moves = [
            self.dense(1, w, kernel_initializer="zeros", use_bias=False)
            for _ in range(self.layers)
        ]
        # After the last layer features are not read again.
        self._gathers = [self.dense(w, 2 * w) for _ in range(self.layers - 1)]
        self._updates = [self.dense(w, w) for _ in range(self.layers - 1)]

    def call(
        self, inputs: tf.Tensor, time: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns velocities of `[n, particles, d]` at `time`, a scalar or `[n]`."""
        x, f = inputs, self.activation
        n, particles = ops.shape(x)[0], int(x.shape[1])
        given = ops.broadcast_to(ops.reshape(cast(time, x.dtype), (-1, 1)), (n, 1))
        if condition is not None:
            flat = ops.reshape(cast(condition, x.dtype), (n, size(condition.shape[1:])))
            given = ops.concatenate([given, flat], axis=-1)
        h = ops.repeat(self._enter(given)[:, None], particles, axis=1)
        others = 1.0 - ops.eye(particles, dtype=x.dtype)[..., None]
        for layer in range(self.layers):
            apart = x[:, :, None] - x[:, None]
            square = ops.sum(ops.square(apart), axis=-1, keepdims=True)
            pair = ops.stack([h] * particles, axis=2)
            pair = [pair, ops.transpose(pair, (0, 2, 1, 3)), square]
            messages = f(self._messages[layer](ops.concatenate(pair, axis=-1))) * others
            pull = self._moves[layer](messages) / ops.sqrt(1.0 + square)
            x = x + ops.sum(apart * pull, axis=2) / (particles - 1)
            if layer < self.layers - 1:
                heard = [h, ops.sum(messages, axis=2)]
                heard = f(self._gathers[layer](ops.concatenate(heard, axis=-1)))
                h = h + self._updates[layer](heard)
        moved = x - inputs
        return moved - ops.mean(moved, axis=1, keepdims=True)
