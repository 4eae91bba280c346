"""Every touch of a private name of Keras, TensorFlow or TFP, one short piece each.

An upgrade of one of them that breaks something breaks it here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.core.framework import node_def_pb2, tensor_pb2  # noqa: F401
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2  # noqa: F401
from tensorflow_probability.python.bijectors import (
    blockwise,
    chain,
    composition,
    invert,
    joint_map,
)
from tensorflow_probability.python.distributions import transformed_distribution
from tensorflow_probability.python.internal import cache_util

from tfp_flows.internal.arguments import Config

# TFP makes `tfb.Chain(...)` and `tfb.Invert(...)` of these classes wherever a part
# is no composite tensor, as ours are not.
Chain = chain._Chain
Invert = invert._Invert
Blockwise = blockwise._Blockwise
JointMap = joint_map._JointMap
TransformedDistribution = transformed_distribution._TransformedDistribution
Composition = composition.Composition
Object = TypeVar("Object")


def _current_graph() -> int:
    """Names the graph under construction; 0 stands for eager execution."""
    if tf.executing_eagerly():
        return 0
    return id(tf.compat.v1.get_default_graph())


class PairedCache(cache_util.BijectorCacheWithGreedyAttrs):
    """TFP's cache of (input, output, log-det), made safe for trained weights.

    TFP computes the value and the log-det of a bijector in two calls. With this
    cache the first call stores both, so that a conditioner runs once. Two things
    differ from TFP's own:

    * An entry belongs to the graph in which it was made. TFP hands a tensor of a
      scratch graph to the real graph when both see the same input.
    * A log-det whose output was garbage-collected is forgotten with it. TFP keeps
      it as long as the input lives, and so returns the log-det of old weights.
    """

    def _lookup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: tf.Tensor, forward_name: str, inverse_name: str, **kwargs: Any
    ) -> Any:
        return super()._lookup(
            input, forward_name, inverse_name, _graph=_current_graph(), **kwargs
        )

    def _attributes(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: tf.Tensor, fn_name: str, **kwargs: Any
    ) -> Any:
        kwargs["_graph"] = _current_graph()
        edge = self._get_or_create_edge(input, fn_name, kwargs)
        if not edge.output_ref:
            edge.attributes.clear()
        return edge.attributes

    def _invoke(
        self, input: tf.Tensor, fn_name: str, kwargs: Config, attributes: dict
    ) -> tf.Tensor:
        kwargs = {k: v for k, v in kwargs.items() if k != "_graph"}
        return super()._invoke(input, fn_name, kwargs, attributes)


# TensorFlow's tracking of variables, Keras's layers, TFP's tree.


def tf_variable(variable: keras.Variable) -> tf.Variable:
    """Returns the `tf.Variable` in which a Keras variable keeps its value."""
    return variable._value


def tf_variables(layers: Iterable[keras.Layer]) -> list[tf.Variable]:
    """Returns the `tf.Variable`s of some layers, each once, in order."""
    found = {id(v): tf_variable(v) for layer in layers for v in layer.variables}
    return list(found.values())


def share_storage(weight: keras.Variable, variable: tf.Variable) -> None:
    """Makes a Keras weight read and write a variable made elsewhere."""
    weight._value = variable


class Holder:
    """Keeps an object out of reach of what Keras and `tf.Module` track."""

    def __init__(self, value: Any) -> None:
        self.value = value


def untracked(module: tf.Module, value: Object) -> Object:
    """Returns a value that a module can hold without `tf.Module` looking into it."""
    return module._no_dependency(value)


def track_variable(module: tf.Module, variable: tf.Variable, name: str) -> None:
    """Makes `tf.train.Checkpoint` see a variable of a module under a name."""
    module._track_trackable(variable, name, overwrite=True)


def ignored_properties(cls: type, *names: str) -> frozenset[str]:
    """Returns what `tf.Module` must not search for variables, with `names`."""
    return cls._TF_MODULE_IGNORED_PROPERTIES.union(names)


def nested(
    module: tf.Module, kind: type | tuple[type, ...], recursive: bool = True
) -> list[Any]:
    """Returns the objects of a class that a module holds, in order, each once.

    `kind` may be what a predicate of `tf.Module` is; without `recursive` modules inside
    the module are passed over.
    """
    return list(
        module._flatten(
            recursive=recursive, predicate=lambda leaf: isinstance(leaf, kind)
        )
    )


def clear_cache(bijector: tfp.bijectors.Bijector) -> None:
    """Makes TFP forget what a bijector has computed."""
    bijector._cache.clear()


def broadcast_base(
    distribution: tfp.distributions.TransformedDistribution,
) -> tfp.distributions.Distribution:
    """Returns the base with the batch shape that the bijector's parameters give."""
    return distribution._maybe_broadcast_distribution_batch_shape()


def layers_inside(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a Keras layer and all layers inside it."""
    return [layer, *layer._flatten_layers(include_self=False)]


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that a Keras layer holds itself."""
    return list(layer._layers)


def forget_layer(owner: keras.Layer, layer: keras.Layer) -> None:
    """Makes Keras forget a layer whose attribute has been replaced."""
    owner._tracker.untrack(layer)


def constructor_arguments(layer: keras.Layer) -> Config:
    """Returns a layer's constructor's arguments, as far as all are plain values."""
    known = getattr(layer, "_auto_config", None)
    return {} if known is None else dict(known.config)


@contextlib.contextmanager
def counted_calls(layers: Iterable[keras.Layer]) -> Iterator[dict[int, int]]:
    """Counts for a while how often layers are called, by `id(layer)`.

    The counting function stands in the layer's own dictionary, before the `call` of
    its class, where Keras's tracking of attributes does not see it.
    """
    layers = list(layers)
    calls = {id(layer): 0 for layer in layers}

    def counting(key: int, call: Callable) -> Callable:
        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[key] += 1
            return call(*args, **kwargs)

        return counted

    try:
        for layer in layers:
            layer.__dict__["call"] = counting(id(layer), layer.call)
        yield calls
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)


# TFP's own flows and their networks, which `from_tfp` reads.


def modules_inside(
    module: tf.Module, predicate: Callable[[object], bool]
) -> list[tf.Module]:
    """Returns what a module holds, at any depth, that fulfils a predicate."""
    return list(module._flatten(predicate=predicate))


def template_function(value: object) -> Callable | None:
    """Returns the function of a `tf.make_template`; None for anything else."""
    is_template = hasattr(value, "_func") and hasattr(value, "_variable_scope")
    return value._func if is_template else None


def real_nvp_parts(
    bijector: tfp.bijectors.RealNVP,
) -> tuple[int | None, int, bool, Callable]:
    """Returns event size, identity values (signed), whether last, and function."""
    return (
        bijector._input_depth,
        bijector._masked_size,
        bijector._reverse_mask,
        bijector._bijector_fn,
    )


def glow_actnorm_values(
    bijector: tfp.bijectors.Bijector,
) -> tuple[tf.Variable, tf.Variable, tf.Variable]:
    """Returns shift, log-scale and whether they have seen data."""
    return bijector._m, bijector._s.pretransformed_input, bijector._initialized


def glow_mixing_values(bijector: tfp.bijectors.Bijector) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the triangular factors and the permutation of a 1x1 convolution."""
    return bijector._bijector.lower_upper, bijector._bijector.permutation
