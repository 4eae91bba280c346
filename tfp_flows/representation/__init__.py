"""Latents as features: how much of a label a linear classifier finds in them.

    train = tfpf.representation.features(model, x_train)
    test = tfpf.representation.features(model, x_test)
    report = tfpf.representation.probe({"latents": (train, test)}, y_train, y_test)
    few = tfpf.representation.few_labels({"latents": (train, test)}, y_train, y_test)

Features are latents and nothing else: all of `z = f^-1(x)`, or one level of a flow on
several scales. What the networks inside the couplings compute on the way (their hidden
activations) is not among them.

**A flow has no reason to make classes easy to separate.** It is a bijection: its
latents hold exactly what the data holds, and its likelihood asks only that they look
like noise. Give the raw data and a PCA of it beside the latents, as
`python -m benchmarks.representation` does, before drawing conclusions from an accuracy.
"""

from tfp_flows.representation.latents import features
from tfp_flows.representation.probes import (
    Lead,
    ProbeReport,
    ProbeRow,
    few_labels,
    probe,
)

__all__ = ["Lead", "ProbeReport", "ProbeRow", "features", "few_labels", "probe"]
