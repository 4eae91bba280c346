"""Nats a sample of a WaveGlow on synthetic speech, beside linear prediction.

    apt-get install espeak-ng                             # the speech synthesiser
    python -m benchmarks.speech
    python -m benchmarks.speech --speech folder_of_wavs --steps 5000

espeak-ng reads sentences, a tenth of which is held out in all voices. Every model sees
the same windows of dequantized audio: independent Gaussian samples, linear prediction
from ten samples fitted to the training audio (AR(10)) and, having seen the answer, to
each held-out window itself, and two flows: one that knows the spectrogram, for
copy-synthesis, and one that knows nothing, for the fair comparison with AR(10).
Figures and a picture are kept in `benchmarks/results/`; `--keep FOLDER` keeps the
flow and the audio.
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
from benchmarks.speech import baselines as processes
from benchmarks.speech.corpus import example_speech
from tfp_flows.speech.synthesis import hop_of

RESULTS = Path(__file__).parents[1] / "results"
ORDER = 10
PLAIN, GIVEN = "flow", "flow given the spectrogram"


def spread(nats):
    """Returns the mean of the windows' nats a sample, and its standard error."""
    error = float(np.std(nats) / np.sqrt(len(nats)))
    return {"nats_per_sample": float(np.mean(nats)), "standard_error": error}


def baselines(train, test):
    """Scores Gaussian processes."""
    gaussian = processes.gaussian(train)
    autoregression = processes.autoregression(train, ORDER)
    return {
        "independent Gaussian": spread(gaussian.nats_per_sample(test)),
        f"AR({ORDER})": spread(autoregression.nats_per_sample(test)),
        f"AR({ORDER}) fitted to each window itself": spread(
            processes.own_autoregression(test, ORDER)
        ),
    }


def train_flow(train, test, steps, options, given):
    """Trains a flow on pairs of audio and spectrograms; returns it and its figures."""
    keras.utils.set_random_seed(options.seed)
    flow = tfpf.speech.waveglow(
        options.length,
        mels=options.mels if given else None,
        steps=options.flow_steps,
        channels=options.channels,
        depth=options.depth,
        prediction=options.prediction,
    )
    model = tfpf.FlowModel(flow)
    model.compile(
        optimizer=tfpf.optimizer(
            options.rate,
            warmup_steps=steps // 20,
            decay="cosine",
            steps=steps,
            clip_norm=float(options.length),
        )
    )
    few = slice(0, 512)
    model.adapt(train[0][few], train[1][few] if given else None)
    held_out = test if given else (test[0], None)
    curve = {"steps": [0], "nats_per_sample": [scored(model, held_out).mean()]}
    generator = np.random.default_rng(options.seed)
    seconds = 0.0
    for part in np.array_split(np.arange(steps), options.points):
        rows = generator.choice(len(train[0]), [len(part), options.batch_size])
        x, mel = train[0][rows.ravel()], train[1][rows.ravel()]
        start = time.perf_counter()
        model.fit(
            x,
            mel if given else None,
            batch_size=options.batch_size,
            shuffle=False,
            verbose=0,
        )
        seconds += time.perf_counter() - start
        curve["steps"].append(int(part[-1]) + 1)
        curve["nats_per_sample"].append(scored(model, held_out).mean())
        now = curve["nats_per_sample"][-1]
        print(f"  step {part[-1] + 1}: {now:.3f} nats, {seconds:.0f} s", flush=True)
    row = {
        **spread(scored(model, held_out)),
        "training": spread(scored(model, (train[0][few], given and train[1][few]))),
        "weights": model.count_params(),
        "steps": steps,
        "training_seconds": seconds,
    }
    return model, row, curve


def scored(model, windows):
    """Returns nats a sample of each window."""
    audio, mel = windows
    return tfpf.speech.nats_per_sample(model, audio, None if mel is False else mel)


