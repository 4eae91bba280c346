"""The `.keras` archive as a file: its name, and whether it is whole."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path


def checked_path(path: str | os.PathLike) -> Path:
    """Returns `path` if it names a `.keras` file; raises `ValueError` otherwise."""
    checked = Path(path)
    if checked.suffix != ".keras":
        raise ValueError(f"Argument `path` must end in '.keras'. Received: {path}")
    return checked


def check_archive(path: Path) -> None:
    """Refuses a missing or damaged `.keras` archive with one sentence."""
    if not path.is_file():
        raise ValueError(f"Argument `path` must name a file. Received: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"The file {path} is not a whole archive: {error}.") from error
    missing = {"config.json", "metadata.json"} - names
    if damaged or missing:
        what = f"'{damaged}' is damaged" if damaged else f"{sorted(missing)} is missing"
        raise ValueError(f"The file {path} is not a whole `.keras` archive: {what}.")
