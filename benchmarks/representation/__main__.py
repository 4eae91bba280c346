"""Accuracy of linear classifiers on latents, pixels and principal components.

    python -m benchmarks.representation --data DATA --models MODELS
    python -m benchmarks.representation --only digits

Trains a Glow without labels on scikit-learn's digits and on Fashion-MNIST (DATA is the
folder where TensorFlow Datasets keeps its files), or reads the ones that MODELS has
from an earlier run. Then a logistic regression on each kind of features is fitted with
all labels, and with 1, 5, 10 and 50 a class, drawn several times. Figures are kept in
`benchmarks/results/representation.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

import tfp_flows as tfpf
from benchmarks.default_runs import machine
from benchmarks.representation import flows, probes
from benchmarks.representation.representations import (
    COARSEST,
    LATENTS,
    PCA_FEW,
    PIXELS,
    representations,
)

RESULTS = Path(__file__).parents[1] / "results" / "representation.json"
PER_CLASS = (1, 5, 10, 50)


def measure(name, options):
    """Returns the report of one data set and what it was measured with."""
    data = tfpf.data.load(name, data_dir=options.data)
    minutes = options.minutes or flows.MINUTES[name]
    model, seconds = flows.trained(name, data, options.models, minutes, options.seed)
    model.compile()
    held_out = model.evaluate(data.test.take(40), verbose=0, return_dict=True)
    # The first ones: every set here is in a random order already.
    train, test = data.x_train[: options.rows], data.x_test[: options.test_rows]
    labels = data.labels_train[: options.rows], data.labels_test[: options.test_rows]
    logit = flows.logit_of(name, data.pixel_levels)
    features = representations(name, model, logit, train, test)
    arguments = {"seed": options.seed, "max_iter": options.max_iter}
    full = probes.probe(features, *labels, **arguments)
    few = probes.few_labels(
        features, *labels, per_class=PER_CLASS, draws=options.draws, **arguments
    )
    facts = {
        "training_rows": len(train),
        "test_rows": len(test),
        "draws_of_labels": options.draws,
        "flow_bits_per_dim": held_out["bits_per_dim"],
        "flow_seconds": seconds,
        "flow_weights": int(sum(np.prod(v.shape) for v in model.trainable_weights)),
    }
    return probes.ProbeReport(few.rows + full.rows), facts


def leads(report):
    """Says by how much latents are ahead of pixels and of few components."""
    return {
        f"{first} over {second}": {
            str(lead.labels_per_class): [lead.accuracy, lead.standard_error]
            for lead in report.leads(first, second)
        }
        for first in (LATENTS, COARSEST)
        for second in (PIXELS, PCA_FEW)
    }


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="TFDS's folder")
    parser.add_argument("--models", type=Path, help="folder of trained flows")
    parser.add_argument("--only", nargs="+", default=list(flows.SIZES))
    parser.add_argument("--minutes", type=float, help="training of each flow")
    parser.add_argument("--rows", type=int, default=10_000, help="training images")
    parser.add_argument("--test-rows", type=int, default=10_000, help="test images")
    parser.add_argument("--draws", type=int, default=10, help="of labelled rows")
    parser.add_argument("--max-iter", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console(width=120)
    console.print(f"Measured on {machine()}.")
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only:
        report, facts = measure(name, options)
        console.print(f"{name}: {facts}")
        console.print(report)
        document[name] = {
            "machine": machine(),
            **facts,
            **report.to_dict(),
            "leads": leads(report),
        }
        written = RESULTS.with_suffix(".part")
        written.write_text(json.dumps(document, indent=1) + "\n")
        written.replace(RESULTS)


if __name__ == "__main__":
    main()
