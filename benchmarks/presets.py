"""Which learning rate `tfp-flows train` should take for each architecture.

    python -m benchmarks.presets                          # resumes where it stopped
    python -m benchmarks.presets --data digits --flows glow --share 1.0

Runs the command for each data set, flow, rate, clipping of the gradient and seed, with
a share of the preset's epochs, and keeps the held-out figures in
`benchmarks/results/presets.json`; prints, for each flow, the mean and the standard
error over the seeds at each rate, and which was best.
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.default_runs import machine

RESULTS = Path(__file__).parent / "results" / "presets.json"
SETS = ("checkerboard", "digits", "breast_cancer")
FLOWS = ("spline_flow", "real_nvp", "glow", "maf", "nice")
RATES = (1e-3, 4e-3, 1.6e-2)
NAMED = ("data", "flow", "rate", "clip", "seed", "share")
KINDS = {"checkerboard": "toy", "digits": "tiny image", "fashion_mnist": "image"}


def write_table(name: str, path: Path) -> None:
    """Writes one of scikit-learn's tables, without its labels."""
    from sklearn import datasets

    values = getattr(datasets, f"load_{name}")().data
    header = ",".join(f"x{k}" for k in range(values.shape[1]))
    np.savetxt(path, values, "%.9g", ",", header=header, comments="")


def learn(asked: dict) -> dict:
    """Trains once by the command; returns the row."""
    from typer.testing import CliRunner

    from tfp_flows.cli import app
    from tfp_flows.cli.recipes import RECIPES

    kind = KINDS.get(asked["data"])  # a table's epochs depend on its rows
    epochs = kind and round(
        asked["share"] * RECIPES["small"][kind][asked["flow"]].epochs
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        named = {n: asked[n] for n in ("data", "flow", "seed")}
        if not kind:
            named["data"] = Path(folder, "table.csv")
            write_table(asked["data"], named["data"])
        named |= {
            "learning-rate": asked["rate"],
            "clip-norm": asked["clip"],
            "out": out,
        }
        named |= {"epochs": max(1, epochs)} if kind else {}
        line = [text for k, v in named.items() for text in (f"--{k}", str(v))]
        done = CliRunner().invoke(app, ["train", *line])
        if not (out / "report.json").exists():
            return asked | {"nll": None, "error": str(done.exception or done.output)}
        found = json.loads((out / "report.json").read_text())
    held = {n: found["held_out"][n] for n in ("nll", "bits_per_dim")}
    return asked | held | {"seconds": found["training_seconds"], "epochs": epochs}


def table(rows: list[dict]) -> str:
    """Returns a Markdown table: held-out nats over the seeds, at each rate."""
    ways = sorted({(r["clip"], r["rate"]) for r in rows})
    names = [f"{rate:g}, {clip}" for clip, rate in ways]
    lines = ["| data | flow | " + " | ".join(names) + " |", ""]
    lines[1] = "|---|---|" + "---:|" * len(ways)
    for data, flow in dict.fromkeys((r["data"], r["flow"]) for r in rows):
        cells = []
        for clip, rate in ways:
            key = {"data": data, "flow": flow, "clip": clip, "rate": rate}
            own = [r["nll"] for r in rows if all(r[n] == v for n, v in key.items())]
            own = [v for v in own if v is not None]
            error = statistics.stdev(own) / len(own) ** 0.5 if len(own) > 1 else 0.0
            cells.append(f"{statistics.mean(own):.3f} ± {error:.3f}" if own else "–")
        lines.append(f"| {data} | {flow} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what the command line asks for and is not known yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=SETS)
    parser.add_argument("--flows", nargs="+", default=FLOWS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--clips", nargs="+", default=["1"], help="norms, or none")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.25, help="of the epochs")
    asked = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    runs = itertools.product(
        asked.data, asked.flows, asked.rates, asked.clips, asked.seeds, [asked.share]
    )
    wanted = [dict(zip(NAMED, run, strict=True)) for run in runs]
    known = [{n: row[n] for n in NAMED} for row in rows]
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=6) as workers:  # each keeps its graphs
        for row in workers.imap(learn, [run for run in wanted if run not in known]):
            print(row, flush=True)
            rows.append(row)
            text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
            RESULTS.write_text(text + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
