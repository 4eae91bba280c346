"""`Schema`: the columns of a table, in order, and rows of numbers for them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt
from tensorflow_probability import bijectors as tfb

from tfp_flows.distributions.tables import Dequantizer
from tfp_flows.internal.arguments import Config, invalid
from tfp_flows.tables.arrow import (
    FINE,
    TableLike,
    as_table,
    inner_type,
    is_numeric,
    is_text,
    is_whole,
)
from tfp_flows.tables.columns import Categorical, Column, Continuous, Integer

if TYPE_CHECKING:
    import pyarrow as pa

KINDS: dict[str, Column] = {
    "continuous": Continuous(),
    "integer": Integer(),
    "categorical": Categorical(),
}

MIN_ROWS = 10
MAX_CATEGORIES = 50


@keras.saving.register_keras_serializable(package="tfp_flows")
class Schema:
    """What the columns of a table are: their names, Arrow types, kinds and transforms.

    Rows are encoded as numbers `[n, C]`, one for each column, and decoded to a table
    with the same columns, in the same order, of the same types.

    Args:
        arrow: Names and types, as an Arrow schema or as the text of one in a file.

    Example:
        >>> table = {"age": [31, 45, 27, 60, 52] * 4, "sex": ["f", "m"] * 10}
        >>> print(Schema.infer(table))
        age  int64   integer, quantile, 0 to ...
        sex  string  categorical, 2 categories
    """

    def __init__(self, arrow: pa.Schema | str, columns: Mapping[str, Column]) -> None:
        if isinstance(arrow, str):
            import pyarrow as pa

            buffer = pa.py_buffer(base64.b64decode(arrow))
            arrow = pa.ipc.read_schema(buffer)
        self.arrow = arrow
        self.columns = {name: columns[name] for name in arrow.names}

    @classmethod
    def infer(
        cls, table: TableLike, columns: Mapping[str, Column | str] | None = None
    ) -> Schema:
        """Reads kinds and transforms off a table.

        | values | kind |
        |---|---|
        | text, truth values, Arrow dictionaries | `Categorical`, up to 50 categories |
        | integers, or whole floats below 2**52, with 2 different values | the same |
        | others of those, and dates | `Integer` |
        | all other floats | `Continuous` |

        Args:
            table: At least 10 rows; see `as_table`.
            columns: Kinds of columns that should be something else: `Continuous(...)`,
                `Integer(...)`, `Categorical(...)`, or these names in small letters.
        """
        data = as_table(table)
        if data.num_columns == 0 or data.num_rows < MIN_ROWS:
            must = f"have columns and at least {MIN_ROWS} rows"
            got = f"{data.num_columns} columns and {data.num_rows} rows"
            raise invalid("table", must, got=got)
        chosen = dict(columns or {})
        if unknown := sorted(set(chosen) - set(data.column_names)):
            must = f"name columns of the table, {data.column_names}"
            raise invalid("columns", must, got=f"{unknown[0]!r}")
        fitted = {}
        for name in data.column_names:
            kind = _kind(name, chosen[name]) if name in chosen else None
            kind = kind or _inferred(name, data[name])
            fitted[name] = kind.fitted(name, data[name])
        return cls(data.schema.remove_metadata(), fitted)

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return list(self.columns)

    @property
    def width(self) -> int:
        """Number of real coordinates of a row."""
        return sum(each.width for each in self.dequantizers())

    def dequantizers(self) -> list[Dequantizer]:
        """Returns a new dequantizer for each column."""
        return [column.dequantizer() for column in self.columns.values()]

    def bijector(self) -> tfb.Bijector:
        """Returns the transforms of all coordinates as one bijector, latent to data."""
        return tfb.Blockwise(
            [column.bijector() for column in self.columns.values()],
            block_sizes=[each.width for each in self.dequantizers()],
            maybe_changes_size=False,
            name="columns",
        )

    def encode(self, table: TableLike) -> np.ndarray:
        """Returns the rows of a table as float64 numbers `[n, C]`.

        Raises:
            ValueError: If columns are missing, others are there, or a value is missing,
                infinite or an unknown category; the message says where.
        """
        data = as_table(table)
        names = set(data.column_names)
        if names != set(self.names):
            lacks, has = set(self.names) - names, names - set(self.names)
            must = f"have the columns {self.names}"
            got = f"a table without {sorted(lacks)} and with {sorted(has)}"
            raise invalid("table", must, got=got)
        encoded = [
            column.encode(name, self._cast(name, data[name]))
            for name, column in self.columns.items()
        ]
        return np.stack(encoded, axis=1)

    def decode(self, rows: npt.ArrayLike) -> pa.Table:
        """Returns a table of encoded rows `[n, C]`."""
        import pyarrow as pa

        rows = np.asarray(rows, np.float64)
        arrays = [
            column.decode(rows[:, i], self.arrow.field(name).type)
            for i, (name, column) in enumerate(self.columns.items())
        ]
        return pa.Table.from_arrays(arrays, schema=self.arrow)

    def supports(self, rows: np.ndarray) -> np.ndarray:
        """Returns which encoded rows `[n, C]` can come out of a sample, `[n]`."""
        inside = [
            column.supports(rows[:, i])
            for i, column in enumerate(self.columns.values())
        ]
        return np.all(inside, axis=0)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        text = base64.b64encode(self.arrow.serialize().to_pybytes()).decode("ascii")
        return {"arrow": text, "columns": self.columns}

    @classmethod
    def from_config(cls, config: Config) -> Schema:
        """Builds the schema that `get_config` described."""
        return cls(**config)

    def __str__(self) -> str:
        cells = [
            (name, _type_name(self.arrow.field(name).type), str(column))
            for name, column in self.columns.items()
        ]
        wide = [max(len(row[i]) for row in cells) for i in range(2)]
        return "\n".join(
            f"{name:<{wide[0]}}  {kind:<{wide[1]}}  {column}"
            for name, kind, column in cells
        )

    def _cast(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Gives a column its type, such as that which a CSV file does not know."""
        import pyarrow as pa

        kind = inner_type(self.arrow.field(name).type)
        if pa.types.is_boolean(kind) and is_numeric(column.type):
            return column  # Arrow takes any number for True, the categories 0 and 1
        try:
            return column.cast(kind)
        except pa.ArrowException as error:
            raise ValueError(
                f"Column {name!r} must hold values of type {kind}. "
                f"Received: {column.type} ({str(error).splitlines()[0]})"
            ) from error


