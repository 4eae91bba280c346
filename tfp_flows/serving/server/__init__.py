"""A local server for development and tests, with TF Serving's interfaces."""

from tfp_flows.serving.extra import optional_module

for _module in ("grpc", "starlette", "uvicorn", "tensorflow_serving.apis.predict_pb2"):
    optional_module(_module, "The local server")

from tfp_flows.serving.server.local_server import LocalServer  # noqa: E402

__all__ = ["LocalServer"]
