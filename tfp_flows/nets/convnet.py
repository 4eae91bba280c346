"""`ConvNet`: a convolutional conditioner."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_flows.nets.conditioner import Conditioner, Shape
from tfp_flows.nets.weight_norm_conv import WeightNormConv2D
from tfp_flows.nets.zero_conv import ZeroConv2D


@keras.saving.register_keras_serializable(package="tfp_flows")
class ConvNet(Conditioner):
    """Convolutions between an image's kept channels and its parameters.

    Plain, as in Glow: 3x3, 1x1 and 3x3 convolutions, `hidden_channels` wide, the
    last one a `ZeroConv2D`. With `residual=True`, as in RealNVP: a 3x3 convolution,
    `blocks` blocks `h + conv3x3(f(conv3x3(f(h))))`, and a 1x1 `ZeroConv2D`. With
    `normalized=True` too, its 3x3 convolutions have weight normalization and each
    `f` is behind a batch normalization, as in the paper; Keras's `training` says
    whether that takes the statistics of the batch or the running ones.

    **Weights**, with n input, w hidden and m output channels and B blocks:

        plain:     (9 n + 1) w + (w + 1) w + (9 w + 2) m
        residual:  (9 n + 1) w + 2 B (9 w + 1) w + (w + 2) m
        normalized, in addition:  (2 B + 1) 2 w

    in float32 4 bytes each; training with Adam keeps four times that (weights,
    gradients, two moments). **Activations** kept for the backward pass, in float32:

        plain:     4 h w_px (n + 2 w + m) bytes an image of h x w_px positions
        residual:  4 h w_px (n + (4 B + 1) w + m) bytes
        normalized, in addition:  4 h w_px (2 B + 1) w bytes

    For w = 512, n = 6, m = 12 on 16 x 16 positions a plain network has 346,136
    weights (1.4 MB) and keeps 1.1 MB an image.

    A condition that is a vector of d values adds `d w` weights: a dense layer without
    bias, whose output is added to the first convolution's at every position. A
    condition that is an image is stacked onto the input channels; if it is larger
    than the input by a whole factor, its blocks become channels first.

    Shapes: `[batch, h, w, n]` to `[batch, h, w, m]`.

    Reference:
        Kingma, Dhariwal: Glow, 2018, arXiv:1807.03039. Dinh, Sohl-Dickstein,
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
        activation: Any = "relu",
        residual: bool = False,
        blocks: int = 2,
        dropout: float = 0.0,
        normalized: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures the network; weights are made when it is connected.

        Args:
            hidden_channels: Width w of the hidden layers.
            activation: Keras activation f between convolutions.
            residual: Whether to use residual blocks instead of the 1x1 convolution.
            blocks: Number B of residual blocks.
            dropout: Share of hidden values dropped while training, in [0, 1).
            normalized: Whether the residual network has weight and batch
                normalization.
            **kwargs: Passed on to `keras.Layer`, such as `dtype` or `name`.

        Raises:
            ValueError: If `hidden_channels` or `blocks` is not a positive integer,
                `dropout` lies outside [0, 1), or `normalized` goes without
                `residual`.
        """
        super().__init__(**kwargs)
        self.hidden_channels = _positive("hidden_channels", hidden_channels)
        self.activation = keras.activations.get(activation)
        self.residual = bool(residual)
        self.blocks = _positive("blocks", blocks)
        self.dropout = float(dropout)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                f"Argument `dropout` must lie in [0, 1). Received: dropout={dropout}"
            )
        self.normalized = bool(normalized)
        if self.normalized and not self.residual:
            raise ValueError(
                "Argument `normalized` must be False without `residual=True`. "
                f"Received: normalized={normalized!r}"
            )

    def build_network(
        self, input_shape: Shape, output_shape: Shape, condition_shape: Shape | None
    ) -> None:
        """Makes the convolutions for the given shapes."""
        self._check_images(input_shape, output_shape)
        width, channels = self.hidden_channels, input_shape[-1]
        self._condition_block = _block_of(condition_shape, input_shape)
        if self._condition_block:
            channels += condition_shape[-1] * self._condition_block**2
        self._project = (
            self._projection(condition_shape)
            if condition_shape and not self._condition_block
            else None
        )
        self._first = self._conv(3, channels)
        self._middle = (
            [self._conv(3, width) for _ in range(2 * self.blocks)]
            if self.residual
            else [self._dense(width)]
        )
        self._head = ZeroConv2D(
            output_shape[-1], 1 if self.residual else 3, dtype=self.dtype_policy
        )
        self._head.build((None, None, None, width))
        count = 2 * self.blocks + 1 if self.normalized else 0
        self._norms = [self._norm() for _ in range(count)]
        # Random layers keep a seed state; without dropout there is nothing to keep.
        self._drop = (
            keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
            if self.dropout
            else None
        )
        if self._drop is not None:
            self._drop.build((None, None, None, width))

    def _norm(self) -> keras.layers.BatchNormalization:
        layer = keras.layers.BatchNormalization(dtype=self.dtype_policy)
        layer.build((None, None, None, self.hidden_channels))
        return layer

    def _conv(self, kernel_size: int, channels: int) -> keras.Layer:
        if self.normalized:
            layer = WeightNormConv2D(
                self.hidden_channels, kernel_size, dtype=self.dtype_policy
            )
            layer.build((None, None, None, channels))
            return layer
        layer = keras.layers.Conv2D(
            self.hidden_channels,
            kernel_size,
            padding="same",
            data_format="channels_last",
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
        )
        layer.build((None, None, None, channels))
        return layer

    def _dense(self, channels: int) -> keras.layers.Dense:
        """Makes a 1x1 convolution, which is a dense layer at every position."""
        layer = keras.layers.Dense(
            self.hidden_channels,
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
        )
        layer.build((None, channels))
        return layer

    def _projection(self, condition_shape: Shape) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            self.hidden_channels, use_bias=False, dtype=self.dtype_policy
        )
        layer.build((None, *condition_shape))
        return layer

    def _check_images(self, input_shape: Shape, output_shape: Shape) -> None:
        if len(input_shape) != 3 or input_shape[:2] != tuple(output_shape[:2]):
            raise ValueError(
                f"ConvNet '{self.name}' must map images (h, w, n) to images of equal "
                f"height and width. Received: input_shape={tuple(input_shape)}, "
                f"output_shape={tuple(output_shape)}"
            )

    def call(
        self, inputs: Any, condition: Any = None, training: bool | None = None
    ) -> Any:
        """Maps `[batch, h, w, n]` to `[batch, h, w, m]`."""
        norms = iter(self._norms)

        def activated(h: Any) -> Any:
            norm = next(norms, None)
            return self.activation(h if norm is None else norm(h, training=training))

        def active(h: Any) -> Any:
            h = activated(h)
            return h if self._drop is None else self._drop(h, training=training)

        h = self._first(self._stacked(inputs, condition))
        if self._project is not None:
            h += self._project(condition)[:, None, None, :]
        if self.residual:
            pairs = zip(self._middle[::2], self._middle[1::2], strict=True)
            for first, second in pairs:
                h += second(active(first(activated(h))))
        else:
            # In two dimensions this is one matrix product.
            flat = keras.ops.reshape(active(h), (-1, self.hidden_channels))
            h = keras.ops.reshape(self._middle[0](flat), (-1, *h.shape[1:]))
        return self._head(active(h))

    def _stacked(self, inputs: Any, condition: Any) -> Any:
        """Stacks a condition that is an image onto the channels."""
        if not self._condition_block:
            return inputs
        condition = keras.ops.cast(condition, inputs.dtype)
        if self._condition_block > 1:
            condition = tf.nn.space_to_depth(condition, self._condition_block)
        return keras.ops.concatenate([inputs, condition], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_channels": self.hidden_channels,
            "activation": keras.activations.serialize(self.activation),
            "residual": self.residual,
            "blocks": self.blocks,
            "dropout": self.dropout,
            "normalized": self.normalized,
        }


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


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be a positive integer. Received: {name}={value!r}"
        )
    return value
