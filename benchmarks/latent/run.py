"""What latent flows reach on Fashion-MNIST, and how their samples compare.

    python -m benchmarks.latent.run --models MODELS --glow LOGS/glow.keras

For each seed, trains a classifier, an autoencoder and several flows on its latents,
VAEs with and without flows, keeps each model in MODELS, and reads it from there the
next time. The Glow on pixels is one that `python -m benchmarks.images.ours` or
`python -m benchmarks.anomaly` has trained. Samples are judged by the Fréchet distance
between features of the classifier, taken of as many samples as there are test images,
against those of the test images. Figures and a picture of reconstructions and samples
are kept in `benchmarks/results/`.

`--choose` leaves the test images alone: it judges by the last training images, which
then nothing is trained on, and keeps no figures. Settings were chosen that way.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.latent import models
from benchmarks.latent.flows import BEST, FLOWS
from benchmarks.latent.frechet import fitted_gaussian
from benchmarks.latent.picture import latent_figure
from benchmarks.latent.score import Score, bound_row, samples

RESULTS = Path(__file__).parents[1] / "results"
HELD_OUT = 10_000
FITTED = "Gaussian fitted to the latents"


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, help="folder of models")
    parser.add_argument("--glow", type=Path, help="a Glow of the same images")
    parser.add_argument("--data-dir", type=Path, help="where TFDS keeps its data")
    parser.add_argument("--images", type=int, default=20_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=3, help="of the autoencoder")
    parser.add_argument("--noise", type=float, default=0.3, help="on the latents")
    parser.add_argument("--flow-epochs", type=int, default=20)
    parser.add_argument("--vae-epochs", type=int, default=1)
    parser.add_argument("--flows", nargs="*", default=list(FLOWS), choices=list(FLOWS))
    parser.add_argument("--vaes", nargs="*", default=list(models.VAES))
    parser.add_argument("--joint", action="store_true", help="train one jointly too")
    parser.add_argument("--choose", action="store_true", help="see above")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    data = tfpf.data.load("fashion_mnist", data_dir=options.data_dir)
    report = {
        "machine": machine(),
        "options": {key: str(value) for key, value in vars(options).items()},
        "seeds": {},
    }
    for seed in options.seeds:
        mine = {"seed": seed, "models": options.models / f"seed_{seed}"}
        chosen = argparse.Namespace(**vars(options) | mine)
        report["seeds"][str(seed)] = measure(data, chosen)
        if not options.choose:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / "latent.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


def measure(data, options):
    """Trains, or reads, all models of one seed and returns their figures."""
    last = len(data.x_train) - HELD_OUT
    images = data.x_train[: min(options.images, last)]
    labels = data.labels_train[: len(images)]
    held_out, held_out_labels = data.x_test, data.labels_test
    if options.choose:
        held_out, held_out_labels = data.x_train[last:], data.labels_train[last:]
    judge = models.classifier(
        images, labels, options.models, epochs=3, seed=options.seed
    )
    score = Score(judge, held_out)
    report = {
        "classifier_accuracy": score.accuracy(held_out, held_out_labels),
        "frechet_distance": {},
        "bounds": {},
        "cpu_seconds": {},
    }
    other = data.x_train[: score.n] if options.choose else data.x_train[last:]
    report["frechet_distance"]["other training images"] = score.distance(other)
    train = models.dequantized(images, options.seed)
    test = models.dequantized(held_out, options.seed + 1)
    _latent_flows(report, score, train, test, options)
    _whole_models(report, score, train, test, options)
    if options.glow is not None:
        glow = tfpf.load_distribution(options.glow)
        name = "Glow on pixels"
        report["frechet_distance"][name] = score.distance(samples(glow, score.n))
    return report


def _latent_flows(report, score, train, test, options):
    """Measures one autoencoder and the flows on its latents."""
    distances, seconds = report["frechet_distance"], report["cpu_seconds"]
    autoencoder, seconds["autoencoder"] = models.trained(
        models.AUTOENCODER,
        lambda: models.autoencoder(options.noise),
        train,
        options.models,
        seed=options.seed,
        epochs=options.epochs,
        flow_epochs=0,
        batch_size=64,
    )
    distances["reconstructions"] = score.distance(autoencoder.reconstruct(test))
    fitted = fitted_gaussian(autoencoder.encode(train))
    z = fitted.sample(score.n, seed=(0, 1))
    distances[FITTED] = score.distance(autoencoder.decode(z))
    for name in options.flows:
        model, seconds[name] = models.trained(
            f"AE + {name}",
            lambda name=name: models.on_latents_of(autoencoder, FLOWS[name]()),
            train,
            options.models,
            seed=options.seed,
            epochs=0,
            flow_epochs=0 if name == "Gaussian" else options.flow_epochs,
            batch_size=128,
        )
        distances[f"AE + {name}"] = score.distance(model.sample(score.n, seed=1))
        report["bounds"][f"AE + {name}"] = bound_row(model, test)
        print(name, distances[f"AE + {name}"], report["bounds"][f"AE + {name}"])
        if name == BEST and not options.choose:
            RESULTS.mkdir(exist_ok=True)
            figure = latent_figure(model, test, seed=2)
            figure.savefig(RESULTS / "latent_flow.png", dpi=120)


def _whole_models(report, score, train, test, options):
    """Measures the models that are trained in one stage."""
    builders = {name: models.VAES[name] for name in options.vaes}
    if options.joint:
        builders[models.JOINT] = lambda: models.joint(options.noise)
    for name, build in builders.items():
        model, report["cpu_seconds"][name] = models.trained(
            name,
            build,
            train,
            options.models,
            seed=options.seed,
            epochs=options.vae_epochs,
            batch_size=64,
        )
        distance = score.distance(model.sample(score.n, seed=1))
        report["frechet_distance"][name] = distance
        report["bounds"][name] = bound_row(model, test)
        print(name, distance, report["bounds"][name], flush=True)


def table(report):
    """Formats the figures as Markdown: means over the seeds with standard errors."""
    runs = list(report["seeds"].values())
    shares = {}
    for name in runs[0]["frechet_distance"]:
        distances = [run["frechet_distance"][name] for run in runs]
        gaussian = [run["frechet_distance"][FITTED] for run in runs]
        shares[name] = distances, np.divide(distances, gaussian)
    lines = [
        f"Measured on {report['machine']}, {len(runs)} seeds.",
        "",
        "| pictures | Fréchet distance | share of the Gaussian's |",
        "|---|---:|---:|",
    ]
    for name, (distances, share) in sorted(
        shares.items(), key=lambda row: np.mean(row[1][0])
    ):
        lines.append(f"| {name} | {_mean(distances, 2)} | {_mean(share, 2)} |")
    lines += [
        "",
        "| model | test ELBO (nats) | bits/dim at most | latents, -log p(z) (nats) |",
        "|---|---:|---:|---:|",
    ]
    for name in runs[0]["bounds"]:
        elbo, bits, nll = (
            [run["bounds"][name][key] for run in runs]
            for key in ("elbo", "bits_per_dim_at_most", "latent_nll")
        )
        cells = _mean(elbo, 1), _mean(bits, 3), _mean(nll, 1)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values, digits):
    """Formats a mean, with its standard error where there are several values."""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        text += f" ± {error:.{digits}f}"
    return text


if __name__ == "__main__":
    main()
