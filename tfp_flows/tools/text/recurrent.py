"""`CausalLSTM`: at each position a summary of the vectors before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.nets.conditioner import Conditioner, Shape

States = list[list[Any]]


@keras.saving.register_keras_serializable(package="tfp_flows")
class CausalLSTM(Conditioner):
    """Layers of LSTM over the sequence one step late.

        h_t = LSTM(dense(v_1), ..., dense(v_{t-1})),    h_1 knows only that it is first

    `call` gives all positions at once, for sequences that are known; `step` gives one
    after the other, for sequences in the making.

    Shapes: `[n, length, d]` to `[n, length, units[-1]]`.

    Reference:
        Hochreiter, Schmidhuber: Long Short-Term Memory, 1997.

    Example:
        >>> import tensorflow as tf
        >>> net = CausalLSTM((16,), features=8)
        >>> net.connect(input_shape=(5, 3), output_shape=(5, 16))
        >>> net(tf.zeros([2, 5, 3])).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        units: Sequence[int] = (256,),
        *,
        features: int = 64,
        activation: Any = "gelu",
        **kwargs: Any,
    ) -> None:
        """Chooses the sizes.

        Args:
            units: Number of units of each layer of LSTM.
            features: Number of features that a vector becomes before the first one.
            activation: Keras activation of the features.
            **kwargs: Passed on to `keras.Layer`, such as `dtype`.

        Raises:
            ValueError: If a size is not a positive integer.
        """
        super().__init__(**kwargs)
        self.units = tuple(checked_count("units", each) for each in units)
        if not self.units:
            raise ValueError(
                "Argument `units` must name at least one layer, such as (256,). "
                f"Received: units={units!r}"
            )
        self.features = checked_count("features", features)
        self.activation = keras.activations.get(activation)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for sequences of the given shapes."""
        length, d = input_shape
        if output_shape != (length, self.units[-1]) or condition_shape is not None:
            raise ValueError(
                f"A `CausalLSTM` of units {self.units} gives {self.units[-1]} values a "
                "position and takes no condition. Received: inputs of shape "
                f"{input_shape}, outputs of shape {output_shape}, conditions of shape "
                f"{condition_shape}"
            )
        policy = self.dtype_policy
        self._dense = keras.layers.Dense(
            self.features, activation=self.activation, dtype=policy
        )
        self._dense.build((None, length, d + 1))
        self._recurrent = []
        width = self.features
        for units in self.units:
            layer = keras.layers.LSTM(units, return_sequences=True, dtype=policy)
            layer.build((None, length, width))
            self._recurrent.append(layer)
            width = units

    def call(self, inputs: Any) -> Any:
        """Maps `[n, length, d]` to `[n, length, units[-1]]`."""
        ops = keras.ops
        late = ops.pad(inputs[:, :-1], [[0, 0], [1, 0], [0, 0]])
        # A vector of zeros could also be one that was seen: the mark tells them apart.
        mark = ops.pad(
            ops.zeros_like(inputs[:, 1:, :1]),
            [[0, 0], [1, 0], [0, 0]],
            constant_values=1,
        )
        h = self._dense(ops.concatenate([late, mark], axis=-1))
        for layer in self._recurrent:
            h = layer(h)
        return h

    def start(self, n: Any) -> States:
        """Returns the states of `n` sequences before their first position."""
        zeros = keras.ops.zeros
        return [
            [zeros((n, units), dtype=self.compute_dtype) for _ in range(2)]
            for units in self.units
        ]

    def step(self, before: Any, is_first: Any, states: States) -> tuple[Any, States]:
        """Goes on by one position.

        Args:
            before: The vectors of the position before, `[n, d]`; zeros at the first.
            is_first: Whether this is the first position, a scalar.
            states: What `start` or the last call of `step` returned.

        Returns:
            The summaries `[n, units[-1]]` and the states.
        """
        ops = keras.ops
        before = ops.cast(before, self.compute_dtype)
        mark = ops.zeros_like(before[:, :1]) + ops.cast(is_first, before.dtype)
        h = self._dense(ops.concatenate([before, mark], axis=-1))
        following = []
        for layer, state in zip(self._recurrent, states, strict=True):
            h, state = layer.cell(h, state)
            following.append(list(state))
        return h, following

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "features": self.features,
            "activation": keras.activations.serialize(self.activation),
        }
