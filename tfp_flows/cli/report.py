"""What a finished run writes down: numbers, pictures, the flow and its export."""

import dataclasses
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.table import Table

import tfp_flows as tfpf
from tfp_flows import plotting
from tfp_flows.cli import baselines, output, pictures, scoring
from tfp_flows.cli.errors import BrokenExport
from tfp_flows.cli.models import MODEL_FILE, REPORT_FILE
from tfp_flows.cli.recipe_table import Recipe
from tfp_flows.cli.run_directory import RunDirectory
from tfp_flows.data import Data
from tfp_flows.saving.files import save_model
from tfp_flows.serving.export import export_saved_model
from tfp_flows.serving.protos import has_serving_protos
from tfp_flows.training.model import FlowModel

PACKAGES = ("tensorflow", "tensorflow-probability", "keras", "numpy")
COMPARED_ROWS = 256
# Two graphs of the same flow differ by rounding only: that of float32, or that of
# networks whose values have 8 or 11 bits.
LARGEST_RELATIVE_DIFFERENCE = {
    "float32": 1e-4,
    "mixed_bfloat16": 5e-2,
    "mixed_float16": 1e-2,
}

Results = dict[str, Any]


def write(
    run: RunDirectory, model: FlowModel, data: Data, recipe: Recipe, seconds: float
) -> Results:
    """Scores a trained model and writes everything into the run's folder.

    Args:
        run: The folder.
        model: The trained model.
        data: Its data.
        recipe: How it was made.
        seconds: How long training took, in this call.

    Returns:
        What stands in `report.json`.

    Raises:
        ValueError: If the held-out part has no finite likelihood.
        BrokenExport: If the exported flow gives other log-densities.
    """
    history = run.history()
    results = _results(model, data, recipe, seconds, history)
    save_model(model, run.path / MODEL_FILE)
    results["saved_model"] = _export(
        run.path / "saved_model", model, data, recipe.precision
    )
    rows = zip(*history.values(), strict=True)
    output.write_csv(
        run.path / "history.csv",
        ["epoch", *history],
        [(epoch, *row) for epoch, row in enumerate(rows, start=1)],
    )
    lines = _reference_lines(results, data)
    curve = pictures.learning_curve(history, data, lines)
    plotting.save(curve, run.path / "learning_curve.png")
    compared = pictures.real_and_sampled(model, data, data.seed)
    if compared is not None:
        plotting.save(compared, run.path / "real_and_sampled.png")
    output.write_json(run.path / REPORT_FILE, results)
    return results


def _results(
    model: FlowModel,
    data: Data,
    recipe: Recipe,
    seconds: float,
    history: dict[str, list[float]],
) -> Results:
    """All numbers of a run, ready for JSON."""
    nll, draws = scoring.held_out_nll(model, data)
    score = scoring.summarized(nll, draws, data.event_shape)
    results: Results = {
        "data": {
            "name": data.name,
            "kind": data.kind,
            "event_shape": list(data.event_shape),
            "levels": data.levels,
            "columns": data.columns and list(data.columns),
            "train_examples": len(data.x_train),
            "test_examples": len(data.x_test),
        },
        "recipe": dataclasses.asdict(recipe),
        "seed": data.seed,
        "weights": model.count_params(),
        "epochs": len(history.get("nll", [])),
        "training_seconds": round(seconds, 2),
        "held_out": dataclasses.asdict(score),
        "baselines": _baselines(data),
        "versions": _versions(),
    }
    if data.true_entropy is not None:
        results["true_entropy"] = data.true_entropy
        results["gap_to_true_entropy"] = score.nll - data.true_entropy
        results["excess_over_truth"] = scoring.excess_over_truth(nll, data)
    return results


def _baselines(data: Data) -> dict[str, dict[str, float]]:
    nll = {"full-covariance Gaussian": baselines.gaussian_nll(data.train, data.test)}
    if data.levels is not None:
        nll["per-pixel histogram"] = baselines.histogram_nll(
            data.x_train, data.x_test, data.levels
        )
    return {
        name: {"nll": value, "bits_per_dim": scoring.bits(value, data.event_shape)}
        for name, value in nll.items()
    }


def _versions() -> dict[str, str]:
    installed = {package: importlib.metadata.version(package) for package in PACKAGES}
    own = {"python": platform.python_version(), "tfp-flows": tfpf.__version__}
    return own | installed


def _export(path: Path, model: FlowModel, data: Data, precision: str) -> Results:
    """Exports the flow, loads the export and compares its log-densities."""
    version = export_saved_model(model, path, warmup=has_serving_protos())
    x = next(iter(data.test.rebatch(COMPARED_ROWS)))
    served = tf.saved_model.load(version).signatures["log_prob"](x=x)["log_prob"]
    live = model.predict(x, verbose=0)
    difference = np.abs(served.numpy() - live)
    largest = LARGEST_RELATIVE_DIFFERENCE[precision]
    if not np.all(difference <= largest * (1.0 + np.abs(live))):
        raise BrokenExport(
            f"The SavedModel in {version} must give the log-densities of the trained "
            f"flow. Received: differences of up to {difference.max():.3g} nats."
        )
    return {
        "path": str(Path(version).relative_to(path.parent)),
        "compared_examples": len(x),
        "largest_log_prob_difference": float(difference.max()),
    }


def _reference_lines(results: Results, data: Data) -> dict[str, float]:
    """Baselines and truth, in the unit of the learning curve."""
    unit = "bits_per_dim" if data.kind == "image" else "nll"
    lines = {name: scores[unit] for name, scores in results["baselines"].items()}
    if data.true_entropy is not None:
        lines["true entropy"] = data.true_entropy
    return lines


def table(results: Results) -> Table:
    """Makes the table that ends a run.

    Args:
        results: What stands in `report.json`.

    Returns:
        The table, for rich to print.
    """
    held_out = results["held_out"]
    title = f"held-out {results['data']['name']}: {held_out['examples']:,} examples"
    if held_out["noise_draws"] > 1:
        title += f", mean of {held_out['noise_draws']} noise draws"
    rows = Table(title=title, title_justify="left")
    rows.add_column("model")
    rows.add_column("nll (nats)", justify="right")
    rows.add_column("bits/dim", justify="right")
    score = f"{held_out['nll']:.3f} ± {held_out['standard_error']:.3f}"
    name, bits = results["recipe"]["flow"], f"{held_out['bits_per_dim']:.3f}"
    rows.add_row(name, score, bits, style="bold")
    for name, baseline in results["baselines"].items():
        rows.add_row(name, f"{baseline['nll']:.3f}", f"{baseline['bits_per_dim']:.3f}")
    if "true_entropy" in results:
        entropy = results["true_entropy"]
        bits = scoring.bits(entropy, results["data"]["event_shape"])
        rows.add_row("true entropy", f"{entropy:.3f}", f"{bits:.3f}")
    return rows
