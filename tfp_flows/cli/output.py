"""Files that are whole or absent."""

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Gives a file beside `path` to write to, and renames it when all went well."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        written = Path(folder) / path.name
        yield written
        with written.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(written, path)


def checked_target(path: Path, suffixes: Sequence[str]) -> Path:
    """Refuses a file that could not be written, before any work is done for it.

    Args:
        path: The file to be written.
        suffixes: The endings that name a format.

    Returns:
        The path.

    Raises:
        ValueError: If the ending is another, or the folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"`--out` must end in {', '.join(suffixes)}. Received: {path}."
        )
    if not path.parent.is_dir():
        raise ValueError(f"`--out` must lie in an existing folder. Received: {path}.")
    return path


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with written_beside(path) as file:
        file.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes strict JSON: numbers that are not finite raise a `ValueError`."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, names: Sequence[str], rows: Any) -> None:
    """Writes a header line and one line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_text(path, text.getvalue())
