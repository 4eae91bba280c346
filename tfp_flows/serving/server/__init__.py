"""A local server for development and tests, with TF Serving's interfaces."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfp_flows.serving.protos import optional_module

if TYPE_CHECKING:
    from tfp_flows.serving.server.local_server import LocalServer

__all__ = ["LocalServer", "serve"]

_EXTRA = ("grpc", "starlette", "uvicorn", "tensorflow_serving.apis.predict_pb2")


def __getattr__(name: str) -> type:
    # Loaded when it is used: `serving` itself does without the packages of the extra.
    if name != "LocalServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in (*_EXTRA, f"{__name__}.local_server"):
        loaded = optional_module(module, "The local server")
    return loaded.LocalServer


def serve(
    base_path: str | os.PathLike,
    *,
    grpc_port: int = 8500,
    rest_port: int = 8501,
    say: Callable[[str], object] = print,
    **options: Any,
) -> None:
    """Serves a model's directory until interrupted, for development and tests.

    The REST paths and gRPC services are those of TF Serving, which is what to use in
    production.

    Args:
        base_path: The model's directory, with version directories in it.
        grpc_port: Port of gRPC; 0 for a free one.
        say: Called with a line of text about where the server listens.
        **options: The other arguments of `LocalServer`.
    """
    server, ports = __getattr__("LocalServer"), {"grpc_port": grpc_port}
    with server(base_path, rest_port=rest_port, **ports, **options) as running:
        model = running.model.name
        say(f"REST  {running.rest_address}/v1/models/{model}")
        say(f"gRPC  {running.grpc_address}, model {model!r}")
        say("For development; use TF Serving in production. Ctrl+C stops.")
        try:
            running.wait()
        except KeyboardInterrupt:
            say("Stopping.")
