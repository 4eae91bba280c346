"""`SetEncoder`: a summary of vectors that come in no order."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import Activation, DescribedLayer, checked_integer
from tfp_flows.nets.attention import AttentionBlock
from tfp_flows.nets.conditioner import Shape, ops
from tfp_flows.nets.dense import built


@keras.saving.register_keras_serializable(package="tfp_flows")
class SetEncoder(DescribedLayer):
    """Features of a set that are the same for all orders of its vectors.

        h_i = f(E x_i);    h <- block(h)  `layers` times
        output = D [mean_i h_i, max_i h_i]

    With `heads=0` a block is a dense layer of each vector by itself, `h_i <- f(U h_i)`,
    and the whole a deep set; else it is an `AttentionBlock` of all to all, and the
    whole a set transformer. It is meant for `encoder=` of conditional flows and
    `summary=` of `tfpf.inference.NeuralPosterior`, such as repeated observations.

    Shapes: sets `[n, vectors, d]` to `[n, features]`.

    Reference: Zaheer et al.: Deep Sets, 2017, arXiv:1703.06114. Lee et al.: Set
    Transformer, 2018, arXiv:1810.00825.

    Example:
        >>> SetEncoder(features=3, width=8)(ops.zeros([2, 10, 4])).shape
        TensorShape([2, 3])
    """

    def __init__(
        self,
        features: int = 16,
        width: int = 64,
        layers: int = 2,
        heads: int = 0,
        activation: Activation = "gelu",
        **kwargs: Any,
    ) -> None:
        """Configures the network.

        Args:
            features: Number of values of a summary.
            width: Values of a vector inside, which `heads` divides.
            heads: Heads of attention; 0 for none.
        """
        super().__init__(**kwargs)
        self.features = checked_integer("features", features)
        self.width = checked_integer("width", width)
        self.layers = checked_integer("layers", layers, 0)
        self.heads = checked_integer("heads", heads, 0)
        self.activation: Any = keras.activations.get(activation)

    def build(self, input_shape: Shape) -> None:
        """Makes the layers for sets of vectors `[n, vectors, d]`."""
        dense, policy, width = keras.layers.Dense, self.dtype_policy, self.width
        enter = dense(width, self.activation, dtype=policy)
        self._enter = built(enter, None, input_shape[-1])
        self._blocks = [
            built(
                AttentionBlock(self.heads, activation=self.activation, dtype=policy)
                if self.heads
                else dense(width, self.activation, dtype=policy),
                None,
                width,
            )
            for _ in range(self.layers)
        ]
        self._leave = built(dense(self.features, dtype=policy), 2 * width)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[n, vectors, d]` to `[n, features]`."""
        h = self._enter(inputs)
        for block in self._blocks:
            h = block(h)
        summary = [ops.mean(h, axis=1), ops.max(h, axis=1)]
        outputs: tf.Tensor = self._leave(ops.concatenate(summary, axis=-1))
        return outputs
