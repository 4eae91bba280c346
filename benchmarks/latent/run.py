"""What latent flows reach on Fashion-MNIST, and how their samples compare.

    python -m benchmarks.latent.run --models MODELS --glow LOGS/glow.keras

Trains on the first images of the training set, keeps each model in MODELS, and reads
it from there the next time. The Glow on pixels is one that
`python -m benchmarks.images.ours` has trained. Samples are judged by the Fréchet
distance between features of one small classifier, taken of as many samples as there
are test images, against those of the test images. Every picture is rounded down to
whole pixel values before the classifier sees it. Figures and a picture of
reconstructions and samples are kept in `benchmarks/results/`.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

import tfp_flows as tff
from benchmarks.default_runs import machine
from benchmarks.latent import models
from tfp_flows.tools import latent

RESULTS = Path(__file__).parents[1] / "results"
CHUNK = 500
DEFAULT = [name for name in models.BUILDERS if name != "AE + flow, jointly"]


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, help="folder of models")
    parser.add_argument("--glow", type=Path, help="a Glow of the same images")
    parser.add_argument("--data-dir", type=Path, help="where TFDS keeps its data")
    parser.add_argument("--images", type=int, default=20_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--flow-epochs", type=int, default=20)
    parser.add_argument(
        "--more-flow-epochs", type=int, default=0, help="of a flow that was kept"
    )
    parser.add_argument("--vae-epochs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=DEFAULT)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = tff.data.load("fashion_mnist", data_dir=options.data_dir)
    report = measure(data, options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latent.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


def measure(data, options):
    """Trains, or reads, all models and returns their figures."""
    images = data.x_train[: options.images]
    labels = data.labels_train[: options.images]
    judge = models.classifier(
        images, labels, options.models, epochs=options.epochs, seed=options.seed
    )
    score = Score(judge, data.x_test)
    report = {
        "machine": machine(),
        "options": {key: str(value) for key, value in vars(options).items()},
        "classifier_accuracy": accuracy(judge, data),
        "frechet_distance": {
            "other training images": score.distance(data.x_train[-score.n :])
        },
        "bounds": {},
    }
    distances, bounds = report["frechet_distance"], report["bounds"]
    train = models.dequantized(images, options.seed)
    test = models.dequantized(data.x_test, options.seed + 1)
    for name in options.only:
        model, seconds = models.trained(
            name,
            train,
            options.models,
            epochs=options.vae_epochs if name.startswith("VAE") else options.epochs,
            flow_epochs=options.flow_epochs,
            seed=options.seed,
        )
        if name == models.TWO_STAGES and options.more_flow_epochs:
            seconds += models.train_flow_on(
                model, train, options.models, options.more_flow_epochs
            )
        distances[name] = score.distance(model.sample(score.n, seed=1))
        bounds[name] = bound_row(model, test) | {"cpu_seconds": seconds}
        if name == models.TWO_STAGES:
            distances |= around_the_flow(model, train, test, score)
        print(name, distances[name], bounds[name], flush=True)
    if options.glow is not None:
        glow = tff.load_distribution(options.glow)
        distances["Glow on pixels"] = score.distance(samples(glow, score.n))
    return report


def around_the_flow(model, train, test, score):
    """Measures what the flow has to beat and what it cannot; draws the picture."""
    gaussian = latent.fitted_gaussian(model.encode(train))
    figure = latent.latent_figure(model, test, seed=2)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "latent_flow.png", dpi=120)
    z = gaussian.sample(score.n, seed=(0, 1))
    return {
        "Gaussian fitted to the latents": score.distance(model.decode(z)),
        "reconstructions of the test images": score.distance(model.reconstruct(test)),
    }


class Score:
    """Measures pictures by the features of the test images."""

    def __init__(self, judge, test):
        self._judge, self.n = judge, len(test)
        self._features = judge.features(test)

    def distance(self, pictures):
        """Returns the Fréchet distance of pictures from the test images."""
        whole = np.clip(np.floor(np.asarray(pictures)), 0, 255)
        return latent.frechet_distance(self._judge.features(whole), self._features)


def accuracy(judge, data):
    """Returns the share of test images that the classifier is right about."""
    scores = judge.predict(data.x_test.astype("float32"), verbose=0)
    return float(np.mean(scores.argmax(-1) == data.labels_test))


def samples(flow, n):
    """Draws from a flow on pixels, a few hundred at a time."""
    model = tff.FlowModel(flow)
    parts = [model.sample(CHUNK, seed=(1, start)) for start in range(0, n, CHUNK)]
    return np.concatenate(parts)[:n]


def bound_row(model, images):
    """Measures the bound on held-out log-likelihood, plain and with 16 draws."""
    elbo = model.elbo(images).numpy()
    tighter = latent.importance_weighted_bound(model, images[:CHUNK], k=16)
    size = math.prod(model.event_shape) * math.log(2.0)
    return {
        "elbo": float(elbo.mean()),
        "elbo_standard_error": float(elbo.std() / math.sqrt(len(elbo))),
        "bits_per_dim_at_most": -float(elbo.mean()) / size,
        "elbo_of_first_500": float(elbo[:CHUNK].mean()),
        "bound_of_16_draws_of_first_500": float(tighter.mean()),
    }


def table(report):
    """Formats the figures as Markdown."""
    lines = [
        f"Measured on {report['machine']}.",
        "",
        "| pictures | Fréchet distance of classifier features |",
        "|---|---:|",
    ]
    for name, value in sorted(report["frechet_distance"].items(), key=lambda r: r[1]):
        lines.append(f"| {name} | {value:.2f} |")
    lines += ["", "| model | test ELBO (nats) | bits/dim at most |", "|---|---:|---:|"]
    for name, row in report["bounds"].items():
        lines.append(
            f"| {name} | {row['elbo']:.1f} ± {row['elbo_standard_error']:.1f} "
            f"| {row['bits_per_dim_at_most']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
