"""How a step is timed, and the form of a result. It imports no framework."""

import datetime
import json
import platform
import statistics
import time
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "gpu"
MATMUL_CALLS = 20
# Products round to 24, 11 and 8 bits, and a flow has dozens of them in a row.
LOSS_TOLERANCE = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 2e-2}
# Of a result's error, as a share of the change that the step makes. In float32 it holds
# for every result. Adam's first step is the sign of the gradient, which fewer bits turn
# over where a gradient is all but zero: there it holds for the median result.
TOLERANCE = {"float32": 1e-2, "tf32": 0.1, "bfloat16": 0.2}


def wait_for_turn(gate):
    """Says that all is compiled, and returns when it is this process's turn.

    Args:
        gate: A path; `gate.ready` is made, and `gate.go` waited for. None waits for
            nothing.
    """
    if gate is None:
        return
    Path(f"{gate}.ready").touch()
    while not Path(f"{gate}.go").exists():
        time.sleep(0.02)


def step_times(step, wait, seconds):
    """Times a step that only starts its work.

    Args:
        step: Takes a training step and returns what `wait` needs.
        wait: Returns when that step is done.
        seconds: For how long to time single steps.

    Returns:
        The median milliseconds of a step that is waited for, and the milliseconds of
        one among many of which only the last is waited for.
    """
    for _ in range(3):
        wait(step())
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        wait(step())
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in times:
        last = step()
    wait(last)
    pipelined = (time.perf_counter() - start) / len(times)
    return {"ms": 1e3 * statistics.median(times), "pipelined_ms": 1e3 * pipelined}


def matmul_rate(multiply, wait, size):
    """Returns the operations a second of a product of two matrices `[size, size]`."""
    wait(multiply())
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(MATMUL_CALLS):
            last = multiply()
        wait(last)
        times.append((time.perf_counter() - start) / MATMUL_CALLS)
    return 2.0 * size**3 / min(times)


def matmul_size(on_gpu):
    """Returns a size at which a machine of that kind is as fast as it gets."""
    return 8192 if on_gpu else 1024


def with_rates(times, batch, flops, rate):
    """Adds what follows from a time: examples a second, and the share of the rate."""
    per_second = 1e3 / times["pipelined_ms"]
    return {
        **times,
        "examples_per_second": batch * per_second,
        "network_flops": flops,
        "matmul_flops_per_second": rate,
        "share_of_matmul": flops * per_second / rate,
    }


def agrees(result):
    """Says whether a step computed what TensorFlow's did, as far as was compared."""
    agreement, precision = result.get("agreement", {}), result.get("precision")
    if not agreement.get("finite", True):
        return False
    if not agreement.get("compared"):
        return True
    error = "worst_error" if precision == "float32" else "median_error"
    return (
        agreement["loss_error"] <= LOSS_TOLERANCE[precision]
        and agreement[error] <= TOLERANCE[precision]
    )


def write(result, folder):
    """Keeps a result under a name of its own, with the day, and prints it."""
    result = {
        **result,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = [result[k] for k in ("library", "workload", "way", "precision", "batch")]
    words += [result["platform"], *(["small"] if result["small"] else [])]
    name = "-".join(str(word).replace(" ", "_") for word in words)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{name}: {summary(result)}", flush=True)


def summary(result):
    """Returns a result in a few words."""
    if "error" in result:
        return result["error"]
    peak = result["peak_mb"]
    memory = "peak memory not measured" if peak is None else f"peak {peak:.0f} MB"
    return (
        f"{result['ms']:.2f} ms, pipelined {result['pipelined_ms']:.2f} ms, "
        f"{result['examples_per_second']:.1f} examples/s, {memory}, "
        f"{100 * result['share_of_matmul']:.1f}% of the matmul rate"
    )
