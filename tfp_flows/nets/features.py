"""Layers before networks: `PeriodicFeatures`, `LabelEmbedding`, `LabelChannels`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.internal.arguments import (
    Config,
    DescribedLayer,
    checked_integer,
    checked_number,
)
from tfp_flows.nets.conditioner import Shape, ops
from tfp_flows.nets.dense import cast


@keras.saving.register_keras_serializable(package="tfp_flows")
class LabelEmbedding(keras.layers.Embedding):
    """Learned vectors of class labels, and one for no class.

        e(c) = row c of a table,  c = 0, ..., labels - 1;      e(none) = row `labels`

    While training each label is dropped with the probability `dropout`: the network
    behind it learns what data look like without a class too, for classifier-free
    guidance.

    Shapes: integers `[...]` to `[..., d]`.

    Reference: Ho, Salimans: Classifier-Free Diffusion Guidance, 2022,
    arXiv:2207.12598.
    """

    def __init__(
        self, labels: int, d: int, dropout: float = 0.1, **kwargs: Any
    ) -> None:
        """Chooses the number of labels, and of values of a vector."""
        self.labels = checked_integer("labels", labels)
        self.d = checked_integer("d", d)
        super().__init__(self.labels + 1, self.d, **kwargs)
        self.dropout = checked_number("dropout", dropout, minimum=0.0, below=1.0)
        self._seeds = keras.random.SeedGenerator() if dropout else None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns a vector for each label."""
        if training and self._seeds is not None:
            draws = keras.random.uniform(ops.shape(inputs), seed=self._seeds)
            none = ops.full_like(inputs, self.labels)
            inputs = ops.where(draws < self.dropout, none, inputs)
        outputs: Any = super().call(inputs)
        return outputs

    @property
    def no_label(self) -> tf.Tensor:
        """The vector `[d]` of no class."""
        return tf.convert_to_tensor(self.embeddings)[self.labels]

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        keras_config = super().get_config()
        for name in ("input_dim", "output_dim"):
            keras_config.pop(name)
        own = {"labels": self.labels, "d": self.d, "dropout": self.dropout}
        return {**keras_config, **own}


@keras.saving.register_keras_serializable(package="tfp_flows")
class LabelChannels(DescribedLayer):
    """Embeds the label that is an image's last channel, at every position.

        [image, c] -> [image, e(c)],    e(c) = row c of a table

    Shapes: `[..., h, w, n + 1]` to `[..., h, w, n + d]`.
    """

    def __init__(self, labels: int, d: int = 4, **kwargs: Any) -> None:
        """Chooses the number of labels, and of values of their vectors."""
        super().__init__(**kwargs)
        self.labels = checked_integer("labels", labels)
        self.d = checked_integer("d", d)

    def build(self, input_shape: Shape) -> None:
        """Makes the table."""
        self.table = self.add_weight((self.labels, self.d), "uniform", name="table")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Puts a vector in the place of the label."""
        rows = ops.take(self.table, ops.cast(inputs[..., -1], "int32"), axis=0)
        return ops.concatenate([inputs[..., :-1], cast(rows, inputs.dtype)], axis=-1)


@keras.saving.register_keras_serializable(package="tfp_flows")
class PeriodicFeatures(DescribedLayer):
    """Sines and cosines of angles: what a network sees of values on a circle.

        a -> (cos(2 pi k a / period), sin(2 pi k a / period))    k = 1, ..., frequencies

    As the first layer of a `keras.Sequential` conditioner it makes parameters that are
    periodic in the identity values, as circular splines need.

    Shapes: `[..., d]` to `[..., 2 d frequencies]`.

    Reference: Rezende et al.: Normalizing Flows on Tori and Spheres, 2020,
    arXiv:2002.02428.

    Example:
        >>> PeriodicFeatures(frequencies=2)(ops.zeros([3, 1])).shape
        TensorShape([3, 4])
    """

    def __init__(
        self, frequencies: int = 1, period: float = 2.0 * math.pi, **kwargs: Any
    ) -> None:
        """Chooses how many multiples of the base frequency there are."""
        super().__init__(**kwargs)
        self.frequencies = checked_integer("frequencies", frequencies)
        self.period = checked_number("period", period, above=0.0)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the features, cosines first."""
        k = ops.arange(1, self.frequencies + 1, dtype=inputs.dtype)
        angles = (2.0 * math.pi / self.period) * inputs[..., None] * k
        both = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        *batch, d, each = both.shape
        return ops.reshape(both, (*(-1 if n is None else n for n in batch), d * each))
