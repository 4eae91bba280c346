"""`load`: one name in, batches of training and held-out data out.

What changes a density (scaling, centring, the logit) is no preprocessing here: it is a
bijector in the flow's chain, so that log-likelihoods stay in data units.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from tfp_flows.data import files, toy
from tfp_flows.internal.arguments import checked_integer, invalid
from tfp_flows.internal.batching import endless_minibatches, minibatches
from tfp_flows.internal.seeds import dequantized, folded

TOY_TRAIN, TOY_TEST = 100_000, 10_000
DIGITS_TEST, DIGITS_LEVELS = 297, 17
DEFAULT_TEST_FRACTION = 0.2
# Seeds of the shards of a file are so far apart.
SHARD_SEED = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set in two parts, ready for `fit`.

    `train, test = data` gives the two `tf.data.Dataset`s of batches.

    Attributes:
        x_train: The training examples, `[n, *event_shape]`: float32, float64 for tables
            that float32 would round too much, or uint8 for images, which are whole
            pixel values without noise.
        labels_train: Class numbers `[n]`, or None.
        labels_test: Class numbers of the held-out examples, or None.
        pixel_levels: How many values a pixel can take; None for anything but images.
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
    pixel_levels: int | None = None
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
        return minibatches(
            self.x_train,
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            finish=None if self.pixel_levels is None else dequantize,
        )

    def epochs(self, first: int = 0) -> tf.data.Dataset:
        """Training batches without end, epoch after epoch.

        Order and noise of an epoch follow from `seed` and its number alone: interrupted
        training goes on with the batches that it would have seen, by
        `fit(data.epochs(k), steps_per_epoch=data.steps, initial_epoch=k)`.
        """
        return endless_minibatches(
            self.x_train,
            self.batch_size,
            seed=self.seed,
            first=first,
            finish=None if self.pixel_levels is None else dequantize,
        )

    @property
    def steps(self) -> int:
        """How many batches an epoch of the training part has."""
        return math.ceil(len(self.x_train) / self.batch_size)

    @property
    def test(self) -> tf.data.Dataset:
        """Held-out batches, the same in every epoch."""
        return self.evaluation(0)

    def evaluation(self, draw: int) -> tf.data.Dataset:
        """Held-out batches, in order, with the `draw`-th of many fixed noise draws.

        0 gives `test`. Without dequantization all draws are equal.
        """
        if self.pixel_levels is None:
            return minibatches(self.x_test, self.batch_size)
        # Noise is drawn for so many examples at once, whatever the batch size.
        blocks = minibatches(
            self.x_test,
            files.NOISE_ROWS,
            seed=self.seed,
            finish=lambda pixels, seed: dequantize(pixels, folded(seed, draw)),
        )
        # `rebatch` forgets how many there are, and Keras, told nothing, warns at the
        # end of the data that it ran out.
        count = math.ceil(len(self.x_test) / self.batch_size)
        batches = blocks.rebatch(self.batch_size)
        return batches.apply(tf.data.experimental.assert_cardinality(count))

    def hold_back(self, fraction: float) -> tuple[Data, Data]:
        """Splits off a fraction of the training part, in a fixed random way.

        Returns the data without it, and data that has it in the place of the held-out
        part.
        """
        n = len(self.x_train)
        rest, back = split_indices(n, min(n - 1, max(1, round(fraction * n))))
        labels = self.labels_train
        reduced = dataclasses.replace(
            self,
            x_train=self.x_train[rest],
            labels_train=None if labels is None else labels[rest],
        )
        held = dataclasses.replace(
            reduced,
            x_test=self.x_train[back],
            labels_test=None if labels is None else labels[back],
        )
        return reduced, held

    def __iter__(self) -> Iterator[tf.data.Dataset]:
        """Yields `train` and `test`."""
        yield self.train
        yield self.test


def load(
    name: str | Path,
    *,
    batch_size: int = 256,
    test_fraction: float | None = None,
    seed: int = 0,
    n_bits: int | None = None,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    key: str | None = None,
    to_score: bool = False,
) -> Data:
    """Loads a data set by name or path, split into a training and a held-out part.

    Images come out as whole pixel values plus uniform noise, in `[0, pixel_levels)`, so
    that `nll / (D log 2)` of a flow is bits per dimension as it stands. The split
    never depends on `seed`: runs with different seeds hold out the same examples.

    Args:
        name: `"digits"` (1,797 images of 8x8 pixels with 17 levels, split 1,500/297), a
            toy set (`"two_moons"`, `"eight_gaussians"`, `"pinwheel"`, `"checkerboard"`,
            `"rings"`; 100,000/10,000 fresh points), a `.npy`, `.npz`, `.csv` or
            `.parquet` file, or an image set by its TFDS name (`"mnist"`,
            `"fashion_mnist"`, `"cifar10"`, ...), which is held in memory.
        test_fraction: Share to hold out. None for the set's own test split, or a fifth.
        seed: Seed of a toy set's points, of the order and of the noise.
        n_bits: Keep this many of the 8 bits of each pixel, as Glow does with 5.
        data_dir: Where TFDS keeps its data. None means the environment variable
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
        image_size: Crop and resize a TFDS set's images to this height and width.
        key: Which array of an `.npz` file to take.
        to_score: Hold out the whole of a file, which may then be a single row.

    `train, test = load(...)` gives the two datasets of batches.
    """
    name, batch_size = str(name), checked_integer("batch_size", batch_size)
    if test_fraction is not None and not 0.0 < test_fraction < 1.0:
        raise invalid("test_fraction", "be between 0 and 1", test_fraction)
    files.check_key(name, key)
    check_image_size(name, image_size)
    if name in toy.TOY_SETS:
        data = _load_toy(name, seed)
    elif name == "digits":
        data = _load_digits()
    elif is_file(name):
        loaded = files.read_file(name, key, for_training=not to_score)
        data = _to_score(name, loaded)
        if not to_score:
            data = _resplit(data, DEFAULT_TEST_FRACTION)
    else:
        data = _load_tfds(name, data_dir, image_size)
    if test_fraction is not None:
        data = _resplit(data, test_fraction)
    data = _with_bits(data, n_bits)
    return dataclasses.replace(data, batch_size=batch_size, seed=seed)


def load_shards(
    path: str | Path,
    *,
    batch_size: int = 256,
    seed: int = 0,
    n_bits: int | None = None,
    key: str | None = None,
) -> Iterator[Data]:
    """Loads a file to be scored, in shards that fit into memory however long it is.

    The arguments are those of `load`. The held-out part of each data is a shard.
    """
    for index, loaded in enumerate(files.read_shards(path, key)):
        data = _with_bits(_to_score(str(path), loaded), n_bits)
        # Every shard has noise of its own; the first one has that of `load`.
        yield dataclasses.replace(
            data, batch_size=batch_size, seed=seed + index * SHARD_SEED
        )


def is_file(name: str | Path) -> bool:
    """Whether `load` would take a name for that of a file."""
    return Path(name).suffix.lower() in files.SUFFIXES or Path(name).exists()


def check_image_size(name: str | Path, image_size: object) -> None:
    """Refuses a size of images for what TFDS does not load."""
    own = str(name) in (*toy.TOY_SETS, "digits") or is_file(name)
    if own and image_size is not None:
        must = f"be None for {name}, as images of TFDS alone are resized"
        raise invalid("image_size", must, image_size)


def dequantize(pixels: np.ndarray | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Adds uniform noise in `[0, 1)` to whole pixel values; the result is float32.

    The density of `v = pixels + u` integrated over a pixel's unit cell bounds the
    probability of the pixel from below, so `-log2 p(v) / D` of a flow is an upper bound
    of the bits per dimension of the lossless code (Theis, van den Oord and Bethge, "A
    note on the evaluation of generative models", 2016).
    """
    return dequantized(tf.cast(pixels, tf.float32), seed)


