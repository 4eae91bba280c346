"""Exports a training step as an XLA program that a machine without TensorFlow can run.

    python -m benchmarks.gpu.export --workload W3 --precision float32 --out FOLDER

The step is that of `FlowModel` under `fit`: loss, gradients, metrics and Keras's Adam.
The program is the one that TensorFlow hands to XLA, before any optimization for a
machine. Beside it lie its arguments and, from one step on this machine, what must come
out. `run_exported.py` runs it.
"""

import argparse
import json
import re
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu import arguments
from benchmarks.gpu.model import build, train_function
from benchmarks.gpu.workloads import MODES, WORKLOADS, network_flops, workload

# In the program's first line: "{output}: (parameter, {}, may-alias)".
ALIAS = re.compile(r"\{(\d+)\}: \((\d+), \{\}, (?:may|must)-alias\)")


def export(w, precision, mode, out, small=False, reference=True):
    """Writes the program, its arguments and its results; returns the description."""
    model, batch, draws = build(w, precision, mode)
    step = train_function(model, jit=True)
    variables = captured(step.get_concrete_function(batch))
    values = [batch.numpy(), *(v.numpy() for v in variables)]
    numbers = {id(v): i for i, v in enumerate(variables, start=1)}
    drawn = {numbers[k]: d for k, d in draws.items()}
    descriptions, stored = arguments.described(values, drawn)

    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "arguments.npz", **stored)
    ir = step.experimental_get_compiler_ir(batch)
    (out / "step.hlo").write_bytes(ir(stage="hlo_serialized"))
    first_line = ir(stage="hlo").partition("\n")[0]
    written = {int(o): int(p) for o, p in ALIAS.findall(first_line)}
    description = {
        "workload": w.name,
        "precision": precision,
        "mode": mode,
        "small": small,
        "batch": w.train_batch,
        "network_flops": network_flops(w),
        "weights": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "arguments": descriptions,
        # Results are the metrics, then the new values of variables in these places.
        "metrics": ["bits_per_dim", "loss", "nll"],
        "written": written,
        "reference": reference,
    }
    if reference:
        description |= write_reference(step, batch, variables, written, out)
    (out / "step.json").write_text(json.dumps(description, indent=1) + "\n")
    return description


def captured(function):
    """Returns what the program takes behind the batch: variables, and constants."""
    by_handle = {id(v.handle): v for v in function.graph.variables}
    return [by_handle.get(id(tensor), tensor) for tensor in function.captured_inputs]


def write_reference(step, batch, variables, written, out):
    """Takes the step here, and keeps samples of everything that it computes."""
    start = time.perf_counter()
    metrics = tf.nest.flatten(step(batch))  # sorted by their names
    results = [m.numpy() for m in metrics]
    results += [variables[written[o] - 1].numpy() for o in sorted(written)]
    samples = {f"r{i}": arguments.sample(r) for i, r in enumerate(results)}
    np.savez_compressed(out / "reference.npz", **samples)
    return {"reference_seconds": time.perf_counter() - start}


def main():
    """Exports what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.export", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="TF32 is chosen where a float32 program runs",
    )
    parser.add_argument("--mode", choices=MODES, default="auto", help="of `Repeat`")
    parser.add_argument("--batch", type=int, help="examples in a step")
    parser.add_argument("--small", action="store_true", help="shrunk, for a test")
    parser.add_argument(
        "--no-reference",
        action="store_true",
        help="do not take the step here, where it is too large for this machine",
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    w = workload(options.workload, options.small, options.batch)
    description = export(
        w,
        options.precision,
        options.mode,
        options.out,
        options.small,
        not options.no_reference,
    )
    size = sum(path.stat().st_size for path in options.out.iterdir()) / 2**20
    print(
        f"{w.name}: {description['weights']:,} weights, "
        f"{len(description['arguments'])} arguments, {size:.1f} MB in {options.out}"
    )


if __name__ == "__main__":
    main()
