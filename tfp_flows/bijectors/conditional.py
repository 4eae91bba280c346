"""Conditions: `condition` binds them, `EncodedCondition` encodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector, ValueAndLogDet, call_layer
from tfp_flows.bijectors.reshape import checked_sequences
from tfp_flows.bijectors.tree import bijectors_in, children, known_dtype
from tfp_flows.bijectors.weights import OF_INPUT, component
from tfp_flows.internal.arguments import (
    Condition,
    DType,
    Shape,
    TensorLike,
    check_dense,
    check_event,
    checked_instance,
    checked_integer,
    float_dtype,
    invalid,
    words,
)
from tfp_flows.internal.compat import Chain, JointMap, first_layers, tf_variable

tfb, tfd = tfp.bijectors, tfp.distributions

# Read anew at each use, so that gradients reach them and training moves them.
_REFERENCES = (tf.Variable, tfp.util.DeferredTensor)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Wrapped(FlowBijector):
    """Runs another bijector under the condition that `_inner_condition` returns.

    That is its own where no other is written.

    As everywhere in bijectors of this library, parts of TFP have the log-det `-inf`
    outside of their range there.

    Shapes: those of the bijector inside.
    """

    def __init__(
        self, bijector: tfb.Bijector, dtype: DType = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("condition_shape", condition_shape(bijector))
        super().__init__(
            event_ndims=int(bijector.forward_min_event_ndims),
            inverse_event_ndims=int(bijector.inverse_min_event_ndims),
            dtype=known_dtype(bijector) or dtype or OF_INPUT,
            **kwargs,
        )
        self._bijector = bijector

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector inside."""
        return self._bijector

    def _inner_condition(self, condition: Condition) -> Condition:
        return condition

    def _forward_and_log_det(
        self, x: tf.Tensor, condition: Condition = None
    ) -> ValueAndLogDet:
        ndims, inner = self.forward_min_event_ndims, self._inner_condition(condition)
        return chain.forward_and_log_det(self._bijector, x, ndims, inner)

    def _inverse_and_log_det(
        self, y: tf.Tensor, condition: Condition = None
    ) -> ValueAndLogDet:
        ndims, inner = self.inverse_min_event_ndims, self._inner_condition(condition)
        return chain.inverse_and_log_det(self._bijector, y, ndims, inner)

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"bijector": component()}

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Adapts the bijector inside."""
        ndims, inner = self.inverse_min_event_ndims, self._inner_condition(condition)
        return chain.adapt(self._bijector, y, ndims, inner)

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.forward_event_shape(input_shape)

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return self._bijector.inverse_event_shape(output_shape)

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.forward_event_shape_tensor(input_shape)

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return self._bijector.inverse_event_shape_tensor(output_shape)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Supported(Wrapped):
    """A bijector of TFP with log-densities of `-inf` where it ends.

    `inverse` of a value outside its range, such as a negative one under `tfb.Exp`, is
    some latent with the log-det `-inf`; NaN stays NaN. With `low` and `high`, its
    range is `[low, high]`, and `forward` clips to it.

    Shapes: those of the bijector inside, such as single values, `[...]`.
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        low: float | None = None,
        high: float | None = None,
        dtype: DType = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        name = name or bijector.name
        super().__init__(bijector, dtype, validate_args=validate_args, name=name)
        self._low = -np.inf if low is None else low
        self._high = np.inf if high is None else high

    # By the inverse here, which has a value outside the support as well.
    adapt = FlowBijector.adapt

    def _forward_and_log_det(self, x: tf.Tensor) -> ValueAndLogDet:
        y, fldj = super()._forward_and_log_det(x)
        y = tf.where(y < self._low, tf.constant(self._low, y.dtype), y)
        return tf.where(y > self._high, tf.constant(self._high, y.dtype), y), fldj

    def _inverse_and_log_det(self, y: tf.Tensor) -> ValueAndLogDet:
        beyond = tf.logical_or(y < self._low, y > self._high)
        axes = list(range(-self.inverse_min_event_ndims, 0))
        beyond = tf.reduce_any(beyond, axis=axes)
        return chain.within_range(self._bijector, y, beyond)


def within_support(bijector: tfb.Bijector, dtype: DType = None) -> tfb.Bijector:
    """Gives a bijector of TFP the log-det `-inf` outside of its range.

    That ends where one of its parts does, in whatever container. Of structures of
    tensors, TFP's containers ask for other shapes than a `FlowBijector` has.
    """
    if isinstance(bijector, FlowBijector):
        return bijector
    if chain.bends(bijector):
        return Supported(bijector, dtype=dtype)
    ends = any(map(chain.bends, bijectors_in(bijector)))
    if not ends or tf.nest.is_nested(bijector.forward_min_event_ndims):
        return bijector
    return Wrapped(bijector, dtype, name=bijector.name)


