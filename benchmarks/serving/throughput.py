"""Throughput and latency of a served flow, as ratios to a call in this process.

    python -m benchmarks.serving.throughput
    python -m benchmarks.serving.throughput --workloads W1 --seconds 2

Asks `log_prob` and `sample` of two flows in four ways, one request at a time: a traced
call in this process, the C program of the tests through a pipe, and the local server
over gRPC and REST. The local server stands in for TF Serving, which was not at hand:
its Python is part of what is measured. Data are drawn from the flows, whose weights
are fresh. Rows are kept in `benchmarks/results/`.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from tfp_flows.serving import export_saved_model
from tfp_flows.serving.server import LocalServer

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "serving_throughput.json"

# W1: 2-D RealNVP; W3: Glow on colour images of 32 x 32. Rows in a request.
WORKLOADS = {
    "W1": (
        lambda: tfpf.real_nvp((2,), steps=8, hidden_units=(128, 128)),
        (1, 256),
    ),
    "W3": (
        lambda: tfpf.glow((32, 32, 3), levels=3, steps=8, hidden_channels=128),
        (1, 16),
    ),
}


def module(name: str, path: Path):
    """Imports a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def latencies(call: Callable[[], object], seconds: float) -> np.ndarray:
    """Times calls one after another, in milliseconds, after three unmeasured ones."""
    for _ in range(3):
        call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 20:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def in_process(flow, signature: str, inputs: dict) -> Callable[[], object]:
    """Returns a traced call of the live flow."""
    if signature == "log_prob":
        traced, x = tf.function(flow.log_prob), tf.constant(inputs["x"])
        return lambda: traced(x).numpy()
    n, seed = tf.constant(inputs["n"]), tf.constant(inputs["seed"])
    traced = tf.function(lambda: flow.sample(n, seed=seed))
    return lambda: traced().numpy()


def measure(name: str, folder: Path, seconds: float) -> list[dict]:
    """Returns one row for each signature, number of rows and way to ask."""
    make, row_counts = WORKLOADS[name]
    flow = make()
    version = export_saved_model(flow, folder / name)
    conftest = module("serving_conftest", ROOT / "tests" / "serving" / "conftest.py")
    conftest.build_with_gcc(ROOT / "tests" / "serving" / "runner.c", folder / "runner")
    runner = conftest.Runner(folder / "runner", version)
    sys.path.insert(0, str(ROOT / "export"))
    grpc_client = module("client_grpc", ROOT / "export" / "client_grpc.py").GrpcClient
    rest_client = module("client_rest", ROOT / "export" / "client_rest.py").RestClient
    rows = []
    with (
        LocalServer(folder / name, max_bytes=2**28) as server,
        grpc_client(server.grpc_address, name, timeout=300) as grpc,
        rest_client(server.rest_address, name, timeout=300) as rest,
    ):
        for count in row_counts:
            draw = {"n": count, "seed": [0, 1], "temperature": 1.0}
            x = grpc.predict("sample", draw)["samples"]
            exact = {"n": np.int32(count), "seed": np.int32([0, 1])}
            exact["temperature"] = np.float32(1.0)
            for signature, inputs, typed in (
                ("log_prob", {"x": x}, {"x": x}),
                ("sample", draw, exact),
            ):
                ways = {
                    "in process": in_process(flow, signature, typed),
                    "C program": lambda s=signature, i=typed: runner.run(s, **i),
                    "gRPC": lambda s=signature, i=inputs: grpc.predict(s, i),
                    "REST": lambda s=signature, i=inputs: rest.predict(s, i),
                }
                rows += compare(name, signature, count, ways, seconds)
    runner.close()
    return rows


def compare(name: str, signature: str, count: int, ways: dict, seconds: float) -> list:
    """Measures all ways to ask the same, and their ratios to the first."""
    rows, base = [], None
    for way, call in ways.items():
        times = latencies(call, seconds)
        p50, p99 = np.percentile(times, [50, 99])
        base = base or p50
        rows.append(
            {
                "workload": name,
                "signature": signature,
                "rows": count,
                "way": way,
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
                "rows_per_second": round(1e3 * count / float(np.mean(times)), 1),
                "ratio_of_p50": round(float(p50 / base), 2),
                "requests": len(times),
            }
        )
        print_row(rows[-1])
    return rows


def print_row(row: dict) -> None:
    """Prints a line of the Markdown table."""
    cells = [row[key] for key in row if key != "requests"]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Measures, prints a table and keeps the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line")
    options = parser.parse_args()
    print(f"{machine()}\n")
    print("| flow | signature | rows | asked | p50 ms | p99 ms | rows/s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.workloads:
            rows += measure(name, Path(folder), options.seconds)
    RESULTS.parent.mkdir(exist_ok=True)
    document = {"machine": machine(), "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
