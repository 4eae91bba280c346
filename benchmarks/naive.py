"""Whether what everyone writes first learns: `compile(Adam(1e-3))`, then `fit`.

    python -m benchmarks.naive                       # all of it, from where it stopped
    python -m benchmarks.naive --data digits --flows glow maf --seeds 0 1
    python -m benchmarks.naive --data digits --flows glow --rate 1.6e-2 --clip 1
    python -m benchmarks.naive --data breast_cancer digits --preset paper

No warm-up, no clipping, no decay. A row gives the loss of the first step, the largest
of a step after the first ten, and the mean of the last ten, in nats for columns in
their deviations, as of images in bits/dim: a run explodes where the second is more than
twice the first. With `--clip` the optimizer clips the global norm of a step's gradient,
with `--preset paper` architectures have the sizes of `tfp-flows train --preset paper`.
Fashion-MNIST must be prepared for TFDS. Rows go into `benchmarks/results/naive.json`.
"""

import argparse
import itertools
import json
import math
import multiprocessing
from pathlib import Path

import keras
import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from tfp_flows.cli import recipes

RESULTS = Path(__file__).parent / "results" / "naive.json"
KINDS = {
    "checkerboard": "toy",
    "two_moons": "toy",
    "breast_cancer": "table",
    "digits": "tiny image",
    "fashion_mnist": "image",
}
SETS, IMAGES = tuple(KINDS), ("digits", "fashion_mnist")
FLOWS = (*recipes.FLOWS, "maf spline")
STEPS = {"fashion_mnist": 80, "digits": 120}
COSTLY = {("fashion_mnist", "ffjord"): 20, ("fashion_mnist", "bnaf"): 20}
PAPER_STEPS = 60
COSTLY_PAPERS = {"ffjord": 15, "real_nvp": 25, "glow": 25, "tarflow": 25, "jet": 15}
WAY = ("flow", "rate", "clip", "preset")
BATCHES = {"fashion_mnist": 64, "digits": 64, "breast_cancer": 32}
SMALL = {  # of images; all others get the defaults
    "glow": {"levels": 2, "hidden_channels": 64},
    "real_nvp": {"levels": 2, "hidden_channels": 32},
}


def load(name: str) -> tuple:
    """Returns training rows and the bijector that a newcomer puts before the flow."""
    if name == "breast_cancer":
        from sklearn.datasets import load_breast_cancer

        return load_breast_cancer().data.astype("float32"), None
    data = tfpf.data.load(name)
    if name in IMAGES:
        return data.x_train, tfpf.logit(data.pixel_levels, recipes.LOGIT_ALPHA)
    return data.x_train, None


class StepLosses(keras.callbacks.Callback):
    """Keeps the loss of every step, where Keras reports means of an epoch so far."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the means anew."""
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        """Keeps the step's loss."""
        self.losses.append(float(logs["loss"]))


def learn(
    name: str, flow: str, seed: int, rate: float, clip: float | None, preset: str
) -> dict:
    """Trains one flow for a hundred steps or so and returns its row."""
    keras.utils.set_random_seed(seed)
    x, preprocess = load(name)
    make, *spline = flow.split()
    options = SMALL.get(make, {}) if name in IMAGES else {}
    if preset == "paper":
        options = recipes.RECIPES[preset][KINDS[name]][make].architecture
    if spline:
        options = {**options, "transform": "spline"}
    if preprocess is not None:
        options = {**options, "preprocess": preprocess}
    shape = x.shape[1:]
    model = tfpf.FlowModel(getattr(tfpf, make)(shape, **options))
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=clip))
    size, steps = BATCHES.get(name, 128), STEPS.get(name, 200)
    steps = COSTLY.get((name, flow), steps)
    if preset == "paper":
        costly = name in IMAGES and flow in COSTLY_PAPERS
        size, steps = (16, COSTLY_PAPERS[flow]) if costly else (size, PAPER_STEPS)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(x), size * steps)
    kept = StepLosses()
    error = None
    try:
        batches = x[rows].astype("float32")
        if name in IMAGES:
            batches += rng.random(batches.shape, "float32")
        model.fit(batches, batch_size=size, verbose=0, callbacks=[kept], shuffle=False)
    except FloatingPointError as stopped:
        error = str(stopped).splitlines()[0][:200]
    if name in IMAGES:
        losses = [loss / math.prod(shape) / math.log(2.0) for loss in kept.losses]
    else:  # a log-density in units of each column's deviation
        unit = float(np.log(x.std(axis=0)).sum())
        losses = [loss - unit for loss in kept.losses]
    later = max(losses[10:], default=math.inf)
    first = losses[0] if losses else math.nan
    return {
        "data": name,
        "flow": flow,
        "seed": seed,
        "rate": rate,
        "clip": clip,
        "preset": preset,
        "weights": model.count_params(),
        "steps": len(losses),
        "first": first,
        "largest": max(losses, default=math.inf),
        "largest_after_ten": later,
        "last": float(np.mean(losses[-10:])) if losses else math.nan,
        "explodes": error is not None or not later <= 2.0 * first,
        "error": error,
    }


def learn_one(arguments: tuple) -> dict:
    """Calls `learn` in another process."""
    return learn(*arguments)


def table(rows: list[dict]) -> str:
    """Returns a Markdown table: of each flow and set the worst of the seeds.

    A cell gives the loss of the first step, the largest after ten, and the mean of the
    last ten, which is of all seeds; `!` and a number where so many seeds explode.
    """
    sets = [name for name in SETS if any(r["data"] == name for r in rows)]
    lines = ["| flow | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for way in dict.fromkeys(tuple(r[n] for n in WAY) for r in rows):
        flow, rate, clip, preset = way
        how = "" if preset == "defaults" else f" ({preset})"
        how += f" (rate {rate:g}, clip {clip})" if (rate, clip) != (1e-3, None) else ""
        cells = [flow + how]
        for name in sets:
            own = [
                r for r in rows if r["data"] == name and tuple(r[n] for n in WAY) == way
            ]
            if not own:
                cells.append("–")
                continue
            worst = max(own, key=lambda r: r["largest_after_ten"] - r["first"])
            numbers = [worst["first"], worst["largest_after_ten"]]
            numbers.append(float(np.mean([r["last"] for r in own])))
            count = sum(r["explodes"] for r in own)
            mark = f" !{count}" if count else ""
            cells.append(", ".join(f"{v:.2f}" for v in numbers) + mark)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--flows", nargs="+", default=FLOWS, choices=FLOWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--clip", type=float)
    parser.add_argument("--preset", default="defaults", choices=["defaults", "paper"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    known = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    named = ("data", "flow", "seed", "rate", "clip", "preset")
    ran = [tuple(row[n] for n in named) for row in known]
    way = ([asked.rate], [asked.clip], [asked.preset])
    runs = [
        run
        for run in itertools.product(asked.data, asked.flows, asked.seeds, *way)
        if run not in ran
        and (run[0] in IMAGES or run[1].split()[0] in recipes.RECIPES["small"]["table"])
    ]
    # Graphs of old models would fill the memory of one process.
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=len(asked.seeds)) as workers:
        for row in workers.imap(learn_one, runs):
            print({k: v for k, v in row.items() if v is not None}, flush=True)
            known.append(row)
            text = json.dumps({"machine": machine(), "rows": known}, indent=1)
            asked.out.write_text(text + "\n")
    print(table(known))


if __name__ == "__main__":
    main()
