"""`CheckReport`: what the laws found of one bijector, as a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

# Messages of exceptions can be pages long; a report wants the point.
_LONGEST_MESSAGE = 300
# What TensorFlow adds about its own nodes does not help to mend a bijector.
_NODE_NAMES = re.compile(r"\{\{.*?\}\}|\[Op:.*")


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What one check found; a row of the report.

    Attributes:
        value: The measured number, or None if there is none.
        tolerance: The largest value that passes, or None.
        ok: Whether it passed; None if it does not apply to this bijector.
        message: What is wrong, why the check was skipped, or a note; often empty.
    """

    name: str = ""
    value: float | None = None
    tolerance: float | None = None
    ok: bool | None = None
    message: str = ""


def measured(
    value: float, tolerance: float, message: str, note: str = ""
) -> CheckResult:
    """Returns the result of a number that must not exceed a tolerance; NaN fails."""
    ok = bool(value <= tolerance)
    return CheckResult("", value, tolerance, ok, note if ok else message)


class Skip(Exception):
    """Raised by a check that does not apply to this bijector; says why."""


def checked(name: str, law: Callable[[], CheckResult]) -> CheckResult:
    """Runs one check; an exception becomes the message of a failed row."""
    try:
        result = law()
    except Skip as why:
        result = CheckResult(message=str(why))
    except Exception as error:  # a report tells what is broken, whatever it is
        result = CheckResult(ok=False, message=message_of(error))
    return dataclasses.replace(result, name=name)


def message_of(error: BaseException) -> str:
    """Returns an exception's first paragraph on one line, with its class."""
    paragraph = str(error).strip().split("\n\n")[0]
    words = " ".join(_NODE_NAMES.sub("", paragraph).split())
    if len(words) > _LONGEST_MESSAGE:
        words = words[:_LONGEST_MESSAGE].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The outcome of `check_bijector`; `str(report)` is a table."""

    subject: str
    rows: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not any(row.ok is False for row in self.rows)

    def __str__(self) -> str:
        words = {True: "ok", False: "FAILED", None: "-"}
        cells = [("check", "value", "tolerance", "result")] + [
            (row.name, _number(row.value), _number(row.tolerance), words[row.ok])
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, tuple("-" * width for width in widths))
        a, b, c, _ = widths
        table = [f"{n:{a}}  {v:>{b}}  {t:>{c}}  {result}" for n, v, t, result in cells]
        failed = sum(row.ok is False for row in self.rows)
        outcome = f"{failed} of {len(self.rows)} failed" if failed else ""
        head = f"{self.subject}: {outcome or 'every check passed'}"
        # Each message once, failures first, after the rows that it belongs to.
        names: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.message:
                kind = "FAILED" if row.ok is False else "note"
                names.setdefault((kind, row.message), []).append(row.name)
        notes = [
            f"{kind} {', '.join(rows)}: {message}"
            for (kind, message), rows in sorted(names.items(), key=lambda i: i[0][0])
        ]
        return "\n".join([head, "", *table, *([""] if notes else []), *notes])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if float(value).is_integer() else f"{value:.1e}"
