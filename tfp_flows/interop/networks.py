"""Networks of TFP and tf_keras carried over."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.nets.conv import ConvNet, ZeroConv2D
from tfp_flows.nets.dense import MLP

tfb = tfp.bijectors


class Piece(NamedTuple):
    """One layer: its Keras class, the arguments that matter, and its weights."""

    kind: str
    config: dict[str, Any]
    weights: list[np.ndarray]


# The arguments, by their names in tf_keras and in Keras 3, that are carried over.
_CARRIED = {
    "Activation": {"activation": "activation"},
    "Conv2D": {
        key: key
        for key in (
            "filters",
            "kernel_size",
            "strides",
            "padding",
            "dilation_rate",
            "groups",
            "activation",
            "use_bias",
        )
    },
    "Dense": {key: key for key in ("units", "activation", "use_bias")},
    "Dropout": {"rate": "rate"},
    "ELU": {"alpha": "alpha"},
    "Flatten": {},
    "LeakyReLU": {"alpha": "negative_slope"},
    "Reshape": {"target_shape": "target_shape"},
}


def is_tf_keras(value: Any) -> bool:
    """Tells whether an object is a layer or model of tf_keras."""
    names = [cls.__module__ for cls in type(value).__mro__]
    # Layers hold other things of tf_keras, which are no layers.
    return isinstance(value, tf.Module) and any(
        n.startswith("tf_keras.") for n in names
    )


def pieces_of(network: Any) -> list[Piece]:
    """Lists the layers of a sequential network, or of TFP's default template.

    Args:
        network: A tf_keras layer or model, or what
            `tfb.real_nvp_default_template` returned.

    Returns:
        The layers in their order.

    Raises:
        ValueError: If the network has no weights yet, or holds a layer that is not
            carried over; the message names it.
    """
    if is_template(network):
        return _template_pieces(network)
    if type(network).__name__ == "InputLayer":
        return []
    if isinstance(getattr(network, "layers", None), list | tuple):
        return [piece for layer in network.layers for piece in pieces_of(layer)]
    kind = type(network).__name__
    if kind == "ReLU" and not any(
        network.get_config().get(key) for key in ("max_value", "negative_slope")
    ):
        return [Piece("Activation", {"activation": "relu"}, [])]
    if kind not in _CARRIED or not _is_tf_keras_own(network):
        raise ValueError(
            f"A network with a layer of class '{kind}' cannot be carried over; "
            f"known are {sorted(_CARRIED)}. Received: layer '{network.name}'"
        )
    if not network.built:
        raise ValueError(
            "The source must have been called once, so that it has weights. "
            f"Received: layer '{network.name}' without weights"
        )
    config = network.get_config()
    carried = {new: _plain(config[old]) for old, new in _CARRIED[kind].items()}
    if not isinstance(carried.get("activation", ""), str):
        raise ValueError(
            "A network is carried over only with activations that Keras knows by name. "
            f"Received: layer '{network.name}' with {carried['activation']!r}"
        )
    return [Piece(kind, carried, network.get_weights())]


def _plain(value: Any) -> Any:
    # tf_keras keeps the slope of a leaky ReLU as an array.
    return float(value) if isinstance(value, np.ndarray | np.generic) else value


def networks_in(bijector: tfb.Bijector) -> list[Any]:
    """Finds tf_keras networks and templates: attributes, and what functions hold.

    Args:
        bijector: Any bijector.

    Returns:
        The outermost networks, each once.
    """
    found = [*bijector._flatten(predicate=is_tf_keras)]
    for value in vars(bijector).values():
        found.extend(_held(value, depth=4))
    distinct = list({id(network): network for network in found}.values())
    inner = {
        id(part)
        for network in distinct
        if not is_template(network)
        for part in network.submodules
    }
    return [network for network in distinct if id(network) not in inner]


def is_template(value: Any) -> bool:
    """Tells whether something is a function around variables, as TFP's default is."""
    return hasattr(value, "_func") and hasattr(value, "_variable_scope")


def _is_tf_keras_own(layer: Any) -> bool:
    # A class that a user derived may compute anything.
    return type(layer).__module__.startswith("tf_keras.")


def _held(value: Any, depth: int) -> Iterator[Any]:
    """Yields the networks that a function closes over."""
    if is_tf_keras(value) or is_template(value):
        yield value
    elif depth and isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _held(part, depth - 1)
    elif depth and inspect.ismethod(value):
        yield from _held(value.__self__, depth - 1)
        yield from _held(value.__func__, depth - 1)
    elif depth and inspect.isfunction(value) and not _is_tensorflow(value):
        variables = inspect.getclosurevars(value)
        for part in (*variables.nonlocals.values(), *variables.globals.values()):
            yield from _held(part, depth - 1)
    elif depth and isinstance(value, tf.Module) and not isinstance(value, tfb.Bijector):
        yield from value._flatten(predicate=is_tf_keras)


def _is_tensorflow(function: Any) -> bool:
    # A function of TensorFlow holds no network, but many other functions.
    return (function.__module__ or "").startswith("tensorflow.")


def _template_pieces(template: Any) -> list[Piece]:
    arguments = inspect.getclosurevars(template._func).nonlocals
    if "hidden_layers" not in arguments:
        raise ValueError(
            "Of functions in `tf.make_template` only those of "
            "`tfb.real_nvp_default_template` are carried over. "
            f"Received: '{template.name}'"
        )
    layers: dict[str, dict[str, np.ndarray]] = {}
    for variable in template.variables:
        layer, _, name = variable.name.removesuffix(":0").rpartition("/")
        layers.setdefault(layer, {})[name] = variable.numpy()
    if not layers:
        raise ValueError(
            "The source must have been called once, so that it has weights. "
            f"Received: '{template.name}' without weights"
        )
    ordered = [layers[name] for name in sorted(layers, key=_number)]
    activation = arguments["activation"]
    hidden = "linear" if activation is None else activation.__name__
    return [
        Piece(
            "Dense",
            {
                "units": int(layer["kernel"].shape[1]),
                "activation": "linear" if layer is ordered[-1] else hidden,
                "use_bias": "bias" in layer,
            },
            [layer[name] for name in ("kernel", "bias") if name in layer],
        )
        for layer in ordered
    ]


def _number(name: str) -> int:
    """Returns the 2 of `template/dense_2`."""
    found = re.search(r"_(\d+)$", name)
    return int(found.group(1)) if found else 0


Shape = tuple[int, ...]


def conditioner_from(
    pieces: Sequence[Piece],
    input_shape: Shape,
    order: Sequence[int],
    dtype: str,
    offset: np.ndarray | None = None,
) -> keras.Layer:
    """Builds an equal Keras 3 network whose outputs stand in another order.

    Dense layers become a `tfpf.nets.MLP`, 3x3, 1x1 and 3x3 convolutions a
    `tfpf.nets.ConvNet`, one convolution a `ZeroConv2D`, each where widths and
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
