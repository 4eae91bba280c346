"""Tables of columns by pyarrow, which the other files import when they need it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfp_flows.internal.files import atomic_write


def read(path: Path) -> pa.Table:
    """Reads a CSV or Parquet file with the types of its columns."""
    with readable(path):
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.csv.read_csv(path, **_csv_options(path))


def write(table: pa.Table, path: Path) -> None:
    """Writes a CSV or Parquet file, atomically."""
    with atomic_write(path) as written:
        if path.suffix.lower() == ".parquet":
            pyarrow.parquet.write_table(table, written)
        else:
            pyarrow.csv.write_csv(_without_dictionaries(table), written)


def record_batches(
    path: Path, rows_of: Callable[[tuple[int]], int]
) -> Iterator[pa.RecordBatch]:
    """Reads a file of numbers in batches."""
    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = rows_of((max(1, file.metadata.num_columns),))
            yield from file.iter_batches(batch_size=rows)
        return
    options = _csv_options(path)
    with pyarrow.csv.open_csv(path, **options) as reader:
        schema = reader.schema
    numbers(schema.empty_table(), path)
    # What looks whole in the first batch may have fractions in a later one.
    options["convert_options"].column_types = {
        name: pa.float64() for name in schema.names
    }
    with pyarrow.csv.open_csv(path, **options) as reader:
        yield from reader


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what pyarrow says of a damaged file into one message."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"{path} cannot be read as a table: {reason}") from error


def numbers(
    table: pa.Table | pa.RecordBatch, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns a table's columns as one float64 array, and their names."""
    if table.num_columns == 0:
        raise ValueError(f"{path} must have at least one column. Received: none")
    # An empty column counts as numeric, as all missing.
    tests = ("is_integer", "is_floating", "is_decimal", "is_boolean", "is_null")
    for field in table.schema:
        if not any(getattr(pa.types, test)(field.type) for test in tests):
            raise ValueError(
                f"Column {field.name!r} of {path} must hold numbers; drop it or turn "
                f"it into numbers. Received: values of type {field.type}"
            )
    columns = [
        np.asarray(column.cast(pa.float64(), safe=False)) for column in table.columns
    ]
    return np.stack(columns, axis=1), tuple(table.schema.names)


def _csv_options(path: Path) -> dict[str, Any]:
    """Tells the separator, the decimal sign and whether there is a line of names.

    A semicolon or a tab separates cells if both of the first two lines have as many,
    more than none; a number such as `1,5` there says that commas are decimal signs. A
    first line of nothing but numbers is data.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [file.readline().strip("\r\n\ufeff") for _ in range(2)]
    bare = [re.sub('"[^"]*"', "", line) for line in lines if line]
    counts = {mark: {line.count(mark) for line in bare} for mark in ";\t"}
    found = (mark for mark, seen in counts.items() if len(seen) == 1 and 0 not in seen)
    separator = next(found, ",")
    rows = [[cell.strip(' "') for cell in line.split(separator)] for line in lines]
    comma = separator != "," and any(
        "," in cell and _is_number(cell.replace(",", ".")) for cell in sum(rows, [])
    )
    sign = "," if comma else "."
    names = any(not _is_number(cell.replace(sign, ".")) for cell in rows[0])
    return {
        "read_options": pyarrow.csv.ReadOptions(autogenerate_column_names=not names),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=separator),
        "convert_options": pyarrow.csv.ConvertOptions(decimal_point=sign),
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """Returns the same values in types that Arrow's CSV writer knows."""
    fields = [
        field.with_type(field.type.value_type)
        if pa.types.is_dictionary(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
