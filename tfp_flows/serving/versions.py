"""Version directories, written atomically.

TF Serving takes every child of a model's directory whose name is an integer for a
version, each second, without asking whether it is complete. So a version is written
under a hidden name that is no integer, brought to disk, and renamed in one step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tfp_flows.internal.arguments import checked_integer, invalid
from tfp_flows.internal.files import synchronize

try:
    import fcntl
except ImportError:  # Windows: leftovers of a killed export stay where they are.
    fcntl = None

_STAGING_PREFIX = ".staging-"
_LARGEST_VERSION = 2**63 - 1  # TF Serving keeps versions in an int64.


def existing_versions(base_path: str | os.PathLike) -> list[int]:
    """Returns the versions under a model's directory, in rising order."""
    base = Path(base_path)
    if not base.is_dir():
        return []
    names = [child.name for child in base.iterdir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def check_version(base_path: str | os.PathLike, version: int | None) -> None:
    """Refuses a version that is no positive 64-bit integer, or exists."""
    base = Path(base_path)
    if base.exists() and not base.is_dir():
        raise invalid("base_path", "be a directory, or not exist yet", str(base))
    if version is None:
        return
    if checked_integer("version", version) > _LARGEST_VERSION:
        raise invalid("version", "be a 64-bit integer", version)
    if version in existing_versions(base):
        must = "not exist yet, because a server may have it loaded"
        raise invalid("version", must, version)


@contextlib.contextmanager
def staging_directory(base_path: str | os.PathLike) -> Iterator[Path]:
    """Opens a hidden directory under `base_path` to write a version into.

    What is not published by the end of the block is removed; what a killed process
    leaves behind, under a name that no server looks at, by the next export.
    """
    base = Path(base_path)
    base.mkdir(parents=True, exist_ok=True)
    with _lock(base):
        _remove_abandoned(base)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=base))
        # Held for as long as this process lives: so one can tell what is abandoned.
        alive = os.open(staging, os.O_RDONLY)
        _try_lock(alive)
    staging.chmod(0o755)  # mkdtemp's 0700 would keep a server's own user out.
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(alive)


def publish(
    staging: Path,
    base_path: str | os.PathLike,
    version: int | None,
    before: Callable[[int], None],
) -> Path:
    """Makes a complete staging directory visible as a version; None is the next.

    `before` is called with the number, to write what depends on it.
    """
    base = Path(base_path)
    with _lock(base):
        check_version(base, version)
        number = version or max(existing_versions(base), default=0) + 1
        before(number)
        for path in staging.rglob("*"):
            synchronize(path)
        synchronize(staging)
        # Without locks a rename onto another's version fails: it is never empty.
        os.rename(staging, base / str(number))
        synchronize(base)
    return base / str(number)


def _remove_abandoned(base: Path) -> None:
    """Removes what killed exports left: their locks went with their processes."""
    for leftover in base.glob(f"{_STAGING_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(leftover, os.O_RDONLY)
            if _try_lock(lock):
                shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _try_lock(descriptor: int) -> bool:
    """Locks an open file or directory if it is free; False also without locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _lock(base: Path) -> Iterator[None]:
    """Lets one process at a time choose a number, where the filesystem can."""
    descriptor = os.open(base, os.O_RDONLY)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
