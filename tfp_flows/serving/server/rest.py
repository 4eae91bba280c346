"""TF Serving's REST paths as a Starlette application."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfp_flows.serving.server.messages import (
    Code,
    RequestError,
    answer_with,
    inputs_from,
    metadata_response,
    parse_body,
    status_response,
)
from tfp_flows.serving.server.watched_model import WatchedModel


def rest_application(model: WatchedModel, max_body_bytes: int) -> Starlette:
    """Returns an application that answers for one model.

    * `GET /v1/models/NAME[/versions/N]`: status of the versions.
    * `GET /v1/models/NAME[/versions/N]/metadata`: the signatures.
    * `POST /v1/models/NAME[/versions/N]:predict`: a signature's answer.
    """

    async def predict(request: Request) -> Response:
        body = await _read_body(request, max_body_bytes)
        answer = await run_in_threadpool(_predict, model, *_wanted(request), body)
        return Response(answer, media_type="application/json")

    async def status(request: Request) -> Response:
        name, number = _wanted(request)
        model.check_name(name)
        return _proto(status_response(model.status(number)))

    async def metadata(request: Request) -> Response:
        name, number = _wanted(request)
        model.check_name(name)
        with model.version(number) as loaded:
            return _proto(metadata_response(name, loaded.number, loaded.signatures))

    name, version = "/v1/models/{name}", "/versions/{version:int}"
    routes = []
    for path in (name + version, name):
        routes += [
            Route(f"{path}:predict", predict, methods=["POST"]),
            Route(f"{path}/metadata", metadata, methods=["GET"]),
            Route(path, status, methods=["GET"]),
        ]
    kinds = (RequestError, HTTPException, Exception)
    return Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, _refuse))


def _predict(model: WatchedModel, name: str, number: int | None, body: bytes) -> bytes:
    model.check_name(name)
    document = parse_body(body)
    signature_name = document.get("signature_name", "")
    with model.version(number) as loaded:
        infos = loaded.signature(signature_name).inputs
        inputs = inputs_from(document, infos)
        return answer_with(document, loaded.run(signature_name, inputs))


async def _read_body(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise RequestError(
                f"body: expected at most {limit} bytes, received more.", Code.TOO_LARGE
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _proto(message: Message) -> Response:
    text = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return Response(text, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    status, message = 500, f"{type(error).__name__}: {error}"
    if isinstance(error, RequestError):
        status, message = error.code.http_status, str(error)
    elif isinstance(error, HTTPException):
        status = error.status_code
        message = f"Malformed request: {request.method} {request.url.path}"
    return JSONResponse({"error": message}, status)


def _wanted(request: Request) -> tuple[str, int | None]:
    return request.path_params["name"], request.path_params.get("version")
