"""TF Serving's gRPC services over one model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfp_flows.serving.server import answers
from tfp_flows.serving.server.errors import RequestError
from tfp_flows.serving.server.served_model import ServedModel

_VALUE_FIELDS = {
    tf.bool: "bool_val",
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint8: "int_val",
}
_STATUS_CODES = {status.value[0]: status for status in grpc.StatusCode}


def add_services(server: grpc.Server, model: ServedModel, max_bytes: int) -> None:
    """Adds the services to a gRPC server.

    Args:
        server: The server.
        model: The model to answer for.
        max_bytes: Largest request, and largest input tensor.
    """
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(model, max_bytes), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        _ModelService(model), server
    )


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the rest is unimplemented."""

    def __init__(self, model: ServedModel, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes

    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        return _answered(context, self._predict, request)

    def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures."""
        return _answered(context, self._metadata, request)

    def _predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        if request.ByteSize() > self._max_bytes:
            raise RequestError(
                f"request: expected at most {self._max_bytes} bytes, received "
                f"{request.ByteSize()}."
            )
        spec = request.model_spec
        with self._model.version(_wanted(self._model, spec)) as loaded:
            infos = loaded.signature(spec.signature_name).inputs
            inputs = {
                name: _to_array(name, proto, self._max_bytes)
                for name, proto in request.inputs.items()
                if name in infos
            }
            # Names that the signature does not have are refused by `run`.
            unknown = set(request.inputs) - set(infos)
            inputs |= {name: np.zeros([], np.float32) for name in unknown}
            outputs = loaded.run(
                spec.signature_name, inputs, list(request.output_filter)
            )
            response = predict_pb2.PredictResponse()
            response.model_spec.name = self._model.name
            response.model_spec.version.value = loaded.number
            response.model_spec.signature_name = (
                spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
            )
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(_to_proto(value))
        return response

    def _metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError(
                "metadata_field: expected 'signature_def', received "
                f"{', '.join(request.metadata_field) or 'nothing'}."
            )
        return answers.metadata(self._model, _wanted(self._model, request.model_spec))


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; reloading a configuration is unimplemented."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def GetModelStatus(  # noqa: N802
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of the versions."""
        return _answered(context, self._status, request)

    def _status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return answers.status(self._model, _wanted(self._model, request.model_spec))


def _answered(
    context: grpc.ServicerContext, method: Callable[[Any], Any], request: Any
) -> Any:
    """Calls a method; what it refuses becomes a status with a sentence."""
    try:
        return method(request)
    except RequestError as error:
        status = _STATUS_CODES[error.code.grpc_number]
        return context.abort(status, str(error))


def _wanted(model: ServedModel, spec: model_pb2.ModelSpec) -> int | None:
    """Returns the version that a request asks for, None for the current one."""
    answers.check_name(model, spec.name)
    if spec.version_label:
        raise RequestError(
            "version_label: this server knows no labels, received "
            f"{spec.version_label!r}."
        )
    return spec.version.value if spec.HasField("version") else None


def _to_array(name: str, proto: tensor_pb2.TensorProto, max_bytes: int) -> np.ndarray:
    """Decodes a tensor, after a look at how large it says it is."""
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


def _to_proto(value: np.ndarray) -> tensor_pb2.TensorProto:
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
