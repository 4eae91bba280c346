"""`CheckReport`: the rows that `check_bijector` fills, as a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

# Sentences of exceptions can be pages long; a report wants the point.
_LONGEST_SENTENCE = 300
# What TensorFlow adds about its own nodes helps nobody to mend a bijector.
_NODE_NAMES = re.compile(r"\{\{.*?\}\}|\[Op:.*")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        value: The measured number, or None if there is none.
        tolerance: The largest value that passes, or None if nothing was judged.
        sentence: What is wrong, or why nothing was judged, or a remark.
        ok: Whether it passed; None if it does not apply to this bijector.
    """

    value: float | None = None
    tolerance: float | None = None
    sentence: str = ""
    ok: bool | None = None


def judged(value: float, tolerance: float, wrong: str, remark: str = "") -> Finding:
    """Returns the finding of a number that must not exceed a tolerance.

    Args:
        value: The measured number; NaN fails.
        tolerance: The largest number that passes.
        wrong: The sentence for a number that is too large.
        remark: The sentence for one that passes.
    """
    ok = value <= tolerance
    return Finding(value, tolerance, remark if ok else wrong, bool(ok))


def not_judged(why: str) -> Finding:
    """Returns the finding of a check that does not apply to this bijector."""
    return Finding(sentence=why)


@dataclasses.dataclass(frozen=True)
class CheckRow:
    """One named check of a report.

    Attributes:
        name: What was checked.
        value: The measured number, or None.
        tolerance: The largest number that passes, or None.
        ok: Whether it passed; None if it does not apply to this bijector.
        sentence: What is wrong, or a remark; empty if there is nothing to say.
    """

    name: str
    value: float | None
    tolerance: float | None
    ok: bool | None
    sentence: str

    @property
    def verdict(self) -> str:
        """The word in the table: `ok`, `FAILED` or `-`."""
        return {True: "ok", False: "FAILED", None: "-"}[self.ok]


def row(name: str, check: Callable[[], Finding]) -> CheckRow:
    """Runs one check; an exception becomes the sentence of a failed row."""
    try:
        found = check()
    except Exception as error:  # a report tells what is broken, whatever it is
        found = Finding(sentence=sentence_of(error), ok=False)
    return CheckRow(name, found.value, found.tolerance, found.ok, found.sentence)


def sentence_of(error: BaseException) -> str:
    """Returns an exception's first paragraph on one line, with its class."""
    paragraph = str(error).strip().split("\n\n")[0]
    words = " ".join(_NODE_NAMES.sub("", paragraph).split())
    if len(words) > _LONGEST_SENTENCE:
        words = words[:_LONGEST_SENTENCE].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The outcome of `check_bijector`; `str(report)` is a table.

    Attributes:
        subject: Name and class of the bijector that was checked.
        rows: The checks, in order.
    """

    subject: str
    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not any(row.ok is False for row in self.rows)

    def __str__(self) -> str:
        head = ("check", "value", "tolerance", "result")
        cells = [
            (row.name, _number(row.value), _number(row.tolerance), row.verdict)
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = [_line(head, widths), _line(tuple("-" * w for w in widths), widths)]
        lines += [_line(each, widths) for each in cells]
        failed = sum(row.ok is False for row in self.rows)
        verdict = (
            "every check passed" if self.ok else f"{failed} of {len(cells)} failed"
        )
        notes = self._notes()
        return "\n".join(
            [f"{self.subject}: {verdict}", "", *lines, *([""] if notes else []), *notes]
        )

    def _notes(self) -> list[str]:
        """Says each sentence once, after the names of the rows it belongs to."""
        names: dict[tuple[bool, str], list[str]] = {}
        for each in self.rows:
            if each.sentence:
                key = (each.ok is not False, each.sentence)
                names.setdefault(key, []).append(each.name)
        return [
            f"{'note' if fine else 'FAILED'} {', '.join(rows)}: {sentence}"
            for (fine, sentence), rows in sorted(names.items(), key=lambda i: i[0][0])
        ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if float(value).is_integer() else f"{value:.1e}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, value, tolerance, verdict = (
        cell.ljust(width) if column in (0, 3) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return f"{name}  {value}  {tolerance}  {verdict}".rstrip()
