"""What lies inside a distribution or bijector: bijectors, caches, Keras layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf
import tensorflow_probability as tfp

tfb = tfp.bijectors


def clear_caches(bijectors: Iterable[tfb.Bijector]) -> None:
    """Forgets what was computed with old weights.

    TFP returns a held latent for a held input whatever has become of the weights
    in between; after training that answer would be wrong.
    """
    for bijector in bijectors:
        bijector._cache.clear()


def nested_bijectors(module: tf.Module) -> Iterator[tfb.Bijector]:
    """Yields every bijector inside a distribution or bijector, itself included."""
    if isinstance(module, tfb.Bijector):
        yield module
    yield from module._flatten(predicate=lambda leaf: isinstance(leaf, tfb.Bijector))


def nested_layers(module: tf.Module) -> list[keras.Layer]:
    """Returns the Keras layers that a distribution or bijector holds, in order."""
    return list(module._flatten(predicate=lambda leaf: isinstance(leaf, keras.Layer)))


def known_dtype(bijector: tfb.Bijector) -> tf.DType | None:
    """Returns the dtype of the first part that has one; TFP's `Chain` says None."""
    dtypes = (part.dtype for part in nested_bijectors(bijector))
    return next((dtype for dtype in dtypes if dtype is not None), None)
