"""A conditioner of ours with the weights of a tf_keras network."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tfp_flows.nets.convnet import ConvNet
from tfp_flows.nets.mlp import MLP
from tfp_flows.nets.zero_conv import ZeroConv2D
from tfp_flows.tools.migration.tf_keras_networks import Piece

Shape = tuple[int, ...]


def conditioner_from(
    pieces: Sequence[Piece],
    input_shape: Shape,
    order: Sequence[int],
    dtype: str,
    offset: np.ndarray | None = None,
) -> keras.Layer:
    """Builds an equal Keras 3 network whose outputs stand in another order.

    Dense layers become a `tff.nets.MLP`, 3x3, 1x1 and 3x3 convolutions a
    `tff.nets.ConvNet`, one convolution a `ZeroConv2D`, each where widths and
    activations allow it, and a `keras.Sequential` otherwise.

    Args:
        pieces: The layers to copy. The last must be dense or a convolution.
        input_shape: Shape of one input.
        order: For each output of the new network, its place in the old one.
        dtype: Float type.
        offset: What to add to the new outputs, one value each.

    Returns:
        The network, built, with weights.

    Raises:
        ValueError: If the last layer has no outputs to reorder.
    """
    merged = _reordered(_merged(pieces), order, offset)
    net, weights = _mlp(merged, dtype) or _convolutions(merged, dtype) or (None, None)
    if net is None:
        layers = [
            getattr(keras.layers, piece.kind)(**piece.config, dtype=dtype)
            for piece in merged
        ]
        net = keras.Sequential([keras.layers.Input(input_shape, dtype=dtype), *layers])
        weights = [array for piece in merged for array in piece.weights]
    elif isinstance(net, ZeroConv2D):
        net.build((None, *input_shape))
    else:
        positions = input_shape[:-1]
        net.connect(input_shape, (*positions, len(order)))
    net.set_weights(weights)
    return net


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Moves an activation behind a linear layer into that layer."""
    merged: list[Piece] = []
    for piece in pieces:
        before = merged[-1].config if merged else {}
        if piece.kind == "Dropout":
            continue
        if piece.kind == "Activation" and before.get("activation") == "linear":
            merged[-1] = merged[-1]._replace(config={**before, **piece.config})
        else:
            merged.append(piece)
    return merged


def _reordered(
    pieces: list[Piece], order: Sequence[int], offset: np.ndarray | None
) -> list[Piece]:
    head = pieces[-1] if pieces else None
    if (
        head is None
        or head.kind not in ("Dense", "Conv2D")
        or (head.config["activation"] != "linear")
        or head.config.get("groups", 1) != 1
    ):
        raise ValueError(
            "A network is carried over only if its last layer is a dense layer or a "
            "convolution without activation. Received: "
            f"{[(p.kind, p.config.get('activation')) for p in pieces]}"
        )
    kernel = head.weights[0][..., list(order)]
    bias = head.weights[1] if len(head.weights) > 1 else np.zeros(len(order))
    bias = bias[list(order)] + (0.0 if offset is None else offset)
    config = {**head.config, "use_bias": True}
    return [*pieces[:-1], head._replace(config=config, weights=[kernel, bias])]


def _mlp(pieces: list[Piece], dtype: str) -> tuple[keras.Layer, list] | None:
    hidden = pieces[:-1]
    activations = {piece.config.get("activation") for piece in hidden}
    if (
        len(activations) != 1
        or any(piece.kind != "Dense" for piece in pieces)
        or not all(piece.config["use_bias"] for piece in pieces)
    ):
        return None
    units = [piece.config["units"] for piece in hidden]
    net = MLP(units, activations.pop(), dtype=dtype)
    return net, [array for piece in pieces for array in piece.weights]


def _convolutions(pieces: list[Piece], dtype: str) -> tuple[keras.Layer, list] | None:
    if not all(piece.kind == "Conv2D" and _is_simple(piece) for piece in pieces):
        return None
    sizes = [piece.config["kernel_size"][0] for piece in pieces]
    kernel, bias = pieces[-1].weights
    head = [kernel, bias, np.zeros_like(bias)]
    if len(pieces) == 1:
        return ZeroConv2D(len(bias), sizes[0], dtype=dtype), head
    widths = {piece.config["filters"] for piece in pieces[:-1]}
    activations = {piece.config["activation"] for piece in pieces[:-1]}
    if sizes != [3, 1, 3] or len(widths) != 1 or len(activations) != 1:
        return None
    net = ConvNet(widths.pop(), activations.pop(), dtype=dtype)
    middle = [pieces[1].weights[0][0, 0], pieces[1].weights[1]]
    return net, [*pieces[0].weights, *middle, *head]


def _is_simple(piece: Piece) -> bool:
    config = piece.config
    return (
        config["padding"] == "same"
        and config["use_bias"]
        and config["groups"] == 1
        and len(set(config["kernel_size"])) == 1
        and {*config["strides"], *config["dilation_rate"]} == {1}
    )
