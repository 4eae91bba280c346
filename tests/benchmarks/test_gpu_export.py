"""The GPU benchmark on a CPU: its parts, and exported steps run by JAX's compiler.

JAX is no dependency of this package. `TFP_FLOWS_JAX_PYTHON` may name an interpreter
that has it; without one, what needs JAX is skipped.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.gpu import arguments, native, table, timing
from benchmarks.gpu.export import export
from benchmarks.gpu.workloads import WORKLOADS, conditioners, network_flops, workload
from benchmarks.speed.adapters import floor

ROOT = Path(__file__).parents[2]
EXPORTS = {
    "W1": ("W1", "float32", "auto"),
    "glow": ("glow64", "float32", "auto"),
    "glow reversible": ("glow64", "float32", "reversible"),
    "glow bfloat16": ("glow64", "bfloat16", "auto"),
}


@pytest.fixture(autouse=True)
def _default_policy():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns a function that exports a small step, each only once."""
    done = {}

    def of(key):
        if key not in done:
            folder = tmp_path_factory.mktemp("exported")
            name, precision, mode = EXPORTS[key]
            w = workload(name, small=True)
            done[key] = folder, export(w, precision, mode, folder, small=True)
            keras.config.set_dtype_policy("float32")
        return done[key]

    return of


def jax_python():
    """Returns an interpreter that has JAX, or skips."""
    named = os.environ.get("TFP_FLOWS_JAX_PYTHON")
    if named:
        return named
    if importlib.util.find_spec("jax") and importlib.util.find_spec("jaxlib"):
        return sys.executable
    pytest.skip("JAX is not installed here, and TFP_FLOWS_JAX_PYTHON names no other.")


def run_exported(folder, results, *options):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONPATH", None)
    command = [
        *(jax_python(), "benchmarks/gpu/run_exported.py", str(folder)),
        *("--seconds", "0.1", "--matmul-size", "128", "--results", str(results)),
        *options,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next(results.glob("*.json")).read_text())


@pytest.mark.parametrize("key", ["W1", pytest.param("glow", marks=pytest.mark.slow)])
def test_an_export_is_keras_s_step(exported, key):
    folder, description = exported(key)
    assert (folder / "step.hlo").stat().st_size > 1000
    with np.load(folder / "arguments.npz") as stored:
        values = arguments.remade(description["arguments"], stored)
    with np.load(folder / "reference.npz") as reference:
        metrics = dict(zip(description["metrics"], reference.values(), strict=False))
    assert np.isfinite(metrics["loss"]).all()
    assert metrics["loss"] == metrics["nll"]
    # Weights, two slots each, the optimizer's two numbers and the metrics' states.
    floats = sum(v.size for v in values[1:] if v.dtype == np.float32 and v.size > 1)
    assert floats >= 3 * description["weights"]
    assert len(description["written"]) < len(values)
    assert any(v.dtype == np.int64 for v in values)


@pytest.mark.parametrize("key", EXPORTS)
def test_jax_s_compiler_computes_what_tensorflow_does(exported, key, tmp_path):
    python = jax_python()
    folder, description = exported(key)
    result = run_exported(folder, tmp_path, "--portable")
    agreement = result["agreement"]
    assert python
    assert timing.agrees(result), agreement
    assert agreement["compared"] == len(description["written"]) + 3
    assert result["products"] > 0
    assert result["ms"] > 0
    assert result["peak_mb"] is None  # a CPU does not count
    assert result["planned_mb"]["results_in_place_of_arguments"] > 0
    if key == "glow":  # XLA also counts the flow's own small products
        ratio = result["cost_analysis_flops"] / result["network_flops"]
        assert 0.5 < ratio < 3.0


def test_a_wrong_result_is_found(exported, tmp_path):
    folder, _ = exported("W1")
    jax_python()
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(folder / "reference.npz") as reference:
        changed = {
            k: v * (1.01 if v.dtype == np.float32 else 1) for k, v in reference.items()
        }
    np.savez(tmp_path / "reference.npz", **changed)
    with pytest.raises(AssertionError, match="differ from TensorFlow's"):
        run_exported(tmp_path, tmp_path / "results")


