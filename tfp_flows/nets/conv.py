"""Convolutional conditioners: `ConvNet` and others, their layers, and `PriorNet`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Activation,
    DescribedLayer,
    checked_integer,
    checked_number,
    invalid,
)
from tfp_flows.nets.conditioner import Conditioner, Shape, ops, wide_gain
from tfp_flows.nets.dense import built, cast, dropout_layer


class _Convolution(DescribedLayer):
    """A convolution of `[batch, h, w, n]` to `[batch, h, w, filters]`, zero-padded."""

    def __init__(self, filters: int, kernel_size: int = 3, **kwargs: Any) -> None:
        """Configures the convolution, with kernels of side `kernel_size`."""
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size

    def build(self, input_shape: Shape, kernel_initializer: str = "zeros") -> None:
        """Makes the kernel."""
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape, kernel_initializer, name="kernel")


@keras.saving.register_keras_serializable(package="tfp_flows")
class WeightNormConv2D(_Convolution):
    """Convolution with weight normalization, to stand before a batch normalization.

        output = conv(inputs, g v / |v|)

    with one learned length `g` for each filter `v`. A batch normalization cancels
    a bias, so there is none. With kernel size k, n input and m output channels it
    has `k^2 n m + m` weights.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`, zero-padded at the borders.

    Reference: Salimans, Kingma: Weight normalization, 2016, arXiv:1602.07868.
    """

    def build(self, input_shape: Shape) -> None:
        """Makes directions and lengths."""
        super().build(input_shape, "he_normal")
        # Expected length of a filter drawn as above, so that both start equal.
        length = keras.initializers.Constant(2.0**0.5)
        self.length = self.add_weight((self.filters,), length, name="length")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, filters]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        kernel = tf.math.l2_normalize(kernel, axis=[0, 1, 2]) * self.length
        return tf.nn.conv2d(inputs, kernel, 1, "SAME")


# The published code's factor: a log-gain learns 3 times as fast as a plain weight.
_FACTOR = 3.0
# Inputs of a head from which on a step of Adam at 1e-3 moves couplings too far.
_FAN_IN = 144


@keras.saving.register_keras_serializable(package="tfp_flows")
class ZeroConv2D(_Convolution):
    """Convolution with zero kernel and bias and a learned gain for each channel.

        output = (kernel * inputs + bias) exp(3 logs)

    It ends Glow's conditioners, so that couplings start near the identity, and on its
    own is Glow's prior of the channels that leave after a level, from those that stay.
    The gain starts at `min(1, 144 / (k^2 n))`: a step of Adam moves each weight as far,
    so the couplings of a wide network would jump in its first steps
    (`python -m benchmarks.naive --preset paper --data digits --flows glow`).

    With kernel size k, n input and m output channels it has `k^2 n m + 2 m` weights.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`, zero-padded at the borders.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039, section 3.3.
    """

    def build(self, input_shape: Shape) -> None:
        """Makes kernel, bias and log-gain."""
        super().build(input_shape)
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        fan_in = self.kernel_size**2 * input_shape[-1]
        logs = keras.initializers.Constant(
            math.log(wide_gain(fan_in, _FAN_IN)) / _FACTOR
        )
        self.logs = self.add_weight((self.filters,), logs, name="logs")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, filters]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME")
        return (outputs + self.bias) * ops.exp(_FACTOR * self.logs)


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConvNet(Conditioner):
    """Convolutions from the channels that a coupling passes on to its parameters.

    Plain, as in Glow: 3x3, 1x1 and 3x3 convolutions, `hidden_channels` wide, the
    last one a `ZeroConv2D`. With `residual=True`, as in RealNVP: a 3x3 convolution,
    `blocks` blocks `h + conv3x3(f(conv3x3(f(h))))`, and a 1x1 `ZeroConv2D`. With
    `normalized=True` too, its 3x3 convolutions have weight normalization and each
    `f` is behind a batch normalization, as in the paper; Keras's `training` says
    whether that takes the statistics of the batch or the running ones.

    With n input, w hidden and m output channels, B blocks and P positions an image,

                    weights                                    activations kept
        plain       (9 n + 1) w + (w + 1) w + (9 w + 2) m      P (n + 2 w + m)
        residual    (9 n + 1) w + 2 B (9 w + 1) w + (w + 2) m  P (n + (4 B + 1) w + m)
        normalized  (2 B + 1) 2 w more                         P (2 B + 1) w more

    of 4 bytes in float32; Adam keeps the weights four times. For w = 512, n = 6, m = 12
    on 16 x 16 positions a plain network has 346,136 weights (1.4 MB), and activations
    of 1.1 MB an image.

    A condition that is a vector of d values is added to the first convolution's output
    at every position, through `d w` weights. A condition that is an image is stacked
    onto the input channels; if it is larger by a whole factor, its blocks become
    channels first.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.

    Reference: Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039. Dinh, Sohl-Dickstein,
    Bengio: Density estimation using Real NVP, 2016, arXiv:1605.08803.

    Example:
        >>> net = ConvNet(hidden_channels=32)
        >>> net.connect(input_shape=(8, 8, 2), output_shape=(8, 8, 4))
        >>> net.count_params()
        2824
    """

    def __init__(
        self,
        hidden_channels: int = 128,
        activation: Activation = "relu",
        residual: bool = False,
        blocks: int = 2,
        dropout: float = 0.0,
        normalized: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_channels: Width w of the hidden layers.
            dropout: Share of hidden values dropped while training, in [0, 1).
            normalized: Whether the residual network has weight and batch normalization.
        """
        super().__init__(**kwargs)
        self.hidden_channels = checked_integer("hidden_channels", hidden_channels)
        self.activation: Any = keras.activations.get(activation)
        self.residual = bool(residual)
        self.blocks = checked_integer("blocks", blocks)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)
        self.normalized = bool(normalized)
        if self.normalized and not self.residual:
            raise invalid("normalized", "be False without `residual=True`", normalized)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolutions for the given shapes."""
        self._enter_layers(input_shape, output_shape, condition_shape)
        width = self.hidden_channels
        if self.residual:
            self._middle = [self._conv(width) for _ in range(2 * self.blocks)]
        else:
            # A 1x1 convolution is a dense layer at every position.
            self._middle = [self.dense(width, width, kernel_initializer="he_normal")]
        self._exit_layer(output_shape, width, 1 if self.residual else 3)
        count = 2 * self.blocks + 1 if self.normalized else 0
        self._norms = [
            built(
                keras.layers.BatchNormalization(dtype=self.dtype_policy),
                *(None, None, width),
            )
            for _ in range(count)
        ]

    def _enter_layers(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        self._check_images(input_shape, output_shape)
        width, channels = self.hidden_channels, input_shape[-1]
        self._condition_block = _block_of(condition_shape, input_shape)
        self._project = None
        if condition_shape and self._condition_block:
            channels += condition_shape[-1] * self._condition_block**2
        elif condition_shape:
            self._project = self.dense(width, *condition_shape, use_bias=False)
        self._first = self._conv(channels)
        self._drop = dropout_layer(self.dropout, self.dtype_policy, None, None, width)

    def _exit_layer(self, output_shape: Shape, channels: int, kernel: int) -> None:
        head = ZeroConv2D(output_shape[-1], kernel, dtype=self.dtype_policy)
        self._head = built(head, None, None, channels)

    def _conv(self, channels: int) -> keras.Layer:
        if self.normalized:
            conv = WeightNormConv2D(self.hidden_channels, 3, dtype=self.dtype_policy)
        else:
            conv = keras.layers.Conv2D(
                self.hidden_channels,
                3,
                padding="same",
                data_format="channels_last",
                kernel_initializer="he_normal",
                dtype=self.dtype_policy,
            )
        return built(conv, None, None, channels)

    def _check_images(self, input_shape: Shape, output_shape: Shape) -> None:
        if len(input_shape) != 3 or input_shape[:2] != tuple(output_shape[:2]):
            raise ValueError(
                f"{type(self).__name__} '{self.name}' must map images (h, w, n) to "
                "images of equal height and width. Received: "
                f"input_shape={tuple(input_shape)}, output_shape={tuple(output_shape)}"
            )

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        norms = iter(self._norms)

        def activated(h: tf.Tensor) -> tf.Tensor:
            norm = next(norms, None)
            return self.activation(h if norm is None else norm(h, training=training))

        def active(h: tf.Tensor) -> tf.Tensor:
            h = activated(h)
            return self._dropped(h, training)

        h = self._entered(inputs, condition)
        if self.residual:
            pairs = zip(self._middle[::2], self._middle[1::2], strict=True)
            for first, second in pairs:
                h += second(active(first(activated(h))))
        else:
            h = _at_each_pixel(self._middle[0], active(h))
        return self._head(active(h))

    def _entered(self, inputs: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        h = self._first(_stacked(inputs, condition, self._condition_block))
        if self._project is not None:
            h += self._project(condition)[:, None, None, :]
        return h

    def _dropped(self, h: tf.Tensor, training: bool | None) -> tf.Tensor:
        return h if self._drop is None else self._drop(h, training=training)


def _at_each_pixel(layer: keras.Layer, h: tf.Tensor) -> tf.Tensor:
    """Applies a dense layer, a 1x1 convolution, as one matrix product."""
    flat = layer(ops.reshape(h, (-1, h.shape[-1])))
    return ops.reshape(flat, (-1, *h.shape[1:-1], flat.shape[-1]))


@keras.saving.register_keras_serializable(package="tfp_flows")
class GatedConvNet(ConvNet):
    """Gated convolutions in residual blocks, as in Flow++.

        h = conv3x3(x)
        a, b = halves of conv1x1(f(conv3x3(f(h)))),  h <- LN(h + a sigmoid(b))
        output = zero_conv3x3(f(h))

    with `blocks` of the second line; LN is over the channels of a position. Of n
    input, w hidden and m output channels it has `(9 n + 1) w + B ((9 w + 1) w +
    (w + 1) 2 w + 2 w) + (9 w + 2) m` weights. Conditions as in `ConvNet`.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.

    Reference: Ho et al.: Flow++, 2019, arXiv:1902.00275, section 3.3 (without its
    attention, for which see `Transformer`).

    Example:
        >>> net = GatedConvNet(hidden_channels=8, blocks=1)
        >>> net.connect(input_shape=(8, 8, 2), output_shape=(8, 8, 4))
        >>> net.count_params()
        1192
    """

    def __init__(
        self,
        hidden_channels: int = 64,
        blocks: int = 4,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_channels: Width w of the hidden layers.
            blocks: Number B of gated blocks.
            dropout: Share of hidden values dropped while training, in [0, 1).
        """
        super().__init__(hidden_channels, activation, True, blocks, dropout, **kwargs)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolutions for the given shapes."""
        self._enter_layers(input_shape, output_shape, condition_shape)
        width = self.hidden_channels
        self._middle = [self._conv(width) for _ in range(self.blocks)]
        self._gates = [self.dense(2 * width, width) for _ in range(self.blocks)]
        norm, options = keras.layers.LayerNormalization, {"dtype": self.dtype_policy}
        shape = (None, None, width)
        self._norms = [built(norm(**options), *shape) for _ in range(self.blocks)]
        self._exit_layer(output_shape, width, 3)

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        f, h = self.activation, self._entered(inputs, condition)
        layers = zip(self._middle, self._gates, self._norms, strict=True)
        for conv, gate, norm in layers:
            inner = self._dropped(f(conv(f(h))), training)
            a, b = ops.split(_at_each_pixel(gate, inner), 2, axis=-1)
            h = norm(h + a * ops.sigmoid(b))
        return self._head(f(h))


@keras.saving.register_keras_serializable(package="tfp_flows")
class DenseNet(ConvNet):
    """Convolutions of which each sees the outputs of all before it.

        h = conv3x3(x)
        h <- [h, conv3x3(f(conv1x1(f(h))))]      `blocks` times, w channels more each
        output = zero_conv3x3(f(h))

    Of n input, w hidden and m output channels and B blocks it has `(9 n + 1) w +
    sum_{k=1..B} ((k w + 1) w + (9 w + 1) w) + (9 (B + 1) w + 2) m` weights. Conditions
    as in `ConvNet`.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.

    Reference: Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional
    Networks, 2016, arXiv:1608.06993. Nielsen et al.: SurVAE Flows, 2020,
    arXiv:2007.02731 (in couplings).

    Example:
        >>> net = DenseNet(hidden_channels=8, blocks=2)
        >>> net.connect(input_shape=(8, 8, 2), output_shape=(8, 8, 4))
        >>> net.count_params()
        2400
    """

    def __init__(
        self,
        hidden_channels: int = 32,
        blocks: int = 4,
        activation: Activation = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_channels: Channels w that each block adds.
            blocks: Number B of blocks.
            dropout: Share of hidden values dropped while training, in [0, 1).
        """
        super().__init__(hidden_channels, activation, False, blocks, dropout, **kwargs)

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolutions for the given shapes."""
        self._enter_layers(input_shape, output_shape, condition_shape)
        w = self.hidden_channels
        start = {"kernel_initializer": "he_normal"}
        grown = [w * (k + 1) for k in range(self.blocks)]
        self._narrow = [self.dense(w, channels, **start) for channels in grown]
        self._middle = [self._conv(w) for _ in grown]
        self._exit_layer(output_shape, w * (self.blocks + 1), 3)

    def call(
        self,
        inputs: tf.Tensor,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        f, h = self.activation, self._entered(inputs, condition)
        for narrow, conv in zip(self._narrow, self._middle, strict=True):
            inner = self._dropped(f(_at_each_pixel(narrow, f(h))), training)
            h = ops.concatenate([h, conv(inner)], axis=-1)
        return self._head(f(h))


def _block_of(condition_shape: Shape | None, input_shape: Shape) -> int:
    """Returns how many times larger a condition image is; 0 for a vector or none."""
    if condition_shape is None or len(condition_shape) == 1:
        return 0
    block = condition_shape[0] // input_shape[0]
    if len(condition_shape) != 3 or tuple(condition_shape[:2]) != tuple(
        block * size for size in input_shape[:2]
    ):
        raise ValueError(
            "Argument `condition_shape` must be that of a vector (d,), or of an image "
            f"(k h, k w, c) over inputs of (h, w) = {tuple(input_shape[:2])}. "
            f"Received: condition_shape={tuple(condition_shape)}"
        )
    return block


def _stacked(inputs: tf.Tensor, condition: tf.Tensor, block: int) -> tf.Tensor:
    """Stacks a condition that is an image, `block` times larger, onto the channels."""
    if not block:
        return inputs
    condition = cast(condition, inputs.dtype)
    if block > 1:
        condition = tf.nn.space_to_depth(condition, block)
    return ops.concatenate([inputs, condition], axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows")
class PriorNet(Conditioner):
    """Glow's prior between levels, `ZeroConv2D`, with a condition.

        output = zero_conv(h) + W c        for a condition that is a vector
        output = zero_conv(h, c)           for one that is an image

    Images may be larger than `h` by a whole factor, as in `ConvNet`. It starts as a
    standard normal, all zero. With n input and m output channels it has `9 n m + 2 m`
    weights, and `k m` more for a condition of k values or k channels times 9.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.
    """

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolution and the projection of the condition."""
        channels, outputs = input_shape[-1], output_shape[-1]
        self._block = _block_of(condition_shape, input_shape)
        self._project = None
        if condition_shape and self._block:
            channels += condition_shape[-1] * self._block**2
        elif condition_shape:
            start = {"use_bias": False, "kernel_initializer": "zeros"}
            self._project = self.dense(outputs, *condition_shape, **start)
        conv = ZeroConv2D(outputs, 3, dtype=self.dtype_policy)
        self._conv = built(conv, *input_shape[:-1], channels)

    def call(self, inputs: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        outputs = self._conv(_stacked(inputs, condition, self._block))
        if self._project is not None:
            condition = cast(condition, inputs.dtype)
            outputs += self._project(condition)[:, None, None, :]
        return outputs
