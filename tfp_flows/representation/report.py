"""`ProbeReport`: accuracies of classifiers on several features, as a table."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class ProbeRow:
    """How well a linear classifier does on one kind of features.

    Attributes:
        features: Name of the features.
        size: How many there are.
        labels_per_class: Labelled rows of each class; None for all of them.
        inverse_penalty: scikit-learn's `C` of the logistic regression.
        accuracies: Share of right test rows, one for each draw of labelled rows.
        standard_error: Of their mean. With several draws it is that of the draws,
            for these test rows; with a single one it is that of the test rows,
            `sqrt(a (1 - a) / m)`.
    """

    features: str
    size: int
    labels_per_class: int | None
    inverse_penalty: float
    accuracies: tuple[float, ...]
    standard_error: float

    @property
    def accuracy(self) -> float:
        """The mean accuracy."""
        return float(np.mean(self.accuracies))

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} ± {self.standard_error:.3f}"


@dataclasses.dataclass(frozen=True)
class Lead:
    """By how much one kind of features is ahead of another.

    Attributes:
        labels_per_class: Labelled rows of each class.
        accuracy: Mean difference of the accuracies; negative where the first loses.
        standard_error: Of that mean. Both saw the same labelled rows, so it is that
            of the differences, draw by draw.
    """

    labels_per_class: int
    accuracy: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.accuracy:+.3f} ± {self.standard_error:.3f}"


@dataclasses.dataclass(frozen=True)
class ProbeReport:
    """What `probe` or `few_labels` measured; `str(report)` is a table.

    The rows of two reports in one, `ProbeReport(few.rows + full.rows)`, make one table.

    Attributes:
        rows: One entry for each kind of features and number of labels.
    """

    rows: tuple[ProbeRow, ...]

    def row(self, features: str, labels_per_class: int | None = None) -> ProbeRow:
        """Returns the entry of these features and this number of labels."""
        for row in self.rows:
            if (row.features, row.labels_per_class) == (features, labels_per_class):
                return row
        known = sorted({(r.features, str(r.labels_per_class)) for r in self.rows})
        raise ValueError(
            "Arguments `features` and `labels_per_class` must be among "
            f"{known}. Received: {(features, labels_per_class)}"
        )

    def leads(self, first: str, second: str) -> tuple[Lead, ...]:
        """Compares two kinds of features wherever several draws of labels were made.

        Args:
            first: Name of the features whose lead is wanted.
            second: Name of the features to compare with.

        Returns:
            One entry for each number of labels.

        Raises:
            ValueError: If one of them is not in the report with several draws.
        """
        counts = [row.labels_per_class for row in self.rows if row.features == first]
        leads = []
        for count in (count for count in counts if count is not None):
            pair = [self.row(name, count).accuracies for name in (first, second)]
            ahead = np.subtract(*pair)
            leads.append(Lead(count, float(ahead.mean()), error_of_mean(ahead)))
        if not leads:
            raise ValueError(
                "Argument `first` must name features in a report of `few_labels`. "
                f"Received: {first!r}"
            )
        return tuple(leads)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain lists, dictionaries and numbers, for JSON."""
        rows = [{**dataclasses.asdict(r), "accuracy": r.accuracy} for r in self.rows]
        return {"rows": rows}

    def __rich__(self) -> Table:
        table = Table(
            title="Accuracy of a linear classifier, with standard errors",
            title_justify="left",
        )
        counts = list(dict.fromkeys(row.labels_per_class for row in self.rows))
        table.add_column("features", no_wrap=True)
        table.add_column("size", justify="right")
        for count in counts:
            words = "all labels" if count is None else f"{count} a class"
            table.add_column(words, no_wrap=True)
        cells = {(row.features, row.labels_per_class): str(row) for row in self.rows}
        sizes = {row.features: row.size for row in self.rows}
        for name, size in sizes.items():
            figures = (cells.get((name, count), "") for count in counts)
            table.add_row(name, str(size), *figures)
        return table

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=120).print(self)
        return out.getvalue()


def error_of_mean(values: Any) -> float:
    """Returns the standard error of the mean of at least two values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
