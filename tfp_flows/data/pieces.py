"""Reads files that are larger than memory, piece by piece."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfp_flows.data import files
from tfp_flows.data.files import FileData

# So many numbers are in memory at once: 16 MB of them in float32.
NUMBERS_AT_ONCE = 2**22
# Pieces are whole multiples of what dequantization noise is drawn for at once.
MULTIPLE = 256


def read_pieces(path: str | Path, key: str | None = None) -> Iterator[FileData]:
    """Reads a table or images in pieces, and checks every value as it comes.

    Memory does not grow with the file, but for an `.npz` file, which has to be
    unpacked whole. Nothing is checked that a single row cannot show, such as constant
    columns.

    Args:
        path: A ``.npy``, ``.npz``, ``.csv`` or ``.parquet`` file, as for `read_file`.
        key: Which array of an ``.npz`` file; not needed if there is only one.

    Yields:
        The rows in order; the pieces together are what `read_file` gives.

    Raises:
        ValueError: As `read_file`, at the piece that is wrong.
    """
    path = files.checked_path(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        yield files.read_file(path, key, for_training=False)
        return
    if suffix == ".npy":
        pieces = _array_pieces(path)
    else:
        pieces = _table_pieces(path)
    first = next(pieces, None)
    if first is None:
        # The whole-file reader knows how to say what is wrong with an empty one.
        yield files.read_file(path, key, for_training=False)
        return
    yield from itertools.chain([first], pieces)


def _rows_at_once(row_shape: tuple[int, ...]) -> int:
    rows = NUMBERS_AT_ONCE // max(1, math.prod(row_shape))
    return max(1, rows // MULTIPLE) * MULTIPLE


def _array_pieces(path: Path) -> Iterator[FileData]:
    x = files.read_array(path, mapped=True)
    if x.ndim not in (2, 4):
        files.checked_images(x[:0], path)  # which says what shapes there may be
    rows = _rows_at_once(x.shape[1:])
    parts = [slice(start, start + rows) for start in range(0, len(x), rows)]
    if x.ndim == 2:
        columns = tuple(f"x{i}" for i in range(x.shape[1]))
        for part in parts:
            yield FileData(
                files.checked_table(x[part], columns, path, part.start), columns
            )
        return
    # One fraction anywhere, and no image is one of whole pixel values.
    fractions = x.dtype.kind == "f" and any(
        not np.all(x[part] == np.floor(x[part])) for part in parts
    )
    for part in parts:
        images = files.checked_images(x[part], path, part.start)
        yield FileData(images.astype(np.float32) if fractions else images, None)


def _table_pieces(path: Path) -> Iterator[FileData]:
    start = 0
    with files.readable_table(path):
        for batch in _record_batches(path):
            if not batch.num_rows:
                continue
            x, columns = files.numbers(pa.Table.from_batches([batch]), path)
            x = files.checked_table(x, columns, path, start)
            start += len(x)
            yield FileData(x, columns)


def _record_batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = _rows_at_once((max(1, file.metadata.num_columns),))
            yield from file.iter_batches(batch_size=rows)
        return
    with files.open_csv(path) as reader:
        yield from reader
