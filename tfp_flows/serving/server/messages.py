"""What goes over the wire: errors, tensors in JSON and protos, and states.

A `:predict` request in JSON is in rows, `{"instances": [...]}`, or in columns,
`{"inputs": ...}`. Rows are values if the signature has one input, and objects by input
name if it has more; columns are a value or an object. The answer has the form of the
request. These are the rules of TF Serving's REST interface.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfp_flows.internal.compat import meta_graph_pb2, tensor_pb2

Arrays = dict[str, np.ndarray]
Infos = Mapping[str, meta_graph_pb2.TensorInfo]
State = Literal["LOADING", "AVAILABLE", "UNLOADING", "END"]
Json = dict | list | str | int | float | bool | None

_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]\s*(?:\n|$)", re.DOTALL)
# What TensorFlow puts around a message.
_SURROUNDINGS = ("Graph execution error", "Detected at node", "<stack traces", "[[")
_VALUE_FIELDS = {
    tf.bool: "bool_val",
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint8: "int_val",
}


class Code(enum.Enum):
    """Why a request is refused, by gRPC's number and the HTTP status for it."""

    INVALID_ARGUMENT = (3, 400)
    NOT_FOUND = (5, 404)
    TOO_LARGE = (3, 413)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)

    def __init__(self, grpc_number: int, http_status: int) -> None:
        self.grpc_number = grpc_number
        self.http_status = http_status


class RequestError(Exception):
    """A request that is refused, with a message for the client."""

    def __init__(self, message: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def from_tensorflow(cls, error: tf.errors.OpError) -> RequestError:
        """Makes an answer of what a graph raised: a check or TensorFlow."""
        text = str(error.message)
        found = _ASSERTION.search(text)
        if found:
            return cls(found.group(1))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(_SURROUNDINGS)]
        message = lines[0] if lines else type(error).__name__
        if isinstance(error, tf.errors.InvalidArgumentError):
            return cls(message)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return cls(message, Code.UNAVAILABLE)
        return cls(message, Code.INTERNAL)


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version, in the words of TF Serving's `ModelVersionStatus`."""

    number: int
    state: State
    error: str = ""


def status_response(
    versions: Iterable[VersionStatus],
) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns TF Serving's message of the state of versions."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        line = response.model_version_status.add()
        line.version = version.number
        line.state = line.State.Value(version.state)
        line.status.error_code = 13 if version.error else 0
        line.status.error_message = version.error
    return response


def metadata_response(
    name: str, number: int, signatures: Mapping[str, meta_graph_pb2.SignatureDef]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns TF Serving's message of the signatures of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for key, signature in signatures.items():
        definitions.signature_def[key].CopyFrom(signature)
    response.model_spec.name = name
    response.model_spec.version.value = number
    response.metadata["signature_def"].Pack(definitions)
    return response


def check_input_names(names: Iterable[str], infos: Infos) -> None:
    """Refuses inputs that are missing or too many."""
    if set(names) != set(infos):
        raise RequestError(
            f"inputs: expected exactly {', '.join(sorted(infos))}, received "
            f"{', '.join(sorted(names)) or 'none'}."
        )


def parse_body(body: bytes) -> dict[str, Json]:
    """Returns the JSON object of a `:predict` request."""
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


def inputs_from(document: Mapping[str, Json], infos: Infos) -> Arrays:
    """Returns the input tensors of a parsed request."""
    if "instances" in document:
        columns = _columns(document["instances"], infos)
    else:
        columns = document["inputs"]
        if not isinstance(columns, dict):
            columns = {_only_name(infos, "inputs"): columns}
    check_input_names(columns, infos)
    return {name: _array(name, columns[name], infos[name]) for name in infos}


def answer_with(document: Mapping[str, Json], outputs: Arrays) -> bytes:
    """Returns the answer in strict JSON, in rows or columns as the request was."""
    values = {name: value.tolist() for name, value in outputs.items()}
    single = len(values) == 1
    if "inputs" in document:
        answer = {"outputs": next(iter(values.values())) if single else values}
    elif len({np.shape(value)[:1] for value in outputs.values()}) != 1:
        raise RequestError("instances: this signature must be asked with `inputs`.")
    else:
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


def array_from_proto(
    name: str, proto: tensor_pb2.TensorProto, max_bytes: int
) -> np.ndarray:
    """Decodes a tensor, after checking how large it claims to be."""
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    try:
        dtype = tf.as_dtype(proto.dtype)
        item_bytes = max(dtype.size or 1, 1)
    except TypeError as error:
        raise RequestError(f"{name}: expected a dtype, received none.") from error
    too_many = math.prod(sizes) * item_bytes > max_bytes
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or too_many:
        raise RequestError(
            f"{name}: expected a tensor of at most {max_bytes} bytes, received shape "
            f"{sizes}."
        )
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{name}: expected values that fill shape {sizes} of dtype {dtype.name}, "
            "received others."
        ) from error


def proto_from_array(value: np.ndarray) -> tensor_pb2.TensorProto:
    """Encodes a tensor in the typed fields that TF Serving answers with."""
    dtype = tf.as_dtype(value.dtype)
    field = _VALUE_FIELDS.get(dtype)
    if field is None:
        return tf.make_tensor_proto(value)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(value.ravel().tolist())
    return proto


def _columns(instances: Json, infos: Infos) -> dict[str, list]:
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


def _array(name: str, value: Json, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
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
    # NaN and infinity are numbers here: the graph's own checks answer them.
    finite = array[np.isfinite(array)]
    if not np.all((dtype.min <= finite) & (finite <= dtype.max)):
        raise RequestError(
            f"{name}: expected numbers that {dtype.name} can hold, received others."
        )
    return array.astype(dtype.as_numpy_dtype)


def _wrong_leaf(value: Json, allowed: tuple[type, ...]) -> str | None:
    """Returns the first leaf of nested lists that is no number of these types."""
    waiting = [value]
    while waiting:
        leaf = waiting.pop()
        if isinstance(leaf, list):
            waiting.extend(leaf)
        elif isinstance(leaf, bool) or not isinstance(leaf, allowed):
            return json.dumps(leaf)[:40]
    return None
