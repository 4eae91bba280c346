"""`export_saved_model`: from a flow to a version directory of TF Serving."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfp_flows.serving import saved_model_file, versions
from tfp_flows.serving.extra import has_serving_protos
from tfp_flows.serving.metadata import (
    describe,
    describe_scorer,
    training_results,
    write_metadata,
)
from tfp_flows.serving.precision import check_precision, reduce_weights
from tfp_flows.serving.served_flow import ServedFlow
from tfp_flows.serving.served_latent import ServedLatentModel
from tfp_flows.serving.signatures import Scorer, Signature, build_signatures
from tfp_flows.serving.warmup import example_requests, write_warmup

Functions = dict[str, tf.types.experimental.ConcreteFunction]


def export_saved_model(
    model_or_distribution: Any,
    base_path: str | os.PathLike,
    *,
    version: int | None = None,
    max_samples: int = 1024,
    warmup: bool = True,
    name: str | None = None,
    training: Mapping[str, float] | None = None,
    precision: str = "float32",
    check_data: Any = None,
    max_bits_change: float = 0.01,
    scorer: Scorer | None = None,
) -> str:
    """Writes a flow as a SavedModel that TF Serving, C and Python programs can run.

    The version is written beside its place and renamed, so that a server which polls
    `base_path` sees it whole or not at all, whatever happens to this process.

    Args:
        model_or_distribution: A `tfpf.FlowModel`, a `tfd.TransformedDistribution`,
            another `tfd.Distribution` (then without `encode` and `decode`), or a model
            of `tfpf.latent` (then without `precision` and `scorer`).
        base_path: The model's directory, on a local disk; versions are its children.
        version: A positive integer that is not there yet; None for the next one.
        max_samples: Largest `n` that the `sample` signature will draw at once.
        warmup: Whether to write one request a signature for the server to replay
            before it takes traffic. Without the `serving` extra there is a warning
            and no such file.
        name: Name under which the model is served; None for that of `base_path`.
        training: Results to keep in the metadata, such as `{"val_nll": 1.2}` in nats;
            None for the last ones of a model that has just been fitted.
        precision: How weights are stored: "float32" (as they are), "float16",
            "bfloat16" or "int8". Arithmetic stays in the flow's dtype. What this
            changes is measured, printed, and kept in the metadata.
        check_data: Rows to measure it on, for a conditional flow `(x, condition)`;
            None for samples of the flow.
        max_bits_change: Largest change in bits per number; above it nothing is
            exported.
        scorer: A fitted anomaly scorer for an `anomaly_score` signature: called as
            `scorer(x, log_prob, latent)` on tensors, it returns `[batch]` scores; a
            `threshold` attribute adds the output `is_anomaly`. None for the model's
            own `anomaly_scorer`, if it has one.

    Returns:
        The path of the version, `base_path/version`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `version` exists, `max_samples` is not positive, the flow
            cannot be served, or reduced weights change too much. Nothing is left
            behind.
    """
    _check_max_samples(max_samples)
    check_precision(precision)
    versions.check_version(base_path, version)
    scorer = scorer or getattr(model_or_distribution, "anomaly_scorer", None)
    flow = _served(model_or_distribution, precision=precision, scorer=scorer)
    weights: dict[str, Any] = {"precision": precision}
    if precision != "float32":
        flow, report = reduce_weights(flow, precision, check_data, max_bits_change)
        print(report)
        weights = dataclasses.asdict(report)
    signatures = build_signatures(flow, max_samples, scorer)
    functions = _trace(signatures)
    variables = _variables(functions)
    metadata = describe(
        flow,
        signatures,
        variables,
        max_samples=max_samples,
        training=training or training_results(model_or_distribution),
    )
    metadata["weights"] |= weights
    metadata["anomaly_scorer"] = describe_scorer(scorer)
    name = name or Path(base_path).resolve().name
    with versions.staging_directory(base_path) as staging:
        _write_saved_model(functions, variables, str(staging))
        saved_model_file.declare_input_shapes(staging, signatures)
        saved_model_file.require_no_xla(staging)
        if warmup:
            _write_warmup(staging, name, flow, signatures)

        def label(number: int) -> None:
            write_metadata(staging, {"name": name, "version": number, **metadata})

        return str(versions.publish(staging, base_path, version, label))


def _served(model: Any, **options: Any) -> ServedFlow:
    if not ServedLatentModel.fits(model):
        return ServedFlow(model)
    for name, default in {"precision": "float32", "scorer": None}.items():
        if options[name] != default:
            raise ValueError(
                f"Argument `{name}` must be {default!r} for a latent model. "
                f"Received: {name}={options[name]!r}"
            )
    return ServedLatentModel(model)


def _check_max_samples(max_samples: Any) -> None:
    if isinstance(max_samples, bool) or not isinstance(max_samples, int):
        raise TypeError(
            "Argument `max_samples` must be an integer. "
            f"Received: max_samples={max_samples!r}"
        )
    if max_samples < 1:
        raise ValueError(
            "Argument `max_samples` must be at least 1. "
            f"Received: max_samples={max_samples}"
        )


def _trace(signatures: list[Signature]) -> Functions:
    return {
        served_as: traced
        for signature in signatures
        for traced in [signature.trace()]
        for served_as in saved_model_file.served_names(signature.name)
    }


def _variables(functions: Functions) -> list[tf.Variable]:
    """Everything that the graphs read, each once."""
    return list(
        {
            id(variable): variable
            for function in functions.values()
            for variable in function.variables
        }.values()
    )


def _write_saved_model(
    functions: Functions, variables: list[tf.Variable], path: str
) -> None:
    # Whatever a graph reads must hang on the object that is saved: what hangs on
    # Keras layers inside bijectors inside distributions TensorFlow would not find.
    root = tf.Module()
    root.variables_in_graphs = variables
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, path, signatures=functions, options=options)


def _write_warmup(
    staging: Path, name: str, flow: ServedFlow, signatures: list[Signature]
) -> None:
    if not has_serving_protos():
        warnings.warn(
            "The export has no warm-up records, because tensorflow-serving-api is not "
            "installed: pip install 'tfp-flows[serving]', or pass `warmup=False`.",
            stacklevel=3,
        )
        return
    examples = example_requests(flow, signatures)
    requests = {
        served_as: inputs
        for signature_name, inputs in examples.items()
        for served_as in saved_model_file.served_names(signature_name)
    }
    write_warmup(staging, name, requests)
