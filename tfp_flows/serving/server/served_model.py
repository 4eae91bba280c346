"""A model's directory, watched: new versions are swapped in, none is torn away."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tfp_flows.serving.server.errors import Code, RequestError
from tfp_flows.serving.server.loaded_version import LoadedVersion
from tfp_flows.serving.versions import existing_versions

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version, in the words of TF Serving's `ModelVersionStatus`.

    Attributes:
        number: The version.
        state: "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error: Why it could not be loaded; empty otherwise.
    """

    number: int
    state: str
    error: str = ""


class ServedModel:
    """The newest version of a model, and for a moment its predecessor.

    Like TF Serving, it looks for new versions from time to time, loads and warms up a
    new one while the old one answers, switches, and unloads the old one when its last
    request is done. A version that cannot be loaded is reported and left alone; the
    old one goes on.

    Args:
        base_path: The model's directory.
        name: Name under which it is served; None for that of the directory.

    Raises:
        ValueError: If the directory does not exist.
    """

    def __init__(self, base_path: str | Path, name: str | None = None) -> None:
        self.base_path = Path(base_path).resolve()
        if not self.base_path.is_dir():
            raise ValueError(
                "Argument `base_path` must be a model's directory with version "
                f"directories in it. Received: base_path={str(base_path)!r}"
            )
        self.name = name or self.base_path.name
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._current: LoadedVersion | None = None
        self._status: dict[int, VersionStatus] = {}
        self._failed: dict[int, int] = {}

    @contextlib.contextmanager
    def version(self, number: int | None = None) -> Iterator[LoadedVersion]:
        """Yields a loaded version, which stays loaded until the block ends.

        Args:
            number: The wanted version; None for the current one.

        Raises:
            RequestError: If it is not loaded.
        """
        with contextlib.ExitStack() as stack:
            with self._lock:
                current = self._current
                if current is None:
                    raise RequestError(
                        f"model: no version of {self.name!r} is loaded yet.",
                        Code.UNAVAILABLE,
                    )
                if number is not None and number != current.number:
                    raise RequestError(
                        f"version: expected {current.number}, the one that is loaded, "
                        f"received {number}.",
                        Code.NOT_FOUND,
                    )
                # Under the lock, so that it cannot be unloaded in between.
                stack.enter_context(current.in_use())
            yield current

    def status(self) -> list[VersionStatus]:
        """Returns the state of every version seen so far, the newest first."""
        with self._lock:
            return sorted(self._status.values(), key=lambda s: -s.number)

    def poll(self) -> None:
        """Looks once for a newer version, and swaps it in."""
        with self._polling:
            versions = existing_versions(self.base_path)
            current = self._current
            if not versions or (current and versions[-1] == current.number):
                return
            # As TF Serving does by default: the newest, also when that is an older
            # one than before because somebody has removed a bad version.
            number = versions[-1]
            path = self.base_path / str(number)
            changed = path.stat().st_mtime_ns
            if self._failed.get(number) == changed:
                return
            loaded = self._load(path)
            if loaded is None:
                self._failed[number] = changed
                return
            with self._lock:
                previous, self._current = self._current, loaded
                self._note(number, "AVAILABLE")
            if previous is not None:
                self._unload(previous)

    def close(self) -> None:
        """Unloads what is loaded."""
        with self._polling:
            with self._lock:
                current, self._current = self._current, None
            if current is not None:
                self._unload(current)

    def _load(self, path: Path) -> LoadedVersion | None:
        number = int(path.name)
        with self._lock:
            self._note(number, "LOADING")
        try:
            return LoadedVersion(path)
        except (tf.errors.OpError, OSError, ValueError, RequestError) as error:
            _LOG.warning("Version %d cannot be served: %s", number, error)
            with self._lock:
                self._note(number, "END", str(error))
            return None

    def _unload(self, loaded: LoadedVersion) -> None:
        with self._lock:
            self._note(loaded.number, "UNLOADING")
        loaded.close()
        with self._lock:
            self._note(loaded.number, "END")

    def _note(self, number: int, state: str, error: str = "") -> None:
        self._status[number] = VersionStatus(number, state, error)
