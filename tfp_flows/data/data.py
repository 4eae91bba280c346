"""`Data`: a data set in two parts, as batches that `fit` takes."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

from tfp_flows.data import preprocessing
from tfp_flows.data.passes import endless_passes, steps_of_pass

# Held-out noise is drawn for so many examples at once, whatever the batch size.
NOISE_BLOCK = 256

# Noise streams of one seed: training noise varies, held-out noise does not.
TRAIN_STREAM, TEST_STREAM = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set in two parts, ready for ``fit``.

    ``train, test = data`` gives the two ``tf.data.Dataset``s of batches.

    Attributes:
        name: The name or path it was loaded by.
        kind: ``"image"``, ``"table"`` or ``"toy"``.
        x_train: The training examples, ``[n, *event_shape]``: float32, or uint8 for
            images, which are whole pixel values without noise.
        x_test: The held-out examples.
        labels_train: Class numbers ``[n]``, or None.
        labels_test: Class numbers of the held-out examples, or None.
        levels: How many values a pixel can take; None for anything but images.
        columns: The column names of a table, or None.
        true_entropy: The entropy of a toy set's density in nats, or None.
        batch_size: Examples in a batch; the last one may be smaller.
        seed: Seed of the order and of the dequantization noise.
    """

    name: str
    kind: Literal["image", "table", "toy"]
    x_train: np.ndarray
    x_test: np.ndarray
    labels_train: np.ndarray | None = None
    labels_test: np.ndarray | None = None
    levels: int | None = None
    columns: tuple[str, ...] | None = None
    true_entropy: float | None = None
    batch_size: int = 256
    seed: int = 0

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.x_train.shape[1:])

    @property
    def train(self) -> tf.data.Dataset:
        """Training batches, in a new order and with new noise in every epoch."""
        return self._batches(self.x_train, shuffle=True, stream=TRAIN_STREAM)

    def passes(self, first: int = 0) -> tf.data.Dataset:
        """Training batches without end, pass after pass.

        Order and noise of a pass follow from ``seed`` and its number alone, so that
        interrupted training can go on with exactly the batches that it would have
        seen: ``fit(data.passes(k), steps_per_epoch=data.steps, initial_epoch=k)``.

        Args:
            first: Number of the first pass, from 0.

        Returns:
            Batches without end, ``steps`` of them in each pass.
        """
        finish = None
        if self.levels is not None:
            finish = preprocessing.dequantize
        return endless_passes(
            self.x_train, self.batch_size, seed=self.seed, first=first, finish=finish
        )

    @property
    def steps(self) -> int:
        """How many batches a pass over the training part has."""
        return steps_of_pass(len(self.x_train), self.batch_size)

    @property
    def test(self) -> tf.data.Dataset:
        """Held-out batches, the same in every pass."""
        return self.evaluation(0)

    def evaluation(self, draw: int) -> tf.data.Dataset:
        """Held-out batches with the ``draw``-th of many fixed noise draws.

        Args:
            draw: 0 gives ``test``. Without dequantization all draws are equal.

        Returns:
            Batches of the held-out examples, in order.
        """
        return self._batches(self.x_test, shuffle=False, stream=TEST_STREAM + draw)

    def hold_back(self, fraction: float) -> tuple["Data", "Data"]:
        """Splits the training part, in a fixed random way.

        Args:
            fraction: Which share of it to hold back, for choices made in training.

        Returns:
            The data without that share, and data that has it in the place of the
            held-out part.
        """
        n = len(self.x_train)
        size = min(n - 1, max(1, round(fraction * n)))
        kept, back = preprocessing.split_indices(n, size)
        labels = self.labels_train
        reduced = dataclasses.replace(
            self,
            x_train=self.x_train[kept],
            labels_train=None if labels is None else labels[kept],
        )
        held = dataclasses.replace(
            reduced,
            x_test=self.x_train[back],
            labels_test=None if labels is None else labels[back],
        )
        return reduced, held

    def __iter__(self) -> Iterator[tf.data.Dataset]:
        """Yields ``train`` and ``test``."""
        yield self.train
        yield self.test

    def _batches(self, x: np.ndarray, shuffle: bool, stream: int) -> tf.data.Dataset:
        """Batches that are gathered from memory by index, then dequantized."""
        with tf.device("CPU:0"):  # `tf.data` runs there, wherever the model does
            examples = tf.constant(x)
        indices = tf.data.Dataset.range(len(x))
        seeds = tf.data.Dataset.random(
            seed=2 * self.seed + 1, rerandomize_each_iteration=shuffle
        )
        if shuffle:
            indices = indices.shuffle(len(x), seed=self.seed)

        def batch(index: tf.Tensor, noise_seed: tf.Tensor) -> tf.Tensor:
            values = tf.gather(examples, index)
            if self.levels is None:
                return values
            return preprocessing.dequantize(values, [noise_seed, stream])

        block = self.batch_size if shuffle else NOISE_BLOCK
        blocks = tf.data.Dataset.zip(indices.batch(block), seeds)
        batches = blocks.map(batch, tf.data.AUTOTUNE)
        if block != self.batch_size:
            batches = batches.rebatch(self.batch_size)
            # `rebatch` forgets how many there are, and Keras, told nothing, warns at
            # the end of the data that it ran out.
            count = steps_of_pass(len(x), self.batch_size)
            batches = batches.apply(tf.data.experimental.assert_cardinality(count))
        return batches.prefetch(tf.data.AUTOTUNE)
