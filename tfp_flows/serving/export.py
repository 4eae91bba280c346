"""`export_saved_model`: from a model to a version directory of TF Serving."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from tfp_flows.internal.arguments import checked_choice, checked_integer, invalid
from tfp_flows.internal.compat import meta_graph_pb2, node_def_pb2, saved_model_pb2
from tfp_flows.serving import versions
from tfp_flows.serving.metadata import describe, training_results, write_metadata
from tfp_flows.serving.precision import PRECISIONS, CheckData, reduce_weights
from tfp_flows.serving.protos import has_serving_protos, write_warmup
from tfp_flows.serving.servable import Model, servable
from tfp_flows.serving.signatures import Scorer, Signature, build_signatures

Functions = dict[str, tf.types.experimental.ConcreteFunction]


def export_saved_model(
    model_or_distribution: Model,
    base_path: str | os.PathLike,
    *,
    version: int | None = None,
    max_samples: int = 1024,
    warmup: bool = True,
    name: str | None = None,
    training: Mapping[str, float] | None = None,
    precision: str = "float32",
    check_data: CheckData = None,
    max_bits_change: float = 0.01,
    scorer: Scorer | None = None,
) -> str:
    """Writes a flow as a SavedModel that TF Serving, C and Python programs can run.

    The version is renamed when it is whole: a server never sees a part of it.

    Args:
        model_or_distribution: A `tfpf.FlowModel`, a `tfd.TransformedDistribution`,
            another `tfd.Distribution` (then without `encode` and `decode`), or a model
            of `tfpf.latent` (then without `precision` and `scorer`).
        base_path: The model's directory, on a local disk; versions are its children.
        version: A positive integer that is not there yet; None for the next one.
        max_samples: Largest `n` that the `sample` signature will draw at once.
        warmup: Whether to write one request a signature for the server to replay
            before it takes traffic; this needs the `serving` extra.
        name: Name under which the model is served; None for that of `base_path`.
        training: Results to keep in the metadata, such as `{"val_nll": 1.2}` in nats;
            None for the last ones of a model that has just been fitted.
        precision: How weights are stored: "float32" (as they are), "float16",
            "bfloat16" or "int8". Arithmetic stays in the flow's dtype. What this
            changes is measured, printed, and kept in the metadata.
        check_data: Rows to measure it on, for a conditional flow `(x, condition)`;
            None for samples of the flow.
        max_bits_change: Largest change in bits per dimension that is exported.
        scorer: A fitted anomaly scorer for an `anomaly_score` signature: on tensors,
            `scorer(x, log_prob, latent)` returns `[batch]` scores; a `threshold`
            adds the output `is_anomaly`. None for the model's own `anomaly_scorer`.

    Raises:
        ValueError: If `version` exists, the flow cannot be served, or reduced weights
            change too much. Nothing is left behind.
    """
    checked_integer("max_samples", max_samples)
    checked_choice("precision", precision, PRECISIONS)
    versions.check_version(base_path, version)
    scorer = scorer or getattr(model_or_distribution, "anomaly_scorer", None)
    model = servable(model_or_distribution)
    if model.elbo_function is not None:
        for key, value in {"precision": precision, "scorer": scorer}.items():
            if value not in ("float32", None):
                raise invalid(key, "be left out for a latent model", value)
    weights: dict[str, object] = {"precision": precision}
    if precision != "float32":
        model, report = reduce_weights(model, precision, check_data, max_bits_change)
        print(report)
        weights = dataclasses.asdict(report)
    signatures = build_signatures(model, max_samples, scorer)
    functions = {
        served_as: traced
        for signature in signatures
        for traced in [signature.trace()]
        for served_as in signature.served_as
    }
    metadata = describe(
        model,
        signatures,
        _variables(functions),
        max_samples=max_samples,
        training=training or training_results(model_or_distribution),
        scorer=scorer,
    )
    metadata["weights"] |= weights
    name = name or Path(base_path).resolve().name
    with versions.staging_directory(base_path) as staging:
        write_saved_model(functions, staging)
        declare_input_shapes(staging, signatures)
        require_no_xla(staging)
        if warmup and has_serving_protos():
            write_warmup(staging, name, model, signatures)
        elif warmup:
            warnings.warn(
                "The export has no warm-up records, because tensorflow-serving-api is "
                "not installed: pip install 'tfp-flows[serving]', or pass "
                "`warmup=False`.",
                stacklevel=2,
            )

        def label(number: int) -> None:
            write_metadata(staging, {"name": name, "version": number, **metadata})

        return str(versions.publish(staging, base_path, version, label))


def write_saved_model(functions: Functions, path: str | os.PathLike) -> None:
    """Writes traced functions, with all that they read, as signatures."""
    # Whatever a graph reads must hang on the object that is saved: what hangs on
    # Keras layers inside bijectors inside distributions TensorFlow would not find.
    root = tf.Module()
    root.variables_in_graphs = _variables(functions)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, os.fspath(path), signatures=functions, options=options)


def read_saved_model(version_path: Path) -> saved_model_pb2.SavedModel:
    """Returns the graph and the signatures of a version, without loading it."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((version_path / "saved_model.pb").read_bytes())
    return saved_model


def declare_input_shapes(version_path: Path, signatures: Iterable[Signature]) -> None:
    """Writes the shapes that clients should send into the signatures.

    The graph takes inputs of any shape, so that its own checks answer a wrong one;
    without this, clients who ask for the signatures would read "unknown rank".
    """
    saved_model = read_saved_model(version_path)
    definitions = saved_model.meta_graphs[0].signature_def
    for signature in signatures:
        for served_as in signature.served_as:
            for name, wanted in signature.inputs.items():
                info = definitions[served_as].inputs[name]
                info.tensor_shape.CopyFrom(wanted.spec.shape.as_proto())
    (version_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    # TensorFlow's fingerprint is of the file as it was; loaders do without one.
    (version_path / "fingerprint.pb").unlink(missing_ok=True)


def require_no_xla(version_path: Path) -> None:
    """Refuses a graph with parts for XLA, which TF Serving has off on CPU."""
    for node in _nodes(read_saved_model(version_path).meta_graphs[0]):
        if node.attr["_XlaMustCompile"].b or node.op.startswith("Xla"):
            raise ValueError(
                "Argument `model_or_distribution` must not use XLA "
                "(`jit_compile=True`) inside `log_prob`, `sample`, `forward` or "
                "`inverse`, because TF Serving has it off on CPU. "
                f"Received: a graph with the compiled op {node.name!r}"
            )


def _nodes(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[node_def_pb2.NodeDef]:
    yield from meta_graph.graph_def.node
    for function in meta_graph.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            yield node_def_pb2.NodeDef(
                name=function.signature.name, attr=dict(function.attr)
            )
        yield from function.node_def


def _variables(functions: Functions) -> list[tf.Variable]:
    """Everything that the graphs read, each once."""
    read = [v for function in functions.values() for v in function.variables]
    return list({id(variable): variable for variable in read}.values())