def test_precision_is_set_in_the_program(exported):
    folder, _ = exported("glow")
    code = (
        "import json, sys; from pathlib import Path;"
        "from benchmarks.gpu.program import compiled;"
        "raw = Path(sys.argv[1]).read_bytes();"
        "both = [compiled(raw, p) for p in ('float32', 'tf32')];"
        "print(json.dumps([(p.products, p.text.count('HIGHEST')) for p in both]))"
    )
    printed = subprocess.run(
        [jax_python(), "-c", code, str(folder / "step.hlo")],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (products, highest), (same, none) = json.loads(printed)
    assert products == same > 0
    # Both operands of each are named.
    assert (highest, none) == (2 * products, 0)


def test_a_tensorflow_step_without_a_gpu(capsys, monkeypatch, tmp_path):
    result = native.run(
        workload("W1", small=True),
        "float32",
        "auto",
        jit=False,
        seconds=0.05,
        size=64,
        small=True,
        fit_steps=3,
    )
    timing.write(result, tmp_path)
    assert result["peak_mb"] is None
    assert np.isfinite(result["loss"])
    monkeypatch.setattr(sys, "argv", ["native", "--workload", "W1"])
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(SystemExit, match="TensorFlow sees no GPU here"):
            native.main()
    text = table.table(table.load(tmp_path, "cpu", small=True))
    assert "| tfp_flows | graph, auto | float32 | 4 |" in text


def test_the_table_says_what_is_not_measured(tmp_path):
    text = table.table(table.load(tmp_path))
    rows = [line for line in text.splitlines() if line.startswith("| tfp_flows")]
    assert "Nothing was measured yet." in text
    assert rows
    assert all("not measured" in row for row in rows)
    assert {f"### {name}" for name in WORKLOADS} <= set(text.splitlines())


def test_a_result_of_another_machine_is_not_in_the_table(tmp_path):
    result = {
        **{"library": "normflows", "workload": "W3", "way": "eager"},
        **{"precision": "tf32", "batch": 16, "small": False, "platform": "cpu"},
        **{"device": "cpu", "versions": "torch", "peak_mb": None},
        **timing.with_rates({"ms": 4.0, "pipelined_ms": 2.0}, 16, 10**9, 10**12),
    }
    timing.write(result, tmp_path)
    assert "| tf32 | 16 |" not in table.table(table.load(tmp_path))
    timing.write(result | {"platform": "gpu", "peak_mb": 123.0}, tmp_path)
    text = table.table(table.load(tmp_path))
    assert (
        "| normflows | eager | tf32 | 16 | 4.00 | 2.00 |  | 8,000 | 123 | 50.0% |"
        in text
    )
    failed = {k: v for k, v in result.items() if "ms" not in k} | {"error": "no memory"}
    timing.write(failed | {"platform": "gpu"}, tmp_path)
    assert "failed: no memory" in table.table(table.load(tmp_path))


@pytest.mark.parametrize("name", ["W1", "W2", "W3", "W4"])
def test_operations_are_those_of_the_networks(name):
    w = workload(name, small=True)
    kernels = [
        int(np.prod(v.shape))
        for net, _ in floor.networks(w)
        for v in net.trainable_weights
        if v.name.startswith("kernel")
    ]
    assert kernels == [inputs * outputs for _, inputs, outputs in conditioners(w)]
    assert network_flops(w) >= 6 * w.train_batch * sum(kernels)


def test_glow_s_positions_shrink_with_the_levels():
    w = WORKLOADS["glow64"]
    positions = [p for p, _, _ in conditioners(w)][:: 3 * w.layers]
    assert positions == [1024, 256, 64, 16]


def test_arguments_are_remade_or_refused():
    draw = {"seed": 3, "scale": 0.5}
    values = [arguments.drawn(draw, (70, 80)), np.zeros(5), np.int64(0), np.arange(3)]
    descriptions, stored = arguments.described(values, {0: draw})
    assert sorted(stored) == ["a2", "a3"]
    again = arguments.remade(json.loads(json.dumps(descriptions)), stored)
    for value, other in zip(values, again, strict=True):
        np.testing.assert_array_equal(value, other)
        assert value.dtype == other.dtype
    descriptions[0]["draw"] = {"seed": 4, "scale": 0.5}
    with pytest.raises(ValueError, match="drawn alike on both sides"):
        arguments.remade(descriptions, stored)


def test_errors_are_shares_of_the_change():
    before, expected = np.full(4, 100.0), np.full(4, 101.0)
    assert arguments.errors([before], [expected], [expected]) == [0.0]
    assert arguments.errors([before], [before], [expected]) == [1.0]
    assert arguments.errors([None], [0.5 * expected], [expected]) == [0.5]
    assert arguments.errors([before], [before], [before]) == [0.0]
