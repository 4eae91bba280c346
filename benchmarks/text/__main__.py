"""Bits a character of flows of text, beside counts and a recurrent language model.

    apt-get install bible-kjv                             # King James Bible
    python -m benchmarks.text
    python -m benchmarks.text --text book.txt --steps 500

The text is reduced to 27 characters and cut into windows of equal length; the last
tenth of it is held out. Every model sees the same windows, and the neural ones take
equally many steps with the same optimizer. Figures of flows are upper bounds: by one
draw for each window, and by several. Figures and a picture are kept in
`benchmarks/results/`.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.text import picture
from benchmarks.text.baselines import NGram
from benchmarks.text.corpus import example_text
from benchmarks.text.language_model import language_model_of
from tfp_flows.text.corpus import strings

RESULTS = Path(__file__).parents[1] / "results"
ALPHABET = tfpf.text.LETTERS
POINTS = 10  # of each curve
FLOWS = {"flow, mixture steps": "mixture", "flow, spline steps": "spline"}
LSTM = "Keras LSTM"


def optimizer(steps, largest_gradient):
    """Adam, with a rate that rises for a while and then falls to nothing."""
    return tfpf.optimizer(
        4e-3,
        warmup_steps=steps // 20,
        decay="cosine",
        steps=steps,
        clip_norm=largest_gradient,
    )


def curve(fit, window_bits, batches, windows):
    """Trains in equal parts; returns the curve and the seconds spent on training.

    Args:
        fit: Trains on an array of windows once, in their order.
        window_bits: Bits a character of windows.
        batches: Windows in the order in which they are to be seen.
        windows: Held-out windows for the curve.
    """
    steps, bits, seconds, done = [0], [float(np.mean(window_bits(windows)))], 0.0, 0
    for part in np.array_split(batches, POINTS):
        start = time.perf_counter()
        fit(part.reshape(-1, part.shape[-1]))
        seconds += time.perf_counter() - start
        done += len(part)
        steps.append(done)
        bits.append(float(np.mean(window_bits(windows))))
        print(f"  step {done}: {bits[-1]:.3f} bits, {seconds:.0f} s", flush=True)
    return {"steps": steps, "bits": bits}, seconds


def train_flow(step, batches, test, options):
    """Trains a flow; returns its figures, its curve and its samples."""
    keras.utils.set_random_seed(options.seed)
    flow = tfpf.text.TextFlow(
        ALPHABET,
        options.length,
        units=(options.units,),
        features=options.features,
        step=step,
    )
    # Its loss is a sum over the characters of a window, not their mean.
    flow.compile(optimizer=optimizer(len(batches), float(options.length)))

    def fit(rows):
        flow.fit(rows, batch_size=options.batch_size, verbose=0, shuffle=False)

    few = test[: options.few]
    points, seconds = curve(fit, flow.window_bits, batches, few)
    started = time.perf_counter()
    texts = flow.sample(options.texts, seed=1)
    row = {
        "weights": flow.count_params(),
        "training_seconds": seconds,
        "sampling_seconds": time.perf_counter() - started,
        **spread(flow.window_bits(test)),
        "draws": options.draws,
        "first_windows": options.few,
        "bits_per_char_of_first": float(np.mean(flow.window_bits(few, 1))),
        "bits_per_char_of_first_by_draws": float(
            np.mean(flow.window_bits(few, options.draws))
        ),
    }
    prompted = flow.sample(3, seed=2, prompt=options.prompt)
    if options.keep:
        flow.save(options.keep / f"text_{step}.keras")
    return row, points, {"texts": texts, "prompted": prompted}


def train_language_model(weights, batches, test, options):
    """Trains the LSTM likewise."""
    keras.utils.set_random_seed(options.seed)
    made = language_model_of(weights, len(ALPHABET), options.features)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.model.compile(optimizer=optimizer(len(batches), 1.0), loss=loss)

    def fit(rows):
        made.model.fit(
            made.before(rows),
            rows,
            batch_size=options.batch_size,
            verbose=0,
            shuffle=False,
        )

    points, seconds = curve(fit, made.window_bits, batches, test[: options.few])
    row = {
        "weights": made.model.count_params(),
        "training_seconds": seconds,
        **spread(made.window_bits(test)),
    }
    texts = strings(made.sample(options.texts, options.length, seed=1), ALPHABET)
    return row, points, {"texts": texts}


def spread(bits):
    """Returns the mean of the windows' bits a character, and its standard error."""
    error = float(np.std(bits) / np.sqrt(len(bits)))
    return {"bits_per_char": float(np.mean(bits)), "standard_error": error}


