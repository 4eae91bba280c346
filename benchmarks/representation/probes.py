"""`probe` and `few_labels`: linear classifiers on features, with all or few labels."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import checked_integer, invalid

if TYPE_CHECKING:
    from rich.table import Table
    from sklearn.linear_model import LogisticRegression

Features = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]


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
        """
        counts = [row.labels_per_class for row in self.rows if row.features == first]
        leads = []
        for count in (count for count in counts if count is not None):
            pair = [self.row(name, count).accuracies for name in (first, second)]
            ahead = np.subtract(*pair)
            leads.append(Lead(count, float(ahead.mean()), _error_of_mean(ahead)))
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
        from rich.table import Table

        table = Table(
            title="Accuracy of a linear classifier, with standard errors",
            title_justify="left",
        )
        counts = list(dict.fromkeys(row.labels_per_class for row in self.rows))
        table.add_column("features", no_wrap=True)
        table.add_column("size", justify="right")
        for count in counts:
            title = "all labels" if count is None else f"{count} a class"
            table.add_column(title, no_wrap=True)
        cells = {(row.features, row.labels_per_class): str(row) for row in self.rows}
        sizes = {row.features: row.size for row in self.rows}
        for name, size in sizes.items():
            row = (cells.get((name, count), "") for count in counts)
            table.add_row(name, str(size), *row)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=120).print(self)
        return out.getvalue()


def probe(
    features: Features,
    train_labels: npt.ArrayLike,
    test_labels: npt.ArrayLike,
    *,
    inverse_penalties: Sequence[float] = (0.1, 1.0, 10.0),
    validation_fraction: float = 0.2,
    seed: int = 0,
    max_iter: int = 1000,
) -> ProbeReport:
    """Measures what a linear classifier with all labels reaches on each features.

    The classifier is scikit-learn's multinomial logistic regression with the penalty
    `|w|^2 / (2 C)`. Features are centred and divided by one number, so that their mean
    square length is 1: the same `C` then means the same whatever their unit and
    number, and no direction is made longer than another. `C` is the one that is best
    on a part of the training rows; the classifier is then fitted to all of them.

    Args:
        features: For each kind of features, those of the training and the test rows,
            `[n, ...]` and `[m, ...]`; axes behind the first are flattened.
        train_labels: Classes `[n]`.
        test_labels: Classes `[m]`.
        inverse_penalties: Values of `C` to choose from.
        validation_fraction: Share of the training rows to choose it by.
        seed: Of their choice.
        max_iter: Most iterations of the solver.

    Returns:
        The report, with a row for each kind of features.

    Example:
        >>> x = np.array([[0.0], [0.1], [1.0], [1.1]] * 5)
        >>> report = probe({"x": (x, x)}, [0, 0, 1, 1] * 5, [0, 0, 1, 1] * 5)
        >>> report.row("x").accuracy
        1.0
    """
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if not inverse_penalties or min(inverse_penalties) <= 0.0:
        must = "hold positive numbers"
        raise invalid("inverse_penalties", must, inverse_penalties)
    rows = []
    for name, pair in features.items():
        train, test = _prepared(name, pair, train_labels, test_labels)
        best = _best_penalty(
            train, train_labels, inverse_penalties, validation_fraction, seed, max_iter
        )
        fitted = _classifier(best, max_iter).fit(train, train_labels)
        right = float(fitted.score(test, test_labels))
        error = math.sqrt(right * (1.0 - right) / len(test))
        rows.append(ProbeRow(name, train.shape[1], None, best, (right,), error))
    return ProbeReport(tuple(rows))


