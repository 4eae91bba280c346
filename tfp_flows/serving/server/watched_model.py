"""A model's directory, watched: new versions are swapped in under running requests."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from tfp_flows.internal.arguments import invalid
from tfp_flows.internal.compat import meta_graph_pb2
from tfp_flows.serving.protos import Arrays, read_warmup
from tfp_flows.serving.server.messages import (
    Code,
    RequestError,
    State,
    VersionStatus,
    check_input_names,
)
from tfp_flows.serving.versions import existing_versions

_LOG = logging.getLogger(__name__)


class LoadedVersion:
    """A SavedModel loaded and warmed up as TF Serving does, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.number = int(path.name)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        self._callables: dict[tuple[str, ...], Callable] = {}
        self._in_flight = 0
        self._changed = threading.Condition()
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(path)
                )
            self.signatures = dict(meta_graph.signature_def)
            for signature_name, inputs in read_warmup(path):
                self.run(signature_name, inputs)
        except BaseException:
            self._session.close()
            raise

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """Returns a signature; an empty name stands for the default one."""
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self.signatures or name.startswith("__"):
            served = sorted(key for key in self.signatures if not key.startswith("__"))
            raise RequestError(
                f"signature_name: expected one of {', '.join(served)}, received "
                f"{name!r}."
            )
        return self.signatures[name]

    def run(self, signature_name: str, inputs: Arrays, only: Sequence = ()) -> Arrays:
        """Runs a signature; of the outputs, `only` the named ones, or all."""
        signature = self.signature(signature_name)
        _check_names_and_dtypes(signature, inputs, only)
        names = sorted(only or signature.outputs)
        fetches = tuple(signature.outputs[name].name for name in names)
        feeds = tuple(info.name for info in signature.inputs.values())
        # A callable, unlike `session.run`, leaves the shapes to the graph's checks.
        run = self._callables.get(feeds + fetches)
        if run is None:
            run = self._session.make_callable(list(fetches), feed_list=list(feeds))
            self._callables[feeds + fetches] = run
        try:
            outputs = run(*[inputs[name] for name in signature.inputs])
        except tf.errors.OpError as error:
            raise RequestError.from_tensorflow(error) from error
        return dict(zip(names, outputs, strict=True))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[LoadedVersion]:
        """Keeps the version loaded for the time of a request."""
        with self._changed:
            self._in_flight += 1
        try:
            yield self
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Unloads the version once the last request that uses it has been answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0)
        self._callables.clear()
        self._session.close()


def _check_names_and_dtypes(
    signature: meta_graph_pb2.SignatureDef, inputs: Arrays, only: Sequence
) -> None:
    check_input_names(inputs, signature.inputs)
    for name, value in inputs.items():
        expected = tf.as_dtype(signature.inputs[name].dtype)
        received = tf.as_dtype(value.dtype)
        if received != expected:
            raise RequestError(
                f"{name}: expected dtype {expected.name}, received {received.name}."
            )
    unknown = sorted(set(only) - set(signature.outputs))
    if unknown or len(set(only)) != len(only):
        raise RequestError(
            f"output_filter: expected some of {', '.join(sorted(signature.outputs))}, "
            f"each once, received {', '.join(only)}."
        )


class WatchedModel:
    """The newest version of a model.

    Like TF Serving, it loads and warms up a new version while the old one answers,
    switches, and unloads the old one when its last request is done. A version that
    cannot be loaded is reported, and the old one goes on.
    """

    def __init__(self, base_path: str | Path, name: str | None = None) -> None:
        self.base_path = Path(base_path).resolve()
        if not self.base_path.is_dir():
            must = "be a model's directory with version directories in it"
            raise invalid("base_path", must, str(base_path))
        self.name = name or self.base_path.name
        self._lock = threading.RLock()
        self._polling = threading.Lock()
        self._current: LoadedVersion | None = None
        self._status: dict[int, VersionStatus] = {}
        self._failed: dict[int, int] = {}

    @contextlib.contextmanager
    def version(self, number: int | None = None) -> Iterator[LoadedVersion]:
        """Yields a version, None for the current one, loaded until the block ends."""
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

    def check_name(self, name: str) -> None:
        """Refuses a model that is not the one that is served."""
        if name != self.name:
            raise RequestError(
                f"model: expected {self.name!r}, received {name!r}.", Code.NOT_FOUND
            )

    def status(self, number: int | None = None) -> list[VersionStatus]:
        """Returns the state of a version, or of all seen so far, the newest first."""
        with self._lock:
            versions = sorted(self._status.values(), key=lambda s: -s.number)
        wanted = [s for s in versions if number in (None, s.number)]
        if not wanted:
            raise RequestError(
                f"version: expected one that has been served, received {number}.",
                Code.NOT_FOUND,
            )
        return wanted

    def poll(self) -> None:
        """Polls once for a new version, and swaps it in."""
        with self._polling:
            versions = existing_versions(self.base_path)
            current = self._current
            if not versions or (current and versions[-1] == current.number):
                return
            # As TF Serving does by default: the newest, also when that is an older
            # one than before because a bad version has been removed.
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
        self._note(number, "LOADING")
        try:
            return LoadedVersion(path)
        except (tf.errors.OpError, OSError, ValueError, RequestError) as error:
            _LOG.warning("Version %d cannot be served: %s", number, error)
            self._note(number, "END", str(error))
            return None

    def _unload(self, loaded: LoadedVersion) -> None:
        self._note(loaded.number, "UNLOADING")
        loaded.close()
        self._note(loaded.number, "END")

    def _note(self, number: int, state: State, error: str = "") -> None:
        with self._lock:
            self._status[number] = VersionStatus(number, state, error)
