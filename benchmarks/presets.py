"""Which learning rate `tfp-flows train` should take for each architecture.

    python -m benchmarks.presets                          # resumes where it stopped
    python -m benchmarks.presets --data digits --flows glow --steps 2000
    python -m benchmarks.presets --data fashion_mnist --flows glow jet --rates 4e-3 \
        --steps 200 --preprocess plain splines

Trains each of the command's flows on each set, at each rate and with each clipping of
the gradient, from three seeds: its architecture, batches and schedule (a warm-up, half
a cosine), for as many steps. Prints the mean of the figure on rows that are held out,
and its standard error over the seeds: nats for columns in their deviations, bits/dim of
images, which have `tfpf.logit` before the flow and, if asked, `tfpf.pixel_splines`. A
fifth is held out; of Fashion-MNIST the flows whose densities take longest see a
thousand of these. Rows are kept in `benchmarks/results/presets.json`.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.naive import IMAGES, KINDS, load
from tfp_flows.cli import recipes

RESULTS = Path(__file__).parent / "results" / "presets.json"
SETS = ("checkerboard", "digits", "breast_cancer")
FLOWS = ("spline_flow", "real_nvp", "glow", "maf", "nice")
RATES = (1e-3, 4e-3, 1.6e-2)
# One pass over all that is held out of Fashion-MNIST takes these longer than training.
COSTLY = ("unaf", "bnaf", "ffjord", "residual_flow", "sos_flow", "bernstein_flow")
NAMED = ("data", "flow", "rate", "clip", "seed", "steps", "preprocess")


def learn(asked: dict) -> dict:
    """Trains once; returns the row."""
    name, seed, steps = asked["data"], asked["seed"], asked["steps"]
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    x, preprocess = load(name)
    recipe = recipes.RECIPES["small"][KINDS[name]][asked["flow"]]
    options = dict(recipe.architecture)
    if preprocess is None:
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    else:
        x = x + rng.random(x.shape)
        if asked["preprocess"] == "splines":
            preprocess = recipes.behind_splines(preprocess, x.shape[1:])
        options["preprocess"] = preprocess
    x = rng.permutation(x.astype("float32"))
    train, held = np.split(x, [4 * len(x) // 5])
    if name == "fashion_mnist" and asked["flow"] in COSTLY:
        held = held[:1000]
    model = tfpf.FlowModel(getattr(tfpf, recipe.flow)(x.shape[1:], **options))
    schedule = {"warmup_steps": steps // 20, "decay": "cosine", "steps": steps}
    clip = None if asked["clip"] == "none" else float(asked["clip"])
    model.compile(tfpf.optimizer(asked["rate"], clip_norm=clip, **schedule))
    rows = rng.integers(0, len(train), recipe.batch_size * steps)
    try:
        model.fit(train[rows], batch_size=recipe.batch_size, verbose=0, shuffle=False)
        found = model.evaluate(held, verbose=0, return_dict=True)["nll"]
    except FloatingPointError as stopped:
        return asked | {"held_out": None, "error": str(stopped)[:200]}
    if name in IMAGES:
        found /= math.prod(x.shape[1:]) * math.log(2.0)
    return asked | {"held_out": found}


def table(rows: list[dict]) -> str:
    """Returns a Markdown table: the figures over the seeds, at each rate."""
    ways = sorted({(r["clip"], r["rate"]) for r in rows})
    names = [f"{rate:g}, {clip}" for clip, rate in ways]
    lines = ["| data | flow | " + " | ".join(names) + " |", ""]
    lines[1] = "|---|---|" + "---:|" * len(ways)
    kinds = ("data", "flow", "preprocess")
    for kind in dict.fromkeys(tuple(r[n] for n in kinds) for r in rows):
        data, flow, preprocess = kind
        cells = []
        for clip, rate in ways:
            key = {**dict(zip(kinds, kind, strict=True)), "clip": clip, "rate": rate}
            own = [
                r["held_out"] for r in rows if all(r[n] == v for n, v in key.items())
            ]
            own = [v for v in own if v is not None]
            error = statistics.stdev(own) / len(own) ** 0.5 if len(own) > 1 else 0.0
            cells.append(f"{statistics.mean(own):.3f} ± {error:.3f}" if own else "–")
        behind = " behind splines" if preprocess == "splines" else ""
        lines.append(f"| {data} | {flow}{behind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what the command line asks for and is not known yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=SETS, choices=KINDS)
    parser.add_argument("--flows", nargs="+", default=FLOWS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--clips", nargs="+", default=["1"], help="norms, or none")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument(
        "--preprocess", nargs="+", default=["plain"], choices=["plain", "splines"]
    )
    asked = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    runs = itertools.product(
        *(asked.data, asked.flows, asked.rates, asked.clips, asked.seeds),
        *([asked.steps], asked.preprocess),
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
