"""Runs an exported training step with JAX's compiler: checks it, then times it.

    JAX_PLATFORMS=cuda python benchmarks/gpu/run_exported.py FOLDER --precision tf32

Needs JAX and NumPy, no TensorFlow. It measures XLA's program on this card: not
TensorFlow's runtime, nor its launches, nor its input pipeline.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu import arguments, timing
from benchmarks.gpu.program import compiled


def run(folder, precision, seconds=5.0, size=None, portable=False, gate=None):
    """Compiles, checks and times the step in `folder`; returns the result."""
    description = json.loads((folder / "step.json").read_text())
    label = precision
    if description["precision"] == "bfloat16":
        label, precision = "bfloat16", "tf32"
    # Keras counts its steps in int64, which JAX would otherwise make int32.
    jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    program = compiled((folder / "step.hlo").read_bytes(), precision, portable)
    compile_seconds = time.perf_counter() - start
    timing.wait_for_turn(gate)
    with np.load(folder / "arguments.npz") as stored:
        values = arguments.remade(description["arguments"], stored)
    written = {int(o): p for o, p in description["written"].items()}

    on_gpu = program.device.platform in ("gpu", "cuda", "rocm")
    result = {
        "library": "tfp_flows",
        "way": f"XLA program, {description['mode']}",
        "precision": label,
        **{k: description[k] for k in ("workload", "batch", "small", "weights")},
        "platform": "gpu" if on_gpu else program.device.platform,
        "device": program.device.device_kind,
        "versions": f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
        f"exported by TensorFlow {description['tensorflow']}",
        "products": program.products,
        "compile_seconds": compile_seconds,
        "agreement": checked(folder, description, program, values, written),
    }
    times = step_times(program, values, written, seconds)
    # Read before the matrices below add theirs.
    result |= memory(program)
    rate = matmul_rate(program.device, label, size or timing.matmul_size(on_gpu))
    result |= timing.with_rates(
        times, description["batch"], description["network_flops"], rate
    )
    # Counts what is in a loop once, however often the loop runs.
    result["cost_analysis_flops"] = program.executable.cost_analysis().get("flops")
    return result


def checked(folder, description, program, values, written):
    """Takes one step and compares it with TensorFlow's own."""
    results = [np.asarray(r) for r in program(program.put(values))]
    finite = all(np.isfinite(r).all() for r in results)
    if not description["reference"]:
        return {"compared": 0, "finite": finite}
    after = [arguments.sample(r) for r in results]
    with np.load(folder / "reference.npz") as reference:
        expected = [reference[f"r{i}"] for i in range(len(reference.files))]
    if [a.shape for a in after] != [e.shape for e in expected]:
        raise ValueError("The program's results have other shapes than TensorFlow's.")
    before = [
        arguments.sample(values[written[i]]) if i in written else None
        for i in range(len(after))
    ]
    errors = arguments.errors(before, after, expected)
    loss = description["metrics"].index("loss")
    return {
        "compared": len(errors),
        "finite": finite,
        "loss": float(after[loss][0]),
        "expected_loss": float(expected[loss][0]),
        "loss_error": errors[loss],
        "worst_error": max(errors),
        "median_error": float(np.median(errors)),
    }


def step_times(program, values, written, seconds):
    """Times steps that train: what a step writes, the next one reads."""
    held = program.put(values)

    def step():
        results = program(held)
        # The program reuses the memory of what it replaces.
        for result, parameter in written.items():
            held[parameter] = results[result]
        return results

    return timing.step_times(step, jax.block_until_ready, seconds)


def memory(program):
    """Returns what the device saw, and what the compiler planned, in MB."""
    stats = program.device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    plan = program.executable.get_compiled_memory_stats()
    return {
        "peak_mb": None if peak is None else peak / 2**20,
        "planned_mb": {
            "arguments": plan.argument_size_in_bytes / 2**20,
            "temporary": plan.temp_size_in_bytes / 2**20,
            "results": plan.output_size_in_bytes / 2**20,
            "results_in_place_of_arguments": plan.alias_size_in_bytes / 2**20,
        },
    }


def matmul_rate(device, label, size):
    """Measures a large product in the same process and precision."""
    dtype = jnp.bfloat16 if label == "bfloat16" else jnp.float32
    precision = "highest" if label == "float32" else "default"
    keys = jax.random.split(jax.random.key(0))
    a, b = (
        jax.device_put(jax.random.normal(k, (size, size), dtype), device) for k in keys
    )
    product = jax.jit(lambda: jnp.matmul(a, b, precision=precision))
    return timing.matmul_rate(product, jax.block_until_ready, size)


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="what `export` wrote")
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32"),
        default="float32",
        help="of a float32 program; what is float32 in a bfloat16 one runs in TF32",
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--matmul-size", type=int)
    parser.add_argument(
        "--portable",
        action="store_true",
        help="take the module through the form that a CUDA plugin gets, on any device",
    )
    parser.add_argument("--gate", type=Path, help="of `together`: wait for a turn")
    parser.add_argument("--results", type=Path, default=timing.RESULTS)
    options = parser.parse_args()
    result = run(
        options.folder,
        options.precision,
        options.seconds,
        options.matmul_size,
        options.portable,
        options.gate,
    )
    timing.write(result, options.results)
    if not timing.agrees(result):
        sys.exit("The results differ from TensorFlow's; the times are not to be used.")


if __name__ == "__main__":
    main()
