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
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.serving.served_flow import ServedFlow
from tfp_flows.serving.signatures import LOG_PROB_FLOOR, Signature
from tfp_flows.serving.versions import existing_versions

tfb = tfp.bijectors

FILE = Path("assets.extra", "metadata.json")
_PACKAGES = ("tfp-flows", "tensorflow", "tensorflow-probability", "keras")
_RESULTS = ("nll", "elbo", "reconstruction_nll", "latent_nll")
_FIXED_SCALINGS = (tfb.Scale, tfb.Shift, tfb.Sigmoid, tfb.Tanh, tfb.Exp, tfb.Softplus)


def describe(
    flow: ServedFlow,
    signatures: Iterable[Signature],
    variables: Iterable[tf.Variable],
    *,
    max_samples: int,
    training: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Returns the metadata of an export, all but its name and version.

    Args:
        flow: The exported flow.
        signatures: Its signatures.
        variables: Everything that its graphs read.
        max_samples: Largest `n` of `sample`.
        training: What is known from training, such as `nll` in nats.
    """
    variables = list(variables)
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "build": {
            **{package: _installed(package) for package in _PACKAGES},
            "python": platform.python_version(),
        },
        "event_shape": list(flow.event_shape),
        "latent_shape": list(flow.latent_shape) if flow.has_latent else None,
        "condition_shape": flow.condition_shape and list(flow.condition_shape),
        "dtype": flow.dtype.name,
        "weights": {
            "count": sum(int(variable.shape.num_elements()) for variable in variables),
            "bytes": sum(variable.numpy().nbytes for variable in variables),
            "sha256": _digest(variables),
        },
        "data_scaling": data_scaling(flow.data_bijector),
        "training": dict(training or {}),
        "limits": {"max_samples": max_samples, "log_prob_floor": LOG_PROB_FLOOR},
        "signatures": {
            signature.name: {
                name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
                for name, spec in signature.inputs.items()
            }
            for signature in signatures
        },
    }


def describe_scorer(scorer: Any) -> dict[str, Any] | None:
    """Returns what is known of an anomaly scorer, or None without one."""
    if scorer is None:
        return None
    fitted = {
        name: getattr(scorer, name, None) for name in ("threshold", "false_alarm_rate")
    }
    return {"scorer": type(scorer).__name__, **fitted}


def write_metadata(version_path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the metadata of a version."""
    path = version_path / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metadata, indent=2, allow_nan=False) + "\n")


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what an export says about itself.

    Args:
        path: A version directory, or a model's directory, of which the newest
            version is taken.

    Returns:
        The metadata.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    version_path = Path(path)
    versions = existing_versions(version_path)
    if versions:
        version_path = version_path / str(versions[-1])
    try:
        return json.loads((version_path / FILE).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            "Argument `path` must be an export of this package, with a readable "
            f"{FILE}. Received: path={os.fspath(path)!r} ({error})"
        ) from error


def data_scaling(bijector: tfb.Bijector | None) -> list[dict[str, Any]]:
    """Describes the fixed scaling on the data's side of a flow.

    Args:
        bijector: The bijector of the flow.

    Returns:
        The leading bijectors without trained weights, from data to latent, such as
        `[{"bijector": "Scale", "scale": 17.0}]`; a value `y` of the data is
        `bijector(x)`.
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


def training_results(model: Any) -> dict[str, float]:
    """Returns the last results in nats of a Keras model that has been fitted."""
    history = getattr(getattr(model, "history", None), "history", None) or {}
    return {
        name: float(values[-1])
        for name, values in history.items()
        if name.removeprefix("val_") in _RESULTS and values
    }


def _flattened(bijector: tfb.Bijector | None) -> Iterable[tfb.Bijector]:
    parts = getattr(bijector, "bijectors", None)
    if parts is None:
        return [] if bijector is None else [bijector]
    return [inner for part in parts for inner in _flattened(part)]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _digest(variables: Iterable[tf.Variable]) -> str:
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
