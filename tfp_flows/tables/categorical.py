"""`Categorical`: a column of a few values without an order."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_probability as tfp

from tfp_flows.distributions.tables import ArgmaxDequantizer, Dequantizer
from tfp_flows.tables.arrow import is_numeric, refuse_missing
from tfp_flows.tables.columns import DTYPE, Column

tfb = tfp.bijectors

_REMEDY = ", or make a missing value a category by `Categorical(missing=True)`"


@keras.saving.register_keras_serializable(package="tfp_flows")
@dataclasses.dataclass(frozen=True)
class Categorical(Column):
    """A few values without an order, by an argmax flow.

    `log_prob` is a lower bound of their log-probability; see `ArgmaxDequantizer`.

    Attributes:
        categories: All values there can be; None for those of the data.
        missing: Whether a missing value is a category of its own. Samples then have
            missing values too; otherwise they are refused.
        learned: Whether the distribution `q(v | x)` of the dequantizer is learned.
    """

    categories: tuple | None = None
    missing: bool = False
    learned: bool = True

    def __post_init__(self) -> None:
        """Keeps categories as a tuple and refuses fewer than two."""
        if self.categories is None:
            return
        object.__setattr__(self, "categories", tuple(self.categories))
        if len(set(self.categories)) != len(self.categories) or self.size < 2:
            raise ValueError(
                "Argument `categories` must be at least 2 different values, `missing` "
                f"included. Received: categories={self.categories}"
            )

    @property
    def size(self) -> int:
        """Number of categories, a missing value included if it is one."""
        return len(self.categories or ()) + self.missing

    def fitted(self, name: str, column: pa.ChunkedArray) -> Categorical:
        """Returns a copy that knows its categories."""
        if self.categories is not None:
            self.encode(name, column)
            return self
        if not self.missing:
            refuse_missing(name, column, _REMEDY)
        seen = _seen(name, column)
        if len(seen) + self.missing < 2:
            raise ValueError(
                f"Column {name!r} must have at least 2 different values; drop it. "
                f"Received: {seen}"
            )
        return dataclasses.replace(self, categories=tuple(seen))

    def encode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Returns the place of each value among the categories."""
        if not self.missing:
            refuse_missing(name, column, _REMEDY)
        plain = _plain(column)
        codes = pc.index_in(plain, value_set=self._values(plain.type))
        unknown = np.flatnonzero(pc.is_null(codes).to_numpy())
        if len(unknown):
            row = unknown[0]
            raise ValueError(
                f"Column {name!r} must hold its categories, {self.categories}. "
                f"Received: {plain[row].as_py()!r} in row {row + 1}"
            )
        return codes.to_numpy().astype(np.float64)

    def decode(self, values: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Returns the categories in the given places, in the column's own type."""
        codes = pa.array(values.astype(np.int64))
        if not pa.types.is_dictionary(kind):
            return self._values(kind).take(codes)
        if self.missing:
            codes = pc.if_else(pc.equal(codes, self.size - 1), None, codes)
        known = pa.array(self.categories, kind.value_type)
        codes = codes.cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(codes, known, ordered=kind.ordered)

    def dequantizer(self) -> Dequantizer:
        """Returns the dequantizer of an argmax flow."""
        return ArgmaxDequantizer(self.size, self.learned, dtype=DTYPE)

    def bijector(self) -> tfb.Bijector:
        """Returns the identity: the dequantizer sets the scale of its coordinates."""
        return tfb.Identity()

    def __str__(self) -> str:
        return f"categorical, {self.size} categories"

    def _values(self, kind: pa.DataType) -> pa.Array:
        values = [*(self.categories or ()), *([None] if self.missing else [])]
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(
                f"Argument `categories` must be values of type {kind}. "
                f"Received: categories={self.categories}"
            ) from error


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the values of a column, not places in a dictionary, and null for NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column


def _seen(name: str, column: pa.ChunkedArray) -> list:
    """Returns the different values, sorted or in their dictionary's order."""
    kind = column.type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    if not (text or pa.types.is_boolean(inner) or is_numeric(inner)) or (
        pa.types.is_date32(inner)
    ):
        raise ValueError(
            f"Column {name!r} must hold text, truth values or numbers to be "
            f"categorical. Received: values of type {kind}"
        )
    seen = set(pc.unique(_plain(column).drop_null()).to_pylist())
    if not pa.types.is_dictionary(kind) or not len(column):
        return sorted(seen)
    order = column.unify_dictionaries().chunk(0).dictionary.to_pylist()
    return [value for value in order if value in seen]
