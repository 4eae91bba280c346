"""Tables with columns of any type from CSV and Parquet files, and back."""

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfp_flows.data.files import arrow_table, checked_path

SUFFIXES = (".csv", ".parquet")


def read_table(path: str | Path) -> pa.Table:
    """Reads a table whose columns keep their types.

    A Parquet file knows the types of its columns. Those of a CSV file are read off its
    text; its first line names the columns, unless it holds nothing but numbers. Text
    that is empty there is an empty text, not a missing value.

    Args:
        path: A ``.csv`` or ``.parquet`` file.

    Returns:
        The table.

    Raises:
        ValueError: If the file is missing, of another kind, or damaged.
    """
    return arrow_table(checked_path(_of_a_table(path)))


def write_table(table: pa.Table, path: str | Path) -> None:
    """Writes a table to a file that is whole or absent.

    Args:
        table: The table.
        path: Where to; the ending, ``.csv`` or ``.parquet``, names the format.

    Raises:
        ValueError: If the ending is another, or the folder is missing.
    """
    path = _of_a_table(path)
    if not path.parent.is_dir():
        raise ValueError(
            f"`path` must lie in an existing folder. Received: {str(path)!r}."
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".table-") as folder:
        written = Path(folder) / path.name
        if path.suffix.lower() == ".parquet":
            pyarrow.parquet.write_table(table, written)
        else:
            pyarrow.csv.write_csv(_without_dictionaries(table), written)
        os.replace(written, path)


def _of_a_table(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"`path` must end in {' or '.join(SUFFIXES)}. Received: {str(path)!r}."
        )
    return path


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """Returns the same values in types that Arrow's CSV writer knows."""
    fields = [
        field.with_type(field.type.value_type)
        if pa.types.is_dictionary(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
