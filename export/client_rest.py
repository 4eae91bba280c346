"""A REST client for a served flow.

    python client_rest.py --model flow log_prob data.npy
    python client_rest.py --model flow sample --n 4 --seed 0 1 --out samples.npy

It works against TF Serving and against `tfp-flows serve` alike. Needs
`pip install requests numpy`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import requests
from client_command import run_command
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry


class RestClient:
    """Calls the signatures of one served model.

    Args:
        address: URL without a path, such as "http://127.0.0.1:8501".
        model: Name of the model.
        timeout: Seconds that one attempt may take.
        retries: How often a call is repeated when the server is away or overloaded.
    """

    def __init__(
        self, address: str, model: str, timeout: float = 10.0, retries: int = 3
    ) -> None:
        self.url = f"{address.rstrip('/')}/v1/models/{model}"
        self.timeout = timeout
        self._session = requests.Session()
        policy = Retry(
            total=retries,
            backoff_factor=0.1,
            status_forcelist=(502, 503, 504),
            allowed_methods=None,  # A prediction changes nothing: repeat POST as well.
            raise_on_status=False,
        )
        self._session.mount("http://", HTTPAdapter(max_retries=policy))
        self._session.mount("https://", HTTPAdapter(max_retries=policy))

    def predict(
        self, signature: str, inputs: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name, such as "log_prob".
            inputs: Arrays by input name.

        Returns:
            Arrays by output name; numbers come as float64 and int64.

        Raises:
            ValueError: If the server refuses the request; the text is its message.
            requests.RequestException: If the server cannot be reached in time.
        """
        # Columns, since the inputs of `sample` have no common first axis.
        body = {
            "signature_name": signature,
            "inputs": {name: np.asarray(v).tolist() for name, v in inputs.items()},
        }
        answer = self._session.post(
            f"{self.url}:predict", json=body, timeout=self.timeout
        )
        if 400 <= answer.status_code < 500:
            raise ValueError(answer.json().get("error", answer.text))
        answer.raise_for_status()
        outputs = answer.json()["outputs"]
        return {name: np.asarray(value) for name, value in outputs.items()}

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def __enter__(self) -> RestClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


if __name__ == "__main__":
    sys.exit(run_command(RestClient, default_address="http://127.0.0.1:8501"))
