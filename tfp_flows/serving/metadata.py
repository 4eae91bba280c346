"""What an export says about itself, in `assets.extra/metadata.json`."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.conditional import Wrapped
from tfp_flows.internal.arguments import invalid
from tfp_flows.serving.servable import Model, Servable
from tfp_flows.serving.signatures import LOG_PROB_FLOOR, Scorer, Signature
from tfp_flows.serving.versions import existing_versions

if TYPE_CHECKING:
    from rich.console import Console

Metadata = dict[str, Any]

FILE = Path("assets.extra", "metadata.json")
_PACKAGES = ("tfp-flows", "tensorflow", "tensorflow-probability", "keras")
_FITTED = ("threshold", "false_alarm_rate")
_RESULTS = ("nll", "elbo", "reconstruction_nll", "latent_nll")
_FIXED_SCALINGS = (tfb.Scale, tfb.Shift, tfb.Sigmoid, tfb.Tanh, tfb.Exp, tfb.Softplus)


def describe(
    model: Servable,
    signatures: Iterable[Signature],
    variables: Iterable[tf.Variable],
    *,
    max_samples: int,
    training: Mapping[str, float] | None,
    scorer: Scorer | None,
) -> Metadata:
    """Returns the metadata of an export, all but its name and version."""
    weights = [variable.numpy() for variable in variables]
    fitted = {key: getattr(scorer, key, None) for key in _FITTED}
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "build": {
            **{package: _installed(package) for package in _PACKAGES},
            "python": platform.python_version(),
        },
        "event_shape": list(model.event_shape),
        "latent_shape": list(model.latent_shape) if model.has_latent else None,
        "condition_shape": model.condition_shape and list(model.condition_shape),
        "dtype": model.dtype.name,
        "weights": {
            "count": sum(weight.size for weight in weights),
            "bytes": sum(weight.nbytes for weight in weights),
            "sha256": hashlib.sha256(
                b"".join(weight.tobytes() for weight in weights)
            ).hexdigest(),
        },
        "data_scaling": data_scaling(model.bijector),
        "training": dict(training or {}),
        "limits": {"max_samples": max_samples, "log_prob_floor": LOG_PROB_FLOOR},
        "signatures": {
            signature.name: {
                name: {
                    "dtype": wanted.spec.dtype.name,
                    "shape": wanted.spec.shape.as_list(),
                }
                for name, wanted in signature.inputs.items()
            }
            for signature in signatures
        },
        "anomaly_scorer": scorer and {"scorer": type(scorer).__name__} | fitted,
    }


def write_metadata(version_path: Path, metadata: Metadata) -> None:
    """Writes the metadata of a version."""
    path = version_path / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metadata, indent=2, allow_nan=False) + "\n")


def read_metadata(path: str | os.PathLike) -> Metadata:
    """Reads what a version, or the newest in a folder of versions, says of itself."""
    version_path = Path(path)
    versions = existing_versions(version_path)
    if versions:
        version_path = version_path / str(versions[-1])
    try:
        return json.loads((version_path / FILE).read_text())
    except (OSError, ValueError) as error:
        must = f"be an export of this package, with a readable {FILE}"
        got = f"path={os.fspath(path)!r} ({error})"
        raise invalid("path", must, got=got) from error


def show_export(path: str | os.PathLike, console: Console | None = None) -> None:
    """Prints the metadata and the signatures of an export.

    `path` is as in `read_metadata`; without a console it is printed to the terminal.
    """
    from rich.console import Console
    from rich.table import Table

    metadata = read_metadata(path)
    signatures = metadata.pop("signatures")
    title = f"{metadata.pop('name')}, version {metadata.pop('version')}"
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in metadata.items():
        table.add_row(key.replace("_", " "), _text(value))
    requests = Table("signature", "input", "dtype", "shape", title_justify="left")
    for signature, inputs in signatures.items():
        for index, (name, spec) in enumerate(inputs.items()):
            shape = ["batch" if size is None else size for size in spec["shape"]]
            first = signature if index == 0 else ""
            requests.add_row(first, name, spec["dtype"], _text(shape))
    console = console or Console()
    console.print(table)
    console.print(requests)


def data_scaling(bijector: tfb.Bijector | None) -> list[Metadata]:
    """Describes the fixed scaling on the data's side of a flow.

    It is that of the leading bijectors without trained weights, from data to latent,
    such as `[{"bijector": "Scale", "scale": 17.0}]`; data are `bijector(x)`.
    """
    steps = []
    for part in _flattened(bijector):
        if not isinstance(part, _FIXED_SCALINGS) or part.variables:
            break
        constants = {
            name: tf.convert_to_tensor(part.parameters[name]).numpy().tolist()
            for name in ("scale", "log_scale", "shift")
            if part.parameters.get(name) is not None
        }
        steps.append({"bijector": type(part).__name__.strip("_"), **constants})
    return steps


def training_results(model: Model) -> dict[str, float]:
    """Returns the last results in nats of a Keras model that has been fitted."""
    history = getattr(getattr(model, "history", None), "history", None) or {}
    return {
        name: float(values[-1])
        for name, values in history.items()
        if name.removeprefix("val_") in _RESULTS and values
    }


def _flattened(bijector: tfb.Bijector | None) -> Iterable[tfb.Bijector]:
    if isinstance(bijector, Wrapped):
        bijector = bijector.bijector
    parts = getattr(bijector, "bijectors", None)
    if parts is None:
        return [] if bijector is None else [bijector]
    return [inner for part in parts for inner in _flattened(part)]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(value: object) -> str:
    if isinstance(value, dict):
        lines = [f"{key}: {_text(inner)}" for key, inner in value.items()]
        return "\n".join(lines) or "-"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(", ".join(_text(inner).splitlines()) for inner in value)
    if isinstance(value, list):
        # A doubled bracket: rich takes a single one for markup.
        return "\\[" + ", ".join(map(str, value)) + "]"
    return "-" if value is None else str(value)
