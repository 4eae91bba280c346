"""A gRPC client for a served flow, on the stubs of tensorflow-serving-api.

    python client_grpc.py --model flow log_prob data.npy
    python client_grpc.py --model flow sample --n 4 --seed 0 1 --out samples.npy

It works against TF Serving and against `tfp-flows serve` alike. Needs
`pip install tensorflow-serving-api numpy`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from client_command import run_command
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

# gRPC itself repeats a call that found no server, with growing pauses.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class GrpcClient:
    """Calls the signatures of one served model.

    Args:
        address: Host and port, such as "127.0.0.1:8500".
        model: Name of the model.
        timeout: Seconds that a call may take, retries included.
    """

    def __init__(self, address: str, model: str, timeout: float = 10.0) -> None:
        self.model = model
        self.timeout = timeout
        options = [
            ("grpc.service_config", json.dumps(_RETRIES)),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._dtypes: dict[str, dict[str, np.dtype]] = {}

    def predict(
        self, signature: str, inputs: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name, such as "log_prob".
            inputs: Arrays by input name; each is cast to the dtype it is served in.

        Returns:
            Arrays by output name.

        Raises:
            ValueError: If the server refuses the request; the text is its message.
            ConnectionError: If the server cannot be reached in time, or breaks.
        """
        dtypes = self._input_dtypes(signature)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            array = np.asarray(value, dtypes.get(name))
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._call(self._stub.Predict, request)
        return {name: tf.make_ndarray(t) for name, t in response.outputs.items()}

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _input_dtypes(self, signature: str) -> dict[str, np.dtype]:
        """Asks once in which dtypes the inputs are served."""
        if signature not in self._dtypes:
            request = get_model_metadata_pb2.GetModelMetadataRequest()
            request.model_spec.name = self.model
            request.metadata_field.append("signature_def")
            response = self._call(self._stub.GetModelMetadata, request)
            definitions = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(definitions)
            served = definitions.signature_def[signature].inputs
            self._dtypes[signature] = {
                name: np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
                for name, info in served.items()
            }
        return self._dtypes[signature]

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            refused = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            if error.code() in refused:
                raise ValueError(error.details()) from error
            message = f"{error.code().name}: {error.details()}"
            raise ConnectionError(message) from error


if __name__ == "__main__":
    sys.exit(run_command(GrpcClient, default_address="127.0.0.1:8500"))
