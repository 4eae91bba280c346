"""What a tf_keras network inside a TFP bijector consists of, read by attributes.

Nothing here imports tf_keras: TFP has done so where such a network exists.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

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
