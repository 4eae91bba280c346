"""`EncodedCondition`: labels, images or anything else, made into conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors.wrapped import Wrapped

tfb = tfp.bijectors


@keras.saving.register_keras_serializable(package="tfp_flows")
class EncodedCondition(Wrapped):
    """A conditional bijector that sees its conditions through a Keras layer.

        forward:  y = f(x; e(c))
        inverse:  x = f^-1(y; e(c))
        log-det:  that of f at e(c)

    The encoder `e` runs once in each direction, however many parts of `f` look at
    its output, and is trained with them. It can be `keras.layers.Embedding(10, 8)`
    for class labels (`condition_shape=()`), a convolutional network for images, or
    any other Keras layer or model.

    Shapes: events those of `f`; conditions `[..., *condition_shape]`.

    Example:
        >>> import tfp_flows as tff
        >>> net = tff.nets.MLP((16,))
        >>> f = tff.AffineCoupling(tff.masks.half(2), net, condition_shape=(4,))
        >>> b = EncodedCondition(f, keras.layers.Embedding(10, 4), condition_shape=())
        >>> b.forward([[1.0, 2.0]], condition=[7]).shape
        TensorShape([1, 2])
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        encoder: keras.Layer,
        *,
        condition_shape: Sequence[int],
        name: str | None = None,
    ) -> None:
        """Connects the encoder.

        Args:
            bijector: A bijector, or chain of them, that takes what `encoder` returns.
            encoder: Keras layer from `[batch, *condition_shape]` to the conditions
                of `bijector`.
            condition_shape: Shape of one condition before it is encoded; `()` for
                integer labels.
            name: Name of the bijector.

        Raises:
            TypeError: If `encoder` is not a Keras layer.
            ValueError: If `condition_shape` does not suit the encoder.
        """
        parameters = dict(locals())
        encoded_shape(encoder, condition_shape)
        super().__init__(bijector, parameters, name=name)
        self._condition_shape = tuple(condition_shape)
        self._own("_encoder", encoder)

    @property
    def encoder(self) -> keras.Layer:
        """The network that conditions go through."""
        return self._encoder

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition before it is encoded."""
        return self._condition_shape

    @property
    def condition_dtype(self) -> tf.DType:
        """What the encoder takes: integers for an embedding, else floats."""
        return tf.as_dtype(_input_dtype(self._encoder) or self.dtype)

    @property
    def labels(self) -> int | None:
        """Number of labels of an embedding, or None for other encoders."""
        embedding = _first_embedding(self._encoder)
        return None if embedding is None else int(embedding.input_dim)

    def _inner_condition(self, condition: Any) -> tf.Tensor:
        return self.encode(condition)

    def encode(self, condition: Any) -> tf.Tensor:
        """Returns what the bijector inside sees of conditions `[..., *shape]`."""
        condition = tf.cast(tf.convert_to_tensor(condition), self.condition_dtype)
        folded = tf.reshape(condition, [-1, *self._condition_shape])
        encoded = tf.cast(self._encoder(folded), self.dtype)
        ndims = len(self._condition_shape)
        batch = condition.shape[: condition.shape.rank - ndims]
        sizes = tf.shape(condition)[: condition.shape.rank - ndims]
        unfolded = tf.reshape(encoded, tf.concat([sizes, encoded.shape[1:]], 0))
        unfolded.set_shape(batch.concatenate(encoded.shape[1:]))
        return unfolded


def encoded_shape(
    encoder: keras.Layer, condition_shape: Sequence[int] | None
) -> tuple[int, ...]:
    """Builds an encoder and returns the shape of one encoded condition.

    Args:
        encoder: The Keras layer.
        condition_shape: Shape of one condition before it is encoded.

    Returns:
        The shape without the batch axis.

    Raises:
        TypeError: If `encoder` is not a Keras layer.
        ValueError: If it does not take conditions of this shape, or returns
            something else than one tensor of fixed shape for each of them.
    """
    if not isinstance(encoder, keras.Layer):
        raise TypeError(
            "Argument `encoder` must be a `keras.Layer`, such as "
            f"`keras.layers.Embedding(10, 8)`. Received: encoder={encoder!r}"
        )
    if condition_shape is None:
        raise ValueError(
            "Argument `condition_shape` must be given with `encoder`: the shape of one "
            "condition before it is encoded, `()` for labels. Received: None"
        )
    try:
        if not encoder.built:
            encoder.build((None, *condition_shape))
        dtype = _input_dtype(encoder) or encoder.compute_dtype
        outputs = encoder(keras.KerasTensor((None, *condition_shape), dtype=dtype))
        shape = tuple(outputs.shape)[1:]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Argument `encoder` must map [batch, {_words(condition_shape)}] to one "
            f"tensor. Received: '{encoder.name}', which fails with: {error}"
        ) from error
    if not shape or None in shape:
        raise ValueError(
            "Argument `encoder` must return conditions [batch, n, ...] of a fixed "
            f"shape. Received: '{encoder.name}', which returns {tuple(outputs.shape)}"
        )
    return shape


def _input_dtype(encoder: keras.Layer) -> str | None:
    """Returns the dtype that an encoder declares, integers for an embedding."""
    # The inputs of a `Sequential` are known once it is built.
    inputs = getattr(encoder, "inputs", None)
    if _first_embedding(encoder) is not None:
        return "int32"
    return keras.backend.standardize_dtype(inputs[0].dtype) if inputs else None


def _first_embedding(encoder: keras.Layer) -> keras.layers.Embedding | None:
    if isinstance(encoder, keras.layers.Embedding):
        return encoder
    if isinstance(encoder, keras.Sequential) and encoder.layers:
        return _first_embedding(encoder.layers[0])
    return None


def _words(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
