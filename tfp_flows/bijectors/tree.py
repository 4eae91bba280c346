"""The tree of a distribution or bijector: one walk over every container.

TFP's containers and ours hold their parts in attributes or constructor arguments; what
lies inside a part is found here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.bijectors.base import FlowBijector
from tfp_flows.bijectors.weights import OF_INPUT
from tfp_flows.internal import compat
from tfp_flows.internal.arguments import Config

Part = tfb.Bijector | tfd.Distribution


def children(part: Part, templates: bool = False) -> list[Part]:
    """Returns the bijectors and distributions that a part holds itself.

    Of bijectors the one nearest to the data comes first. With `templates`, the step of
    a `Repeat` is its child; the step's weights are placeholders for the stacked ones.
    """
    if isinstance(part, FlowBijector):
        return [part.step] if templates and hasattr(part, "step") else part.children
    if isinstance(part, compat.Invert):
        return [part.bijector]
    if isinstance(part, compat.Composition):
        return tf.nest.flatten(part.bijectors)
    return compat.nested(part, (tfb.Bijector, tfd.Distribution), recursive=False)


def walk(part: Part, templates: bool = False) -> Iterator[Part]:
    """Yields a part and everything inside it, each once, parents before children."""
    seen: set[int] = set()

    def visit(one: Part) -> Iterator[Part]:
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            for child in children(one, templates):
                yield from visit(child)

    return visit(part)


def bijectors_in(part: Part, templates: bool = False) -> list[tfb.Bijector]:
    """Returns all bijectors of a distribution or bijector, itself included."""
    return [one for one in walk(part, templates) if isinstance(one, tfb.Bijector)]


def layers_in(part: Part, templates: bool = False) -> list[keras.Layer]:
    """Returns the Keras layers of a distribution or bijector, each once, in order."""
    layers = compat.nested(part, keras.Layer)
    if templates:
        steps = [one.step for one in walk(part, True) if hasattr(one, "step")]
        layers += [
            layer for step in steps for layer in compat.nested(step, keras.Layer)
        ]
    return list({id(layer): layer for layer in layers}.values())


def list_variables(part: Part) -> None:
    """Makes TensorFlow see the weights that Keras layers in all parts have now."""
    for one in walk(part):
        if hasattr(one, "list_variables"):
            one.list_variables()
        else:
            compat.show_variables(one)


def clear_caches(part: Part) -> None:
    """Forgets what was computed with old weights, and TFP remembers after training."""
    for bijector in bijectors_in(part):
        compat.clear_cache(bijector)


def known_dtype(bijector: tfb.Bijector) -> tf.DType | None:
    """Returns the dtype of the first part that has one; TFP's `Chain` says None."""
    dtypes = (part.dtype for part in bijectors_in(bijector))
    return next((dtype for dtype in dtypes if dtype is not None), None)


def inner_dtype(*parts: tfb.Bijector) -> tf.DType | str:
    """Returns the `dtype` of a bijector around others."""
    return next(filter(None, map(known_dtype, parts)), OF_INPUT)


def rebuilt(part: tfb.Bijector, memo: dict[int, object] | None = None) -> tfb.Bijector:
    """Returns a bijector built anew from its configuration, with fresh weights.

    Bijectors and Keras layers that two parts share are shared again, by `memo`;
    bijectors of TFP without weights or parts are returned as they are.
    """
    memo = {} if memo is None else memo

    def fresh(value: object) -> object:
        if isinstance(value, tfb.Bijector | keras.Layer):
            if id(value) not in memo:
                memo[id(value)] = _fresh_part(value, fresh)
            return memo[id(value)]
        if isinstance(value, list | tuple | dict):
            return tf.nest.map_structure(fresh, value)
        return value

    return fresh(part)


def live_config(layer: keras.Layer) -> Config:
    """Returns a layer's configuration with its functions, which need no name then."""

    def live(written: Any, held: Any) -> Any:
        if not callable(held) or isinstance(held, keras.Layer):
            return written
        # An initializer that is called again draws the same.
        again = hasattr(held, "get_config")
        return type(held).from_config(held.get_config()) if again else held

    return {key: live(*pair) for key, pair in compat.described(layer).items()}


def _fresh_part(
    value: tfb.Bijector | keras.Layer, fresh: Callable
) -> tfb.Bijector | keras.Layer:
    if isinstance(value, keras.Layer):
        layer = type(value).from_config(live_config(value))
        build_config = value.get_build_config()
        if build_config is not None:
            layer.build_from_config(build_config)
        return layer
    if not isinstance(value, FlowBijector) and not bijectors_in(value)[1:]:
        return value
    parameters = {name: fresh(v) for name, v in value.parameters.items()}
    return type(value)(**parameters)
