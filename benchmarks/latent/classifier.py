"""`FeatureClassifier`: a small network whose features judge samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.internal.batching import map_rows


@keras.saving.register_keras_serializable(package="tfp_flows_benchmarks")
class FeatureClassifier(keras.Model):
    """A convolutional classifier of images, and the features that it classifies by.

    The features are the layer before the class scores: what the network keeps of an
    image to tell its class. `frechet_distance` compares sets of them.

    Shapes: images `[n, height, width, channels]` with values in `[0, levels)`, class
    scores `[n, classes]`, features `[n, feature_size]`.

    Example:
        >>> classifier = FeatureClassifier((8, 8, 1), classes=10, levels=17)
        >>> classifier.features(tf.zeros([2, 8, 8, 1])).shape
        (2, 64)
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        classes: int,
        *,
        levels: float = 256,
        feature_size: int = 64,
        **kwargs: Any,
    ) -> None:
        """Builds the network.

        Args:
            event_shape: Shape of one image, `(height, width, channels)`.
            classes: Number of classes.
            levels: How many values a pixel can take, such as 256.
            feature_size: Number of features.
            **kwargs: Passed on to `keras.Model`, such as `name`.
        """
        super().__init__(**kwargs)
        self.event_shape, self.classes = tuple(event_shape), classes
        self.levels, self.feature_size = levels, feature_size
        layers = [
            keras.Input(self.event_shape),
            keras.layers.Rescaling(1.0 / levels, -0.5),
            keras.layers.Conv2D(32, 3, 2, "same", activation="relu"),
            keras.layers.Conv2D(64, 3, 2, "same", activation="relu"),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(feature_size, "relu"),
        ]
        self.body = keras.Sequential(layers, name="body")
        self.head = keras.layers.Dense(classes, name="head")
        self.head.build((None, feature_size))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Returns the scores (logits) of the classes."""
        return self.head(self.body(inputs, training=training))

    def features(self, x: Any) -> np.ndarray:
        """Returns the features of images, `[n, feature_size]`."""
        x = np.asarray(x, np.float32)
        return map_rows(lambda rows: self.body(rows, training=False), x, rows=500)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("classes", "levels", "feature_size", "name")
        own = {name: getattr(self, name) for name in names}
        return {"event_shape": list(self.event_shape), **own}


def train_classifier(
    images: Any,
    labels: Any,
    *,
    levels: float = 256,
    epochs: int = 3,
    batch_size: int = 128,
    seed: int = 0,
    **kwargs: Any,
) -> FeatureClassifier:
    """Trains a `FeatureClassifier` on labelled images.

    Args:
        images: Pixel values `[n, height, width, channels]`.
        labels: Class numbers `[n]` from 0.
        levels: How many values a pixel can take, such as 256.
        epochs: Epochs.
        batch_size: Images in a batch.
        seed: Seed of weights and order, of all Keras.
        **kwargs: Passed on to `fit`, such as `validation_data` or `verbose`.

    Returns:
        The classifier, compiled with the metric `accuracy`.
    """
    keras.utils.set_random_seed(seed)
    images, labels = np.asarray(images), np.asarray(labels)
    classifier = FeatureClassifier(
        images.shape[1:], int(labels.max()) + 1, levels=levels
    )
    classifier.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(images, labels, epochs=epochs, batch_size=batch_size, **kwargs)
    return classifier
