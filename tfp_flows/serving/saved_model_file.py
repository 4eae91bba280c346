"""What is looked up and set in the `saved_model.pb` of an export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tfp_flows.serving.signatures import Signature


def read_meta_graph(version_path: Path) -> meta_graph_pb2.MetaGraphDef:
    """Returns the graph and the signatures of a version, without loading it."""
    return _read(version_path).meta_graphs[0]


def declare_input_shapes(version_path: Path, signatures: Iterable[Signature]) -> None:
    """Writes the shapes that clients should send into the signatures.

    The graph takes inputs of any shape, so that its own checks answer a wrong one;
    without this, clients who ask for the signatures would read "unknown rank".
    """
    saved_model = _read(version_path)
    definitions = saved_model.meta_graphs[0].signature_def
    for signature in signatures:
        for name, spec in signature.inputs.items():
            for served_as in served_names(signature.name):
                info = definitions[served_as].inputs[name]
                info.tensor_shape.CopyFrom(spec.shape.as_proto())
    (version_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    # TensorFlow's fingerprint is of the file as it was; loaders do without one.
    (version_path / "fingerprint.pb").unlink(missing_ok=True)


def served_names(name: str) -> list[str]:
    """Returns every name by which a signature can be asked for."""
    default = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    return [name, default] if name in ("log_prob", "latent_log_prob") else [name]


def require_no_xla(version_path: Path) -> None:
    """Refuses a graph with parts that must be compiled with XLA.

    Raises:
        ValueError: If there are any, naming the first. TF Serving turns XLA off on
            CPU and would fail at every request.
    """
    for node in _nodes(read_meta_graph(version_path)):
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


def _read(version_path: Path) -> saved_model_pb2.SavedModel:
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((version_path / "saved_model.pb").read_bytes())
    return saved_model
