"""Real tables beside sampled ones: one picture a column, and one of all pairs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.pictures import REAL, SAMPLED
from tfp_flows.tables.arrow import (
    TableLike,
    as_table,
    complete_rows,
    is_numeric,
    to_numbers,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"real": REAL, "sampled": SAMPLED}
_FEW = 12
_MOST_PAIRS = 6
_MOST_POINTS = 1_000


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One column of both tables as numbers to draw.

    `labels` has a word for each of the numbers 0, 1, ...; None for a scale of numbers.
    """

    name: str
    values: dict[str, np.ndarray]
    labels: list[str] | None

    @property
    def limits(self) -> tuple[float, float]:
        """A frame for nearly all values, with a margin."""
        if self.labels is not None:
            return -0.7, len(self.labels) - 0.3
        ends = [np.percentile(v, [0.3, 99.7]) for v in self.values.values()]
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        margin = 0.06 * (high - low) or 0.5
        return low - margin, high + margin


def marginals_figure(
    real: TableLike,
    sampled: TableLike,
    columns: Sequence[str] | None = None,
    per_row: int = 4,
) -> Figure:
    """Draws how each column is distributed in two tables.

    Missing numbers are left out. `sampled` has the columns of `real`, of which None
    stands for all.
    """
    from matplotlib.figure import Figure

    axes_of = _axes(real, sampled, columns)
    across = min(per_row, len(axes_of))
    rows = math.ceil(len(axes_of) / across)
    figure = Figure(
        figsize=(2.7 * across + 0.3, 2.2 * rows + 0.4), layout="constrained"
    )
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    for panel, axis in zip(panels, axes_of, strict=False):
        _marginal(panel, axis)
        panel.set_xlabel(axis.name)
    for panel in panels[len(axes_of) :]:
        panel.set_axis_off()
    _legend(figure, panels[0])
    return figure


def pairs_figure(
    real: TableLike, sampled: TableLike, columns: Sequence[str] | None = None
) -> Figure:
    """Draws each pair of columns: real below the diagonal, sampled above.

    Categories are spread a little, so that points do not hide each other. Rows with a
    missing value are left out. Of `columns`, None stands for the first six.
    """
    from matplotlib.figure import Figure

    names = columns or as_table(real).column_names[:_MOST_PAIRS]
    axes_of = _axes(real, sampled, names, together=True)
    d = len(axes_of)
    figure = Figure(figsize=(1.8 * d + 0.6, 1.8 * d + 0.6), layout="constrained")
    panels = figure.subplots(d, d, squeeze=False)
    for i, row in enumerate(axes_of):
        for j, column in enumerate(axes_of):
            if i == j:
                _marginal(panels[i, i], row)
                panels[i, i].set_yticks([])
            else:
                _pair(panels[i, j], column, row, "real" if i > j else "sampled")
            _name_outside(panels[i, j], column, row, below=i == d - 1, left=j == 0)
    _legend(figure, panels[0, 0])
    return figure


def _axes(
    real: TableLike,
    sampled: TableLike,
    columns: Sequence[str] | None,
    together: bool = False,
) -> list[_Axis]:
    tables = {"real": as_table(real), "sampled": as_table(sampled)}
    names = list(columns or tables["real"].column_names)
    for label, table in tables.items():
        if lacking := [name for name in names if name not in table.column_names]:
            must = f"have the columns {names}"
            raise invalid(label, must, got=f"a table without {lacking[0]!r}")
        tables[label] = table.select(names)
    if together:
        tables = {k: complete_rows(t).slice(0, _MOST_POINTS) for k, t in tables.items()}
    return [_axis(name, {k: t[name] for k, t in tables.items()}) for name in names]


def _axis(name: str, columns: dict[str, pa.ChunkedArray]) -> _Axis:
    if all(is_numeric(column.type) for column in columns.values()):
        values = {
            k: to_numbers(name, complete_rows({name: c})[name])
            for k, c in columns.items()
        }
        return _Axis(name, values, None)
    words = {
        label: ["missing" if v is None else str(v) for v in column.to_pylist()]
        for label, column in columns.items()
    }
    known = sorted(set().union(*words.values()))
    place = {word: float(k) for k, word in enumerate(known)}
    values = {k: np.array([place[word] for word in v]) for k, v in words.items()}
    return _Axis(name, values, known)


def _marginal(panel: Axes, axis: _Axis) -> None:
    both = np.concatenate(list(axis.values.values()))
    distinct = np.unique(both)
    whole = bool(np.all(distinct == np.floor(distinct)))
    if axis.labels is not None or (whole and len(distinct) <= _FEW):
        _bars(panel, axis, distinct)
    else:
        _steps(panel, axis, whole)
    panel.set_ylim(bottom=0.0)


def _bars(panel: Axes, axis: _Axis, distinct: np.ndarray) -> None:
    for side, (label, values) in zip((-0.2, 0.2), axis.values.items(), strict=True):
        shares = [np.mean(values == value) for value in distinct]
        panel.bar(distinct + side, shares, 0.4, color=_COLOURS[label], label=label)
    panel.set_ylabel("share")
    _ticks(panel, axis)


def _steps(panel: Axes, axis: _Axis, whole: bool) -> None:
    low, high = axis.limits
    fewest = min(len(values) for values in axis.values.values())
    edges = np.linspace(low, high, int(np.clip(math.sqrt(fewest), 8, 40)) + 1)
    if whole:
        # Every bar holds equally many whole numbers, or some would look higher.
        step = max(1, math.ceil((high - low) / len(edges)))
        edges = np.arange(math.floor(low), math.ceil(high) + step + 1, step) - 0.5
    for label, values in axis.values.items():
        counts, _ = np.histogram(values, edges)
        heights = counts / (len(values) * np.diff(edges))
        panel.stairs(heights, edges, color=_COLOURS[label], label=label, lw=1.4)
    panel.set_ylabel("density")


def _pair(panel: Axes, across: _Axis, up: _Axis, label: str) -> None:
    points = [_spread(axis, label) for axis in (across, up)]
    size = 3.0 if len(points[0]) > 300 else 8.0
    panel.scatter(
        *points, s=size, color=_COLOURS[label], alpha=0.5, linewidths=0, rasterized=True
    )
    panel.set(xlim=across.limits, ylim=up.limits)
    _ticks(panel, across)
    if up.labels is not None:
        panel.set_yticks(range(len(up.labels)), up.labels)


def _spread(axis: _Axis, label: str) -> np.ndarray:
    values = axis.values[label]
    if axis.labels is None:
        return values
    return values + np.random.default_rng(0).uniform(-0.3, 0.3, len(values))


def _ticks(panel: Axes, axis: _Axis) -> None:
    if axis.labels is not None:
        long = sum(map(len, axis.labels)) > 16
        panel.set_xticks(
            range(len(axis.labels)), axis.labels, rotation=90 if long else 0
        )


def _name_outside(
    panel: Axes, across: _Axis, up: _Axis, below: bool, left: bool
) -> None:
    """Puts names on the left and lower rim only, and ticks nowhere else."""
    panel.set_xlabel(across.name if below else "")
    panel.set_ylabel(up.name if left else "")
    panel.tick_params(labelbottom=below, labelleft=left and across is not up)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
