"""`detection_report`: how well scores tell anomalies from normal rows."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tfp_flows.internal.arguments import checked_choice, invalid

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric with a bootstrap interval around it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True)
class Detection:
    """How well one scorer finds one kind of anomaly.

    Attributes:
        auroc: Area under the ROC curve: the probability that an anomaly has a larger
            score than a normal row. Chance has 0.5.
        aupr: Area under the precision-recall curve (average precision), with anomalies
            as the positives. Chance has their share of all rows.
    """

    anomalies: str
    scorer: str
    auroc: Interval
    aupr: Interval
    normal_count: int
    anomaly_count: int


@dataclasses.dataclass(frozen=True)
class DetectionReport:
    """What `detection_report` measured; `str(report)` is a table, rich prints it too.

    Attributes:
        rows: One entry for each scorer and kind of anomaly.
    """

    rows: tuple[Detection, ...]
    confidence: float
    resamples: int

    def best(self, anomalies: str) -> Detection:
        """Returns the entry with the largest AUROC for a kind of anomaly."""
        known = sorted({row.anomalies for row in self.rows})
        checked_choice("anomalies", anomalies, known)
        entries = [row for row in self.rows if row.anomalies == anomalies]
        return max(entries, key=lambda row: row.auroc.value)

    def to_dict(self) -> dict[str, object]:
        """Returns everything as plain lists, dictionaries and numbers, for JSON."""
        return dataclasses.asdict(self)

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(
            title=f"Detection of anomalies, with {self.confidence:.0%} intervals",
            title_justify="left",
        )
        for column in ("anomalies", "scorer", "AUROC", "AUPR", "rows"):
            table.add_column(column, no_wrap=True)
        before = None
        for row in self.rows:
            if before not in (None, row.anomalies):
                table.add_section()
            name = row.anomalies if row.anomalies != before else ""
            counts = f"{row.normal_count} + {row.anomaly_count}"
            # Rich takes a single bracket for markup.
            cells = (str(cell).replace("[", "\\[") for cell in (row.auroc, row.aupr))
            table.add_row(name, row.scorer, *cells, counts)
            before = row.anomalies
        return table

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=120).print(self)
        return out.getvalue()


def detection_report(
    normal: Mapping[str, npt.ArrayLike],
    anomalies: Mapping[str, Mapping[str, npt.ArrayLike]],
    *,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> DetectionReport:
    """Measures how well scores tell anomalies from normal rows.

    Intervals of probability `confidence` are the bootstrap's: normal rows and anomalies
    are drawn with replacement, the same ones for all scorers.

    Args:
        normal: Scores `[n]` of normal rows, by the name of the scorer.
        anomalies: For each kind of anomaly, scores `[m]` by the name of the scorer.

    Example:
        >>> report = detection_report({"a": [0, 1]}, {"far": {"a": [2, 3]}})
        >>> report.best("far").auroc.value
        1.0
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = []
    for kind, scores in anomalies.items():
        if set(scores) != set(normal):
            must = f"have the scorers {sorted(normal)} for each kind"
            raise invalid("anomalies", must, got=f"{sorted(scores)} for {kind!r}")
        for scorer in normal:
            values = [np.asarray(s[scorer], np.float64) for s in (normal, scores)]
            for name, found in zip(("normal", "anomalies"), values, strict=True):
                if not np.isfinite(found).all():
                    got = f"{np.sum(~np.isfinite(found))} scores that are not"
                    raise invalid(name, "hold finite scores", got=got)
            measure = _Bootstrap(*values, confidence, resamples, seed)
            auroc = measure(roc_auc_score)
            aupr = measure(average_precision_score)
            rows.append(Detection(kind, scorer, auroc, aupr, *map(len, values)))
    return DetectionReport(tuple(rows), confidence, resamples)


class _Bootstrap:
    """A metric of two sets of scores, and its percentiles over resamples."""

    def __init__(
        self,
        normal: np.ndarray,
        anomalies: np.ndarray,
        confidence: float,
        resamples: int,
        seed: int,
    ) -> None:
        self._sizes = len(normal), len(anomalies)
        self._scores = np.concatenate([normal, anomalies])
        self._is_anomaly = np.repeat([0, 1], self._sizes)
        self._ends = (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0
        self._resamples, self._seed = resamples, seed

    def __call__(self, metric: Callable[..., float]) -> Interval:
        generator = np.random.default_rng(self._seed)
        # A resample is how often each row was drawn.
        drawn = [
            metric(self._is_anomaly, self._scores, sample_weight=weights)
            for weights in (self._counts(generator) for _ in range(self._resamples))
        ]
        low, high = np.quantile(drawn, self._ends)
        value = metric(self._is_anomaly, self._scores)
        return Interval(float(value), float(low), float(high))

    def _counts(self, generator: np.random.Generator) -> np.ndarray:
        return np.concatenate(
            [generator.multinomial(n, np.full(n, 1.0 / n)) for n in self._sizes]
        )
