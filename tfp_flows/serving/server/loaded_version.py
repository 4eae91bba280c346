"""One version of a model, loaded the way TF Serving loads it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfp_flows.serving.server.errors import RequestError, from_tensorflow
from tfp_flows.serving.warmup import read_warmup

Arrays = dict[str, np.ndarray]


class LoadedVersion:
    """A SavedModel in a session of its own, which frees its memory when closed.

    Args:
        path: The version directory. Its warm-up records are replayed.

    Raises:
        tf.errors.OpError: If it cannot be loaded or a warm-up request fails.
        OSError: If there is no SavedModel.
    """

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
        """Returns a signature; an empty name stands for the default one.

        Raises:
            RequestError: If there is none of that name.
        """
        name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in self.signatures or name.startswith("__"):
            served = sorted(key for key in self.signatures if not key.startswith("__"))
            raise RequestError(
                f"signature_name: expected one of {', '.join(served)}, received "
                f"{name!r}."
            )
        return self.signatures[name]

    def run(
        self, signature_name: str, inputs: Mapping[str, np.ndarray], only: Sequence = ()
    ) -> Arrays:
        """Runs a signature.

        Args:
            signature_name: Its name.
            inputs: Arrays by input name, each of its right dtype.
            only: Names of the outputs to compute; none for all.

        Returns:
            Arrays by output name.

        Raises:
            RequestError: If inputs are missing, too many, of a wrong dtype, or
                refused by the graph.
        """
        signature = self.signature(signature_name)
        _check_inputs(signature, inputs)
        _check_outputs(signature, only)
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
            raise from_tensorflow(error) from error
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


def _check_inputs(
    signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]
) -> None:
    if set(inputs) != set(signature.inputs):
        raise RequestError(
            f"inputs: expected exactly {', '.join(sorted(signature.inputs))}, received "
            f"{', '.join(sorted(inputs)) or 'none'}."
        )
    for name, value in inputs.items():
        expected = tf.as_dtype(signature.inputs[name].dtype)
        received = tf.as_dtype(value.dtype)
        if received != expected:
            raise RequestError(
                f"{name}: expected dtype {expected.name}, received {received.name}."
            )


def _check_outputs(signature: meta_graph_pb2.SignatureDef, only: Sequence) -> None:
    unknown = sorted(set(only) - set(signature.outputs))
    if unknown or len(set(only)) != len(only):
        raise RequestError(
            f"output_filter: expected some of {', '.join(sorted(signature.outputs))}, "
            f"each once, received {', '.join(only)}."
        )
