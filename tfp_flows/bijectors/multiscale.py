"""`MultiScale` and `EarlyOutput`: parts that later steps do not touch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors import chain
from tfp_flows.bijectors.base import FlowBijector, reshaped
from tfp_flows.bijectors.conditional import condition_shape
from tfp_flows.bijectors.reshape import checked_sequences
from tfp_flows.bijectors.tree import inner_dtype
from tfp_flows.bijectors.weights import component
from tfp_flows.internal.arguments import (
    Condition,
    DType,
    Mapped,
    Shape,
    checked_integer,
    invalid,
)


@keras.saving.register_keras_serializable(package="tfp_flows")
class MultiScale(FlowBijector):
    """A pyramid of levels; after each but the last, half of the channels leaves.

    With `f_1, ..., f_L` the levels, from the data to the latents, the inverse is

        h_0 = y
        (h_l, z_l) = halves of f_l^-1(h_{l-1})    for l < L
        z_L = f_L^-1(h_{L-1})
        x = concat(flat(z_L), flat(z_{L-1}), ..., flat(z_1))

    and the log-det is the sum of the levels' log-dets. The first half of the
    channels goes on to the next level, the second half is factored out.

    **Order of the flat latent vector:** coarsest first, each part in row, column,
    channel order. `latent_shapes` lists the parts in this order.

    Glow's prior of a half that leaves, `z_l ~ Normal(m(h_l), s(h_l))`, is the level's
    last bijector: an `AffineCoupling` with a channel mask makes it a standard normal.

    Shapes: latents `[..., d]`, data `[..., h, w, c]`; log-dets have the batch shape.

    Reference: Dinh, Sohl-Dickstein, Bengio: Density estimation using Real NVP, 2016,
    arXiv:1605.08803, section 3.6.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        levels: Sequence[tfb.Bijector],
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Works out the shapes of all levels.

        Args:
            event_shape: Shape `(h, w, c)` of one image.
            levels: Bijectors of images, from the data's side to the latent side.
                Each but the last must return an even number of channels.
        """
        if not levels:
            raise invalid("levels", "hold at least one bijector", levels)
        super().__init__(
            event_ndims=1,
            inverse_event_ndims=3,
            dtype=inner_dtype(*levels),
            validate_args=validate_args,
            name=name,
        )
        self._levels = list(levels)
        self._event = tuple(int(n) for n in event_shape)
        self._shapes = _latent_shapes(self._event, self._levels)

    @property
    def latent_shapes(self) -> list[Shape]:
        """Shapes `(h, w, c)` of the parts of the latent vector, coarsest first."""
        return list(self._shapes)

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        def ndims(self: MultiScale, x_event_ndims: int) -> Any:
            levels = self.parameters["levels"]
            return tf.nest.map_structure(lambda _: x_event_ndims + 2, levels)

        return {"levels": component(ndims)}

    @property
    def condition_shape(self) -> Shape | None:
        """Shape of one condition if any level takes one."""
        shapes = map(condition_shape, self._levels)
        return next((shape for shape in shapes if shape is not None), None)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        parts, log_det = [], tf.zeros([], y.dtype)
        y = self._over_batch(y, 3, condition)
        for level in self._levels[:-1]:
            y, ildj = chain.inverse_and_log_det(level, y, 3, condition)
            y, done = tf.split(y, 2, axis=-1)
            parts.append(_flat(done))
            log_det += ildj
        y, ildj = chain.inverse_and_log_det(self._levels[-1], y, 3, condition)
        parts.append(_flat(y))
        return tf.concat(parts[::-1], axis=-1), log_det + ildj

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        y, *done = self._images(self._over_batch(x, 1, condition))
        y, log_det = chain.forward_and_log_det(self._levels[-1], y, 3, condition)
        for level, part in zip(self._levels[-2::-1], done, strict=True):
            y = tf.concat([y, part], axis=-1)
            y, fldj = chain.forward_and_log_det(level, y, 3, condition)
            log_det += fldj
        return y, log_det

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Adapts the levels in turn, from the data's side."""
        y, parts = tf.convert_to_tensor(y, self.dtype), []
        for level in self._levels[:-1]:
            y, done = tf.split(chain.adapt(level, y, 3, condition), 2, axis=-1)
            parts.append(_flat(done))
        parts.append(_flat(chain.adapt(self._levels[-1], y, 3, condition)))
        return tf.concat(parts[::-1], axis=-1)

    def _images(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Cuts flat latents into images, coarsest first."""
        batch, static = tf.shape(x)[:-1], x.shape[:-1]
        parts = tf.split(x, [math.prod(shape) for shape in self._shapes], axis=-1)
        return [
            reshaped(part, tf.concat([batch, shape], 0), static.concatenate(shape))
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def _forward_event_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(self._event)

    def _inverse_event_shape(self, output_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([math.prod(self._event)])

    def _forward_event_shape_tensor(self, input_shape: tf.Tensor) -> tf.Tensor:
        return tf.constant(self._event, tf.int32)

    def _inverse_event_shape_tensor(self, output_shape: tf.Tensor) -> tf.Tensor:
        return tf.constant([math.prod(self._event)], tf.int32)


def _latent_shapes(event: Shape, levels: list[tfb.Bijector]) -> list[Shape]:
    shapes, shape = [], event
    for number, level in enumerate(levels, start=1):
        shape = tuple(level.inverse_event_shape(shape))
        last = number == len(levels)
        if len(shape) != 3 or (shape[-1] % 2 and not last):
            raise ValueError(
                "Argument `levels` must hold bijectors of images, whose latents have "
                "an even number of channels on all but the last level. "
                f"Received: level {number} with latents of shape {shape}"
            )
        if not last:
            shape = (*shape[:-1], shape[-1] // 2)
        shapes.append(shape)
    return shapes[::-1]


def _flat(x: tf.Tensor) -> tf.Tensor:
    size = x.shape[-3:].num_elements()
    static = x.shape[:-3].concatenate([size])
    return reshaped(x, tf.concat([tf.shape(x)[:-3], [size]], 0), static)


@keras.saving.register_keras_serializable(package="tfp_flows")
class EarlyOutput(FlowBijector):
    """Factors the first channels of a sequence out; the others go through a bijector.

    With `y = (y_d, y_r)` split into the `channels` that are factored out and the rest,

        inverse:  x = (y_d, f^-1(y_r))
        forward:  y = (x_d, f(x_r))
        log-det:  that of f

    Shapes: those of sequences `[..., steps, channels + r]` for a bijector of
    `[..., steps, r]`; log-dets have the batch shape.

    Reference: Prenger, Valle, Catanzaro: WaveGlow, 2018, arXiv:1811.00002, section 2.4.

    Example:
        >>> import tfp_flows as tfpf
        >>> net = tfpf.speech.WaveNet(8)
        >>> f = tfpf.AffineCoupling(tfpf.masks.channel((None, 4)), net)
        >>> EarlyOutput(f, 2).inverse(tf.zeros([1, 5, 6])).shape
        TensorShape([1, 5, 6])
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        channels: int,
        *,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Keeps the bijector of the rest, one of sequences or a chain of them."""
        checked_sequences(bijector)
        super().__init__(
            event_ndims=2,
            dtype=inner_dtype(bijector),
            validate_args=validate_args,
            name=name,
        )
        self._bijector = bijector
        self._channels = checked_integer("channels", channels)

    @property
    def bijector(self) -> tfb.Bijector:
        """The bijector of the channels that go on."""
        return self._bijector

    @classmethod
    def _parameter_properties(
        cls, dtype: DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"bijector": component()}

    @property
    def condition_shape(self) -> tuple[int, ...] | None:
        """Shape of one condition of the bijector inside."""
        return condition_shape(self._bijector)

    def _inverse_and_log_det(self, y: tf.Tensor, condition: Condition = None) -> Mapped:
        done, rest = self._split(y, condition)
        rest, ildj = chain.inverse_and_log_det(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1), ildj

    def _forward_and_log_det(self, x: tf.Tensor, condition: Condition = None) -> Mapped:
        done, rest = self._split(x, condition)
        rest, fldj = chain.forward_and_log_det(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1), fldj

    def adapt(self, y: tf.Tensor, condition: Condition = None) -> tf.Tensor:
        """Adapts the bijector inside to the channels that go on."""
        done, rest = self._split(tf.convert_to_tensor(y), condition)
        rest = chain.adapt(self._bijector, rest, 2, condition)
        return tf.concat([done, rest], axis=-1)

    def _split(self, x: tf.Tensor, condition: Condition) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits the channels; all get the condition's batch axes."""
        if x.shape.rank is not None and (x.shape[-1] or 0) <= self._channels:
            raise ValueError(
                f"EarlyOutput '{self.name}' expected more than {self._channels} "
                f"channels on the last axis. Received: input of shape {x.shape}"
            )
        x = self._over_batch(x, 2, condition)
        return x[..., : self._channels], x[..., self._channels :]
