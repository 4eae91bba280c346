"""Networks over sequences: `WaveNet`, `CausalConditioner` and `CausalLSTM`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Activation,
    Config,
    DType,
    checked_integer,
    checked_number,
    checked_widths,
    float_dtype,
    invalid,
)
from tfp_flows.nets.conditioner import Conditioner, Shape, ops
from tfp_flows.nets.dense import built, cast


@keras.saving.register_keras_serializable(package="tfp_flows")
class WaveNet(Conditioner):
    """Gated convolutions whose reach doubles from layer to layer.

    With `h` the `channels` features of each position, layer i of `depth` computes

        f, g = halves of  conv(h) + W_i c,      u = tanh(f) sigmoid(g)
        r, s = halves of  V_i u,                h <- h + r,   sum <- sum + s

    where `conv` is a convolution of kernel size 3 with dilation `2^i` and `c` the
    local condition of the same position. The output is a dense layer of the sum,
    which starts at zero. It reaches `2^depth - 1` positions to both sides: a coupling
    may look at the identity values of all times.

    Of n input, w hidden, c condition and m output channels and depth d it has
    `(n + 1) w + d (3 w + 1 + c) 2 w + (2 d - 1)(w + 1) w + (w + 1) m` weights.

    Shapes: `[batch, steps, n]` to `[batch, steps, m]`, conditions
    `[batch, steps, c]`, with any number of steps.

    Reference: Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002. Van den Oord
    et al.: WaveNet, 2016, arXiv:1609.03499.

    Example:
        >>> net = WaveNet(channels=8, depth=2)
        >>> net.connect((None, 4), (None, 8), (None, 5))
        >>> net(ops.zeros([1, 6, 4]), condition=ops.zeros([1, 6, 5])).shape
        TensorShape([1, 6, 8])
    """

    def __init__(self, channels: int = 48, depth: int = 4, **kwargs: Any) -> None:
        """Configures the network; weights are made when it is connected."""
        super().__init__(**kwargs)
        self.channels = checked_integer("channels", channels)
        self.depth = checked_integer("depth", depth)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for sequences of the given channels."""
        for shape in (input_shape, output_shape, condition_shape or (None, 1)):
            if len(shape) != 2:
                raise ValueError(
                    f"WaveNet '{self.name}' must map sequences (steps, n) to sequences."
                    f" Received: input_shape={tuple(input_shape)}, output_shape="
                    f"{tuple(output_shape)}, condition_shape={condition_shape}"
                )
        width = self.channels
        self._start = self.dense(width, input_shape[-1])
        self._gates = [self._dilated(width, 2**i) for i in range(self.depth)]
        # Features of the last layer go nowhere but into the sum.
        self._mixes = [
            self.dense(width if last else 2 * width, width)
            for last in (i == self.depth - 1 for i in range(self.depth))
        ]
        self._local = (
            self.dense(2 * width * self.depth, condition_shape[-1], use_bias=False)
            if condition_shape
            else None
        )
        self._end = self.dense(output_shape[-1], width, kernel_initializer="zeros")

    def _dilated(self, width: int, rate: int) -> keras.layers.Conv1D:
        layer = keras.layers.Conv1D(
            2 * width, 3, padding="same", dilation_rate=rate, dtype=self.dtype_policy
        )
        return built(layer, None, width)

    def call(self, inputs: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[batch, steps, n]` to `[batch, steps, m]`."""
        h = at_each_step(self._start, inputs)
        local: Sequence[tf.Tensor | float] = [0.0] * self.depth
        if self._local is not None:
            condition = cast(condition, h.dtype)
            local = _split(at_each_step(self._local, condition), self.depth)
        total: tf.Tensor | float = 0.0
        for i, (gates, mix) in enumerate(zip(self._gates, self._mixes, strict=True)):
            f, g = _split(gates(h) + local[i], 2)
            mixed = at_each_step(mix, ops.tanh(f) * ops.sigmoid(g))
            if i < self.depth - 1:
                on, mixed = _split(mixed, 2)
                h = h + on
            total = total + mixed
        return at_each_step(self._end, total)


def at_each_step(layer: keras.Layer, h: tf.Tensor) -> tf.Tensor:
    """Applies a dense layer at every position, as one two-dimensional product."""
    steps = ops.shape(h)[1]
    flat = layer(ops.reshape(h, [-1, h.shape[-1]]))
    return ops.reshape(flat, [-1, steps, flat.shape[-1]])


def _split(h: tf.Tensor, parts: int) -> list[tf.Tensor]:
    # Keras's annotations let `split` return None.
    return list(ops.split(h, parts, axis=-1) or ())


States = list[list[tf.Tensor]]


class CausalConditioner(Conditioner):
    """A network whose summary of a position knows the vectors before it only.

    `call` gives the summaries of all positions of a sequence that is known; `start`
    and `step` give one after the other, for a sequence in the making. Both are equal.

    Shapes: `[n, length, d]` to `[n, length, h]`.
    """

    def summary_shape(self, length: int) -> Shape:
        """Returns the shape `(length, h)` of the summaries of a sequence."""
        raise NotImplementedError(f"{type(self).__name__} lacks `summary_shape`.")

    def start(self, n: int | tf.Tensor) -> States:
        """Returns the states of `n` sequences before their first position."""
        raise NotImplementedError(f"{type(self).__name__} lacks `start`.")

    def step(
        self,
        before: tf.Tensor,
        position: int | tf.Tensor,
        states: States,
        condition: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, States]:
        """Goes on by one position; returns summaries `[n, h]` and states.

        `before` is the vectors of the position before, `[n, d]`, zeros at
        position 0; `states` is what `start` or the last call of `step` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `step`.")

    def _check_connection(self, input_shape: Shape, output_shape: Shape) -> None:
        length = input_shape[0]
        if len(input_shape) != 2 or output_shape != self.summary_shape(length):
            *_, values = self.summary_shape(length)
            raise ValueError(
                f"A `{type(self).__name__}` gives {values} values a position of a "
                f"sequence (length, d). Received: inputs of shape {input_shape}, "
                f"outputs of shape {output_shape}"
            )


@keras.saving.register_keras_serializable(package="tfp_flows")
class CausalLSTM(CausalConditioner):
    """Layers of LSTM over the sequence one step late.

        h_t = LSTM(dense(v_1), ..., dense(v_{t-1})),    h_1 knows only that it is first

    `call` gives all positions at once, for sequences that are known; `step` gives one
    after the other, for sequences in the making.

    Shapes: `[n, length, d]` to `[n, length, units[-1]]`.

    Reference: Hochreiter, Schmidhuber: Long Short-Term Memory, 1997.

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
        activation: Activation = "gelu",
        **kwargs: Any,
    ) -> None:
        """Chooses the sizes."""
        super().__init__(**kwargs)
        self.units = checked_widths("units", units)
        self.features = checked_integer("features", features)
        self.activation = keras.activations.get(activation)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the layers for sequences of the given shapes."""
        self._check_connection(input_shape, output_shape)
        length, d = input_shape
        if condition_shape is not None:
            raise invalid("condition_shape", "be None for an LSTM", condition_shape)
        activation = {"activation": self.activation}
        self._dense = self.dense(self.features, length, d + 1, **activation)
        self._recurrent = []
        width = self.features
        for units in self.units:
            layer = keras.layers.LSTM(
                units, return_sequences=True, dtype=self.dtype_policy
            )
            self._recurrent.append(built(layer, length, width))
            width = units

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[n, length, d]` to `[n, length, units[-1]]`."""
        late = ops.pad(inputs[:, :-1], [[0, 0], [1, 0], [0, 0]])
        # A vector of zeros could also be one that was seen: the mark tells them apart.
        first, later = inputs[:, :1, :1], inputs[:, 1:, :1]
        mark = ops.concatenate([ops.ones_like(first), ops.zeros_like(later)], axis=1)
        h = self._dense(ops.concatenate([late, mark], axis=-1))
        for layer in self._recurrent:
            h = layer(h)
        return h

    def summary_shape(self, length: int) -> Shape:
        """Returns `(length, units[-1])`."""
        return (length, self.units[-1])

    def start(self, n: int | tf.Tensor) -> States:
        """Returns the states of `n` sequences before their first position."""
        return [
            [ops.zeros((n, units), dtype=self.compute_dtype) for _ in range(2)]
            for units in self.units
        ]

    def step(
        self,
        before: tf.Tensor,
        position: int | tf.Tensor,
        states: States,
        condition: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, States]:
        """Goes on by one position: see `CausalConditioner`."""
        is_first = tf.equal(position, 0)
        before = cast(before, self.compute_dtype)
        mark = ops.zeros_like(before[:, :1]) + cast(is_first, before.dtype)
        h = self._dense(ops.concatenate([before, mark], axis=-1))
        following = []
        for layer, state in zip(self._recurrent, states, strict=True):
            h, state = layer.cell(h, state)
            following.append(list(state))
        return h, following


@keras.saving.register_keras_serializable(package="tfp_flows")
class BinaryCodes(keras.initializers.Initializer):
    """Starts row k of a table `[n, 2 d]` at the k-th corner of a cube.

    The first `d` values are a location: the binary digits of k as -1 and 1. The
    others are `log(scale)`. Locations of different rows lie at least 2 apart.
    """

    def __init__(self, scale: float = 0.2) -> None:
        """Remembers the scale that all rows start with."""
        self.scale = float(scale)

    def __call__(self, shape: Shape, dtype: DType = None) -> tf.Tensor:
        """Returns the table."""
        rows, width = shape
        digits = (np.arange(rows)[:, np.newaxis] >> np.arange(width // 2)) & 1
        scales = np.full(digits.shape, math.log(self.scale))
        table = np.concatenate([2.0 * digits - 1.0, scales], axis=1)
        return ops.convert_to_tensor(table, dtype=float_dtype(dtype))

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"scale": self.scale}


def code_table(rows: int, d: int, scale: float, dtype: DType = None) -> keras.Layer:
    """Returns a built table of `rows` learned locations and log-scales in `d` values.

    It is a `keras.layers.Embedding` of `2 d` values a row, at most `2^d` rows, as
    `BinaryCodes` starts it.
    """
    if rows > 2**d:
        raise ValueError(
            f"Argument `d` must be at least {math.ceil(math.log2(rows))} for {rows} "
            f"embeddings, which start at the corners of a cube. Received: d={d}"
        )
    start = BinaryCodes(checked_number("scale", scale, above=0.0))
    table = keras.layers.Embedding(
        rows, 2 * d, embeddings_initializer=start, dtype=dtype
    )
    return built(table)
