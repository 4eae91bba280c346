"""Reads tables and images from files, and says in one sentence what is wrong."""

import contextlib
import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

MIN_ROWS = 10
SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


@dataclasses.dataclass(frozen=True)
class FileData:
    """What a file holds.

    Attributes:
        x: A table ``[n, columns]`` in float32, or images ``[n, height, width,
            channels]`` in uint8 (whole pixel values) or float32 (anything else).
        columns: The names of a table's columns, None for images.
    """

    x: np.ndarray
    columns: tuple[str, ...] | None


def read_file(
    path: str | Path, key: str | None = None, *, for_training: bool = True
) -> FileData:
    """Reads a table or images and checks every value.

    Args:
        path: A ``.npy``, ``.npz``, ``.csv`` or ``.parquet`` file. A 2-D array is a
            table, a 4-D one channels-last images. A CSV file may start with a line of
            column names.
        key: Which array of an ``.npz`` file; not needed if there is only one.
        for_training: If False, a single row will do and columns may be constant, as
            for data whose density is only evaluated.

    Returns:
        The checked data.

    Raises:
        ValueError: If the file is missing, damaged, ragged or empty, has too few
            rows, text, missing or infinite values, or constant columns.
    """
    path = checked_path(path)
    if path.suffix.lower() in (".csv", ".parquet"):
        x, columns = _read_columns(path)
    else:
        x, columns = read_array(path, key), None
    rows = MIN_ROWS if for_training else 1
    if x.ndim > 0 and len(x) < rows:
        raise ValueError(f"{path} must have at least {rows} rows. Received: {len(x)}.")
    if x.ndim == 2:
        columns = columns or tuple(f"x{i}" for i in range(x.shape[1]))
        x = checked_table(x, columns, path)
    else:
        x = checked_images(x, path)
    if for_training and x.dtype != np.uint8:
        _refuse_constant(x, columns, path)
    return FileData(x, columns)


def checked_path(path: str | Path) -> Path:
    """Returns the path of a file of a known kind, or raises a `ValueError`."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"`path` must be an existing file. Received: {str(path)!r}.")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"`path` must end in one of {', '.join(SUFFIXES)}. Received: {str(path)!r}."
        )
    return path


def read_array(
    path: Path, key: str | None = None, *, mapped: bool = False
) -> np.ndarray:
    """Loads one array of real numbers from a NumPy file without ever unpickling.

    Args:
        path: A ``.npy`` or ``.npz`` file.
        key: Which array of an ``.npz`` file.
        mapped: Whether to leave a ``.npy`` file's numbers on disk until they are used.

    Returns:
        The array.

    Raises:
        ValueError: If there is no such array, or it is not of real numbers.
    """
    try:
        if mapped:
            loaded = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file:  # `np.load` leaves a damaged file open
                loaded = np.load(file, allow_pickle=False)
                if not isinstance(loaded, np.ndarray):
                    loaded = loaded[_choose_key(list(loaded), key, path)]
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as NumPy data: {error}.") from error
    except ValueError as error:
        if not mapped and "pickle" not in str(error):
            raise
        raise ValueError(
            f"{path} must be a NumPy file of plain numbers. Received: a file of Python "
            f"objects, or no NumPy file at all."
        ) from error
    if loaded.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} must hold real numbers. Received: an array of {loaded.dtype}."
        )
    return loaded


def _choose_key(keys: list[str], key: str | None, path: Path) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        raise ValueError(
            f"`key` must name one of the arrays of {path} ({', '.join(keys)}). "
            f"Received: {key!r}."
        )
    return key


def _read_columns(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads the columns of a CSV or Parquet file as one float64 array."""
    return numbers(arrow_table(path), path)


def arrow_table(path: Path) -> pa.Table:
    """Reads a CSV or Parquet file with the types of its columns."""
    with readable_table(path):
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.csv.read_csv(path, read_options=_csv_options(path))


