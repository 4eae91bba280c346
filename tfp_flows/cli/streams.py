"""Files of rows that are written as they come, whole or absent in the end."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfp_flows.cli import output

FORMATS = (".npy", ".csv", ".parquet")
Append = Callable[[np.ndarray], Any]


@contextlib.contextmanager
def rows(
    path: Path, n: int | None, row_shape: Sequence[int], names: Sequence[str]
) -> Iterator[Append]:
    """Opens a file for rows of float32 numbers; memory does not grow with their count.

    Args:
        path: A `.npy`, `.csv` or `.parquet` file, written beside and renamed.
        n: How many rows there will be; None if that is not known yet.
        row_shape: The shape of one row; tables get it flattened.
        names: The columns of a table.

    Yields:
        A function that takes the next rows, `[k, *row_shape]`.
    """
    with output.written_beside(path) as beside:
        if path.suffix.lower() == ".npy":
            opened = _npy(beside, n, tuple(row_shape))
        elif path.suffix.lower() == ".csv":
            opened = _csv(beside, list(names))
        else:
            opened = _parquet(beside, list(names))
        with opened as append:
            yield append


@contextlib.contextmanager
def _npy(path: Path, n: int | None, row_shape: tuple[int, ...]) -> Iterator[Append]:
    """Writes the numbers behind a header, which is written anew with their count."""
    written = 0

    def header(count: int) -> dict[str, Any]:
        shape = (count, *row_shape)
        return {"descr": "<f4", "fortran_order": False, "shape": shape}

    with path.open("w+b") as file:
        # The format leaves room in a header for a larger count.
        np.lib.format.write_array_header_1_0(file, header(n or 0))
        start = file.tell()

        def append(x: np.ndarray) -> None:
            nonlocal written
            written += len(x)
            np.ascontiguousarray(x, "<f4").tofile(file)

        yield append
        file.flush()
        if written != (n or 0):
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, header(written))
            if file.tell() != start:
                raise OSError(f"{path.name} has more rows than its header has room for")


@contextlib.contextmanager
def _csv(path: Path, names: list[str]) -> Iterator[Append]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        yield lambda x: writer.writerows(x.reshape(len(x), -1).tolist())


@contextlib.contextmanager
def _parquet(path: Path, names: list[str]) -> Iterator[Append]:
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:

        def append(x: np.ndarray) -> None:
            columns = x.reshape(len(x), -1).astype(np.float32).T
            arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
            writer.write_table(pa.table(arrays, schema=schema))

        yield append
