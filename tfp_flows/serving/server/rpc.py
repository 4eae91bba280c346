"""TF Serving's gRPC services over one model."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfp_flows.serving.server.messages import (
    RequestError,
    array_from_proto,
    check_input_names,
    metadata_response,
    proto_from_array,
    status_response,
)
from tfp_flows.serving.server.watched_model import WatchedModel

_STATUS_CODES = {status.value[0]: status for status in grpc.StatusCode}


def add_services(server: grpc.Server, model: WatchedModel, max_bytes: int) -> None:
    """Adds the services to a gRPC server; `max_bytes` limits a request and a tensor."""
    services = _Services(model, max_bytes)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        services, server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)


def _answered(method: Callable[[_Services, Message], Message]) -> Callable:
    """Makes what a method refuses a status with a message."""

    def call(
        self: _Services, request: Message, context: grpc.ServicerContext
    ) -> Message:
        try:
            return method(self, request)
        except RequestError as error:
            status = _STATUS_CODES[error.code.grpc_number]
            return context.abort(status, str(error))

    return call


class _Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Predict, GetModelMetadata and GetModelStatus; the rest is unimplemented."""

    def __init__(self, model: WatchedModel, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes

    @_answered
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        if request.ByteSize() > self._max_bytes:
            raise RequestError(
                f"request: expected at most {self._max_bytes} bytes, received "
                f"{request.ByteSize()}."
            )
        spec = request.model_spec
        with self._model.version(self._wanted(spec)) as loaded:
            # Names before values: what is not asked for is not decoded.
            infos = loaded.signature(spec.signature_name).inputs
            check_input_names(request.inputs, infos)
            inputs = {
                name: array_from_proto(name, proto, self._max_bytes)
                for name, proto in request.inputs.items()
            }
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
            response.outputs[name].CopyFrom(proto_from_array(value))
        return response

    @_answered
    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures."""
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError(
                "metadata_field: expected 'signature_def', received "
                f"{', '.join(request.metadata_field) or 'nothing'}."
            )
        with self._model.version(self._wanted(request.model_spec)) as loaded:
            return metadata_response(self._model.name, loaded.number, loaded.signatures)

    @_answered
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of the versions."""
        return status_response(self._model.status(self._wanted(request.model_spec)))

    def _wanted(self, spec: model_pb2.ModelSpec) -> int | None:
        """Returns the version that a request asks for, None for the current one."""
        self._model.check_name(spec.name)
        if spec.version_label:
            raise RequestError(
                "version_label: this server knows no labels, received "
                f"{spec.version_label!r}."
            )
        return spec.version.value if spec.HasField("version") else None
