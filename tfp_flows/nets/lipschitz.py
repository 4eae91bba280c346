"""`LipschitzMLP`, `LipschitzConvNet`: outputs no further apart than inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import (
    checked_choice,
    checked_integer,
    checked_number,
    checked_widths,
    invalid,
)
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
    """Returns an upper bound of the spectral norm of matrices `[..., n, m]`.

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
        square = tf.reduce_sum(tf.math.real(gram * tf.math.conj(gram)), [-2, -1])
        square += 1e-18  # XLA divides by its square, which must not underflow
        log_bound += 0.5 * share * tf.math.log(square)
        share *= 0.5
        scale = tf.cast(square, gram.dtype)[..., tf.newaxis, tf.newaxis]
        gram = tf.matmul(gram, gram, adjoint_a=True) / scale
    return tf.exp(log_bound)


_GRID = 16  # frequencies along a side


def conv_norm_bound(kernel: tf.Tensor) -> tf.Tensor:
    """Returns an upper bound of the spectral norm of a convolution `[k, k, in, out]`.

    With zeros around an image its norm is at most the largest of the matrices
    `K(w) = sum_o e^{i w o} k[o]` over all frequencies, and that is at most the largest
    of a grid of N by N times `cos(pi (k - 1) / 2 / N)^-2`, since `u^* K(w) v` are
    trigonometric polynomials of degree `(k - 1) / 2`: for 3x3 and N = 16 that is 4 %.

    Reference: Ehlich, Zeller: Schwankung von Polynomen zwischen Gitterpunkten, 1964.
    """
    side = int(kernel.shape[0])
    frequency = 2.0j * np.pi / _GRID * np.arange(_GRID)
    phases = np.exp(frequency[:, np.newaxis] * (np.arange(side) - side // 2))
    # The others are their conjugates.
    both = np.einsum("ux,vy->uvxy", phases, phases[: _GRID // 2 + 1])
    both = both.reshape(-1, side * side)
    kind = tf.complex128 if kernel.dtype == tf.float64 else tf.complex64
    taps = tf.cast(tf.reshape(kernel, [side * side, -1]), kind)
    matrices = tf.matmul(tf.constant(both, kind), taps)
    matrices = tf.reshape(matrices, [-1, *kernel.shape[-2:]])
    between = math.cos(math.pi * (side // 2) / _GRID) ** -2
    return between * tf.reduce_max(norm_bound(matrices))


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
        inputs, outputs, taps = self._sizes(input_shape, output_shape)
        seen, widths = size(condition_shape), [inputs, *self.hidden_units, outputs]
        self._parts = []
        constant = keras.initializers.Constant
        for i, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            last = i == len(self.hidden_units)
            fan = n * math.prod(taps)
            kernel = hidden_initializers(fan, inputs + seen)["kernel_initializer"]
            # The size of a bounded kernel's columns.
            column = math.sqrt(min(n, m) / m)
            bias = keras.initializers.RandomUniform(-2.0 * column, 2.0 * column)
            part = {
                "kernel": self.add_weight(
                    (*taps, n, m), "zeros" if last else kernel, name=f"kernel_{i}"
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

    def _sizes(
        self, input_shape: Shape, output_shape: Shape
    ) -> tuple[int, int, tuple[int, ...]]:
        return size(input_shape), size(output_shape), ()

    def bounded(self) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns the network as a function, with its kernels bounded once for all."""
        most = self.lipschitz ** (1.0 / len(self._parts))
        layers = [
            {name: tf.convert_to_tensor(weight) for name, weight in part.items()}
            for part in self._parts
        ]
        for layer in layers:
            kernel = layer["kernel"]
            layer["kernel"] = kernel * (most / tf.maximum(self._norm(kernel), most))
            if "sharpness" in layer:
                layer["sharpness"] = tf.nn.softplus(layer["sharpness"]) + 1e-3
        given = self._from_condition
        given = None if given is None else tf.convert_to_tensor(given)
        activation = ACTIVATIONS[self._activation_name]
        (first, *others), shape = layers, self._connected(())["output_shape"]

        def function(x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
            dtype = first["kernel"].dtype
            h = self._linear(self._entering(tf.cast(x, dtype)), first["kernel"])
            h += first["bias"]
            if condition is not None and given is not None:
                c = tf.matmul(_rows(tf.cast(condition, dtype)), given)
                h += tf.reshape(c, [-1, *[1] * (h.shape.rank - 2), c.shape[-1]])
            before = first
            for layer in others:
                h = activation(h, before["sharpness"])
                h = self._linear(h, layer["kernel"]) + layer["bias"]
                before = layer
            return tf.reshape(h, [-1, *shape])

        return function

    def _norm(self, kernel: tf.Tensor) -> tf.Tensor:
        return norm_bound(kernel)

    def _linear(self, h: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.matmul(h, kernel)

    def _entering(self, x: tf.Tensor) -> tf.Tensor:
        return _rows(x)

    def call(self, inputs: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[n, *input_shape]` to `[n, *output_shape]`."""
        return self.bounded()(inputs, condition)


@keras.saving.register_keras_serializable(package="tfp_flows")
class LipschitzConvNet(LipschitzMLP):
    """Convolutions of images with `|g(x) - g(x')| <= L |x - x'|`, for residual flows.

    Is `LipschitzMLP` with kernels `[k, k, n, m]` in the place of matrices, zeros around
    the image, and `s(W)` from `conv_norm_bound`. For more than a few pixels use it in a
    `tfpf.Residual(log_det="estimate")`.

    Shapes: `[n, h, w, c]` to the same.

    Reference: Chen, Behrmann, Duvenaud, Jacobsen: Residual Flows, 2019,
    arXiv:1906.02735.

    Example:
        >>> net = LipschitzConvNet((4,), lipschitz=0.5)
        >>> net.connect((4, 4, 2), (4, 4, 2))
        >>> net(tf.ones([3, 4, 4, 2])).shape
        TensorShape([3, 4, 4, 2])
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 64),
        activation: str = "sin",
        lipschitz: float = 0.97,
        kernel_size: int = 3,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            channels: Channels of the hidden layers.
            lipschitz: The bound L, in (0, 1).
            kernel_size: Side of the kernels, odd and at most 7.
        """
        super().__init__(channels, activation, lipschitz, **kwargs)
        self.channels = self.hidden_units
        self.kernel_size = checked_integer("kernel_size", kernel_size)
        if kernel_size % 2 == 0 or kernel_size > _GRID // 2:
            raise invalid("kernel_size", "be odd and at most 7", kernel_size)

    def _sizes(
        self, input_shape: Shape, output_shape: Shape
    ) -> tuple[int, int, tuple[int, ...]]:
        if len(input_shape) != 3 or output_shape[:2] != input_shape[:2]:
            raise invalid("event_shape", "be that of images (h, w, c)", input_shape)
        return input_shape[-1], output_shape[-1], 2 * (self.kernel_size,)

    def _norm(self, kernel: tf.Tensor) -> tf.Tensor:
        return conv_norm_bound(kernel)

    def _linear(self, h: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(h, kernel, 1, "SAME")

    def _entering(self, x: tf.Tensor) -> tf.Tensor:
        return x


def _rows(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])
