"""Files in TF Serving's own messages: configurations and warm-up records."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from tfp_flows.internal.arguments import checked_integer, invalid
from tfp_flows.internal.files import atomic_write
from tfp_flows.serving.servable import Servable
from tfp_flows.serving.signatures import Signature

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")

Arrays = dict[str, np.ndarray]


def optional_module(name: str, purpose: str) -> ModuleType:
    """Imports a module of the `serving` extra, or says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the packages of the `serving` extra: "
            f"pip install 'tfp-flows[serving]'. Received: {error}"
        ) from error


def has_serving_protos() -> bool:
    """Whether tensorflow-serving-api is installed, with which warm-up is written."""
    return importlib.util.find_spec("tensorflow_serving") is not None


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One model of a `models.config`.

    Attributes:
        name: Name under which clients ask for it.
        base_path: Its directory, as the server sees it, such as "/models/flow".
        latest: Number of newest versions to serve; None if `versions` says it.
        versions: Exactly these versions; "all" for every one that is there.
        labels: Versions by label, such as `{"stable": 3, "canary": 4}`; each must be
            among the served ones.
    """

    name: str
    base_path: str
    latest: int | None = 1
    versions: Sequence[int] | str | None = None
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def write_models_config(path: str | os.PathLike, models: Sequence[ModelEntry]) -> None:
    """Writes a `models.config` for `--model_config_file`; names must differ.

    It needs the `serving` extra. The write is atomic, as a server may be polling it.
    """
    package, purpose = "tensorflow_serving.config", "Writing models.config"
    protos = optional_module(f"{package}.model_server_config_pb2", purpose)
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise ValueError(f"Argument `models` must not repeat a name. Received: {names}")
    config = protos.ModelServerConfig()
    for model in models:
        _check_entry(model)
        entry = config.model_config_list.config.add()
        entry.name = model.name
        entry.base_path = str(model.base_path)
        entry.model_platform = "tensorflow"
        policy = entry.model_version_policy
        if model.latest is not None:
            policy.latest.num_versions = model.latest
        elif model.versions == "all":
            policy.all.SetInParent()
        else:
            policy.specific.versions.extend(model.versions)
        for label, version in model.labels.items():
            entry.version_labels[label] = version
    _write_text(path, text_format.MessageToString(config))


def write_batching_config(
    path: str | os.PathLike,
    *,
    max_batch_size: int = 128,
    batch_timeout_micros: int = 2000,
    max_enqueued_batches: int = 256,
    num_batch_threads: int = 4,
    allowed_batch_sizes: Sequence[int] = (),
) -> None:
    """Writes a file for `--batching_parameters_file`.

    A server with batching on joins the rows of several requests. `sample` has scalar
    inputs and is refused there: ask `sample_batch`. A request that the graph refuses
    takes those with it that share its batch.

    Args:
        max_batch_size: Rows in a batch.
        batch_timeout_micros: How long a request waits for company, in microseconds.
        max_enqueued_batches: Batches that may wait before requests are turned away.
        num_batch_threads: Batches that run at a time.
        allowed_batch_sizes: Sizes that batches are padded to, rising, the last equal
            to `max_batch_size`; none for any size.
    """
    settings = {
        "max_batch_size": max_batch_size,
        "batch_timeout_micros": batch_timeout_micros,
        "max_enqueued_batches": max_enqueued_batches,
        "num_batch_threads": num_batch_threads,
    }
    for name, value in settings.items():
        checked_integer(name, value, minimum=int(name != "batch_timeout_micros"))
    sizes = list(allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != max_batch_size):
        must = f"rise and end with `max_batch_size`, {max_batch_size}"
        raise invalid("allowed_batch_sizes", must, sizes)
    lines = [f"{name} {{ value: {value} }}" for name, value in settings.items()]
    lines += [f"allowed_batch_sizes: {size}" for size in sizes]
    _write_text(path, "\n".join(lines) + "\n")


def _check_entry(model: ModelEntry) -> None:
    versions = model.versions
    if (model.latest is None) == (versions is None):
        raise ValueError(
            "Exactly one of `latest` and `versions` must be given, the other None. "
            f"Received: latest={model.latest}, versions={versions}"
        )
    if model.latest is not None:
        checked_integer("latest", model.latest)
    elif isinstance(versions, str):
        if versions != "all":
            raise invalid("versions", 'be integers or "all"', versions)
    elif not set(model.labels.values()) <= set(versions):
        must = f"name versions that are served, of {list(versions)}"
        raise invalid("labels", must, dict(model.labels))


def _write_text(path: str | os.PathLike, text: str) -> None:
    with atomic_write(path) as written:
        written.write_text(text)


def write_warmup(
    version_path: Path,
    model_name: str,
    model: Servable,
    signatures: Iterable[Signature],
) -> None:
    """Writes one warm-up record a signature, a right request of one row.

    TF Serving replays them when it loads a version, so that no client waits for
    TensorFlow to optimize its graph. The model's own samples stand for data.
    """
    protos = _prediction_log("Writing")
    x, condition = model.examples(1)
    examples = {
        "x": x,
        "image": tf.saturate_cast(x, tf.uint8),
        "latent": model.encode(x, condition),
        "n": 1,
        "seed": [0, 1],
        "temperature": 1.0,
        "condition": condition,
    }
    path = version_path / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            for served_as in signature.served_as:
                log = protos.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name = model_name
                request.model_spec.signature_name = served_as
                for name, wanted in signature.inputs.items():
                    value = _shaped(examples[name], wanted.spec)
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                writer.write(log.SerializeToString())


def read_warmup(version_path: Path) -> Iterator[tuple[str, Arrays]]:
    """Yields the signature name and the inputs of every warm-up record."""
    path = version_path / WARMUP_FILE
    if not path.exists():
        return
    protos = _prediction_log("Reading")
    for record in tf.data.TFRecordDataset(str(path)):
        request = protos.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(t) for name, t in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def _prediction_log(verb: str) -> ModuleType:
    name = "tensorflow_serving.apis.prediction_log_pb2"
    return optional_module(name, f"{verb} warm-up records")


def _shaped(value: tf.Tensor | list | float, spec: tf.TensorSpec) -> np.ndarray:
    """Gives an example the dtype of an input and one row where it has rows."""
    array = np.asarray(value, spec.dtype.as_numpy_dtype)
    return array.reshape([1 if size is None else size for size in spec.shape])