def measure(text, options):
    """Trains everything and returns the document that is kept."""
    first, last = tfpf.text.split(text, 0.1)
    train = tfpf.text.windows(first, options.length)
    test = tfpf.text.windows(last, options.length)
    rows, samples, curves = {}, {}, {}
    for name, order in (("unigram", 1), ("bigram", 2), ("trigram", 3)):
        model = NGram(order, ALPHABET).fit(train)
        rows[name] = spread(model.window_bits(test))
        samples[name] = {"texts": model.sample(options.texts, options.length, seed=1)}
    generator = np.random.default_rng(options.seed)
    needed = options.steps * options.batch_size
    epochs = [
        generator.permutation(len(train)) for _ in range(needed // len(train) + 1)
    ]
    order = np.concatenate(epochs)[:needed]
    batches = train[order].reshape(options.steps, options.batch_size, options.length)
    for name in (n for n, step in FLOWS.items() if step in options.flows):
        print(name, flush=True)
        made = train_flow(FLOWS[name], batches, test, options)
        rows[name], curves[name], samples[name] = made
    print(LSTM, flush=True)
    weights = rows[next(iter(curves))]["weights"]
    made = train_language_model(weights, batches, test, options)
    rows[LSTM], curves[LSTM], samples[LSTM] = made
    return {
        "machine": machine(),
        "text": {
            "name": options.text.name if options.text else "King James Bible",
            "characters": len(text),
            "training_windows": len(train),
            "held_out_windows": len(test),
        },
        "options": {
            k: v for k, v in vars(options).items() if k not in ("text", "keep")
        },
        "rows": rows,
        "curves": curves,
        "samples": samples,
    }


def table(document):
    """Lays out the figures."""
    shown = Table(title=f"{document['text']['name']}, held-out text")
    shown.add_column("model")
    for heading in ("bits a character", "several draws", "weights", "seconds"):
        shown.add_column(heading, justify="right")
    for name, row in sorted(
        document["rows"].items(), key=lambda item: -item[1]["bits_per_char"]
    ):
        bits = f"{row['bits_per_char']:.3f} ± {row['standard_error']:.3f}"
        gain = ""
        if "draws" in row:
            by_draws = row["bits_per_char_of_first_by_draws"]
            less = by_draws - row["bits_per_char_of_first"]
            gain = f"{less:+.4f} by {row['draws']}"
        weights = f"{row['weights']:,}" if "weights" in row else ""
        seconds = f"{row['training_seconds']:.0f}" if "training_seconds" in row else ""
        shown.add_row(name, bits, gain, weights, seconds)
    return shown


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, help="another text, in UTF-8")
    parser.add_argument("--length", type=int, default=32, help="of a window")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument(
        "--flows", nargs="+", default=list(FLOWS.values()), choices=FLOWS.values()
    )
    parser.add_argument("--draws", type=int, default=16, help="of the tighter bound")
    parser.add_argument("--few", type=int, default=1000, help="windows for the curves")
    parser.add_argument("--texts", type=int, default=8, help="samples to keep")
    parser.add_argument("--prompt", default="and the lord said ")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the trained flows")
    options = parser.parse_args()
    document = measure(example_text(options.text), options)
    console = Console(width=100)
    console.print(f"Measured on {machine()}.")
    console.print(table(document))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "text.json").write_text(json.dumps(document, indent=1) + "\n")
    picture.draw(document, RESULTS / "text.png")


if __name__ == "__main__":
    main()