@keras.saving.register_keras_serializable(package="tfp_flows")
class Conditioned(Wrapped):
    """A conditional bijector with its condition filled in.

        forward:  y = f(x; c)
        inverse:  x = f^-1(y; c)
        log-det:  that of f at c

    The batch axes of the condition are batch axes of the bijector, next to its own.
    """

    fills_conditions = True

    def __init__(
        self,
        bijector: tfb.Bijector,
        condition: TensorLike,
        extra_ndims: int = 0,
        name: str | None = None,
    ) -> None:
        """Binds `condition`, `[..., *condition_shape]`; gradients flow to it.

        A `tf.Variable` stays a weight of the bijector. `extra_ndims` counts the axes of
        an event beyond the bijector's own: all their positions get one condition.
        """
        super().__init__(bijector, condition_shape=None, name=name)
        self._condition = _tensor_or_reference(condition)
        self._extra_ndims = extra_ndims

    @property
    def condition(self) -> TensorLike:
        """The condition, a tensor or what one is read from."""
        return self._condition

    def _inner_condition(self, condition: Condition) -> Condition:
        c, shape = (
            tf.convert_to_tensor(self._condition),
            condition_shape(self._bijector),
        )
        return chain.over_positions(c, shape, self._extra_ndims)

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        def ndims(self: Conditioned, x_event_ndims: int) -> int:
            return self._condition.shape.rank - self._batch_ndims(x_event_ndims)

        properties = tfp.util.ParameterProperties(
            event_ndims=ndims, event_ndims_tensor=ndims
        )
        return {"condition": properties, **super()._parameter_properties(dtype)}

    def _batch_ndims(self, x_event_ndims: int) -> int:
        """Counts the batch axes of the condition that are none of the event's."""
        own = len(condition_shape(self._bijector) or ())
        extra = x_event_ndims - self.forward_min_event_ndims - self._extra_ndims
        return max(self._condition.shape.rank - own - extra, 0)


def conditional_part(bijector: tfb.Bijector) -> FlowBijector | None:
    """Returns the outermost part that takes a condition and has none yet."""
    if getattr(bijector, "condition_shape", None) is not None:
        return bijector
    if getattr(bijector, "fills_conditions", False):
        return None
    parts = map(conditional_part, children(bijector))
    found = [part for part in parts if part is not None]
    for part in found[1:]:
        shapes = [tf.TensorShape(one.condition_shape) for one in (found[0], part)]
        if not shapes[0].is_compatible_with(shapes[1]):
            names = f"{found[0].name!r} and {part.name!r}"
            raise ValueError(
                "Parts of a flow must take conditions of one shape, as all of them are "
                f"given the same. Received: {shapes[0]} and {shapes[1]}, of {names}"
            )
    return found[0] if found else None


def condition_shape(bijector: tfb.Bijector) -> Shape | None:
    """Returns the shape of one condition, or None for an unconditional bijector."""
    return getattr(conditional_part(bijector), "condition_shape", None)


def taking_conditions(distribution: object) -> tfb.Bijector | None:
    """Returns the bijector that the conditions of a distribution go to, or None.

    It may be that of the flow inside a distribution of ours, such as `Dequantized`.
    """
    bijector = getattr(distribution, "bijector", None)
    if bijector is None and hasattr(distribution, "given"):
        return taking_conditions(distribution.flow)
    takes = bijector is not None and condition_shape(bijector) is not None
    return bijector if takes else None


def condition_dtype(bijector: tfb.Bijector) -> tf.DType:
    """Returns the dtype of conditions: the flow's, unless they are labels."""
    dtype = getattr(conditional_part(bijector), "condition_dtype", None)
    return float_dtype(dtype or known_dtype(bijector))


def label_count(bijector: tfb.Bijector) -> int | None:
    """Returns how many labels a flow knows whose conditions are labels, else None."""
    return getattr(conditional_part(bijector), "labels", None)


