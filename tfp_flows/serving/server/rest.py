"""TF Serving's REST paths as a Starlette application."""

from __future__ import annotations

from typing import Any

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

    Args:
        model: The model.
        max_body_bytes: Largest request body; a larger one is refused unread.
    """

    async def predict(request: Request) -> Response:
        body = await _read_body(request, max_body_bytes)
        answer = await run_in_threadpool(_predict, model, request.path_params, body)
        return Response(answer, media_type="application/json")

    async def status(request: Request) -> Response:
        model.check_name(request.path_params["name"])
        versions = model.status(request.path_params.get("version"))
        return _proto(status_response(versions))

    async def metadata(request: Request) -> Response:
        model.check_name(request.path_params["name"])
        with model.version(request.path_params.get("version")) as loaded:
            signatures = loaded.signatures
        return _proto(metadata_response(model.name, loaded.number, signatures))

    name, version = "/v1/models/{name}", "/versions/{version:int}"
    routes = []
    for path in (name + version, name):
        routes += [
            Route(f"{path}:predict", predict, methods=["POST"]),
            Route(f"{path}/metadata", metadata, methods=["GET"]),
            Route(path, status, methods=["GET"]),
        ]
    handlers: dict[Any, Any] = {
        RequestError: _refuse,
        HTTPException: _refuse_path,
        Exception: _fail,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _predict(model: WatchedModel, path: dict[str, Any], body: bytes) -> bytes:
    model.check_name(path["name"])
    document = parse_body(body)
    signature_name = document.get("signature_name", "")
    with model.version(path.get("version")) as loaded:
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
    code = error.code if isinstance(error, RequestError) else Code.INTERNAL
    return JSONResponse({"error": str(error)}, code.http_status)


async def _refuse_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Malformed request: {request.method} {request.url.path}"
    return JSONResponse({"error": message}, status)


async def _fail(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 500)
