"""`load`: one name in, batches of training and held-out data out."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets

from tfp_flows.data import files, pieces, preprocessing, toy
from tfp_flows.data.data import Data

TOY_TRAIN, TOY_TEST = 20_000, 10_000
DIGITS_TEST, DIGITS_LEVELS = 297, 17
DEFAULT_TEST_FRACTION = 0.2

# Seeds of pieces of a file are so far apart.
PIECE_SEED = 2**20


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

    Images come out as whole pixel values plus uniform noise, in ``[0, levels)``, so
    that ``nll / (D log 2)`` of a flow is bits per dimension as it stands. The split
    never depends on ``seed``: runs with different seeds hold out the same examples.

    Args:
        name: ``"digits"`` (1,797 images of 8x8 pixels with 17 levels, split
            1,500/297), a toy set (``"two_moons"``, ``"eight_gaussians"``,
            ``"pinwheel"``, ``"checkerboard"``, ``"rings"``; 20,000/10,000 fresh
            points), a ``.npy``, ``.npz``, ``.csv`` or ``.parquet`` file, or an image
            set by its TFDS name (``"mnist"``, ``"fashion_mnist"``, ``"cifar10"``,
            ...), which is held in memory.
        batch_size: Examples in a batch.
        test_fraction: Which share to hold out. None means the set's own test split,
            or a fifth where it has none.
        seed: Seed of a toy set's points, of the order and of the noise.
        n_bits: Keep this many of the 8 bits of each pixel, as Glow does with 5.
        data_dir: Where TFDS keeps its data. None means the environment variable
            ``TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.
        image_size: Crop and resize a TFDS set's images to this height and width.
        key: Which array of an ``.npz`` file to take.
        to_score: Hold out the whole of a file, which may then be a single row.

    Returns:
        The data: ``train, test = load(...)`` gives the two datasets of batches.

    Raises:
        ValueError: If an argument does not fit, or the data cannot be had or used.
    """
    name = str(name)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    if test_fraction is not None and not 0.0 < test_fraction < 1.0:
        raise ValueError(
            f"`test_fraction` must be between 0 and 1. Received: {test_fraction}."
        )
    if name in toy.TOY_SETS:
        data = _load_toy(name, seed)
    elif name == "digits":
        data = _load_digits()
    elif _is_path(name):
        data = _load_file(name, key, to_score)
    else:
        data = _load_tfds(name, data_dir, image_size)
    if test_fraction is not None:
        data = _resplit(data, test_fraction)
    if n_bits is not None:
        data = _with_bits(data, n_bits)
    return dataclasses.replace(data, batch_size=batch_size, seed=seed)


def load_pieces(
    path: str | Path,
    *,
    batch_size: int = 256,
    seed: int = 0,
    n_bits: int | None = None,
    key: str | None = None,
) -> Iterator[Data]:
    """Loads a file to be scored, in pieces that fit into memory however long it is.

    Args:
        path: A ``.npy``, ``.npz``, ``.csv`` or ``.parquet`` file.
        batch_size: Examples in a batch.
        seed: Seed of the dequantization noise.
        n_bits: Keep this many of the 8 bits of each pixel.
        key: Which array of an ``.npz`` file to take.

    Yields:
        Data whose held-out part is the next piece.

    Raises:
        ValueError: If an argument does not fit, or the file cannot be had or used.
    """
    for index, loaded in enumerate(pieces.read_pieces(path, key)):
        data = _to_score(str(path), loaded)
        if n_bits is not None:
            data = _with_bits(data, n_bits)
        # Every piece has noise of its own; the first one has that of `load`.
        yield dataclasses.replace(
            data, batch_size=batch_size, seed=seed + index * PIECE_SEED
        )


def is_file(name: str | Path) -> bool:
    """Whether `load` would take a name for that of a file."""
    return _is_path(str(name))


def _is_path(name: str) -> bool:
    return Path(name).suffix.lower() in files.SUFFIXES or Path(name).exists()


def _load_toy(name: str, seed: int) -> Data:
    return Data(
        name=name,
        kind="toy",
        x_train=toy.sample(name, TOY_TRAIN, seed=2 * seed),
        x_test=toy.sample(name, TOY_TEST, seed=2 * seed + 1),
        true_entropy=toy.true_entropy(name),
    )


def _load_digits() -> Data:
    digits: Any = sklearn.datasets.load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    train, test = preprocessing.split_indices(len(images), DIGITS_TEST)
    return Data(
        name="digits",
        kind="image",
        x_train=images[train],
        x_test=images[test],
        labels_train=digits.target[train],
        labels_test=digits.target[test],
        levels=DIGITS_LEVELS,
    )


def _load_file(path: str, key: str | None, to_score: bool) -> Data:
    loaded = files.read_file(path, key, for_training=not to_score)
    data = _to_score(path, loaded)
    return data if to_score else _resplit(data, DEFAULT_TEST_FRACTION)


def _to_score(path: str, loaded: files.FileData) -> Data:
    """Data of which everything is held out."""
    return Data(
        name=path,
        kind="image" if loaded.columns is None else "table",
        x_train=loaded.x[:0],
        x_test=loaded.x,
        levels=256 if loaded.x.dtype == np.uint8 else None,
        columns=loaded.columns,
    )


def _load_tfds(
    name: str,
    data_dir: str | Path | None,
    image_size: int | tuple[int, int] | None,
) -> Data:
    # TFDS takes a second to import, which only its own sets should cost.
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
        levels=256,
    )
    return data if "test" in splits else _resplit(data, DEFAULT_TEST_FRACTION)


def _resplit(data: Data, test_fraction: float) -> Data:
    """Joins both parts and splits them anew, in a fixed random way."""
    x = np.concatenate([data.x_train, data.x_test])
    held_out = round(test_fraction * len(x))
    if not 0 < held_out < len(x):
        raise ValueError(
            f"`test_fraction` must leave examples in both parts of {len(x)}. "
            f"Received: {test_fraction}."
        )
    train, test = preprocessing.split_indices(len(x), held_out)
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


def _with_bits(data: Data, n_bits: int) -> Data:
    if data.levels != 256:
        raise ValueError(
            f"`n_bits` must be None for anything but 8-bit images. Received: {n_bits} "
            f"for {data.name!r}."
        )
    return dataclasses.replace(
        data,
        x_train=preprocessing.reduce_bits(data.x_train, n_bits),
        x_test=preprocessing.reduce_bits(data.x_test, n_bits),
        levels=2**n_bits,
    )
