"""`probe` and `few_labels`: linear classifiers on features, with all or few labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from tfp_flows.representation.report import ProbeReport, ProbeRow, error_of_mean

Parts = tuple[np.ndarray, np.ndarray]


def probe(
    features: Mapping[str, tuple[Any, Any]],
    train_labels: Any,
    test_labels: Any,
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

    Raises:
        ValueError: If shapes do not fit, or features are not finite or all equal.

    Example:
        >>> x = np.array([[0.0], [0.1], [1.0], [1.1]] * 5)
        >>> report = probe({"x": (x, x)}, [0, 0, 1, 1] * 5, [0, 0, 1, 1] * 5)
        >>> report.row("x").accuracy
        1.0
    """
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if not inverse_penalties or min(inverse_penalties) <= 0.0:
        raise ValueError(
            "Argument `inverse_penalties` must hold positive numbers. "
            f"Received: {inverse_penalties!r}"
        )
    rows = []
    for name, parts in features.items():
        train, test = _prepared(name, parts, train_labels, test_labels)
        best = _best_penalty(
            train, train_labels, inverse_penalties, validation_fraction, seed, max_iter
        )
        fitted = _classifier(best, max_iter).fit(train, train_labels)
        right = float(fitted.score(test, test_labels))
        error = math.sqrt(right * (1.0 - right) / len(test))
        rows.append(ProbeRow(name, train.shape[1], None, best, (right,), error))
    return ProbeReport(tuple(rows))


def few_labels(
    features: Mapping[str, tuple[Any, Any]],
    train_labels: Any,
    test_labels: Any,
    *,
    per_class: Sequence[int] = (1, 5, 10, 50),
    draws: int = 10,
    inverse_penalty: float = 100.0,
    seed: int = 0,
    max_iter: int = 1000,
) -> ProbeReport:
    """Measures what a linear classifier reaches with a few labels of each class.

    As in `probe`, but labels of only some training rows are used, drawn anew for each
    of several figures; all features see the same draws. Centre and scale come from
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

    Raises:
        ValueError: If shapes do not fit, a class has too few rows, `draws` is less
            than 2, or features are not finite or all equal.

    Example:
        >>> x = np.array([[0.0], [0.1], [1.0], [1.1]])
        >>> y = [0, 0, 1, 1]
        >>> report = few_labels({"x": (x, x)}, y, y, per_class=(1,), draws=2)
        >>> print(report.row("x", 1))
        1.000 ± 0.000
    """
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 2:
        raise ValueError(
            "Argument `draws` must be an integer of at least 2, for a standard error. "
            f"Received: draws={draws!r}"
        )
    _check_per_class(per_class, train_labels)
    prepared = {
        name: _prepared(name, parts, train_labels, test_labels)
        for name, parts in features.items()
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
            size, error = train.shape[1], error_of_mean(right)
            rows.append(ProbeRow(name, size, count, inverse_penalty, right, error))
    return ProbeReport(tuple(rows))


def _classifier(inverse_penalty: float, max_iter: int) -> LogisticRegression:
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
        raise ValueError(
            "Argument `per_class` must hold numbers from 1 to that of the rows of the "
            f"smallest class, {fewest}. Received: per_class={per_class!r}"
        )


def _prepared(
    name: str, parts: tuple[Any, Any], train_labels: np.ndarray, test_labels: np.ndarray
) -> Parts:
    """Returns features of both parts, centred, with a mean square length of 1."""
    train, test = (np.asarray(part, np.float64) for part in parts)
    fit = (len(train), len(test)) == (len(train_labels), len(test_labels))
    if not fit or train.ndim < 2 or train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"Argument `features` must hold a row for each of {len(train_labels)} and "
            f"{len(test_labels)} labels, of equal shapes. "
            f"Received: shapes {train.shape} and {test.shape} for {name!r}"
        )
    train, test = (part.reshape(len(part), -1) for part in (train, test))
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
