"""`export_tflite`: a flow for phones and small devices, as a LiteRT file."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.serving.served_flow import ServedFlow

Arrays = dict[str, np.ndarray]


def export_tflite(
    model_or_distribution: Any,
    path: str | os.PathLike,
    *,
    rows: int = 1,
    tolerance: float = 1e-4,
) -> str:
    """Writes the `log_prob` and `decode` signatures of a flow as a `.tflite` file.

    Only ops that LiteRT has built in are allowed, so the file runs on its plain
    runtime. There are no checks of requests inside: LiteRT has none of the ops for
    their sentences. Before it is written, the file is run on samples of the flow.

    Args:
        model_or_distribution: As for `export_saved_model`.
        path: The file to write; an existing one is replaced.
        rows: Rows in a call. It is fixed, as LiteRT computes some log-determinants
            wrongly where the number of rows is left open.
        tolerance: Largest difference from the flow's own numbers, relative to 1 or to
            their size.

    Returns:
        The path.

    Raises:
        ValueError: If the flow uses ops that LiteRT does not have, or its answers
            there differ. Nothing is written then.
    """
    flow = ServedFlow(model_or_distribution)
    content = _convert(flow, rows)
    _check_equal(flow, content, rows, tolerance)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, target)
    return str(target)


def _convert(flow: ServedFlow, rows: int) -> bytes:
    functions = _functions(flow, rows)
    root = tf.Module()
    root.variables_in_graphs = list(
        {id(v): v for traced in functions.values() for v in traced.variables}.values()
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(root, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(functions)
        )
        try:
            return converter.convert()
        except Exception as error:
            lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            raise ValueError(
                "Argument `model_or_distribution` must use only ops that LiteRT has "
                f"built in for {flow.dtype.name}. Received: {flow.distribution.name!r} "
                f"with {', '.join(lacking) or 'others'}"
            ) from error


def _functions(flow: ServedFlow, rows: int) -> dict[str, Any]:
    condition: list[tf.TensorSpec] = []
    if flow.condition_shape is not None:
        shape = [rows, *flow.condition_shape]
        condition = [tf.TensorSpec(shape, flow.condition_dtype, name="condition")]

    def log_prob(x: tf.Tensor, condition: Any = None) -> dict[str, tf.Tensor]:
        return {"log_prob": flow.trace_inverse(x, condition)[1]}

    def decode(latent: tf.Tensor, condition: Any = None) -> dict[str, tf.Tensor]:
        return {"samples": flow.trace_forward(latent, condition)}

    x = tf.TensorSpec([rows, *flow.event_shape], flow.dtype, name="x")
    functions = {"log_prob": _traced(log_prob, [x, *condition])}
    if flow.has_latent:
        latent = tf.TensorSpec([rows, *flow.latent_shape], flow.dtype, name="latent")
        functions["decode"] = _traced(decode, [latent, *condition])
    return functions


def _traced(function: Any, inputs: list[tf.TensorSpec]) -> Any:
    traced = tf.function(function, input_signature=inputs, autograph=False)
    return traced.get_concrete_function()


def _check_equal(flow: ServedFlow, content: bytes, rows: int, tolerance: float) -> None:
    """Runs the file on samples of the flow and compares, 16 calls at most."""
    calls = max(1, 16 // rows)
    x, condition = flow.examples(calls * rows)
    log_prob = flow.log_prob(x, condition)
    latent = flow.encode(x, condition)
    samples = flow.decode(latent, condition)
    for first in range(0, calls * rows, rows):
        part = slice(first, first + rows)
        given = {} if condition is None else {"condition": condition[part].numpy()}
        answer = run_tflite(content, "log_prob", {"x": x[part].numpy(), **given})
        _require_close("log_prob", answer["log_prob"], log_prob[part], tolerance)
        if flow.has_latent:
            inputs = {"latent": latent[part].numpy(), **given}
            answer = run_tflite(content, "decode", inputs)
            _require_close("decode", answer["samples"], samples[part], tolerance)


def run_tflite(content: bytes, signature: str, inputs: Arrays) -> Arrays:
    """Runs a signature of a LiteRT file.

    Args:
        content: The file's bytes.
        signature: "log_prob" or "decode".
        inputs: Arrays by input name.

    Returns:
        Arrays by output name.
    """
    with warnings.catch_warnings():
        # TensorFlow says that its interpreter will move to a package of its own.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
    return interpreter.get_signature_runner(signature)(**inputs)


def _require_close(
    name: str, actual: np.ndarray, expected: tf.Tensor, tolerance: float
) -> None:
    error = np.max(np.abs(actual - expected) / np.maximum(1.0, np.abs(expected)))
    if not error <= tolerance:
        raise ValueError(
            f"Argument `tolerance` must not be exceeded by what `{name}` answers in "
            f"LiteRT. Received: tolerance={tolerance}, and a difference of {error:.3g}"
        )
