"""Tables of columns by pyarrow, which the other files import when they need it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfp_flows.internal.files import atomic_write

T = TypeVar("T", pa.Table, pa.RecordBatch)

# So many characters of a CSV file show its form; pyarrow looks at as many for types.
SEEN = 2**20


def read(path: Path) -> pa.Table:
    """Reads a CSV or Parquet file with the types of its columns."""
    with readable(path):
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_table(path)
        options = _csv_options(path)
        return _with_names(pyarrow.csv.read_csv(path, **options), path, options)


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
    numbers(_with_names(schema.empty_table(), path, options), path)
    # What looks whole in the first batch may have fractions in a later one.
    options["convert_options"].column_types = {
        field.name: pa.float64()
        for field in schema
        if not pa.types.is_boolean(field.type)
    }
    with pyarrow.csv.open_csv(path, **options) as reader:
        for batch in reader:
            yield _with_names(batch, path, options)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what pyarrow says of a damaged file into one message."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _no_utf8(path) from error
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
    more than none. A first line of numbers, truth values and missing ones is data, but
    for 0, 1, 2, ..., by which pandas names columns. Empty lines count for nothing.
    """
    with path.open(encoding="utf-8-sig") as file:
        lines = [line.strip("\n") for line in file.readlines(SEEN)]
    lines = [line for line in lines if line]
    bare = [re.sub('"[^"]*"', "", line) for line in lines[:2]]
    counts = {mark: {line.count(mark) for line in bare} for mark in ";\t"}
    found = (mark for mark, seen in counts.items() if len(seen) == 1 and 0 not in seen)
    separator = next(found, ",")
    sign = "." if separator == "," else _decimal_sign(lines, separator, path)
    convert = pyarrow.csv.ConvertOptions(decimal_point=sign)
    first = _cells(lines[0], separator) if lines else []
    numbered = [cell for i, cell in enumerate(first) if cell or i]  # the index has none
    names = len(first) > 1 and numbered == [str(i) for i in range(len(numbered))]
    words = {*convert.null_values, *convert.true_values, *convert.false_values}
    names |= any(
        cell not in words and not _is_number(cell.replace(sign, ".")) for cell in first
    )
    return {
        "read_options": pyarrow.csv.ReadOptions(autogenerate_column_names=not names),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=separator),
        "convert_options": convert,
    }


def _decimal_sign(lines: list[str], separator: str, path: Path) -> str:
    """Tells the decimal sign by the first number that shows it; a point if none does.

    Three digits behind a comma, as in `1,200`, may be thousands: they show nothing.
    """
    doubtful = None
    for line in lines:
        if "," not in line and "." not in line:
            continue
        for cell in _cells(line, separator):
            if "." in cell and _is_number(cell):
                return "."
            if "," in cell and _is_number(cell.replace(",", ".")):
                if not re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell):
                    return ","
                doubtful = doubtful or cell
    if doubtful:
        raise ValueError(
            f"{path} must have a number that shows whether commas are decimal signs, "
            f"such as 0,5; if they part thousands, leave them out. Received: {doubtful}"
        )
    return "."


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip(' "') for cell in line.split(separator)]


def _with_names(table: T, path: Path, options: dict[str, Any]) -> T:
    """Names a CSV file's columns x0, x1, ..., or by its first line without spaces."""
    if any(map(pa.types.is_binary, table.schema.types)):  # text in no known encoding
        raise _no_utf8(path)
    names = [name.strip() for name in table.schema.names]
    if options["read_options"].autogenerate_column_names:
        names = [f"x{i}" for i in range(len(names))]
    names[0] = names[0].removeprefix("# ")  # NumPy's mark of a comment
    return table.from_arrays(table.columns, names=names)


def _no_utf8(path: Path) -> ValueError:
    return ValueError(f"{path} must be text in UTF-8. Received: another encoding")


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
