"""AUROC of every scorer of a Fashion-MNIST flow, with bootstrap intervals.

    python -m benchmarks.anomaly --data DATA                    # trains both flows
    python -m benchmarks.anomaly --data DATA --model glow.keras

Normal images are test images of Fashion-MNIST: one half fits the scorers, the other is
told from inverted, constant and noise images, and from handwritten digits. DATA is the
folder where TensorFlow Datasets keeps its files. The likelihood ratio's background is
an equal Glow of the same images with a share of their pixels replaced by noise, trained
here unless `--background` names one. Figures and a picture are kept in
`benchmarks/results/`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

import tfp_flows as tfpf
from benchmarks.anomaly import picture
from benchmarks.anomaly.flows import dequantized, trained_glow
from benchmarks.anomaly.images import digits
from benchmarks.anomaly.simple_images import simple_anomalies
from benchmarks.default_runs import machine

RESULTS = Path(__file__).parents[1] / "results"
BATCH = 8  # images that are judged together


def scorers(background) -> dict:
    """Returns every scorer, by the name in the table."""
    anomaly = tfpf.anomaly
    return {
        "nll": anomaly.NllScorer(),
        "typicality": anomaly.TypicalityScorer(),
        "likelihood ratio": anomaly.RatioScorer(background),
        "complexity (PNG)": anomaly.ComplexityScorer(),
        "latent norm": anomaly.LatentNormScorer(),
        "latent norm, centred": anomaly.LatentNormScorer(centered=True),
        "joint typicality": anomaly.JointTypicalityScorer(),
    }


def batch_scores(calibration, sets: dict) -> dict:
    """Typicality of batches of images, of which each set has fewer."""
    test = tfpf.anomaly.BatchTypicality.fit(calibration.log_prob, batch_size=BATCH)
    whole = {name: len(rows) - len(rows) % BATCH for name, rows in sets.items()}
    return {
        name: np.nan_to_num(
            test.scores(rows.log_prob[: whole[name]].reshape(-1, BATCH)), posinf=1e38
        )
        for name, rows in sets.items()
    }


def measure(model, background, options) -> tuple:
    """Returns the report for single images, that for batches, facts and nll values."""
    images = tfpf.data.load("fashion_mnist", data_dir=options.data).x_test
    half = options.rows
    calibration, normal = images[:half], images[half : 2 * half]
    sets = {"normal": normal}
    sets |= simple_anomalies(normal, seed=options.seed)
    sets["digits"] = digits()
    rows = {
        name: tfpf.anomaly.evaluate_rows(
            model, dequantized(pixels, options.seed), batch_size=options.batch_size
        )
        for name, pixels in sets.items()
    }
    fitted = tfpf.anomaly.evaluate_rows(
        model, dequantized(calibration, options.seed + 1), batch_size=options.batch_size
    )
    scores, alarms = {name: {} for name in rows}, {}
    for name, scorer in scorers(background).items():
        tfpf.anomaly.fit_scorer(
            model, scorer, fitted, false_alarm_rate=0.05, batch_size=options.batch_size
        )
        for kind, part in rows.items():
            scores[kind][name] = scorer.scores(part, options.batch_size)
        alarms[name] = {
            kind: float(np.mean(values[name] > scorer.threshold))
            for kind, values in scores.items()
        }
        print(f"scored by {name}", flush=True)
    report = tfpf.anomaly.detection_report(
        scores.pop("normal"), scores, seed=options.seed
    )
    several = batch_scores(fitted, rows)
    name = f"typicality of {BATCH}"
    batches = tfpf.anomaly.detection_report(
        {name: several.pop("normal")},
        {kind: {name: values} for kind, values in several.items()},
        seed=options.seed,
    )
    bits = {kind: -part.log_prob / (784.0 * np.log(2.0)) for kind, part in rows.items()}
    return report, batches, alarms, bits, sets


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="TFDS's folder")
    parser.add_argument("--model", type=Path, help=".keras file of the flow")
    parser.add_argument("--background", type=Path, help=".keras file of the background")
    parser.add_argument("--minutes", type=float, default=10.0, help="training")
    parser.add_argument(
        "--background-minutes", type=float, default=5.0, help="of the background"
    )
    parser.add_argument("--rows", type=int, default=2000, help="images of each part")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the trained flows")
    options = parser.parse_args()
    flow = trained_glow(options, options.model, "flow", 0.0, options.minutes)
    background = trained_glow(
        options, options.background, "background", 0.2, options.background_minutes
    )
    report, batches, alarms, bits, sets = measure(
        tfpf.FlowModel(flow), background, options
    )
    console = Console(width=100)
    console.print(f"Measured on {machine()}.")
    console.print(report)
    console.print(batches)
    document = {
        "machine": machine(),
        "model": options.model.name if options.model else "trained here",
        "minutes": options.minutes,
        "background_minutes": options.background_minutes,
        "rows": options.rows,
        "bits_per_dim": {kind: float(np.mean(part)) for kind, part in bits.items()},
        "alarms_at_5_percent": alarms,
        "single": report.to_dict(),
        "batches": batches.to_dict(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "anomaly.json").write_text(json.dumps(document, indent=1) + "\n")
    picture.draw(report, bits, sets, RESULTS / "anomaly.png")


if __name__ == "__main__":
    main()
