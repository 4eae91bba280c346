"""Answers that REST and gRPC share, as TF Serving's own messages."""

from __future__ import annotations

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfp_flows.serving.server.errors import Code, RequestError
from tfp_flows.serving.server.served_model import ServedModel


def check_name(model: ServedModel, name: str) -> None:
    """Refuses a model that is not the one that is served."""
    if name != model.name:
        raise RequestError(
            f"model: expected {model.name!r}, received {name!r}.", Code.NOT_FOUND
        )


def status(
    model: ServedModel, number: int | None
) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns the state of one version, or of all for None."""
    wanted = [s for s in model.status() if number in (None, s.number)]
    if not wanted:
        raise RequestError(
            f"version: expected one that has been served, received {number}.",
            Code.NOT_FOUND,
        )
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in wanted:
        line = response.model_version_status.add()
        line.version = version.number
        line.state = line.State.Value(version.state)
        line.status.error_code = 13 if version.error else 0
        line.status.error_message = version.error
    return response


def metadata(
    model: ServedModel, number: int | None
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns the signatures of a version, or of the current one for None."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    definitions = get_model_metadata_pb2.SignatureDefMap()
    with model.version(number) as loaded:
        for name, signature in loaded.signatures.items():
            definitions.signature_def[name].CopyFrom(signature)
        response.model_spec.version.value = loaded.number
    response.model_spec.name = model.name
    response.metadata["signature_def"].Pack(definitions)
    return response
