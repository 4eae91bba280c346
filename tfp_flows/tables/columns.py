"""`Continuous`, `Integer` and `Categorical`: the kinds of columns of a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
import numpy as np
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.elementwise import Quantile
from tfp_flows.bijectors.normalization import fences
from tfp_flows.distributions.tables import (
    ArgmaxDequantizer,
    Dequantizer,
    IntegerDequantizer,
    RealDequantizer,
)
from tfp_flows.internal.arguments import Described, checked_integer, invalid
from tfp_flows.tables.arrow import (
    FINE,
    from_numbers,
    inner_type,
    is_numeric,
    is_text,
    refuse_missing,
    to_numbers,
)

if TYPE_CHECKING:
    import pyarrow as pa

DTYPE = "float64"
TRANSFORMS = ("quantile", "standard", "log")

_ROWS_PER_KNOT, _MOST_KNOTS = 25, 65
# Knots closer than this share of the range make slopes that float64 cannot resolve.
_LEAST_GAP = 1e-9


@dataclasses.dataclass(frozen=True)
class Column(Described):
    """Base class of the kinds of columns; `fitted` fills in what only data can say."""

    def fitted(self, name: str, column: pa.ChunkedArray) -> Column:
        """Returns a copy that knows all it needs to from a column's values."""
        raise NotImplementedError

    def encode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Returns a column's values as float64 numbers `[n]`."""
        return to_numbers(name, column)

    def decode(self, values: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Returns numbers `[n]` as a column of an Arrow type."""
        return from_numbers(values, kind)

    def supports(self, values: np.ndarray) -> np.ndarray:
        """Returns which encoded values can come out of a sample, `[n]`."""
        return np.ones(len(values), bool)

    def dequantizer(self) -> Dequantizer:
        """Returns the column's way into a flow and out of it."""
        raise NotImplementedError

    def bijector(self) -> tfb.Bijector:
        """Returns the bijector of each of its coordinates, latent to data."""
        raise NotImplementedError


class _Number(Column):
    """What columns of numbers have: a transform, fitted to the values."""

    transform: str | tfb.Bijector
    low: float | None
    knots: int | None

    def __post_init__(self) -> None:
        """Refuses unknown transforms and numbers of knots."""
        if isinstance(self.transform, tfb.Bijector):
            known = self.transform.forward_min_event_ndims == 0
        else:
            known = self.transform in TRANSFORMS
        if not known:
            must = f"be one of {TRANSFORMS}, or a TFP bijector of single values, latent"
            raise invalid("transform", f"{must} to data", self.transform)
        if self.knots is not None:
            checked_integer("knots", self.knots, minimum=2)

    def bijector(self) -> tfb.Bijector:
        """Returns the transform."""
        return self.transform

    def _fitted_bijector(
        self, name: str, values: np.ndarray, low: float | None
    ) -> tfb.Bijector:
        if isinstance(self.transform, tfb.Bijector):
            return self.transform
        if self.transform == "log":
            low = -np.inf if low is None else low
            if not np.all(values > low) or not np.isfinite(low):
                raise ValueError(
                    f"Column {name!r} must lie above `low` for `transform='log'`. "
                    f"Received: a least value of {values.min():g} with low={low}"
                )
        return fitted_transform(self.transform, values, low, self.knots)

    def _transform_name(self) -> str:
        named = isinstance(self.transform, str)
        return self.transform if named else self.transform.name


@keras.saving.register_keras_serializable(package="tfp_flows")
@dataclasses.dataclass(frozen=True)
class Continuous(_Number):
    """Real numbers, which have a density: `log_prob` is exact along such a column.

    The density at a value that many rows share has no bound: such columns are better
    `Integer`, after scaling if need be, or `Categorical`. A column of integers may be
    continuous too; samples are then rounded.

    Attributes:
        transform: "quantile" (`Quantile`), "standard" (mean and deviation), "log"
            (moments of `log(y - low)`), or any TFP bijector of single values in
            float64, latent to data.
        low: For "log", the end of the support; None for 0. With a bijector of your own,
            the same, if it has one.
        knots: For "quantile", how many; None for one in 25 rows, 3 to 65.
    """

    transform: str | tfb.Bijector = "quantile"
    low: float | None = None
    knots: int | None = None

    def __post_init__(self) -> None:
        """Refuses `low` where nothing uses it, too."""
        super().__post_init__()
        if self.low is not None and self.transform in ("quantile", "standard"):
            raise invalid("low", "be None unless `transform='log'`", self.low)

    def fitted(self, name: str, column: pa.ChunkedArray) -> Continuous:
        """Returns a copy whose transform is a bijector."""
        values = _varied(name, to_numbers(name, column))
        low = 0.0 if self.transform == "log" and self.low is None else self.low
        bijector = self._fitted_bijector(name, values, low)
        return dataclasses.replace(self, transform=bijector, low=low)

    def supports(self, values: np.ndarray) -> np.ndarray:
        """Returns which values lie above the lower end of a log transform."""
        if self.low is None:
            return super().supports(values)
        return values > self.low

    def dequantizer(self) -> Dequantizer:
        """Returns the dequantizer of real numbers."""
        return RealDequantizer(dtype=DTYPE)

    def __str__(self) -> str:
        return f"continuous, {self._transform_name()}"


@keras.saving.register_keras_serializable(package="tfp_flows")
@dataclasses.dataclass(frozen=True)
class Integer(_Number):
    """Whole numbers in an order, such as counts, years or dates.

    Uniform noise in `[0, 1)` makes them real, and samples are rounded down, so
    `log_prob` is a lower bound of a value's log-probability; see `IntegerDequantizer`.

    Attributes:
        transform: As for `Continuous`, fitted to the values with noise.
        low: Least value; below it the probability is 0. None for 0 if no value of the
            data is negative, else for no bound.
        high: Greatest value; None for no bound.
        knots: As for `Continuous`.
    """

    transform: str | tfb.Bijector = "quantile"
    low: float | None = None
    high: float | None = None
    knots: int | None = None

    def fitted(self, name: str, column: pa.ChunkedArray) -> Integer:
        """Returns a copy that knows its transform and its bounds."""
        values = _varied(name, self.encode(name, column))
        low = 0.0 if self.low is None and values.min() >= 0.0 else self.low
        fitted = dataclasses.replace(self, low=low)
        if not np.all(fitted.supports(values)):
            raise ValueError(
                f"Column {name!r} must lie within its bounds, low={low} and "
                f"high={self.high}. Received: values from {values.min():g} to "
                f"{values.max():g}"
            )
        noisy = values + np.random.default_rng(0).random(len(values))
        bijector = self._fitted_bijector(name, noisy, low)
        return dataclasses.replace(fitted, transform=bijector)

    def encode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Returns the values, which must be whole."""
        values = to_numbers(name, column)
        if np.any(np.abs(values) >= FINE):
            raise ValueError(
                f"Column {name!r} must hold whole numbers below 2**52, between which "
                f"float64 has room for noise; make it `Continuous`, or drop it if it "
                f"holds identifiers. Received: values from {values.min():g} to "
                f"{values.max():g}"
            )
        broken = np.flatnonzero(values != np.floor(values))
        if len(broken):
            raise ValueError(
                f"Column {name!r} must hold whole numbers, as an `Integer` column does."
                f" Received: {values[broken[0]]} in row {broken[0] + 1}"
            )
        return values

    def supports(self, values: np.ndarray) -> np.ndarray:
        """Returns which values lie within the bounds."""
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return (values >= low) & (values <= high)

    def dequantizer(self) -> Dequantizer:
        """Returns the dequantizer by uniform noise."""
        return IntegerDequantizer(self.low, self.high, dtype=DTYPE)

    def __str__(self) -> str:
        ends = ("..." if v is None else f"{v:g}" for v in (self.low, self.high))
        return f"integer, {self._transform_name()}, {' to '.join(ends)}"


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
        """Stores categories as a tuple and refuses fewer than two."""
        if self.categories is None:
            return
        object.__setattr__(self, "categories", tuple(self.categories))
        if len(set(self.categories)) != len(self.categories) or self.size < 2:
            must = "be at least 2 different values, `missing` included"
            raise invalid("categories", must, self.categories)

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
        import pyarrow.compute as pc

        if not self.missing:
            refuse_missing(name, column, _REMEDY)
        plain = _plain(column)
        places = pc.index_in(plain, value_set=self._values(plain.type))
        unknown = np.flatnonzero(pc.is_null(places).to_numpy())
        if len(unknown):
            row = unknown[0]
            raise ValueError(
                f"Column {name!r} must hold its categories, {self.categories}. "
                f"Received: {plain[row].as_py()!r} in row {row + 1}"
            )
        return places.to_numpy().astype(np.float64)

    def decode(self, values: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Returns the categories in these places, in the column's own type."""
        import pyarrow as pa
        import pyarrow.compute as pc

        places = pa.array(values.astype(np.int64))
        if not pa.types.is_dictionary(kind):
            return self._values(kind).take(places)
        if self.missing:
            places = pc.if_else(pc.equal(places, self.size - 1), None, places)
        known = pa.array(self.categories, kind.value_type)
        places = places.cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(places, known, ordered=kind.ordered)

    def dequantizer(self) -> Dequantizer:
        """Returns the dequantizer of an argmax flow."""
        return ArgmaxDequantizer(self.size, self.learned, dtype=DTYPE)

    def bijector(self) -> tfb.Bijector:
        """Returns the identity: the dequantizer sets the scale of its coordinates."""
        return tfb.Identity()

    def __str__(self) -> str:
        return f"categorical, {self.size} categories"

    def _values(self, kind: pa.DataType) -> pa.Array:
        import pyarrow as pa

        values = [*(self.categories or ()), *([None] if self.missing else [])]
        if is_numeric(kind):  # of which Arrow makes no truth values
            values = [int(v) if isinstance(v, bool) else v for v in values]
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError) as error:
            must = f"be values of type {kind}"
            raise invalid("categories", must, self.categories) from error


