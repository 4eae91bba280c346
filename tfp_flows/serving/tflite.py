"""`export_tflite`: a flow for phones and small devices, as a LiteRT file."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.internal.arguments import checked_integer, invalid
from tfp_flows.internal.files import atomic_write
from tfp_flows.serving.export import Functions, write_saved_model
from tfp_flows.serving.servable import Model, Servable, servable

Arrays = dict[str, np.ndarray]


def export_tflite(
    model_or_distribution: Model,
    path: str | os.PathLike,
    *,
    rows: int = 1,
    tolerance: float = 1e-4,
) -> str:
    """Writes the `log_prob` and `decode` signatures of a flow as a `.tflite` file.

    Only ops that LiteRT has built in are allowed, so the file runs on its plain
    runtime. There are no checks of requests inside. Before it is written, the file is
    run on samples of the flow: where the answers differ, nothing is.

    Args:
        model_or_distribution: As for `export_saved_model`.
        path: The file to write; an existing one is replaced.
        rows: Rows in a call. It is fixed, as LiteRT computes some log-determinants
            wrongly where the number of rows is left open.
        tolerance: Largest difference from the flow's own values, relative to 1 or to
            their size.
    """
    checked_integer("rows", rows)
    model = servable(model_or_distribution)
    content = _convert(model, rows)
    _check_equal(model, content, rows, tolerance)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as written:
        written.write_bytes(content)
    return str(target)


def _convert(model: Servable, rows: int) -> bytes:
    functions = _functions(model, rows)
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(functions, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(functions)
        )
        try:
            return converter.convert()
        except Exception as error:
            lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            must = f"use only ops that LiteRT has built in for {model.dtype.name}"
            got = f"{model.distribution.name!r} with {', '.join(lacking) or 'others'}"
            raise invalid("model_or_distribution", must, got=got) from error


def _functions(model: Servable, rows: int) -> Functions:
    condition: list[tf.TensorSpec] = []
    if model.condition_shape is not None:
        shape = [rows, *model.condition_shape]
        condition = [tf.TensorSpec(shape, model.condition_dtype, name="condition")]

    def log_prob(x: tf.Tensor, *condition: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_prob": model.inverse_function(x, *condition)[1]}

    def decode(latent: tf.Tensor, *condition: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"samples": model.forward_function(latent, *condition)}

    def traced(function: Callable, name: str, shape: tuple[int, ...]) -> Any:
        inputs = [tf.TensorSpec([rows, *shape], model.dtype, name=name), *condition]
        function = tf.function(function, input_signature=inputs, autograph=False)
        return function.get_concrete_function()

    functions: Functions = {"log_prob": traced(log_prob, "x", model.event_shape)}
    if model.has_latent:
        functions["decode"] = traced(decode, "latent", model.latent_shape)
    return functions


def _check_equal(model: Servable, content: bytes, rows: int, tolerance: float) -> None:
    """Runs the file on samples of the flow and compares, 16 calls at most."""
    count = max(1, 16 // rows) * rows
    x, condition = model.examples(count)
    latent, log_prob = model.inverse(x, condition)
    samples = model.decode(latent, condition)
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        keywords = {} if condition is None else {"condition": condition[part].numpy()}
        inputs = {"x": x[part].numpy(), **keywords}
        answer = run_tflite(content, "log_prob", inputs)
        _require_close("log_prob", answer["log_prob"], log_prob[part], tolerance)
        if model.has_latent:
            inputs = {"latent": latent[part].numpy(), **keywords}
            answer = run_tflite(content, "decode", inputs)
            _require_close("decode", answer["samples"], samples[part], tolerance)


def run_tflite(content: bytes, signature: str, inputs: Arrays) -> Arrays:
    """Runs the signature "log_prob" or "decode" of a LiteRT file's bytes."""
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
        must = f"not be exceeded by what `{name}` answers in LiteRT"
        got = f"tolerance={tolerance}, and a difference of {error:.3g}"
        raise invalid("tolerance", must, got=got)
