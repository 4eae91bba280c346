"""Finds a trained model, and what the run that made it knows about the data."""

import json
from pathlib import Path
from typing import Any

from tfp_flows.training.model import FlowModel, load_model

MODEL_FILE, REPORT_FILE = "flow.keras", "report.json"


def find_model(path: Path) -> Path:
    """Returns the model file of a run's folder, or the file itself."""
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            raise ValueError(
                f"`MODEL` must be a .keras file or the folder of a finished run with "
                f"{MODEL_FILE} in it. Received: {path}."
            )
        return path / MODEL_FILE
    return path


def load(path: Path, *, conditional: bool = False) -> tuple[FlowModel, dict[str, Any]]:
    """Loads a model and the data part of the report beside it, empty without one.

    Args:
        path: A `.keras` file, or the folder that `tfp-flows train` wrote.
        conditional: Whether a flow that needs conditions will do.

    Returns:
        The model, and `{"name": ..., "levels": ..., "columns": ...}` if known.

    Raises:
        ValueError: If there is no such model, or it is damaged, or conditional where
            that will not do.
    """
    file = find_model(path)
    model = load_model(file)
    if model.condition_shape is not None and not conditional:
        raise ValueError(
            f"`MODEL` must be a flow without conditions; use it from Python with "
            f"`tfpf.condition`. Received: {file}, whose conditions have the shape "
            f"{model.condition_shape}."
        )
    report = file.parent / REPORT_FILE
    if not report.is_file():
        return model, {}
    return model, json.loads(report.read_text(encoding="utf-8")).get("data", {})