def _varied(name: str, values: np.ndarray) -> np.ndarray:
    if not len(values) or values.min() == values.max():
        raise ValueError(
            f"Column {name!r} must have at least 2 different values, for a constant "
            f"has no density; drop it. Received: {np.unique(values).tolist()}"
        )
    return values


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the values of a column, not places in a dictionary, and null for NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(inner_type(column.type))
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column


def _seen(name: str, column: pa.ChunkedArray) -> list:
    """Returns the different values, sorted or in their dictionary's order."""
    import pyarrow as pa

    kind, inner = column.type, inner_type(column.type)
    good = is_text(inner) or pa.types.is_boolean(inner) or is_numeric(inner)
    if not good or pa.types.is_date32(inner):
        raise ValueError(
            f"Column {name!r} must hold text, truth values or numbers to be "
            f"categorical. Received: values of type {kind}"
        )
    seen = set(_plain(column).drop_null().unique().to_pylist())
    if kind == inner or not len(column):
        return sorted(seen)
    order = column.unify_dictionaries().chunk(0).dictionary.to_pylist()
    return [value for value in order if value in seen]


def fitted_transform(
    name: str, values: np.ndarray, low: float | None = 0.0, knots: int | None = None
) -> tfb.Bijector:
    """Returns the float64 transform of that name, fitted to a column's values `[n]`.

    * "standard": `y = mean + deviation x`;
    * "log": `y = low + exp(mean + deviation x)`, by the moments of `log(y - low)`;
    * "quantile": a `Quantile` through `knots` quantiles; see `Continuous`.

    Moments are of values that are no outliers, by the rule of `ActNorm`; quantiles of
    all but sentinels, beyond 1e5 ranges of the middle 95 %.
    """
    if name == "quantile":
        return _quantile(_fenced(values, 1e5), knots)
    parts = [] if name == "standard" else [tfb.Shift(np.float64(low)), tfb.Exp()]
    counted = _fenced(np.log(values - low) if parts else values, 10.0)
    parts += [tfb.Shift(counted.mean()), tfb.Scale(counted.std())]
    return tfb.Chain(parts, name=name)


