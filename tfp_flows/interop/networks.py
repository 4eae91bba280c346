"""Networks of TFP and tf_keras carried over."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.internal.arguments import Config, Shape
from tfp_flows.internal.compat import modules_inside, template_function
from tfp_flows.nets.conv import ConvNet, ZeroConv2D
from tfp_flows.nets.dense import MLP


class LayerCopy(NamedTuple):
    """One layer: its Keras class, the arguments that matter, and its weights."""

    kind: str
    config: Config
    weights: list[np.ndarray]


_SHAPE = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
# The arguments, by their names in tf_keras and in Keras 3, that are carried over.
_CARRIED = {
    "Activation": {"activation": "activation"},
    "Conv2D": {key: key for key in (*_SHAPE, "activation", "use_bias")},
    "Dense": {key: key for key in ("units", "activation", "use_bias")},
    "Dropout": {"rate": "rate"},
    "ELU": {"alpha": "alpha"},
    "Flatten": {},
    "LeakyReLU": {"alpha": "negative_slope"},
    "Reshape": {"target_shape": "target_shape"},
}


def is_tf_keras(value: object) -> bool:
    """Returns whether an object is a layer or model of tf_keras."""
    names = [cls.__module__ for cls in type(value).__mro__]
    # Layers hold other things of tf_keras, which are no layers.
    return isinstance(value, tf.Module) and any(
        n.startswith("tf_keras.") for n in names
    )


def layers_of(network: tf.Module) -> list[LayerCopy]:
    """Lists the layers of a sequential network, or of TFP's default template."""
    function = template_function(network)
    if function is not None:
        return _template_layers(network, function)
    if type(network).__name__ == "InputLayer":
        return []
    if isinstance(getattr(network, "layers", None), list | tuple):
        return [copy for layer in network.layers for copy in layers_of(layer)]
    kind = type(network).__name__
    if kind == "ReLU" and not any(
        network.get_config().get(key) for key in ("max_value", "negative_slope")
    ):
        return [LayerCopy("Activation", {"activation": "relu"}, [])]
    # A class that a user derived may compute anything.
    own = type(network).__module__.startswith("tf_keras.")
    if kind not in _CARRIED or not own:
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
    return [LayerCopy(kind, carried, network.get_weights())]


def _plain(value: object) -> object:
    # tf_keras has the slope of a leaky ReLU as an array.
    return float(value) if isinstance(value, np.ndarray | np.generic) else value


def networks_in(bijector: tfb.Bijector) -> list[tf.Module]:
    """Finds outermost tf_keras networks and templates, in functions too."""
    found = modules_inside(bijector, is_tf_keras)
    for value in vars(bijector).values():
        found.extend(_held(value, depth=4))
    distinct = list({id(network): network for network in found}.values())
    inner = {
        id(part)
        for network in distinct
        if template_function(network) is None
        for part in network.submodules
    }
    return [network for network in distinct if id(network) not in inner]


def _held(value: object, depth: int) -> Iterator:
    """Yields the networks that a function closes over."""
    if is_tf_keras(value) or template_function(value) is not None:
        yield value
    elif depth and isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _held(part, depth - 1)
    elif depth and inspect.ismethod(value):
        yield from _held(value.__self__, depth - 1)
        yield from _held(value.__func__, depth - 1)
    elif depth and inspect.isfunction(value):
        # A function of TensorFlow holds no network, but many other functions.
        if (value.__module__ or "").startswith("tensorflow."):
            return
        variables = inspect.getclosurevars(value)
        for part in (*variables.nonlocals.values(), *variables.globals.values()):
            yield from _held(part, depth - 1)
    elif depth and isinstance(value, tf.Module) and not isinstance(value, tfb.Bijector):
        yield from modules_inside(value, is_tf_keras)


