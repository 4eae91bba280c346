"""`PixelLikelihood`: how likely an image is, given the decoder's picture of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.internal.arguments import Config, checked_choice, checked_number

KINDS = ("gaussian", "logistic")


@keras.saving.register_keras_serializable(package="tfp_flows")
class PixelLikelihood(keras.Layer):
    """Independent pixels about the decoder's output, with one learned width.

    With the decoder's output `o`, `L` levels and the width `s`, the pixel value `x`
    in `[0, L)` has in nats, summed over the pixels of an image:

        gaussian:  log Normal(x; L (o + 1/2), L s), a density of dequantized values
        logistic:  log P(floor(x)) of a logistic with the same place and width,
                   discretized to the L whole values: a probability

    Both compare with log-densities of dequantized pixels. A learned width weighs the
    reconstruction against the latents' cost by itself.

    Args:
        pixel_levels: How many values a pixel can take, such as 256.
        scale: Width s to start from, as a share of `pixel_levels`.

    Reference: Rybkin, Daniilidis, Levine: Simple and Effective VAE Training with
    Calibrated Decoders, 2021, arXiv:2006.13202. Kingma et al.: Improved Variational
    Inference with Inverse Autoregressive Flow, 2016, arXiv:1606.04934.
    """

    def __init__(
        self,
        kind: str = "gaussian",
        pixel_levels: float = 256,
        scale: float = 0.1,
        learned: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.kind, self.learned = checked_choice("kind", kind, KINDS), learned
        self.pixel_levels = checked_number("pixel_levels", pixel_levels, above=0.0)
        self.scale = checked_number("scale", scale, above=0.0)
        start = keras.initializers.Constant(math.log(scale))
        self.log_scale = self.add_weight(
            (), start, name="log_scale", trainable=learned, autocast=False
        )
        self.built = True

    def log_prob(self, x: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns `log p(x | output)` in nats, one value for each image."""
        scale = self.pixel_levels * tf.exp(tf.convert_to_tensor(self.log_scale))
        center = self.pixel_levels * (tf.cast(output, scale.dtype) + 0.5)
        if self.kind == "gaussian":
            log_prob = tfd.Normal(center, scale).log_prob(x)
        else:
            # TFP rounds up; one to the left, the cell [v, v + 1) has the value v.
            cells = tfd.Logistic(center - 1.0, scale)
            pixels = tfd.QuantizedDistribution(cells, low=0, high=self.pixel_levels - 1)
            outside = (x < 0.0) | (x >= self.pixel_levels)
            log_prob = pixels.log_prob(tf.where(outside, 0.0, tf.floor(x)))
            log_prob = tf.where(outside, -math.inf, log_prob)
        return tf.reduce_sum(log_prob, axis=list(range(1, log_prob.shape.rank)))

    def picture(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the mean image in `[0, levels)`."""
        highest = self.pixel_levels * (1.0 - 2.0**-20)
        pixels = self.pixel_levels * (tf.cast(output, tf.float32) + 0.5)
        return tf.clip_by_value(pixels, 0.0, highest)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        names = ("name", "kind", "pixel_levels", "scale", "learned")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: Config) -> PixelLikelihood:
        """Builds the likelihood; files of the first version say `levels`."""
        return cls(**{_OLD.get(name, name): config[name] for name in config})


_OLD = {"levels": "pixel_levels"}
