"""What a finished run writes: metrics, pictures, the flow and its export."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from rich.table import Table

import tfp_flows as tfpf
from tfp_flows import plotting
from tfp_flows.cli import files, scoring
from tfp_flows.cli.files import MODEL_FILE, REPORT_FILE
from tfp_flows.cli.options import BrokenExport
from tfp_flows.cli.recipes import Recipe
from tfp_flows.cli.run_directory import RunDirectory
from tfp_flows.data import Data
from tfp_flows.saving.files import save_model
from tfp_flows.serving.export import export_saved_model
from tfp_flows.serving.protos import has_serving_protos
from tfp_flows.training.model import FlowModel

GRID_IMAGES, POINTS = 64, 2_000
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
    """Scores a trained model and writes everything into the run's folder."""
    history = run.history()
    results = _results(model, data, recipe, seconds, history)
    save_model(model, run.path / MODEL_FILE)
    path = run.path / "saved_model"
    results["saved_model"] = _export(path, model, data, recipe.precision)
    rows = zip(*history.values(), strict=True)
    files.write_csv(
        run.path / "history.csv",
        ["epoch", *history],
        [(epoch, *row) for epoch, row in enumerate(rows, start=1)],
    )
    plotting.save(
        _learning_curve(history, data, results), run.path / "learning_curve.png"
    )
    compared = _real_and_sampled(model, data)
    if compared is not None:
        plotting.save(compared, run.path / "real_and_sampled.png")
    files.write_json(run.path / REPORT_FILE, results)
    return results


def _results(
    model: FlowModel,
    data: Data,
    recipe: Recipe,
    seconds: float,
    history: dict[str, list[float]],
) -> Results:
    """All metrics of a run, ready for JSON."""
    total = scoring.Total(data.event_shape)
    nll = total.add(model, data)
    score = total.score()
    results: Results = {
        "data": {
            "name": data.name,
            "kind": data.kind,
            "event_shape": list(data.event_shape),
            "levels": data.pixel_levels,
            "columns": data.columns and list(data.columns),
            "train_examples": len(data.x_train),
            "test_examples": len(data.x_test),
        },
        "recipe": dataclasses.asdict(recipe),
        "seed": data.seed,
        "weights": model.count_params(),
        "epochs": len(history.get("nll", [])),
        "training_seconds": round(seconds, 2),
        "held_out": score,
        "baselines": _baselines(data),
        "versions": {
            "python": platform.python_version(),
            "tfp-flows": tfpf.__version__,
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }
    if data.true_entropy is not None:
        results["true_entropy"] = data.true_entropy
        results["gap_to_true_entropy"] = score["nll"] - data.true_entropy
        results["excess_over_truth"] = scoring.excess_over_truth(nll, data)
    return results


def _baselines(data: Data) -> dict[str, dict[str, float]]:
    nll = {"full-covariance Gaussian": scoring.gaussian_nll(data.train, data.test)}
    if data.pixel_levels is not None:
        nll["per-pixel histogram"] = scoring.histogram_nll(
            data.x_train, data.x_test, data.pixel_levels
        )
    return {
        name: {"nll": value, "bits_per_dim": scoring.bits(value, data.event_shape)}
        for name, value in nll.items()
    }


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
            f"flow. Received: differences of up to {difference.max():.3g} nats"
        )
    return {
        "path": str(Path(version).relative_to(path.parent)),
        "compared_examples": len(x),
        "largest_log_prob_difference": float(difference.max()),
    }


def _learning_curve(
    history: Mapping[str, list[float]], data: Data, results: Results
) -> Figure:
    """Draws bits per dimension for images, nats for all else, beside the baselines."""
    metric, unit = ("bits_per_dim", "bits") if data.kind == "image" else ("nll", "nats")
    lines = {name: scores[metric] for name, scores in results["baselines"].items()}
    if data.true_entropy is not None:
        lines["true entropy"] = data.true_entropy
    return plotting.learning_curve(history, metric, unit, lines)


def _real_and_sampled(model: FlowModel, data: Data) -> Figure | None:
    """Draws held-out data beside samples; None for images that no screen could show."""
    if len(data.event_shape) != 3:
        sampled = model.sample(POINTS, seed=data.seed).numpy()
        if data.event_shape != (2,):
            return plotting.pair_plot(data.x_test, sampled, data.columns)
        labels = data.columns or ("$x_1$", "$x_2$")
        log_prob = scoring.log_prob_of(model)
        return plotting.density_map(log_prob, data.x_test, sampled, labels=labels)
    if data.event_shape[-1] not in (1, 3):
        return None
    sampled = model.sample(GRID_IMAGES, seed=data.seed).numpy()
    real = np.asarray(data.x_test[:GRID_IMAGES], np.float32)
    if data.pixel_levels is not None:
        return plotting.real_and_sampled_images(real, sampled, data.pixel_levels)
    low, high = float(real.min()), float(real.max())
    return plotting.real_and_sampled_images(
        *(256 * (x - low) / (high - low) for x in (real, sampled))
    )


def table(results: Results) -> Table:
    """Makes the table that ends a run."""
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
