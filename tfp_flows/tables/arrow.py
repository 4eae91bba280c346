"""Arrow tables and their columns as float64 numbers and back, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from tfp_flows.internal.arguments import invalid

if TYPE_CHECKING:
    import pyarrow as pa

# Whole numbers beyond this have no float64 of their own.
EXACT = 2**53
# From here on float64 has nothing between two whole numbers.
FINE = 2**52


class _ArrowStream(Protocol):
    """What speaks Arrow's C interface: tables of pyarrow, pandas and polars."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


TableLike: TypeAlias = "pa.Table | _ArrowStream | Mapping[str, Sequence]"


def as_table(table: TableLike) -> pa.Table:
    """Returns an Arrow table of what can be one.

    That is a `pyarrow.Table` or record batch, a dictionary of columns, or a data frame
    that speaks Arrow's C interface, such as those of pandas and polars; anything else
    is a `TypeError`, and columns that are of no table a `ValueError`.
    """
    import pyarrow as pa

    try:
        if isinstance(table, Mapping):
            table = pa.table({name: _native(table[name]) for name in table})
        elif hasattr(table, "__arrow_c_stream__"):
            if hasattr(table, "iloc"):  # of pandas
                table = table.apply(_native)
            table = pa.table(table)
            # Pandas hands the labels of its rows over as columns.
            pandas = (table.schema.pandas_metadata or {}).get("index_columns", ())
            table = table.drop_columns(
                [name for name in pandas if name in table.column_names]
            )
    except (pa.ArrowException, TypeError) as error:
        must = "have columns of one length and type each"
        raise invalid("table", must, got=str(error).splitlines()[0]) from error
    if not isinstance(table, pa.Table):
        raise TypeError(
            "Argument `table` must be a `pyarrow.Table` or a dictionary of columns; "
            "`tfpf.data.read_table(path)` reads one from a file. "
            f"Received: {type(table).__name__}"
        )
    table = _without_views(table)
    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        must = "have columns of different names"
        raise invalid("table", must, got=f"{twice[0]!r} more than once")
    return table


def _native(column: Any) -> Any:
    """Returns an array, or a series of pandas, in this machine's byte order.

    Arrow knows no other, nor floats wider than float64.
    """
    dtype = getattr(column, "dtype", None)
    if not isinstance(dtype, np.dtype):
        return column
    known = np.dtype(np.float64)
    known = known if dtype.type is np.longdouble else dtype.newbyteorder("=")
    return column if known == dtype else column.astype(known)


def _without_views(table: pa.Table) -> pa.Table:
    """Returns the same text, also in dictionaries, in types that all functions take."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if not pa.types.is_string_view(inner_type(field.type)):
            continue
        kind = pa.large_string()
        if pa.types.is_dictionary(field.type):
            kind = pa.dictionary(field.type.index_type, kind, field.type.ordered)
        table = table.set_column(i, field.with_type(kind), table[i].cast(kind))
    return table


def complete_rows(table: TableLike) -> pa.Table:
    """Returns the rows of a table in which no value is missing: null or NaN.

    Example:
        >>> complete_rows({"a": [1, None, 3], "b": ["x", "y", None]}).num_rows
        1
    """
    import pyarrow as pa

    table = as_table(table)
    complete = np.ones(table.num_rows, bool)
    for column in table.columns:
        complete &= ~_missing(column)
    return table.filter(pa.array(complete))


def refuse_missing(name: str, column: pa.ChunkedArray, remedy: str = "") -> None:
    """Raises `ValueError` if a value of a column is null or NaN."""
    missing = np.flatnonzero(_missing(column))
    if len(missing):
        raise ValueError(
            f"Column {name!r} must have a value in every row; drop incomplete rows "
            f"with `tfpf.tables.complete_rows(table)`{remedy}. "
            f"Received: {len(missing)} "
            f"missing value(s), the first in row {missing[0] + 1}"
        )


def _missing(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.ones(len(column), bool)
    return column.is_null(nan_is_null=True).to_numpy()


def inner_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of a column's values, those of a dictionary included."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text."""
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column's values are numbers that `to_numbers` knows."""
    import pyarrow as pa

    return pa.types.is_floating(kind) or is_whole(kind)


def is_whole(kind: pa.DataType) -> bool:
    """Whether a type holds whole numbers; a date is the number of its day."""
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_date32(kind)


def to_numbers(name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Returns a column's values `[n]` in float64, without rounding any.

    They are floats, integers, or dates, which count days since 1970.
    """
    import pyarrow as pa

    if not is_numeric(column.type):
        raise ValueError(
            f"Column {name!r} must hold numbers. Received: values of type {column.type}"
        )
    refuse_missing(name, column)
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    values = column.to_numpy()
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if max(-low, high) > EXACT:
            raise ValueError(
                f"Column {name!r} must hold whole numbers up to 2**53, which float64 "
                "tells apart; drop it if it holds identifiers. "
                f"Received: values from {low} to {high}"
            )
    values = values.astype(np.float64)
    if not np.all(np.isfinite(values)):
        row = np.flatnonzero(~np.isfinite(values))[0]
        raise ValueError(
            f"Column {name!r} must hold finite numbers. "
            f"Received: {values[row]} in row {row + 1}"
        )
    return values


def from_numbers(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Returns numbers as an Arrow array; whole types round and clip to their range."""
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return pa.array(values.astype(kind.to_pandas_dtype()), kind)
    stored = pa.int32() if pa.types.is_date32(kind) else kind
    limits = np.iinfo(stored.to_pandas_dtype())
    low, high = max(limits.min, -EXACT), min(limits.max, EXACT)
    whole = np.clip(np.rint(values), low, high).astype(stored.to_pandas_dtype())
    return pa.array(whole, stored).cast(kind)
