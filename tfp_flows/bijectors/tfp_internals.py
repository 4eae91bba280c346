"""What this package takes from inside TFP: its bijector cache and three classes.

This is the only file that touches TFP's internals.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability.python.bijectors import chain, composition, invert
from tensorflow_probability.python.internal import cache_util

# TFP makes `tfb.Chain(...)` and `tfb.Invert(...)` of these classes wherever a part
# is no composite tensor, as ours are not.
Chain = chain._Chain
Invert = invert._Invert
Composition = composition.Composition


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
        self, input: Any, forward_name: str, inverse_name: str, **kwargs: Any
    ) -> tf.Tensor:
        return super()._lookup(
            input, forward_name, inverse_name, _graph=_current_graph(), **kwargs
        )

    def _attributes(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: Any, fn_name: str, **kwargs: Any
    ) -> dict[str, tf.Tensor]:
        kwargs["_graph"] = _current_graph()
        edge = self._get_or_create_edge(input, fn_name, kwargs)
        if not edge.output_ref:
            edge.attributes.clear()
        return edge.attributes

    def _invoke(
        self, input: Any, fn_name: str, kwargs: dict[str, Any], attributes: dict
    ) -> tf.Tensor:
        kwargs = {k: v for k, v in kwargs.items() if k != "_graph"}
        return super()._invoke(input, fn_name, kwargs, attributes)
