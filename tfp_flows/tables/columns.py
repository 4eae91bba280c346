"""`Continuous` and `Integer`: columns of numbers, and what all columns have."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow_probability as tfp

from tfp_flows.distributions.tables import (
    Dequantizer,
    IntegerDequantizer,
    RealDequantizer,
)
from tfp_flows.tables import transforms
from tfp_flows.tables.arrow import from_numbers, to_numbers

tfb = tfp.bijectors

DTYPE = "float64"


@dataclasses.dataclass(frozen=True)
class Column:
    """Base class of the kinds of columns.

    `fitted` fills in what only data can say. After that a column turns values into
    numbers and back, and has a dequantizer and a bijector for its coordinates.
    """

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

    def __str__(self) -> str:
        return type(self).__name__.lower()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Column:
        """Builds the column that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfp_flows")
@dataclasses.dataclass(frozen=True)
class Continuous(Column):
    """Real numbers, which have a density: `log_prob` is exact along such a column.

    A density at a value that many rows share has no bound, and a flow will try: such
    columns are better `Integer`, after scaling if need be, or `Categorical`. A column
    of integers may be continuous too; samples are then rounded.

    Attributes:
        transform: "quantile" (`transforms.quantile`), "standard" (mean and deviation),
            "log" (moments of `log(y - low)`), or any TFP bijector of single values in
            float64, latent to data. Densities are in the units of the column whatever
            it is.
        low: For "log", the end of the support; None for 0. With a bijector of your own,
            the same, if it has one.
        knots: For "quantile", how many; None for one in 25 rows, 3 to 65.
    """

    transform: str | tfb.Bijector = "quantile"
    low: float | None = None
    knots: int | None = None

    def __post_init__(self) -> None:
        """Refuses unknown transforms, and `low` and `knots` where nothing uses them."""
        _check_transform(self.transform)
        named = isinstance(self.transform, str)
        if self.low is not None and named and self.transform != "log":
            raise ValueError(
                "Argument `low` must be None unless `transform='log'`. "
                f"Received: low={self.low}"
            )
        _check_knots(self.knots)

    def fitted(self, name: str, column: pa.ChunkedArray) -> Continuous:
        """Returns a copy whose transform is a bijector."""
        values = _varied(name, to_numbers(name, column))
        low = self.low
        if self.transform == "log":
            low = 0.0 if low is None else low
            _check_above(name, values, low)
        bijector = _bijector(self.transform, values, low, self.knots)
        return dataclasses.replace(self, transform=bijector, low=low)

    def supports(self, values: np.ndarray) -> np.ndarray:
        """Returns which values lie above the lower end of a log transform."""
        if self.low is None:
            return super().supports(values)
        return values > self.low

    def dequantizer(self) -> Dequantizer:
        """Returns the dequantizer of real numbers."""
        return RealDequantizer(dtype=DTYPE)

    def bijector(self) -> tfb.Bijector:
        """Returns the transform."""
        return self.transform

    def __str__(self) -> str:
        return f"continuous, {_name(self.transform)}"


@keras.saving.register_keras_serializable(package="tfp_flows")
@dataclasses.dataclass(frozen=True)
class Integer(Column):
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

    def __post_init__(self) -> None:
        """Refuses unknown transforms and numbers of knots."""
        _check_transform(self.transform)
        _check_knots(self.knots)

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
        if self.transform == "log":
            _check_above(name, noisy, -np.inf if low is None else low)
        bijector = _bijector(self.transform, noisy, low, self.knots)
        return dataclasses.replace(fitted, transform=bijector)

    def encode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Returns the values, which must be whole."""
        values = to_numbers(name, column)
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

    def bijector(self) -> tfb.Bijector:
        """Returns the transform."""
        return self.transform

    def __str__(self) -> str:
        bounds = f"{_bound(self.low)} to {_bound(self.high)}"
        return f"integer, {_name(self.transform)}, {bounds}"


def _varied(name: str, values: np.ndarray) -> np.ndarray:
    if not len(values) or values.min() == values.max():
        raise ValueError(
            f"Column {name!r} must have at least 2 different values, for a constant "
            f"has no density; drop it. Received: {np.unique(values).tolist()}"
        )
    return values


def _bijector(
    transform: str | tfb.Bijector,
    values: np.ndarray,
    low: float | None,
    knots: int | None,
) -> tfb.Bijector:
    if isinstance(transform, str):
        return transforms.fitted_transform(transform, values, low=low, knots=knots)
    return transform


def _check_transform(transform: Any) -> None:
    if isinstance(transform, tfb.Bijector):
        if transform.forward_min_event_ndims == 0:
            return
    elif transform in transforms.NAMES:
        return
    raise ValueError(
        f"Argument `transform` must be one of {transforms.NAMES}, or a TFP bijector of "
        f"single values, latent to data. Received: transform={transform!r}"
    )


def _check_knots(knots: Any) -> None:
    if knots is not None and (not isinstance(knots, int) or knots < 2):
        raise ValueError(
            "Argument `knots` must be None or an integer of at least 2. "
            f"Received: knots={knots!r}"
        )


def _check_above(name: str, values: np.ndarray, low: float) -> None:
    if not np.all(values > low) or not np.isfinite(low):
        raise ValueError(
            f"Column {name!r} must lie above `low` for `transform='log'`. "
            f"Received: a least value of {values.min():g} with low={low}"
        )


def _name(transform: str | tfb.Bijector) -> str:
    return transform if isinstance(transform, str) else transform.name


def _bound(value: float | None) -> str:
    return "..." if value is None else f"{value:g}"