def condition(
    flow: tfd.Distribution, c: TensorLike, name: str | None = None
) -> tfd.TransformedDistribution:
    """Returns the distribution of a conditional flow given the condition `c`.

    Args:
        flow: A conditional flow, such as `tfpf.glow((2,), condition_shape=(3,))`.
        c: Tensor `[*batch, *condition_shape]`; gradients flow to it. A `tf.Variable`
            becomes a weight of the distribution.

    Returns:
        A distribution of batch shape `batch`, mostly a `tfd.TransformedDistribution`.

    Example:
        >>> import tfp_flows as tfpf
        >>> flow = tfpf.real_nvp((2,), condition_shape=(3,))
        >>> tfpf.condition(flow, [[0.0, 1.0, 2.0]]).batch_shape
        TensorShape([1])
    """
    bijector = taking_conditions(flow)
    if bijector is None:
        must = "be a conditional flow, built with `condition_shape=(...)`"
        raise invalid("flow", must, flow)
    shape, labels = condition_shape(bijector), label_count(bijector)
    if labels is not None and not isinstance(c, (*_REFERENCES, keras.Variable)):
        c = checked_labels(tf.convert_to_tensor(c), labels)
    c = _tensor_or_reference(c, condition_dtype(bijector))
    check_event(c, shape, f"the condition of '{flow.name}'", "c")
    if bijector is not getattr(flow, "bijector", None):
        return flow.given(c)
    bound = _bound(bijector, c, flow.event_shape, flow.distribution.event_shape)
    return tfd.TransformedDistribution(flow.distribution, bound, name=name)


def _bound(
    bijector: tfb.Bijector, c: TensorLike, event: Any, latent: Any
) -> tfb.Bijector:
    """Returns a bijector with its condition filled in.

    Around structures of tensors that is done part by part.
    """
    least = bijector.inverse_min_event_ndims
    if not tf.nest.is_nested(least):
        # TFP lines up a bijector's batch with the last axes outside its own event.
        whole = event if isinstance(event, tf.TensorShape) else latent
        return Conditioned(bijector, c, whole.rank - least)
    if not isinstance(bijector, (Chain, JointMap)):
        must = "take its condition in parts that have one tensor for an event"
        raise invalid("flow", must, bijector)

    def part(one: tfb.Bijector) -> tfb.Bijector:
        return one if condition_shape(one) is None else _bound(one, c, None, latent)

    parts = tf.nest.map_structure(part, bijector.bijectors)
    kind = tfb.Chain if isinstance(bijector, Chain) else tfb.JointMap
    return kind(parts, name=bijector.name)


def _tensor_or_reference(c: TensorLike, dtype: tf.DType | None = None) -> TensorLike:
    """Returns a tensor of `dtype`, or the variable that `c` is."""
    c = tf_variable(c) if isinstance(c, keras.Variable) else c
    if isinstance(c, _REFERENCES):
        return c
    if hasattr(c, "dtype"):
        check_dense(c, "condition")
    c = tf.convert_to_tensor(c, dtype_hint=dtype)
    return c if dtype is None else tf.cast(c, dtype)


@keras.saving.register_keras_serializable(package="tfp_flows")
class EncodedCondition(Wrapped):
    """A conditional bijector that sees its conditions through a Keras layer.

        forward:  y = f(x; e(c))
        inverse:  x = f^-1(y; e(c))
        log-det:  that of f at e(c)

    The encoder `e` runs once in each direction, however many parts of `f` take its
    output. It can be `keras.layers.Embedding(10, 8)` for class labels
    (`condition_shape=()`), or any other Keras layer or model.

    Shapes: events those of `f`; conditions `[..., *condition_shape]`.

    Example:
        >>> import tfp_flows as tfpf
        >>> net = tfpf.nets.MLP((16,))
        >>> f = tfpf.AffineCoupling(tfpf.masks.half(2), net, condition_shape=(4,))
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
        """
        encoded_shape(encoder, condition_shape)
        super().__init__(bijector, condition_shape=condition_shape, name=name)
        self._encoder = encoder

    @property
    def encoder(self) -> keras.Layer:
        """The network that conditions go through."""
        return self._encoder

    @property
    def condition_dtype(self) -> tf.DType:
        """What the encoder takes: integers for an embedding, else floats."""
        return float_dtype(_input_dtype(self._encoder) or self.dtype)

    @property
    def labels(self) -> int | None:
        """Number of labels of an embedding, or None for other encoders."""
        embedding = _first_embedding(self._encoder)
        return None if embedding is None else int(embedding.input_dim)

    def _inner_condition(self, condition: Condition) -> tf.Tensor:
        return self.encode(condition)

    def encode(self, condition: Condition) -> tf.Tensor:
        """Returns what the bijector inside sees of conditions `[..., *shape]`."""
        condition = tf.convert_to_tensor(condition)
        if self.condition_dtype.is_integer:
            condition = checked_labels(condition, self.labels)
        given = tf.cast(condition, self.condition_dtype)
        ndims = len(self.condition_shape)
        encoded = call_layer(self._encoder, given, ndims, dtype=self.dtype)
        if self.labels is None or tf.executing_eagerly():
            return encoded
        # XLA drops what `checked_labels` asserts, and takes the nearest label.
        good = (condition >= 0) & (condition < self.labels)
        good = tf.reduce_all(good, axis=list(range(-ndims, 0)))
        while good.shape.rank < encoded.shape.rank:
            good = good[..., tf.newaxis]
        return tf.where(good, encoded, tf.cast(np.nan, encoded.dtype))