def _template_layers(template: tf.Module, function: Callable) -> list[LayerCopy]:
    arguments = inspect.getclosurevars(function).nonlocals
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
        LayerCopy(
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


def conditioner_from(
    layers: Sequence[LayerCopy],
    input_shape: Shape,
    order: Sequence[int],
    dtype: str,
    offset: np.ndarray | None = None,
) -> keras.Layer:
    """Builds an equal Keras 3 network whose outputs stand in another order.

    Dense layers become a `tfpf.nets.MLP`, 3x3, 1x1 and 3x3 convolutions a
    `tfpf.nets.ConvNet`, one convolution a `ZeroConv2D`, where widths and activations
    allow it, else a `keras.Sequential`. The last layer must be one of these. `order`
    gives the old place of each new output, `offset` what to add.
    """
    merged = _reordered(_merged(layers), order, offset)
    net, weights = _mlp(merged, dtype) or _convolutions(merged, dtype) or (None, None)
    if net is None:
        made = [
            getattr(keras.layers, layer.kind)(**layer.config, dtype=dtype)
            for layer in merged
        ]
        net = keras.Sequential([keras.layers.Input(input_shape, dtype=dtype), *made])
        weights = [array for layer in merged for array in layer.weights]
    elif isinstance(net, ZeroConv2D):
        net.build((None, *input_shape))
    else:
        positions = input_shape[:-1]
        net.connect(input_shape, (*positions, len(order)))
    net.set_weights(weights)
    return net


def _merged(layers: Sequence[LayerCopy]) -> list[LayerCopy]:
    """Joins an activation behind a linear layer to that layer."""
    merged: list[LayerCopy] = []
    for layer in layers:
        before = merged[-1].config if merged else {}
        if layer.kind == "Dropout":
            continue
        if layer.kind == "Activation" and before.get("activation") == "linear":
            merged[-1] = merged[-1]._replace(config={**before, **layer.config})
        else:
            merged.append(layer)
    return merged


def _reordered(
    layers: list[LayerCopy], order: Sequence[int], offset: np.ndarray | None
) -> list[LayerCopy]:
    head = layers[-1] if layers else None
    if (
        head is None
        or head.kind not in ("Dense", "Conv2D")
        or (head.config["activation"] != "linear")
        or head.config.get("groups", 1) != 1
    ):
        raise ValueError(
            "A network is carried over only if its last layer is a dense layer or a "
            "convolution without activation. Received: "
            f"{[(p.kind, p.config.get('activation')) for p in layers]}"
        )
    kernel = head.weights[0][..., list(order)]
    bias = head.weights[1] if len(head.weights) > 1 else np.zeros(len(order))
    bias = bias[list(order)] + (0.0 if offset is None else offset)
    config = {**head.config, "use_bias": True}
    return [*layers[:-1], head._replace(config=config, weights=[kernel, bias])]


def _mlp(layers: list[LayerCopy], dtype: str) -> tuple[keras.Layer, list] | None:
    hidden = layers[:-1]
    activations = {layer.config.get("activation") for layer in hidden}
    if (
        len(activations) != 1
        or any(layer.kind != "Dense" for layer in layers)
        or not all(layer.config["use_bias"] for layer in layers)
    ):
        return None
    units = [layer.config["units"] for layer in hidden]
    net = MLP(units, activations.pop(), dtype=dtype)
    return net, [array for layer in layers for array in layer.weights]


def _convolutions(
    layers: list[LayerCopy], dtype: str
) -> tuple[keras.Layer, list] | None:
    if not all(layer.kind == "Conv2D" and _is_simple(layer) for layer in layers):
        return None
    sizes = [layer.config["kernel_size"][0] for layer in layers]
    kernel, bias = layers[-1].weights
    head = [kernel, bias, np.zeros_like(bias)]
    if len(layers) == 1:
        return ZeroConv2D(len(bias), sizes[0], dtype=dtype), head
    widths = {layer.config["filters"] for layer in layers[:-1]}
    activations = {layer.config["activation"] for layer in layers[:-1]}
    if sizes != [3, 1, 3] or len(widths) != 1 or len(activations) != 1:
        return None
    net = ConvNet(widths.pop(), activations.pop(), dtype=dtype)
    middle = [layers[1].weights[0][0, 0], layers[1].weights[1]]
    return net, [*layers[0].weights, *middle, *head]


def _is_simple(layer: LayerCopy) -> bool:
    config = layer.config
    return (
        config["padding"] == "same"
        and config["use_bias"]
        and config["groups"] == 1
        and len(set(config["kernel_size"])) == 1
        and {*config["strides"], *config["dilation_rate"]} == {1}
    )
