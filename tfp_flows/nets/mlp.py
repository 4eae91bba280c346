"""`MLP`: a fully connected conditioner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.nets.conditioner import Conditioner, Shape, size
from tfp_flows.nets.dense import Dense
from tfp_flows.nets.hidden import hidden_initializers


@keras.saving.register_keras_serializable(package="tfp_flows")
class MLP(Conditioner):
    """Dense layers between a bijector's kept values and its parameters.

    With `n` inputs (condition included), widths `h1, ..., hk` and `m` outputs it
    has `(n + 1) h1 + (h1 + 1) h2 + ... + (hk + 1) m` weights. With
    `residual=True` each width `h` is one block `h + W2 f(W1 f(h))` of
    `2 (h + 1) h` weights behind an input layer of `(n + 1) h`, as in the residual
    networks of neural spline flows (Durkan et al., 2019, arXiv:1906.04032).

    Inputs, conditions and outputs of any rank are flattened to vectors inside.

    Example:
        >>> net = MLP(hidden_units=(16, 16), activation="tanh")
        >>> net.connect(input_shape=(2,), output_shape=(4,))
        >>> net.count_params()
        388
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (128, 128),
        activation: Any = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_units: Widths of the hidden layers, or of the residual blocks.
            activation: Keras activation after each hidden layer.
            residual: Whether to add each block to its input.
            dropout: Share of hidden values dropped while training, in [0, 1).
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.

        Raises:
            ValueError: If a width is not a positive integer, residual blocks differ
                in width, or `dropout` lies outside [0, 1).
        """
        super().__init__(**kwargs)
        self.hidden_units = _positive_widths(hidden_units)
        self.activation = keras.activations.get(activation)
        self.residual = bool(residual)
        self.dropout = float(dropout)
        if self.residual and len(set(self.hidden_units)) != 1:
            raise ValueError(
                "Argument `hidden_units` must repeat one width when `residual=True`. "
                f"Received: hidden_units={self.hidden_units}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                f"Argument `dropout` must lie in [0, 1). Received: dropout={dropout}"
            )

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the dense layers for the given shapes."""
        width = size(input_shape) + (size(condition_shape) if condition_shape else 0)
        values, widths = width, [*self.hidden_units]
        if self.residual:
            widths = [widths[0]] + [w for w in widths for _ in range(2)]
        self._hidden = []
        for units in widths:
            start = hidden_initializers(width, values)
            self._hidden.append(self._dense(units, width, **start))
            width = units
        self._head = self._dense(size(output_shape), width, kernel_initializer="zeros")
        # Random layers keep a seed state; without dropout there is nothing to keep.
        self._drop = (
            keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
            if self.dropout
            else None
        )
        if self._drop is not None:
            self._drop.build((None, width))

    def _dense(self, units: int, inputs: int, **initializers: Any) -> keras.Layer:
        layer = Dense(units, dtype=self.dtype_policy, **initializers)
        layer.build((None, inputs))
        return layer

    def call(
        self, inputs: Any, condition: Any = None, training: bool | None = None
    ) -> Any:
        """Maps `[batch, *input_shape]` to `[batch, *output_shape]`."""
        h = _flat(inputs)
        if condition is not None:
            condition = keras.ops.cast(_flat(condition), h.dtype)
            h = keras.ops.concatenate([h, condition], axis=-1)
        h = self._residual(h, training) if self.residual else self._plain(h, training)
        outputs = self._head(h)
        output_shape = self._connection["output_shape"]
        if len(output_shape) == 1:
            return outputs
        return keras.ops.reshape(outputs, (-1, *output_shape))

    def _plain(self, h: Any, training: bool | None) -> Any:
        for layer in self._hidden:
            h = self._dropped(self.activation(layer(h)), training)
        return h

    def _residual(self, h: Any, training: bool | None) -> Any:
        h = self._hidden[0](h)
        for first, second in zip(self._hidden[1::2], self._hidden[2::2], strict=True):
            inner = self._dropped(self.activation(first(self.activation(h))), training)
            h = h + second(inner)
        return self.activation(h)

    def _dropped(self, h: Any, training: bool | None) -> Any:
        return h if self._drop is None else self._drop(h, training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "residual": self.residual,
            "dropout": self.dropout,
        }


def _flat(x: Any) -> Any:
    return x if len(x.shape) == 2 else keras.ops.reshape(x, (-1, size(x.shape[1:])))


def _positive_widths(widths: Sequence[int]) -> tuple[int, ...]:
    try:
        checked = tuple(int(width) for width in widths)
    except TypeError:
        checked = ()
    if not checked or min(checked) < 1:
        raise ValueError(
            "Argument `hidden_units` must be a sequence of positive integers, such as "
            f"(128, 128). Received: hidden_units={widths!r}"
        )
    return checked
