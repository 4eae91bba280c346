"""The flow of the images and the flow of their background: loaded or trained."""

import time

import keras
import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.anomaly.simple_images import mutated


def dequantized(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Adds uniform noise to whole pixel values."""
    return tfpf.data.dequantize(pixels, [seed, 0]).numpy()


class OutOfTime(keras.callbacks.Callback):
    """Ends training when its time is over, its rate falling to zero by then."""

    def __init__(self, minutes, rate):
        super().__init__()
        self._seconds, self._rate = 60.0 * minutes, rate

    def on_train_begin(self, logs=None):
        self._start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        share = (time.monotonic() - self._start) / self._seconds
        self.model.optimizer.learning_rate = self._rate * max(1.0 - share, 0.02)
        if share >= 1.0:
            self.model.stop_training = True


def trained_glow(options, path, name, mutation, minutes):
    """Returns the flow in a file, or one that is trained for so many minutes."""
    if path is not None:
        return tfpf.load_distribution(path)
    keras.utils.set_random_seed(options.seed)
    images = tfpf.data.load("fashion_mnist", data_dir=options.data).x_train
    if mutation:
        images = mutated(images, rate=mutation, seed=options.seed)
    flow = tfpf.glow(
        (28, 28, 1),
        levels=2,
        steps=4,
        hidden_channels=32,
        preprocess=tfpf.logit(256.0, alpha=1e-3),
        log_scale="soft_clamp",
    )
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=50.0))
    batches = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images))
    batches = batches.repeat().batch(64).map(noisy).prefetch(2)
    model.fit(
        batches,
        epochs=1000,
        steps_per_epoch=100,
        callbacks=[OutOfTime(minutes, 1e-3)],
        verbose=0,
    )
    print(
        f"{name}: {model.history.history['bits_per_dim'][-1]:.3f} bits/dim", flush=True
    )
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        model.save(options.keep / f"{name}.keras")
    return flow


def noisy(pixels: tf.Tensor) -> tf.Tensor:
    """Fresh noise for whole pixel values."""
    values = tf.cast(pixels, tf.float32)
    return values + tf.random.uniform(tf.shape(values), maxval=1 - 2**-16)
