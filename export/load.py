"""Sends requests to a served flow and prints throughput and latencies.

    python load.py --grpc 127.0.0.1:8500 --model flow --signature log_prob
    python load.py --rest http://127.0.0.1:8501 --model flow --signature sample

Data is drawn from the served model itself, so no file is needed. Conditional flows
need `--condition`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class LoadReport:
    """What a load test measured.

    Attributes:
        seconds: Latency of every request that was answered.
        elapsed: Time of the test, in seconds.
        rows: Rows in a request.
        errors: Messages of the requests that failed.
    """

    seconds: np.ndarray
    elapsed: float
    rows: int
    errors: list[str]

    def __str__(self) -> str:
        done = len(self.seconds)
        lines = [
            f"requests   {done}, {len(self.errors)} failed",
            f"throughput {done / self.elapsed:.1f} requests/s, "
            f"{done * self.rows / self.elapsed:.1f} rows/s",
        ]
        if done:
            for percent in (50, 90, 95, 99):
                latency = 1e3 * np.percentile(self.seconds, percent)
                lines.append(f"p{percent}        {latency:.2f} ms")
        lines += [f"failed     {message}" for message in sorted(set(self.errors))[:5]]
        return "\n".join(lines)


def run_load(
    connect: Callable[[], Any],
    signature: str,
    inputs: Mapping[str, Any],
    *,
    rows: int = 1,
    concurrency: int = 4,
    seconds: float = 10.0,
) -> LoadReport:
    """Repeats one request from several threads, each with a client of its own.

    Args:
        connect: Makes a client with a `predict` method.
        signature: Name of the signature to call.
        inputs: The inputs of each call.
        rows: Rows in a request, for the report.
        concurrency: Number of threads, each of which waits for its answers.
        seconds: Duration.

    Returns:
        The measurements.
    """
    latencies: list[float] = []
    errors: list[str] = []
    start = time.perf_counter()

    def work() -> None:
        with connect() as client:
            while (sent := time.perf_counter()) - start < seconds:
                try:
                    client.predict(signature, inputs)
                except Exception as error:  # noqa: BLE001 - every failure is counted
                    errors.append(f"{type(error).__name__}: {error}")
                else:
                    latencies.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    return LoadReport(np.asarray(latencies), elapsed, rows, errors)


def request_for(
    client: Any, signature: str, rows: int, condition: np.ndarray | None = None
) -> dict[str, Any]:
    """Returns a right request of `rows` rows, with data drawn from the model."""
    inputs: dict[str, Any] = {"n": rows, "seed": [0, 1], "temperature": 1.0}
    if condition is not None:
        inputs["condition"] = condition
    if signature == "sample":
        return inputs
    conditions = {}
    if condition is not None:
        conditions["condition"] = np.repeat(condition[np.newaxis], rows, axis=0)
    if signature == "sample_batch":
        seeds = np.stack([np.zeros(rows, int), np.arange(rows)], axis=1)
        return {"seed": seeds, "temperature": np.ones(rows), **conditions}
    x = client.predict("sample", inputs)["samples"]
    if signature == "decode":
        latent = client.predict("encode", {"x": x, **conditions})["latent"]
        return {"latent": latent, **conditions}
    if signature == "log_prob_uint8":
        return {"image": np.clip(x, 0, 255).astype(np.uint8), **conditions}
    return {"x": x, **conditions}


def main(words: list[str] | None = None) -> int:
    """Runs a load test from the command line; fails if any request did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--grpc", help="host and port of the gRPC interface")
    where.add_argument("--rest", help="URL of the REST interface, without a path")
    parser.add_argument("--model", required=True, help="name of the served model")
    parser.add_argument("--signature", default="log_prob")
    parser.add_argument("--condition", help="one condition, as .npy")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(words)

    def connect() -> Any:
        if options.grpc:
            from client_grpc import GrpcClient

            return GrpcClient(options.grpc, options.model)
        from client_rest import RestClient

        return RestClient(options.rest, options.model)

    condition = np.load(options.condition) if options.condition else None
    try:
        with connect() as client:
            inputs = request_for(client, options.signature, options.rows, condition)
    except Exception as error:  # noqa: BLE001 - one message for whoever runs it
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = run_load(
        connect,
        options.signature,
        inputs,
        rows=options.rows,
        concurrency=options.concurrency,
        seconds=options.seconds,
    )
    print(report)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