def _type_name(kind: pa.DataType) -> str:
    inner = inner_type(kind)
    return str(kind) if kind == inner else f"dictionary of {inner}"


def _kind(name: str, kind: Column | str) -> Column:
    if isinstance(kind, Column):
        return kind
    if not isinstance(kind, str) or kind not in KINDS:
        must = f"give column {name!r} one of {tuple(KINDS)} or a `Continuous`, "
        raise invalid("columns", f"{must}`Integer` or `Categorical`", kind)
    return KINDS[kind]


def _inferred(name: str, column: pa.ChunkedArray) -> Column:
    """Returns the kind that a column's type and values suggest."""
    import pyarrow as pa

    kind = column.type
    if is_numeric(kind):
        column = column.drop_null()
        if not is_whole(kind):
            values = column.to_numpy().astype(np.float64)
            if np.any((values != np.floor(values)) | (np.abs(values) >= FINE)):
                return Continuous()
        few = len(column.unique()) == 2 and not pa.types.is_date32(kind)
        return Categorical() if few else Integer()
    dictionary = kind != inner_type(kind)
    if not (dictionary or is_text(kind) or pa.types.is_boolean(kind)):
        raise ValueError(
            f"Column {name!r} must hold numbers, dates, text or truth values; drop it "
            f"or turn it into one of these. Received: values of type {kind}"
        )
    distinct = len(column.unique())
    if distinct > MAX_CATEGORIES:
        raise ValueError(
            f"Column {name!r} must have at most {MAX_CATEGORIES} different values to "
            "be taken for categories; drop it, or name it in `columns` as "
            f"'categorical'. Received: {distinct} different values"
        )
    return Categorical()
