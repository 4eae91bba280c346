"""Image sets of TensorFlow Datasets, with a look at the disk before the network."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.registered import DatasetNotFoundError

from tfp_flows.internal.arguments import invalid

CONNECT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """One split: uint8 images `[n, height, width, channels]`, and class numbers."""

    images: np.ndarray
    labels: np.ndarray | None

    def first(self, n: int) -> LabelledImages:
        """The first `n` images."""
        labels = None if self.labels is None else self.labels[:n]
        return LabelledImages(self.images[:n], labels)


def load_images(
    name: str,
    data_dir: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
) -> dict[str, LabelledImages]:
    """Loads the `train` and, where there is one, `test` split into memory.

    TFDS itself tries an unreachable server for minutes. So a prepared copy is looked
    for first, then the original files in `data_dir/downloads/manual`, and only then
    the server, after one short try whether it answers.

    Args:
        name: A TFDS name such as `"mnist"` or `"imagenet_resized/32x32"`.
        data_dir: Where TFDS keeps its data. None means the environment variable
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`, as in TFDS.
        image_size: Height and width to crop (centrally, to a square if the target is
            one) and resize to; needed where images have many sizes.

    Raises:
        ValueError: If TFDS knows no such image set, or there is neither a local copy
            nor an answer from its server.
    """
    builder = _builder(name, data_dir)
    image_key, label_key = _keys(builder)
    shape = _features(builder)[image_key].shape
    if image_size is None and None in shape:
        raise invalid(
            "image_size", f"be given for {name!r}, whose images have many sizes", None
        )
    if not builder.is_prepared():
        _prepare(builder)
    splits = builder.info.splits
    test = next((s for s in ("test", "validation") if s in splits), None)
    wanted = {"train": "train"} | ({"test": test} if test else {})
    return {
        name: _in_memory(builder, split, image_key, label_key, image_size)
        for name, split in wanted.items()
    }


def _builder(name: str, data_dir: str | Path | None) -> tfds.core.DatasetBuilder:
    # TFDS reads its environment variable only once, when it is imported.
    directory = data_dir or os.environ.get("TFDS_DATA_DIR")
    try:
        return tfds.builder(name, data_dir=directory and str(directory), try_gcs=False)
    except DatasetNotFoundError as error:
        raise invalid(
            "name", "be a toy set, `digits`, a file or a TFDS image set", name
        ) from error
    except ValueError as error:  # an unknown version or configuration
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"TFDS cannot make {name!r}: {reason}") from error


def _features(builder: tfds.core.DatasetBuilder) -> Any:
    return builder.info.features or {}


def _keys(builder: tfds.core.DatasetBuilder) -> tuple[str, str | None]:
    """Finds which features are the image and its class."""
    features = _features(builder)
    images = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
    if not images or features[images[0]].np_dtype != np.uint8:
        must = "be a TFDS set of 8-bit images"
        got = f"name={builder.name!r} with the features {', '.join(features)}"
        raise invalid("name", must, got=got)
    classes = [
        k for k, v in features.items() if isinstance(v, tfds.features.ClassLabel)
    ]
    supervised: Any = builder.info.supervised_keys or ()
    image = next((k for k in supervised if k in images), images[0])
    label = next((k for k in (*supervised, "label") if k in classes), None)
    return image, label


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a set from files on disk or, if its server answers, by download."""
    manual = Path(builder.data_dir_root) / "downloads" / "manual"
    files = {url: info.filename for url, info in (builder.url_infos or {}).items()}
    on_disk = files and all((manual / file).is_file() for file in files.values())
    if not on_disk and not any(_answers(url) for url in list(files)[:1]):
        wanted = ", ".join(sorted(set(files.values()))[:4]) or "its files"
        raise ValueError(
            f"{builder.name!r} has no copy in {builder.data_dir_root} and its server "
            f"does not answer: put {wanted} into {manual}, or set `data_dir` or the "
            f"environment variable TFDS_DATA_DIR to a folder with a prepared copy"
        )
    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # TFDS raises whatever its many scripts raise
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"TFDS could not prepare {builder.name!r} in {builder.data_dir_root}: "
            f"{reason}"
        ) from error


def _answers(url: str) -> bool:
    """Whether a server can be reached, within seconds."""
    try:
        with requests.get(url, stream=True, timeout=CONNECT_SECONDS) as response:
            return response.ok
    except requests.RequestException:
        return False


def _in_memory(
    builder: tfds.core.DatasetBuilder,
    split: str,
    image_key: str,
    label_key: str | None,
    image_size: tuple[int, int] | None,
) -> LabelledImages:
    """Reads a split, in a fixed order, into one array."""

    def pick(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = example[image_key]
        if image_size is not None:
            image = _crop_and_resize(image, image_size)
        return image, example[label_key] if label_key else tf.constant(0, tf.int64)

    config = tfds.ReadConfig(try_autocache=False)
    examples = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    batches = examples.map(pick, num_parallel_calls=2).batch(1024).prefetch(2)
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return LabelledImages(
        np.concatenate(images), np.concatenate(labels) if label_key else None
    )


def _crop_and_resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Crops the centre to the target's aspect ratio and resizes with antialiasing."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    scale = tf.minimum(height / size[0], width / size[1])
    crop = [tf.cast(tf.round(scale * side), tf.int32) for side in size]
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    image = image[top : top + crop[0], left : left + crop[1]]
    resized = tf.image.resize(image, size, method="area")
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
