"""`ComplexityScorer`: the likelihood of an image against its size as a file."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.anomaly.scorer import AnomalyScorer

CHANNELS = (1, 2, 3, 4)


@keras.saving.register_keras_serializable(package="tfp_flows")
class ComplexityScorer(AnomalyScorer):
    """Scores by how many bits more the flow needs than a PNG file, in bits.

        s(x) = -log2 p(x) - 8 size(PNG(floor(x)))

    PNG is zlib after a filter, a model of images in general. A flat image is cheap for
    both; an image that PNG packs better than the flow is not what the flow was trained
    on. Pixels are compressed in memory, with TensorFlow's own op, so that the scorer
    works inside a SavedModel; the few bytes of a file's header are in every score.

    Images `[n, h, w, c]` have pixel values in [0, 256), dequantized or not, and 1 to 4
    channels, of which PNG takes the second or the fourth for transparency.

    Args:
        **kwargs: Arguments of `AnomalyScorer`.

    Reference:
        Serrà et al.: Input Complexity and Out-of-Distribution Detection with
        Likelihood-Based Generative Models, 2020, arXiv:1909.11480.
    """

    def call(self, x: Any, log_prob: Any, latent: Any) -> tf.Tensor:
        """Returns the scores `[n]`."""
        shape = x.shape
        if shape.rank != 4 or shape[-1] not in CHANNELS:
            raise ValueError(
                "Argument `x` must be images of shape [n, h, w, c] with 1 to 4 "
                f"channels to be compressed. Received: x of shape {shape}"
            )
        bits = 8.0 * tf.cast(png_bytes(x), log_prob.dtype)
        return -log_prob / math.log(2.0) - bits


def png_bytes(images: Any) -> tf.Tensor:
    """Returns how many bytes each image takes as a PNG file.

    Args:
        images: Pixel values `[n, h, w, c]` in [0, 256); what is behind the decimal
            point is dropped.

    Returns:
        Sizes `[n]`, of dtype int32.
    """
    pixels = tf.saturate_cast(tf.floor(tf.convert_to_tensor(images)), tf.uint8)

    def size(image: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(tf.io.encode_png(image, compression=9))

    return tf.map_fn(size, pixels, fn_output_signature=tf.TensorSpec([], tf.int32))
