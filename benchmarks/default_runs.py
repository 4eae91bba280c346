"""What `tfp-flows train --data NAME` reaches with nothing but its defaults.

    python -m benchmarks.default_runs                 # digits and the five toy sets
    python -m benchmarks.default_runs digits rings
    python -m benchmarks.default_runs fashion_mnist   # twenty minutes of two cores

Runs the command once for each set, reads its `report.json`, and prints a Markdown
table with machine and date. The rows are kept in `benchmarks/results/`.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

SETS = ("digits", "two_moons", "eight_gaussians", "pinwheel", "checkerboard", "rings")
RESULTS = Path(__file__).parent / "results" / "default_runs.json"


def run(name: str, folder: Path) -> dict:
    """Trains with the defaults and returns the report."""
    out = folder / name
    subprocess.run(
        ["tfp-flows", "train", "--data", name, "--out", str(out)], check=True
    )
    return json.loads((out / "report.json").read_text())


def row(report: dict) -> dict:
    """Picks the figures of one run."""
    gaussian = report["baselines"]["full-covariance Gaussian"]
    histogram = report["baselines"].get("per-pixel histogram")
    return {
        "data": report["data"]["name"],
        "flow": report["recipe"]["flow"],
        "weights": report["weights"],
        "seconds": report["training_seconds"],
        "nll": report["held_out"]["nll"],
        "standard_error": report["held_out"]["standard_error"],
        "bits_per_dim": report["held_out"]["bits_per_dim"],
        "gaussian_nll": gaussian["nll"],
        "gaussian_bits": gaussian["bits_per_dim"],
        "histogram_bits": histogram and histogram["bits_per_dim"],
        "true_entropy": report.get("true_entropy"),
        "gap": report.get("gap_to_true_entropy"),
        "excess": report.get("excess_over_truth"),
    }


def machine() -> str:
    """Names the machine and the day."""
    models = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    day = datetime.date.today().isoformat()
    cores = os.cpu_count()
    return f"{models[0]}, {cores} cores, Python {platform.python_version()}, {day}"


def table(rows: list[dict], where: str) -> str:
    """Formats the rows as Markdown."""
    lines = [
        f"Measured on {where}.",
        "",
        "| data | flow | weights | seconds | held-out nll | true entropy | gap "
        "| Gaussian |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        score = f"{r['nll']:.3f} ± {r['standard_error']:.3f}"
        truth = "" if r["true_entropy"] is None else f"{r['true_entropy']:.3f}"
        gap = "" if r["gap"] is None else f"{r['gap']:.3f}"
        lines.append(
            f"| {r['data']} | {r['flow']} | {r['weights']:,} | {r['seconds']:.0f} "
            f"| {score} | {truth} | {gap} | {r['gaussian_nll']:.3f} |"
        )
    for r in rows:
        if r["histogram_bits"] is not None:
            lines += [
                "",
                f"{r['data']}: {r['bits_per_dim']:.3f} bits/dim; per-pixel histogram "
                f"{r['histogram_bits']:.3f}, Gaussian {r['gaussian_bits']:.3f}.",
            ]
    return "\n".join(lines)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=SETS, help="names of data sets")
    names = parser.parse_args().sets
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(run(name, Path(folder))) for name in names]
    print(table(rows, machine()))
    keep(rows)


def keep(rows: list[dict]) -> None:
    """Puts the rows, with machine and day, in the place of older ones."""
    kept = {}
    if RESULTS.exists():
        kept = {r["data"]: r for r in json.loads(RESULTS.read_text())}
    kept |= {r["data"]: r | {"machine": machine()} for r in rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(list(kept.values()), indent=2) + "\n")


if __name__ == "__main__":
    main()
