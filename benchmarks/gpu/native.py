"""Times a training step of this package where TensorFlow itself sees a GPU.

    python -m benchmarks.gpu.native --workload W3 --precision tf32 --jit

Beside the bare step it times `model.fit`, with its input pipeline and callbacks. A
process takes one precision and one mode, so that their memory does not mix.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.gpu import timing
from benchmarks.gpu.model import build, train_function
from benchmarks.gpu.workloads import (
    MODES,
    PRECISIONS,
    WORKLOADS,
    network_flops,
    workload,
)

FIT_STEPS = 50


def run(w, precision, mode, jit, seconds, size=None, small=False, fit_steps=FIT_STEPS):
    """Times the bare step and `fit`; returns the result."""
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.experimental.reset_memory_stats("GPU:0")
    model, batch, _ = build(w, precision, mode, jit)
    step = train_function(model, jit)
    start = time.perf_counter()
    wait(step(batch))
    first = time.perf_counter() - start
    times = timing.step_times(lambda: step(batch), wait, seconds)
    fit_ms = per_step_of_fit(model, batch, fit_steps)
    peak = None
    if gpus:
        info = tf.config.experimental.get_memory_info("GPU:0")
        peak = info["peak"] / 2**20
    loss = float(step(batch)["loss"])
    rate = matmul_rate(precision, size or timing.matmul_size(bool(gpus)))
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return {
        "library": "tfp_flows",
        "workload": w.name,
        "way": f"{'jit' if jit else 'graph'}, {mode}",
        "precision": precision,
        "batch": w.train_batch,
        "small": small,
        "weights": sum(v.shape.num_elements() for v in model.trainable_variables),
        "platform": "gpu" if gpus else "cpu",
        "device": details.get("device_name", "unnamed GPU") if gpus else "cpu",
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
        "first_step_seconds": first,
        "fit_ms": fit_ms,
        "loss": loss,
        "peak_mb": peak,
        **timing.with_rates(times, w.train_batch, network_flops(w), rate),
    }


def wait(metrics):
    """Reads the results, which the device must have computed by then."""
    return {name: float(value) for name, value in metrics.items()}


def per_step_of_fit(model, batch, steps):
    """Returns the milliseconds of a step in two calls of `fit` of different lengths.

    The difference leaves out what happens once a call.
    """

    def seconds(count):
        data = tf.data.Dataset.from_tensors(batch).repeat(count)
        start = time.perf_counter()
        model.fit(data, verbose=0)
        return time.perf_counter() - start

    seconds(steps)
    short, long = seconds(steps), seconds(3 * steps)
    return 1e3 * (long - short) / (2 * steps)


def matmul_rate(precision, size):
    """Measures a large product in the same process and precision."""
    dtype = tf.bfloat16 if precision == "bfloat16" else tf.float32
    a, b = (tf.cast(tf.random.normal([size, size]), dtype) for _ in range(2))
    return timing.matmul_rate(
        lambda: tf.matmul(a, b), lambda product: product[0, 0].numpy(), size
    )


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.native", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--mode", choices=MODES, default="auto", help="of `Repeat`")
    parser.add_argument("--jit", action="store_true", help="compile the step by XLA")
    parser.add_argument("--batch", type=int, help="examples in a step")
    parser.add_argument("--small", action="store_true", help="shrunk, for a test")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--matmul-size", type=int)
    parser.add_argument("--fit-steps", type=int, default=FIT_STEPS)
    parser.add_argument("--results", type=Path, default=timing.RESULTS)
    options = parser.parse_args()
    if options.cpu:
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        sys.exit("TensorFlow sees no GPU here; pass --cpu to try the script without.")
    result = run(
        workload(options.workload, options.small, options.batch),
        options.precision,
        options.mode,
        options.jit,
        options.seconds,
        options.matmul_size,
        options.small,
        options.fit_steps,
    )
    timing.write(result, options.results)


if __name__ == "__main__":
    main()
