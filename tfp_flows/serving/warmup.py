"""Warm-up records: requests that a server replays before it takes traffic.

The first request to a signature makes TensorFlow optimize and place its graph, which
takes up to seconds. TF Serving replays `assets.extra/tf_serving_warmup_requests`
when it loads a version, so that no client waits for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.serving.extra import optional_module
from tfp_flows.serving.served_flow import ServedFlow
from tfp_flows.serving.signatures import Signature

FILE = Path("assets.extra", "tf_serving_warmup_requests")

Arrays = dict[str, np.ndarray]


def example_requests(
    flow: ServedFlow, signatures: Iterable[Signature]
) -> dict[str, Arrays]:
    """Returns a right request of one row for each signature.

    Args:
        flow: The flow, whose own samples stand for data.
        signatures: Its signatures.

    Returns:
        Inputs by the name of the signature, arrays by the name of the input.
    """
    x, condition = flow.examples(1)
    examples: dict[str, Any] = {
        "x": x,
        "image": tf.saturate_cast(x, tf.uint8),
        "latent": flow.encode(x, condition),
        "n": 1,
        "seed": [0, 1],
        "temperature": 1.0,
        "condition": condition,
    }
    return {
        signature.name: {
            name: _shaped(examples[name], spec)
            for name, spec in signature.inputs.items()
        }
        for signature in signatures
    }


def write_warmup(
    version_path: Path, model_name: str, requests: Mapping[str, Arrays]
) -> None:
    """Writes one warm-up record a signature.

    Args:
        version_path: The version directory.
        model_name: Name under which the model is served.
        requests: Inputs by the name of the signature to call.

    Raises:
        ImportError: If tensorflow-serving-api is not installed.
    """
    protos = optional_module(
        "tensorflow_serving.apis.prediction_log_pb2", "Writing warm-up records"
    )
    path = version_path / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature_name, inputs in requests.items():
            log = protos.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature_name
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def read_warmup(version_path: Path) -> Iterator[tuple[str, Arrays]]:
    """Yields the signature name and the inputs of every warm-up record.

    Args:
        version_path: The version directory; one without records yields nothing.

    Raises:
        ImportError: If tensorflow-serving-api is not installed.
    """
    path = version_path / FILE
    if not path.exists():
        return
    protos = optional_module(
        "tensorflow_serving.apis.prediction_log_pb2", "Reading warm-up records"
    )
    for record in tf.data.TFRecordDataset(str(path)):
        request = protos.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(t) for name, t in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def _shaped(value: Any, spec: tf.TensorSpec) -> np.ndarray:
    """Gives an example the dtype of an input and one row where it has rows."""
    array = np.asarray(value, spec.dtype.as_numpy_dtype)
    return array.reshape([1 if size is None else size for size in spec.shape])
