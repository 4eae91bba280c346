"""Handwritten digits of the size of Fashion-MNIST's images."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

INNER, SIZE = 20, 28


def digits() -> np.ndarray:
    """Returns scikit-learn's 1,797 digits as uint8 `[n, 28, 28, 1]`.

    MNIST is not at hand. The digits have 8 x 8 pixels of 17 values; they are enlarged
    to 20 x 20, as MNIST's are within its frame, by bicubic interpolation.
    """
    images = load_digits().images[..., np.newaxis].astype("float32") * (255.0 / 16.0)
    large = tf.image.resize(images, [INNER, INNER], "bicubic")
    framed = tf.image.resize_with_crop_or_pad(large, SIZE, SIZE)
    return tf.saturate_cast(tf.round(framed), tf.uint8).numpy()
