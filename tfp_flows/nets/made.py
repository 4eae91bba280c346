"""`MADE`: a network whose k-th outputs see only earlier inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfp_flows.nets.conditioner import Conditioner, Shape, size
from tfp_flows.nets.hidden import hidden_initializers
from tfp_flows.nets.mlp import _positive_widths


class MaskedDense(keras.Layer):
    """A dense layer `y = x (W * M) + b` of which the mask `M` keeps connections."""

    def __init__(
        self,
        mask: np.ndarray,
        kernel_initializer: Any,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._initializers = kernel_initializer, bias_initializer
        self._mask = mask.astype("float32")
        self.build((None, mask.shape[0]))

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        shape = self._mask.shape
        kernel, bias = self._initializers
        self.kernel = self.add_weight(shape, kernel, name="kernel")
        self.bias = self.add_weight(shape[1:], bias, name="bias")
        self.built = True

    def call(self, x: Any) -> Any:
        """Maps `[n, inputs]` to `[n, outputs]`."""
        mask = keras.ops.cast(self._mask, x.dtype)
        return keras.ops.matmul(x, self.kernel * mask) + self.bias


@keras.saving.register_keras_serializable(package="tfp_flows")
class MADE(Conditioner):
    """Masked dense layers: parameters of value k depend on values before k only.

    Each hidden unit has a degree `m`: it sees the first `m` values in the order, and
    the parameters of the k-th value see the units of degrees below `k`. Degrees are
    dealt out evenly, in cycles, so the masks follow from the shapes alone. Conditions
    are seen by all units.

    Inputs are vectors `[n, d]` with `d >= 2`, outputs `[n, d * parameters]`, the
    parameters of one value beside each other. The last layer starts at zero.

    Reference:
        Germain, Gregor, Murray, Larochelle: MADE, 2015, arXiv:1502.03509.

    Example:
        >>> import tensorflow as tf
        >>> net = MADE(hidden_units=(16,))
        >>> net.connect(input_shape=(3,), output_shape=(6,))
        >>> net(tf.constant([[1.0, 2.0, 3.0]])).shape
        TensorShape([1, 6])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (128, 128),
        activation: Any = "relu",
        reverse: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_units: Widths of the hidden layers.
            activation: Keras activation after each hidden layer.
            reverse: Whether the order of the values runs from the last to the first.
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.
        """
        super().__init__(**kwargs)
        self.hidden_units = _positive_widths(hidden_units)
        self.activation = keras.activations.get(activation)
        self.reverse = bool(reverse)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the masked layers for the given shapes."""
        d = input_shape[0]
        if len(input_shape) != 1 or d < 2 or size(output_shape) % d:
            raise ValueError(
                "A `MADE` needs vectors of at least 2 values and as many outputs for "
                f"each of them. Received: inputs of shape {input_shape}, outputs of "
                f"shape {output_shape}"
            )
        order = np.arange(1, d + 1)
        order = order[::-1] if self.reverse else order
        # Units of degree 0 see no value, and bring the condition to the first one.
        lowest = 1 if condition_shape is None else 0
        degrees = [order]
        values = d + (size(condition_shape) if condition_shape else 0)
        for units in self.hidden_units:
            degrees.append(lowest + np.arange(units) % (d - lowest))
        self._masked_layers = []
        for before, after in zip(degrees[:-1], degrees[1:], strict=True):
            mask = before[:, np.newaxis] <= after[np.newaxis, :]
            start = hidden_initializers(len(before), values)
            self._masked_layers.append(self._masked(mask, **start))
        last = np.repeat(order, size(output_shape) // d)
        mask = degrees[-1][:, np.newaxis] < last[np.newaxis, :]
        self._masked_layers.append(self._masked(mask, kernel_initializer="zeros"))
        self._from_condition = None
        if condition_shape is not None:
            self._from_condition = keras.layers.Dense(
                self.hidden_units[0], use_bias=False, dtype=self.dtype_policy
            )
            self._from_condition.build((None, size(condition_shape)))

    def _masked(self, mask: np.ndarray, **initializers: Any) -> MaskedDense:
        return MaskedDense(mask, dtype=self.dtype_policy, **initializers)

    def call(self, inputs: Any, condition: Any = None) -> Any:
        """Maps `[n, d]` to `[n, *output_shape]`."""
        h = self._masked_layers[0](inputs)
        if self._from_condition is not None:
            flat = keras.ops.reshape(condition, (-1, size(condition.shape[1:])))
            h = h + self._from_condition(keras.ops.cast(flat, h.dtype))
        for layer in self._masked_layers[1:]:
            h = layer(self.activation(h))
        output_shape = self._connection["output_shape"]
        if len(output_shape) == 1:
            return h
        return keras.ops.reshape(h, (-1, *output_shape))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "reverse": self.reverse,
        }
