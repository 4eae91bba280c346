"""Files that are whole or absent: `atomic_write`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a file to write to, which takes the place of `path` when all went well.

    The file has the same name and lies in a hidden folder beside `path`, on the same
    filesystem; that folder must exist. It is brought to disk before it is renamed, and
    the rename after it; an interruption or an error leaves whatever was at `path`.
    """
    target = existing_folder_of(path)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as folder:
        written = Path(folder) / target.name
        yield written
        synchronize(written)
        os.replace(written, target)
        synchronize(target.parent)


def existing_folder_of(path: str | os.PathLike, name: str = "path") -> Path:
    """Returns `path` if the folder that it lies in exists."""
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(
            f"Argument `{name}` must lie in an existing folder. "
            f"Received: {name}='{target}'"
        )
    return target


def synchronize(path: str | os.PathLike) -> None:
    """Brings a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
