"""Tables and images in files: read whole or in shards, every value checked."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfp_flows.internal.arguments import invalid

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ROWS = 10
TABLE_SUFFIXES = (".csv", ".parquet")
SUFFIXES = (".npy", ".npz", *TABLE_SUFFIXES)
# So many values of a shard are in memory at once: 32 MB of them in float64.
SHARD_VALUES = 2**22
# Shards are whole multiples of what dequantization noise is drawn for at once.
NOISE_ROWS = 256
# So much of a column's standard deviation may be lost to rounding.
LARGEST_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class FileData:
    """What a file holds.

    Attributes:
        x: A table `[n, columns]` in float32, or float64 where float32 would round away
            how rows differ; or images `[n, height, width, channels]` in uint8 (whole
            pixel values) or float32 (anything else).
        columns: The names of a table's columns, None for images.
    """

    x: np.ndarray
    columns: tuple[str, ...] | None


def read_file(
    path: str | Path, key: str | None = None, *, for_training: bool = True
) -> FileData:
    """Reads a table or images and checks every value.

    Args:
        path: A `.npy`, `.npz`, `.csv` or `.parquet` file. A 2-D array is a table, a 1-D
            one its only column, a 4-D one channels-last images. A CSV file may start
            with a line of column names.
        key: Which array of an `.npz` file; not needed if there is only one, and None
            for all other files.
        for_training: If False, a single row will do and columns may be constant, as for
            data whose density is only evaluated.

    Raises:
        ValueError: If the file is missing, damaged, ragged or empty, has too few
            rows, text, missing or infinite values, or constant columns.
    """
    path = _existing(path)
    check_key(path, key)
    if path.suffix.lower() in TABLE_SUFFIXES:
        from tfp_flows.data import arrow

        x, columns = arrow.numbers(arrow.read(path), path)
    else:
        x, columns = _read_array(path, key), None
    rows = MIN_ROWS if for_training else 1
    if x.ndim > 0 and len(x) < rows:
        raise ValueError(f"{path} must have at least {rows} rows. Received: {len(x)}")
    if x.ndim == 2:
        columns = columns or tuple(f"x{i}" for i in range(x.shape[1]))
        x = narrowed(_checked_table(x, columns, path))
    else:
        x = _checked_images(x, path)
    if for_training and x.dtype != np.uint8:
        _refuse_constant(x, columns, path)
    return FileData(x, columns)


def read_shards(path: str | Path, key: str | None = None) -> Iterator[FileData]:
    """Reads a table or images in shards, and checks every value as it comes.

    Memory does not grow with the file, but for an `.npz` file, which is unpacked whole.
    Nothing is checked that a single row cannot show, such as constant columns, and
    tables keep float64. See `read_file`, whose rows are those of all shards together.
    """
    path = _existing(path)
    check_key(path, key)
    shards = iter(())
    if path.suffix.lower() in TABLE_SUFFIXES:
        shards = _table_shards(path)
    elif path.suffix.lower() == ".npy":
        shards = _array_shards(path)
    first = next(shards, None)
    if first is None:  # an archive, or an empty file, of which the reader says so
        first = read_file(path, key, for_training=False)
    yield from itertools.chain([first], shards)


def read_table(path: str | Path) -> pa.Table:
    """Reads a table whose columns keep their types.

    Those of a CSV file are read off its text; its first line names the columns, unless
    it holds nothing but numbers, truth values and missing values. Empty text in a
    column of text is no missing value.
    """
    from tfp_flows.data import arrow

    return arrow.read(_existing(_with_suffix(path, TABLE_SUFFIXES)))


def write_table(table: pa.Table, path: str | Path) -> None:
    """Writes a table to a `.csv` or `.parquet` file, atomically."""
    from tfp_flows.data import arrow

    arrow.write(table, _with_suffix(path, TABLE_SUFFIXES))


def check_key(name: str | Path, key: str | None) -> None:
    """Refuses to choose an array of what holds no several."""
    if key is not None and Path(name).suffix.lower() != ".npz":
        raise invalid("key", f"be None for {name}, which is no .npz file", key)


def _with_suffix(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise invalid("path", f"end in one of {', '.join(suffixes)}", str(path))
    return path


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise invalid("path", "be an existing file", str(path))
    return _with_suffix(path, SUFFIXES)


def _read_array(
    path: Path, key: str | None = None, *, mapped: bool = False
) -> np.ndarray:
    """Loads one array of real numbers from a NumPy file without ever unpickling.

    With `mapped` the values of a `.npy` file stay on disk until they are used.
    """
    try:
        if mapped:
            loaded = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file:  # `np.load` leaves a damaged file open
                loaded = np.load(file, allow_pickle=False)
                if not isinstance(loaded, np.ndarray):
                    loaded = loaded[_chosen_key(list(loaded), key, path)]
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as NumPy data: {error}") from error
    except ValueError as error:
        if not mapped and "pickle" not in str(error):
            raise
        raise ValueError(
            f"{path} must be a NumPy file of plain numbers. Received: a file of Python "
            f"objects, or no NumPy file at all"
        ) from error
    if loaded.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} must hold real numbers. Received: an array of {loaded.dtype}"
        )
    # As a file of text with one number a line: a table of one column.
    return loaded[:, np.newaxis] if loaded.ndim == 1 else loaded


def _chosen_key(keys: list[str], key: str | None, path: Path) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        raise invalid(
            "key", f"name one of the arrays of {path} ({', '.join(keys)})", key
        )
    return key


def _shard_rows(row_shape: tuple[int, ...]) -> int:
    rows = SHARD_VALUES // max(1, math.prod(row_shape))
    return max(1, rows // NOISE_ROWS) * NOISE_ROWS


def _array_shards(path: Path) -> Iterator[FileData]:
    x = _read_array(path, mapped=True)
    if x.ndim not in (2, 4):
        _checked_images(x, path)  # which says what shapes there may be
    rows = _shard_rows(x.shape[1:])
    shards = [slice(start, start + rows) for start in range(0, len(x), rows)]
    if x.ndim == 2:
        columns = tuple(f"x{i}" for i in range(x.shape[1]))
        for shard in shards:
            table = _checked_table(x[shard], columns, path, shard.start)
            yield FileData(table, columns)
        return
    # One fraction anywhere, and no image is one of whole pixel values.
    fractions = x.dtype.kind == "f" and any(
        not np.all(x[shard] == np.floor(x[shard])) for shard in shards
    )
    for shard in shards:
        images = _checked_images(x[shard], path, shard.start)
        yield FileData(images.astype(np.float32) if fractions else images, None)


def _table_shards(path: Path) -> Iterator[FileData]:
    from tfp_flows.data import arrow

    start = 0
    with arrow.readable(path):
        for batch in arrow.record_batches(path, _shard_rows):
            if not batch.num_rows:
                continue
            x, columns = arrow.numbers(batch, path)
            x = _checked_table(x, columns, path, start)
            start += len(x)
            yield FileData(x, columns)


def _checked_table(
    x: np.ndarray, columns: tuple[str, ...], path: Path, start: int = 0
) -> np.ndarray:
    """Checks rows of a table, of which `start` came before, and makes them floats."""
    if x.shape[1] == 0:
        raise ValueError(f"{path} must have at least one column. Received: none")
    exact = np.can_cast(x.dtype, np.float32)
    x = np.ascontiguousarray(x, np.float32 if exact else np.float64)
    bad = np.argwhere(~(np.abs(x) <= np.finfo(np.float32).max))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{path} must hold finite numbers in float32's range only. Received: "
            f"{x[row, column]} in row {start + row + 1}, column {columns[column]!r} "
            f"({len(bad)} such value(s) in all)"
        )
    return x


def narrowed(x: np.ndarray) -> np.ndarray:
    """Returns `[n, columns]` in float32, or as they are if that would lose too much.

    A column loses too much if it is rounded, and by more than a share of its deviation.
    """
    small = x.astype(np.float32)
    spacing = np.spacing(np.abs(small).max(axis=0))
    spacing = np.maximum(spacing, np.finfo(np.float32).tiny)  # less may become 0
    coarse = spacing > LARGEST_ROUNDING * x.std(axis=0, dtype=np.float64)
    return x if np.any(coarse & np.any(small != x, axis=0)) else small


def _checked_images(x: np.ndarray, path: Path, start: int = 0) -> np.ndarray:
    """Checks images, `start` came before: 0..255 become uint8, fractions float32."""
    if x.ndim != 4:
        hint = "; add a channel axis with `x[..., None]`" if x.ndim == 3 else ""
        raise ValueError(
            f"{path} must hold a 2-D table or 4-D images [n, height, width, channels]"
            f"{hint}. Received: the shape {x.shape}"
        )
    if x.size == 0 or (x.shape[1] in (1, 3) and x.shape[3] > 4):
        raise ValueError(
            f"{path} must hold channels-last images [n, height, width, channels]. "
            f"Received: the shape {x.shape}"
        )
    bad = np.flatnonzero(~np.all(np.isfinite(x), axis=(1, 2, 3)))
    if bad.size:
        raise ValueError(
            f"{path} must hold finite numbers only. Received: NaN or infinity in image "
            f"{start + bad[0] + 1} ({bad.size} such image(s) in all)"
        )
    if x.dtype.kind == "f" and not np.all(x == np.floor(x)):
        return np.ascontiguousarray(x, np.float32)
    if x.min() < 0 or x.max() > 255:
        raise ValueError(
            f"{path} must hold whole pixel values in 0..255, or fractions. Received: "
            f"whole numbers from {x.min()} to {x.max()}"
        )
    return x.astype(np.uint8)


def _refuse_constant(
    x: np.ndarray, columns: tuple[str, ...] | None, path: Path
) -> None:
    """Refuses continuous data that have no density because a column never varies."""
    constant = np.argwhere(np.all(x == x[:1], axis=0))
    if not constant.size:
        return
    if columns is None:
        pixel = tuple(constant[0].tolist())
        raise ValueError(
            f"{path} must hold whole pixel values in 0..255, or images whose every "
            f"pixel varies. Received: fractions with a constant pixel at {pixel}"
        )
    names = ", ".join(repr(columns[i]) for (i,) in constant)
    raise ValueError(
        f"{path} must have no constant columns, for they have no density; drop them. "
        f"Received: the same value in every row of {names}"
    )
