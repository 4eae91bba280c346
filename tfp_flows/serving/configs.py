"""Configuration files of TF Serving: which models, which versions, which batches."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tfp_flows.serving.extra import optional_module


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
    """Writes a `models.config` for `--model_config_file`.

    Args:
        path: The file; it is replaced as a whole, as a server may be polling it.
        models: The models, with names that differ.

    Raises:
        ValueError: If names repeat, a label names a version that is not served, or a
            model says both `latest` and `versions`.
        ImportError: If the `serving` extra is not installed.
    """
    protos = optional_module(
        "tensorflow_serving.config.model_server_config_pb2", "Writing models.config"
    )
    policy = optional_module(
        "tensorflow_serving.config.file_system_storage_path_source_pb2",
        "Writing models.config",
    ).FileSystemStoragePathSourceConfig.ServableVersionPolicy
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
        entry.model_version_policy.CopyFrom(_policy(policy(), model))
        for label, version in model.labels.items():
            entry.version_labels[label] = version
    _replace(path, text_format.MessageToString(config))


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
        path: The file.
        max_batch_size: Rows in a batch.
        batch_timeout_micros: How long a request waits for company, in microseconds.
        max_enqueued_batches: Batches that may wait before requests are turned away.
        num_batch_threads: Batches that run at a time.
        allowed_batch_sizes: Sizes that batches are padded to, rising, the last equal
            to `max_batch_size`; none for any size.

    Raises:
        ValueError: If a number is out of range.
    """
    numbers = {
        "max_batch_size": max_batch_size,
        "batch_timeout_micros": batch_timeout_micros,
        "max_enqueued_batches": max_enqueued_batches,
        "num_batch_threads": num_batch_threads,
    }
    for name, value in numbers.items():
        if value < (0 if name == "batch_timeout_micros" else 1):
            raise ValueError(
                f"Argument `{name}` must be positive. Received: {name}={value}"
            )
    sizes = list(allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != max_batch_size):
        raise ValueError(
            "Argument `allowed_batch_sizes` must rise and end with `max_batch_size`. "
            f"Received: allowed_batch_sizes={sizes}, max_batch_size={max_batch_size}"
        )
    lines = [f"{name} {{ value: {value} }}" for name, value in numbers.items()]
    lines += [f"allowed_batch_sizes: {size}" for size in sizes]
    _replace(path, "\n".join(lines) + "\n")


def _check_entry(model: ModelEntry) -> None:
    if (model.latest is None) == (model.versions is None):
        raise ValueError(
            "Exactly one of `latest` and `versions` must be given, the other None. "
            f"Received: latest={model.latest}, versions={model.versions}"
        )
    if model.latest is not None and model.latest < 1:
        raise ValueError(
            f"Argument `latest` must be at least 1. Received: latest={model.latest}"
        )
    if isinstance(model.versions, str) and model.versions != "all":
        raise ValueError(
            'Argument `versions` must be integers or "all". '
            f"Received: versions={model.versions!r}"
        )
    unserved = {
        label: version
        for label, version in model.labels.items()
        if isinstance(model.versions, Sequence)
        and not isinstance(model.versions, str)
        and version not in model.versions
    }
    if unserved:
        raise ValueError(
            "Argument `labels` must name versions that are served. "
            f"Received: {unserved}, versions={model.versions}"
        )


def _policy(policy: Any, model: ModelEntry) -> Any:
    """Fills in the version policy of a model."""
    if model.latest is not None:
        policy.latest.num_versions = model.latest
    elif model.versions == "all":
        policy.all.SetInParent()
    else:
        policy.specific.versions.extend(model.versions)
    return policy


def _replace(path: str | os.PathLike, text: str) -> None:
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_text(text)
    os.replace(beside, target)
