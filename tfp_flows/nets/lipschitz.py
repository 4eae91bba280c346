"""`LipschitzMLP`: a dense network that moves no two outputs apart more than inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import checked_choice, checked_number, checked_widths
from tfp_flows.nets.conditioner import Conditioner, Shape, size
from tfp_flows.nets.dense import hidden_initializers

# Smooth, with slopes of at most 1 in size; of swish the largest is below 1.1.
ACTIVATIONS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "sin": lambda h, sharpness: tf.sin(sharpness * h) / sharpness,
    "lipswish": lambda h, sharpness: h * tf.sigmoid(sharpness * h) / 1.1,
    "tanh": lambda h, sharpness: tf.tanh(sharpness * h) / sharpness,
}
_GRAM_STEPS = 6
_SHARPNESS = 1.5  # that a layer of unit columns starts with


def norm_bound(kernel: tf.Tensor) -> tf.Tensor:
    """Returns an upper bound of the spectral norm of a matrix.

        G_0 = W,  r_j = |G_j|_F,  G_{j+1} = G_j^T G_j / r_j^2
        |W|_2 <= r_0 r_1^(1/2) r_2^(1/4) ... r_n^(1/2^n)

    It is the Schatten norm of order `2^(n+1)`: with n = 6 at most 3 % too large for
    matrices of rank 64. Power iteration, which keeps vectors as weights, comes from
    below and promises nothing until it has converged.

    Reference: Delattre et al.: Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration, 2023, arXiv:2305.16173.
    """
    gram, log_bound, share = kernel, 0.0, 1.0
    for _ in range(_GRAM_STEPS + 1):
        square = tf.reduce_sum(tf.square(gram)) + 1e-24
        log_bound += 0.5 * share * tf.math.log(square)
        share *= 0.5
        gram = tf.matmul(gram, gram, transpose_a=True) / square
    return tf.exp(log_bound)


@keras.saving.register_keras_serializable(package="tfp_flows")
class LipschitzMLP(Conditioner):
    """Dense layers with `|g(x) - g(x')| <= L |x - x'|`, for residual flows.

    Of `n` layers each has a kernel `W min(1, L^(1/n) / s(W))`, with `s(W)` an upper
    bound of the spectral norm that is close to it (`norm_bound`), and activations have
    slopes of at most 1, so the bound holds at all times, trained or not. Conditions
    enter the first layer, with no bound.

    With a learned sharpness `b` of each layer, `activation` is `"sin"`,
    `sin(b h) / b`, `"lipswish"`, `h sigmoid(b h) / 1.1`, or `"tanh"`, `tanh(b h) / b`.
    Sharpness and biases start such that units bend within data of unit variance: what
    bounded kernels return is small, and activations of sharpness 1 hardly bend it.

    Reference: Behrmann et al.: Invertible Residual Networks, 2019, arXiv:1811.00995.
    Chen et al.: Residual Flows, 2019, arXiv:1906.02735 (LipSwish).

    Example:
        >>> net = LipschitzMLP((16,), lipschitz=0.5)
        >>> net.connect((2,), (2,))
        >>> net(tf.ones([3, 2])).shape
        TensorShape([3, 2])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: str = "sin",
        lipschitz: float = 0.97,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            lipschitz: The bound L, in (0, 1).
        """
        super().__init__(**kwargs)
        self.hidden_units = checked_widths("hidden_units", hidden_units)
        checked_choice("activation", activation, ACTIVATIONS)
        self._activation_name = activation
        self.lipschitz = checked_number("lipschitz", lipschitz, above=0.0, below=1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": self._activation_name}

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes kernels, biases and the sharpness of the activations."""
        inputs, seen = size(input_shape), size(condition_shape)
        widths = [inputs, *self.hidden_units, size(output_shape)]
        self._parts = []
        constant = keras.initializers.Constant
        for i, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            last = i == len(self.hidden_units)
            kernel = hidden_initializers(n, inputs + seen)["kernel_initializer"]
            # The size of a bounded kernel's columns.
            column = math.sqrt(min(n, m) / m)
            bias = keras.initializers.RandomUniform(-2.0 * column, 2.0 * column)
            part = {
                "kernel": self.add_weight(
                    (n, m), "zeros" if last else kernel, name=f"kernel_{i}"
                ),
                "bias": self.add_weight(
                    (m,), "zeros" if last else bias, name=f"bias_{i}"
                ),
            }
            if not last:
                start = constant(math.log(math.expm1(_SHARPNESS / column)))
                part["sharpness"] = self.add_weight((), start, name=f"sharpness_{i}")
            self._parts.append(part)
        self._from_condition = None
        if condition_shape is not None:
            self._from_condition = self.add_weight(
                (seen, widths[1]), "glorot_uniform", name="from_condition"
            )

    def bounded(self) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns the network as a function, with its kernels bounded once for all."""
        most = self.lipschitz ** (1.0 / len(self._parts))
        layers = [
            {name: tf.convert_to_tensor(weight) for name, weight in part.items()}
            for part in self._parts
        ]
        for layer in layers:
            kernel = layer["kernel"]
            layer["kernel"] = kernel * (most / tf.maximum(norm_bound(kernel), most))
            if "sharpness" in layer:
                layer["sharpness"] = tf.nn.softplus(layer["sharpness"]) + 1e-3
        given = self._from_condition
        given = None if given is None else tf.convert_to_tensor(given)
        activation = ACTIVATIONS[self._activation_name]
        (first, *others), shape = layers, self._connected(())["output_shape"]

        def function(x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
            dtype = first["kernel"].dtype
            h = tf.matmul(_rows(tf.cast(x, dtype)), first["kernel"]) + first["bias"]
            if condition is not None and given is not None:
                h += tf.matmul(_rows(tf.cast(condition, dtype)), given)
            before = first
            for layer in others:
                h = activation(h, before["sharpness"])
                h = tf.matmul(h, layer["kernel"]) + layer["bias"]
                before = layer
            return tf.reshape(h, [-1, *shape])

        return function

    def call(self, inputs: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[n, *input_shape]` to `[n, *output_shape]`."""
        return self.bounded()(inputs, condition)


def _rows(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])