def copies(model, speech, options):
    """Copies a held-out utterance, as one picture and WAV files; returns figures."""
    original = speech.test[options.utterance]
    audios = {"original": original}
    figures = {}
    hop = hop_of(model)
    for temperature in options.temperatures:
        start = time.perf_counter()
        copy = tfpf.speech.copy_synthesis(
            model, original, speech.rate, temperature=temperature, seed=1
        )
        seconds = time.perf_counter() - start
        audios[f"copy, temperature {temperature:g}"] = copy
        whole = len(original) // hop * hop
        mels = [
            np.array(
                tfpf.speech.mel_spectrogram(
                    audio[:whole], speech.rate, hop=hop, mels=options.mels
                )
            )
            for audio in (original, copy)
        ]
        figures[f"{temperature:g}"] = {
            "seconds_of_audio": len(original) / speech.rate,
            "seconds": seconds,
            "log_mel_distance": float(np.abs(mels[0] - mels[1]).mean()),
            "log_mel_correlation": float(np.corrcoef(*map(np.ravel, mels))[0, 1]),
        }
    for number, audio in enumerate(audios.values() if options.keep else ()):
        name = "original" if number == 0 else f"copy_{number}"
        tfpf.speech.write_wav(options.keep / f"{name}.wav", audio, speech.rate)
    figure = tfpf.speech.spectrogram_figure(audios, speech.rate)
    figure.savefig(RESULTS / "speech.png", dpi=110)
    return figures


def measure(speech, options):
    """Trains everything and returns the document that is kept."""
    train, test = (
        tfpf.speech.windows(
            part, options.length, rate=speech.rate, mels=options.mels, stride=stride
        )
        for part, stride in ((speech.train, options.length // 2), (speech.test, None))
    )
    rows = baselines(train[0], test[0])
    curves = {}
    print(PLAIN, flush=True)
    _, rows[PLAIN], curves[PLAIN] = train_flow(
        train, test, options.steps // 2, options, given=False
    )
    print(GIVEN, flush=True)
    model, rows[GIVEN], curves[GIVEN] = train_flow(
        train, test, options.steps, options, given=True
    )
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        model.save(options.keep / "speech.keras")
    seconds = {
        name: sum(map(len, part)) / speech.rate
        for name, part in (("training", speech.train), ("held_out", speech.test))
    }
    return {
        "machine": machine(),
        "speech": {
            "source": "a folder" if options.speech else "espeak-ng (synthetic)",
            "rate": speech.rate,
            "utterances": len(speech.train) + len(speech.test),
            "seconds": seconds,
            "training_windows": len(train[0]),
            "held_out_windows": len(test[0]),
            "unit": "nats a sample, density of dequantized amplitudes in [-1, 1)",
        },
        "options": {
            k: v for k, v in vars(options).items() if k not in ("speech", "keep")
        },
        "rows": rows,
        "curves": curves,
        "copies": copies(model, speech, options),
    }


def table(document):
    """Lays out the figures."""
    shown = Table(title=f"held-out speech, {document['speech']['source']}")
    shown.add_column("model")
    for heading in ("nats a sample", "bits of 16", "weights", "seconds"):
        shown.add_column(heading, justify="right")
    for name, row in document["rows"].items():
        nats = f"{row['nats_per_sample']:.3f} ± {row['standard_error']:.3f}"
        bits = f"{15 - row['nats_per_sample'] / np.log(2):.2f}"
        weights = f"{row['weights']:,}" if "weights" in row else ""
        seconds = f"{row['training_seconds']:.0f}" if "training_seconds" in row else ""
        shown.add_row(name, nats, bits, weights, seconds)
    return shown


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, help="folder of WAV files")
    parser.add_argument("--length", type=int, default=2048, help="of a window")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3, help="of learning")
    parser.add_argument("--mels", type=int, default=40)
    parser.add_argument("--flow-steps", type=int, default=8)
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--prediction", type=int, default=10, help="its order")
    parser.add_argument("--points", type=int, default=8, help="of the curves")
    parser.add_argument("--utterance", type=int, default=0, help="to be copied")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.7, 1.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for flow and audio")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    document = measure(example_speech(options.speech), options)
    console = Console(width=100)
    console.print(f"Measured on {machine()}.")
    console.print(table(document))
    (RESULTS / "speech.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