@contextlib.contextmanager
def readable_table(path: Path) -> Iterator[None]:
    """Turns what pyarrow says of a damaged file into one sentence."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"{path} cannot be read as a table: {reason}.") from error


def numbers(table: pa.Table, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns a table's columns as one float64 array, and their names."""
    if table.num_columns == 0:
        raise ValueError(f"{path} must have at least one column. Received: none.")
    for field in table.schema:
        if not _is_numeric(field.type):
            raise ValueError(
                f"Column {field.name!r} of {path} must hold numbers; drop it or turn "
                f"it into numbers. Received: values of type {field.type}."
            )
    columns = [c.cast(pa.float64(), safe=False).to_numpy() for c in table.columns]
    return np.stack(columns, axis=1), tuple(table.column_names)


def _is_numeric(kind: pa.DataType) -> bool:
    """Whether a column's values are numbers; an empty one counts, as all missing."""
    tests = ("is_integer", "is_floating", "is_decimal", "is_boolean", "is_null")
    return any(getattr(pa.types, test)(kind) for test in tests)


@contextlib.contextmanager
def open_csv(path: Path) -> Iterator[pyarrow.csv.CSVStreamingReader]:
    """Opens a CSV file of numbers, to be read batch by batch."""
    options = _csv_options(path)
    with pyarrow.csv.open_csv(path, read_options=options) as reader:
        schema = reader.schema
    numbers(schema.empty_table(), path)
    # What looks whole in the first batch may have fractions in a later one.
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.float64() for name in schema.names}
    )
    with pyarrow.csv.open_csv(
        path, read_options=options, convert_options=convert
    ) as reader:
        yield reader


def _csv_options(path: Path) -> pyarrow.csv.ReadOptions:
    """Takes the first line for data if it holds nothing but numbers."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().strip().split(",")
    names = any(not _is_number(cell.strip().strip('"')) for cell in first)
    return pyarrow.csv.ReadOptions(autogenerate_column_names=not names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def checked_table(
    x: np.ndarray, columns: tuple[str, ...], path: Path, start: int = 0
) -> np.ndarray:
    """Checks rows of a table, of which `start` came before, and makes them float32."""
    if x.shape[1] == 0:
        raise ValueError(f"{path} must have at least one column. Received: none.")
    with np.errstate(over="ignore"):  # what overflows float32 is reported as infinite
        x = np.ascontiguousarray(x, np.float32)
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{path} must hold finite float32 numbers only. Received: "
            f"{x[row, column]} in row {start + row + 1}, column {columns[column]!r} "
            f"({len(bad)} such value(s) in all)."
        )
    return x


def checked_images(x: np.ndarray, path: Path, start: int = 0) -> np.ndarray:
    """Checks images, of which `start` came before.

    Whole numbers in 0..255 come back as uint8, others as float32.
    """
    if x.ndim != 4:
        hint = "; add a channel axis with `x[..., None]`" if x.ndim == 3 else ""
        raise ValueError(
            f"{path} must hold a 2-D table or 4-D images [n, height, width, channels]"
            f"{hint}. Received: the shape {x.shape}."
        )
    if x.size == 0 or (x.shape[1] in (1, 3) and x.shape[3] > 4):
        raise ValueError(
            f"{path} must hold channels-last images [n, height, width, channels]. "
            f"Received: the shape {x.shape}."
        )
    bad = np.flatnonzero(~np.all(np.isfinite(x), axis=(1, 2, 3)))
    if bad.size:
        raise ValueError(
            f"{path} must hold finite numbers only. Received: NaN or infinity in image "
            f"{start + bad[0] + 1} ({bad.size} such image(s) in all)."
        )
    if x.dtype.kind == "f" and not np.all(x == np.floor(x)):
        return np.ascontiguousarray(x, np.float32)
    if x.min() < 0 or x.max() > 255:
        raise ValueError(
            f"{path} must hold whole pixel values in 0..255, or fractions. Received: "
            f"whole numbers from {x.min()} to {x.max()}."
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
            f"pixel varies. Received: fractions with a constant pixel at {pixel}."
        )
    names = ", ".join(repr(columns[i]) for (i,) in constant)
    raise ValueError(
        f"{path} must have no constant columns, for they have no density; drop them. "
        f"Received: the same value in every row of {names}."
    )