def reduce_bits(pixels: np.ndarray, n_bits: int) -> np.ndarray:
    """Keeps the `n_bits` highest of 8 bits of pixels: `0 .. 2**n_bits - 1`."""
    if n_bits not in range(1, 9):
        raise invalid("n_bits", "be 1 to 8", n_bits)
    return pixels.astype(np.uint8) >> (8 - n_bits)


def split_indices(
    n: int, test_size: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits `range(n)` in a fixed random way: training and held-out indices."""
    if not 0 < test_size < n:
        raise invalid(
            "test_size", f"leave both parts with examples out of {n}", test_size
        )
    order = np.random.default_rng(seed).permutation(n)
    return order[test_size:], order[:test_size]


def _load_toy(name: str, seed: int) -> Data:
    return Data(
        name=name,
        kind="toy",
        x_train=toy.sample(name, TOY_TRAIN, seed=2 * seed),
        x_test=toy.sample(name, TOY_TEST, seed=2 * seed + 1),
        true_entropy=toy.true_entropy(name),
    )


def _load_digits() -> Data:
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    train, test = split_indices(len(images), DIGITS_TEST)
    return Data(
        name="digits",
        kind="image",
        x_train=images[train],
        x_test=images[test],
        labels_train=digits.target[train],
        labels_test=digits.target[test],
        pixel_levels=DIGITS_LEVELS,
    )


def _to_score(path: str, loaded: files.FileData) -> Data:
    """Data of which everything is held out."""
    return Data(
        name=path,
        kind="image" if loaded.columns is None else "table",
        x_train=loaded.x[:0],
        x_test=loaded.x,
        pixel_levels=256 if loaded.x.dtype == np.uint8 else None,
        columns=loaded.columns,
    )


def _load_tfds(
    name: str, data_dir: str | Path | None, image_size: int | tuple[int, int] | None
) -> Data:
    from tfp_flows.data import tfds_images

    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    splits = tfds_images.load_images(name, data_dir, size)
    train = splits["train"]
    test = splits.get("test", train.first(0))
    data = Data(
        name=name,
        kind="image",
        x_train=train.images,
        x_test=test.images,
        labels_train=train.labels,
        labels_test=test.labels,
        pixel_levels=256,
    )
    return data if "test" in splits else _resplit(data, DEFAULT_TEST_FRACTION)


def _resplit(data: Data, test_fraction: float) -> Data:
    """Joins both parts and splits them anew, in a fixed random way."""
    x = np.concatenate([data.x_train, data.x_test])
    held_out = round(test_fraction * len(x))
    if not 0 < held_out < len(x):
        raise invalid(
            "test_fraction", f"leave examples in both parts of {len(x)}", test_fraction
        )
    train, test = split_indices(len(x), held_out)
    labels_train = labels_test = None
    if data.labels_train is not None and data.labels_test is not None:
        labels = np.concatenate([data.labels_train, data.labels_test])
        labels_train, labels_test = labels[train], labels[test]
    return dataclasses.replace(
        data,
        x_train=x[train],
        x_test=x[test],
        labels_train=labels_train,
        labels_test=labels_test,
    )


def _with_bits(data: Data, n_bits: int | None) -> Data:
    if n_bits is None:
        return data
    if data.pixel_levels != 256:
        must = f"be None for anything but 8-bit images, which {data.name!r} are not"
        raise invalid("n_bits", must, got=f"n_bits={n_bits}")
    return dataclasses.replace(
        data,
        x_train=reduce_bits(data.x_train, n_bits),
        x_test=reduce_bits(data.x_test, n_bits),
        pixel_levels=2**n_bits,
    )
