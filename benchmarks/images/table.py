"""Prints the table of all logs in a folder and draws their curves.

python -m benchmarks.images.table --out LOGS --figure FILE.png
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt

HISTOGRAM, GAUSSIAN, PUBLISHED = 4.59, 6.46, 2.958


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    results = [json.loads(path.read_text()) for path in options.out.glob("*.json")]
    results.sort(key=lambda result: result["test_bits_per_dim"])
    print("| flow | test bits/dim | weights | images seen | seconds |")
    print("|---|---|---|---|---|")
    for result in results:
        print(
            f"| {result['name']} | {result['test_bits_per_dim']:.3f} "
            f"| {result['weights']:,} | {result['images']:,} "
            f"| {result['training_seconds']:.0f} |"
        )
    print(f"| per-pixel histogram | {HISTOGRAM} | | | |")
    print(f"| full-covariance Gaussian | {GAUSSIAN} | | | |")
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for result in results:
        with (options.out / f"{result['name']}.csv").open() as file:
            rows = list(csv.DictReader(file))
        minutes = [float(row["seconds"]) / 60 for row in rows]
        axes.plot(
            minutes, [float(row["test_bits"]) for row in rows], label=result["name"]
        )
    axes.axhline(HISTOGRAM, color="grey", linestyle=":", label="per-pixel histogram")
    axes.axhline(PUBLISHED, color="black", linestyle=":", label="Glow, published")
    axes.set(xlabel="minutes of training", ylabel="test bits/dim", ylim=(2.8, 5.5))
    axes.legend()
    figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