def _fenced(values: np.ndarray, reach: float) -> np.ndarray:
    low, high = fences(values[:, None], reach)
    return values[(values >= low) & (values <= high)]


def _quantile(values: np.ndarray, knots: int | None) -> Quantile:
    """Returns a `Quantile` from a standard normal's quantiles to the values'.

    Scikit-learn's own map is flat beyond the data, so only its knots are used. The k-th
    of n sorted values stands for the level `(k - 1/2) / n`; equal knots become one, at
    their mean level.
    """
    from scipy.special import ndtri
    from sklearn.preprocessing import QuantileTransformer

    n = len(values)
    if knots is None:
        knots = int(np.clip(n // _ROWS_PER_KNOT, 3, _MOST_KNOTS))
    transformer = QuantileTransformer(n_quantiles=min(knots, n), subsample=None)
    transformer.fit(values[:, None])
    levels = (0.5 + transformer.references_ * (n - 1)) / n
    places, levels = _distinct(transformer.quantiles_[:, 0], levels)
    return Quantile(ndtri(levels), places, dtype=DTYPE)


def _distinct(places: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins knots that lie too close together to have a slope between them."""
    gap = _LEAST_GAP * (places[-1] - places[0])
    group = np.cumsum(np.diff(places, prepend=places[0]) > gap)
    counts = np.bincount(group)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return places[first], np.bincount(group, weights=levels) / counts