def few_labels(
    features: Features,
    train_labels: npt.ArrayLike,
    test_labels: npt.ArrayLike,
    *,
    per_class: Sequence[int] = (1, 5, 10, 50),
    draws: int = 10,
    inverse_penalty: float = 100.0,
    seed: int = 0,
    max_iter: int = 1000,
) -> ProbeReport:
    """Measures what a linear classifier reaches with a few labels of each class.

    As in `probe`, but labels of only some training rows are used, drawn anew for each
    of several measurements; all features see the same draws. Centre and scale come from
    all training rows, which need no labels. `C` is fixed, since so few labels leave
    none to choose it by; the default hardly penalizes.

    Args:
        features: For each kind of features, those of the training and the test rows,
            `[n, ...]` and `[m, ...]`.
        train_labels: Classes `[n]`.
        test_labels: Classes `[m]`.
        per_class: Numbers of labelled rows of each class.
        draws: How often they are drawn, at least 2.
        inverse_penalty: scikit-learn's `C`.
        seed: Of the draws.
        max_iter: Most iterations of the solver.

    Returns:
        The report, with a row for each number of labels and kind of features.

    Example:
        >>> x = np.array([[0.0], [0.1], [1.0], [1.1]])
        >>> y = [0, 0, 1, 1]
        >>> report = few_labels({"x": (x, x)}, y, y, per_class=(1,), draws=2)
        >>> print(report.row("x", 1))
        1.000 ± 0.000
    """
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    checked_integer("draws", draws, minimum=2)  # fewer have no standard error
    _check_per_class(per_class, train_labels)
    prepared = {
        name: _prepared(name, pair, train_labels, test_labels)
        for name, pair in features.items()
    }
    rows = []
    for count in per_class:
        chosen = [
            _labelled(train_labels, count, np.random.default_rng([seed, count, draw]))
            for draw in range(draws)
        ]
        for name, (train, test) in prepared.items():
            right = tuple(
                float(
                    _classifier(inverse_penalty, max_iter)
                    .fit(train[index], train_labels[index])
                    .score(test, test_labels)
                )
                for index in chosen
            )
            size, error = train.shape[1], _error_of_mean(right)
            rows.append(ProbeRow(name, size, count, inverse_penalty, right, error))
    return ProbeReport(tuple(rows))


def _classifier(inverse_penalty: float, max_iter: int) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_penalty, max_iter=max_iter)


def _best_penalty(
    x: np.ndarray,
    labels: np.ndarray,
    choices: Sequence[float],
    fraction: float,
    seed: int,
    max_iter: int,
) -> float:
    """Returns the `C` that is best on held-back rows; the smallest of equal ones."""
    from sklearn.model_selection import train_test_split

    choices = sorted(float(choice) for choice in choices)
    if len(choices) == 1:
        return choices[0]
    fit, held = train_test_split(
        np.arange(len(x)), test_size=fraction, random_state=seed, stratify=labels
    )
    scores = [
        _classifier(choice, max_iter)
        .fit(x[fit], labels[fit])
        .score(x[held], labels[held])
        for choice in choices
    ]
    return choices[int(np.argmax(scores))]


def _labelled(
    labels: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws rows, `count` of each class."""
    return np.concatenate(
        [
            generator.choice(np.flatnonzero(labels == label), count, replace=False)
            for label in np.unique(labels)
        ]
    )


def _check_per_class(per_class: Sequence[int], labels: np.ndarray) -> None:
    fewest = int(np.unique(labels, return_counts=True)[1].min())
    if not per_class or min(per_class) < 1 or max(per_class) > fewest:
        must = f"hold numbers from 1 to the rows of the smallest class, {fewest}"
        raise invalid("per_class", must, per_class)


def _prepared(
    name: str,
    pair: tuple[npt.ArrayLike, npt.ArrayLike],
    train_labels: np.ndarray,
    test_labels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns training and test features, centred, with a mean square length of 1."""
    train, test = (np.asarray(rows, np.float64) for rows in pair)
    fit = (len(train), len(test)) == (len(train_labels), len(test_labels))
    if not fit or train.ndim < 2 or train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"Argument `features` must hold a row for each of {len(train_labels)} and "
            f"{len(test_labels)} labels, of equal shapes. "
            f"Received: shapes {train.shape} and {test.shape} for {name!r}"
        )
    train, test = (rows.reshape(len(rows), -1) for rows in (train, test))
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError(
            "Argument `features` must hold finite numbers. "
            f"Received: others among those of {name!r}"
        )
    centre = train.mean(axis=0)
    length = math.sqrt(np.mean(np.sum(np.square(train - centre), axis=1)))
    if length == 0.0:
        raise ValueError(
            "Argument `features` must hold training rows that differ. "
            f"Received: equal ones for {name!r}"
        )
    return (train - centre) / length, (test - centre) / length


def _error_of_mean(values: Any) -> float:
    """Returns the standard error of the mean of at least two values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
