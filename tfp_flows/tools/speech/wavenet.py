"""`WaveNet`: a stack of dilated, gated convolutions over time, as a conditioner."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfp_flows.architectures.assembly import checked_count
from tfp_flows.nets.conditioner import Conditioner, Shape


@keras.saving.register_keras_serializable(package="tfp_flows")
class WaveNet(Conditioner):
    """Gated convolutions whose reach doubles from layer to layer.

    With `h` the `channels` features of each position, layer i of `depth` computes

        f, g = halves of  conv(h) + W_i c,      u = tanh(f) sigmoid(g)
        r, s = halves of  V_i u,                h <- h + r,   sum <- sum + s

    where `conv` is a convolution of kernel size 3 with dilation `2^i` and `c` the
    local condition of the same position. The output is a dense layer of the sum,
    which starts at zero. It is not causal, and need not be: a coupling may look at
    the kept values of all times. It reaches `2^depth - 1` positions to both sides.

    Of n input, w hidden, c condition and m output channels and depth d it has
    `(n + 1) w + d (3 w + 1 + c) 2 w + (2 d - 1)(w + 1) w + (w + 1) m` weights.

    Shapes: `[batch, steps, n]` to `[batch, steps, m]`, conditions
    `[batch, steps, c]`, with any number of steps.

    Reference:
        Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002. Van den Oord et
        al.: WaveNet, 2016, arXiv:1609.03499.

    Example:
        >>> net = WaveNet(channels=8, depth=2)
        >>> net.connect((None, 4), (None, 8), (None, 5))
        >>> net(ops.zeros([1, 6, 4]), condition=ops.zeros([1, 6, 5])).shape
        TensorShape([1, 6, 8])
    """

    def __init__(self, channels: int = 48, depth: int = 4, **kwargs: Any) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            channels: Number of features of a position.
            depth: Number of layers.
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.

        Raises:
            ValueError: If one of them is not a positive integer.
        """
        super().__init__(**kwargs)
        self.channels = checked_count("channels", channels)
        self.depth = checked_count("depth", depth)

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
        self._start = self._dense(width, input_shape[-1])
        self._gates = [self._dilated(width, 2**i) for i in range(self.depth)]
        # The last layer has nobody to hand its features on to.
        self._mixes = [
            self._dense(width if last else 2 * width, width)
            for last in (i == self.depth - 1 for i in range(self.depth))
        ]
        self._local = (
            self._dense(2 * width * self.depth, condition_shape[-1], use_bias=False)
            if condition_shape
            else None
        )
        self._end = self._dense(output_shape[-1], width, kernel_initializer="zeros")

    def _dense(self, units: int, inputs: int, **options: Any) -> keras.layers.Dense:
        layer = keras.layers.Dense(units, dtype=self.dtype_policy, **options)
        layer.build((None, inputs))
        return layer

    def _dilated(self, width: int, rate: int) -> keras.layers.Conv1D:
        layer = keras.layers.Conv1D(
            2 * width, 3, padding="same", dilation_rate=rate, dtype=self.dtype_policy
        )
        layer.build((None, None, width))
        return layer

    def call(self, inputs: Any, condition: Any = None) -> Any:
        """Maps `[batch, steps, n]` to `[batch, steps, m]`."""
        h = at_each_step(self._start, inputs)
        local: list[Any] = [0.0] * self.depth
        if self._local is not None:
            condition = ops.cast(condition, h.dtype)
            local = _split(at_each_step(self._local, condition), self.depth)
        total: Any = 0.0
        for i, (gates, mix) in enumerate(zip(self._gates, self._mixes, strict=True)):
            f, g = _split(gates(h) + local[i], 2)
            mixed = at_each_step(mix, ops.tanh(f) * ops.sigmoid(g))
            if i < self.depth - 1:
                on, mixed = _split(mixed, 2)
                h = h + on
            total = total + mixed
        return at_each_step(self._end, total)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "depth": self.depth,
        }


def at_each_step(layer: keras.Layer, h: Any) -> Any:
    """Applies a dense layer at every position, as one two-dimensional product."""
    steps = ops.shape(h)[1]
    flat = layer(ops.reshape(h, [-1, h.shape[-1]]))
    return ops.reshape(flat, [-1, steps, flat.shape[-1]])


def _split(h: Any, parts: int) -> list[Any]:
    # Keras's annotations let `split` return None.
    return list(ops.split(h, parts, axis=-1) or ())
