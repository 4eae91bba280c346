"""Files that are whole or absent."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfp_flows.internal.files import atomic_write


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
    with atomic_write(path) as file:
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