def checked_labels(condition: tf.Tensor, labels: int | None) -> tf.Tensor:
    """Returns labels as integers; refuses fractions and what is out of range.

    Without a number of labels any whole numbers will do.
    """
    found = tf.cast(condition, tf.int32)
    good = tf.cast(found, condition.dtype) == condition
    must = "Argument `condition` must hold labels, whole numbers"
    if labels is not None:
        good &= (found >= 0) & (found < labels)
        must += f" from 0 to {labels - 1}"
    if tf.executing_eagerly():
        if not bool(tf.reduce_all(good)):
            wrong = condition.numpy()[~good.numpy()].flat[0]
            raise ValueError(f"{must}. Received: a label {wrong}")
        return found
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(good), [must])]):
        return tf.identity(found)


def encoded_shape(encoder: keras.Layer, condition_shape: Sequence[int] | None) -> Shape:
    """Builds an encoder and returns the shape of one encoded condition."""
    layer = "a `keras.Layer`, such as `keras.layers.Embedding(10, 8)`"
    checked_instance("encoder", encoder, keras.Layer, layer)
    if condition_shape is None:
        must = "be given with `encoder`: that of one condition before it is encoded"
        raise invalid("condition_shape", must, None)
    try:
        if not encoder.built:
            encoder.build((None, *condition_shape))
        dtype = _input_dtype(encoder) or encoder.compute_dtype
        outputs = encoder(keras.KerasTensor((None, *condition_shape), dtype=dtype))
        shape = tuple(outputs.shape)[1:]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Argument `encoder` must map [batch, {words(condition_shape)}] to one "
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
    if isinstance(encoder, keras.Sequential):
        first = encoder.layers[:1]
    else:
        first = first_layers(encoder)
    return next(filter(None, map(_first_embedding, first)), None)


@keras.saving.register_keras_serializable(package="tfp_flows")
class LocalCondition(Wrapped):
    """A bijector of sequences that sees frames through a learned upsampling.

        forward:  y = f(x; u(c))
        inverse:  x = f^-1(y; u(c))
        log-det:  that of f at u(c)

    The Keras layer `u` makes `stride` positions of each frame, once in each direction.

    Shapes: sequences `[..., stride frames, channels]`, conditions
    `[..., frames, features]`, with any number of frames.

    Reference: Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        upsampler: keras.Layer,
        *,
        features: int,
        stride: int,
        name: str | None = None,
    ) -> None:
        """Builds the upsampling.

        Args:
            bijector: A bijector of sequences, or chain of them, with conditions of
                shape `(None, n)`.
            upsampler: Keras layer from `[batch, frames, features]` to
                `[batch, stride frames, n]`, such as a `keras.layers.Conv1DTranspose`
                with `strides=stride` and `padding="same"`.
            features: Number of values of a frame, such as the mel channels.
            stride: Number of positions to a frame.
        """
        checked_sequences(bijector)
        checked_integer("features", features)
        self._stride = checked_integer("stride", stride)
        _check_upsampler(upsampler, features, stride)
        super().__init__(bijector, condition_shape=(None, features), name=name)
        self._upsampler = upsampler

    @property
    def stride(self) -> int:
        """Number of positions to a frame."""
        return self._stride

    @property
    def upsampler(self) -> keras.Layer:
        """The layer that frames go through."""
        return self._upsampler

    def _inner_condition(self, condition: Condition) -> tf.Tensor:
        frames = tf.cast(tf.convert_to_tensor(condition), self.dtype)
        return call_layer(self._upsampler, frames, 2)


def _check_upsampler(upsampler: object, features: int, stride: int) -> None:
    layer = "a `keras.Layer`, such as `keras.layers.Conv1DTranspose`"
    checked_instance("upsampler", upsampler, keras.Layer, layer)
    if not upsampler.built:
        upsampler.build((None, None, features))
    probe = keras.KerasTensor((1, 3, features), dtype=upsampler.compute_dtype)
    shape = tuple(upsampler(probe).shape)
    if len(shape) != 3 or shape[1] != 3 * stride:
        raise ValueError(
            f"Argument `upsampler` must make stride={stride} positions of each frame. "
            f"Received: '{upsampler.name}', which makes {shape} of {probe.shape}"
        )
