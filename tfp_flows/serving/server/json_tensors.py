"""Tensors in JSON, by the rules of TF Serving's REST interface.

A request is in rows, `{"instances": [...]}`, or in columns, `{"inputs": ...}`. Rows
are values if the signature has one input, and objects by input name if it has more;
columns are a value or an object. The answer has the form of the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfp_flows.serving.server.errors import Code, RequestError

Arrays = dict[str, np.ndarray]
Infos = Mapping[str, meta_graph_pb2.TensorInfo]


def parse_body(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a `:predict` request.

    Raises:
        RequestError: If it is no JSON object, or has not exactly one of `instances`
            and `inputs`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: expected JSON, received {error}.") from error
    if not isinstance(document, dict):
        raise RequestError(
            f"body: expected a JSON object, received {type(document).__name__}."
        )
    if not isinstance(document.get("signature_name", ""), str):
        raise RequestError("signature_name: expected a string.")
    unknown = sorted(set(document) - {"signature_name", "instances", "inputs"})
    if unknown or ("instances" in document) == ("inputs" in document):
        raise RequestError(
            "body: expected one of `instances` and `inputs`, and perhaps "
            f"`signature_name`, received {', '.join(sorted(document)) or 'nothing'}."
        )
    return document


def inputs_from(document: Mapping[str, Any], infos: Infos) -> Arrays:
    """Returns the input tensors of a parsed request.

    Args:
        document: What `parse_body` returned.
        infos: The inputs of the signature.

    Raises:
        RequestError: If a value does not fit its input's dtype, or is ragged.
    """
    if "instances" in document:
        columns = _columns(document["instances"], infos)
    else:
        columns = document["inputs"]
        if not isinstance(columns, dict):
            columns = {_only_name(infos, "inputs"): columns}
    if set(columns) != set(infos):
        raise RequestError(
            f"inputs: expected exactly {', '.join(sorted(infos))}, received "
            f"{', '.join(sorted(columns)) or 'none'}."
        )
    return {name: _array(name, columns[name], infos[name]) for name in infos}


def answer_with(
    document: Mapping[str, Any], outputs: Mapping[str, np.ndarray]
) -> bytes:
    """Returns the JSON answer, in rows or columns as the request was.

    Raises:
        RequestError: If the outputs cannot be written as strict JSON, or not in rows.
    """
    values = {name: value.tolist() for name, value in outputs.items()}
    single = len(values) == 1
    if "inputs" in document:
        answer = {"outputs": next(iter(values.values())) if single else values}
    else:
        if len({np.shape(value)[:1] for value in outputs.values()}) != 1:
            raise RequestError("instances: this signature must be asked with `inputs`.")
        rows = [
            dict(zip(values, row, strict=True))
            for row in zip(*values.values(), strict=True)
        ]
        answer = {"predictions": next(iter(values.values())) if single else rows}
    try:
        return json.dumps(answer, allow_nan=False).encode()
    except ValueError as error:
        raise RequestError(
            "outputs: the model answered with NaN or infinity, which JSON cannot hold.",
            Code.INTERNAL,
        ) from error


def _columns(instances: Any, infos: Infos) -> dict[str, list]:
    if not isinstance(instances, list) or not instances:
        raise RequestError("instances: expected a list with at least one row.")
    if not isinstance(instances[0], dict):
        return {_only_name(infos, "instances"): instances}
    for index, row in enumerate(instances):
        if not isinstance(row, dict) or set(row) != set(infos):
            received = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise RequestError(
                f"instances: expected an object with {', '.join(sorted(infos))} in "
                f"row {index}, received {received}."
            )
    return {name: [row[name] for row in instances] for name in infos}


def _only_name(infos: Infos, key: str) -> str:
    if len(infos) != 1:
        raise RequestError(
            f"{key}: expected an object with {', '.join(sorted(infos))}, received a "
            "plain value."
        )
    return next(iter(infos))


def _array(name: str, value: Any, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    dtype = tf.as_dtype(info.dtype)
    allowed = (int, float) if dtype.is_floating else (int,)
    wrong = _wrong_leaf(value, allowed)
    if wrong is not None:
        raise RequestError(
            f"{name}: expected numbers of dtype {dtype.name}, received {wrong}."
        )
    try:
        array = np.asarray(value, np.float64 if dtype.is_floating else np.int64)
    except (ValueError, OverflowError) as error:
        raise RequestError(
            f"{name}: expected lists of equal lengths, with numbers of dtype "
            f"{dtype.name}, received something else."
        ) from error
    kind = np.finfo if dtype.is_floating else np.iinfo
    limits = kind(dtype.as_numpy_dtype)
    # NaN and infinity are numbers here: the graph's own checks answer them.
    finite = array[np.isfinite(array)]
    if finite.size and not (limits.min <= finite.min() and finite.max() <= limits.max):
        raise RequestError(
            f"{name}: expected numbers that {dtype.name} can hold, received others."
        )
    return array.astype(dtype.as_numpy_dtype)


def _wrong_leaf(value: Any, allowed: tuple[type, ...]) -> str | None:
    """Returns the first leaf of nested lists that is no number of these types."""
    waiting = [value]
    while waiting:
        leaf = waiting.pop()
        if isinstance(leaf, list):
            waiting.extend(leaf)
        elif isinstance(leaf, bool) or not isinstance(leaf, allowed):
            return json.dumps(leaf)[:40]
    return None
