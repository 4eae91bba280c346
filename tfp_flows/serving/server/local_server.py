"""A server for development and tests that speaks as TF Serving does."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
from pathlib import Path

import grpc
import uvicorn

from tfp_flows.serving.server.rest import rest_application
from tfp_flows.serving.server.rpc import add_services
from tfp_flows.serving.server.watched_model import WatchedModel

_THREADS = 8


class LocalServer:
    """Serves the newest version under a model's directory, over gRPC and REST.

    For development and tests: production is TF Serving. Use it as a context manager.
    `rest_address` is the URL of REST without a path, `grpc_address` that of gRPC.

    Args:
        base_path: The model's directory, with version directories in it.
        name: Name under which it is served; None for that of the directory.
        host: Address to listen on. By default only this machine can connect.
        grpc_port: Port of gRPC, and `rest_port` of REST; 0 for a free one.
        poll_seconds: Time between two polls for a new version.
        max_bytes: The largest request.

    Example:
        with LocalServer("models/flow") as server:
            requests.post(f"{server.rest_address}/v1/models/flow:predict", json=...)
    """

    def __init__(
        self,
        base_path: str | Path,
        *,
        name: str | None = None,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        rest_port: int = 0,
        poll_seconds: float = 1.0,
        max_bytes: int = 64 * 2**20,
    ) -> None:
        self.model = WatchedModel(base_path, name)
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socket = _listen(host, rest_port)
        self.rest_port: int = self._socket.getsockname()[1]
        self._rest = uvicorn.Server(
            uvicorn.Config(
                rest_application(self.model, max_bytes),
                log_level="warning",
                access_log=False,
                lifespan="off",
            )
        )
        # One pool for a port: two calls must not wait for each other's threads.
        pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "grpc")
        # gRPC drops what is larger than its own limit without a message of ours.
        limits = [("grpc.max_receive_message_length", 4 * max_bytes)]
        limits += [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self._grpc = grpc.server(pool, options=limits)
        add_services(self._grpc, self.model, max_bytes)
        try:
            self.grpc_port = self._grpc.add_insecure_port(f"{host}:{grpc_port}")
        except RuntimeError as error:
            self._socket.close()
            raise ValueError(_port_taken(host, grpc_port)) from error
        self.rest_address = f"http://{host}:{self.rest_port}"
        self.grpc_address = f"{host}:{self.grpc_port}"

    def start(self) -> LocalServer:
        """Loads the newest version if there is one, and answers from then on."""
        self.model.poll()
        self._threads = [
            threading.Thread(
                target=self._rest.run, args=([self._socket],), daemon=True
            ),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._grpc.start()
        return self

    def stop(self) -> None:
        """Answers what has been asked already, then stops."""
        self._stopping.set()
        self._rest.should_exit = True
        self._grpc.stop(grace=10).wait()
        for thread in self._threads:
            thread.join(timeout=30)
        self.model.close()
        self._socket.close()

    def wait(self) -> None:
        """Blocks until `stop` is called or the process is interrupted."""
        self._stopping.wait()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self.model.poll()


def _listen(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's algorithm off; without it every
    # answer waits some 40 ms for the client's acknowledgement.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # Whoever connects while we start waits, not fails.
    except OSError as error:
        listening.close()
        raise ValueError(_port_taken(host, port)) from error
    return listening


def _port_taken(host: str, port: int) -> str:
    return (
        "Arguments `host` and ports must name an address of this machine that is "
        f"free. Received: {host}:{port}"
    )
